//! The patterns of `${name#pattern}` and its relatives: `*`, `?` and literal characters, no brackets.

use super::ExpandError;

enum Token {
    /// `*`: any number of characters.
    Any,
    /// `?`: one character.
    One,
    /// This character.
    Literal(char),
}

/// A compiled pattern. Wildcards do not match line ends.
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    pub(super) fn new(pattern: &str) -> Result<Self, ExpandError> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                // These end a substitution, so they may be escaped without meaning anything else by it.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '?' | '\\')) => Token::Literal(escaped),
                    _ => return Err(ExpandError::PatternEscape { pattern: pattern.to_owned() }),
                },
                literal => Token::Literal(literal),
            });
        }
        Ok(Self(tokens))
    }

    pub(super) fn trim_start(&self, value: &str, longest: bool) -> String {
        let text: Vec<char> = value.chars().collect();
        let end = matched(self.0.iter(), &text, longest).unwrap_or(0);
        text[end..].iter().collect()
    }

    pub(super) fn trim_end(&self, value: &str, longest: bool) -> String {
        let reversed: Vec<char> = value.chars().rev().collect();
        let end = matched(self.0.iter().rev(), &reversed, longest).unwrap_or(0);
        reversed[end..].iter().rev().collect()
    }

    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let text: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut position = 0;
        let mut previous_end = None;
        while position <= text.len() {
            let length = matched(self.0.iter(), &text[position..], true)
                // An empty match right behind another match is not a match of its own.
                .filter(|&length| length > 0 || previous_end != Some(position));
            let Some(length) = length else {
                result.extend(text.get(position));
                position += 1;
                continue;
            };
            result.push_str(replacement);
            if !all {
                result.extend(&text[position + length..]);
                return result;
            }
            if length == 0 {
                result.extend(text.get(position));
            }
            position += length.max(1);
            previous_end = (length > 0).then_some(position);
        }
        result
    }
}

/// Length of the longest or shortest start of `text` that the tokens match.
fn matched<'a>(tokens: impl Iterator<Item = &'a Token>, text: &[char], longest: bool) -> Option<usize> {
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    for token in tokens {
        let mut next = vec![false; text.len() + 1];
        for (i, _) in ends.iter().enumerate().filter(|(_, end)| **end) {
            match token {
                Token::Literal(c) if text.get(i) == Some(c) => next[i + 1] = true,
                Token::One if text.get(i).is_some_and(|c| *c != '\n') => next[i + 1] = true,
                Token::Any => next[i] = true,
                _ => {}
            }
        }
        if matches!(token, Token::Any) {
            for i in 0..text.len() {
                next[i + 1] |= next[i] && text[i] != '\n';
            }
        }
        ends = next;
    }
    if longest { ends.iter().rposition(|end| *end) } else { ends.iter().position(|end| *end) }
}
