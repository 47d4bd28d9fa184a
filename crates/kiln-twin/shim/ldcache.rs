//! `/etc/ld.so.cache` of glibc, rewritten for libraries that lie below another root.
//!
//! Format: `cache_file_new` of glibc's `sysdeps/generic/dl-cache.h`. A header of 48 bytes, then entries of 24 bytes, then
//! strings; `key` (a library's name) and `value` (its path) are offsets from the header. Entries are sorted by name, and
//! stay so.

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// The cache with `root` before every path; `None` if this is no such file.
pub(crate) fn moved(cache: &[u8], root: &str) -> Option<Vec<u8>> {
    // Older versions of ldconfig put the old format in front.
    let start = cache.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let cache = &cache[start..];
    let word = |at: usize| Some(u32::from_le_bytes(cache.get(at..at + 4)?.try_into().ok()?));
    let count = usize::try_from(word(20)?).ok()?;
    let table = cache.get(HEADER..HEADER.checked_add(count.checked_mul(ENTRY)?)?)?;
    let string = |at: u32| {
        let rest = cache.get(at as usize..)?;
        Some(&rest[..rest.iter().position(|byte| *byte == 0)?])
    };
    let mut entries = table.to_vec();
    let mut strings = Vec::new();
    let base = HEADER + entries.len();
    for entry in entries.chunks_exact_mut(ENTRY) {
        for (field, before) in [(4, ""), (8, root)] {
            let at = u32::from_le_bytes(entry[field..field + 4].try_into().ok()?);
            let text = string(at)?;
            let new = u32::try_from(base + strings.len()).ok()?;
            strings.extend([before.as_bytes(), text, b"\0"].concat());
            entry[field..field + 4].copy_from_slice(&new.to_le_bytes());
        }
    }
    let mut made = cache[..HEADER].to_vec();
    made[24..28].copy_from_slice(&u32::try_from(strings.len()).ok()?.to_le_bytes());
    // No extensions: they would hold offsets of their own.
    made[32..36].fill(0);
    made.extend(entries);
    made.extend(strings);
    Some(made)
}
