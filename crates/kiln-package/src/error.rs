//! What can be wrong with a package.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::Format;
use crate::need::LibcKind;

/// Why a package could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The name cannot be that of a package in this format.
    #[error("`{name}` is no name for {format} packages: {rule}")]
    Name {
        /// The format.
        format: Format,
        /// The name.
        name: String,
        /// What its names are like.
        rule: &'static str,
    },
    /// The format has no word for a part of the version.
    #[error("`{version}` is no version for {format} packages: {reason}")]
    Version {
        /// The format.
        format: Format,
        /// The version as it was given.
        version: String,
        /// What the format lacks.
        reason: &'static str,
    },
    /// The program needs another C library than the distributions of this format have.
    #[error("`{}` needs {libc}, so {format} packages of it are of no use", file.display())]
    Libc {
        /// The format.
        format: Format,
        /// The program.
        file: PathBuf,
        /// What it needs.
        libc: LibcKind,
    },
    /// Two things would lie at one place.
    #[error("two files would lie at `{path}` in the package")]
    Twice {
        /// The place.
        path: String,
    },
    /// A place that no package can have.
    #[error("`{path}` is no place in a package")]
    Place {
        /// The path as it was given.
        path: String,
    },
    /// A file whose name does not say what it is.
    #[error("`{file}` of `{key}`: {reason}")]
    Unclear {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        file: String,
        /// What is missing.
        reason: &'static str,
    },
    /// A field that would break the package's description.
    #[error("`{key}` may not have several lines in a package")]
    Lines {
        /// The setting.
        key: &'static str,
    },
    /// The key for apk files cannot be used.
    #[error("the key for apk files cannot be used: {reason}")]
    Key {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The RPM could not be made.
    #[error("could not make the rpm package")]
    Rpm(#[source] Box<rpm::Error>),
    /// A file could not be read or written.
    #[error("could not write `{}`", path.display())]
    Io {
        /// The package, or the file in it.
        path: PathBuf,
        /// What failed; it names a file that could not be read.
        #[source]
        source: io::Error,
    },
}

impl PackageError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Name { .. } => Some("set `name` in [release]".to_owned()),
            Self::Version { format, .. } => Some(format!(
                "give another version with --version or `version` in [release], or leave {format} out of the formats"
            )),
            Self::Libc { format, libc, .. } => Some(match (format, libc) {
                (_, LibcKind::Mixed) => "build it again: its parts are of different C libraries".to_owned(),
                (Format::Apk, _) => "Alpine has musl: build with the recipe \"alpine\", or leave apk out".to_owned(),
                _ => "Debian and Fedora have glibc: build with the recipe \"debian\", or leave deb and rpm out"
                    .to_owned(),
            }),
            Self::Twice { .. } => Some("two settings of [release] put something there; change one of them".to_owned()),
            Self::Place { .. } => Some("write a path without `..`, such as /usr/share/NAME/FILE".to_owned()),
            Self::Lines { key } => Some(format!("put `{key}` on one line")),
            Self::Key { .. } => {
                Some("it is an RSA key of at least 2048 bits in PEM, as abuild-keygen makes it".to_owned())
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("the disk is full: free some space, or choose another output folder".to_owned())
            }
            Self::Unclear { .. } | Self::Rpm(_) | Self::Io { .. } => None,
        }
    }

    /// The setting of `[release]` that is to blame, if it is one.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::Name { .. } => Some("name"),
            Self::Version { .. } => Some("version"),
            Self::Unclear { key, .. } | Self::Lines { key } => key.strip_prefix("release."),
            Self::Key { .. } => Some("apk-key"),
            Self::Libc { .. } => Some("formats"),
            Self::Twice { .. } | Self::Place { .. } | Self::Rpm(_) | Self::Io { .. } => None,
        }
    }

    /// Names the package where an error knows only what failed.
    pub(crate) fn at(self, package: &Path) -> Self {
        match self {
            Self::Io { path, source } if path.as_os_str().is_empty() => Self::Io { path: package.to_owned(), source },
            other => other,
        }
    }
}

impl From<io::Error> for PackageError {
    fn from(source: io::Error) -> Self {
        Self::Io { path: PathBuf::new(), source }
    }
}

impl From<rpm::Error> for PackageError {
    fn from(error: rpm::Error) -> Self {
        Self::Rpm(Box::new(error))
    }
}
