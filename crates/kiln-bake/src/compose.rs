//! Compose files: every service with a `build` is a target.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::{BakeError, BakeErrorKind};
use crate::eval::{Environment, Expr, File, Located, Result};
use crate::resolve::{Definition, RawGroup, RawTarget};
use crate::target::object;

pub(crate) fn read(definition: &mut Definition, file: &Arc<File>, environment: Environment<'_>) -> Result<()> {
    // `y` and `on` are words, as in YAML 1.2.
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: Value = serde_saphyr::from_str_with_options(&file.text, options).map_err(|error| {
        let place = error.location().map_or((1, 1), |at| {
            let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
            (number(at.line()), number(at.column()))
        });
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().to_owned();
        BakeError::new(BakeErrorKind::Syntax { language: "YAML", message }).at(&file.name, place)
    })?;
    let value = interpolated(value, environment).map_err(|error| BakeError { file: file.name.clone(), ..error })?;
    let mut names = Vec::new();
    let mut value = object(value);
    let known_secrets = object(value.remove("secrets").unwrap_or_default());
    for (service, body) in object(value.remove("services").unwrap_or_default()) {
        let mut body = object(body);
        let Some(build) = body.remove("build") else { continue };
        let build = match build {
            Value::String(context) => object(json!({ "context": context })),
            other => object(other),
        };
        let name = service.replace('.', "_");
        names.push(Value::from(name.clone()));
        let located = |value: Value| Located { expr: Expr::Json(escaped(value)), file: file.clone() };
        let attributes = attributes(build, body.remove("image"), &known_secrets, environment);
        let attributes = attributes.into_iter().map(|(key, value)| (key, located(value))).collect();
        definition.targets.push(RawTarget { name, attributes, matrix: vec![] });
    }
    names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    let targets = Located { expr: Expr::Json(Value::Array(names)), file: file.clone() };
    definition.groups.push(RawGroup { name: "default".into(), targets: Some(targets) });
    Ok(())
}

/// The attributes of a target from a service's `build`.
fn attributes(
    build: Map<String, Value>,
    image: Option<Value>,
    known_secrets: &Map<String, Value>,
    environment: Environment<'_>,
) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = Vec::new();
    let mut bake = Map::new();
    for (key, value) in build {
        let (key, value) =
            match key.as_str() {
                "args" => ("args", pairs(value, Some(environment))),
                "labels" => ("labels", pairs(value, None)),
                "additional_contexts" => ("contexts", contexts(value)),
                "extra_hosts" => ("extra-hosts", pairs(value, None)),
                "dockerfile_inline" => ("dockerfile-inline", value),
                "cache_from" => ("cache-from", value),
                "cache_to" => ("cache-to", value),
                "no_cache" => ("no-cache", value),
                "shm_size" => ("shm-size", size(&value)),
                "secrets" => ("secret", secrets(value, known_secrets)),
                "ssh" => ("ssh", agents(value)),
                "ulimits" => ("ulimits", ulimits(value)),
                key @ ("context" | "dockerfile" | "target" | "tags" | "platforms" | "pull" | "network"
                | "entitlements") => (key, value),
                "x-bake" => {
                    bake = object(value);
                    continue;
                }
                _ => continue,
            };
        found.push((key.to_owned(), value));
    }
    if let Some(image) = image.filter(|_| found.iter().all(|(key, _)| key != "tags")) {
        found.push(("tags".into(), json!([image])));
    }
    for (key, value) in bake {
        let is_list = ["tags", "cache-from", "cache-to", "secret", "ssh", "platforms", "output", "no-cache-filter"];
        let value = if is_list.contains(&key.as_str()) && !value.is_array() { json!([value]) } else { value };
        found.retain(|(known, _)| *known != key);
        found.push((key, value));
    }
    found
}

/// `[a=b, c]` as an object. A name without a value takes the environment's, or is left out.
fn pairs(value: Value, environment: Option<Environment<'_>>) -> Value {
    let from_environment = |name: &str| environment.and_then(|get| get(name)).map(Value::from);
    let fields: Map<String, Value> = match value {
        Value::Array(items) => items
            .iter()
            .filter_map(Value::as_str)
            .filter_map(|item| match item.split_once(['=', ':']) {
                Some((name, value)) => Some((name.to_owned(), Value::from(value))),
                None => Some((item.to_owned(), from_environment(item)?)),
            })
            .collect(),
        Value::Object(fields) => fields
            .into_iter()
            .filter_map(|(name, value)| match value {
                Value::Null => from_environment(&name).map(|value| (name, value)),
                value => Some((name, value)),
            })
            .collect(),
        _ => Map::new(),
    };
    Value::Object(fields)
}

/// A context `service:NAME` is a target here.
fn contexts(value: Value) -> Value {
    let mut fields = object(pairs(value, None));
    for value in fields.values_mut() {
        let service = value.as_str().and_then(|text| text.strip_prefix("service:"));
        if let Some(service) = service {
            *value = Value::from(format!("target:{}", service.replace('.', "_")));
        }
    }
    Value::Object(fields)
}

/// Secrets by name, with the file or the variable that the top of the file gives for it.
fn secrets(value: Value, known: &Map<String, Value>) -> Value {
    let Value::Array(items) = value else { return Value::Null };
    let entry = |item: Value| {
        let name = item.as_str().or_else(|| item["source"].as_str()).unwrap_or_default().to_owned();
        let source = known.get(&name).unwrap_or(&Value::Null);
        let field = |key: &str| source[key].as_str().map(str::to_owned);
        let mut entry = json!({ "id": name });
        if let Some(file) = field("file") {
            entry["src"] = crate::target::clean(&file).into();
        } else if let Some(variable) = field("environment") {
            entry["env"] = variable.into();
        }
        entry
    };
    items.into_iter().map(entry).collect()
}

/// A size as a number of bytes or with a unit, as bake prints it: `128MiB`.
fn size(value: &Value) -> Value {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_lowercase);
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1024.0 * 1024.0,
        "g" => 1024.0 * 1024.0 * 1024.0,
        _ => return value.clone(),
    };
    let Ok(number) = digits.trim().parse::<f64>() else { return value.clone() };
    let (mut size, mut units) = (number * unit, ["B", "KiB", "MiB", "GiB"].into_iter());
    let mut name = units.next().unwrap_or_default();
    for larger in units {
        if size >= 1024.0 {
            (size, name) = (size / 1024.0, larger);
        }
    }
    // Four digits that count, as Go's %.4g.
    let before = if size >= 1000.0 {
        4
    } else if size >= 100.0 {
        3
    } else if size >= 10.0 {
        2
    } else {
        1
    };
    let text = format!("{size:.*}", 4 - before);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    Value::from(format!("{text}{name}"))
}

/// Agents: a list, or an object of paths by name.
fn agents(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let agents = fields.into_iter().map(|(id, path)| match path.as_str() {
                Some(path) => json!({ "id": id, "paths": [path] }),
                None => json!({ "id": id }),
            });
            agents.collect()
        }
        other => other,
    }
}

/// Limits by name, each a number or an object of `soft` and `hard`, as texts.
fn ulimits(value: Value) -> Value {
    let limit = |(name, value): (String, Value)| {
        let field = |key: &str| value.get(key).unwrap_or(&value).to_string();
        Value::from(format!("{name}={}:{}", field("soft"), field("hard")))
    };
    let mut limits: Vec<Value> = object(value).into_iter().map(limit).collect();
    limits.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    Value::Array(limits)
}

/// Strings of a compose file are no templates of HCL.
fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("${", "$${").replace("%{", "%%{")),
        Value::Array(items) => items.into_iter().map(escaped).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, escaped(value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

/// Replaces `$X`, `${X}`, `${X:-default}`, `${X-default}`, `${X:?message}`, `${X:+other}` and `$$`.
fn interpolated(value: Value, environment: Environment<'_>) -> Result<Value> {
    Ok(match value {
        Value::String(text) => Value::String(interpolate(&text, environment)?),
        Value::Array(items) => {
            items.into_iter().map(|item| interpolated(item, environment)).collect::<Result<Vec<_>>>()?.into()
        }
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| Ok((key, interpolated(value, environment)?)))
            .collect::<Result<Map<_, _>>>()?
            .into(),
        other => other,
    })
}

fn interpolate(text: &str, environment: Environment<'_>) -> Result<String> {
    let fails = |message: String| BakeError::new(BakeErrorKind::Function { function: "${...}".into(), message });
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| fails(format!("`${{{after}` does not end")))?;
            let (inside, after) = (&after[..end], &after[end + 1..]);
            rest = after;
            let length = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inside.len());
            let (name, modifier) = inside.split_at(length);
            let (empty_counts, modifier) =
                modifier.strip_prefix(':').map_or((false, modifier), |modifier| (true, modifier));
            let value = environment(name);
            let is_set = value.as_ref().is_some_and(|value| !(empty_counts && value.is_empty()));
            let value = value.unwrap_or_default();
            let word = modifier.get(1..).unwrap_or_default();
            match modifier.chars().next() {
                Some('-') if !is_set => out.push_str(&interpolate(word, environment)?),
                Some('+') if is_set => out.push_str(&interpolate(word, environment)?),
                Some('?') if !is_set => return Err(fails(format!("`{name}` is needed: {word}"))),
                Some('+') => {}
                None | Some('-' | '?') => out.push_str(&value),
                Some(_) => return Err(fails(format!("`${{{inside}}}` is not understood"))),
            }
        } else {
            let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let name = &rest[..length];
            if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(fails(format!("`$` in `{text}` names no variable; write `$$` for the character")));
            }
            out.push_str(&environment(name).unwrap_or_default());
            rest = &rest[length..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The brace that closes one that was opened just before.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(index),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}
