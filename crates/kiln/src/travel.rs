//! Which stores caches come from and go to: options, settings, keys, and the branch that is built.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::address::{Address, Direction, Surroundings};
use kiln_cache::reach::Network;
use kiln_cache::{CacheError, Limits, Signer, Trust};
use kiln_config::Section;
use kiln_docker::registry::RegistryOptions;
use kiln_solver::travel::{Remote, Travel, Wanted};

use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::job::Job;
use crate::project::Project;
use crate::{network, output, session};

/// The variable with the password of `cache.sign-key`.
const PASSWORD: &str = "KILN_SIGN_PASSWORD";

/// Addresses as they were written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// Where caches come from.
    pub(crate) from: Vec<String>,
    /// Where they go to.
    pub(crate) to: Vec<String>,
}

impl Job {
    /// The stores of a build: those of its options, and where there are none those of the settings.
    pub(crate) fn travel(&self, environment: &Environment, written: Option<&Written>) -> Result<Travel> {
        let options = written.cloned().unwrap_or_else(|| {
            let mut all = Written::default();
            for item in &self.items {
                all.from.extend(item.args.cache_from.clone());
                all.to.extend(item.args.cache_to.clone());
            }
            all
        });
        let mut notices = Vec::new();
        let (from, to) = remotes(environment, &self.project, &options, &mut notices)?;
        let (signer, trust) = keys(environment, &self.project)?;
        let settings = self.project.config.resolved();
        let is_named = self.project.config.provenance(Section::Cache, "scope", None).is_explicit();
        Ok(Travel {
            from,
            to,
            // The folder of the project is another one on every machine.
            scope: if is_named { settings.cache.scope } else { settings.project.name },
            branches: branches(environment, &self.project.folder),
            signer,
            trust,
            whole: written.is_some(),
            spool: environment.cache_folder.join("travel").join(format!("{}{}", session::prefix(), session::new_id())),
            wanted: Wanted::default(),
            notices,
        })
    }
}

/// The stores that are read and those that are written.
pub(crate) fn remotes(
    environment: &Environment,
    project: &Project,
    written: &Written,
    notices: &mut Vec<String>,
) -> Result<(Vec<Remote>, Vec<Remote>)> {
    let here = std::env::current_dir().map_err(CliError::io("find", "."))?;
    let mut open = |list: &[String], direction: Direction, folder: &Path| {
        let mut seen: Vec<&String> = Vec::new();
        for text in list {
            if !text.is_empty() && !seen.contains(&text) {
                seen.push(text);
            }
        }
        let open = |text: &String| remote(environment, project, text, (direction, folder), notices);
        seen.into_iter().map(open).collect::<Result<Vec<_>>>()
    };
    if written.from.is_empty() && written.to.is_empty() {
        let list = &project.config.resolved().cache.remote;
        return Ok((open(list, Direction::From, &project.folder)?, open(list, Direction::To, &project.folder)?));
    }
    Ok((open(&written.from, Direction::From, &here)?, open(&written.to, Direction::To, &here)?))
}

fn remote(
    environment: &Environment,
    project: &Project,
    text: &str,
    (direction, folder): (Direction, &Path),
    notices: &mut Vec<String>,
) -> Result<Remote> {
    let address = Address::parse(text, direction)?;
    let variables = |name: &str| environment.get(name).map(str::to_owned);
    let network = network::of_client(environment, &project.config.resolved().network, &project.folder)?;
    let around = Surroundings {
        variables: &variables,
        folder,
        registry: registry(environment, project)?,
        network: Network {
            certificates: network.certificates.unwrap_or_default(),
            http_proxy: network.http_proxy,
            https_proxy: network.https_proxy,
            no_proxy: network.no_proxy,
        },
        limits: Limits::default(),
    };
    if !address.unused.is_empty() {
        let list = address.unused.join(", ");
        notices.push(format!("{address}: {list} mean nothing to kiln's caches"));
    }
    let mode = address.mode.unwrap_or_default();
    Ok(Remote { store: address.open(&around)?, mode, ignore_error: address.ignore_error })
}

/// How registries are reached.
pub(crate) fn registry(environment: &Environment, project: &Project) -> Result<RegistryOptions> {
    let certificates = &project.config.resolved().network.ca_certificates;
    let certificates = match certificates.as_ref().map(|path| project.folder.join(path)) {
        Some(path) => fs_err::read(&path).map_err(CliError::io("read", &path))?,
        None => Vec::new(),
    };
    Ok(RegistryOptions {
        config_dir: Some(environment.docker_folder.clone()),
        certificates,
        certificate_folder: Some(output::CERTIFICATES.into()),
    })
}

/// Who signs, and who is trusted.
pub(crate) fn keys(environment: &Environment, project: &Project) -> Result<(Option<Arc<Signer>>, Trust)> {
    let cache = &project.config.resolved().cache;
    let bad = |setting: &str, problem: String| {
        CliError::Cache(CacheError::BadAddress {
            text: format!("cache.{setting}"),
            problem,
            hint: "keys are those of minisign: `minisign -G -W` makes a pair".to_owned(),
        })
    };
    let mut trust = match cache.trusted_keys.as_slice() {
        [] => Trust::Anybody,
        keys => Trust::in_keys(keys.iter().map(String::as_str)).map_err(|e| bad("trusted-keys", e.to_string()))?,
    };
    let read = |name: &str| -> Result<Option<String>> {
        if let Some(variable) = name.strip_prefix("env:") {
            // A run that has no secrets (of a fork) reads what is trusted, and what it saves counts for nothing.
            return Ok(environment.get(variable).map(str::to_owned));
        }
        let path = project.folder.join(name);
        fs_err::read_to_string(&path).map(Some).map_err(CliError::io("read", &path))
    };
    let text = cache.sign_key.as_deref().map(read).transpose()?.flatten();
    let Some(text) = text else {
        if cache.sign_key.is_some() && matches!(trust, Trust::Anybody) {
            // With nothing to check signatures by, nothing can be trusted.
            trust = Trust::Keys(Vec::new());
        }
        return Ok((None, trust));
    };
    let signer = Signer::new(&text, environment.get(PASSWORD)).map_err(|e| bad("sign-key", e.to_string()))?;
    let own = signer.trust().map_err(|e| bad("sign-key", e.to_string()))?;
    Ok((Some(Arc::new(signer)), own.or(trust)))
}

/// The branch that is built, then the one that it is to be merged into, then the default one.
fn branches(environment: &Environment, folder: &Path) -> Vec<String> {
    let get = |names: &[&str]| names.iter().find_map(|name| environment.get(name)).map(str::to_owned);
    let default = default_branch(environment, folder);
    let own = get(&["GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME"]).or_else(|| checked_out(folder));
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
}
