//! The archives that `ADD` unpacks.

use std::io::{self, Write};
use std::path::Path;

use kiln_fetch::archive::Archive;
use tar::EntryType;

use super::apply::Job;
use super::container::attributes;
use super::emit::{EmitError, Emitter, Meta};
use crate::error::SolveError;
use crate::pattern::{clean, join};

impl Job<'_> {
    /// Unpacks an archive to the destination, which becomes a folder. Modes are the archive's whatever `--chmod` says, and
    /// so are owners unless `--chown` says them: as BuildKit does.
    pub(super) fn unpack<W: Write>(
        &self,
        mut archive: Archive,
        path: &Path,
        out: &mut Emitter<'_, W>,
    ) -> Result<(), EmitError> {
        let dest = &self.copy.dest;
        let broken = |error: io::Error| {
            EmitError::Solve(SolveError::Copy {
                origin: Box::new(self.origin.clone()),
                path: dest.clone(),
                problem: format!("the archive {} cannot be read: {error}", path.display()),
            })
        };
        out.folder(dest, &self.plain())?;
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let name = clean(&entry.path().map_err(broken)?.to_string_lossy());
            let target = join(dest, &name);
            let pax = attributes(&mut entry).map_err(broken)?;
            let header = entry.header();
            let own = (header.uid().map_err(broken)?, header.gid().map_err(broken)?);
            let (uid, gid) = self.owner.unwrap_or(own);
            let mode = header.mode().map_err(broken)? & 0o7777;
            let meta = Meta { mode, uid, gid, mtime: header.mtime().map_err(broken)?, pax };
            let kind = header.entry_type();
            let number = |n: io::Result<Option<u32>>| n.ok().flatten().unwrap_or_default();
            let numbers = (number(header.device_major()), number(header.device_minor()));
            let link = entry.link_name().map_err(broken)?;
            let link = link.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default();
            let size = entry.size();
            match kind {
                // The destination itself.
                _ if name.is_empty() => {}
                EntryType::Directory => out.copy_folder(&target, &meta)?,
                EntryType::Symlink => out.symlink(&target, &meta, &link)?,
                EntryType::Link => out.hard_link(&target, &meta, &join(dest, &clean(&link)))?,
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                    let mut content = Content { inner: entry, failed: None };
                    let written = out.file(&target, &meta, size, &mut content);
                    if let Some(error) = content.failed {
                        return Err(broken(error));
                    }
                    written?;
                }
                EntryType::Char | EntryType::Block | EntryType::Fifo if self.devices => {
                    out.special(&target, &meta, kind, numbers)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The content of an entry. Remembers if reading it failed, to tell that from a failure to write.
struct Content<R> {
    inner: R,
    failed: Option<io::Error>,
}

impl<R: io::Read> io::Read for Content<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read(out).map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
    }
}
