//! Tries an artifact in a clean image of its platform: not in the builder, where everything it could miss is at hand.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kiln_docker::{ContainerSpec, Limits, NetworkSpec, PullPolicy, toolbox};
use kiln_graph::Platform;

use crate::archive;
use crate::error::{Result, SolveError};
use crate::event::Way;
use crate::output::Lines;
use crate::request::{Smoke, SmokeCommand};
use crate::shared::{Shared, joined};
use crate::step::wait;

/// Where the artifact is put in the clean image.
const FOLDER: &str = "/kiln-smoke";
/// Lines of output that are kept.
const TAIL: usize = 20;

/// How one command went.
struct Tried {
    /// None if it had to be stopped.
    code: Option<i64>,
    lines: Vec<String>,
    /// How long it ran.
    ran: Duration,
}

/// How an artifact passed.
pub(crate) struct Passed {
    /// What was run and what it said first, for the summary.
    pub(crate) said: String,
    /// Time inside containers.
    pub(crate) in_containers: Duration,
}

/// Runs the artifact.
///
/// `program` is the path of the executable below `artifact` if that is a folder, and empty if it is a file.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    smoke: &Smoke,
    platform: Platform,
    artifact: &Path,
    program: &str,
) -> Result<Passed> {
    let image = shared.engine.resolve_image(&smoke.image, platform, PullPolicy::Missing, &|_| {}).await?;
    let name = artifact.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = if program.is_empty() { format!("{FOLDER}/{name}") } else { format!("{FOLDER}/{name}/{program}") };
    let attempts: Vec<Vec<String>> = match &smoke.command {
        SmokeCommand::Arguments(arguments) => vec![arguments.clone()],
        SmokeCommand::Auto => vec![vec!["--version".to_owned()], vec!["--help".to_owned()]],
        SmokeCommand::Shell(line) => vec![vec![line.replace("{artifact}", &path)]],
    };
    let last = attempts.len() - 1;
    let mut in_containers = Duration::ZERO;
    for (index, arguments) in attempts.into_iter().enumerate() {
        let mut argv = match &smoke.command {
            SmokeCommand::Shell(_) => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            _ => vec![path.clone()],
        };
        argv.extend(arguments.iter().cloned());
        let tried = attempt(shared, smoke, &image, platform, artifact, argv).await?;
        in_containers += tried.ran;
        let command = format!("{name} {}", arguments.join(" ")).trim().to_owned();
        let problem = match tried.code {
            Some(0) => {
                let first = tried.lines.iter().find(|l| !l.trim().is_empty()).cloned().unwrap_or_default();
                let first: String = first.chars().take(100).collect();
                let said = format!("{}: {first}", arguments.join(" ")).trim().to_owned();
                return Ok(Passed { said, in_containers });
            }
            // A server does not look at arguments; that it comes up and stays up is what can be asked of it.
            None if smoke.command == SmokeCommand::Auto => {
                let said = format!("started and still ran after {} s", limit(shared, smoke, platform).as_secs());
                return Ok(Passed { said, in_containers });
            }
            None => format!("it did not end within {} s", limit(shared, smoke, platform).as_secs()),
            Some(_) if index < last => continue,
            Some(code) => format!("exit code {code}"),
        };
        return Err(SolveError::Smoke { command, platform, image: smoke.image.clone(), problem, tail: tried.lines });
    }
    Ok(Passed { said: String::new(), in_containers })
}

/// How long a command may take. Where kiln itself chose it, a program that does not answer is not waited for as long as
/// the user would for a test of his own.
fn limit(shared: &Shared, smoke: &Smoke, platform: Platform) -> Duration {
    let patience = match shared.way(platform) {
        Way::Native => Duration::from_secs(20),
        Way::Twin | Way::Mixed | Way::Qemu => Duration::from_secs(90),
    };
    if smoke.command == SmokeCommand::Auto { smoke.timeout.min(patience) } else { smoke.timeout }
}

async fn attempt(
    shared: &Arc<Shared>,
    smoke: &Smoke,
    image: &kiln_docker::Image,
    platform: Platform,
    artifact: &Path,
    argv: Vec<String>,
) -> Result<Tried> {
    let spec = ContainerSpec {
        image: image.id.clone(),
        platform,
        argv: toolbox::wrap(shared.engine.info().arch, platform.arch, argv),
        env: Vec::new(),
        cwd: "/".to_owned(),
        user: String::new(),
        mounts: shared.toolbox(platform).await?.into_iter().collect(),
        network: NetworkSpec::None,
        privileged: false,
        labels: shared.labels("verify"),
        name: None,
        extra_hosts: Vec::new(),
        limits: Limits::default(),
        stdin: false,
    };
    let container = shared.create(spec).await?;
    upload(shared, &container, artifact).await?;
    let mut logs = shared.engine.attach(&container).await?;
    match shared.engine.start_container(&container).await {
        Ok(()) => {}
        // The loader of the other libc, a wrong architecture: the runtime says "no such file" or "exec format error".
        Err(kiln_docker::EngineError::CannotStart { message }) => {
            return Ok(Tried { code: Some(127), lines: vec![message], ran: Duration::ZERO });
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
    let limit = limit(shared, smoke, platform);
    let started = Instant::now();
    let timed = async {
        tokio::select! {
            status = wait(shared, &container, &shared.cancel) => Ok::<_, SolveError>(Some(status?.code)),
            () = tokio::time::sleep(limit) => {
                shared.engine.stop_container(&container, 0).await?;
                Ok(None)
            }
        }
    };
    let (lines, code) = tokio::join!(tokio::time::timeout(limit + Duration::from_secs(20), collect), timed);
    Ok(Tried { code: code?, lines: lines.unwrap_or_default().into(), ran: started.elapsed() })
}

async fn upload(shared: &Arc<Shared>, container: &kiln_docker::ContainerId, artifact: &Path) -> Result<()> {
    let (writer, stream) = archive::writer();
    let path = artifact.to_owned();
    let writing = shared.tasks.spawn_blocking(move || {
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
    let uploaded = shared.engine.upload(container, "/", stream).await;
    match (joined(writing.await), uploaded) {
        (Err(error), uploaded) if error.is_broken_pipe() => Ok(uploaded?),
        (Err(error), _) => Err(error),
        (Ok(()), uploaded) => Ok(uploaded?),
    }
}
