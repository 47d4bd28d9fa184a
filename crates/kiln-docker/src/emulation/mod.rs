//! Running programs of foreign architectures on the daemon's machine.
//!
//! Whether a platform runs is found out by running a program of it in a container: the daemon may be remote, and what
//! one file in `/proc` says of a kernel is not what the kernel does. `binfmt` has the facts about handlers, `handlers`
//! reads and writes them through a privileged container, `program` is what is run.

mod binfmt;
mod handlers;
mod install;
pub(crate) mod program;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use kiln_graph::Platform;

pub use handlers::{Handler, Handlers};
pub use install::{Installed, install, uninstall};

use crate::{ContainerId, Engine, EngineError, ExitStatus, ImageId, Result, probe_image};

/// What came of running a program of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// It ran, and the processor can run it by itself.
    Native,
    /// It ran, under an emulator.
    Emulated,
    /// It did not run.
    Failed {
        /// What happened instead.
        reason: String,
    },
}

/// The state of emulation on a daemon.
#[derive(Clone, Debug)]
pub struct Status {
    /// What runs.
    pub probes: Vec<(Platform, ProbeResult)>,
    /// The kernel's handlers, or why they could not be read.
    pub handlers: Result<Handlers, String>,
}

/// Runs a program of each platform on the daemon, all at once.
pub async fn probe(engine: &dyn Engine, platforms: &[Platform]) -> Result<Vec<(Platform, ProbeResult)>> {
    let image = probe_image::ensure(engine).await?;
    let mut probes: FuturesOrdered<_> = platforms.iter().map(|platform| probe_one(engine, &image, *platform)).collect();
    let mut results = Vec::new();
    while let Some(result) = probes.next().await {
        results.push(result?);
    }
    Ok(results)
}

/// What runs on the daemon, and which handlers its kernel has. These can only be read with an image that has a shell
/// (the one for [`install()`]).
pub async fn status(engine: &dyn Engine, image: Option<&ImageId>) -> Result<Status> {
    let platforms: Vec<Platform> = Platform::all().collect();
    let probes = probe(engine, &platforms).await?;
    let handlers = match image {
        None => Err("the QEMU image that is needed to read them is not on the daemon".to_owned()),
        Some(image) => handlers::read(engine, image).await.map_err(|error| handlers::reason(&error)),
    };
    Ok(Status { probes, handlers })
}

/// The handlers of the daemon's kernel; none where kiln has no program of its own to read them with there. Needs a daemon
/// that allows privileged containers.
///
/// # Errors
/// If the daemon fails or refuses, or its kernel does not show them.
pub async fn handlers(engine: &dyn Engine) -> Result<Option<Handlers>> {
    handlers::look(engine).await
}

async fn probe_one(engine: &dyn Engine, image: &ImageId, platform: Platform) -> Result<(Platform, ProbeResult)> {
    let argv = vec![format!("/{}", program::path(platform.arch))];
    let spec = probe_image::container(image, engine, "probe", argv);
    let result =
        match run(engine, &spec).await {
            Ok(Ran { exit, .. }) if exit.code == program::RIGHT_ANSWER => {
                if platform.arch.may_run_on(engine.info().arch) { ProbeResult::Native } else { ProbeResult::Emulated }
            }
            Ok(Ran { exit, output }) => ProbeResult::Failed { reason: failure(exit, &output) },
            Err(EngineError::CannotStart { message }) => ProbeResult::Failed { reason: message },
            Err(error) => return Err(error),
        };
    Ok((platform, result))
}

fn failure(exit: ExitStatus, output: &str) -> String {
    if output.contains("exec format error") {
        "the kernel cannot execute it, and has no handler for it".to_owned()
    } else if output.contains("no such file or directory") {
        "its handler's interpreter cannot be found inside containers (flag F is missing)".to_owned()
    } else {
        format!("it ended with {} instead of {}: {}", exit.code, program::RIGHT_ANSWER, output.trim())
    }
}

/// How a container ended and the start of what it wrote.
pub(crate) struct Ran {
    pub(crate) exit: ExitStatus,
    pub(crate) output: String,
}

/// Output beyond this is dropped: our containers write little.
const OUTPUT_LIMIT: usize = 256 << 10;

/// Runs a container to its end and removes it.
pub(crate) async fn run(engine: &dyn Engine, spec: &crate::ContainerSpec) -> Result<Ran> {
    let id = engine.create_container(spec).await?;
    let ran = run_created(engine, &id).await;
    let removed = engine.remove_container(&id).await;
    let ran = ran?;
    removed.map(|()| ran)
}

/// Runs a container that is there to its end.
pub(crate) async fn run_created(engine: &dyn Engine, id: &ContainerId) -> Result<Ran> {
    let mut logs = engine.attach(id).await?;
    engine.start_container(id).await?;
    let mut output = Vec::new();
    while let Some(chunk) = logs.next().await {
        let bytes = chunk?.bytes;
        output.extend_from_slice(&bytes[..bytes.len().min(OUTPUT_LIMIT - output.len())]);
    }
    let exit = engine.wait_container(id).await?;
    Ok(Ran { exit, output: String::from_utf8_lossy(&output).into_owned() })
}
