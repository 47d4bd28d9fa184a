//! Text for terminals: harmless, of a known width, with times and sizes that people read.

use std::borrow::Cow;
use std::time::Duration;

use console::{Style, measure_text_width, strip_ansi_codes, truncate_str};
use kiln_graph::Platform;
use kiln_report::text::is_harmful;
pub(crate) use kiln_report::text::size;

/// Columns between tab stops.
const TAB: usize = 8;

/// Colours, or none. Words and signs carry the meaning; colours only help the eye.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    /// Whether colours are written.
    pub(crate) color: bool,
}

impl Paint {
    fn paint(self, style: Style, text: &str) -> String {
        if self.color { style.force_styling(true).apply_to(text).to_string() } else { text.to_owned() }
    }

    /// For what went well.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint(Style::new().green(), text)
    }

    /// For what went wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint(Style::new().red().bold(), text)
    }

    /// For headings and names.
    pub(crate) fn strong(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    /// For what matters least.
    pub(crate) fn faint(self, text: &str) -> String {
        self.paint(Style::new().dim(), text)
    }

    /// For hints.
    pub(crate) fn hint(self, text: &str) -> String {
        self.paint(Style::new().cyan().bold(), text)
    }
}

/// A line of a step's output that can do a terminal no harm: no escape sequences, no control characters, nothing that
/// turns the direction of writing; tabs become spaces.
pub(crate) fn harmless(line: &str) -> Cow<'_, str> {
    if !line.chars().any(is_harmful) {
        return Cow::Borrowed(line);
    }
    let mut clean = String::with_capacity(line.len());
    let mut column = 0;
    for c in strip_ansi_codes(line).chars() {
        if c == '\t' {
            let spaces = TAB - column % TAB;
            clean.extend(std::iter::repeat_n(' ', spaces));
            column += spaces;
        } else if !is_harmful(c) {
            clean.push(c);
            column += 1;
        }
    }
    Cow::Owned(clean)
}

/// Text on one line, harmless, with runs of white space made one space.
pub(crate) fn one_line(text: &str) -> String {
    text.lines()
        .map(harmless)
        .flat_map(|l| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect::<Vec<_>>()
        .join(" ")
}

/// An instruction without the options that say how it runs rather than what: `RUN pip install x`.
pub(crate) fn short_instruction(text: &str) -> String {
    let text = one_line(text);
    let Some((keyword, mut rest)) = text.split_once(' ') else { return text };
    while let Some((option, after)) = rest.split_once(' ')
        && ["--mount=", "--network=", "--security="].iter().any(|o| option.starts_with(o))
    {
        rest = after;
    }
    format!("{keyword} {rest}")
}

/// Text cut to a display width, with an ellipsis where something is missing.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    truncate_str(text, width, "…")
}

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    measure_text_width(text)
}

/// Text with spaces up to a display width.
pub(crate) fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

/// Words in lines of at most `columns`; a longer word has a line of its own.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// How many of all compilations storage that compiler caches share has answered; nothing if it answered none.
pub(crate) fn from_storage(platform: Platform, shared: u64, all: u64) -> Option<String> {
    (shared > 0).then(|| format!("{platform}: {shared} of {all} compilations came from shared storage"))
}

/// `0:07`, `12:34`, `1:02:03`: a running clock.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// `0.25 s`, `12.3 s`, `2m 05s`, `1h 02m`: how long something took.
pub(crate) fn duration(time: Duration) -> String {
    kiln_report::text::duration(time.as_secs_f64())
}

/// How long ago something was, in the largest unit.
pub(crate) fn ago(then: i64, now: i64) -> String {
    if then == 0 {
        return "-".to_owned();
    }
    let seconds = now.saturating_sub(then).max(0);
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= *unit).unwrap_or((1, "second"));
    let count = seconds / unit;
    format!("{count} {name}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_move_the_cursor() {
        let cases = [
            ("plain text", "plain text"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[2J\u{1b}[Hgone", "gone"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("back\u{8}\u{8}space\u{7}", "backspace"),
            ("a\tb", "a       b"),
            ("\u{9b}31mc1", "c1"),
            ("na\u{ef}ve \u{4f60}\u{597d} \u{1f600}", "na\u{ef}ve \u{4f60}\u{597d} \u{1f600}"),
            ("safe\u{202e}gpj.exe", "safegpj.exe"),
            ("\u{1b}", ""),
            ("\u{1b}[", "["),
        ];
        for (line, expected) in cases {
            let clean = harmless(line);
            assert!(!clean.chars().any(char::is_control), "{line:?} became {clean:?}");
            if line != "\u{1b}[" {
                assert_eq!(clean, expected, "{line:?}");
            }
        }
    }

    #[test]
    fn text_is_cut_by_columns_not_bytes() {
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello!", 5), "hell…");
        assert_eq!(cut("\u{4f60}\u{597d}\u{4f60}\u{597d}", 5), "\u{4f60}\u{597d}…");
        assert_eq!(width(&cut("\u{4f60}\u{597d}\u{4f60}\u{597d}", 4)), 3);
        assert_eq!(pad("\u{4f60}", 4), "\u{4f60}  ");
    }

    #[test]
    fn options_of_an_instruction_are_left_out() {
        let text = "RUN --mount=type=cache,target=/x --network=none pip install  -r\\\n requirements.txt";
        assert_eq!(short_instruction(text), "RUN pip install -r\\ requirements.txt");
        assert_eq!(short_instruction("COPY --from=compile /out /"), "COPY --from=compile /out /");
        assert_eq!(short_instruction("load"), "load");
    }

    #[test]
    fn clocks_read_well() {
        let seconds = Duration::from_secs_f64;
        let clocks = [(7.9, "0:07"), (754.0, "12:34"), (3723.0, "1:02:03")];
        for (time, expected) in clocks {
            assert_eq!(clock(seconds(time)), expected);
        }
    }

    #[test]
    fn words_wrap() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensibilities of", 5), ["incomprehensibilities", "of"]);
        assert_eq!(wrap("", 5), Vec::<String>::new());
    }

    #[test]
    fn times_are_told_in_the_largest_unit() {
        for (then, text) in
            [(0, "-"), (1000, "0 seconds ago"), (999, "1 second ago"), (940, "1 minute ago"), (2000, "0 seconds ago")]
        {
            assert_eq!(ago(then, 1000), text);
        }
        assert_eq!(ago(1, 86_400 * 3), "2 days ago");
    }
}
