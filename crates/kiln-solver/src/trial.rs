//! Runs a program of the client's in a container of an image: for the smoke run of a build, and for `kiln verify`.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kiln_docker::{ContainerId, ContainerSpec, Engine, EngineError, ImageId, MountSpec, toolbox};
use kiln_graph::Platform;
use tokio_util::task::TaskTracker;

use crate::archive;
use crate::cancel::Cancel;
use crate::error::{Result, SolveError};
use crate::event::Way;
use crate::output::Lines;
use crate::request::SmokeCommand;
use crate::shared::joined;

/// Where the files are put in the container.
pub const FOLDER: &str = "/kiln-smoke";
/// Lines of output that are kept.
const TAIL: usize = 20;

/// How a command went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its exit code; none if it had to be stopped.
    pub code: Option<i64>,
    /// The first and the last lines of what it said; where it did not start, what the daemon said.
    pub lines: Vec<String>,
    /// How long it ran.
    pub ran: Duration,
    /// Whether it started.
    pub started: bool,
}

/// A container without network that runs `argv` as root and sees nothing but its image.
pub fn spec(
    engine: &dyn Engine,
    image: ImageId,
    platform: Platform,
    argv: Vec<String>,
    toolbox: Option<MountSpec>,
    labels: BTreeMap<String, String>,
) -> ContainerSpec {
    ContainerSpec {
        argv: toolbox::wrap(engine.info().arch, platform.arch, argv),
        cwd: "/".to_owned(),
        mounts: toolbox.into_iter().collect(),
        ..ContainerSpec::idle(image, platform, labels)
    }
}

/// How long a command may take. Where kiln itself chose it, a program that does not answer is not waited for as long as
/// the user would for a test of his own.
pub fn limit(way: Way, command: &SmokeCommand, timeout: Duration) -> Duration {
    let patience = match way {
        Way::Native => Duration::from_secs(20),
        Way::Twin | Way::Mixed | Way::Qemu => Duration::from_secs(90),
    };
    if *command == SmokeCommand::Auto { timeout.min(patience) } else { timeout }
}

/// Puts `artifact`, a file or folder, below [`FOLDER`] in a container that has not run yet, and runs its command.
///
/// # Errors
/// If the daemon fails, a file cannot be read, or the user stopped it. That the command fails is none.
pub async fn run(
    engine: &Arc<dyn Engine>,
    container: &ContainerId,
    artifact: &Path,
    limit: Duration,
    cancel: &Cancel,
) -> Result<Tried> {
    let tasks = TaskTracker::new();
    let tried = run_tracked(engine, &tasks, container, artifact, limit, cancel).await;
    tasks.close();
    tasks.wait().await;
    tried
}

/// The same with the tasks of a build.
pub(crate) async fn run_tracked(
    engine: &Arc<dyn Engine>,
    tasks: &TaskTracker,
    container: &ContainerId,
    artifact: &Path,
    limit: Duration,
    cancel: &Cancel,
) -> Result<Tried> {
    upload(engine, tasks, container, artifact).await?;
    let mut logs = engine.attach(container).await?;
    match engine.start_container(container).await {
        Ok(()) => {}
        // The loader of the other libc, a wrong architecture: the runtime says "no such file" or "exec format error".
        Err(EngineError::CannotStart { message }) => {
            return Ok(Tried { code: Some(127), lines: vec![message], ran: Duration::ZERO, started: false });
        }
        Err(error) => return Err(error.into()),
    }
    let collect = async {
        let mut tail = VecDeque::new();
        let mut lines = [Lines::default(), Lines::default()];
        let mut keep = |line: String| {
            // The first lines say what the program is, the last ones what went wrong.
            if tail.len() == TAIL {
                tail.remove(TAIL / 2);
            }
            tail.push_back(line);
        };
        while let Some(Ok(chunk)) = logs.next().await {
            lines[usize::from(chunk.stderr)].push(&chunk.bytes).into_iter().for_each(&mut keep);
        }
        lines.iter_mut().filter_map(Lines::finish).for_each(&mut keep);
        tail
    };
    let started = Instant::now();
    let timed = async {
        tokio::select! {
            status = engine.wait_container(container) => Ok::<_, SolveError>(Some(status?.code)),
            () = tokio::time::sleep(limit) => {
                engine.stop_container(container, 0).await?;
                Ok(None)
            }
            () = cancel.stopped() => {
                // If it cannot be stopped it is killed when it is removed.
                let _ = engine.stop_container(container, 0).await;
                Err(SolveError::Cancelled)
            }
        }
    };
    let (lines, code) = tokio::join!(tokio::time::timeout(limit + Duration::from_secs(20), collect), timed);
    let (code, lines) = (code?, Vec::from(lines.unwrap_or_default()));
    let is_refused =
        matches!(code, Some(126 | 127)) && lines.iter().any(|line| line.starts_with(kiln_twin::NOT_STARTED));
    Ok(Tried { code, lines, ran: started.elapsed(), started: !is_refused })
}

async fn upload(engine: &Arc<dyn Engine>, tasks: &TaskTracker, container: &ContainerId, artifact: &Path) -> Result<()> {
    let (writer, stream) = archive::writer();
    let path = artifact.to_owned();
    let writing = tasks.spawn_blocking(move || {
        let mut builder = tar::Builder::new(writer);
        builder.follow_symlinks(false);
        let name = format!("{}/{}", &FOLDER[1..], path.file_name().unwrap_or_default().to_string_lossy());
        let written = if path.is_dir() {
            builder.append_dir_all(&name, &path)
        } else {
            builder.append_path_with_name(&path, &name)
        };
        written
            .and_then(|()| builder.into_inner())
            .and_then(archive::PipeWriter::finish)
            .map_err(SolveError::io("read", path))
    });
    let uploaded = engine.upload(container, "/", stream).await;
    match (joined(writing.await), uploaded) {
        (Err(error), uploaded) if error.is_broken_pipe() => Ok(uploaded?),
        (Err(error), _) => Err(error),
        (Ok(()), uploaded) => Ok(uploaded?),
    }
}
