//! Turns file operations into one archive that is unpacked over a destination.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use kiln_docker::{ContainerId, PathStat};
use kiln_graph::{FileAction, FileOp, Origin};

use super::Remote;
use super::emit::{EmitError, Emitter, Meta};
use super::owners::Owners;
use crate::context::Context;
use crate::error::{Result, SolveError};
use crate::stubs::Stubs;

/// Where a copy reads from.
#[derive(Clone)]
pub(crate) enum CopySource {
    Context(Arc<Context>),
    /// A container, and what in it is no part of the result.
    Container(ContainerId, Arc<Stubs>),
}

/// Where an archive will be unpacked.
#[derive(Clone)]
pub(crate) enum Place {
    /// Over the files of this container, though not in it: it answers what is there.
    Container(ContainerId),
    /// In an empty folder on the client.
    EmptyFolder,
}

/// One vertex's file operations with their sources, by input index.
pub(crate) struct Apply {
    pub(crate) op: FileOp,
    pub(crate) sources: HashMap<usize, CopySource>,
    /// Whether folders that are copied keep their own mode and owner, which those of a `COPY` do not.
    pub(crate) whole: bool,
    /// The paths of a context that are copied, if not all are; folders end in `/`.
    pub(crate) only: Option<Arc<HashSet<String>>>,
    pub(crate) origin: Origin,
}

/// Why an archive cannot be made.
#[derive(Debug)]
pub(crate) enum ApplyError {
    /// It would write to where something is mounted. Nothing of it has been written there.
    Mounted,
    Failed(SolveError),
}

impl From<SolveError> for ApplyError {
    fn from(error: SolveError) -> Self {
        Self::Failed(error)
    }
}

/// What is made of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is unpacked over what is there.
    Unpack,
    /// It becomes a layer: of the folders that are there, it has those above what is in it.
    Layer,
}

/// Writes the archive of all operations to `out`; returns it when all is written, with the folders above `mounts` that are
/// in the archive, without a slash in front. Runs on a blocking thread.
///
/// `mounts` are absolute paths that the archive must keep away from.
pub(crate) fn apply<W: Write>(
    remote: &Remote,
    place: &Place,
    mounts: &[String],
    operations: &[Apply],
    (out, made_for): (W, Use),
) -> Result<(W, Vec<String>), ApplyError> {
    let probe = |path: &str| probe(remote, place, path);
    let mut emitter = Emitter::new(out, &probe);
    let nowhere = Origin::default();
    emitter.set_mounts(mounts).map_err(|error| failed(error, "/", &nowhere))?;
    let mut owners = Owners::new(remote, place);
    for operation in operations {
        let origin = &operation.origin;
        for action in &operation.op.actions {
            match action {
                FileAction::Mkdir { path, owner } => {
                    let (uid, gid) = owners.resolve(owner.as_ref(), origin)?;
                    emitter.set_parents(0o755, (uid, gid));
                    let meta = Meta { mode: 0o755, uid, gid, ..Meta::default() };
                    emitter.folder(path, &meta).map_err(|e| failed(e, path, origin))?;
                }
                FileAction::Write { path, mode, parents, owner, data } => {
                    let (uid, gid) = owners.resolve(owner.as_ref(), origin)?;
                    emitter.set_parents(parents.unwrap_or(0o755), (uid, gid));
                    let meta = Meta { mode: *mode, uid, gid, ..Meta::default() };
                    let real = emitter.real(path).map_err(|e| failed(e, path, origin))?;
                    emitter
                        .file(&real, &meta, data.len() as u64, &mut data.as_slice())
                        .map_err(|e| failed(e, path, origin))?;
                }
                FileAction::Copy(copy) => {
                    let owner = match &copy.owner {
                        Some(owner) => Some(owners.resolve(Some(owner), origin)?),
                        None => None,
                    };
                    let parents = copy.chmod.as_ref().map_or(0o755, |chmod| chmod.apply(0o755, true));
                    emitter.set_parents(parents, owner.unwrap_or_default());
                    let devices = matches!(place, Place::Container(_));
                    let none = Stubs::default();
                    let only = operation.only.as_deref();
                    let job = Job { remote, copy, owner, origin, devices, whole: operation.whole, only, stubs: &none };
                    let copied = match operation.sources.get(&copy.input) {
                        Some(CopySource::Context(context)) => job.copy_context(context, &mut emitter),
                        Some(CopySource::Container(id, stubs)) => Job { stubs, ..job }.copy_container(id, &mut emitter),
                        None => Ok(()),
                    };
                    copied.map_err(|e| failed(e, &copy.dest, origin))?;
                }
            }
        }
    }
    if let (Place::Container(id), Use::Layer) = (place, made_for) {
        for folder in emitter.known_folders() {
            let meta = remote.folder(id, &folder).map_err(|e| failed(e, &folder, &nowhere))?;
            emitter.known_folder(&folder, &meta).map_err(|e| failed(e, &folder, &nowhere))?;
        }
    }
    let above = emitter.above_mounts();
    let out = emitter.into_inner().map(|out| (out, above));
    out.map_err(SolveError::io("write", "the archive")).map_err(Into::into)
}

/// One `COPY`.
pub(super) struct Job<'a> {
    pub(super) remote: &'a Remote,
    pub(super) copy: &'a kiln_graph::Copy,
    /// `--chown`, as numbers.
    pub(super) owner: Option<(u64, u64)>,
    pub(super) origin: &'a Origin,
    /// Whether devices are copied; a folder on the client gets none.
    pub(super) devices: bool,
    /// Whether a folder keeps its own mode and owner.
    pub(super) whole: bool,
    /// What of a context is copied, if not all is.
    pub(super) only: Option<&'a HashSet<String>>,
    /// What is left out.
    pub(super) stubs: &'a Stubs,
}

impl Job<'_> {
    /// The destination folder, and those above it.
    pub(super) fn plain(&self) -> Meta {
        let (uid, gid) = self.owner.unwrap_or_default();
        let mode = self.copy.chmod.as_ref().map_or(0o755, |chmod| chmod.apply(0o755, true));
        Meta { mode, uid, gid, ..Meta::default() }
    }

    /// The mode of what had `mode` where it comes from. A link has none that counts.
    pub(super) fn mode(&self, mode: u32, is_folder: bool) -> u32 {
        self.copy.chmod.as_ref().map_or(mode, |chmod| chmod.apply(mode, is_folder))
    }

    /// Whether a single file goes into the destination rather than becoming it.
    pub(super) fn is_into_folder<W: Write>(&self, out: &mut Emitter<'_, W>) -> Result<bool, EmitError> {
        Ok(self.copy.dest.ends_with('/') || out.is_folder(&self.copy.dest)?)
    }
}

fn probe(remote: &Remote, place: &Place, path: &str) -> Result<Option<PathStat>> {
    match place {
        Place::Container(id) => remote.stat(id, path),
        // Archives for folders start from nothing.
        Place::EmptyFolder => Ok(None),
    }
}

fn failed(error: EmitError, path: &str, origin: &Origin) -> ApplyError {
    let (path, problem) = match error {
        EmitError::Mounted => return ApplyError::Mounted,
        EmitError::Solve(error) => return error.into(),
        // The reader went away; it knows why, and its error is preferred to this one.
        EmitError::Io(source) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            return SolveError::Io { action: "write", path: "the archive".into(), source }.into();
        }
        EmitError::Io(source) => (path.to_owned(), source.to_string()),
        EmitError::Clash { path, problem } => (path, problem.to_owned()),
    };
    SolveError::Copy { origin: Box::new(origin.clone()), path, problem }.into()
}
