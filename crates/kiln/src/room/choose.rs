//! Which records go.

use kiln_config::ByteSize;

use super::{Record, Type};
use crate::error::{CliError, Result};

/// How much may stay. Nothing said: nothing that is meant stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// At most this many bytes stay.
    pub(crate) most: Option<u64>,
    /// This many bytes stay in any case.
    pub(crate) least: Option<u64>,
    /// Bytes that are to be free on the daemon's disk.
    pub(crate) free: Option<u64>,
}

/// Reads the value of an option that is a size.
pub(crate) fn size(option: &str, text: Option<&str>) -> Result<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    text.parse::<ByteSize>().map(|size| Some(size.0)).map_err(|error| CliError::Usage {
        problem: format!("{option}: {error}"),
        hint: "write 5GB or 500MiB".to_owned(),
    })
}

impl Limits {
    /// How many of `total` bytes stay, with `free` bytes free on the disk; none if no limit says so. Source: BuildKit's
    /// `calculateKeepBytes`.
    fn keep(self, total: u64, free: u64) -> Option<u64> {
        let needed = self.free.map(|wanted| total.saturating_sub(wanted.saturating_sub(free)));
        let keep = match (self.most, needed) {
            (Some(most), Some(needed)) => Some(most.min(needed)),
            (most, needed) => most.or(needed),
        };
        match (keep, self.least) {
            (Some(keep), Some(least)) => Some(keep.max(least)),
            (keep, least) => keep.or(least),
        }
    }
}

/// What goes of `records`: all that `wanted` takes, the longest unused first, until only as much is left as the limits
/// allow. `free` bytes are free on the daemon's disk.
pub(crate) fn choose(
    mut records: Vec<Record>,
    wanted: impl Fn(&Record) -> bool,
    limits: Limits,
    free: u64,
) -> Vec<Record> {
    // Tools and base images are what all else stands on.
    let is_ground = |record: &Record| matches!(record.kind, Type::Tool | Type::Base);
    records.sort_by_key(|record| (!is_ground(record), std::cmp::Reverse(record.used), record.depth));
    let size = |record: &Record| record.size.unwrap_or_default();
    let total: u64 = records.iter().map(size).sum();
    let Some(keep) = limits.keep(total, free) else {
        records.retain(wanted);
        return records;
    };
    let mut left = total;
    let mut doomed: Vec<Record> = Vec::new();
    while let Some(record) = records.pop() {
        if left <= keep {
            break;
        }
        if wanted(&record) {
            left -= size(&record);
            doomed.push(record);
        }
    }
    doomed.reverse();
    doomed
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    fn records() -> Vec<Record> {
        [("old", 100), ("new", 900), ("mid", 500)].map(|(id, used)| record(id, Type::Cache, 10, used)).into()
    }

    fn chosen(limits: Limits, free: u64) -> Vec<String> {
        choose(records(), |_| true, limits, free).into_iter().map(|record| record.id).collect()
    }

    #[test]
    fn the_longest_unused_go_until_it_is_enough() {
        let none = Limits::default();
        assert_eq!(chosen(none, 0), ["new", "mid", "old"]);
        assert_eq!(chosen(Limits { most: Some(20), ..none }, 0), ["old"]);
        assert_eq!(chosen(Limits { most: Some(19), ..none }, 0), ["mid", "old"]);
        assert_eq!(chosen(Limits { most: Some(30), ..none }, 0), [""; 0]);
        // As much as is wanted for others, but not more than is free already.
        assert_eq!(chosen(Limits { free: Some(15), ..none }, 10), ["old"]);
        assert_eq!(chosen(Limits { free: Some(15), ..none }, 15), [""; 0]);
        // What is reserved stays, whatever else was said.
        assert_eq!(chosen(Limits { least: Some(10), ..none }, 0), ["mid", "old"]);
        assert_eq!(chosen(Limits { most: Some(0), least: Some(20), free: None }, 0), ["old"]);
        let kept = choose(records(), |record| record.id != "old", Limits { most: Some(10), ..none }, 0);
        assert_eq!(kept.into_iter().map(|record| record.id).collect::<Vec<_>>(), ["new", "mid"]);
    }

    #[test]
    fn what_others_stand_on_goes_after_them() {
        let mut records = vec![record("base", Type::Base, 10, 0)];
        for (depth, id) in ["first", "second", "third"].into_iter().enumerate() {
            records.push(Record { depth, ..record(id, Type::Checkpoint, 10, 100) });
        }
        let chosen = |most| {
            let limits = Limits { most: Some(most), ..Limits::default() };
            choose(records.clone(), |_| true, limits, 0).into_iter().map(|record| record.id).collect::<Vec<_>>()
        };
        assert_eq!(chosen(20), ["second", "third"]);
        assert_eq!(chosen(0), ["base", "first", "second", "third"]);
    }

    #[test]
    fn sizes_are_read_with_their_option() {
        assert_eq!(size("--max-used-space", Some("5GB")).expect("a size"), Some(5_000_000_000));
        let error = size("--min-free-space", Some("much")).expect_err("no size");
        assert!(error.to_string().contains("--min-free-space"), "{error}");
    }
}
