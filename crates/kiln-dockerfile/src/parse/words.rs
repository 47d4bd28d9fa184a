//! Splitting what follows a keyword: flags, quoted words, JSON arrays, here-document words.

use super::lines::Part;
use crate::ast::Heredoc;
use crate::expand::{Mode, Quotes, expand};
use crate::suggest::nearest;
use crate::{Error, ErrorKind, Word};

/// Words between white space; quotes and escapes keep white space together and stay in the words.
pub(super) fn quoted_words(part: Part<'_>, escape: char) -> Vec<Part<'_>> {
    let text = part.text();
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        if start.is_none() {
            if c.is_whitespace() {
                continue;
            }
            start = Some(index);
        }
        // Nothing can be escaped in single quotes.
        if c == escape && quote != Some('\'') {
            if chars.next().is_none() {
                words.extend(start.take().filter(|start| *start < index).map(|start| part.slice(start, index)));
                return words;
            }
            continue;
        }
        match quote {
            None if c.is_whitespace() => {
                words.extend(start.take().map(|start| part.slice(start, index)));
            }
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    words.extend(start.map(|start| part.slice(start, text.len())));
    words
}

/// What a text that may be a JSON array of strings turned out to be.
pub(super) enum Json {
    /// Not JSON: the shell form.
    No,
    /// An array of other things.
    NotStrings,
    /// The exec form.
    Strings(Vec<String>),
}

pub(super) fn json(text: &str) -> Json {
    if !text.starts_with('[') {
        return Json::No;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Json::No };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    });
    strings.collect::<Option<_>>().map_or(Json::NotStrings, Json::Strings)
}

/// The word of a here-document: digits, `<<`, perhaps `-`, and a name that may be quoted.
pub(super) fn heredoc_word(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let descriptor = word[..word.len() - rest.len()].parse().unwrap_or(0);
    let rest = rest.strip_prefix("<<")?;
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let mode = Mode { keep_unset: true, ..Mode::word('\\') };
    let none: &[(String, String)] = &[];
    let plain = expand(rest, mode, none).ok()?.words;
    let raw = expand(rest, Mode { quotes: Quotes::Keep, ..mode }, none).ok()?.words;
    let ([plain], [raw]) = (plain.as_slice(), raw.as_slice()) else { return None };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Some(Heredoc {
        name: plain.clone(),
        descriptor,
        expand: quotes(plain) == quotes(raw),
        chomp,
        content: String::new(),
    })
}

/// The here-documents that a line announces. A line whose quotes do not close announces none.
pub(super) fn heredoc_words(line: &str) -> Vec<Heredoc> {
    // A line without the operator is the common case, and needs no lexer.
    if !line.contains("<<") {
        return vec![];
    }
    let mode = Mode::display('\\');
    let none: &[(String, String)] = &[];
    let words = expand(line, mode, none).map(|expanded| expanded.words).unwrap_or_default();
    words.iter().filter_map(|word| heredoc_word(word)).collect()
}

/// A `--name=value` before the arguments.
pub(super) struct Flag<'l> {
    pub(super) name: String,
    /// Quotes removed.
    pub(super) value: Option<Word>,
    pub(super) part: Part<'l>,
}

/// Cuts the flags off the front of the arguments.
pub(super) fn flags(part: Part<'_>) -> (Vec<Flag<'_>>, Part<'_>) {
    let mut flags = Vec::new();
    let mut rest = part.trim();
    while rest.text().starts_with("--") {
        let (text, length) = flag_text(rest.text());
        let word = rest.slice(0, length);
        rest = rest.slice(length, rest.text().len()).trim();
        if text == "--" {
            break;
        }
        let bare = text.trim_start_matches('-');
        let (name, value) = bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value)));
        let value = value.map(|value| {
            // The exact place is known only if no quotes were removed before it.
            let exact = word.text().strip_suffix(value);
            let at = exact.map_or(word, |before| word.slice(before.len(), word.text().len()));
            Word { value: value.to_owned(), span: at.span() }
        });
        flags.push(Flag { name: name.to_owned(), value, part: word });
    }
    (flags, rest)
}

/// Reads one flag: its text without quotes and escapes, and its length as written. Flags know only the backslash.
fn flag_text(text: &str) -> (String, usize) {
    let mut flag = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            _ if quote.is_none() && c.is_whitespace() => return (flag, index),
            '\'' | '"' if quote.is_none() => quote = Some(c),
            _ if quote == Some(c) => quote = None,
            '\\' => flag.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => flag.push(c),
        }
    }
    (flag, text.len())
}

/// The flags of one instruction, to be taken one by one; what is left is an error.
pub(super) struct Flags<'l> {
    instruction: &'static str,
    allowed: &'static [&'static str],
    given: Vec<Flag<'l>>,
}

impl<'l> Flags<'l> {
    /// Checks names and repetitions. Flags in `repeatable` may come more than once.
    pub(super) fn new(
        instruction: &'static str,
        flags: Vec<Flag<'l>>,
        allowed: &'static [&'static str],
        repeatable: &[&str],
    ) -> Result<Self, Error> {
        for (index, flag) in flags.iter().enumerate() {
            let name = flag.name.as_str();
            if !allowed.contains(&name) {
                let kind = ErrorKind::UnknownFlag {
                    instruction: instruction.to_owned(),
                    flag: name.to_owned(),
                    allowed: allowed.to_vec(),
                    suggestion: nearest(name, allowed.iter().copied()),
                };
                return Err(Error::new(kind, flag.part.span()));
            }
            let again = flags[..index].iter().any(|earlier| earlier.name == name);
            if again && !repeatable.contains(&name) {
                return Err(Error::new(ErrorKind::DuplicateFlag { flag: name.to_owned() }, flag.part.span()));
            }
        }
        Ok(Self { instruction, allowed, given: flags })
    }

    /// All values of a flag.
    pub(super) fn values(&self, name: &str) -> Result<Vec<(Word, Part<'l>)>, Error> {
        debug_assert!(self.allowed.contains(&name), "{} has no flag {name}", self.instruction);
        let flags = self.given.iter().filter(|flag| flag.name == name);
        flags
            .map(|flag| match &flag.value {
                Some(value) => Ok((value.clone(), flag.part)),
                None => Err(Error::new(ErrorKind::FlagNeedsValue { flag: name.to_owned() }, flag.part.span())),
            })
            .collect()
    }

    /// The value of a flag, if it was given and is not empty.
    pub(super) fn value(&self, name: &str) -> Result<Option<Word>, Error> {
        Ok(self.values(name)?.pop().map(|(value, _)| value).filter(|word| !word.value.is_empty()))
    }

    /// The value of a flag that is true when it stands alone.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Error> {
        let Some(flag) = self.given.iter().rev().find(|flag| flag.name == name) else { return Ok(None) };
        match &flag.value {
            None => Ok(Some(true)),
            Some(word) => match word.value.to_lowercase().as_str() {
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                _ => Err(invalid(format!("`--{name}`"), word, "true or false")),
            },
        }
    }
}

pub(super) fn invalid(what: impl Into<String>, word: &Word, expected: impl Into<String>) -> Error {
    let kind = ErrorKind::InvalidValue { what: what.into(), value: word.value.clone(), expected: expected.into() };
    Error::new(kind, word.span)
}
