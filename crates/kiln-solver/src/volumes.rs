//! Cache volumes: their names, who may write to them, and locks between builds.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_docker::{EngineError, labels};
use kiln_graph::{CacheMount, Digest, Platform, Sharing, VertexId};

use crate::error::{Result, SolveError};
use crate::furnish;
use crate::plan::Plan;
use crate::shared::Shared;
use crate::snapshot::Snapshot;

/// Time between two looks at a lock that somebody else has.
const POLL: Duration = Duration::from_millis(50);
/// How long [`Wait::Shortly`] is.
const SHORTLY: Duration = Duration::from_secs(10);

/// The cache volumes that a step may use until this is dropped.
#[derive(Default)]
pub(crate) struct Held {
    /// Names of volumes, in the order of the mounts that were asked for.
    pub(crate) volumes: Vec<String>,
    /// Kept open: a lock ends with its file, also when the process is killed.
    _locks: Vec<File>,
}

/// The name of a cache volume: readable, and unique by scope, id and platform.
pub(crate) fn volume_name(scope: &str, id: &str, platform: Platform, copy: u32) -> String {
    let readable: String = id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let readable = readable.trim_matches('_');
    let digest = Digest::of(format!("{scope}\n{id}\n{platform}")).short();
    let suffix = if copy == 0 { String::new() } else { format!("-{copy}") };
    let readable: String = readable.chars().take(40).collect();
    format!("kiln-cache-{readable}-{}-{digest}{suffix}", platform.arch.artifact_name())
}

/// The name of the volume of a mount, of the so manieth copy if no two steps share it.
pub(crate) fn name_of(
    plan: &Plan,
    scope: &str,
    (step, platform): (VertexId, Platform),
    mount: &CacheMount,
    copy: u32,
) -> String {
    // What a cache begins with makes it another cache, as in BuildKit.
    let id = match &mount.from {
        Some((input, path)) => {
            let from = plan.graph().vertex(step).inputs[*input];
            format!("{} {} {path}", mount.id, plan.key(from))
        }
        None => mount.id.clone(),
    };
    volume_name(scope, &id, platform, copy)
}

/// The labels of the volume of a mount.
pub(crate) fn labels_of(scope: &str, mount: &CacheMount, platform: Platform) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::VERSION.to_owned(), labels::CURRENT_VERSION.to_owned()),
        (labels::CACHE.to_owned(), mount.id.clone()),
        (labels::SCOPE.to_owned(), scope.to_owned()),
        (labels::PLATFORM.to_owned(), platform.to_string()),
    ])
}

/// Gets volumes for all the mounts of a step, waiting if other steps or builds hold them.
///
/// All steps of all builds take them in the order of their names, so no two can wait for each other, and each volume
/// once, though several mounts may show it. A step that shares a volume keeps away those that want it for themselves.
pub(crate) async fn hold(
    shared: &Arc<Shared>,
    step: VertexId,
    mounts: &[&CacheMount],
    platform: Platform,
    inputs: &[Snapshot],
) -> Result<Held> {
    let name =
        |mount: &CacheMount, copy| name_of(&shared.plan, &shared.plan.request.scope, (step, platform), mount, copy);
    let maker = Maker { shared, step, platform, inputs };
    let mut wanted: BTreeMap<String, &CacheMount> = BTreeMap::new();
    for mount in mounts.iter().filter(|mount| mount.sharing != Sharing::Private) {
        let known = wanted.entry(name(mount, 0)).or_insert(mount);
        if mount.sharing == Sharing::Locked {
            *known = mount;
        }
    }
    let mut locks = Vec::new();
    for (volume, mount) in &wanted {
        let exclusive = mount.sharing == Sharing::Locked;
        locks.push(wait_for_mount(shared, volume, mount, platform, exclusive).await?);
        maker.prepare(volume, mount).await?;
    }
    let mut volumes = Vec::new();
    for mount in mounts {
        if mount.sharing != Sharing::Private {
            volumes.push(name(mount, 0));
            continue;
        }
        // Another copy is made rather than waited for, so the order does not matter.
        for copy in 0.. {
            let volume = name(mount, copy);
            if wanted.contains_key(&volume) {
                continue;
            }
            if let Some(lock) = try_lock(&lock_path(&shared.plan.request.locks, &volume), true)? {
                locks.push(lock);
                maker.prepare(&volume, mount).await?;
                volumes.push(volume);
                break;
            }
        }
    }
    Ok(Held { volumes, _locks: locks })
}

fn lock_path(locks: &Path, volume: &str) -> PathBuf {
    locks.join(format!("{volume}.lock"))
}

/// How long somebody waits for a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Until it is free.
    Forever,
    /// A few seconds.
    Shortly,
}

/// Waits for a volume that nobody else uses, or that is only shared; `None` if it took too long.
pub(crate) async fn wait_for(locks: &Path, volume: &str, exclusive: bool, wait: Wait) -> Result<Option<File>> {
    let started = Instant::now();
    loop {
        if let Some(lock) = try_lock(&lock_path(locks, volume), exclusive)? {
            return Ok(Some(lock));
        }
        if wait == Wait::Shortly && started.elapsed() > SHORTLY {
            return Ok(None);
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn wait_for_mount(
    shared: &Arc<Shared>,
    volume: &str,
    mount: &CacheMount,
    platform: Platform,
    exclusive: bool,
) -> Result<File> {
    let waiting = wait_for(&shared.plan.request.locks, volume, exclusive, Wait::Forever);
    let mut waiting = std::pin::pin!(waiting);
    tokio::select! {
        biased;
        lock = &mut waiting => return lock?.ok_or(SolveError::Cancelled),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    let text = format!("waiting for another step or build that uses the cache `{}`", mount.id);
    shared.notice(Some(platform), text).await;
    waiting.await?.ok_or(SolveError::Cancelled)
}

fn try_lock(path: &Path, exclusive: bool) -> Result<Option<File>> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder).map_err(SolveError::io("write", folder))?;
    }
    let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(SolveError::io("write", path))?.into_parts().0;
    let locked = if exclusive { file.try_lock() } else { file.try_lock_shared() };
    match locked {
        Err(TryLockError::WouldBlock) => Ok(None),
        // An error is a file system without locks (some network ones): better no lock than no build.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

/// Makes volumes for a step.
struct Maker<'a> {
    shared: &'a Arc<Shared>,
    step: VertexId,
    platform: Platform,
    inputs: &'a [Snapshot],
}

impl Maker<'_> {
    async fn prepare(&self, volume: &str, mount: &CacheMount) -> Result<()> {
        let Self { shared, platform, .. } = self;
        let labels = labels_of(&shared.plan.request.scope, mount, *platform);
        if shared.plan.request.no_cache_mounts {
            let mut emptied = shared.emptied.lock().await;
            if !emptied.contains(volume) {
                shared.engine.remove_volume(volume).await.map_err(|source| match source {
                    EngineError::Conflict { .. } => {
                        SolveError::CacheInUse { id: mount.id.clone(), platform: *platform, source }
                    }
                    source => source.into(),
                })?;
                emptied.insert(volume.to_owned());
            }
        }
        let plain = mount.from.is_none() && mount.mode.is_none_or(|m| m == 0o755) && (mount.uid, mount.gid) == (0, 0);
        if plain {
            shared.engine.ensure_volume(volume, &labels).await?;
            return Ok(());
        }
        // One step at a time looks, makes and fills: the others find it whole.
        let mut filled = shared.filled.lock().await;
        if filled.contains(volume) {
            return Ok(());
        }
        let id = format!("{}={}", labels::CACHE, mount.id);
        let known = shared.engine.volumes_with_label(&id, false).await?;
        if !known.iter().any(|known| known.name == volume) {
            shared.engine.ensure_volume(volume, &labels).await?;
            if let Err(error) = self.fill(volume, mount).await {
                // Half of what it should begin with would be taken for all of it.
                let _ = shared.engine.remove_volume(volume).await;
                return Err(error);
            }
        }
        filled.insert(volume.to_owned());
        Ok(())
    }

    /// What a new volume begins with: its root folder's mode and owner, and files of another stage.
    async fn fill(&self, volume: &str, mount: &CacheMount) -> Result<()> {
        let origin = self.shared.plan.graph().vertex(self.step).origin();
        let mut actions = Vec::new();
        let mut sources = HashMap::new();
        if let Some((input, path)) = &mount.from {
            actions.push(furnish::copy(*input, path, furnish::FILLED));
            sources.insert(*input, self.shared.source_of(&self.inputs[*input]).await?);
        }
        let root = furnish::Root { mode: mount.mode.unwrap_or(0o755), uid: mount.uid, gid: mount.gid };
        // What an image has of the daemon's would be in the way of files that begin in the volume itself.
        furnish::write(self.shared, volume, ("/", actions), sources, Some(root), origin).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_unique_and_allowed() {
        let amd64: Platform = "linux/amd64".parse().expect("known");
        let i386: Platform = "linux/386".parse().expect("known");
        let name = volume_name("hello", "/root/.cache/pip", amd64, 0);
        assert!(name.starts_with("kiln-cache-root__cache_pip-x86_64-"), "{name}");
        assert_ne!(name, volume_name("hello", "/root/.cache/pip", i386, 0));
        assert_ne!(name, volume_name("other", "/root/.cache/pip", amd64, 0));
        assert_ne!(name, volume_name("hello", "/root/.cache/pip", amd64, 1));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)));
    }

    #[test]
    fn a_lock_excludes_until_it_is_dropped() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("locks/a.lock");
        let lock = |exclusive| try_lock(&path, exclusive).expect("lockable");
        let first = lock(true).expect("free");
        assert!(lock(true).is_none());
        assert!(lock(false).is_none());
        drop(first);
        let (one, two) = (lock(false).expect("free"), lock(false).expect("shared"));
        assert!(lock(true).is_none());
        drop((one, two));
        assert!(lock(true).is_some());
    }
}
