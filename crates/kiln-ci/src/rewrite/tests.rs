//! Jobs and containers that only test: Python, its packages and the test command become `kiln test`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;

use super::{MARK, Rewriter, USES};
use crate::container::containers;
use crate::draft::{Draft, Value};
use crate::suite::{Suite, of_container, suite};
use crate::workflow::{Job, Step, Workflow};

/// The jobs of a workflow that test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suites {
    /// Jobs that become `kiln test`.
    jobs: BTreeMap<String, Suite>,
    /// Steps with containers of tests that become `kiln test`, by job and number.
    containers: BTreeSet<(String, usize)>,
    /// Jobs that stay, and why.
    stays: BTreeMap<String, String>,
}

/// Decides which jobs become `kiln test`, and drafts the settings that say the same.
pub(crate) fn suites(workflow: &Workflow, draft: &mut Draft) -> Suites {
    let mut suites = Suites::default();
    for job in workflow.jobs() {
        for step in job.steps() {
            let mut all = tests_of(step.text("run").unwrap_or_default()).into_iter().map(|(_, suite)| suite).peekable();
            if all.peek().is_some() && all.all(|found| found.and_then(|suite| drafted(suite, draft)).is_ok()) {
                suites.containers.insert((job.id.to_owned(), step.number));
            }
        }
        let Some(found) = suite(&job) else { continue };
        match found.and_then(|suite| drafted(suite, draft)) {
            Ok(suite) => drop(suites.jobs.insert(job.id.to_owned(), suite)),
            Err(why) => drop(suites.stays.insert(job.id.to_owned(), why)),
        }
    }
    suites
}

/// Drafts what a suite asks for, unless another one asks for something else.
fn drafted(suite: Suite, draft: &mut Draft) -> Result<Suite, String> {
    let settings = suite.settings()?;
    let is_other = |(key, new): &(&'static str, Value)| draft.general.get(key).is_some_and(|known| known != new);
    let has_tests = draft.general.contains_key("test.command");
    // What one job sets and another does not would hold for both.
    let all = ["test.requirements", "test.packages", "test.env", "project.requirements"];
    let is_missing =
        |key: &&str| has_tests && draft.general.contains_key(*key) != settings.iter().any(|(name, _)| name == key);
    if settings.iter().any(is_other) || all.iter().any(is_missing) {
        return Err("other tests are run elsewhere, and [test] holds for all".to_owned());
    }
    draft.general.extend(settings);
    Ok(suite)
}

/// The containers of tests in a script, with their places.
fn tests_of(script: &str) -> Vec<(Range<usize>, Result<Suite, String>)> {
    let found = containers(script).into_iter();
    found.filter_map(|(command, container)| Some((command.span, of_container(&container)?))).collect()
}

/// What is to be changed in a script whose containers of tests are all drafted.
pub(crate) fn test_edits(script: &str) -> Vec<(Range<usize>, String)> {
    let command = |suite: &Suite| {
        let platform = suite.platform.as_ref().map(|platform| format!(" --platform {platform}")).unwrap_or_default();
        format!("kiln test --python {}{platform}", suite.python)
    };
    tests_of(script).into_iter().filter_map(|(span, suite)| Some((span, command(&suite.ok()?)))).collect()
}

impl Suites {
    /// Whether any containers become `kiln test`.
    pub(crate) fn has_containers(&self) -> bool {
        !self.containers.is_empty()
    }
}

impl Rewriter<'_> {
    /// Whether a step runs containers of tests that become `kiln test`.
    pub(super) fn is_tests(&self, job: &Job<'_>, step: &Step<'_>) -> bool {
        self.suites.containers.contains(&(job.id.to_owned(), step.number))
    }

    /// Puts `kiln test` in the place of containers.
    pub(super) fn test_containers(&mut self, step: &Step<'_>) {
        let Some(run) = step.node.get("run") else { return };
        for (range, text) in test_edits(&self.text[run.span.clone()]) {
            self.replace(run.span.start + range.start..run.span.start + range.end, text);
            self.changed = true;
        }
    }

    /// Puts `kiln test` in the place of the steps that it stands for; whether there were any.
    pub(super) fn tests(&mut self, job: &Job<'_>) -> bool {
        let suites = self.suites;
        if let (Some(why), Some(key)) = (suites.stays.get(job.id), job.key) {
            let start = self.line_start(key.span.start);
            let comment = format!("{}{MARK}these tests stay as they are: {why}\n", self.indent(start));
            self.replace(start..start, comment);
        }
        let Some(suite) = suites.jobs.get(job.id) else { return false };
        let steps = job.steps();
        if steps.iter().any(|step| self.lines_of(step).is_none()) {
            return false;
        }
        self.changed = true;
        for step in &steps {
            let Some(lines) = self.lines_of(step) else { continue };
            let dash = self.indent(lines.start).to_owned();
            if step.number == suite.setup {
                let mut text =
                    format!("{dash}{MARK}Python comes with the container of the tests: [test] in kiln.toml\n");
                let _ = write!(text, "{dash}- uses: {USES}\n{dash}  with:\n{dash}    install-only: true\n");
                self.replace(lines, text);
            } else if suite.prepares.contains(&step.number) {
                self.remove(step, "`kiln test` does it, and keeps it as long as nothing changes");
            } else if step.number == suite.tests {
                let name = step.text("name").map(|name| format!("name: {name}\n{dash}  ")).unwrap_or_default();
                let text = format!("{dash}- {name}run: kiln test --python {}\n", suite.python);
                self.replace(lines, text);
            }
        }
        true
    }
}
