//! Which version is released, and under which tag.

use kiln_config::Section;

use super::git::Repository;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::project::Project;

/// What stands for the version in a tag.
const VERSION: &str = "{version}";
/// Words that say that a version is one to try out.
const EARLY: [&str; 9] = ["a", "alpha", "b", "beta", "c", "rc", "pre", "preview", "dev"];

/// A version and its tag.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) version: String,
    pub(super) tag: String,
}

impl Version {
    /// The tag is the one that was named, else the one that the CI service runs for, else that of the project's version;
    /// where the project says none, the one at the commit.
    pub(super) fn find(
        environment: &Environment,
        project: &Project,
        repository: &Repository,
        commit: &str,
        named: Option<&str>,
    ) -> Result<Self> {
        let settings = project.config.resolved();
        let (pattern, version) = (&settings.publish.tag, settings.project.version);
        let named = named.map(|tag| ("--tag", tag.to_owned())).or_else(|| of_service(environment));
        let tags = match (&named, &version) {
            (None, None) => repository.tags_at(commit)?,
            _ => Vec::new(),
        };
        let place = project.config.provenance(Section::Project, "version", None);
        choose(pattern, version, named, &tags).map_err(|problem| match problem {
            Problem::Differs { who, tag, said, version } => CliError::Missing {
                problem: format!("{who} {tag} is of version {said}, and the project is at {version} ({place})"),
                hint: "set the version, commit and build anew; or release under the tag of that version".to_owned(),
            },
            Problem::Unknown => CliError::Missing {
                problem: "the version is not known: neither `project.version` nor pyproject.toml says it, and no tag is at the commit".to_owned(),
                hint: "set `version` in [project] of kiln.toml, or pass --tag".to_owned(),
            },
            Problem::Several(tags) => CliError::Missing {
                problem: format!("the commit has several tags: {}", tags.join(", ")),
                hint: "say which with --tag".to_owned(),
            },
        })
    }
}

/// Why there is no version.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    Differs { who: &'static str, tag: String, said: String, version: String },
    Unknown,
    Several(Vec<String>),
}

/// The tag that a CI service runs for.
fn of_service(environment: &Environment) -> Option<(&'static str, String)> {
    let is_tag = environment.get("GITHUB_REF_TYPE") == Some("tag");
    let github = environment.get("GITHUB_REF_NAME").filter(|_| is_tag).map(|tag| ("the run's tag", tag.to_owned()));
    github.or_else(|| environment.get("CI_COMMIT_TAG").map(|tag| ("the run's tag", tag.to_owned())))
}

fn choose(
    pattern: &str,
    version: Option<String>,
    named: Option<(&'static str, String)>,
    tags: &[String],
) -> Result<Version, Problem> {
    match (named, version) {
        (Some((who, tag)), Some(version)) => match version_in(pattern, &tag) {
            Some(said) if plain(said) != plain(&version) => {
                Err(Problem::Differs { who, said: said.to_owned(), tag, version })
            }
            // Tags such as `nightly` say nothing of a version.
            _ => Ok(Version { version, tag }),
        },
        (Some((_, tag)), None) => {
            let version = version_in(pattern, &tag).unwrap_or(&tag).to_owned();
            Ok(Version { version, tag })
        }
        (None, Some(version)) => Ok(Version { tag: pattern.replace(VERSION, &version), version }),
        (None, None) => {
            let fitting: Vec<(&String, &str)> =
                tags.iter().filter_map(|tag| Some((tag, version_in(pattern, tag)?))).collect();
            match fitting.as_slice() {
                [] => Err(Problem::Unknown),
                [(tag, version)] => Ok(Version { version: (*version).to_owned(), tag: (*tag).clone() }),
                several => Err(Problem::Several(several.iter().map(|(tag, _)| (*tag).clone()).collect())),
            }
        }
    }
}

/// The version in a tag of this pattern.
fn version_in<'a>(pattern: &str, tag: &'a str) -> Option<&'a str> {
    let (before, after) = pattern.split_once(VERSION)?;
    let version = tag.strip_prefix(before)?.strip_suffix(after)?;
    version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
}

/// A version in which `1.0-rc.1` and `1.0rc1` are the same. Source: PEP 440, "Normalization", as far as tags need it.
fn plain(version: &str) -> String {
    let small = version.to_ascii_lowercase().replace("alpha", "a").replace("beta", "b").replace("preview", "rc");
    let mut text = String::new();
    for (at, c) in small.char_indices() {
        let before = text.chars().next_back();
        let after = small[at + c.len_utf8()..].chars().next();
        let beside_word = [before, after].into_iter().flatten().any(char::is_alphabetic);
        if !("-_.".contains(c) && beside_word) {
            text.push(c);
        }
    }
    text
}

/// Whether a version is one to try out.
pub(super) fn is_prerelease(version: &str) -> bool {
    let public = version.split('+').next().unwrap_or(version).to_ascii_lowercase();
    public.split(|c: char| !c.is_ascii_alphabetic()).any(|word| EARLY.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(version: Option<&str>, named: Option<&str>, tags: &[&str]) -> Result<(String, String), Problem> {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let named = named.map(|tag| ("--tag", tag.to_owned()));
        choose("v{version}", version.map(str::to_owned), named, &tags).map(|found| (found.version, found.tag))
    }

    #[test]
    fn versions_and_tags_follow_from_each_other() {
        let found = |version: &str, tag: &str| Ok((version.to_owned(), tag.to_owned()));
        assert_eq!(chosen(Some("1.2"), None, &[]), found("1.2", "v1.2"));
        assert_eq!(chosen(Some("1.2rc1"), Some("v1.2-rc.1"), &[]), found("1.2rc1", "v1.2-rc.1"));
        assert_eq!(chosen(Some("1.2"), Some("nightly"), &[]), found("1.2", "nightly"));
        assert_eq!(chosen(None, Some("v1.2"), &[]), found("1.2", "v1.2"));
        assert_eq!(chosen(None, None, &["latest", "v1.2"]), found("1.2", "v1.2"));
        assert_eq!(chosen(None, None, &["very-old"]), Err(Problem::Unknown));
        assert!(matches!(chosen(None, None, &["v1.2", "v1.3"]), Err(Problem::Several(_))));
        assert!(matches!(chosen(Some("1.2"), Some("v1.3"), &[]), Err(Problem::Differs { said, .. }) if said == "1.3"));
    }

    #[test]
    fn versions_say_whether_they_are_to_be_tried_out() {
        for version in ["1.0rc1", "1.0-beta.2", "2.0a3", "1.0.dev4", "1.0-alpha"] {
            assert!(is_prerelease(version), "{version}");
        }
        for version in ["1.0", "1.0.post1", "2024.1", "1.0+alpha"] {
            assert!(!is_prerelease(version), "{version}");
        }
        assert_eq!(
            (plain("1.0-RC.1"), plain("1.0.dev3"), plain("1.0-1")),
            ("1.0rc1".into(), "1.0dev3".into(), "1.0-1".into())
        );
    }
}
