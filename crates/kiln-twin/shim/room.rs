//! How much room is left.

use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_ulong};
use std::os::unix::ffi::OsStrExt;

/// `struct statvfs` of 64-bit Linux, with room for what C libraries put at its end. Source: statvfs(3).
#[repr(C)]
struct FileSystem {
    block_size: c_ulong,
    fragment_size: c_ulong,
    blocks: u64,
    free: u64,
    available: u64,
    files: u64,
    free_files: u64,
    available_files: u64,
    rest: [u64; 13],
}

unsafe extern "C" {
    fn statvfs(path: *const c_char, found: *mut FileSystem) -> c_int;
}

/// The room of a file system: bytes, and entries where it has a table of them (0 otherwise).
pub(crate) struct Room {
    pub(crate) available: u64,
    pub(crate) total: u64,
    pub(crate) available_files: u64,
    pub(crate) files: u64,
}

/// The room for those who are not root where a path is.
pub(crate) fn at(path: &OsStr) -> Option<Room> {
    let path = CString::new(path.as_bytes()).ok()?;
    let mut found = FileSystem {
        block_size: 0,
        fragment_size: 0,
        blocks: 0,
        free: 0,
        available: 0,
        files: 0,
        free_files: 0,
        available_files: 0,
        rest: [0; 13],
    };
    // SAFETY: the path ends with a zero, and the structure is at least as large as that of the C library.
    let said = unsafe { statvfs(path.as_ptr(), &raw mut found) } == 0;
    said.then(|| Room {
        available: found.available.saturating_mul(found.fragment_size),
        total: found.blocks.saturating_mul(found.fragment_size),
        available_files: found.available_files,
        files: found.files,
    })
}

/// `room PATH`: says how many bytes are free there for those who are not root.
pub(crate) fn run(arguments: &[OsString]) -> i32 {
    let room = arguments.first().and_then(|path| at(path));
    if let Some(room) = &room {
        println!("{}", room.available);
    }
    i32::from(room.is_none())
}
