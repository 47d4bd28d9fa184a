//! What is built, as the CI service or the files of git tell it: branch and commit. git itself is not run for that.

use std::path::{Path, PathBuf};

use crate::environment::Environment;

/// The branch or tag that is built, if that is known.
pub(crate) fn branch(environment: &Environment, folder: &Path) -> Option<String> {
    let given = OWN_BRANCH.iter().find_map(|name| environment.get(name)).map(str::to_owned);
    given.or_else(|| checked_out(folder))
}

/// The commit that is built, if that is known: in hexadecimal.
pub(crate) fn commit(environment: &Environment, folder: &Path) -> Option<String> {
    let given = ["GITHUB_SHA", "CI_COMMIT_SHA"].into_iter().find_map(|name| environment.get(name)).map(str::to_owned);
    given.or_else(|| {
        let git = git_folder(folder)?;
        let head = fs_err::read_to_string(git.join("HEAD")).ok()?;
        let Some(reference) = head.trim().strip_prefix("ref: ") else { return Some(head.trim().to_owned()) };
        let loose = fs_err::read_to_string(git.join(reference)).ok().map(|text| text.trim().to_owned());
        loose.or_else(|| {
            let packed = fs_err::read_to_string(git.join("packed-refs")).ok()?;
            let line = packed.lines().find(|line| line.ends_with(&format!(" {reference}")))?;
            line.split(' ').next().map(str::to_owned)
        })
    })
}

/// Variables with the branch or tag that is built. The first is set for pull requests alone.
const OWN_BRANCH: [&str; 3] = ["GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME"];

/// The branch that is built, then the one that it is to be merged into, then the default one.
pub(crate) fn branches(environment: &Environment, folder: &Path) -> Vec<String> {
    let get = |names: &[&str]| names.iter().find_map(|name| environment.get(name)).map(str::to_owned);
    let default = default_branch(environment, folder);
    let own = branch(environment, folder);
    let base = get(&["GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"]);
    let mut list: Vec<String> = Vec::new();
    for branch in [own, base, default].into_iter().flatten() {
        if !list.contains(&branch) {
            list.push(branch);
        }
    }
    if list.is_empty() {
        list.push("default".to_owned());
    }
    list
}

/// The default branch: as the event of GitHub says, or GitLab's variable, or git.
pub(crate) fn default_branch(environment: &Environment, folder: &Path) -> Option<String> {
    let event: Option<serde_json::Value> = environment
        .get("GITHUB_EVENT_PATH")
        .and_then(|path| fs_err::read(path).ok())
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let default = event.as_ref().and_then(|event| event.pointer("/repository/default_branch"));
    let default = default.and_then(serde_json::Value::as_str).map(str::to_owned);
    default.or_else(|| environment.get("CI_DEFAULT_BRANCH").map(str::to_owned)).or_else(|| default_of(folder))
}

/// The git folder of a project.
fn git_folder(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().map(|folder| folder.join(".git")).find(|git| git.is_dir())
}

/// The branch that is checked out, if it is one.
pub(crate) fn checked_out(folder: &Path) -> Option<String> {
    branch_in(&git_folder(folder)?.join("HEAD"), "ref: refs/heads/")
}

/// The branch that the remote says is its own, or one with the usual name.
fn default_of(folder: &Path) -> Option<String> {
    let git = git_folder(folder)?;
    branch_in(&git.join("refs/remotes/origin/HEAD"), "ref: refs/remotes/origin/").or_else(|| {
        let packed = fs_err::read_to_string(git.join("packed-refs")).unwrap_or_default();
        let is_there = |name: &&str| {
            let reference = format!("refs/heads/{name}");
            git.join(&reference).exists() || packed.lines().any(|line| line.ends_with(&format!(" {reference}")))
        };
        ["main", "master"].into_iter().find(is_there).map(str::to_owned)
    })
}

fn branch_in(file: &Path, prefix: &str) -> Option<String> {
    let text = fs_err::read_to_string(file).ok()?;
    text.trim().strip_prefix(prefix).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment { variables, ..Environment::read() }
    }

    #[test]
    fn a_branch_falls_back_to_the_one_that_it_will_be_merged_into() {
        let dir = tempfile::tempdir().expect("a folder");
        let event = dir.path().join("event.json");
        fs_err::write(&event, r#"{"repository": {"default_branch": "trunk"}}"#).expect("written");
        let pull_request = environment(&[
            ("GITHUB_HEAD_REF", "feature/x"),
            ("GITHUB_REF_NAME", "7/merge"),
            ("GITHUB_BASE_REF", "release"),
            ("GITHUB_EVENT_PATH", event.to_str().expect("text")),
        ]);
        assert_eq!(branches(&pull_request, dir.path()), ["feature/x", "release", "trunk"]);
        let gitlab = environment(&[("CI_COMMIT_REF_NAME", "main"), ("CI_DEFAULT_BRANCH", "main")]);
        assert_eq!(branches(&gitlab, dir.path()), ["main"]);
        assert_eq!(branches(&environment(&[]), dir.path()), ["default"]);
    }

    #[test]
    fn without_variables_git_knows_the_branch() {
        let dir = tempfile::tempdir().expect("a folder");
        let project = dir.path().join("sub/project");
        fs_err::create_dir_all(&project).expect("made");
        let git = dir.path().join(".git");
        fs_err::create_dir_all(git.join("refs/remotes/origin")).expect("made");
        fs_err::write(git.join("HEAD"), "ref: refs/heads/topic/one\n").expect("written");
        fs_err::write(git.join("packed-refs"), "# pack-refs\n1234 refs/heads/master\n").expect("written");
        assert_eq!(branches(&environment(&[]), &project), ["topic/one", "master"]);
        fs_err::write(git.join("refs/remotes/origin/HEAD"), "ref: refs/remotes/origin/dev\n").expect("written");
        assert_eq!(branches(&environment(&[]), &project), ["topic/one", "dev"]);
        fs_err::write(git.join("HEAD"), "0123456789012345678901234567890123456789\n").expect("written");
        assert_eq!(branches(&environment(&[]), &project), ["dev"]);
    }

    #[test]
    fn the_commit_is_read_from_gits_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let git = dir.path().join(".git");
        fs_err::create_dir_all(git.join("refs/heads")).expect("made");
        fs_err::write(git.join("HEAD"), "ref: refs/heads/main\n").expect("written");
        assert_eq!(commit(&environment(&[]), dir.path()), None);
        fs_err::write(git.join("packed-refs"), "# pack-refs\n1234abcd refs/heads/main\n").expect("written");
        assert_eq!(commit(&environment(&[]), dir.path()).as_deref(), Some("1234abcd"));
        fs_err::write(git.join("refs/heads/main"), "5678ef\n").expect("written");
        assert_eq!(commit(&environment(&[]), dir.path()).as_deref(), Some("5678ef"));
        assert_eq!(commit(&environment(&[("GITHUB_SHA", "9")]), dir.path()).as_deref(), Some("9"));
        fs_err::write(git.join("HEAD"), "0123456789\n").expect("written");
        assert_eq!(commit(&environment(&[]), dir.path()).as_deref(), Some("0123456789"));
    }
}
