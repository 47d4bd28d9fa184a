//! Parts of an ELF file that were kept while it streamed by.
//!
//! What matters of an ELF file is its head (headers, names, symbol versions of an ordinary link), its dynamic segment,
//! and the small segments that `patchelf` appends when it moves names. Which of them an unusual file needs besides, the
//! reader tells by asking for it; the window records that, and the next pass over the stream keeps it.

use std::cell::RefCell;
use std::io::{self, Read};
use std::ops::Range;

use object::elf::{PT_DYNAMIC, PT_INTERP, PT_LOAD};

use crate::elf::{self, ByteSource, SourceError};

/// Bytes kept of the beginning.
const HEAD: u64 = 1 << 20;
/// Bytes of a loaded segment up to which it is kept whole.
const SMALL: u64 = 256 << 10;
/// Bytes kept in all, besides the head.
const MOST: u64 = 8 << 20;
/// Bytes around a missed part that are kept with it: names and versions lie together.
const AROUND: u64 = 64 << 10;

/// Kept parts of a file, in order, none touching the next.
#[derive(Debug)]
pub(super) struct Window {
    size: u64,
    parts: Vec<(u64, Vec<u8>)>,
    misses: RefCell<Vec<Range<u64>>>,
}

/// Reads `size` bytes of content and keeps what an ELF file needs; `None` if it is none.
pub(super) fn keep(body: &mut dyn Read, size: u64, wants: &[Range<u64>]) -> io::Result<Option<Window>> {
    let mut head = Vec::new();
    body.take(elf::MAGIC.len() as u64).read_to_end(&mut head)?;
    if head != elf::MAGIC {
        return Ok(None);
    }
    let rest = HEAD.min(size).saturating_sub(head.len() as u64);
    body.take(rest).read_to_end(&mut head)?;
    let mut position = head.len() as u64;
    let mut window = Window { size, parts: vec![(0, head)], misses: RefCell::default() };
    let mut budget = MOST;
    for range in merged(window.likely_ranges().chain(wants.iter().cloned()).collect(), position, size) {
        io::copy(&mut body.take(range.start - position), &mut io::sink())?;
        let mut bytes = Vec::new();
        body.take((range.end - range.start).min(budget)).read_to_end(&mut bytes)?;
        budget -= bytes.len() as u64;
        position = range.start + bytes.len() as u64;
        match window.parts.last_mut() {
            Some((start, last)) if *start + last.len() as u64 == range.start => last.extend_from_slice(&bytes),
            _ => window.parts.push((range.start, bytes)),
        }
        if position < range.end {
            break;
        }
    }
    Ok(Some(window))
}

impl Window {
    /// The parts that were asked for in vain, each with its surroundings.
    pub(super) fn into_misses(self) -> Vec<Range<u64>> {
        self.misses.into_inner()
    }

    fn likely_ranges(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let segments = elf::layout(self).map(|layout| layout.segments).unwrap_or_default();
        segments
            .into_iter()
            .filter(|segment| match segment.kind {
                PT_DYNAMIC | PT_INTERP => true,
                PT_LOAD => segment.file_size <= SMALL,
                _ => false,
            })
            .map(|segment| segment.offset..segment.offset.saturating_add(segment.file_size))
    }
}

impl ByteSource for Window {
    fn size(&self) -> u64 {
        self.size
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, SourceError> {
        let kept = self.parts.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(offset.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(len)?)
        });
        kept.map(<[u8]>::to_vec).ok_or_else(|| {
            let around = offset.saturating_sub(AROUND)..offset.saturating_add(len as u64).saturating_add(AROUND);
            self.misses.borrow_mut().push(around);
            SourceError::NotKept
        })
    }
}

/// The ranges in order, cut to what lies from `start` to `end`, those that touch made one.
fn merged(mut ranges: Vec<Range<u64>>, start: u64, end: u64) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let range = range.start.max(start)..range.end.min(end);
        match merged.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use kiln_graph::Arch;

    use super::*;
    use crate::elf::testing::TinyElf;

    #[test]
    fn ranges_are_sorted_cut_and_joined() {
        assert_eq!(merged(vec![50..60, 0..20, 15..30, 90..200, 5..7], 10, 100), [10..30, 50..60, 90..100]);
    }

    #[test]
    fn what_is_not_kept_at_first_is_kept_when_wanted() {
        let bytes = TinyElf { padding: 3 << 20, ..TinyElf::library(Arch::Amd64, "GLIBC_2.30") }.build();
        let size = bytes.len() as u64;
        let mut wants = Vec::new();
        for pass in 0..4 {
            let window = keep(&mut bytes.as_slice(), size, &wants).unwrap().unwrap();
            match elf::read(&window) {
                Ok(facts) => {
                    assert!(pass > 0, "the names lie outside of the first window");
                    assert_eq!(facts.glibc_floor().unwrap().to_string(), "2.30");
                    return;
                }
                Err(error) => assert!(matches!(error, elf::ElfError::NotKept), "{error:?}"),
            }
            wants.extend(window.into_misses());
        }
        panic!("never complete");
    }
}
