//! `kiln bake`: several targets at once.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_bake::{Bake, BakeErrorKind, DEFAULT_FILES, Definition, Listed, Override, Request};
use kiln_config::FlagValue;
use serde_json::json;

use crate::commands::cache::table;
use crate::commands::call::{self, Call};
use crate::commands::run::{Surroundings, run as run_job, told};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::job::Job;
use crate::ui::Ui;
use crate::{bake, cli, project};

/// The project's own settings, whose `[target.NAME]` are targets, too.
const SETTINGS: &str = "kiln.toml";

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Bake) -> Result<()> {
    let definition = Files::read(environment, args)?;
    if let Some(list) = args.list {
        return definition.list(ui, list);
    }
    let bake = definition.resolve(args)?;
    if args.print {
        let text = serde_json::to_string_pretty(&bake).unwrap_or_default();
        ui.print(&format!("{text}\n"));
        return Ok(());
    }
    let call = asked(args, &bake)?;
    let surroundings = Surroundings::new(ui, environment, (global, &args.show), "bake");
    let attempt = async move {
        let here = cli::Project { path: PathBuf::from("."), ..cli::Project::default() };
        let twin = args.schedule.twin.clone();
        let twin = twin.map(|when| ("--twin".to_owned(), "emulation.twin".to_owned(), FlagValue::from(when)));
        let project = project::load(environment, &here, twin.into_iter().collect())?;
        ui.warnings(&project.warnings);
        // The second list is held to the end: it removes what was brought in.
        let (items, _prepared) =
            bake::items(environment, &project, bake, &surroundings.events, &surroundings.cancel).await?;
        let mut job = Job::of_targets(environment, project, items, args.schedule.clone())?;
        match call {
            Some(call) => call::answer(ui, environment, global, &job, call).await,
            None => run_job(surroundings, &mut job).await.map(drop),
        }
    };
    told(ui, Box::pin(attempt)).await
}

/// Whether the command line or all of the targets ask for an answer instead of a build.
fn asked(args: &cli::Bake, bake: &Bake) -> Result<Option<Call>> {
    let given = call::asked(args.check, args.call.as_deref())?;
    let mut calls = Vec::new();
    for target in bake.target.values() {
        calls.push(call::asked(false, target.call.as_deref())?);
    }
    let first = calls.first().copied().flatten();
    if given.is_none() && calls.iter().any(|call| *call != first) {
        return Err(CliError::Usage {
            problem: "some targets are to be built, others to be answered for by `call`".to_owned(),
            hint: "name those that belong together, or say --call for all".to_owned(),
        });
    }
    Ok(given.or(first))
}

/// The bake files, read.
struct Files<'a> {
    definition: Definition,
    environment: &'a Environment,
    /// `--var`.
    variables: &'a [(String, String)],
}

impl<'a> Files<'a> {
    fn read(environment: &'a Environment, args: &'a cli::Bake) -> Result<Self> {
        let mut read = Self { definition: Definition::default(), environment, variables: &args.var };
        let mut files = args.files.clone();
        if files.is_empty() {
            let named = environment.get("BUILDX_BAKE_FILE").unwrap_or_default();
            files.extend(std::env::split_paths(named).filter(|path| !path.as_os_str().is_empty()));
        }
        if files.is_empty() {
            files.extend(DEFAULT_FILES.iter().map(PathBuf::from).filter(|path| path.is_file()));
            if Path::new(SETTINGS).is_file() && text(Path::new(SETTINGS))?.contains("[target.") {
                files.push(SETTINGS.into());
            }
        }
        if files.is_empty() {
            return Err(CliError::Missing {
                problem: "there is no bake file here".to_owned(),
                hint: format!(
                    "--file names one; looked for are {}, {SETTINGS} with [target.NAME]",
                    DEFAULT_FILES.join(", ")
                ),
            });
        }
        for path in &files {
            // In buildx it tells the file from one of a remote definition.
            let path = path.strip_prefix("cwd:").unwrap_or(path);
            let (text, mut definition) = (text(path)?, std::mem::take(&mut read.definition));
            definition.add(&path.display().to_string(), &text, &|name| read.get(name))?;
            read.definition = definition;
        }
        Ok(read)
    }

    /// A variable of the command line or the environment; one that is set to nothing is set.
    fn get(&self, name: &str) -> Option<String> {
        let variables = self.variables.iter().rev().chain(&self.environment.variables);
        let mut found = variables.filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.clone())
    }

    /// What the files say about the targets that were asked for.
    fn resolve(&self, args: &cli::Bake) -> Result<Bake> {
        let mut sets = args.set.clone();
        let mut all = |given: bool, what: &str| sets.extend(given.then(|| format!("*.{what}")));
        all(args.push, "push=true");
        all(args.load, "load=true");
        all(args.no_cache, "no-cache=true");
        all(args.pull, "pull=true");
        for (kind, mode) in [("sbom", &args.sbom), ("provenance", &args.provenance)] {
            let mode = mode.as_deref().map(|mode| match mode {
                "true" | "1" => String::new(),
                "false" | "0" => ",disabled=true".to_owned(),
                mode => format!(",{}", if mode.contains('=') { mode.to_owned() } else { format!("mode={mode}") }),
            });
            sets.extend(mode.map(|mode| format!("*.attest=type={kind}{mode}")));
        }
        let get = |name: &str| self.get(name);
        Ok(self.definition.resolve(&request(args.targets.clone(), &sets, &get)?)?)
    }

    /// Prints what there is.
    fn list(&self, ui: Ui, list: cli::List) -> Result<()> {
        let get = |name: &str| self.get(name);
        let request = request(Vec::new(), &[], &get)?;
        let (head, listed, json): (_, Vec<_>, _) = if list.variables {
            let listed = self.definition.variables(&request)?;
            let row = |v: &Listed| {
                let value = v.value.clone().unwrap_or_else(|| "<null>".to_owned());
                vec![
                    v.name.clone(),
                    v.kind.clone().unwrap_or_default(),
                    value,
                    v.description.clone().unwrap_or_default(),
                ]
            };
            (&["VARIABLE", "TYPE", "VALUE", "DESCRIPTION"][..], listed.iter().map(row).collect(), json!(listed))
        } else {
            let listed = self.definition.targets(&request)?;
            let row = |t: &Listed| vec![t.name.clone(), t.description.clone().unwrap_or_default()];
            (&["TARGET", "DESCRIPTION"][..], listed.iter().map(row).collect(), json!(listed))
        };
        let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
        let rows: Vec<Vec<String>> = [head].into_iter().chain(listed).collect();
        ui.print(&if list.json { format!("{json:#}\n") } else { table(&rows) });
        Ok(())
    }
}

fn request<'r>(names: Vec<String>, sets: &[String], get: &'r dyn Fn(&str) -> Option<String>) -> Result<Request<'r>> {
    Ok(Request {
        names,
        overrides: sets.iter().map(|set| Override::parse(set)).collect::<Result<_, _>>()?,
        environment: get,
        local_platform: format!("linux/{}", if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }),
        now: rfc3339(SystemTime::now()),
    })
}

fn text(path: &Path) -> Result<String> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map_err(CliError::io("read", path))?;
        bytes
    } else {
        fs_err::read(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => CliError::Missing {
                problem: format!("the bake file {} does not exist", path.display()),
                hint: "--file names one, relative to the current folder".to_owned(),
            },
            _ => CliError::io("read", path)(source),
        })?
    };
    String::from_utf8(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let line = text.matches('\n').count() + 1;
        let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let kind = BakeErrorKind::Syntax { language: "text", message: "these bytes are no UTF-8".to_owned() };
        CliError::Bake(kiln_bake::BakeError { file: path.display().to_string(), place: Some((line, column)), kind })
    })
}

/// The time in UTC.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    kiln_solver::image::rfc3339(i64::try_from(seconds).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
