//! Values with a format of their own: durations, sizes, booleans, ports, signals.

use kiln_graph::Healthcheck;

use super::words::{Flags, invalid};
use crate::Error;

/// The options of a health check.
pub(super) fn healthcheck(flags: &Flags<'_>, test: Vec<String>) -> Result<Healthcheck, Error> {
    let time = |name: &str| -> Result<Option<i64>, Error> {
        let Some(word) = flags.value(name)? else { return Ok(None) };
        // Docker refuses shorter ones, except zero, which means the default.
        let nanoseconds = duration(&word.value).filter(|n| *n == 0 || *n >= 1_000_000);
        let nanoseconds = nanoseconds
            .ok_or_else(|| invalid(format!("`--{name}`"), &word, "a duration of at least 1ms, as in 1m30s"))?;
        Ok(Some(nanoseconds).filter(|n| *n != 0))
    };
    let retries = match flags.value("retries")? {
        None => None,
        Some(word) => {
            let count = word.value.parse::<i32>().ok().filter(|count| *count >= 0);
            let count = count.ok_or_else(|| invalid("`--retries`", &word, "a number, at least 1"))?;
            Some(i64::from(count)).filter(|count| *count != 0)
        }
    };
    Ok(Healthcheck {
        test,
        interval: time("interval")?,
        timeout: time("timeout")?,
        start_period: time("start-period")?,
        start_interval: time("start-interval")?,
        retries,
    })
}

/// Nanoseconds of a duration as Go writes it: `1h30m`, `1.5s`, `300ms`, `0`.
pub(crate) fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut total = 0_i64;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, tail) = rest.split_at(digits);
        let unit_length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        let unit: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let mut scale = unit;
        for digit in fraction.bytes() {
            scale /= 10;
            total = total.checked_add(scale * i64::from(digit - b'0'))?;
        }
        rest = tail;
    }
    Some(total)
}

/// Bytes of a size as Docker writes it: `64m`, `1.5GiB`, `1000`. Units are powers of 1024.
pub(crate) fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_lowercase();
    let digits = lower.len() - lower.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Eighteen digits behind the point are more than any size needs, and keep the product in range.
    let fraction = fraction.get(..18).unwrap_or(fraction);
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let whole = u128::from(whole.parse::<u64>().ok()?);
    u64::try_from((whole << shift) + (fraction << shift) / scale).ok()
}

/// A boolean in any of Go's spellings.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The ports of an `EXPOSE` argument as `port/protocol`: `80`, `53/udp`, `8000-8003/tcp`. Host parts are dropped.
pub(crate) fn ports(text: &str) -> Option<Vec<String>> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let range = range.rsplit(':').next()?;
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| text.parse::<u16>().ok();
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Whether a word names a signal: `SIGTERM`, `term`, `9`, `SIGRTMIN+3`.
pub(crate) fn signal(text: &str) -> bool {
    const NAMES: [&str; 33] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "VTALRM", "WINCH", "XCPU",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, sign: char| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| {
            rest.is_empty()
                || rest.strip_prefix(sign).is_some_and(|n| n.parse::<u8>().is_ok_and(|n| (1..=15).contains(&n)))
        })
    };
    NAMES.contains(&name) || name == "XFSZ" || real_time("RTMIN", '+') || real_time("RTMAX", '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("300ms", Some(300_000_000)),
            (".5h", Some(1_800_000_000_000)),
            ("5", None),
            ("s", None),
            ("1.2.3s", None),
            ("", None),
            ("1d", None),
            ("99999999999h", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1000", Some(1000)),
            ("64m", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("2 kb", Some(2048)),
            ("m", None),
            ("1x", None),
            ("99999999999t", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!(ports("80"), Some(vec!["80/tcp".into()]));
        assert_eq!(ports("53/UDP"), Some(vec!["53/udp".into()]));
        assert_eq!(ports("8000-8001"), Some(vec!["8000/tcp".into(), "8001/tcp".into()]));
        assert_eq!(ports("127.0.0.1:80:8080/tcp"), Some(vec!["8080/tcp".into()]));
        for wrong in ["", "x", "2-1", "80/foo", "70000"] {
            assert_eq!(ports(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn signals() {
        for (text, expected) in [
            ("SIGTERM", true),
            ("kill", true),
            ("9", true),
            ("SIGRTMIN+3", true),
            ("RTMAX-15", true),
            ("0", false),
            ("65", false),
            ("SIGNONE", false),
            ("SIGRTMIN+99", false),
        ] {
            assert_eq!(signal(text), expected, "{text}");
        }
    }
}
