//! Expansion of variables and removal of quotes, as BuildKit's `shell` package does it.
//!
//! It resembles a shell's, and differs from it: a single pass over one word, `$name` and `${name...}` with the modifiers
//! `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` `//`, single quotes that keep everything, double quotes that keep all
//! but variables, and an escape character that keeps the next one.

use std::collections::BTreeSet;

mod pattern;

use pattern::Pattern;

/// Nesting of `${...}` beyond which a word is refused rather than risk the stack.
const MAX_DEPTH: usize = 64;

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// A quote that does not close.
    #[error("{quote} quote does not close")]
    OpenQuote {
        /// `single` or `double`.
        quote: &'static str,
    },
    /// `${` without its end.
    #[error("missing `{expected}` in `${{...}}`")]
    OpenBrace {
        /// The character that is missing.
        expected: char,
    },
    /// `${}`, `${:-x}`, `${{`.
    #[error("bad substitution: no variable name after `${{`")]
    NoName,
    /// Something else than the known modifiers.
    #[error("unsupported modifier `{modifier}` in a substitution")]
    Modifier {
        /// As written.
        modifier: String,
    },
    /// `${name?}` of an unset, or `${name:?}` of an empty variable.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The author's message, or a default.
        message: String,
    },
    /// A backslash in a pattern before a character that needs none.
    #[error("invalid escape in pattern `{pattern}`")]
    PatternEscape {
        /// The pattern.
        pattern: String,
    },
    /// Substitutions in substitutions, too many levels.
    #[error("substitutions are nested too deeply")]
    Depth,
}

impl ExpandError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::OpenQuote { .. } => Some("escape a quote that is meant literally".into()),
            Self::Modifier { .. } => Some("modifiers are :- - :+ + :? ? # ## % %% / //".into()),
            Self::Required { name, .. } => Some(format!("pass `--build-arg {name}=VALUE`, or set it with ENV or ARG")),
            _ => None,
        }
    }
}

/// Where values come from.
pub trait Variables {
    /// The value of a variable, if it is set.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Variables for [(String, String)] {
    fn value(&self, name: &str) -> Option<&str> {
        self.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Variables for Vec<(String, String)> {
    fn value(&self, name: &str) -> Option<&str> {
        self.as_slice().value(name)
    }
}

/// What quotes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// They quote, and are removed.
    Remove,
    /// They quote, and stay.
    Keep,
    /// They are characters like any other.
    Ignore,
}

/// How to treat what is not a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// The escape character.
    pub escape: char,
    /// What quotes do.
    pub quotes: Quotes,
    /// Keep escape characters in the result.
    pub raw_escapes: bool,
    /// Leave variables that are not set as they are written.
    pub keep_unset: bool,
}

impl Mode {
    /// The mode of instructions.
    pub fn word(escape: char) -> Self {
        Self { escape, quotes: Quotes::Remove, raw_escapes: false, keep_unset: false }
    }

    /// The mode of here-documents in `COPY`.
    pub fn document() -> Self {
        Self { quotes: Quotes::Ignore, ..Self::word('\\') }
    }

    /// The mode of texts for people.
    pub fn display(escape: char) -> Self {
        Self { escape, quotes: Quotes::Keep, raw_escapes: true, keep_unset: true }
    }
}

/// The result of an expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text as one word.
    pub text: String,
    /// The text split at white space that was not quoted.
    pub words: Vec<String>,
    /// Variables that were set.
    pub matched: BTreeSet<String>,
    /// Variables that were not, also where the word gives a substitute.
    pub unmatched: BTreeSet<String>,
}

/// Expands one word.
///
/// # Errors
/// If a quote or brace does not close, or a substitution is malformed or fails by `?`.
pub fn expand(word: &str, mode: Mode, variables: &(impl Variables + ?Sized)) -> Result<Expanded, ExpandError> {
    let mut lexer = Lexer {
        input: word.chars().collect(),
        position: 0,
        mode,
        depth: 0,
        variables: &|name| variables.value(name).map(str::to_owned),
        matched: BTreeSet::new(),
        unmatched: BTreeSet::new(),
    };
    let (text, words) = lexer.until(None, mode.raw_escapes)?;
    Ok(Expanded { text, words, matched: lexer.matched, unmatched: lexer.unmatched })
}

struct Lexer<'a> {
    input: Vec<char>,
    position: usize,
    mode: Mode,
    depth: usize,
    variables: &'a dyn Fn(&str) -> Option<String>,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

/// Collects words: unquoted white space separates, quoted and escaped white space does not.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn add(&mut self, text: &str) {
        for c in text.chars() {
            if !c.is_whitespace() {
                self.current.push(c);
            } else if !self.current.is_empty() {
                self.done.push(std::mem::take(&mut self.current));
            }
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.input.get(self.position).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.position += usize::from(c.is_some());
        c
    }

    /// The value of a variable; whether it was set is remembered.
    fn lookup(&mut self, name: &str) -> Option<String> {
        let value = (self.variables)(name);
        if value.is_some() { &mut self.matched } else { &mut self.unmatched }.insert(name.to_owned());
        value
    }

    /// Reads up to `stop` and eats it; without a stop, to the end.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>), ExpandError> {
        if self.depth >= MAX_DEPTH {
            return Err(ExpandError::Depth);
        }
        let outer = std::mem::replace(&mut self.mode.raw_escapes, raw_escapes);
        self.depth += 1;
        let result = self.until_inner(stop);
        self.depth -= 1;
        self.mode.raw_escapes = outer;
        result
    }

    fn until_inner(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), ExpandError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if stop == Some(c) {
                self.next();
                return Ok((text, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    words.add(&value);
                    text.push_str(&value);
                }
                '\'' | '"' if self.mode.quotes != Quotes::Ignore => {
                    let value = if c == '"' { self.double_quotes()? } else { self.single_quotes()? };
                    words.current.push_str(&value);
                    text.push_str(&value);
                }
                _ if c == self.mode.escape => {
                    self.next();
                    if self.mode.raw_escapes {
                        words.current.push(c);
                        text.push(c);
                    }
                    // An escape character at the very end escapes nothing and is dropped.
                    if let Some(escaped) = self.next() {
                        words.current.push(escaped);
                        text.push(escaped);
                    }
                }
                _ => {
                    self.next();
                    words.add(c.encode_utf8(&mut [0; 4]));
                    text.push(c);
                }
            }
        }
        match stop {
            Some(expected) => Err(ExpandError::OpenBrace { expected }),
            None => Ok((text, words.finish())),
        }
    }

    fn single_quotes(&mut self) -> Result<String, ExpandError> {
        self.quoted('\'', "single", |lexer, text| {
            let c = lexer.next();
            text.extend(c);
            Ok(())
        })
    }

    fn double_quotes(&mut self) -> Result<String, ExpandError> {
        self.quoted('"', "double", |lexer, text| {
            let Some(c) = lexer.peek() else { return Ok(()) };
            if c == '$' {
                text.push_str(&lexer.dollar()?);
                return Ok(());
            }
            lexer.next();
            if c == lexer.mode.escape {
                if lexer.mode.raw_escapes {
                    text.push(c);
                }
                match lexer.peek() {
                    None => return Ok(()),
                    // Only these can be escaped here; before anything else the escape character stays.
                    Some(escaped) if escaped == '"' || escaped == '$' || escaped == lexer.mode.escape => {
                        lexer.next();
                        text.push(escaped);
                        return Ok(());
                    }
                    Some(_) if lexer.mode.raw_escapes => return Ok(()),
                    Some(_) => {}
                }
            }
            text.push(c);
            Ok(())
        })
    }

    fn quoted(
        &mut self,
        quote: char,
        name: &'static str,
        mut step: impl FnMut(&mut Self, &mut String) -> Result<(), ExpandError>,
    ) -> Result<String, ExpandError> {
        let mut text = String::new();
        self.next();
        if self.mode.quotes == Quotes::Keep {
            text.push(quote);
        }
        loop {
            match self.peek() {
                None => return Err(ExpandError::OpenQuote { quote: name }),
                Some(c) if c == quote => {
                    self.next();
                    if self.mode.quotes == Quotes::Keep {
                        text.push(quote);
                    }
                    return Ok(text);
                }
                Some(_) => step(self, &mut text)?,
            }
        }
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.lookup(&name) {
                None if self.mode.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.next();
        match self.peek() {
            None => return Err(ExpandError::OpenBrace { expected: '}' }),
            Some('{' | '}' | ':') => return Err(ExpandError::NoName),
            Some(_) => {}
        }
        let name = self.name();
        let Some(first) = self.next() else { return Err(ExpandError::OpenBrace { expected: '}' }) };
        match first {
            '}' => Ok(match self.lookup(&name) {
                None if self.mode.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            ':' => {
                let Some(modifier) = self.next() else { return Err(ExpandError::OpenBrace { expected: '}' }) };
                self.modified(&name, modifier, true)
            }
            '+' | '-' | '?' | '#' | '%' => self.modified(&name, first, false),
            '/' => self.replaced(&name),
            other => Err(ExpandError::Modifier { modifier: other.into() }),
        }
    }

    /// `${name:-word}` and its relatives.
    fn modified(&mut self, name: &str, modifier: char, empty_is_unset: bool) -> Result<String, ExpandError> {
        let trims = matches!(modifier, '#' | '%');
        let (word, _) = self.until(Some('}'), trims)?;
        let value = self.lookup(name);
        let written = if empty_is_unset { format!(":{modifier}") } else { modifier.to_string() };
        if value.is_none() && self.mode.keep_unset {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let set = value.is_some();
        let value = value.unwrap_or_default();
        let present = set && !(empty_is_unset && value.is_empty());
        match modifier {
            '-' => Ok(if present { value } else { word }),
            '+' => Ok(if present { word } else { String::new() }),
            '?' if present => Ok(value),
            '?' => {
                let message = if !word.is_empty() {
                    word
                } else if set {
                    "must not be empty".into()
                } else {
                    "must be set".into()
                };
                Err(ExpandError::Required { name: name.to_owned(), message })
            }
            '#' | '%' => {
                let (pattern, longest) = match word.strip_prefix(modifier) {
                    Some(rest) => (rest, true),
                    None => (word.as_str(), false),
                };
                let pattern = Pattern::new(pattern)?;
                Ok(if modifier == '#' {
                    pattern.trim_start(&value, longest)
                } else {
                    pattern.trim_end(&value, longest)
                })
            }
            _ => Err(ExpandError::Modifier { modifier: written }),
        }
    }

    /// `${name/pattern/replacement}` and `${name//pattern/replacement}`.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let (pattern, _) = self.until(Some('/'), true)?;
        let (replacement, _) = self.until(Some('}'), true)?;
        let value = self.lookup(name);
        if value.is_none() && self.mode.keep_unset {
            let slashes = if all { "//" } else { "/" };
            return Ok(format!("${{{name}{slashes}{pattern}/{replacement}}}"));
        }
        Ok(Pattern::new(&pattern)?.replace(&value.unwrap_or_default(), &replacement, all))
    }

    /// Reads a variable's name: letters, digits and `_`; or digits alone; or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.peek() {
            Some(c) if c.is_numeric() => {
                while let Some(digit) = self.peek().filter(|c| c.is_numeric()) {
                    self.next();
                    name.push(digit);
                }
            }
            Some(special @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) => {
                self.next();
                name.push(special);
            }
            _ => {
                while let Some(c) = self.peek().filter(|c| c.is_alphanumeric() || *c == '_') {
                    self.next();
                    name.push(c);
                }
            }
        }
        name
    }
}

#[cfg(test)]
mod tests;
