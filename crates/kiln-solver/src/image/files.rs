//! `type=tar`: the files of targets as one archive, with owners, modes and times as they are in the image.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::stubs::Stubs;

/// What the daemon itself puts into the root of every container, where the image has nothing there.
const DAEMONS: [&str; 4] = ["dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
/// Folders of the same kind.
const DAEMONS_FOLDERS: [&str; 2] = ["dev/pts", "dev/shm"];

/// How entries are changed on their way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rewrite {
    /// Goes in front of every path: `linux_amd64/`, or nothing.
    pub(crate) prefix: String,
    /// The latest time of a file.
    pub(crate) epoch: Option<i64>,
    /// Whether the archive is one of a container, with the daemon's own files in it.
    pub(crate) of_container: bool,
    /// Mount points that the daemon made.
    pub(crate) stubs: Stubs,
}

/// Copies the entries of an archive into another one; how many.
pub(crate) fn copy<W: Write>(reader: impl Read, rewrite: &Rewrite, out: &mut tar::Builder<W>) -> io::Result<u64> {
    let mut archive = tar::Archive::new(reader);
    let mut count = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = below_root(&entry.path_bytes()).to_owned();
        let path = String::from_utf8_lossy(&name).into_owned();
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
        let mut header = entry.header().clone();
        let kind = header.entry_type();
        if path.is_empty() || (rewrite.of_container && is_daemons(&path, kind, entry.size(), link.as_deref())) {
            continue;
        }
        let (is_folder, mode) = (kind == tar::EntryType::Directory, header.mode().unwrap_or_default());
        if rewrite.stubs.hides(path.trim_end_matches('/'), is_folder, entry.size(), mode) {
            continue;
        }
        if let Some(epoch) = rewrite.epoch.and_then(|epoch| u64::try_from(epoch).ok()) {
            header.set_mtime(header.mtime().unwrap_or_default().min(epoch));
        }
        let attributes: Vec<(String, Vec<u8>)> = match entry.pax_extensions()? {
            Some(extensions) => extensions
                .filter_map(Result::ok)
                .filter_map(|extension| Some((extension.key().ok()?.to_owned(), extension.value_bytes().to_owned())))
                .filter(|(key, _)| key.starts_with("SCHILY.xattr."))
                .collect(),
            None => Vec::new(),
        };
        if !attributes.is_empty() {
            out.append_pax_extensions(attributes.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
        }
        let place = |name: &[u8]| PathBuf::from(OsString::from_vec([rewrite.prefix.as_bytes(), name].concat()));
        let path = place(&name);
        match (kind, link) {
            (tar::EntryType::Link, Some(first)) => {
                // The first name of the file is a path in the archive, too.
                out.append_link(&mut header, path, place(below_root(&first)))?;
            }
            (tar::EntryType::Symlink, Some(to)) => {
                out.append_link(&mut header, path, PathBuf::from(OsString::from_vec(to)))?;
            }
            _ => out.append_data(&mut header, path, &mut entry)?,
        }
        count += 1;
    }
    // The sender may still have an error to report after the last entry.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(count)
}

/// A path in an archive without what only says that it begins at the root.
fn below_root(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    &path[start..]
}

fn is_daemons(path: &str, kind: tar::EntryType, size: u64, link: Option<&[u8]>) -> bool {
    let path = path.trim_end_matches('/');
    match kind {
        tar::EntryType::Regular => path == ".dockerenv" || (size == 0 && DAEMONS.contains(&path)),
        tar::EntryType::Directory => DAEMONS_FOLDERS.contains(&path),
        tar::EntryType::Symlink => path == "etc/mtab" && link == Some(b"/proc/mounts".as_slice()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, path: &str, bytes: &[u8], link: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_mtime(5000);
        if link.is_empty() {
            builder.append_data(&mut header, path, bytes).expect("written");
        } else {
            builder.append_link(&mut header, path, link).expect("written");
        }
    }

    #[test]
    fn owners_modes_and_links_stay_and_the_daemons_files_go() {
        let mut from = tar::Builder::new(Vec::new());
        entry(&mut from, tar::EntryType::Regular, ".dockerenv", b"", "");
        entry(&mut from, tar::EntryType::Regular, "etc/hosts", b"", "");
        entry(&mut from, tar::EntryType::Directory, "etc/", b"", "");
        entry(&mut from, tar::EntryType::Regular, "etc/hostname", b"mine", "");
        from.append_pax_extensions([("SCHILY.xattr.user.a", b"b".as_slice())]).expect("written");
        entry(&mut from, tar::EntryType::Regular, &format!("etc/{}", "long".repeat(50)), b"x", "");
        entry(&mut from, tar::EntryType::Symlink, "s", b"", "/etc/hostname");
        entry(&mut from, tar::EntryType::Link, "h", b"", "etc/hostname");
        let bytes = from.into_inner().expect("whole");
        let rewrite =
            Rewrite { prefix: "linux_386/".into(), epoch: Some(1000), of_container: true, stubs: Stubs::default() };
        let mut out = tar::Builder::new(Vec::new());
        assert_eq!(copy(bytes.as_slice(), &rewrite, &mut out).expect("copied"), 5);
        let bytes = out.into_inner().expect("whole");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let seen: Vec<String> = archive
            .entries()
            .expect("entries")
            .map(|entry| {
                let mut entry = entry.expect("entry");
                let attributes = entry.pax_extensions().expect("extensions").map_or(0, Iterator::count);
                let (path, header) = (entry.path().expect("path").display().to_string(), entry.header());
                let link = entry.link_name().expect("link").map(|l| format!(" -> {}", l.display())).unwrap_or_default();
                let (uid, mode, time) = (header.uid().unwrap(), header.mode().unwrap(), header.mtime().unwrap());
                let path = path.replace(&"long".repeat(50), "long");
                format!("{path} {uid} {mode:o} {time} {attributes}{link}")
            })
            .collect();
        let expected = [
            "linux_386/etc/ 7 4755 1000 0",
            "linux_386/etc/hostname 7 4755 1000 0",
            "linux_386/etc/long 7 4755 1000 1",
            "linux_386/s 7 4755 1000 0 -> /etc/hostname",
            "linux_386/h 7 4755 1000 0 -> linux_386/etc/hostname",
        ];
        assert_eq!(seen, expected);
    }
}
