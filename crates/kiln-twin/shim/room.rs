//! How much room is left.

use std::ffi::{CString, OsString, c_char, c_int, c_ulong};
use std::os::unix::ffi::OsStrExt;

/// `struct statvfs` of 64-bit Linux, with room for what C libraries put at its end. Source: statvfs(3).
#[repr(C)]
struct FileSystem {
    block_size: c_ulong,
    fragment_size: c_ulong,
    blocks: u64,
    free: u64,
    available: u64,
    rest: [u64; 16],
}

unsafe extern "C" {
    fn statvfs(path: *const c_char, found: *mut FileSystem) -> c_int;
}

/// `room PATH`: says how many bytes are free there for those who are not root.
pub(crate) fn run(arguments: &[OsString]) -> i32 {
    let path = arguments.first().and_then(|path| CString::new(path.as_bytes()).ok());
    let mut found =
        FileSystem { block_size: 0, fragment_size: 0, blocks: 0, free: 0, available: 0, rest: [0; 16] };
    // SAFETY: the path ends with a zero, and the structure is at least as large as that of the C library.
    let said = path.is_some_and(|path| unsafe { statvfs(path.as_ptr(), &raw mut found) } == 0);
    if said {
        println!("{}", found.available.saturating_mul(found.fragment_size));
    }
    i32::from(!said)
}
