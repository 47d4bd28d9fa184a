//! What can be wrong with an artifact.

use std::fmt;

use kiln_graph::{ElfIdentity, Platform};

use super::Family;
use crate::elf::{ElfKind, GlibcVersion, machine_name};

/// Something wrong with an artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The artifact is not an ELF file.
    #[error("`{name}` is not an ELF file")]
    NotElf {
        /// The file.
        name: String,
    },
    /// A file starts like an ELF file and cannot be read as one.
    #[error("`{name}` cannot be read: {reason}")]
    BrokenElf {
        /// The file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder has no program at its top.
    #[error("the folder has no executable program at its top")]
    NoProgram,
    /// The artifact is a library, an object file or the like.
    #[error("`{name}` is not a program but {}", kind_name(*kind))]
    NotProgram {
        /// The file.
        name: String,
        /// What it is.
        kind: ElfKind,
    },
    /// Its owner may not execute it.
    #[error("`{name}` is not executable")]
    NotExecutable {
        /// The file.
        name: String,
    },
    /// The program is for another machine.
    #[error("`{name}` is for {}, not for {platform}", machine_name(*found))]
    WrongMachine {
        /// The file.
        name: String,
        /// What it is for.
        found: ElfIdentity,
        /// What was asked for.
        platform: Platform,
    },
    /// The machine is right and the class is not, as with x32.
    #[error("`{name}` has {bits} bits, which {platform} does not run")]
    WrongClass {
        /// The file.
        name: String,
        /// Its class.
        bits: u8,
        /// What was asked for.
        platform: Platform,
    },
    /// A file inside is for another machine.
    #[error("`{name}` inside is for {}, not for {platform}", machine_name(*found))]
    ForeignFile {
        /// The file.
        name: String,
        /// What it is for.
        found: ElfIdentity,
        /// What was asked for.
        platform: Platform,
    },
    /// A file inside is made for another C library than the program.
    #[error("`{name}` inside is made for {found}, the program for {program}")]
    MixedLibc {
        /// The file.
        name: String,
        /// Its C library.
        found: Family,
        /// That of the program.
        program: Family,
    },
    /// The program is made for another C library than expected.
    #[error("the program is made for {found}, not for {expected}")]
    WrongLibc {
        /// What was expected.
        expected: Family,
        /// What it is made for.
        found: Family,
    },
    /// A file needs a newer glibc than allowed.
    #[error("`{name}` needs glibc {needed}, newer than the {allowed} that is allowed")]
    GlibcTooNew {
        /// The file.
        name: String,
        /// What it needs.
        needed: GlibcVersion,
        /// What is allowed.
        allowed: GlibcVersion,
    },
    /// The payload cannot be read.
    #[error("{reason}")]
    DamagedPayload {
        /// What is wrong with it.
        reason: String,
    },
    /// A onefile program was expected.
    #[error("the program has no onefile payload")]
    MissingPayload,
    /// No onefile program was expected.
    #[error("the program has a onefile payload")]
    UnexpectedPayload,
    /// The loader is in a place where other systems have none.
    #[error("`{name}` asks for the loader `{interpreter}`, which few systems have there")]
    UnusualInterpreter {
        /// The file.
        name: String,
        /// Its loader.
        interpreter: String,
    },
    /// A file makes the stack executable.
    #[error("`{name}` makes the stack executable")]
    ExecutableStack {
        /// The file.
        name: String,
    },
    /// A file has memory that is writable and executable at once.
    #[error("`{name}` has a segment that is writable and executable")]
    WritableExecutable {
        /// The file.
        name: String,
    },
}

impl Problem {
    /// What may help, if anything is known to.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::GlibcTooNew { allowed, .. } => return Some(older_base(*allowed)),
            Self::WrongMachine { .. } | Self::WrongClass { .. } => {
                "the build ran on a base image of another platform; check how FROM names its image"
            }
            Self::ForeignFile { .. } => {
                "a dependency ships it for every machine; leave it out with --noinclude-data-files, or allow it by name"
            }
            Self::MixedLibc { .. } => "a wheel for another C library was installed; check the pip options",
            Self::NotExecutable { .. } => "the build must leave it with mode 755",
            Self::MissingPayload => "check that the build runs Nuitka with --onefile",
            Self::DamagedPayload { .. } => "do not strip or edit a onefile program after Nuitka has made it",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
            Self::Static => "no C library (static)",
        })
    }
}

fn kind_name(kind: ElfKind) -> &'static str {
    match kind {
        ElfKind::SharedLibrary => "a shared library",
        ElfKind::Relocatable => "an object file",
        ElfKind::Core => "a memory dump",
        ElfKind::Executable | ElfKind::Pie | ElfKind::StaticPie => "a program",
        ElfKind::Other(_) => "an unknown sort of ELF file",
    }
}

/// What to do about a program that needs a newer glibc than `allowed`: the newest Debian that has none newer.
///
/// Source: the versions of glibc in Debian 8 to 13.
pub fn older_base(allowed: GlibcVersion) -> String {
    const RELEASES: [(u32, &str); 6] =
        [(41, "trixie"), (36, "bookworm"), (31, "bullseye"), (28, "buster"), (24, "stretch"), (19, "jessie")];
    let fits = RELEASES.iter().find(|(minor, _)| GlibcVersion::new(2, *minor) <= allowed);
    let musl = "or with musl (recipe = \"alpine\")";
    match fits {
        Some((minor, name)) => {
            format!("build on an older base image, such as build.base = \"debian:{name}\" with glibc 2.{minor}, {musl}")
        }
        None => format!("no release of Debian in use has a glibc that old: build on an older base image, {musl}"),
    }
}
