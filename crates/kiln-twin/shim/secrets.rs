//! Secrets of a step, which are never in a container's configuration.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

use crate::enter::become_it;

/// Waits for the end of standard input: of the kiln at its other end. Meanwhile the volume in memory lives.
pub(crate) fn hold() -> i32 {
    i32::from(io::copy(&mut io::stdin().lock(), &mut io::sink()).is_err())
}

/// `secrets FOLDER COMMAND...`: becomes the command, with a variable for each file of the folder.
pub(crate) fn run(arguments: &[OsString]) -> i32 {
    let [folder, program, rest @ ..] = arguments else {
        eprintln!("kiln-twin: secrets: say where they are, and what to run");
        return 2;
    };
    let mut command = Command::new(program);
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        match fs::read(file.path()) {
            Ok(value) => command.env(file.file_name(), OsString::from_vec(value)),
            Err(error) => {
                eprintln!("kiln-twin: secrets: {}: {error}", file.path().display());
                return 1;
            }
        };
    }
    become_it(command.args(rest), program)
}
