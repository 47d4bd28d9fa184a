//! Layers: where settings come from, as values that the caller has read, and the provenance that they leave behind.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Place;

/// The kinds of layers; a later one wins over an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerKind {
    /// The built-in default.
    Default,
    /// Derived from the project: pyproject.toml, files that exist, the folder's name.
    Detected,
    /// The user's own configuration file.
    User,
    /// `kiln.toml`, or `[tool.kiln]` in pyproject.toml.
    Project,
    /// `KILN_*` variables.
    Environment,
    /// The command line.
    Flags,
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Detected => "detected",
            Self::User => "user",
            Self::Project => "project",
            Self::Environment => "environment",
            Self::Flags => "command line",
        })
    }
}

/// Where the value of a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The layer.
    pub layer: LayerKind,
    /// The place in it; defaults have none.
    pub place: Option<Place>,
}

impl Provenance {
    /// Where a built-in default comes from.
    pub const DEFAULT: Self = Self { layer: LayerKind::Default, place: None };

    /// The file, if it comes from one.
    pub fn file(&self) -> Option<&Path> {
        self.place.as_ref().and_then(Place::location).map(|location| location.file.as_path())
    }

    /// The line in the file, from 1.
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().and_then(Place::location).map(|location| location.line)
    }

    /// Whether a person set it, rather than kiln.
    pub fn is_explicit(&self) -> bool {
        self.layer >= LayerKind::User
    }
}

impl fmt::Display for Provenance {
    /// `default`, `kiln.toml:3`, `KILN_NUITKA_JOBS`, `command line (nuitka.jobs)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(Place::File(location)) => write!(f, "{}:{}", location.file.display(), location.line),
            Some(place) => place.fmt(f),
            None => self.layer.fmt(f),
        }
    }
}

/// The value of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagValue {
    /// A text, read like that of a variable: lists are separated by commas, or written as TOML.
    Text(String),
    /// The items of a list, as they are.
    List(Vec<String>),
}

impl From<&str> for FlagValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for FlagValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for FlagValue {
    fn from(yes: bool) -> Self {
        Self::Text(yes.to_string())
    }
}

impl From<Vec<String>> for FlagValue {
    fn from(items: Vec<String>) -> Self {
        Self::List(items)
    }
}

/// Settings from one source, not yet read.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(crate) kind: LayerKind,
    pub(crate) source: Source,
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    File {
        path: PathBuf,
        text: String,
    },
    Variables {
        variables: Vec<(String, String)>,
        ignored: Vec<String>,
    },
    /// Name, key, value.
    Flags(Vec<(String, String, FlagValue)>),
}

impl Layer {
    /// The project's file: a `kiln.toml`, or a pyproject.toml (by its name), of which only `[tool.kiln]` counts.
    ///
    /// `path` is for messages; relative paths among the values are relative to the project folder.
    pub fn file(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { kind: LayerKind::Project, source: Source::File { path: path.into(), text: text.into() } }
    }

    /// The user's own file, in the form of `kiln.toml`. A relative path of a certificate file or Dockerfile is relative to the
    /// file's folder, every other to the project folder.
    pub fn user_file(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { kind: LayerKind::User, source: Source::File { path: path.into(), text: text.into() } }
    }

    /// The environment. Only `KILN_*` variables are looked at, and empty ones count as unset.
    pub fn env<N: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .filter(|(name, value)| name.starts_with("KILN_") && !value.trim().is_empty())
            .collect();
        Self { kind: LayerKind::Environment, source: Source::Variables { variables, ignored: Vec::new() } }
    }

    /// The command line: dotted keys (`nuitka.lto`, `platform."linux/arm64".lto`, `build.args.NAME`) and values. A list key
    /// that occurs several times collects its values; of another, the last wins.
    pub fn flags<K: Into<String>, V: Into<FlagValue>>(flags: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::options(flags.into_iter().map(|(key, value)| {
            let key = key.into();
            (format!("command line ({key})"), key, value.into())
        }))
    }

    /// As [`Layer::flags`], with the name that each has for the user in front: `--platform`.
    pub fn options(flags: impl IntoIterator<Item = (String, String, FlagValue)>) -> Self {
        Self { kind: LayerKind::Flags, source: Source::Flags(flags.into_iter().collect()) }
    }

    /// Variables that are no settings, so that [`Layer::env`] is silent about them: names, or beginnings followed by `*`.
    pub fn ignoring(mut self, names: &[&str]) -> Self {
        if let Source::Variables { ignored, .. } = &mut self.source {
            ignored.extend(names.iter().map(|name| (*name).to_owned()));
        }
        self
    }

    /// The path, if this is the pyproject.toml of a project.
    pub(crate) fn pyproject_path(&self) -> Option<&Path> {
        match &self.source {
            Source::File { path, .. } if path.file_name().is_some_and(|name| name == "pyproject.toml") => Some(path),
            _ => None,
        }
    }
}
