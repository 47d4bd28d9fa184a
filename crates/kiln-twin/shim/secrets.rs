//! Secrets of a step, which are never in a container's configuration.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

use crate::enter::become_it;

/// Files that the daemon makes for a container's network. Steps that enter the network get them, too, and may write to them.
pub(crate) const OF_NETWORK: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"];

/// Waits for the end of standard input: of the kiln at its other end. Meanwhile the volume in memory lives, or the network.
/// Whenever something comes, the files of the network are put back as they were.
pub(crate) fn hold() -> i32 {
    let files = OF_NETWORK.map(|path| (path, fs::read(path).ok()));
    let mut input = [0; 64];
    loop {
        match io::stdin().lock().read(&mut input) {
            Ok(0) => return 0,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return 1,
        }
        for (path, content) in &files {
            if let Some(content) = content
                && fs::read(path).ok().as_ref() != Some(content)
            {
                // In place, because it is mounted. What cannot be written has not been written to either.
                let _ = fs::write(path, content);
            }
        }
    }
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
