//! Runs artifacts in clean images of their platform, and says where they run and why not elsewhere.
//!
//! Each try is a container without network. A package is installed, its program run from the PATH, and removed again where
//! the image has its package manager; elsewhere, as with archives, the program is run as it lies in it.

mod install;
mod reason;
mod try_one;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, stream};
use kiln_artifact::examine::{Examined, Shape};
use kiln_artifact::package::{self, Bounds, PackageError};
use kiln_docker::{Engine, MountSpec, toolbox};
use kiln_graph::Platform;
use kiln_solver::{Cancel, SmokeCommand, SolveError, Way, trial};
use serde::Serialize;

use self::install::Install;
use super::Subject;
use crate::cli;
use crate::emulate::{self, Surroundings};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::project::Project;
use crate::ui::Ui;
use crate::{job, network, session};

/// Containers at once, at most.
const AT_ONCE: usize = 4;

/// How an artifact fared in an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Run {
    /// The image, as the user names it.
    pub(crate) image: String,
    /// The platform.
    #[serde(serialize_with = "shown")]
    pub(crate) platform: Platform,
    /// Whether it was installed by the image's package manager.
    pub(crate) installed: bool,
    pub(crate) status: Status,
    /// What it said, or why it did not run.
    pub(crate) detail: String,
    /// How long its commands ran.
    pub(crate) seconds: Option<f64>,
    /// The last lines of what it said, where it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tail: Vec<String>,
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    /// It runs.
    #[serde(rename = "ok")]
    Runs,
    /// It should, and does not.
    Fails,
    /// The image has another C library than it is made for.
    OtherLibc,
    /// It could not be tried.
    Untried,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Runs => "ok",
            Self::Fails => "fails",
            Self::OtherLibc => "other libc",
            Self::Untried => "not tried",
        }
    }
}

impl Run {
    pub(crate) fn was_tried(&self) -> bool {
        self.status != Status::Untried
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn shown<S: serde::Serializer>(platform: &Platform, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(platform)
}

/// Whether the runs of one artifact are a reason not to ship it. That a program for musl does not run where there is glibc,
/// or the reverse, is no news; that it ran nowhere is.
pub(crate) fn is_breach(runs: &[Run]) -> bool {
    let has = |status| runs.iter().any(|run| run.status == status);
    has(Status::Fails) || (has(Status::OtherLibc) && !has(Status::Runs))
}

/// What is to be run where.
pub(crate) struct Wanted<'a> {
    pub(crate) images: &'a [String],
    pub(crate) may_install: bool,
    pub(crate) scratch: &'a Path,
    pub(crate) cancel: &'a Cancel,
}

/// An artifact that is run.
struct Piece {
    platform: Platform,
    /// What is put into containers.
    files: PathBuf,
    /// The program below it; empty if it is one.
    program: String,
    interpreter: Option<String>,
    command: SmokeCommand,
    timeout: std::time::Duration,
    install: Option<Install>,
}

/// Where tries happen.
struct Room<'a> {
    engine: &'a Arc<dyn Engine>,
    cancel: &'a Cancel,
    labels: BTreeMap<String, String>,
    /// kiln's own files, for platforms that need them.
    toolbox: Option<MountSpec>,
    ways: BTreeMap<Platform, std::result::Result<Way, String>>,
}

/// Runs all artifacts that can be run, and notes how it went.
pub(crate) async fn run(
    ui: Ui,
    environment: &Environment,
    global: &cli::Global,
    project: &Project,
    wanted: &Wanted<'_>,
    subjects: &mut [Subject],
) -> Result<()> {
    let mut pieces = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        if let Some(piece) = prepare(subject, project, &wanted.scratch.join(index.to_string())).await? {
            pieces.push((index, piece));
        }
    }
    if pieces.is_empty() {
        ui.warn("--run-on: there is nothing to run, as no artifact is a program or has one for a known platform");
        return Ok(());
    }
    let connecting = session::connect(environment, global);
    let engine = wanted.cancel.unless_stopped(connecting).await??;
    let all = try_all(ui, environment, project, wanted, &engine, &pieces).await;
    // Also what was being made when the user stopped it.
    let removed = session::Host::this().remove_own(engine.as_ref()).await;
    for (index, run) in all? {
        subjects[index].runs.push(run);
    }
    removed
}

async fn try_all(
    ui: Ui,
    environment: &Environment,
    project: &Project,
    wanted: &Wanted<'_>,
    engine: &Arc<dyn Engine>,
    pieces: &[(usize, Piece)],
) -> Result<Vec<(usize, Run)>> {
    let platforms: BTreeSet<Platform> = pieces.iter().map(|(_, piece)| piece.platform).collect();
    let ways = ways(ui, environment, project, wanted, engine, &platforms).await?;
    let needs_toolbox = platforms.iter().any(|p| toolbox::wraps(engine.info().arch, p.arch));
    let toolbox = if needs_toolbox {
        let volume = wanted.cancel.unless_stopped(toolbox::ensure_toolbox(engine.as_ref(), &[])).await??;
        Some(toolbox::mount(&volume))
    } else {
        None
    };
    let labels = BTreeMap::from([
        (kiln_docker::labels::ROLE.to_owned(), "verify".to_owned()),
        (kiln_docker::labels::BUILD.to_owned(), session::new_id()),
    ]);
    let room = Room { engine, cancel: wanted.cancel, labels, toolbox, ways };
    let tries = pieces.iter().flat_map(|(index, piece)| wanted.images.iter().map(move |image| (*index, piece, image)));
    let at_once = usize::try_from(engine.info().cpus).unwrap_or(1).clamp(1, AT_ONCE);
    let room = &room;
    let mut running = stream::iter(tries.enumerate().map(|(order, (index, piece, image))| async move {
        let run = try_one::run(room, piece, image).await?;
        ui.say(&format!(
            "{} on {image}: {}",
            piece.files.file_name().unwrap_or_default().to_string_lossy(),
            run.status.word()
        ));
        Ok::<_, SolveError>((order, index, run))
    }))
    .buffer_unordered(at_once);
    let mut found = Vec::new();
    while let Some(done) = running.next().await {
        found.push(done?);
    }
    found.sort_by_key(|(order, ..)| *order);
    Ok(found.into_iter().map(|(_, index, run)| (index, run)).collect())
}

/// How each platform runs, or why it does not.
async fn ways(
    ui: Ui,
    environment: &Environment,
    project: &Project,
    wanted: &Wanted<'_>,
    engine: &Arc<dyn Engine>,
    platforms: &BTreeSet<Platform>,
) -> Result<BTreeMap<Platform, std::result::Result<Way, String>>> {
    let own = Platform::linux(engine.info().arch);
    let settings = project.config.for_platform(own);
    let resolved = project.config.resolved();
    let surroundings = Surroundings {
        engine,
        qemu_image: resolved.emulation.qemu_image.clone(),
        env: network::variables(&settings.network),
        tools: network::files(&settings.network, &project.folder)?,
        network: network::spec(&settings.network),
        args: emulate::arguments(&settings.network),
        state: &environment.cache_folder.join("emulation"),
        locks: &session::locks(environment, engine.as_ref()),
        owner: session::Host::this().owner(),
        cancel: wanted.cancel,
    };
    let (events, mut received) = tokio::sync::mpsc::channel(64);
    let say = tokio::spawn(async move {
        while let Some(event) = received.recv().await {
            if let kiln_solver::BuildEvent::Notice { text, .. } = event {
                ui.say(&text);
            }
        }
    });
    let install = resolved.emulation.install && wanted.may_install;
    let mut ways = BTreeMap::new();
    for platform in platforms {
        let way = match emulate::ensure(&surroundings, &[*platform], install, &events).await {
            Ok(ways) => ways.get(platform).copied().ok_or_else(|| "it is not known how it runs".to_owned()),
            Err(error @ CliError::Solve(SolveError::Cancelled)) => return Err(error),
            Err(error) => Err(error.to_string()),
        };
        ways.insert(*platform, way);
    }
    drop(events);
    // It ends with the last sender.
    let _ = say.await;
    Ok(ways)
}

/// What of an artifact is run; nothing of what has no program for a known platform, and nothing of images.
async fn prepare(subject: &Subject, project: &Project, scratch: &Path) -> Result<Option<Piece>> {
    let (Some(examined), Some(platform), false) = (&subject.examined, subject.platform(), subject.is_image()) else {
        return Ok(None);
    };
    let Some(main) = examined.main() else { return Ok(None) };
    let settings = project.config.for_platform(platform);
    let mut piece = Piece {
        platform,
        files: examined.path.clone(),
        program: String::new(),
        interpreter: main.elf().and_then(|facts| facts.interpreter.clone()),
        // A program that the build does not try still has to start.
        command: job::smoke_command(&settings.verify.run).unwrap_or(SmokeCommand::Auto),
        timeout: settings.verify.timeout,
        install: Install::of(examined),
    };
    if examined.shape != Shape::Program {
        piece.program.clone_from(&main.file.name);
    }
    if let Shape::Package(form) = examined.shape {
        // The name of the artifact, as that is what is shown.
        let folder = scratch.join(examined.path.file_name().unwrap_or_default());
        fs_err::create_dir_all(&folder).map_err(CliError::io("make", &folder))?;
        piece.files.clone_from(&folder);
        let path = examined.path.clone();
        let work = tokio::task::spawn_blocking(move || package::unpack(&path, form, Bounds::default(), &folder));
        match work.await.expect("unpacking does not panic") {
            Ok(()) => {}
            Err(PackageError::Io { action, path, source }) => return Err(CliError::io(action, path)(source)),
            // It was read before, so links are to blame: its findings say what it is.
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(piece))
}

impl Piece {
    /// Where the program is in a container.
    fn path(&self) -> String {
        let name = self.files.file_name().unwrap_or_default().to_string_lossy();
        if self.program.is_empty() {
            format!("{}/{name}", trial::FOLDER)
        } else {
            format!("{}/{name}/{}", trial::FOLDER, self.program)
        }
    }
}

/// Whether an artifact has what a package manager could install.
pub(crate) fn program_in_path(examined: &Examined) -> Option<String> {
    const FOLDERS: [&str; 6] = ["usr/bin", "usr/local/bin", "bin", "usr/sbin", "usr/local/sbin", "sbin"];
    let is_there = |name: &str| name.rsplit_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder));
    let package = examined.control.as_ref().map(|control| control.name.as_str()).unwrap_or_default();
    let main = examined.main().map(|main| main.file.name.as_str());
    let all = examined.programs.iter().map(|program| &program.file).chain(&examined.files);
    let best = all
        .filter(|file| is_there(&file.name))
        .max_by_key(|file| (Some(file.name.as_str()) == main, file.file_name() == package, file.executable));
    best.map(|file| file.file_name().to_owned())
}
