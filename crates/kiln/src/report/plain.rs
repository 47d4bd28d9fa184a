//! Prefixed lines, for logs of CI: every line says its platform, whole lines of several platforms alternate.
//!
//! Where the CI service can fold lines, those of a step become a fold when it ends: steps run at the same time, and folds
//! cannot interleave. Meanwhile each step shows its newest line now and then.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use kiln_graph::{Platform, VertexId};
use kiln_solver::{BuildEvent, Stage};

use super::ci::Folds;
use super::text::{clock, duration, harmless, one_line, short_instruction};
use super::{is_stop, stage_name, step_place, transfer_text};

/// A step that says nothing but its progress does so after this time without a line: services end silent builds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Lines of a fold at most; a step with more has several.
const FOLDED: usize = 10_000;

/// The plain reporter.
pub(super) struct Plain<W> {
    out: W,
    notes: Vec<(Platform, String)>,
    running: BTreeMap<VertexId, Running>,
    folds: Option<Folds>,
    /// Folds that were written.
    folded: usize,
    /// When it was last said how far caches are on their way.
    travelled: Option<Duration>,
}

struct Running {
    platforms: Vec<Platform>,
    place: String,
    /// What it runs.
    text: String,
    /// When its lines in `kept` began.
    since: Duration,
    /// When its last line was written.
    spoke: Duration,
    /// Lines for its next fold.
    kept: Vec<String>,
    /// The newest line, if it was not shown yet and the rest waits for a fold.
    newest: Option<String>,
}

impl<W: Write> Plain<W> {
    /// A reporter that writes to `out`; `notes` are shown with the plan.
    pub(super) fn new(out: W, notes: Vec<(Platform, String)>) -> Self {
        Self { out, notes, running: BTreeMap::new(), folds: None, folded: 0, travelled: None }
    }

    /// The same with folds, if there is somebody who reads them.
    pub(super) fn folding(self, folds: Option<Folds>) -> Self {
        Self { folds, ..self }
    }

    /// Writes what an event says.
    pub(super) fn event(&mut self, at: Duration, event: &BuildEvent) -> io::Result<()> {
        match event {
            BuildEvent::Planned { targets, .. } => {
                for target in targets {
                    let note = self.notes.iter().find(|(platform, _)| *platform == target.platform);
                    let note = note.map(|(_, note)| format!("; {}", one_line(note))).unwrap_or_default();
                    let work = if target.up_to_date {
                        "up to date".to_owned()
                    } else {
                        format!("{}, {} to run, {} cached", target.way, target.to_run, target.cached)
                    };
                    writeln!(self.out, "[{}] plan: {work}{note}", target.platform)?;
                }
                Ok(())
            }
            BuildEvent::Notice { platform, text } => match platform {
                Some(platform) => writeln!(self.out, "[{platform}] note: {}", one_line(text)),
                None => writeln!(self.out, "note: {}", one_line(text)),
            },
            BuildEvent::Travelling { transfer, ended } => {
                let spoke = *self.travelled.get_or_insert(at);
                if *ended {
                    self.travelled = None;
                } else if at.saturating_sub(spoke) >= KEEP_ALIVE {
                    self.travelled = Some(at);
                    return writeln!(self.out, "{:>6} {}", clock(at), transfer_text(transfer));
                }
                Ok(())
            }
            BuildEvent::StepStarted { vertex, platforms, origin, reason, .. } => {
                // It may be a second attempt.
                self.fold(*vertex, at, "tried")?;
                let running = Running {
                    platforms: platforms.clone(),
                    place: step_place(origin),
                    text: short_instruction(&origin.text),
                    since: at,
                    spoke: at,
                    kept: Vec::new(),
                    newest: None,
                };
                self.running.insert(*vertex, running);
                let also = match platforms.get(1..).unwrap_or_default() {
                    [] => String::new(),
                    others => {
                        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
                        format!("; also for {}", others.join(", "))
                    }
                };
                let text = one_line(&origin.text);
                let reason = one_line(&reason.to_string());
                writeln!(self.out, "{} step {} {text} (why: {reason}{also})", prefix(platforms), step_place(origin))
            }
            BuildEvent::StepLog { vertex, line, .. } if self.folds.is_some() => self.keep(*vertex, at, line),
            BuildEvent::StepLog { vertex, platforms, line, .. } => {
                let tag = self.tag(*vertex, platforms);
                if let Some(running) = self.running.get_mut(vertex) {
                    if line.starts_with("kiln: phase: ") && at.saturating_sub(running.spoke) < KEEP_ALIVE {
                        return Ok(());
                    }
                    running.spoke = at;
                }
                writeln!(self.out, "{} {:>6} {tag}{}", prefix(platforms), clock(at), harmless(line))
            }
            BuildEvent::StepCached { platforms, origin, .. } => {
                writeln!(self.out, "{} cached {} {}", prefix(platforms), step_place(origin), one_line(&origin.text))
            }
            BuildEvent::StepFinished { vertex, platforms, took } => {
                if self.fold(*vertex, at, &format!("done in {}:", duration(*took)))? {
                    return Ok(());
                }
                let place = self.running.remove(vertex).map(|running| running.place).unwrap_or_default();
                writeln!(self.out, "{} done {place} in {}", prefix(platforms), duration(*took))
            }
            BuildEvent::StepFailed { vertex, platforms, origin, took } => {
                if self.fold(*vertex, at, &format!("failed after {}:", duration(*took)))? {
                    return Ok(());
                }
                self.running.remove(vertex);
                writeln!(self.out, "{} failed {} after {}", prefix(platforms), step_place(origin), duration(*took))
            }
            // A moment later the target is finished.
            BuildEvent::TargetStage { stage: Stage::Place, .. } | BuildEvent::Exported { .. } => Ok(()),
            BuildEvent::TargetStage { platform, stage } => {
                writeln!(self.out, "[{platform}] {:>6} {}", clock(at), stage_name(*stage))
            }
            BuildEvent::TargetFinished { report } => {
                let end = if report.up_to_date { "up to date" } else { "finished" };
                writeln!(self.out, "[{}] {end} after {}", report.platform, duration(report.took))
            }
            BuildEvent::TargetFailed { platform, error } if is_stop(error) => {
                writeln!(self.out, "[{platform}] stopped after {}", duration(at))
            }
            BuildEvent::TargetFailed { platform, error } => {
                writeln!(self.out, "[{platform}] failed after {}: {}", duration(at), one_line(error))
            }
        }
    }

    /// Makes sure that what was written is seen, and that steps whose lines wait for a fold are not silent for long.
    pub(super) fn flush(&mut self, at: Duration) -> io::Result<()> {
        let Self { out, running, folds, .. } = self;
        for running in running.values_mut().filter(|running| at.saturating_sub(running.spoke) >= KEEP_ALIVE) {
            if let (Some(line), Some(folds)) = (running.newest.take(), folds.as_ref()) {
                running.spoke = at;
                let Running { platforms, place, .. } = &*running;
                writeln!(out, "{} {:>6} {place}: {}", prefix(platforms), clock(at), folds.plain(&line))?;
            }
        }
        out.flush()
    }

    /// Writes what still waits for a fold.
    pub(super) fn finish(&mut self, at: Duration) -> io::Result<()> {
        let left: Vec<VertexId> = self.running.keys().copied().collect();
        for vertex in left {
            self.fold(vertex, at, "stopped:")?;
        }
        self.out.flush()
    }

    /// Keeps a line for the fold of its step.
    fn keep(&mut self, vertex: VertexId, at: Duration, line: &str) -> io::Result<()> {
        let Some(running) = self.running.get_mut(&vertex) else { return Ok(()) };
        let clean = harmless(line);
        if !line.starts_with("kiln: phase: ") {
            running.kept.push(format!("{:>6} {clean}", clock(at)));
        }
        running.newest = Some(clean.into_owned());
        if running.kept.len() < FOLDED {
            return Ok(());
        }
        self.write_fold(vertex, at, "goes on:")
    }

    /// Forgets a step and writes its fold; false if it has said nothing that was kept.
    fn fold(&mut self, vertex: VertexId, at: Duration, how: &str) -> io::Result<bool> {
        let is_worth_one = self.folds.is_some() && self.running.get(&vertex).is_some_and(|r| !r.kept.is_empty());
        if is_worth_one {
            self.write_fold(vertex, at, how)?;
            self.running.remove(&vertex);
        }
        Ok(is_worth_one)
    }

    /// Writes what a step has said since its last fold.
    fn write_fold(&mut self, vertex: VertexId, at: Duration, how: &str) -> io::Result<()> {
        let (Some(running), Some(folds)) = (self.running.get_mut(&vertex), self.folds) else { return Ok(()) };
        let lines = std::mem::take(&mut running.kept);
        let Running { platforms, place, text, since, .. } = &*running;
        let title = format!("{} {how} {place} {text}", prefix(platforms));
        self.folded += 1;
        let span = (*since, at);
        running.since = at;
        folds.write(&mut self.out, &title, self.folded, span, &lines)
    }

    /// Names the stage when several steps of the platform run at once.
    fn tag(&self, vertex: VertexId, platforms: &[Platform]) -> String {
        let at_once = self.running.values().filter(|r| r.platforms.first() == platforms.first()).count();
        match self.running.get(&vertex) {
            Some(running) if at_once > 1 => format!("{}: ", running.place),
            _ => String::new(),
        }
    }
}

/// What several platforms share is told by the first of them.
fn prefix(platforms: &[Platform]) -> String {
    platforms.first().map(|platform| format!("[{platform}]")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ci::Service;
    use crate::report::script;
    use kiln_solver::Direction;

    fn written(events: Vec<script::Timed>) -> String {
        let mut plain = Plain::new(Vec::new(), vec![(script::ARM64, "lto=no jobs=2".to_owned())]);
        for (at, event) in events {
            plain.event(at, &event).unwrap();
        }
        String::from_utf8(plain.out).unwrap()
    }

    #[test]
    fn a_build_as_a_log_with_folds() {
        let folds = Folds { service: Service::Github, began: Duration::ZERO };
        let mut plain = Plain::new(Vec::new(), vec![]).folding(Some(folds));
        let mut last = Duration::ZERO;
        for (at, event) in script::failing() {
            plain.flush(at).unwrap();
            plain.event(at, &event).unwrap();
            last = at;
        }
        plain.finish(last).unwrap();
        let text = String::from_utf8(plain.out).unwrap();
        insta::assert_snapshot!("plain_folds", text);
        // Nothing is lost, and no fold begins inside of another.
        let mut open = false;
        for line in text.lines() {
            match line.split("::").nth(1) {
                Some("group") => assert!(!std::mem::replace(&mut open, true), "{text}"),
                Some("endgroup") => assert!(std::mem::replace(&mut open, false), "{text}"),
                _ => {}
            }
        }
        assert!(!open);
        for (_, event) in script::failing() {
            if let BuildEvent::StepLog { line, .. } = event
                && !line.starts_with("kiln: phase:")
            {
                assert!(text.contains(&*harmless(&line)), "{line}");
            }
        }
    }

    #[test]
    fn caches_on_their_way_are_a_line_now_and_then() {
        let moved = (0..40_u32).map(|second| {
            let event =
                script::travelling(Direction::Restoring, u64::from(second) * 1_000_000, Some(40_000_000), false);
            (Duration::from_secs(second.into()), event)
        });
        let end = script::travelling(Direction::Restoring, 40_000_000, Some(40_000_000), true);
        let again = script::travelling(Direction::Saving, 0, None, false);
        let late = [(40, end), (41, again)].map(|(second, event)| (Duration::from_secs(second), event));
        let expected = "  0:15 restoring 15.0 MB of 40.0 MB from s3://caches/kiln\n  \
                        0:30 restoring 30.0 MB of 40.0 MB from s3://caches/kiln\n";
        assert_eq!(written(moved.chain(late).collect()), expected);
    }

    #[test]
    fn a_step_that_is_folded_shows_that_it_lives_and_what_it_said_when_it_is_stopped() {
        let folds = Folds { service: Service::Github, began: Duration::ZERO };
        let mut plain = Plain::new(Vec::new(), vec![]).folding(Some(folds));
        let second = Duration::from_secs;
        plain.event(second(0), &started(1)).unwrap();
        for (at, line) in [(1, "first"), (2, "##[set-output name=x;]y"), (3, "::error::z")] {
            let (vertex, platforms) = (VertexId(1), vec![script::AMD64]);
            let event = BuildEvent::StepLog { vertex, platforms, stderr: false, line: line.to_owned() };
            plain.event(second(at), &event).unwrap();
        }
        plain.out.clear();
        for at in [4, 14, 15, 16, 40] {
            plain.flush(second(at)).unwrap();
        }
        plain.finish(second(41)).unwrap();
        let text = String::from_utf8(plain.out).unwrap();
        let expected = "[linux/amd64]   0:15 toolchain 2/4: : :error::z\n\
            ::group::[linux/amd64] stopped: toolchain 2/4 RUN apt-get install -y gcc\n\
            \x20 0:01 first\n  0:02 ## [set-output name=x;]y\n  0:03 ::error::z\n::endgroup::\n";
        assert_eq!(text, expected);
    }

    fn started(step: usize) -> BuildEvent {
        BuildEvent::StepStarted {
            vertex: VertexId(step),
            platforms: vec![script::AMD64],
            origin: script::origin(step),
            reason: kiln_graph::MissReason::NoCache,
            way: kiln_solver::Way::Native,
        }
    }

    #[test]
    fn a_build_as_a_log() {
        insta::assert_snapshot!("plain", written(script::failing()));
    }

    #[test]
    fn a_build_without_work() {
        let expected = "[linux/amd64] plan: up to date\n[linux/386] plan: up to date\n\
            [linux/arm64] plan: up to date; lto=no jobs=2\n";
        let text = written(script::up_to_date());
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn steps_at_once_name_their_stage() {
        let mut plain = Plain::new(Vec::new(), vec![]);
        let platforms = vec![script::AMD64];
        for step in 2..4 {
            plain.event(Duration::ZERO, &started(step)).unwrap();
        }
        plain.out.clear();
        let line = "x".repeat(500);
        let event = BuildEvent::StepLog { vertex: VertexId(3), platforms, stderr: true, line: line.clone() };
        plain.event(Duration::from_secs(75), &event).unwrap();
        let expected = format!("[linux/amd64]   1:15 compile 5/5: {line}\n");
        assert_eq!(String::from_utf8(plain.out).unwrap(), expected);
    }
}
