//! Runs one command in a container.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use kiln_docker::{ContainerId, ContainerSpec, ExitStatus, LogStream, MountSpec, NetworkSpec, VolumeSource, toolbox};
use kiln_graph::{Exec, MountKind, Network, Origin, Platform, VertexId};

use crate::error::{Result, SolveError};
use crate::event::BuildEvent;
use crate::shared::{Shared, lock};
use crate::snapshot::{Made, Snapshot};
use crate::volumes;

/// Seconds between SIGTERM and SIGKILL when the user stops a build.
const GRACE: u32 = 2;
/// Lines of output that an error carries.
const TAIL: usize = 40;
/// Longest line that is passed on as one, in bytes; output without line ends is cut there.
const LONGEST_LINE: usize = 32 * 1024;

/// Variables that kiln itself gives to steps. A checkpoint remembers those of the container it was made of, so each new
/// container drops the ones that are not wanted any more.
const INJECTED: &[&str] = &[
    "APT_CONFIG",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "KILN_JOBS",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Runs the command of `id` on top of its first input.
pub(crate) async fn run(shared: &Arc<Shared>, id: VertexId, exec: &Exec, inputs: &[Snapshot]) -> Result<Snapshot> {
    let origin = shared.plan.graph().vertex(id).origin();
    let mut mounts = Vec::new();
    // Held to the end of the step. Taken in one order by all, so two steps cannot wait for each other.
    let mut caches: Vec<_> = exec.mounts.iter().filter(|m| matches!(m.kind, MountKind::Cache(_))).collect();
    caches.sort_by(|a, b| format!("{:?}", a.kind).cmp(&format!("{:?}", b.kind)));
    let mut held = Vec::new();
    for mount in caches {
        let MountKind::Cache(cache) = &mount.kind else { continue };
        let volume = volumes::hold(shared, cache, exec.platform).await?;
        let source = VolumeSource::Volume(volume.volume.clone());
        mounts.push(MountSpec { target: mount.target.clone(), source, readonly: mount.readonly });
        held.push((volume, cache, mount.target.clone()));
    }
    for mount in &exec.mounts {
        match &mount.kind {
            MountKind::Cache(cache) if cache.from.is_some() => return Err(unsupported(origin, "a cache with `from`")),
            MountKind::Cache(_) => {}
            MountKind::Tmpfs { size } => mounts.push(MountSpec {
                target: mount.target.clone(),
                source: VolumeSource::Tmpfs(*size),
                readonly: false,
            }),
            MountKind::Bind { .. } => return Err(unsupported(origin, "`--mount=type=bind`")),
            MountKind::Secret(_) => return Err(unsupported(origin, "`--mount=type=secret`")),
            MountKind::Ssh { .. } => return Err(unsupported(origin, "`--mount=type=ssh`")),
        }
    }
    let _permit = tokio::select! {
        permit = shared.permits.acquire() => permit.map_err(|_| SolveError::Cancelled)?,
        () = shared.cancel.stopped() => return Err(SolveError::Cancelled),
    };
    let started = Instant::now();
    let (base, mut operations) = inputs[0].split();
    let mut image = shared.image_of(&base).await?;
    // What is copied to a place that the step mounts over would end up in the mount: put it below first.
    if operations.iter().any(|_| !mounts.is_empty()) && overlaps(shared, &operations, &mounts) {
        image = shared.image_of(&inputs[0]).await?;
        operations.clear();
    }
    mounts.extend(shared.toolbox(exec.platform).await?);
    let spec = ContainerSpec {
        image: image.clone(),
        platform: exec.platform,
        argv: toolbox::wrap(shared.engine.info().arch, exec.platform.arch, exec.argv.clone()),
        env: environment(shared, exec),
        cwd: exec.cwd.clone(),
        user: exec.user.clone(),
        mounts,
        network: match exec.network {
            Network::Default => shared.plan.request.run.network.clone(),
            Network::None => NetworkSpec::None,
            Network::Host => NetworkSpec::Host,
        },
        privileged: exec.privileged,
        labels: shared.labels("step"),
        name: None,
        extra_hosts: shared.plan.request.run.extra_hosts.clone(),
        shm_size: shared.plan.request.run.shm_size,
    };
    let in_engine = |error: SolveError| match error {
        SolveError::Engine(source) => {
            SolveError::StepEngine { origin: Box::new(origin.clone()), platform: exec.platform, source }
        }
        other => other,
    };
    let container = shared.create(&spec).await.map_err(in_engine)?;
    shared.apply(&container, &image, exec.platform, &operations).await?;
    if shared.cancel.is_stopped() {
        return Err(SolveError::Cancelled);
    }
    shared.step_started(id).await;
    let outcome = execute(shared, id, exec.platform, &container, origin).await;
    let took = started.elapsed();
    drop(held);
    match outcome {
        Ok(in_container) => {
            lock(&shared.times).entry(id).or_default().in_container = in_container;
            shared.step_finished(id, took).await;
            Ok(Snapshot::Step(Arc::new(Made::new(id, container, exec.platform))))
        }
        Err(SolveError::Cancelled) => Err(SolveError::Cancelled),
        Err(error) => {
            let platforms = shared.plan.platforms[id.0].clone();
            shared.emit(BuildEvent::StepFailed { vertex: id, platforms, origin: origin.clone(), took }).await;
            Err(in_engine(error))
        }
    }
}

fn unsupported(origin: &Origin, what: &str) -> SolveError {
    SolveError::Unsupported { origin: Box::new(origin.clone()), what: what.to_owned() }
}

/// Whether a file operation writes below a mount point.
fn overlaps(shared: &Shared, operations: &[Arc<crate::snapshot::Pending>], mounts: &[MountSpec]) -> bool {
    use kiln_graph::{FileAction, Op};
    let below = |path: &str| {
        let path = path.trim_end_matches('/');
        mounts.iter().any(|m| {
            let target = m.target.trim_end_matches('/');
            path == target
                || path.strip_prefix(target).is_some_and(|r| r.starts_with('/'))
                // Copying a folder to a parent of the mount may reach into it.
                || target.strip_prefix(path).is_some_and(|r| r.starts_with('/'))
        })
    };
    operations.iter().any(|pending| match &shared.plan.graph().vertex(pending.vertex).op {
        Op::File(op) => op.actions.iter().any(|action| match action {
            FileAction::Mkdir { path, .. } => mounts.iter().any(|m| path.starts_with(&m.target)),
            FileAction::Write { path, .. } => below(path),
            FileAction::Copy(copy) => below(&copy.dest),
        }),
        _ => false,
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
    origin: &Origin,
) -> Result<std::time::Duration> {
    let logs = shared.engine.attach(container).await?;
    let started = Instant::now();
    shared.engine.start_container(container).await?;
    let following = follow(shared, id, logs);
    let waiting = wait(shared, container);
    // The wait may answer before the last lines have come.
    let (output, status) = tokio::join!(following, waiting);
    let ran = started.elapsed();
    let status = status?;
    if shared.cancel.is_stopped() {
        return Err(SolveError::Cancelled);
    }
    if status.code != 0 {
        return Err(SolveError::Step {
            origin: Box::new(origin.clone()),
            platform,
            code: status.code,
            oom: status.oom,
            tail: output.tail.into(),
            errors: output.errors,
            hints: output.hints,
        });
    }
    Ok(ran)
}

/// Waits for the end of a container, or ends it if the user says so.
pub(crate) async fn wait(shared: &Shared, container: &ContainerId) -> Result<ExitStatus> {
    let ended = shared.engine.wait_container(container);
    tokio::pin!(ended);
    tokio::select! {
        status = &mut ended => return Ok(status?),
        () = shared.cancel.stopped() => {}
    }
    tokio::select! {
        stopped = shared.engine.stop_container(container, GRACE) => stopped?,
        () = shared.cancel.killed() => shared.engine.stop_container(container, 0).await?,
    }
    Err(SolveError::Cancelled)
}

/// What is kept of a step's output.
#[derive(Default)]
struct Output {
    tail: VecDeque<String>,
    errors: Vec<String>,
    hints: Vec<String>,
}

impl Output {
    fn add(&mut self, line: &str) {
        if let Some(error) = line.strip_prefix("kiln: error: ") {
            self.errors.push(error.to_owned());
        } else if let Some(hint) = line.strip_prefix("kiln: hint: ") {
            self.hints.push(hint.to_owned());
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }
}

/// Passes on the lines of a log until it ends.
async fn follow(shared: &Shared, id: VertexId, mut logs: LogStream) -> Output {
    let mut output = Output::default();
    let mut lines = [Lines::default(), Lines::default()];
    let platforms = shared.plan.platforms[id.0].clone();
    let send = async |output: &mut Output, stderr: bool, line: String| {
        output.add(&line);
        shared.emit(BuildEvent::StepLog { vertex: id, platforms: platforms.clone(), stderr, line }).await;
    };
    loop {
        let chunk = tokio::select! {
            chunk = logs.next() => chunk,
            // A killed container may leave its log stream open.
            () = shared.cancel.killed() => None,
        };
        let Some(Ok(chunk)) = chunk else { break };
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
