//! What a run of a CI system is about: its event and branch, as GitHub and GitLab tell them in variables.

use std::fmt;

/// What a run is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The event, by its name: `push`, `pull_request`, `merge_request_event`, ...; empty outside of CI.
    pub event: String,
    /// The full name of the branch or tag: `refs/heads/main`; empty if nothing says.
    pub reference: String,
    /// The branch that a pull request is to be merged into.
    pub base: Option<String>,
    /// The default branch, if the CI system or git says so.
    pub default_branch: Option<String>,
    /// Where the event is from, for explanations.
    pub event_from: String,
    /// Where the branch is from.
    pub reference_from: String,
}

/// The kinds of runs that rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A pull or merge request.
    PullRequest,
    /// A tag or release.
    Tag,
    /// The default branch.
    DefaultBranch,
    /// Another branch.
    Branch,
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PullRequest => "pull request",
            Self::Tag => "tag",
            Self::DefaultBranch => "default branch",
            Self::Branch => "development branch",
        })
    }
}

/// What the command line says; each wins over the variables.
#[derive(Clone, Debug, Default)]
pub struct Given<'a> {
    /// `--event`.
    pub event: Option<&'a str>,
    /// `--ref`: a full name, or that of a branch.
    pub reference: Option<&'a str>,
    /// `--base-ref`.
    pub base: Option<&'a str>,
}

/// Events that GitHub and GitLab know, for `--event`.
const EVENTS: [&str; 29] = [
    "push",
    "pull_request",
    "pull_request_target",
    "pull_request_review",
    "merge_group",
    "release",
    "create",
    "schedule",
    "workflow_dispatch",
    "workflow_call",
    "workflow_run",
    "repository_dispatch",
    "deployment",
    "issue_comment",
    "issues",
    "label",
    "page_build",
    "registry_package",
    "check_run",
    "check_suite",
    "status",
    "merge_request_event",
    "external_pull_request_event",
    "web",
    "api",
    "trigger",
    "pipeline",
    "parent_pipeline",
    "chat",
];

/// An event that nobody has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown event `{given}`")]
pub struct UnknownEvent {
    /// As it was given.
    pub given: String,
}

impl UnknownEvent {
    /// What is allowed.
    pub fn hint(&self) -> String {
        let plain = |text: &str| text.to_ascii_lowercase().replace(['-', ' '], "_");
        let given = plain(&self.given);
        match EVENTS.iter().find(|event| **event == given || event.starts_with(&given) || given.starts_with(**event)) {
            Some(event) => format!("did you mean {event}?"),
            None => "events are named as in GITHUB_EVENT_NAME or CI_PIPELINE_SOURCE: push, pull_request, schedule, ..."
                .to_owned(),
        }
    }
}

impl Trigger {
    /// Reads the variables of GitHub and GitLab. What git says of the folder counts where they are silent: the branch that is
    /// checked out, and the default one.
    ///
    /// Errors: `--event` names none that there is.
    pub fn read(
        given: &Given<'_>,
        variable: &dyn Fn(&str) -> Option<String>,
        git: (Option<String>, Option<String>),
    ) -> Result<Self, UnknownEvent> {
        if let Some(event) = given.event
            && !EVENTS.contains(&event)
        {
            return Err(UnknownEvent { given: event.to_owned() });
        }
        let first = |names: &[&str]| {
            names.iter().find_map(|name| Some((variable(name)?, (*name).to_owned()))).unwrap_or_default()
        };
        let full = |name: &str| if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") };
        let option = |value: &str, name: &str| (value.to_owned(), name.to_owned());
        let (mut event, mut event_from) =
            given.event.map_or_else(|| first(&["GITHUB_EVENT_NAME", "CI_PIPELINE_SOURCE"]), |e| option(e, "--event"));
        let (reference, reference_from) = match given.reference {
            Some(name) => (full(name), "--ref".to_owned()),
            None => match (first(&["GITHUB_REF"]), first(&["CI_COMMIT_TAG"]), first(&["CI_COMMIT_REF_NAME"])) {
                (found, ..) if !found.0.is_empty() => (full(&found.0), found.1),
                (_, (tag, from), _) if !tag.is_empty() => (format!("refs/tags/{tag}"), from),
                (.., (branch, from)) if !branch.is_empty() => (full(&branch), from),
                _ => git.0.map(|branch| (full(&branch), "git".to_owned())).unwrap_or_default(),
            },
        };
        let mut base = given.base.map(str::to_owned).or_else(|| {
            Some(first(&["GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"]).0).filter(|name| !name.is_empty())
        });
        if given.event.is_none() && given.reference.is_some() {
            // A branch that is asked about was pushed, whatever made this run.
            event_from.clear();
            base = given.base.map(str::to_owned);
            event = (if reference.starts_with("refs/pull/") { "pull_request" } else { "push" }).into();
        }
        let default_branch = variable("CI_DEFAULT_BRANCH").or(git.1);
        Ok(Self { event, reference, base, default_branch, event_from, reference_from })
    }

    /// Which kind of run this is, with the name of the default branch.
    pub fn occasion(&self, default_branch: &str) -> Occasion {
        let is_request = matches!(
            self.event.as_str(),
            "pull_request"
                | "pull_request_target"
                | "pull_request_review"
                | "merge_request_event"
                | "external_pull_request_event"
        );
        if is_request || self.reference.starts_with("refs/pull/") {
            return Occasion::PullRequest;
        }
        if self.reference.starts_with("refs/tags/") || self.event == "release" {
            return Occasion::Tag;
        }
        // What a merge queue tries is what the branch will be.
        let branch = self.reference.trim_start_matches("refs/heads/");
        let queued = branch
            .strip_prefix("gh-readonly-queue/")
            .is_some_and(|rest| rest.strip_prefix(default_branch).is_some_and(|rest| rest.starts_with('/')));
        if branch == default_branch || queued { Occasion::DefaultBranch } else { Occasion::Branch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &Given<'_>, variables: &[(&str, &str)]) -> Trigger {
        let variable =
            |name: &str| variables.iter().find(|(n, v)| *n == name && !v.is_empty()).map(|(_, v)| (*v).to_owned());
        Trigger::read(given, &variable, (Some("topic".to_owned()), None)).unwrap()
    }

    #[test]
    fn github_and_gitlab_tell_the_occasion() {
        let github = |event: &str, reference: &str| {
            read(&Given::default(), &[("GITHUB_EVENT_NAME", event), ("GITHUB_REF", reference)]).occasion("main")
        };
        assert_eq!(github("pull_request", "refs/pull/7/merge"), Occasion::PullRequest);
        assert_eq!(github("push", "refs/heads/main"), Occasion::DefaultBranch);
        assert_eq!(github("push", "refs/heads/feature/main"), Occasion::Branch);
        assert_eq!(github("push", "refs/tags/v1"), Occasion::Tag);
        assert_eq!(github("release", "refs/tags/v1"), Occasion::Tag);
        assert_eq!(github("schedule", "refs/heads/main"), Occasion::DefaultBranch);
        assert_eq!(github("merge_group", "refs/heads/gh-readonly-queue/main/pr-1-abc"), Occasion::DefaultBranch);
        let gitlab = |variables: &[(&str, &str)]| read(&Given::default(), variables).occasion("main");
        assert_eq!(
            gitlab(&[("CI_PIPELINE_SOURCE", "merge_request_event"), ("CI_COMMIT_REF_NAME", "x")]),
            Occasion::PullRequest
        );
        assert_eq!(gitlab(&[("CI_PIPELINE_SOURCE", "push"), ("CI_COMMIT_REF_NAME", "main")]), Occasion::DefaultBranch);
        let tag = [("CI_PIPELINE_SOURCE", "push"), ("CI_COMMIT_REF_NAME", "v1"), ("CI_COMMIT_TAG", "v1")];
        assert_eq!(gitlab(&tag), Occasion::Tag);
        assert_eq!(gitlab(&[]), Occasion::Branch, "git says topic");
    }

    #[test]
    fn the_command_line_wins() {
        let around = [("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_REF", "refs/pull/7/merge")];
        let of = |event, reference| read(&Given { event, reference, base: None }, &around).occasion("main");
        assert_eq!(of(None, Some("main")), Occasion::DefaultBranch);
        assert_eq!(of(Some("push"), Some("refs/tags/v2")), Occasion::Tag);
        assert_eq!(of(Some("pull_request"), Some("main")), Occasion::PullRequest);
        assert_eq!(of(None, Some("refs/pull/9/head")), Occasion::PullRequest);
    }

    #[test]
    fn an_event_that_nobody_has_is_refused() {
        let given = Given { event: Some("pull-request"), ..Given::default() };
        let error = Trigger::read(&given, &|_| None, (None, None)).unwrap_err();
        assert_eq!(
            (error.to_string(), error.hint()),
            ("unknown event `pull-request`".into(), "did you mean pull_request?".into())
        );
    }
}
