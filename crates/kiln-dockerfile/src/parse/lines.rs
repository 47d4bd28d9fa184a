//! From physical lines to logical ones: comments, continuations, directives, and the bodies of here-documents.

use crate::ast::{Directives, Heredoc};
use crate::check::CheckConfig;
use crate::{Error, ErrorKind, Span, Word};

/// A logical line: one instruction without its here-documents. Remembers where each part of its text was written.
#[derive(Debug)]
pub(super) struct Line {
    /// The text, continued lines joined.
    pub(super) text: String,
    pieces: Vec<Piece>,
    /// Whether a blank line stands inside a continuation.
    pub(super) blank_inside: bool,
    /// Index of the first physical line.
    pub(super) first: usize,
    /// The last comment above it, without `#`; blank lines may stand between.
    pub(super) comment: Option<String>,
}

/// A physical line's share of a logical one.
#[derive(Debug)]
struct Piece {
    /// Where it starts in the text.
    start: usize,
    line: u32,
    column: u32,
}

impl Line {
    /// The whole line without surrounding white space.
    pub(super) fn part(&self) -> Part<'_> {
        Part { line: self, start: 0, end: self.text.len() }.trim()
    }

    fn position(&self, offset: usize) -> (u32, u32) {
        let index = self.pieces.partition_point(|piece| piece.start <= offset).saturating_sub(1);
        let Some(piece) = self.pieces.get(index) else { return (1, 1) };
        let before = self.text.get(piece.start..offset).map_or(0, |text| text.chars().count());
        (piece.line, piece.column + number(before))
    }
}

/// A stretch of a logical line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'l> {
    line: &'l Line,
    start: usize,
    end: usize,
}

impl<'l> Part<'l> {
    pub(super) fn text(self) -> &'l str {
        &self.line.text[self.start..self.end]
    }

    pub(super) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    pub(super) fn span(self) -> Span {
        let (line, column) = self.line.position(self.start);
        // The end belongs to the line of the last character, not to the line that may start right behind it.
        let last = self.text().char_indices().next_back().map_or(self.start, |(i, _)| self.start + i);
        let (end_line, end_column) = self.line.position(last);
        Span { line, column, end_line, end_column: end_column + u32::from(!self.is_empty()) }
    }

    pub(super) fn word(self) -> Word {
        Word { value: self.text().to_owned(), span: self.span() }
    }

    /// The stretch between two byte offsets of this one.
    pub(super) fn slice(self, from: usize, to: usize) -> Self {
        Self { line: self.line, start: self.start + from, end: self.start + to }
    }

    pub(super) fn trim(self) -> Self {
        let text = self.text();
        let end = text.trim_end().len();
        let start = end - text[..end].trim_start().len();
        self.slice(start, end)
    }

    /// Cuts at the first character that `at` accepts, and drops it.
    pub(super) fn split_once(self, at: impl Fn(char) -> bool) -> Option<(Self, Self)> {
        let text = self.text();
        let (index, c) = text.char_indices().find(|(_, c)| at(*c))?;
        Some((self.slice(0, index), self.slice(index + c.len_utf8(), text.len())))
    }

    /// The first word, and the rest without the white space between.
    pub(super) fn first_word(self) -> (Self, Self) {
        let (word, rest) = self.split_once(char::is_whitespace).unwrap_or((self, self.slice(self.len(), self.len())));
        (word, rest.trim())
    }

    /// Words between white space, quotes not regarded.
    pub(super) fn split_whitespace(self) -> Vec<Self> {
        let mut words = Vec::new();
        let mut rest = self.trim();
        while !rest.is_empty() {
            let (word, next) = rest.first_word();
            words.push(word);
            rest = next;
        }
        words
    }

    fn len(self) -> usize {
        self.end - self.start
    }
}

/// Reads logical lines.
pub(super) struct Reader<'t> {
    /// Physical lines with their ends.
    lines: Vec<&'t str>,
    next: usize,
    pub(super) directives: Directives,
    directives_done: bool,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            lines: text.split_inclusive('\n').collect(),
            next: 0,
            directives: Directives::default(),
            directives_done: false,
        }
    }

    /// The next line that holds an instruction.
    pub(super) fn next_line(&mut self) -> Result<Option<Line>, Error> {
        let mut comment = None;
        while self.next < self.lines.len() {
            let first = self.next;
            let raw = self.take();
            let text = raw.trim_start();
            self.directive(text, first)?;
            if let Some(text) = text.strip_prefix('#') {
                let text = Some(text.trim()).filter(|text| self.directives_done && !text.is_empty());
                comment = text.map(str::to_owned).or(comment);
                continue;
            }
            let (body, mut continued) = self.strip_continuation(text);
            if body.is_empty() && !continued {
                continue;
            }
            let mut line =
                Line { text: String::new(), pieces: vec![], blank_inside: false, first, comment: comment.take() };
            line.push(body, first, raw.len() - text.len(), raw);
            while continued && self.next < self.lines.len() {
                let number = self.next;
                let raw = self.take();
                let trimmed = raw.trim_start();
                if trimmed.starts_with('#') {
                    continue;
                }
                if trimmed.is_empty() {
                    line.blank_inside = true;
                    continue;
                }
                let (body, more) = self.strip_continuation(raw);
                line.push(body, number, 0, raw);
                continued = more;
            }
            if let Some(at) = line.text.find('\0') {
                let span = Part { line: &line, start: at, end: at + 1 }.span();
                return Err(Error::new(ErrorKind::Nul, span));
            }
            if !line.text.trim().is_empty() {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Reads the body of a here-document that the line before announced.
    pub(super) fn heredoc_body(&mut self, mut heredoc: Heredoc, at: Span) -> Result<Heredoc, Error> {
        while self.next < self.lines.len() {
            let raw = self.lines[self.next];
            self.next += 1;
            let mut candidate = raw.trim_end_matches(['\r', '\n']);
            if heredoc.chomp {
                candidate = candidate.trim_start_matches('\t');
            }
            if candidate == heredoc.name {
                return Ok(heredoc);
            }
            heredoc.content.push_str(raw);
        }
        Err(Error::new(ErrorKind::UnterminatedHeredoc { name: heredoc.name }, at))
    }

    /// The lines from `first` to the last that was read, and the position behind them.
    pub(super) fn original(&self, first: usize) -> (String, u32, u32) {
        let lines = &self.lines[first..self.next];
        let last = lines.last().map_or("", |line| line.trim_end_matches(['\r', '\n']));
        (lines.concat(), number(self.next), number(last.chars().count()) + 1)
    }

    fn take(&mut self) -> &'t str {
        let line = self.lines[self.next];
        self.next += 1;
        line.trim_end_matches(['\r', '\n'])
    }

    /// An escape character at the end continues the line, unless it is itself escaped.
    fn strip_continuation<'s>(&self, line: &'s str) -> (&'s str, bool) {
        let escape = self.directives.escape();
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(body) if !body.ends_with(escape) => (body, true),
            _ => (line, false),
        }
    }

    /// Directives are comments `# name=value` on the first lines; anything else ends them.
    fn directive(&mut self, text: &str, index: usize) -> Result<(), Error> {
        if self.directives_done {
            return Ok(());
        }
        let pair = text.strip_prefix('#').and_then(|comment| comment.split_once('='));
        let (name, value) = pair.map(|(name, value)| (name.trim(), value.trim())).unwrap_or_default();
        let line = number(index + 1);
        let span = Span { line, column: 1, end_line: line, end_column: number(text.chars().count()) + 1 };
        let name = name.to_lowercase();
        let slot = match name.as_str() {
            _ if value.is_empty() => None,
            "syntax" => Some(&mut self.directives.syntax),
            "check" => {
                CheckConfig::parse(value).map_err(|error| Error { span: Some(span), ..error })?;
                Some(&mut self.directives.check)
            }
            "escape" => {
                let mut chars = value.chars();
                let (Some(escape @ ('\\' | '`')), None) = (chars.next(), chars.next()) else {
                    let kind = ErrorKind::InvalidValue {
                        what: "`# escape`".into(),
                        value: value.to_owned(),
                        expected: "a backslash or a backtick".into(),
                    };
                    return Err(Error::new(kind, span));
                };
                if self.directives.escape.replace(escape).is_some() {
                    return Err(Error::new(ErrorKind::DuplicateDirective { name }, span));
                }
                return Ok(());
            }
            _ => None,
        };
        let Some(slot) = slot else {
            self.directives_done = true;
            return Ok(());
        };
        if slot.replace(value.to_owned()).is_some() {
            return Err(Error::new(ErrorKind::DuplicateDirective { name }, span));
        }
        Ok(())
    }
}

impl Line {
    /// Adds a physical line's text; `indent` is the number of bytes of it that were cut off at the left.
    fn push(&mut self, body: &str, index: usize, indent: usize, raw: &str) {
        let column = raw.get(..indent).map_or(0, |cut| cut.chars().count());
        self.pieces.push(Piece { start: self.text.len(), line: number(index + 1), column: number(column) + 1 });
        self.text.push_str(body);
    }
}

/// Counts of lines and columns; a file with more than four thousand million of either is not told apart.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
