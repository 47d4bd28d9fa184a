//! The wildcards of `COPY`: the rules of Go's `filepath.Match` (`*`, `?`, `[a-z]`, `[^a]`, `\x`), where no wildcard
//! matches a slash. Source: Go's package documentation of `path/filepath`.

/// Whether a path contains an unescaped wildcard.
pub fn has_wildcard(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
    false
}

/// Whether `pattern` matches the whole of `path`. A malformed pattern matches nothing.
pub fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let path: Vec<char> = path.chars().collect();
    // Where to go on if the text after the last `*` does not match: the usual linear-space backtracking.
    let (mut p, mut s) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, s));
            p += 1;
            continue;
        }
        if s == path.len() && p == pattern.len() {
            return true;
        }
        match (s < path.len()).then(|| one(&pattern[p..], path[s])) {
            Some(Some(used)) => {
                p += used;
                s += 1;
            }
            _ => match star {
                Some((at, from)) if from < path.len() && path[from] != '/' => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    s = from + 1;
                }
                _ => return false,
            },
        }
    }
}

/// How many characters of the pattern match `c`, if they do.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => (c != '/').then_some(1),
        '[' => class(pattern, c),
        '\\' => (pattern.get(1) == Some(&c)).then_some(2),
        literal => (literal == c).then_some(1),
    }
}

fn class(pattern: &[char], c: char) -> Option<usize> {
    let mut i = 1;
    let negated = pattern.get(i) == Some(&'^');
    i += usize::from(negated);
    let mut found = false;
    let mut first = true;
    let take = |i: &mut usize| -> Option<char> {
        let mut c = *pattern.get(*i)?;
        if c == '\\' {
            *i += 1;
            c = *pattern.get(*i)?;
        }
        *i += 1;
        Some(c)
    };
    while first || pattern.get(i) != Some(&']') {
        first = false;
        let low = take(&mut i)?;
        let high = if pattern.get(i) == Some(&'-') {
            i += 1;
            take(&mut i)?
        } else {
            low
        };
        found |= (low..=high).contains(&c);
    }
    (found != negated && c != '/').then_some(i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        for (pattern, path, expected) in [
            ("*.py", "main.py", true),
            ("*.py", "a/main.py", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*/x", "a/x", true),
            ("?", "/", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[]a]", "]", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("[", "[", false),
            ("", "", true),
            ("*", "", true),
            ("ab", "a", false),
            ("é?", "éa", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} on {path}");
        }
        assert!(has_wildcard("a*"));
        assert!(!has_wildcard(r"a\*"));
    }
}
