//! Writes the entries of an archive that will be unpacked over an existing file system.
//!
//! The daemon unpacks with blunt rules: an entry replaces what is there, a folder entry changes the mode of the folder
//! it meets and takes the place of a link to one (`/lib` of most images). So every path is first followed to where it
//! really leads, through what the destination has and what this archive has made so far, and a folder is written only
//! where none is or where its mode is meant to change. The destination is asked from the top down, and never about what
//! lies below a folder that is known to be new.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Read, Write};

use kiln_docker::{FileKind, PathStat};
use tar::{Builder, EntryType, Header};

use crate::error::Result;
use crate::pattern::{join, split_last};

/// Links that are followed in one path before it is taken for a circle.
const MOST_LINKS: usize = 40;

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

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum There {
    Nothing,
    Folder,
    /// Where it leads, absolute or relative to its folder.
    Symlink(Box<str>),
    Other,
}

pub(super) struct Emitter<'a, W: Write> {
    builder: Builder<W>,
    probe: Probe<'a>,
    /// What this archive has written, by real path without a leading slash. A folder in it is new.
    written: HashMap<Box<str>, There>,
    /// Folders whose entry is in the archive, also those that are there.
    folders: HashSet<Box<str>>,
    /// What the destination has, as far as it was asked.
    base: HashMap<Box<str>, There>,
    /// Mode of folders made on the way.
    mode: u32,
    /// Owner of the folders that are made on the way.
    owner: (u64, u64),
    /// The folder that came last, as given and in truth: most entries share it with the one before.
    last_parent: Option<(String, String)>,
    /// Real paths that must not be written to, because something is mounted there.
    mounts: Vec<String>,
}

/// Why an entry cannot be written.
#[derive(Debug)]
pub(super) enum EmitError {
    Io(io::Error),
    Solve(crate::SolveError),
    Clash {
        path: String,
        problem: &'static str,
    },
    /// The path lies in a mount.
    Mounted,
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
        Self {
            builder: Builder::new(out),
            probe,
            written: HashMap::new(),
            folders: HashSet::new(),
            base: HashMap::new(),
            mode: 0o755,
            owner: (0, 0),
            last_parent: None,
            mounts: Vec::new(),
        }
    }

    /// Says where something is mounted: writing there fails with [`EmitError::Mounted`].
    pub(super) fn set_mounts(&mut self, mounts: &[String]) -> Result<(), EmitError> {
        self.mounts = mounts.iter().map(|mount| self.real(mount)).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// The folders above mounts that this archive has made.
    pub(super) fn above_mounts(&self) -> Vec<String> {
        let is_above = |path: &str| {
            self.mounts.iter().any(|mount| mount.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
        };
        self.written.keys().filter(|path| is_above(path)).map(ToString::to_string).collect()
    }

    /// The folders above entries that are there already, and have none of their own.
    pub(super) fn known_folders(&self) -> Vec<String> {
        let above = |path: &str| path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect::<Vec<_>>();
        let all: BTreeSet<String> = self.written.keys().chain(&self.folders).flat_map(|path| above(path)).collect();
        all.into_iter().filter(|folder| !self.folders.contains(folder.as_str())).collect()
    }

    /// Repeats what a folder is that is there.
    pub(super) fn known_folder(&mut self, real: &str, meta: &Meta) -> Result<(), EmitError> {
        self.write_folder(real, meta)
    }

    /// Says which mode the folders get that are made on the way to an entry, and who owns them.
    pub(super) fn set_parents(&mut self, mode: u32, owner: (u64, u64)) {
        (self.mode, self.owner) = (mode, owner);
    }

    /// Whether a folder is at the path, or a link to one.
    pub(super) fn is_folder(&mut self, path: &str) -> Result<bool, EmitError> {
        Ok(self.follow(path)?.1 == There::Folder)
    }

    /// Where a path leads when all its links are followed.
    pub(super) fn real(&mut self, path: &str) -> Result<String, EmitError> {
        Ok(self.follow(path)?.0)
    }

    /// Makes a folder where none is, and its parents with mode 755. One that is there stays as it is.
    pub(super) fn folder(&mut self, path: &str, meta: &Meta) -> Result<(), EmitError> {
        self.make(path, meta).map(drop)
    }

    fn make(&mut self, path: &str, meta: &Meta) -> Result<String, EmitError> {
        let (real, there) = self.follow(path)?;
        match there {
            There::Folder => return Ok(real),
            There::Nothing => {}
            There::Symlink(_) | There::Other => return Err(in_the_way(&real, "a file")),
        }
        let (uid, gid) = self.owner;
        let plain = Meta { mode: self.mode, uid, gid, ..Meta::default() };
        for (end, _) in real.match_indices('/') {
            if self.there(&real[..end])? == There::Nothing {
                self.write_folder(&real[..end], &plain)?;
            }
        }
        self.write_folder(&real, meta)?;
        Ok(real)
    }

    /// Copies a folder: makes it, or gives the one that is there this mode and owner, as BuildKit does.
    pub(super) fn copy_folder(&mut self, path: &str, meta: &Meta) -> Result<(), EmitError> {
        let real = self.place(path)?;
        match self.there(&real)? {
            There::Nothing | There::Folder => self.write_folder(&real, meta),
            // BuildKit refuses; what is meant is clear, though.
            There::Symlink(_) => self.folder(&real, meta),
            There::Other => Err(in_the_way(&real, "a file")),
        }
    }

    fn write_folder(&mut self, real: &str, meta: &Meta) -> Result<(), EmitError> {
        let mut header = header(EntryType::Directory, meta);
        self.append(&mut header, &format!("{real}/"), &meta.pax, io::empty())?;
        self.folders.insert(real.into());
        if self.there(real)? == There::Nothing {
            self.written.insert(real.into(), There::Folder);
        }
        Ok(())
    }

    /// A file of exactly `size` bytes; fewer or more in `content` is an error.
    pub(super) fn file(&mut self, path: &str, meta: &Meta, size: u64, content: &mut dyn Read) -> Result<(), EmitError> {
        let real = self.place_file(path)?;
        let mut header = header(EntryType::Regular, meta);
        header.set_size(size);
        let mut exact = Exact { inner: content, left: size };
        self.append(&mut header, &real, &meta.pax, &mut exact)?;
        if exact.left > 0 || exact.inner.read(&mut [0])? > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file changed its size").into());
        }
        self.written.insert(real.into(), There::Other);
        Ok(())
    }

    pub(super) fn symlink(&mut self, path: &str, meta: &Meta, to: &str) -> Result<(), EmitError> {
        let real = self.place_file(path)?;
        let mut header = header(EntryType::Symlink, meta);
        self.not_mounted(&real)?;
        self.builder.append_link(&mut header, &real, to)?;
        self.written.insert(real.into(), There::Symlink(to.into()));
        self.last_parent = None;
        Ok(())
    }

    /// A hard link to a file of the same archive.
    pub(super) fn hard_link(&mut self, path: &str, meta: &Meta, to: &str) -> Result<(), EmitError> {
        let real = self.place_file(path)?;
        let to = self.place(to)?;
        let mut header = header(EntryType::Link, meta);
        self.not_mounted(&real)?;
        self.builder.append_link(&mut header, &real, to)?;
        self.written.insert(real.into(), There::Other);
        Ok(())
    }

    /// A device or a pipe, with the numbers of a device.
    pub(super) fn special(
        &mut self,
        path: &str,
        meta: &Meta,
        kind: EntryType,
        (major, minor): (u32, u32),
    ) -> Result<(), EmitError> {
        let real = self.place_file(path)?;
        let mut header = header(kind, meta);
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
        self.append(&mut header, &real, &meta.pax, io::empty())?;
        self.written.insert(real.into(), There::Other);
        Ok(())
    }

    /// The real path of something that replaces what is there but for a folder.
    fn place_file(&mut self, path: &str) -> Result<String, EmitError> {
        let real = self.place(path)?;
        let known = self.written.get(real.as_str()).or_else(|| self.base.get(real.as_str()));
        if real.is_empty() || known == Some(&There::Folder) {
            return Err(in_the_way(&real, "a folder"));
        }
        if matches!(known, Some(There::Symlink(_))) {
            self.last_parent = None;
        }
        Ok(real)
    }

    /// The path with the links of its folders followed, and the folders made.
    fn place(&mut self, path: &str) -> Result<String, EmitError> {
        let (folder, name) = split_last(path.trim_matches('/'));
        let parent = match &self.last_parent {
            Some((given, real)) if given == folder => real.clone(),
            _ => {
                let (uid, gid) = self.owner;
                let real = self.make(folder, &Meta { mode: self.mode, uid, gid, ..Meta::default() })?;
                self.last_parent = Some((folder.to_owned(), real.clone()));
                real
            }
        };
        Ok(join(&parent, name))
    }

    /// Follows all links of a path, also the last: the real path, and what is there.
    fn follow(&mut self, path: &str) -> Result<(String, There), EmitError> {
        let mut todo: Vec<String> = reversed(path);
        let mut real = String::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                real.truncate(real.rfind('/').unwrap_or(0));
                continue;
            }
            let child = join(&real, &part);
            match self.there(&child)? {
                There::Symlink(to) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(EmitError::Clash {
                            path: format!("/{child}"),
                            problem: "its links lead in a circle",
                        });
                    }
                    if to.starts_with('/') {
                        real.clear();
                    }
                    todo.extend(reversed(&to));
                }
                There::Folder => real = child,
                There::Other if todo.is_empty() => return Ok((child, There::Other)),
                There::Other => return Err(in_the_way(&child, "a file")),
                There::Nothing => {
                    real = child;
                    for part in todo.into_iter().rev() {
                        if part == ".." {
                            real.truncate(real.rfind('/').unwrap_or(0));
                        } else {
                            real = join(&real, &part);
                        }
                    }
                    return Ok((real, There::Nothing));
                }
            }
        }
        Ok((real, There::Folder))
    }

    /// What is at a real path; a link is not followed.
    fn there(&mut self, real: &str) -> Result<There, EmitError> {
        if real.is_empty() {
            return Ok(There::Folder);
        }
        if let Some(there) = self.written.get(real).or_else(|| self.base.get(real)) {
            return Ok(there.clone());
        }
        if self.written.contains_key(split_last(real).0) {
            return Ok(There::Nothing);
        }
        let there = match (self.probe)(&format!("/{real}"))? {
            None => There::Nothing,
            Some(stat) => match stat.kind {
                FileKind::Folder => There::Folder,
                FileKind::Symlink => There::Symlink(stat.link_target.into()),
                FileKind::File | FileKind::Other => There::Other,
            },
        };
        self.base.insert(real.into(), there.clone());
        Ok(there)
    }

    fn not_mounted(&self, real: &str) -> Result<(), EmitError> {
        let real = real.trim_end_matches('/');
        let inside =
            |mount: &String| real.strip_prefix(mount.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        if self.mounts.iter().any(inside) { Err(EmitError::Mounted) } else { Ok(()) }
    }

    fn append(
        &mut self,
        header: &mut Header,
        path: &str,
        pax: &[(String, Vec<u8>)],
        content: impl Read,
    ) -> Result<(), EmitError> {
        self.not_mounted(path)?;
        if !pax.is_empty() {
            self.builder.append_pax_extensions(pax.iter().map(|(k, v)| (k.as_str(), v.as_slice())))?;
        }
        self.builder.append_data(header, path, content)?;
        Ok(())
    }

    pub(super) fn into_inner(self) -> io::Result<W> {
        self.builder.into_inner()
    }
}

fn in_the_way(real: &str, what: &'static str) -> EmitError {
    let problem = if what == "a file" { "a file is in the way" } else { "a folder is in the way" };
    EmitError::Clash { path: format!("/{real}"), problem }
}

fn reversed(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect()
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

/// Gives out at most `left` bytes and does not end before: an archive cannot take back the size it has announced.
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

    #[expect(clippy::unnecessary_wraps, reason = "it stands for a probe, which may fail")]
    fn base(path: &str) -> Result<Option<PathStat>> {
        let (kind, link) = match path {
            "/usr" | "/usr/lib" | "/old" => (FileKind::Folder, ""),
            "/lib" => (FileKind::Symlink, "/usr/lib"),
            "/broken" => (FileKind::Symlink, "/made/here"),
            "/file" => (FileKind::File, ""),
            "/circle" => (FileKind::Symlink, "/circle"),
            _ => return Ok(None),
        };
        Ok(Some(PathStat { kind, mode: 0o755, size: 0, link_target: link.to_owned() }))
    }

    const PLAIN: Meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 0, pax: Vec::new() };

    #[test]
    fn only_missing_folders_are_written_and_links_are_followed() {
        let mut out = Emitter::new(Vec::new(), &base);
        out.folder("/usr/share/a", &PLAIN).expect("folder");
        out.file("/usr/share/a/f", &PLAIN, 2, &mut &b"ab"[..]).expect("file");
        out.file("/lib/g", &PLAIN, 0, &mut &b""[..]).expect("through a link");
        out.symlink("/usr/l", &PLAIN, "share").expect("link");
        out.file("/broken/x", &PLAIN, 0, &mut &b""[..]).expect("the link's target is made");
        assert!(matches!(out.folder("/file/x", &PLAIN), Err(EmitError::Clash { .. })));
        assert!(matches!(out.folder("/circle/x", &PLAIN), Err(EmitError::Clash { .. })));
        let archive = out.into_inner().expect("written");
        let expected =
            ["usr/share/", "usr/share/a/", "usr/share/a/f", "usr/lib/g", "usr/l", "made/", "made/here/", "made/here/x"];
        assert_eq!(names(&archive), expected);
    }

    #[test]
    fn what_the_archive_itself_made_counts() {
        let mut out = Emitter::new(Vec::new(), &base);
        out.folder("/app", &PLAIN).expect("folder");
        assert!(out.is_folder("/app").expect("known"));
        out.symlink("/app/current", &PLAIN, "v1").expect("link");
        out.folder("/app/v1", &PLAIN).expect("folder");
        out.file("/app/current/f", &PLAIN, 0, &mut &b""[..]).expect("through the new link");
        assert!(matches!(out.file("/app/v1", &PLAIN, 0, &mut &b""[..]), Err(EmitError::Clash { .. })));
        let archive = out.into_inner().expect("written");
        assert_eq!(names(&archive), ["app/", "app/current", "app/v1/", "app/v1/f"]);
    }

    #[test]
    fn a_copied_folder_gives_its_mode_to_the_one_that_is_there() {
        let mut out = Emitter::new(Vec::new(), &base);
        let strict = Meta { mode: 0o700, ..PLAIN };
        out.copy_folder("/old", &strict).expect("merged");
        out.copy_folder("/lib", &strict).expect("followed");
        out.folder("/usr", &strict).expect("left alone");
        assert!(matches!(out.copy_folder("/file", &strict), Err(EmitError::Clash { .. })));
        let archive = out.into_inner().expect("written");
        assert_eq!(names(&archive), ["old/"]);
    }

    #[test]
    fn nothing_is_written_into_a_mount() {
        let mut out = Emitter::new(Vec::new(), &base);
        out.set_mounts(&["/lib/cache".to_owned()]).expect("known");
        assert!(out.file("/usr/lib/cached", &PLAIN, 0, &mut &b""[..]).is_ok());
        assert!(matches!(out.file("/lib/cache/x", &PLAIN, 0, &mut &b""[..]), Err(EmitError::Mounted)));
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
