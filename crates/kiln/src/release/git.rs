//! What git says of a project, through the system's program.

use std::path::{Path, PathBuf};
use std::process::Output;

use kiln_publish::Commit;

use crate::error::{CliError, Result};
use crate::git::command;

/// What separates the fields of a commit, and commits: no line of text has them.
const FIELD: char = '\u{1f}';
const RECORD: char = '\u{1e}';

/// A repository of git's.
pub(crate) struct Repository {
    /// Its folder with files.
    folder: PathBuf,
}

impl Repository {
    /// The repository that a folder is in.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let output = git(folder, &["rev-parse", "--show-toplevel"])?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            // Of another user's folder git says so, and what to do.
            if said.contains("dubious ownership") {
                return Err(failed("rev-parse", &said));
            }
            return Err(CliError::Missing {
                problem: format!("{} is in no git repository, and a release is of a commit", folder.display()),
                hint: "git init, and commit what you release".to_owned(),
            });
        }
        Ok(Self { folder: PathBuf::from(text(&output)) })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What git prints; nothing if it says that there is no such thing.
    fn ask(&self, args: &[&str]) -> Result<Option<String>> {
        let output = git(&self.folder, args)?;
        Ok(output.status.success().then(|| text(&output)).filter(|text| !text.is_empty()))
    }

    /// What git prints.
    fn must(&self, args: &[&str]) -> Result<String> {
        let output = git(&self.folder, args)?;
        if output.status.success() {
            return Ok(text(&output));
        }
        Err(failed(args[0], String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// The id of a commit; without a name that of HEAD.
    pub(crate) fn commit(&self, name: Option<&str>) -> Result<String> {
        let name = name.unwrap_or("HEAD");
        self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])?.ok_or_else(
            || CliError::Missing {
                problem: format!("git knows no commit {name}"),
                hint: "a release is of a commit: make one, or name one with --target".to_owned(),
            },
        )
    }

    /// The commit of a tag.
    pub(crate) fn tag(&self, tag: &str) -> Result<Option<String>> {
        self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("refs/tags/{tag}^{{commit}}")])
    }

    /// The tags of a commit, those of later versions first.
    pub(crate) fn tags_at(&self, commit: &str) -> Result<Vec<String>> {
        let tags = self.must(&["tag", "--sort=-version:refname", "--points-at", commit])?;
        Ok(tags.lines().map(str::to_owned).collect())
    }

    /// The last tag before a commit, other than `tag`.
    pub(crate) fn tag_before(&self, commit: &str, tag: &str) -> Result<Option<String>> {
        self.ask(&["describe", "--tags", "--abbrev=0", &format!("--exclude={tag}"), commit])
    }

    /// The commits up to one, since a tag.
    pub(crate) fn log(&self, since: Option<&str>, commit: &str) -> Result<Vec<Commit>> {
        let range = since.map_or_else(|| commit.to_owned(), |tag| format!("refs/tags/{tag}..{commit}"));
        let format = format!("--format=%H{FIELD}%aN{FIELD}%s{RECORD}");
        let log = self.must(&["log", "--no-merges", "--no-show-signature", &format, &range])?;
        let commit = |record: &str| {
            let mut fields = record.trim_start_matches('\n').split(FIELD).map(str::to_owned);
            Some(Commit { id: fields.next()?, author: fields.next()?, subject: fields.next()? })
        };
        Ok(log.split(RECORD).filter_map(commit).collect())
    }

    /// Files that git tracks and that differ from the commit.
    pub(crate) fn changed(&self) -> Result<Vec<String>> {
        let status = git(&self.folder, &["status", "--porcelain", "--untracked-files=no"])?;
        // The first line may begin with a blank.
        let lines = String::from_utf8_lossy(&status.stdout).into_owned();
        Ok(lines.lines().filter_map(|line| line.get(3..)).map(str::to_owned).collect())
    }

    /// Where git pushes to: the remote of the branch, else `origin`, else the only one.
    pub(crate) fn remote(&self) -> Result<Option<String>> {
        let branch = self.ask(&["symbolic-ref", "--quiet", "--short", "HEAD"])?;
        let of_branch = match branch {
            Some(branch) => self.ask(&["config", "--get", &format!("branch.{branch}.remote")])?,
            None => None,
        };
        let remotes = self.must(&["remote"])?;
        let remotes: Vec<&str> = remotes.lines().collect();
        let name = match &of_branch {
            Some(name) if remotes.contains(&name.as_str()) => Some(name.as_str()),
            _ if remotes.contains(&"origin") => Some("origin"),
            _ => remotes.first().copied().filter(|_| remotes.len() == 1),
        };
        name.map_or(Ok(None), |name| self.ask(&["remote", "get-url", name]))
    }

    /// Whether only the last commits are here.
    pub(crate) fn is_shallow(&self) -> Result<bool> {
        Ok(self.ask(&["rev-parse", "--is-shallow-repository"])?.as_deref() == Some("true"))
    }
}

fn git(folder: &Path, args: &[&str]) -> Result<Output> {
    command(folder, args).output().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => CliError::Missing {
            problem: "git is not installed, and a release is of a commit".to_owned(),
            hint: "install git".to_owned(),
        },
        _ => CliError::io("run", "git")(source),
    })
}

fn failed(what: &str, said: &str) -> CliError {
    let line = said.lines().next().unwrap_or("it fails").to_owned();
    CliError::Missing { problem: format!("git {what}: {line}"), hint: format!("git says: {}", said.replace('\n', " ")) }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
