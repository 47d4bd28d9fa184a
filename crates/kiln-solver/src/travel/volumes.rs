//! Cache volumes: into a store as they are, and out of it into volumes that do not exist yet.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use kiln_cache::pack::Packer;
use kiln_cache::{Contents, Fetched, SaveError, Saved, tree};
use kiln_docker::{EngineError, labels};
use kiln_graph::{CacheMount, MountKind, Op, Platform, Sharing, VertexId};
use tokio::runtime::Handle;

use super::way::Way;
use super::{Guide, Remote, SEEN, add, bytes, seconds};
use crate::archive::{StreamReader, until_stopped, writer};
use crate::error::{Result, SolveError};
use crate::plan::{Action, Plan};
use crate::shared::{joined, lock};
use crate::volumes::{self, Wait};

/// The folder in a volume in which restored files wait until they are whole.
const ARRIVING: &str = ".kiln-arriving";
/// Bytes that go through a socket at once.
const AT_ONCE: usize = 256 << 10;
/// Further copies of a private cache that are looked for.
const COPIES: u32 = 16;

/// A volume that a build may use.
#[derive(Clone, Debug)]
pub(crate) struct Cargo {
    volume: String,
    /// What stores call it: the scope of the daemon's name is that of this machine.
    name: String,
    id: String,
    platform: Platform,
    labels: BTreeMap<String, String>,
    /// Whether a step of this build used it.
    used: bool,
    /// Whether it begins with files of another stage, so that it is not brought.
    seeded: bool,
}

impl Cargo {
    /// The volumes of all steps that a build needs, each once.
    pub(crate) fn of(plan: &Plan) -> Vec<Self> {
        let mut found: BTreeMap<String, Self> = BTreeMap::new();
        for (id, vertex) in plan.graph().iter() {
            let Op::Exec(exec) = &vertex.op else { continue };
            let used = matches!(plan.action(id), Action::Run(_));
            for mount in exec.mounts.iter().filter_map(|mount| match &mount.kind {
                MountKind::Cache(cache) => Some(cache),
                _ => None,
            }) {
                let copies = if mount.sharing == Sharing::Private { COPIES } else { 1 };
                for copy in 0..copies {
                    let cargo = Self::of_mount(plan, (id, exec.platform), mount, copy, used);
                    found.entry(cargo.volume.clone()).and_modify(|known| known.used |= used).or_insert(cargo);
                }
            }
        }
        found.into_values().collect()
    }

    fn of_mount(
        plan: &Plan,
        (step, platform): (VertexId, Platform),
        mount: &CacheMount,
        copy: u32,
        used: bool,
    ) -> Self {
        Self {
            volume: volumes::name_of(plan, &plan.request.scope, (step, platform), mount, copy),
            name: volumes::name_of(plan, "", (step, platform), mount, copy),
            id: mount.id.clone(),
            platform,
            labels: volumes::labels_of(&plan.request.scope, mount, platform),
            used,
            seeded: mount.from.is_some(),
        }
    }
}

/// What is of no use on another machine: locks, and what programs write before it gets its name.
fn skip(path: &str) -> bool {
    let mut parts = path.split('/');
    let (first, last) = (parts.next().unwrap_or_default(), path.rsplit('/').next().unwrap_or_default());
    matches!(first, "tmp" | ARRIVING)
        || last == "lock"
        || std::path::Path::new(last).extension().is_some_and(|e| e == "lock")
}

/// The volumes of these names that are there.
async fn there(guide: &Guide) -> Result<BTreeSet<String>> {
    let label = format!("{}={}", labels::SCOPE, guide.scope);
    Ok(guide.engine.volumes_with_label(&label, false).await?.into_iter().map(|volume| volume.name).collect())
}

/// Brings the caches of steps that will run, as far as the daemon has none.
pub(crate) async fn bring(guide: &Guide, plan: &Plan) -> Result<()> {
    if plan.request.no_cache_mounts {
        return Ok(());
    }
    let there = there(guide).await?;
    let wanted = Cargo::of(plan).into_iter().filter(|cargo| {
        (cargo.used || guide.travel.whole)
            && !cargo.seeded
            && !there.contains(&cargo.volume)
            && guide.travel.wanted.has_cache(&cargo.id)
    });
    for cargo in wanted {
        bring_one(guide, &cargo).await?;
    }
    Ok(())
}

async fn bring_one(guide: &Guide, cargo: &Cargo) -> Result<()> {
    let started = Instant::now();
    let Some(found) = guide.find("volume", &cargo.name, |_| true).await else { return Ok(()) };
    let spool = guide.spool(&cargo.volume);
    let mut fetched = guide.fetched(&spool);
    guide.fetch(&found, &found.snapshot.packs, &mut fetched).await?;
    let _lock = volumes::wait_for(&guide.locks, &cargo.volume, true, Wait::Forever).await?;
    let before = fetched.bytes;
    let filled = fill(guide, cargo, found.snapshot, fetched).await;
    let _ = fs_err::remove_dir_all(&spool);
    let text = match filled {
        Ok(left) => format!(
            "restored {} from {}: {} files, {} ({} fetched) in {}{}",
            cargo.id,
            found.store.place(),
            left.files,
            bytes(left.bytes),
            bytes(before),
            seconds(started),
            if left.missing > 0 { format!("; {} files could not be had", left.missing) } else { String::new() },
        ),
        Err(SolveError::Cancelled) => return Err(SolveError::Cancelled),
        Err(error) => format!("{} was not restored: {error}", cargo.id),
    };
    guide.say(Some(cargo.platform), text).await;
    Ok(())
}

/// Fills a volume. The files arrive beside those that are there and are renamed when all are whole, so that neither a stop
/// nor a broken stream leaves half a file where a tool would find it.
async fn fill(
    guide: &Guide,
    cargo: &Cargo,
    snapshot: Arc<kiln_cache::Snapshot>,
    fetched: Fetched,
) -> Result<tree::Left> {
    let engine = &guide.engine;
    engine.ensure_volume(&cargo.volume, &cargo.labels).await?;
    let filled = match guide.way(&cargo.volume, &["take", SEEN, ARRIVING]).await {
        Ok(Some(way)) => fill_through(guide, way, snapshot, fetched).await,
        Ok(None) => fill_by_daemon(guide, cargo, snapshot, fetched).await,
        Err(error) => Err(error),
    };
    if filled.is_err() {
        // It was not there before.
        match engine.remove_volume(&cargo.volume).await {
            Ok(()) | Err(EngineError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    filled
}

/// Fills a volume through kiln's program, which also puts the files in place.
async fn fill_through(
    guide: &Guide,
    way: Way,
    snapshot: Arc<kiln_cache::Snapshot>,
    fetched: Fetched,
) -> Result<tree::Left> {
    let container = way.container().clone();
    let work = async {
        let stream = way.stream().map_err(|error| lost(&error))?;
        let writing = tokio::task::spawn_blocking(move || {
            let end = stream.try_clone()?;
            let mut builder = tar::Builder::new(io::BufWriter::with_capacity(AT_ONCE, stream));
            let written = tree::write_archive(&snapshot, &mut Contents::new(&snapshot, &fetched), ".", &mut builder);
            if written.is_err() {
                // The builder ends the archive, whatever became of it.
                let _ = end.shutdown(std::net::Shutdown::Both);
            }
            let left = written?;
            builder.into_inner()?.flush()?;
            Ok::<_, io::Error>(left)
        });
        let written = joined(writing.await);
        let ended = way.ended(guide).await;
        // The side that broke off first knows why.
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(lost(&error)),
            written => ended.and_then(|()| written.map_err(|error| lost(&error))),
        }
    };
    let filled = guide.cancel.or_stop(work).await;
    guide.close(&container).await?;
    filled
}

/// Fills a volume through the daemon.
async fn fill_by_daemon(
    guide: &Guide,
    cargo: &Cargo,
    snapshot: Arc<kiln_cache::Snapshot>,
    fetched: Fetched,
) -> Result<tree::Left> {
    let engine = &guide.engine;
    let has_program = kiln_twin::program(engine.info().arch).is_some();
    let (argv, tools) = if has_program {
        ([kiln_twin::PROGRAM, "merge", SEEN, ARRIVING].map(str::to_owned).into(), vec![guide.tools().await?])
    } else {
        (vec!["/kiln".to_owned()], Vec::new())
    };
    let container = guide.beside(&cargo.volume, argv, tools).await?;
    let work = async {
        let (out, stream) = writer();
        let prefix =
            if has_program { format!("{}/{ARRIVING}", SEEN.trim_start_matches('/')) } else { "kiln".to_owned() };
        let writing = tokio::task::spawn_blocking(move || {
            let mut builder = tar::Builder::new(out);
            let left = tree::write_archive(&snapshot, &mut Contents::new(&snapshot, &fetched), &prefix, &mut builder)?;
            builder.into_inner()?.finish()?;
            Ok::<_, io::Error>(left)
        });
        let sent = engine.upload(&container, "/", until_stopped(stream, &guide.cancel)).await;
        let written = joined(writing.await);
        // The side that broke off first knows why.
        let left = match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(lost(&error)),
            written => {
                sent?;
                written.map_err(|error| lost(&error))?
            }
        };
        if has_program {
            engine.start_container(&container).await?;
            let exit = engine.wait_container(&container).await?;
            if exit.code != 0 {
                let problem = format!("its files could not be put in place (exit code {})", exit.code);
                return Err(SolveError::Travel { problem, hint: None });
            }
        }
        Ok(left)
    };
    let filled = guide.cancel.or_stop(work).await;
    guide.close(&container).await?;
    filled
}

fn lost(error: &io::Error) -> SolveError {
    SolveError::Travel { problem: error.to_string(), hint: None }
}

/// Takes volumes to a store: those that this build used, and those that the store does not know.
pub(crate) async fn take(guide: &Guide, remote: &Remote, cargo: &[Cargo], sum: &mut Saved) -> Result<(), SaveError> {
    let there = there(guide).await.map_err(source)?;
    for cargo in cargo.iter().filter(|cargo| there.contains(&cargo.volume) && guide.travel.wanted.has_cache(&cargo.id))
    {
        if !cargo.used && !guide.travel.whole && is_known(guide, remote, cargo).await? {
            continue;
        }
        // A step that writes to it would leave us half a file.
        let Some(_lock) = volumes::wait_for(&guide.locks, &cargo.volume, true, Wait::Shortly).await.map_err(source)?
        else {
            guide.say(Some(cargo.platform), format!("{} was not saved: another build uses it", cargo.id)).await;
            continue;
        };
        add(sum, take_one(guide, remote, cargo).await?);
    }
    Ok(())
}

async fn is_known(guide: &Guide, remote: &Remote, cargo: &Cargo) -> Result<bool, SaveError> {
    let branch = guide.travel.branches.first().map_or("default", String::as_str);
    Ok(remote.store.snapshot(&guide.series(branch, "volume", &cargo.name)).await?.is_some())
}

async fn take_one(guide: &Guide, remote: &Remote, cargo: &Cargo) -> Result<Saved, SaveError> {
    let left = Arc::new(Mutex::new(tree::Left::default()));
    let (counted, reader, volume) = (left.clone(), guide.clone(), cargo.volume.clone());
    let runtime = Handle::current();
    let read = move |_: Option<&kiln_cache::Snapshot>, packer: &mut Packer<'_>| {
        let way = runtime.block_on(reader.way(&volume, &["give", SEEN])).map_err(io::Error::other)?;
        *lock(&counted) = match way {
            Some(way) => read_through(&reader, way, &runtime, packer)?,
            None => read_by_daemon(&reader, &volume, &runtime, packer)?,
        };
        Ok(())
    };
    let saved = guide.save(remote, ("volume", &cargo.name), read).await?;
    let odd = lock(&left).odd;
    if odd > 0 {
        let text = format!("{odd} files of {} were not saved: they are no plain files of it", cargo.id);
        guide.say(Some(cargo.platform), text).await;
    }
    Ok(saved)
}

/// Reads a volume through kiln's program.
fn read_through(guide: &Guide, way: Way, runtime: &Handle, packer: &mut Packer<'_>) -> io::Result<tree::Left> {
    let container = way.container().clone();
    let read = way.stream().and_then(|stream| {
        let mut stream = io::BufReader::with_capacity(AT_ONCE, stream);
        let left = tree::pack_archive(&mut stream, skip, packer)?;
        // Whoever writes shall not find the connection closed before his last bytes.
        io::copy(&mut stream, &mut io::sink())?;
        Ok(left)
    });
    // The side that broke off first knows why.
    let ended = match &read {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        _ => runtime.block_on(way.ended(guide)),
    };
    runtime.block_on(guide.close(&container)).map_err(io::Error::other)?;
    ended.map_err(io::Error::other)?;
    read
}

/// Reads a volume through the daemon.
fn read_by_daemon(guide: &Guide, volume: &str, runtime: &Handle, packer: &mut Packer<'_>) -> io::Result<tree::Left> {
    let none = vec!["/kiln".to_owned()];
    let container = runtime.block_on(guide.beside(volume, none, Vec::new())).map_err(io::Error::other)?;
    let stream = runtime.block_on(guide.engine.download(&container, SEEN)).map_err(io::Error::other);
    let read = stream.and_then(|stream| {
        let _runtime = runtime.enter();
        tree::pack_archive(StreamReader::new(stream), skip, packer)
    });
    runtime.block_on(guide.close(&container)).map_err(io::Error::other)?;
    read
}

pub(super) fn source(error: SolveError) -> SaveError {
    SaveError::Source(io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_and_temporary_files_stay() {
        for path in ["tmp", "tmp/x", "a/lock", "lock", "http/1/2.lock", ".kiln-arriving/a"] {
            assert!(skip(path), "{path}");
        }
        for path in ["a/tmp/b", "0/1/result", "lockfile", "", "wheels/x.whl"] {
            assert!(!skip(path), "{path}");
        }
    }
}
