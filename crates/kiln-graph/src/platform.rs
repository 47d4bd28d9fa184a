//! Platforms as OCI spells them (`linux/arm64`, `linux/arm/v7`), and what is known about each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A processor architecture that kiln can build for.
///
/// `arm/v6` and `arm/v7` are architectures of their own here: they differ in ABI, name and images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// x86_64.
    Amd64,
    /// 32-bit x86, called i686 in artifact names.
    I386,
    /// 64-bit ARM (aarch64).
    Arm64,
    /// 32-bit ARM with hardware floating point, v7.
    ArmV7,
    /// 32-bit ARM, v6.
    ArmV6,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit PowerPC, little-endian.
    Ppc64le,
    /// IBM Z.
    S390x,
}

/// Byte order of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// What the header of an ELF file of an architecture says. Source: the ELF gABI and the processor supplements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElfIdentity {
    /// `EI_CLASS`: 32 or 64 bits.
    pub bits: u8,
    /// `EI_DATA`.
    pub endian: Endian,
    /// `e_machine`.
    pub machine: u16,
}

impl Arch {
    /// Every architecture, in the order in which they are listed to people.
    pub const ALL: [Self; 8] =
        [Self::Amd64, Self::I386, Self::Arm64, Self::ArmV7, Self::ArmV6, Self::Riscv64, Self::Ppc64le, Self::S390x];

    /// The OCI architecture and variant.
    pub fn oci(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Amd64 => ("amd64", None),
            Self::I386 => ("386", None),
            Self::Arm64 => ("arm64", None),
            Self::ArmV7 => ("arm", Some("v7")),
            Self::ArmV6 => ("arm", Some("v6")),
            Self::Riscv64 => ("riscv64", None),
            Self::Ppc64le => ("ppc64le", None),
            Self::S390x => ("s390x", None),
        }
    }

    /// The name used in artifact file names: `x86_64`, `i686`, `arm64`, `armv7`, `riscv64`, ...
    pub fn artifact_name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::I386 => "i686",
            Self::Arm64 => "arm64",
            Self::ArmV7 => "armv7",
            Self::ArmV6 => "armv6",
            Self::Riscv64 => "riscv64",
            Self::Ppc64le => "ppc64le",
            Self::S390x => "s390x",
        }
    }

    /// What `uname -m` says on such a machine; also the architecture part of a GNU triplet.
    pub fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::I386 => "i686",
            Self::Arm64 => "aarch64",
            Self::ArmV7 => "armv7l",
            Self::ArmV6 => "armv6l",
            Self::Riscv64 => "riscv64",
            Self::Ppc64le => "ppc64le",
            Self::S390x => "s390x",
        }
    }

    /// The name QEMU gives its user-mode emulator: `qemu-NAME`. `arm/v6` and `arm/v7` share one.
    pub fn qemu_name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::I386 => "i386",
            Self::Arm64 => "aarch64",
            Self::ArmV7 | Self::ArmV6 => "arm",
            Self::Riscv64 => "riscv64",
            Self::Ppc64le => "ppc64le",
            Self::S390x => "s390x",
        }
    }

    /// Debian's name of the architecture.
    pub fn debian_name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::I386 => "i386",
            Self::Arm64 => "arm64",
            Self::ArmV7 => "armhf",
            Self::ArmV6 => "armel",
            Self::Riscv64 => "riscv64",
            Self::Ppc64le => "ppc64el",
            Self::S390x => "s390x",
        }
    }

    /// What an ELF file of this architecture says of itself.
    pub fn elf(self) -> ElfIdentity {
        let (bits, endian, machine) = match self {
            Self::Amd64 => (64, Endian::Little, 62),
            Self::I386 => (32, Endian::Little, 3),
            Self::Arm64 => (64, Endian::Little, 183),
            Self::ArmV7 | Self::ArmV6 => (32, Endian::Little, 40),
            Self::Riscv64 => (64, Endian::Little, 243),
            Self::Ppc64le => (64, Endian::Little, 21),
            Self::S390x => (64, Endian::Big, 22),
        };
        ElfIdentity { bits, endian, machine }
    }

    /// Whether a kernel of architecture `host` runs our programs without an emulator by the instruction set alone.
    ///
    /// Some arm64 processors lack the 32-bit mode, so the answer for arm on arm64 is only "may"; the probe decides.
    pub fn may_run_on(self, host: Self) -> bool {
        self == host
            || matches!((self, host), (Self::I386, Self::Amd64) | (Self::ArmV7 | Self::ArmV6, Self::Arm64))
            || matches!((self, host), (Self::ArmV6, Self::ArmV7))
    }

    /// The architecture that a daemon or a `uname -m` calls by this name.
    pub fn from_machine(name: &str) -> Option<Self> {
        Some(match name {
            "x86_64" | "amd64" => Self::Amd64,
            "i386" | "i486" | "i586" | "i686" | "386" => Self::I386,
            "aarch64" | "arm64" => Self::Arm64,
            "armv7l" | "armv7" | "armhf" | "arm" => Self::ArmV7,
            "armv6l" | "armv6" | "armel" => Self::ArmV6,
            "riscv64" => Self::Riscv64,
            "ppc64le" | "ppc64el" => Self::Ppc64le,
            "s390x" => Self::S390x,
            _ => return None,
        })
    }
}

/// An operating system and architecture to build for. Only Linux: kiln's containers are Linux containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// The processor architecture.
    pub arch: Arch,
}

/// A text that names no platform kiln knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown platform `{given}`{}", suggestion.as_ref().map(|s| format!(" (did you mean `{s}`?)")).unwrap_or_default())]
pub struct PlatformError {
    /// The text as it was given.
    pub given: String,
    /// The known platform that it most resembles.
    pub suggestion: Option<String>,
}

impl PlatformError {
    /// A sentence that says what is allowed.
    pub fn hint(&self) -> String {
        let known: Vec<String> = Platform::all().map(|p| p.to_string()).collect();
        format!("kiln builds for {}", known.join(", "))
    }
}

impl Platform {
    /// `linux/ARCH`.
    pub const fn linux(arch: Arch) -> Self {
        Self { arch }
    }

    /// Every platform kiln knows.
    pub fn all() -> impl Iterator<Item = Self> {
        Arch::ALL.into_iter().map(Self::linux)
    }

    /// The operating system: always `linux`.
    pub fn os(self) -> &'static str {
        "linux"
    }

    /// The folder that buildx writes a platform's files to when there are several: `linux_arm64`, `linux_arm_v7`.
    pub fn folder(self) -> String {
        self.to_string().replace('/', "_")
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (arch, variant) = self.arch.oci();
        write!(f, "linux/{arch}")?;
        variant.map_or(Ok(()), |v| write!(f, "/{v}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/arch[/variant]`, or an architecture alone in any of its usual spellings, as containerd's
    /// `platforms.Parse` does (`arm64`, `linux/arm64/v8`, `linux/x86_64`, `linux/arm`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || PlatformError { given: text.to_owned(), suggestion: suggest(text) };
        let lower = text.trim().to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let (arch, variant) = match parts.as_slice() {
            [arch] | ["linux", arch] => (*arch, None),
            ["linux", arch, variant] => (*arch, Some(*variant)),
            _ => return Err(unknown()),
        };
        let arch = Arch::from_machine(arch).ok_or_else(unknown)?;
        let arch = match (arch, variant) {
            (arch, None) => arch,
            (Arch::Amd64, Some("v1")) | (Arch::Arm64, Some("v8")) => arch,
            (Arch::ArmV7, Some("v7")) => Arch::ArmV7,
            (Arch::ArmV7, Some("v6")) => Arch::ArmV6,
            _ => return Err(unknown()),
        };
        Ok(Self { arch })
    }
}

/// The known platform with the smallest edit distance, if it is near enough to be a slip of the finger.
fn suggest(text: &str) -> Option<String> {
    Platform::all()
        .map(|p| p.to_string())
        .chain(Arch::ALL.iter().map(|a| a.artifact_name().to_owned()))
        .map(|known| {
            let distance = distance(&known, text).min(distance(known.trim_start_matches("linux/"), text));
            (distance, known.len().abs_diff(text.len()), known)
        })
        .min()
        .filter(|(distance, ..)| *distance <= 2)
        .map(|(.., known)| known)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_reads_back_what_it_prints() {
        for platform in Platform::all() {
            assert_eq!(platform.to_string().parse(), Ok(platform));
        }
    }

    #[test]
    fn usual_spellings_mean_the_same() {
        for (text, arch) in [
            ("linux/x86_64", Arch::Amd64),
            ("amd64", Arch::Amd64),
            ("linux/i386", Arch::I386),
            ("linux/arm64/v8", Arch::Arm64),
            ("LINUX/AARCH64", Arch::Arm64),
            ("linux/arm", Arch::ArmV7),
            ("linux/arm/v6", Arch::ArmV6),
        ] {
            assert_eq!(text.parse(), Ok(Platform::linux(arch)), "{text}");
        }
    }

    #[test]
    fn a_wrong_platform_is_named_with_a_suggestion() {
        let error = "linux/arm46".parse::<Platform>().unwrap_err();
        assert_eq!(error.to_string(), "unknown platform `linux/arm46` (did you mean `linux/arm64`?)");
        for text in ["windows/amd64", "linux/amd64/v9/x", "linux/arm64/v7", "", "linux/"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
