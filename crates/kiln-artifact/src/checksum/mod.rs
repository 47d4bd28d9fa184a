//! SHA-256 of files, and the `SHA256SUMS` beside them.
//!
//! Hashing streams in constant memory and uses the processor's instructions where there are any (`sha2` asks at run
//! time). The list has the format of coreutils' `sha256sum`, so that `sha256sum -c SHA256SUMS` checks it.

mod sums;

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fs_err::File;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest;

pub use self::sums::{Mismatch, Sums, Update};
use crate::place::PlaceError;

/// The name of the list.
pub const SUMS_NAME: &str = "SHA256SUMS";
/// Bytes hashed at once.
const BLOCK: usize = 256 << 10;

/// A SHA-256 digest, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

/// Why a sum could not be made, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChecksumError {
    /// A file could not be read; the source names it.
    #[error("could not checksum files in `{}`", folder.display())]
    Io {
        /// The folder of the list.
        folder: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The list could not be written.
    #[error("could not write the checksums")]
    Place(#[from] PlaceError),
    /// A line of a list is not in the format.
    #[error("line {line} of the checksums is not `HASH  NAME`")]
    Malformed {
        /// Its number, from 1.
        line: usize,
    },
    /// Two lines give one name different sums.
    #[error("line {line} of the checksums contradicts an earlier one about `{name}`")]
    Contradiction {
        /// The number of the second, from 1.
        line: usize,
        /// The name.
        name: String,
    },
}

impl ChecksumError {
    /// What may help, if anything is known to.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Place(error) => error.hint(),
            Self::Io { .. } => None,
            Self::Malformed { .. } | Self::Contradiction { .. } => Some("remove the list and build again to renew it"),
        }
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 of 64 hexadecimal digits")]
pub struct Sha256Error(pub String);

/// Hashes what is given to it piece by piece.
#[derive(Clone, Default)]
pub struct Sha256Hasher(sha2::Sha256);

impl Sha256Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

/// The digest of the file at `path`. The error names the file.
pub fn sha256_file(path: &Path) -> io::Result<Sha256> {
    sha256_reader(&mut File::open(path)?)
}

/// The digest of all that `reader` has left.
pub fn sha256_reader(reader: &mut impl Read) -> io::Result<Sha256> {
    let mut hasher = Sha256Hasher::default();
    let mut block = vec![0; BLOCK];
    loop {
        match reader.read(&mut block) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&block[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hashes `files`, which lie below `folder`, and merges their sums into its list as [`Sums::update`] does. A file whose
/// sum is known already (`place::ExtractedFile` has it) is better given to [`Sums::insert`].
pub fn update(folder: &Path, files: &[impl AsRef<Path>]) -> Result<Update, ChecksumError> {
    let failed = |source| ChecksumError::Io { folder: folder.to_owned(), source };
    let mut sums = Sums::new();
    for file in files.iter().map(AsRef::as_ref) {
        let name = file.strip_prefix(folder).unwrap_or(file);
        sums.insert(name.to_string_lossy(), sha256_file(&folder.join(name)).map_err(failed)?);
    }
    sums.update(folder)
}

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(sha2::Sha256::digest(bytes.as_ref()).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits: enough for screens.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = Sha256Error;

    /// Reads digits of either case, as `sha256sum -c` does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || Sha256Error(text.to_owned());
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_abc_is_that_of_the_standard() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::of("abc").to_string(), abc);
        assert_eq!(abc.to_uppercase().parse(), Ok(Sha256::of("abc")));
        let long = vec![7; 3 * BLOCK + 5];
        assert_eq!(sha256_reader(&mut long.as_slice()).unwrap(), Sha256::of(&long));
        for text in ["", "abc", &"g".repeat(64), &"é".repeat(32), &format!("+{}", &abc[1..])] {
            assert!(text.parse::<Sha256>().is_err(), "{text}");
        }
    }
}
