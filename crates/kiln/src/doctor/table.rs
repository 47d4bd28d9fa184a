//! The checklist for people: a line per check, platforms with the same result together, reasons and fixes wrapped.

use super::{Check, Status};
use crate::report::{Paint, harmless, pad, wrap};

/// Columns of the result and of the check's name, with the gaps behind them.
const STATUS: usize = 9;
const NAME: usize = 15;
/// Lines longer than this are hard to read.
const WIDEST: usize = 110;

/// The table; every line ends with a line end.
pub(crate) fn render(checks: &[Check], width: usize, color: bool) -> String {
    let paint = Paint { color };
    let room = width.clamp(60, WIDEST) - STATUS - NAME;
    let mut text = String::new();
    let mut last = "";
    for (platforms, check) in merged(checks) {
        let detail = match platforms.as_slice() {
            [] => harmless(&check.detail).into_owned(),
            some => format!("{}: {}", some.join(", "), harmless(&check.detail)),
        };
        let status = pad(check.status.word(), STATUS);
        let status = match check.status {
            Status::Ok => paint.good(&status),
            Status::Warning => paint.hint(&status),
            Status::Failed => paint.bad(&status),
            Status::Skipped => paint.faint(&status),
        };
        // One name over several lines is said once.
        let name = pad(if check.name == last { "" } else { check.name }, NAME);
        last = check.name;
        let mut start = format!("{status}{name}");
        let fix = check.fix.iter().flat_map(|fix| wrap(&format!("fix: {}", harmless(fix)), room));
        for line in wrap(&detail, room).into_iter().chain(fix) {
            text.push_str(&start);
            text.push_str(&line);
            text.push('\n');
            start = " ".repeat(STATUS + NAME);
        }
    }
    text
}

/// Checks that differ in their platforms alone, with all of these.
fn merged(checks: &[Check]) -> Vec<(Vec<&str>, &Check)> {
    let mut rows: Vec<(Vec<&str>, &Check)> = Vec::new();
    for check in checks {
        let same = |other: &Check| {
            (other.name, other.status, &other.detail, &other.fix)
                == (check.name, check.status, &check.detail, &check.fix)
        };
        match (rows.iter_mut().find(|(platforms, row)| !platforms.is_empty() && same(row)), &check.platform) {
            (Some((platforms, _)), Some(platform)) => platforms.push(platform),
            (_, platform) => rows.push((platform.iter().map(String::as_str).collect(), check)),
        }
    }
    rows
}

/// How many checks came out how: `1 failed, 2 warnings, 20 ok, 3 skipped`.
pub(crate) fn summary(checks: &[Check]) -> String {
    let count = |status: Status| checks.iter().filter(|check| check.status == status).count();
    let warnings = count(Status::Warning);
    let counts = [
        (count(Status::Failed), "failed"),
        (warnings, if warnings == 1 { "warning" } else { "warnings" }),
        (count(Status::Ok), "ok"),
        (count(Status::Skipped), "skipped"),
    ];
    let told: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{away, broken, healthy};
    use super::super::verdicts;
    use super::*;

    #[test]
    fn healthy_at_80_columns() {
        insta::assert_snapshot!("doctor_healthy", render(&verdicts(&healthy()), 80, false));
    }

    #[test]
    fn broken_at_80_columns() {
        insta::assert_snapshot!("doctor_broken", render(&verdicts(&broken()), 80, false));
    }

    #[test]
    fn without_a_daemon_at_80_columns() {
        insta::assert_snapshot!("doctor_away", render(&verdicts(&away()), 80, false));
    }

    #[test]
    fn lines_fit_and_colours_change_no_text() {
        for facts in [healthy(), broken(), away()] {
            let checks = verdicts(&facts);
            for width in [60, 80, 200] {
                let colored = render(&checks, width, true);
                assert_eq!(console::strip_ansi_codes(&colored), render(&checks, width, false));
                // A path or a name that is longer has a line of its own.
                let too_long = |line: &&str| console::measure_text_width(line) > width && line.trim().contains(' ');
                assert_eq!(colored.lines().find(too_long), None, "at {width}");
            }
        }
        assert_eq!(summary(&verdicts(&healthy())).split(", ").count(), 2, "{}", summary(&verdicts(&healthy())));
    }
}
