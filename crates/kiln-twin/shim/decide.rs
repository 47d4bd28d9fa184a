//! Which programs have a native equal, and which it is.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::elf;
use crate::places::{CROSS, LINKS, NATIVE, PRELOAD, below};

/// Tools whose results do not depend on the machine they run on. Not `od`: the order of bytes shows in what it prints.
const ALIKE: &[&str] = &[
    "awk", "basename", "bzip2", "cat", "chmod", "chown", "cksum", "cmp", "comm", "cp", "cut", "date", "dd", "diff", "dirname",
    "dpkg-deb", "dpkg-divert", "dpkg-split", "dpkg-trigger", "du", "expr", "find", "fold", "gawk", "git", "gmake", "gpgv", "grep", "gzip", "head", "install",
    "join", "ln", "ls", "make", "mawk", "md5sum", "mkdir", "mksquashfs", "mktemp", "mv", "nl", "ninja", "openssl",
    "paste", "patch", "patchelf", "readlink", "realpath", "rm", "rmdir", "rsync", "sed", "seq", "sha1sum", "sha256sum",
    "sha512sum", "sleep", "sort", "split", "stat", "tail", "tar", "tee", "test", "touch", "tr",
    "uniq", "update-alternatives", "unzip", "wc", "xargs",
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
    /// dpkg, which is told the container's architecture: the native one that says so.
    Dpkg(PathBuf),
    /// apt, with what tells it the container's architecture.
    Apt(PathBuf, &'static str),
    /// A shell without a notion of its machine.
    Shell(PathBuf),
    /// A script for such a shell, which may be given one argument.
    ShellScript(PathBuf, Option<String>),
    /// `ldd`, a script around the container's loader: that loader at once, instead of a shell and several tries.
    Ldd(PathBuf),
}

/// What can stand in for a tool of the container natively, if anything.
pub(crate) fn native(tool: &Path) -> Option<Native> {
    decide(tool, false)
}

/// As [`native`]; an interpreter of a script must be a program.
fn decide(tool: &Path, is_interpreter: bool) -> Option<Native> {
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
    if canonical.starts_with("/usr/lib/apt/methods") {
        return same().map(Native::Alike);
    }
    if SHELLS.contains(&name) {
        return same().filter(|_| is_hooked()).map(Native::Shell);
    }
    let architecture = || debian(machine(&canonical)?);
    if name == "dpkg" || name == "dpkg-query" {
        let mut native = below(NATIVE, &canonical).into_os_string();
        native.push(format!("-{}", architecture()?));
        return Some(PathBuf::from(native)).filter(|path| path.is_file()).map(Native::Dpkg);
    }
    if INSTALLERS.contains(&name) {
        // A native apt is of no use without a native dpkg that says the same.
        let dpkg = native(Path::new("/usr/bin/dpkg"));
        return Some(match (same(), dpkg, architecture()) {
            (Some(program), Some(Native::Dpkg(_)), Some(architecture)) => Native::Apt(program, architecture),
            _ => Native::Installer,
        });
    }
    if is_interpreter {
        return None;
    }
    let (interpreter, argument) = shebang(&canonical)?;
    match (decide(&interpreter, true)?, argument) {
        (Native::Python(_), None) => Some(Native::Script(interpreter)),
        (Native::Shell(shell), argument) => Some(Native::ShellScript(shell, argument)),
        _ => None,
    }
}

/// Shells that do not know what machine they are made for. bash does: `$MACHTYPE`.
const SHELLS: &[&str] = &["dash"];

/// Debian's names of machines, by `e_machine`.
pub(crate) const DPKG: &[(u16, &str)] = &[(62, "amd64"), (183, "arm64"), (40, "armhf"), (22, "s390x"), (243, "riscv64"), (21, "ppc64el")];

/// How Debian calls a machine.
pub(crate) fn debian(machine: u16) -> Option<&'static str> {
    DPKG.iter().find(|(known, _)| *known == machine).map(|(_, name)| *name)
}

fn machine(program: &Path) -> Option<u16> {
    elf::head_of(program).map(|head| head.machine)
}

/// Whether what native programs execute by path goes through this program: not where they are musl's, or for another
/// machine than the hook. A native shell would start much by path.
fn is_hooked() -> bool {
    Path::new(NATIVE).join(PRELOAD).is_file()
}

/// `python`, `python3`, `python3.12`.
pub(crate) fn is_python(name: &str) -> bool {
    name.strip_prefix("python").is_some_and(|version| version.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// The interpreter of a script, with its argument.
fn shebang(script: &Path) -> Option<(PathBuf, Option<String>)> {
    let mut head = [0; 256];
    let read = fs::File::open(script).ok()?.read(&mut head).ok()?;
    let line = head[..read].strip_prefix(b"#!")?;
    let line = std::str::from_utf8(&line[..line.iter().position(|byte| *byte == b'\n')?]).ok()?.trim();
    let (first, argument) = line.split_once(char::is_whitespace).map_or((line, None), |(f, a)| (f, Some(a.trim())));
    Some(match (first, argument) {
        ("/usr/bin/env" | "/bin/env", Some(name)) if !name.contains(char::is_whitespace) => (in_path(name, false)?, None),
        (path, argument) => (PathBuf::from(path), argument.map(str::to_owned)),
    })
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
