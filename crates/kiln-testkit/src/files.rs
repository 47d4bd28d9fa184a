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
    /// Content of a regular file.
    pub bytes: Vec<u8>,
    /// Where a link leads.
    pub link: String,
}

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
        let file = File { kind: FileKind::File, mode: 0o644, bytes: bytes.into(), link: String::new() };
        self.0.insert(normal(path), file);
        self
    }

    /// Makes a folder.
    pub fn folder(&mut self, path: &str) -> &mut Self {
        let file = File { kind: FileKind::Folder, mode: 0o755, bytes: Vec::new(), link: String::new() };
        self.0.insert(normal(path), file);
        self
    }

    /// Puts anything in place.
    pub fn put(&mut self, path: &str, file: File) -> &mut Self {
        self.0.insert(normal(path), file);
        self
    }

    /// The entry at a path; a folder that is only implied by what is in it exists, too.
    pub fn get(&self, path: &str) -> Option<File> {
        let path = normal(path);
        let folder = || File { kind: FileKind::Folder, mode: 0o755, bytes: Vec::new(), link: String::new() };
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

    pub(crate) fn stat(&self, path: &str) -> Option<PathStat> {
        self.get(path).map(|file| PathStat {
            kind: file.kind,
            mode: file.mode,
            size: file.bytes.len() as u64,
            link_target: if file.link.starts_with('/') || file.link.is_empty() {
                file.link
            } else {
                normal(&format!("{}/{}", parent(&normal(path)), file.link))
            },
        })
    }

    fn below(&self, path: &str) -> impl Iterator<Item = (&String, &File)> {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        self.0.iter().filter(move |(candidate, _)| candidate.starts_with(&prefix))
    }

    /// Unpacks an archive at a folder.
    pub(crate) fn unpack(&mut self, at: &str, archive: &[u8]) -> io::Result<()> {
        for entry in tar::Archive::new(archive).entries()? {
            let mut entry = entry?;
            let path = normal(&format!("{at}/{}", entry.path()?.display()));
            let kind = match entry.header().entry_type() {
                tar::EntryType::Directory => FileKind::Folder,
                tar::EntryType::Symlink => FileKind::Symlink,
                tar::EntryType::Regular => FileKind::File,
                _ => FileKind::Other,
            };
            let link = entry.link_name()?.map(|link| link.display().to_string()).unwrap_or_default();
            let mode = entry.header().mode()?;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            if path != "/" {
                self.0.insert(path, File { kind, mode, bytes, link });
            }
        }
        Ok(())
    }

    /// An archive of a path, whose entries start with its last component.
    pub(crate) fn pack(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let path = normal(path);
        let Some(top) = self.get(&path) else { return Ok(None) };
        let strip = if path == "/" { 1 } else { parent(&path).len() + usize::from(parent(&path) != "/") };
        let mut builder = tar::Builder::new(Vec::new());
        let below: Vec<(&String, &File)> = self.below(&path).collect();
        for (path, file) in [(&path, &top)].into_iter().chain(below) {
            let name = path.get(strip..).unwrap_or_default();
            let mut header = tar::Header::new_gnu();
            header.set_mode(file.mode);
            header.set_size(file.bytes.len() as u64);
            match file.kind {
                _ if name.is_empty() => {}
                FileKind::Symlink => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    builder.append_link(&mut header, name, &file.link)?;
                }
                FileKind::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    builder.append_data(&mut header, format!("{name}/"), io::empty())?;
                }
                FileKind::File | FileKind::Other => builder.append_data(&mut header, name, &file.bytes[..])?,
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
        copy.unpack("/copy", &archive).unwrap();
        assert_eq!(copy.paths(), ["/copy/dist", "/copy/dist/app"]);
        assert_eq!(copy.text("/copy/dist/app").as_deref(), Some("binary"));
        assert_eq!(files.pack("/none").unwrap(), None);
        copy.unpack("/all", &files.pack("/").unwrap().unwrap()).unwrap();
        assert_eq!(copy.text("/all/out/other").as_deref(), Some("x"));
    }

    #[test]
    fn links_are_resolved_like_a_daemon_does() {
        let mut files = Files::new();
        let link = File { kind: FileKind::Symlink, mode: 0o777, bytes: Vec::new(), link: "../lib/x".to_owned() };
        files.put("/usr/bin/x", link);
        assert_eq!(files.stat("/usr/bin/x").unwrap().link_target, "/usr/lib/x");
        assert_eq!(files.stat("/usr/bin").unwrap().kind, FileKind::Folder);
        files.remove("/usr");
        assert_eq!(files.stat("/usr/bin"), None);
    }
}
