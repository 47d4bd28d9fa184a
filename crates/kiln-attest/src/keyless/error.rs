//! Why there is no signature without a key.

/// Why a service did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeylessError {
    /// A token is no token.
    #[error("the identity token cannot be used: {problem}")]
    Token {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A service does not answer.
    #[error("{service} cannot be reached")]
    Unreachable {
        /// Which.
        service: &'static str,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// A service says no.
    #[error("{service} refuses with {status}: {message}")]
    Refused {
        /// Which.
        service: &'static str,
        /// The status of HTTP.
        status: u16,
        /// What it says.
        message: String,
    },
    /// A service answers something else than was asked.
    #[error("{service} answers what was not asked for: {problem}")]
    Answer {
        /// Which.
        service: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl KeylessError {
    /// What may help, if anything is known to.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Token { .. } | Self::Refused { status: 400..=403, .. } => Some(
                "the token must be for the audience `sigstore` and not yet expired; on GitHub the job needs `id-token: write`",
            ),
            Self::Unreachable { .. } | Self::Refused { .. } => {
                Some("try again later, or leave `keyless` out of release.sign")
            }
            Self::Answer { .. } => Some("is a proxy in between that answers for it?"),
        }
    }
}
