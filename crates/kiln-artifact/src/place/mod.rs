//! Putting files into an output folder: whole, or not at all.
//!
//! A [`Staging`] is a folder inside of the output folder, thus on the same file system, that is filled at leisure
//! ([`extract_tar`]) and then committed by renames. A name is never written in place: a program that runs keeps the file
//! it runs from, and a reader sees the old file or the new one. What is not committed goes when the staging is dropped;
//! what a killed process left goes with the next [`sweep`]. Which stagings are alive is told by a lock on the folder
//! that dies with its process, since a process id alone would lie across containers and restarts.

mod commit;
mod error;
mod extract;

use std::fs::{Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err::File;

pub use self::commit::{Placement, make_folder};
pub use self::error::{PlaceError, UnsafeReason};
pub use self::extract::{ExtractedFile, Manner, extract_tar};

/// What the names of staging folders start with.
pub const STAGING_PREFIX: &str = ".kiln-staging-";

/// Where a file will lie when the staging folder that it is in was committed; a path outside of one stays what it is.
pub fn committed(path: &Path) -> PathBuf {
    let is_staging = |part: &Component<'_>| part.as_os_str().to_string_lossy().starts_with(STAGING_PREFIX);
    path.components().filter(|part| !is_staging(part)).collect()
}

/// Makes the names of one process differ.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A folder that is filled and then committed to the output folder around it, or removed.
#[derive(Debug)]
pub struct Staging {
    out_dir: PathBuf,
    path: PathBuf,
    /// The output folder and those around it that were made for this, the innermost first.
    made: Vec<PathBuf>,
    /// Holds the lock for as long as the staging lives.
    _lock: File,
}

impl Staging {
    /// Makes a staging folder in `out_dir`, which is made if it is missing.
    pub fn new(out_dir: &Path) -> Result<Self, PlaceError> {
        let error = |source| PlaceError::Stage { out_dir: out_dir.to_owned(), source };
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && folder.symlink_metadata().is_err();
        let made: Vec<PathBuf> = out_dir.ancestors().take_while(is_missing).map(Path::to_owned).collect();
        loop {
            // Every time: another staging may have made the folder, and removed it again.
            fs_err::create_dir_all(out_dir).map_err(error)?;
            let path = out_dir.join(format!("{STAGING_PREFIX}{}", unique()));
            match fs_err::create_dir(&path) {
                Err(source) if matches!(source.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                    continue;
                }
                made => made.map_err(error)?,
            }
            // Between these two steps a sweep may take the folder for a dead one; then this one starts again.
            if let Some(lock) = lock_alive(&path).map_err(error)? {
                return Ok(Self { out_dir: out_dir.to_owned(), path, made, _lock: lock });
            }
        }
    }

    /// The staging folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The output folder.
    pub fn out_dir(&self) -> &Path {
        &self.out_dir
    }

    /// Places files and folders of the staging in the output folder and returns where they are, then removes the rest.
    ///
    /// Each name changes at once, and durably. If one of several fails, those before it are put back, unless the file
    /// system refuses that too ([`PlaceError::Torn`]).
    pub fn commit(self, placements: &[Placement]) -> Result<Vec<PathBuf>, PlaceError> {
        commit::commit(&self, placements)
    }

    /// Commits everything that is at the top of the staging under the same names, in order of names.
    pub fn commit_all(self) -> Result<Vec<PathBuf>, PlaceError> {
        let error = |source| PlaceError::Stage { out_dir: self.out_dir.clone(), source };
        let mut placements = Vec::new();
        for entry in fs_err::read_dir(&self.path).map_err(error)? {
            placements.push(Placement::same(entry.map_err(error)?.file_name()));
        }
        placements.sort_by(|a, b| a.to.cmp(&b.to));
        commit::commit(&self, &placements)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is removed by a later sweep.
        let _ = fs_err::remove_dir_all(&self.path);
        // Where nothing was placed, and nobody else put anything, no trace is left. Folders with content stay.
        let _ = self.made.iter().try_for_each(fs_err::remove_dir);
    }
}

/// Removes staging folders in `out_dir` that no living process holds, and returns their paths. A missing `out_dir` has
/// none.
pub fn sweep(out_dir: &Path) -> Result<Vec<PathBuf>, PlaceError> {
    let error = |source| PlaceError::Stage { out_dir: out_dir.to_owned(), source };
    let entries = match fs_err::read_dir(out_dir) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(error(source)),
    };
    let mut removed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(error)?;
        let is_staging = entry.file_name().to_string_lossy().starts_with(STAGING_PREFIX);
        if !is_staging || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        // Another sweep may be at it, or the folder may just have been committed: neither is an error.
        let Ok(Some(_lock)) = lock_alive(&entry.path()) else { continue };
        if fs_err::remove_dir_all(entry.path()).is_ok() {
            removed.push(entry.path());
        }
    }
    Ok(removed)
}

/// Replaces the file at `path` by one with `bytes` and these permission bits, at once and durably.
pub fn write_atomically(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), PlaceError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| PlaceError::UnsafePlacement { path: path.to_owned() })?;
    let staging = Staging::new(folder)?;
    let staged = staging.path().join(name);
    fs_err::write(&staged, bytes)
        .and_then(|()| fs_err::set_permissions(&staged, Permissions::from_mode(mode)))
        .map_err(|source| PlaceError::Write { path: path.to_owned(), source })?;
    staging.commit(&[Placement::same(name)]).map(drop)
}

/// Makes renames in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network and FUSE file systems cannot do that for folders.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// A name that no other staging has: time and process make it differ from others', the counter from our own.
fn unique() -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{time:x}-{count:x}", std::process::id())
}

/// Locks the folder at `path`; `None` if someone else has it or it is no longer there under that name.
fn lock_alive(path: &Path) -> io::Result<Option<File>> {
    let lock = match File::open(path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match lock.file().try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let (held, named) = (lock.metadata()?, fs_err::metadata(path));
    let is_same = named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino()));
    Ok(is_same.then_some(lock))
}

#[cfg(test)]
mod tests;
