//! `COPY` from a context.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use kiln_fetch::archive;
use kiln_graph::{Digest, Hasher, Origin};

use super::apply::Job;
use super::emit::{EmitError, Emitter, Meta};
use crate::context::{Context, Entry, Kind};
use crate::error::{Searched, SolveError};
use crate::pattern::{clean, join};

impl Job<'_> {
    pub(super) fn copy_context<W: Write>(&self, context: &Context, out: &mut Emitter<'_, W>) -> Result<(), EmitError> {
        let copy = self.copy;
        let selection = context.select(copy);
        if let Some(pattern) = selection.missing.first() {
            return Err(missing(context, pattern, self.origin).into());
        }
        // As in BuildKit, a wildcard that matches nothing does nothing.
        if selection.entries.is_empty() && !selection.has_folder {
            return Ok(());
        }
        let becomes = selection.single_file && !self.is_into_folder(out)?;
        let dest = if becomes { out.real(&copy.dest)? } else { copy.dest.clone() };
        for (index, selected) in selection.entries.iter().enumerate() {
            let entry = selected.entry;
            let is_known = |only: &HashSet<String>| match entry.kind {
                Kind::Folder => !only.contains(&format!("{}/", entry.path)),
                _ => !only.contains(&*entry.path),
            };
            if self.only.is_some_and(is_known) {
                continue;
            }
            if copy.unpack && selected.named && entry.kind == Kind::File {
                let path = context.absolute(entry);
                if let Some(archive) = archive::open(&path).map_err(SolveError::io("read", &path))? {
                    self.unpack(archive, &path, out)?;
                    continue;
                }
            }
            if index == 0 && !becomes {
                out.folder(&dest, &self.plain())?;
            }
            let path = if becomes { dest.clone() } else { join(&dest, &selected.place) };
            self.entry(context, entry, &path, out)?;
        }
        if selection.entries.is_empty() {
            out.folder(&dest, &self.plain())?;
        }
        Ok(())
    }

    fn entry<W: Write>(
        &self,
        context: &Context,
        entry: &Entry,
        path: &str,
        out: &mut Emitter<'_, W>,
    ) -> Result<(), EmitError> {
        let own = (u64::from(entry.owner.0), u64::from(entry.owner.1));
        let (uid, gid) = self.owner.unwrap_or(own);
        let mode = self.mode(entry.mode, entry.kind == Kind::Folder);
        let mtime = entry.mtime();
        let meta = Meta { mode, uid, gid, mtime, pax: Vec::new() };
        match &entry.kind {
            Kind::Folder => out.copy_folder(path, &meta),
            Kind::Symlink(to) => out.symlink(path, &meta, to),
            Kind::File => {
                let source = context.absolute(entry);
                let changed = || SolveError::ContextChanged { path: source.clone() };
                let file = match std::fs::File::open(&source) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(changed().into()),
                    Err(error) => return Err(SolveError::io("read", &source)(error).into()),
                };
                let mut hashed = Hashed { inner: file, hasher: Hasher::new() };
                match out.file(path, &meta, entry.size(), &mut hashed) {
                    Err(EmitError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => Err(changed().into()),
                    // The key was made of what was hashed; what was sent must be the same.
                    Ok(()) if hashed.digest() != context.digest(entry)? => Err(changed().into()),
                    other => other,
                }
            }
        }
    }
}

/// The error for a source that the context does not have.
pub(crate) fn missing(context: &Context, pattern: &str, origin: &Origin) -> SolveError {
    SolveError::CopyMissing {
        origin: Box::new(origin.clone()),
        pattern: pattern.to_owned(),
        place: Searched::Context { title: context.title(), hidden_by: context.hidden_by(&clean(pattern)) },
    }
}

struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R> Hashed<R> {
    fn digest(&self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.hasher.raw(&out[..n]);
        Ok(n)
    }
}
