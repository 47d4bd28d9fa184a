//! What an artifact needs of the system that runs it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Inspection;
use crate::contained::ContainedFile;
use crate::elf::{ElfFacts, GlibcVersion, Libc, is_libc_library};

/// What an artifact needs to run. Displays as one line: `glibc >= 2.36`, `nothing (static)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// What the program itself needs: of a onefile program its bootstrap, of a folder all of its files.
    pub program: LibcNeed,
    /// What the files of the payload need, if there is one.
    pub payload: Option<LibcNeed>,
    /// Libraries that neither come with the artifact nor with a C library, in order.
    pub libraries: Vec<String>,
}

/// What is needed of a C library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LibcNeed {
    /// No C library.
    Nothing,
    /// glibc, of some version at least.
    Glibc {
        /// The version, if any symbol asks for one.
        floor: Option<GlibcVersion>,
    },
    /// musl.
    Musl {
        /// The loader, if a program names it.
        loader: Option<String>,
    },
    /// Nothing tells.
    Unknown,
}

impl Needs {
    /// Gathers what all the files of an artifact need together.
    pub fn of(inspection: &Inspection) -> Self {
        let own = inspection.program.iter().chain(&inspection.files);
        let payload = inspection.payload.as_ref();
        Self {
            program: LibcNeed::of(own),
            payload: payload.map(|payload| LibcNeed::of(&payload.files)),
            libraries: libraries(inspection),
        }
    }

    /// The oldest glibc that has all that bootstrap and payload require.
    pub fn glibc_floor(&self) -> Option<GlibcVersion> {
        [Some(&self.program), self.payload.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|need| match need {
                LibcNeed::Glibc { floor } => *floor,
                _ => None,
            })
            .max()
    }

    /// What bootstrap and payload need together; `None` if they need different C libraries.
    pub fn libc(&self) -> Option<LibcNeed> {
        match (&self.program, self.payload.as_ref().unwrap_or(&self.program)) {
            (LibcNeed::Nothing | LibcNeed::Unknown, need) | (need, LibcNeed::Nothing | LibcNeed::Unknown) => {
                Some(need.clone())
            }
            (LibcNeed::Glibc { floor: a }, LibcNeed::Glibc { floor: b }) => {
                Some(LibcNeed::Glibc { floor: (*a).max(*b) })
            }
            (LibcNeed::Musl { loader: a }, LibcNeed::Musl { loader: b }) => {
                Some(LibcNeed::Musl { loader: a.clone().or_else(|| b.clone()) })
            }
            _ => None,
        }
    }
}

impl LibcNeed {
    /// The first file that tells its C library decides; the highest version among those of that library counts.
    fn of<'a>(files: impl IntoIterator<Item = &'a ContainedFile>) -> Self {
        let files: Vec<&ElfFacts> = files.into_iter().filter_map(ContainedFile::elf).collect();
        let decides = files.iter().find(|facts| matches!(facts.libc, Libc::Glibc { .. } | Libc::Musl));
        match decides.map(|facts| &facts.libc) {
            Some(Libc::Musl) => Self::Musl { loader: files.iter().find_map(|facts| facts.interpreter.clone()) },
            Some(_) => Self::Glibc { floor: files.iter().filter_map(|facts| facts.glibc_floor()).max() },
            None if files.iter().any(|facts| facts.libc == Libc::Static) => Self::Nothing,
            None => Self::Unknown,
        }
    }
}

fn libraries(inspection: &Inspection) -> Vec<String> {
    let files = || inspection.program.iter().chain(inspection.contained());
    let provided: BTreeSet<&str> = files()
        .flat_map(|file| [Some(file.file_name()), file.elf().and_then(|facts| facts.soname.as_deref())])
        .flatten()
        .collect();
    let needed: BTreeSet<&str> =
        files().filter_map(ContainedFile::elf).flat_map(|facts| &facts.needed).map(String::as_str).collect();
    let outside = needed.into_iter().filter(|name| !provided.contains(name) && !is_libc_library(name));
    outside.map(str::to_owned).collect()
}

impl fmt::Display for LibcNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing (static)"),
            Self::Glibc { floor: Some(floor) } => write!(f, "glibc >= {floor}"),
            Self::Glibc { floor: None } => f.write_str("glibc"),
            Self::Musl { loader: Some(loader) } => write!(f, "musl loader ({loader})"),
            Self::Musl { loader: None } => f.write_str("musl"),
            Self::Unknown => f.write_str("an unknown C library"),
        }
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.libc(), &self.payload) {
            // The bootstrap alone says less than the whole needs, and people look at it with ldd.
            (Some(libc), Some(_)) if libc != self.program => {
                write!(f, "{libc} (payload; bootstrap: {})", self.program)?;
            }
            (Some(libc), _) => write!(f, "{libc}")?,
            (None, payload) => {
                write!(f, "{}", self.program)?;
                if let Some(payload) = payload {
                    write!(f, ", payload needs {payload}")?;
                }
            }
        }
        self.libraries.iter().try_for_each(|library| write!(f, ", {library}"))
    }
}
