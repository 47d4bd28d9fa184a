//! The build context: what of a folder a build can see, and the digests of what it selects.
//!
//! A scan lists the folder once, through the ignore rules. Contents are hashed only where an instruction selects them,
//! and only if the file is not the one that was hashed before ([`cache::StatCache`]). Modes are normalised to what git
//! tracks (755 or 644), owners to root, times are not looked at: neither umask nor `touch` causes a miss.

mod cache;
mod select;
mod walk;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use kiln_fetch::Attributes;
use kiln_graph::{Digest, Hasher};

pub use cache::StatCache;
pub(crate) use select::Selection;

use crate::error::{Result, SolveError};

/// Threads that hash files; the disk gains nothing from more.
const MOST_THREADS: usize = 8;
/// Fewer files than this are not worth a thread of their own.
const FILES_PER_THREAD: usize = 32;
/// Bytes that are read at once.
const BUFFER: usize = 128 * 1024;

/// Decides what of a folder belongs to the context. Paths are relative, with `/`, without a leading one.
pub trait Filter: Send + Sync {
    /// Whether the path is left out.
    fn excluded(&self, path: &str) -> bool;
    /// Whether a folder that is left out must still be searched for exceptions.
    fn descends(&self, folder: &str) -> bool;
    /// What leaves the path out, for people: `.dockerignore:3 leaves it out`.
    fn rule(&self, path: &str) -> Option<String> {
        self.excluded(path).then(|| "an ignore rule leaves it out".to_owned())
    }
}

/// A filter that lets everything in.
pub struct Everything;

impl Filter for Everything {
    fn excluded(&self, _: &str) -> bool {
        false
    }
    fn descends(&self, _: &str) -> bool {
        true
    }
}

/// The type of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File,
    Symlink(String),
}

/// A file, folder or link of the context.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Relative path with `/`.
    pub(crate) path: Box<str>,
    pub(crate) kind: Kind,
    /// Permission bits, normalised unless [`Attributes`] say them.
    pub(crate) mode: u32,
    /// User and group: root unless [`Attributes`] say them.
    pub(crate) owner: (u32, u32),
    stat: cache::StatKey,
    digest: OnceLock<Digest>,
}

impl Entry {
    /// Bytes of a file; of anything else, none.
    pub(crate) fn size(&self) -> u64 {
        if self.kind == Kind::File { self.stat.size } else { 0 }
    }

    /// Seconds since 1970.
    pub(crate) fn mtime(&self) -> u64 {
        u64::try_from(self.stat.mtime / 1_000_000_000).unwrap_or(0)
    }
}

/// A scanned context.
pub struct Context {
    root: PathBuf,
    filter: Arc<dyn Filter>,
    entries: Vec<Entry>,
    cache: Mutex<StatCache>,
    identity: Option<Digest>,
    title: Option<String>,
}

impl Context {
    /// Lists `root` through `filter`. `cache` is where digests of earlier scans come from.
    ///
    /// Sockets, pipes and devices are left out, as the docker CLI does.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn scan(root: &Path, filter: Arc<dyn Filter>, cache: StatCache) -> Result<Self> {
        let entries = walk::walk(root, filter.as_ref())?;
        Ok(Self { root: root.to_owned(), filter, entries, cache: Mutex::new(cache), identity: None, title: None })
    }

    /// Names what the folder stands for, for messages: `the git repository ...`.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Says what is known to decide all of its content, so that it need not be hashed.
    #[must_use]
    pub fn identified(mut self, identity: Digest) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Gives entries, by path, the modes and owners that an archive had for them.
    #[must_use]
    pub fn with_attributes(mut self, attributes: &HashMap<String, Attributes>) -> Self {
        for entry in &mut self.entries {
            if let Some(attributes) = attributes.get(&*entry.path) {
                entry.mode = attributes.mode;
                entry.owner = (attributes.uid, attributes.gid);
            }
        }
        self
    }

    pub(crate) fn identity(&self) -> Option<Digest> {
        self.identity
    }

    /// What it is, for people.
    pub(crate) fn title(&self) -> String {
        self.title.clone().unwrap_or_else(|| format!("the build context {}", self.root.display()))
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Number of entries and bytes in files.
    pub fn size(&self) -> (usize, u64) {
        (self.entries.len(), self.entries.iter().map(Entry::size).sum())
    }

    /// Gives back the digests for the next scan.
    pub fn into_cache(self) -> StatCache {
        self.cache.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes the digests for the next scan, if there are new ones.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_cache(&self, path: &Path) -> Result<()> {
        self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner).save(path)
    }

    pub(crate) fn absolute(&self, entry: &Entry) -> PathBuf {
        self.root.join(&*entry.path)
    }

    pub(crate) fn entry(&self, path: &str) -> Option<&Entry> {
        self.position(path).map(|i| &self.entries[i])
    }

    /// What hides the path, if it exists but does not belong to the context.
    pub(crate) fn hidden_by(&self, path: &str) -> Option<String> {
        self.filter.rule(path).filter(|_| self.root.join(path).symlink_metadata().is_ok())
    }

    /// Everything below a folder, not the folder itself. All of the context for the empty path.
    pub(crate) fn below(&self, folder: &str) -> &[Entry] {
        if folder.is_empty() {
            return &self.entries;
        }
        let Some(start) = self.position(folder) else { return &[] };
        let rest = &self.entries[start + 1..];
        let inside = |e: &Entry| e.path.strip_prefix(folder).is_some_and(|r| r.starts_with('/'));
        &rest[..rest.iter().take_while(|e| inside(e)).count()]
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn position(&self, path: &str) -> Option<usize> {
        self.entries.binary_search_by(|e| walk::order(&e.path, path)).ok()
    }

    /// The digest of a file's content, or of a link's text.
    pub(crate) fn digest(&self, entry: &Entry) -> Result<Digest> {
        if let Some(digest) = entry.digest.get() {
            return Ok(*digest);
        }
        let digest = match &entry.kind {
            Kind::Folder => Digest::of(""),
            Kind::Symlink(to) => Digest::of(to),
            Kind::File => {
                self.hash_all([entry])?;
                // It was just made sure of.
                return Ok(*entry.digest.get_or_init(|| Digest::of("")));
            }
        };
        Ok(*entry.digest.get_or_init(|| digest))
    }

    /// Makes sure of the digests of many entries: known ones at one go, the others on all processors.
    pub(crate) fn hash_all<'a>(&self, entries: impl IntoIterator<Item = &'a Entry>) -> Result<()> {
        let mut unknown: Vec<&Entry> = Vec::new();
        {
            let mut cache = self.lock_cache();
            for entry in entries {
                if entry.kind != Kind::File || entry.digest.get().is_some() {
                    continue;
                }
                match cache.get(&entry.path, entry.stat) {
                    Some(digest) => drop(entry.digest.set(digest)),
                    None => unknown.push(entry),
                }
            }
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let threads = threads.min(unknown.len().div_ceil(FILES_PER_THREAD));
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            let mut buffer = vec![0; BUFFER];
            while let Some(entry) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
                let digest = hash_file(&self.absolute(entry), &mut buffer)?;
                let _ = entry.digest.set(digest);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut result = work();
            for helper in helpers {
                let helped = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(helped);
            }
            result
        })?;
        let mut cache = self.lock_cache();
        for entry in unknown {
            if let Some(digest) = entry.digest.get() {
                cache.put(&entry.path, entry.stat, *digest);
            }
        }
        Ok(())
    }

    fn lock_cache(&self) -> std::sync::MutexGuard<'_, StatCache> {
        self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn hash_file(path: &Path, buffer: &mut [u8]) -> Result<Digest> {
    let mut file = std::fs::File::open(path).map_err(SolveError::io("read", path))?;
    let mut hasher = Hasher::new();
    loop {
        let n = io::Read::read(&mut file, buffer).map_err(SolveError::io("read", path))?;
        if n == 0 {
            return Ok(hasher.finish());
        }
        hasher.raw(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Not(&'static str);
    impl Filter for Not {
        fn excluded(&self, path: &str) -> bool {
            path == self.0
        }
        fn descends(&self, _: &str) -> bool {
            false
        }
    }

    #[test]
    fn a_scan_lists_what_the_filter_lets_in_folders_first() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs_err::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs_err::write(path, text).expect("file");
        };
        write("a/b.txt", "1");
        write("a-b", "2");
        write("secret/key", "3");
        let context = Context::scan(dir.path(), Arc::new(Not("secret")), StatCache::default()).expect("scan");
        let paths: Vec<&str> = context.entries().iter().map(|e| &*e.path).collect();
        assert_eq!(paths, ["a", "a/b.txt", "a-b"]);
        assert_eq!(context.below("a").len(), 1);
        assert!(context.hidden_by("secret").is_some());
        assert_eq!(context.hidden_by("nothing"), None);
    }

    #[test]
    fn times_and_umask_do_not_change_a_digest() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("f");
        fs_err::write(&path, "x").expect("file");
        let scan = || Context::scan(dir.path(), Arc::new(Everything), StatCache::default()).expect("scan");
        let (before, mode) = {
            let c = scan();
            (c.digest(&c.entries()[0]).expect("digest"), c.entries()[0].mode)
        };
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        let c = scan();
        assert_eq!(c.digest(&c.entries()[0]).expect("digest"), before);
        assert_eq!(c.entries()[0].mode, mode);
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        assert_ne!(scan().entries()[0].mode, mode, "the executable bit is tracked");
    }
}
