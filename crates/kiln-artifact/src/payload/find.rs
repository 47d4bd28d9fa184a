//! Where a payload may be.

use std::io::{self, Read, Seek, SeekFrom};

use fs_err::File;
use kiln_graph::Endian;
use memchr::memmem;
use object::elf::PT_LOAD;

use super::entries::{MAX_NAME, number};
use super::{Compression, Payload, PayloadError, Placement};
use crate::elf::Layout;

/// The first bytes of a zstd frame. Source: RFC 8878, section 3.1.1.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Length of `KAX` or `KAY`.
pub(super) const MAGIC_SIZE: u64 = 3;
/// Places tried at most; real programs have one that looks right.
const MOST_CANDIDATES: usize = 64;
/// Bytes searched at once.
const BLOCK: usize = 1 << 18;
/// Bytes at a candidate that decide whether it is worth reading.
const HEAD: u64 = MAGIC_SIZE + MAX_NAME as u64 + 32;

/// A place that looks like the start of a payload.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) placement: Placement,
    pub(super) offset: u64,
    /// Where it ends at the latest.
    pub(super) end: u64,
    pub(super) compression: Compression,
    /// The place itself proves that it is one, so that unreadable content is damage.
    pub(super) is_certain: bool,
}

/// Offers candidates, the likeliest first, until `accept` takes one.
pub(super) fn candidates(file: &File, layout: &Layout, mut accept: impl FnMut(&Candidate) -> bool) -> io::Result<()> {
    let size = file.metadata()?.len();
    if let Some(candidate) = appended(file, size, layout.identity.endian)?
        && accept(&candidate)
    {
        return Ok(());
    }
    let mut tried = 0;
    for segment in layout.segments.iter().filter(|segment| segment.kind == PT_LOAD) {
        let end = segment.offset.saturating_add(segment.file_size).min(size);
        let mut start = segment.offset;
        while start < end {
            let block = read_at(file, start, end.min(start.saturating_add(BLOCK as u64)))?;
            for at in memmem::find_iter(&block, b"KA") {
                let offset = start + at as u64;
                let Some(candidate) = candidate(file, Placement::Embedded, offset, end)? else { continue };
                tried += 1;
                if accept(&candidate) || tried == MOST_CANDIDATES {
                    return Ok(());
                }
            }
            // A magic may lie across two blocks.
            start += (block.len() as u64).saturating_sub(1).max(1);
        }
    }
    Ok(())
}

/// Whether the length that follows a payload is that of the payload.
pub(super) fn is_sealed(file: &File, payload: &Payload, order: Endian) -> Result<bool, PayloadError> {
    let at = payload.offset.saturating_add(payload.stored_size);
    let bytes = read_at(file, at, at.saturating_add(8)).map_err(PayloadError::Io)?;
    Ok(bytes.len() == 8 && number(&bytes, order) == payload.stored_size)
}

/// The payload that the last eight bytes of the file point to.
fn appended(file: &File, size: u64, order: Endian) -> io::Result<Option<Candidate>> {
    let Some(end) = size.checked_sub(8) else { return Ok(None) };
    let distance = number(&read_at(file, end, size)?, order);
    match end.checked_sub(distance) {
        Some(offset) if distance > MAGIC_SIZE => candidate(file, Placement::Appended, offset, end),
        _ => Ok(None),
    }
}

/// Whether the bytes at `offset` look like a payload that ends at `end` or before.
fn candidate(file: &File, placement: Placement, offset: u64, end: u64) -> io::Result<Option<Candidate>> {
    let head = read_at(file, offset, end.min(offset.saturating_add(HEAD)))?;
    let Some((magic, rest)) = head.split_at_checked(3) else { return Ok(None) };
    let compression = match magic {
        b"KAY" if rest.starts_with(&ZSTD) => Compression::Stream,
        b"KAY" if is_entry(rest) => Compression::PerFile,
        b"KAX" if is_entry(rest) => Compression::None,
        _ => return Ok(None),
    };
    let is_certain = placement == Placement::Appended || compression == Compression::Stream;
    Ok(Some(Candidate { placement, offset, end, compression, is_certain }))
}

/// Whether `bytes` start with a name and flags that an entry may have.
fn is_entry(bytes: &[u8]) -> bool {
    let Some(end) = bytes.iter().position(|byte| *byte == 0) else { return false };
    let name = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    let flags = bytes.get(end + 1).copied().unwrap_or(u8::MAX);
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control) && flags <= 3
}

/// The bytes from `start` to `end`, or as many of them as the file has.
fn read_at(mut file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(end.saturating_sub(start)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
