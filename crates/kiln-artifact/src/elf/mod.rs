//! What an ELF file says of itself: for which machine it is, what it needs to run and how it is hardened.
//!
//! [`inspect`] opens a file and reads its header, its program headers and its dynamic segment with bounded reads at
//! offsets, so a program with tens of megabytes appended costs a few dozen small reads. Section headers are never used:
//! they may be stripped, and the loader does not look at them either. [`read()`] does the same on any [`ByteSource`],
//! which is how the files inside a onefile payload are read while they stream by.
//!
//! The structures come from `object`: its definitions are plain data that can be read piece by piece in either class
//! and byte order, while goblin wants the whole file in memory (and has an open history of panics on hostile input) and
//! the `elf` crate finds symbol versions only through section headers.

mod libc;
mod read;
mod source;
#[cfg(test)]
pub(crate) mod testing;

use std::io;
use std::path::Path;

use kiln_graph::{Arch, ElfIdentity, Endian};
use serde::Serialize;

pub(crate) use self::libc::is_libc_library;
pub use self::libc::{GlibcVersion, GlibcVersionError, Libc};
pub use self::read::read;
pub(crate) use self::read::{Layout, layout};
pub use self::source::{ByteSource, FileSource, SourceError};

/// The first bytes of every ELF file.
pub const MAGIC: [u8; 4] = *b"\x7fELF";

/// What an ELF file says of itself. Source of every field: the ELF gABI and its GNU extensions (LSB core, chapter 10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ElfFacts {
    /// `EI_CLASS`: 32 or 64 bits.
    pub bits: u8,
    /// `EI_DATA`.
    #[serde(serialize_with = "endian_name")]
    pub endian: Endian,
    /// `e_machine`.
    pub machine: u16,
    /// `EI_OSABI`: 0 is System V, 3 is GNU/Linux, both of which Linux loads.
    pub os_abi: u8,
    /// `e_flags`: ABI variants of arm, RISC-V and PowerPC.
    pub flags: u32,
    /// What sort of file it is.
    pub kind: ElfKind,
    /// The loader (`PT_INTERP`), such as `/lib64/ld-linux-x86-64.so.2`.
    pub interpreter: Option<String>,
    /// The name under which other files need this one (`DT_SONAME`).
    pub soname: Option<String>,
    /// The libraries it needs by name (`DT_NEEDED`), in file order.
    pub needed: Vec<String>,
    /// Folders of `DT_RPATH`, split at colons.
    pub rpath: Vec<String>,
    /// Folders of `DT_RUNPATH`, split at colons.
    pub runpath: Vec<String>,
    /// The symbol versions it requires of its libraries (`DT_VERNEED`), in file order.
    pub versions: Vec<VersionNeed>,
    /// The C library it is made for.
    pub libc: Libc,
    /// What it asks of the stack (`PT_GNU_STACK`).
    pub stack: Stack,
    /// How much of its relocated data becomes read-only.
    pub relro: Relro,
    /// Number of loaded segments that are writable and executable at once.
    pub writable_executable: usize,
    /// Whether the loader has to write into its code (`DT_TEXTREL`): that code is not shared, and hardened systems refuse it.
    pub text_relocations: bool,
}

/// What sort of file an ELF file is: `e_type`, refined by the loader and `DF_1_PIE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ElfKind {
    /// A program at a fixed address, with or without a loader.
    Executable,
    /// A position-independent program that a loader starts.
    Pie,
    /// A position-independent program without a loader.
    StaticPie,
    /// A shared library or extension module.
    SharedLibrary,
    /// An object file.
    Relocatable,
    /// A memory dump.
    Core,
    /// Some other `e_type`.
    Other(u16),
}

/// One required symbol version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionNeed {
    /// The library, such as `libc.so.6`.
    pub library: String,
    /// The version, such as `GLIBC_2.34`.
    pub version: String,
    /// Only weak references use it: the loader goes on without it.
    pub weak: bool,
}

/// What a file asks of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stack {
    /// It need not be executable.
    NotExecutable,
    /// It must be executable.
    Executable,
    /// There is no `PT_GNU_STACK`: the kernel's default of the machine holds, which on x86 is an executable stack.
    Unstated,
}

/// How much of the relocated data becomes read-only after start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relro {
    /// None of it.
    None,
    /// All but the table of lazily bound functions.
    Partial,
    /// All of it.
    Full,
}

/// Why a file could not be read as ELF.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// It does not start with the ELF magic.
    #[error("not an ELF file")]
    NotElf,
    /// It starts like an ELF file, but a part lies outside of the file or contradicts another.
    #[error("malformed ELF file: {what}")]
    Malformed {
        /// The part that is wrong.
        what: &'static str,
    },
    /// Reading failed.
    #[error("could not read the ELF file")]
    Io(#[source] io::Error),
    /// The source is a window on a stream that no longer has a part that was asked for.
    #[error("a part of the ELF file was not kept")]
    NotKept,
}

impl ElfError {
    pub(crate) fn malformed(what: &'static str) -> Self {
        Self::Malformed { what }
    }
}

/// Reads the facts of the ELF file at `path`.
pub fn inspect(path: &Path) -> Result<ElfFacts, ElfError> {
    read(&FileSource::open(path).map_err(ElfError::Io)?)
}

impl ElfFacts {
    /// Class, byte order and machine together.
    pub fn identity(&self) -> ElfIdentity {
        ElfIdentity { bits: self.bits, endian: self.endian, machine: self.machine }
    }

    /// The architecture, if kiln knows it. 32-bit ARM is reported as v7: the header does not tell v6 from v7.
    pub fn arch(&self) -> Option<Arch> {
        Arch::ALL.into_iter().find(|arch| arch.elf() == self.identity())
    }

    /// Whether a kernel can start the file, as opposed to a loader loading it into another program.
    pub fn is_program(&self) -> bool {
        matches!(self.kind, ElfKind::Executable | ElfKind::Pie | ElfKind::StaticPie)
    }

    /// Whether its address is chosen at random at each start.
    pub fn is_position_independent(&self) -> bool {
        matches!(self.kind, ElfKind::Pie | ElfKind::StaticPie | ElfKind::SharedLibrary)
    }

    /// Whether the stack becomes executable, with the machine's default where the file says nothing.
    pub fn has_executable_stack(&self) -> bool {
        match self.stack {
            Stack::NotExecutable => false,
            Stack::Executable => true,
            Stack::Unstated => matches!(self.arch(), Some(Arch::Amd64 | Arch::I386)),
        }
    }

    /// The oldest glibc that has every symbol version it requires.
    pub fn glibc_floor(&self) -> Option<GlibcVersion> {
        match self.libc {
            Libc::Glibc { floor } => floor,
            _ => None,
        }
    }
}

/// A short text for a machine: `x86_64`, `aarch64`, or the number of one that kiln does not build for.
pub fn machine_name(identity: ElfIdentity) -> String {
    match Arch::ALL.into_iter().find(|arch| arch.elf() == identity) {
        Some(Arch::ArmV7 | Arch::ArmV6) => "32-bit arm".to_owned(),
        Some(arch) => arch.machine().to_owned(),
        None => {
            let order = if identity.endian == Endian::Little { "little" } else { "big" };
            format!("machine {} ({} bits, {order}-endian)", identity.machine, identity.bits)
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn endian_name<S: serde::Serializer>(endian: &Endian, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match endian {
        Endian::Little => "little",
        Endian::Big => "big",
    })
}
