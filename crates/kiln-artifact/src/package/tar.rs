//! Tar archives, and the packages of Alpine, which are several of them in a row.
//!
//! The headers of long names are read here, with a limit: the library reads such a name whole, however long it claims to be.

use std::io::{self, Read};

use ::tar::{Archive, EntryType, PaxExtensions};

use super::bounds::Meter;
use super::{Control, Member, MemberKind, PackageError, Reader, Visit, inside, read_text};

/// Bytes of a long name or of extended attributes at most.
const LONG: u64 = 1 << 20;

/// The name of the first entry, if the stream is a tar archive with one.
pub(super) fn first_name(plain: Reader) -> Option<String> {
    let mut archive = Archive::new(plain);
    let mut entries = archive.entries().ok()?.raw(true);
    let entry = entries.next()?.ok()?;
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    Some(name.trim_start_matches("./").to_owned())
}

/// Visits the entries of a tar archive.
pub(super) fn walk(plain: &mut dyn Read, meter: &Meter, visit: &mut Visit<'_>) -> Result<(), PackageError> {
    let mut archive = Archive::new(plain);
    let (mut long_name, mut long_link) = (None, None);
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        meter.member()?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => {
                long_name = Some(long_text(&mut entry)?);
                continue;
            }
            EntryType::GNULongLink => {
                long_link = Some(long_text(&mut entry)?);
                continue;
            }
            EntryType::XHeader => {
                let bytes = limited(&mut entry)?;
                for extension in PaxExtensions::new(&bytes) {
                    let extension = extension?;
                    let value = || String::from_utf8_lossy(extension.value_bytes()).into_owned();
                    match extension.key_bytes() {
                        b"path" => long_name = Some(value()),
                        b"linkpath" => long_link = Some(value()),
                        _ => {}
                    }
                }
                continue;
            }
            EntryType::XGlobalHeader => continue,
            _ => {}
        }
        let name = long_name.take().unwrap_or_else(|| String::from_utf8_lossy(&entry.path_bytes()).into_owned());
        let link =
            long_link.take().or_else(|| entry.link_name_bytes().map(|b| String::from_utf8_lossy(&b).into_owned()));
        let Some(name) = inside(&name)? else { continue };
        let mode = entry.header().mode().unwrap_or(0o644) & 0o7777;
        let kind = match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => MemberKind::File,
            EntryType::Directory => MemberKind::Folder,
            EntryType::Symlink => MemberKind::Link(link.unwrap_or_default()),
            EntryType::Link => MemberKind::HardLink(inside(&link.unwrap_or_default())?.unwrap_or_default()),
            _ => MemberKind::Other,
        };
        visit(Member { name, mode, kind, is_control: false, body: &mut entry })?;
    }
    Ok(())
}

/// Visits the files of a package of Alpine. Source: the manual page apk-package(5) of apk-tools 2.
pub(super) fn walk_apk(plain: &mut dyn Read, meter: &Meter, visit: &mut Visit<'_>) -> Result<Control, PackageError> {
    let mut control = None;
    walk(plain, meter, &mut |member| {
        // All that begins with a dot at the top is for apk.
        let is_control = member.name.starts_with('.') && !member.name.contains('/');
        if member.name == ".PKGINFO" && member.kind == MemberKind::File {
            let text = read_text(member.body)?;
            control = Some(pkginfo(&text));
            let mut bytes = text.as_bytes();
            return visit(Member { is_control, body: &mut bytes, ..member });
        }
        visit(Member { is_control, ..member })
    })?;
    control.ok_or_else(|| PackageError::damaged("it has no .PKGINFO"))
}

fn pkginfo(text: &str) -> Control {
    let mut control = Control::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let value = value.trim().to_owned();
        match key.trim() {
            "pkgname" => control.name = value,
            "pkgver" => control.version = value,
            "arch" => control.arch = value,
            "depend" => control.depends.push(value),
            _ => {}
        }
    }
    control
}

fn long_text(entry: &mut dyn Read) -> Result<String, PackageError> {
    let bytes = limited(entry)?;
    Ok(String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned())
}

fn limited(entry: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(LONG + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONG {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a name of more than a megabyte"));
    }
    Ok(bytes)
}
