//! The formats of packages.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A format of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// A tar archive in gzip.
    TarGz,
    /// A tar archive in xz.
    TarXz,
    /// A tar archive in zstd.
    TarZst,
    /// A zip archive.
    Zip,
    /// A package for Debian and what comes from it.
    Deb,
    /// A package for Fedora, RHEL, openSUSE and their like.
    Rpm,
    /// A package for Alpine.
    Apk,
}

impl Format {
    /// Every format, in the order in which they are listed to people.
    pub const ALL: [Self; 7] = [Self::TarGz, Self::TarXz, Self::TarZst, Self::Zip, Self::Deb, Self::Rpm, Self::Apk];

    /// The name, which is also how files of it end.
    pub fn name(self) -> &'static str {
        match self {
            Self::TarGz => "tar.gz",
            Self::TarXz => "tar.xz",
            Self::TarZst => "tar.zst",
            Self::Zip => "zip",
            Self::Deb => "deb",
            Self::Rpm => "rpm",
            Self::Apk => "apk",
        }
    }

    /// Whether it is an archive, rather than a package of a distribution.
    pub fn is_archive(self) -> bool {
        matches!(self, Self::TarGz | Self::TarXz | Self::TarZst | Self::Zip)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or(())
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
