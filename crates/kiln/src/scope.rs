//! Which projects build at the moment, as locks: what they use is not removed under them.
//!
//! A build shares two locks to its end: that of its scope, for the caches and checkpoints of the project, and that of
//! all, for what projects have in common. Whoever removes takes them for itself, and builds that begin meanwhile wait.
//! Checkpoints of one project may serve another, so a build notes those that it counts on; from the look at what there
//! is to that note it shares a third lock, which whoever removes takes before a look of their own.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_graph::Digest;

use crate::error::{CliError, Result};
use crate::session;

/// How names of notes end; they begin with the process.
const NOTE: &str = "uses";

/// The lock of those that plan.
fn path_of_plans(locks: &Path) -> PathBuf {
    locks.join("plans.lock")
}

/// The lock of all scopes.
fn path_of_all(locks: &Path) -> PathBuf {
    locks.join("scopes.lock")
}

fn path(locks: &Path, scope: &str) -> PathBuf {
    locks.join(format!("scope-{}.lock", Digest::of(scope).short()))
}

fn open(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    Ok(fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)?.into_parts().0)
}

/// A build that runs, as others see it.
pub(crate) struct Building {
    /// None where the file system has no locks.
    _scope: Option<File>,
    all: Option<File>,
    planning: Option<File>,
    note: PathBuf,
}

impl Building {
    /// Notes the images that the build counts on: nobody removes them as long as this lives.
    pub(crate) fn counts_on(&mut self, images: impl Iterator<Item = String>) -> Result<()> {
        let text = images.collect::<Vec<_>>().join("\n");
        fs_err::write(&self.note, text).map_err(CliError::io("write", &self.note))?;
        self.planning = None;
        Ok(())
    }

    /// Whether a build that has ended was the only one of this machine on the daemon; if so none begins until this is
    /// dropped.
    pub(crate) fn was_alone(&self) -> bool {
        let Some(all) = &self.all else { return false };
        let is_alone = all.try_lock().is_ok();
        if !is_alone {
            // Who asks in vain has lost what it had: see flock(2).
            let _ = all.try_lock_shared();
        }
        is_alone
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // A note of a dead process counts for nothing.
        let _ = std::fs::remove_file(&self.note);
    }
}

/// Says that a build of the scope runs, for as long as the result lives; waits for a prune of it to end.
pub(crate) async fn hold(locks: &Path, scope: &str) -> Result<Building> {
    // First the lock that is waited for longest: whoever prunes has those of scopes already when it takes that of all.
    let scope = share(path(locks, scope)).await?;
    let all = share(path_of_all(locks)).await?;
    let planning = share(path_of_plans(locks)).await?;
    Ok(Building { _scope: scope, all, planning, note: locks.join(format!("{}{NOTE}", session::prefix())) })
}

/// Waits until no build is between its look at what there is and its note, and keeps them from it for as long as the
/// result lives. The images that builds count on.
pub(crate) async fn between_plans(locks: &Path) -> Result<(Option<File>, BTreeSet<String>)> {
    let path = path_of_plans(locks);
    let file = open(&path).map_err(CliError::io("write", &path))?;
    let waiting = tokio::task::spawn_blocking(move || file.lock().ok().map(|()| file));
    let held = waiting.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    let mut used = BTreeSet::new();
    for entry in std::fs::read_dir(locks).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(NOTE) {
            continue;
        }
        if session::is_of_dead(&name) {
            let _ = std::fs::remove_file(entry.path());
        } else {
            used.extend(std::fs::read_to_string(entry.path()).unwrap_or_default().lines().map(str::to_owned));
        }
    }
    Ok((held, used))
}

async fn share(path: PathBuf) -> Result<Option<File>> {
    let file = open(&path).map_err(CliError::io("write", &path))?;
    // The time of the file says when it was used last.
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
    seize_file(&path(locks, scope))
}

/// Keeps all builds from starting, for as long as the result lives; `None` if one runs.
pub(crate) fn seize_all(locks: &Path) -> Result<Option<File>> {
    seize_file(&path_of_all(locks))
}

fn seize_file(path: &Path) -> Result<Option<File>> {
    let is_new = !path.exists();
    let file = open(path).map_err(CliError::io("write", path))?;
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
    modified(&path(locks, scope))
}

/// When this machine built any scope last.
pub(crate) fn any_used(locks: &Path) -> Option<i64> {
    modified(&path_of_all(locks))
}

fn modified(path: &Path) -> Option<i64> {
    let modified = fs_err::metadata(path).ok()?.modified().ok()?;
    i64::try_from(modified.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn builds_share_a_scope_and_pruning_does_not() {
        let dir = tempfile::tempdir().expect("temporary folder");
        assert_eq!((last_used(dir.path(), "a"), any_used(dir.path())), (None, None));
        let first = hold(dir.path(), "a").await.expect("held");
        let second = hold(dir.path(), "a").await.expect("held");
        assert!(seize(dir.path(), "a").expect("asked").is_none());
        assert!(seize_all(dir.path()).expect("asked").is_none());
        assert!(seize(dir.path(), "b").expect("asked").is_some());
        assert_eq!(last_used(dir.path(), "b"), Some(0));
        drop((first, second));
        assert!(seize(dir.path(), "a").expect("asked").is_some());
        assert!(seize_all(dir.path()).expect("asked").is_some());
        assert!(last_used(dir.path(), "a").is_some_and(|at| at > 1_700_000_000));
        assert!(any_used(dir.path()).is_some_and(|at| at > 1_700_000_000));
    }

    #[tokio::test]
    async fn the_last_build_knows_that_it_is_alone() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let first = hold(dir.path(), "a").await.expect("held");
        let other = hold(dir.path(), "b").await.expect("held");
        assert!(!first.was_alone());
        // It still is a build that runs.
        assert!(seize_all(dir.path()).expect("asked").is_none());
        drop(other);
        assert!(first.was_alone());
        assert!(seize_all(dir.path()).expect("asked").is_none());
    }

    #[tokio::test]
    async fn what_a_build_counts_on_is_known_as_long_as_it_lives() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut build = hold(dir.path(), "a").await.expect("held");
        let soon = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, between_plans(dir.path())).await.is_err(), "it is planning");
        build.counts_on(["one".to_owned(), "two".to_owned()].into_iter()).expect("noted");
        fs_err::write(dir.path().join(format!("1-99999999999-{NOTE}")), "three\n").expect("written");
        let (_, used) = between_plans(dir.path()).await.expect("free");
        assert_eq!(used.into_iter().collect::<Vec<_>>(), ["one", "two"]);
        drop(build);
        assert!(between_plans(dir.path()).await.expect("free").1.is_empty());
    }
}
