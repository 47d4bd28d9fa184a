//! Names of what a store keeps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The BLAKE3 digest of some bytes, spelled as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentId([u8; 32]);

/// The name of a pack: the digest of its bytes.
pub type PackId = ContentId;

impl ContentId {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest that a hasher has come to.
    pub fn finish(hasher: &blake3::Hasher) -> Self {
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no digest of 64 hexadecimal digits")]
pub struct NoDigest(String);

impl FromStr for ContentId {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let bad = || NoDigest(text.to_owned());
        // Upper case would give two names to one thing.
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for ContentId {
    type Error = NoDigest;

    fn try_from(text: String) -> Result<Self, NoDigest> {
        text.parse()
    }
}

impl From<ContentId> for String {
    fn from(id: ContentId) -> Self {
        id.to_string()
    }
}

/// What snapshots stand for, as a path of plain parts: `hello/main/volume/kiln-cache-ccache-x86_64-0a1b`.
///
/// A part has letters, digits, `.`, `-` and `_` alone, so that it can be part of a file name, an object key, a tag or the
/// key of GitHub's cache. What else was in a name is told apart by a digest behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Series(Vec<String>);

/// Characters of a part at most.
const MOST_IN_PART: usize = 80;

impl Series {
    /// A series of these parts.
    pub fn new<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(parts.into_iter().map(plain).collect())
    }

    /// The parts.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// A short name that is as good as unique: for stores whose names are short.
    pub fn short(&self) -> String {
        ContentId::of(self.to_string().as_bytes()).to_string()[..32].to_owned()
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

fn plain(part: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    // `..`, hidden files and names of the store's own (`=...`) are no parts.
    let is_fine = !part.is_empty() && !part.starts_with('.') && part.chars().all(is_plain);
    if is_fine && part.len() <= MOST_IN_PART {
        return part.to_owned();
    }
    let readable: String = part.chars().map(|c| if is_plain(c) { c } else { '_' }).take(MOST_IN_PART - 20).collect();
    let digest = &ContentId::of(part.as_bytes()).to_string()[..12];
    format!("{}-{digest}", readable.trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_spelled_one_way() {
        let id = ContentId::of(b"kiln");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "abc", &id.to_string().to_uppercase(), &format!("{id}0"), &"g".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<ContentId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_are_plain_and_tell_apart() {
        let series = |part: &str| Series::new(["a", part]).to_string();
        assert_eq!(series("main"), "a/main");
        for odd in ["", "..", ".git", "feature/x", "feature_x/", "ö", &"x".repeat(300), "a b"] {
            let text = series(odd);
            let part = text.strip_prefix("a/").expect("two parts");
            assert!(!part.is_empty() && !part.contains('/') && !part.starts_with('.') && part.len() <= 80, "{text}");
        }
        assert_ne!(series("feature/x"), series("feature x"));
        assert_ne!(series("feature/x"), series("feature_x"));
    }
}
