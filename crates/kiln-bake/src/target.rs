//! A target: what it says, how two of them merge, and how it is printed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{BakeError, BakeErrorKind};
use crate::eval::{Result, text, truth};

/// `type=registry,ref=x` as names and values.
pub type Entry = BTreeMap<String, String>;

/// An ssh agent, or keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ssh {
    /// Its name; empty for `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The agent's socket, or keys; none for the agent of the environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

impl Ssh {
    /// Reads `ID`, `ID=PATH` or `ID=PATH,PATH`.
    pub(crate) fn parse(text: &str) -> Self {
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        let paths = paths.split(',').filter(|path| !path.is_empty()).map(str::to_owned).collect();
        Self { id: id.to_owned(), paths }
    }
}

impl std::fmt::Display for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = if self.id.is_empty() { "default" } else { &self.id };
        match self.paths.as_slice() {
            [] => f.write_str(id),
            paths => write!(f, "{id}={}", paths.join(",")),
        }
    }
}

/// What is built. The order of the fields is that of `--print`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the fields are the attributes of bake's reference")]
pub struct Target {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attest: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile_inline: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_from: Vec<Entry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_to: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secret: Vec<Entry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Ssh>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_cache: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_cache_filter: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entitlements: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_hosts: BTreeMap<String, String>,
}

impl Target {
    /// Lays another target over this one: single values and outputs replace, maps and the other lists add.
    pub(crate) fn merge(&mut self, over: Self) {
        fn replace<T>(slot: &mut Option<T>, over: Option<T>) {
            if over.is_some() {
                *slot = over;
            }
        }
        fn replace_list<T>(slot: &mut Vec<T>, over: Vec<T>) {
            if !over.is_empty() {
                *slot = over;
            }
        }
        fn add<T: PartialEq>(slot: &mut Vec<T>, over: Vec<T>) {
            for item in over {
                if !slot.contains(&item) {
                    slot.push(item);
                }
            }
        }
        replace(&mut self.description, over.description);
        add(&mut self.annotations, over.annotations);
        add(&mut self.attest, over.attest);
        replace(&mut self.context, over.context);
        self.contexts.extend(over.contexts);
        replace(&mut self.dockerfile, over.dockerfile);
        replace(&mut self.dockerfile_inline, over.dockerfile_inline);
        self.args.extend(over.args);
        self.labels.extend(over.labels);
        replace_list(&mut self.tags, over.tags);
        add(&mut self.cache_from, over.cache_from);
        replace_list(&mut self.cache_to, over.cache_to);
        replace(&mut self.target, over.target);
        add(&mut self.secret, over.secret);
        add(&mut self.ssh, over.ssh);
        replace_list(&mut self.platforms, over.platforms);
        replace_list(&mut self.output, over.output);
        replace(&mut self.pull, over.pull);
        replace(&mut self.no_cache, over.no_cache);
        replace(&mut self.network, over.network);
        add(&mut self.no_cache_filter, over.no_cache_filter);
        replace(&mut self.shm_size, over.shm_size);
        replace_list(&mut self.ulimits, over.ulimits);
        replace(&mut self.call, over.call);
        add(&mut self.entitlements, over.entitlements);
        self.extra_hosts.extend(over.extra_hosts);
    }

    /// Sets an attribute from its value. What bake does not know is passed over, as bake does.
    pub(crate) fn set(&mut self, name: &str, value: &Value) -> Result<()> {
        if value.is_null() {
            return Ok(());
        }
        let one = || text(value, name).map(Some);
        let flag = || truth(value, name).map(Some);
        match name {
            "description" => self.description = one()?,
            "annotations" => self.annotations = list(value, name)?,
            "attest" => self.attest = entries(value, name, "type")?,
            "context" => self.context = one()?.map(|path| clean(&path)),
            "contexts" => self.contexts = map(value, name)?,
            "dockerfile" => self.dockerfile = one()?,
            "dockerfile-inline" => self.dockerfile_inline = one()?,
            "args" => self.args = map(value, name)?,
            "labels" => self.labels = map(value, name)?,
            "tags" => self.tags = list(value, name)?,
            "cache-from" => self.cache_from = entries(value, name, "ref")?,
            "cache-to" => self.cache_to = entries(value, name, "ref")?,
            "target" => self.target = one()?,
            "secret" => self.secret = entries(value, name, "id")?,
            "ssh" => self.ssh = agents(value)?,
            "platforms" => self.platforms = list(value, name)?,
            "output" => self.output = entries(value, name, "dest")?,
            "pull" => self.pull = flag()?,
            "no-cache" => self.no_cache = flag()?,
            "network" => self.network = one()?,
            "no-cache-filter" => self.no_cache_filter = list(value, name)?,
            "shm-size" => self.shm_size = one()?,
            "ulimits" => self.ulimits = list(value, name)?,
            "call" => self.call = one()?,
            "entitlements" => self.entitlements = list(value, name)?,
            "extra-hosts" => self.extra_hosts = map(value, name)?,
            _ => {}
        }
        Ok(())
    }
}

fn wrong(name: &str, expected: &'static str) -> BakeError {
    BakeError::new(BakeErrorKind::Type { name: name.to_owned(), expected })
}

pub(crate) fn list(value: &Value, name: &str) -> Result<Vec<String>> {
    let Value::Array(items) = value else { return Err(wrong(name, "a list of strings")) };
    let items = items.iter().filter(|item| !item.is_null() && item.as_str() != Some(""));
    items.map(|item| text(item, name)).collect()
}

/// Values that are null are as if they were not there.
fn map(value: &Value, name: &str) -> Result<BTreeMap<String, String>> {
    let Value::Object(fields) = value else { return Err(wrong(name, "an object of strings")) };
    let set = fields.iter().filter(|(_, value)| !value.is_null());
    set.map(|(key, value)| Ok((key.clone(), text(value, name)?))).collect()
}

/// A list of objects, or of comma-separated names and values. `short` is what a single word stands for.
fn entries(value: &Value, name: &str, short: &str) -> Result<Vec<Entry>> {
    let Value::Array(items) = value else { return Err(wrong(name, "a list")) };
    let items = items.iter().filter(|item| !item.is_null() && item.as_str() != Some(""));
    items
        .map(|item| match item {
            Value::Object(_) => map(item, name),
            other => Ok(entry(&text(other, name)?, short)),
        })
        .collect()
}

/// Agents as `ID`, `ID=PATH,...` or objects with `id` and `paths`.
fn agents(value: &Value) -> Result<Vec<Ssh>> {
    let Value::Array(items) = value else { return Err(wrong("ssh", "a list")) };
    let items = items.iter().filter(|item| !item.is_null() && item.as_str() != Some(""));
    items
        .map(|item| match item {
            Value::Object(fields) => Ok(Ssh {
                id: fields.get("id").map_or(Ok(String::new()), |id| text(id, "ssh"))?,
                paths: match fields.get("paths") {
                    None | Some(Value::Null) => Vec::new(),
                    Some(Value::Array(_)) => list(&fields["paths"], "ssh")?,
                    Some(one) => vec![text(one, "ssh")?],
                },
            }),
            other => Ok(Ssh::parse(&text(other, "ssh")?)),
        })
        .collect()
}

/// `type=local,dest=out`, or a word for short.
pub(crate) fn entry(text: &str, short: &str) -> Entry {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    if !text.contains('=') {
        return match short {
            "ref" => Entry::from([pair("ref", text), pair("type", "registry")]),
            "dest" if text == "-" => Entry::from([pair("dest", text), pair("type", "tar")]),
            "dest" => Entry::from([pair("dest", text), pair("type", "local")]),
            _ => Entry::from([pair(short, text)]),
        };
    }
    let mut fields: Vec<String> = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().into_iter().for_each(|field| field.push(c)),
        }
    }
    let parts = fields.iter().filter(|field| !field.is_empty());
    parts.map(|field| field.split_once('=').map_or((field.clone(), String::new()), |(n, v)| pair(n, v))).collect()
}

/// A path without `./`, `//` and `a/..`. Addresses stay as they are.
pub(crate) fn clean(path: &str) -> String {
    if path.contains("://") || path.starts_with("git@") || path == "-" || path.contains('#') {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, parts.last()) {
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            ("..", None) if path.starts_with('/') => {}
            _ => parts.push(part),
        }
    }
    match (path.starts_with('/'), parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

/// The fields of an object, or none.
pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
