//! Runs one command in a container.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use kiln_docker::{ContainerId, ContainerSpec, ExitStatus, ImageId, LogStream, NetworkSpec, toolbox};
use kiln_graph::{CacheMount, Exec, MountKind, Network, Origin, Platform, VertexId};

use crate::cancel::Cancel;
use crate::error::{Result, SolveError};
use crate::event::{BuildEvent, Way};
use crate::furnish::{Furniture, furnish};
use crate::secret::Masks;
use crate::shared::{Reader, Shared, lock};
use crate::snapshot::{Made, Snapshot};
use crate::stubs::{self, Points, Stubs};
use crate::tidy;
use crate::twin::{self, Native};
use crate::volumes;

/// Seconds between SIGTERM and SIGKILL when the user stops a build.
const GRACE: u32 = 2;
/// Lines of output that an error carries.
const TAIL: usize = 40;
/// Longest line that is passed on as one, in bytes; output without line ends is cut there.
const LONGEST_LINE: usize = 32 * 1024;

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
        let made =
            cancel.or_stop(prepare(shared, id, exec, &inputs[0], &furniture, native)).await.map_err(in_engine)?;
        shared.step_started(id, Some(way)).await;
        let ran = execute(shared, id, exec.platform, &made.0, &furniture.masks, cancel);
        Ok((cancel.or_kill(ran).await?, made))
    }
    .await;
    let took = started.elapsed();
    furniture.clear(shared).await;
    drop(held);
    match outcome {
        Ok((in_container, (container, points))) => {
            {
                let mut times = lock(&shared.times);
                let time = times.entry(id).or_default();
                (time.in_container, time.way) = (in_container, Some(way));
            }
            shared.step_finished(id, took).await;
            Ok(Snapshot::Step(Arc::new(Made::by_command(id, container, exec.platform, points))))
        }
        Err(error) => {
            shared.step_failed(id, took).await;
            Err(in_engine(error))
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

/// A container of the step, ready to start: its files are those of `below`.
async fn prepare(
    shared: &Arc<Shared>,
    id: VertexId,
    exec: &Exec,
    below: &Snapshot,
    furniture: &Furniture,
    native: Option<&Native>,
) -> Result<(ContainerId, Points)> {
    let (mut snapshot, mut stubs) = (below.clone(), shared.stubs_of(below));
    if !stubs.is_empty() && shared.can_tidy() && !is_root(exec) {
        let parent = shared.plan.graph().vertex(id).inputs[0];
        // Only root can remove what root has made.
        let clean = Box::pin(shared.clean_image_of(parent, below)).await?;
        (snapshot, stubs) = (Snapshot::Image(clean, shared.platform_of(below)), Arc::default());
    }
    let below = Below { tidies: !stubs.is_empty() && shared.can_tidy(), stubs };
    let (base, operations) = match snapshot.split() {
        // One chain of files on nothing may serve several platforms.
        (Snapshot::Scratch(_), operations) => (Snapshot::Scratch(exec.platform), operations),
        split => split,
    };
    let targets: Vec<String> = furniture.mounts.iter().map(|mount| mount.target.clone()).collect();
    let mut image = shared.image_of(&base).await?;
    let first = spec(shared, exec, &image, &below, furniture, native).await?;
    // What is copied into a container makes mount points in it. Those below `/dev` cannot be removed from there, because
    // another `/dev` lies over them when it runs; kiln knows them, but an image is for others.
    let marks = shared.plan.request.makes_image() && first.mounts.iter().any(|mount| mount.target.starts_with("/dev/"));
    let mut made = None;
    if operations.is_empty() || !marks {
        let container = shared.create(first).await?;
        let unpacked = shared.apply(&container, &image, exec.platform, &targets, &operations).await?;
        made = unpacked.map(|unpacked| (container, unpacked));
    }
    let (container, unpacked) = if let Some(made) = made {
        made
    } else {
        // What is copied to a place that the step mounts over would end up in the mount: it is put below it first.
        image = shared.image_of(&snapshot).await?;
        let spec = spec(shared, exec, &image, &below, furniture, native).await?;
        (shared.create(spec).await?, Vec::new())
    };
    let mut points = if exec.mounts.is_empty() {
        let stubs = if below.tidies { Stubs::default() } else { Stubs::clone(&below.stubs) };
        Points { stubs, mounted: Vec::new(), covers: false }
    } else {
        let reader = shared.reader_of(&image, exec.platform, Reader::Questions).await?;
        stubs::find(shared, &reader, (&below.stubs, below.tidies), &targets, &unpacked).await?
    };
    points.covers |= furniture.has_secrets();
    Ok((container, points))
}

/// The stubs in what a step stands on, and whether it removes them.
struct Below {
    stubs: Arc<Stubs>,
    tidies: bool,
}

/// Whether a step may remove what root has made.
fn is_root(exec: &Exec) -> bool {
    matches!(exec.user.split(':').next().unwrap_or_default(), "" | "0" | "root")
}

async fn spec(
    shared: &Shared,
    exec: &Exec,
    image: &ImageId,
    below: &Below,
    furniture: &Furniture,
    native: Option<&Native>,
) -> Result<ContainerSpec> {
    let run = &shared.plan.request.run;
    let toolbox = if native.is_some() || furniture.variables || below.tidies {
        Some(toolbox::mount(&shared.toolbox_volume().await?))
    } else {
        shared.toolbox(exec.platform).await?
    };
    let argv = match native {
        Some(_) => twin::wrap(exec.argv.clone()),
        None => exec.argv.clone(),
    };
    let mut argv = furniture.wrap(argv);
    if below.tidies {
        argv = tidy::command(&below.stubs, argv);
    }
    let mut env = environment(shared, exec);
    if let Some(agent) = furniture.agent.as_ref().filter(|_| !exec.env.iter().any(|(name, _)| name == AGENT)) {
        env.retain(|entry| entry != AGENT);
        env.push(format!("{AGENT}={agent}"));
    }
    Ok(ContainerSpec {
        image: image.clone(),
        platform: exec.platform,
        argv: toolbox::wrap(shared.engine.info().arch, exec.platform.arch, argv),
        env,
        cwd: exec.cwd.clone(),
        user: exec.user.clone(),
        mounts: furniture.mounts.iter().cloned().chain(toolbox).collect(),
        network: match exec.network {
            Network::Default => run.network.clone(),
            Network::None => NetworkSpec::None,
            Network::Host => NetworkSpec::Host,
        },
        privileged: exec.privileged,
        labels: shared.labels("step"),
        name: None,
        extra_hosts: run.extra_hosts.clone(),
        shm_size: run.shm_size,
        ulimits: run.ulimits.clone(),
        stdin: false,
    })
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
) -> Result<std::time::Duration> {
    let origin = shared.plan.graph().vertex(id).origin();
    let logs = cancel.or_stop(shared.engine.attach(container)).await?;
    let started = Instant::now();
    shared.engine.start_container(container).await?;
    let following = follow(shared, id, logs, masks);
    let waiting = wait(shared, container, cancel);
    // The wait may answer before the last lines have come.
    let (output, status) = tokio::join!(following, waiting);
    let ran = started.elapsed();
    let status = status?;
    if status.code != 0 {
        return Err(SolveError::Step {
            origin: Box::new(origin.clone()),
            platform,
            code: status.code,
            oom: status.oom,
            tail: output.tail.into(),
            certain: output.no_space || (!output.errors.is_empty() && !output.doubt),
            no_space: output.no_space,
            errors: output.errors,
            hints: output.hints,
        });
    }
    Ok(ran)
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

/// What is kept of a step's output.
#[derive(Default)]
struct Output {
    tail: VecDeque<String>,
    errors: Vec<String>,
    hints: Vec<String>,
    doubt: bool,
    no_space: bool,
}

/// What programs say when they cannot write (`ENOSPC`).
const NO_SPACE: &str = "No space left on device";

impl Output {
    fn add(&mut self, line: &str) {
        if let Some(error) = line.strip_prefix("kiln: error: ") {
            self.errors.push(error.to_owned());
        } else if let Some(hint) = line.strip_prefix("kiln: hint: ") {
            self.hints.push(hint.to_owned());
        } else if line == "kiln: doubt" {
            self.doubt = true;
        } else if line.contains(NO_SPACE) {
            self.no_space = true;
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }
}

/// Passes on the lines of a log until it ends.
async fn follow(shared: &Shared, id: VertexId, mut logs: LogStream, masks: &Masks) -> Output {
    let mut output = Output::default();
    let mut lines = [Lines::default(), Lines::default()];
    let platforms = shared.plan.platforms[id.0].clone();
    let send = async |output: &mut Output, stderr: bool, line: String| {
        let line = masks.hide(line);
        output.add(&line);
        shared.emit(BuildEvent::StepLog { vertex: id, platforms: platforms.clone(), stderr, line }).await;
    };
    while let Some(Ok(chunk)) = logs.next().await {
        for line in lines[usize::from(chunk.stderr)].push(&chunk.bytes) {
            send(&mut output, chunk.stderr, line).await;
        }
    }
    for (stderr, rest) in lines.iter_mut().enumerate() {
        if let Some(line) = rest.finish() {
            send(&mut output, stderr == 1, line).await;
        }
    }
    output
}

/// Cuts bytes into lines. A carriage return ends a line as well: progress bars become lines.
#[derive(Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    after_return: bool,
}

impl Lines {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            // The second half of `\r\n` ends no line of its own.
            let pair = byte == b'\n' && std::mem::take(&mut self.after_return);
            self.after_return = byte == b'\r';
            let ends = byte == b'\n' || byte == b'\r';
            if (ends && !pair) || self.line.len() >= LONGEST_LINE {
                lines.push(String::from_utf8_lossy(&self.line).into_owned());
                self.line.clear();
            }
            if !ends {
                self.line.push(byte);
            }
        }
        lines
    }

    pub(crate) fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.line);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_become_lines() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\ntw"), ["one"]);
        assert_eq!(lines.push(b"o\n10%\r20%\r"), ["two", "10%", "20%"]);
        assert_eq!(lines.push(b"\n\na\r\ndone"), ["", "a"]);
        assert_eq!(lines.finish().as_deref(), Some("done"));
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn output_without_line_ends_is_cut() {
        let mut lines = Lines::default();
        let cut = lines.push(&vec![b'x'; 3 * LONGEST_LINE]);
        assert!(cut.iter().all(|l| l.len() <= LONGEST_LINE));
        assert_eq!(cut.len(), 2);
    }

    #[test]
    fn a_steps_own_errors_and_hints_are_kept_apart() {
        let mut output = Output::default();
        for line in ["noise", "kiln: error: no such module", "kiln: hint: add it", "more"] {
            output.add(line);
        }
        assert_eq!(output.errors, ["no such module"]);
        assert_eq!(output.hints, ["add it"]);
        assert_eq!(output.tail.len(), 4);
    }
}
