//! Keys of GitHub's cache: what they say, and how they are read back.
//!
//! The service finds the newest entry whose key begins with some text, so keys are made such that no part of one can be
//! mistaken for another: `#` is in no scope and in no part of a series.
//!
//! ```text
//! kiln-SCOPE-pack-DIGEST             a pack
//! kiln-SCOPE-pack-DIGEST#TIME-RUN    the same pack where the first key is held by a writer that does not finish
//! kiln-SCOPE-s#SERIES#TIME-RUN       a snapshot; TIME is nanoseconds since 1970 in 20 digits
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

use crate::name::{PackId, Series};
use crate::store::Object;

/// Characters of a key at most.
const MOST: usize = 512;
/// Digits of a time.
const DIGITS: usize = 20;

/// The keys of one scope and one run.
pub(super) struct Keys {
    scope: String,
    run: String,
}

impl Keys {
    pub(super) fn new(scope: &str, run: &str) -> Self {
        let plain = |text: &str| Series::new([text]).to_string();
        Self { scope: plain(scope), run: plain(run) }
    }

    pub(super) fn scope(&self) -> &str {
        &self.scope
    }

    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// What all keys of the scope begin with, and some of other scopes, too.
    pub(super) fn all(&self) -> String {
        format!("kiln-{}-", self.scope)
    }

    pub(super) fn pack(&self, id: &PackId) -> String {
        format!("kiln-{}-pack-{id}", self.scope)
    }

    /// What the other keys of a pack begin with.
    pub(super) fn pack_again(&self, id: &PackId) -> String {
        format!("{}#", self.pack(id))
    }

    /// What the keys of a series' snapshots begin with.
    pub(super) fn series(&self, series: &Series) -> String {
        let key = |name: &str| format!("kiln-{}-s#{name}#", self.scope);
        let full = key(&series.to_string());
        // The short name is the name of a series itself: what is listed by it can be read and removed by it.
        if full.len() + self.stamp().len() <= MOST { full } else { key(&series.short()) }
    }

    /// Text that no key had before, to be put behind those that end with `#`.
    pub(super) fn stamp(&self) -> String {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        format!("{nanos:0DIGITS$}-{}", self.run)
    }

    /// What an entry is, by its key; `None` if it is of another scope or not kiln's.
    pub(super) fn read(&self, key: &str) -> Option<Object> {
        let rest = key.strip_prefix(&self.all())?;
        if let Some(pack) = rest.strip_prefix("pack-") {
            let (digest, stamp) = pack.split_once('#').map_or((pack, None), |(digest, stamp)| (digest, Some(stamp)));
            return stamp.is_none_or(is_stamp).then(|| digest.parse().ok().map(Object::Pack))?;
        }
        let (series, version) = rest.strip_prefix("s#")?.split_once('#')?;
        let series = Series::new(series.split('/'));
        (is_stamp(version) && key == format!("{}{version}", self.series(&series)))
            .then(|| Object::Snapshot { series, version: version.to_owned() })
    }
}

/// Whether a text is what [`Keys::stamp`] makes.
pub(super) fn is_stamp(text: &str) -> bool {
    text.split_once('-').is_some_and(|(time, run)| {
        time.len() == DIGITS && time.bytes().all(|b| b.is_ascii_digit()) && !run.is_empty() && !run.contains('#')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        let keys = Keys::new("main", "7-1");
        let id = PackId::of(b"x");
        assert_eq!(keys.pack(&id), format!("kiln-main-pack-{id}"));
        assert_eq!(keys.read(&keys.pack(&id)), Some(Object::Pack(id)));
        assert_eq!(keys.read(&format!("{}{}", keys.pack_again(&id), keys.stamp())), Some(Object::Pack(id)));
        let series = Series::new(["hello", "volume", "ccache-x"]);
        let version = keys.stamp();
        assert!(version.ends_with("-7-1") && is_stamp(&version), "{version}");
        let key = format!("{}{version}", keys.series(&series));
        assert_eq!(keys.read(&key), Some(Object::Snapshot { series, version }));
        for other in [
            "kiln-main-",
            "kiln-main-pack-abc",
            &format!("{}x", keys.pack_again(&id)),
            "kiln-main-s#a#1-7-1",
            "kiln-main-s#a",
            "node-modules",
            &Keys::new("main-s", "7-1").pack(&id),
        ] {
            assert_eq!(keys.read(other), None, "{other}");
        }
    }

    #[test]
    fn no_key_is_the_beginning_of_another_series_or_scope() {
        let keys = |scope| Keys::new(scope, "7-1");
        let series = |parts: &[&str]| Series::new(parts.iter().copied());
        let prefixes = [
            keys("a").series(&series(&["x"])),
            keys("a").series(&series(&["x", "y"])),
            keys("a").series(&series(&["x-y"])),
            keys("a").series(&series(&["x-s-y"])),
            keys("a-s-x").series(&series(&["y"])),
            keys("a-s").series(&series(&["x"])),
        ];
        for one in &prefixes {
            let key = format!("{one}{}", keys("a").stamp());
            assert_eq!(prefixes.iter().filter(|prefix| key.starts_with(*prefix)).count(), 1, "{key}");
        }
    }

    #[test]
    fn keys_are_as_long_as_they_may_be_and_hold_no_comma() {
        let keys = Keys::new(&"s,".repeat(300), "7,1");
        let long: Vec<String> = (0..9).map(|n| format!("{n}{}", "x".repeat(79))).collect();
        let series = Series::new(long.iter().map(String::as_str));
        let version = keys.stamp();
        let key = format!("{}{version}", keys.series(&series));
        assert!(key.len() <= MOST && !key.contains(','), "{key}");
        // What is listed by its short name is read by it.
        let Some(Object::Snapshot { series: listed, .. }) = keys.read(&key) else { panic!("{key} is a snapshot") };
        assert_eq!(keys.series(&listed), keys.series(&series));
        assert!(keys.pack(&PackId::of(b"x")).len() <= MOST);
    }
}
