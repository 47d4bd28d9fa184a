//! What a workflow asks for in a run: which programs and images for which platforms, and which tests. The same questions are
//! put to the old workflow and to the new one.

mod event;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use kiln_config::Config;

use crate::axes::{Combination, combinations};
use crate::expression::{self, Context};
use crate::matrix;
use crate::program::Program;
use crate::workflow::{Job, Step, Workflow};
use crate::yaml::Node;

pub(crate) use event::{Scenario, default_branch, scenarios};
pub(crate) use steps::{buildx, dockerfile_of, words_of};

/// The job that the new workflow gets its matrix from.
pub(crate) const MATRIX_JOB: &str = "kiln-matrix";

/// The action.
pub(crate) const ACTION: &str = "kiln-build/kiln";

/// What a run does, as far as it concerns kiln.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) builds: Vec<Build>,
    /// Jobs that test, with their versions of Python.
    pub(crate) tests: BTreeMap<String, BTreeSet<String>>,
    /// What these jobs test and with what, by topic, where it is no more than kiln's.
    pub(crate) suites: BTreeMap<String, BTreeMap<&'static str, String>>,
    /// Jobs whose matrix cannot be known beforehand.
    pub(crate) unknown: Vec<String>,
}

/// One build for one platform.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) job: String,
    /// The step's number.
    pub(crate) step: usize,
    /// The matrix of the job that runs.
    pub(crate) combination: Combination,
    /// The platform as it is written; empty where a bake file says.
    pub(crate) platform: String,
    pub(crate) runner: String,
    pub(crate) how: How,
    /// The name of the program.
    pub(crate) artifact: Option<String>,
    /// What Nuitka is asked for.
    pub(crate) flags: BTreeSet<String>,
    /// What else is asked for: names of inputs with their values.
    pub(crate) asked: BTreeMap<&'static str, String>,
}

/// By what is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A Dockerfile.
    Dockerfile { context: String, file: String, target: Option<String>, args: BTreeMap<String, String> },
    /// A script in a container that calls Nuitka.
    Program(Box<Program>),
    /// kiln's recipe, by the settings.
    Settings,
    /// A command line of buildx or kiln: `build` or `bake`, and its arguments.
    Command(Vec<String>),
}

/// What a plan depends on beside the workflow.
pub(crate) struct Around<'a> {
    /// The text of a file of the project.
    pub(crate) read: &'a dyn Fn(&str) -> Option<String>,
    /// kiln's settings, for a workflow that uses them.
    pub(crate) config: Option<&'a Config>,
}

/// What the workflow does in a run.
pub(crate) fn plan(workflow: &Workflow, scenario: &Scenario, around: &Around<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut context = scenario.context.clone();
    let mut environment = BTreeMap::new();
    add_environment(workflow.get("env"), &mut context, &mut environment);
    if let Some(config) = around.config {
        let matrix = matrix::matrix(config, &scenario.trigger).matrix;
        let json = serde_json::to_string(&matrix).expect("it is made of texts");
        context.set("needs", MATRIX_JOB, serde_json::json!({"outputs": {"matrix": json}}));
    }
    for job in workflow.jobs() {
        if holds(job.node.get("if"), &context) == Some(false) {
            continue;
        }
        let all = if let Some(all) = combinations(job.matrix(), &context) {
            all.into_iter().map(Some).collect()
        } else {
            plan.unknown.push(job.id.to_owned());
            vec![None]
        };
        for combination in all {
            let mut context = context.clone();
            if let Some(values) = &combination {
                context.set_matrix(values);
            }
            let mut environment = environment.clone();
            add_environment(job.node.get("env"), &mut context, &mut environment);
            let runner = job.node.get("runs-on").map(|node| shown(node, &context)).unwrap_or_default();
            let run = steps::Run { job, combination: combination.unwrap_or_default(), runner, around };
            run.steps(context, environment, &mut plan);
        }
    }
    plan
}

/// The variables of an `env:`, as far as they are known.
pub(crate) fn add_environment(node: Option<&Node>, context: &mut Context, environment: &mut BTreeMap<String, String>) {
    for (name, value) in node.map_or(&[][..], Node::pairs) {
        let (Some(name), Some(text)) = (name.text(), value.text()) else { continue };
        if let Some(value) = expression::value(text, context) {
            let value = expression::shown(&value);
            context.set("env", name, value.clone().into());
            environment.insert(name.to_owned(), value);
        }
    }
}

/// A value of `runs-on` or the like as one text.
pub(crate) fn shown(node: &Node, context: &Context) -> String {
    match node.text() {
        Some(text) => match expression::value(text, context) {
            Some(serde_json::Value::Array(items)) => items.iter().map(expression::shown).collect::<Vec<_>>().join(","),
            Some(value) => expression::shown(&value),
            None => text.to_owned(),
        },
        None => node.items().iter().map(|item| shown(item, context)).collect::<Vec<_>>().join(","),
    }
}

/// Whether an `if:` holds; nothing if it cannot be known.
pub(crate) fn holds(node: Option<&Node>, context: &Context) -> Option<bool> {
    let Some(text) = node.and_then(Node::text) else { return Some(true) };
    let value = if expression::is_dynamic(text) {
        expression::value(text, context)?
    } else {
        expression::evaluate(&expression::parse(text)?, context)?
    };
    Some(expression::is_true(&value))
}

/// The name of the matrix's axis that a step takes its Python from.
pub(crate) fn python_axis(job: &Job<'_>) -> Option<String> {
    let version = job.steps().iter().find_map(|step| is_setup_python(step).then(|| step.with("python-version"))?)?;
    match expression::parts(version.trim()).as_slice() {
        [expression::Part::Expression(inner)] => inner.trim().strip_prefix("matrix.").map(str::to_owned),
        _ => None,
    }
}

/// Whether a step installs Python.
pub(crate) fn is_setup_python(step: &Step<'_>) -> bool {
    step.action() == Some("actions/setup-python")
}

/// Whether a job tests.
pub(crate) fn is_test(job: &Job<'_>) -> bool {
    const RUNNERS: [&str; 6] = ["pytest", "unittest", "tox", "nox", "nose2", "test"];
    let is_runner = |word: &str| RUNNERS.iter().any(|name| word == *name || word.ends_with(&format!("/{name}")));
    job.steps().iter().filter_map(|step| step.text("run")).any(|run| {
        crate::shell::commands(run).iter().flat_map(crate::shell::Command::texts).any(|word| is_runner(&word))
    })
}
