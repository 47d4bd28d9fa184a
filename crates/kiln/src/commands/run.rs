//! Runs a build to its end and reports it: what `kiln build` and `kiln bake` have in common.

use std::future::Future;
use std::io::IsTerminal;
use std::time::{Instant, SystemTime};

use kiln_docker::DaemonInfo;
use kiln_graph::Platform;
use kiln_solver::image::ImageResult;
use kiln_solver::travel::{self, Cargo, Travel};
use kiln_solver::{BuildEvent, BuildOutcome, Cancel, SolveError, TargetReport};
use tokio::sync::mpsc;

use crate::environment::Environment;
use crate::error::{CliError, Result, exit, solve_code};
use crate::history::{self, Begun};
use crate::job::{Job, Run};
use crate::report::{
    Collected, FailureOptions, Progress, ReportOptions, columns, render_error, render_summary, report,
};
use crate::ui::Ui;
use crate::{annotate, checks, cli, metadata, project, recipe, scope, session, shell};

/// What surrounds a build.
pub(crate) struct Surroundings<'a> {
    pub(crate) ui: Ui,
    pub(crate) environment: &'a Environment,
    pub(crate) global: &'a cli::Global,
    pub(crate) show: &'a cli::Show,
    started: Instant,
    begun: Begun,
    pub(crate) events: mpsc::Sender<BuildEvent>,
    received: mpsc::Receiver<BuildEvent>,
    pub(crate) cancel: Cancel,
}

impl<'a> Surroundings<'a> {
    /// Begins to listen to the user's wish to stop.
    pub(crate) fn new(
        ui: Ui,
        environment: &'a Environment,
        (global, show): (&'a cli::Global, &'a cli::Show),
        command: &'static str,
    ) -> Self {
        let alone = Self::within(&Cancel::new(), ui, environment, (global, show), command);
        session::stop_on_signals(alone.cancel.clone(), alone.events.downgrade());
        alone
    }

    /// Follows a wish to stop that somebody else listens to.
    pub(super) fn within(
        stop: &Cancel,
        ui: Ui,
        environment: &'a Environment,
        (global, show): (&'a cli::Global, &'a cli::Show),
        command: &'static str,
    ) -> Self {
        let cancel = stop.child();
        let begun = Begun { command, at: SystemTime::now() };
        let (events, received) = mpsc::channel(256);
        Self { ui, environment, global, show, started: Instant::now(), begun, events, received, cancel }
    }
}

/// The result of an attempt to build; whatever broke off, the user knows why.
pub(crate) async fn told(ui: Ui, attempt: impl Future<Output = Result<()>>) -> Result<()> {
    told_as(ui, "nothing had begun", attempt).await
}

/// The same for other work, of which the user is told what is left if it is stopped.
pub(super) async fn told_as(ui: Ui, left: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
    match work.await {
        Err(CliError::Solve(SolveError::Cancelled)) => {
            ui.say(&format!("stopped; {left}"));
            Err(CliError::Shown { code: exit::CANCELLED })
        }
        result => result,
    }
}

/// Runs a build to its end.
pub(crate) async fn run(surroundings: Surroundings<'_>, job: &mut Job) -> Result<BuildOutcome> {
    if job.stdout().is_some() && std::io::stdout().is_terminal() {
        return Err(CliError::Usage {
            problem: "an archive would be written to a terminal".to_owned(),
            hint: "redirect standard output, or name a file: --output type=tar,dest=FILE".to_owned(),
        });
    }
    let (ui, environment) = (surroundings.ui, surroundings.environment);
    shell::check(ui, job)?;
    let progress = surroundings.show.mode(environment)?;
    let result = attempt(surroundings, job, progress).await;
    checks::show(ui, environment, progress, job.warnings.get());
    result
}

/// A build that came to its end, whatever that was.
pub(super) struct Ended {
    pub(super) collected: Collected,
    pub(super) outcome: BuildOutcome,
    memory: Memory,
    /// Why caches could not be saved.
    unsaved: Option<SolveError>,
}

/// What is to be remembered beside what happened.
struct Memory {
    info: DaemonInfo,
    begun: Begun,
    /// Stores that records travel to and from; none if the user stopped the build.
    travels: Option<Travel>,
}

impl Ended {
    /// Writes the build down, and says what is slower than it was. A history is an aid: without one the build is no worse.
    pub(super) async fn remember(&self, ui: Ui, environment: &Environment, job: &Job) {
        let (collected, Memory { info, begun, travels }) = (&self.collected, &self.memory);
        let file = history::file(&job.state);
        if let Some(travel) = travels.as_ref().filter(|travel| !travel.from.is_empty()) {
            match history::travel::bring(travel, &file, history::keep(job)).await {
                Ok(count) => tracing::debug!(count, "records of builds were brought"),
                Err(error) => tracing::debug!(%error, "no records of builds could be brought"),
            }
        }
        if let Err(error) = history::remember(environment, job, info, *begun, collected) {
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            return ui.warn(&format!("this build is not remembered: {}{hint}", with_sources(&error)));
        }
        if !collected.finished.iter().any(|report| report.ran > 0) {
            return;
        }
        if let Some(travel) = travels.as_ref().filter(|travel| !travel.to.is_empty())
            && let Err(error) = history::travel::take(travel, &file).await
        {
            tracing::debug!(%error, "the records of builds could not be taken along");
        }
        if collected.progress.is_for_people() && begun.command != history::TEST {
            match super::history::alarms(&file) {
                Ok(text) if text.is_empty() => {}
                Ok(text) => ui.say(&text),
                Err(error) => tracing::debug!(%error, "the history cannot be read"),
            }
        }
    }

    /// Whether what was to be saved is saved.
    pub(super) fn saved(self) -> Result<(Collected, BuildOutcome)> {
        match self.unsaved {
            Some(error) => Err(error.into()),
            None => Ok((self.collected, self.outcome)),
        }
    }
}

async fn attempt(surroundings: Surroundings<'_>, job: &mut Job, progress: Progress) -> Result<BuildOutcome> {
    let (ui, environment, show) = (surroundings.ui, surroundings.environment, surroundings.show);
    let stop = surroundings.cancel.clone();
    let mut ended = carry_out(surroundings, job, progress).await?;
    let concluded = conclude(ui, environment, &ended.collected, &ended.outcome);
    ended.remember(ui, environment, job).await;
    shell::visit(ui, ended.outcome.failed.take(), &stop).await;
    concluded?;
    let (collected, outcome) = ended.saved()?;
    if let Some(file) = &show.metadata_file {
        metadata::write(file, job, &collected.build, &outcome.published)?;
    }
    if let Some(file) = job.stdout() {
        metadata::to_stdout(file)?;
    }
    Ok(outcome)
}

/// Runs a job to its end, and shows how it goes.
pub(super) async fn carry_out(surroundings: Surroundings<'_>, job: &mut Job, progress: Progress) -> Result<Ended> {
    let Surroundings { ui, environment, global, show, started, begun, events, received, cancel } = surroundings;
    let engine = cancel.unless_stopped(session::connect(environment, global)).await??;
    job.on_daemon(engine.info().arch);
    job.check_outputs(engine.info().store)?;
    let job = &*job;
    let auto_jobs = recipe::auto_jobs(engine.info().cpus, job.project.platforms_configured);
    let options = ReportOptions {
        logs: Some(job.state.join("logs")),
        notes: job.notes(auto_jobs),
        ..ui.reports(progress, global.is_traced(environment), started)
    };
    let reporter = tokio::spawn(report(received, options));
    let (mut unsaved, mut travels) = (None, None);
    let locks = session::locks(environment, engine.as_ref());
    let run = Run { environment, auto_jobs, locks: &locks };
    let attempt = Box::pin(async {
        for text in job.notices.iter().cloned().chain(show.without_effect()) {
            // Whoever shows it may have gone; the build goes on.
            let _ = events.send(BuildEvent::Notice { platform: None, text }).await;
        }
        // Held to the end: caches of a build that runs are not pruned.
        let mut building = scope::hold(&locks, &job.project.config.resolved().cache.scope).await?;
        let travel = travels.insert(job.travel(environment, None)?);
        let plan = job.plan(&engine, &run, &events, &cancel, travel).await?;
        building.counts_on(plan.checkpoints())?;
        let cargo = (!travel.to.is_empty()).then(|| Cargo::of(&plan, job.bases()));
        let outcome = kiln_solver::run(engine.clone(), plan, events.clone(), cancel.clone()).await;
        if building.was_alone() {
            kiln_solver::remove_replaced(engine.as_ref(), &outcome.replaced).await;
        }
        // What was built is worth taking along, also if something else failed.
        if let Some(cargo) = cargo.filter(|_| outcome.targets.iter().any(Result::is_ok)) {
            unsaved = travel::take(&engine, &cargo, &outcome.times, travel, &events, &cancel).await.err();
        }
        Ok::<_, CliError>(outcome)
    });
    let outcome = attempt.await;
    drop(events);
    let collected = reporter.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    let travels = travels.filter(|_| !cancel.is_stopped());
    let memory = Memory { info: engine.info().clone(), begun, travels };
    Ok(Ended { collected, outcome: outcome?, memory, unsaved })
}

/// An error with its causes in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn conclude(ui: Ui, environment: &Environment, collected: &Collected, outcome: &BuildOutcome) -> Result<()> {
    for warning in &outcome.warnings {
        ui.warn(warning);
    }
    let width = columns();
    let (mut code, mut good) = failures(ui, environment, collected, &outcome.targets);
    let mut made = false;
    for published in outcome.published.iter().flatten() {
        match published {
            Ok(published) => {
                made = true;
                let id = published.image.as_ref().and_then(ImageResult::id);
                if let (Some(id), Progress::Quiet) = (id, collected.progress) {
                    ui.print(&format!("{id}\n"));
                }
            }
            Err(error) => {
                let place = FailureOptions { width, color: ui.color, log: None };
                if !matches!(error, SolveError::Cancelled) {
                    ui.say(render_error(error, place).trim_end());
                    annotate::failure(ui, environment, error);
                }
                code = Some(solve_code(error));
            }
        }
    }
    // What the targets together should have become is not there: nothing that was asked for is.
    if !made && outcome.published.iter().any(|published| matches!(published, Some(Err(_)))) {
        good = 0;
    }
    if collected.progress.is_for_people() {
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

/// Shows why targets failed; the exit code for it, and how many did not.
pub(super) fn failures(
    ui: Ui,
    environment: &Environment,
    collected: &Collected,
    targets: &[Result<TargetReport, SolveError>],
) -> (Option<u8>, usize) {
    let (mut code, mut good, mut shown) = (None, 0, false);
    for target in targets {
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
                failure(ui, collected, error);
                annotate::failure(ui, environment, error);
            }
        }
    }
    (code, good)
}

/// Shows what a target failed with.
pub(super) fn failure(ui: Ui, collected: &Collected, error: &SolveError) {
    let log = failed_platform(error).and_then(|p| collected.logs.get(&p)).map(|p| project::shown(p));
    let options = FailureOptions { width: columns(), color: ui.color, log: log.as_deref() };
    ui.say(render_error(error, options).trim_end());
}

/// The platform whose log has more about an error.
fn failed_platform(error: &SolveError) -> Option<Platform> {
    match error {
        SolveError::Step { platform, .. } | SolveError::StepEngine { platform, .. } => Some(*platform),
        _ => None,
    }
}
