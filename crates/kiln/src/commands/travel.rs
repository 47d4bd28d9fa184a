//! `kiln cache save` and `kiln cache restore`: what `kiln build` does with `--cache-to` and `--cache-from`, without a build.

use std::future::ready;
use std::time::Instant;

use kiln_solver::travel::{self, Cargo, Times, Wanted};
use tokio::sync::mpsc;

use crate::cli;
use crate::commands::build::flags;
use crate::commands::run::told_as;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::job::{Job, Looked, Run};
use crate::report::report;
use crate::sources::prepare::{Written as ContextWritten, prepare};
use crate::travel::Written;
use crate::ui::Ui;
use crate::{project, recipe, scope, session};

pub(super) async fn save(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::CacheSave) -> Result<()> {
    let written = Written { from: Vec::new(), to: args.to.iter().chain(&args.build.cache_to).cloned().collect() };
    let work = run(ui, environment, global, (&args.build, written, &args.only), Way::Save);
    told_as(ui, "what was saved as a whole stays", Box::pin(work)).await
}

pub(super) async fn restore(
    ui: Ui,
    environment: &Environment,
    global: &cli::Global,
    args: &cli::CacheRestore,
) -> Result<()> {
    let written = Written { from: args.from.iter().chain(&args.build.cache_from).cloned().collect(), to: Vec::new() };
    let work = run(ui, environment, global, (&args.build, written, &args.only), Way::Restore);
    told_as(ui, "what was restored as a whole stays", Box::pin(work)).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Save,
    Restore,
}

async fn run(
    ui: Ui,
    environment: &Environment,
    global: &cli::Global,
    (build, written, only): (&cli::Build, Written, &[String]),
    way: Way,
) -> Result<()> {
    let cancel = kiln_solver::Cancel::new();
    let (events, received) = mpsc::channel(64);
    session::stop_on_signals(cancel.clone(), events.downgrade());
    let options = ui.reports(build.show.mode(environment)?, global.is_traced(environment), Instant::now());
    let reporter = tokio::spawn(report(received, options));
    let done = async {
        let prepared = prepare(environment, build, ContextWritten::AsNamed, &events, &cancel).await?;
        let project = project::load_prepared(environment, &prepared, flags(&prepared.args)?)?;
        ui.warnings(&project.warnings);
        let mut job = Job::of_project(environment, &prepared, project)?;
        let mut travel = job.travel(environment, Some(&written))?;
        if (way == Way::Save && travel.to.is_empty()) || (way == Way::Restore && travel.from.is_empty()) {
            let option = if way == Way::Save { "--to" } else { "--from" };
            return Err(CliError::Usage {
                problem: "no store is named".to_owned(),
                hint: format!("name one with {option}, or in the setting cache.remote"),
            });
        }
        travel.wanted = wanted(only);
        travel.to.iter_mut().for_each(|remote| remote.ignore_error = false);
        let engine = cancel.unless_stopped(session::connect(environment, global)).await??;
        job.on_daemon(engine.info().arch);
        let auto_jobs = recipe::auto_jobs(engine.info().cpus, job.project.platforms_configured);
        let locks = session::locks(environment, engine.as_ref());
        // Nobody prunes meanwhile.
        let mut building = scope::hold(&locks, &job.project.config.resolved().cache.scope).await?;
        let run = Run { environment, auto_jobs, locks: &locks };
        let Looked { plan, .. } = job.look(&engine, &run, &events, &cancel).await?;
        building.counts_on(plan.checkpoints())?;
        match way {
            Way::Save => {
                travel::take(&engine, &Cargo::of(&plan, job.bases()), &Times::new(), &travel, &events, &cancel).await?;
            }
            Way::Restore => {
                let plan = travel::bring(&engine, plan, &travel, (&events, &cancel), ready(true)).await?;
                plan.arrived().await;
            }
        }
        Ok(())
    }
    .await;
    drop(events);
    // It ends with the last sender.
    let _ = reporter.await;
    done
}

/// What `--only` says.
fn wanted(only: &[String]) -> Wanted {
    if only.is_empty() {
        return Wanted::default();
    }
    let has = |name: &str| only.iter().any(|wanted| wanted == name);
    let caches = only.iter().filter(|name| !matches!(name.as_str(), "stages" | "results" | "checkpoints"));
    Wanted {
        caches: Some(caches.cloned().collect()),
        stages: has("stages") || has("checkpoints"),
        results: has("results"),
    }
}
