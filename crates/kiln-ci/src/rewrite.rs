//! The new workflow: the old text with only those lines changed that have to be. What is not understood stays as it is,
//! and what cannot be carried over stays as a comment that says why.

mod inputs;
mod jobs;
mod run;
mod steps;
mod tests;

use std::ops::Range;

use crate::migrate::Note;
use crate::plan::{Build, Plan};
use crate::workflow::{Step, Workflow};

pub(crate) use inputs::blocked;
pub(crate) use jobs::{Axes, axes};
pub(crate) use run::{edits, region};
pub(crate) use tests::{Suites, suites, test_edits};

/// Where kiln's comments begin.
pub(crate) const MARK: &str = "# kiln: ";

/// The action with its version.
pub(crate) const USES: &str = "kiln-build/kiln@v0";

/// A text that is being changed.
pub(crate) struct Rewriter<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
    pub(crate) workflow: &'a Workflow,
    /// What the old workflow does, for each kind of run.
    pub(crate) plans: &'a [Plan],
    /// What of its matrices is kiln's from now on.
    pub(crate) axes: &'a Axes,
    /// Which jobs become `kiln test`.
    pub(crate) suites: &'a Suites,
    edits: Vec<(Range<usize>, String)>,
    pub(crate) notes: Vec<Note>,
    /// Whether something was made kiln's, rather than only commented.
    changed: bool,
}

/// The new text, or nothing if there is nothing for kiln in the old one.
pub(crate) fn rewrite(
    file: &str,
    text: &str,
    workflow: &Workflow,
    plans: &[Plan],
    (axes, suites): (&Axes, &Suites),
    migrated: &[String],
) -> (Option<String>, Vec<Note>) {
    let mut rewriter =
        Rewriter { file, text, workflow, plans, axes, suites, edits: Vec::new(), notes: Vec::new(), changed: false };
    for job in workflow.jobs() {
        rewriter.job(&job, migrated);
    }
    rewriter.matrices();
    let changed = rewriter.changed;
    let notes = std::mem::take(&mut rewriter.notes);
    (changed.then(|| rewriter.finish()), notes)
}

impl<'a> Rewriter<'a> {
    fn finish(mut self) -> String {
        // Insertions at one place keep their order.
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let mut result = String::with_capacity(self.text.len());
        let mut at = 0;
        for (range, text) in self.edits {
            if range.start < at {
                // Inside what was replaced already.
                continue;
            }
            result.push_str(&self.text[at..range.start]);
            result.push_str(&text);
            at = range.end;
        }
        result.push_str(&self.text[at..]);
        result
    }

    fn replace(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.edits.push((range, text.into()));
    }

    /// Where the line of a place begins.
    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Behind the newline of the line of a place.
    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline + 1)
    }

    /// The number of the line of a place, from 1.
    fn line(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }

    /// The blanks in front of a line.
    fn indent(&self, at: usize) -> &'a str {
        let line = &self.text[self.line_start(at)..];
        &line[..line.len() - line.trim_start_matches(' ').len()]
    }

    /// The blanks in front of the keys of a block that begins at a place, behind a dash or not.
    fn key_indent(&self, at: usize) -> String {
        " ".repeat(at - self.line_start(at))
    }

    /// The lines of a step, from its dash on; nothing if it is not written as a block.
    fn lines_of(&self, step: &Step<'_>) -> Option<Range<usize>> {
        let start = self.line_start(step.node.span.start);
        let lead = self.text[start..step.node.span.start].trim_end();
        let is_block = lead.trim_start() == "-" && !self.text[step.node.span.clone()].starts_with('{');
        is_block.then(|| start..self.line_end(step.node.span.end.max(step.node.span.start)))
    }

    /// Notes what cannot be carried over.
    fn note(&mut self, at: usize, what: impl Into<String>, why: impl Into<String>) {
        let (what, why) = (what.into(), why.into());
        self.notes.push(Note { file: self.file.to_owned(), line: self.line(at), what, why });
    }

    /// A comment in front of a step.
    fn comment(&mut self, step: &Step<'_>, text: &str) {
        let start = self.line_start(step.node.span.start);
        let indent = self.indent(start);
        let comment = format!("{indent}{MARK}{text}\n");
        self.replace(start..start, comment);
    }

    /// Takes a step out, and says why in its place.
    fn remove(&mut self, step: &Step<'_>, why: &str) {
        let Some(lines) = self.lines_of(step) else {
            self.note(step.node.span.start, step.label(), "it is not written as a block: take it out by hand");
            return;
        };
        let comment = format!("{}{MARK}{} is left out: {why}\n", self.indent(lines.start), step.label());
        self.replace(lines, comment);
    }

    /// Lines of the old text as comments.
    fn commented(&self, range: Range<usize>) -> String {
        self.text[range]
            .lines()
            .map(|line| {
                let bare = line.trim_start();
                let indent = &line[..line.len() - bare.len()];
                if bare.is_empty() { "\n".to_owned() } else { format!("{indent}# {bare}\n") }
            })
            .collect()
    }

    /// Whether the outputs of a step are used, apart from its being a builder.
    fn is_referred_to(&self, step: &Step<'_>) -> bool {
        let Some(id) = step.text("id") else { return false };
        let name = format!("steps.{id}.");
        self.text.lines().any(|line| line.contains(&name) && !line.trim_start().starts_with("builder:"))
    }

    /// What a step builds, in all kinds of runs.
    fn builds(&self, job: &str, step: usize) -> Vec<&'a Build> {
        let all = self.plans.iter().flat_map(|plan| &plan.builds);
        all.filter(|build| build.job == job && build.step == step).collect()
    }
}
