//! Two builds side by side: what took how long in each, and what ran in one alone.

use kiln_graph::Platform;
use serde::Serialize;

use crate::record::{Record, Step, Target};

/// Two builds side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Id of the first.
    pub a: String,
    /// Id of the second.
    pub b: String,
    /// Seconds of each as a whole.
    pub seconds: (f64, f64),
    /// The targets of both, in the order of the first, those of the second alone behind them.
    pub targets: Vec<TargetPair>,
}

/// One target in two builds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetPair {
    /// Its name.
    pub name: String,
    /// Its platform.
    pub platform: Platform,
    /// What both say about it; nothing on a side that did not build it.
    pub sides: (Option<Side>, Option<Side>),
    /// Whether both made the same files, by SHA-256; nothing where one has none.
    pub same_files: Option<bool>,
    /// Steps that ran in one at least, those with the largest difference first.
    pub steps: Vec<StepPair>,
}

/// What one build says about a target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// How it ran.
    pub way: String,
    /// How it ended.
    pub outcome: crate::record::Outcome,
    /// From the start of the build to its end.
    pub seconds: f64,
    /// Steps that ran.
    pub ran: usize,
    /// Steps that were cached.
    pub cached: usize,
    /// Hits of the compiler cache, 0 to 100.
    pub ccache_percent: Option<f64>,
    /// Bytes of its files.
    pub bytes: u64,
}

/// One step in two builds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepPair {
    /// Its stage and place.
    pub name: String,
    /// The instruction, of the second build where it has it.
    pub text: String,
    /// Seconds in each; nothing where it did not run.
    pub seconds: (Option<f64>, Option<f64>),
    /// Why it ran in each.
    pub reasons: (Option<String>, Option<String>),
    /// Parts that take a second more or less, with the seconds in each.
    pub phases: Vec<(String, f64, f64)>,
}

/// Seconds from which on a difference in a part of a step is worth a line.
const WORTH_SHOWING: f64 = 1.0;

impl Comparison {
    /// Compares two builds.
    pub fn of(a: &Record, b: &Record) -> Self {
        let mut wanted: Vec<(&str, Platform)> = Vec::new();
        for target in a.targets.iter().chain(&b.targets) {
            let key = (target.name.as_str(), target.platform);
            if !wanted.contains(&key) {
                wanted.push(key);
            }
        }
        let targets = wanted.into_iter().map(|(name, platform)| pair((a, b), name, platform)).collect();
        Self { a: a.id.clone(), b: b.id.clone(), seconds: (a.seconds, b.seconds), targets }
    }
}

fn pair((a, b): (&Record, &Record), name: &str, platform: Platform) -> TargetPair {
    let find = |record: &'_ Record| {
        record.targets.iter().find(|target| target.name == name && target.platform == platform).cloned()
    };
    let (of_a, of_b) = (find(a), find(b));
    let sums = |target: &Target| {
        let sums: Option<Vec<String>> = target.artifacts.iter().map(|artifact| artifact.sha256.clone()).collect();
        sums.filter(|sums| !sums.is_empty())
    };
    let both = of_a.as_ref().and_then(sums).zip(of_b.as_ref().and_then(sums));
    let (steps_a, steps_b) = (ran(a, platform), ran(b, platform));
    let mut names: Vec<String> = Vec::new();
    for step in steps_a.iter().chain(&steps_b) {
        let name = step.name();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut steps: Vec<StepPair> = names
        .into_iter()
        .filter_map(|name| {
            let find = |steps: &[&Step]| steps.iter().copied().find(|step| step.name() == name).cloned();
            step_pair(&name, find(&steps_a).as_ref(), find(&steps_b).as_ref())
        })
        .collect();
    let difference = |pair: &StepPair| (pair.seconds.1.unwrap_or(0.0) - pair.seconds.0.unwrap_or(0.0)).abs();
    steps.sort_by(|x, y| difference(y).total_cmp(&difference(x)));
    TargetPair {
        name: name.to_owned(),
        platform,
        same_files: both.map(|(a, b)| a == b),
        sides: (of_a.as_ref().map(Side::of), of_b.as_ref().map(Side::of)),
        steps,
    }
}

fn ran(record: &Record, platform: Platform) -> Vec<&Step> {
    record.steps_of(platform).filter(|step| !step.cached).collect()
}

fn step_pair(name: &str, a: Option<&Step>, b: Option<&Step>) -> Option<StepPair> {
    let reason = |step: Option<&Step>| step.map(|step| step.reason.clone()).filter(|reason| !reason.is_empty());
    Some(StepPair {
        name: name.to_owned(),
        text: b.or(a)?.text.clone(),
        seconds: (a.map(|step| step.seconds), b.map(|step| step.seconds)),
        reasons: (reason(a), reason(b)),
        phases: a.zip(b).map(|(a, b)| phases(a, b)).unwrap_or_default(),
    })
}

fn phases(a: &Step, b: &Step) -> Vec<(String, f64, f64)> {
    let seconds = |step: &Step, name: &str| {
        step.phases.iter().filter(|phase| phase.name == name).map(|phase| phase.seconds).sum::<f64>()
    };
    let mut pairs: Vec<(String, f64, f64)> = Vec::new();
    for phase in a.phases.iter().chain(&b.phases) {
        if !pairs.iter().any(|(name, ..)| *name == phase.name) {
            pairs.push((phase.name.clone(), seconds(a, &phase.name), seconds(b, &phase.name)));
        }
    }
    pairs.retain(|(_, a, b)| (b - a).abs() >= WORTH_SHOWING);
    pairs.sort_by(|x, y| (y.2 - y.1).abs().total_cmp(&(x.2 - x.1).abs()));
    pairs
}

impl Side {
    fn of(target: &Target) -> Self {
        Self {
            way: target.way.clone(),
            outcome: target.outcome,
            seconds: target.seconds,
            ran: target.ran,
            cached: target.cached,
            ccache_percent: target.ccache.and_then(crate::record::Ccache::percent),
            bytes: target.size(),
        }
    }
}
