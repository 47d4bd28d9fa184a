//! What the user allows and forbids.

use kiln_graph::{Platform, glob};

use super::{Finding, Level};
use crate::elf::GlibcVersion;

/// What an artifact is held against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The platform that it must be for; nothing is what it claims.
    pub platform: Option<Platform>,
    /// The newest glibc that it may need.
    pub glibc_max: Option<GlibcVersion>,
    /// Findings that may be: `CHECK`, or `CHECK:FILE` with wildcards.
    pub allow: Vec<String>,
    /// Findings that may not be, in the same form.
    pub deny: Vec<String>,
    /// Secrets that are none: `KIND`, `KIND:FILE`, or a file, with wildcards.
    pub secrets_allow: Vec<String>,
}

impl Policy {
    /// Gives findings the level that the policy has for them. What is forbidden and allowed is forbidden.
    pub fn apply(&self, findings: &mut [Finding]) {
        for finding in findings {
            if self.deny.iter().any(|entry| matches(entry, finding)) {
                finding.level = Level::Error;
            } else if finding.level != Level::Info && self.allow.iter().any(|entry| matches(entry, finding)) {
                (finding.level, finding.allowed) = (Level::Info, true);
            }
        }
    }

    /// Whether a secret of this kind in this file is a known one.
    pub(super) fn allows_secret(&self, kind: &str, file: &str) -> bool {
        self.secrets_allow.iter().any(|entry| match entry.split_once(':') {
            Some((of, pattern)) => of == kind && is_file(pattern, file),
            None => entry == kind || is_file(entry, file),
        })
    }
}

/// Whether an entry of a list means a finding.
fn matches(entry: &str, finding: &Finding) -> bool {
    match entry.split_once(':') {
        Some((check, pattern)) => check == finding.check.name() && is_file(pattern, &finding.file),
        None => entry == finding.check.name(),
    }
}

/// Whether a pattern means a file: all of its path, or its last part.
fn is_file(pattern: &str, file: &str) -> bool {
    let last = file.rsplit(['/', '!']).next().unwrap_or(file);
    glob::matches(pattern, file) || glob::matches(pattern, last) || pattern == file
}
