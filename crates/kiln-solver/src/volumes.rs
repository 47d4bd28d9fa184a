//! Cache volumes: their names, who may write to them, and locks between builds.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::path::Path;
use std::time::{Duration, Instant};

use kiln_docker::labels;
use kiln_graph::{CacheMount, Digest, Platform, Sharing};

use crate::error::{Result, SolveError};
use crate::shared::Shared;

/// A cache volume that a step may use until this is dropped.
pub(crate) struct Held {
    pub(crate) volume: String,
    /// Kept open: the lock ends with it, also when the process is killed.
    _lock: Option<std::fs::File>,
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

/// Gets a volume for a mount, waiting if another step or build holds it.
pub(crate) async fn hold(shared: &Shared, mount: &CacheMount, platform: Platform) -> Result<Held> {
    let scope = &shared.plan.request.scope;
    let mut copy = 0;
    let started = Instant::now();
    let mut said = false;
    loop {
        let volume = volume_name(scope, &mount.id, platform, copy);
        let path = shared.plan.request.locks.join(format!("{volume}.lock"));
        let lock = match mount.sharing {
            Sharing::Shared => Some(None),
            Sharing::Private | Sharing::Locked => try_lock(&path)?.map(Some),
        };
        if let Some(lock) = lock {
            prepare(shared, &volume, mount, platform).await?;
            return Ok(Held { volume, _lock: lock });
        }
        if mount.sharing == Sharing::Private {
            copy += 1;
            continue;
        }
        if !said && started.elapsed() > Duration::from_secs(1) {
            said = true;
            shared
                .notice(Some(platform), format!("waiting for another build that uses the cache `{}`", mount.id))
                .await;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
            () = shared.cancel.stopped() => return Err(SolveError::Cancelled),
        }
    }
}

fn try_lock(path: &Path) -> Result<Option<std::fs::File>> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder).map_err(SolveError::io("write", folder))?;
    }
    let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(SolveError::io("write", path))?.into_parts().0;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        // A file system without locks (some network ones): better no lock than no build.
        Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

async fn prepare(shared: &Shared, volume: &str, mount: &CacheMount, platform: Platform) -> Result<()> {
    let labels = BTreeMap::from([
        (labels::VERSION.to_owned(), labels::CURRENT_VERSION.to_owned()),
        (labels::CACHE.to_owned(), mount.id.clone()),
        (labels::SCOPE.to_owned(), shared.plan.request.scope.clone()),
        (labels::PLATFORM.to_owned(), platform.to_string()),
    ]);
    if shared.plan.request.no_cache_mounts {
        let mut emptied = shared.emptied.lock().await;
        if emptied.insert(volume.to_owned()) {
            shared.engine.remove_volume(volume).await?;
        }
    }
    shared.engine.ensure_volume(volume, &labels).await?;
    Ok(())
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
        let first = try_lock(&path).expect("lockable").expect("free");
        assert!(try_lock(&path).expect("lockable").is_none());
        drop(first);
        assert!(try_lock(&path).expect("lockable").is_some());
    }
}
