//! Lists a folder through the ignore rules, on several threads: most of the time goes into asking the kernel.

use std::cmp::Ordering;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::cache::StatKey;
use super::{Entry, Filter, Kind, MOST_THREADS};
use crate::error::{Result, SolveError};

/// Compares paths such that a folder comes directly before what is in it.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    match a.iter().zip(b).position(|(x, y)| x != y) {
        None => a.len().cmp(&b.len()),
        // A slash comes before everything else that a name may hold.
        Some(at) => (a[at] != b'/', a[at]).cmp(&(b[at] != b'/', b[at])),
    }
}

/// All that the filter lets in, in [`order`].
pub(super) fn walk(root: &Path, filter: &dyn Filter) -> Result<Vec<Entry>> {
    let queue = Queue::new();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let work = || -> Result<Vec<Found>> {
        let mut found = Vec::new();
        while let Some(folder) = queue.take() {
            let turn = Turn(&queue);
            if let Err(error) = list(root, &folder, filter, &queue, &mut found) {
                queue.close();
                return Err(error);
            }
            drop(turn);
        }
        Ok(found)
    };
    let found = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = work();
        for helper in helpers {
            let more = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            found = found.and_then(|mut found| {
                found.append(&mut more?);
                Ok(found)
            });
        }
        found
    });
    let mut found = found?;
    found.sort_unstable_by(|a, b| order(&a.entry.path, &b.entry.path));
    // An excluded folder is kept only as the parent of an exception, which then comes right after it.
    let mut entries: Vec<Entry> = Vec::with_capacity(found.len());
    for Found { entry, excluded } in found.into_iter().rev() {
        let holds = |next: &Entry| next.path.strip_prefix(&*entry.path).is_some_and(|rest| rest.starts_with('/'));
        if !excluded || entries.last().is_some_and(holds) {
            entries.push(entry);
        }
    }
    entries.reverse();
    Ok(entries)
}

struct Found {
    entry: Entry,
    /// It is left out unless something in it is not.
    excluded: bool,
}

/// Lists one folder; those in it are queued.
fn list(root: &Path, folder: &str, filter: &dyn Filter, queue: &Queue, found: &mut Vec<Found>) -> Result<()> {
    let absolute = root.join(folder);
    let listing = match std::fs::read_dir(&absolute) {
        Ok(listing) => listing,
        // Files come and go while a build runs; one that is gone was never there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => return Ok(()),
        Err(error) => return Err(SolveError::io("read", absolute)(error)),
    };
    for item in listing {
        let item = item.map_err(SolveError::io("read", &absolute))?;
        // A name that is not UTF-8 cannot be named in a Dockerfile; it is left out rather than mangled.
        let Ok(name) = item.file_name().into_string() else { continue };
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let excluded = filter.excluded(&path);
        let kind = item.file_type().map_err(SolveError::io("read", item.path()))?;
        if excluded && !(kind.is_dir() && filter.descends(&path)) {
            continue;
        }
        let meta = match item.metadata() {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(SolveError::io("read", item.path())(error)),
        };
        let (kind, mode) = if kind.is_dir() {
            queue.add(path.clone());
            (Kind::Folder, 0o755)
        } else if kind.is_symlink() {
            let to = std::fs::read_link(item.path()).map_err(SolveError::io("read", item.path()))?;
            (Kind::Symlink(to.to_string_lossy().into_owned()), 0o777)
        } else if kind.is_file() {
            (Kind::File, if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 })
        } else {
            continue;
        };
        let (path, stat) = (path.into_boxed_str(), StatKey::of(&meta));
        let entry = Entry { path, kind, mode, owner: (0, 0), stat, digest: OnceLock::new() };
        found.push(Found { entry, excluded });
    }
    Ok(())
}

/// Folders that wait to be listed.
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

struct Waiting {
    folders: Vec<String>,
    /// Folders that wait or are being listed: at none, all is done.
    open: usize,
}

impl Queue {
    fn new() -> Self {
        let state = Waiting { folders: vec![String::new()], open: 1 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, folder: String) {
        let mut state = self.lock();
        state.folders.push(folder);
        state.open += 1;
        self.changed.notify_one();
    }

    /// The next folder; waits while others may still find some. None at the end.
    fn take(&self) -> Option<String> {
        let mut state = self.lock();
        loop {
            if state.open == 0 {
                return None;
            }
            if let Some(folder) = state.folders.pop() {
                return Some(folder);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets nobody wait any more.
    fn close(&self) {
        let mut state = self.lock();
        state.folders.clear();
        state.open = 0;
        self.changed.notify_all();
    }
}

/// One folder's listing; its end, however it comes, is told to those who wait.
struct Turn<'a>(&'a Queue);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_directly_before_what_is_in_it() {
        let mut paths = ["a-b", "a/b", "a", "a.c", "a/b/c", "a/b-c", "é"];
        paths.sort_unstable_by(|a, b| order(a, b));
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a/b-c", "a-b", "a.c", "é"]);
    }

    #[test]
    fn an_excluded_folder_stays_only_for_what_is_kept_in_it() {
        struct OnlyKeep;
        impl Filter for OnlyKeep {
            fn excluded(&self, path: &str) -> bool {
                !path.ends_with("keep")
            }
            fn descends(&self, _: &str) -> bool {
                true
            }
        }
        let dir = tempfile::tempdir().expect("temporary folder");
        for path in ["a/b/keep", "a/b/drop", "a/c/drop", "d/drop"] {
            let path = dir.path().join(path);
            fs_err::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs_err::write(path, "").expect("file");
        }
        let entries = walk(dir.path(), &OnlyKeep).expect("walk");
        let paths: Vec<&str> = entries.iter().map(|entry| &*entry.path).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/keep"]);
        assert!(walk(&dir.path().join("none"), &OnlyKeep).is_err());
    }
}
