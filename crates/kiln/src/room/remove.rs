//! Removes what was chosen, and nothing under a build that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use kiln_docker::{Engine, stock};

use super::{Place, Record, Type, client};
use crate::error::{CliError, Result};
use crate::scope;

/// Locks of everything that is to be removed: no build of it begins until this is dropped.
pub(crate) struct Seized {
    scopes: BTreeMap<String, Option<File>>,
    /// Of what builds of any project use.
    all: Option<File>,
}

impl Seized {
    /// Takes the locks of the scopes of `records`, as far as no build holds them. `busy` scopes are built elsewhere.
    pub(crate) fn new(locks: &Path, records: &[Record], busy: &BTreeSet<String>) -> Result<Self> {
        let mut scopes: BTreeMap<String, Option<File>> = BTreeMap::new();
        for record in records.iter().filter(|record| needs(record) == Needed::Scope) {
            if !scopes.contains_key(&record.scope) {
                let lock = if busy.contains(&record.scope) { None } else { scope::seize(locks, &record.scope)? };
                scopes.insert(record.scope.clone(), lock);
            }
        }
        let is_common = records.iter().any(|record| needs(record) == Needed::All);
        let all = if is_common && busy.is_empty() { scope::seize_all(locks)? } else { None };
        Ok(Self { scopes, all })
    }

    /// Scopes that are being built.
    pub(crate) fn building(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().filter(|(_, lock)| lock.is_none()).map(|(scope, _)| scope.as_str())
    }

    /// Whether a record may go.
    pub(crate) fn covers(&self, record: &Record) -> bool {
        match needs(record) {
            Needed::Nothing => true,
            Needed::Scope => self.scopes.get(&record.scope).is_some_and(Option::is_some),
            Needed::All => self.all.is_some(),
        }
    }
}

/// The lock that a record's removal needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    Nothing,
    Scope,
    All,
}

fn needs(record: &Record) -> Needed {
    match (record.kind, &record.place) {
        // Its owner is dead.
        (Type::Leftover, Place::Daemon(_)) => Needed::Nothing,
        (Type::Leftover, Place::Here(_)) if record.scope.is_empty() => Needed::Nothing,
        (kind, _) if kind.is_common() => Needed::All,
        _ => Needed::Scope,
    }
}

/// What became of those that were chosen.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    /// What went.
    pub(crate) gone: Vec<Record>,
    /// How many are held by a container, or are stood on by what stays.
    pub(crate) held: usize,
}

impl Removed {
    /// Bytes that went.
    pub(crate) fn size(&self) -> u64 {
        self.gone.iter().map(|record| record.size.unwrap_or_default()).sum()
    }
}

/// Removes records, kind by kind. Base images lose kiln's names, and the images of tools go, only once no checkpoint is
/// left, as `has_checkpoints` tells: an image that others stand on would stay without a name.
pub(crate) async fn remove(
    engine: &Arc<dyn Engine>,
    records: Vec<Record>,
    has_checkpoints: impl Fn(&Removed) -> bool,
) -> Result<Removed> {
    let mut removed = Removed::default();
    for kind in Type::ALL {
        let mut left: Vec<Record> = records.iter().filter(|record| record.kind == kind).cloned().collect();
        if matches!(kind, Type::Base | Type::Tool) && has_checkpoints(&removed) {
            removed.held += left.len();
            continue;
        }
        // Whatever order they come in: what could not go because another stood on it may go after that.
        loop {
            let before = left.len();
            let mut stays = Vec::new();
            for record in left {
                if one(engine, &record).await? {
                    removed.gone.push(record);
                } else {
                    stays.push(record);
                }
            }
            left = stays;
            if left.is_empty() || left.len() == before {
                break;
            }
        }
        removed.held += left.len();
    }
    Ok(removed)
}

async fn one(engine: &Arc<dyn Engine>, record: &Record) -> Result<bool> {
    match &record.place {
        Place::Daemon(item) => Ok(stock::remove(engine.as_ref(), item).await?),
        Place::Here(path) => {
            let path = path.clone();
            let removing =
                tokio::task::spawn_blocking(move || client::remove(&path).map_err(CliError::io("remove", &path)));
            removing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[tokio::test]
    async fn what_a_build_may_use_is_not_covered() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let of = |scope: &str, kind| Record { scope: scope.to_owned(), ..record("x", kind, 1, 0) };
        let all = [of("a", Type::Cache), of("b", Type::Checkpoint), of("", Type::Tool), of("", Type::Leftover)];
        let covered = |busy: &[&str]| {
            let busy = busy.iter().map(|scope| (*scope).to_owned()).collect();
            let seized = Seized::new(dir.path(), &all, &busy).expect("asked");
            all.each_ref().map(|record| seized.covers(record))
        };
        assert_eq!(covered(&[]), [true, true, true, true]);
        assert_eq!(covered(&["elsewhere"]), [true, true, false, true]);
        assert_eq!(covered(&["b"]), [true, false, false, true]);
        let _build = scope::hold(dir.path(), "a").await.expect("held");
        assert_eq!(covered(&[]), [false, true, false, true]);
        let seized = Seized::new(dir.path(), &all, &BTreeSet::new()).expect("asked");
        assert_eq!(seized.building().collect::<Vec<_>>(), ["a"]);
    }
}
