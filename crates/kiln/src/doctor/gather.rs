//! Collects the facts. All that can wait is asked at once, and nothing is waited for longer than [`LIMIT`].

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kiln_cache::address::{Address, Direction, Place};
use kiln_cache::{PackId, Series, Store};
use kiln_ci::matrix::{self, Matrix};
use kiln_ci::trigger::Trigger;
use kiln_config::{Config, PlatformSettings, Section};
use kiln_docker::facts::{self, Question};
use kiln_docker::toolbox::ToolFile;
use kiln_docker::{Engine, EngineError, driver, emulation, labels};
use kiln_graph::Platform;

use super::{DaemonFacts, Facts, Seen, SettingsFacts, StoreFacts, Trouble, network as goals};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::project::Project;
use crate::{cli, network, project, session, travel};

mod here;

/// How long a check may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// The variable that stands for `cache.scope`.
const SCOPE: &str = "KILN_CACHE_SCOPE";
/// What GitHub keeps of a repository's caches: more, and the oldest go.
/// Source: docs.github.com, "Dependency caching reference", usage limits.
const OF_GITHUB: u64 = 10 << 30;

impl Trouble {
    pub(crate) fn of(error: &CliError) -> Self {
        Self { what: chain(error), fix: error.hint() }
    }

    fn of_engine(error: &EngineError) -> Self {
        // That the doctor would know more is no news here.
        let hint = error.hint().map(|hint| hint.replace(&format!("; {}", kiln_docker::DOCTOR), ""));
        let fix = hint.filter(|hint| hint != kiln_docker::DOCTOR);
        Self { what: chain(error), fix: Some(fix.unwrap_or_else(|| "look at the daemon's log".to_owned())) }
    }

    fn late() -> Self {
        let what = format!("no answer within {} seconds", LIMIT.as_secs());
        Self { what, fix: Some("see whether the machine is busy, and look at the daemon's log".to_owned()) }
    }
}

/// An error with its causes, but for those that it repeats.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// An answer of the daemon, or why there is none.
async fn limited<T>(asked: impl Future<Output = Result<T, EngineError>>) -> Seen<T> {
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Trouble::of_engine(&error)),
        Err(_) => Err(Trouble::late()),
    }
}

/// All facts, and the daemon, if it answers.
///
/// # Errors
/// If the command line or the user's own settings are wrong.
pub(crate) async fn gather(
    environment: &Environment,
    global: &cli::Global,
    args: &cli::Doctor,
) -> Result<(Facts, Option<Arc<dyn Engine>>)> {
    let folder = project::folder(&args.path)?;
    let wanted = cli::Project { path: args.path.clone(), platforms: args.platforms.clone(), ..cli::Project::default() };
    let (config, project, wrong) = match project::load(environment, &wanted, Vec::new()) {
        Ok(project) => (project.config.clone(), Some(project), None),
        Err(error) => (project::without_folder(environment, &wanted)?, None, Some(Trouble::of(&error))),
    };
    let options = session::options(environment, global);
    let (located, engine) = tokio::join!(limited(driver::locate(&options)), limited(connect(environment, global)));
    let own = engine.as_ref().map_or_else(
        |_| config.resolved().build.platforms.first().copied(),
        |engine| Some(Platform::linux(engine.info().arch)),
    );
    let own = config.for_platform(own.unwrap_or(Platform::linux(kiln_graph::Arch::Amd64)));
    let settings = settings(environment, &wanted, &config, project.as_ref(), own, wrong);
    let of_daemon = async {
        match &engine {
            Ok(engine) => Ok(Box::pin(daemon(engine, &settings, &folder)).await),
            Err(trouble) => Err(trouble.clone()),
        }
    };
    let of_stores = async {
        match &project {
            Some(project) => stores(environment, project, settings.keep_size).await,
            None => Ok(Vec::new()),
        }
    };
    let output = folder.join(&config.resolved().build.output);
    let (daemon, here, stores) =
        tokio::join!(of_daemon, here::look(folder.clone(), output, settings.platforms.clone()), of_stores);
    Ok((Facts { located, daemon, settings, here, stores }, engine.ok()))
}

async fn connect(environment: &Environment, global: &cli::Global) -> Result<Arc<dyn Engine>, EngineError> {
    let engine = driver::BollardEngine::connect(&session::options(environment, global)).await?;
    Ok(Arc::new(engine))
}

fn settings(
    environment: &Environment,
    wanted: &cli::Project,
    config: &Config,
    project: Option<&Project>,
    own: PlatformSettings,
    wrong: Option<Trouble>,
) -> SettingsFacts {
    let all = config.resolved();
    let scope_of = |config: &Config| config.provenance(Section::Cache, "scope", None);
    let scope_without = environment.get(SCOPE).and_then(|_| {
        let bare = Environment {
            variables: environment.variables.iter().filter(|(name, _)| name != SCOPE).cloned().collect(),
            config_folder: environment.config_folder.clone(),
            cache_folder: environment.cache_folder.clone(),
            docker_folder: environment.docker_folder.clone(),
            config_file: environment.config_file.clone(),
        };
        let config = project::load(&bare, wanted, Vec::new()).ok()?.config;
        scope_of(&config).is_explicit().then(|| config.resolved().cache.scope)
    });
    let folder = project.map_or(Path::new("."), |project| &project.folder);
    let bundle = |path: &PathBuf| {
        let content = network::bundle(&own.network, folder).map(Option::unwrap_or_default);
        (project::shown(&folder.join(path)).display().to_string(), content.map_err(|error| Trouble::of(&error)))
    };
    let proxies = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    SettingsFacts {
        wrong,
        warnings: project.iter().flat_map(|project| &project.warnings).map(ToString::to_string).collect(),
        file: project.and_then(|project| project.file.as_ref()).map(|path| project::shown(path).display().to_string()),
        platforms: all.build.platforms.iter().map(|platform| config.for_platform(*platform)).collect(),
        configured: project.map_or(all.build.platforms.len(), |project| project.platforms_configured),
        may_install: all.emulation.install,
        scope: all.cache.scope,
        scope_from: scope_of(config).to_string(),
        scope_without,
        keep_size: all.cache.keep_size.0,
        certificates: own.network.ca_certificates.as_ref().map(bundle),
        matrices: matrices(config),
        proxy_here: proxies.iter().any(|name| environment.get(name).is_some()),
        own,
    }
}

/// What CI would run for a pull request, and on the default branch.
pub(super) fn matrices(config: &Config) -> [Matrix; 2] {
    let branch = config.resolved().ci.default_branch.unwrap_or_else(|| "main".to_owned());
    ["pull_request", "push"].map(|event| {
        let trigger = Trigger {
            event: event.to_owned(),
            reference: format!("refs/heads/{branch}"),
            base: None,
            default_branch: Some(branch.clone()),
            event_from: String::new(),
            reference_from: String::new(),
        };
        matrix::matrix(config, &trigger).matrix
    })
}

async fn daemon(engine: &Arc<dyn Engine>, settings: &SettingsFacts, folder: &Path) -> DaemonFacts {
    let engine = engine.as_ref();
    let arch = engine.info().arch;
    let platforms: Vec<Platform> = settings.platforms.iter().map(|settings| settings.platform).collect();
    let is_foreign = platforms.iter().any(|platform| !platform.arch.may_run_on(arch));
    let host = session::Host::this();
    // The image of the probes serves all that follows: made once, before many want it at a time.
    let base = settings.own.build.base.as_deref();
    let servers = async {
        match base {
            Some(base) => limited(facts::package_servers(engine, base)).await.unwrap_or_default(),
            None => Vec::new(),
        }
    };
    let (ready, package_servers) = tokio::join!(limited(emulation::probe(engine, &[])), servers);
    let (container, probes, handlers, volumes, leftovers) = tokio::join!(
        limited(ask(engine, settings, folder, &package_servers)),
        limited(emulation::probe(engine, &platforms)),
        async { if is_foreign { limited(emulation::handlers(engine)).await } else { Ok(None) } },
        limited(engine.volumes_with_label(labels::CACHE, false)),
        limited(host.leftovers(engine)),
    );
    let late = Trouble::late();
    let was_late = ready.as_ref().err() == Some(&late)
        || [container.as_ref().err(), probes.as_ref().err(), handlers.as_ref().err()].contains(&Some(&late));
    if was_late {
        // What was not waited for may have left its container.
        let _ = tokio::time::timeout(LIMIT / 2, host.remove_own(engine)).await;
    }
    DaemonFacts {
        info: engine.info().clone(),
        package_servers,
        container,
        probes,
        handlers,
        volumes,
        leftovers,
        has_twin_program: kiln_twin::program(arch).is_some(),
    }
}

/// Asks a container with the network, variables and files of a step.
async fn ask(
    engine: &dyn Engine,
    settings: &SettingsFacts,
    folder: &Path,
    servers: &[String],
) -> Result<Option<facts::Facts>, EngineError> {
    let own = &settings.own;
    let files: Vec<ToolFile> = network::files(&own.network, folder).unwrap_or_default();
    let question = Question {
        network: network::spec(&own.network),
        env: network::variables(&own.network).into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        files,
        routes: match own.network.build_network {
            kiln_config::BuildNetwork::None => Vec::new(),
            _ => goals::goals(own, servers).into_iter().map(|goal| goal.route).collect(),
        },
    };
    facts::gather(engine, &question).await
}

/// Looks at the stores of `cache.remote`, all at once.
async fn stores(environment: &Environment, project: &Project, keep_size: u64) -> Seen<Vec<StoreFacts>> {
    let mut opened: Vec<(Place, Arc<dyn Store>)> = Vec::new();
    let mut notices = Vec::new();
    for text in project.config.resolved().cache.remote.iter().filter(|text| !text.is_empty()) {
        let address = Address::parse(text, Direction::From).map_err(|error| Trouble::of(&CliError::from(error)))?;
        let remote = travel::remote(environment, project, text, (Direction::From, &project.folder), &mut notices);
        opened.push((address.place, remote.map_err(|error| Trouble::of(&error))?.store));
    }
    let looks = opened.iter().map(|(place, store)| look(place, store.as_ref(), &project.folder, keep_size));
    Ok(futures::future::join_all(looks).await)
}

async fn look(place: &Place, store: &dyn Store, folder: &Path, keep_size: u64) -> StoreFacts {
    let size = of_store(async {
        match store.list().await? {
            Some(listed) => Ok(Some(listed.iter().map(|listed| listed.size).sum())),
            // It cannot tell what it has; whether it answers, it can.
            None => store.snapshot(&Series::new(["kiln-doctor"])).await.map(|_| None),
        }
    })
    .await;
    let written = match place {
        _ if size.is_err() => None,
        // Nothing could be removed again.
        Place::Registry { .. } | Place::Gha(_) => None,
        Place::Local { folder: path } => Some(here::may_write(&folder.join(path))),
        _ => Some(of_store(write(store)).await),
    };
    let budget = match place {
        Place::Gha(_) => (OF_GITHUB, "what GitHub keeps of a repository"),
        _ => (keep_size, "`cache.keep-size`"),
    };
    StoreFacts { place: store.place(), size, written, budget: Some(budget) }
}

/// Puts a few bytes that nobody else has, and removes them.
async fn write(store: &dyn Store) -> Result<(), kiln_cache::CacheError> {
    let bytes = format!("kiln doctor {}", session::new_id()).into_bytes();
    let id = PackId::of(&bytes);
    store.put_pack(&id, bytes.into()).await?;
    store.remove(&kiln_cache::Object::Pack(id)).await
}

async fn of_store<T>(asked: impl Future<Output = Result<T, kiln_cache::CacheError>>) -> Seen<T> {
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Trouble::of(&CliError::Cache(error))),
        Err(_) => Err(Trouble { fix: None, ..Trouble::late() }),
    }
}
