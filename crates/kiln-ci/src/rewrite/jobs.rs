//! Matrices: those that say no more than kiln's own are taken from `kiln ci matrix`, the others stay.

use std::collections::BTreeMap;

use kiln_graph::Platform;

use super::{MARK, Rewriter, USES};
use crate::axes::{combinations, resolved};
use crate::draft::{Draft, Value};
use crate::expression::shown;
use crate::plan::{MATRIX_JOB, Plan, Scenario, is_test, python_axis};
use crate::trigger::Occasion;
use crate::workflow::{Job, Workflow};
use crate::yaml::{Data, Node};

/// The runner where nothing is said.
const USUAL_RUNNER: &str = "ubuntu-latest";

/// What of a workflow's matrices is kiln's from now on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Axes {
    /// Jobs whose whole matrix is kiln's, and whether their runner is.
    builds: BTreeMap<String, bool>,
    /// Test jobs, with the name of the axis.
    tests: BTreeMap<String, String>,
    /// Jobs whose matrix stays, and why.
    stays: BTreeMap<String, String>,
}

/// Decides which matrices become kiln's, and drafts the rules that give the same.
pub(crate) fn axes(
    workflow: &Workflow,
    scenarios: &[Scenario],
    plans: &[Plan],
    default_branch: &str,
    draft: &mut Draft,
) -> Axes {
    let mut axes = Axes::default();
    for job in workflow.jobs() {
        let Some(matrix) = job.matrix() else { continue };
        if plans.iter().any(|plan| plan.builds.iter().any(|build| build.job == job.id)) {
            match build(&job, matrix, scenarios, plans, default_branch, draft) {
                Ok(has_runner) => {
                    axes.builds.insert(job.id.to_owned(), has_runner);
                }
                Err(why) => {
                    axes.stays.insert(job.id.to_owned(), why);
                }
            }
        } else if is_test(&job)
            && let Some(axis) = python_axis(&job)
            && let Some(node) = matrix.get(&axis)
        {
            match test(node, scenarios, default_branch, draft) {
                Ok(true) => {
                    axes.tests.insert(job.id.to_owned(), axis);
                }
                Ok(false) => {}
                Err(why) => {
                    axes.stays.insert(job.id.to_owned(), why);
                }
            }
        }
    }
    axes
}

/// What a question has for an answer on the default branch, on others, and on tags.
struct Answers<T> {
    main: T,
    development: T,
    tag: Option<T>,
}

/// The answers by occasion; nothing if two runs of one occasion differ.
fn by_occasion<T: Clone + PartialEq>(
    scenarios: &[Scenario],
    answers: &[T],
    default_branch: &str,
    development: &[Occasion],
) -> Option<Answers<T>> {
    let of = |wanted: &dyn Fn(Occasion) -> bool| -> Option<Option<T>> {
        let mut found: Option<T> = None;
        for (scenario, answer) in scenarios.iter().zip(answers) {
            if !wanted(scenario.trigger.occasion(default_branch)) {
                continue;
            }
            match &found {
                Some(known) if known != answer => return None,
                _ => found = Some(answer.clone()),
            }
        }
        Some(found)
    };
    let tag = of(&|occasion| occasion == Occasion::Tag)?;
    let development_answer = of(&|occasion| development.contains(&occasion))?;
    let main = of(&|occasion| occasion != Occasion::Tag && !development.contains(&occasion))?;
    let main = main.or_else(|| tag.clone()).or_else(|| development_answer.clone())?;
    Some(Answers { development: development_answer.unwrap_or_else(|| main.clone()), main, tag })
}

/// Drafts the versions of a test job. Whether there is more than one to choose from.
fn test(node: &Node, scenarios: &[Scenario], default_branch: &str, draft: &mut Draft) -> Result<bool, String> {
    let mut all = Vec::new();
    for scenario in scenarios {
        let Some(serde_json::Value::Array(items)) = resolved(node, &scenario.context) else {
            return Err("its versions cannot be known beforehand".to_owned());
        };
        all.push(items.iter().map(shown).collect::<Vec<String>>());
    }
    if all.iter().all(|list| list.len() < 2) {
        return Ok(false);
    }
    if let Some(other) = all.iter().flatten().find(|version| !is_version(version)) {
        return Err(format!("{other} is no version that ci.python takes"));
    }
    let answers = by_occasion(scenarios, &all, default_branch, &[Occasion::PullRequest])
        .ok_or("pushes to different branches have different versions")?;
    if answers.tag.is_some_and(|tag| tag != answers.main) {
        return Err("tags have other versions than branches".to_owned());
    }
    for (key, list) in [("ci.python", answers.main), ("ci.python-pull-request", answers.development)] {
        let new = Value::List(list);
        if draft.general.get(key).is_some_and(|known| *known != new) {
            return Err("another test job has other versions, and the rules hold for all".to_owned());
        }
        draft.general.insert(key, new);
    }
    Ok(true)
}

fn is_version(text: &str) -> bool {
    let number = text.strip_suffix("-dev").or(text.strip_suffix('t')).unwrap_or(text);
    number.starts_with("3.")
        && number.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// Drafts the platforms and runners of a build job. Whether its runner is kiln's, too.
fn build(
    job: &Job<'_>,
    matrix: &Node,
    scenarios: &[Scenario],
    plans: &[Plan],
    default_branch: &str,
    draft: &mut Draft,
) -> Result<bool, String> {
    let mut all: Vec<Vec<Platform>> = Vec::new();
    let mut runners: BTreeMap<Platform, String> = BTreeMap::new();
    for (scenario, plan) in scenarios.iter().zip(plans) {
        if !plan.builds.iter().any(|build| build.job == job.id) {
            // The job does not run then, and its `if:` still says so.
            all.push(Vec::new());
            continue;
        }
        let combinations =
            combinations(Some(matrix), &scenario.context).ok_or("it cannot be known beforehand".to_owned())?;
        let mut platforms: Vec<Platform> = Vec::new();
        for combination in combinations {
            let mine: Vec<_> =
                plan.builds.iter().filter(|build| build.job == job.id && build.combination == combination).collect();
            let first = mine.first().ok_or("not each of its jobs builds")?;
            if mine.iter().any(|build| build.platform != first.platform) {
                return Err("one of its jobs builds several platforms".to_owned());
            }
            let platform: Platform = first
                .platform
                .parse()
                .map_err(|_| format!("`{}` is no platform that is known here", first.platform))?;
            for (name, value) in &combination {
                let value = shown(value);
                let known = match name.as_str() {
                    "arch" => platform.arch.artifact_name().to_owned(),
                    "platform" => platform.to_string(),
                    "runner" => first.runner.clone(),
                    _ => return Err(format!("`{name}` is not in kiln's matrix")),
                };
                if value != known {
                    return Err(format!("its {name} `{value}` is `{known}` in kiln's"));
                }
            }
            if platforms.contains(&platform) {
                return Err("it builds a platform twice".to_owned());
            }
            platforms.push(platform);
            if runners.insert(platform, first.runner.clone()).is_some_and(|other| other != first.runner) {
                return Err("a platform has another runner from run to run".to_owned());
            }
        }
        all.push(platforms);
    }
    // A run in which the job is left out says nothing.
    let (scenarios, all): (Vec<Scenario>, Vec<Vec<Platform>>) =
        scenarios.iter().cloned().zip(all).filter(|(_, platforms)| !platforms.is_empty()).unzip();
    let development = [Occasion::PullRequest, Occasion::Branch];
    let answers = by_occasion(&scenarios, &all, default_branch, &development)
        .ok_or("pull requests and branches have different platforms")?;
    let texts = |list: &[Platform]| Value::List(list.iter().map(Platform::to_string).collect());
    let rules = [("build.platforms", texts(&answers.main)), ("ci.development-platforms", texts(&answers.development))];
    if rules.iter().any(|(key, new)| draft.general.get(key).is_some_and(|known| known != new)) {
        return Err("another job builds other platforms, and the rules hold for all".to_owned());
    }
    draft.general.extend(rules);
    if let Some(tag) = answers.tag.filter(|tag| *tag != answers.main) {
        let names: Vec<String> = tag.iter().map(Platform::to_string).collect();
        draft.comments.push(format!(
            "kiln: differs: platforms: tags build all platforms; the old workflow built {} there",
            names.join(", ")
        ));
        if tag.len() < answers.main.len() {
            draft.comments.push("(ci.platforms would say less, but for the default branch, too).".to_owned());
        }
    }
    let is_one_text = job.node.get("runs-on").is_some_and(|node| node.text().is_some());
    let is_other = |(platform, runner): (&Platform, &String)| draft.runners.get(platform).is_some_and(|r| r != runner);
    if !is_one_text || runners.iter().any(is_other) {
        return Ok(false);
    }
    for (platform, runner) in runners {
        if runner != USUAL_RUNNER {
            draft.of(platform).insert("ci.runner", Value::Text(runner.clone()));
        }
        draft.runners.insert(platform, runner);
    }
    Ok(true)
}

impl Rewriter<'_> {
    /// Puts kiln's matrix in the place of the old ones.
    pub(super) fn matrices(&mut self) {
        let axes = self.axes;
        for job in self.workflow.jobs() {
            let Some(matrix) = job.matrix() else { continue };
            if let Some(has_runner) = axes.builds.get(job.id) {
                let include = format!("include: ${{{{ fromJSON(needs.{MATRIX_JOB}.outputs.matrix).include }}}}");
                self.set_matrix(matrix, &include);
                if let (true, Some(runner)) = (*has_runner, job.node.get("runs-on")) {
                    self.replace(runner.span.clone(), "${{ matrix.runner }}");
                }
                self.need(&job);
            } else if let Some(axis) = axes.tests.get(job.id)
                && let Some((key, value)) = matrix.entry(axis)
            {
                let text = format!(": ${{{{ fromJSON(needs.{MATRIX_JOB}.outputs.matrix).python }}}}");
                self.replace(key.span.end..value.span.end, text);
                self.need(&job);
            } else if let Some(why) = axes.stays.get(job.id)
                && let Some((strategy, _)) = job.node.entry("strategy")
            {
                let start = self.line_start(strategy.span.start);
                let comment = format!("{}{MARK}this matrix stays as it is: {why}\n", self.indent(start));
                self.replace(start..start, comment);
            }
        }
        if axes.builds.is_empty() && axes.tests.is_empty() {
            return;
        }
        self.changed = true;
        let Some(first) = self.workflow.jobs().first().and_then(|job| job.key) else { return };
        let start = self.line_start(first.span.start);
        let one = self.indent(start).to_owned();
        let checkout = self.checkout();
        let text = format!(
            "{one}{MARK}what a run tests and builds, by the rules of [ci] in kiln.toml\n\
             {one}{MATRIX_JOB}:\n\
             {one}  runs-on: {USUAL_RUNNER}\n\
             {one}  outputs:\n\
             {one}    matrix: ${{{{ steps.matrix.outputs.matrix }}}}\n\
             {one}  steps:\n\
             {one}  - uses: {checkout}\n\
             {one}  - uses: {USES}\n\
             {one}    with:\n\
             {one}      install-only: true\n\
             {one}  - id: matrix\n\
             {one}    run: kiln ci matrix --explain --format github-output >> \"$GITHUB_OUTPUT\"\n\n"
        );
        self.replace(start..start, text);
    }

    /// The version of the checkout that the workflow uses itself.
    fn checkout(&self) -> String {
        let jobs = self.workflow.jobs();
        let mut all = jobs.iter().flat_map(Job::steps).filter(|step| step.action() == Some("actions/checkout"));
        all.find_map(|step| step.text("uses")).unwrap_or("actions/checkout@v4").to_owned()
    }

    fn set_matrix(&mut self, matrix: &Node, text: &str) {
        let is_flow = self.text[matrix.span.clone()].starts_with('{') || matches!(matrix.data, Data::Scalar(..));
        let text = if is_flow { format!("\n{}  {text}", self.indent(matrix.span.start)) } else { text.to_owned() };
        self.replace(matrix.span.clone(), text);
    }

    /// Lets a job wait for the one that gives the matrix.
    fn need(&mut self, job: &Job<'_>) {
        match job.node.entry("needs") {
            Some((_, Node { data: Data::Scalar(old, _), span })) => {
                self.replace(span.clone(), format!("[{old}, {MATRIX_JOB}]"));
            }
            Some((_, node)) if self.text[node.span.clone()].starts_with('[') => {
                self.replace(node.span.end - 1..node.span.end, format!(", {MATRIX_JOB}]"));
            }
            Some((_, node)) => {
                let end = self.line_end(node.span.end);
                let indent = self.indent(node.span.start).to_owned();
                self.replace(end..end, format!("{indent}- {MATRIX_JOB}\n"));
            }
            None => {
                let start = self.line_start(job.node.span.start);
                let indent = self.indent(start).to_owned();
                self.replace(start..start, format!("{indent}needs: {MATRIX_JOB}\n"));
            }
        }
    }
}
