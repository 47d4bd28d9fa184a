//! The kernel's handlers for foreign programs, as `kiln emulation` reads them: `kiln-docker/src/emulation/handlers.rs`
//! has the form of the lines. Needs a privileged container, and no shell.

use std::ffi::{CString, OsString, c_char, c_int, c_ulong, c_void};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
}

/// `handlers FOLDER`: mounts `binfmt_misc` there, in this container alone, and lists what is in it.
pub(crate) fn run(arguments: &[OsString]) -> i32 {
    let Some(folder) = arguments.first() else { return 2 };
    let Ok(target) = CString::new(folder.as_bytes()) else { return 2 };
    let kind = c"binfmt_misc";
    // SAFETY: all texts end with a zero, and this kind of file system takes no data.
    if unsafe { mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, ptr::null()) } != 0 {
        println!("kiln unmountable {}", io::Error::last_os_error());
        return 0;
    }
    let mut names: Vec<OsString> = match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
        Err(error) => {
            println!("kiln unmountable {error}");
            return 0;
        }
    };
    names.sort();
    for name in names.iter().filter(|name| *name != "register" && *name != "status") {
        println!("kiln handler {}", name.to_string_lossy());
        print!("{}", fs::read_to_string(Path::new(folder).join(name)).unwrap_or_default());
    }
    println!("kiln done");
    0
}
