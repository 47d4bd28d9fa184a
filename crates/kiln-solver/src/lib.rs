//! Scheduling and execution of a build graph on a daemon.
//!
//! A caller makes a [`BuildRequest`], lets [`Plan::make`] compare it with what the daemon has, and hands the plan to
//! [`run`]. What happens on the way is told as [`BuildEvent`]s. The solver knows no Dockerfile: anything that lowers to
//! a `BuildGraph` can be built.

mod archive;
mod arrival;
mod bulk;
mod cancel;
mod chain;
mod container;
pub mod context;
mod dispatch;
mod error;
mod event;
mod failed;
mod finish;
mod furnish;
pub mod image;
mod keys;
mod laid;
mod network;
mod output;
mod pattern;
mod plan;
mod record;
mod removal;
mod report;
mod request;
mod salvage;
mod secret;
mod shared;
mod smoke;
mod snapshot;
mod step;
mod store;
mod stubs;
mod tidy;
pub mod travel;
pub mod trial;
mod twin;
mod volumes;

pub use cancel::Cancel;
pub use dispatch::{BuildOutcome, run};
pub use error::{Result, Searched, SolveError, file_hint};
pub use event::{BuildEvent, Direction, EventSender, PlannedTarget, Stage, Transfer, Way};
pub use failed::Failed;
pub use plan::{Action, Plan};
pub use record::{LastBuild, last_builds, last_reports};
pub use removal::remove_replaced;
pub use report::{ArtifactReport, CcacheStats, StepReport, TargetReport};
pub use request::{BuildRequest, FilesOutput, Group, Output, RunSettings, Salvage, Smoke, SmokeCommand, StepSettings};
pub use secret::Secret;
