//! Which programs have a native equal, and which it is.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::places::{CROSS, LINKS, NATIVE, below};

/// Tools whose results do not depend on the machine they run on.
const ALIKE: &[&str] = &[
    "awk", "basename", "bzip2", "cat", "chmod", "chown", "cksum", "cmp", "comm", "cp", "cut", "date", "dd", "diff", "dirname",
    "dpkg-deb", "dpkg-split", "du", "expr", "find", "fold", "gawk", "git", "gmake", "grep", "gzip", "head", "install",
    "join", "ln", "ls", "make", "mawk", "md5sum", "mkdir", "mksquashfs", "mktemp", "mv", "nl", "ninja", "od", "openssl",
    "paste", "patch", "patchelf", "readlink", "realpath", "rm", "rmdir", "rsync", "sed", "seq", "sha1sum", "sha256sum",
    "sha512sum", "sleep", "sort", "split", "stat", "tail", "tar", "tee", "touch", "tr", "uniq", "unzip", "wc", "xargs",
    "xz", "zip", "zstd",
];
/// Programs that give what they call a path of their own.
const INSTALLERS: &[&str] = &["apt", "apt-get", "aptitude"];

/// What stands behind a tool of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Native {
    /// A Python interpreter: the native one.
    Python(PathBuf),
    /// A script for a Python interpreter of the container: that interpreter's path.
    Script(PathBuf),
    /// A compiler, assembler, linker, ...: the native one for the container's platform.
    Cross(PathBuf),
    /// The compiler cache.
    Ccache(PathBuf),
    /// A tool that works alike on any machine.
    Alike(PathBuf),
    /// None, but what it calls may have one: it must be told of the links.
    Installer,
    /// `ldd`, a script around the container's loader: that loader at once, instead of a shell and several tries.
    Ldd(PathBuf),
}

/// What can stand in for a tool of the container natively, if anything.
pub(crate) fn native(tool: &Path) -> Option<Native> {
    let canonical = fs::canonicalize(tool).ok()?;
    let name = canonical.file_name()?.to_str()?;
    let same = || Some(below(NATIVE, &canonical)).filter(|path| path.is_file());
    if is_python(name) {
        return same().map(Native::Python);
    }
    if name == "ccache" {
        return same().map(Native::Ccache);
    }
    // A compiler's real name starts with its target: `aarch64-linux-gnu-gcc-12`. It tells the version, too.
    let cross = Path::new(CROSS).join("usr/bin").join(name);
    if name.contains("-linux-") && cross.is_file() {
        return Some(Native::Cross(cross));
    }
    if ALIKE.contains(&name) || tool.file_name().and_then(|name| name.to_str()).is_some_and(|n| ALIKE.contains(&n)) {
        return same().map(Native::Alike);
    }
    if name == "ldd" {
        return loader_of_ldd(&canonical).map(Native::Ldd);
    }
    if INSTALLERS.contains(&name) {
        return Some(Native::Installer);
    }
    let interpreter = shebang(&canonical)?;
    matches!(native(&interpreter)?, Native::Python(_)).then_some(Native::Script(interpreter))
}

/// `python`, `python3`, `python3.12`.
pub(crate) fn is_python(name: &str) -> bool {
    name.strip_prefix("python").is_some_and(|version| version.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// The interpreter of a script, if it names one without arguments and it is called like a Python.
fn shebang(script: &Path) -> Option<PathBuf> {
    let mut head = [0; 256];
    let read = fs::File::open(script).ok()?.read(&mut head).ok()?;
    let line = head[..read].strip_prefix(b"#!")?;
    let line = std::str::from_utf8(&line[..line.iter().position(|byte| *byte == b'\n')?]).ok()?.trim();
    let mut words = line.split_whitespace();
    let (first, second, third) = (words.next()?, words.next(), words.next());
    let interpreter = match (first, second, third) {
        ("/usr/bin/env" | "/bin/env", Some(name), None) => in_path(name, false)?,
        (path, None, None) => PathBuf::from(path),
        _ => return None,
    };
    is_python(interpreter.file_name()?.to_str()?).then_some(interpreter)
}

/// The first loader of glibc's `ldd` script that is there: `RTLDLIST="/lib/ld-linux-aarch64.so.1"`.
fn loader_of_ldd(script: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(script).ok()?;
    let list = text.lines().find_map(|line| line.trim().strip_prefix("RTLDLIST="))?;
    list.trim_matches('"').split_whitespace().map(PathBuf::from).find(|loader| loader.is_file())
}

/// The container's own program of a name: the first in `PATH` that is not a link of ours. Below ccache, that one's
/// masks are passed over as well.
pub(crate) fn in_path(name: &str, below_ccache: bool) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).filter(|folder| folder != Path::new(LINKS)).map(|folder| folder.join(name)).find(|file| {
        let is_program = fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        is_program && !(below_ccache && is_ccache(file))
    })
}

fn is_ccache(file: &Path) -> bool {
    fs::canonicalize(file).is_ok_and(|file| file.file_name().is_some_and(|name| name == "ccache"))
}
