//! A tree on its way to kiln and back: an archive through a socket that kiln listens at.
//!
//! A daemon copies, too, but what it reads goes through a second process of its own and a connection for calls, which for
//! a large cache costs more than packing it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufReader, BufWriter};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::archive::{AT_ONCE, Giver, Taker};
use super::merge;

/// The exit code if nobody listens at the socket. `kiln_twin::NO_WAY` is the same.
const NO_WAY: i32 = 3;

/// `give FOLDER SOCKET`: writes the folder, as the daemon would: each path begins with the folder's name.
pub(crate) fn give(arguments: &[OsString]) -> i32 {
    let [folder, socket] = arguments else {
        eprintln!("kiln-twin: give wants a folder and a socket");
        return 2;
    };
    let Some(out) = connect(socket) else { return NO_WAY };
    let given = Giver::new(BufWriter::with_capacity(AT_ONCE, out)).all(Path::new(folder));
    ended(given, "give", folder)
}

/// `take FOLDER NAME SOCKET`: unpacks an archive into the folder's folder of this name, which is made anew, and makes what
/// came a part of the folder when all of it is there.
pub(crate) fn take(arguments: &[OsString]) -> i32 {
    let [folder, name, socket] = arguments else {
        eprintln!("kiln-twin: take wants a folder, a name and a socket");
        return 2;
    };
    let Some(from) = connect(socket) else { return NO_WAY };
    let arriving = Path::new(folder).join(name);
    let from = BufReader::with_capacity(AT_ONCE, from);
    let taken = remove(&arriving).and_then(|()| Taker::new(from, arriving.clone()).all());
    match ended(taken, "take", folder) {
        0 => merge::run(&arguments[..2]),
        code => {
            // Half of it is of no use.
            let _ = remove(&arriving);
            code
        }
    }
}

/// The other end of the way; none if kiln is not behind this socket, as on another machine than the daemon's.
fn connect(socket: &OsStr) -> Option<UnixStream> {
    UnixStream::connect(socket).inspect_err(|error| eprintln!("kiln-twin: {}: {error}", socket.display())).ok()
}

fn ended(result: io::Result<()>, command: &str, folder: &OsStr) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("kiln-twin: {command} {}: {error}", folder.display());
            1
        }
    }
}

/// Removes a folder if it is there.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
