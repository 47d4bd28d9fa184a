//! What is remembered of a build.
//!
//! A record is plain data: it is stored, printed and sent elsewhere as JSON, and every report is made of nothing else.
//! Times are seconds, sizes bytes, moments milliseconds since 1970 in UTC. Fields that are added later have defaults, so
//! that older records stay readable; a change that is none of these needs a new [`VERSION`].

use kiln_graph::Platform;
use serde::{Deserialize, Serialize};

/// Version of the form of a record. Records of a later one are left alone.
pub const VERSION: u32 = 1;

/// One build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of its form.
    pub version: u32,
    /// Its id: unique, and sortable by time.
    pub id: String,
    /// What was run: `build`, `bake` or `test`.
    pub command: String,
    /// When it began, in milliseconds since 1970.
    pub started: i64,
    /// From its start to its end, in seconds.
    pub seconds: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// Name of the project.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// Scope of its caches.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// What was built, as git tells it.
    #[serde(default)]
    pub source: Source,
    /// Where it was built.
    #[serde(default)]
    pub machine: Machine,
    /// What became of each target, in the order of the plan.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// The steps of all targets in the order of their starts, those that were cached first.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// The images that it stood on, by reference and platform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// What was said on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// How something ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Well.
    #[default]
    Done,
    /// Some targets were built, others were not.
    Partial,
    /// It failed.
    Failed,
    /// The user stopped it, or what it needed failed.
    Stopped,
}

impl Outcome {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// What was built, as git or the CI service tells it; empty where neither does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The commit, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The branch or tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// An image that a build stood on: of its own platform, or of the daemon's for its native programs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Image {
    /// What it is called.
    pub reference: String,
    /// Its platform.
    pub platform: Platform,
    /// What the daemon calls it: `sha256:...`.
    pub id: String,
    /// What its registry calls it: `sha256:...`; none of what was made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Where a build ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Version of kiln.
    #[serde(default)]
    pub kiln: String,
    /// Version of the engine.
    #[serde(default)]
    pub engine: String,
    /// The daemon's own platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Processors of the daemon's machine.
    #[serde(default)]
    pub cpus: usize,
    /// The CI service, if it was one: `github`, `gitlab`, or `ci`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<String>,
}

/// What became of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Its name; that of a stage in a build of one Dockerfile.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its platform.
    pub platform: Platform,
    /// How its steps ran: `native`, `twin`, `twin+qemu` or `qemu`.
    pub way: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether everything was there already.
    #[serde(default)]
    pub up_to_date: bool,
    /// From the start of the build to its end, in seconds.
    pub seconds: f64,
    /// Time inside containers, in seconds.
    #[serde(default)]
    pub container_seconds: f64,
    /// Steps that ran.
    #[serde(default)]
    pub ran: usize,
    /// Steps that were cached.
    #[serde(default)]
    pub cached: usize,
    /// What the compiler cache answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ccache: Option<Ccache>,
    /// Its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// The image that was made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The policy that it was built by: `lto=yes jobs=1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Why it failed, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Target {
    /// Bytes of all its files.
    pub fn size(&self) -> u64 {
        self.artifacts.iter().map(|artifact| artifact.size).sum()
    }
}

/// Answers of the compiler cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ccache {
    /// Compilations that it answered.
    pub hits: u64,
    /// Compilations that ran.
    pub misses: u64,
    /// Of the hits, those that came from storage that caches share.
    #[serde(default)]
    pub remote_hits: u64,
}

impl Ccache {
    /// Hits among all, 0 to 100; nothing without a compilation.
    #[expect(clippy::cast_precision_loss, reason = "counts of compiler calls are far below 2^52")]
    pub fn percent(self) -> Option<f64> {
        let all = self.hits + self.misses;
        (all > 0).then(|| 100.0 * self.hits as f64 / all as f64)
    }
}

/// One file or folder that was exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Where it was placed, relative to the project where it lies below it.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal; none for folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What a machine must have to run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
    /// How its smoke run went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoke: Option<String>,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The platforms that it served.
    pub platforms: Vec<Platform>,
    /// Name of its stage.
    #[serde(default)]
    pub stage: String,
    /// Its place in the stage, counted from 1; 0 where it has none.
    #[serde(default)]
    pub place: u32,
    /// The instruction as one line.
    #[serde(default)]
    pub text: String,
    /// The file that holds it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Its line there, counted from 1; 0 where there is none.
    #[serde(default)]
    pub line: u32,
    /// Whether its result was there already; then there are no times.
    #[serde(default)]
    pub cached: bool,
    /// How it ran, if it ran.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub way: String,
    /// Why it ran.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How it ended.
    #[serde(default)]
    pub outcome: Outcome,
    /// When it began, in seconds since the start of the build.
    #[serde(default)]
    pub start: f64,
    /// How long it took, in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// What it did in that time, as its log tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
}

impl Step {
    /// What is the same in another build of the same Dockerfile, even if the instruction's text is not: stage and place.
    pub fn name(&self) -> String {
        match (self.stage.as_str(), self.place) {
            ("", 0) => self.text.clone(),
            ("", place) => place.to_string(),
            (stage, 0) => stage.to_owned(),
            (stage, place) => format!("{stage} {place}"),
        }
    }
}

/// What a step did for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// `C compile`, `Python`, `link`, ...
    pub name: String,
    /// How long, in seconds.
    pub seconds: f64,
}

impl Record {
    /// The steps that served a platform.
    pub fn steps_of(&self, platform: Platform) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.platforms.contains(&platform))
    }

    /// Whether anything ran.
    pub fn did_work(&self) -> bool {
        self.targets.iter().any(|target| target.ran > 0)
    }
}
