//! `kiln doctor`: what a build needs of its surroundings, as checks with a result, a reason and a fix.
//!
//! [`gather`] collects facts, from the daemon, from a container and from this machine; [`verdicts`] judges them and does
//! no I/O, one file per group; [`table`] shows the result. A check has *failed* if a build would fail by it or gives what is
//! not wanted, and is a *warning* if a build works, but slowly, by luck, or only after kiln has mended something itself.

mod artifacts;
mod caches;
mod daemon;
mod emulation;
pub(crate) mod gather;
mod network;
mod policy;
mod scopes;
pub(crate) mod table;
#[cfg(test)]
mod tests;

pub(crate) use emulation::unfixed;

use std::path::PathBuf;

use kiln_ci::matrix::Matrix;
use kiln_config::PlatformSettings;
use kiln_docker::driver::Located;
use kiln_docker::emulation::{Handlers, ProbeResult};
use kiln_docker::facts::Facts as Container;
use kiln_docker::{DaemonInfo, Volume};
use kiln_graph::Platform;
use kiln_solver::LastBuild;
use serde::Serialize;

use crate::error::exit;

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It is as it should be.
    Ok,
    /// A build works, but not as well as it could, or not for certain.
    Warning,
    /// A build fails by it, or gives what is not wanted.
    Failed,
    /// It could not be looked at, or means nothing here.
    Skipped,
}

impl Status {
    /// The word for people; it is the one of `--json`, too.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One line of the checklist. What is serialised is documented in README.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was checked: one of [`CHECKS`].
    #[serde(rename = "check")]
    pub(crate) name: &'static str,
    /// The platform, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<String>,
    /// The result.
    pub(crate) status: Status,
    /// What was seen, and why that is so.
    pub(crate) detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

/// All checks in the order in which they are shown, each with the exit code of its failure.
pub(crate) const CHECKS: [(&str, u8); 23] = [
    ("daemon", exit::DAEMON),
    ("version", exit::DAEMON),
    ("storage", exit::DAEMON),
    ("disk", exit::DAEMON),
    ("memory", exit::DAEMON),
    ("clock", exit::DAEMON),
    ("leftovers", exit::DAEMON),
    ("emulation", exit::EMULATION),
    ("handler", exit::EMULATION),
    ("twin", exit::EMULATION),
    ("settings", exit::CONFIG),
    ("lto", exit::CONFIG),
    ("jobs", exit::CONFIG),
    ("matrix", exit::CONFIG),
    ("network", exit::DAEMON),
    ("proxy", exit::DAEMON),
    ("certificates", exit::CONFIG),
    ("scope", exit::CONFIG),
    ("cache volumes", exit::DAEMON),
    ("ccache", exit::DAEMON),
    ("remote cache", exit::DAEMON),
    ("output", exit::IO),
    ("artifact", exit::VERIFY),
];

impl Check {
    fn new(name: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { name, platform: None, status, detail: detail.into(), fix: None }
    }

    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, detail)
    }

    fn warning(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(name, Status::Warning, detail) }
    }

    fn failed(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(name, Status::Failed, detail) }
    }

    fn skipped(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Skipped, detail)
    }

    /// A check whose facts could not be had.
    fn troubled(name: &'static str, trouble: &Trouble) -> Self {
        Self { fix: trouble.fix.clone(), ..Self::new(name, Status::Failed, trouble.what.clone()) }
    }

    fn on(self, platform: Platform) -> Self {
        Self { platform: Some(platform.to_string()), ..self }
    }

    fn position(&self) -> usize {
        CHECKS.iter().position(|(name, _)| *name == self.name).unwrap_or(CHECKS.len())
    }
}

/// The exit code: 0 if nothing has failed, else that of the first check that has, in the order in which they are shown.
pub(crate) fn exit_code(checks: &[Check]) -> u8 {
    let failed = checks.iter().filter(|check| check.status == Status::Failed);
    failed
        .min_by_key(|check| check.position())
        .and_then(|check| CHECKS.get(check.position()))
        .map_or(0, |(_, code)| *code)
}

/// Why facts could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What happened.
    pub(crate) what: String,
    /// What to do, if that is known.
    pub(crate) fix: Option<String>,
}

/// Facts, or why there are none.
pub(crate) type Seen<T> = Result<T, Trouble>;

/// All that is judged.
pub(crate) struct Facts {
    /// Where the daemon is.
    pub(crate) located: Seen<Located>,
    /// What it says and what runs on it.
    pub(crate) daemon: Seen<DaemonFacts>,
    /// Settings, and whether they could be read.
    pub(crate) settings: SettingsFacts,
    /// What the project has on this machine.
    pub(crate) here: HereFacts,
    /// The stores of `cache.remote`.
    pub(crate) stores: Seen<Vec<StoreFacts>>,
}

/// What a daemon says, and what runs on it.
pub(crate) struct DaemonFacts {
    pub(crate) info: DaemonInfo,
    /// Where the base image gets its packages from; none if it is not on the daemon.
    pub(crate) package_servers: Vec<String>,
    /// What a container sees; none where kiln has no program for the machine.
    pub(crate) container: Seen<Option<Container>>,
    /// Which platforms run.
    pub(crate) probes: Seen<Vec<(Platform, ProbeResult)>>,
    /// The kernel's handlers; none where they were not asked for, or cannot be read.
    pub(crate) handlers: Seen<Option<Handlers>>,
    /// Volumes with kiln's labels.
    pub(crate) volumes: Seen<Vec<Volume>>,
    /// Containers and volumes of dead builds.
    pub(crate) leftovers: Seen<usize>,
    /// Whether kiln has a program for native twins on it.
    pub(crate) has_twin_program: bool,
}

/// Settings.
pub(crate) struct SettingsFacts {
    /// What is wrong with those of the project; what follows is then that of the user alone.
    pub(crate) wrong: Option<Trouble>,
    /// Warnings about unknown keys and the like.
    pub(crate) warnings: Vec<String>,
    /// The file that was read, as it is shown.
    pub(crate) file: Option<String>,
    /// Each platform's.
    pub(crate) platforms: Vec<PlatformSettings>,
    /// Those of the daemon's own platform, where that is known: networks and mirrors are of no platform in particular.
    pub(crate) own: PlatformSettings,
    /// Platforms without those of the command line: jobs are shared by them.
    pub(crate) configured: usize,
    /// `emulation.install`.
    pub(crate) may_install: bool,
    /// `cache.scope`.
    pub(crate) scope: String,
    /// Where that comes from.
    pub(crate) scope_from: String,
    /// What it would be without `KILN_CACHE_SCOPE`, if that is set and the project says something else.
    pub(crate) scope_without: Option<String>,
    /// `cache.keep-size`, in bytes.
    pub(crate) keep_size: u64,
    /// The bundle of certificates, if one is named: its path, and its content or what is wrong with it.
    pub(crate) certificates: Option<(String, Seen<Vec<u8>>)>,
    /// Whether this process has a proxy in its own variables.
    pub(crate) proxy_here: bool,
    /// What CI would run: for a pull request, and on the default branch.
    pub(crate) matrices: [Matrix; 2],
}

/// What the project has on this machine.
pub(crate) struct HereFacts {
    /// The output folder, as it is shown.
    pub(crate) output: PathBuf,
    /// Its disk and whether one may write there.
    pub(crate) disk: Seen<HereDisk>,
    /// The last good builds, and when the files of each were placed, in seconds since 1970.
    pub(crate) builds: Vec<(LastBuild, Option<i64>)>,
    /// Programs in the output folder.
    pub(crate) artifacts: Seen<Vec<Artifact>>,
    /// Scopes of stores that are written in one place and read in another.
    pub(crate) mismatches: Vec<scopes::Mismatch>,
}

/// The disk of the output folder.
pub(crate) struct HereDisk {
    pub(crate) free: u64,
    pub(crate) total: u64,
    pub(crate) writable: bool,
}

/// A file of the output folder.
pub(crate) struct Artifact {
    /// As it is shown.
    pub(crate) path: String,
    pub(crate) platform: Platform,
    /// Whether it has to be a program: a recipe's, or one that was recognised as such.
    pub(crate) is_program: bool,
    pub(crate) found: ArtifactFound,
}

/// What a file of the output folder is.
pub(crate) enum ArtifactFound {
    /// It is gone.
    Nothing,
    /// A folder.
    Folder,
    /// A program or library of a machine.
    Elf {
        /// Whether that is the platform's.
        fits: bool,
        /// The machine, for people.
        machine: String,
    },
    /// Something else, or what could not be read.
    Other(String),
}

/// A store of `cache.remote`.
pub(crate) struct StoreFacts {
    /// Its place, without credentials.
    pub(crate) place: String,
    /// Bytes in it; none if it cannot list what it has.
    pub(crate) size: Seen<Option<u64>>,
    /// What came of writing; none where it was not tried.
    pub(crate) written: Option<Seen<()>>,
    /// The bytes that it may hold, and who says so.
    pub(crate) budget: Option<(u64, &'static str)>,
}

/// Judges all facts. The result is in the order of [`CHECKS`].
pub(crate) fn verdicts(facts: &Facts) -> Vec<Check> {
    let mut checks = daemon::verdicts(facts);
    checks.extend(emulation::verdicts(facts));
    checks.extend(policy::verdicts(facts));
    checks.extend(network::verdicts(facts));
    checks.extend(scopes::verdicts(facts));
    checks.extend(caches::verdicts(facts));
    checks.extend(artifacts::verdicts(facts));
    // Stable: checks of one name keep the order of their platforms.
    checks.sort_by_key(Check::position);
    checks
}

/// What is said of checks that need a daemon where there is none.
const NO_DAEMON: &str = "no daemon";
