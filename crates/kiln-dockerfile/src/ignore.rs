//! `.dockerignore`, with the rules of moby's `patternmatcher`.
//!
//! A line is a pattern in the sense of [`glob`](kiln_graph::glob), plus `**` for any number of folders; `!` at the start takes
//! paths back in. The last pattern that matches a path or a folder above it decides.

use crate::pattern::{self, Token};

/// The patterns of a `.dockerignore`.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

/// A line that is no valid pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid pattern `{pattern}` on line {line}")]
pub struct IgnoreError {
    /// The pattern as written.
    pub pattern: String,
    /// The line, from 1.
    pub line: usize,
}

impl IgnoreError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        if self.pattern == "!" {
            "name what `!` takes back in".into()
        } else {
            "close brackets, and escape `[`, `-` and `\\` that are meant literally with a backslash".into()
        }
    }
}

/// What is known of a folder while walking: which patterns match it or a folder above it.
#[derive(Clone, Debug)]
pub struct Folder {
    matched: Vec<bool>,
    excluded: bool,
    enter: bool,
}

impl Folder {
    /// Whether the folder itself is left out.
    pub fn excluded(&self) -> bool {
        self.excluded
    }

    /// Whether to look inside: it is not left out, or a later `!` pattern may take back something in it.
    pub fn enter(&self) -> bool {
        self.enter
    }
}

#[derive(Clone, Debug)]
struct Pattern {
    line: usize,
    negated: bool,
    matcher: Matcher,
}

/// The special cases are those of moby. They are not only faster: `**x` as a suffix matches more than its tokens would.
#[derive(Clone, Debug)]
enum Matcher {
    Exact(String),
    /// `dir/**`: what follows the prefix does not matter.
    Prefix(String),
    /// `**/name` or `**name`.
    Suffix(String),
    Tokens(Vec<Token>),
}

impl Ignore {
    /// Reads the text of a `.dockerignore`.
    ///
    /// # Errors
    /// On a malformed pattern.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (index, line) in text.lines().enumerate() {
            // Only a `#` in the first column makes a comment.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (negated, body) = line.strip_prefix('!').map_or((false, line), |body| (true, body.trim()));
            if line.is_empty() {
                continue;
            }
            let error = || IgnoreError { pattern: line.to_owned(), line: index + 1 };
            if body.is_empty() {
                return Err(error());
            }
            let clean = clean(body);
            let relative = clean.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&clean);
            if !pattern::is_valid(relative) {
                return Err(error());
            }
            patterns.push(Pattern { line: index + 1, negated, matcher: Matcher::new(relative) });
        }
        Ok(Self { patterns })
    }

    /// Reads the bytes of a `.dockerignore`. Bytes that are not UTF-8 match nothing.
    ///
    /// # Errors
    /// On a malformed pattern.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, IgnoreError> {
        Self::parse(&String::from_utf8_lossy(bytes))
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path is left out. It is relative to the context, with `/` between its parts.
    ///
    /// While walking from the top, [`Ignore::folder`] and [`Ignore::file`] do the same with less work.
    pub fn excluded(&self, path: &str) -> bool {
        let (parent, path) = self.above(path);
        !path.is_empty() && self.file(&parent, path)
    }

    /// The line, from 1, of the pattern that leaves a path out, if one does.
    pub fn line_that_excludes(&self, path: &str) -> Option<usize> {
        let (parent, path) = self.above(path);
        let mut patterns = self.patterns.iter().zip(&parent.matched).rev();
        let (last, _) = patterns.find(|(pattern, inherited)| **inherited || pattern.matcher.matches(path))?;
        (!path.is_empty() && !last.negated).then_some(last.line)
    }

    /// Whether to look inside a folder: it is not left out, or something in it may be taken back in.
    pub fn enter_dir(&self, path: &str) -> bool {
        let (parent, path) = self.above(path);
        path.is_empty() || self.folder(&parent, path).enter
    }

    /// The top of the context, where a walk starts. It is never left out.
    pub fn top(&self) -> Folder {
        Folder { matched: vec![false; self.patterns.len()], excluded: false, enter: true }
    }

    /// Whether a file is left out, given the folder it is in. `path` is the whole path from the top.
    pub fn file(&self, parent: &Folder, path: &str) -> bool {
        let mut patterns = self.patterns.iter().zip(&parent.matched).rev();
        let last = patterns.find(|(pattern, inherited)| **inherited || pattern.matcher.matches(path));
        last.is_some_and(|(pattern, _)| !pattern.negated)
    }

    /// What is known of a folder, given the folder it is in. `path` is the whole path from the top.
    pub fn folder(&self, parent: &Folder, path: &str) -> Folder {
        let patterns = self.patterns.iter().zip(&parent.matched);
        let matched: Vec<bool> =
            patterns.map(|(pattern, inherited)| *inherited || pattern.matcher.matches(path)).collect();
        let last = matched.iter().rposition(|matched| *matched);
        let excluded = last.is_some_and(|last| !self.patterns[last].negated);
        // What matches the folder matches all in it, so only later patterns can take something back.
        let later = &self.patterns[last.map_or(0, |last| last + 1)..];
        let enter = !excluded || later.iter().any(|pattern| pattern.negated && pattern.matcher.matches_below(path));
        Folder { matched, excluded, enter }
    }

    /// The folder that a path is in, and the path without needless parts.
    fn above<'p>(&self, path: &'p str) -> (Folder, &'p str) {
        let path = path.trim_start_matches("./").trim_matches('/');
        let path = if path == "." { "" } else { path };
        let mut folder = self.top();
        for (index, _) in path.match_indices('/') {
            folder = self.folder(&folder, &path[..index]);
        }
        (folder, path)
    }
}

impl Matcher {
    fn new(pattern: &str) -> Self {
        let special = |text: &str| text.contains(['*', '?', '[', ']', '\\']);
        if !special(pattern) {
            return Self::Exact(pattern.to_owned());
        }
        if let Some(suffix) = pattern.strip_prefix("**")
            && !special(suffix)
        {
            return Self::Suffix(suffix.to_owned());
        }
        if let Some(prefix) = pattern.strip_suffix("**")
            && !special(prefix)
        {
            return Self::Prefix(prefix.to_owned());
        }
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    chars.next_if_eq(&'/');
                    if chars.peek().is_none() {
                        tokens.push(Token::Everything);
                    } else {
                        tokens.extend([Token::Folders, Token::InFolders]);
                    }
                }
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::One),
                '\\' => tokens.extend(chars.next().map(Token::Literal)),
                '[' => tokens.extend(pattern::class(&mut chars)),
                literal => tokens.push(Token::Literal(literal)),
            }
        }
        Self::Tokens(tokens)
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path),
            Self::Tokens(tokens) => pattern::tokens_match(tokens, path),
        }
    }

    /// Whether it may match something in the folder.
    fn matches_below(&self, folder: &str) -> bool {
        let below = |text: &str| text.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        match self {
            Self::Exact(text) => below(text),
            Self::Prefix(prefix) => below(prefix) || folder.starts_with(prefix.trim_end_matches('/')),
            Self::Suffix(_) => true,
            Self::Tokens(tokens) => pattern::tokens_match_below(tokens, &format!("{folder}/")),
        }
    }
}

/// Go's `path.Clean`: no empty parts, no `.`, `..` resolved as far as possible.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests;
