//! The table of all cells, and what is said of those that failed. Pure.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::outcome::{CellOutcome, Counts, Verdict};
use crate::report::table::lines;
use crate::report::text::{Paint, cut, duration, harmless};

const HEAD: [&str; 8] = ["python", "platform", "way", "passed", "failed", "skipped", "time", "result"];
/// Lines of output that are shown of a cell that failed.
const TAIL: usize = 20;

/// One row for each cell, then where each Python came from.
pub(crate) fn render(cells: &[CellOutcome], width: usize, color: bool) -> String {
    let paint = Paint { color };
    let rows: Vec<[String; 8]> = [HEAD.map(str::to_owned)].into_iter().chain(cells.iter().map(cells_of)).collect();
    let lines: Vec<String> = lines(&rows).iter().map(|line| cut(line, width).into_owned()).collect();
    let mut text = format!("{}\n", paint.faint(&lines[0]));
    for (cell, line) in cells.iter().zip(&lines[1..]) {
        let word = cell.verdict.word();
        let colored = match (line.strip_suffix(word), &cell.verdict) {
            (Some(start), Verdict::Failed { .. } | Verdict::Error { .. }) => format!("{start}{}", paint.bad(word)),
            (Some(start), Verdict::Passed | Verdict::UpToDate) => format!("{start}{}", paint.good(word)),
            (Some(start), Verdict::Stopped) => format!("{start}{}", paint.strong(word)),
            (None, _) => line.clone(),
        };
        let _ = writeln!(text, "{colored}");
    }
    for (index, cell) in cells.iter().enumerate() {
        let same = |other: &CellOutcome| other.python == cell.python && other.from == cell.from;
        if !cell.from.is_empty() && !cells[..index].iter().any(same) {
            let _ = writeln!(text, "{}", cut(&format!("python {}: {}", cell.python, harmless(&cell.from)), width));
        }
    }
    text
}

fn cells_of(cell: &CellOutcome) -> [String; 8] {
    let number =
        |of: fn(Counts) -> usize| cell.counts().map_or_else(|| "-".to_owned(), |counts| of(counts).to_string());
    let time = cell.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    [
        cell.python.clone(),
        cell.platform.to_string(),
        cell.way.to_string(),
        number(|counts| counts.passed),
        number(|counts| counts.failed),
        number(|counts| counts.skipped),
        time.map_or_else(|| "-".to_owned(), duration),
        cell.verdict.word().to_owned(),
    ]
}

/// What is said of a cell whose tests failed: why, the last lines, where all of them are.
pub(crate) fn failure(cell: &CellOutcome, log: Option<&Path>, color: bool) -> String {
    let paint = Paint { color };
    let Verdict::Failed { reason } = &cell.verdict else { return String::new() };
    let mut text = format!("{} {}: {}\n", paint.bad("failed:"), cell.label(), harmless(reason));
    for line in &cell.tail[cell.tail.len().saturating_sub(TAIL)..] {
        let line = format!("{} {}", paint.faint("  |"), harmless(line));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Some(log) = log {
        let _ = writeln!(text, "  full log: {}", log.display());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::outcome::testing::outcome;
    use super::*;
    use crate::report::text::width as columns;

    fn cells() -> Vec<CellOutcome> {
        let counts = |passed, failed, skipped| Some(Counts { passed, failed, skipped });
        let failed = Verdict::Failed { reason: "2 of 1240 tests failed".to_owned() };
        let error = Verdict::Error { reason: "the package index could not be reached".to_owned(), code: 1 };
        let mut cells = vec![
            outcome("3.11", Verdict::UpToDate, counts(1240, 0, 3)),
            outcome("3.12", failed, counts(1235, 2, 3)),
            outcome("3.13", Verdict::Passed, None),
            outcome("3.12", error, None),
            outcome("3.13", Verdict::Stopped, None),
        ];
        cells[3].platform = "linux/arm64".parse().expect("a platform");
        (cells[3].way, cells[3].seconds) = (kiln_solver::Way::Mixed, None);
        cells[2].seconds = Some(3725.0);
        cells[1].tail = (0..30).map(|number| format!("line {number}")).collect();
        cells
    }

    #[test]
    fn at_80_columns() {
        insta::assert_snapshot!("tests_80", render(&cells(), 80, false));
    }

    #[test]
    fn lines_fit_and_colours_change_no_text() {
        for width in [60, 80, 120] {
            let colored = render(&cells(), width, true);
            assert_eq!(console::strip_ansi_codes(&colored), render(&cells(), width, false));
            for line in render(&cells(), width, false).lines() {
                assert!(columns(line) <= width, "{line:?} at {width}");
            }
        }
    }

    #[test]
    fn a_failure_shows_the_last_lines() {
        let text = failure(&cells()[1], Some(Path::new(".kiln/logs/linux_amd64.log")), false);
        assert!(text.starts_with("failed: python 3.12, linux/amd64: 2 of 1240 tests failed\n  | line 10\n"), "{text}");
        assert!(text.ends_with("  | line 29\n  full log: .kiln/logs/linux_amd64.log\n"), "{text}");
        assert_eq!(failure(&cells()[0], None, false), "");
    }
}
