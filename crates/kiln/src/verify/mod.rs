//! `kiln verify`: artifacts examined, held against the policy, and run where the user wants to ship them.
//!
//! [`check`] looks at what lies at a path: facts and rules are those of `kiln-artifact`. More can be looked at than the
//! artifact itself, as proofs that lie beside it: a [`Look`] is asked for each artifact and adds its findings. `run_on` runs
//! programs in containers; `table` and `json` tell all of it.

pub(crate) mod json;
pub(crate) mod proofs;
pub(crate) mod run_on;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use kiln_artifact::examine::{self, Examined, Options, Shape};
use kiln_artifact::findings::{Check, Finding, Level, Policy, is_breach, judge};
use kiln_artifact::package::PackageError;
use kiln_config::PlatformSettings;
use kiln_graph::Platform;

use self::run_on::Run;
use crate::error::{CliError, Result, exit};

/// An artifact with what was found.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Its path, as it is shown.
    pub(crate) path: PathBuf,
    /// What it is; nothing if that could not be found out.
    pub(crate) examined: Option<Examined>,
    /// What was found, the worst first.
    pub(crate) findings: Vec<Finding>,
    /// Where it was run.
    pub(crate) runs: Vec<Run>,
}

impl Subject {
    /// The platform that it runs on.
    pub(crate) fn platform(&self) -> Option<Platform> {
        self.examined.as_ref()?.arch().map(Platform::linux)
    }

    /// Whether a platform's image is all of it: such things are no program to run.
    pub(crate) fn is_image(&self) -> bool {
        self.examined.as_ref().is_some_and(|examined| matches!(examined.shape, Shape::Image { .. }))
    }
}

/// Something that finds more about an artifact, by its path: signatures, say.
pub(crate) type Look<'a> = &'a (dyn Fn(&Path) -> Vec<Finding> + Sync);

/// The policy of the settings for a platform.
pub(crate) fn policy(settings: &kiln_config::Verify, platform: Option<Platform>) -> Policy {
    Policy {
        platform,
        // The settings have seen that it is a version.
        glibc_max: settings.glibc_max.as_deref().and_then(|version| version.parse().ok()),
        allow: settings.allow.clone(),
        deny: settings.deny.clone(),
        secrets_allow: settings.secrets_allow.clone(),
    }
}

/// The artifacts that a path of the command line means.
///
/// # Errors
/// If nothing is there, or a folder cannot be read.
pub(crate) fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    let metadata = fs_err::metadata(path).map_err(CliError::io("read", path))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let inside = examine::artifacts_in(path).map_err(|error| match error {
        PackageError::Io { source, .. } => CliError::io("read", path)(source),
        error => CliError::Missing { problem: error.to_string(), hint: "name the artifacts themselves".to_owned() },
    })?;
    match inside {
        Some(paths) if paths.is_empty() => Err(CliError::Missing {
            problem: format!("{} has a SHA256SUMS and no program, package or image", path.display()),
            hint: "build first, or name the artifacts themselves".to_owned(),
        }),
        Some(paths) => Ok(paths),
        None => Ok(vec![path.to_owned()]),
    }
}

/// Examines and judges what lies at a path. What cannot be read is a finding: the others are still looked at.
///
/// # Errors
/// If a file of this machine cannot be read or written.
pub(crate) fn check(
    path: &Path,
    options: &Options,
    platform: Option<Platform>,
    settings: &dyn Fn(Option<Platform>) -> PlatformSettings,
    looks: &[Look<'_>],
) -> Result<Vec<Subject>> {
    let more: Vec<Finding> = looks.iter().flat_map(|look| look(path)).collect();
    let shown = crate::project::shown(path);
    let examined = match examine::examine(path, options) {
        Ok(examined) => examined,
        Err(PackageError::Io { action, path, source }) => return Err(CliError::io(action, path)(source)),
        Err(error) => {
            let mut findings = more;
            findings.push(unreadable(&error));
            policy(&settings(platform).verify, platform).apply(&mut findings);
            return Ok(vec![Subject { path: shown, examined: None, findings, runs: Vec::new() }]);
        }
    };
    let subject = |examined: Examined| {
        let settings = settings(platform.or_else(|| examined.arch().map(Platform::linux)));
        // An image of several platforms is not for one.
        let asked = platform.filter(|_| !matches!(examined.shape, Shape::Image { .. }));
        let policy = policy(&settings.verify, asked);
        let mut findings = judge(&examined, &policy);
        let mut more = more.clone();
        policy.apply(&mut more);
        findings.extend(more);
        findings.sort_by_key(|finding| finding.level);
        Subject { path: shown.clone(), examined: Some(examined), findings, runs: Vec::new() }
    };
    Ok(examined.into_iter().map(subject).collect())
}

fn unreadable(error: &PackageError) -> Finding {
    let fix = match error {
        PackageError::Unsafe { .. } => "do not unpack it; make it anew, from inside of its folder",
        PackageError::TooLarge { .. } => "do not unpack it: it would fill the disk",
        PackageError::Unsupported(_) => "name programs, folders, archives, deb, rpm, apk or images",
        _ => "make it again, or fetch it again",
    };
    Finding::new(Check::Format, "", error.to_string()).fix(fix)
}

/// The exit code of all of it.
pub(crate) fn exit_code(subjects: &[Subject]) -> u8 {
    let runs = || subjects.iter().flat_map(|subject| &subject.runs);
    let has_breach = subjects.iter().any(|subject| is_breach(&subject.findings) || run_on::is_breach(&subject.runs));
    let untested = runs().filter(|run| !run.was_tried()).count();
    if has_breach {
        exit::VERIFY
    } else if untested == 0 {
        0
    } else if untested == runs().count() {
        exit::DAEMON
    } else {
        exit::PARTIAL
    }
}

/// `2 errors, 1 warning, 1 not running in 3 artifacts`.
pub(crate) fn summary(subjects: &[Subject]) -> String {
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let count = |level| subjects.iter().flat_map(|subject| &subject.findings).filter(|f| f.level == level).count();
    let failed = subjects.iter().filter(|subject| run_on::is_breach(&subject.runs)).count();
    let mut told = Vec::new();
    for (count, word) in [(count(Level::Error), "error"), (count(Level::Warning), "warning")] {
        if count > 0 {
            told.push(plural(count, word));
        }
    }
    if failed > 0 {
        told.push(format!("{failed} not running"));
    }
    let untried = subjects.iter().flat_map(|subject| &subject.runs).filter(|run| !run.was_tried()).count();
    if untried > 0 {
        told.push(format!("{untried} not tried"));
    }
    let told = if told.is_empty() { "nothing wrong".to_owned() } else { told.join(", ") };
    format!("{told} in {}", plural(subjects.len(), "artifact"))
}
