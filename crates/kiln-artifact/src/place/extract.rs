//! Extracting an archive that a container produced, and whose content nobody has checked yet.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use fs_err::OpenOptions;
use rustix::fs::{AtFlags, CWD, FileType, Mode, chmodat, mknodat};
use tar::{Archive, EntryType};

use super::{PlaceError, UnsafeReason};
use crate::checksum::{Sha256, Sha256Hasher};

/// Bytes copied at once.
const BLOCK: usize = 256 << 10;
/// Bytes of zeroes at the end of an archive. POSIX asks for twice as many, and every reader is content with these.
const END_MARKER: usize = 512;

/// A regular file that was extracted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractedFile {
    /// Its path below the folder.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
    /// Its digest, made while it was written.
    pub sha256: Sha256,
}

/// What an archive is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A program and what belongs to it: a link that leads out, or a special file, is an error, and setuid, setgid and
    /// sticky bits are left out.
    Program,
    /// A file system, whatever is in it: links lead where they lead, pipes are made, all bits are kept. Devices are an
    /// error.
    Files,
}

/// Extracts a tar stream into `folder`, without the first `strip` components of every path, and returns the regular files
/// in order of their paths. Entries that have no more components than that are skipped, as GNU tar does.
///
/// Nothing is written outside of `folder`, also not through links: an entry with an absolute path or a `..` is an error.
/// Owners, times and extended attributes are not kept. A later entry replaces an earlier file of its name.
pub fn extract_tar(
    reader: impl Read,
    folder: &Path,
    strip: usize,
    manner: Manner,
) -> Result<Vec<ExtractedFile>, PlaceError> {
    let (folders, files) = (BTreeSet::from([PathBuf::new()]), BTreeMap::new());
    let mut extraction = Extraction { folder, strip, manner, folders, files, modes: vec![] };
    let mut archive = Archive::new(Tail { reader, zeroes: 0 });
    let mut count = 0;
    for entry in archive.entries().map_err(|source| PlaceError::Archive { files: 0, source })? {
        let entry = entry.map_err(|source| PlaceError::Archive { files: count, source })?;
        extraction.entry(entry, count)?;
        count = extraction.files.len();
    }
    // `tar` takes a stream that stops between two entries for complete; only the end marker tells. What follows it is
    // read too, since the sender may still have an error to report.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(|source| PlaceError::Archive { files: count, source })?;
    if rest.zeroes < END_MARKER {
        return Err(PlaceError::Archive { files: count, source: io::ErrorKind::UnexpectedEof.into() });
    }
    // Deepest first and last of all, so that a folder without permissions does not hinder what goes into it.
    for (path, mode) in extraction.modes.iter().rev() {
        let path = folder.join(path);
        set_mode(&path, *mode).map_err(|source| PlaceError::Write { path, source })?;
    }
    Ok(extraction.files.into_values().collect())
}

/// A reader that knows how many zero bytes came last.
struct Tail<R> {
    reader: R,
    zeroes: usize,
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(bytes)?;
        let zeroes = bytes[..count].iter().rev().take_while(|byte| **byte == 0).count();
        self.zeroes = if zeroes == count { self.zeroes.saturating_add(zeroes) } else { zeroes };
        Ok(count)
    }
}

struct Extraction<'a> {
    folder: &'a Path,
    strip: usize,
    manner: Manner,
    /// The folders made here: real ones, which no link stands for.
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, ExtractedFile>,
    modes: Vec<(PathBuf, u32)>,
}

impl Extraction<'_> {
    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>, count: usize) -> Result<(), PlaceError> {
        let unreadable = |source| PlaceError::Archive { files: count, source };
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let refuse = |reason| PlaceError::UnsafeEntry { entry: name.clone(), reason };
        let Some(path) = self.inside(&entry.path().map_err(unreadable)?).map_err(refuse)? else { return Ok(()) };
        let kept = if self.manner == Manner::Files { 0o7777 } else { 0o777 };
        let mode = entry.header().mode().map_err(unreadable)? & kept;
        let link = entry.link_name().map_err(unreadable)?.map(Cow::into_owned).unwrap_or_default();
        let failed = |source| PlaceError::Write { path: self.folder.join(&path), source };
        if kind == EntryType::Directory {
            if !self.folders.contains(&path) {
                self.make_folders(&path)?.map_err(refuse)?;
            }
            // The owner must be able to remove the folder later, unless it is to be as it is.
            let mode = if self.manner == Manner::Files { mode } else { mode | 0o700 };
            self.modes.push((path, mode));
            return Ok(());
        }
        if self.folders.contains(&path) {
            return Err(refuse(UnsafeReason::Clash));
        }
        self.make_folders(path.parent().unwrap_or(Path::new("")))?.map_err(refuse)?;
        let target = self.folder.join(&path);
        self.files.remove(&path);
        match fs_err::remove_file(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let file = write_file(&mut entry, &target, mode | 0o400, count)?;
                self.files.insert(path.clone(), ExtractedFile { path, ..file });
            }
            EntryType::Symlink => {
                if self.manner == Manner::Program && !stays_inside(&path, &link) {
                    return Err(refuse(UnsafeReason::LinkOutside { target: link.display().to_string() }));
                }
                fs_err::os::unix::fs::symlink(&link, &target).map_err(failed)?;
            }
            EntryType::Link => {
                let missing = || refuse(UnsafeReason::LinkMissing { target: link.display().to_string() });
                let original = self.inside(&link).map_err(refuse)?.ok_or_else(missing)?;
                let file = self.files.get(&original).cloned().ok_or_else(missing)?;
                fs_err::hard_link(self.folder.join(&original), &target).map_err(failed)?;
                self.files.insert(path.clone(), ExtractedFile { path, ..file });
            }
            EntryType::Fifo if self.manner == Manner::Files => {
                let mode = Mode::from_raw_mode(mode);
                mknodat(CWD, &target, FileType::Fifo, mode, 0).map_err(|error| failed(error.into()))?;
                // The mask of this process was taken off.
                chmodat(CWD, &target, mode, AtFlags::empty()).map_err(|error| failed(error.into()))?;
            }
            _ => return Err(refuse(UnsafeReason::Special)),
        }
        Ok(())
    }

    /// The path without its first components; `None` if nothing is left of it.
    fn inside(&self, path: &Path) -> Result<Option<PathBuf>, UnsafeReason> {
        let mut parts = Vec::new();
        for part in path.components() {
            match part {
                Component::Normal(part) => parts.push(part),
                Component::CurDir => {}
                Component::ParentDir => return Err(UnsafeReason::Parent),
                Component::RootDir | Component::Prefix(_) => return Err(UnsafeReason::Absolute),
            }
        }
        let path: PathBuf = parts.iter().skip(self.strip).collect();
        Ok(if path.as_os_str().is_empty() { None } else { Some(path) })
    }

    /// Makes a folder and those above it, none of which may be anything but a folder made here.
    fn make_folders(&mut self, path: &Path) -> Result<Result<(), UnsafeReason>, PlaceError> {
        let mut folder = PathBuf::new();
        for part in path.components() {
            folder.push(part);
            if self.folders.contains(&folder) {
                continue;
            }
            let target = self.folder.join(&folder);
            match fs_err::create_dir(&target) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let is_folder = fs_err::symlink_metadata(&target).is_ok_and(|metadata| metadata.is_dir());
                    if !is_folder {
                        return Ok(Err(UnsafeReason::BelowLink));
                    }
                }
                Err(source) => return Err(PlaceError::Write { path: target, source }),
            }
            self.folders.insert(folder.clone());
        }
        Ok(Ok(()))
    }
}

/// Whether a link at `path` leads to somewhere below the folder. Only leading `..` are counted, from a folder that is
/// real; one that comes later might step out of what another link stands for.
fn stays_inside(path: &Path, link: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    let mut is_descending = false;
    for part in link.components() {
        match part {
            Component::ParentDir if is_descending || depth == 0 => return false,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => is_descending = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    !link.as_os_str().is_empty()
}

fn write_file(reader: &mut impl Read, path: &Path, mode: u32, count: usize) -> Result<ExtractedFile, PlaceError> {
    let failed = |source| PlaceError::Write { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    let mut hasher = Sha256Hasher::default();
    let mut size = 0;
    let mut block = vec![0; BLOCK];
    loop {
        match reader.read(&mut block) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&block[..count]);
                file.write_all(&block[..count]).map_err(failed)?;
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(PlaceError::Archive { files: count, source }),
        }
    }
    file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(ExtractedFile { path: PathBuf::new(), size, mode, sha256: hasher.finish() })
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
