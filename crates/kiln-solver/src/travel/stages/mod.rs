//! Checkpoints: the layers that they add to a base image which every machine can pull.
//!
//! A tree has `layers/SHA256` (a layer as a tar archive; its name is what the daemon calls its diff id) and
//! `checkpoints/KEY` (JSON: which image it is). A checkpoint is brought only if that is likely to be quicker than running
//! what it stands for.

mod bring;
mod take;

use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::{Digest, Op, Platform, Source, VertexId};
use serde::{Deserialize, Serialize};

pub(super) use bring::{Stock, bring};
pub(super) use take::take;

use super::{Found, Guide, Mode, Remote, Times, add, bytes, now, seconds};
use crate::plan::Plan;

/// What is known of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Checkpoint {
    /// Its labels.
    labels: BTreeMap<String, String>,
    /// Platform of the image.
    platform: Platform,
    /// Digests of all its layers, those of the base image too, lowest first.
    layers: Vec<String>,
    /// What a daemon says of its past, as an image configuration has it.
    history: Vec<serde_json::Value>,
    /// How long all commands took that it stands for, in seconds; 0 where nobody knows.
    seconds: f64,
}

/// The checkpoints that a build can make.
#[derive(Clone, Debug)]
pub(crate) struct Cargo {
    job: String,
    steps: Vec<Step>,
    /// Base images.
    bases: Vec<String>,
}

/// A vertex that may have a checkpoint.
#[derive(Clone, Debug)]
struct Step {
    key: String,
    /// The keys of all that it needs, itself included.
    needs: Vec<String>,
    /// Whether a target needs it, and not only its twin.
    main: bool,
}

impl Cargo {
    pub(crate) fn of(plan: &Plan) -> Self {
        let graph = plan.graph();
        let (mut main, mut all): (BTreeSet<VertexId>, BTreeSet<VertexId>) = Default::default();
        for target in &graph.targets {
            main.extend(plan.steps_of(target.root));
            all.extend(plan.helps(target.root));
        }
        let steps = all.iter().filter(|id| !matches!(graph.vertex(**id).op, Op::Source(_))).map(|id| Step {
            key: plan.key(*id).to_string(),
            needs: plan.steps_of(*id).into_iter().map(|id| plan.key(id).to_string()).collect(),
            main: main.contains(id),
        });
        Self { job: job_of(plan), steps: steps.collect(), bases: bases(plan).collect() }
    }
}

/// The base images of a build.
fn bases(plan: &Plan) -> impl Iterator<Item = String> {
    plan.graph().iter().filter_map(|(_, vertex)| match &vertex.op {
        Op::Source(Source::Image { id, .. }) => Some(id.clone()),
        _ => None,
    })
}

/// What tells the builds of a project apart: what they build, and for whom.
fn job_of(plan: &Plan) -> String {
    let targets = plan.graph().targets.iter().map(|target| format!("{} {}", target.name, target.platform));
    let mut all: Vec<String> = targets.collect();
    all.sort();
    let platforms: Vec<String> =
        plan.graph().targets.iter().map(|target| target.platform.to_string().replace('/', "-")).collect();
    let readable = if all.len() == 1 { platforms.concat() } else { format!("{}-targets", all.len()) };
    format!("{readable}-{}", &Digest::of(all.join("\n")).short()[..8])
}

fn layer_path(diff_id: &str) -> String {
    format!("layers/{}", diff_id.trim_start_matches("sha256:"))
}

fn checkpoint_path(key: &str) -> String {
    format!("checkpoints/{key}")
}
