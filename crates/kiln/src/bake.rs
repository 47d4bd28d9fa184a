//! The targets of a bake file as one build: one graph, so that what they share runs once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use kiln_bake::{Bake, Entry, Target};
use kiln_docker::{Engine, PullPolicy};
use kiln_dockerfile::{NamedContext, NoCache};
use kiln_graph::{Digest, Platform};
use kiln_solver::context::{Context, Filter, StatCache};
use kiln_solver::{BuildEvent, BuildRequest, Cancel, FilesOutput, Output, Plan, RunSettings};
use tokio::sync::mpsc;

use crate::checks::{self, Noted};
use crate::emulate::{self, Surroundings};
use crate::error::{CliError, Result};
use crate::lower::{self, More, Wanted};
use crate::project::Project;
use crate::recipe::Source;
use crate::{cli, context, network, session, twin};

/// kiln's folder in a project.
const STATE: &str = ".kiln";

/// One target whose files are known.
struct Item {
    target: Target,
    dockerfile: Arc<kiln_dockerfile::Dockerfile>,
    /// Empty for the daemon's own.
    platforms: Vec<Platform>,
    output: Wish,
    more: More,
}

/// What becomes of a target.
enum Wish {
    Files(PathBuf),
    Image(Option<(String, String)>),
    Nothing,
}

/// A folder that a build reads.
struct Folder {
    path: PathBuf,
    filter: Arc<dyn Filter>,
}

/// A build of several targets.
pub(crate) struct Job {
    pub(crate) project: Project,
    pub(crate) state: PathBuf,
    /// What was passed over.
    pub(crate) notices: Vec<String>,
    /// What is questionable in the Dockerfiles, once they have been looked at.
    pub(crate) warnings: OnceLock<Vec<Noted>>,
    items: Vec<Item>,
    /// By the names that the graph has for them.
    folders: BTreeMap<String, Folder>,
    no_cache: bool,
    pull: bool,
}

impl Job {
    /// Reads the Dockerfiles.
    pub(crate) fn new(args: &cli::Bake, project: Project, bake: Bake) -> Result<Self> {
        let mut job = Self {
            state: project.folder.join(STATE),
            notices: Vec::new(),
            warnings: OnceLock::new(),
            items: Vec::new(),
            folders: BTreeMap::new(),
            no_cache: args.no_cache,
            pull: args.pull,
            project,
        };
        for (name, target) in in_order(bake)? {
            job.add(&name, target)?;
        }
        job.notices.sort();
        job.notices.dedup();
        Ok(job)
    }

    fn add(&mut self, name: &str, target: Target) -> Result<()> {
        let refused = |what: &str, value: &str| CliError::Missing {
            problem: format!("target {name}: {what} `{value}` is not supported yet"),
            hint: "leave it out with --set, or build this target with another tool".to_owned(),
        };
        for (what, given) in [
            ("cache-from", !target.cache_from.is_empty()),
            ("cache-to", !target.cache_to.is_empty()),
            ("attest", !target.attest.is_empty()),
            ("annotations", !target.annotations.is_empty()),
        ] {
            if given {
                self.notices.push(format!("target {name}: `{what}` has no effect yet"));
            }
        }
        for (what, given) in [
            ("secret", !target.secret.is_empty()),
            ("ssh", !target.ssh.is_empty()),
            ("ulimits", !target.ulimits.is_empty()),
            ("network", target.network.as_deref().is_some_and(|network| network != "default")),
            ("shm-size", target.shm_size.is_some()),
            ("extra-hosts", !target.extra_hosts.is_empty()),
            ("call", target.call.as_deref().is_some_and(|call| call != "build")),
        ] {
            if given {
                return Err(refused("attribute", what));
            }
        }
        let is_remote = |path: &str| path.contains("://") || path.starts_with("git@") || path == "-";
        let folder = target.context.clone().unwrap_or_else(|| ".".to_owned());
        if is_remote(&folder) {
            return Err(refused("context", &folder));
        }
        let folder = crate::project::folder(Path::new(&folder))?;
        let source = source(name, &target, &folder)?;
        let dockerfile = Arc::new(kiln_dockerfile::parse(&source.name, &source.text)?);
        let mut more = More { name: Some(name.to_owned()), labels: target.labels.clone(), ..More::default() };
        let hidden = if folder == self.project.folder { vec![STATE.to_owned()] } else { Vec::new() };
        // Another ignore file is another context.
        let graph_name = match source.path.as_ref().map(|path| ignore_file(path)).filter(|path| path.is_file()) {
            Some(ignore) => format!("{} ({})", folder.display(), ignore.display()),
            None => folder.display().to_string(),
        };
        let filter = context::filter(&folder, source.path.as_deref(), false, &hidden)?;
        self.folders.entry(graph_name.clone()).or_insert(Folder { path: folder, filter });
        more.locals.insert(".".to_owned(), graph_name);
        for (context, value) in &target.contexts {
            if let Some(linked) = value.strip_prefix("target:") {
                more.links.insert(context.clone(), linked.to_owned());
            } else if let Some(image) = value.strip_prefix("docker-image://") {
                more.contexts.insert(context.clone(), NamedContext::Image(image.to_owned()));
            } else if is_remote(value) {
                return Err(refused("context", value));
            } else {
                let path = crate::project::folder(Path::new(value))?;
                let source = Source { name: String::new(), text: String::new(), path: None, is_recipe: false };
                let filter = context::filter(&path, source.path.as_deref(), false, &[])?;
                let graph_name = path.display().to_string();
                self.folders.entry(graph_name.clone()).or_insert(Folder { path, filter });
                more.contexts.insert(context.clone(), NamedContext::Local);
                more.locals.insert(context.clone(), graph_name);
            }
        }
        more.no_cache = match (target.no_cache, target.no_cache_filter.is_empty()) {
            (Some(true), _) => Some(NoCache::All),
            (_, false) => Some(NoCache::Stages(target.no_cache_filter.clone())),
            _ => None,
        };
        let platforms = target.platforms.iter().map(|platform| {
            platform.parse().map_err(|source: kiln_graph::PlatformError| CliError::Missing {
                problem: format!("target {name}: {source}"),
                hint: source.hint(),
            })
        });
        let platforms: Vec<Platform> = platforms.collect::<Result<_>>()?;
        let output = self.output(name, &target)?;
        if matches!(output, Wish::Image(_)) && platforms.len() > 1 {
            return Err(refused("an image of several platforms from output", "type=docker"));
        }
        self.items.push(Item { target, dockerfile, platforms, output, more });
        Ok(())
    }

    fn output(&mut self, name: &str, target: &Target) -> Result<Wish> {
        let refused = |problem: String| CliError::Missing {
            problem: format!("target {name}: {problem}"),
            hint: format!(
                "outputs are type=local,dest=FOLDER, type=docker and type=cacheonly: --set {name}.output=..."
            ),
        };
        if target.tags.len() > 1 {
            self.notices.push(format!("target {name}: only the first tag is given to the image"));
        }
        let tag = target.tags.first().map(|tag| match tag.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
            _ => (tag.clone(), "latest".to_owned()),
        });
        let output = match target.output.as_slice() {
            [] => return Ok(if tag.is_some() { Wish::Image(tag) } else { Wish::Nothing }),
            [output] => output,
            _ => return Err(refused("more than one output is not supported yet".to_owned())),
        };
        let field = |key: &str| Entry::get(output, key).map(String::as_str);
        match (field("type").unwrap_or_default(), field("dest")) {
            ("local", Some(dest)) if !dest.is_empty() => {
                Ok(Wish::Files(std::path::absolute(dest).map_err(CliError::io("find", dest))?))
            }
            ("docker", None) => Ok(Wish::Image(tag)),
            ("image", _) if field("push") != Some("true") => Ok(Wish::Image(tag)),
            ("cacheonly", _) => Ok(Wish::Nothing),
            (kind, _) => Err(refused(format!("output `type={kind}` is not supported yet, or lacks its `dest`"))),
        }
    }

    /// Finds out what there is to do, and makes sure that the platforms can run.
    pub(crate) async fn plan(
        &self,
        engine: &Arc<dyn Engine>,
        locks: &Path,
        events: &mpsc::Sender<BuildEvent>,
        cancel: &Cancel,
    ) -> Result<Plan> {
        let settings = self.project.config.resolved();
        let own = Platform::linux(engine.info().arch);
        let tools = network::files(&settings.network, &self.project.folder)?;
        let request = cancel.unless_stopped(self.request(engine, &tools, locks, events)).await??;
        let mut plan = cancel.unless_stopped(Plan::make(engine, request)).await??;
        cancel.unless_stopped(session::Host::this().sweep(engine.as_ref())).await??;
        if plan.is_up_to_date() {
            return Ok(plan);
        }
        let surroundings = Surroundings {
            engine,
            qemu_image: settings.emulation.qemu_image.clone(),
            env: network::variables(&self.project.config.for_platform(own).network),
            tools,
            network: network::spec(&settings.network),
            args: emulate::arguments(&settings.network),
            state: &self.state.join("state").join("emulation"),
            locks,
            owner: session::Host::this().owner(),
            cancel,
        };
        let install = settings.emulation.install;
        plan.set_ways(emulate::ensure(&surroundings, &plan.platforms_to_run(), install, events).await?);
        Ok(plan)
    }

    async fn request(
        &self,
        engine: &Arc<dyn Engine>,
        tools: &[kiln_docker::toolbox::ToolFile],
        locks: &Path,
        events: &mpsc::Sender<BuildEvent>,
    ) -> Result<BuildRequest> {
        let settings = self.project.config.resolved();
        let own = Platform::linux(engine.info().arch);
        crate::job::prepare_state(&self.state)?;
        let (mut wanted, mut outputs) = (Vec::new(), Vec::new());
        for item in &self.items {
            let platforms = if item.platforms.is_empty() { vec![own] } else { item.platforms.clone() };
            for platform in &platforms {
                let auto_caches = self.project.auto_caches(&self.project.config.for_platform(*platform));
                wanted.push(Wanted {
                    platform: *platform,
                    dockerfile: item.dockerfile.clone(),
                    target: item.target.target.clone(),
                    args: item.target.args.clone(),
                    more: More { auto_caches, ..item.more.clone() },
                });
                outputs.push(match &item.output {
                    Wish::Nothing => Output::Nothing,
                    Wish::Image(name) => Output::Image(name.clone()),
                    Wish::Files(folder) => {
                        let apart = platforms.len() > 1;
                        let folder = if apart { folder.join(platform.folder()) } else { folder.clone() };
                        Output::Files(FilesOutput { folder, artifact: None, smoke: None, reports: None, sums: false })
                    }
                });
            }
        }
        let no_cache = if self.no_cache { NoCache::All } else { NoCache::None };
        let wants_pull = self.pull || self.items.iter().any(|item| item.target.pull == Some(true));
        let pull = if wants_pull { PullPolicy::Always } else { PullPolicy::Missing };
        let (contexts, lowered) = tokio::join!(self.contexts(), lower::lower(engine, &wanted, &no_cache, pull, events));
        let (contexts, mut lowered) = (contexts?, lowered?);
        let noted = std::mem::take(&mut lowered.warnings);
        let noted = self.warnings.get_or_init(|| noted);
        if lowered.strict {
            return Err(CliError::Checks { rules: checks::rules(noted) });
        }
        let surroundings = twin::Surroundings {
            engine,
            no_cache: &no_cache,
            pull: PullPolicy::Missing,
            args: emulate::arguments(&settings.network),
            events,
        };
        let setting = |wanted: &Wanted| {
            // What stands on another target has no counterpart for the daemon's own platform in this graph.
            let alone = wanted.more.links.is_empty();
            if alone { self.project.config.for_platform(wanted.platform).twin } else { kiln_config::Twin::Off }
        };
        let with_twins: Vec<_> = wanted.iter().map(|wanted| (wanted.clone(), setting(wanted))).collect();
        twin::attach(&surroundings, &with_twins, &mut lowered).await?;
        let ccache = crate::recipe::ccache_limit(&settings.cache);
        let platforms = wanted.iter().map(|wanted| wanted.platform).chain([own]);
        let env = platforms.map(|platform| {
            let network = &self.project.config.for_platform(platform).network;
            (platform, network::variables(network).into_iter().chain([ccache.clone()]).collect())
        });
        Ok(BuildRequest {
            id: session::new_id(),
            owner: session::Host::this().owner(),
            scope: settings.cache.scope.clone(),
            graph: lowered.graph,
            contexts,
            outputs,
            exports: kiln_solver::image::Exports::default(),
            run: RunSettings {
                env: env.collect(),
                network: network::spec(&settings.network),
                tools: tools.to_owned(),
                ..RunSettings::default()
            },
            parallel: usize::MAX >> 4,
            keep_going: true,
            no_cache_mounts: false,
            state: self.state.join("state"),
            locks: locks.to_owned(),
        })
    }

    /// Lists all folders that are read.
    async fn contexts(&self) -> Result<BTreeMap<String, Arc<Context>>> {
        let mut contexts = BTreeMap::new();
        for (name, folder) in &self.folders {
            let cache = format!("context-{}.bin", Digest::of(name).short());
            let cache = self.state.join("state").join(cache);
            let (path, filter) = (folder.path.clone(), folder.filter.clone());
            let scan = tokio::task::spawn_blocking(move || {
                let context = Context::scan(&path, filter, StatCache::load(&cache))?;
                // Digests that cannot be kept are made again.
                let _ = context.save_cache(&cache);
                Ok::<_, kiln_solver::SolveError>(context)
            });
            let context = scan.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))?;
            contexts.insert(name.clone(), Arc::new(context));
        }
        Ok(contexts)
    }
}

/// The targets, each behind those that it uses as contexts.
fn in_order(bake: Bake) -> Result<Vec<(String, Target)>> {
    let mut waiting: Vec<(String, Target)> = bake.target.into_iter().collect();
    let mut done: Vec<(String, Target)> = Vec::new();
    while !waiting.is_empty() {
        let is_waiting = |context: &String, waiting: &[(String, Target)]| {
            let used = context.strip_prefix("target:");
            used.is_some_and(|used| waiting.iter().any(|(name, _)| name == used))
        };
        let ready = waiting.iter().position(|(_, target)| !target.contexts.values().any(|c| is_waiting(c, &waiting)));
        let Some(ready) = ready else {
            return Err(CliError::Missing {
                problem: format!("target {} needs itself as a context", waiting[0].0),
                hint: "leave one of these `target:` contexts out".to_owned(),
            });
        };
        done.push(waiting.remove(ready));
    }
    Ok(done)
}

/// The Dockerfile of a target: in the bake file, or a path in the context.
fn source(name: &str, target: &Target, folder: &Path) -> Result<Source> {
    if let Some(text) = &target.dockerfile_inline {
        let name = format!("Dockerfile of {name}");
        return Ok(Source { name, text: text.clone(), path: None, is_recipe: false });
    }
    let path = folder.join(target.dockerfile.as_deref().unwrap_or("Dockerfile"));
    crate::recipe::source(&kiln_config::Recipe::Dockerfile(path), folder).map(|s| Source { is_recipe: false, ..s })
}

/// The ignore file of one Dockerfile.
fn ignore_file(dockerfile: &Path) -> PathBuf {
    let mut name = dockerfile.as_os_str().to_owned();
    name.push(".dockerignore");
    PathBuf::from(name)
}
