//! Digests of files that have not changed since they were last hashed.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_graph::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{Result, SolveError};

/// Version of the file format: postcard of [`Stored`]. A file of another version is not read.
const VERSION: u32 = 1;

/// A file that was changed less than this before it was hashed may change again within the same clock tick, so its
/// digest is not remembered. Nanoseconds; kernels stamp files with a tick of 1 to 10 ms.
const RACY: i128 = 20_000_000;
/// The same for file systems that stamp with whole seconds.
const RACY_COARSE: i128 = 2_000_000_000;

/// What tells that a file is still the one that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatKey {
    size: u64,
    inode: u64,
    mtime: i128,
    ctime: i128,
}

impl StatKey {
    pub(crate) fn of(meta: &Metadata) -> Self {
        let nanos = |s: i64, n: i64| i128::from(s) * 1_000_000_000 + i128::from(n);
        Self {
            size: meta.size(),
            inode: meta.ino(),
            mtime: nanos(meta.mtime(), meta.mtime_nsec()),
            ctime: nanos(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    files: HashMap<Box<str>, (StatKey, [u8; 32])>,
}

/// Remembered digests of one context.
#[derive(Debug, Default)]
pub struct StatCache {
    files: HashMap<Box<str>, (StatKey, Digest)>,
    used: HashMap<Box<str>, (StatKey, Digest)>,
    changed: bool,
}

impl StatCache {
    /// Reads a saved cache. A missing or unreadable one is an empty one: it only costs time.
    pub fn load(path: &Path) -> Self {
        let Ok(bytes) = fs_err::read(path) else { return Self::default() };
        let Ok(stored) = postcard::from_bytes::<Stored>(&bytes) else { return Self::default() };
        if stored.version != VERSION {
            return Self::default();
        }
        let files = stored.files.into_iter().map(|(path, (stat, digest))| (path, (stat, digest.into()))).collect();
        Self { files, used: HashMap::new(), changed: false }
    }

    pub(crate) fn get(&mut self, path: &str, stat: StatKey) -> Option<Digest> {
        let (path, known) = self.files.get_key_value(path)?;
        if known.0 != stat {
            return None;
        }
        self.used.insert(path.clone(), *known);
        Some(known.1)
    }

    pub(crate) fn put(&mut self, path: &str, stat: StatKey, digest: Digest) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let now = i128::try_from(now).unwrap_or(i128::MAX);
        let latest = stat.mtime.max(stat.ctime);
        let racy = if latest % 1_000_000_000 == 0 { RACY_COARSE } else { RACY };
        if now - latest < racy {
            return;
        }
        self.used.insert(path.into(), (stat, digest));
        self.changed = true;
    }

    /// Writes what was used, if anything is new; the file is replaced whole.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        let files = self.used.iter().map(|(p, (s, d))| (p.clone(), (*s, *d.as_bytes()))).collect();
        let stored = Stored { version: VERSION, files };
        // These types always serialise: a failure would be a bug of the format crate, and costs only time.
        let Ok(bytes) = postcard::to_allocvec(&stored) else { return Ok(()) };
        crate::store::write_atomically(path, &bytes).map_err(SolveError::io("write", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_not_remembered() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let old = StatKey { size: 1, inode: 1, mtime: 5, ctime: 5 };
        let mut cache = StatCache::default();
        cache.put("a", old, Digest::of("a"));
        let file = dir.path().join("c");
        cache.save(&file).expect("save");
        let mut loaded = StatCache::load(&file);
        assert_eq!(loaded.get("a", old), Some(Digest::of("a")));
        assert_eq!(loaded.get("a", StatKey { mtime: 6, ..old }), None);
        assert_eq!(loaded.get("b", old), None);
    }

    #[test]
    fn a_damaged_cache_is_an_empty_one() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join("c");
        fs_err::write(&file, b"\xff\xff\xff\xff\xff\xff\xff\xff").expect("write");
        assert!(StatCache::load(&file).files.is_empty());
    }
}
