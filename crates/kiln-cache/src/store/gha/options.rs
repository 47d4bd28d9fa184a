//! What a store in GitHub's cache has to know.

use std::time::Duration;

use crate::error::{CacheError, Result};
use crate::reach::Network;
use crate::secret::Secret;

/// What the run's token is good for, as the runner says it (`ACTIONS_CACHE_MODE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whether caches may be read.
    pub read: bool,
    /// Whether caches may be written.
    pub write: bool,
}

impl Access {
    /// Reading and writing: what is taken for granted until the service says otherwise.
    pub const FULL: Self = Self { read: true, write: true };

    fn of_mode(mode: Option<&str>) -> Self {
        match mode {
            Some("none") => Self { read: false, write: false },
            Some("read") => Self { read: true, write: false },
            Some("write-only") => Self { read: false, write: true },
            _ => Self::FULL,
        }
    }
}

/// Where a store in GitHub's cache is, and how it is treated.
#[derive(Clone, Debug)]
pub struct GhaOptions {
    /// The cache service (`ACTIONS_RESULTS_URL`).
    pub results_url: String,
    /// The run's token for it (`ACTIONS_RUNTIME_TOKEN`).
    pub token: Secret,
    /// Tells several stores of one repository apart.
    pub scope: String,
    /// A change of it is a new, empty store.
    pub version_salt: String,
    /// The run and its attempt, which make keys unique.
    pub run: String,
    /// What the token is good for.
    pub access: Access,
    /// How long the service may take to answer, and a transfer to stand still.
    pub timeout: Duration,
    /// How often a request is tried in all.
    pub tries: u32,
    /// The pause after the first failed try; it doubles with each.
    pub wait: Duration,
    /// How long one request waits in all for a service that is busy.
    pub patience: Duration,
    /// Bytes that are uploaded with one request at most.
    pub single_upload: usize,
    /// Bytes of a block of what is larger.
    pub block: usize,
    /// GitHub's general API, which alone can list and remove caches.
    pub rest: Option<RestOptions>,
    /// The way to GitHub.
    pub network: Network,
}

/// How GitHub's general API is reached.
#[derive(Clone, Debug)]
pub struct RestOptions {
    /// The API (`GITHUB_API_URL`).
    pub api_url: String,
    /// `owner/name` (`GITHUB_REPOSITORY`).
    pub repository: String,
    /// A token with the permission `actions: write` (`GITHUB_TOKEN`).
    pub token: Secret,
    /// The ref whose caches are listed and removed (`GITHUB_REF`); all if none.
    pub reference: Option<String>,
}

impl GhaOptions {
    /// Options for a service, with the limits that fit GitHub's.
    pub fn new(results_url: impl Into<String>, token: Secret) -> Self {
        Self {
            results_url: results_url.into(),
            token,
            scope: "default".to_owned(),
            version_salt: String::new(),
            run: "0-0".to_owned(),
            access: Access::FULL,
            timeout: Duration::from_mins(1),
            tries: 5,
            wait: Duration::from_secs(1),
            patience: Duration::from_mins(2),
            single_upload: 128 * 1024 * 1024,
            block: 64 * 1024 * 1024,
            rest: None,
            network: Network::default(),
        }
    }

    /// Options from the variables of a step; `get` gives the value of one.
    ///
    /// # Errors
    /// If the service or its token is not named: a step with `run:` does not see them.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let needed = |name: &str| {
            get(name).ok_or_else(|| CacheError::BadAddress {
                text: "type=gha".to_owned(),
                problem: format!("{name} is not set"),
                hint:
                    "GitHub shows ACTIONS_RESULTS_URL and ACTIONS_RUNTIME_TOKEN to actions alone, not to `run:` steps; \
                       the kiln action exports them for the steps after it"
                        .to_owned(),
            })
        };
        let mut options = Self::new(needed("ACTIONS_RESULTS_URL")?, Secret::new(needed("ACTIONS_RUNTIME_TOKEN")?));
        let number = |name: &str| get(name).unwrap_or_else(|| "0".to_owned());
        options.run = format!("{}-{}", number("GITHUB_RUN_ID"), number("GITHUB_RUN_ATTEMPT"));
        options.access = Access::of_mode(get("ACTIONS_CACHE_MODE").as_deref());
        if let (Some(repository), Some(token)) = (get("GITHUB_REPOSITORY"), get("GITHUB_TOKEN")) {
            options.rest = Some(RestOptions {
                api_url: get("GITHUB_API_URL").unwrap_or_else(|| "https://api.github.com".to_owned()),
                repository,
                token: Secret::new(token),
                reference: get("GITHUB_REF"),
            });
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(set: &[(&str, &str)]) -> Result<GhaOptions> {
        GhaOptions::from_variables(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_step_that_does_not_see_the_token_is_told_why() {
        for set in [&[("ACTIONS_RESULTS_URL", "https://x")][..], &[("ACTIONS_RUNTIME_TOKEN", "t")], &[]] {
            let error = variables(set).expect_err("not all is set");
            assert!(matches!(error, CacheError::BadAddress { .. }), "{error:?}");
            assert!(error.hint().is_some_and(|hint| hint.contains("run:")), "{error:?}");
        }
        // GitHub gives empty values where there is none.
        let error = variables(&[("ACTIONS_RESULTS_URL", "https://x"), ("ACTIONS_RUNTIME_TOKEN", " ")]);
        assert!(error.is_err_and(|error| error.to_string().contains("ACTIONS_RUNTIME_TOKEN")));
    }

    #[test]
    fn the_variables_of_a_run_are_read() {
        let set = [
            ("ACTIONS_RESULTS_URL", "https://results.example/"),
            ("ACTIONS_RUNTIME_TOKEN", "hunter2"),
            ("ACTIONS_CACHE_MODE", "read"),
            ("GITHUB_RUN_ID", "77"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_REPOSITORY", "me/it"),
            ("GITHUB_TOKEN", "hunter3"),
            ("GITHUB_REF", "refs/heads/main"),
        ];
        let options = variables(&set).expect("all is set");
        assert_eq!(options.run, "77-2");
        assert_eq!(options.access, Access { read: true, write: false });
        let rest = options.rest.as_ref().expect("a token for the API");
        assert_eq!((rest.api_url.as_str(), rest.repository.as_str()), ("https://api.github.com", "me/it"));
        assert!(!format!("{options:?}").contains("hunter"), "{options:?}");
        assert!(variables(&set[..2]).expect("enough").rest.is_none());
    }
}
