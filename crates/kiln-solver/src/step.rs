//! Runs one command in a container.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_docker::{ContainerId, ContainerSpec, ExitStatus, ImageId, NetworkSpec, toolbox};
use kiln_graph::{CacheMount, Exec, MountKind, Origin, Platform, VertexId};
use tokio::try_join;

use crate::cancel::Cancel;
use crate::chain::{self, Continued, Live, Request};
use crate::error::{Result, SolveError};
use crate::event::Way;
use crate::furnish::{Furniture, furnish};
use crate::network::Lent;
use crate::output::{Ended, Output, follow};
use crate::secret::Masks;
use crate::shared::{Reader, Shared, lock};
use crate::snapshot::{Made, Snapshot};
use crate::stubs::{self, Points, Stubs};
use crate::twin::{self, Native};
use crate::volumes;

/// Seconds between SIGTERM and SIGKILL when the user stops a build.
const GRACE: u32 = 2;

/// Where programs look for a user's agent.
const AGENT: &str = "SSH_AUTH_SOCK";

/// Variables that kiln itself gives to steps. A checkpoint remembers those of the container it was made of, so each new
/// container drops the ones that are not wanted any more.
const INJECTED: &[&str] = &[
    "APT_CONFIG",
    "CARGO_HTTP_CAINFO",
    "CCACHE_MAXSIZE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "KILN_JOBS",
    "KILN_TWIN_LOG",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "REQUESTS_CA_BUNDLE",
    AGENT,
    "SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Runs the command of `id` on top of its first input, unless `cancel` comes first. With `twin` it uses native programs;
/// if that fails, it runs once more without them, unless the user forbids it.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    id: VertexId,
    exec: &Exec,
    inputs: &[Snapshot],
    twin: Option<&twin::Inputs>,
    cancel: &Cancel,
) -> Result<Snapshot> {
    let origin = shared.plan.graph().vertex(id).origin();
    let platform = exec.platform;
    let plain = shared.way(platform);
    let Some(twin) = twin else { return attempt(shared, id, exec, inputs, (None, plain), cancel).await };
    let required = shared.plan.request.run.twin_required.contains(&platform);
    let refused = |reason: String| SolveError::Twin { origin: Box::new(origin.clone()), platform, reason };
    let prepared = cancel.or_stop(twin::prepare(shared, twin)).await?;
    let native = match prepared {
        Ok(native) => native,
        Err(reason) if required => return Err(refused(reason)),
        Err(reason) => {
            shared.notice(Some(platform), format!("{} runs emulated: {reason}", step_name(origin))).await;
            return attempt(shared, id, exec, inputs, (None, plain), cancel).await;
        }
    };
    match attempt(shared, id, exec, inputs, (Some(&native), Way::Twin), cancel).await {
        Err(SolveError::Step { certain: false, code, .. }) if !required && !cancel.is_stopped() => {
            let text = format!(
                "{} failed with native programs (exit code {code}); it runs again under plain emulation",
                step_name(origin)
            );
            shared.notice(Some(platform), text).await;
            attempt(shared, id, exec, inputs, (None, Way::Mixed), cancel).await
        }
        outcome => outcome,
    }
}

fn step_name(origin: &Origin) -> String {
    format!("step {} {}/{}", origin.stage, origin.step, origin.steps)
}

async fn attempt(
    shared: &Arc<Shared>,
    id: VertexId,
    exec: &Exec,
    inputs: &[Snapshot],
    (native, way): (Option<&Native>, Way),
    cancel: &Cancel,
) -> Result<Snapshot> {
    let origin = shared.plan.graph().vertex(id).origin();
    let in_engine = |error: SolveError| match error {
        SolveError::Engine(source) => {
            SolveError::StepEngine { origin: Box::new(origin.clone()), platform: exec.platform, source }
        }
        other => other,
    };
    // Held to the end of the step.
    let caches = caches(exec);
    let holding = volumes::hold(shared, id, &caches, exec.platform, inputs);
    let held = cancel.or_stop(holding).await.map_err(in_engine)?;
    let permit = async { shared.permits.acquire().await.map_err(|_| SolveError::Cancelled) };
    let _permit = cancel.or_stop(permit).await?;
    let started = Instant::now();
    let mut furniture = cancel.or_stop(furnish(shared, id, exec, inputs, &held)).await.map_err(in_engine)?;
    furniture.mounts.extend(native.into_iter().flat_map(Native::mounts));
    let outcome = async {
        if native.is_none()
            && let Some(made) = go_on(shared, id, exec, &inputs[0], (way, cancel)).await?
        {
            return Ok(made);
        }
        let lent = cancel.or_stop(async { Ok::<_, SolveError>(shared.networks.lend(shared, id, exec).await) }).await?;
        let serves = native.is_none() && shared.chains.is_followed(id);
        let preparing = Box::pin(prepare(shared, id, exec, inputs, (&furniture, &lent), (native, serves)));
        let (container, mut points) = cancel.or_stop(preparing).await.map_err(in_engine)?;
        // The memory goes when the step ends, and then the daemon can no longer mount what the container is read with.
        points.covers |= furniture.has_secrets();
        shared.step_started(id, Some(way)).await;
        let ran = async {
            if serves {
                let argv = argv(shared, exec, &inputs[0], &furniture, None);
                let live = cancel.or_stop(Live::start(shared, &container, lent)).await?;
                serve(shared, id, exec, argv, (&container, live), cancel).await
            } else {
                let took = execute(shared, id, exec.platform, &container, &furniture.masks, cancel).await?;
                shared.networks.give_back(lent);
                Ok((took, None))
            }
        };
        let (took, live) = cancel.or_kill(ran).await?;
        Ok((took, Made::by_command(id, container, exec.platform, points).with_live(live)))
    }
    .await;
    let took = started.elapsed();
    furniture.clear(shared).await;
    drop(held);
    match outcome {
        Ok((in_container, made)) => {
            {
                let mut times = lock(&shared.times);
                let time = times.entry(id).or_default();
                (time.in_container, time.way) = (in_container, Some(way));
            }
            shared.step_finished(id, took).await;
            Ok(Snapshot::Step(Arc::new(made)))
        }
        Err(error) => {
            shared.step_failed(id, took).await;
            Err(in_engine(error))
        }
    }
}

/// Runs a command in the container of the one below it, if that waits for it.
async fn go_on(
    shared: &Arc<Shared>,
    id: VertexId,
    exec: &Exec,
    below: &Snapshot,
    (way, cancel): (Way, &Cancel),
) -> Result<Option<(Duration, Made)>> {
    let Some(Continued { made, live, operations }) = chain::take(shared, id, below, cancel).await? else {
        return Ok(None);
    };
    let container = made.container.clone();
    let targets = [toolbox::MOUNT_POINT.to_owned()];
    let files = async {
        let image = shared.commit(&made).await?;
        let committed = Snapshot::Image(image.clone(), exec.platform);
        let place = shared.place(&committed, &image, exec.platform, &operations).await?;
        shared.apply(&container, place, exec.platform, &targets, &operations).await
    };
    match cancel.or_stop(files).await {
        Ok(true) => {}
        Ok(false) => {
            live.end(shared);
            return Ok(None);
        }
        Err(error) => {
            live.end(shared);
            return Err(error);
        }
    }
    shared.step_started(id, Some(way)).await;
    let argv = toolbox::wrap(shared.engine.info().arch, exec.platform.arch, exec.argv.clone());
    let ran = serve(shared, id, exec, argv, (&container, live), cancel);
    let (took, live) = cancel.or_kill(ran).await?;
    let points = Points { stubs: Stubs::default(), mounted: Vec::new(), covers: false };
    Ok(Some((took, Made::by_command(id, container, exec.platform, points).with_live(live))))
}

/// Runs a command in a container that waits for one; the time it ran, and the container if it waits again.
async fn serve(
    shared: &Arc<Shared>,
    id: VertexId,
    exec: &Exec,
    argv: Vec<String>,
    (container, mut live): (&ContainerId, Live),
    cancel: &Cancel,
) -> Result<(Duration, Option<Live>)> {
    let started = Instant::now();
    let env = environment(shared, exec);
    let request = Request { argv: &argv, env: &env, cwd: &exec.cwd };
    let (output, ended) = tokio::select! {
        ran = live.run(shared, id, request) => ran,
        () = cancel.stopped() => {
            // If it cannot be stopped it is killed when it is removed.
            let _ = shared.engine.stop_container(container, GRACE).await;
            return Err(SolveError::Cancelled);
        }
    };
    match ended {
        Some(Ended { code: 0, clean }) => {
            let took = started.elapsed();
            if clean && shared.chains.is_followed(id) {
                return Ok((took, Some(live)));
            }
            live.end(shared);
            Ok((took, None))
        }
        Some(Ended { code, .. }) => {
            let oom = live.end_failed(shared, container).await;
            Err(failed(shared, id, exec.platform, &ExitStatus { code, oom }, output))
        }
        None => {
            let status = wait(shared, container, cancel).await?;
            Err(failed(shared, id, exec.platform, &status, output))
        }
    }
}

/// The cache mounts of a step.
fn caches(exec: &Exec) -> Vec<&CacheMount> {
    exec.mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Cache(cache) => Some(cache),
            _ => None,
        })
        .collect()
}

/// A container of the step, ready to start: its files are those of the first input.
async fn prepare(
    shared: &Arc<Shared>,
    id: VertexId,
    exec: &Exec,
    inputs: &[Snapshot],
    (furniture, lent): (&Furniture, &Lent),
    (native, serves): (Option<&Native>, bool),
) -> Result<(ContainerId, Points)> {
    let (base, operations) = match inputs[0].split() {
        // One chain of files on nothing may serve several platforms.
        (Snapshot::Scratch(_), operations) => (Snapshot::Scratch(exec.platform), operations),
        split => split,
    };
    let targets: Vec<String> = furniture.mounts.iter().map(|mount| mount.target.clone()).collect();
    let image = shared.image_of(&base).await?;
    let create = async |image: &ImageId| {
        let spec = spec(shared, id, exec, image, &inputs[0], (furniture, lent), (native, serves)).await?;
        shared.create(spec).await
    };
    let (container, place) = try_join!(create(&image), shared.place(&base, &image, exec.platform, &operations))?;
    if shared.apply(&container, place, exec.platform, &targets, &operations).await? {
        let points = points(shared, exec, &container, &image, &inputs[0], &targets).await?;
        return Ok((container, points));
    }
    // What is copied to a place that the step mounts over would end up in the mount: it is put below it first.
    let image = shared.image_of(&inputs[0]).await?;
    let container = create(&image).await?;
    let points = points(shared, exec, &container, &image, &inputs[0], &targets).await?;
    Ok((container, points))
}

/// Whether a step removes the stubs below it: it may, and there are some.
fn tidies(shared: &Shared, exec: &Exec, below: &Stubs) -> bool {
    let user = exec.user.split(':').next().unwrap_or_default();
    let is_root = matches!(user, "" | "0" | "root");
    is_root && below.paths().next().is_some() && kiln_twin::program(shared.engine.info().arch).is_some()
}

/// The mount points of a step's container.
async fn points(
    shared: &Arc<Shared>,
    exec: &Exec,
    container: &ContainerId,
    image: &ImageId,
    below: &Snapshot,
    targets: &[String],
) -> Result<Points> {
    let below = shared.stubs_of(below);
    let tidies = tidies(shared, exec, &below);
    if exec.mounts.is_empty() {
        let stubs = if tidies { Stubs::default() } else { Stubs::clone(&below) };
        return Ok(Points { stubs, mounted: Vec::new(), covers: false });
    }
    let reader = shared.reader_of(image, exec.platform, Reader::Questions).await?;
    stubs::find(shared, container, &reader, (&below, tidies), targets).await
}

async fn spec(
    shared: &Shared,
    id: VertexId,
    exec: &Exec,
    image: &ImageId,
    below: &Snapshot,
    (furniture, lent): (&Furniture, &Lent),
    (native, serves): (Option<&Native>, bool),
) -> Result<ContainerSpec> {
    let settings = shared.settings(id).next().cloned().unwrap_or_default();
    let tidies = tidies(shared, exec, &shared.stubs_of(below));
    let toolbox = if native.is_some() || furniture.variables || tidies || serves {
        Some(toolbox::mount(&shared.toolbox_volume().await?))
    } else {
        shared.toolbox(exec.platform).await?
    };
    let mut env = environment(shared, exec);
    if let Some(agent) = furniture.agent.as_ref().filter(|_| !exec.env.iter().any(|(name, _)| name == AGENT)) {
        env.retain(|entry| entry != AGENT);
        env.push(format!("{AGENT}={agent}"));
    }
    Ok(ContainerSpec {
        image: image.clone(),
        platform: exec.platform,
        argv: if serves { chain::serve() } else { argv(shared, exec, below, furniture, native) },
        env,
        cwd: exec.cwd.clone(),
        user: exec.user.clone(),
        mounts: furniture.mounts.iter().cloned().chain(toolbox).collect(),
        network: lent.spec.clone(),
        privileged: exec.privileged,
        labels: shared.labels("step"),
        name: None,
        // A network of another container has its names.
        extra_hosts: if matches!(lent.spec, NetworkSpec::Of(_)) { Vec::new() } else { settings.extra_hosts },
        limits: settings.limits,
        stdin: serves,
    })
}

/// The command of a step with all that has to come before it.
fn argv(shared: &Shared, exec: &Exec, below: &Snapshot, furniture: &Furniture, native: Option<&Native>) -> Vec<String> {
    let argv = match native {
        Some(_) => twin::wrap(exec.argv.clone()),
        None => exec.argv.clone(),
    };
    let mut argv = furniture.wrap(argv);
    let stubs = shared.stubs_of(below);
    if tidies(shared, exec, &stubs) {
        let paths = stubs.paths().map(|path| format!("/{path}"));
        let command = [kiln_twin::PROGRAM, "tidy"].map(str::to_owned).into_iter();
        argv = command.chain(paths).chain(["--".to_owned()]).chain(argv).collect();
    }
    toolbox::wrap(shared.engine.info().arch, exec.platform.arch, argv)
}

fn environment(shared: &Shared, exec: &Exec) -> Vec<String> {
    let mut env: Vec<String> = exec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let set = |name: &str| exec.env.iter().any(|(n, _)| n == name);
    let injected = shared.plan.request.run.env.get(&exec.platform);
    for (name, value) in injected.into_iter().flatten() {
        if !set(name) {
            env.push(format!("{name}={value}"));
        }
    }
    let given = |name: &str| injected.is_some_and(|env| env.iter().any(|(n, _)| n == name));
    env.extend(INJECTED.iter().filter(|name| !set(name) && !given(name)).map(|name| (*name).to_owned()));
    env
}

/// Starts a container and follows it to its end; the time it ran.
async fn execute(
    shared: &Arc<Shared>,
    id: VertexId,
    platform: Platform,
    container: &ContainerId,
    masks: &Masks,
    cancel: &Cancel,
) -> Result<Duration> {
    let mut logs = cancel.or_stop(shared.engine.attach(container)).await?;
    let started = Instant::now();
    shared.engine.start_container(container).await?;
    let following = follow(shared, id, &mut logs, masks, None);
    let waiting = wait(shared, container, cancel);
    // The wait may answer before the last lines have come.
    let ((output, _), status) = tokio::join!(following, waiting);
    let ran = started.elapsed();
    let status = status?;
    if status.code != 0 {
        return Err(failed(shared, id, platform, &status, output));
    }
    Ok(ran)
}

/// The error of a command.
fn failed(shared: &Shared, id: VertexId, platform: Platform, status: &ExitStatus, output: Output) -> SolveError {
    SolveError::Step {
        origin: Box::new(shared.plan.graph().vertex(id).origin().clone()),
        platform,
        code: status.code,
        oom: status.oom,
        tail: output.tail.into(),
        certain: output.no_space || (!output.errors.is_empty() && !output.doubt),
        no_space: output.no_space,
        errors: output.errors,
        hints: output.hints,
    }
}

/// Waits for the end of a container, or ends it if the user says so.
pub(crate) async fn wait(shared: &Shared, container: &ContainerId, cancel: &Cancel) -> Result<ExitStatus> {
    tokio::select! {
        status = shared.engine.wait_container(container) => return Ok(status?),
        () = cancel.stopped() => {}
    }
    // If it cannot be stopped it is killed when it is removed.
    let _ = shared.engine.stop_container(container, GRACE).await;
    Err(SolveError::Cancelled)
}
