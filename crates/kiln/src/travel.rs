//! Which stores caches come from and go to: options, settings, keys, and the branch that is built.

use std::path::Path;
use std::sync::Arc;

use kiln_cache::address::{Address, Direction, Surroundings};
use kiln_cache::reach::Network;
use kiln_cache::{CacheError, Limits, Signer, Trust};
use kiln_config::Section;
use kiln_docker::registry::RegistryOptions;
use kiln_solver::travel::{Away, Remote, Travel, Wanted};

use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::job::Job;
use crate::project::Project;
use crate::{checkout, network, output, session};

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
            branches: checkout::branches(environment, &self.project.folder),
            signer,
            trust,
            whole: written.is_some(),
            spool: environment.cache_folder.join("travel").join(format!("{}{}", session::prefix(), session::new_id())),
            wanted: Wanted::default(),
            notices,
            away: Away::default(),
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

/// Opens a store. What means nothing to kiln in its address goes to `notices`.
pub(crate) fn remote(
    environment: &Environment,
    project: &Project,
    text: &str,
    (direction, folder): (Direction, &Path),
    notices: &mut Vec<String>,
) -> Result<Remote> {
    let address = Address::parse(text, direction)?;
    let variables = |name: &str| environment.get(name).map(str::to_owned);
    let around = Surroundings {
        variables: &variables,
        folder,
        registry: registry(environment, project)?,
        network: reach(environment, project)?,
        limits: Limits::default(),
    };
    if !address.unused.is_empty() {
        let list = address.unused.join(", ");
        notices.push(format!("{address}: {list} mean nothing to kiln's caches"));
    }
    let mode = address.mode.unwrap_or_default();
    Ok(Remote { store: address.open(&around)?, mode, ignore_error: address.ignore_error })
}

/// How servers are reached.
pub(crate) fn reach(environment: &Environment, project: &Project) -> Result<Network> {
    let network = network::of_client(environment, &project.config.resolved().network, &project.folder)?;
    Ok(Network {
        certificates: network.certificates.unwrap_or_default(),
        http_proxy: network.http_proxy,
        https_proxy: network.https_proxy,
        no_proxy: network.no_proxy,
    })
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
