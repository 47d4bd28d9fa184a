//! Shell scripts as words and operators with their places: as much of a shell as is needed to find commands and their
//! arguments. Nothing is run and nothing is expanded unless it is known.

use std::ops::Range;

/// A word, or what stands between words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Word(Word),
    /// `\n`, `;`, `;;`, `&&`, `||`, `|`, `&`, `(`, `)`, `>`, `>>`, `<`, `<<`.
    Operator(&'static str, usize),
}

/// A word of several pieces.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    pub(crate) pieces: Vec<Piece>,
    /// Bytes, with quotation marks.
    pub(crate) span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    Text(String),
    /// `$NAME` or `${NAME}`.
    Variable(String),
    /// `$(...)` and the like, as written.
    Unknown(String),
}

impl Word {
    /// The word with quotation marks removed, and what is not known as it was written.
    pub(crate) fn text(&self) -> String {
        let shown = |piece: &Piece| match piece {
            Piece::Text(text) | Piece::Unknown(text) => text.clone(),
            Piece::Variable(name) => format!("${{{name}}}"),
        };
        self.pieces.iter().map(shown).collect()
    }

    /// The word with all variables replaced; nothing if one is not known.
    pub(crate) fn expand(&self, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
        let expanded = |piece: &Piece| match piece {
            Piece::Text(text) => Some(text.clone()),
            Piece::Variable(name) => variable(name),
            Piece::Unknown(_) => None,
        };
        self.pieces.iter().map(expanded).collect()
    }
}

/// One command: its words, where a redirection leads, what follows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) words: Vec<Word>,
    /// From the first word to the end of the last.
    pub(crate) span: Range<usize>,
    /// What ends it; empty at the end of the text.
    pub(crate) end: &'static str,
}

impl Command {
    /// The words as texts.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.words.iter().map(Word::text).collect()
    }
}

/// The commands of a script in their order, whatever structure they stand in.
pub(crate) fn commands(text: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut words: Vec<Word> = Vec::new();
    let mut skip = false;
    let mut finish = |words: &mut Vec<Word>, end: &'static str| {
        if let (Some(first), Some(last)) = (words.first(), words.last()) {
            let span = first.span.start..last.span.end;
            commands.push(Command { words: std::mem::take(words), span, end });
        }
    };
    for token in tokens(text) {
        match token {
            // The file of a redirection is no argument.
            Token::Word(_) if skip => skip = false,
            Token::Word(word) => words.push(word),
            Token::Operator(">" | ">>" | "<" | "<<", at) => {
                // The number in front of it is no argument either.
                words.pop_if(|word| word.span.end == at && word.text().bytes().all(|b| b.is_ascii_digit()));
                skip = true;
            }
            Token::Operator(sign, _) => finish(&mut words, sign),
        }
    }
    finish(&mut words, "");
    commands
}

const OPERATORS: [&str; 12] = ["&&", "||", ";;", ">>", "<<", "|", "&", ";", "(", ")", ">", "<"];

/// The words and operators of a script. A quotation mark without its partner reaches to the end.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader { text, at: 0 };
    let mut tokens = Vec::new();
    let mut heredocs: Vec<String> = Vec::new();
    while let Some(c) = reader.peek() {
        let rest = reader.rest();
        if rest.starts_with("\\\n") {
            reader.at += 2;
        } else if c == '\n' {
            tokens.push(Token::Operator("\n", reader.at));
            reader.at += 1;
            for end in std::mem::take(&mut heredocs) {
                reader.skip_heredoc(&end);
            }
        } else if c.is_whitespace() {
            reader.at += c.len_utf8();
        } else if c == '#' {
            reader.at += rest.find('\n').unwrap_or(rest.len());
        } else if let Some(sign) = OPERATORS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Operator(sign, reader.at));
            reader.at += sign.len();
        } else {
            let word = reader.word();
            if matches!(tokens.last(), Some(Token::Operator("<<", _))) {
                heredocs.push(word.text().trim_start_matches('-').to_owned());
            }
            tokens.push(Token::Word(word));
        }
    }
    tokens
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_heredoc(&mut self, end: &str) {
        while self.at < self.text.len() {
            let line = self.rest().lines().next().unwrap_or_default();
            self.at = (self.at + line.len() + 1).min(self.text.len());
            if line.trim() == end {
                break;
            }
        }
    }

    fn word(&mut self) -> Word {
        let start = self.at;
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut quote: Option<char> = None;
        let mut is_quoted = false;
        while let Some(c) = self.peek() {
            let rest = self.rest();
            match (quote, c) {
                (Some(open), c) if c == open => {
                    quote = None;
                    self.at += 1;
                }
                (Some('\''), c) => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
                (None, '"' | '\'') => {
                    quote = Some(c);
                    is_quoted = true;
                    self.at += 1;
                }
                (_, '$') if rest.starts_with("${{") => {
                    // GitHub's expression, which is gone before a shell sees the text.
                    let end = rest.find("}}").map_or(rest.len(), |at| at + 2);
                    text.push_str(&rest[..end]);
                    self.at += end;
                }
                (_, '$' | '`') => {
                    if let Some((piece, length)) = substitution(rest) {
                        if !text.is_empty() {
                            pieces.push(Piece::Text(std::mem::take(&mut text)));
                        }
                        pieces.push(piece);
                        self.at += length;
                    } else {
                        text.push(c);
                        self.at += 1;
                    }
                }
                (_, '\\') => {
                    let escaped = rest[1..].chars().next();
                    self.at += 1 + escaped.map_or(0, char::len_utf8);
                    match (quote, escaped) {
                        (_, Some('\n')) => {}
                        (Some(_), Some(c)) if !matches!(c, '"' | '\\' | '$' | '`') => text.extend(['\\', c]),
                        (_, Some(c)) => text.push(c),
                        (_, None) => text.push('\\'),
                    }
                }
                (None, c) if c.is_whitespace() || OPERATORS.iter().any(|sign| rest.starts_with(sign)) => break,
                (_, c) => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        if !text.is_empty() || (is_quoted && pieces.is_empty()) {
            pieces.push(Piece::Text(text));
        }
        Word { pieces, span: start..self.at }
    }
}

/// What a `$` or backtick begins, and how long it is.
fn substitution(text: &str) -> Option<(Piece, usize)> {
    let unknown = |length: usize| Some((Piece::Unknown(text[..length].to_owned()), length));
    if let Some(rest) = text.strip_prefix('`') {
        return unknown(rest.find('`').map_or(text.len(), |at| at + 2));
    }
    if text.starts_with("$(") {
        let mut depth = 0usize;
        for (at, c) in text.char_indices() {
            match c {
                '(' => depth += 1,
                ')' if depth <= 1 => return unknown(at + 1),
                ')' => depth -= 1,
                _ => {}
            }
        }
        return unknown(text.len());
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(inner) = text.strip_prefix("${") {
        let end = inner.find('}')?;
        let name = &inner[..end];
        if !name.is_empty() && name.chars().all(is_name) {
            return Some((Piece::Variable(name.to_owned()), end + 3));
        }
        return unknown(end + 3);
    }
    let name: String = text[1..].chars().take_while(|c| is_name(*c)).collect();
    match text[1..].chars().next() {
        Some('@' | '*' | '?' | '#' | '!') => unknown(2),
        _ if name.is_empty() => None,
        _ => Some((Piece::Variable(name.clone()), name.len() + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<Vec<String>> {
        commands(text).iter().map(Command::texts).collect()
    }

    #[test]
    fn commands_are_found_in_a_script() {
        let text = "set -e  # strict\napk add \\\n  a b && export PATH=/x:\\$PATH; echo \"a $B ${C}\" 'd e' >> \"$GITHUB_OUTPUT\"\n\
                    x $(date -u \"+%s\") \"it's\" a\\ b \"\" ${{ matrix.arch }} | tee log";
        let expected: Vec<Vec<&str>> = vec![
            vec!["set", "-e"],
            vec!["apk", "add", "a", "b"],
            vec!["export", "PATH=/x:$PATH"],
            vec!["echo", "a ${B} ${C}", "d e"],
            vec!["x", "$(date -u \"+%s\")", "it's", "a b", "", "${{ matrix.arch }}"],
            vec!["tee", "log"],
        ];
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn a_script_inside_a_script_is_one_word() {
        let text =
            "docker run -v \"$PWD\":/src alpine sh -c \"\n  echo a &&\n  echo \\\"b\\\" \\\n   c\n\"\necho done\n";
        let all = shown(text);
        assert_eq!(all[0].last().unwrap(), "\n  echo a &&\n  echo \"b\"    c\n");
        assert_eq!(all[1], ["echo", "done"]);
        assert_eq!(&text[commands(text)[1].span.clone()], "echo done");
    }

    #[test]
    fn here_documents_are_no_commands() {
        assert_eq!(shown("cat > f << 'EOF'\ndocker run x\nEOF\nls\n"), [vec!["cat"], vec!["ls"]]);
    }

    #[test]
    fn words_expand_only_when_all_is_known() {
        let commands = commands("a-$X $(b)");
        let expand = |at: usize| commands[0].words[at].expand(&|name| (name == "X").then(|| "1".to_owned()));
        assert_eq!((expand(0).as_deref(), expand(1)), (Some("a-1"), None));
    }
}
