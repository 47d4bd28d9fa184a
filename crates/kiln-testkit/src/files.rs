//! A file system in memory, and its archives.

use std::collections::BTreeMap;
use std::io::{self, Read};

use kiln_docker::{FileKind, PathStat};

/// A file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its type.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Content of a regular file.
    pub bytes: Vec<u8>,
    /// Where a link leads.
    pub link: String,
    /// For the second name of a file: its first one.
    pub twin: Option<String>,
}

impl File {
    /// Something empty that belongs to root.
    pub fn new(kind: FileKind, mode: u32) -> Self {
        Self { kind, mode, uid: 0, gid: 0, bytes: Vec::new(), link: String::new(), twin: None }
    }
}

/// Links that are followed in one path.
const MOST_LINKS: usize = 40;

/// Absolute paths without a trailing slash, sorted. The root is not among them; folders may be implied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, File>);

impl Files {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a regular file.
    pub fn write(&mut self, path: &str, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.put(path, File { bytes: bytes.into(), ..File::new(FileKind::File, 0o644) })
    }

    /// Makes a folder.
    pub fn folder(&mut self, path: &str) -> &mut Self {
        self.put(path, File::new(FileKind::Folder, 0o755))
    }

    /// Makes a symbolic link.
    pub fn symlink(&mut self, path: &str, to: &str) -> &mut Self {
        self.put(path, File { link: to.to_owned(), ..File::new(FileKind::Symlink, 0o777) })
    }

    /// Gives a file a second name.
    pub fn hard_link(&mut self, path: &str, first: &str) -> &mut Self {
        let first = normal(first);
        let file = self.get(&first).unwrap_or(File::new(FileKind::File, 0o644));
        self.put(path, File { twin: Some(first), ..file })
    }

    /// Puts anything in place.
    pub fn put(&mut self, path: &str, file: File) -> &mut Self {
        self.0.insert(normal(path), file);
        self
    }

    /// The entry at a path; a folder that is only implied by what is in it exists, too.
    pub fn get(&self, path: &str) -> Option<File> {
        let path = normal(path);
        let folder = || File::new(FileKind::Folder, 0o755);
        self.0.get(&path).cloned().or_else(|| (path == "/" || self.below(&path).next().is_some()).then(folder))
    }

    /// The text of a regular file.
    pub fn text(&self, path: &str) -> Option<String> {
        self.0.get(&normal(path)).map(|file| String::from_utf8_lossy(&file.bytes).into_owned())
    }

    /// Removes a path and what is below it.
    pub fn remove(&mut self, path: &str) {
        let path = normal(path);
        let below: Vec<String> = self.below(&path).map(|(path, _)| path.clone()).collect();
        for path in below.iter().chain([&path]) {
            self.0.remove(path);
        }
    }

    /// All paths.
    pub fn paths(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// What a daemon says of a path: links in it are followed, the last part is not.
    pub(crate) fn stat(&self, path: &str) -> Option<PathStat> {
        let real = self.follow(path, false)?;
        let file = self.get(&real)?;
        let link_target = if file.kind == FileKind::Symlink { self.follow(&real, true)? } else { String::new() };
        Some(PathStat { kind: file.kind, mode: file.mode, size: file.bytes.len() as u64, link_target })
    }

    /// The path with its links followed; what is not there is taken as it is. `None` if they lead in a circle.
    pub(crate) fn follow(&self, path: &str, last: bool) -> Option<String> {
        let path = normal(path);
        let mut todo: Vec<String> = path.split('/').rev().filter(|p| !p.is_empty()).map(str::to_owned).collect();
        let mut real = "/".to_owned();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            let child = normal(&format!("{real}/{part}"));
            match self.0.get(&child) {
                Some(file) if file.kind == FileKind::Symlink && (last || !todo.is_empty()) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return None;
                    }
                    let to = &file.link;
                    let to = if to.starts_with('/') { normal(to) } else { normal(&format!("{real}/{to}")) };
                    todo.extend(to.split('/').rev().filter(|p| !p.is_empty()).map(str::to_owned));
                    "/".clone_into(&mut real);
                }
                _ => real = child,
            }
        }
        Some(real)
    }

    fn below(&self, path: &str) -> impl Iterator<Item = (&String, &File)> {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        self.0.iter().filter(move |(candidate, _)| candidate.starts_with(&prefix))
    }

    /// Unpacks one entry as a daemon does: it replaces what is there, but for a folder that meets a folder.
    pub(crate) fn unpack(&mut self, path: &str, file: File) {
        let Some(real) = self.follow(path, false).filter(|real| real != "/") else { return };
        if file.kind != FileKind::Folder {
            self.remove(&real);
        }
        let bytes = match &file.twin {
            Some(first) => self.get(first).map(|file| file.bytes).unwrap_or_default(),
            None => file.bytes,
        };
        self.0.insert(real, File { bytes, ..file });
    }

    /// The entries of an archive that is unpacked at a folder.
    pub(crate) fn entries(at: &str, archive: &[u8]) -> io::Result<Vec<(String, File)>> {
        let mut entries = Vec::new();
        for entry in tar::Archive::new(archive).entries()? {
            let mut entry = entry?;
            let path = normal(&format!("{at}/{}", entry.path()?.display()));
            let header = entry.header();
            let (mode, uid, gid) = (header.mode()?, header.uid()?, header.gid()?);
            let kind = match header.entry_type() {
                tar::EntryType::Directory => FileKind::Folder,
                tar::EntryType::Symlink => FileKind::Symlink,
                tar::EntryType::Regular | tar::EntryType::Link => FileKind::File,
                _ => FileKind::Other,
            };
            let is_twin = header.entry_type().is_hard_link();
            let link = entry.link_name()?.map(|link| link.display().to_string()).unwrap_or_default();
            let (link, twin) =
                if is_twin { (String::new(), Some(normal(&format!("{at}/{link}")))) } else { (link, None) };
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            entries.push((path, File { kind, mode, uid, gid, bytes, link, twin }));
        }
        Ok(entries)
    }

    /// An archive of a path, whose entries start with its last component.
    pub(crate) fn pack(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let path = normal(path);
        let Some(top) = self.get(&path) else { return Ok(None) };
        let strip = if path == "/" { 1 } else { parent(&path).len() + usize::from(parent(&path) != "/") };
        let mut builder = tar::Builder::new(Vec::new());
        let below: Vec<(&String, &File)> = self.below(&path).collect();
        let is_packed = |other: &str| other == path || below.iter().any(|(path, _)| *path == other);
        for (at, file) in [(&path, &top)].into_iter().chain(below.iter().copied()) {
            let name = at.get(strip..).unwrap_or_default();
            let mut header = tar::Header::new_gnu();
            header.set_mode(file.mode);
            header.set_uid(file.uid);
            header.set_gid(file.gid);
            header.set_size(0);
            match (file.kind, &file.twin) {
                _ if name.is_empty() => {}
                (FileKind::Symlink, _) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    builder.append_link(&mut header, name, &file.link)?;
                }
                (FileKind::Folder, _) => {
                    header.set_entry_type(tar::EntryType::Directory);
                    builder.append_data(&mut header, format!("{name}/"), io::empty())?;
                }
                (_, Some(first)) if is_packed(first) => {
                    header.set_entry_type(tar::EntryType::Link);
                    builder.append_link(&mut header, name, first.get(strip..).unwrap_or_default())?;
                }
                _ => {
                    header.set_size(file.bytes.len() as u64);
                    builder.append_data(&mut header, name, &file.bytes[..])?;
                }
            }
        }
        builder.into_inner().map(Some)
    }
}

fn parent(path: &str) -> &str {
    path.rfind('/').map_or("/", |at| if at == 0 { "/" } else { &path[..at] })
}

/// An absolute path without dots and double slashes.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_start_with_the_last_component() {
        let mut files = Files::new();
        files.write("/out/dist/app", "binary").write("/out/other", "x");
        let archive = files.pack("/out/dist").unwrap().unwrap();
        let mut copy = Files::new();
        let unpack = |files: &mut Files, at: &str, archive: &[u8]| {
            for (path, file) in Files::entries(at, archive).unwrap() {
                files.unpack(&path, file);
            }
        };
        unpack(&mut copy, "/copy", &archive);
        assert_eq!(copy.paths(), ["/copy/dist", "/copy/dist/app"]);
        assert_eq!(copy.text("/copy/dist/app").as_deref(), Some("binary"));
        assert_eq!(files.pack("/none").unwrap(), None);
        unpack(&mut copy, "/all", &files.pack("/").unwrap().unwrap());
        assert_eq!(copy.text("/all/out/other").as_deref(), Some("x"));
    }

    #[test]
    fn links_are_resolved_like_a_daemon_does() {
        let mut files = Files::new();
        files.symlink("/usr/bin/x", "../lib/x").symlink("/bin", "usr/bin").symlink("/circle", "circle");
        assert_eq!(files.stat("/usr/bin/x").unwrap().link_target, "/usr/lib/x");
        assert_eq!(files.stat("/usr/bin").unwrap().kind, FileKind::Folder);
        assert_eq!(files.stat("/bin/x").unwrap().link_target, "/usr/lib/x");
        assert_eq!(files.stat("/bin").unwrap().link_target, "/usr/bin");
        assert_eq!(files.stat("/circle"), None);
        files.remove("/usr");
        assert_eq!(files.stat("/usr/bin"), None);
    }
}
