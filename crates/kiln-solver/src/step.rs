//! Runs one command in a container.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_docker::{ContainerId, ExitStatus, toolbox};
use kiln_graph::{CacheMount, Exec, MountKind, Origin, Platform, VertexId};

use crate::cancel::Cancel;
use crate::chain::{self, Continued, Live, Request};
use crate::container::{Prepared, Step, environment};
use crate::error::{Result, SolveError};
use crate::event::Way;
use crate::failed;
use crate::furnish::furnish;
use crate::output::{Ended, Output, follow};
use crate::salvage::salvage;
use crate::secret::Masks;
use crate::shared::{Shared, lock};
use crate::snapshot::{Made, Snapshot};
use crate::stubs::{Points, Stubs};
use crate::twin::{self, Native};
use crate::volumes;

/// Seconds between SIGTERM and SIGKILL when the user stops a build.
const GRACE: u32 = 2;

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
    let required = is_required(shared, platform);
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
        Err(error @ SolveError::Step { code, .. }) if runs_again(shared, exec, &error, cancel) => {
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

/// Whether a command that failed with native programs is tried without them.
fn runs_again(shared: &Shared, exec: &Exec, error: &SolveError, cancel: &Cancel) -> bool {
    let is_doubtful = matches!(error, SolveError::Step { certain: false, .. });
    is_doubtful && !is_required(shared, exec.platform) && !cancel.is_stopped()
}

/// Whether somebody wants the twin or nothing.
fn is_required(shared: &Shared, platform: Platform) -> bool {
    shared.plan.request.run.twin_required.contains(&platform)
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
        let step = Step { id, exec, furniture: &furniture, lent: &lent, native, serves };
        let prepared = cancel.or_stop(Box::pin(step.prepare(shared, &inputs[0]))).await.map_err(in_engine)?;
        let Prepared { container, points, argv } = prepared;
        shared.step_started(id, Some(way)).await;
        let ran = async {
            if serves {
                let live = cancel.or_stop(Live::start(shared, &container, lent)).await?;
                serve(shared, id, exec, argv, (&container, live), cancel).await
            } else {
                let took = execute(shared, id, exec.platform, &container, &furniture.masks, cancel).await?;
                shared.networks.give_back(lent);
                Ok((took, None))
            }
        };
        let (took, live) = cancel.or_kill(ran).await?;
        Ok((took, Made::by_command(id, container, exec.platform, points).with_live(live, took)))
    }
    .await;
    let took = started.elapsed();
    match &outcome {
        Err(error) if native.is_none() || !runs_again(shared, exec, error, cancel) => {
            failed::keep(shared, id, exec, furniture, error).await;
        }
        _ => furniture.clear(shared).await,
    }
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
    let Some(Continued { made, live, operations, spent }) = chain::take(shared, id, below, cancel).await? else {
        return Ok(None);
    };
    let container = made.container.clone();
    let targets = [toolbox::MOUNT_POINT.to_owned()];
    let files = async {
        if operations.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let image = shared.commit(&made).await?;
        let committed = Snapshot::Image(image.clone(), exec.platform);
        let place = shared.place(&committed, &image, exec.platform, &operations).await?;
        shared.apply(&container, place, exec.platform, &targets, &operations).await
    };
    match cancel.or_stop(files).await {
        Ok(Some(_)) => {}
        Ok(None) => {
            live.end(shared);
            return Ok(None);
        }
        Err(error) => {
            live.end(shared);
            return Err(error);
        }
    }
    shared.step_started(id, Some(way)).await;
    let argv = toolbox::under_kernel(shared.engine.info().arch, exec.platform.arch, exec.argv.clone());
    let ran = serve(shared, id, exec, argv, (&container, live), cancel);
    let (took, live) = cancel.or_kill(ran).await?;
    let points = Points { stubs: Stubs::default(), mounted: Vec::new(), covers: false };
    Ok(Some((took, Made::by_command(id, container, exec.platform, points).with_live(live, spent + took))))
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
            salvage(shared, id, exec.platform, container).await;
            Err(failure(shared, id, (exec.platform, container), &ExitStatus { code, oom }, output))
        }
        None => {
            let status = wait(shared, container, cancel).await?;
            salvage(shared, id, exec.platform, container).await;
            Err(failure(shared, id, (exec.platform, container), &status, output))
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
        salvage(shared, id, platform, container).await;
        return Err(failure(shared, id, (platform, container), &status, output));
    }
    Ok(ran)
}

/// The error of a command.
fn failure(
    shared: &Shared,
    id: VertexId,
    (platform, container): (Platform, &ContainerId),
    status: &ExitStatus,
    output: Output,
) -> SolveError {
    let mut hints = output.hints;
    let limit = shared.settings(id).next().and_then(|settings| settings.limits.memory);
    if let Some(bytes) = limit.filter(|_| status.oom) {
        let text = "of memory: allow it more with `--memory`, or with `--resource memory=`";
        hints.insert(0, format!("it was allowed {} MiB {text}", bytes >> 20));
    }
    SolveError::Step {
        container: container.clone(),
        origin: Box::new(shared.plan.graph().vertex(id).origin().clone()),
        platform,
        code: status.code,
        oom: status.oom,
        tail: output.tail.into(),
        certain: output.no_space || (!output.errors.is_empty() && !output.doubt),
        no_space: output.no_space,
        errors: output.errors,
        hints,
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
