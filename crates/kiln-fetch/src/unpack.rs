//! Unpacks an archive into a folder of the client, such that nothing can leave that folder.
//!
//! Nothing is ever written through a symbolic link, so it does not matter where the links of an archive point to.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use tar::EntryType;

use crate::archive::Archive;
use crate::error::{FetchError, Result};

/// Bytes that are copied at once.
const BUFFER: usize = 128 * 1024;

/// Mode and owner that an archive has for an entry. A folder on the client cannot always show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Unpacks an archive into the folder `root` and tells modes and owners by path. Devices and pipes are left out. `stop` is
/// asked often whether to give up.
///
/// # Errors
/// If the archive is damaged, an entry would leave the folder, or something cannot be written.
pub fn unpack(archive: &mut Archive, root: &Path, stop: &dyn Fn() -> bool) -> Result<HashMap<String, Attributes>> {
    let mut found = HashMap::new();
    for entry in archive.entries().map_err(FetchError::Archive)? {
        if stop() {
            return Err(FetchError::Stopped);
        }
        let mut entry = entry.map_err(FetchError::Archive)?;
        let name = entry.path().map_err(FetchError::Archive)?.into_owned();
        let Some(relative) = inside(&name)? else { continue };
        let path = root.join(&relative);
        let (kind, header) = (entry.header().entry_type(), entry.header());
        let id = |id: io::Result<u64>| id.map_err(FetchError::Archive).map(|id| u32::try_from(id).unwrap_or(0));
        let attributes = Attributes {
            mode: header.mode().map_err(FetchError::Archive)? & 0o7777,
            uid: id(header.uid())?,
            gid: id(header.gid())?,
        };
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(header.mtime().unwrap_or(0));
        let link = entry.link_name().map_err(FetchError::Archive)?.map(std::borrow::Cow::into_owned);
        make_parents(root, &relative)?;
        let shown = relative.to_string_lossy().into_owned();
        match kind {
            EntryType::Directory => {
                make_folder(&path, &shown)?;
                found.insert(shown, attributes);
                continue;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                remove(&path, &shown)?;
                let mode = if attributes.mode & 0o111 == 0 { 0o644 } else { 0o755 };
                let mut options = std::fs::OpenOptions::new();
                let file = options.write(true).create_new(true).mode(mode).open(&path);
                let mut file = file.map_err(FetchError::io("write", &path))?;
                copy(&mut entry, &mut file, &path, stop)?;
                file.set_modified(modified).map_err(FetchError::io("write", &path))?;
            }
            EntryType::Symlink => {
                remove(&path, &shown)?;
                let to = link.unwrap_or_default();
                std::os::unix::fs::symlink(&to, &path).map_err(FetchError::io("make the link", &path))?;
            }
            EntryType::Link => {
                let Some(to) = inside(&link.unwrap_or_default())? else { continue };
                check_parents(root, &to)?;
                remove(&path, &shown)?;
                std::fs::hard_link(root.join(&to), &path).map_err(FetchError::io("make the link", &path))?;
                // It is the same file, so it has the same attributes.
                let first = found.get(to.to_string_lossy().as_ref()).copied();
                found.insert(shown, first.unwrap_or(attributes));
                continue;
            }
            _ => continue,
        }
        found.insert(shown, attributes);
    }
    Ok(found)
}

/// The path of an entry below the folder; `None` for the folder itself.
fn inside(name: &Path) -> Result<Option<PathBuf>> {
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                let problem = "leads out of the folder";
                return Err(FetchError::Unsafe { path: name.display().to_string(), problem });
            }
        }
    }
    Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
}

/// Makes the folders that an entry is in.
fn make_parents(root: &Path, relative: &Path) -> Result<()> {
    let mut path = root.to_owned();
    for part in relative.parent().into_iter().flat_map(Path::components) {
        path.push(part);
        make_folder(&path, &relative.to_string_lossy())?;
    }
    Ok(())
}

/// Makes sure that the folders that a path is in are folders.
fn check_parents(root: &Path, relative: &Path) -> Result<()> {
    let mut path = root.to_owned();
    for part in relative.parent().into_iter().flat_map(Path::components) {
        path.push(part);
        let meta = fs::symlink_metadata(&path).map_err(FetchError::io("read", &path))?;
        if !meta.is_dir() {
            return Err(through_link(&relative.to_string_lossy()));
        }
    }
    Ok(())
}

fn make_folder(path: &Path, shown: &str) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(through_link(shown)),
        Err(_) => {
            std::fs::create_dir(path).map_err(FetchError::io("make", path))?;
            // Whatever the umask is: the folder has to be written to and read.
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).map_err(FetchError::io("make", path))
        }
    }
}

fn through_link(path: &str) -> FetchError {
    FetchError::Unsafe { path: path.to_owned(), problem: "lies below something that is no folder" }
}

/// Makes room for an entry that replaces an earlier one.
fn remove(path: &Path, shown: &str) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => {
            Err(FetchError::Unsafe { path: shown.to_owned(), problem: "takes the place of a folder" })
        }
        Ok(_) => std::fs::remove_file(path).map_err(FetchError::io("replace", path)),
        Err(_) => Ok(()),
    }
}

fn copy(from: &mut dyn Read, to: &mut dyn Write, path: &Path, stop: &dyn Fn() -> bool) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        if stop() {
            return Err(FetchError::Stopped);
        }
        let n = from.read(&mut buffer).map_err(FetchError::Archive)?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n]).map_err(FetchError::io("write", path))?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::archive::{Opened, detect};

    /// An archive of `(kind, path, content or link)`; paths are written as they are.
    fn archive(entries: &[(EntryType, &str, &str)]) -> Archive {
        let mut bytes = Vec::new();
        for (kind, path, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o640);
            header.set_uid(7);
            header.set_gid(8);
            header.set_mtime(9);
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            let is_file = *kind == EntryType::Regular;
            if !is_file {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(if is_file { content.len() as u64 } else { 0 });
            header.set_cksum();
            bytes.extend(header.as_bytes());
            if is_file {
                bytes.extend(content.as_bytes());
                bytes.resize(bytes.len().next_multiple_of(512), 0);
            }
        }
        bytes.extend([0; 1024]);
        match detect(Box::new(Cursor::new(bytes))).expect("readable") {
            Opened::Archive(archive) => archive,
            Opened::Other(_) => panic!("no archive"),
        }
    }

    const FILE: EntryType = EntryType::Regular;
    const LINK: EntryType = EntryType::Symlink;

    #[test]
    fn entries_come_with_their_modes_and_owners() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut archive = archive(&[
            (EntryType::Directory, "./", ""),
            (FILE, "./a/b", "old"),
            (FILE, "./a/b", "new"),
            (LINK, "./l", "/etc/passwd"),
            (EntryType::Link, "./h", "./a/b"),
            (EntryType::Fifo, "./pipe", ""),
            (FILE, "/abs", "x"),
        ]);
        let found = unpack(&mut archive, dir.path(), &|| false).expect("unpacked");
        assert_eq!(found["a/b"], Attributes { mode: 0o640, uid: 7, gid: 8 });
        assert_eq!(found["h"], found["a/b"]);
        assert_eq!(fs::read_to_string(dir.path().join("h")).expect("hard link"), "new");
        assert_eq!(fs::read_link(dir.path().join("l")).expect("link"), Path::new("/etc/passwd"));
        assert_eq!(fs::read_to_string(dir.path().join("abs")).expect("below the folder"), "x");
        assert!(!dir.path().join("pipe").exists());
    }

    #[test]
    fn nothing_leaves_the_folder() {
        for entries in [
            &[(FILE, "../x", "bad")][..],
            &[(FILE, "a/../../x", "bad")],
            &[(LINK, "l", ".."), (FILE, "l/x", "bad")],
            &[(LINK, "l", "../x"), (EntryType::Directory, "l", "")],
            &[(LINK, "l", ".."), (EntryType::Link, "h", "l/secret")],
            &[(EntryType::Link, "h", "../secret")],
            &[(EntryType::Directory, "d", ""), (FILE, "d", "x")],
        ] {
            let dir = tempfile::tempdir().expect("temporary folder");
            fs::write(dir.path().join("secret"), "kept").expect("write");
            let root = dir.path().join("root");
            fs::create_dir(&root).expect("folder");
            let refused = unpack(&mut archive(entries), &root, &|| false);
            assert!(matches!(refused, Err(FetchError::Unsafe { .. })), "{entries:?}: {refused:?}");
            assert!(!dir.path().join("x").exists(), "{entries:?}");
        }
        // A link at the place of a file is replaced, not followed.
        let dir = tempfile::tempdir().expect("temporary folder");
        let root = dir.path().join("root");
        fs::create_dir(&root).expect("folder");
        unpack(&mut archive(&[(LINK, "l", "../x"), (FILE, "l", "mine")]), &root, &|| false).expect("unpacked");
        assert!(!dir.path().join("x").exists());
        assert_eq!(fs::read_to_string(root.join("l")).expect("file"), "mine");
    }

    #[test]
    fn it_stops_when_asked_to() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let stopped = unpack(&mut archive(&[(FILE, "a", "x")]), dir.path(), &|| true);
        assert!(matches!(stopped, Err(FetchError::Stopped)));
    }
}
