//! The first process of a step: links for the tools that the container has, then the step's own command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::decide::{self, Native};
use crate::places::{LINKS, SHIM};

/// The `PATH` of a process that has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a step's command with the links first in `PATH`.
pub(crate) fn run(command: &[OsString]) -> i32 {
    let Some((program, arguments)) = command.split_first() else {
        eprintln!("kiln-twin: enter: no command");
        return 2;
    };
    let path = std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into());
    // The step's own shell, named by its path.
    let shell = match decide::native(Path::new(program)) {
        Some(Native::Shell(shell)) => Some(shell),
        _ => None,
    };
    let mut child = Command::new(shell.as_deref().unwrap_or(Path::new(program)));
    child.arg0(program);
    if link(&path) {
        let mut with_links = OsString::from(LINKS);
        with_links.push(":");
        with_links.push(&path);
        child.env("PATH", &with_links);
        // A program without a slash is looked up in the path that it will see.
        if Path::new(program).components().count() == 1 && !program.as_encoded_bytes().contains(&b'/') {
            let found = std::env::split_paths(&with_links).map(|folder| folder.join(program)).find(|file| is_program(file));
            if let Some(found) = found {
                child = Command::new(found);
                child.env("PATH", &with_links).arg0(program);
            }
        }
    }
    become_it(child.args(arguments), program)
}

/// Becomes a command; the exit code of a shell if that cannot be.
pub(crate) fn become_it(command: &mut Command, program: &OsStr) -> i32 {
    let error = command.exec();
    eprintln!("{}: {error}", program.display());
    not_started(&error)
}

/// The exit code of a shell for a command that does not start.
pub(crate) fn not_started(error: &std::io::Error) -> i32 {
    if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
}

/// Links what was installed since the last look.
pub(crate) fn scan() -> i32 {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    i32::from(!link(&path))
}

/// Makes the links; false if they cannot be made, which leaves everything emulated.
fn link(path: &OsStr) -> bool {
    let links = Path::new(LINKS);
    let last = fs::metadata(links).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if fs::create_dir_all(links).is_err() {
        return false;
    }
    // Every user of the container may install something.
    let _ = fs::set_permissions(links, fs::Permissions::from_mode(0o1777));
    for folder in std::env::split_paths(path).filter(|folder| folder != links) {
        let changed = fs::metadata(&folder).and_then(|m| m.modified()).is_ok_and(|time| time >= last);
        let Ok(entries) = fs::read_dir(&folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()) else { continue };
        if !changed && last != SystemTime::UNIX_EPOCH {
            continue;
        }
        for entry in entries {
            let (file, link) = (entry.path(), links.join(entry.file_name()));
            if fs::symlink_metadata(&link).is_err() && is_program(&file) && decide::native(&file).is_some() {
                let _ = symlink(SHIM, link);
            }
        }
    }
    true
}

fn is_program(file: &PathBuf) -> bool {
    fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
