//! Jobs that only test: Python, its packages and the test command become `kiln test`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{MARK, Rewriter, USES};
use crate::draft::{Draft, Value};
use crate::suite::{Suite, suite};
use crate::workflow::{Job, Workflow};

/// The jobs of a workflow that test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suites {
    /// Jobs that become `kiln test`.
    jobs: BTreeMap<String, Suite>,
    /// Jobs that stay, and why.
    stays: BTreeMap<String, String>,
}

/// Decides which jobs become `kiln test`, and drafts the settings that say the same.
pub(crate) fn suites(workflow: &Workflow, draft: &mut Draft) -> Suites {
    let mut suites = Suites::default();
    for job in workflow.jobs() {
        let Some(found) = suite(&job) else { continue };
        let decided = found.and_then(|suite| {
            let settings = suite.settings()?;
            let is_other =
                |(key, new): &(&'static str, Value)| draft.general.get(key).is_some_and(|known| known != new);
            let has_tests = draft.general.contains_key("test.command");
            // What one job sets and another does not would hold for both.
            let all = ["test.requirements", "test.packages", "test.env", "project.requirements"];
            let is_missing = |key: &&str| {
                has_tests && draft.general.contains_key(*key) != settings.iter().any(|(name, _)| name == key)
            };
            if settings.iter().any(is_other) || all.iter().any(is_missing) {
                return Err("other tests are run elsewhere, and [test] holds for all".to_owned());
            }
            draft.general.extend(settings);
            Ok(suite)
        });
        match decided {
            Ok(suite) => drop(suites.jobs.insert(job.id.to_owned(), suite)),
            Err(why) => drop(suites.stays.insert(job.id.to_owned(), why)),
        }
    }
    suites
}

impl Rewriter<'_> {
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
