//! `kiln doctor`.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Instant;

use kiln_docker::Engine;
use kiln_docker::emulation::{self, ProbeResult};
use kiln_graph::Platform;
use kiln_solver::{BuildEvent, Cancel};
use serde_json::json;
use tokio::sync::mpsc;

use crate::cli;
use crate::doctor::gather::gather;
use crate::doctor::{self, Facts, table};
use crate::emulate::{self, Surroundings};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::ui::Ui;
use crate::{network, project, report, session};

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Doctor) -> Result<()> {
    let started = Instant::now();
    let (mut facts, engine) = Box::pin(gather(environment, global, args)).await?;
    if args.fix && mend(ui, environment, args, &facts, engine.as_ref()).await {
        facts = Box::pin(gather(environment, global, args)).await?.0;
    }
    let checks = doctor::verdicts(&facts);
    if args.json {
        ui.print(&format!("{}\n", json!(checks)));
    } else {
        let color = ui.color && std::io::stdout().is_terminal();
        ui.print(&table::render(&checks, report::columns(), color));
        ui.say(&format!("{} ({:.1} s)", table::summary(&checks), started.elapsed().as_secs_f64()));
    }
    match doctor::exit_code(&checks) {
        0 => Ok(()),
        code => Err(CliError::Shown { code }),
    }
}

/// Does what is safe, and says so; whether anything was done.
async fn mend(
    ui: Ui,
    environment: &Environment,
    args: &cli::Doctor,
    facts: &Facts,
    engine: Option<&Arc<dyn Engine>>,
) -> bool {
    let (Some(engine), Ok(daemon)) = (engine, &facts.daemon) else {
        ui.say("fix: nothing can be done without a daemon");
        return false;
    };
    let mut is_done = false;
    if matches!(daemon.leftovers, Ok(1..)) {
        match session::Host::this().sweep(engine.as_ref()).await {
            Ok(_) => {
                is_done = true;
                ui.say("fix: removed what dead builds had left");
            }
            Err(error) => ui.error(&error),
        }
    }
    let platforms = lacking(facts);
    if platforms.is_empty() {
        // Nothing is wrong with emulation, or nothing that could be helped.
    } else if !facts.settings.may_install {
        ui.say("fix: no emulators are installed, as `emulation.install = false` says");
    } else {
        match install(ui, environment, args, engine, &platforms).await {
            Ok(()) => is_done = true,
            Err(error) => ui.error(&error),
        }
    }
    if !is_done {
        ui.say("fix: there was nothing that could be done safely");
    }
    is_done
}

/// Platforms that an emulator is to be registered for: those that do not run and could, and those of kiln's handlers
/// that are of no use in containers.
fn lacking(facts: &Facts) -> Vec<Platform> {
    let Ok(daemon) = &facts.daemon else { return Vec::new() };
    if daemon.info.rootless {
        return Vec::new();
    }
    let failed = daemon.probes.iter().flatten().filter(|(_, result)| matches!(result, ProbeResult::Failed { .. }));
    let mut platforms: BTreeSet<Platform> = failed.map(|(platform, _)| *platform).collect();
    platforms.extend(daemon.handlers.iter().flatten().flat_map(doctor::unfixed));
    platforms.retain(|platform| !platform.arch.may_run_on(daemon.info.arch));
    platforms.into_iter().collect()
}

/// Does what `kiln emulation install` does.
async fn install(
    ui: Ui,
    environment: &Environment,
    args: &cli::Doctor,
    engine: &Arc<dyn Engine>,
    platforms: &[Platform],
) -> Result<()> {
    let wanted = cli::Project { path: args.path.clone(), ..cli::Project::default() };
    let project = project::load(environment, &wanted, Vec::new())?;
    let own = project.config.for_platform(Platform::linux(engine.info().arch));
    let (events, mut received) = mpsc::channel(64);
    let cancel = Cancel::new();
    session::stop_on_signals(cancel.clone(), events.downgrade());
    let surroundings = Surroundings {
        engine,
        qemu_image: project.config.resolved().emulation.qemu_image,
        env: network::variables(&own.network),
        tools: network::files(&own.network, &project.folder)?,
        network: network::spec(&own.network),
        args: emulate::arguments(&own.network),
        state: &environment.cache_folder.join("emulation"),
        locks: &session::locks(environment, engine.as_ref()),
        owner: session::Host::this().owner(),
        cancel: &cancel,
    };
    let say = tokio::spawn(async move {
        while let Some(event) = received.recv().await {
            if let BuildEvent::Notice { text, .. } = event {
                ui.say(&text);
            }
        }
    });
    let installed: Result<_> = async {
        let image = emulate::image(&surroundings, &events).await?;
        Ok(emulation::install(engine.as_ref(), &image, platforms).await?)
    }
    .await;
    drop(events);
    let _ = say.await;
    for (platform, installed) in installed? {
        ui.say(&format!("fix: {platform}: {}", emulate::sentence(&installed)));
    }
    Ok(())
}
