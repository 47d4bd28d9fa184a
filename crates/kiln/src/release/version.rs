//! Which version is released, and under which tag.

use kiln_config::Section;

use super::git::Repository;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::project::Project;

/// What stands for the version in a tag.
const VERSION: &str = "{version}";
/// A version and its tag.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) version: String,
    pub(crate) tag: String,
}

impl Version {
    /// The tag is the one that was named, else the one that the CI service runs for, else one at the commit that is of the
    /// project's version, else what that version's tag will be called. Where the project says no version, the tag does.
    /// `named` is the option that may say what is missing, and the tag that it names.
    pub(crate) fn find(
        environment: &Environment,
        project: &Project,
        repository: Option<&Repository>,
        commit: &str,
        (option, named): (&str, Option<&str>),
    ) -> Result<Self> {
        let settings = project.config.resolved();
        let named = named.map(|tag| (option, tag.to_owned())).or_else(|| of_service(environment));
        let tags = match repository {
            Some(repository) if named.is_none() => repository.tags_at(commit)?,
            _ => Vec::new(),
        };
        let own = project.config.provenance(Section::Release, "version", None);
        let place = if own.is_explicit() { own } else { project.config.provenance(Section::Project, "version", None) };
        choose(&settings.publish.tag, settings.release.version, named, &tags).map_err(|problem| match problem {
            Problem::Differs { who, tag, said, version } => CliError::Missing {
                problem: format!("{who} {tag} is of version {said}, and the project is at {version} ({place})"),
                hint: "set the version, commit and build anew; or release under the tag of that version".to_owned(),
            },
            Problem::Unknown => CliError::Missing {
                problem: "the version is not known: neither kiln.toml nor pyproject.toml says it, and no tag is at the commit"
                    .to_owned(),
                hint: format!("set `version` in [project] of kiln.toml, or pass {option}"),
            },
        })
    }
}

/// Why there is no version.
#[derive(Debug, PartialEq, Eq)]
enum Problem<'a> {
    Differs { who: &'a str, tag: String, said: String, version: String },
    Unknown,
}

/// The tag that a CI service runs for.
fn of_service(environment: &Environment) -> Option<(&'static str, String)> {
    let is_tag = environment.get("GITHUB_REF_TYPE") == Some("tag");
    let github = environment.get("GITHUB_REF_NAME").filter(|_| is_tag).map(|tag| ("the run's tag", tag.to_owned()));
    github.or_else(|| environment.get("CI_COMMIT_TAG").map(|tag| ("the run's tag", tag.to_owned())))
}

fn choose<'a>(
    pattern: &str,
    version: Option<String>,
    named: Option<(&'a str, String)>,
    tags: &[String],
) -> Result<Version, Problem<'a>> {
    let in_tag = |tag: &str| version_in(pattern, tag).map(str::to_owned);
    match (named, version) {
        (Some((who, tag)), Some(version)) => match in_tag(&tag) {
            Some(said) if !are_same(&said, &version) => Err(Problem::Differs { who, said, tag, version }),
            // Tags such as `nightly` say nothing of a version.
            _ => Ok(Version { version, tag }),
        },
        (Some((_, tag)), None) => Ok(Version { version: in_tag(&tag).unwrap_or_else(|| tag.clone()), tag }),
        (None, Some(version)) => {
            let its = tags.iter().find(|tag| in_tag(tag).is_some_and(|said| are_same(&said, &version)));
            Ok(Version { tag: its.cloned().unwrap_or_else(|| pattern.replace(VERSION, &version)), version })
        }
        (None, None) => {
            let found = || tags.iter().filter_map(|tag| Some(Version { version: in_tag(tag)?, tag: tag.clone() }));
            let is_release = |found: &Version| parse(&found.version).is_some_and(|version| !version.is_prerelease());
            // Whoever tags a candidate as the release means the latter.
            found().find(is_release).or_else(|| found().next()).ok_or(Problem::Unknown)
        }
    }
}

/// The version in a tag: what the pattern has in its place, or the whole tag if it is one (`1.2`, `v1.2`).
fn version_in<'a>(pattern: &str, tag: &'a str) -> Option<&'a str> {
    let in_pattern = || {
        let (before, after) = pattern.split_once(VERSION)?;
        let version = tag.strip_prefix(before)?.strip_suffix(after)?;
        version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
    };
    let whole = || parse(tag).map(|_| tag.trim_start_matches(['v', 'V']));
    in_pattern().or_else(whole)
}

/// Whether versions are the same, however they are spelled.
fn are_same(one: &str, other: &str) -> bool {
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => one.is_same_as(&other),
        _ => one == other,
    }
}

fn parse(version: &str) -> Option<kiln_package::Version> {
    version.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(version: Option<&str>, named: Option<&str>, tags: &[&str]) -> Result<(String, String), Problem<'static>> {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let named = named.map(|tag| ("--tag", tag.to_owned()));
        choose("v{version}", version.map(str::to_owned), named, &tags).map(|found| (found.version, found.tag))
    }

    #[test]
    fn versions_and_tags_follow_from_each_other() {
        let found = |version: &str, tag: &str| Ok((version.to_owned(), tag.to_owned()));
        assert_eq!(chosen(Some("1.2"), None, &[]), found("1.2", "v1.2"));
        assert_eq!(chosen(Some("1.2"), None, &["v1.3", "1.2"]), found("1.2", "1.2"));
        assert_eq!(chosen(Some("1.2rc1"), Some("v1.2-rc.1"), &[]), found("1.2rc1", "v1.2-rc.1"));
        assert_eq!(chosen(Some("1.2"), Some("nightly"), &[]), found("1.2", "nightly"));
        assert_eq!(chosen(None, Some("v1.2"), &[]), found("1.2", "v1.2"));
        assert_eq!(chosen(None, None, &["latest", "v1.2"]), found("1.2", "v1.2"));
        assert_eq!(chosen(None, None, &["1.2"]), found("1.2", "1.2"));
        assert_eq!(chosen(None, None, &["v1.2rc2", "v1.2"]), found("1.2", "v1.2"));
        assert_eq!(chosen(None, None, &["v1.2rc2", "v1.2rc1"]), found("1.2rc2", "v1.2rc2"));
        assert_eq!(chosen(None, None, &["very-old"]), Err(Problem::Unknown));
        for (version, tag) in [("1.2", "v1.3"), ("1.2", "v1.2rc1"), ("1.2", "1.20")] {
            assert!(matches!(chosen(Some(version), Some(tag), &[]), Err(Problem::Differs { .. })), "{tag}");
        }
    }
}
