//! Builds become records of the history.

pub(crate) mod travel;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_docker::DaemonInfo;
use kiln_graph::Platform;
use kiln_history::record::{Artifact, Ccache, Machine, Outcome, Record, Source, Target, VERSION};
use kiln_history::{History, HistoryError, Keep, Log};
use kiln_solver::TargetReport;

use crate::checkout;
use crate::environment::Environment;
use crate::job::{Job, STATE};
use crate::report::{Collected, FailedTarget, is_stop, seconds};

/// The command whose builds are runs of tests.
pub(crate) const TEST: &str = "test";
/// The file in a project's state folder.
const FILE: &str = "history.db";

/// The history below a state folder.
pub(crate) fn file(state: &Path) -> PathBuf {
    state.join(FILE)
}

/// The history of a project.
pub(crate) fn of_project(folder: &Path) -> PathBuf {
    file(&folder.join(STATE))
}

/// What was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    /// `build`, `bake` or `test`.
    pub(crate) command: &'static str,
    /// When.
    pub(crate) at: SystemTime,
}

/// Writes a build down, with its logs. A build that never got as far as a plan is none.
pub(crate) fn remember(
    environment: &Environment,
    job: &Job,
    info: &DaemonInfo,
    begun: Begun,
    collected: &Collected,
) -> Result<(), HistoryError> {
    if collected.build.is_empty() {
        return Ok(());
    }
    let folder = &job.project.folder;
    let settings = job.project.config.resolved();
    let source =
        Source { commit: checkout::commit(environment, folder), branch: checkout::branch(environment, folder) };
    let record = Record {
        project: settings.project.name,
        scope: settings.cache.scope,
        source,
        machine: machine(environment, info),
        images: job.images.get().cloned().unwrap_or_default(),
        ..record(begun, collected, folder)
    };
    let logs = collected.logs.iter().map(|(platform, path)| {
        let text = String::from_utf8_lossy(&fs_err::read(path)?).into_owned();
        Ok(Log { name: platform.folder(), text })
    });
    let logs = logs.collect::<Result<Vec<_>, std::io::Error>>()?;
    History::open(&file(&job.state))?.add(&record, &logs, keep(job))
}

/// How much a project remembers.
pub(crate) fn keep(job: &Job) -> Keep {
    Keep { records: job.project.config.resolved().history.keep, ..Keep::default() }
}

/// Where a build ran.
fn machine(environment: &Environment, info: &DaemonInfo) -> Machine {
    let services = [("GITHUB_ACTIONS", "github"), ("GITLAB_CI", "gitlab"), ("CI", "ci")];
    let ci = services.into_iter().find(|(variable, _)| environment.get(variable) == Some("true"));
    Machine {
        kiln: env!("CARGO_PKG_VERSION").to_owned(),
        engine: info.version.clone(),
        platform: Some(Platform::linux(info.arch)),
        cpus: usize::try_from(info.cpus).unwrap_or_default(),
        ci: ci.map(|(_, name)| name.to_owned()),
    }
}

/// What the build itself tells.
fn record(begun: Begun, collected: &Collected, folder: &Path) -> Record {
    let mut targets = targets(collected, folder);
    if begun.command == "build" {
        // There is one, and a failed one has no name that it could be known again by.
        for target in &mut targets {
            target.name.clear();
        }
    }
    let since = begun.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let all = |outcome: Outcome| targets.iter().all(|target| target.outcome == outcome);
    let any = |outcome: Outcome| targets.iter().any(|target| target.outcome == outcome);
    let outcome = match () {
        () if all(Outcome::Done) => Outcome::Done,
        () if any(Outcome::Done) => Outcome::Partial,
        () if any(Outcome::Failed) => Outcome::Failed,
        () => Outcome::Stopped,
    };
    Record {
        version: VERSION,
        id: collected.build.clone(),
        command: begun.command.to_owned(),
        started: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        seconds: seconds(collected.took),
        outcome,
        targets,
        steps: collected.steps.clone(),
        notices: collected.notices.iter().map(|(platform, text)| said(*platform, text)).collect(),
        ..Record::default()
    }
}

fn said(platform: Option<Platform>, text: &str) -> String {
    platform.map(|platform| format!("{platform}: ")).unwrap_or_default() + text
}

/// The targets in the order of the plan. Several of one platform end in their own order; the plan does not name them.
fn targets(collected: &Collected, folder: &Path) -> Vec<Target> {
    let mut finished: Vec<&TargetReport> = collected.finished.iter().collect();
    let mut failed: Vec<&FailedTarget> = collected.failed.iter().collect();
    let target = |planned: &kiln_solver::PlannedTarget| {
        let policy = collected.note(planned.platform);
        if let Some(index) = finished.iter().position(|report| report.platform == planned.platform) {
            return Target { policy, ..done(finished.remove(index), folder) };
        }
        let failure = failed.iter().position(|failure| failure.platform == planned.platform);
        let failure = failure.map(|index| failed.remove(index));
        let outcome = match failure {
            Some(failure) if !is_stop(&failure.error) => Outcome::Failed,
            _ => Outcome::Stopped,
        };
        Target {
            name: String::new(),
            platform: planned.platform,
            way: planned.way.to_string(),
            outcome,
            up_to_date: false,
            seconds: seconds(failure.map_or(collected.took, |failure| failure.took)),
            container_seconds: 0.0,
            ran: collected.steps.iter().filter(|s| !s.cached && s.platforms.contains(&planned.platform)).count(),
            cached: planned.cached,
            ccache: None,
            artifacts: Vec::new(),
            image: None,
            policy,
            error: failure.map(|failure| failure.error.clone()),
        }
    };
    collected.planned.iter().map(target).collect()
}

fn done(report: &TargetReport, folder: &Path) -> Target {
    let artifacts = report.artifacts.iter().map(|artifact| Artifact {
        path: artifact.path.strip_prefix(folder).unwrap_or(&artifact.path).display().to_string(),
        size: artifact.size,
        sha256: artifact.sha256.clone(),
        needs: artifact.needs.clone(),
        smoke: artifact.smoke.clone(),
    });
    Target {
        name: report.target.clone(),
        platform: report.platform,
        way: report.way.to_string(),
        outcome: Outcome::Done,
        up_to_date: report.up_to_date,
        seconds: seconds(report.took),
        container_seconds: seconds(report.in_containers),
        ran: report.ran,
        cached: report.cached,
        ccache: report.ccache.map(|s| Ccache { hits: s.hits, misses: s.misses, remote_hits: s.remote_hits }),
        artifacts: artifacts.collect(),
        image: report.image.clone(),
        policy: None,
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::{Progress, script};

    fn recorded(events: Vec<script::Timed>) -> Record {
        let notes = vec![(script::ARM64, "lto=no jobs=2".to_owned())];
        let mut collected = Collected::new(Progress::Plain, notes);
        let mut last = Duration::ZERO;
        for (at, event) in events {
            collected.event(at, event);
            last = at;
        }
        collected.finish(last);
        let begun = Begun { command: "build", at: UNIX_EPOCH + Duration::from_millis(1_234_567) };
        record(begun, &collected, Path::new("/project"))
    }

    #[test]
    fn a_build_that_failed_in_part() {
        let record = recorded(script::failing());
        assert_eq!((record.outcome, record.started, record.id.as_str()), (Outcome::Partial, 1_234_567, "b1"));
        let [amd64, i386, arm64] = record.targets.as_slice() else { panic!("{:?}", record.targets) };
        assert_eq!((amd64.outcome, i386.outcome, arm64.outcome), (Outcome::Done, Outcome::Failed, Outcome::Done));
        assert!(i386.error.as_ref().is_some_and(|error| error.contains("pip install")));
        assert_eq!(i386.ran, 2, "what serves all platforms, and what failed");
        assert_eq!(arm64.policy.as_deref(), Some("lto=no jobs=2"));
        assert_eq!(arm64.ccache.and_then(Ccache::percent).map(f64::round), Some(92.0));
        assert!(record.seconds > 10.0 && record.did_work());
        let json = serde_json::to_string(&record).expect("plain data");
        assert_eq!(serde_json::from_str::<Record>(&json).expect("what was written"), record);
    }

    #[test]
    fn a_build_without_work_and_one_that_was_stopped() {
        let record = recorded(script::up_to_date());
        assert!(record.outcome == Outcome::Done && !record.did_work() && record.targets[0].up_to_date);
        let record = recorded(script::failing().into_iter().take(8).collect());
        assert_eq!(record.outcome, Outcome::Stopped);
    }
}
