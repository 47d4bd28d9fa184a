//! Steps as the history remembers them: when each began, what it did in which time, how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_graph::VertexId;
use kiln_history::record::{Outcome, Phase, Step};
use kiln_solver::BuildEvent;

use crate::phase::PhaseTracker;

/// Phases shorter than this are noise, in seconds.
const SHORTEST_PHASE: f64 = 0.05;

/// Collects the steps of a build.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder {
    cached: Vec<Step>,
    ran: Vec<Step>,
    running: BTreeMap<VertexId, Running>,
}

/// A step that runs.
#[derive(Clone, Debug)]
struct Running {
    /// Its place among those that ran.
    index: usize,
    tracker: PhaseTracker,
    /// What it does now, and since when.
    phase: Option<(String, Duration)>,
}

impl Recorder {
    pub(super) fn event(&mut self, at: Duration, event: &BuildEvent) {
        match event {
            BuildEvent::StepCached { platforms, origin, .. } => {
                self.cached.push(Step { cached: true, ..step(origin, platforms) });
            }
            BuildEvent::StepStarted { vertex, platforms, origin, reason, way } => {
                let running = Running { index: self.ran.len(), tracker: PhaseTracker::default(), phase: None };
                self.ran.push(Step {
                    way: way.to_string(),
                    reason: reason.to_string(),
                    // Until it ends: a build that is stopped leaves it so.
                    outcome: Outcome::Stopped,
                    start: seconds(at),
                    ..step(origin, platforms)
                });
                // A step that is tried again, emulated, begins anew.
                self.running.insert(*vertex, running);
            }
            BuildEvent::StepLog { vertex, line, .. } => {
                let Some(running) = self.running.get_mut(vertex) else { return };
                let Some(phase) = running.tracker.line(line) else { return };
                if running.phase.as_ref().is_none_or(|(name, _)| name != phase.name()) {
                    let ended = running.phase.replace((phase.name().to_owned(), at));
                    add_phase(&mut self.ran[running.index], ended, at);
                }
            }
            BuildEvent::StepFinished { vertex, took, .. } => self.end(*vertex, at, *took, Outcome::Done),
            BuildEvent::StepFailed { vertex, took, .. } => self.end(*vertex, at, *took, Outcome::Failed),
            _ => {}
        }
    }

    fn end(&mut self, vertex: VertexId, at: Duration, took: Duration, outcome: Outcome) {
        let Some(mut running) = self.running.remove(&vertex) else { return };
        let step = &mut self.ran[running.index];
        (step.seconds, step.outcome) = (seconds(took), outcome);
        add_phase(step, running.phase.take(), at);
    }

    /// The steps, those that were cached first; `at` is the end of the build.
    pub(super) fn finish(mut self, at: Duration) -> Vec<Step> {
        for (_, mut running) in std::mem::take(&mut self.running) {
            let step = &mut self.ran[running.index];
            step.seconds = (seconds(at) - step.start).max(0.0);
            add_phase(step, running.phase.take(), at);
        }
        self.cached.into_iter().chain(self.ran).collect()
    }
}

fn step(origin: &kiln_graph::Origin, platforms: &[kiln_graph::Platform]) -> Step {
    Step {
        platforms: platforms.to_vec(),
        stage: origin.stage.clone(),
        place: origin.step,
        text: super::text::short_instruction(&origin.text),
        file: origin.file.clone(),
        line: origin.line,
        ..Step::default()
    }
}

/// Adds a phase that ended; what comes back to one of before goes on with it.
fn add_phase(step: &mut Step, phase: Option<(String, Duration)>, at: Duration) {
    let Some((name, since)) = phase else { return };
    let took = seconds(at.saturating_sub(since));
    match step.phases.iter_mut().find(|phase| phase.name == name) {
        Some(phase) => phase.seconds = rounded(phase.seconds + took),
        None if took < SHORTEST_PHASE => {}
        None => step.phases.push(Phase { name, seconds: took }),
    }
}

/// Seconds, to the millisecond.
pub(crate) fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64())
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::script;

    fn steps(until: usize) -> Vec<Step> {
        let mut recorder = Recorder::default();
        let mut last = Duration::ZERO;
        for (at, event) in script::failing().into_iter().take(until) {
            recorder.event(at, &event);
            last = at;
        }
        recorder.finish(last)
    }

    #[test]
    fn steps_have_times_phases_and_ends() {
        let steps = steps(usize::MAX);
        let cached = steps.iter().filter(|step| step.cached).count();
        assert_eq!((cached, steps.len()), (2, 9));
        let of = |platform, place| {
            steps.iter().find(|step| step.platforms == [platform] && step.place == place).expect("it ran")
        };
        let failed = of(script::I386, 4);
        assert_eq!((failed.outcome, failed.seconds), (Outcome::Failed, 1.2));
        let compile = of(script::ARM64, 5);
        assert_eq!((compile.way.as_str(), compile.outcome, compile.start), ("qemu", Outcome::Done, 6.2));
        assert_eq!(compile.reason, "files of . changed: main.py");
        let names: Vec<&str> = compile.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(names, ["Python", "generating C", "C compile", "link", "payload", "bootstrap"]);
        let all: f64 = compile.phases.iter().map(|phase| phase.seconds).sum();
        assert!(all <= compile.seconds && all > 0.9 * compile.seconds, "{all} of {}", compile.seconds);
    }

    #[test]
    fn a_step_that_has_not_ended_was_stopped() {
        let steps = steps(8);
        let running: Vec<&Step> =
            steps.iter().filter(|step| !step.cached && step.outcome == Outcome::Stopped).collect();
        assert!(!running.is_empty() && running.iter().all(|step| step.seconds >= 0.0), "{steps:?}");
    }
}
