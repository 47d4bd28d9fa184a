//! Reading what cargo-nextest and cargo's own test runner print.
//!
//! Both tell how each test ended and, asked to, what it printed. Of tests that passed only the lines that begin with
//! `SKIPPED` matter, and a test with such a line is counted as skipped.

use super::tier::{Counts, Outcome};

/// Which lines people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Only tests that failed.
    Problems,
    /// A line for every test.
    EveryTest,
}

/// Reads lines, shows those for people, and counts.
pub(crate) struct Reader {
    form: Form,
    outcome: Outcome,
    /// The test whose output follows, and whether a line of it has said that it is skipped.
    test: Option<Test>,
    /// Whether what follows is for people.
    loud: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Nextest(Show),
    Libtest,
}

struct Test {
    name: String,
    passed: bool,
    skipped: bool,
}

impl Reader {
    pub(crate) fn nextest(show: Show) -> Self {
        Self { form: Form::Nextest(show), outcome: Outcome::default(), test: None, loud: true }
    }

    pub(crate) fn libtest() -> Self {
        Self { form: Form::Libtest, outcome: Outcome::default(), test: None, loud: true }
    }

    /// Takes a line and prints it if it is for people.
    pub(crate) fn line(&mut self, line: &str) {
        if self.take(line) {
            println!("{line}");
        }
    }

    /// What was counted.
    pub(crate) fn end(self) -> Outcome {
        let mut outcome = self.outcome;
        outcome.counts.skipped = outcome.skips.len();
        outcome.counts.passed = outcome.counts.passed.saturating_sub(outcome.skips.len());
        outcome
    }

    /// Takes a line; whether it is for people.
    fn take(&mut self, line: &str) -> bool {
        if let (Some(test), Some(reason)) = (&mut self.test, line.trim().strip_prefix("SKIPPED")) {
            if test.passed && !test.skipped {
                test.skipped = true;
                self.outcome.skips.push(format!("{}{reason}", test.name));
            }
            return true;
        }
        match self.form {
            Form::Nextest(show) => self.nextest_line(line, show),
            Form::Libtest => self.libtest_line(line),
        }
    }

    /// `        PASS [   0.019s] (  1/268) kiln-graph key::tests::a_name`, then what it printed, indented by four.
    fn nextest_line(&mut self, line: &str, show: Show) -> bool {
        let Some((status, name)) = nextest_status(line) else {
            // The summary repeats the failures below a rule.
            if line.starts_with("────") {
                self.test = None;
                self.loud = true;
            }
            return self.loud && !line.is_empty();
        };
        let passed = status.starts_with("PASS") || status.starts_with("LEAK");
        if matches!(status.as_str(), "SLOW" | "TERMINATING") {
            return true;
        }
        // After the rule the failures are named once more.
        if self.outcome.failures.contains(&name) {
            return self.test.is_some();
        }
        if passed {
            self.outcome.counts.passed += 1;
        } else {
            self.outcome.counts.failed += 1;
            self.outcome.failures.push(name.clone());
        }
        self.test = Some(Test { name, passed, skipped: false });
        self.loud = !passed;
        !passed || show == Show::EveryTest
    }

    /// `---- a_name stdout ----` and what it printed; `test result: ok. 5 passed; 0 failed; 1 ignored; ...`.
    fn libtest_line(&mut self, line: &str) -> bool {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.test = Some(Test { name: name.to_owned(), passed: !self.loud, skipped: false });
            return self.loud;
        }
        if let Some(counts) = libtest_result(line) {
            self.outcome.counts += counts;
            self.test = None;
            self.loud = true;
            return counts != Counts::default();
        }
        match line {
            "successes:" => self.loud = false,
            "failures:" => self.loud = true,
            // The names of the failures come last, each indented.
            _ if self.loud && line.starts_with("    ") && !line.trim().contains(' ') && self.test.is_some() => {
                self.outcome.failures.push(line.trim().to_owned());
            }
            _ => {}
        }
        self.loud && !line.is_empty() && !line.starts_with("running ")
    }
}

/// The status and the name in nextest's line about a test.
fn nextest_status(line: &str) -> Option<(String, String)> {
    let (status, rest) = line.split_once(" [")?;
    let (_, rest) = rest.split_once(']')?;
    let status = status.trim();
    let known = ["PASS", "LEAK", "FAIL", "TIMEOUT", "ABORT", "SLOW", "TERMINATING"];
    if !line.starts_with("    ") || !(known.contains(&status) || status.starts_with("SIG")) {
        return None;
    }
    let rest = rest.trim_start();
    let name = if rest.starts_with('(') { rest.split_once(')')?.1 } else { rest };
    Some((status.to_owned(), name.trim().to_owned()))
}

/// The counts of a `test result:` line.
fn libtest_result(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut counts = Counts::default();
    for part in rest.split(';') {
        match part.trim().split_once(' ') {
            Some((number, "passed")) => counts.passed = number.parse().ok()?,
            Some((number, "failed")) => counts.failed = number.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut reader: Reader, text: &str) -> (Outcome, Vec<&str>) {
        let shown = text.lines().filter(|line| reader.take(line)).collect();
        (reader.end(), shown)
    }

    #[test]
    fn reads_nextest() {
        let text = "   Compiling a v0.1.0\n    Finished `dev` profile [unoptimized] target(s) in 1s\n        PASS [   0.019s] (1/4) a::b one\n  stdout ───\n\n    running 1 test\n\
            \x20 stderr ───\n\n    SKIPPED: set X\n    SKIPPED: set Y\n        FAIL [   0.1s] (2/4) a two\n  stderr ───\n\n\
            \x20   boom\n        SLOW [> 60.000s] (───) a four\n        PASS [   0.2s] (3/4) a three\n\
            \x20    SIGKILL [   0.2s] (4/4) a four\n────────────\n     Summary [   0.3s] 4 tests run: 2 passed, 2 failed\n\
            \x20       FAIL [   0.1s] (2/4) a two\n";
        let (outcome, shown) = read(Reader::nextest(Show::Problems), text);
        assert_eq!(outcome.counts, Counts { passed: 1, failed: 2, skipped: 1 });
        assert_eq!(outcome.failures, ["a two", "a four"]);
        assert_eq!(outcome.skips, ["a::b one: set X"]);
        assert!(shown.contains(&"    boom") && !shown.contains(&"    running 1 test"), "{shown:?}");
        assert!(shown.iter().any(|line| line.contains("Summary")));
    }

    #[test]
    fn reads_the_own_runner_of_cargo() {
        let text = "running 3 tests\n...\nsuccesses:\n\n---- one stdout ----\nSKIPPED: set X\nmore\n\nsuccesses:\n    one\n    two\n\n\
            failures:\n\n---- three stdout ----\nboom\n\n\nfailures:\n    three\n\n\
            test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let (outcome, shown) = read(Reader::libtest(), text);
        assert_eq!(outcome.counts, Counts { passed: 1, failed: 1, skipped: 1 });
        assert_eq!(outcome.failures, ["three"]);
        assert_eq!(outcome.skips, ["one: set X"]);
        assert!(shown.contains(&"boom") && !shown.contains(&"more"), "{shown:?}");
    }
}
