//! What happens in a build, as data. Terminals, logs and records are consumers of these.

use std::time::Duration;

use kiln_graph::{MissReason, Origin, Platform, VertexId};
use serde::Serialize;

use crate::report::TargetReport;

/// How the steps of a platform are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The daemon's processor runs it.
    Native,
    /// Through QEMU, but for programs that have a native twin.
    Twin,
    /// Begun with native twins, but some steps had to be repeated through QEMU alone.
    Mixed,
    /// Through QEMU.
    Qemu,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Twin => "twin",
            Self::Mixed => "twin+qemu",
            Self::Qemu => "qemu",
        })
    }
}

/// What a target is doing after its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Files are read from the container.
    Export,
    /// Files are examined.
    Verify,
    /// The program runs in a clean image.
    Smoke,
    /// Files are moved into place.
    Place,
}

/// Which way caches go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From a store to the daemon.
    Restoring,
    /// From the daemon to a store.
    Saving,
}

/// Caches on their way, all that go the same way together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transfer {
    /// Which way they go.
    pub direction: Direction,
    /// The store, fit for people to read.
    pub place: String,
    /// Bytes that have arrived.
    pub moved: u64,
    /// Bytes in all as far as known by now: 0 as long as stores are only asked. None when saving: what is new is found out
    /// on the way.
    pub total: Option<u64>,
}

/// One event. Events of one vertex are in order.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum BuildEvent {
    /// The plan is made.
    Planned {
        /// Id of the build.
        build: String,
        /// Platform, way, steps to run and steps that are cached.
        targets: Vec<PlannedTarget>,
    },
    /// Something people should know.
    Notice {
        /// The platform that it concerns, if it is one.
        platform: Option<Platform>,
        /// The text: one sentence without a full stop.
        text: String,
    },
    /// Caches travel. It is told now and then while they do, unless they are there at once.
    Travelling {
        /// How far they are.
        #[serde(flatten)]
        transfer: Transfer,
        /// Whether that was all. No event of this kind waits for who shows it, so this one may be missing.
        ended: bool,
    },
    /// A step starts.
    StepStarted {
        /// The vertex.
        vertex: VertexId,
        /// The platforms that it serves.
        platforms: Vec<Platform>,
        /// The instruction.
        origin: Origin,
        /// Why it is not cached.
        reason: MissReason,
        /// How it runs.
        way: Way,
    },
    /// A line of output.
    StepLog {
        /// The vertex.
        vertex: VertexId,
        /// The platforms that it serves.
        platforms: Vec<Platform>,
        /// Whether it was written to standard error.
        stderr: bool,
        /// The line, without its end.
        line: String,
    },
    /// A step was found as a checkpoint.
    StepCached {
        /// The vertex.
        vertex: VertexId,
        /// The platforms that it serves.
        platforms: Vec<Platform>,
        /// The instruction.
        origin: Origin,
    },
    /// A step ended well.
    StepFinished {
        /// The vertex.
        vertex: VertexId,
        /// The platforms that it serves.
        platforms: Vec<Platform>,
        /// From start to end, transfer included.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        took: Duration,
    },
    /// A step failed; the error follows at the end.
    StepFailed {
        /// The vertex.
        vertex: VertexId,
        /// The platforms that it serves.
        platforms: Vec<Platform>,
        /// The instruction.
        origin: Origin,
        /// From start to end.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        took: Duration,
    },
    /// A target goes on after its steps.
    TargetStage {
        /// Its platform.
        platform: Platform,
        /// What it does now.
        stage: Stage,
    },
    /// A target is done.
    TargetFinished {
        /// All about it.
        report: Box<TargetReport>,
    },
    /// Something was made of all targets together.
    Exported {
        /// What, and where it is.
        #[serde(flatten)]
        exported: crate::image::Exported,
    },
    /// A target failed.
    TargetFailed {
        /// Its platform.
        platform: Platform,
        /// The error in one line.
        error: String,
    },
}

/// What the plan says about one target.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedTarget {
    /// Its platform.
    pub platform: Platform,
    /// How its steps run.
    pub way: Way,
    /// Steps that will run.
    pub to_run: usize,
    /// Steps whose result is there.
    pub cached: usize,
    /// Whether the exported files themselves are there and nothing needs doing.
    pub up_to_date: bool,
}

/// Where events go. Sending waits when the consumer is slow, so the volume of logs in memory is bounded.
pub type EventSender = tokio::sync::mpsc::Sender<BuildEvent>;

pub(crate) fn seconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((took.as_secs_f64() * 1000.0).round() / 1000.0)
}
