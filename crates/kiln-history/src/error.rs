//! What can go wrong with a history.

use std::path::PathBuf;

/// Why a history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file is no database, cannot be opened, or is held by another process for too long.
    #[error("cannot {action} the history {}", path.display())]
    Database {
        /// What was tried: `open`, `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// A folder on the way to the file cannot be made.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A later kiln wrote the file.
    #[error("the history {} was written by a later kiln (form {version})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its form.
        version: i64,
    },
    /// A record or a log in it makes no sense.
    #[error("the record of build {id} is damaged")]
    Damaged {
        /// The build.
        id: String,
        /// Why it cannot be read.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no such build.
    #[error("no build {name:?} in the history")]
    NotFound {
        /// What was asked for.
        name: String,
        /// The latest builds, newest first, for the hint.
        latest: Vec<String>,
    },
    /// Several builds begin so.
    #[error("{name:?} is the beginning of {} builds", ids.len())]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// The builds.
        ids: Vec<String>,
    },
}

impl HistoryError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Database { path, source, .. } => Some(match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                    format!("move {} away; the history begins anew", path.display())
                }
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                    "another process holds it; try again".to_owned()
                }
                Some(rusqlite::ErrorCode::DiskFull) => "make room on the disk".to_owned(),
                _ => return None,
            }),
            Self::Io(_) | Self::Damaged { .. } => None,
            Self::Newer { path, .. } => Some(format!("use that kiln, or move {} away", path.display())),
            Self::NotFound { latest, .. } if latest.is_empty() => {
                Some("no build was recorded here yet: `kiln build` records each".to_owned())
            }
            Self::NotFound { latest, .. } => {
                Some(format!("the latest are {}; `last` and `last~1` name them, too", latest.join(", ")))
            }
            Self::Ambiguous { ids, .. } => Some(format!("one of {}", ids.join(", "))),
        }
    }
}
