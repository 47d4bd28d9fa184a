//! As much of ELF as is needed: whose program it is, and which loader it asks for.

use std::fs;
use std::io::Read;
use std::path::Path;

/// `e_machine` of this program's own architecture.
#[cfg(target_arch = "x86_64")]
pub(crate) const OWN: u16 = 62;
#[cfg(target_arch = "aarch64")]
pub(crate) const OWN: u16 = 183;

const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

/// The head of a program or library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// `e_machine`.
    pub(crate) machine: u16,
    /// `e_type`: 2 for programs, 3 for libraries and position-independent programs.
    pub(crate) kind: u16,
    /// ELFCLASS64: addresses and sizes take eight bytes, else four.
    wide: bool,
    /// ELFDATA2MSB: the most significant byte comes first.
    big: bool,
}

/// Reads the first 64 bytes of a file.
pub(crate) fn head(bytes: &[u8]) -> Option<Head> {
    if bytes.len() < 20 || bytes[..4] != *b"\x7fELF" {
        return None;
    }
    let big = bytes[5] == 2;
    let half = |at: usize| {
        let pair = [bytes[at], bytes[at + 1]];
        if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
    };
    Some(Head { machine: half(18), kind: half(16), wide: bytes[4] == 2, big })
}

/// The head of a file, if it is a program or library.
pub(crate) fn head_of(path: &Path) -> Option<Head> {
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut bytes)).ok()?;
    head(&bytes)
}

/// Whether a file is dynamically linked.
pub(crate) fn is_dynamic(path: &Path) -> bool {
    fs::read(path).is_ok_and(|file| segment(&file, PT_DYNAMIC).is_some())
}

/// Where a whole file keeps the path of its loader: offset and room, the closing NUL included.
pub(crate) fn interpreter(file: &[u8]) -> Option<(usize, usize)> {
    segment(file, PT_INTERP).filter(|(_, room)| *room > 1)
}

/// Offset and size of the first segment of a type. Fields: `Elf32_Ehdr`, `Elf64_Ehdr`, `Elf32_Phdr`, `Elf64_Phdr` of elf(5).
fn segment(file: &[u8], wanted: u32) -> Option<(usize, usize)> {
    let Head { wide, big, .. } = head(file)?;
    let number = |at: usize, size: usize| {
        let bytes = file.get(at..at.checked_add(size)?)?;
        let digit = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        usize::try_from(if big { bytes.iter().fold(0, digit) } else { bytes.iter().rev().fold(0, digit) }).ok()
    };
    let (table, size, count) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    (0..count).find_map(|index| {
        let at = table.checked_add(index.checked_mul(size)?)?;
        let kind = number(at, 4)?;
        let (offset, room) =
            if wide { (number(at + 8, 8)?, number(at + 32, 8)?) } else { (number(at + 4, 4)?, number(at + 16, 4)?) };
        (kind == wanted as usize && file.len() >= offset.checked_add(room)?).then_some((offset, room))
    })
}

/// Puts text and NULs into a place of fixed size; false if it does not fit.
pub(crate) fn overwrite(file: &mut [u8], offset: usize, room: usize, text: &str) -> bool {
    if text.len() >= room {
        return false;
    }
    let place = &mut file[offset..offset + room];
    place.fill(0);
    place[..text.len()].copy_from_slice(text.as_bytes());
    true
}
