//! What became of each cell, read from the build's outcome and from the files that the test step left.

use std::path::{Path, PathBuf};

use kiln_graph::Platform;
use kiln_solver::{SolveError, TargetReport, Way};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Cell;
use super::junit::{self, Case, Content, Part};
use crate::error::{exit, solve_code};

/// The report of a cell, in its folder.
const JUNIT: &str = "junit.xml";
/// What the recipe says about the run of the tests, beside it.
const RESULT: &str = "result.json";

/// Tests of a cell, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// How a cell ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The tests ran and passed.
    Passed,
    /// They passed before, and nothing has changed since.
    UpToDate,
    /// They failed.
    Failed {
        /// In a line.
        reason: String,
    },
    /// They could not run.
    Error {
        /// In a line.
        reason: String,
        /// The exit code that it stands for.
        code: u8,
    },
    /// The build ended before they did.
    Stopped,
}

impl Verdict {
    /// The word for it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::UpToDate => "up to date",
            Self::Failed { .. } => "failed",
            Self::Error { .. } => "error",
            Self::Stopped => "stopped",
        }
    }

    /// Whether it is well.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Passed | Self::UpToDate)
    }
}

/// What became of a cell.
#[derive(Clone, Debug)]
pub(crate) struct CellOutcome {
    /// The Python that was asked for, else the one that was found.
    pub(crate) python: String,
    /// The platform.
    pub(crate) platform: Platform,
    /// How its steps ran.
    pub(crate) way: Way,
    /// Where its Python comes from.
    pub(crate) from: String,
    /// Its name among files.
    pub(crate) slug: String,
    /// How it ended.
    pub(crate) verdict: Verdict,
    /// Its tests, if its command reports them.
    pub(crate) cases: Vec<Case>,
    /// The report itself.
    report: Option<String>,
    /// How long the test command ran, in seconds.
    pub(crate) seconds: Option<f64>,
    /// The last lines of its output.
    pub(crate) tail: Vec<String>,
    /// The exact version of Python.
    version: Option<String>,
}

/// What the recipe writes.
#[derive(Deserialize)]
struct Recorded {
    python: String,
    seconds: f64,
    tail: Vec<String>,
}

/// Where the files of a cell go: those of tests that passed, and those of tests that failed. They are apart, because the
/// first are what makes the cell up to date when its sources are again what they were.
pub(crate) fn folders(state: &Path, cell: &Cell, platform: Platform) -> (PathBuf, PathBuf) {
    let (folder, slug) = (state.join("tests"), cell.slug(platform));
    (folder.join(&slug), folder.join(format!("{slug}.failed")))
}

/// Reads what became of a cell; also what people should know about its files. `way` is that of the plan.
pub(crate) fn read(
    state: &Path,
    cell: &Cell,
    (platform, way): (Platform, Way),
    result: &Result<TargetReport, SolveError>,
) -> (CellOutcome, Option<String>) {
    let (passed, failed) = folders(state, cell, platform);
    let slug = cell.slug(platform);
    let mut outcome = CellOutcome {
        python: cell.python.clone().unwrap_or_else(|| "base".to_owned()),
        from: cell.base.get().map(super::base::Base::described).unwrap_or_default(),
        verdict: Verdict::Stopped,
        cases: Vec::new(),
        report: None,
        seconds: None,
        tail: Vec::new(),
        version: None,
        platform,
        slug,
        way,
    };
    let folder = match result {
        Ok(report) => {
            outcome.way = report.way;
            outcome.verdict = if report.up_to_date { Verdict::UpToDate } else { Verdict::Passed };
            passed
        }
        Err(SolveError::Cancelled) => return (outcome, None),
        Err(error) => {
            if let SolveError::Step { tail, .. } = error {
                outcome.tail.clone_from(tail);
            }
            let is_tests = error.origin().is_some_and(|origin| origin.stage == cell.name());
            let ran = is_tests && failed.join(RESULT).exists();
            let reason = match error {
                SolveError::Step { errors, .. } if !errors.is_empty() => errors[0].clone(),
                error => error.to_string(),
            };
            outcome.verdict =
                if ran { Verdict::Failed { reason } } else { Verdict::Error { reason, code: solve_code(error) } };
            if !ran {
                return (outcome, None);
            }
            failed
        }
    };
    let recorded = fs_err::read(folder.join(RESULT)).ok();
    if let Some(recorded) = recorded.and_then(|bytes| serde_json::from_slice::<Recorded>(&bytes).ok()) {
        if cell.python.is_none() {
            outcome.python.clone_from(&recorded.python);
        }
        (outcome.seconds, outcome.tail) = (Some(recorded.seconds), recorded.tail);
        outcome.version = Some(recorded.python);
    }
    let file = folder.join(JUNIT);
    let Ok(bytes) = fs_err::read(&file) else { return (outcome, None) };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let notice = match junit::read(&text) {
        Ok(cases) => {
            (outcome.cases, outcome.report) = (cases, Some(text));
            None
        }
        Err(error) => Some(format!("{}: {error}", file.display())),
    };
    (outcome, notice)
}

impl CellOutcome {
    /// `python 3.12, linux/arm64`.
    pub(crate) fn label(&self) -> String {
        format!("python {}, {}", self.python, self.platform)
    }

    /// Its tests, counted; nothing if its command does not report them.
    pub(crate) fn counts(&self) -> Option<Counts> {
        self.report.is_some().then(|| junit::count(&self.cases))
    }

    /// What it adds to a report; `command` names the tests where nobody has named them.
    pub(crate) fn part(&self, command: &str) -> Part {
        let whole = |failure, is_tests| Content::Whole {
            name: command.to_owned(),
            seconds: self.seconds.unwrap_or_default(),
            failure,
            is_tests,
        };
        let output = || self.tail.join("\n");
        let content = match (&self.report, &self.verdict) {
            (Some(report), _) => Content::Report(report.clone()),
            (None, Verdict::Passed | Verdict::UpToDate) => whole(None, true),
            (None, Verdict::Failed { reason }) => whole(Some((reason.clone(), output())), true),
            (None, Verdict::Error { reason, .. }) => whole(Some((reason.clone(), output())), false),
            (None, Verdict::Stopped) => whole(Some(("stopped before its end".to_owned(), String::new())), false),
        };
        let version = self.version.as_ref().unwrap_or(&self.python).clone();
        let mut properties = vec![("python", version), ("platform", self.platform.to_string())];
        properties.push(("way", self.way.to_string()));
        Part { label: self.label(), properties, content }
    }

    /// For programs.
    pub(crate) fn value(&self) -> Value {
        let counts = self.counts();
        json!({
            "python": self.python,
            "version": self.version,
            "platform": self.platform.to_string(),
            "way": self.way.to_string(),
            "from": self.from,
            "result": self.verdict.word(),
            "seconds": self.seconds,
            "passed": counts.map(|counts| counts.passed),
            "failed": counts.map(|counts| counts.failed),
            "skipped": counts.map(|counts| counts.skipped),
        })
    }
}

/// The exit code of a run, if it is not 0. `build` is that of the program's build, and `good` how many of its targets
/// were built.
pub(crate) fn exit_code(cells: &[CellOutcome], build: Option<u8>, good: usize) -> Option<u8> {
    if cells.iter().any(|cell| matches!(cell.verdict, Verdict::Failed { .. })) {
        return Some(exit::STEP);
    }
    let errors = cells.iter().filter_map(|cell| match cell.verdict {
        Verdict::Error { code, .. } => Some(code),
        _ => None,
    });
    let mut real = errors.chain(build.filter(|code| *code != exit::CANCELLED));
    if let Some(code) = real.next() {
        let good = good + cells.iter().filter(|cell| cell.verdict.is_good()).count();
        return Some(if good > 0 { exit::PARTIAL } else { code });
    }
    let is_stopped = build.is_some() || cells.iter().any(|cell| cell.verdict == Verdict::Stopped);
    is_stopped.then_some(exit::CANCELLED)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// An outcome with a report of so many tests.
    pub(crate) fn outcome(python: &str, verdict: Verdict, counts: Option<Counts>) -> CellOutcome {
        let platform = crate::suite::SOME_PLATFORM;
        let counts_of = |counts: Counts| {
            let failed = junit::End::Failed { message: "assert".to_owned(), text: "tests/test_a.py:7: E".to_owned() };
            let ends =
                [(counts.passed, junit::End::Passed), (counts.failed, failed), (counts.skipped, junit::End::Skipped)];
            let case = |(number, end): (usize, junit::End)| vec![Case { end, ..Case::default() }; number];
            ends.into_iter().flat_map(case).collect()
        };
        CellOutcome {
            python: python.to_owned(),
            platform,
            way: Way::Native,
            from: format!("image python:{python}-slim-bookworm"),
            slug: format!("py{python}-{}", platform.folder()),
            verdict,
            cases: counts.map(counts_of).unwrap_or_default(),
            report: counts.map(|_| "<testsuite/>".to_owned()),
            seconds: Some(1.25),
            tail: Vec::new(),
            version: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_config::{Config, Layer, ProjectFacts};
    use kiln_graph::Origin;

    use super::Verdict::{Passed, Stopped, UpToDate};
    use super::testing::outcome;
    use super::*;
    use crate::suite::{SOME_PLATFORM, cells};

    fn cell() -> Cell {
        let layer = Layer::file("kiln.toml", "[test]\ncommand = \"pytest\"\npython = [\"3.12\"]\n");
        let config = Config::load([layer], &ProjectFacts::default()).expect("valid").config;
        cells(&config.resolved(), &[]).expect("cells").remove(0).0
    }

    fn step(stage: &str) -> SolveError {
        SolveError::Step {
            origin: Box::new(Origin { stage: stage.to_owned(), ..crate::report::script::origin(1) }),
            platform: SOME_PLATFORM,
            container: kiln_docker::ContainerId("c1".to_owned()),
            code: 1,
            oom: false,
            tail: vec!["last".to_owned()],
            errors: vec!["1 of 2 tests failed".to_owned()],
            hints: vec![],
            certain: true,
            no_space: false,
        }
    }

    fn write(folder: &Path) {
        fs_err::create_dir_all(folder).expect("a folder");
        let result = r#"{"python": "3.12.1", "code": 1, "seconds": 2.5, "late": false, "tail": ["one", "two"]}"#;
        fs_err::write(folder.join(RESULT), result).expect("written");
        let report = "<testsuite><testcase name='a'/><testcase name='b'><failure/></testcase></testsuite>";
        fs_err::write(folder.join(JUNIT), report).expect("written");
    }

    #[test]
    fn failed_tests_are_told_from_tests_that_could_not_run() {
        let state = tempfile::tempdir().expect("a folder");
        let cell = cell();
        let (_, failed) = folders(state.path(), &cell, SOME_PLATFORM);
        let read = |error: SolveError| read(state.path(), &cell, (SOME_PLATFORM, Way::Native), &Err(error)).0;
        // The test step itself failed, but its command never ran.
        assert!(matches!(read(step("test-3.12")).verdict, Verdict::Error { code: exit::STEP, .. }));
        write(&failed);
        let outcome = read(step("test-3.12"));
        assert_eq!(outcome.verdict, Verdict::Failed { reason: "1 of 2 tests failed".to_owned() });
        assert_eq!(outcome.counts(), Some(Counts { passed: 1, failed: 1, skipped: 0 }));
        assert_eq!((outcome.seconds, outcome.tail.len()), (Some(2.5), 2));
        // Files of an earlier run say nothing about a step before the tests.
        assert!(matches!(read(step("environment-3.12")).verdict, Verdict::Error { .. }));
        assert_eq!(read(SolveError::Cancelled).verdict, Verdict::Stopped);
        // A report that is none is said, and the cell is one test then.
        fs_err::write(failed.join(JUNIT), "<html>").expect("written");
        let (outcome, notice) = super::read(state.path(), &cell, (SOME_PLATFORM, Way::Native), &Err(step("test-3.12")));
        assert!(notice.is_some_and(|text| text.contains("junit.xml: it is no JUnit report")));
        assert!(matches!(outcome.part("pytest").content, Content::Whole { is_tests: true, .. }));
    }

    #[test]
    fn exit_codes_are_those_of_the_documentation() {
        let error = |code| Verdict::Error { reason: String::new(), code };
        let failed = || Verdict::Failed { reason: String::new() };
        let code = |verdicts: &[Verdict], build, good| {
            let cells: Vec<_> = verdicts.iter().map(|verdict| outcome("3.12", verdict.clone(), None)).collect();
            exit_code(&cells, build, good)
        };
        for (verdicts, build, good, expected) in [
            (vec![Passed, UpToDate], None, 0, None),
            (vec![Passed, failed()], None, 0, Some(exit::STEP)),
            (vec![failed(), error(exit::DAEMON)], None, 2, Some(exit::STEP)),
            (vec![failed(), Stopped], Some(exit::CANCELLED), 0, Some(exit::STEP)),
            (vec![Passed, error(exit::DAEMON)], None, 0, Some(exit::PARTIAL)),
            (vec![error(exit::DAEMON)], None, 0, Some(exit::DAEMON)),
            (vec![error(exit::EMULATION)], None, 1, Some(exit::PARTIAL)),
            (vec![Passed], Some(exit::VERIFY), 0, Some(exit::PARTIAL)),
            (vec![Stopped], None, 0, Some(exit::CANCELLED)),
            (vec![Passed, Stopped], Some(exit::CANCELLED), 0, Some(exit::CANCELLED)),
            (vec![], Some(exit::STEP), 0, Some(exit::STEP)),
        ] {
            assert_eq!(code(&verdicts, build, good), expected, "{verdicts:?} {build:?} {good}");
        }
    }

    #[test]
    fn what_programs_get_names_every_cell() {
        let counts = Counts { passed: 2, failed: 0, skipped: 1 };
        let value = outcome("3.12", Verdict::Passed, Some(counts)).value();
        assert_eq!(
            (&value["python"], &value["result"], &value["skipped"]),
            (&json!("3.12"), &json!("passed"), &json!(1))
        );
        assert_eq!(outcome("3.12", Verdict::Stopped, None).value()["passed"], Value::Null);
    }
}
