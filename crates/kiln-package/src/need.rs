//! What a program needs of the system that it is installed on, as package managers ask for it.

use std::collections::BTreeMap;
use std::fmt;

use kiln_artifact::check::{Inspection, LibcNeed, Needs};
use kiln_artifact::elf::{ElfFacts, GlibcVersion};
use kiln_graph::Arch;
use serde::Serialize;

use crate::arch;

/// What a program needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its C library.
    pub libc: LibcKind,
    /// The newest symbol version that it requires of each library of glibc: `libc.so.6` and `GLIBC_2.34`.
    pub symbols: BTreeMap<String, String>,
    /// Libraries that are neither in it nor of the C library.
    pub libraries: Vec<String>,
}

/// The C library of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LibcKind {
    /// None.
    Static,
    /// glibc.
    Glibc {
        /// The oldest that will do, if a symbol tells.
        floor: Option<GlibcVersion>,
    },
    /// musl.
    Musl,
    /// Parts of it need different ones.
    Mixed,
}

impl fmt::Display for LibcKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glibc { floor: Some(floor) } => write!(f, "glibc {floor}"),
            other => f.write_str(other.family()),
        }
    }
}

impl LibcKind {
    /// Its name alone.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Static => "no C library",
            Self::Glibc { .. } => "glibc",
            Self::Musl => "musl",
            Self::Mixed => "two different C libraries",
        }
    }
}

impl Need {
    /// Reads it off what was found in the program, and in its payload if it has one.
    pub fn of(inspection: &Inspection) -> Self {
        let needs = Needs::of(inspection);
        let libc = match needs.libc() {
            Some(LibcNeed::Nothing | LibcNeed::Unknown) => LibcKind::Static,
            Some(LibcNeed::Glibc { floor }) => LibcKind::Glibc { floor },
            Some(LibcNeed::Musl { .. }) => LibcKind::Musl,
            None => LibcKind::Mixed,
        };
        let files = inspection.elf().into_iter().chain(inspection.contained().filter_map(|file| file.elf()));
        Self { libc, symbols: symbols(files), libraries: needs.libraries }
    }

    /// Debian's words. Libraries beside glibc have no names there that could be told from the file.
    pub(crate) fn deb(&self) -> Vec<String> {
        match &self.libc {
            LibcKind::Glibc { floor: Some(floor) } => vec![format!("libc6 (>= {floor})")],
            LibcKind::Glibc { floor: None } => vec!["libc6".to_owned()],
            _ => Vec::new(),
        }
    }

    /// The capabilities that rpm's own generator would ask for, of each library the newest version alone.
    pub(crate) fn rpm(&self, arch: Arch) -> Vec<String> {
        let bits = if arch.elf().bits == 64 { "(64bit)" } else { "" };
        let symbols = self.symbols.iter().map(|(library, version)| format!("{library}({version}){bits}"));
        let libraries = self
            .libraries
            .iter()
            .map(|library| if bits.is_empty() { library.clone() } else { format!("{library}(){bits}") });
        symbols.chain(libraries).collect()
    }

    /// Alpine's names of libraries.
    pub(crate) fn apk(&self, arch: Arch) -> Vec<String> {
        let libc = (self.libc == LibcKind::Musl).then(|| format!("so:libc.musl-{}.so.1", arch::apk(arch)));
        libc.into_iter().chain(self.libraries.iter().map(|library| format!("so:{library}"))).collect()
    }
}

/// Of each library of glibc the newest version that a symbol insists on.
fn symbols<'a>(files: impl Iterator<Item = &'a ElfFacts>) -> BTreeMap<String, String> {
    let mut newest: BTreeMap<String, (GlibcVersion, String)> = BTreeMap::new();
    for need in files.flat_map(|facts| &facts.versions).filter(|need| !need.weak) {
        // `GLIBC_PRIVATE` and `GLIBC_ABI_...` have no number; of the latter the floor of the C library knows.
        let Some(version) = need.version.strip_prefix("GLIBC_").and_then(|number| number.parse().ok()) else {
            continue;
        };
        let found = newest.entry(need.library.clone()).or_insert_with(|| (version, need.version.clone()));
        if version > found.0 {
            *found = (version, need.version.clone());
        }
    }
    newest.into_iter().map(|(library, (_, version))| (library, version)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_package_manager_is_asked_in_its_own_words() {
        let need = Need {
            libc: LibcKind::Glibc { floor: Some(GlibcVersion::new(2, 34)) },
            symbols: [("libc.so.6".to_owned(), "GLIBC_2.34".to_owned())].into(),
            libraries: vec!["libz.so.1".to_owned()],
        };
        assert_eq!(need.deb(), ["libc6 (>= 2.34)"]);
        assert_eq!(need.rpm(Arch::Arm64), ["libc.so.6(GLIBC_2.34)(64bit)", "libz.so.1()(64bit)"]);
        assert_eq!(need.rpm(Arch::I386), ["libc.so.6(GLIBC_2.34)", "libz.so.1"]);
        let musl = Need { libc: LibcKind::Musl, symbols: BTreeMap::new(), libraries: Vec::new() };
        assert_eq!((musl.deb(), musl.apk(Arch::I386)), (vec![], vec!["so:libc.musl-x86.so.1".to_owned()]));
    }
}
