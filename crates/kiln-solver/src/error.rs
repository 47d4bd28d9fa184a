//! What can go wrong in a build.

use std::io;
use std::path::PathBuf;

use kiln_artifact::place::PlaceError;
use kiln_docker::{ContainerId, EngineError};
use kiln_graph::{Origin, Platform};

/// Shorthand.
pub type Result<T, E = SolveError> = std::result::Result<T, E>;

/// A failed build, or a failed part of it.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// A command ended with an error.
    #[error("`{}` failed for {platform} with exit code {code}{}", origin.text, if *oom { " (out of memory)" } else { "" })]
    Step {
        /// The instruction.
        origin: Box<Origin>,
        /// The platform of the container.
        platform: Platform,
        /// The container that it ran in; it goes with the build.
        container: ContainerId,
        /// Exit code.
        code: i64,
        /// Whether the kernel ended it for memory.
        oom: bool,
        /// Last lines of its output.
        tail: Vec<String>,
        /// Errors that the step itself named (`kiln: error: ...` lines).
        errors: Vec<String>,
        /// Hints that the step itself named (`kiln: hint: ...` lines), after those that its limits give.
        hints: Vec<String>,
        /// Whether the step knows the cause for certain: it named an error and had no doubt (a `kiln: doubt` line).
        certain: bool,
        /// Whether it complained of a full disk.
        no_space: bool,
    },
    /// A step could not run with native programs, and was not allowed to run otherwise.
    #[error("`{}` cannot run as a native twin for {platform}: {reason}", origin.text)]
    Twin {
        /// The instruction.
        origin: Box<Origin>,
        /// The platform of the container.
        platform: Platform,
        /// Why.
        reason: String,
    },
    /// A cache could not travel.
    #[error("{problem}")]
    Travel {
        /// What happened.
        problem: String,
        /// What can be done.
        hint: Option<String>,
    },
    /// The daemon failed while an instruction ran.
    #[error("`{}` could not run for {platform}", origin.text)]
    StepEngine {
        /// The instruction.
        origin: Box<Origin>,
        /// The platform of the container.
        platform: Platform,
        /// What failed.
        #[source]
        source: EngineError,
    },
    /// The daemon failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file of the client could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A `COPY` names what is not there.
    #[error("`{pattern}` is not in {place}")]
    CopyMissing {
        /// The instruction.
        origin: Box<Origin>,
        /// The path or pattern.
        pattern: String,
        /// Where it was looked for.
        place: Searched,
    },
    /// A `COPY` cannot be done.
    #[error("cannot copy to `{path}`: {problem}")]
    Copy {
        /// The instruction.
        origin: Box<Origin>,
        /// The path in the container.
        path: String,
        /// Why.
        problem: String,
    },
    /// A file changed between hashing and sending.
    #[error("{} changed while it was being sent to the daemon", path.display())]
    ContextChanged {
        /// The file.
        path: PathBuf,
    },
    /// The graph asks for what kiln cannot do yet.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// The instruction.
        origin: Box<Origin>,
        /// The feature.
        what: String,
    },
    /// A step needs a secret that was not given.
    #[error("the secret `{id}` is required, but was not given")]
    SecretMissing {
        /// The instruction.
        origin: Box<Origin>,
        /// Its id.
        id: String,
    },
    /// A step needs the user's agent, which was not given.
    #[error("the ssh agent `{id}` is required, but was not given")]
    AgentMissing {
        /// The instruction.
        origin: Box<Origin>,
        /// Its id.
        id: String,
    },
    /// The target holds no file to export.
    #[error("the target `{target}` for {platform} holds no files to export")]
    NothingToExport {
        /// Name of the target.
        target: String,
        /// Its platform.
        platform: Platform,
    },
    /// An artifact is not what it should be.
    #[error("{} is not a good artifact for {platform}: {}", path.display(), problems.join("; "))]
    BadArtifact {
        /// Name of the file.
        path: PathBuf,
        /// The platform that it was built for.
        platform: Platform,
        /// What is wrong with it.
        problems: Vec<String>,
        /// What to do about it.
        hint: Option<String>,
    },
    /// An artifact could not be examined or placed.
    #[error("cannot finish the artifact for {platform}")]
    Artifact {
        /// The platform.
        platform: Platform,
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What to do, if known.
        hint: Option<String>,
    },
    /// An image could not be pushed.
    #[error(transparent)]
    Registry(#[from] kiln_docker::registry::RegistryError),
    /// The smoke run failed.
    #[error("the smoke run `{command}` failed for {platform} in a clean `{image}`: {problem}")]
    Smoke {
        /// The command.
        command: String,
        /// The platform.
        platform: Platform,
        /// The clean image.
        image: String,
        /// Exit code or time-out.
        problem: String,
        /// Last lines of its output.
        tail: Vec<String>,
    },
    /// An image that the build stands on was removed after it was planned.
    #[error("the {what} was removed from the daemon while the build ran")]
    ImageGone {
        /// What it is, for people.
        what: String,
        /// What the daemon said.
        #[source]
        source: EngineError,
    },
    /// A cache that should be emptied is in use.
    #[error("the cache `{id}` for {platform} cannot be emptied while a container uses it")]
    CacheInUse {
        /// Id of the cache.
        id: String,
        /// Its platform.
        platform: Platform,
        /// What the daemon said.
        #[source]
        source: EngineError,
    },
    /// The user stopped the build.
    #[error("the build was cancelled")]
    Cancelled,
    /// Something this one needs has failed and is reported on its own.
    #[error("`{}` failed, which {platform} needs too", origin.text)]
    Dependency {
        /// The instruction that failed.
        origin: Box<Origin>,
        /// The platform.
        platform: Platform,
    },
}

/// What to do about a failure of the client's file system, or about what was to be put there, if that is what `error` or
/// one of its causes is.
pub fn file_hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(PlaceError::UnsafeEntry { .. }) = error.downcast_ref() {
            let hint = "export a stage that holds the results alone: `FROM scratch` and `COPY --from=...`";
            return Some(hint.to_owned());
        }
        if let Some(hint) = error.downcast_ref::<io::Error>().and_then(io_hint) {
            return Some(hint);
        }
        next = error.source();
    }
    None
}

fn io_hint(error: &io::Error) -> Option<String> {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space on this machine, then build again"
        }
        io::ErrorKind::PermissionDenied => "check who owns it and who may write there",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only: choose another folder with --output",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file is in the way: remove it, or choose another folder with --output"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Where the source of a `COPY` was looked for.
#[derive(Clone, Debug)]
pub enum Searched {
    /// In the build context.
    Context {
        /// What it is: `the build context FOLDER`.
        title: String,
        /// What leaves the path out, if it exists: `.dockerignore:3 leaves it out`.
        hidden_by: Option<String>,
    },
    /// In a stage or an image.
    Snapshot,
}

impl std::fmt::Display for Searched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Context { title, .. } => f.write_str(title),
            Self::Snapshot => f.write_str("the stage or image that it is copied from"),
        }
    }
}

impl SolveError {
    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Step { oom: true, hints, .. } if hints.is_empty() => Some(
                "the daemon's machine ran out of memory: build fewer platforms at once, lower `[nuitka] jobs`, or set \
                 `[nuitka] lto = \"no\"`; `kiln doctor` says how much there is"
                    .to_owned(),
            ),
            Self::Step { no_space: true, .. } => Some(
                "free space with `kiln cache prune` or `docker system prune`, then build again; what is done is kept; `kiln \
                 doctor` says how much there is"
                    .to_owned(),
            ),
            Self::Step { hints, .. } => hints.first().cloned(),
            Self::StepEngine { source, .. } | Self::Engine(source) => source.hint(),
            Self::CopyMissing { place, .. } => Some(match place {
                Searched::Context { hidden_by: Some(rule), .. } => {
                    format!("it is there, but {rule}")
                }
                Searched::Context { .. } => "check the path; it is relative to the build context".to_owned(),
                Searched::Snapshot => "check the path, and that the steps before make it".to_owned(),
            }),
            Self::ContextChanged { .. } => Some("build again when nothing writes to the project".to_owned()),
            Self::Twin { .. } => Some("leave it to kiln with `--twin auto`, or emulate with `--twin off`".to_owned()),
            Self::ImageGone { .. } => Some("build again".to_owned()),
            Self::CacheInUse { .. } => Some("wait for the other build, or leave out --no-cache-mounts".to_owned()),
            Self::NothingToExport { .. } => {
                Some("name a stage that ends with files, for instance `FROM scratch` and a `COPY --from`".to_owned())
            }
            Self::Smoke { .. } => Some(
                "run it yourself to see more; set `[verify] run` to a command that the program has, or to false"
                    .to_owned(),
            ),
            Self::SecretMissing { id, .. } => {
                Some(format!("give it with `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`"))
            }
            Self::AgentMissing { id, .. } => {
                Some(format!("start ssh-agent and give it with `--ssh {id}`, or `--ssh {id}=SOCKET`"))
            }
            Self::Io { source, .. } => io_hint(source),
            Self::Registry(error) => error.hint(),
            Self::Artifact { hint, .. } | Self::BadArtifact { hint, .. } | Self::Travel { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    /// The instruction at fault, if there is one.
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Step { origin, .. }
            | Self::StepEngine { origin, .. }
            | Self::CopyMissing { origin, .. }
            | Self::Copy { origin, .. }
            | Self::Unsupported { origin, .. }
            | Self::SecretMissing { origin, .. }
            | Self::AgentMissing { origin, .. }
            | Self::Dependency { origin, .. } => Some(origin),
            _ => None,
        }
    }

    /// Whether somebody else has stopped reading; they know why.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
