//! Turns file operations into one archive that is unpacked over a destination.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use kiln_docker::{ContainerId, Engine, FileKind, PathStat};
use kiln_graph::{Copy, Digest, FileAction, FileOp, Hasher, Origin, Owner, glob};

use super::emit::{EmitError, Emitter, Meta};
use super::pipe::StreamReader;
use crate::context::{Context, Kind};
use crate::error::{Result, Searched, SolveError};

/// Where a copy reads from.
#[derive(Clone)]
pub(crate) enum CopySource {
    Context(Arc<Context>),
    Container(ContainerId),
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
    pub(crate) origin: Origin,
}

/// Writes the archive of all operations to `out`; returns it when all is written. Runs on a blocking thread.
pub(crate) fn apply<W: Write>(
    engine: &Arc<dyn Engine>,
    runtime: &tokio::runtime::Handle,
    place: &Place,
    operations: &[Apply],
    out: W,
) -> Result<W> {
    let probe = |path: &str| probe(engine, runtime, place, path);
    let mut emitter = Emitter::new(out, &probe);
    let mut owners = Owners { engine, runtime, place, passwd: None, group: None };
    for operation in operations {
        for action in &operation.op.actions {
            let worker = Worker { engine, runtime, probe: &probe, origin: &operation.origin };
            match action {
                FileAction::Mkdir { path, owner } => {
                    let (uid, gid) = owners.resolve(owner.as_ref(), &operation.origin)?;
                    let meta = Meta { mode: 0o755, uid, gid, ..Meta::default() };
                    emitter.folder(path, &meta).map_err(|e| worker.error(e, path))?;
                }
                FileAction::Write { path, mode, owner, data } => {
                    let (uid, gid) = owners.resolve(owner.as_ref(), &operation.origin)?;
                    let meta = Meta { mode: *mode, uid, gid, ..Meta::default() };
                    emitter
                        .file(path, &meta, data.len() as u64, &mut data.as_slice())
                        .map_err(|e| worker.error(e, path))?;
                }
                FileAction::Copy(copy) => {
                    let owner = match &copy.owner {
                        Some(owner) => Some(owners.resolve(Some(owner), &operation.origin)?),
                        None => None,
                    };
                    match &operation.sources[&copy.input] {
                        CopySource::Context(context) => worker.from_context(context, copy, owner, &mut emitter)?,
                        CopySource::Container(id) => worker.from_container(id, copy, owner, &mut emitter)?,
                    }
                }
            }
        }
    }
    emitter.into_inner().map_err(SolveError::io("write", "the archive"))
}

fn probe(
    engine: &Arc<dyn Engine>,
    runtime: &tokio::runtime::Handle,
    place: &Place,
    path: &str,
) -> Result<Option<PathStat>> {
    match place {
        Place::Container(id) => Ok(runtime.block_on(engine.stat(id, path))?),
        // Archives for folders start from nothing.
        Place::EmptyFolder => Ok(None),
    }
}

struct Worker<'a> {
    engine: &'a Arc<dyn Engine>,
    runtime: &'a tokio::runtime::Handle,
    probe: &'a (dyn Fn(&str) -> Result<Option<PathStat>> + Send + Sync),
    origin: &'a Origin,
}

impl Worker<'_> {
    fn error(&self, error: EmitError, path: &str) -> SolveError {
        let problem = match error {
            EmitError::Solve(error) => return error,
            EmitError::Clash { path, problem } => {
                return SolveError::Copy { origin: Box::new(self.origin.clone()), path, problem: problem.to_owned() };
            }
            EmitError::Io(error) => error.to_string(),
        };
        SolveError::Copy { origin: Box::new(self.origin.clone()), path: path.to_owned(), problem }
    }

    /// Whether the destination is a folder: said so, or several sources, or one is there.
    fn dest_is_folder(&self, dest: &str) -> Result<bool> {
        if dest.ends_with('/') {
            return Ok(true);
        }
        Ok(match (self.probe)(dest)? {
            Some(stat) if stat.kind == FileKind::Folder => true,
            Some(stat) if stat.kind == FileKind::Symlink && !stat.link_target.is_empty() => {
                (self.probe)(&stat.link_target)?.is_some_and(|s| s.kind == FileKind::Folder)
            }
            _ => false,
        })
    }

    fn from_context<W: Write>(
        &self,
        context: &Context,
        copy: &Copy,
        owner: Option<(u64, u64)>,
        out: &mut Emitter<'_, W>,
    ) -> Result<()> {
        let selection = context.select(copy);
        if let Some(pattern) = selection.missing.first() {
            return Err(missing(context, pattern, self.origin));
        }
        let (uid, gid) = owner.unwrap_or_default();
        let plain = Meta { mode: 0o755, uid, gid, ..Meta::default() };
        let to_file = selection.single_file && !self.dest_is_folder(&copy.dest)?;
        if !to_file {
            out.folder(&copy.dest, &plain).map_err(|e| self.error(e, &copy.dest))?;
        }
        for selected in &selection.entries {
            let entry = selected.entry;
            let path = if to_file { copy.dest.clone() } else { join(&copy.dest, &selected.place) };
            let meta = Meta {
                mode: copy.chmod.unwrap_or(entry.mode),
                uid,
                gid,
                mtime: u64::try_from(entry.mtime).unwrap_or(0),
                pax: Vec::new(),
            };
            let written = match &entry.kind {
                Kind::Folder => out.folder(&path, &meta),
                Kind::Symlink(to) => out.symlink(&path, &meta, to),
                Kind::File => {
                    let source = context.absolute(entry);
                    let file = fs_err::File::open(&source).map_err(SolveError::io("read", &source))?;
                    if copy.unpack && unpack(&file, &copy.dest, &plain, out).map_err(|e| self.error(e, &path))? {
                        continue;
                    }
                    let file = fs_err::File::open(&source).map_err(SolveError::io("read", &source))?;
                    let mut hashed = Hashed { inner: file, hasher: Hasher::new() };
                    match out.file(&path, &meta, entry.size, &mut hashed) {
                        Err(EmitError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
                            return Err(SolveError::ContextChanged { path: source });
                        }
                        // The key was made of what was hashed; what was sent must be the same.
                        Ok(()) if hashed.digest() != context.digest(entry)? => {
                            return Err(SolveError::ContextChanged { path: source });
                        }
                        other => other,
                    }
                }
            };
            written.map_err(|e| self.error(e, &path))?;
        }
        Ok(())
    }

    fn from_container<W: Write>(
        &self,
        id: &ContainerId,
        copy: &Copy,
        owner: Option<(u64, u64)>,
        out: &mut Emitter<'_, W>,
    ) -> Result<()> {
        let several = copy.sources.len() > 1;
        for source in &copy.sources {
            let path = format!("/{}", source.trim_matches('/'));
            if glob::has_wildcard(&path) {
                self.wildcard(id, &path, copy, owner, out)?;
                continue;
            }
            let stat = |path: &str| self.runtime.block_on(self.engine.stat(id, path));
            let mut real = path.clone();
            let mut found = stat(&real)?;
            // A link that is named is followed, as BuildKit does; links inside a folder are copied as links.
            if let Some(link) = found.as_ref().filter(|s| s.kind == FileKind::Symlink && !s.link_target.is_empty()) {
                real.clone_from(&link.link_target);
                found = stat(&real)?;
            }
            let Some(stat) = found else { return Err(self.missing_there(source)) };
            let base = if stat.kind == FileKind::Folder {
                join(&copy.dest, if copy.parents { path.trim_start_matches('/') } else { "" })
            } else if copy.parents {
                join(&copy.dest, path.trim_start_matches('/'))
            } else if several || self.dest_is_folder(&copy.dest)? {
                join(&copy.dest, path.rsplit('/').next().unwrap_or_default())
            } else {
                copy.dest.clone()
            };
            let root = real.rsplit('/').next().unwrap_or_default().to_owned();
            self.stream(id, &real, copy, owner, out, &|entry| {
                let inner = entry.strip_prefix(root.as_str())?;
                (inner.is_empty() || inner.starts_with('/')).then(|| join(&base, inner.trim_start_matches('/')))
            })?;
        }
        Ok(())
    }

    /// The fixed part of the pattern is read as one stream, and what matches is taken from it.
    fn wildcard<W: Write>(
        &self,
        id: &ContainerId,
        pattern: &str,
        copy: &Copy,
        owner: Option<(u64, u64)>,
        out: &mut Emitter<'_, W>,
    ) -> Result<()> {
        let fixed: Vec<&str> = pattern.split('/').take_while(|part| !glob::has_wildcard(part)).collect();
        let folder = fixed.join("/");
        let depth = pattern.split('/').count();
        let root = folder.rsplit('/').next().unwrap_or_default().to_owned();
        if self.runtime.block_on(self.engine.stat(id, &format!("{folder}/")))?.is_none() {
            return Ok(());
        }
        self.stream(id, &format!("{folder}/."), copy, owner, out, &|entry| {
            let inner = entry.strip_prefix(root.as_str()).unwrap_or(entry);
            let inner = inner.trim_start_matches("./").trim_matches('/');
            let path = format!("{folder}/{inner}");
            let head = path.split('/').take(depth).collect::<Vec<_>>().join("/");
            if path.split('/').count() < depth || !glob::matches(pattern, &head) {
                return None;
            }
            let below = path[head.len()..].trim_start_matches('/');
            // A matched file keeps its name; a matched folder gives its contents.
            let place = if copy.parents {
                path.trim_start_matches('/').to_owned()
            } else if below.is_empty() {
                format!("?{}", head.rsplit('/').next().unwrap_or_default())
            } else {
                below.to_owned()
            };
            Some(join(&copy.dest, &place))
        })
    }

    /// Streams `path` of a container, renaming its entries; `None` leaves one out.
    fn stream<W: Write>(
        &self,
        id: &ContainerId,
        path: &str,
        copy: &Copy,
        owner: Option<(u64, u64)>,
        out: &mut Emitter<'_, W>,
        rename: &dyn Fn(&str) -> Option<String>,
    ) -> Result<()> {
        let stream = self.runtime.block_on(self.engine.download(id, path))?;
        let broken = |e: io::Error| SolveError::Copy {
            origin: Box::new(self.origin.clone()),
            path: path.to_owned(),
            problem: format!("the archive of the daemon broke off: {e}"),
        };
        let mut archive = tar::Archive::new(StreamReader::new(stream));
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let name = entry.path().map_err(broken)?.to_string_lossy().trim_end_matches('/').to_owned();
            let Some(target) = rename(&name) else { continue };
            let pax = attributes(&mut entry).map_err(broken)?;
            let header = entry.header();
            let (uid, gid) = owner.unwrap_or((header.uid().unwrap_or(0), header.gid().unwrap_or(0)));
            let meta = Meta {
                mode: copy.chmod.unwrap_or(header.mode().unwrap_or(0o644) & 0o7777),
                uid,
                gid,
                mtime: header.mtime().unwrap_or(0),
                pax,
            };
            let kind = header.entry_type();
            let link = entry.link_name().map_err(broken)?.map(|l| l.to_string_lossy().into_owned());
            let size = entry.size();
            // `?name` marks a wildcard's own match: only for files does the name count.
            let is_folder = kind.is_dir();
            let target = match target.rsplit_once("/?") {
                Some((folder, _)) if is_folder => format!("{folder}/"),
                Some((folder, name)) => format!("{folder}/{name}"),
                None => target,
            };
            let written = match kind {
                _ if is_folder => out.folder(&target, &meta),
                tar::EntryType::Symlink => out.symlink(&target, &meta, &link.unwrap_or_default()),
                tar::EntryType::Link => match rename(&link.unwrap_or_default()) {
                    Some(to) => out.hard_link(&target, &meta, &to.replace("/?", "/")),
                    None => Err(EmitError::Clash { path: target.clone(), problem: "it links to what is not copied" }),
                },
                tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                    out.file(&target, &meta, size, &mut entry)
                }
                // Devices and pipes have no place in a build result.
                _ => continue,
            };
            written.map_err(|e| self.error(e, &target))?;
        }
        Ok(())
    }

    fn missing_there(&self, source: &str) -> SolveError {
        SolveError::CopyMissing {
            origin: Box::new(self.origin.clone()),
            pattern: source.to_owned(),
            place: Searched::Snapshot,
        }
    }
}

/// The error for a source that the context does not have.
pub(crate) fn missing(context: &Context, pattern: &str, origin: &Origin) -> SolveError {
    SolveError::CopyMissing {
        origin: Box::new(origin.clone()),
        pattern: pattern.to_owned(),
        place: Searched::Context {
            root: context.root().to_owned(),
            hidden_by: context.hidden_by(pattern.trim_matches('/').trim_start_matches("./")),
        },
    }
}

/// Extended attributes, as PAX records, of an entry read from the daemon.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<(String, Vec<u8>)>> {
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

/// Unpacks a tar archive for `ADD`; false if it is none that is supported.
fn unpack<W: Write>(
    file: &fs_err::File,
    dest: &str,
    plain: &Meta,
    out: &mut Emitter<'_, W>,
) -> Result<bool, EmitError> {
    let mut head = [0; 512];
    let n = read_full(&mut &*file, &mut head)?;
    // Compressed archives are told apart by their magic numbers and are left to the front end's issue on ADD.
    if n < 512 || &head[257..262] != b"ustar" {
        return Ok(false);
    }
    let again = fs_err::File::open(file.path())?;
    let mut archive = tar::Archive::new(again);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = safe(&entry.path()?.to_string_lossy());
        let target = join(dest, &name);
        let header = entry.header();
        let meta = Meta {
            mode: header.mode()? & 0o7777,
            uid: header.uid()?,
            gid: header.gid()?,
            mtime: header.mtime()?,
            pax: Vec::new(),
        };
        let link = entry.link_name()?.map(|l| l.to_string_lossy().into_owned()).unwrap_or_default();
        let size = entry.size();
        match entry.header().entry_type() {
            tar::EntryType::Directory if name.is_empty() => out.folder(dest, plain)?,
            tar::EntryType::Directory => out.folder(&target, &meta)?,
            tar::EntryType::Symlink => out.symlink(&target, &meta, &link)?,
            tar::EntryType::Link => out.hard_link(&target, &meta, &join(dest, &safe(&link)))?,
            tar::EntryType::Regular => out.file(&target, &meta, size, &mut entry)?,
            _ => {}
        }
    }
    Ok(true)
}

/// A relative path that stays below its folder.
pub(super) fn safe(path: &str) -> String {
    path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect::<Vec<_>>().join("/")
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match reader.read(&mut buffer[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}

fn join(folder: &str, path: &str) -> String {
    if path.is_empty() { folder.to_owned() } else { format!("{}/{path}", folder.trim_end_matches('/')) }
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

/// Looks up the owners of `--chown` in the destination's own user database.
struct Owners<'a> {
    engine: &'a Arc<dyn Engine>,
    runtime: &'a tokio::runtime::Handle,
    place: &'a Place,
    passwd: Option<String>,
    group: Option<String>,
}

impl Owners<'_> {
    fn resolve(&mut self, owner: Option<&Owner>, origin: &Origin) -> Result<(u64, u64)> {
        let Some(owner) = owner else { return Ok((0, 0)) };
        let (user, group) = match owner.spec.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (owner.spec.as_str(), None),
        };
        let unknown = |name: &str, file: &str| SolveError::Copy {
            origin: Box::new(origin.clone()),
            path: file.to_owned(),
            problem: format!("it knows no `{name}`; use a number instead"),
        };
        let numeric = |name: &str| name.parse::<u64>().ok();
        let (uid, primary) = match (user, numeric(user)) {
            ("", _) => (0, 0),
            (_, Some(uid)) => (uid, uid),
            (user, None) => {
                let fields = self.lookup("/etc/passwd", user)?.ok_or_else(|| unknown(user, "/etc/passwd"))?;
                (fields.0, fields.1.unwrap_or(fields.0))
            }
        };
        let gid = match group {
            None | Some("") => primary,
            Some(group) => match numeric(group) {
                Some(gid) => gid,
                None => self.lookup("/etc/group", group)?.ok_or_else(|| unknown(group, "/etc/group"))?.0,
            },
        };
        Ok((uid, gid))
    }

    /// Third and fourth field of the line that starts with `name:`.
    fn lookup(&mut self, file: &str, name: &str) -> Result<Option<(u64, Option<u64>)>> {
        let known = if file == "/etc/passwd" { &mut self.passwd } else { &mut self.group };
        if known.is_none() {
            *known = Some(match self.place {
                Place::Container(id) => read_small(self.engine, self.runtime, id, file)?,
                Place::EmptyFolder => String::new(),
            });
        }
        let text = known.as_deref().unwrap_or_default();
        Ok(text.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let third = fields.get(2)?.parse().ok()?;
            (fields[0] == name).then(|| (third, fields.get(3).and_then(|f| f.parse().ok())))
        }))
    }
}

/// The content of a small text file in a container; empty if there is none.
fn read_small(
    engine: &Arc<dyn Engine>,
    runtime: &tokio::runtime::Handle,
    id: &ContainerId,
    path: &str,
) -> Result<String> {
    if runtime.block_on(engine.stat(id, path))?.is_none() {
        return Ok(String::new());
    }
    let stream = runtime.block_on(engine.download(id, path))?;
    let mut archive = tar::Archive::new(StreamReader::new(stream));
    let mut text = String::new();
    if let Some(Ok(entry)) = archive.entries().ok().and_then(|mut e| e.next()) {
        let _ = entry.take(4 << 20).read_to_string(&mut text);
    }
    Ok(text)
}
