//! Archives: tar in several compressors, and zip. [`tar()`] is also the inside of Debian's and Alpine's packages.

use std::io::{self, Seek, Write};

use ::tar::{Builder, EntryType, Header};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::compress::{gzip, xz, zstd};
use crate::error::PackageError;
use crate::format::Format;
use crate::tree::{Content, Entry, Node, Tree};

/// Writes an archive.
pub(crate) fn write<W: Write + Seek>(format: Format, out: W, time: u64, tree: &Tree) -> Result<(), PackageError> {
    match format {
        Format::TarXz => tar(xz(out)?, "", time, tree)?.finish()?.flush()?,
        Format::TarZst => tar(zstd(out)?, "", time, tree)?.finish()?.flush()?,
        Format::Zip => write_zip(out, time, tree)?,
        _ => tar(gzip(out), "", time, tree)?.finish()?.flush()?,
    }
    Ok(())
}

/// Writes a tar archive, with `prefix` before each path.
pub(crate) fn tar<W: Write>(out: W, prefix: &str, time: u64, tree: &Tree) -> io::Result<W> {
    let mut builder = Builder::new(out);
    if !prefix.is_empty() {
        append_folder(&mut builder, prefix, time)?;
    }
    for node in tree.nodes() {
        match node {
            Node::Folder(path) => append_folder(&mut builder, &format!("{prefix}{path}/"), time)?,
            Node::Entry(path, entry) => append(&mut builder, &format!("{prefix}{path}"), entry, time)?,
        }
    }
    builder.into_inner()
}

fn append_folder<W: Write>(builder: &mut Builder<W>, path: &str, time: u64) -> io::Result<()> {
    let mut header = header(Header::new_gnu(), EntryType::Directory, 0o755, time);
    builder.append_data(&mut header, path, io::empty())
}

fn append<W: Write>(builder: &mut Builder<W>, path: &str, entry: &Entry, time: u64) -> io::Result<()> {
    if let Content::Link(target) = &entry.content {
        let mut header = header(Header::new_gnu(), EntryType::Symlink, entry.mode(), time);
        return builder.append_link(&mut header, path, target);
    }
    let bytes = entry.read()?;
    let mut header = header(Header::new_gnu(), EntryType::Regular, entry.mode(), time);
    header.set_size(bytes.len() as u64);
    builder.append_data(&mut header, path, &*bytes)
}

/// A header of something that belongs to root.
pub(crate) fn header(mut header: Header, kind: EntryType, mode: u32, time: u64) -> Header {
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    // Names of eight bytes at most always fit.
    let _ = header.set_username("root").and_then(|()| header.set_groupname("root"));
    header
}

fn write_zip<W: Write + Seek>(out: W, time: u64, tree: &Tree) -> Result<(), PackageError> {
    let mut writer = ZipWriter::new(out);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(moment(time));
    for node in tree.nodes() {
        match node {
            Node::Folder(path) => {
                writer.add_directory(path, options.unix_permissions(0o755)).map_err(io::Error::from)?;
            }
            Node::Entry(path, entry) => {
                let options = options.unix_permissions(entry.mode());
                if let Content::Link(target) = &entry.content {
                    writer.add_symlink(path, target, options).map_err(io::Error::from)?;
                    continue;
                }
                let bytes = entry.read()?;
                let options = options.large_file(u32::try_from(bytes.len()).is_err());
                writer.start_file(path, options).map_err(io::Error::from)?;
                writer.write_all(&bytes)?;
            }
        }
    }
    writer.finish().map_err(io::Error::from)?.flush()?;
    Ok(())
}

/// A moment as zip has it, in UTC: to two seconds, and between 1980 and 2107.
fn moment(time: u64) -> DateTime {
    let at = crate::deb::date_time(time);
    let small = |part: i8| u8::try_from(part).unwrap_or(0);
    let year = u16::try_from(at.year()).unwrap_or(u16::MAX);
    let (hour, minute, second) = (small(at.hour()), small(at.minute()), small(at.second()) / 2 * 2);
    DateTime::from_date_and_time(year, small(at.month()), small(at.day()), hour, minute, second).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::Role;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_order_in_which_files_were_found_does_not_count(
            paths in prop::collection::vec("[a-c]{1,2}y/[a-e]{1,3}", 1..8),
        ) {
            let archive = |format, paths: &[String]| {
                let mut tree = Tree::new();
                for path in paths {
                    // A name may be taken by a folder.
                    let _ = tree.insert(&format!("{path}x"), Entry::bytes(path.as_bytes(), Role::Plain));
                }
                let mut out = std::io::Cursor::new(Vec::new());
                write(format, &mut out, 1_700_000_000, &tree).unwrap();
                out.into_inner()
            };
            // The other two differ in their compressors alone, which have large tables to set up.
            for format in [Format::TarGz, Format::Zip] {
                let reversed: Vec<String> = paths.iter().rev().cloned().collect();
                prop_assert_eq!(archive(format, &paths), archive(format, &reversed));
            }
        }
    }
}
