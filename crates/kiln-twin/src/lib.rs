//! The native twin: a step of a foreign platform whose programs are native where they only compute.
//!
//! A container of the foreign platform sees, read-only, the programs and libraries of the same stage built for the
//! daemon's platform ([`NATIVE`]) and a cross toolchain ([`CROSS`]). A small static program ([`program`]) runs first,
//! makes links under the names of the tools that the container has, and becomes the native or the emulated one when a
//! tool is called. Python runs the container's program, standard library and packages on the native interpreter
//! (`python/launch.py`).
//!
//! This crate holds the program and the Python code as bytes, and the names of places. How a volume is filled and when a
//! step runs this way is decided elsewhere: see `kiln-docker` and `kiln-solver`.

mod hint;

pub use hint::{helps, installs};
use kiln_graph::Arch;

/// Where the native programs of the same stage are seen. `shim/places.rs` has the same.
pub const NATIVE: &str = "/dev/native";
/// Where the cross toolchain is seen. `shim/places.rs` has the same.
pub const CROSS: &str = "/dev/cross";
/// The program, in kiln's read-only folder of a container.
pub const PROGRAM: &str = "/dev/kiln/twin/kiln-twin";
/// The program's exit code for `give` and `take` if it found nobody at the socket. `shim/carry.rs` has the same.
pub const NO_WAY: i64 = 3;
/// How the line begins in which the program says that a command did not start. `shim/first.rs` has the same.
pub const NOT_STARTED: &str = "kiln-twin: first: ";
/// The variable that names a file for the stand-ins' decisions.
pub const LOG: &str = "KILN_TWIN_LOG";

const X86_64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kiln-twin-x86_64"));
const AARCH64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kiln-twin-aarch64"));
const HOOK_X86_64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hook-x86_64"));
const HOOK_AARCH64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hook-aarch64"));
const LAUNCH: &str = include_str!("../python/launch.py");
const PROBE: &str = include_str!("../python/probe.py");
const X87: &str = include_str!("../python/x87.py");

/// A file for kiln's folder in a container.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Path below that folder.
    pub path: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub bytes: &'static [u8],
}

/// The program for a daemon's architecture, if this kiln was built with one.
pub fn program(daemon: Arch) -> Option<&'static [u8]> {
    let bytes = match daemon {
        Arch::Amd64 => X86_64,
        Arch::Arm64 => AARCH64,
        _ => &[],
    };
    (!bytes.is_empty()).then_some(bytes)
}

/// Everything that a container needs of this crate; nothing where there is no [`program`].
pub fn files(daemon: Arch) -> Vec<File> {
    let Some(program) = program(daemon) else { return Vec::new() };
    let hook = if daemon == Arch::Amd64 { HOOK_X86_64 } else { HOOK_AARCH64 };
    vec![
        File { path: "twin/kiln-twin", mode: 0o755, bytes: program },
        // Empty where it could not be made: the loader passes over a library that it cannot read, with a warning, so it
        // is not listed then.
        File { path: "twin/hook.so", mode: 0o644, bytes: hook },
        File { path: "twin/launch.py", mode: 0o644, bytes: LAUNCH.as_bytes() },
        File { path: "twin/probe.py", mode: 0o644, bytes: PROBE.as_bytes() },
        File { path: "twin/x87.py", mode: 0o644, bytes: X87.as_bytes() },
    ]
}

/// How Debian calls the compilers for an architecture: `gcc-TRIPLE` is the package, with `_` written `-`.
pub fn triple(target: Arch) -> Option<&'static str> {
    Some(match target {
        Arch::Amd64 => "x86_64-linux-gnu",
        Arch::I386 => "i686-linux-gnu",
        Arch::Arm64 => "aarch64-linux-gnu",
        Arch::ArmV7 => "arm-linux-gnueabihf",
        Arch::Riscv64 => "riscv64-linux-gnu",
        Arch::Ppc64le => "powerpc64le-linux-gnu",
        Arch::S390x => "s390x-linux-gnu",
        Arch::ArmV6 => return None,
    })
}

/// The architecture whose build can stand in for `target` on a daemon, if any: the daemon's own, or on amd64 that of 386
/// for the 32-bit targets.
///
/// Both agree in the width of a word. Where they do not agree in the order of bytes, the interpreters are told apart in the
/// container (`python/probe.py`), and only compilers and plain tools are native.
pub fn stands_in(daemon: Arch, target: Arch) -> Option<Arch> {
    let root = match target {
        Arch::ArmV7 if daemon == Arch::Amd64 => Arch::I386,
        _ => daemon,
    };
    (root != target && root.elf().bits == target.elf().bits && !target.may_run_on(daemon)).then_some(root)
}

/// The pure parts of the program, which is compiled apart, for their tests.
#[cfg(test)]
mod program_parts {
    #[path = "../../shim/archive.rs"]
    #[expect(unsafe_code, reason = "the standard library sets no times of links")]
    mod archive;
    #[path = "../../shim/elf.rs"]
    mod elf;
    #[path = "../../shim/ldcache.rs"]
    mod ldcache;
    #[path = "../../shim/options.rs"]
    mod options;
    #[path = "../../shim/places.rs"]
    #[expect(dead_code, reason = "the tests need only some of them")]
    mod places;

    mod archive_tests;
    mod tests;
}
