//! Why a key cannot be used.

use kiln_artifact::place::PlaceError;

/// Why a key cannot be used, or a file not be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It is something else.
    #[error("it is no {what}: {reason}")]
    Not {
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It is locked in a way that is not known here.
    #[error("it is locked in a way that is not known here: {0}")]
    Locked(String),
    /// It is locked, and there is no password.
    #[error("it is locked, and no password was given")]
    NoPassword,
    /// It is locked with another password, or damaged.
    #[error("the password does not open it, or it is damaged")]
    WrongPassword,
    /// A file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A signature cannot be written.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

impl KeyError {
    pub(super) fn not(what: &'static str, reason: &dyn std::fmt::Display) -> Self {
        Self::Not { what, reason: reason.to_string() }
    }

    /// What may help, if anything is known to.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Not { .. } => Some("`minisign -G` and `cosign generate-key-pair` make keys"),
            Self::Locked(_) => Some("`cosign import-key-pair` locks a key anew; `openssl pkey` unlocks one"),
            Self::NoPassword | Self::WrongPassword => Some("the password of a key comes from a variable"),
            Self::Io(_) | Self::Place(_) => None,
        }
    }
}
