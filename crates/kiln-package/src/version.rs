//! Versions, and the words that the formats have for them: a pre-release must come before its release everywhere.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::error::PackageError;
use crate::format::Format;

/// A version as PEP 440 has it, in any of the spellings that it allows; those of semantic versions are among them.
/// Source: <https://packaging.python.org/en/latest/specifications/version-specifiers/>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    text: String,
    epoch: u32,
    release: String,
    pre: Option<(Pre, u64)>,
    post: Option<u64>,
    dev: Option<u64>,
    local: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pre {
    Alpha,
    Beta,
    Candidate,
}

impl Pre {
    /// The word for it that sorts rightly in all formats.
    fn word(self) -> &'static str {
        match self {
            Self::Alpha => "alpha",
            Self::Beta => "beta",
            Self::Candidate => "rc",
        }
    }
}

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version that package managers can put in order")]
pub struct VersionError(pub String);

impl VersionError {
    /// What is allowed.
    pub fn hint(&self) -> String {
        "write it as 1.2.3, 1.2.3rc1 (or 1.2.3-rc.1), 1.2.3.post1 or 1.2.3.dev4, and what is local after a `+`"
            .to_owned()
    }
}

impl Version {
    /// The version as it was given, without a leading `v`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it comes before a release.
    pub fn is_prerelease(&self) -> bool {
        self.pre.is_some() || self.dev.is_some()
    }

    /// Whether both are the same, however they are spelled.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.deb(false) == other.deb(false)
    }

    /// Debian's, without its revision: `~` sorts before everything, even the end. Source: Debian Policy, section 5.6.12.
    pub(crate) fn deb(&self, without_epoch: bool) -> String {
        let epoch = if self.epoch == 0 || without_epoch { String::new() } else { format!("{}:", self.epoch) };
        format!("{epoch}{}", self.ordered("+post"))
    }

    /// RPM's, without epoch and release. It has had the same `~` as Debian since 4.10.
    pub(crate) fn rpm(&self) -> String {
        self.ordered(".post")
    }

    /// RPM's epoch.
    pub(crate) fn epoch(&self) -> Option<u32> {
        Some(self.epoch).filter(|epoch| *epoch > 0)
    }

    fn ordered(&self, post_word: &str) -> String {
        let mut text = self.release.clone();
        if let Some((pre, number)) = self.pre {
            let _ = write!(text, "~{}{number}", pre.word());
        }
        if let Some(number) = self.post {
            let _ = write!(text, "{post_word}{number}");
        }
        if let Some(number) = self.dev {
            // Of a release, before its alphas too: hence twice.
            let mark = if self.pre.is_none() && self.post.is_none() { "~~" } else { "~" };
            let _ = write!(text, "{mark}dev{number}");
        }
        if let Some(local) = &self.local {
            let _ = write!(text, "+{local}");
        }
        text
    }

    /// Alpine's, without its revision. Source: `apk_version_validate` of apk-tools.
    ///
    /// Errors: it has an epoch or a local part, for which there are no words.
    pub(crate) fn apk(&self) -> Result<String, PackageError> {
        let wrong = |reason| PackageError::Version { format: Format::Apk, version: self.text.clone(), reason };
        if self.epoch > 0 {
            return Err(wrong("Alpine has no epochs"));
        }
        if self.local.is_some() {
            return Err(wrong("Alpine has no words for what follows the `+`"));
        }
        let mut text = self.release.clone();
        match self.pre {
            Some((pre, number)) => {
                let _ = write!(text, "_{}{number}", pre.word());
            }
            // Before the first alpha.
            None if self.dev.is_some() && self.post.is_none() => text.push_str("_alpha0"),
            None => {}
        }
        if let Some(number) = self.post {
            let _ = write!(text, "_p{number}");
        }
        if let Some(number) = self.dev {
            let _ = write!(text, "_pre{number}");
        }
        Ok(text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || VersionError(text.to_owned());
        let plain = text.trim().trim_start_matches(['v', 'V']);
        let lower = plain.to_ascii_lowercase();
        let (public, local) = match lower.split_once('+') {
            Some((public, local)) => (public, Some(local.replace(['-', '_'], "."))),
            None => (lower.as_str(), None),
        };
        if let Some(local) = &local
            && !local.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
        {
            return Err(error());
        }
        let (epoch, mut rest) = match public.split_once('!') {
            Some((epoch, rest)) => (epoch.parse().map_err(|_| error())?, rest),
            None => (0, public),
        };
        let length = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let release = rest[..length].trim_end_matches('.');
        if release.is_empty() || !release.split('.').all(|part| !part.is_empty() && part.len() < 19) {
            return Err(error());
        }
        rest = &rest[release.len()..];
        let pre = [
            ("alpha", Pre::Alpha),
            ("beta", Pre::Beta),
            ("preview", Pre::Candidate),
            ("pre", Pre::Candidate),
            ("rc", Pre::Candidate),
            ("a", Pre::Alpha),
            ("b", Pre::Beta),
            ("c", Pre::Candidate),
        ]
        .into_iter()
        .find_map(|(word, kind)| Some((kind, part(&mut rest, word)?)));
        let post = ["post", "rev", "r"].into_iter().find_map(|word| part(&mut rest, word));
        // `1.0-1` is another spelling of `1.0.post1`.
        let post = post.or_else(|| {
            let digits = rest.strip_prefix('-')?;
            let length = digits.bytes().take_while(u8::is_ascii_digit).count();
            let number = digits[..length].parse().ok()?;
            rest = &digits[length..];
            Some(number)
        });
        let dev = part(&mut rest, "dev");
        if !rest.is_empty() {
            return Err(error());
        }
        Ok(Self { text: plain.to_owned(), epoch, release: release.to_owned(), pre, post, dev, local })
    }
}

/// Takes a word with its number off the front, if it is there: a separator, the word, a separator, digits.
fn part(rest: &mut &str, word: &str) -> Option<u64> {
    let separators = ['.', '-', '_'];
    let after = rest.strip_prefix(separators).unwrap_or(rest).strip_prefix(word)?;
    let digits = after.strip_prefix(separators).unwrap_or(after);
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        // A longer word, such as `release`, is no `r`.
        let is_end = !after.starts_with(|c: char| c.is_ascii_alphanumeric());
        return is_end.then(|| {
            *rest = after;
            0
        });
    }
    let number = digits[..length].parse().ok()?;
    *rest = &digits[length..];
    Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn each_format_has_its_own_words() {
        for (given, deb, rpm, apk) in [
            ("1.2.3", "1.2.3", "1.2.3", "1.2.3"),
            ("v1.2", "1.2", "1.2", "1.2"),
            ("1.2.3rc1", "1.2.3~rc1", "1.2.3~rc1", "1.2.3_rc1"),
            ("1.2.3-rc.1", "1.2.3~rc1", "1.2.3~rc1", "1.2.3_rc1"),
            ("1.2.3-alpha", "1.2.3~alpha0", "1.2.3~alpha0", "1.2.3_alpha0"),
            ("1.2b2.dev3", "1.2~beta2~dev3", "1.2~beta2~dev3", "1.2_beta2_pre3"),
            ("2024.11.dev5", "2024.11~~dev5", "2024.11~~dev5", "2024.11_alpha0_pre5"),
            ("1.0.post2", "1.0+post2", "1.0.post2", "1.0_p2"),
            ("1.0-2", "1.0+post2", "1.0.post2", "1.0_p2"),
            ("1.0_REV3.dev1", "1.0+post3~dev1", "1.0.post3~dev1", "1.0_p3_pre1"),
        ] {
            let version = version(given);
            assert_eq!((version.deb(false).as_str(), version.rpm().as_str()), (deb, rpm), "{given}");
            assert_eq!(version.apk().unwrap(), apk, "{given}");
        }
        let local = version("1!1.0+ubuntu-1");
        assert_eq!((local.deb(false), local.deb(true)), ("1:1.0+ubuntu.1".to_owned(), "1.0+ubuntu.1".to_owned()));
        assert_eq!((local.rpm(), local.epoch()), ("1.0+ubuntu.1".to_owned(), Some(1)));
        let error = version("1.0+g12").apk().unwrap_err().to_string();
        assert!(error.starts_with("`1.0+g12` is no version for apk packages"), "{error}");
    }

    #[test]
    fn versions_say_whether_they_are_to_be_tried_out() {
        for text in ["1.0rc1", "1.0-beta.2", "2.0a3", "1.0.dev4", "1.0-alpha"] {
            assert!(version(text).is_prerelease(), "{text}");
        }
        for text in ["1.0", "1.0.post1", "2024.1", "1.0+alpha"] {
            assert!(!version(text).is_prerelease(), "{text}");
        }
    }

    #[test]
    fn spellings_of_a_version_are_the_same() {
        for (one, other) in [("1.0-RC.1", "1.0rc1"), ("1.0.dev3", "1.0dev3"), ("v1.0-1", "1.0.post1")] {
            assert!(version(one).is_same_as(&version(other)), "{one}, {other}");
        }
        for (one, other) in [("1.0rc1", "1.0"), ("1.0rc1", "1.0rc2"), ("1.0", "1.0+local"), ("1!1.0", "1.0")] {
            assert!(!version(one).is_same_as(&version(other)), "{one}, {other}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in
            ["", "v", "nightly", "1.2.x", "1.2.3-release", "1..2", "1.2.", "1.2+", "1.2+a..b", "1.2-3-gabc", "x!1"]
        {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}", near in "[v]?[0-9.]{0,6}[a-z.-]{0,6}[0-9]{0,25}[+a-z.]{0,4}") {
            let _ = text.parse::<Version>();
            if let Ok(version) = near.parse::<Version>() {
                let mapped = version.deb(false);
                let fits = mapped.starts_with(|c: char| c.is_ascii_digit())
                    && mapped.chars().all(|c| c.is_ascii_alphanumeric() || ".+~:".contains(c));
                prop_assert!(fits, "{mapped}");
            }
        }
    }
}
