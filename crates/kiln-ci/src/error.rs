//! What can be wrong with a file that is to be migrated.

/// Why a file cannot be migrated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The text is no YAML.
    #[error("{file}:{line}:{column}: invalid YAML: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// The file is YAML, and no workflow.
    #[error("{file}: no workflow: it has neither `jobs:` nor the `runs: steps:` of an action")]
    NoWorkflow {
        /// The file.
        file: String,
    },
    /// Nothing in the file is for kiln.
    #[error("{}: nothing to migrate", .files.join(", "))]
    Nothing {
        /// The files.
        files: Vec<String>,
        /// What looks as if it were for kiln and is not, with its place.
        reasons: Vec<String>,
    },
    /// What was written cannot be read again.
    #[error("{file}: the result would be wrong: {message}")]
    Result {
        /// The file.
        file: String,
        /// What is wrong with it.
        message: String,
    },
}

impl MigrateError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Syntax { .. } => "mend that line; `kiln migrate` reads what GitHub would read".to_owned(),
            Self::NoWorkflow { .. } => {
                "name a workflow of .github/workflows, an action.yml, or a shell script (*.sh)".to_owned()
            }
            Self::Nothing { reasons, .. } if !reasons.is_empty() => reasons.join("\n      "),
            Self::Nothing { .. } => {
                "it looks for docker/build-push-action, docker/bake-action, `docker buildx build|bake`, `docker run` of a \
                 Nuitka build, and a test job with a matrix of Python versions"
                    .to_owned()
            }
            Self::Result { .. } => "this is kiln's mistake: please report the file".to_owned(),
        }
    }
}
