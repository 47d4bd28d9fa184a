//! Writes the entries of an archive that will be unpacked over an existing file system.
//!
//! Unpacking a folder entry over an existing folder would change its mode and owner, and over a symbolic link to a
//! folder (`/lib` of most images) would replace the link. So a folder is written only where none is; that is asked of
//! the destination from the top down, and not below a folder that is known to be new.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use kiln_docker::{FileKind, PathStat};
use tar::{Builder, EntryType, Header};

use crate::error::Result;

/// What an entry gets beside its path and content.
#[derive(Clone, Debug, Default)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: u64,
    /// Extended attributes as PAX records.
    pub(super) pax: Vec<(String, Vec<u8>)>,
}

/// Answers what is at an absolute path of the destination.
pub(super) type Probe<'a> = &'a (dyn Fn(&str) -> Result<Option<PathStat>> + Send + Sync);

pub(super) struct Emitter<'a, W: Write> {
    builder: Builder<W>,
    probe: Probe<'a>,
    /// Folders that this archive makes.
    fresh: HashSet<String>,
    /// Folders that are there.
    existing: HashSet<String>,
}

/// Why an entry cannot be written.
pub(super) enum EmitError {
    Io(io::Error),
    Solve(crate::SolveError),
    Clash { path: String, problem: &'static str },
}

impl From<io::Error> for EmitError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<crate::SolveError> for EmitError {
    fn from(error: crate::SolveError) -> Self {
        Self::Solve(error)
    }
}

impl<'a, W: Write> Emitter<'a, W> {
    pub(super) fn new(out: W, probe: Probe<'a>) -> Self {
        let mut existing = HashSet::new();
        existing.insert(String::new());
        Self { builder: Builder::new(out), probe, fresh: HashSet::new(), existing }
    }

    /// Makes a folder where none is, and its parents with `meta`'s owner and mode 755.
    pub(super) fn folder(&mut self, path: &str, meta: &Meta) -> Result<(), EmitError> {
        let path = path.trim_matches('/');
        if self.fresh.contains(path) || self.existing.contains(path) {
            return Ok(());
        }
        let parent = path.rfind('/').map_or("", |i| &path[..i]);
        self.folder(parent, &Meta { mode: 0o755, pax: Vec::new(), ..meta.clone() })?;
        if !self.fresh.contains(parent) {
            match (self.probe)(&format!("/{path}"))? {
                Some(stat) if matches!(stat.kind, FileKind::Folder | FileKind::Symlink) => {
                    self.existing.insert(path.to_owned());
                    return Ok(());
                }
                Some(_) => {
                    return Err(EmitError::Clash { path: format!("/{path}"), problem: "a file is in the way" });
                }
                None => {}
            }
        }
        let mut header = header(EntryType::Directory, meta);
        self.append(&mut header, &format!("{path}/"), &meta.pax, io::empty())?;
        self.fresh.insert(path.to_owned());
        Ok(())
    }

    fn parents(&mut self, path: &str, meta: &Meta) -> Result<(), EmitError> {
        let parent = path.rfind('/').map_or("", |i| &path[..i]);
        self.folder(parent, &Meta { mode: 0o755, pax: Vec::new(), ..meta.clone() })
    }

    /// A file of exactly `size` bytes; fewer or more in `content` is an error.
    pub(super) fn file(&mut self, path: &str, meta: &Meta, size: u64, content: &mut dyn Read) -> Result<(), EmitError> {
        self.parents(path, meta)?;
        let mut header = header(EntryType::Regular, meta);
        header.set_size(size);
        let mut exact = Exact { inner: content, left: size };
        self.append(&mut header, path, &meta.pax, &mut exact)?;
        if exact.left > 0 || exact.inner.read(&mut [0])? > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file changed its size").into());
        }
        Ok(())
    }

    pub(super) fn symlink(&mut self, path: &str, meta: &Meta, to: &str) -> Result<(), EmitError> {
        self.parents(path, meta)?;
        let mut header = header(EntryType::Symlink, meta);
        self.builder.append_link(&mut header, path.trim_start_matches('/'), to)?;
        Ok(())
    }

    /// A hard link to a path of the same archive.
    pub(super) fn hard_link(&mut self, path: &str, meta: &Meta, to: &str) -> Result<(), EmitError> {
        self.parents(path, meta)?;
        let mut header = header(EntryType::Link, meta);
        self.builder.append_link(&mut header, path.trim_start_matches('/'), to.trim_start_matches('/'))?;
        Ok(())
    }

    fn append(
        &mut self,
        header: &mut Header,
        path: &str,
        pax: &[(String, Vec<u8>)],
        content: impl Read,
    ) -> io::Result<()> {
        if !pax.is_empty() {
            self.builder.append_pax_extensions(pax.iter().map(|(k, v)| (k.as_str(), v.as_slice())))?;
        }
        self.builder.append_data(header, path.trim_start_matches('/'), content)
    }

    pub(super) fn into_inner(self) -> io::Result<W> {
        self.builder.into_inner()
    }
}

fn header(kind: EntryType, meta: &Meta) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(meta.mode);
    header.set_uid(meta.uid);
    header.set_gid(meta.gid);
    header.set_mtime(meta.mtime);
    header.set_size(0);
    header
}

/// Gives out at most `left` bytes; what is missing is filled with zeros so the archive stays well-formed, and then
/// reported.
struct Exact<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let n = self.inner.read(&mut out[..most])?;
        self.left -= n as u64;
        if n == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file changed its size"));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(archive: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().expect("archive");
        entries.map(|e| e.expect("entry").path().expect("path").to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn only_missing_folders_are_written() {
        let probe = |path: &str| {
            let kind = match path {
                "/usr" => FileKind::Folder,
                "/lib" => FileKind::Symlink,
                "/file" => FileKind::File,
                _ => return Ok(None),
            };
            Ok(Some(PathStat { kind, mode: 0o755, size: 0, link_target: String::new() }))
        };
        let meta = Meta { mode: 0o755, ..Meta::default() };
        let mut out = Emitter::new(Vec::new(), &probe);
        let ok = out.folder("/usr/share/a", &meta).is_ok()
            && out.file("/usr/share/a/f", &meta, 2, &mut &b"ab"[..]).is_ok()
            && out.file("/lib/g", &meta, 0, &mut &b""[..]).is_ok()
            && out.symlink("/usr/l", &meta, "share").is_ok();
        assert!(ok);
        assert!(matches!(out.folder("/file/x", &meta), Err(EmitError::Clash { .. })));
        let archive = out.into_inner().expect("written");
        assert_eq!(names(&archive), ["usr/share/", "usr/share/a/", "usr/share/a/f", "lib/g", "usr/l"]);
    }

    #[test]
    fn a_file_that_shrinks_or_grows_is_an_error() {
        let probe = |_: &str| Ok(None);
        let mut out = Emitter::new(Vec::new(), &probe);
        assert!(out.file("/a", &Meta::default(), 3, &mut &b"ab"[..]).is_err());
        let mut out = Emitter::new(Vec::new(), &probe);
        assert!(out.file("/a", &Meta::default(), 1, &mut &b"ab"[..]).is_err());
    }
}
