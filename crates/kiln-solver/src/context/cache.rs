//! Digests of files that have not changed since they were last hashed.

use std::collections::HashMap;
use std::fs::Metadata;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_graph::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{Result, SolveError};

/// Version of the file format: postcard of [`Stored`]. A file of another version is not read.
const VERSION: u32 = 2;

/// A file that was changed less than this before it was hashed may change again within the same clock tick, so its
/// digest is not remembered. Nanoseconds; kernels stamp files with a tick of 1 to 10 ms.
const RACY: i64 = 20_000_000;
/// The same for file systems that stamp with whole seconds.
const RACY_COARSE: i64 = 2_000_000_000;

/// What tells that a file is still the one that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatKey {
    pub(super) size: u64,
    inode: u64,
    /// Nanoseconds since 1970; they are enough until 2262.
    pub(super) mtime: i64,
    ctime: i64,
}

impl StatKey {
    pub(crate) fn of(meta: &Metadata) -> Self {
        let nanos = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size: meta.size(),
            inode: meta.ino(),
            mtime: nanos(meta.mtime(), meta.mtime_nsec()),
            ctime: nanos(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Hashes paths of a user's own project, where nobody makes collisions on purpose: FxHash's rule, on words.
#[derive(Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    fn finish(&self) -> u64 {
        // The table takes its bucket from the low bits, which a multiplication leaves poor.
        self.0 ^ (self.0 >> 32)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    files: Vec<(Box<str>, StatKey, [u8; 32])>,
}

/// A remembered digest.
#[derive(Debug)]
struct Known {
    stat: StatKey,
    digest: Digest,
    /// Whether this scan has met it: what it has not met is forgotten.
    used: bool,
}

/// Remembered digests of one context.
#[derive(Debug, Default)]
pub struct StatCache {
    files: HashMap<Box<str>, Known, BuildHasherDefault<Quick>>,
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
        let known = |stat, digest: [u8; 32]| Known { stat, digest: digest.into(), used: false };
        Self {
            files: stored.files.into_iter().map(|(path, stat, digest)| (path, known(stat, digest))).collect(),
            changed: false,
        }
    }

    pub(crate) fn get(&mut self, path: &str, stat: StatKey) -> Option<Digest> {
        let known = self.files.get_mut(path).filter(|known| known.stat == stat)?;
        known.used = true;
        Some(known.digest)
    }

    pub(crate) fn put(&mut self, path: &str, stat: StatKey, digest: Digest) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let latest = stat.mtime.max(stat.ctime);
        let racy = if latest % 1_000_000_000 == 0 { RACY_COARSE } else { RACY };
        if now.saturating_sub(latest) < racy {
            return;
        }
        self.files.insert(path.into(), Known { stat, digest, used: true });
        self.changed = true;
    }

    /// Writes what was used, if anything is new; the file is replaced whole.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        let used = self.files.iter().filter(|(_, known)| known.used);
        let files = used.map(|(path, known)| (path.clone(), known.stat, *known.digest.as_bytes())).collect();
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
