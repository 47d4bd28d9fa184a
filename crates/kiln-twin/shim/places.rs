//! Where things are in a container.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// This program.
pub(crate) const SHIM: &str = "/dev/kiln/twin/kiln-twin";
/// The Python code that runs before a program on the native interpreter.
pub(crate) const LAUNCH: &str = "/dev/kiln/twin/launch.py";
/// The Python code that prints what both interpreters must agree in.
pub(crate) const PROBE: &str = "/dev/kiln/twin/probe.py";
/// The library for native programs.
pub(crate) const HOOK: &str = "/dev/kiln/twin/hook.so";
/// Native programs: those of the same stage, built for the daemon's platform.
pub(crate) const NATIVE: &str = "/dev/native";
/// The list of libraries for every native program, below [`NATIVE`]; only where there is one.
pub(crate) const PRELOAD: &str = "pre";
/// Native compilers for the container's platform.
pub(crate) const CROSS: &str = "/dev/cross";
/// Links to this program, one for each tool that the container has; first in `PATH`.
pub(crate) const LINKS: &str = "/dev/shm/kiln-twin";
/// Settings for apt.
pub(crate) const APT_SETTINGS: &str = "/dev/shm/kiln-twin-apt.conf";
/// What was found out about the container's interpreters.
pub(crate) const FACTS: &str = "/dev/shm/kiln-twin-facts";

/// Whether a name of this program is its own rather than a tool's.
pub(crate) fn is_shim(name: &OsStr) -> bool {
    Path::new(name).file_name() == Path::new(SHIM).file_name()
}

/// The same path below another root.
pub(crate) fn below(root: &str, path: &Path) -> PathBuf {
    Path::new(root).join(path.strip_prefix("/").unwrap_or(path))
}
