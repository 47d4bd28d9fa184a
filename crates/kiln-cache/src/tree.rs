//! Trees as archives: what a daemon gives of a volume becomes entries of a snapshot, and the other way round.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use crate::pack::Packer;
use crate::snapshot::{Entry, Kind, MODES, STICKY, Snapshot, is_inside, stays};
use crate::unpack::Contents;

/// What of a tree was not taken along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Devices, pipes, sockets, links that lead out of the tree, names that are no text.
    pub odd: usize,
    /// Files that were not there any more, or not as they should be.
    pub missing: usize,
    /// Files that were written.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Adds what is in an archive to a snapshot. The first part of each path is the folder that was archived; `skip` says which
/// paths below it are of no use elsewhere (locks, temporary files), with all that is below them.
///
/// # Errors
/// If the archive breaks off or the packer's sink fails.
pub fn pack_archive(archive: impl Read, skip: impl Fn(&str) -> bool, packer: &mut Packer<'_>) -> io::Result<Left> {
    let mut archive = tar::Archive::new(archive);
    let mut left = Left::default();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let Some(path) = below(&entry.path_bytes()) else {
            left.odd += 1;
            continue;
        };
        if !is_inside(&path) || skip(&path) {
            continue;
        }
        let header = entry.header();
        let number =
            |value: io::Result<u64>| value.ok().and_then(|value| u32::try_from(value).ok()).unwrap_or_default();
        let mut made = Entry {
            path,
            mode: header.mode()? & MODES,
            uid: number(header.uid()),
            gid: number(header.gid()),
            mtime: header.mtime().ok().and_then(|at| i64::try_from(at).ok()).unwrap_or_default(),
            kind: Kind::Folder,
        };
        let kind = header.entry_type();
        let link = entry.link_name_bytes().and_then(|name| String::from_utf8(name.into_owned()).ok());
        match (kind, link) {
            (EntryType::Directory, _) => {
                made.mode = header.mode()? & (MODES | STICKY);
                packer.add(made);
            }
            (EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse, _) => {
                left.files += 1;
                left.bytes += entry.size();
                packer.add_file(made, &mut entry)?;
            }
            (EntryType::Symlink, Some(to)) if stays(&made.path, &to) => {
                packer.add(Entry { kind: Kind::Symlink(to), ..made });
            }
            (EntryType::Link, Some(to)) => match below(to.as_bytes()).filter(|to| !skip(to)) {
                Some(to) if packer.has_file(&to) => packer.add(Entry { kind: Kind::Same(to), ..made }),
                _ => left.odd += 1,
            },
            _ => left.odd += 1,
        }
    }
    Ok(left)
}

/// A path without its first part; `None` if it is no text.
fn below(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?.trim_start_matches("./").trim_end_matches('/');
    Some(path.split_once('/').map_or(String::new(), |(_, below)| below.to_owned()))
}

/// Writes the files of a snapshot as an archive, below `prefix` (empty, or a path of plain names). What cannot be had is
/// left out, and what stands on it; a file that proves to be damaged while it is written is an error, so that whoever
/// unpacks the archive drops what came of it.
///
/// # Errors
/// Of the writer, and as said.
pub fn write_archive(
    snapshot: &Snapshot,
    contents: &mut Contents<'_>,
    prefix: &str,
    out: &mut tar::Builder<impl Write>,
) -> io::Result<Left> {
    let mut left = Left::default();
    let mut missing = std::collections::HashSet::new();
    let full = |path: &str| match (prefix, path) {
        ("", path) => path.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, path) => format!("{prefix}/{path}"),
    };
    for entry in &snapshot.entries {
        let path = full(&entry.path);
        if path.is_empty() {
            continue;
        }
        let mut header = Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_mtime(u64::try_from(entry.mtime).unwrap_or_default());
        header.set_size(0);
        match &entry.kind {
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                out.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Kind::Symlink(to) => {
                header.set_entry_type(EntryType::Symlink);
                out.append_link(&mut header, &path, to)?;
            }
            Kind::Same(other) if missing.contains(other.as_str()) => left.missing += 1,
            Kind::Same(other) => {
                header.set_entry_type(EntryType::Link);
                out.append_link(&mut header, &path, full(other))?;
                left.files += 1;
            }
            Kind::File(_) => {
                let mut content = contents.read(entry);
                if !content.is_there() || content.prove().is_err() {
                    left.missing += 1;
                    missing.insert(entry.path.as_str());
                    continue;
                }
                let size = snapshot.size_of(entry);
                header.set_size(size);
                header.set_entry_type(EntryType::Regular);
                out.append_data(&mut header, &path, content)?;
                left.files += 1;
                left.bytes += size;
            }
        }
    }
    Ok(left)
}

/// Adds a file or folder of this machine to a snapshot as `path`, with all that is below it. Folders above it are added by
/// the caller.
///
/// # Errors
/// If something cannot be read or the packer's sink fails.
pub fn pack_path(from: &std::path::Path, path: &str, packer: &mut Packer<'_>) -> io::Result<Left> {
    use std::os::unix::fs::MetadataExt;
    let mut left = Left::default();
    let mut todo = vec![(from.to_owned(), path.to_owned())];
    while let Some((from, path)) = todo.pop() {
        let meta = from.symlink_metadata()?;
        if meta.mode() & 0o6000 != 0 {
            left.odd += 1;
        }
        let mode = meta.mode() & if meta.is_dir() { MODES | STICKY } else { MODES };
        let mut entry = Entry { path, mode, uid: meta.uid(), gid: meta.gid(), mtime: meta.mtime(), kind: Kind::Folder };
        if meta.is_dir() {
            for child in std::fs::read_dir(&from)? {
                let child = child?;
                match child.file_name().into_string() {
                    Ok(name) => todo.push((child.path(), format!("{}/{name}", entry.path))),
                    Err(_) => left.odd += 1,
                }
            }
            packer.add(entry);
        } else if meta.is_file() {
            left.files += 1;
            left.bytes += meta.len();
            packer.add_file(entry, &mut std::fs::File::open(&from)?)?;
        } else if let Some(to) = std::fs::read_link(&from).ok().and_then(|to| to.into_os_string().into_string().ok())
            && stays(&entry.path, &to)
        {
            entry.kind = Kind::Symlink(to);
            packer.add(entry);
        } else {
            left.odd += 1;
        }
    }
    Ok(left)
}
