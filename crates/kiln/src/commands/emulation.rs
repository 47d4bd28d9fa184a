//! `kiln emulation`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_docker::emulation::{self, ProbeResult};
use kiln_graph::Platform;
use kiln_solver::Cancel;
use serde_json::json;
use tokio::sync::mpsc;

use crate::cli::{self, EmulationCommand};
use crate::emulate::{self, Surroundings};
use crate::environment::Environment;
use crate::error::{CliError, Result, exit};
use crate::ui::Ui;
use crate::{network, project, session};

pub(crate) async fn run(
    ui: Ui,
    environment: &Environment,
    global: &cli::Global,
    command: &EmulationCommand,
) -> Result<()> {
    let engine = session::connect(environment, global).await?;
    // Network settings matter for building the image; a project is not needed.
    let here = cli::Project { path: PathBuf::from("."), ..cli::Project::default() };
    let project = project::load(environment, &here, Vec::new())?;
    let own = project.config.for_platform(Platform::linux(engine.info().arch));
    let locks = session::locks(environment, engine.as_ref());
    let (events, mut received) = mpsc::channel(64);
    let cancel = Cancel::new();
    if !matches!(command, EmulationCommand::Status { .. }) {
        session::stop_on_signals(cancel.clone(), events.downgrade());
    }
    let mut surroundings = Surroundings {
        engine: &engine,
        qemu_image: project.config.resolved().emulation.qemu_image,
        env: network::variables(&own.network),
        tools: network::files(&own.network, &project.folder)?,
        network: network::spec(&own.network),
        args: emulate::arguments(&own.network),
        state: &environment.cache_folder.join("emulation"),
        locks: &locks,
        owner: session::Host::this().owner(),
        cancel: &cancel,
    };
    let say = tokio::spawn(async move {
        while let Some(event) = received.recv().await {
            if let kiln_solver::BuildEvent::Notice { platform, text } = event {
                let place = platform.map(|p| format!("[{p}] ")).unwrap_or_default();
                ui.say(&format!("{place}{text}"));
            }
        }
    });
    let result = match command {
        EmulationCommand::Status { platforms, json } => status(ui, &surroundings, &parse(platforms)?, *json).await,
        EmulationCommand::Install { platforms, qemu_image } => {
            surroundings.qemu_image = qemu_image.clone().or(surroundings.qemu_image.take());
            let platforms = match parse(platforms)? {
                none if none.is_empty() => vec![Platform::linux(kiln_graph::Arch::Arm64)],
                some => some,
            };
            install(ui, &surroundings, &platforms, &events).await
        }
        EmulationCommand::Uninstall { platforms } => uninstall(ui, &surroundings, &parse(platforms)?, &events).await,
    };
    drop(events);
    let _ = say.await;
    result
}

fn parse(platforms: &[String]) -> Result<Vec<Platform>> {
    platforms
        .iter()
        .map(|text| {
            text.parse().map_err(|error: kiln_graph::PlatformError| CliError::Usage {
                problem: error.to_string(),
                hint: error.hint(),
            })
        })
        .collect()
}

async fn status(ui: Ui, surroundings: &Surroundings<'_>, platforms: &[Platform], json: bool) -> Result<()> {
    let platforms = if platforms.is_empty() { Platform::all().collect() } else { platforms.to_vec() };
    let probes = emulation::probe(surroundings.engine.as_ref(), &platforms).await?;
    if json {
        let rows: BTreeMap<String, _> = probes
            .iter()
            .map(|(platform, result)| {
                let (way, reason) = words(result);
                (platform.to_string(), json!({"way": way, "reason": reason}))
            })
            .collect();
        ui.print(&format!("{}\n", json!(rows)));
    } else {
        for (platform, result) in &probes {
            let (way, reason) = words(result);
            let reason = reason.map(|r| format!("  {r}")).unwrap_or_default();
            let line = format!("{:<15} {way:<9}{reason}", platform.to_string());
            ui.print(&format!("{}\n", line.trim_end()));
        }
    }
    // Asked about certain platforms, the exit code answers.
    let failed = probes.iter().any(|(_, result)| matches!(result, ProbeResult::Failed { .. }));
    if failed && platforms.len() < Platform::all().count() {
        return Err(CliError::Shown { code: exit::EMULATION });
    }
    Ok(())
}

fn words(result: &ProbeResult) -> (&'static str, Option<&str>) {
    match result {
        ProbeResult::Native => ("native", None),
        ProbeResult::Emulated => ("qemu", None),
        ProbeResult::Failed { reason } => ("cannot", Some(reason)),
    }
}

async fn install(
    ui: Ui,
    surroundings: &Surroundings<'_>,
    platforms: &[Platform],
    events: &mpsc::Sender<kiln_solver::BuildEvent>,
) -> Result<()> {
    let image = emulate::image(surroundings, events).await?;
    for (platform, installed) in emulation::install(surroundings.engine.as_ref(), &image, platforms).await? {
        ui.say(&format!("{platform}: {}", emulate::sentence(&installed)));
    }
    Ok(())
}

async fn uninstall(
    ui: Ui,
    surroundings: &Surroundings<'_>,
    platforms: &[Platform],
    events: &mpsc::Sender<kiln_solver::BuildEvent>,
) -> Result<()> {
    let image = emulate::image(surroundings, events).await?;
    let platforms = if platforms.is_empty() { None } else { Some(platforms) };
    let removed = emulation::uninstall(surroundings.engine.as_ref(), &image, platforms).await?;
    if removed.is_empty() {
        ui.say("nothing that kiln had installed is there");
    }
    for name in removed {
        ui.say(&format!("removed {name}"));
    }
    Ok(())
}
