//! `kiln build`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use kiln_config::FlagValue;
use kiln_graph::Platform;
use kiln_solver::{BuildEvent, BuildOutcome, Cancel, SolveError};
use tokio::sync::mpsc;

use crate::cli;
use crate::commands::check;
use crate::environment::Environment;
use crate::error::{CliError, Result, exit, solve_code};
use crate::job::{Job, Run};
use crate::project::{self, Flag};
use crate::report::{
    Collected, FailureOptions, Progress, ReportOptions, Terminal, columns, render_error, render_summary, report,
};
use crate::sources::prepare::prepare;
use crate::ui::Ui;
use crate::{checks, recipe, run_flags, scope, session};

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Build) -> Result<()> {
    let started = Instant::now();
    if let Some(format) = check::asked(args)? {
        return check::run(ui, environment, global, args, format).await;
    }
    let cancel = Cancel::new();
    let (events, received) = mpsc::channel(256);
    session::stop_on_signals(cancel.clone(), events.downgrade());
    let attempted = async {
        // Held to the end: it removes what was brought in.
        let prepared = prepare(environment, args, &events, &cancel).await?;
        let args = &prepared.args;
        let project = project::load_prepared(environment, &prepared, flags(args)?)?;
        ui.warnings(&project.warnings);
        let job = Job::new(environment, args, project)?;
        let result = attempt(ui, environment, global, (args, &job), (events, received), &cancel, started).await;
        checks::show(ui, environment, args.quiet, job.warnings.get());
        result
    };
    match attempted.await {
        // Whatever broke off, the user knows why.
        Err(CliError::Solve(SolveError::Cancelled)) => {
            ui.say("stopped; nothing had begun");
            Err(CliError::Shown { code: exit::CANCELLED })
        }
        result => result,
    }
}

type Events = (mpsc::Sender<BuildEvent>, mpsc::Receiver<BuildEvent>);

async fn attempt(
    ui: Ui,
    environment: &Environment,
    global: &cli::Global,
    (args, job): (&cli::Build, &Job),
    (events, received): Events,
    cancel: &Cancel,
    started: Instant,
) -> Result<()> {
    let engine = cancel.unless_stopped(session::connect(environment, global)).await??;
    let flags = run_flags::read(args, environment, &engine.info().host)?;
    let auto_jobs = recipe::auto_jobs(engine.info().cpus, job.project.platforms_configured);
    let reporter = tokio::spawn(report(
        received,
        ReportOptions {
            progress: if args.quiet { Progress::Quiet } else { args.progress },
            // Traces go to standard error too and would tear a live display.
            terminal: if global.is_traced(environment) { Terminal::default() } else { ui.terminal },
            color: ui.color,
            logs: Some(job.state.join("logs")),
            started,
            notes: job.notes(auto_jobs),
        },
    ));
    let locks = session::locks(environment, engine.as_ref());
    let twin_log = environment.get(kiln_twin::LOG).is_some();
    let run = Run { args, auto_jobs, twin_log, locks: &locks, flags };
    let outcome: Result<BuildOutcome> = async {
        // Held to the end: caches of a build that runs are not pruned.
        let _in_use = scope::hold(&locks, &job.project.config.resolved().cache.scope).await?;
        let plan = job.plan(&engine, &run, &events, cancel).await?;
        Ok(kiln_solver::run(engine.clone(), plan, events, cancel.clone()).await)
    }
    .await;
    let collected = reporter.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    conclude(ui, &collected, &outcome?)
}

/// Options of the command that are settings.
pub(super) fn flags(args: &cli::Build) -> Result<Vec<Flag>> {
    let mut flags: Vec<Flag> = Vec::new();
    let mut text = |option: &str, key: &str, value: Option<String>| {
        if let Some(value) = value {
            flags.push((option.to_owned(), key.to_owned(), FlagValue::from(value)));
        }
    };
    let absolute = |path: &Path| std::path::absolute(path).map(|p| p.display().to_string());
    if let Some(file) = &args.file {
        if !file.exists() {
            return Err(CliError::Missing {
                problem: format!("the Dockerfile {} does not exist", file.display()),
                hint: "--file names one, relative to the current folder".to_owned(),
            });
        }
        text("--file", "build.recipe", Some(absolute(file).map_err(CliError::io("find", file))?));
    }
    text("--target", "build.target", args.target.clone());
    text("--jobs", "nuitka.jobs", args.jobs.clone());
    text("--lto", "nuitka.lto", args.lto.clone());
    text("--twin", "emulation.twin", args.twin.clone());
    if let Some(output) = &args.output {
        let folder = output_folder(output)?;
        text("--output", "build.output", Some(absolute(&folder).map_err(CliError::io("find", &folder))?));
    }
    if args.no_verify {
        text("--no-verify", "verify.run", Some("false".to_owned()));
    }
    Ok(flags)
}

/// The folder of `-o FOLDER` or `-o type=local,dest=FOLDER`.
fn output_folder(output: &str) -> Result<PathBuf> {
    let names_nothing = || CliError::Usage {
        problem: format!("--output `{output}` names no folder"),
        hint: "write --output FOLDER, or type=local,dest=FOLDER".to_owned(),
    };
    if output.is_empty() {
        return Err(names_nothing());
    }
    if !output.contains('=') {
        return Ok(PathBuf::from(output));
    }
    let mut folder = None;
    for part in output.split(',') {
        match part.split_once('=') {
            Some(("type", "local")) => {}
            Some(("type", other)) => {
                return Err(CliError::Usage {
                    problem: format!("--output type `{other}` is not supported yet"),
                    hint: "write --output type=local,dest=FOLDER, or a folder alone".to_owned(),
                });
            }
            Some(("dest", dest)) if !dest.is_empty() => folder = Some(PathBuf::from(dest)),
            _ => {
                return Err(CliError::Usage {
                    problem: format!("--output `{output}`: `{part}` makes no sense here"),
                    hint: "write --output type=local,dest=FOLDER, or a folder alone".to_owned(),
                });
            }
        }
    }
    folder.ok_or_else(names_nothing)
}

pub(super) fn conclude(ui: Ui, collected: &Collected, outcome: &BuildOutcome) -> Result<()> {
    for warning in &outcome.warnings {
        ui.warn(warning);
    }
    let width = columns();
    let (mut code, mut good, mut shown) = (None, 0, false);
    for target in &outcome.targets {
        match target {
            Ok(report) => {
                good += 1;
                if collected.progress == Progress::Quiet {
                    for artifact in &report.artifacts {
                        ui.print(&format!("{}\n", artifact.path.display()));
                    }
                }
            }
            // What failed first is shown in full; the others only lack it.
            Err(error @ (SolveError::Dependency { .. } | SolveError::Cancelled)) => {
                code.get_or_insert(solve_code(error));
            }
            Err(error) => {
                // A real failure decides the exit code, not what it dragged along.
                if !shown {
                    code = Some(solve_code(error));
                }
                shown = true;
                let log = failed_platform(error).and_then(|p| collected.logs.get(&p)).map(|p| project::shown(p));
                let options = FailureOptions { width, color: ui.color, log: log.as_deref() };
                ui.say(render_error(error, options).trim_end());
            }
        }
    }
    if collected.progress != Progress::Quiet && collected.progress != Progress::Json {
        let mut rows = collected.rows();
        rows.iter_mut().flat_map(|row| &mut row.artifacts).for_each(|file| file.path = project::shown(&file.path));
        ui.say(render_summary(&rows, width, ui.color).trim_end());
    }
    match code {
        None => Ok(()),
        Some(exit::CANCELLED) => {
            ui.say("stopped; what was finished is kept");
            Err(CliError::Shown { code: exit::CANCELLED })
        }
        Some(_) if good > 0 => Err(CliError::Shown { code: exit::PARTIAL }),
        Some(code) => Err(CliError::Shown { code }),
    }
}

/// The platform whose log has more about an error.
fn failed_platform(error: &SolveError) -> Option<Platform> {
    match error {
        SolveError::Step { platform, .. } | SolveError::StepEngine { platform, .. } => Some(*platform),
        _ => None,
    }
}
