//! What a caller asks of the solver.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_artifact::elf::GlibcVersion;
use kiln_docker::toolbox::ToolFile;
use kiln_docker::{Limits, NetworkSpec};
use kiln_graph::{BuildGraph, Platform};

use crate::context::Context;
use crate::event::Way;
use crate::image::Exports;
use crate::secret::Secret;

/// A build: a graph, what it reads from the client, and where its results go.
#[derive(Clone)]
pub struct BuildRequest {
    /// Id of the build: unique, short, safe in names.
    pub id: String,
    /// Owner of its containers, in the form of [`kiln_docker::labels::OWNER`].
    pub owner: String,
    /// Scope of its cache volumes: usually the project.
    pub scope: String,
    /// The graph. [`BuildGraph::targets`] says what is wanted.
    pub graph: BuildGraph,
    /// Contexts by name.
    pub contexts: BTreeMap<String, Arc<Context>>,
    /// What to do with each target of the graph, in its order.
    pub outputs: Vec<Output>,
    /// Targets that belong together; together they are all targets of the graph, in its order.
    pub groups: Vec<Group>,
    /// Settings of every step that are no part of its key.
    pub run: RunSettings,
    /// How many steps may run at a time.
    pub parallel: usize,
    /// Whether the other targets go on when one fails.
    pub keep_going: bool,
    /// Whether the container of the first command that fails is kept: see [`crate::Failed`].
    pub keep_failed: bool,
    /// Empty the cache volumes before their first use.
    pub no_cache_mounts: bool,
    /// Folder for kiln's own state of the project.
    pub state: PathBuf,
    /// Folder for locks between kiln processes of this machine.
    pub locks: PathBuf,
}

impl BuildRequest {
    /// Whether somebody gets an image.
    pub(crate) fn makes_image(&self) -> bool {
        self.groups.iter().any(|group| group.exports.has_image())
            || self.outputs.iter().any(|output| matches!(output, Output::Image(_)))
    }
}

/// Settings of every step that are no part of its key.
#[derive(Clone, Debug, Default)]
pub struct RunSettings {
    /// Platforms whose steps must not fall back to plain emulation where they have a twin.
    pub twin_required: BTreeSet<Platform>,
    /// Variables that every step sees: proxies, certificate paths, package indexes, the number of jobs.
    pub env: BTreeMap<Platform, Vec<(String, String)>>,
    /// Files that every step finds at [`kiln_docker::toolbox::MOUNT_POINT`].
    pub tools: Vec<ToolFile>,
    /// How each platform's steps run.
    pub ways: BTreeMap<Platform, Way>,
}

/// One thing to build: a target for each of its platforms, and what is particular to it.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Its targets in the graph.
    pub targets: Range<usize>,
    /// What is made of all of them together, once they are built.
    pub exports: Exports,
    /// How its steps run.
    pub steps: StepSettings,
}

/// Settings of the steps of one group that are no part of a key. A step that several groups need runs with those of the
/// first; secrets and agents it gets of all.
#[derive(Clone, Debug, Default)]
pub struct StepSettings {
    /// The network of steps that ask for none in particular.
    pub network: NetworkSpec,
    /// Hosts to add, as `name:address`.
    pub extra_hosts: Vec<String>,
    /// What a step may use of the machine.
    pub limits: Limits,
    /// Values for `--mount=type=secret`, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of the user's agents for `--mount=type=ssh`, by id: paths of the daemon's machine.
    pub agents: BTreeMap<String, PathBuf>,
    /// What is kept of a command that failed.
    pub salvage: Option<Salvage>,
}

/// Files that a command writes also where it fails: reports, say. They go to a folder instead of into a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    /// The folder in the container. Where a command has none, nothing is kept of it.
    pub from: String,
    /// The folder that gets its content, instead of what it had.
    pub to: PathBuf,
}

impl BuildRequest {
    /// The group of a target, by the target's index in the graph.
    pub(crate) fn group_of(&self, target: usize) -> &Group {
        let found = self.groups.iter().find(|group| group.targets.contains(&target));
        found.expect("every target is in a group")
    }
}

/// What becomes of a target.
#[derive(Clone, Debug)]
pub enum Output {
    /// Its files are written to a folder.
    Files(FilesOutput),
    /// It becomes an image on the daemon, with a name if one is given (`repository`, `tag`).
    Image(Option<(String, String)>),
    /// It is only built.
    Nothing,
}

/// Files that are written to a folder.
#[derive(Clone, Debug)]
pub struct FilesOutput {
    /// The folder.
    pub folder: PathBuf,
    /// The one artifact that must be among them, by its path in the target; it is examined and tried.
    pub artifact: Option<String>,
    /// How the artifact is tried.
    pub smoke: Option<Smoke>,
    /// The newest glibc that the artifact may need.
    pub glibc_max: Option<GlibcVersion>,
    /// Where the recipe's reports (the target's `/.kiln`) go.
    pub reports: Option<PathBuf>,
    /// Keep a `SHA256SUMS` beside the artifacts.
    pub sums: bool,
}

/// A smoke run: the artifact in a clean image of its platform.
#[derive(Clone, Debug)]
pub struct Smoke {
    /// Reference of the image.
    pub image: String,
    /// What to run.
    pub command: SmokeCommand,
    /// How long it may take.
    pub timeout: Duration,
}

/// What a smoke run runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SmokeCommand {
    /// `--version`; if the program does not know it, `--help`.
    Auto,
    /// The program with these arguments.
    Arguments(Vec<String>),
    /// A line for the image's shell, in which `{artifact}` stands for the program's path.
    Shell(String),
}
