//! What a command can fail with, and the exit code of each. The codes are part of the interface: README.md lists them.

use std::path::PathBuf;

use kiln_artifact::checksum::ChecksumError;
use kiln_artifact::place::PlaceError;
use kiln_attest::keyless::KeylessError;
use kiln_cache::CacheError;
use kiln_config::ConfigError;
use kiln_docker::EngineError;
use kiln_docker::registry::RegistryError;
use kiln_fetch::FetchError;
use kiln_history::HistoryError;
use kiln_package::PackageError;
use kiln_publish::PublishError;
use kiln_solver::SolveError;

/// Shorthand.
pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

/// Exit codes.
pub(crate) mod exit {
    /// A step of the build failed, or a check found something.
    pub(crate) const STEP: u8 = 1;
    /// The command line is wrong (clap's own code).
    pub(crate) const USAGE: u8 = 2;
    /// Settings, Dockerfile or a file that they name are wrong.
    pub(crate) const CONFIG: u8 = 3;
    /// The daemon, a registry or a forge cannot be used, or lacks what is asked; or another server cannot be reached.
    pub(crate) const DAEMON: u8 = 4;
    /// A platform cannot run.
    pub(crate) const EMULATION: u8 = 5;
    /// An artifact is wrong, or its smoke run failed.
    pub(crate) const VERIFY: u8 = 6;
    /// A file of this machine cannot be read or written.
    pub(crate) const IO: u8 = 7;
    /// Some platforms were built, others failed.
    pub(crate) const PARTIAL: u8 = 8;
    /// Stopped by the user.
    pub(crate) const CANCELLED: u8 = 130;
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{}{}", place(.0), .0)]
    Dockerfile(kiln_dockerfile::Error),
    #[error(transparent)]
    Bake(#[from] kiln_bake::BakeError),
    #[error("{}: {error}", path.display())]
    Ignore { path: PathBuf, error: kiln_dockerfile::IgnoreError },
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file that is to be migrated.
    #[error(transparent)]
    Migrate(#[from] kiln_ci::MigrateError),
    /// A place for caches.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A signature without a key.
    #[error(transparent)]
    Keyless(#[from] KeylessError),
    /// The records of builds.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A release.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A base image; the place names it, and there may be a way around it.
    #[error("{}{error}", place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
    Image { place: Option<String>, error: EngineError, around: Option<&'static str> },
    /// Files from elsewhere; the place names them.
    #[error("{}{error}", place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
    Fetch {
        place: Option<String>,
        #[source]
        error: FetchError,
    },
    /// A package; the place is that of the setting to blame.
    #[error("{}{error}", place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
    Package {
        place: Option<String>,
        #[source]
        error: Box<PackageError>,
    },
    /// Sums of files.
    #[error(transparent)]
    Checksum(Box<ChecksumError>),
    #[error(transparent)]
    Solve(#[from] SolveError),
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("{problem}")]
    Usage { problem: String, hint: String },
    #[error("{problem}")]
    Missing { problem: String, hint: String },
    /// Files cannot be watched.
    #[error("{problem}")]
    Watch { problem: String, hint: String },
    /// A Dockerfile whose `# check=error=true` makes warnings fail.
    #[error("build checks found violations of {}", rules.join(", "))]
    Checks { rules: Vec<&'static str> },
    /// The build ended, and its failures have been shown.
    #[error("the build failed")]
    Shown { code: u8 },
}

impl CliError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Says which target of a bake file it is about, where it does not say so itself.
    pub(crate) fn of_target(self, name: Option<&str>) -> Self {
        let Some(name) = name else { return self };
        let told = |problem: String| format!("target {name}: {problem}");
        match self {
            Self::Usage { problem, hint } => Self::Usage { problem: told(problem), hint },
            Self::Missing { problem, hint } => Self::Missing { problem: told(problem), hint },
            other => other,
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Dockerfile(error) => error.hint(),
            Self::Bake(error) => error.hint(),
            Self::Migrate(error) => Some(error.hint()),
            Self::Ignore { error, .. } => Some(error.hint()),
            Self::Engine(error) => error.hint(),
            Self::Image { error, around, .. } => {
                let hints: Vec<String> = error.hint().into_iter().chain(around.map(str::to_owned)).collect();
                (!hints.is_empty()).then(|| hints.join("; "))
            }
            Self::Solve(error) => error.hint(),
            Self::Cache(error) => error.hint(),
            Self::History(error) => error.hint(),
            Self::Keyless(error) => error.hint().map(str::to_owned),
            Self::Publish(PublishError::Io { source, .. }) => kiln_solver::file_hint(source),
            Self::Publish(error) => error.hint(),
            Self::Io { source, .. } | Self::Fetch { error: FetchError::Io { source, .. }, .. } => {
                kiln_solver::file_hint(source)
            }
            Self::Fetch { error, .. } => error.hint(),
            Self::Package { error, .. } => error.hint(),
            Self::Checksum(error) => error.hint().map(str::to_owned),
            Self::Place(error) => kiln_solver::file_hint(error),
            Self::Usage { hint, .. } | Self::Missing { hint, .. } | Self::Watch { hint, .. } => Some(hint.clone()),
            Self::Checks { .. } => Some("`# check=error=true` in the Dockerfile asks for this".to_owned()),
            Self::Shown { .. } => None,
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Dockerfile(_)
            | Self::Bake(_)
            | Self::Migrate(_)
            | Self::Ignore { .. }
            | Self::Missing { .. }
            | Self::Cache(CacheError::BadAddress { .. })
            | Self::Checks { .. } => exit::CONFIG,
            Self::Package { error, .. } => package_code(error),
            Self::Engine(error) | Self::Image { error, .. } => engine_code(error),
            Self::Fetch { error, .. } => fetch_code(error),
            Self::Solve(error) => solve_code(error),
            Self::Io { .. }
            | Self::Place(_)
            | Self::Checksum(_)
            | Self::Watch { .. }
            | Self::Cache(CacheError::Io { .. }) => exit::IO,
            Self::Cache(_) | Self::Keyless(_) => exit::DAEMON,
            Self::Publish(error) => publish_code(error),
            Self::Usage { .. } | Self::History(HistoryError::NotFound { .. } | HistoryError::Ambiguous { .. }) => {
                exit::USAGE
            }
            Self::History(_) => exit::IO,
            Self::Shown { code } => *code,
        }
    }
}

impl From<kiln_dockerfile::Error> for CliError {
    fn from(error: kiln_dockerfile::Error) -> Self {
        Self::Dockerfile(error)
    }
}

/// `FILE:LINE:COLUMN: `.
fn place(error: &kiln_dockerfile::Error) -> String {
    match &error.span {
        Some(span) => format!("{}:{}:{}: ", error.file, span.line, span.column),
        None if error.file.is_empty() => String::new(),
        None => format!("{}: ", error.file),
    }
}

impl From<ChecksumError> for CliError {
    fn from(error: ChecksumError) -> Self {
        Self::Checksum(Box::new(error))
    }
}

fn package_code(error: &PackageError) -> u8 {
    match error {
        PackageError::Io { .. } | PackageError::Rpm(_) => exit::IO,
        _ => exit::CONFIG,
    }
}

fn engine_code(error: &EngineError) -> u8 {
    match error {
        EngineError::Emulation { .. } => exit::EMULATION,
        // The daemon did its part: there is no such program.
        EngineError::CannotStart { .. } => exit::STEP,
        _ => exit::DAEMON,
    }
}

fn publish_code(error: &PublishError) -> u8 {
    match error {
        PublishError::NoPlace { .. }
        | PublishError::NoToken { .. }
        | PublishError::Files { .. }
        | PublishError::NotPushed { .. }
        | PublishError::TagNotPushed { .. }
        | PublishError::TagElsewhere { .. } => exit::CONFIG,
        PublishError::Sum { .. } | PublishError::FileChanged { .. } | PublishError::Published { .. } => exit::VERIFY,
        PublishError::Io { .. } => exit::IO,
        _ => exit::DAEMON,
    }
}

fn fetch_code(error: &FetchError) -> u8 {
    match error {
        FetchError::Transfer { .. } | FetchError::Status { .. } | FetchError::Git { .. } => exit::DAEMON,
        FetchError::Io { .. } => exit::IO,
        FetchError::Stopped => exit::CANCELLED,
        _ => exit::CONFIG,
    }
}

/// The exit code of a failed target.
pub(crate) fn solve_code(error: &SolveError) -> u8 {
    match error {
        SolveError::Step { no_space: true, .. } | SolveError::ImageGone { .. } | SolveError::CacheInUse { .. } => {
            exit::DAEMON
        }
        SolveError::Step { .. } | SolveError::Dependency { .. } => exit::STEP,
        SolveError::StepEngine { source, .. } | SolveError::Engine(source) => engine_code(source),
        SolveError::Twin { .. } => exit::EMULATION,
        SolveError::Artifact { source, .. } if is_unsafe(&**source) => exit::VERIFY,
        SolveError::Io { .. }
        | SolveError::ContextChanged { .. }
        | SolveError::Artifact { .. }
        | SolveError::Registry(RegistryError::File { .. }) => exit::IO,
        SolveError::Registry(RegistryError::Name { .. })
        | SolveError::CopyMissing { .. }
        | SolveError::Copy { .. }
        | SolveError::SecretMissing { .. }
        | SolveError::AgentMissing { .. }
        | SolveError::Unsupported { .. } => exit::CONFIG,
        SolveError::Registry(_) | SolveError::Travel { .. } => exit::DAEMON,
        SolveError::NothingToExport { .. } | SolveError::BadArtifact { .. } | SolveError::Smoke { .. } => exit::VERIFY,
        SolveError::Cancelled => exit::CANCELLED,
    }
}

/// Whether the result is to blame, rather than the place for it.
fn is_unsafe(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(PlaceError::UnsafeEntry { .. }))
}
