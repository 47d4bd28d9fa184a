//! What remains of the events when the build is over.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kiln_graph::{Origin, Platform};
use kiln_history::record::Step;
use kiln_solver::image::Exported;
use kiln_solver::{BuildEvent, PlannedTarget, TargetReport};

use super::choose::Progress;
use super::recorder::Recorder;
use super::summary::{Outcome, TargetRow};

/// What a build said on its way.
#[derive(Clone, Debug)]
pub(crate) struct Collected {
    /// How it was shown: never `Auto`.
    pub(crate) progress: Progress,
    /// Id of the build; empty if it never got as far as a plan.
    pub(crate) build: String,
    /// The plan, in the order of the targets.
    pub(crate) planned: Vec<PlannedTarget>,
    /// Targets that are done, in the order of their ends.
    pub(crate) finished: Vec<TargetReport>,
    /// What was made of all targets together.
    pub(crate) exported: Vec<Exported>,
    /// Targets that failed, in the order of their ends.
    pub(crate) failed: Vec<FailedTarget>,
    /// Notices, warnings of the reporter included.
    pub(crate) notices: Vec<(Option<Platform>, String)>,
    /// The full logs that were written.
    pub(crate) logs: BTreeMap<Platform, PathBuf>,
    /// From the start to the last event.
    pub(crate) took: Duration,
    /// The steps, as the history remembers them.
    pub(crate) steps: Vec<Step>,
    notes: Vec<(Platform, String)>,
    failed_steps: BTreeMap<Platform, Origin>,
    recorder: Recorder,
}

/// A target that failed.
#[derive(Clone, Debug)]
pub(crate) struct FailedTarget {
    /// Its platform.
    pub(crate) platform: Platform,
    /// The error in one line.
    pub(crate) error: String,
    /// The instruction that failed, if it was one.
    pub(crate) step: Option<Origin>,
    /// From the start of the build.
    pub(crate) took: Duration,
}

impl Collected {
    pub(crate) fn new(progress: Progress, notes: Vec<(Platform, String)>) -> Self {
        Self {
            progress,
            build: String::new(),
            planned: Vec::new(),
            finished: Vec::new(),
            exported: Vec::new(),
            failed: Vec::new(),
            notices: Vec::new(),
            logs: BTreeMap::new(),
            took: Duration::ZERO,
            steps: Vec::new(),
            notes,
            failed_steps: BTreeMap::new(),
            recorder: Recorder::default(),
        }
    }

    pub(crate) fn event(&mut self, at: Duration, event: BuildEvent) {
        self.took = at;
        self.recorder.event(at, &event);
        match event {
            BuildEvent::Planned { build, targets } => {
                self.build = build;
                self.planned = targets;
            }
            BuildEvent::Notice { platform, text } => self.notices.push((platform, text)),
            BuildEvent::StepFailed { platforms, origin, .. } => {
                for platform in platforms {
                    self.failed_steps.entry(platform).or_insert_with(|| origin.clone());
                }
            }
            BuildEvent::Exported { exported } => self.exported.push(exported),
            BuildEvent::TargetFinished { report } => self.finished.push(*report),
            BuildEvent::TargetFailed { platform, error } => {
                let step = self.failed_steps.get(&platform).cloned();
                self.failed.push(FailedTarget { platform, error, step, took: at });
            }
            BuildEvent::Travelling { .. }
            | BuildEvent::StepStarted { .. }
            | BuildEvent::StepLog { .. }
            | BuildEvent::StepCached { .. }
            | BuildEvent::StepFinished { .. }
            | BuildEvent::TargetStage { .. } => {}
        }
    }

    /// Takes note that there are no more events.
    pub(crate) fn finish(&mut self, at: Duration) {
        self.took = at;
        self.steps = std::mem::take(&mut self.recorder).finish(at);
    }

    /// The policy of a platform.
    pub(crate) fn note(&self, platform: Platform) -> Option<String> {
        self.notes.iter().find(|(of, _)| *of == platform).map(|(_, note)| note.clone())
    }

    /// The rows of the summary, in the order of the plan.
    pub(crate) fn rows(&self) -> Vec<TargetRow> {
        let mut finished: Vec<&TargetReport> = self.finished.iter().collect();
        let mut failed: Vec<&FailedTarget> = self.failed.iter().collect();
        let mut rows: Vec<TargetRow> = self
            .planned
            .iter()
            .map(|planned| {
                // Several targets of one platform end in their own order; the plan does not name them.
                if let Some(index) = finished.iter().position(|report| report.platform == planned.platform) {
                    return TargetRow::finished(finished.remove(index));
                }
                let failure = failed.iter().position(|failure| failure.platform == planned.platform);
                let (outcome, took) = match failure.map(|index| failed.remove(index)) {
                    Some(failure) if super::is_stop(&failure.error) => (Outcome::Stopped, failure.took),
                    Some(failure) => {
                        let at = failure.step.as_ref();
                        let at = at.map_or_else(
                            || format!(": {}", failure.error),
                            |step| format!(" at {}", super::step_name(step)),
                        );
                        (Outcome::Failed { at }, failure.took)
                    }
                    None => (Outcome::Stopped, self.took),
                };
                TargetRow::ended(planned, outcome, took)
            })
            .collect();
        for row in &mut rows {
            row.note = self.note(row.platform);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::script;

    #[test]
    fn rows_are_in_the_order_of_the_plan() {
        let notes = vec![(script::ARM64, "lto=no jobs=2".to_owned())];
        let mut collected = Collected::new(Progress::Plain, notes);
        for (at, event) in script::failing() {
            collected.event(at, event);
        }
        let rows = collected.rows();
        let platforms: Vec<Platform> = rows.iter().map(|row| row.platform).collect();
        assert_eq!(platforms, [script::AMD64, script::I386, script::ARM64]);
        assert!(matches!(rows[0].outcome, Outcome::Built));
        assert!(matches!(&rows[1].outcome, Outcome::Failed { at } if at.contains("pip install")), "{:?}", rows[1]);
        assert_eq!(rows[2].note.as_deref(), Some("lto=no jobs=2"));
        assert_eq!(collected.failed.len(), 1);
        assert_eq!(collected.build, "b1");
    }

    #[test]
    fn a_target_without_an_end_was_stopped() {
        let mut collected = Collected::new(Progress::Plain, vec![]);
        for (at, event) in script::failing().into_iter().take(4) {
            collected.event(at, event);
        }
        assert!(collected.rows().iter().all(|row| matches!(row.outcome, Outcome::Stopped)));
    }
}
