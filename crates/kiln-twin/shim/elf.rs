//! As much of ELF as is needed: whose program it is, and which loader it asks for.

/// `e_machine` of this program's own architecture.
#[cfg(target_arch = "x86_64")]
pub(crate) const OWN: u16 = 62;
#[cfg(target_arch = "aarch64")]
pub(crate) const OWN: u16 = 183;

const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

/// The head of a file, if it is a program or library of a 64-bit little-endian machine or of any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// `e_machine`.
    pub(crate) machine: u16,
    /// `e_type`: 2 for programs, 3 for libraries and position-independent programs.
    pub(crate) kind: u16,
    /// ELFCLASS64, little endian: the fields below make sense.
    wide: bool,
}

/// Reads the first 64 bytes of a file.
pub(crate) fn head(bytes: &[u8]) -> Option<Head> {
    if bytes.len() < 20 || bytes[..4] != *b"\x7fELF" {
        return None;
    }
    let half = |at: usize| {
        let pair = [bytes[at], bytes[at + 1]];
        if bytes[5] == 2 { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
    };
    Some(Head { machine: half(18), kind: half(16), wide: bytes[4] == 2 && bytes[5] == 1 })
}

/// Whether a file is dynamically linked, for a 64-bit machine.
pub(crate) fn is_dynamic(path: &std::path::Path) -> bool {
    std::fs::read(path).is_ok_and(|file| segment(&file, PT_DYNAMIC).is_some())
}

/// Where a whole file keeps the path of its loader: offset and room, the closing NUL included.
pub(crate) fn interpreter(file: &[u8]) -> Option<(usize, usize)> {
    segment(file, PT_INTERP).filter(|(_, room)| *room > 1)
}

fn segment(file: &[u8], wanted: u32) -> Option<(usize, usize)> {
    if !head(file)?.wide {
        return None;
    }
    let long = |at: usize| usize::try_from(u64::from_le_bytes(file.get(at..at + 8)?.try_into().ok()?)).ok();
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?)));
    let (table, size, count) = (long(32)?, half(54)?, half(56)?);
    (0..count).find_map(|index| {
        let at = table.checked_add(index.checked_mul(size)?)?;
        let kind = u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?);
        let (offset, room) = (long(at + 8)?, long(at + 32)?);
        (kind == wanted && file.len() >= offset.checked_add(room)?).then_some((offset, room))
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
