//! What is wrong with an artifact, or may be: facts held against rules, and rules against the user's policy.
//!
//! A new rule is a [`Check`] with its level and a function in `judge` that finds it. Levels are chosen such that what kiln
//! itself builds passes: an error is what breaks a program or gives something away, a warning what weakens it.

mod judge;
mod policy;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub use self::judge::judge;
pub use self::policy::Policy;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The artifact is not to be shipped.
    Error,
    /// It works, and could be better.
    Warning,
    /// Worth knowing, or allowed by the policy.
    Info,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Check {
    /// It is no program, package or image, or cannot be read as one.
    Format,
    /// It is for another architecture than it claims or was asked for.
    Architecture,
    /// A file inside is for another architecture.
    ForeignFile,
    /// The payload of a onefile program is damaged.
    Payload,
    /// A library is needed that nobody brings.
    Library,
    /// A library is needed that most systems have.
    SystemLibrary,
    /// A newer glibc is needed than allowed.
    Glibc,
    /// A file inside is made for another C library.
    MixedLibc,
    /// A segment is writable and executable at once.
    WritableExecutable,
    /// The stack is executable.
    ExecutableStack,
    /// The loader writes into code.
    TextRelocations,
    /// Relocated data stays writable.
    Relro,
    /// The program has a fixed address.
    Pie,
    /// Libraries are looked for outside of the artifact.
    Rpath,
    /// The loader is where few systems have it.
    Interpreter,
    /// The program may not be executed.
    Mode,
    /// A file inside starts like an ELF file and cannot be read as one.
    BrokenElf,
    /// There is a secret in it.
    Secret,
    /// Its digest is not the one that was published.
    Sum,
    /// A signature does not fit, or none of a trusted key is there.
    Signature,
    /// A bill of materials is of another file.
    Bill,
    /// A statement of provenance does not fit.
    Provenance,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Format,
        Self::Architecture,
        Self::ForeignFile,
        Self::Payload,
        Self::Library,
        Self::SystemLibrary,
        Self::Glibc,
        Self::MixedLibc,
        Self::WritableExecutable,
        Self::ExecutableStack,
        Self::TextRelocations,
        Self::Relro,
        Self::Pie,
        Self::Rpath,
        Self::Interpreter,
        Self::Mode,
        Self::BrokenElf,
        Self::Secret,
        Self::Sum,
        Self::Signature,
        Self::Bill,
        Self::Provenance,
    ];

    /// The name that settings and JSON have for it; it stays as it is.
    pub fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Architecture => "architecture",
            Self::ForeignFile => "foreign-file",
            Self::Payload => "payload",
            Self::Library => "library",
            Self::SystemLibrary => "system-library",
            Self::Glibc => "glibc",
            Self::MixedLibc => "mixed-libc",
            Self::WritableExecutable => "wx-segment",
            Self::ExecutableStack => "exec-stack",
            Self::TextRelocations => "text-relocations",
            Self::Relro => "relro",
            Self::Pie => "pie",
            Self::Rpath => "rpath",
            Self::Interpreter => "interpreter",
            Self::Mode => "mode",
            Self::BrokenElf => "broken-elf",
            Self::Secret => "secret",
            Self::Sum => "sum",
            Self::Signature => "signature",
            Self::Bill => "sbom",
            Self::Provenance => "provenance",
        }
    }

    /// How bad it is, unless its finder or the policy knows better.
    pub fn level(self) -> Level {
        match self {
            Self::Format
            | Self::Architecture
            | Self::ForeignFile
            | Self::Payload
            | Self::Library
            | Self::Glibc
            | Self::WritableExecutable
            | Self::Secret
            | Self::Sum
            | Self::Signature
            | Self::Bill
            | Self::Provenance => Level::Error,
            Self::SystemLibrary => Level::Info,
            Self::MixedLibc
            | Self::ExecutableStack
            | Self::TextRelocations
            | Self::Relro
            | Self::Pie
            | Self::Rpath
            | Self::Interpreter
            | Self::Mode
            | Self::BrokenElf => Level::Warning,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Check {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that found it.
    pub check: Check,
    /// How bad it is.
    pub level: Level,
    /// The file that it is about, by its path in the artifact; empty for the artifact itself.
    pub file: String,
    /// What is the case, as a sentence without its first word, the file.
    pub detail: String,
    /// What to do about it, if anything is known to help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Whether the policy lets it pass.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allowed: bool,
}

impl Finding {
    /// A finding of the check's usual level.
    pub fn new(check: Check, file: impl Into<String>, detail: impl Into<String>) -> Self {
        let (file, detail) = (file.into(), detail.into());
        Self { check, level: check.level(), file, detail, fix: None, allowed: false }
    }

    /// The same with what to do about it.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// The same at another level.
    pub fn at(mut self, level: Level) -> Self {
        self.level = level;
        self
    }
}

/// Whether anything is an error.
pub fn is_breach(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level == Level::Error)
}
