//! The first process of a container in which kiln runs one command after the other.
//!
//! Requests come on standard input: the length of the rest in four bytes, the lowest first, then fields that end in a
//! zero byte: a mark, the working folder, the number of arguments, the arguments, and variables as `NAME=value`. When a
//! command and all that it started have ended, a line comes on both outputs: a zero byte, the mark, the exit code, and
//! `clean` or `changed`: whether the container is, but for its files, as it was before the first command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::enter::not_started;
use crate::secrets::OF_NETWORK;

/// Variables that a daemon gives to every container, if they are not set.
const GIVEN: [&str; 3] = ["HOME", "HOSTNAME", "PATH"];
/// Folders whose content lives as long as the container.
const SHARED: [&str; 3] = ["/dev", "/dev/shm", "/dev/mqueue"];
/// Where the kernel lists what processes share without files.
const LISTS: [&str; 3] = ["/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg"];

const KILL: i32 = 9;
const TERMINATE: i32 = 15;
const INTERRUPTED: i32 = 4;
const EVERYTHING: i32 = -1;

unsafe extern "C" {
    fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
    pub(crate) fn kill(process: i32, signal: i32) -> i32;
    fn setsid() -> i32;
    pub(crate) fn signal(signal: i32, handler: extern "C" fn(i32)) -> usize;
}

/// Whether somebody asked this process to end.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Asks everything else to end.
extern "C" fn stop(number: i32) {
    STOPPED.store(true, Ordering::Relaxed);
    if std::process::id() == 1 {
        // SAFETY: a plain system call.
        unsafe { kill(EVERYTHING, number) };
    }
}

struct Request {
    mark: String,
    cwd: OsString,
    argv: Vec<OsString>,
    env: Vec<OsString>,
}

/// Serves until standard input ends; the exit code is that of the last command.
pub(crate) fn run() -> i32 {
    let before = state();
    // SAFETY: the handler does nothing that may not be done there.
    unsafe { signal(TERMINATE, stop) };
    let mut last = 0;
    loop {
        let request = match read(&mut io::stdin().lock()) {
            Ok(Some(request)) => request,
            Ok(None) => return last,
            Err(error) => {
                eprintln!("kiln-twin: serve: {error}");
                return 1;
            }
        };
        last = execute(&request);
        if STOPPED.load(Ordering::Relaxed) {
            return last;
        }
        let state = if state() == before { "clean" } else { "changed" };
        let line = format!("\0{} {last} {state}\n", request.mark);
        let told = io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush());
        if told.and_then(|()| io::stderr().write_all(line.as_bytes())).is_err() {
            return 1;
        }
    }
}

fn read(input: &mut impl Read) -> io::Result<Option<Request>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut bytes)?;
    let mut fields = bytes.split_inclusive(|byte| *byte == 0).map(|field| &field[..field.len() - 1]);
    let mut next = || fields.next().ok_or(io::ErrorKind::InvalidData);
    let mark = String::from_utf8_lossy(next()?).into_owned();
    let cwd = OsStr::from_bytes(next()?).to_owned();
    let count = String::from_utf8_lossy(next()?).parse().map_err(|_| io::ErrorKind::InvalidData)?;
    let mut rest: Vec<OsString> = fields.map(|field| OsString::from_vec(field.to_vec())).collect();
    if count == 0 || count > rest.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let env = rest.split_off(count);
    Ok(Some(Request { mark, cwd, argv: rest, env }))
}

/// Runs a command to its end, and ends what it left running.
fn execute(request: &Request) -> i32 {
    if !Path::new(&request.cwd).is_dir() {
        // As the daemon does it for a container's working folder.
        let _ = fs::create_dir_all(&request.cwd);
    }
    let mut command = Command::new(&request.argv[0]);
    command.args(&request.argv[1..]).current_dir(&request.cwd).stdin(Stdio::null()).env_clear();
    for name in GIVEN {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    for variable in &request.env {
        let bytes = variable.as_bytes();
        if let Some(at) = bytes.iter().position(|byte| *byte == b'=') {
            command.env(OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..]));
        }
    }
    // SAFETY: `setsid` may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            setsid();
            Ok(())
        });
    }
    let child = match command.spawn() {
        Ok(child) => child.id() as i32,
        Err(error) => {
            eprintln!("{}: {error}", request.argv[0].display());
            return not_started(&error);
        }
    };
    let code = wait(Some(child));
    // Only what is in this container: its processes have a numbering of their own, and this is its first.
    if std::process::id() == 1 {
        // SAFETY: plain system calls.
        unsafe { kill(EVERYTHING, KILL) };
        wait(None);
    }
    code
}

/// Waits for a process, or for all; meanwhile those that lost their parent are buried.
pub(crate) fn wait(child: Option<i32>) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: `status` lives.
        let process = unsafe { waitpid(EVERYTHING, &raw mut status, 0) };
        if process < 0 {
            if io::Error::last_os_error().raw_os_error() == Some(INTERRUPTED) {
                continue;
            }
            return 1;
        }
        if Some(process) == child {
            return if status & 0x7f == 0 { (status >> 8) & 0xff } else { 128 + (status & 0x7f) };
        }
    }
}

/// All of the container, but for its files, that a command could leave to the next one.
fn state() -> Vec<Vec<u8>> {
    let mut state = Vec::new();
    for folder in SHARED {
        let mut names: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        names.sort();
        for path in names {
            let made = fs::symlink_metadata(&path)
                .map(|data| [data.ino(), data.mode().into(), data.rdev(), data.uid().into(), data.gid().into()]);
            state.push(format!("{} {made:?}", path.display()).into_bytes());
        }
    }
    state.extend(OF_NETWORK.iter().chain(&LISTS).map(|path| fs::read(path).unwrap_or_default()));
    state
}
