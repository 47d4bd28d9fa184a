//! What can be wrong with a bake file, where, and what to do about it.

use std::fmt;

/// A mistake in a bake file, or in what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BakeError {
    /// The file; empty if the mistake is not in one.
    pub file: String,
    /// The line and column, counted from 1.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub kind: BakeErrorKind,
}

/// The kinds of mistakes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BakeErrorKind {
    /// The text is not in the file's language.
    #[error("invalid {language}: {message}")]
    Syntax {
        /// HCL, JSON or YAML.
        language: &'static str,
        /// What the parser says.
        message: String,
    },
    /// A block or attribute that bake does not know.
    #[error("unknown {what} `{name}`")]
    Unknown {
        /// Block, attribute, function, variable.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A value of a wrong type.
    #[error("`{name}` must be {expected}")]
    Type {
        /// What it was given for.
        name: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A function that refuses its arguments.
    #[error("{function}: {message}")]
    Function {
        /// Its name.
        function: String,
        /// What is wrong.
        message: String,
    },
    /// A variable that needs itself, a target that inherits itself, a group in itself.
    #[error("{what} `{name}` needs itself")]
    Cycle {
        /// Variable, target or group.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A validation block that does not hold.
    #[error("variable `{name}`: {message}")]
    Validation {
        /// The variable.
        name: String,
        /// The file's own message.
        message: String,
    },
    /// A target or group that is not there.
    #[error("no target or group `{name}`")]
    NoTarget {
        /// As asked for.
        name: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// A `--set` that makes no sense.
    #[error("--set `{text}`: {message}")]
    Set {
        /// As given.
        text: String,
        /// What is wrong.
        message: String,
    },
    /// A matrix without names for its targets, or with the same one twice.
    #[error("target `{name}`: {message}")]
    Matrix {
        /// The target.
        name: String,
        /// What is wrong.
        message: &'static str,
    },
}

impl BakeError {
    pub(crate) fn new(kind: BakeErrorKind) -> Self {
        Self { file: String::new(), place: None, kind }
    }

    pub(crate) fn at(mut self, file: &str, place: (usize, usize)) -> Self {
        if self.file.is_empty() {
            file.clone_into(&mut self.file);
            self.place = Some(place);
        }
        self
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match &self.kind {
            BakeErrorKind::NoTarget { known, .. } if known.is_empty() => Some("the files define no targets".into()),
            BakeErrorKind::NoTarget { known, .. } => Some(format!("there are {}", known.join(", "))),
            BakeErrorKind::Set { .. } => Some("write --set TARGET.KEY=VALUE, such as app.args.VERSION=1".into()),
            BakeErrorKind::Matrix { .. } => {
                Some("give the target a `name` that uses every variable of the matrix".into())
            }
            _ => None,
        }
    }
}

impl fmt::Display for BakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.kind),
            None if self.file.is_empty() => self.kind.fmt(f),
            None => write!(f, "{}: {}", self.file, self.kind),
        }
    }
}

impl std::error::Error for BakeError {}
