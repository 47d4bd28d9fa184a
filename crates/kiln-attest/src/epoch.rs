//! Moments as the formats write them.

use jiff::Timestamp;

/// Seconds since 1970 as `2024-01-02T03:04:05Z`, which all formats here understand. What lies beyond the years that can
/// be written is the beginning of 1970.
pub(crate) fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Milliseconds since 1970, cut to seconds.
pub(crate) fn moment_of_millis(millis: i64) -> String {
    moment(millis.div_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment_of_millis(1_700_000_000_999), "2023-11-14T22:13:20Z");
        assert_eq!(moment(i64::MAX), "1970-01-01T00:00:00Z");
    }
}
