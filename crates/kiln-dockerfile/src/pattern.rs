//! Compiled path patterns: Go's `path/filepath.Match` (`*` and `?` do not match `/`, `[a-z]`, `[^a-z]`, and `\` before a
//! character that is meant literally), plus `**` for `.dockerignore`.

/// Whether a pattern is well-formed: brackets close and are not empty, and no `\` stands at the end.
pub(crate) fn is_valid(pattern: &str) -> bool {
    parse(pattern).is_some()
}

/// A piece of a compiled pattern. The last three are for `.dockerignore` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Star,
    /// `[...]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `**` with something behind it: nothing, or what [`Token::InFolders`] matches, which follows it.
    Folders,
    /// Anything that ends in a slash.
    InFolders,
    /// `**` at the end: anything.
    Everything,
}

fn parse(pattern: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Star,
            '?' => Token::One,
            '\\' => Token::Literal(chars.next()?),
            '[' => class(&mut chars)?,
            literal => Token::Literal(literal),
        });
    }
    Some(tokens)
}

/// Reads a class behind its `[`. `]`, `-` and `\` must be escaped in it.
pub(crate) fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if chars.next_if_eq(&']').is_some() {
            return (!ranges.is_empty()).then_some(Token::Class { negated, ranges });
        }
        let mut member = || match chars.next()? {
            '-' | ']' => None,
            '\\' => chars.next(),
            c => Some(c),
        };
        let low = member()?;
        let high = if chars.next_if_eq(&'-').is_some() {
            match chars.next()? {
                '-' | ']' => return None,
                '\\' => chars.next()?,
                c => c,
            }
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// Whether the tokens match the whole path.
pub(crate) fn tokens_match(tokens: &[Token], path: &str) -> bool {
    run(tokens, path).last() == Some(&true)
}

/// Whether the tokens match some path that starts with `start`.
pub(crate) fn tokens_match_below(tokens: &[Token], start: &str) -> bool {
    run(tokens, start).into_iter().take(tokens.len()).any(|place| place)
}

/// Follows every possible place in the pattern at once, so that no pattern takes exponential time. Place `n` is before
/// token `n`; the last place is the end.
fn run(tokens: &[Token], path: &str) -> Vec<bool> {
    let mut places = vec![false; tokens.len() + 1];
    let mut next = places.clone();
    places[0] = true;
    pass_empty(tokens, &mut places);
    for c in path.chars() {
        next.fill(false);
        for (place, token) in tokens.iter().enumerate() {
            if !places[place] {
                continue;
            }
            match token {
                Token::Literal(literal) => next[place + 1] |= *literal == c,
                Token::One => next[place + 1] |= c != '/',
                Token::Star => next[place] |= c != '/',
                Token::Class { negated, ranges } => {
                    let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                    next[place + 1] |= inside != *negated;
                }
                Token::Folders => {}
                Token::InFolders => {
                    next[place] = true;
                    next[place + 1] |= c == '/';
                }
                Token::Everything => next[place] = true,
            }
        }
        pass_empty(tokens, &mut next);
        std::mem::swap(&mut places, &mut next);
    }
    places
}

/// Opens the places that can be reached without a character.
fn pass_empty(tokens: &[Token], places: &mut [bool]) {
    for (place, token) in tokens.iter().enumerate() {
        if !places[place] {
            continue;
        }
        match token {
            Token::Star | Token::Everything => places[place + 1] = true,
            Token::Folders => {
                places[place + 1] = true;
                if let Some(behind) = places.get_mut(place + 2) {
                    *behind = true;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Go's own test of `filepath.Match`; `None` is a malformed pattern.
    #[test]
    fn the_rules_are_those_of_go() {
        for (pattern, path, expected) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*", "abc", Some(true)),
            ("a*", "ab/c", Some(false)),
            ("a*/b", "abc/b", Some(true)),
            ("a*/b", "a/c/b", Some(false)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Some(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Some(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            (r"a\*b", "a*b", Some(true)),
            (r"a\*b", "ab", Some(false)),
            ("a?b", "a☺b", Some(true)),
            ("a[^a]b", "a☺b", Some(true)),
            ("a???b", "a☺b", Some(false)),
            ("[a-ζ]*", "α", Some(true)),
            ("*[a-ζ]", "A", Some(false)),
            ("a?b", "a/b", Some(false)),
            ("a*b", "a/b", Some(false)),
            (r"[\]a]", "]", Some(true)),
            (r"[\-]", "-", Some(true)),
            (r"[x\-]", "-", Some(true)),
            (r"[x\-]", "z", Some(false)),
            (r"[\-x]", "a", Some(false)),
            ("*x", "xxx", Some(true)),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[x-]", "x", None),
            ("[-x]", "a", None),
            ("\\", "a", None),
            ("[a-b-c]", "a", None),
            ("[", "a", None),
            ("[^", "a", None),
            ("[^bc", "a", None),
            ("a[", "ab", None),
            ("", "", Some(true)),
            ("", "a", Some(false)),
        ] {
            assert_eq!(parse(pattern).map(|tokens| tokens_match(&tokens, path)), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn no_pattern_takes_exponential_time() {
        let pattern = "a*".repeat(60) + "b";
        let tokens = parse(&pattern).expect("valid");
        assert!(!tokens_match(&tokens, &"a".repeat(2000)));
    }
}
