//! Names in stores that keep objects under paths: `packs/<digest>` and `series/<series>/<version>`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Object;
use crate::name::{PackId, Series};

/// Snapshots of a series that are kept: a reader that has read the name of one still finds it.
pub(super) const KEPT: usize = 2;
/// Where objects are written before they get their names.
pub(super) const STAGING: &str = "tmp";

/// Where a pack is.
pub(super) fn pack(id: &PackId) -> String {
    format!("packs/{id}")
}

/// Where the snapshots of a series are.
pub(super) fn series(series: &Series) -> String {
    format!("series/{series}")
}

/// What the next snapshot is called. Names sort by time; two of one moment are told apart by their content.
pub(super) fn version(bytes: &[u8]) -> String {
    format!("{:020}-{}", nanos(), &PackId::of(bytes).to_string()[..12])
}

/// A name that nobody else has: several machines may share a store, and the time keeps their processes of one number apart.
pub(super) fn temporary() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("{}-{:x}-{}", std::process::id(), nanos(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

fn nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// What an object is, by its path below the store's root.
pub(super) fn object(path: &str) -> Object {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["packs", id] => id.parse().map_or_else(|_| Object::Debris { path: path.to_owned() }, Object::Pack),
        ["series", series @ .., version] if !series.is_empty() => {
            Object::Snapshot { series: Series::new(series.iter().copied()), version: (*version).to_owned() }
        }
        _ => Object::Debris { path: path.to_owned() },
    }
}

/// Where an object is.
pub(super) fn path(what: &Object) -> String {
    match what {
        Object::Pack(id) => pack(id),
        Object::Snapshot { series: of, version } => format!("{}/{version}", series(of)),
        Object::Debris { path } => path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_they_are() {
        let id = PackId::of(b"x");
        let snapshot = Object::Snapshot { series: Series::new(["a", "b"]), version: "1".to_owned() };
        for what in [Object::Pack(id), snapshot, Object::Debris { path: "tmp/1-2-3".to_owned() }] {
            assert_eq!(object(&path(&what)), what);
        }
        for odd in ["packs/x", "packs", "series/x", "packs/a/b", "", "x"] {
            assert_eq!(object(odd), Object::Debris { path: odd.to_owned() }, "{odd}");
        }
    }

    #[test]
    fn versions_sort_by_time() {
        let names: Vec<String> = (0..100).map(|_| version(b"x")).collect();
        assert!(names.is_sorted());
        assert_ne!(temporary(), temporary());
    }
}
