//! Makes sure that every platform a build needs can run on the daemon, and says how it does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kiln_docker::emulation::{self, Installed, ProbeResult};
use kiln_docker::toolbox::ToolFile;
use kiln_docker::{Engine, EngineError, ImageId, NetworkSpec, PullPolicy};
use kiln_graph::Platform;
use kiln_solver::{BuildEvent, BuildRequest, Cancel, Group, Output, Plan, RunSettings, SolveError, StepSettings, Way};
use tokio::sync::mpsc::Sender;

use crate::error::{CliError, Result};
use crate::lower::{self, Lookup, Wanted};
use crate::recipe;
use crate::session;

/// What installing emulators needs of its surroundings.
pub(crate) struct Surroundings<'a> {
    pub(crate) engine: &'a Arc<dyn Engine>,
    /// The user's own image instead of kiln's.
    pub(crate) qemu_image: Option<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) tools: Vec<ToolFile>,
    pub(crate) network: NetworkSpec,
    pub(crate) args: BTreeMap<String, String>,
    pub(crate) state: &'a Path,
    pub(crate) locks: &'a Path,
    pub(crate) owner: String,
    /// The user's wish to stop.
    pub(crate) cancel: &'a Cancel,
}

/// How each of the platforms runs; installs what is missing if `install` says so.
pub(crate) async fn ensure(
    surroundings: &Surroundings<'_>,
    platforms: &[Platform],
    install: bool,
    events: &Sender<BuildEvent>,
) -> Result<BTreeMap<Platform, Way>> {
    let engine = surroundings.engine;
    let own = Platform::linux(engine.info().arch);
    let mut ways = BTreeMap::from([(own, Way::Native)]);
    let foreign: Vec<Platform> = platforms.iter().copied().filter(|p| *p != own).collect();
    if foreign.is_empty() {
        return Ok(ways);
    }
    let mut failed = Vec::new();
    for (platform, result) in emulation::probe(engine.as_ref(), &foreign).await? {
        match result {
            ProbeResult::Native => drop(ways.insert(platform, Way::Native)),
            ProbeResult::Emulated => drop(ways.insert(platform, Way::Qemu)),
            ProbeResult::Failed { reason } => failed.push((platform, reason)),
        }
    }
    let Some((platform, reason)) = failed.first().cloned() else { return Ok(ways) };
    if !install {
        return Err(CliError::Engine(EngineError::Emulation {
            platform,
            reason: format!("it cannot run on this daemon ({reason}), and installing emulators was forbidden"),
            hint: "run `kiln emulation install`, or leave out --no-install-emulation".to_owned(),
        }));
    }
    if surroundings.cancel.is_stopped() {
        return Err(SolveError::Cancelled.into());
    }
    let missing: Vec<Platform> = failed.into_iter().map(|(platform, _)| platform).collect();
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let notice = |platform, text| BuildEvent::Notice { platform, text };
    let _ = events.send(notice(None, format!("installing emulation for {}", names.join(", ")))).await;
    let image = image(surroundings, events).await?;
    for (platform, installed) in emulation::install(engine.as_ref(), &image, &missing).await? {
        let way = if matches!(installed, Installed::RunsNatively) { Way::Native } else { Way::Qemu };
        ways.insert(platform, way);
        let _ = events.send(notice(Some(platform), sentence(&installed))).await;
    }
    Ok(ways)
}

/// Arguments of the recipe that makes the image.
pub(crate) fn arguments(network: &kiln_config::Network) -> BTreeMap<String, String> {
    network.apt_mirror.iter().map(|mirror| ("APT_MIRROR".to_owned(), mirror.clone())).collect()
}

/// What was done, for people.
pub(crate) fn sentence(installed: &Installed) -> String {
    match installed {
        Installed::RunsNatively => "runs without an emulator".to_owned(),
        Installed::AlreadyThere { handler: None } => "runs already".to_owned(),
        Installed::AlreadyThere { handler: Some(name) } => format!("runs already, through the handler {name}"),
        Installed::Registered { handler, replaced } if replaced.is_empty() => {
            format!("emulation was installed and tried: handler {handler}")
        }
        Installed::Registered { handler, replaced } => format!(
            "emulation was installed and tried: handler {handler}, in place of {}, which did not work",
            replaced.join(", ")
        ),
    }
}

/// The image that brings the emulators: the user's, or kiln's own, built like anything else.
pub(crate) async fn image(surroundings: &Surroundings<'_>, events: &Sender<BuildEvent>) -> Result<ImageId> {
    let engine = surroundings.engine;
    let own = Platform::linux(engine.info().arch);
    if let Some(reference) = &surroundings.qemu_image {
        return Ok(engine.resolve_image(reference, own, PullPolicy::Missing, &|_| {}).await?.id);
    }
    let source = recipe::binfmt();
    let dockerfile = kiln_dockerfile::parse(&source.name, &source.text)?;
    let lookup = Lookup { engine, events, stores: None };
    let lowered = lower::lower(&lookup, &[Wanted::own(own, dockerfile, surroundings.args.clone())]).await?;
    let steps = StepSettings { network: surroundings.network.clone(), ..StepSettings::default() };
    let request = BuildRequest {
        id: session::new_id(),
        owner: surroundings.owner.clone(),
        scope: "kiln-emulation".to_owned(),
        graph: lowered.graph,
        contexts: BTreeMap::new(),
        outputs: vec![Output::Image(None)],
        groups: vec![Group { targets: 0..1, steps, ..Group::default() }],
        run: RunSettings {
            env: BTreeMap::from([(own, surroundings.env.clone())]),
            tools: surroundings.tools.clone(),
            ..RunSettings::default()
        },
        parallel: 1,
        keep_going: false,
        keep_failed: false,
        no_cache_mounts: false,
        state: surroundings.state.to_owned(),
        locks: surroundings.locks.to_owned(),
    };
    let plan = Plan::make(engine, request).await?;
    // Its steps are the daemon's own business: people see a notice, and the log of a failure comes with the error.
    let (quiet, mut ignored) = tokio::sync::mpsc::channel(64);
    let drain = tokio::spawn(async move { while ignored.recv().await.is_some() {} });
    let outcome = kiln_solver::run(engine.clone(), plan, quiet, surroundings.cancel.clone()).await;
    let _ = drain.await;
    let report = outcome.targets.into_iter().next().expect("one target was asked for")?;
    Ok(ImageId(report.image.expect("the output is an image")))
}
