//! Looking after a store: what is in it, what nobody needs any more, and what is damaged.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::StreamExt;

use crate::error::{CacheError, Result};
use crate::name::{PackId, Series};
use crate::save::newest;
use crate::sign::Trust;
use crate::snapshot::{PackRef, Snapshot};
use crate::store::{Listed, Object, Store};

/// What was written this long ago and is named by no snapshot is of no save that still runs.
const GRACE: Duration = Duration::from_hours(1);
/// Packs that are read at once.
const AT_ONCE: usize = 3;

/// The newest snapshot of a series.
#[derive(Debug)]
pub struct Kept {
    /// The series.
    pub series: Series,
    /// What the store calls it.
    pub version: String,
    /// The snapshot, or why it counts for nothing.
    pub snapshot: Result<Snapshot>,
    /// When it was written, in seconds since 1970.
    pub written: u64,
}

/// All that is in a store.
#[derive(Debug)]
pub struct Inventory {
    /// The newest of each series, in order.
    pub kept: Vec<Kept>,
    /// Packs that are there, with their bytes and when they were written.
    pub packs: BTreeMap<PackId, (u64, u64)>,
    /// Older snapshots, and what saves left that did not end.
    pub old: Vec<Listed>,
    /// Bytes of everything.
    pub size: u64,
}

/// Looks at everything but the content of packs; `None` if the store cannot list what it has.
///
/// # Errors
/// If the store does not answer.
pub async fn look(store: &dyn Store, trust: &Trust) -> Result<Option<Inventory>> {
    let Some(listed) = store.list().await? else { return Ok(None) };
    let size = listed.iter().map(|listed| listed.size).sum();
    let mut packs = BTreeMap::new();
    let mut by_series: BTreeMap<Series, Vec<Listed>> = BTreeMap::new();
    let mut old = Vec::new();
    for one in listed {
        match &one.what {
            Object::Pack(id) => drop(packs.insert(*id, (one.size, one.written))),
            Object::Snapshot { series, .. } => by_series.entry(series.clone()).or_default().push(one),
            Object::Debris { .. } => old.push(one),
        }
    }
    let mut kept = Vec::new();
    for (series, mut versions) in by_series {
        let name = |listed: &Listed| match &listed.what {
            Object::Snapshot { version, .. } => version.clone(),
            _ => String::new(),
        };
        versions.sort_by_key(name);
        let Some(last) = versions.pop() else { continue };
        old.extend(versions);
        let snapshot = match newest(store, &series, trust).await {
            Ok(Some(snapshot)) => Ok(snapshot),
            // Somebody removed it meanwhile.
            Ok(None) => continue,
            Err(error @ (CacheError::Damaged { .. } | CacheError::Untrusted { .. })) => Err(error),
            Err(error) => return Err(error),
        };
        kept.push(Kept { series, version: name(&last), snapshot, written: last.written });
    }
    Ok(Some(Inventory { kept, packs, old, size }))
}

fn packs_of(kept: &Kept) -> impl Iterator<Item = &PackRef> {
    kept.snapshot.iter().flat_map(|snapshot| &snapshot.packs)
}

/// What is to be removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Series that were not saved for so long.
    pub older_than: Option<Duration>,
    /// The longest unsaved ones, until the packs of the others have no more bytes than this.
    pub keep_size: Option<u64>,
    /// Seconds since 1970.
    pub now: u64,
}

/// What may go, in an order in which nothing that is left ever names what is gone: snapshots, then packs.
pub fn removable(inventory: &Inventory, rules: Rules) -> Vec<Listed> {
    let is_past = |written: u64, age: Duration| written.saturating_add(age.as_secs()) <= rules.now;
    let mut gone: Vec<Listed> = Vec::new();
    let mut stay: Vec<&Kept> = Vec::new();
    for kept in &inventory.kept {
        let is_old = rules.older_than.is_some_and(|age| is_past(kept.written, age));
        if is_old || kept.snapshot.is_err() {
            gone.push(snapshot_of(kept));
        } else {
            stay.push(kept);
        }
    }
    if let Some(most) = rules.keep_size {
        stay.sort_by_key(|kept| std::cmp::Reverse(kept.written));
        let mut named: HashSet<PackId> = HashSet::new();
        let mut size = 0;
        stay.retain(|kept| {
            let new: Vec<&PackRef> = packs_of(kept).filter(|pack| !named.contains(&pack.id)).collect();
            let more: u64 = new.iter().map(|pack| pack.size).sum();
            let fits = size + more <= most;
            if fits {
                size += more;
                named.extend(new.iter().map(|pack| pack.id));
            } else {
                gone.push(snapshot_of(kept));
            }
            fits
        });
    }
    let leaves = |listed: &Listed| match &listed.what {
        // An older one of a series that goes would be its newest.
        Object::Snapshot { series, .. } => !stay.iter().any(|kept| kept.series == *series),
        Object::Pack(_) | Object::Debris { .. } => false,
    };
    gone.extend(inventory.old.iter().filter(|old| leaves(old) || is_past(old.written, GRACE)).cloned());
    let named: HashSet<PackId> = stay.iter().flat_map(|kept| packs_of(kept)).map(|pack| pack.id).collect();
    let unnamed = inventory.packs.iter().filter(|(id, (_, written))| {
        // What belonged to a snapshot that goes is of no save that still runs.
        let was_named = inventory.kept.iter().flat_map(packs_of).any(|pack| pack.id == **id);
        !named.contains(*id) && (was_named || is_past(*written, GRACE))
    });
    gone.extend(unnamed.map(|(id, (size, written))| Listed {
        what: Object::Pack(*id),
        size: *size,
        written: *written,
    }));
    gone
}

fn snapshot_of(kept: &Kept) -> Listed {
    let what = Object::Snapshot { series: kept.series.clone(), version: kept.version.clone() };
    Listed { what, size: 0, written: kept.written }
}

/// What reading everything showed.
#[derive(Debug, Default)]
pub struct Checked {
    /// Packs that are as they should be, and their bytes.
    pub good: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<CacheError>,
    /// What has to be removed, so that the next save makes it anew.
    pub broken: Vec<Object>,
}

/// Reads every pack that a snapshot names.
///
/// # Errors
/// If the store does not answer.
pub async fn verify(store: &dyn Store, inventory: &Inventory) -> Result<Checked> {
    let mut checked = Checked::default();
    let mut wanted: BTreeMap<PackId, u64> = BTreeMap::new();
    for kept in &inventory.kept {
        match &kept.snapshot {
            Ok(snapshot) => wanted.extend(snapshot.packs.iter().map(|pack| (pack.id, pack.size))),
            Err(_) => checked.broken.push(snapshot_of(kept).what),
        }
    }
    let reading = futures::stream::iter(wanted.into_iter().map(|(id, size)| async move {
        let found = store.pack(&id, size).await;
        // A thread of its own: a large pack takes a while to hash.
        let is_good = match &found {
            Ok(Some(bytes)) => {
                let bytes = bytes.clone();
                let hashing = tokio::task::spawn_blocking(move || PackId::of(&bytes));
                hashing.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())) == id
            }
            _ => false,
        };
        (id, size, found.map(|bytes| bytes.is_some()), is_good)
    }));
    let mut reading = reading.buffer_unordered(AT_ONCE);
    while let Some((id, size, found, is_good)) = reading.next().await {
        let problem = |reason: &str| CacheError::Damaged {
            place: store.place(),
            what: format!("pack {id}"),
            reason: reason.to_owned(),
        };
        match found {
            Ok(_) if is_good => {
                checked.good += 1;
                checked.bytes += size;
            }
            Ok(true) => {
                checked.problems.push(problem("its content is not what its name says"));
                checked.broken.push(Object::Pack(id));
            }
            Ok(false) => checked.problems.push(problem("it is not there")),
            Err(error @ (CacheError::Damaged { .. } | CacheError::Odd { .. })) => {
                checked.problems.push(error);
                checked.broken.push(Object::Pack(id));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(checked)
}
