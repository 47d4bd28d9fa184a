//! The archives that `ADD` unpacks.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::emit::{EmitError, Emitter, Meta};
use crate::error::SolveError;
use crate::pattern::{clean, join};

/// What became of a file that might be an archive.
pub(super) enum Unpacked {
    Done,
    /// It is copied like any other file.
    NoArchive,
    /// It may be an archive inside.
    Compressed,
}

/// First bytes of gzip, bzip2, xz and zstd.
const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
/// Where a tar header says what it is.
const MAGIC: std::ops::Range<usize> = 257..262;

/// Unpacks a tar archive to the folder `dest`, which is made with `plain` if it is not there.
pub(super) fn unpack<W: Write>(
    path: &Path,
    dest: &str,
    plain: &Meta,
    out: &mut Emitter<'_, W>,
) -> Result<Unpacked, EmitError> {
    let unreadable = |error| EmitError::Solve(SolveError::io("read", path)(error));
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(512).read_to_end(&mut head).map_err(unreadable)?;
    if COMPRESSED.iter().any(|magic| head.starts_with(magic)) {
        return Ok(Unpacked::Compressed);
    }
    if head.get(MAGIC) != Some(b"ustar".as_slice()) {
        return Ok(Unpacked::NoArchive);
    }
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    out.folder(dest, plain)?;
    let mut archive = tar::Archive::new(io::BufReader::new(file));
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = clean(&entry.path().map_err(unreadable)?.to_string_lossy());
        let target = join(dest, &name);
        let header = entry.header();
        let meta = Meta {
            mode: header.mode().map_err(unreadable)? & 0o7777,
            uid: header.uid().map_err(unreadable)?,
            gid: header.gid().map_err(unreadable)?,
            mtime: header.mtime().map_err(unreadable)?,
            pax: Vec::new(),
        };
        let kind = header.entry_type();
        let link = entry.link_name().map_err(unreadable)?.map(|l| l.to_string_lossy().into_owned()).unwrap_or_default();
        let size = entry.size();
        match kind {
            // The destination itself.
            _ if name.is_empty() => {}
            tar::EntryType::Directory => out.copy_folder(&target, &meta)?,
            tar::EntryType::Symlink => out.symlink(&target, &meta, &link)?,
            tar::EntryType::Link => out.hard_link(&target, &meta, &join(dest, &clean(&link)))?,
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                out.file(&target, &meta, size, &mut entry)?;
            }
            _ => {}
        }
    }
    Ok(Unpacked::Done)
}
