//! Where values stand, and what can be wrong with them.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use kiln_graph::{Platform, PlatformError};

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file, as its path was given to the layer.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Bytes of the file's text.
    pub span: Range<usize>,
}

impl Location {
    /// The place of the bytes `span` in a file's text.
    pub fn new(file: &Path, text: &str, span: Range<usize>) -> Self {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().filter(|c| *c != '\u{feff}').count() + 1,
            span,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File(Box<Location>),
    /// In an environment variable of this name.
    Variable(String),
    /// On the command line: the option, or words with the dotted key.
    Flag(String),
    /// Nowhere: derived from something about the project, which the text names.
    Found(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(location) => location.fmt(f),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(what) | Self::Found(what) => f.write_str(what),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file is not TOML.
    #[error("{location}: invalid TOML: {message}")]
    Syntax {
        /// Where the parser stopped.
        location: Box<Location>,
        /// What it says.
        message: String,
    },
    /// A value has the wrong type or is not allowed.
    #[error("{place}: `{key}` cannot be {given}; allowed: {allowed}")]
    Value {
        /// Where the value stands.
        place: Place,
        /// The dotted key.
        key: String,
        /// The value, rendered as TOML.
        given: String,
        /// What is allowed.
        allowed: Box<str>,
        /// What to write instead, if that can be guessed.
        hint: Option<Box<str>>,
    },
    /// A section is not a table.
    #[error("{place}: `{section}` is a section and cannot be {given}")]
    NotATable {
        /// Where it stands.
        place: Place,
        /// The section.
        section: String,
        /// The value, rendered as TOML.
        given: String,
    },
    /// A platform that kiln does not know.
    #[error("{place}: {source}")]
    Platform {
        /// Where it stands.
        place: Place,
        /// What was given and what it resembles.
        source: PlatformError,
    },
    /// A key on the command line that does not exist. In files and variables this is only a warning.
    #[error("unknown setting `{key}`{}", did_you_mean(suggestion.as_deref()))]
    UnknownFlag {
        /// The dotted key.
        key: String,
        /// The key that it most resembles.
        suggestion: Option<String>,
    },
    /// A key that holds for the whole build stands in a `[platform]` table.
    #[error("{place}: `{key}` holds for the whole build and cannot differ by platform")]
    NotPerPlatform {
        /// Where it stands.
        place: Place,
        /// The dotted key.
        key: String,
    },
    /// A bare key in a `[platform]` table belongs to several sections.
    #[error("{place}: `{key}` could mean {}", listed(candidates))]
    Ambiguous {
        /// Where it stands.
        place: Place,
        /// The bare key.
        key: String,
        /// The dotted keys that it could mean.
        candidates: Vec<String>,
    },
    /// One key is set twice in one file, in two spellings.
    #[error("{place}: `{key}` is already set at {first}")]
    Twice {
        /// The second place.
        place: Place,
        /// The dotted key.
        key: String,
        /// The first place.
        first: Place,
    },
    /// `project.entry` and `project.module` are both set in one layer.
    #[error("{place}: both `project.entry` and `project.module` are set ({other})")]
    EntryAndModule {
        /// Where the second stands.
        place: Place,
        /// Where the first stands.
        other: Place,
    },
    /// No program to bake: neither `project.entry` nor `project.module` is known.
    #[error("no program to build: neither `project.entry` nor `project.module` is set")]
    NoProgram {
        /// Files of the project that look like a program.
        candidates: Vec<String>,
    },
    /// A file that a setting names does not exist.
    #[error("{place}: `{path}` of `{key}` does not exist{}", did_you_mean(suggestion.as_deref()))]
    NoSuchFile {
        /// Where it is named.
        place: Place,
        /// The dotted key.
        key: String,
        /// The path as it was given.
        path: String,
        /// The file of the project that it most resembles.
        suggestion: Option<Box<str>>,
    },
    /// The artifact pattern uses the version, but none is known.
    #[error("{place}: `build.artifact` uses {{version}}, but the project has no version")]
    NoVersion {
        /// Where the pattern stands.
        place: Place,
    },
    /// Two platforms would write the same file.
    #[error("{place}: {} would all be written to `{name}`", listed(platforms))]
    SameArtifact {
        /// Where the pattern stands.
        place: Place,
        /// The name.
        name: String,
        /// The platforms that share it.
        platforms: Vec<Platform>,
    },
}

impl ConfigError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { message, .. } if message.contains("duplicate key") => {
                Some("remove one of the two lines".to_owned())
            }
            Self::Syntax { message, .. } if !message.contains("must be quoted") => None,
            Self::Syntax { .. } => Some("text values stand in double quotes: name = \"hello\"".to_owned()),
            Self::Value { hint, .. } => hint.as_deref().map(str::to_owned),
            Self::NotATable { section, .. } => Some(format!("write [{section}] on a line of its own")),
            Self::Platform { source, .. } => Some(source.hint()),
            Self::UnknownFlag { .. } => Some("`kiln config show` lists every setting".to_owned()),
            Self::NotPerPlatform { key, .. } => {
                key.split_once('.').map(|(section, name)| format!("move `{name}` to the section [{section}]"))
            }
            Self::Ambiguous { candidates, .. } => {
                candidates.first().map(|key| format!("write the section too, for example `{key} = ...`"))
            }
            Self::Twice { .. } => Some("remove one of the two".to_owned()),
            Self::EntryAndModule { .. } => {
                Some("entry names a file, module a dotted module name; keep the one that starts the program".to_owned())
            }
            Self::NoProgram { candidates } if candidates.is_empty() => {
                Some("set `entry` in [project] of kiln.toml, or pass --entry FILE".to_owned())
            }
            Self::NoProgram { candidates } => Some(format!("these look like programs: {}", candidates.join(", "))),
            Self::NoSuchFile { .. } => Some("paths are relative to the project folder".to_owned()),
            Self::NoVersion { .. } => Some("set `version` in [project]".to_owned()),
            Self::SameArtifact { .. } => Some("use {arch} or {platform} in `artifact`".to_owned()),
        }
    }

    /// The place in a file that the error is about, to show the line.
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::Syntax { location, .. } => Some(location),
            Self::Value { place, .. }
            | Self::NotATable { place, .. }
            | Self::Platform { place, .. }
            | Self::NotPerPlatform { place, .. }
            | Self::Ambiguous { place, .. }
            | Self::Twice { place, .. }
            | Self::EntryAndModule { place, .. }
            | Self::NoSuchFile { place, .. }
            | Self::NoVersion { place }
            | Self::SameArtifact { place, .. } => place.location(),
            Self::UnknownFlag { .. } | Self::NoProgram { .. } => None,
        }
    }
}

impl Place {
    /// The place in a file, if it is one.
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::File(location) => Some(location),
            _ => None,
        }
    }
}

/// Something in the configuration that has no effect and probably was meant to have one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// A key or section that does not exist.
    #[error("{place}: unknown key `{key}`{}", did_you_mean(suggestion.as_deref()))]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The dotted key.
        key: String,
        /// The key that it most resembles.
        suggestion: Option<String>,
    },
    /// A `KILN_*` variable that no setting has.
    #[error("unknown variable {name}{}", did_you_mean(suggestion.as_deref()))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The variable that it most resembles.
        suggestion: Option<String>,
    },
    /// Both `kiln.toml` and `[tool.kiln]` exist; the latter is ignored.
    #[error("{}: [tool.kiln] is ignored, because {} exists", .ignored.display(), .used.display())]
    ToolTableIgnored {
        /// The pyproject.toml.
        ignored: PathBuf,
        /// The kiln.toml.
        used: PathBuf,
    },
}

impl Warning {
    /// The place in a file that the warning is about, to show the line.
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::UnknownKey { place, .. } => place.location(),
            Self::UnknownVariable { .. } | Self::ToolTableIgnored { .. } => None,
        }
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|known| format!(" (did you mean `{known}`?)")).unwrap_or_default()
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("`{item}`")).collect();
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => items.concat(),
    }
}
