//! `kiln build`.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;

use kiln_config::FlagValue;
use kiln_graph::Platform;
use kiln_solver::image::ImageResult;
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
use crate::{checks, metadata, output, recipe, run_flags, scope, session};

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
        let mut job = Job::new(environment, args, project)?;
        if job.asked.stdout.is_some() && std::io::stdout().is_terminal() {
            return Err(CliError::Usage {
                problem: "an archive would be written to a terminal".to_owned(),
                hint: "redirect standard output, or name a file: --output type=tar,dest=FILE".to_owned(),
            });
        }
        let result = attempt(ui, environment, global, (args, &mut job), (events, received), &cancel, started).await;
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
    (args, job): (&cli::Build, &mut Job),
    (events, received): Events,
    cancel: &Cancel,
    started: Instant,
) -> Result<()> {
    let engine = cancel.unless_stopped(session::connect(environment, global)).await??;
    job.on_daemon(engine.info().arch);
    job.check_outputs()?;
    let job = &*job;
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
        let mut building = scope::hold(&locks, &job.project.config.resolved().cache.scope).await?;
        let plan = job.plan(&engine, &run, &events, cancel).await?;
        building.counts_on(plan.checkpoints())?;
        let outcome = kiln_solver::run(engine.clone(), plan, events, cancel.clone()).await;
        if building.was_alone() {
            kiln_solver::remove_replaced(engine.as_ref(), &outcome.replaced).await;
        }
        Ok(outcome)
    }
    .await;
    let collected = reporter.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    let outcome = outcome?;
    let concluded = conclude(ui, &collected, &outcome);
    if concluded.is_ok() {
        let published = outcome.published.as_ref().and_then(|published| published.as_ref().ok());
        metadata::write(args, &collected.build, published)?;
        if let Some(file) = &job.asked.stdout {
            metadata::to_stdout(file)?;
        }
    }
    concluded
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
    if let Some(folder) = output::folder(args)? {
        text("--output", "build.output", Some(absolute(&folder).map_err(CliError::io("find", &folder))?));
    }
    if args.no_verify {
        text("--no-verify", "verify.run", Some("false".to_owned()));
    }
    Ok(flags)
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
    match &outcome.published {
        Some(Ok(published)) if collected.progress == Progress::Quiet => {
            let id = published.image.as_ref().and_then(ImageResult::id);
            ui.print(&id.map(|id| format!("{id}\n")).unwrap_or_default());
        }
        Some(Err(error)) => {
            let place = FailureOptions { width, color: ui.color, log: None };
            if !matches!(error, SolveError::Cancelled) {
                ui.say(render_error(error, place).trim_end());
            }
            code = Some(solve_code(error));
            // What all targets together should have become is not there: nothing that was asked for is.
            good = 0;
        }
        _ => {}
    }
    if collected.progress != Progress::Quiet && collected.progress != Progress::Json {
        let mut rows = collected.rows();
        rows.iter_mut().flat_map(|row| &mut row.artifacts).for_each(|file| file.path = project::shown(&file.path));
        ui.say(render_summary(&rows, width, ui.color).trim_end());
        for exported in &collected.exported {
            ui.say(&crate::report::exported(exported));
        }
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
