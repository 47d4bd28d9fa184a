//! The words with which a step failed, from the full log of its platform. Pure.

use kiln_graph::Platform;
use kiln_history::Log;
use kiln_history::record::{Outcome, Record, Step};

use crate::text;

/// Lines that are shown.
const LINES: usize = 25;
/// Characters of each.
const COLUMNS: usize = 300;

/// A target that failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure<'a> {
    pub(crate) platform: Platform,
    /// Why, in one line.
    pub(crate) error: &'a str,
    /// The step, if it was one.
    pub(crate) step: Option<&'a Step>,
    /// Its last lines; none if the log is not kept.
    pub(crate) lines: Vec<String>,
}

/// What failed, in the order of the targets.
pub(crate) fn all<'a>(record: &'a Record, logs: &[Log]) -> Vec<Failure<'a>> {
    let failed = record.targets.iter().filter(|target| target.outcome == Outcome::Failed);
    failed
        .map(|target| {
            let step = record.steps_of(target.platform).find(|step| step.outcome == Outcome::Failed);
            let log = logs.iter().find(|log| log.name == target.platform.folder());
            let lines = log.map(|log| last_words(&log.text)).unwrap_or_default();
            Failure { platform: target.platform, error: target.error.as_deref().unwrap_or_default(), step, lines }
        })
        .collect()
}

/// The last lines before a step's failure, or of the whole log.
fn last_words(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().collect();
    let failed = lines.iter().rposition(|line| line.starts_with("== ") && line.contains(" failed after "));
    let before = &lines[..failed.unwrap_or(lines.len())];
    // What the step said, and not what kiln says of it.
    let said = before.iter().rev().take_while(|line| !line.starts_with("== ")).filter(|line| !line.is_empty());
    let mut words: Vec<String> = said.take(LINES).map(|line| text::line(line, COLUMNS)).collect();
    words.reverse();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_step_that_failed() {
        let log = "# kiln build\n\n== a 1/2 RUN x\n== at 0:00, native, because: new\n   0:00 early\n== a 1/2 done in 1 s\n\
                   \n== a 2/2 RUN y\n   0:01 working\n   0:02 broken\u{1b}[31m\n== a 2/2 failed after 1.0 s\n\n# failed\n";
        assert_eq!(last_words(log), ["   0:01 working", "   0:02 broken[31m"]);
        assert_eq!(last_words("one\ntwo\n"), ["one", "two"]);
        assert_eq!(last_words(""), [""; 0]);
        let many = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(last_words(&many).len(), LINES);
        assert_eq!(last_words(&many).last().map(String::as_str), Some("99"));
    }
}
