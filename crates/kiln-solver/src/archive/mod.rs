//! Archives between the client and the daemon, as streams in constant memory.
//!
//! The tar crate is synchronous; the daemon's streams are not. [`pipe`] joins the two: one end lives on a blocking
//! thread, the other is a stream, and a bounded channel between them is the only buffer. [`apply()`] turns file operations
//! into such an archive: what is copied comes from a context ([`context`]) or a container ([`container`]), and [`emit`]
//! writes it so that the daemon unpacks it the way `COPY` means it.

mod apply;
mod container;
mod context;
mod emit;
mod owners;
mod pipe;
mod unpack;

use std::sync::Arc;

use kiln_docker::{ByteStream, ContainerId, Engine, PathStat};

pub(crate) use apply::{Apply, ApplyError, CopySource, Place, Use, apply};
pub(crate) use context::missing;
pub(crate) use pipe::{PipeWriter, StreamReader, until_stopped, writer};

use crate::error::Result;
use emit::{EmitError, Meta};

/// The engine, seen from a blocking thread.
pub(crate) struct Remote {
    engine: Arc<dyn Engine>,
    runtime: tokio::runtime::Handle,
}

impl Remote {
    /// To be made where a runtime is current.
    pub(crate) fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, runtime: tokio::runtime::Handle::current() }
    }

    fn stat(&self, id: &ContainerId, path: &str) -> Result<Option<PathStat>> {
        Ok(self.runtime.block_on(self.engine.stat(id, path))?)
    }

    fn download(&self, id: &ContainerId, path: &str) -> Result<ByteStream> {
        Ok(self.runtime.block_on(self.engine.download(id, path))?)
    }

    /// Mode, owner, time and attributes of a folder. Its archive begins with them; the rest is not read.
    fn folder(&self, id: &ContainerId, path: &str) -> Result<Meta, EmitError> {
        let stream = self.download(id, &format!("/{path}"))?;
        let mut archive = tar::Archive::new(StreamReader::new(stream));
        let ended = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut entry = archive.entries()?.next().ok_or_else(ended)??;
        let pax = container::attributes(&mut entry)?;
        let header = entry.header();
        let (mode, uid, gid) = (header.mode()? & 0o7777, header.uid()?, header.gid()?);
        Ok(Meta { mode, uid, gid, mtime: header.mtime()?, pax })
    }
}
