//! Why a release could not be published.

use std::path::PathBuf;
use std::time::Duration;

use crate::forge::ForgeKind;

/// Shorthand.
pub type Result<T, E = PublishError> = std::result::Result<T, E>;

/// Why a release could not be published. `place` is the forge and the repository, as people name them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Nothing says where to publish.
    #[error("where to publish is not known: {reason}")]
    NoPlace {
        /// What is missing.
        reason: String,
    },
    /// There is no token.
    #[error("there is no token for {forge}")]
    NoToken {
        /// The forge.
        forge: ForgeKind,
    },
    /// The folder of the release lacks something.
    #[error("{problem}")]
    Files {
        /// What.
        problem: String,
        /// What helps.
        hint: String,
    },
    /// A file is not what its sum says.
    #[error("{} is not as SHA256SUMS says: its sum is {found}, listed is {listed}", path.display())]
    Sum {
        /// The file.
        path: PathBuf,
        /// The listed sum.
        listed: String,
        /// The sum of the file.
        found: String,
    },
    /// A file changed while it was sent.
    #[error("{} changed while it was sent", path.display())]
    FileChanged {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The forge does not know the commit.
    #[error("{place} does not have commit {commit}")]
    NotPushed {
        /// Where.
        place: String,
        /// The commit.
        commit: String,
    },
    /// The tag was made here, and the forge does not know it.
    #[error("{place} does not have tag {tag}, which was made here")]
    TagNotPushed {
        /// Where.
        place: String,
        /// The tag.
        tag: String,
    },
    /// The tag is another commit's.
    #[error("tag {tag} of {place} is commit {found}, not {commit}")]
    TagElsewhere {
        /// Where.
        place: String,
        /// The tag.
        tag: String,
        /// Its commit.
        found: String,
        /// The commit that is to be released.
        commit: String,
    },
    /// What was published is not what would be published now.
    #[error("release {tag} of {place} is published, and {}", differences.join(", "))]
    Published {
        /// Where.
        place: String,
        /// The tag.
        tag: String,
        /// A few words for each file: its name, and how it differs.
        differences: Vec<String>,
    },
    /// The files of the draft are not those that were sent.
    #[error("the draft of {tag} of {place} is not complete: {}", differences.join(", "))]
    Incomplete {
        /// Where.
        place: String,
        /// The tag.
        tag: String,
        /// A few words for each file: its name, and how it differs.
        differences: Vec<String>,
    },
    /// 401.
    #[error("{place}: the token is not accepted ({reason})")]
    Unauthorized {
        /// Where.
        place: String,
        /// What the forge says.
        reason: String,
        /// What a token needs.
        needs: &'static str,
    },
    /// 403.
    #[error("{place}: the token may not {action} ({reason})")]
    Forbidden {
        /// Where.
        place: String,
        /// What was tried.
        action: String,
        /// What the forge says.
        reason: String,
        /// What a token needs.
        needs: &'static str,
    },
    /// 404: forges do not tell what is missing from what may not be seen.
    #[error("{place}: cannot {action}: there is no such thing, or the token may not see it ({reason})")]
    NotFound {
        /// Where.
        place: String,
        /// What was tried.
        action: String,
        /// What the forge says.
        reason: String,
        /// What a token needs.
        needs: &'static str,
    },
    /// The repository has another name now.
    #[error("{place} has moved")]
    Moved {
        /// Where.
        place: String,
    },
    /// Another answer that is no success.
    #[error("{place}: cannot {action}: {reason} ({status})")]
    Refused {
        /// Where.
        place: String,
        /// What was tried.
        action: String,
        /// What the forge says.
        reason: String,
        /// The status of the answer.
        status: u16,
    },
    /// The forge cannot be reached, or fails.
    #[error("{place}: cannot {action}: {reason}")]
    Unreachable {
        /// Where.
        place: String,
        /// What was tried.
        action: String,
        /// What happened, the last time.
        reason: String,
    },
    /// The forge does not answer.
    #[error("{place}: cannot {action}: no answer for {} s", limit.as_secs_f32())]
    TimedOut {
        /// Where.
        place: String,
        /// What was tried.
        action: String,
        /// For how long nothing moved.
        limit: Duration,
    },
    /// The forge wants to be asked again later, and that is too late.
    #[error("{place}: cannot {action}: the forge wants to be left alone for {} s", wait.as_secs())]
    Busy {
        /// Where.
        place: String,
        /// What was tried.
        action: String,
        /// For how long.
        wait: Duration,
    },
    /// An answer that means nothing.
    #[error("{place}: cannot {action}: the answer is not understood ({reason})")]
    Odd {
        /// Where.
        place: String,
        /// What was tried.
        action: String,
        /// What is odd.
        reason: String,
    },
    /// The HTTP client cannot be made.
    #[error("cannot reach the network: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
}

impl PublishError {
    /// What may help, if anything is known to.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPlace { .. } => {
                "set `forge` and `repository` in [release] of kiln.toml, or pass --forge and --repository OWNER/NAME"
                    .into()
            }
            Self::NoToken { forge } => format!("set {}; {}", forge.variables(), forge.needs()),
            Self::Files { hint, .. } => hint.clone(),
            Self::Sum { .. } => {
                "make the files anew with `kiln build` and `kiln package`; SHA256SUMS is then written".into()
            }
            Self::FileChanged { .. } => "nothing may write to the files of a release; run it again".into(),
            Self::NotPushed { .. } => "push it first: git push".into(),
            Self::TagNotPushed { tag, .. } => format!("push it first: git push origin {tag}"),
            Self::TagElsewhere { .. } => {
                "a tag stays where it is: release under a new version, or check out its commit".into()
            }
            Self::Published { .. } => {
                "release under a new version; --replace changes what people may have downloaded already".into()
            }
            Self::Incomplete { .. } => "run it again; it sends what is missing".into(),
            Self::Unauthorized { needs, .. } | Self::Forbidden { needs, .. } => (*needs).to_owned(),
            Self::NotFound { needs, .. } => format!("is the repository spelt right? If so, {needs}"),
            Self::Moved { .. } => {
                "name it as it is called now: `repository` in [release], or --repository OWNER/NAME".into()
            }
            Self::Unreachable { .. } | Self::TimedOut { .. } => {
                "run it again later; `kiln doctor` looks at proxies and certificates".into()
            }
            Self::Busy { .. } => "run it again after that time".into(),
            Self::Io { .. } | Self::Refused { .. } | Self::Odd { .. } | Self::Client { .. } => return None,
        })
    }
}
