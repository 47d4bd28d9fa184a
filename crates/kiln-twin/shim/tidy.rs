//! Mount points that earlier steps left behind.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::enter::become_it;

/// `tidy PATH... [-- COMMAND...]`: removes the paths as far as they are as a daemon makes mount points, and becomes the
/// command if there is one. A path that something is mounted over stays.
pub(crate) fn run(arguments: &[OsString]) -> i32 {
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    for path in &arguments[..end] {
        match fs::symlink_metadata(path) {
            // Only an empty folder goes.
            Ok(found) if found.is_dir() => drop(fs::remove_dir(path)),
            // Older versions of runc make files of mode 755, newer ones of mode 644.
            Ok(found) if found.is_file() && found.len() == 0 && matches!(found.permissions().mode() & 0o777, 0o755 | 0o644) => {
                drop(fs::remove_file(path));
            }
            _ => {}
        }
    }
    let Some((program, rest)) = arguments.get(end + 1..).and_then(<[_]>::split_first) else { return 0 };
    become_it(Command::new(program).args(rest), program)
}
