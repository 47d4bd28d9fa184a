//! The texts that addresses are written in: CSV as buildx reads it, URLs, and words that are nearly right.

use std::time::Duration;

use kiln_graph::edits;

/// The fields of one line of CSV, as Go's `encoding/csv` reads them: a field may stand in quotes, in which two quotes mean
/// one.
pub(super) fn csv(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted)?
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        if !rest.starts_with('"') && field.contains(['"', '\n', '\r']) {
            return Err("a field with a quote or a line break in it must stand in quotes");
        }
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("a comma must follow the quote that ends a field"),
        }
    }
}

fn quoted_field(text: &str) -> Result<(String, &str), &'static str> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let (part, after) = rest.split_once('"').ok_or("a quote is not closed")?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Ok((field, after)),
        }
    }
}

/// Turns `%2F` into `/`. What is no such escape, or would be no UTF-8, stays as it is.
pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |offset: usize| char::from(*bytes.get(at + offset)?).to_digit(16);
        if let (b'%', Some(high), Some(low)) = (byte, digit(1), digit(2)) {
            // Two hexadecimal digits are less than 256.
            out.extend(u8::try_from(high * 16 + low));
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The scheme of a URL and what is behind `://`.
pub(super) fn scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-');
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(legal);
    is_scheme.then(|| (scheme.to_ascii_lowercase(), rest))
}

/// What is before the `?`, and the pairs behind it.
pub(super) fn query(text: &str) -> (&str, Vec<(String, String)>) {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(&value.replace('+', "%20")))
    };
    (path, pairs.map(pair).collect())
}

/// What Go's `strconv.ParseBool` knows.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// `1h30m`, `10m`, `90s`, `500ms`, or a number of seconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let length = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let part = match &unit[..length] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = &unit[length..];
    }
    (!text.is_empty()).then_some(total)
}

/// The word that a misspelled one most resembles, if it is near enough to be a slip of the finger.
pub(super) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let len = given.chars().count();
    // A long text is no misspelled word, and to compare it would take long.
    if len > 64 {
        return None;
    }
    let limit = (len / 3).clamp(1, 3);
    let near = candidates.into_iter().map(|word| (edits(given, word), word));
    near.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_read_as_go_reads_it() {
        for (text, expected) in [
            ("", Some(&[""][..])),
            ("a", Some(&["a"])),
            ("a,b", Some(&["a", "b"])),
            ("a,,b,", Some(&["a", "", "b", ""])),
            (r#""a,b",c"#, Some(&["a,b", "c"])),
            (r#""a""b""#, Some(&[r#"a"b"#])),
            (r#""""""#, Some(&[r#"""#])),
            (r#"""""#, None),
            (r#""""#, Some(&[""])),
            ("\"a\nb\"", Some(&["a\nb"])),
            (r#"a"b"#, None),
            (r#""a"b"#, None),
            (r#""a"#, None),
            (r#"""""""#, None),
            ("a\nb", None),
        ] {
            let read = csv(text).ok();
            assert_eq!(
                read.as_deref(),
                expected.map(|e| e.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).as_deref(),
                "{text}"
            );
        }
    }

    #[test]
    fn escapes_durations_and_booleans() {
        for (text, expected) in
            [("a%2Fb", "a/b"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("%ff", "%ff"), ("%c3%B6", "ö")]
        {
            assert_eq!(decoded(text), expected, "{text}");
        }
        for (text, expected) in [
            ("10m", Some(600_000)),
            ("1h30m", Some(5_400_000)),
            ("90", Some(90_000)),
            ("1s500ms", Some(1500)),
            ("", None),
            ("m", None),
            ("1", Some(1000)),
            ("1.5h", None),
            ("-1s", None),
            ("99999999999999999999s", None),
            ("9999999999999999999h", None),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis()), expected, "{text}");
        }
        assert_eq!([boolean("1"), boolean("False"), boolean("yes")], [Some(true), Some(false), None]);
    }

    #[test]
    fn a_slip_finds_its_word() {
        assert_eq!(nearest("regsitry", ["local", "registry", "s3"]), Some("registry"));
        assert_eq!(nearest("inline", ["local", "registry", "s3"]), None);
        assert_eq!(nearest(&"s".repeat(10_000), ["s3"]), None);
    }
}
