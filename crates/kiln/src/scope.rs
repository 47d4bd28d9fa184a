//! Which projects build at the moment, as locks: what their caches hold is not removed under them.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_graph::Digest;

use crate::error::{CliError, Result};

fn path(locks: &Path, scope: &str) -> PathBuf {
    locks.join(format!("scope-{}.lock", Digest::of(scope).short()))
}

fn open(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    Ok(fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)?.into_parts().0)
}

/// Says that a build of the scope runs, for as long as the result lives; waits for a prune of it to end. None where the
/// file system has no locks.
pub(crate) async fn hold(locks: &Path, scope: &str) -> Result<Option<File>> {
    let path = path(locks, scope);
    let file = open(&path).map_err(CliError::io("write", &path))?;
    // The time of the file says when the caches were used last.
    let _ = file.set_modified(SystemTime::now());
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let waiting = tokio::task::spawn_blocking(move || file.lock_shared().ok().map(|()| file));
            Ok(waiting.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Keeps builds of the scope from starting, for as long as the result lives; `None` if one runs.
pub(crate) fn seize(locks: &Path, scope: &str) -> Result<Option<File>> {
    let path = path(locks, scope);
    let is_new = !path.exists();
    let file = open(&path).map_err(CliError::io("write", &path))?;
    if is_new {
        // To prune is not to use.
        let _ = file.set_modified(SystemTime::UNIX_EPOCH);
    }
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        // Where there are no locks, the daemon still refuses to remove what a container holds.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

/// When this machine built the scope last, in seconds since 1970.
pub(crate) fn last_used(locks: &Path, scope: &str) -> Option<i64> {
    let modified = fs_err::metadata(path(locks, scope)).ok()?.modified().ok()?;
    i64::try_from(modified.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn builds_share_a_scope_and_pruning_does_not() {
        let dir = tempfile::tempdir().expect("temporary folder");
        assert_eq!(last_used(dir.path(), "a"), None);
        let first = hold(dir.path(), "a").await.expect("held");
        let second = hold(dir.path(), "a").await.expect("held");
        assert!(first.is_some() && second.is_some());
        assert!(seize(dir.path(), "a").expect("asked").is_none());
        assert!(seize(dir.path(), "b").expect("asked").is_some());
        assert_eq!(last_used(dir.path(), "b"), Some(0));
        drop((first, second));
        assert!(seize(dir.path(), "a").expect("asked").is_some());
        assert!(last_used(dir.path(), "a").is_some_and(|at| at > 1_700_000_000));
    }
}
