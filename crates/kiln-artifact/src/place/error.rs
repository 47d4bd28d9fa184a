//! Why files could not be placed.

use std::io;
use std::path::PathBuf;

/// Why files could not be placed. Sources name the path that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The staging folder could not be made.
    #[error("could not prepare `{}` for output", out_dir.display())]
    Stage {
        /// The output folder.
        out_dir: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("could not write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The archive could not be read: its stream broke off or is no archive.
    #[error("could not read the archive after {files} files")]
    Archive {
        /// Number of files that were extracted before.
        files: usize,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The archive has an entry that would reach outside of the folder or is no ordinary file.
    #[error("the archive's entry `{entry}` {reason}")]
    UnsafeEntry {
        /// Its path in the archive.
        entry: String,
        /// What is unsafe about it.
        reason: UnsafeReason,
    },
    /// A name to place is not one inside of its folder.
    #[error("`{}` is not a path inside of the output folder", path.display())]
    UnsafePlacement {
        /// The path.
        path: PathBuf,
    },
    /// A file could not be renamed into place; nothing was changed.
    #[error("could not place `{}`", path.display())]
    Place {
        /// Where it should have gone.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// A file could not be renamed into place, and files placed before it could not be put back.
    #[error("could not place `{}`, and {} other files are already new", path.display(), placed.len())]
    Torn {
        /// Where it should have gone.
        path: PathBuf,
        /// The files that were placed and could not be put back.
        placed: Vec<PathBuf>,
        /// What failed first.
        #[source]
        source: io::Error,
    },
}

/// What is unsafe about an entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsafeReason {
    /// Its path starts at the root.
    #[error("has an absolute path")]
    Absolute,
    /// Its path has a `..`.
    #[error("has `..` in its path")]
    Parent,
    /// Its path leads through a link or a file.
    #[error("lies below something that is not a folder")]
    BelowLink,
    /// It links out of the folder.
    #[error("links to `{target}`, which is or may be outside")]
    LinkOutside {
        /// The link's text.
        target: String,
    },
    /// It is a hard link to a file that did not come before it.
    #[error("is a hard link to `{target}`, which is not in the archive before it")]
    LinkMissing {
        /// The link's text.
        target: String,
    },
    /// It is a device, a pipe or the like.
    #[error("is neither a file, a folder nor a link")]
    Special,
    /// Its name is taken by an entry of another type.
    #[error("replaces a folder or is replaced by one")]
    Clash,
}

impl PlaceError {
    /// What may help, if anything is known to.
    pub fn hint(&self) -> Option<&'static str> {
        let source = match self {
            Self::Stage { source, .. }
            | Self::Write { source, .. }
            | Self::Place { source, .. }
            | Self::Torn { source, .. } => source,
            Self::Archive { .. } => return Some("the engine or the connection to it may have stopped; try again"),
            Self::UnsafeEntry { .. } => return Some("export a folder that holds only files and links within it"),
            Self::UnsafePlacement { .. } => return Some("name artifacts by a relative path without `..`"),
        };
        Some(match source.kind() {
            io::ErrorKind::StorageFull => "the disk is full: free some space, or choose another output folder",
            io::ErrorKind::QuotaExceeded => "the disk quota is used up: free some space, or choose another folder",
            io::ErrorKind::PermissionDenied => {
                "check who owns the output folder; files of an earlier run with sudo belong to root"
            }
            io::ErrorKind::ReadOnlyFilesystem => "the output folder is on a read-only file system; choose another",
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "a file is where a folder should be",
            _ => return None,
        })
    }
}
