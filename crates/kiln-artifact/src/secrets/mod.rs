//! Secrets that lie in a file by accident: keys, tokens, passwords in addresses.
//!
//! A file streams by in constant memory. An automaton looks for the few bytes that every kind of secret begins with or
//! has beside it (`rules`), and a function per kind looks at what is around such a place. It asks for structure, for a
//! checksum where the format has one, and for as much disorder as a generated value has: in a program there are names of
//! variables, documentation and regular expressions that look like secrets at first sight, and a check that cries at each
//! is switched off soon. What is found is told by kind, place and a text that has nothing of the secret in it.

mod forms;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use kiln_graph::Digest;
use serde::Serialize;

use self::rules::{RULES, Site};

/// Bytes that are looked at at once.
const BLOCK: usize = 256 << 10;
/// Bytes after a place that a rule may look at: the private key of an RSA key of 16384 bits, in base64 twice.
const AHEAD: usize = 24 << 10;
/// Bytes before a place that a rule may look at.
const BEHIND: usize = 256;
/// Secrets that are told of one artifact; more are counted.
const MOST: usize = 100;

/// A secret that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leak {
    /// What sort of secret: `private-key`, `github-token`, ...
    pub kind: &'static str,
    /// The file, by its path in the artifact.
    pub file: String,
    /// Where in that file, in bytes from its beginning.
    pub offset: u64,
    /// What it looks like, without the secret itself.
    pub excerpt: String,
}

/// The secrets of an artifact: each once, at the place where it was seen first.
#[derive(Clone, Debug, Default)]
pub struct Leaks {
    found: Vec<Leak>,
    seen: HashSet<Digest>,
    more: usize,
}

impl Leaks {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was found, in the order in which it was seen.
    pub fn found(&self) -> &[Leak] {
        &self.found
    }

    /// How many more there are than are remembered.
    pub fn more(&self) -> usize {
        self.more
    }

    /// Looks through all of `input`, the content of `file`, and returns its size in bytes.
    pub fn scan(&mut self, file: &str, input: &mut dyn Read) -> io::Result<u64> {
        scan(input, &mut |offset, kind, secret| {
            if !self.seen.insert(Digest::of(secret.value)) {
                return;
            }
            if self.found.len() == MOST {
                self.more += 1;
            } else {
                self.found.push(Leak { kind, file: file.to_owned(), offset, excerpt: secret.excerpt });
            }
        })
    }
}

/// The names of all kinds of secrets that are looked for.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    RULES.iter().map(|rule| rule.kind).filter(move |kind| std::mem::replace(&mut last, kind) != *kind)
}

/// A secret as a rule sees it.
pub(crate) struct Secret<'a> {
    /// The secret itself, which goes nowhere.
    pub(crate) value: &'a [u8],
    /// What may be shown.
    pub(crate) excerpt: String,
}

/// The automaton that finds where a rule has to look, and for each of its patterns the rule.
static ANCHORS: LazyLock<(AhoCorasick, Vec<usize>)> = LazyLock::new(|| {
    let anchors = || RULES.iter().enumerate().flat_map(|(rule, r)| r.anchors.iter().map(move |text| (rule, *text)));
    let automaton = AhoCorasick::new(anchors().map(|(_, text)| text)).expect("a few short patterns fit");
    (automaton, anchors().map(|(rule, _)| rule).collect())
});

fn scan(input: &mut dyn Read, found: &mut dyn FnMut(u64, &'static str, Secret<'_>)) -> io::Result<u64> {
    let (automaton, rules) = &*ANCHORS;
    let mut buffer: Vec<u8> = Vec::with_capacity(BEHIND + BLOCK + AHEAD);
    let (mut dropped, mut from) = (0_u64, 0);
    loop {
        let room = buffer.capacity() - buffer.len();
        let count = (&mut *input).take(room as u64).read_to_end(&mut buffer)?;
        let is_end = count < room;
        // What a rule may look at has to be there, unless nothing more comes.
        let until = if is_end { buffer.len() } else { buffer.len() - AHEAD };
        for hit in automaton.find_iter(&buffer[from..]) {
            let (start, end) = (from + hit.start(), from + hit.end());
            if start >= until {
                break;
            }
            let rule = &RULES[rules[hit.pattern().as_usize()]];
            let site = Site {
                before: &buffer[start.saturating_sub(BEHIND)..start],
                anchor: &buffer[start..end],
                after: &buffer[end..buffer.len().min(end + AHEAD)],
            };
            if let Some(secret) = (rule.judge)(&site) {
                found(dropped + start as u64, rule.kind, secret);
            }
        }
        if is_end {
            return Ok(dropped + buffer.len() as u64);
        }
        let gone = until.saturating_sub(BEHIND);
        buffer.drain(..gone);
        dropped += gone as u64;
        from = until - gone;
    }
}
