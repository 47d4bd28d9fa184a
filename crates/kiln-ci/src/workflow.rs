//! A workflow or a composite action as jobs and steps.

use crate::error::MigrateError;
use crate::yaml::{Node, parse};

/// A workflow, or a composite action, which is one job without a matrix.
#[derive(Debug)]
pub(crate) struct Workflow {
    root: Node,
}

/// A job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    pub(crate) id: &'a str,
    /// The name in `jobs:`, to find the line where the job begins; nothing for an action.
    pub(crate) key: Option<&'a Node>,
    pub(crate) node: &'a Node,
}

/// A step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) node: &'a Node,
    /// From 1.
    pub(crate) number: usize,
}

impl Workflow {
    /// Reads a file.
    pub(crate) fn read(file: &str, text: &str) -> Result<Self, MigrateError> {
        let root = parse(file, text)?;
        let is_workflow = root.get("jobs").is_some_and(|jobs| !jobs.pairs().is_empty());
        if !is_workflow && root.path(&["runs", "steps"]).is_none() {
            return Err(MigrateError::NoWorkflow { file: file.to_owned() });
        }
        Ok(Self { root })
    }

    /// Whether it is a composite action.
    pub(crate) fn is_action(&self) -> bool {
        self.root.get("jobs").is_none()
    }

    /// The value of a key at the top.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.root.get(key)
    }

    /// The jobs in their order.
    pub(crate) fn jobs(&self) -> Vec<Job<'_>> {
        match self.root.entry("jobs") {
            Some((_, jobs)) => jobs
                .pairs()
                .iter()
                .filter_map(|(key, node)| Some(Job { id: key.text()?, key: Some(key), node }))
                .collect(),
            None => self.root.get("runs").map(|node| Job { id: "runs", key: None, node }).into_iter().collect(),
        }
    }
}

impl<'a> Job<'a> {
    pub(crate) fn steps(&self) -> Vec<Step<'a>> {
        let steps = self.node.get("steps").map_or(&[][..], Node::items);
        steps.iter().zip(1..).map(|(node, number)| Step { node, number }).collect()
    }

    /// The value of `strategy.matrix`.
    pub(crate) fn matrix(&self) -> Option<&'a Node> {
        self.node.path(&["strategy", "matrix"])
    }
}

impl<'a> Step<'a> {
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.node.get(key)?.text()
    }

    /// The action without its version: `docker/build-push-action`.
    pub(crate) fn action(&self) -> Option<&'a str> {
        self.text("uses").map(|uses| uses.split('@').next().unwrap_or(uses))
    }

    /// An input of the action, if it is a text.
    pub(crate) fn with(&self, input: &str) -> Option<&'a str> {
        self.node.path(&["with", input])?.text()
    }

    /// How people know the step.
    pub(crate) fn label(&self) -> String {
        let name = self.text("name").or_else(|| self.text("id")).or_else(|| self.text("uses"));
        name.map_or_else(|| format!("step {}", self.number), |name| format!("`{name}`"))
    }
}
