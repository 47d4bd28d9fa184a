//! What people read on the page of a release, as Markdown.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kiln_graph::{Arch, Platform};

use crate::model::LocalFile;

/// Commits that are listed at most: forges take no text without end.
const MOST_COMMITS: usize = 200;
/// Words that begin subjects, and the headings that they go under. Source: <https://www.conventionalcommits.org>.
const KINDS: [(&str, &str); 11] = [
    ("feat", "Features"),
    ("fix", "Fixes"),
    ("perf", "Performance"),
    ("revert", "Reverted"),
    ("docs", "Documentation"),
    ("build", OTHER),
    ("chore", OTHER),
    ("ci", OTHER),
    ("refactor", OTHER),
    ("style", OTHER),
    ("test", OTHER),
];
const BREAKING: &str = "Breaking changes";
const OTHER: &str = "Other changes";

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its id, in full.
    pub id: String,
    /// Who wrote it.
    pub author: String,
    /// The first line of its message.
    pub subject: String,
}

/// What notes are made of.
#[derive(Clone, Debug, Default)]
pub struct Notes<'a> {
    /// What the changelog says.
    pub section: Option<String>,
    /// What was done since the release before, newest first.
    pub commits: &'a [Commit],
    /// The tag of the release before.
    pub previous: Option<&'a str>,
    /// The page that compares both.
    pub comparison: Option<String>,
    /// The files.
    pub files: &'a [LocalFile],
}

impl Notes<'_> {
    /// The text.
    pub fn render(&self) -> String {
        let mut parts: Vec<String> = self.section.iter().map(|section| section.trim().to_owned()).collect();
        if !self.commits.is_empty() {
            let count = match self.commits.len() {
                1 => "1 commit".to_owned(),
                count => format!("{count} commits"),
            };
            let since = self.previous.map(|tag| format!(" since {tag}")).unwrap_or_default();
            let list = self.list();
            // What was written for people comes first, and the log is there for who wants to know.
            parts.push(if parts.is_empty() {
                format!("## Changes{since}\n\n{list}")
            } else {
                format!("<details>\n<summary>{count}{since}</summary>\n\n{list}\n\n</details>")
            });
        }
        if let Some(page) = &self.comparison {
            parts.push(format!(
                "[All changes{}]({page})",
                self.previous.map(|t| format!(" since {t}")).unwrap_or_default()
            ));
        }
        if !self.files.is_empty() {
            parts.push(format!("## Files\n\n{}", table(self.files)));
        }
        let mut text = parts.join("\n\n");
        text.push('\n');
        text
    }

    fn list(&self) -> String {
        let parsed: Vec<(Option<&str>, String)> = self.commits.iter().map(conventional).collect();
        let known = parsed.iter().filter(|(kind, _)| kind.is_some()).count();
        let line = |(commit, text): (&Commit, &str)| {
            let id = commit.id.get(..7).unwrap_or(&commit.id);
            format!("- {} ({id})", safe(text))
        };
        let mut text = String::new();
        let shown = self.commits.iter().zip(&parsed).take(MOST_COMMITS);
        // Only where most subjects say of what kind they are, kinds say something.
        if known * 2 > self.commits.len() {
            let order = [BREAKING].into_iter().chain(KINDS.iter().map(|(_, heading)| *heading));
            let mut seen = BTreeSet::new();
            for heading in order.filter(|heading| seen.insert(*heading)) {
                let mut lines = shown
                    .clone()
                    .filter(|(_, (kind, _))| kind.unwrap_or(OTHER) == heading)
                    .map(|(commit, (_, subject))| line((commit, subject)))
                    .peekable();
                if lines.peek().is_some() {
                    let gap = if text.is_empty() { "" } else { "\n\n" };
                    let _ = write!(text, "{gap}### {heading}\n\n{}", lines.collect::<Vec<_>>().join("\n"));
                }
            }
        } else {
            text = shown.map(|(commit, _)| line((commit, &commit.subject))).collect::<Vec<_>>().join("\n");
        }
        let more = self.commits.len().saturating_sub(MOST_COMMITS);
        if more > 0 {
            let _ = write!(text, "\n- and {more} more");
        }
        let authors: BTreeSet<&str> = self.commits.iter().map(|commit| commit.author.as_str()).collect();
        let authors: Vec<String> = authors.into_iter().map(safe).collect();
        let _ = write!(text, "\n\nBy {}.", authors.join(", "));
        text
    }
}

/// The heading that a commit goes under, if its subject says so, and what the subject says beside.
fn conventional(commit: &Commit) -> (Option<&'static str>, String) {
    let plain = || (None, commit.subject.clone());
    let Some((head, text)) = commit.subject.split_once(": ") else { return plain() };
    let (head, is_breaking) = head.strip_suffix('!').map_or((head, false), |head| (head, true));
    let (word, scope) = match head.strip_suffix(')').and_then(|head| head.split_once('(')) {
        Some((word, scope)) => (word, Some(scope)),
        None => (head, None),
    };
    let Some((_, heading)) = KINDS.iter().find(|(kind, _)| kind.eq_ignore_ascii_case(word)) else { return plain() };
    let heading = if is_breaking { BREAKING } else { heading };
    (Some(heading), scope.map_or_else(|| text.to_owned(), |scope| format!("{scope}: {text}")))
}

/// A text that is no markup.
fn safe(text: &str) -> String {
    text.replace('<', "&lt;")
}

fn table(files: &[LocalFile]) -> String {
    let mut text = "| File | Platform | Size | SHA-256 |\n|---|---|---:|---|".to_owned();
    for file in files {
        let platform = platform(&file.name).map(|platform| platform.to_string()).unwrap_or_default();
        let name = file.name.replace('|', "\\|");
        let _ = write!(text, "\n| `{name}` | {platform} | {} | `{}` |", size(file.size), file.sha256);
    }
    text
}

/// The platform that a file is for, by its name.
fn platform(name: &str) -> Option<Platform> {
    let mut words: Vec<(&str, Platform)> = Platform::all()
        .flat_map(|platform| {
            let arch = platform.arch;
            let mut words = vec![arch.artifact_name(), arch.machine(), arch.debian_name()];
            if arch == Arch::I386 {
                // As docker and Alpine have it.
                words.extend(["386", "x86"]);
            }
            words.into_iter().map(move |word| (word, platform))
        })
        .collect();
    // `x86` is a part of `x86_64`.
    words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
    let is_word = |word: &str| {
        name.match_indices(word).any(|(at, _)| {
            let before = name[..at].chars().next_back();
            let after = name[at + word.len()..].chars().next();
            [before, after].into_iter().flatten().all(|c| !c.is_ascii_alphanumeric())
        })
    };
    words.into_iter().find(|(word, _)| is_word(word)).map(|(_, platform)| platform)
}

/// A number of bytes in decimal units.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000),
    }
}

#[cfg(test)]
mod tests {
    use kiln_artifact::checksum::Sha256;

    use super::*;

    fn commits(subjects: &[&str]) -> Vec<Commit> {
        let commit = |(index, subject): (usize, &&str)| Commit {
            id: format!("{index:040x}").chars().rev().collect(),
            author: if index == 1 { "Bo <b>" } else { "Ann" }.to_owned(),
            subject: (*subject).to_owned(),
        };
        subjects.iter().enumerate().map(commit).collect()
    }

    fn file(name: &str) -> LocalFile {
        LocalFile { name: name.to_owned(), path: name.into(), size: 1_234_567, sha256: Sha256::of(name) }
    }

    #[test]
    fn plain_subjects_are_a_list() {
        let commits = commits(&["Say <hello>", "Fix: not a kind", "more"]);
        let notes = Notes { commits: &commits, ..Notes::default() };
        let expected = "## Changes\n\n- Say &lt;hello> (0000000)\n- Fix: not a kind (1000000)\n- more (2000000)\n\n\
                        By Ann, Bo &lt;b>.\n";
        assert_eq!(notes.render(), expected);
    }

    #[test]
    fn conventional_subjects_are_grouped() {
        let commits = commits(&["fix: b", "feat(ui): a", "merge of x", "feat!: c", "ci: d", "fix: e"]);
        let files = [file("app-linux-x86_64")];
        let notes = Notes {
            section: Some("\n### Added\n- things\n".to_owned()),
            commits: &commits,
            previous: Some("v1"),
            comparison: Some("https://example.org/compare/v1...v2".to_owned()),
            files: &files,
        };
        let sum = Sha256::of("app-linux-x86_64");
        let expected = format!(
            "### Added\n- things\n\n<details>\n<summary>6 commits since v1</summary>\n\n\
             ### Breaking changes\n\n- c (3000000)\n\n### Features\n\n- ui: a (1000000)\n\n\
             ### Fixes\n\n- b (0000000)\n- e (5000000)\n\n### Other changes\n\n- merge of x (2000000)\n- d (4000000)\n\n\
             By Ann, Bo &lt;b>.\n\n</details>\n\n[All changes since v1](https://example.org/compare/v1...v2)\n\n\
             ## Files\n\n| File | Platform | Size | SHA-256 |\n|---|---|---:|---|\n\
             | `app-linux-x86_64` | linux/amd64 | 1.2 MB | `{sum}` |\n"
        );
        assert_eq!(notes.render(), expected);
    }

    #[test]
    fn a_long_history_is_cut() {
        let subjects: Vec<String> = (0..250).map(|index| format!("change {index}")).collect();
        let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
        let text = Notes { commits: &commits(&subjects), ..Notes::default() }.render();
        assert!(text.contains("\n- and 50 more\n") && !text.contains("change 200"), "{text}");
    }

    #[test]
    fn names_tell_the_platform() {
        let of = |name: &str| platform(name).map(|platform| platform.to_string());
        for (name, expected) in [
            ("app-1.0-linux-x86_64.tar.gz", "linux/amd64"),
            ("app_1.0_amd64.deb", "linux/amd64"),
            ("app-1.0.i686.rpm", "linux/386"),
            ("app-1.0-x86.apk", "linux/386"),
            ("app_1.0_i386.deb", "linux/386"),
            ("app-linux-arm64", "linux/arm64"),
            ("app-1.0.aarch64.rpm", "linux/arm64"),
            ("app_1.0_armhf.deb", "linux/arm/v7"),
        ] {
            assert_eq!(of(name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(of("alarm64bit"), None);
        assert_eq!((size(12), size(1_999), size(7_900_000_000)), ("12 B".into(), "1.9 kB".into(), "7.9 GB".into()));
    }
}
