//! What BuildKit writes into an image's history, instruction by instruction. Source: `dockerfile2llb/convert.go`, whose
//! texts are Go's `%v` and `%q` of the instruction's values.

use kiln_graph::{Healthcheck, Owner};

use crate::ast::Transfer;

/// `ENV a=1 b=two words`.
pub(super) fn pairs<'t>(keyword: &str, pairs: impl Iterator<Item = (&'t str, &'t str)>) -> String {
    pairs.fold(keyword.to_owned(), |text, (name, value)| format!("{text} {name}={value}"))
}

/// `RUN |1 ARG=value /bin/sh -c make # buildkit`.
pub(super) fn run(arguments: &[String], argv: &[String]) -> String {
    let mut words = vec!["RUN".to_owned()];
    if !arguments.is_empty() {
        words.push(format!("|{}", arguments.len()));
        words.extend_from_slice(arguments);
    }
    words.extend_from_slice(argv);
    words.push("# buildkit".to_owned());
    words.join(" ")
}

/// `COPY --chown=me --chmod=755 a b /c/ # buildkit`.
pub(super) fn transfer(
    transfer: &Transfer,
    add: bool,
    sources: &[String],
    owner: Option<&Owner>,
    chmod: Option<&str>,
    excludes: &[String],
    dest: &str,
) -> String {
    let mut words = vec![if add { "ADD" } else { "COPY" }.to_owned()];
    words.extend(transfer.parents.then(|| "--parents".to_owned()));
    words.extend(owner.map(|owner| format!("--chown={}", owner.spec)));
    words.extend(chmod.map(|mode| format!("--chmod={mode}")));
    words.extend(excludes.iter().map(|pattern| format!("--exclude={pattern}")));
    words.extend_from_slice(sources);
    words.extend(transfer.contents.iter().map(|heredoc| format!("<<{}", heredoc.name)));
    words.push(dest.to_owned());
    words.push("# buildkit".to_owned());
    words.join(" ")
}

/// `["a" "b"]`: a list as Go's `%q` writes it.
pub(super) fn quoted(list: &[String]) -> String {
    let words: Vec<String> = list.iter().map(|word| quote(word)).collect();
    format!("[{}]", words.join(" "))
}

/// `&{["CMD-SHELL" "true"] "5s" "0s" "0s" "0s" '\x00'}`.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    let times = [check.interval, check.timeout, check.start_period, check.start_interval];
    let times: Vec<String> = times.iter().map(|time| format!("\"{}\"", duration(time.unwrap_or_default()))).collect();
    format!("&{{{} {} {}}}", quoted(&check.test), times.join(" "), rune(check.retries.unwrap_or_default()))
}

/// Go's `strconv.Quote`.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\x7f' => out.extend(format!("\\x{:02x}", u32::from(c)).chars()),
            c if c.is_control() => out.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A number as Go's `%q` writes it: the character of that number.
fn rune(number: i64) -> String {
    let c = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    match quote(&c.to_string()) {
        _ if c == '\'' => "'\\''".to_owned(),
        _ if c == '"' => "'\"'".to_owned(),
        text => format!("'{}'", &text[1..text.len() - 1]),
    }
}

/// Go's `time.Duration.String` of nanoseconds.
fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let (whole, rest) = (value / unit, value % unit);
        let digits = format!("{rest:0width$}", width = unit.ilog10() as usize);
        let digits = digits.trim_end_matches('0');
        if digits.is_empty() || unit == 1 { whole.to_string() } else { format!("{whole}.{digits}") }
    };
    let text = match all {
        0 => "0s".to_owned(),
        1..1_000 => format!("{all}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", fraction(all, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(all, 1_000_000)),
        _ => {
            let minutes = all / 60_000_000_000;
            let seconds = format!("{}s", fraction(all % 60_000_000_000, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let second = 1_000_000_000;
        for (nanoseconds, text) in [
            (0, "0s"),
            (5 * second, "5s"),
            (90 * second, "1m30s"),
            (3600 * second, "1h0m0s"),
            (1_500_000, "1.5ms"),
            (second + 250_000_000, "1.25s"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
    }

    #[test]
    fn quoting_is_gos() {
        assert_eq!(quoted(&["a\"b\\".into(), "c\n\u{1}\u{e4}".into()]), "[\"a\\\"b\\\\\" \"c\\n\\x01\u{e4}\"]");
        assert_eq!(rune(0), r"'\x00'");
        assert_eq!(rune(3), r"'\x03'");
        assert_eq!(rune(65), "'A'");
    }
}
