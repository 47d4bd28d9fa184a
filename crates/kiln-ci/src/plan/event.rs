//! The runs that a workflow is asked about: those that its `on:` makes, one of each kind.

use crate::expression::Context;
use crate::trigger::Trigger;
use crate::workflow::Workflow;
use crate::yaml::Node;

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// How it is called in tables.
    pub(crate) name: String,
    pub(crate) context: Context,
    pub(crate) trigger: Trigger,
}

/// A branch that is not the default one.
const TOPIC: &str = "topic";
const TAG: &str = "v1.0.0";

/// The default branch, as far as the workflow shows it.
pub(crate) fn default_branch(workflow: &Workflow, text: &str) -> String {
    if let Some(at) = text.find("== 'refs/heads/") {
        let name: String = text[at + "== 'refs/heads/".len()..].chars().take_while(|c| *c != '\'').collect();
        if !name.is_empty() {
            return name;
        }
    }
    let branches = workflow.get("on").and_then(|on| on.path(&["push", "branches"]));
    let names: Vec<&str> = branches.map(texts).unwrap_or_default();
    let usual = ["main", "master", "trunk"].into_iter().find(|name| names.contains(name));
    let plain = names.iter().find(|name| !name.contains(['*', '!', '?', '[']));
    usual.or(plain.copied()).unwrap_or("main").to_owned()
}

/// One run of each kind that the workflow has.
pub(crate) fn scenarios(workflow: &Workflow, default_branch: &str) -> Vec<Scenario> {
    let Some(on) = workflow.get("on") else { return vec![branch("push", default_branch, default_branch)] };
    let mut names: Vec<&str> = texts(on);
    names.extend(on.pairs().iter().filter_map(|(key, _)| key.text()));
    let mut found = Vec::new();
    for name in names {
        match name {
            "push" => {
                let filter = |key: &str| on.path(&["push", key]).map(texts);
                let (branches, tags) = (filter("branches"), filter("tags"));
                let is_open = branches.is_none() && tags.is_none();
                let takes = |name: &str| branches.as_ref().map_or(is_open, |all| all.iter().any(|p| fits(p, name)));
                if takes(default_branch) {
                    found.push(branch("push", default_branch, default_branch));
                }
                if takes(TOPIC) {
                    found.push(branch("push", TOPIC, default_branch));
                }
                if is_open || tags.is_some() {
                    found.push(tag("push", default_branch));
                }
            }
            "pull_request" | "pull_request_target" => found.push(pull_request(name, default_branch)),
            "release" => found.push(tag("release", default_branch)),
            // Nothing but comes by: a workflow that others call is asked about below.
            "workflow_call" => {}
            other => found.push(branch(other, default_branch, default_branch)),
        }
    }
    if found.is_empty() {
        found.extend([branch("push", default_branch, default_branch), pull_request("pull_request", default_branch)]);
    }
    let is_dispatch = |scenario: &Scenario| scenario.trigger.event == "workflow_dispatch";
    if found.len() > 1 {
        // The same as a push, for what is asked here.
        found.retain(|scenario| !is_dispatch(scenario));
    }
    found
}

fn texts(node: &Node) -> Vec<&str> {
    node.text().into_iter().chain(node.items().iter().filter_map(Node::text)).collect()
}

/// Whether a name fits a filter; `**` and `*` are told apart only as far as they are for a name without `/`.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.starts_with(before) && name.ends_with(after.trim_start_matches('*')),
    }
}

fn scenario(name: String, event: &str, reference: &str, base: Option<&str>, default_branch: &str) -> Scenario {
    let mut context = Context::default();
    let short = reference.trim_start_matches("refs/heads/").trim_start_matches("refs/tags/");
    let short = short.strip_prefix("refs/pull/").unwrap_or(short);
    let kind = if reference.starts_with("refs/tags/") { "tag" } else { "branch" };
    for (key, value) in [
        ("event_name", event),
        ("ref", reference),
        ("ref_name", short),
        ("ref_type", kind),
        ("base_ref", base.unwrap_or_default()),
        ("head_ref", if base.is_some() { TOPIC } else { "" }),
    ] {
        context.set("github", key, value.into());
    }
    let event_value = serde_json::json!({"repository": {"default_branch": default_branch}});
    context.set("github", "event", event_value);
    context.set("runner", "os", "Linux".into());
    let trigger = Trigger {
        event: event.to_owned(),
        reference: reference.to_owned(),
        base: base.map(str::to_owned),
        default_branch: Some(default_branch.to_owned()),
        event_from: String::new(),
        reference_from: String::new(),
    };
    Scenario { name, context, trigger }
}

fn branch(event: &str, name: &str, default_branch: &str) -> Scenario {
    let shown = if event == "push" { format!("push {name}") } else { event.to_owned() };
    scenario(shown, event, &format!("refs/heads/{name}"), None, default_branch)
}

fn tag(event: &str, default_branch: &str) -> Scenario {
    let shown = if event == "push" { format!("tag {TAG}") } else { event.to_owned() };
    scenario(shown, event, &format!("refs/tags/{TAG}"), None, default_branch)
}

fn pull_request(event: &str, default_branch: &str) -> Scenario {
    scenario("pull request".to_owned(), event, "refs/pull/1/merge", Some(default_branch), default_branch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(on: &str) -> Vec<String> {
        let text = format!("on:{on}\njobs:\n  a:\n    steps: []\n");
        let workflow = Workflow::read("w.yml", &text).unwrap();
        scenarios(&workflow, &default_branch(&workflow, &text)).into_iter().map(|s| s.name).collect()
    }

    #[test]
    fn a_workflow_is_asked_about_the_runs_that_it_has() {
        assert_eq!(names(" [push, pull_request]"), ["push main", "push topic", "tag v1.0.0", "pull request"]);
        assert_eq!(names("\n  push:\n    branches: [master]\n  pull_request:"), ["push master", "pull request"]);
        assert_eq!(names("\n  push:\n    tags: ['v*']\n  workflow_dispatch:"), ["tag v1.0.0"]);
        assert_eq!(names("\n  push:\n    branches: ['**']"), ["push main", "push topic"]);
        assert_eq!(names(" workflow_call"), ["push main", "pull request"]);
        assert_eq!(names("\n  schedule:\n  - cron: x\n  release:"), ["schedule", "release"]);
    }
}
