//! What can go wrong between kiln and a registry.

use std::path::PathBuf;

use crate::{Cause, EngineError};

/// A failed exchange with a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The text names no image of a registry.
    #[error("`{text}` is not a name that an image can be pushed to")]
    Name {
        /// The text.
        text: String,
    },
    /// Nobody answers, or TLS fails.
    #[error("cannot reach the registry {registry}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// What the transport said.
        #[source]
        source: Cause,
    },
    /// The registry wants other credentials.
    #[error("the registry {registry} refused access to `{repository}`")]
    Denied {
        /// The registry.
        registry: String,
        /// The repository in it.
        repository: String,
        /// What the registry said.
        message: String,
    },
    /// Any other answer.
    #[error("the registry {registry} failed while {action}: {message}")]
    Failed {
        /// The registry.
        registry: String,
        /// What was being done.
        action: String,
        /// HTTP status; 0 if there was none.
        status: u16,
        /// What the registry said.
        message: String,
    },
    /// Credentials could not be read.
    #[error(transparent)]
    Credentials(EngineError),
    /// A file that should be sent cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl RegistryError {
    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Name { .. } => {
                Some("write [registry/]repository[:tag], in lower case and without a digest".to_owned())
            }
            Self::Unreachable { .. } => Some(
                "check the name and the network; `[network] ca-certificates` adds a certificate authority, and \
                 `registry.insecure=true` in --output allows plain HTTP"
                    .to_owned(),
            ),
            Self::Denied { message, .. } => {
                Some(format!("log in with `docker login`, or check the name; the registry said: {message}"))
            }
            Self::Credentials(error) => error.hint(),
            Self::Failed { .. } | Self::File { .. } => None,
        }
    }

    /// Whether it is worth another try.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Failed { status, .. } => *status == 429 || *status >= 500 || *status == 0,
            _ => false,
        }
    }
}
