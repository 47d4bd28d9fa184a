//! A build that is asked for, from settings and files to a plan.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

use kiln_artifact::place;
use kiln_config::{PlatformSettings, Recipe, Section, Smoke as SmokeSetting};
use kiln_docker::registry::RegistryOptions;
use kiln_docker::toolbox::ToolFile;
use kiln_docker::{Engine, PullPolicy};
use kiln_dockerfile::{Dockerfile, NoCache, ResolvedImages};
use kiln_graph::{Arch, BuildGraph, Platform, VertexId};
use kiln_solver::context::{Context, Everything, StatCache};
use kiln_solver::image::{Export, Exports};
use kiln_solver::{BuildEvent, BuildRequest, Cancel, FilesOutput, Output, Plan, RunSettings, Smoke, SmokeCommand};
use tokio::sync::mpsc;

use crate::cli;
use crate::emulate::{self, Surroundings};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::lower::{self, More, Wanted};
use crate::output::{self, Asked};
use crate::project::Project;
use crate::sources::named::{self, Named};
use crate::sources::{Contexts, Fetcher};
use crate::{checks, context, network, recipe, session, twin};

/// Folder of kiln's state in a project.
pub(crate) const STATE: &str = ".kiln";
/// The graph's name for the build context.
const CONTEXT: &str = ".";

/// What this run adds to a job.
pub(crate) struct Run<'a> {
    pub(crate) args: &'a cli::Build,
    /// Parallel compilers where the settings leave it to kiln.
    pub(crate) auto_jobs: u32,
    /// Whether steps with native programs say which they use: `KILN_TWIN_LOG`.
    pub(crate) twin_log: bool,
    /// Folder for locks between processes that use this daemon.
    pub(crate) locks: &'a Path,
    /// What the command line says of steps.
    pub(crate) flags: RunSettings,
}

/// A build that was compared with a daemon.
pub(crate) struct Looked {
    pub(crate) plan: Plan,
    /// Why commands without a native twin are emulated.
    pub(crate) emulated: BTreeMap<VertexId, String>,
    contexts: Contexts,
    tools: Vec<ToolFile>,
}

/// A build that is known down to its files, but not yet compared with a daemon.
pub(crate) struct Job {
    pub(crate) project: Project,
    platforms: Vec<PlatformSettings>,
    /// Parsed Dockerfiles, by platform.
    dockerfiles: Vec<Arc<Dockerfile>>,
    /// Whether the Dockerfile is a recipe, which kiln fills with arguments and whose result it knows.
    recipe: bool,
    source: recipe::Source,
    output: PathBuf,
    /// kiln's folder in the project.
    pub(crate) state: PathBuf,
    user_args: BTreeMap<String, String>,
    /// What is made of all platforms together.
    pub(crate) asked: Asked,
    /// Whether nobody said which platforms: then it is the daemon's, as with buildx.
    implicit: bool,
    /// Whether files go to [`Job::output`].
    files: bool,
    labels: BTreeMap<String, String>,
    /// `SOURCE_DATE_EPOCH`.
    epoch: Option<i64>,
    /// Folder of the docker CLI's settings.
    docker_folder: PathBuf,
    /// What is questionable in the user's own Dockerfiles, once they have been looked at.
    pub(crate) warnings: OnceLock<Vec<checks::Noted>>,
    /// `--build-context`.
    named: Named,
    fetcher: Fetcher,
}

impl Job {
    /// Reads the Dockerfiles and checks the settings against the project.
    pub(crate) fn new(environment: &Environment, args: &cli::Build, project: Project) -> Result<Self> {
        let settings = project.config.resolved();
        let folder = project.folder.clone();
        project.config.check_files(&project.facts, |path| folder.join(path).exists())?;
        let platforms: Vec<PlatformSettings> =
            settings.build.platforms.iter().map(|p| project.config.for_platform(*p)).collect();
        let mut dockerfiles = Vec::new();
        let mut parsed: Vec<(Recipe, Arc<Dockerfile>)> = Vec::new();
        let mut first = None;
        for platform in &platforms {
            let recipe = &platform.build.recipe;
            let known = parsed.iter().find(|(r, _)| r == recipe).map(|(_, d)| d.clone());
            let dockerfile = if let Some(dockerfile) = known {
                dockerfile
            } else {
                let mut source = recipe::source(recipe, &folder)?;
                if let Some(name) = &project.dockerfile {
                    source.name.clone_from(name);
                }
                let dockerfile = Arc::new(kiln_dockerfile::parse(&source.name, &source.text)?);
                parsed.push((recipe.clone(), dockerfile.clone()));
                first.get_or_insert(source);
                dockerfile
            };
            dockerfiles.push(dockerfile);
        }
        let source = first.expect("there is at least one platform");
        let recipe = source.is_recipe;
        if recipe {
            settings.program(&project.facts.entry_candidates())?;
        }
        let named = named::read(&args.contexts)?;
        let is_asked = output::folder(args)?.is_some();
        let (output, state) = match &project.place {
            None => (folder.join(&settings.build.output), folder.join(STATE)),
            Some(place) => (output_here(&settings.build.output, is_asked)?, place.state.clone()),
        };
        let mut asked = output::asked(args, &state.join(format!("stdout-{}.tar", std::process::id())))?;
        let is_set = |key: &str| project.config.provenance(Section::Build, key, None).is_explicit();
        // As buildx on the daemon's own builder: without an output, a Dockerfile makes an image.
        if !recipe && args.file.is_some() && !asked.explicit && !is_set("output") {
            asked.exports.push(Export::Load { names: Vec::new() });
            asked.explicit = true;
        }
        let files = match (recipe, asked.explicit) {
            (_, false) => true,
            (false, true) => asked.folder.is_some(),
            // A program is checked where it lies; only `type=cacheonly` alone asks for nothing.
            (true, true) => asked.folder.is_some() || !asked.exports.is_empty(),
        };
        let user_args = build_args(environment, &args.args);
        Ok(Self {
            implicit: !recipe && args.file.is_some() && !is_set("platforms"),
            asked,
            files,
            labels: output::labels(&args.labels)?,
            epoch: output::epoch(&user_args)?,
            docker_folder: environment.docker_folder.clone(),
            output,
            state,
            named,
            fetcher: Fetcher::new(environment, &settings.network, &folder)?,
            user_args,
            platforms,
            dockerfiles,
            recipe,
            source,
            project,
            warnings: OnceLock::new(),
        })
    }

    /// Settles what depends on the daemon: the platform, if nobody named one.
    pub(crate) fn on_daemon(&mut self, own: Arch) {
        if self.implicit {
            self.platforms = vec![self.project.config.for_platform(Platform::linux(own))];
            self.dockerfiles.truncate(1);
        }
    }

    /// Fails now rather than after a long build if what is asked for cannot be made of these platforms.
    pub(crate) fn check_outputs(&self) -> Result<()> {
        let platforms: Vec<Platform> = self.platforms.iter().map(|settings| settings.platform).collect();
        output::check_platforms(&self.asked.exports, &platforms)
    }

    /// Finds out what there is to do, and changes nothing.
    pub(crate) async fn look(
        &self,
        engine: &Arc<dyn Engine>,
        run: &Run<'_>,
        events: &mpsc::Sender<BuildEvent>,
        cancel: &Cancel,
    ) -> Result<Looked> {
        let settings = self.project.config.resolved();
        let tools = network::files(&settings.network, &self.project.folder)?;
        let (request, emulated) = cancel.unless_stopped(self.request(engine, run, &tools, events, cancel)).await??;
        let contexts = request.contexts.clone();
        let plan = cancel.unless_stopped(Plan::make(engine, request)).await??;
        Ok(Looked { plan, emulated, contexts, tools })
    }

    /// Finds out what there is to do, and makes sure that the platforms can run.
    pub(crate) async fn plan(
        &self,
        engine: &Arc<dyn Engine>,
        run: &Run<'_>,
        events: &mpsc::Sender<BuildEvent>,
        cancel: &Cancel,
    ) -> Result<Plan> {
        let (args, settings) = (run.args, self.project.config.resolved());
        prepare_state(&self.state)?;
        let Looked { mut plan, contexts, tools, .. } = self.look(engine, run, events, cancel).await?;
        let owner = session::Host::this().owner();
        for (name, context) in &contexts {
            let saved = self.digests_of(name).map(|file| context.save_cache(&file));
            if let Some(Err(error)) = saved {
                let _ = events.send(BuildEvent::Notice { platform: None, text: error.to_string() }).await;
            }
        }
        // Also where nothing is to do: a killed build may have come as far as to its last files.
        cancel.unless_stopped(self.clean_up(engine, events)).await??;
        if plan.is_up_to_date() {
            return Ok(plan);
        }
        self.try_outputs()?;
        let own = Platform::linux(engine.info().arch);
        let surroundings = Surroundings {
            engine,
            qemu_image: settings.emulation.qemu_image.clone(),
            env: network::variables(&self.project.config.for_platform(own).network),
            tools,
            network: network::spec(&settings.network),
            args: emulate::arguments(&settings.network),
            state: &self.state.join("state").join("emulation"),
            locks: run.locks,
            owner,
            cancel,
        };
        let install = settings.emulation.install && !args.no_install_emulation;
        plan.set_ways(emulate::ensure(&surroundings, &plan.platforms_to_run(), install, events).await?);
        Ok(plan)
    }

    async fn request(
        &self,
        engine: &Arc<dyn Engine>,
        run: &Run<'_>,
        tools: &[ToolFile],
        events: &mpsc::Sender<BuildEvent>,
        cancel: &Cancel,
    ) -> Result<(BuildRequest, BTreeMap<VertexId, String>)> {
        let (args, settings) = (run.args, self.project.config.resolved());
        let scan = self.scan()?;
        let no_cache = match (args.no_cache, args.no_cache_filter.is_empty()) {
            (true, _) => NoCache::All,
            (false, false) => NoCache::Stages(args.no_cache_filter.clone()),
            (false, true) => NoCache::None,
        };
        let pull = if args.pull { PullPolicy::Always } else { PullPolicy::Missing };
        let wanted = self.wanted(run.auto_jobs)?;
        let (scanned, lowered) = tokio::join!(scan, lower::lower(engine, &wanted, &no_cache, pull, events));
        let context = Arc::new(scanned.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))?);
        let mut lowered = lowered.map_err(|error| self.blame_base(error))?;
        if !self.recipe {
            let noted = std::mem::take(&mut lowered.warnings);
            let noted = self.warnings.get_or_init(|| noted);
            if lowered.strict {
                return Err(CliError::Checks { rules: checks::rules(noted) });
            }
        }
        let surroundings = twin::Surroundings {
            engine,
            no_cache: &no_cache,
            pull: PullPolicy::Missing,
            args: emulate::arguments(&settings.network),
            events,
        };
        let wanted: Vec<_> = wanted.into_iter().zip(self.platforms.iter().map(|platform| platform.twin)).collect();
        twin::attach(&surroundings, &wanted, &mut lowered).await?;
        let mut contexts = self.fetcher.remotes(&lowered.graph, events, cancel).await?;
        contexts.extend(self.named_contexts(&lowered.graph, events, cancel).await?);
        contexts.insert(CONTEXT.to_owned(), context);
        let own = self.project.config.for_platform(Platform::linux(engine.info().arch));
        let required = self.platforms.iter().filter(|p| p.twin == kiln_config::Twin::On).map(|p| p.platform);
        let ccache = recipe::ccache_limit(&settings.cache);
        let log = run.twin_log.then(|| (kiln_twin::LOG.to_owned(), "/proc/1/fd/2".to_owned()));
        let more: Vec<(String, String)> = [ccache].into_iter().chain(log).collect();
        let env = |p: &PlatformSettings| network::variables(&p.network).into_iter().chain(more.clone()).collect();
        let request = BuildRequest {
            id: session::new_id(),
            owner: session::Host::this().owner(),
            scope: settings.cache.scope.clone(),
            graph: lowered.graph,
            contexts,
            outputs: self.platforms.iter().map(|p| self.output(p, &lowered.images)).collect(),
            exports: self.exports()?,
            run: RunSettings {
                env: self.platforms.iter().chain([&own]).map(|p| (p.platform, env(p))).collect(),
                twin_required: required.collect(),
                network: match args.network {
                    Some(_) => run.flags.network.clone(),
                    None => network::spec(&settings.network),
                },
                tools: tools.to_owned(),
                ..run.flags.clone()
            },
            parallel: args.parallel.map_or(usize::MAX >> 4, NonZeroUsize::get),
            keep_going: !args.fail_fast,
            no_cache_mounts: args.no_cache_mounts,
            state: self.state.join("state"),
            locks: run.locks.to_owned(),
        };
        Ok((request, lowered.emulated))
    }

    /// The base image of a recipe is a setting: that is the place to look at.
    fn blame_base(&self, error: CliError) -> CliError {
        match error {
            CliError::Image { error, .. } if self.recipe => {
                let from = self.project.config.provenance(Section::Build, "base", None);
                CliError::Image { place: from.is_explicit().then(|| from.to_string()), error }
            }
            other => other,
        }
    }

    /// The policy of each platform, for the summary.
    pub(crate) fn notes(&self, auto_jobs: u32) -> Vec<(Platform, String)> {
        if !self.recipe {
            return Vec::new();
        }
        let note = |p: &PlatformSettings| format!("lto={} jobs={}", p.lto.summary(), recipe::jobs(p, auto_jobs));
        self.platforms.iter().map(|p| (p.platform, note(p))).collect()
    }

    /// Starts listing the context.
    fn scan(&self) -> Result<tokio::task::JoinHandle<kiln_solver::Result<Context>>> {
        let mut hidden = vec![STATE.to_owned()];
        if self.recipe {
            if let Ok(inside) = self.output.strip_prefix(&self.project.folder) {
                hidden.push(inside.display().to_string());
            }
            if let Some(name) = self.project.file.as_ref().and_then(|f| f.strip_prefix(&self.project.folder).ok()) {
                let name = name.display().to_string();
                // pyproject.toml belongs to the program: tools and packages read it.
                if name != "pyproject.toml" {
                    hidden.push(name);
                }
            }
        }
        let filter = match &self.project.place {
            // As with BuildKit, what was left out of an archive or a repository is not there, and all else is.
            Some(_) if !self.recipe => Arc::new(Everything),
            _ => context::filter(&self.project.folder, self.source.path.as_deref(), self.recipe, &hidden)?,
        };
        let cache = self.digests_of(CONTEXT).unwrap_or_default();
        let (folder, place) = (self.project.folder.clone(), self.project.place.clone());
        Ok(tokio::task::spawn_blocking(move || {
            let context = Context::scan(&folder, filter, StatCache::load(&cache))?;
            Ok(match place {
                Some(place) => context.with_attributes(&place.attributes).titled(format!("the context {}", place.id)),
                None => context,
            })
        }))
    }

    async fn named_contexts(
        &self,
        graph: &BuildGraph,
        events: &mpsc::Sender<BuildEvent>,
        cancel: &Cancel,
    ) -> Result<Contexts> {
        let state = self.state.join("state");
        let temporary = self.project.temporary.clone().unwrap_or_else(|| state.clone());
        named::contexts(&self.fetcher, &self.named, graph, &state, &temporary, events, cancel).await
    }

    /// Where digests of a context's files are kept, if they are worth it: files that are fetched do not change.
    fn digests_of(&self, name: &str) -> Option<PathBuf> {
        let state = self.state.join("state");
        if name == CONTEXT {
            return Some(state.join("context.bin"));
        }
        self.named.contains_key(name).then(|| named::cache_file(&state, name))
    }

    /// The Dockerfiles as they lie there, as many as [`Self::wanted`] names.
    pub(crate) fn sources(&self) -> Result<Vec<recipe::Source>> {
        self.platforms.iter().map(|p| recipe::source(&p.build.recipe, &self.project.folder)).collect()
    }

    /// What is to be built, by platform.
    pub(crate) fn wanted(&self, auto_jobs: u32) -> Result<Vec<Wanted>> {
        let mut wanted = Vec::new();
        for (settings, dockerfile) in self.platforms.iter().zip(&self.dockerfiles) {
            let (target, mut args) = if self.recipe {
                let args = recipe::arguments(settings, &self.project.folder, auto_jobs)?;
                (Some(recipe::EXPORT.to_owned()), args)
            } else {
                (settings.build.target.clone(), settings.build.args.clone())
            };
            args.extend(self.user_args.clone());
            let contexts = named::for_front_end(&self.named);
            // Recipes have mounts for all that they call.
            let auto_caches = !self.recipe && self.project.auto_caches(settings);
            let more = More { contexts, labels: self.labels.clone(), auto_caches, ..More::default() };
            wanted.push(Wanted { platform: settings.platform, dockerfile: dockerfile.clone(), target, args, more });
        }
        Ok(wanted)
    }

    /// Where the results of a platform go.
    fn folder(&self, settings: &PlatformSettings) -> PathBuf {
        // As buildx does: a folder per platform where there are several.
        let apart = !self.recipe && self.platforms.len() > 1;
        if apart { self.output.join(settings.platform.folder()) } else { self.output.clone() }
    }

    fn output(&self, settings: &PlatformSettings, images: &ResolvedImages) -> Output {
        if !self.files {
            return Output::Nothing;
        }
        let (name, folder) = (settings.platform.folder(), self.folder(settings));
        if !self.recipe {
            return Output::Files(FilesOutput { folder, artifact: None, smoke: None, reports: None, sums: false });
        }
        let command = match &settings.verify.run {
            SmokeSetting::Off => None,
            SmokeSetting::Auto => Some(SmokeCommand::Auto),
            SmokeSetting::Arguments(arguments) => Some(SmokeCommand::Arguments(arguments.clone())),
            SmokeSetting::Shell(line) => Some(SmokeCommand::Shell(line.clone())),
        };
        let image = self.clean_image(settings, images);
        let smoke =
            command.zip(image).map(|(command, image)| Smoke { image, command, timeout: settings.verify.timeout });
        Output::Files(FilesOutput {
            folder,
            artifact: Some(settings.artifact.clone()),
            smoke,
            reports: Some(self.state.join("reports").join(name)),
            sums: true,
        })
    }

    /// The image of the smoke run: the one that was set, else the base; but a base that is a builder itself is not clean,
    /// and the recipe's usual one stands in for it.
    fn clean_image(&self, settings: &PlatformSettings, images: &ResolvedImages) -> Option<String> {
        let from = self.project.config.provenance(Section::Verify, "image", Some(settings.platform));
        let is_builder = images.iter().any(|(base, image)| {
            base.platform == settings.platform && image.config.env_value(recipe::TOOLCHAIN) == Some("preinstalled")
        });
        if is_builder && !from.is_explicit() {
            return settings.build.recipe.default_base().map(str::to_owned);
        }
        settings.verify.image.clone()
    }

    fn exports(&self) -> Result<Exports> {
        let certificates = &self.project.config.resolved().network.ca_certificates;
        let certificates = certificates.as_ref().map(|path| self.project.folder.join(path));
        let certificates = match certificates {
            Some(path) => fs_err::read(&path).map_err(CliError::io("read", &path))?,
            None => Vec::new(),
        };
        let registry = RegistryOptions {
            config_dir: Some(self.docker_folder.clone()),
            certificates,
            certificate_folder: Some(output::CERTIFICATES.into()),
        };
        Ok(Exports { list: self.asked.exports.clone(), epoch: self.epoch, registry })
    }

    /// Fails now rather than after a long build if the results cannot be placed.
    fn try_outputs(&self) -> Result<()> {
        if !self.files {
            return Ok(());
        }
        for settings in &self.platforms {
            place::Staging::new(&self.folder(settings)).map(drop)?;
        }
        Ok(())
    }

    /// Removes what killed builds left behind.
    async fn clean_up(&self, engine: &Arc<dyn Engine>, events: &mpsc::Sender<BuildEvent>) -> Result<()> {
        let removed = session::Host::this().sweep(engine.as_ref()).await?;
        if removed > 0 {
            let text = format!("removed {} of builds that were killed", counted(removed, "container"));
            let _ = events.send(BuildEvent::Notice { platform: None, text }).await;
        }
        let output = self.output.clone();
        let swept = tokio::task::spawn_blocking(move || kiln_artifact::place::sweep(&output)).await;
        // Leftovers in the output folder are harmless; that they could not be removed will be seen when writing there.
        if let Ok(Ok(removed)) = swept
            && !removed.is_empty()
        {
            let text = format!("removed {}", counted(removed.len(), "unfinished output folder"));
            let _ = events.send(BuildEvent::Notice { platform: None, text }).await;
        }
        Ok(())
    }
}

/// Where the results of a project go that is no folder of the user's: below the current folder, whatever it says itself.
fn output_here(output: &Path, is_asked_for: bool) -> Result<PathBuf> {
    let leaves = output.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir));
    if leaves && !is_asked_for {
        return Err(CliError::Usage {
            problem: format!("the project wants its results in {}", output.display()),
            hint: "say where they may go with --output".to_owned(),
        });
    }
    let here = std::env::current_dir().map_err(CliError::io("find", "the current folder"))?;
    Ok(here.join(output))
}

/// Makes the state folder, invisible to git.
pub(crate) fn prepare_state(state: &Path) -> Result<()> {
    let ignore = state.join(".gitignore");
    if !ignore.exists() {
        place::write_atomically(&ignore, 0o644, b"*\n")?;
    }
    Ok(())
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn build_args(environment: &Environment, args: &[String]) -> BTreeMap<String, String> {
    let given = args.iter().filter_map(|arg| match arg.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => environment.get(arg).map(|value| (arg.clone(), value.to_owned())),
    });
    // buildx hands it on, too.
    let epoch = environment.get(output::EPOCH).map(|value| (output::EPOCH.to_owned(), value.to_owned()));
    epoch.into_iter().chain(given).collect()
}
