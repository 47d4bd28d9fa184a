//! Numbers and words as people read them, on a terminal as well as on a page.

use jiff::Timestamp;

/// `0.25 s`, `12.3 s`, `2m 05s`, `1h 02m`: how long something took, in seconds.
pub fn duration(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    if seconds < 1.0 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is no negative number, and no long time"
    )]
    let seconds = seconds.round() as u64;
    if seconds < 3600 {
        format!("{}m {:02}s", seconds / 60, seconds % 60)
    } else {
        format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60)
    }
}

/// `512 B`, `8.2 MB`: a size in units of thousands.
pub fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    if unit == "B" || value >= 99.95 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// `92%`, or a dash where there is nothing to tell.
pub fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.0}%"))
}

/// `+12.0 s (+38%)`: the way from one time to another.
pub fn change(before: f64, now: f64) -> String {
    let (sign, difference) = if now < before { ('-', before - now) } else { ('+', now - before) };
    let part = if before > 0.0 { format!(" ({:+.0}%)", 100.0 * (now / before - 1.0)) } else { String::new() };
    format!("{sign}{}{part}", duration(difference))
}

/// `2026-11-28 17:52 UTC`: a moment in milliseconds since 1970.
pub fn moment(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds)
        .map(|moment| moment.strftime("%Y-%m-%d %H:%M UTC").to_string())
        .unwrap_or_default()
}

/// The same for programs: `2026-11-28T17:52:03Z`.
pub fn machine_moment(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds)
        .map(|moment| moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

/// `1 platform`, `3 platforms`.
pub fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Whether a character is no text, or turns the direction of what follows it.
pub fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// Text on one line without such characters, cut to a number of characters, with an ellipsis where something is missing.
pub fn line(text: &str, most: usize) -> String {
    let clean = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !is_harmful(*c));
    let mut line: String = clean.take(most.saturating_add(1)).collect();
    if let Some((at, _)) = line.char_indices().nth(most) {
        let at = line[..at].char_indices().next_back().map_or(0, |(last, _)| last);
        line.truncate(at);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_well() {
        let times = [
            (0.254, "0.25 s"),
            (12.34, "12.3 s"),
            (59.96, "1m 00s"),
            (125.0, "2m 05s"),
            (3599.7, "1h 00m"),
            (7380.0, "2h 03m"),
            (-1.0, "0.00 s"),
            (f64::NAN, "0.00 s"),
        ];
        for (time, expected) in times {
            assert_eq!(duration(time), expected);
        }
        let sizes = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (8_234_567, "8.2 MB"),
            (999_600, "1.0 MB"),
            (123_456_789, "123 MB"),
        ];
        for (bytes, expected) in sizes {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!((percent(Some(91.7)), percent(None)), ("92%".to_owned(), "-".to_owned()));
        assert_eq!(change(30.0, 45.0), "+15.0 s (+50%)");
        assert_eq!(change(0.0, 4.0), "+4.0 s");
    }

    #[test]
    fn moments_are_those_of_utc() {
        assert_eq!(moment(1_700_000_000_123), "2023-11-14 22:13 UTC");
        assert_eq!(machine_moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(i64::MAX), "");
    }

    #[test]
    fn lines_are_cut_and_cleaned() {
        assert_eq!(line("a\tb\nc\u{202e}d\0", 9), "a b cd");
        assert_eq!(line("hello", 5), "hello");
        assert_eq!(line("hello!", 5), "hell…");
        assert_eq!(line("\u{4f60}\u{597d}\u{4f60}", 2), "\u{4f60}…");
        assert_eq!(line("x", 0), "…");
    }
}
