//! Sizes (`5GB`, `500MiB`) and durations (`7d`, `1h30m`) as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes.
///
/// `kB`, `MB`, `GB`, `TB` and the bare letters are powers of 1000, `KiB`, `MiB`, `GiB`, `TiB` powers of 1024, as ccache
/// reads them; a bare number is bytes. Letters may be of either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(
    /// Bytes.
    pub u64,
);

/// A text that is no size or no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {expected}")]
pub struct UnitError {
    /// The text as it was given.
    pub given: String,
    /// What would have been one, with an example.
    pub expected: &'static str,
}

/// What [`ByteSize::from_str`] reads.
pub(crate) const SIZE_FORM: &str = "a size such as \"500MiB\" or \"5GB\"";
/// What [`parse_duration`] reads.
pub(crate) const DURATION_FORM: &str = "a duration such as \"90s\", \"1h30m\" or \"7d\"";

const SIZE_UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1000),
    ("kb", 1000),
    ("m", 1000_u64.pow(2)),
    ("mb", 1000_u64.pow(2)),
    ("g", 1000_u64.pow(3)),
    ("gb", 1000_u64.pow(3)),
    ("t", 1000_u64.pow(4)),
    ("tb", 1000_u64.pow(4)),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// Units of duration in milliseconds.
const DURATION_UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || UnitError { given: text.to_owned(), expected: SIZE_FORM };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let unit = unit.trim().to_ascii_lowercase();
        let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        scale(number, *factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    /// The largest unit that divides the size, so that what is printed reads back as the same number of bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: [(&str, u64); 8] = [
            ("TB", 1000_u64.pow(4)),
            ("TiB", 1 << 40),
            ("GB", 1000_u64.pow(3)),
            ("GiB", 1 << 30),
            ("MB", 1000_u64.pow(2)),
            ("MiB", 1 << 20),
            ("kB", 1000),
            ("KiB", 1 << 10),
        ];
        match SHOWN.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Reads `90s`, `500ms`, `15m`, `2h`, `7d`, `2w` and chains of them (`1h30m`). A bare number is refused, except `0`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError { given: text.to_owned(), expected: DURATION_FORM };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0_u64;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit = unit.to_ascii_lowercase();
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total = scale(number, *factor).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        parts += 1;
        rest = tail.trim_start();
    }
    if parts == 0 { Err(wrong()) } else { Ok(Duration::from_millis(total)) }
}

/// Decimal `number` times `factor`, rounded down, exactly; nothing if it is malformed or too large.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let denominator = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let numerator = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    whole.checked_add(u64::try_from(numerator * u128::from(factor) / denominator).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("5GB", 5_000_000_000),
            ("5 gb", 5_000_000_000),
            ("500MiB", 524_288_000),
            ("1.5KiB", 1536),
            ("2G", 2_000_000_000),
            ("10kB", 10_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
            assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)), "{text} reads back");
        }
        for text in ["", "GB", "5XB", "-1", "1.GB", ".5GB", "1.2.3MB", "99999999TB", "5 G B", "1e3"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("90s", 90.0), ("7d", 604_800.0), ("1h30m", 5400.0), ("1.5h", 5400.0), ("250ms", 0.25)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        assert_eq!(parse_duration("2W"), Ok(Duration::from_hours(336)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for text in ["", "7", "d", "7 years", "-1d", "1d2", "99999999999999999w"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_duration("soon").unwrap_err().to_string(),
            "`soon` is not a duration such as \"90s\", \"1h30m\" or \"7d\""
        );
    }
}
