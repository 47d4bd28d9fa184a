//! A build that is asked for: one or several things to build, in one graph, from settings and files to a plan.

mod contexts;
mod item;
mod request;

use std::collections::{BTreeMap, HashSet};
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use kiln_artifact::place;
use kiln_config::{PlatformSettings, Section};
use kiln_docker::toolbox::ToolFile;
use kiln_docker::{Engine, StoreKind};
use kiln_graph::{Arch, Platform, VertexId};
use kiln_solver::travel::{self, Travel};
use kiln_solver::{BuildEvent, Cancel, Plan};
use tokio::sync::mpsc;

use crate::emulate::{self, Surroundings};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::lower::{Lookup, Stores};
use crate::project::Project;
use crate::sources::prepare::Prepared;
use crate::sources::{Contexts, Fetcher};
use crate::suite::{self, Cell};
use crate::{checks, cli, network, output, recipe, session};

pub(crate) use item::{Baked, Item, smoke_command};

/// Folder of kiln's state in a project.
pub(crate) const STATE: &str = ".kiln";
/// The Dockerfile's name for the build context, and the graph's where there is one.
const CONTEXT: &str = ".";

/// What this run adds to a job.
pub(crate) struct Run<'a> {
    pub(crate) environment: &'a Environment,
    /// Parallel compilers where the settings leave it to kiln.
    pub(crate) auto_jobs: u32,
    /// Folder for locks between processes that use this daemon.
    pub(crate) locks: &'a Path,
}

/// A build that was compared with a daemon.
pub(crate) struct Looked {
    pub(crate) plan: Plan,
    /// Why commands without a native twin are emulated.
    pub(crate) emulated: BTreeMap<VertexId, String>,
    /// Steps whose results a store has.
    pub(crate) remote: HashSet<VertexId>,
    /// Targets, by index, whose files a store has.
    pub(crate) remote_targets: HashSet<usize>,
    contexts: Contexts,
    tools: Vec<ToolFile>,
}

/// A build that is known down to its files, but not yet compared with a daemon.
pub(crate) struct Job {
    pub(crate) project: Project,
    /// kiln's folder in the project.
    pub(crate) state: PathBuf,
    pub(crate) items: Vec<Item>,
    /// What has no effect, and was probably meant to have one.
    pub(crate) notices: Vec<String>,
    /// What is questionable in the user's own Dockerfiles, once they have been looked at.
    pub(crate) warnings: OnceLock<Vec<checks::Noted>>,
    /// The images that it stands on, once they have been looked up.
    pub(crate) images: OnceLock<Vec<kiln_history::record::Image>>,
    schedule: cli::Schedule,
    fetcher: Fetcher,
}

impl Job {
    /// The build of a project: reads the Dockerfiles and checks the settings against it.
    pub(crate) fn of_project(environment: &Environment, prepared: &Prepared, project: Project) -> Result<Self> {
        let folder = &project.folder;
        project.config.check_files(&project.facts, |path| folder.join(path).exists())?;
        let item = Item::of_project(environment, prepared, &project)?;
        let state = state_of(&project, prepared);
        Self::new(environment, project, state, vec![item], prepared.args.schedule.clone())
    }

    /// The project's tests, by cell; with `build`, in one graph with the build of its program, which comes first then.
    /// `written` are files that are written in the end.
    pub(crate) fn of_tests(
        environment: &Environment,
        prepared: &Prepared,
        project: Project,
        (cells, build): (Vec<(Cell, Option<Platform>)>, bool),
        written: &[PathBuf],
    ) -> Result<Self> {
        let folder = &project.folder;
        project.config.check_files(&project.facts, |path| folder.join(path).exists())?;
        let mut items = Vec::new();
        if build {
            items.push(Item::of_project(environment, prepared, &project)?);
        }
        for cell in cells {
            items.push(Item::of_cell(environment, prepared, &project, cell)?);
        }
        let state = state_of(&project, prepared);
        let written = suite::written::known(&state, written);
        for item in &mut items {
            item.written.clone_from(&written);
        }
        Self::new(environment, project, state, items, prepared.args.schedule.clone())
    }

    /// The build of targets of a bake file, each behind those that it uses.
    pub(crate) fn of_targets(
        environment: &Environment,
        project: Project,
        items: Vec<Item>,
        schedule: cli::Schedule,
    ) -> Result<Self> {
        let state = project.folder.join(STATE);
        Self::new(environment, project, state, items, schedule)
    }

    fn new(
        environment: &Environment,
        project: Project,
        state: PathBuf,
        items: Vec<Item>,
        schedule: cli::Schedule,
    ) -> Result<Self> {
        if items.iter().filter(|item| item.asked.stdout.is_some()).count() > 1 {
            return Err(CliError::Usage {
                problem: "two targets cannot both be written to standard output".to_owned(),
                hint: "give one of them a file: --set TARGET.output=type=tar,dest=FILE".to_owned(),
            });
        }
        let notices = items.iter().flat_map(|item| {
            let place = item.name().map(|name| format!("target {name}: ")).unwrap_or_default();
            cli::without_effect(&item.args).into_iter().map(move |text| format!("{place}{text}"))
        });
        Ok(Self {
            notices: notices.collect(),
            fetcher: Fetcher::new(environment, &project.config.resolved().network, &project.folder)?,
            warnings: OnceLock::new(),
            images: OnceLock::new(),
            project,
            state,
            items,
            schedule,
        })
    }

    /// The file whose content goes to standard output in the end.
    pub(crate) fn stdout(&self) -> Option<&Path> {
        self.items.iter().find_map(|item| item.asked.stdout.as_deref())
    }

    /// Whether the user wants a shell where a step fails.
    pub(crate) fn wants_shell(&self) -> bool {
        self.schedule.shell_on_failure
    }

    /// The images that it stands on, as far as they have been looked up.
    pub(crate) fn bases(&self) -> Vec<travel::Used> {
        let images = self.images.get().into_iter().flatten().cloned();
        images
            .map(|kiln_history::record::Image { reference, platform, id, digest }| travel::Used {
                reference,
                platform,
                id,
                digest,
            })
            .collect()
    }

    /// Settles what depends on the daemon: the platform, if nobody named one.
    pub(crate) fn on_daemon(&mut self, own: Arch) {
        for item in &mut self.items {
            item.on_daemon(own, &self.project);
        }
    }

    /// Fails now rather than after a long build if what is asked for cannot be made of these platforms.
    pub(crate) fn check_outputs(&self, store: StoreKind) -> Result<()> {
        self.items.iter().try_for_each(|item| {
            let checked = output::check_platforms(&item.asked.exports, &item.platforms(), store);
            checked.map_err(|error| error.of_target(item.name()))
        })
    }

    /// The policy of each platform, for the summary.
    pub(crate) fn notes(&self, auto_jobs: u32) -> Vec<(Platform, String)> {
        let recipes = self.items.iter().filter(|item| item.recipe && item.cell.is_none());
        let note = |p: &PlatformSettings| format!("lto={} jobs={}", p.lto.summary(), recipe::jobs(p, auto_jobs));
        recipes.flat_map(|item| &item.platforms).map(|p| (p.platform, note(p))).collect()
    }

    /// Finds out what there is to do, and changes nothing but that base images are pulled.
    pub(crate) async fn look(
        &self,
        engine: &Arc<dyn Engine>,
        run: &Run<'_>,
        events: &mpsc::Sender<BuildEvent>,
        cancel: &Cancel,
    ) -> Result<Looked> {
        self.look_with(Lookup { engine, events, stores: None }, run, cancel).await
    }

    async fn look_with(&self, lookup: Lookup<'_>, run: &Run<'_>, cancel: &Cancel) -> Result<Looked> {
        let engine = lookup.engine;
        let settings = self.project.config.resolved();
        let tools = network::files(&settings.network, &self.project.folder)?;
        let (request, emulated) = cancel.unless_stopped(self.request(lookup, run, &tools, cancel)).await??;
        let contexts = request.contexts.clone();
        let plan = cancel.unless_stopped(Plan::make(engine, request)).await??;
        let (remote, remote_targets) = Default::default();
        Ok(Looked { plan, emulated, remote, remote_targets, contexts, tools })
    }

    /// Finds out what there is to do, and makes sure that the platforms can run.
    pub(crate) async fn plan(
        &self,
        engine: &Arc<dyn Engine>,
        run: &Run<'_>,
        events: &mpsc::Sender<BuildEvent>,
        cancel: &Cancel,
        travel: &Travel,
    ) -> Result<Plan> {
        let settings = self.project.config.resolved();
        prepare_state(&self.state)?;
        let stores = Stores::new(travel, cancel);
        let is_asked = !travel.from.is_empty() && travel.wanted.results;
        let lookup = Lookup { engine, events, stores: is_asked.then_some(&stores) };
        let Looked { plan, contexts, tools, .. } = self.look_with(lookup, run, cancel).await?;
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
        self.items.iter().try_for_each(Item::try_outputs)?;
        let mut plan = travel::bring(engine, plan, travel, (events, cancel), stores.pull(&lookup)).await?;
        if !plan.is_up_to_date() && !stores.is_settled() {
            // An image cannot be pulled, or is another one by now: this finds what there is, or tells what is wrong.
            plan.arrived().await;
            let looked = self.look(engine, run, events, cancel).await?;
            plan = travel::bring(engine, looked.plan, travel, (events, cancel), ready(true)).await?;
        }
        if plan.is_up_to_date() {
            return Ok(plan);
        }
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
        let install = settings.emulation.install && !self.schedule.no_install_emulation;
        plan.set_ways(emulate::ensure(&surroundings, &plan.platforms_to_run(), install, events).await?);
        Ok(plan)
    }

    /// The base image of a recipe is a setting: that is the place to look at.
    fn blame_base(&self, error: CliError) -> CliError {
        match error {
            CliError::Image { error, .. } if self.items.iter().all(|item| item.recipe) => {
                let is_of_tests = self.items.iter().all(|item| item.cell.is_some());
                let section = if is_of_tests { Section::Test } else { Section::Build };
                let from = self.project.config.provenance(section, "base", None);
                let around = is_of_tests.then_some(suite::OTHER_IMAGES);
                CliError::Image { place: from.is_explicit().then(|| from.to_string()), error, around }
            }
            other => other,
        }
    }

    /// Removes what killed builds left behind.
    async fn clean_up(&self, engine: &Arc<dyn Engine>, events: &mpsc::Sender<BuildEvent>) -> Result<()> {
        let removed = session::Host::this().sweep(engine.as_ref()).await?;
        if removed > 0 {
            let text = format!("removed {} of builds that were killed", counted(removed, "container"));
            let _ = events.send(BuildEvent::Notice { platform: None, text }).await;
        }
        let mut outputs: Vec<PathBuf> = self.items.iter().map(|item| item.output.clone()).collect();
        outputs.retain(|output| !output.as_os_str().is_empty());
        outputs.sort();
        outputs.dedup();
        let sweep = move || outputs.iter().flat_map(|output| place::sweep(output).unwrap_or_default()).count();
        // Leftovers in the output folder are harmless; that they could not be removed will be seen when writing there.
        let removed = tokio::task::spawn_blocking(sweep).await.unwrap_or_default();
        if removed > 0 {
            let text = format!("removed {}", counted(removed, "unfinished output folder"));
            let _ = events.send(BuildEvent::Notice { platform: None, text }).await;
        }
        Ok(())
    }
}

/// kiln's folder of a project.
fn state_of(project: &Project, prepared: &Prepared) -> PathBuf {
    prepared.place.as_ref().map_or_else(|| project.folder.join(STATE), |place| place.state.clone())
}

/// Makes the state folder, invisible to git.
fn prepare_state(state: &Path) -> Result<()> {
    let ignore = state.join(".gitignore");
    if !ignore.exists() {
        place::write_atomically(&ignore, 0o644, b"*\n")?;
    }
    Ok(())
}

/// `2 warnings`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
