//! Text that means nothing to Markdown, and none of what it could do there. Pure.
//!
//! Sources: CommonMark 0.31 (any ASCII punctuation may be escaped) and GitHub's extensions to it (tables, strikethrough).

use crate::text;

/// Text for a paragraph or a cell of a table, on one line.
pub(super) fn escape(words: &str, most: usize) -> String {
    let mut safe = String::new();
    for c in text::line(words, most).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            // Mentions and references are made of what is left after Markdown: only entities keep them from being any.
            '@' => safe.push_str("&#64;"),
            '#' => safe.push_str("&#35;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '!' | '|' | '~' | '$' => {
                safe.push('\\');
                safe.push(c);
            }
            _ => safe.push(c),
        }
    }
    // A list, or a heading's underline, at the start of a line.
    if starts_a_list(&safe) || !safe.is_empty() && safe.chars().all(|c| matches!(c, '-' | '+' | '=' | ' ')) {
        safe.insert(0, '\u{200b}');
    }
    safe
}

/// Whether a text begins as `- ` or `1. ` does.
fn starts_a_list(text: &str) -> bool {
    if text.starts_with("- ") || text.starts_with("+ ") {
        return true;
    }
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < text.len() && (rest.starts_with(". ") || rest.starts_with(") "))
}

/// Text as code in a cell of a table: GitHub takes a row apart at `|` before it looks for code.
pub(super) fn cell(words: &str, most: usize) -> String {
    code(words, most).replace('|', "\\|")
}

/// Text as code: its own backticks are fewer than those around it.
pub(super) fn code(words: &str, most: usize) -> String {
    let line = text::line(words, most);
    let line = line.trim();
    if line.is_empty() {
        return String::new();
    }
    let fence = "`".repeat(longest_run(line) + 1);
    let room = if line.starts_with('`') || line.ends_with('`') { " " } else { "" };
    format!("{fence}{room}{line}{room}{fence}")
}

/// Lines as a block of code.
pub(super) fn block(lines: &[String]) -> String {
    let longest = lines.iter().map(|line| longest_run(line)).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", lines.join("\n"))
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_is_escaped() {
        let cases = [
            ("a|b", "a\\|b"),
            ("</b><img src=x onerror=alert(1)>", "&lt;/b&gt;&lt;img src=x onerror=alert(1)&gt;"),
            ("*a* _b_ `c`", "\\*a\\* \\_b\\_ \\`c\\`"),
            ("[x](http://y) ![z](w)", "\\[x\\](http://y) \\!\\[z\\](w)"),
            ("@somebody #12 $x$", "&#64;somebody &#35;12 \\$x\\$"),
            ("two\nlines", "two lines"),
            ("- x", "\u{200b}- x"),
            ("1. x", "\u{200b}1. x"),
            ("---", "\u{200b}---"),
            ("--version: x", "--version: x"),
            ("1.5 s", "1.5 s"),
            ("12 s", "12 s"),
        ];
        for (text, expected) in cases {
            assert_eq!(escape(text, 100), expected, "{text}");
        }
    }

    #[test]
    fn code_cannot_end_early() {
        assert_eq!(code("RUN x", 99), "`RUN x`");
        assert_eq!(code("a `b` ``c``", 99), "``` a `b` ``c`` ```");
        assert_eq!(cell("a | b", 99), "`a \\| b`");
        assert_eq!(code("a | b", 99), "`a | b`");
        assert_eq!(code("  ", 99), "");
        assert_eq!(block(&["a".into(), "```x".into()]), "````text\na\n```x\n````\n");
    }
}
