//! What can go wrong with a store.

use std::time::Duration;

/// The result of this crate.
pub type Result<T, E = CacheError> = std::result::Result<T, E>;

/// Why something could not be read from or written to a store. None of these need end a build.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The place does not answer, or the way to it broke.
    #[error("{place} cannot be reached: {reason}")]
    Unreachable {
        /// The store.
        place: String,
        /// What happened.
        reason: String,
    },
    /// It did not answer in time.
    #[error("{place} did not answer within {} s", limit.as_secs())]
    TimedOut {
        /// The store.
        place: String,
        /// How long was waited.
        limit: Duration,
    },
    /// It knows us, or not, and says no.
    #[error("{place} does not permit to {action}: {reason}")]
    Denied {
        /// The store.
        place: String,
        /// `read` or `write`.
        action: &'static str,
        /// What it said.
        reason: String,
    },
    /// It asks to come back later, and did so too often.
    #[error("{place} is busy and asks to wait {} s", wait.as_secs())]
    Busy {
        /// The store.
        place: String,
        /// How long it wants to be left alone.
        wait: Duration,
    },
    /// It answered with something that is not what was asked for.
    #[error("{place} gave an answer that makes no sense: {reason}")]
    Odd {
        /// The store.
        place: String,
        /// What is odd.
        reason: String,
    },
    /// What was read is not what was written.
    #[error("{what} of {place} is damaged: {reason}")]
    Damaged {
        /// The store.
        place: String,
        /// Which object.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is signed by nobody who is trusted.
    #[error("{what} of {place} is not trusted: {reason}")]
    Untrusted {
        /// The store.
        place: String,
        /// Which object.
        what: String,
        /// Why.
        reason: String,
    },
    /// A file of this machine.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The address of a store says nothing that is known.
    #[error("`{text}` names no place for caches: {problem}")]
    BadAddress {
        /// What was written.
        text: String,
        /// What is wrong with it.
        problem: String,
        /// How to write it.
        hint: String,
    },
}

impl CacheError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::BadAddress { hint, .. } => hint.clone(),
            Self::Denied { action: "write", .. } => {
                "runs of forks and of some triggers may read alone; nothing is lost but what would have been saved"
                    .to_owned()
            }
            Self::Denied { .. } => "look at the credentials of this store and at their permissions".to_owned(),
            Self::Untrusted { .. } => {
                "it was saved without a key, or with another one; save it again where the key is at hand".to_owned()
            }
            Self::Damaged { .. } => {
                "`kiln cache verify` removes what is damaged; the next save makes it anew".to_owned()
            }
            _ => return None,
        })
    }
}
