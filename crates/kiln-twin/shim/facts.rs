//! What a container sees of the daemon's machine and of the network: for `kiln doctor`.
//!
//! Every fact is a line of fields parted by tabs, the last one is `done`. Of variables only the lengths are told, because
//! values may hold passwords and what a container writes is kept by the daemon.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::room;

/// How long a place of the network may take to answer: name, connection and proxy together.
const PATIENCE: Duration = Duration::from_secs(3);
/// Addresses of a name that are tried.
const MOST_ADDRESSES: usize = 4;
/// Where the limit of this container's memory is, in either version of control groups.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// `facts ARGUMENT...`: `disk=PATH`, `file=PATH`, `variable=NAME`, `reach=HOST:PORT` or, through a proxy,
/// `reach=HOST:PORT,TARGET:PORT`.
pub(crate) fn run(arguments: &[OsString]) -> i32 {
    let (sender, receiver) = mpsc::channel();
    let deadline = Instant::now() + PATIENCE;
    let mut waiting = Vec::new();
    for argument in arguments.iter().filter_map(|argument| argument.to_str()) {
        let Some(place) = argument.strip_prefix("reach=") else { continue };
        waiting.push(place.to_owned());
        let (place, sender) = (place.to_owned(), sender.clone());
        thread::spawn(move || {
            let answer = reach(&place, deadline);
            // Whoever asked may have lost patience.
            let _ = sender.send((place, answer));
        });
    }
    if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
        println!("time\t{}", now.as_millis());
    }
    memory();
    for argument in arguments {
        let bytes = argument.as_bytes();
        if let Some(path) = bytes.strip_prefix(b"disk=") {
            disk(OsStr::from_bytes(path));
        } else if let Some(path) = bytes.strip_prefix(b"file=") {
            file(Path::new(OsStr::from_bytes(path)));
        } else if let Some(name) = argument.to_str().and_then(|argument| argument.strip_prefix("variable=")) {
            if let Some(value) = std::env::var_os(name) {
                println!("variable\t{name}\t{}", value.len());
            }
        }
    }
    servers();
    while !waiting.is_empty() {
        let rest = deadline.saturating_duration_since(Instant::now());
        let Ok((place, answer)) = receiver.recv_timeout(rest) else { break };
        waiting.retain(|other| *other != place);
        println!("reach\t{place}\t{answer}");
    }
    for place in waiting {
        println!("reach\t{place}\tlate");
    }
    println!("done");
    0
}

fn disk(path: &OsStr) {
    if let Some(room) = room::at(path) {
        let name = path.to_string_lossy();
        println!("disk\t{name}\t{}\t{}\t{}\t{}", room.available, room.total, room.available_files, room.files);
    }
}

/// How long a file is and how many certificates are in it.
fn file(path: &Path) {
    if let Ok(bytes) = fs::read(path) {
        let count = String::from_utf8_lossy(&bytes).matches("BEGIN CERTIFICATE").count();
        println!("file\t{}\t{}\t{count}", path.display(), bytes.len());
    }
}

fn memory() {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    };
    for (name, field) in [("available", "MemAvailable"), ("total", "MemTotal")] {
        if let Some(bytes) = bytes(field) {
            println!("memory\t{name}\t{bytes}");
        }
    }
    // `max` is no number, and no limit.
    let limit = LIMITS.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    if let Some(limit) = limit {
        println!("memory\tlimit\t{limit}");
    }
}

/// Who is asked for addresses here.
fn servers() {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    for server in text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")) {
        println!("server\t{}", server.trim());
    }
}

/// What comes of connecting to a place, as fields.
fn reach(place: &str, deadline: Instant) -> String {
    let (through, target) = match place.split_once(',') {
        Some((through, target)) => (through, Some(target)),
        None => (place, None),
    };
    let addresses = match through.to_socket_addrs() {
        Ok(addresses) => addresses.take(MOST_ADDRESSES),
        Err(error) => return format!("unresolved\t{}", plain(&error.to_string())),
    };
    let mut last = "unresolved\tthe name has no address".to_owned();
    for address in addresses {
        let rest = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, rest) {
            Ok(stream) => {
                return match target {
                    Some(target) => tunnel(stream, target, deadline),
                    None => format!("reached\t{}", address.ip()),
                };
            }
            Err(error) => last = format!("unreachable\t{}\t{}", address.ip(), plain(&error.to_string())),
        }
    }
    last
}

/// Asks a proxy for a connection to `target`; the code of its answer, 0 if that is none of HTTP.
fn tunnel(mut stream: TcpStream, target: &str, deadline: Instant) -> String {
    let rest = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let timed = stream.set_read_timeout(Some(rest)).and_then(|()| stream.set_write_timeout(Some(rest)));
    let asked = timed.and_then(|()| write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
    let mut answer = [0; 12];
    if let Err(error) = asked.and_then(|()| stream.read_exact(&mut answer)) {
        return format!("broken\t{}", plain(&error.to_string()));
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..)?.parse::<u16>().ok());
    format!("answered\t{}", code.unwrap_or_default())
}

/// Text without what parts fields and lines.
fn plain(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}
