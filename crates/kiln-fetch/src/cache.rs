//! The folder on the client where fetched files are kept.
//!
//! Everything in it can be lost. A file or folder appears under its name whole or not at all; what was not used for
//! [`KEEP`] is removed when something new comes.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;

use crate::error::{FetchError, Result};

/// Version of the layout below; another one is another folder.
const VERSION: &str = "v1";
/// How long what nobody uses is kept.
const KEEP: Duration = Duration::from_hours(30 * 24);
/// How long an unfinished transfer may take before it counts as dead.
const UNFINISHED: Duration = Duration::from_hours(24);

/// A cache of fetched files.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// A cache in the folder `root`, which need not exist.
    pub fn new(root: &Path) -> Self {
        Self { root: root.join(VERSION) }
    }

    /// The folder of one kind of things.
    pub(crate) fn folder(&self, kind: &str) -> Result<PathBuf> {
        let folder = self.root.join(kind);
        fs::create_dir_all(&folder).map_err(FetchError::io("make", &folder))?;
        Ok(folder)
    }

    /// A folder in which something is prepared; it vanishes unless it is renamed.
    pub(crate) fn staging(&self) -> Result<tempfile::TempDir> {
        let folder = self.folder("unfinished")?;
        remove_older(&folder, UNFINISHED);
        tempfile::TempDir::new_in(&folder).map_err(FetchError::io("write to", folder))
    }

    /// Removes what was not used for long.
    pub(crate) fn age(&self, kind: &str) {
        remove_older(&self.root.join(kind), KEEP);
    }
}

/// Notes that something is in use.
pub(crate) fn touch(path: &Path) {
    // Where that cannot be noted, it is fetched again one day.
    let _ = std::fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Housekeeping: what cannot be removed is left for the next time.
fn remove_older(folder: &Path, age: Duration) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        if modified.is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed > age)) {
            let path = entry.path();
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_goes_and_what_was_touched_stays() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let cache = Cache::new(dir.path());
        let folder = cache.folder("things").expect("folder");
        let old = SystemTime::now() - KEEP - Duration::from_secs(9);
        for name in ["old", "used"] {
            fs::create_dir(folder.join(name)).expect("folder");
            std::fs::File::open(folder.join(name)).and_then(|f| f.set_modified(old)).expect("time");
        }
        touch(&folder.join("used"));
        cache.age("things");
        let left: Vec<_> = fs::read_dir(&folder).expect("folder").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(left, ["used"]);
        let staging = cache.staging().expect("staging");
        let path = staging.path().to_owned();
        drop(staging);
        assert!(!path.exists());
    }
}
