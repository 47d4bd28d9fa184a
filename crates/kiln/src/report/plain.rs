//! Prefixed lines, for logs of CI: every line says its platform, whole lines of several platforms alternate.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use kiln_graph::{Platform, VertexId};
use kiln_solver::{BuildEvent, Stage};

use super::text::{clock, duration, harmless, one_line};
use super::{is_stop, stage_name, step_place};

/// A step that says nothing but its progress does so after this time without a line: services end silent builds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The plain reporter.
pub(super) struct Plain<W> {
    out: W,
    notes: Vec<(Platform, String)>,
    running: BTreeMap<VertexId, Running>,
}

struct Running {
    platforms: Vec<Platform>,
    place: String,
    /// When its last line was written.
    spoke: Duration,
}

impl<W: Write> Plain<W> {
    /// A reporter that writes to `out`; `notes` are shown with the plan.
    pub(super) fn new(out: W, notes: Vec<(Platform, String)>) -> Self {
        Self { out, notes, running: BTreeMap::new() }
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
            BuildEvent::StepStarted { vertex, platforms, origin, reason, .. } => {
                let place = step_place(origin);
                self.running.insert(*vertex, Running { platforms: platforms.clone(), place, spoke: at });
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
                let place = self.running.remove(vertex).map(|running| running.place).unwrap_or_default();
                writeln!(self.out, "{} done {place} in {}", prefix(platforms), duration(*took))
            }
            BuildEvent::StepFailed { vertex, platforms, origin, took } => {
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

    /// Makes sure that what was written is seen.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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
    use crate::report::script;

    fn written(events: Vec<script::Timed>) -> String {
        let mut plain = Plain::new(Vec::new(), vec![(script::ARM64, "lto=no jobs=2".to_owned())]);
        for (at, event) in events {
            plain.event(at, &event).unwrap();
        }
        String::from_utf8(plain.out).unwrap()
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
            let event = BuildEvent::StepStarted {
                vertex: VertexId(step),
                platforms: platforms.clone(),
                origin: script::origin(step),
                reason: kiln_graph::MissReason::NoCache,
                way: kiln_solver::Way::Native,
            };
            plain.event(Duration::ZERO, &event).unwrap();
        }
        plain.out.clear();
        let line = "x".repeat(500);
        let event = BuildEvent::StepLog { vertex: VertexId(3), platforms, stderr: true, line: line.clone() };
        plain.event(Duration::from_secs(75), &event).unwrap();
        let expected = format!("[linux/amd64]   1:15 compile 5/5: {line}\n");
        assert_eq!(String::from_utf8(plain.out).unwrap(), expected);
    }
}
