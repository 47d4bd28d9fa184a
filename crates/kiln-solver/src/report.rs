//! What a build leaves behind: files, sums, times and why each step ran.

use std::path::PathBuf;
use std::time::Duration;

use kiln_graph::{MissReason, Platform};
use serde::{Deserialize, Serialize};

use crate::event::{Way, seconds};

/// One exported file or folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArtifactReport {
    /// Where it was placed.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal; none for folders.
    pub sha256: Option<String>,
    /// What a machine must have to run it: `glibc >= 2.36`, `musl loader`, ...
    pub needs: Option<String>,
    /// How the smoke run went: `--version: hello 1.0`.
    pub smoke: Option<String>,
}

/// Compiler cache statistics of one build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CcacheStats {
    /// Compilations answered from the cache.
    pub hits: u64,
    /// Compilations that ran.
    pub misses: u64,
    /// Of the hits, those that came from storage that caches share.
    #[serde(default)]
    pub remote_hits: u64,
    /// Times that such storage could not be reached, or did not answer in time.
    #[serde(default)]
    pub remote_errors: u64,
}

impl CcacheStats {
    /// Hits among cacheable calls, 0 to 100.
    pub fn hit_percent(&self) -> Option<f64> {
        let all = self.hits + self.misses;
        #[expect(clippy::cast_precision_loss, reason = "counts of compiler calls are far below 2^52")]
        (all > 0).then(|| 100.0 * self.hits as f64 / all as f64)
    }
}

/// What became of one target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetReport {
    /// Name of the target.
    pub target: String,
    /// Its platform.
    pub platform: Platform,
    /// How its steps ran.
    pub way: Way,
    /// Wall time from the start of the build to the placed file, in seconds.
    #[serde(rename = "seconds", serialize_with = "seconds", deserialize_with = "from_seconds")]
    pub took: Duration,
    /// Steps that ran.
    pub ran: usize,
    /// Steps that were cached.
    pub cached: usize,
    /// Time inside containers, in seconds.
    #[serde(rename = "container_seconds", serialize_with = "seconds", deserialize_with = "from_seconds")]
    pub in_containers: Duration,
    /// Whether the files were there already.
    pub up_to_date: bool,
    /// The files.
    pub artifacts: Vec<ArtifactReport>,
    /// Compiler cache statistics, if the recipe reports them.
    pub ccache: Option<CcacheStats>,
    /// The image that was made, if one was asked for.
    pub image: Option<String>,
    /// Every step in order.
    pub steps: Vec<StepReport>,
}

/// What became of one step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepReport {
    /// The instruction.
    pub text: String,
    /// Its stage.
    pub stage: String,
    /// Whether it was cached.
    pub cached: bool,
    /// Why it was not.
    pub reason: Option<MissReason>,
    /// How long it took, in seconds.
    #[serde(rename = "seconds", serialize_with = "seconds", deserialize_with = "from_seconds")]
    pub took: Duration,
}

fn from_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
}
