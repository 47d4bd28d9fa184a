//! `kiln bake`: several targets at once.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use kiln_bake::{Bake, BakeErrorKind, DEFAULT_FILES, Definition, Override, Request};
use kiln_solver::{Cancel, SolveError};
use tokio::sync::mpsc;

use crate::bake::Job;
use crate::commands::build::conclude;
use crate::environment::Environment;
use crate::error::{CliError, Result, exit};
use crate::report::{Progress, ReportOptions, Terminal, report};
use crate::ui::Ui;
use crate::{checks, cli, project, scope, session};

/// The project's own settings, whose `[target.NAME]` are targets, too.
const SETTINGS: &str = "kiln.toml";

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Bake) -> Result<()> {
    let started = Instant::now();
    let bake = read(environment, args)?;
    if args.print {
        let text = serde_json::to_string_pretty(&bake).unwrap_or_default();
        ui.print(&format!("{text}\n"));
        return Ok(());
    }
    let here = cli::Project { path: PathBuf::from("."), ..cli::Project::default() };
    let project = project::load(environment, &here, Vec::new())?;
    ui.warnings(&project.warnings);
    let job = Job::new(args, project, bake)?;
    for notice in &job.notices {
        ui.say(&format!("note: {notice}"));
    }
    let cancel = Cancel::new();
    let (events, received) = mpsc::channel(256);
    session::stop_on_signals(cancel.clone(), events.downgrade());
    let engine = cancel.unless_stopped(session::connect(environment, global)).await??;
    let reporter = tokio::spawn(report(
        received,
        ReportOptions {
            progress: if args.quiet { Progress::Quiet } else { args.progress },
            // Traces go to standard error too and would tear a live display.
            terminal: if global.is_traced(environment) { Terminal::default() } else { ui.terminal },
            color: ui.color,
            logs: Some(job.state.join("logs")),
            started,
            notes: Vec::new(),
        },
    ));
    let locks = session::locks(environment, engine.as_ref());
    let outcome = async {
        // Held to the end: caches of a build that runs are not pruned.
        let mut building = scope::hold(&locks, &job.project.config.resolved().cache.scope).await?;
        let plan = job.plan(&engine, &locks, &events, &cancel).await?;
        building.counts_on(plan.checkpoints())?;
        let outcome = kiln_solver::run(engine.clone(), plan, events, cancel.clone()).await;
        if building.was_alone() {
            kiln_solver::remove_replaced(engine.as_ref(), &outcome.replaced).await;
        }
        Ok(outcome)
    }
    .await;
    let collected = reporter.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    let result = match outcome {
        Err(CliError::Solve(SolveError::Cancelled)) => {
            ui.say("stopped; nothing had begun");
            Err(CliError::Shown { code: exit::CANCELLED })
        }
        Err(error) => Err(error),
        Ok(outcome) => conclude(ui, &collected, &outcome),
    };
    checks::show(ui, environment, args.quiet, job.warnings.get());
    result
}

/// Reads the files and finds out what they say about the targets that were asked for.
fn read(environment: &Environment, args: &cli::Bake) -> Result<Bake> {
    // A variable that is set to nothing is set.
    let get = |name: &str| environment.variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    let mut definition = Definition::default();
    let mut files = args.files.clone();
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
        let text = text(path)?;
        definition.add(&path.display().to_string(), &text, &get)?;
    }
    let request = Request {
        names: args.targets.clone(),
        overrides: args.set.iter().map(|set| Override::parse(set)).collect::<Result<_, _>>()?,
        environment: &get,
        local_platform: format!("linux/{}", if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }),
        now: rfc3339(SystemTime::now()),
    };
    Ok(definition.resolve(&request)?)
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
