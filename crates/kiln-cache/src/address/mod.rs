//! What the user writes to name a store.
//!
//! There are two spellings. On the command line it is that of buildx: `type=s3,bucket=B,region=R`, or a bare
//! `HOST/NAME:TAG`, which is a registry's. In `kiln.toml` it is a URL: `s3://B/prefix?region=R`. Either may stand in either
//! place. What is written is read here without looking at anything else ([`Address::parse`]); what the environment adds,
//! such as credentials, is added when the store is opened ([`Address::open`]).

mod open;
mod options;
mod parse;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kiln_docker::registry::ImageName;

use crate::secret::Secret;

pub use open::Surroundings;

/// Which way a cache goes: some options are of one way alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `--cache-from`.
    From,
    /// `--cache-to`.
    To,
}

/// How much is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What the result was made of.
    #[default]
    Min,
    /// Everything.
    Max,
}

/// A store, and what is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The store.
    pub place: Place,
    /// `mode=`; `None` where nothing was said.
    pub mode: Option<Mode>,
    /// `ignore-error=`: whether a build goes on when this store fails. True where nothing was said.
    pub ignore_error: bool,
    /// Options that buildx knows for this type and that mean nothing to kiln, because its caches are no images: for a notice.
    pub unused: Vec<String>,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Local {
        /// The folder; one that is relative is so to the folder of [`Surroundings`].
        folder: PathBuf,
    },
    /// A repository of a registry.
    Registry {
        /// The registry and the repository; its tag is not to be used.
        name: ImageName,
        /// The tag that was given: caches under different tags are apart.
        tag: Option<String>,
        /// Whether a certificate may be wrong, and HTTP do.
        insecure: bool,
    },
    /// A bucket of S3, or of something that speaks like it.
    S3(S3),
    /// A container of Azure Blob Storage.
    Azblob(Azblob),
    /// A bucket of Google Cloud Storage.
    Gcs(Gcs),
    /// A folder of a WebDAV server.
    Webdav(Web),
    /// A folder of a server that takes GET, HEAD, PUT and DELETE.
    Http(Web),
    /// The cache of GitHub Actions.
    Gha(GhaAddress),
}

/// `type=s3`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// Names of all objects begin so; no slashes at the ends.
    pub prefix: String,
    /// The region.
    pub region: Option<String>,
    /// URL of a server that is not Amazon's.
    pub endpoint: Option<String>,
    /// Credentials.
    pub access_key_id: Option<Secret>,
    /// Credentials.
    pub secret_access_key: Option<Secret>,
    /// Credentials.
    pub session_token: Option<Secret>,
    /// Whether the bucket stands in the path of URLs, not in their host.
    pub path_style: Option<bool>,
}

/// `type=azblob`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Azblob {
    /// `https://ACCOUNT.blob.core.windows.net`.
    pub account_url: Option<String>,
    /// The container.
    pub container: String,
    /// Names of all objects begin so; no slashes at the ends.
    pub prefix: String,
    /// The key of the account.
    pub secret_access_key: Option<Secret>,
    /// A shared access signature.
    pub sas_token: Option<Secret>,
}

/// `type=gcs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gcs {
    /// The bucket.
    pub bucket: String,
    /// Names of all objects begin so; no slashes at the ends.
    pub prefix: String,
    /// URL of a server that is not Google's.
    pub endpoint: Option<String>,
    /// File with a service account or other credentials.
    pub credentials: Option<PathBuf>,
    /// An access token.
    pub token: Option<Secret>,
}

/// `type=webdav` and `type=http`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Web {
    /// `http(s)://host/path`, without a slash at the end and without credentials.
    pub url: String,
    /// For basic authentication.
    pub username: Option<String>,
    /// For basic authentication.
    pub password: Option<Secret>,
    /// A bearer token.
    pub token: Option<Secret>,
}

/// `type=gha`: what was said; the rest is in the variables of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GhaAddress {
    /// Caches of different scopes are apart.
    pub scope: Option<String>,
    /// The longest wait for one exchange.
    pub timeout: Option<Duration>,
    /// URL of the cache service.
    pub url: Option<String>,
    /// The token of the run.
    pub token: Option<Secret>,
}

/// As a URL, without credentials.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bucket = |f: &mut fmt::Formatter<'_>, scheme: &str, bucket: &str, prefix: &str| {
            write!(f, "{scheme}://{bucket}{}{prefix}", if prefix.is_empty() { "" } else { "/" })
        };
        match self {
            Self::Local { folder } => write!(f, "{}", folder.display()),
            Self::Registry { name, tag, .. } => {
                write!(f, "registry://{}/{}", name.registry, name.repository)?;
                tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
            }
            Self::S3(s3) => bucket(f, "s3", &s3.bucket, &s3.prefix),
            Self::Azblob(azblob) => bucket(f, "azblob", &azblob.container, &azblob.prefix),
            Self::Gcs(gcs) => bucket(f, "gs", &gcs.bucket, &gcs.prefix),
            // `http://` means another store, so the scheme tells the two apart.
            Self::Webdav(web) => write!(f, "webdav{}", web.url.strip_prefix("http").unwrap_or(&web.url)),
            Self::Http(web) => f.write_str(&web.url),
            Self::Gha(gha) => write!(f, "gha:{}", gha.scope.as_deref().unwrap_or_default()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}
