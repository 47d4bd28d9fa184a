//! `--call`: what is to be known of a build without building anything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kiln_dockerfile::Dockerfile;
use serde_json::{Map, Value, json};

use crate::cli;
use crate::commands::check::{self, Daemon};
use crate::environment::Environment;
use crate::error::{CliError, Result, exit};
use crate::job::{Item, Job};
use crate::ui::Ui;

/// What is asked for, and how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    method: Method,
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Check,
    Targets,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Targets => "targets",
        }
    }
}

/// Whether the command line asks for an answer instead of a build.
pub(super) fn asked(check: bool, call: Option<&str>) -> Result<Option<Call>> {
    let Some(call) = call else { return Ok(check.then_some(Call { method: Method::Check, json: false })) };
    let unknown = |part: &str| CliError::Usage {
        problem: format!("--call `{call}`: `{part}` is not known"),
        hint: "write --call=build, check or targets, and ,format=json for programs".to_owned(),
    };
    let mut parts = call.split(',');
    let method = parts.next().unwrap_or_default();
    let mut json = false;
    for part in parts {
        json = match part {
            "format=text" => false,
            "format=json" => true,
            other => return Err(unknown(other)),
        };
    }
    match method {
        "build" | "" => Ok(None),
        "check" | "lint" => Ok(Some(Call { method: Method::Check, json })),
        "targets" => Ok(Some(Call { method: Method::Targets, json })),
        other => Err(unknown(other)),
    }
}

/// Prints the answer.
pub(super) async fn answer(
    ui: Ui,
    environment: &Environment,
    global: &cli::Global,
    job: &Job,
    call: Call,
) -> Result<()> {
    let mut daemon = Daemon::new(environment, global);
    let (mut values, mut found, mut error) = (Map::new(), false, None);
    for (index, item) in job.items.iter().enumerate() {
        let (text, value) = match call.method {
            Method::Targets => targets(item)?,
            Method::Check => {
                let findings = check::find(&mut daemon, item).await?;
                findings.annotate(ui, environment);
                for line in findings.remarks() {
                    ui.say(&line);
                }
                found |= !findings.is_empty();
                let answer = (findings.text(), findings.value());
                error = error.or(findings.error);
                answer
            }
        };
        match (item.name(), call.json) {
            (None, true) => ui.print(&format!("{value:#}\n")),
            (None, false) => ui.print(&text),
            (Some(name), true) => drop(values.insert(name.to_owned(), json!({ call.method.name(): value }))),
            (Some(name), false) => ui.print(&format!("{}{name}\n\n{text}", if index > 0 { "\n" } else { "" })),
        }
    }
    if !values.is_empty() {
        ui.print(&format!("{:#}\n", json!({ "target": values })));
    }
    match error {
        Some(error) => Err(error.into()),
        None if found => Err(CliError::Shown { code: exit::STEP }),
        None => Ok(()),
    }
}

/// A stage that can be built.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    name: String,
    description: String,
    base: String,
    line: u32,
    is_default: bool,
}

/// The stages of a Dockerfile that has names for them, and the last one.
fn targets(item: &Item) -> Result<(String, Value)> {
    let sources = item.sources()?;
    let wanted = item.wanted(1)?;
    let Some((source, wanted)) = sources.first().zip(wanted.first()) else { return Ok((String::new(), Value::Null)) };
    let found = stages(&wanted.dockerfile, &source.text);
    let name = |target: &Target| match (target.name.as_str(), target.is_default) {
        ("", _) => "(default)".to_owned(),
        (name, true) => format!("{name} (default)"),
        (name, false) => name.to_owned(),
    };
    let width = found.iter().map(|target| name(target).len()).max().unwrap_or_default().max("TARGET".len());
    let mut text = format!("{:width$}    DESCRIPTION\n", "TARGET");
    for target in &found {
        let line = format!("{:width$}    {}", name(target), target.description);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let values = found.iter().map(|target| {
        let mut value = json!({ "base": target.base, "location": { "ranges": [{
            "start": { "line": target.line }, "end": { "line": target.line },
        }] } });
        for (key, text) in [("name", &target.name), ("description", &target.description)] {
            if !text.is_empty() {
                value[key] = text.as_str().into();
            }
        }
        if target.is_default {
            value["default"] = true.into();
        }
        value
    });
    let value = json!({
        "targets": values.collect::<Vec<_>>(),
        "sources": [BASE64.encode(&source.text)],
    });
    Ok((text, value))
}

fn stages(dockerfile: &Dockerfile, text: &str) -> Vec<Target> {
    let lines: Vec<&str> = text.lines().collect();
    let last = dockerfile.stages.len().saturating_sub(1);
    let stages = dockerfile.stages.iter().enumerate();
    let targets = stages.map(|(index, stage)| {
        let name = stage.name.as_ref().map(|name| name.value.to_lowercase()).unwrap_or_default();
        let above = lines.iter().take(stage.span.line.saturating_sub(1) as usize).rev();
        // A comment above that begins with the name says what the stage is.
        let mut comments = above.map_while(|line| line.trim().strip_prefix('#')).map(str::trim);
        let description = comments.find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap_or_default();
        Target {
            description: if name.is_empty() { String::new() } else { description.trim().to_owned() },
            base: stage.base.value.clone(),
            line: stage.span.line,
            is_default: index == last,
            name,
        }
    });
    targets.filter(|target| target.is_default || !target.name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_have_the_comment_above_them() {
        let text =
            "# syntax=x\n\n# base is where it begins\nFROM alpine AS Base\nFROM base\nRUN a\n# other\nFROM base AS b\n";
        let found = stages(&kiln_dockerfile::parse("f", text).expect("valid"), text);
        let short: Vec<_> =
            found.iter().map(|t| (t.name.as_str(), t.description.as_str(), t.line, t.is_default)).collect();
        assert_eq!(short, [("base", "is where it begins", 4, false), ("b", "", 8, true)]);
    }

    #[test]
    fn calls_are_told_apart() {
        let call = |method, json| Some(Call { method, json });
        assert_eq!(asked(true, None).expect("valid"), call(Method::Check, false));
        assert_eq!(asked(false, Some("build")).expect("valid"), None);
        assert_eq!(asked(false, Some("targets,format=json")).expect("valid"), call(Method::Targets, true));
        assert!(asked(false, Some("check,format=xml")).is_err() && asked(false, Some("outline")).is_err());
    }
}
