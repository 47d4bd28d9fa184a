//! `COPY --from`: from the files of a container.
//!
//! The daemon gives out one path as one archive, so a wildcard reads the folder before it as a stream and takes what
//! matches. Owners, modes, times and extended attributes come along as they are.

use std::io::{self, Read, Write};

use kiln_docker::{ContainerId, FileKind};
use kiln_graph::glob;
use tar::EntryType;

use super::apply::Job;
use super::emit::{EmitError, Emitter, Meta};
use super::pipe::StreamReader;
use crate::error::{Searched, SolveError};
use crate::pattern::{Patterns, clean, join, pivot, split_last, split_wildcard};

/// What a daemon puts into every container, by path; the last three are its own only as long as they are empty.
const DAEMONS: [&str; 5] = [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// What becomes of an entry of a stream.
enum Pick {
    /// It is not wanted.
    No,
    /// It is written to this path.
    At(String),
    /// It is a link that was named: what it leads to is copied.
    Follow,
}

type Choose<'a> = &'a dyn Fn(&str, EntryType) -> Pick;

impl Job<'_> {
    pub(super) fn copy_container<W: Write>(&self, id: &ContainerId, out: &mut Emitter<'_, W>) -> Result<(), EmitError> {
        let excludes = Patterns::new(self.copy.excludes.iter().map(String::as_str));
        for source in &self.copy.sources {
            let path = clean(source);
            let found = if self.copy.parents {
                self.with_parents(id, source, &excludes, out)?
            } else if glob::has_wildcard(&path) {
                self.wildcard(id, &path, &excludes, out)?;
                true
            } else {
                self.named(id, &path, &excludes, out)?
            };
            if !found {
                return Err(self.missing_there(source).into());
            }
        }
        Ok(())
    }

    /// Copies one path, or if it is a link what it leads to; whether it is there.
    fn named<W: Write>(
        &self,
        id: &ContainerId,
        path: &str,
        excludes: &Patterns,
        out: &mut Emitter<'_, W>,
    ) -> Result<bool, EmitError> {
        let dest = &self.copy.dest;
        let Some((real, kind)) = self.real(id, path)? else { return Ok(false) };
        if kind == FileKind::Folder {
            out.folder(dest, &self.plain())?;
            let choose = |inner: &str, _| match inner {
                "" if self.whole => Pick::At(dest.clone()),
                "" => Pick::No,
                inner if excludes.covers(inner) => Pick::No,
                inner => Pick::At(join(dest, inner)),
            };
            self.stream(id, &real, &choose, out)?;
            return Ok(true);
        }
        let name = split_last(path).1;
        let target = if self.copy.sources.len() > 1 || self.is_into_folder(out)? {
            out.folder(dest, &self.plain())?;
            join(dest, name)
        } else {
            out.real(dest)?
        };
        self.stream(id, &real, &|_, _| Pick::At(target.clone()), out)?;
        Ok(true)
    }

    /// Copies what a wildcard matches: files under their names, of folders the contents.
    fn wildcard<W: Write>(
        &self,
        id: &ContainerId,
        pattern: &str,
        excludes: &Patterns,
        out: &mut Emitter<'_, W>,
    ) -> Result<(), EmitError> {
        let dest = &self.copy.dest;
        let (fixed, wild) = split_wildcard(pattern);
        let Some((root, FileKind::Folder)) = self.real(id, &fixed)? else { return Ok(()) };
        let depth = wild.split('/').count();
        // The part of a path that the pattern speaks of, and what is below it.
        let matched = |inner: &'_ str| -> Option<(String, String)> {
            let parts: Vec<&str> = inner.split('/').collect();
            let head = parts.get(..depth)?.join("/");
            glob::matches(&wild, &head).then(|| (head, parts[depth..].join("/")))
        };
        let becomes = self.copy.sources.len() == 1 && !self.is_into_folder(out)? && {
            let mut files = 0;
            let mut folders = 0;
            self.scan(id, &root, &mut |inner, kind| {
                if let Some((_, below)) = matched(inner) {
                    if kind.is_dir() || !below.is_empty() {
                        folders += 1;
                    } else {
                        files += 1;
                    }
                }
                files > 1 || folders > 0
            })?;
            if files + folders == 0 {
                return Ok(());
            }
            files == 1 && folders == 0
        };
        let target = if becomes { Some(out.real(dest)?) } else { None };
        let choose = |inner: &str, kind: EntryType| match matched(inner) {
            None => Pick::No,
            Some((head, below)) if below.is_empty() => match &target {
                _ if kind.is_dir() => Pick::No,
                _ if kind.is_symlink() => Pick::Follow,
                Some(target) => Pick::At(target.clone()),
                None => Pick::At(join(dest, split_last(&head).1)),
            },
            Some((_, below)) if excludes.covers(&below) => Pick::No,
            Some((_, below)) => Pick::At(join(dest, &below)),
        };
        if !becomes {
            out.folder(dest, &self.plain())?;
        }
        for inner in self.stream(id, &root, &choose, out)? {
            if !self.named(id, &join(&fixed, &inner), excludes, out)? {
                return Err(self.missing_there(&join(&fixed, &inner)).into());
            }
        }
        Ok(())
    }

    /// Copies what a pattern covers under its path below the pivot; whether anything can be there.
    fn with_parents<W: Write>(
        &self,
        id: &ContainerId,
        source: &str,
        excludes: &Patterns,
        out: &mut Emitter<'_, W>,
    ) -> Result<bool, EmitError> {
        let dest = &self.copy.dest;
        let (root, pattern) = pivot(source);
        let Some((root, FileKind::Folder)) = self.real(id, &root)? else { return Ok(false) };
        out.folder(dest, &self.plain())?;
        let (fixed, wild) = split_wildcard(&pattern);
        let start = join(&root, &fixed);
        if !start.is_empty() && self.remote.stat(id, &format!("/{start}"))?.is_none() {
            return Ok(!wild.is_empty());
        }
        let include = Patterns::new([pattern.as_str()]);
        let choose = |inner: &str, _| {
            let place = join(&fixed, inner);
            let wanted = !place.is_empty() && (pattern.is_empty() || include.covers(&place));
            if wanted && !excludes.covers(&place) { Pick::At(join(dest, &place)) } else { Pick::No }
        };
        self.stream(id, &start, &choose, out)?;
        Ok(true)
    }

    /// Where a path leads, without a leading slash, and what is there.
    fn real(&self, id: &ContainerId, path: &str) -> Result<Option<(String, FileKind)>, EmitError> {
        if path.is_empty() {
            return Ok(Some((String::new(), FileKind::Folder)));
        }
        let Some(stat) = self.remote.stat(id, &format!("/{path}"))? else { return Ok(None) };
        if stat.kind != FileKind::Symlink {
            return Ok(Some((path.to_owned(), stat.kind)));
        }
        let real = clean(&stat.link_target);
        if real.is_empty() {
            return Ok(Some((real, FileKind::Folder)));
        }
        // The daemon has followed all it could; a link that is left leads to nothing.
        let found = self.remote.stat(id, &format!("/{real}"))?;
        Ok(found.filter(|stat| stat.kind != FileKind::Symlink).map(|stat| (real, stat.kind)))
    }

    /// Streams a path and writes what is chosen of it, by the path below it. The links that are to be followed are given
    /// back, since the daemon cannot answer about them while it sends.
    fn stream<W: Write>(
        &self,
        id: &ContainerId,
        path: &str,
        choose: Choose<'_>,
        out: &mut Emitter<'_, W>,
    ) -> Result<Vec<String>, EmitError> {
        let mut links = Vec::new();
        // Second names of files whose first name is not copied: they have no content in this stream.
        let mut later = Vec::new();
        let mut archive = self.open(id, path)?;
        for entry in archive.entries().map_err(|e| self.broken(path, &e))? {
            let mut entry = entry.map_err(|e| self.broken(path, &e))?;
            let inner = self.inner(path, &entry)?;
            let kind = entry.header().entry_type();
            if path.is_empty() && DAEMONS.contains(&inner.as_str()) && entry.size() == 0 {
                continue;
            }
            // Of one that is asked for by name there is no other.
            if !inner.is_empty() && self.stubs.is_of_network(&join(path, &inner)) {
                continue;
            }
            let mode = entry.header().mode().unwrap_or_default();
            if self.stubs.hides(&join(path, &inner), kind.is_dir(), entry.size(), mode) {
                continue;
            }
            let target = match choose(&inner, kind) {
                Pick::No => continue,
                Pick::Follow => {
                    links.push(inner);
                    continue;
                }
                Pick::At(target) => target,
            };
            let meta = self.meta(path, &mut entry)?;
            if kind.is_hard_link() {
                let first = entry.link_name().map_err(|e| self.broken(path, &e))?.unwrap_or_default();
                let first = below(path, &first.to_string_lossy());
                match choose(&first, EntryType::Regular) {
                    Pick::At(first) => out.hard_link(&target, &meta, &first)?,
                    Pick::No | Pick::Follow => later.push((join(path, &inner), target)),
                }
                continue;
            }
            self.write(path, &mut entry, &target, &meta, out)?;
        }
        // The daemon answers nothing else about the container before this stream is closed.
        drop(archive);
        for (path, target) in later {
            self.stream(id, &path, &|_, _| Pick::At(target.clone()), out)?;
        }
        Ok(links)
    }

    fn write<W: Write, R: Read>(
        &self,
        path: &str,
        entry: &mut tar::Entry<'_, R>,
        target: &str,
        meta: &Meta,
        out: &mut Emitter<'_, W>,
    ) -> Result<(), EmitError> {
        let kind = entry.header().entry_type();
        let size = entry.size();
        match kind {
            EntryType::Directory => out.copy_folder(target, meta),
            EntryType::Symlink => {
                let to = entry.link_name().map_err(|e| self.broken(path, &e))?.unwrap_or_default();
                let to = to.to_str().ok_or_else(|| not_utf8(&to.to_string_lossy()))?;
                out.symlink(target, meta, to)
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => out.file(target, meta, size, entry),
            EntryType::Fifo => out.special(target, meta, kind, (0, 0)),
            EntryType::Char | EntryType::Block if self.devices => {
                let number = |n: io::Result<Option<u32>>| n.ok().flatten().unwrap_or_default();
                let numbers = (number(entry.header().device_major()), number(entry.header().device_minor()));
                out.special(target, meta, kind, numbers)
            }
            _ => Ok(()),
        }
    }

    /// Looks at the entries of a stream until `stop` says that it has seen enough.
    fn scan(
        &self,
        id: &ContainerId,
        path: &str,
        stop: &mut dyn FnMut(&str, EntryType) -> bool,
    ) -> Result<(), EmitError> {
        let mut archive = self.open(id, path)?;
        for entry in archive.entries().map_err(|e| self.broken(path, &e))? {
            let entry = entry.map_err(|e| self.broken(path, &e))?;
            if stop(&self.inner(path, &entry)?, entry.header().entry_type()) {
                break;
            }
        }
        Ok(())
    }

    fn open(&self, id: &ContainerId, path: &str) -> Result<tar::Archive<StreamReader>, EmitError> {
        Ok(tar::Archive::new(StreamReader::new(self.remote.download(id, &format!("/{path}"))?)))
    }

    fn inner<R: Read>(&self, path: &str, entry: &tar::Entry<'_, R>) -> Result<String, EmitError> {
        let name = entry.path().map_err(|e| self.broken(path, &e))?;
        let name = name.to_str().ok_or_else(|| not_utf8(&name.to_string_lossy()))?;
        Ok(below(path, name))
    }

    fn meta<R: Read>(&self, path: &str, entry: &mut tar::Entry<'_, R>) -> Result<Meta, EmitError> {
        let pax = attributes(entry).map_err(|e| self.broken(path, &e))?;
        let header = entry.header();
        let number = |n: io::Result<u64>| n.map_err(|e| self.broken(path, &e));
        let owner = (number(header.uid())?, number(header.gid())?);
        let (uid, gid) = self.owner.unwrap_or(owner);
        let mode = header.mode().map_err(|e| self.broken(path, &e))? & 0o7777;
        let mode = self.mode(mode, header.entry_type().is_dir());
        Ok(Meta { mode, uid, gid, mtime: header.mtime().unwrap_or(0), pax })
    }

    fn broken(&self, path: &str, error: &io::Error) -> EmitError {
        EmitError::Solve(SolveError::Copy {
            origin: Box::new(self.origin.clone()),
            path: format!("/{path}"),
            problem: format!("the daemon's archive of it broke off: {error}"),
        })
    }

    fn missing_there(&self, source: &str) -> SolveError {
        SolveError::CopyMissing {
            origin: Box::new(self.origin.clone()),
            pattern: source.to_owned(),
            place: Searched::Snapshot,
        }
    }
}

/// The path of an entry below the path whose archive it is in: names start with the last part of that.
fn below(path: &str, name: &str) -> String {
    let name = name.trim_start_matches("./").trim_matches('/');
    let root = split_last(path).1;
    let inner = if root.is_empty() { Some(name) } else { name.strip_prefix(root) };
    let inner = inner.filter(|inner| root.is_empty() || inner.is_empty() || inner.starts_with('/')).unwrap_or(name);
    inner.trim_matches('/').to_owned()
}

fn not_utf8(name: &str) -> EmitError {
    EmitError::Clash { path: name.to_owned(), problem: "the name is not UTF-8" }
}

/// Extended attributes, as PAX records, of an entry read from the daemon.
pub(super) fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for extension in extensions {
        let extension = extension?;
        if let Ok(key) = extension.key()
            && key.starts_with("SCHILY.xattr.")
        {
            found.push((key.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_forms_of_archives_are_understood() {
        for (path, name, expected) in [
            ("etc/apk", "apk/", ""),
            ("etc/apk", "apk/keys/a", "keys/a"),
            ("etc/apk", "./keys/a", "keys/a"),
            ("", "/", ""),
            ("", "/bin/sh", "bin/sh"),
            ("", "bin/sh", "bin/sh"),
            ("f", "f", ""),
            ("a/b", "bc/d", "bc/d"),
        ] {
            assert_eq!(below(path, name), expected, "{name} in /{path}");
        }
    }
}
