//! The list of sums.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use fs_err::File;

use super::{ChecksumError, SUMS_NAME, Sha256, sha256_file};
use crate::place::write_atomically;

/// Names relative to the list's folder, and their sums, in order of names. Displays as the text of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    lines: BTreeMap<String, Sha256>,
}

/// What [`Sums::update`] did with the lines that were there before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Names whose lines were kept: their files are there and unchanged.
    pub kept: Vec<String>,
    /// Names whose lines were dropped: their files are gone or changed.
    pub dropped: Vec<String>,
    /// Names whose lines were dropped because they were not wanted any more.
    pub forgotten: Vec<String>,
    /// The list that was there could not be read as one and was replaced.
    pub was_malformed: bool,
}

/// A file that is not as its list says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Its name.
    pub name: String,
    /// Its sum according to the list.
    pub listed: Sha256,
    /// Its sum; `None` if it is gone.
    pub found: Option<Sha256>,
}

impl Sums {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a list. Source: coreutils manual, "cksum output modes": `HASH  NAME` or `HASH *NAME`; a line that starts
    /// with a backslash has `\\`, `\n` and `\r` in its name.
    pub fn parse(text: &str) -> Result<Self, ChecksumError> {
        let mut sums = Self::default();
        for (line, content) in (1..).zip(text.lines()) {
            let (sum, name) = parse_line(content).ok_or(ChecksumError::Malformed { line })?;
            if let Some(earlier) = sums.lines.insert(name.clone(), sum)
                && earlier != sum
            {
                return Err(ChecksumError::Contradiction { line, name });
            }
        }
        Ok(sums)
    }

    /// Adds or replaces a line. `name` is relative to the list's folder and has slashes.
    pub fn insert(&mut self, name: impl Into<String>, sum: Sha256) {
        self.lines.insert(name.into(), sum);
    }

    /// The sum of `name`.
    pub fn get(&self, name: &str) -> Option<Sha256> {
        self.lines.get(name).copied()
    }

    /// Names and sums in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Sha256)> {
        self.lines.iter().map(|(name, sum)| (name.as_str(), *sum))
    }

    /// Merges these sums into the list in `folder` and writes it, at once and durably, if that changes it.
    ///
    /// Lines that others wrote stay if their files are there and unchanged, so that building one platform keeps the
    /// others' lines. Two processes that update one list take turns.
    pub fn update(&self, folder: &Path) -> Result<Update, ChecksumError> {
        self.update_without(folder, |_| false)
    }

    /// As [`Sums::update`], and lines of others' files that `is_unwanted` are dropped.
    pub fn update_without(&self, folder: &Path, is_unwanted: impl Fn(&str) -> bool) -> Result<Update, ChecksumError> {
        let failed = |source| ChecksumError::Io { folder: folder.to_owned(), source };
        let lock = File::open(folder).map_err(failed)?;
        // A file system without locks leaves nothing better than to go on.
        let _ = lock.file().lock();
        let path = folder.join(SUMS_NAME);
        let before = read_optional(&path).map_err(failed)?.unwrap_or_default();
        let mut update = Update::default();
        let mut merged = self.clone();
        match Self::parse(&before) {
            Ok(old) => {
                for (name, sum) in old.lines.into_iter().filter(|(name, _)| !self.lines.contains_key(name)) {
                    if is_unwanted(&name) {
                        update.forgotten.push(name);
                    } else if sum_if_there(&folder.join(&name)).map_err(failed)? == Some(sum) {
                        merged.lines.insert(name.clone(), sum);
                        update.kept.push(name);
                    } else {
                        update.dropped.push(name);
                    }
                }
            }
            Err(_) => update.was_malformed = true,
        }
        let after = merged.to_string();
        if after != before {
            write_atomically(&path, 0o644, after.as_bytes())?;
        }
        Ok(update)
    }

    /// The files of `folder` that are not as this list says. Files without a line are not looked at.
    pub fn verify(&self, folder: &Path) -> Result<Vec<Mismatch>, ChecksumError> {
        let mut mismatches = Vec::new();
        for (name, listed) in &self.lines {
            let failed = |source| ChecksumError::Io { folder: folder.to_owned(), source };
            let found = sum_if_there(&folder.join(name)).map_err(failed)?;
            if found != Some(*listed) {
                mismatches.push(Mismatch { name: name.clone(), listed: *listed, found });
            }
        }
        Ok(mismatches)
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, sum) in &self.lines {
            let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
            let mark = if escaped == *name { "" } else { "\\" };
            writeln!(f, "{mark}{sum}  {escaped}")?;
        }
        Ok(())
    }
}

fn parse_line(line: &str) -> Option<(Sha256, String)> {
    let (line, is_escaped) = line.strip_prefix('\\').map_or((line, false), |line| (line, true));
    let (sum, rest) = line.split_at_checked(64)?;
    let name = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
    let name = if is_escaped { unescape(name)? } else { name.to_owned() };
    if name.is_empty() { None } else { Some((sum.parse().ok()?, name)) }
}

fn unescape(name: &str) -> Option<String> {
    let mut text = String::new();
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            character => character,
        });
    }
    Some(text)
}

fn sum_if_there(path: &Path) -> io::Result<Option<Sha256>> {
    match fs_err::metadata(path) {
        Ok(metadata) if metadata.is_file() => sha256_file(path).map(Some),
        Ok(_) => Ok(None),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_optional(path: &Path) -> io::Result<Option<String>> {
    match fs_err::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(text: &str) -> Sha256 {
        Sha256::of(text)
    }

    #[test]
    fn a_list_reads_back_what_it_prints() {
        let mut sums = Sums::new();
        for name in ["hello-linux-x86_64", "with space", "back\\slash", "new\nline", "sub/file"] {
            sums.insert(name, sum(name));
        }
        let text = sums.to_string();
        assert!(text.contains(&format!("\\{}  back\\\\slash\n", sum("back\\slash"))), "{text}");
        assert_eq!(Sums::parse(&text).unwrap(), sums);
        let binary = format!("{} *a\n", sum("a"));
        assert_eq!(Sums::parse(&binary).unwrap().get("a"), Some(sum("a")));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let good = format!("{}  a\n", sum("a"));
        for bad in ["x", "", &format!("{} a", sum("a")), &format!("{}  ", sum("a")), &"é".repeat(50)] {
            let error = Sums::parse(&format!("{good}{bad}\n")).unwrap_err();
            assert!(matches!(error, ChecksumError::Malformed { line: 2 }), "{bad}: {error}");
        }
        let contradiction = format!("{good}{}  a\n", sum("b"));
        assert!(matches!(Sums::parse(&contradiction), Err(ChecksumError::Contradiction { line: 2, .. })));
    }

    #[test]
    fn an_update_keeps_the_lines_of_unchanged_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a", "b", "c"] {
            fs_err::write(path(name), name).unwrap();
        }
        let mut first = Sums::new();
        for name in ["a", "b", "c", "gone"] {
            first.insert(name, sum(name));
        }
        assert_eq!(first.update(folder.path()).unwrap(), Update::default());
        fs_err::write(path("b"), "changed").unwrap();
        fs_err::write(path("c"), "new").unwrap();
        let mut second = Sums::new();
        second.insert("c", sum("new"));
        let update = second.update(folder.path()).unwrap();
        assert_eq!((update.kept, update.dropped), (vec!["a".to_owned()], vec!["b".to_owned(), "gone".to_owned()]));
        let text = fs_err::read_to_string(path(SUMS_NAME)).unwrap();
        assert_eq!(text, format!("{}  a\n{}  c\n", sum("a"), sum("new")));
        assert_eq!(Sums::parse(&text).unwrap().verify(folder.path()).unwrap(), []);
        let update = super::super::update(folder.path(), &[path("b"), "a".into()]).unwrap();
        assert_eq!(update.kept, ["c"]);
        fs_err::write(path("a"), "changed").unwrap();
        let mismatches = Sums::parse(&text).unwrap().verify(folder.path()).unwrap();
        assert_eq!(mismatches, [Mismatch { name: "a".into(), listed: sum("a"), found: Some(sum("changed")) }]);
        fs_err::write(path("a"), "a").unwrap();
        let update = second.update_without(folder.path(), |name| name == "a").unwrap();
        assert_eq!((update.forgotten, update.kept), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!(Sums::parse(&fs_err::read_to_string(path(SUMS_NAME)).unwrap()).unwrap().get("a"), None);
        fs_err::write(path(SUMS_NAME), b"\xff nonsense").unwrap();
        assert!(second.update(folder.path()).unwrap().was_malformed);
    }
}
