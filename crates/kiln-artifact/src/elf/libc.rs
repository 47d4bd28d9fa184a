//! Which C library a file is made for, and how new it has to be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ElfFacts, VersionNeed};

/// A version of glibc, ordered as versions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GlibcVersion {
    /// Always 2 so far.
    pub major: u32,
    /// `36` of `2.36`.
    pub minor: u32,
    /// `5` of `2.2.5`; 0 where there is none.
    pub patch: u32,
}

/// A text that is no version of glibc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a glibc version such as 2.28")]
pub struct GlibcVersionError(pub String);

impl GlibcVersion {
    /// `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: 0 }
    }
}

impl fmt::Display for GlibcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch == 0 { Ok(()) } else { write!(f, ".{}", self.patch) }
    }
}

impl FromStr for GlibcVersion {
    type Err = GlibcVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || GlibcVersionError(text.to_owned());
        let mut numbers = text.split('.').map(|part| part.parse::<u32>().map_err(|_| error()));
        let version = Self {
            major: numbers.next().ok_or_else(error)??,
            minor: numbers.next().ok_or_else(error)??,
            patch: numbers.next().unwrap_or(Ok(0))?,
        };
        if numbers.next().is_some() { Err(error()) } else { Ok(version) }
    }
}

impl Serialize for GlibcVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GlibcVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The C library that a file is made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Libc {
    /// The GNU C library, at least of this version.
    Glibc {
        /// The highest version among the required symbols, if any symbol has one.
        floor: Option<GlibcVersion>,
    },
    /// musl. It has no symbol versions.
    Musl,
    /// A program that needs none.
    Static,
    /// Nothing tells, as with a library that needs no other.
    Unknown,
}

impl Libc {
    /// Reads the family off the loader, the needed libraries and the symbol versions.
    pub(super) fn of(facts: &ElfFacts) -> Self {
        let loader = facts.interpreter.as_deref().map(file_name);
        let musl = loader.is_some_and(is_musl_loader) || facts.needed.iter().any(|name| is_musl_library(name));
        if musl {
            return Self::Musl;
        }
        let floor = floor(&facts.versions);
        let glibc = floor.is_some()
            || loader.is_some_and(is_glibc_loader)
            || facts.needed.iter().any(|name| is_glibc_library(name) || is_glibc_loader(name));
        if glibc {
            Self::Glibc { floor }
        } else if facts.is_program() && loader.is_none() && facts.needed.is_empty() {
            Self::Static
        } else {
            Self::Unknown
        }
    }
}

/// The highest glibc version that the loader insists on.
fn floor(versions: &[VersionNeed]) -> Option<GlibcVersion> {
    versions.iter().filter(|need| !need.weak).filter_map(|need| glibc_of(&need.version)).max()
}

/// The glibc that first had a symbol version. `GLIBC_ABI_DT_RELR` asks for a loader that knows packed relocations.
fn glibc_of(version: &str) -> Option<GlibcVersion> {
    match version.strip_prefix("GLIBC_")? {
        "ABI_DT_RELR" => Some(GlibcVersion::new(2, 36)),
        number => number.parse().ok(),
    }
}

/// The last component of a path.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `ld-musl-x86_64.so.1`. Source: musl's `configure`, `LDSO_PATHNAME`.
fn is_musl_loader(name: &str) -> bool {
    name.starts_with("ld-musl-")
}

/// `libc.musl-x86_64.so.1` is Alpine's name for the library, `libc.so` is upstream's.
fn is_musl_library(name: &str) -> bool {
    is_musl_loader(name) || name.starts_with("libc.musl-") || name == "libc.so"
}

/// `ld-linux*.so.N`, `ld64.so.N` (ppc64le, s390x), `ld.so.1`. Source: glibc's `shlib-versions`.
fn is_glibc_loader(name: &str) -> bool {
    name.starts_with("ld-linux") || name.starts_with("ld64.so.") || name == "ld.so.1"
}

/// The libraries that glibc itself consists of. Source: glibc's `shlib-versions`; `libcrypt` left it for libxcrypt.
fn is_glibc_library(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "libc.so.6",
        "libm.so.6",
        "libdl.so.2",
        "libpthread.so.0",
        "librt.so.1",
        "libutil.so.1",
        "libresolv.so.2",
        "libmvec.so.1",
    ];
    NAMES.contains(&name)
}

/// Whether a needed library comes with the C library rather than as a package of its own.
pub(crate) fn is_libc_library(name: &str) -> bool {
    is_glibc_library(name) || is_glibc_loader(name) || is_musl_library(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_as_numbers() {
        let version = |text: &str| text.parse::<GlibcVersion>().unwrap();
        assert!(version("2.9") < version("2.28"));
        assert!(version("2.2.5") < version("2.3"));
        assert_eq!(version("2.2.5").to_string(), "2.2.5");
        for text in ["", "2", "2.x", "2.3.4.5", "PRIVATE"] {
            assert!(text.parse::<GlibcVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn weak_versions_do_not_raise_the_floor() {
        let need = |version: &str, weak| VersionNeed { library: "libc.so.6".into(), version: version.into(), weak };
        let versions = [need("GLIBC_2.17", false), need("GLIBC_2.38", true), need("GCC_3.0", false)];
        assert_eq!(floor(&versions), Some(GlibcVersion::new(2, 17)));
        assert_eq!(floor(&[need("GLIBC_2.3", false), need("GLIBC_ABI_DT_RELR", false)]).unwrap().to_string(), "2.36");
    }
}
