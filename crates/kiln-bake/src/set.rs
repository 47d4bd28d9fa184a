//! `--set TARGET.KEY=VALUE`.

use crate::error::{BakeError, BakeErrorKind};
use crate::eval::Result;
use crate::target::{Entry, Ssh, Target, clean, entry};

/// One `--set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    text: String,
    /// A target's name, in which `*` stands for anything.
    pattern: String,
    key: String,
    /// The part after `args.`, `labels.`, `contexts.`.
    name: Option<String>,
    value: Option<String>,
}

impl Override {
    /// Reads `TARGET.KEY=VALUE`.
    ///
    /// # Errors
    /// If target or key is missing, or the key is unknown.
    pub fn parse(text: &str) -> Result<Self> {
        let fails =
            |message: &str| BakeError::new(BakeErrorKind::Set { text: text.to_owned(), message: message.to_owned() });
        let (path, value) = text.split_once('=').map_or((text, None), |(path, value)| (path, Some(value.to_owned())));
        let mut parts = path.splitn(3, '.');
        let (Some(pattern), Some(key)) = (parts.next().filter(|pattern| !pattern.is_empty()), parts.next()) else {
            return Err(fails("it names no key"));
        };
        let name = parts.next().map(str::to_owned);
        let known = match key {
            "args" | "labels" | "contexts" | "extra-hosts" if name.is_none() => {
                return Err(fails(&format!("`{key}` needs a name: {pattern}.{key}.NAME=VALUE")));
            }
            "args" | "labels" | "contexts" | "extra-hosts" => true,
            _ => KEYS.contains(&key) && name.is_none(),
        };
        if !known {
            return Err(fails(&format!("unknown key `{key}`")));
        }
        if value.is_none() && key != "args" {
            return Err(fails("it has no value"));
        }
        Ok(Self { text: text.to_owned(), pattern: pattern.to_owned(), key: key.to_owned(), name, value })
    }

    pub(crate) fn matches(&self, target: &str) -> bool {
        wildcard(&self.pattern, target)
    }

    /// The error of one that matches no target.
    pub(crate) fn unused(&self) -> BakeError {
        let message = format!("no target matches `{}`", self.pattern);
        BakeError::new(BakeErrorKind::Set { text: self.text.clone(), message })
    }

    fn list(&self) -> Vec<String> {
        self.value.iter().flat_map(|value| value.split(',')).filter(|v| !v.is_empty()).map(str::to_owned).collect()
    }
}

const KEYS: [&str; 24] = [
    "annotations",
    "attest",
    "cache-from",
    "cache-to",
    "call",
    "context",
    "description",
    "dockerfile",
    "dockerfile-inline",
    "entitlements",
    "load",
    "network",
    "no-cache",
    "no-cache-filter",
    "output",
    "platform",
    "pull",
    "push",
    "secrets",
    "shm-size",
    "ssh",
    "tags",
    "target",
    "ulimits",
];

/// Applies all overrides of a target. Lists are replaced by all values that were given for them.
pub(crate) fn apply(
    target: &mut Target,
    overrides: &[&Override],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<()> {
    let mut over = Target::default();
    let mut replaced: Vec<&str> = Vec::new();
    let (mut is_pushed, mut is_loaded) = (false, false);
    for set in overrides {
        let value = set.value.clone().unwrap_or_default();
        let flag = || match value.as_str() {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(Some(false)),
            _ => {
                let message = format!("`{}` must be true or false", set.key);
                Err(BakeError::new(BakeErrorKind::Set { text: set.text.clone(), message }))
            }
        };
        let name = set.name.clone().unwrap_or_default();
        replaced.push(&set.key);
        match set.key.as_str() {
            "args" => {
                if let Some(value) = set.value.clone().or_else(|| environment(&name)) {
                    over.args.insert(name, value);
                }
            }
            "labels" => drop(over.labels.insert(name, value)),
            "contexts" => drop(over.contexts.insert(name, value)),
            "extra-hosts" => drop(over.extra_hosts.insert(name, value)),
            "context" => over.context = Some(clean(&value)),
            "description" => over.description = Some(value),
            "dockerfile" => over.dockerfile = Some(value),
            "dockerfile-inline" => over.dockerfile_inline = Some(value),
            "target" => over.target = Some(value),
            "network" => over.network = Some(value),
            "shm-size" => over.shm_size = Some(value),
            "call" => over.call = Some(value),
            "no-cache" => over.no_cache = flag()?,
            "pull" => over.pull = flag()?,
            "tags" => over.tags.push(value),
            "ulimits" => over.ulimits.push(value),
            "annotations" => over.annotations.push(value),
            "entitlements" => over.entitlements.push(value),
            "platform" => over.platforms.extend(set.list()),
            "no-cache-filter" => over.no_cache_filter.extend(set.list()),
            "cache-from" => over.cache_from.push(entry(&value, "ref")),
            "cache-to" => over.cache_to.push(entry(&value, "ref")),
            "output" => over.output.push(entry(&value, "dest")),
            "attest" => over.attest.push(entry(&value, "type")),
            "secrets" => over.secret.push(entry(&value, "id")),
            "ssh" => over.ssh.push(Ssh::parse(&value)),
            "push" => is_pushed = flag()? == Some(true),
            "load" => is_loaded = flag()? == Some(true),
            _ => {}
        }
    }
    for key in replaced {
        match key {
            "cache-from" => target.cache_from.clear(),
            "no-cache-filter" => target.no_cache_filter.clear(),
            "annotations" => target.annotations.clear(),
            "secrets" => target.secret.clear(),
            "ssh" => target.ssh.clear(),
            _ => {}
        }
    }
    target.merge(over);
    if is_pushed {
        push(&mut target.output);
    }
    if is_loaded {
        load(&mut target.output);
    }
    Ok(())
}

fn kind(output: &Entry) -> &str {
    output.get("type").map(String::as_str).unwrap_or_default()
}

/// Has an image pushed: the one that is made, else one more, unless the target is for files.
fn push(outputs: &mut Vec<Entry>) {
    let mut is_settled = false;
    for output in outputs.iter_mut() {
        is_settled |= kind(output) != "docker";
        if kind(output) == "image" {
            output.insert("push".to_owned(), "true".to_owned());
        }
    }
    if !is_settled {
        outputs.push(entry("type=image,push=true", "dest"));
    }
}

/// Has an image loaded, unless it is, or the target is for files.
fn load(outputs: &mut Vec<Entry>) {
    let is_settled = outputs.iter().any(|output| match kind(output) {
        "docker" => !output.contains_key("dest"),
        kind => matches!(kind, "local" | "tar" | "cacheonly"),
    });
    if !is_settled {
        outputs.push(entry("type=docker", "dest"));
    }
}

/// Whether `*` in a pattern can stand for what is in the text.
pub(crate) fn wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}
