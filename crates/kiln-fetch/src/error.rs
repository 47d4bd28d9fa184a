//! What can go wrong while files are fetched.

use std::io;
use std::path::PathBuf;

/// Shorthand.
pub type Result<T, E = FetchError> = std::result::Result<T, E>;

/// Files could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server could not be reached, or the transfer broke off.
    #[error("cannot download {url}")]
    Transfer {
        /// The URL, without passwords.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The server refused.
    #[error("cannot download {url}: the server answers {status}")]
    Status {
        /// The URL, without passwords.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The content is not what `--checksum` says.
    #[error("{url} has the digest {found}, not {expected}")]
    Checksum {
        /// The URL, without passwords.
        url: String,
        /// What was asked for.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A proxy's address makes no sense.
    #[error("the proxy `{proxy}` cannot be used")]
    Proxy {
        /// The address.
        proxy: String,
    },
    /// There is no git on this machine.
    #[error("the program `git` is needed for {repository}, and is not installed")]
    NoGit {
        /// The repository, without passwords.
        repository: String,
    },
    /// git failed.
    #[error("git cannot {action} {repository}: {message}")]
    Git {
        /// `read`, `fetch`, ...
        action: &'static str,
        /// The repository, without passwords.
        repository: String,
        /// The end of what git said.
        message: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repository} has no branch or tag `{reference}`")]
    NoReference {
        /// The repository, without passwords.
        repository: String,
        /// What was asked for.
        reference: String,
    },
    /// The commit is not the one that was asked for.
    #[error("{repository} is at commit {found}, not {expected}")]
    Commit {
        /// The repository and the reference, without passwords.
        repository: String,
        /// What was asked for.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The folder is not in the repository.
    #[error("{repository} has no folder `{subdir}`")]
    NoSubdir {
        /// The repository and the reference, without passwords.
        repository: String,
        /// The folder.
        subdir: String,
    },
    /// An entry of an archive would be written outside of the folder.
    #[error("the archive is not safe to unpack: `{path}` {problem}")]
    Unsafe {
        /// The entry.
        path: String,
        /// Why.
        problem: &'static str,
    },
    /// An archive is damaged.
    #[error("the archive cannot be read")]
    Archive(#[source] io::Error),
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
    /// The user stopped it.
    #[error("stopped")]
    Stopped,
}

impl FetchError {
    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Transfer { .. } => {
                "check the address; proxies and certificates are set in `[network]` or by HTTPS_PROXY".to_owned()
            }
            Self::Status { status: 401 | 403, .. } => {
                "the server wants credentials, which kiln does not send".to_owned()
            }
            Self::Status { .. } => "check the address".to_owned(),
            Self::Checksum { found, .. } => format!("if the file is meant to have changed, write --checksum={found}"),
            Self::Proxy { .. } => "write http://host:port".to_owned(),
            Self::NoGit { .. } => "install git, or download the files and use them from a folder".to_owned(),
            Self::Git { .. } => "try `git ls-remote` with the same address; kiln uses git's own credentials".to_owned(),
            Self::NoReference { .. } => "name a branch, a tag or a whole commit id behind `#`".to_owned(),
            Self::Commit { .. } => "name the commit itself behind `#` to stay at it".to_owned(),
            Self::NoSubdir { .. } => "check the folder behind `#ref:`".to_owned(),
            Self::Unsafe { .. } => "make the archive again with relative paths, from inside of its folder".to_owned(),
            Self::Archive(_) => "make the archive again: plain, gzip, bzip2, xz and zstd are understood".to_owned(),
            Self::Io { .. } | Self::Stopped => return None,
        })
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
