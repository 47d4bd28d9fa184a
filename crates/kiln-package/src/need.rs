//! What a program needs of the system that it is installed on, as package managers ask for it.

use std::collections::{BTreeMap, BTreeSet};
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

    /// Debian's words. Only of usual libraries is it known which package they are in.
    pub(crate) fn deb(&self) -> Vec<String> {
        let libc = match &self.libc {
            LibcKind::Glibc { floor: Some(floor) } => Some(format!("libc6 (>= {floor})")),
            LibcKind::Glibc { floor: None } => Some("libc6".to_owned()),
            _ => None,
        };
        let others: BTreeSet<&str> = self.libraries.iter().filter_map(|library| debian_package(library)).collect();
        libc.into_iter().chain(others.into_iter().map(str::to_owned)).collect()
    }

    /// The libraries of which nobody knows Debian's package.
    pub fn unknown_to_debian(&self) -> impl Iterator<Item = &str> {
        self.libraries.iter().map(String::as_str).filter(|library| debian_package(library).is_none())
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

/// The package of a library in Debian and Ubuntu; where a newer release has renamed it, that one still provides the name.
fn debian_package(library: &str) -> Option<&'static str> {
    const PACKAGES: [(&str, &str); 22] = [
        ("libGL.so.1", "libgl1"),
        ("libX11.so.6", "libx11-6"),
        ("libbz2.so.1.0", "libbz2-1.0"),
        ("libcrypt.so.1", "libcrypt1"),
        ("libcrypto.so.3", "libssl3"),
        ("libexpat.so.1", "libexpat1"),
        ("libffi.so.8", "libffi8"),
        ("libfontconfig.so.1", "libfontconfig1"),
        ("libfreetype.so.6", "libfreetype6"),
        ("libgcc_s.so.1", "libgcc-s1"),
        ("libglib-2.0.so.0", "libglib2.0-0"),
        ("libgomp.so.1", "libgomp1"),
        ("liblzma.so.5", "liblzma5"),
        ("libncursesw.so.6", "libncursesw6"),
        ("libreadline.so.8", "libreadline8"),
        ("libsqlite3.so.0", "libsqlite3-0"),
        ("libssl.so.3", "libssl3"),
        ("libstdc++.so.6", "libstdc++6"),
        ("libtinfo.so.6", "libtinfo6"),
        ("libuuid.so.1", "libuuid1"),
        ("libxcb.so.1", "libxcb1"),
        ("libz.so.1", "zlib1g"),
    ];
    PACKAGES.iter().find(|(name, _)| *name == library).map(|(_, package)| *package)
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
        assert_eq!(need.deb(), ["libc6 (>= 2.34)", "zlib1g"]);
        assert_eq!(need.unknown_to_debian().next(), None);
        let odd = Need { libraries: vec!["libodd.so.3".to_owned()], ..need.clone() };
        assert_eq!(
            (odd.deb(), odd.unknown_to_debian().collect()),
            (vec!["libc6 (>= 2.34)".to_owned()], vec!["libodd.so.3"])
        );
        assert_eq!(need.rpm(Arch::Arm64), ["libc.so.6(GLIBC_2.34)(64bit)", "libz.so.1()(64bit)"]);
        assert_eq!(need.rpm(Arch::I386), ["libc.so.6(GLIBC_2.34)", "libz.so.1"]);
        let musl = Need { libc: LibcKind::Musl, symbols: BTreeMap::new(), libraries: Vec::new() };
        assert_eq!((musl.deb(), musl.apk(Arch::I386)), (vec![], vec!["so:libc.musl-x86.so.1".to_owned()]));
    }
}
