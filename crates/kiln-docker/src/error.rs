//! What can go wrong between kiln and a daemon, and what to do about it.

use std::error::Error as StdError;

use kiln_graph::Platform;

/// Shorthand.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// An underlying cause of any type.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// A failed exchange with the daemon.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers at the address.
    #[error("no Docker daemon answers at {host}")]
    Unreachable {
        /// The address.
        host: String,
        /// What the transport said.
        #[source]
        source: Cause,
    },
    /// The socket may not be opened.
    #[error("permission denied on the Docker socket {host}")]
    PermissionDenied {
        /// The address.
        host: String,
        /// What the transport said.
        #[source]
        source: Cause,
    },
    /// The address, context or certificate settings make no sense.
    #[error("cannot connect to a Docker daemon: {problem}")]
    Connection {
        /// What is wrong, naming the file or variable.
        problem: String,
        /// What to change.
        hint: String,
    },
    /// The daemon speaks an API older than kiln can use.
    #[error("the daemon speaks Docker API {found}, kiln needs {needed} (Engine 20.10) or newer")]
    TooOld {
        /// The daemon's version.
        found: String,
        /// The oldest that works.
        needed: String,
    },
    /// The daemon's disk is full.
    #[error("no space left on the daemon's disk while {action}")]
    NoSpace {
        /// What was being done.
        action: String,
    },
    /// No such image, or not for this platform.
    #[error("image `{reference}` was not found for {platform}")]
    ImageNotFound {
        /// The reference.
        reference: String,
        /// The platform.
        platform: Platform,
        /// What the daemon or the registry said.
        message: String,
    },
    /// The registry does not answer the daemon.
    #[error("the daemon cannot reach the registry of `{reference}`")]
    RegistryUnreachable {
        /// The reference.
        reference: String,
        /// What the daemon said.
        message: String,
    },
    /// The registry wants other credentials.
    #[error("the registry refused access to `{reference}`")]
    Unauthorized {
        /// The reference.
        reference: String,
        /// What the registry said.
        message: String,
    },
    /// Credentials could not be read.
    #[error("cannot read registry credentials: {problem}")]
    Credentials {
        /// What is wrong, naming the file or helper.
        problem: String,
    },
    /// No such container, volume or path.
    #[error("{what} does not exist on the daemon")]
    NotFound {
        /// The object.
        what: String,
    },
    /// The name is taken, or the object is in use.
    #[error("conflict while {action}: {message}")]
    Conflict {
        /// What was being done.
        action: String,
        /// What the daemon said.
        message: String,
    },
    /// The command of a container could not be started.
    #[error("cannot start the command: {message}")]
    CannotStart {
        /// What the runtime said.
        message: String,
    },
    /// Any other answer of the daemon.
    #[error("the daemon failed while {action}: {message}")]
    Api {
        /// What was being done.
        action: String,
        /// HTTP status.
        status: u16,
        /// What the daemon said.
        message: String,
    },
    /// The connection broke.
    #[error("lost the connection to the daemon while {action}")]
    Transport {
        /// What was being done.
        action: String,
        /// What the transport said.
        #[source]
        source: Cause,
    },
    /// Emulation cannot be set up.
    #[error("cannot set up emulation for {platform}: {reason}")]
    Emulation {
        /// The platform.
        platform: Platform,
        /// Why.
        reason: String,
        /// What to do.
        hint: String,
    },
}

/// Ends the hints of failures that have causes which only a look at the daemon tells.
pub const DOCTOR: &str = "`kiln doctor` looks for the cause";

impl EngineError {
    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = self.own_hint();
        match self {
            Self::Unreachable { .. } | Self::NoSpace { .. } | Self::Emulation { .. } => {
                Some(hint.filter(|hint| !hint.is_empty()).map_or(DOCTOR.to_owned(), |hint| format!("{hint}; {DOCTOR}")))
            }
            Self::Transport { .. } => Some(DOCTOR.to_owned()),
            _ => hint,
        }
    }

    fn own_hint(&self) -> Option<String> {
        Some(match self {
            // The kernel's own words, as every runtime passes them on.
            Self::CannotStart { message } if message.contains("exec format error") => {
                format!("programs of this platform do not run on the daemon; {DOCTOR}")
            }
            Self::Unreachable { host, .. } if host.starts_with("unix://") => {
                "is the daemon running? start it (`sudo systemctl start docker`), or set DOCKER_HOST or a docker context"
                    .to_owned()
            }
            Self::Unreachable { .. } => "check DOCKER_HOST, the docker context, and that the host is up".to_owned(),
            Self::PermissionDenied { .. } => {
                "add yourself to the `docker` group (`sudo usermod -aG docker $USER`, then log in again), or run as root"
                    .to_owned()
            }
            Self::Connection { hint, .. } | Self::Emulation { hint, .. } => hint.clone(),
            Self::TooOld { .. } => "upgrade the Docker Engine".to_owned(),
            Self::NoSpace { .. } => {
                "free space with `kiln cache prune` or `docker system prune`, then build again".to_owned()
            }
            Self::ImageNotFound { platform, message, .. } => {
                format!("check the name, and that the image exists for {platform}; the daemon said: {message}")
            }
            Self::RegistryUnreachable { message, .. } => {
                format!("check the network, proxy and mirrors of the daemon; it said: {message}")
            }
            Self::Unauthorized { message, .. } => {
                format!("log in with `docker login`, or check the name; the registry said: {message}")
            }
            Self::Credentials { .. } => "check `credsStore` and `credHelpers` in the docker config".to_owned(),
            _ => return None,
        })
    }

    /// Whether the object was simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::ImageNotFound { .. })
    }
}
