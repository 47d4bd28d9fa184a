//! `kiln build`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use kiln_config::{FlagValue, PlatformSettings, Recipe, Smoke as SmokeSetting};
use kiln_docker::{Engine, PullPolicy};
use kiln_dockerfile::{Dockerfile, NoCache};
use kiln_graph::Platform;
use kiln_solver::context::{Context, StatCache};
use kiln_solver::{
    BuildEvent, BuildOutcome, BuildRequest, Cancel, FilesOutput, Output, Plan, RunSettings, Smoke, SmokeCommand,
    SolveError,
};
use tokio::sync::mpsc;

use crate::cli;
use crate::emulate::{self, Surroundings};
use crate::environment::Environment;
use crate::error::{CliError, Result, exit, solve_code};
use crate::lower::{self, Wanted};
use crate::project::{self, Project};
use crate::report::{
    Collected, FailureOptions, Progress, ReportOptions, Terminal, render_error, render_summary, report,
};
use crate::ui::Ui;
use crate::{context, network, recipe, session};

/// Folder of kiln's state in a project.
const STATE: &str = ".kiln";

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Build) -> Result<()> {
    let started = Instant::now();
    let project = project::load(environment, &args.project, flags(args)?)?;
    ui.warnings(&project.warnings);
    let job = Job::new(environment, args, project)?;
    let cancel = Cancel::new();
    session::stop_on_signals(cancel.clone());
    let engine = session::connect(environment, global).await?;
    let auto_jobs = recipe::auto_jobs(engine.info().cpus, job.project.platforms_configured);
    let (events, received) = mpsc::channel(256);
    let reporter = tokio::spawn(report(
        received,
        ReportOptions {
            progress: if args.quiet { Progress::Quiet } else { args.progress },
            // Traces go to standard error too and would tear a live display.
            terminal: if global.is_traced(environment) { Terminal::default() } else { ui.terminal },
            color: ui.color,
            logs: Some(job.state.join("logs")),
            started,
            notes: job.notes(auto_jobs),
        },
    ));
    let outcome = job.build(&engine, environment, args, auto_jobs, events, cancel).await;
    let collected = reporter.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    conclude(ui, &collected, outcome?)
}

/// Options of the command that are settings.
fn flags(args: &cli::Build) -> Result<Vec<(String, FlagValue)>> {
    let mut flags: Vec<(String, FlagValue)> = Vec::new();
    let mut text = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            flags.push((key.to_owned(), FlagValue::from(value)));
        }
    };
    let absolute = |path: &Path| std::path::absolute(path).map(|p| p.display().to_string());
    if let Some(file) = &args.file {
        text("build.recipe", Some(absolute(file).map_err(CliError::io("find", file))?));
    }
    text("build.target", args.target.clone());
    text("nuitka.jobs", args.jobs.clone());
    text("nuitka.lto", args.lto.clone());
    if let Some(output) = &args.output {
        let folder = output_folder(output)?;
        text("build.output", Some(absolute(&folder).map_err(CliError::io("find", &folder))?));
    }
    if args.no_verify {
        text("verify.run", Some("false".to_owned()));
    }
    Ok(flags)
}

/// The folder of `-o FOLDER` or `-o type=local,dest=FOLDER`.
fn output_folder(output: &str) -> Result<PathBuf> {
    if !output.contains('=') {
        return Ok(PathBuf::from(output));
    }
    let mut folder = None;
    for part in output.split(',') {
        match part.split_once('=') {
            Some(("type", "local")) => {}
            Some(("type", other)) => {
                return Err(CliError::Usage {
                    problem: format!("--output type `{other}` is not supported yet"),
                    hint: "write --output type=local,dest=FOLDER, or a folder alone".to_owned(),
                });
            }
            Some(("dest", dest)) if !dest.is_empty() => folder = Some(PathBuf::from(dest)),
            _ => {
                return Err(CliError::Usage {
                    problem: format!("--output `{output}`: `{part}` makes no sense here"),
                    hint: "write --output type=local,dest=FOLDER, or a folder alone".to_owned(),
                });
            }
        }
    }
    folder.ok_or_else(|| CliError::Usage {
        problem: format!("--output `{output}` names no folder"),
        hint: "add dest=FOLDER".to_owned(),
    })
}

/// A build that is known down to its files, but not yet compared with a daemon.
struct Job {
    project: Project,
    platforms: Vec<PlatformSettings>,
    /// Parsed Dockerfiles, by platform.
    dockerfiles: Vec<Arc<Dockerfile>>,
    built_in: bool,
    source: recipe::Source,
    output: PathBuf,
    state: PathBuf,
    user_args: BTreeMap<String, String>,
}

impl Job {
    fn new(environment: &Environment, args: &cli::Build, project: Project) -> Result<Self> {
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
            let dockerfile = match known {
                Some(dockerfile) => dockerfile,
                None => {
                    let source = recipe::source(recipe, &folder)?;
                    let dockerfile = Arc::new(kiln_dockerfile::parse(&source.name, &source.text)?);
                    parsed.push((recipe.clone(), dockerfile.clone()));
                    first.get_or_insert(source);
                    dockerfile
                }
            };
            dockerfiles.push(dockerfile);
        }
        let source = first.expect("there is at least one platform");
        let built_in = source.path.is_none();
        if built_in {
            settings.program(&project.facts.entry_candidates())?;
        }
        Ok(Self {
            output: folder.join(&settings.build.output),
            state: folder.join(STATE),
            user_args: build_args(environment, &args.build_args),
            platforms,
            dockerfiles,
            built_in,
            source,
            project,
        })
    }

    async fn build(
        &self,
        engine: &Arc<dyn Engine>,
        environment: &Environment,
        args: &cli::Build,
        auto_jobs: u32,
        events: mpsc::Sender<BuildEvent>,
        cancel: Cancel,
    ) -> Result<BuildOutcome> {
        let settings = self.project.config.resolved();
        let scan = self.scan()?;
        let no_cache = match (args.no_cache, args.no_cache_filter.is_empty()) {
            (true, _) => NoCache::All,
            (false, false) => NoCache::Stages(args.no_cache_filter.clone()),
            (false, true) => NoCache::None,
        };
        let pull = if args.pull { PullPolicy::Always } else { PullPolicy::Missing };
        let wanted = self.wanted(auto_jobs)?;
        let (scanned, lowered) = tokio::join!(scan, lower::lower(engine, &wanted, &no_cache, pull, &events));
        let context = Arc::new(scanned.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))?);
        let lowered = lowered?;
        self.warn(&lowered.warnings, &events).await;
        let locks = environment.cache_folder.join("locks").join(kiln_graph::Digest::of(&engine.info().id).short());
        let env: BTreeMap<Platform, Vec<(String, String)>> =
            self.platforms.iter().map(|p| (p.platform, network::variables(&p.network))).collect();
        let tools = network::files(&settings.network, &self.project.folder)?;
        let owner = session::Host::this().owner();
        let request = BuildRequest {
            id: session::new_id(),
            owner: owner.clone(),
            scope: settings.cache.scope.clone(),
            graph: lowered.graph,
            contexts: BTreeMap::from([(".".to_owned(), context.clone())]),
            outputs: self.platforms.iter().map(|p| self.output(p)).collect(),
            run: RunSettings {
                env,
                network: network::spec(&settings.network),
                tools: tools.clone(),
                ..RunSettings::default()
            },
            parallel: args.parallel.unwrap_or(usize::MAX >> 4),
            keep_going: !args.fail_fast,
            no_cache_mounts: args.no_cache_mounts,
            state: self.state.join("state"),
            locks: locks.clone(),
        };
        self.prepare_state()?;
        let mut plan = Plan::make(engine, request).await?;
        let cache = self.state.join("state").join("context.bin");
        if let Err(error) = context.save_cache(&cache) {
            let _ = events.send(BuildEvent::Notice { platform: None, text: error.to_string() }).await;
        }
        if !plan.is_up_to_date() {
            self.clean_up(engine, &events).await?;
            let own = Platform::linux(engine.info().arch);
            let surroundings = Surroundings {
                engine,
                qemu_image: settings.emulation.qemu_image.clone(),
                env: network::variables(&self.project.config.for_platform(own).network),
                tools,
                network: network::spec(&settings.network),
                args: emulate::arguments(&settings.network),
                state: &self.state.join("state").join("emulation"),
                locks: &locks,
                owner,
            };
            let install = settings.emulation.install && !args.no_install_emulation;
            let ways = emulate::ensure(&surroundings, &plan.platforms_to_run(), install, &events).await?;
            plan.set_ways(ways);
        }
        Ok(kiln_solver::run(engine.clone(), plan, events, cancel).await)
    }

    /// Shows what is questionable in the user's own Dockerfile.
    async fn warn(&self, lowered: &[(String, kiln_dockerfile::Warning)], events: &mpsc::Sender<BuildEvent>) {
        if self.built_in {
            return;
        }
        let checked = self.dockerfiles.first().map(|d| (d.name.clone(), d.check())).into_iter();
        let checked = checked.flat_map(|(name, warnings)| warnings.into_iter().map(move |w| (name.clone(), w)));
        for (name, warning) in lowered.iter().cloned().chain(checked) {
            let place = warning.span.map_or(name.clone(), |span| format!("{name}:{}", span.line));
            let text = format!("{place}: {} ({})", warning.message, warning.rule.name());
            let _ = events.send(BuildEvent::Notice { platform: None, text }).await;
        }
    }

    /// The policy of each platform, for the summary.
    fn notes(&self, auto_jobs: u32) -> Vec<(Platform, String)> {
        if !self.built_in {
            return Vec::new();
        }
        let note = |p: &PlatformSettings| format!("lto={} jobs={}", p.lto.summary(), recipe::jobs(p, auto_jobs));
        self.platforms.iter().map(|p| (p.platform, note(p))).collect()
    }

    /// Starts listing the context.
    fn scan(&self) -> Result<tokio::task::JoinHandle<kiln_solver::Result<Context>>> {
        let mut hidden = vec![STATE.to_owned()];
        if self.built_in {
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
        let filter = context::filter(&self.project.folder, &self.source, &hidden)?;
        let (folder, cache) = (self.project.folder.clone(), self.state.join("state").join("context.bin"));
        Ok(tokio::task::spawn_blocking(move || Context::scan(&folder, filter, StatCache::load(&cache))))
    }

    fn wanted(&self, auto_jobs: u32) -> Result<Vec<Wanted>> {
        let mut wanted = Vec::new();
        for (settings, dockerfile) in self.platforms.iter().zip(&self.dockerfiles) {
            let (target, mut args) = if self.built_in {
                let args = recipe::arguments(settings, &self.project.folder, auto_jobs)?;
                (Some(recipe::EXPORT.to_owned()), args)
            } else {
                (settings.build.target.clone(), settings.build.args.clone())
            };
            args.extend(self.user_args.clone());
            wanted.push(Wanted { platform: settings.platform, dockerfile: dockerfile.clone(), target, args });
        }
        Ok(wanted)
    }

    fn output(&self, settings: &PlatformSettings) -> Output {
        let name = settings.platform.folder();
        if !self.built_in {
            // As buildx does: a folder per platform where there are several.
            let folder = if self.platforms.len() > 1 { self.output.join(name) } else { self.output.clone() };
            return Output::Files(FilesOutput { folder, artifact: None, smoke: None, reports: None, sums: false });
        }
        let command = match &settings.verify.run {
            SmokeSetting::Off => None,
            SmokeSetting::Auto => Some(SmokeCommand::Auto),
            SmokeSetting::Arguments(arguments) => Some(SmokeCommand::Arguments(arguments.clone())),
            SmokeSetting::Shell(line) => Some(SmokeCommand::Shell(line.clone())),
        };
        let image = settings.verify.image.clone();
        let smoke =
            command.zip(image).map(|(command, image)| Smoke { image, command, timeout: settings.verify.timeout });
        Output::Files(FilesOutput {
            folder: self.output.clone(),
            artifact: Some(settings.artifact.clone()),
            smoke,
            reports: Some(self.state.join("reports").join(name)),
            sums: true,
        })
    }

    /// Makes the state folder, invisible to git.
    fn prepare_state(&self) -> Result<()> {
        let ignore = self.state.join(".gitignore");
        if !ignore.exists() {
            fs_err::create_dir_all(&self.state).map_err(CliError::io("make", &self.state))?;
            fs_err::write(&ignore, "*\n").map_err(CliError::io("write", &ignore))?;
        }
        Ok(())
    }

    /// Removes what killed builds left behind.
    async fn clean_up(&self, engine: &Arc<dyn Engine>, events: &mpsc::Sender<BuildEvent>) -> Result<()> {
        let removed = session::Host::this().sweep(engine.as_ref()).await?;
        if removed > 0 {
            let text = format!("removed {removed} containers of builds that were killed");
            let _ = events.send(BuildEvent::Notice { platform: None, text }).await;
        }
        let output = self.output.clone();
        let swept = tokio::task::spawn_blocking(move || kiln_artifact::place::sweep(&output)).await;
        // Leftovers in the output folder are harmless; that they could not be removed will be seen when writing there.
        if let Ok(Ok(removed)) = swept
            && !removed.is_empty()
        {
            let text = format!("removed {} unfinished output folders", removed.len());
            let _ = events.send(BuildEvent::Notice { platform: None, text }).await;
        }
        Ok(())
    }
}

fn build_args(environment: &Environment, args: &[String]) -> BTreeMap<String, String> {
    args.iter()
        .filter_map(|arg| match arg.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => environment.get(arg).map(|value| (arg.clone(), value.to_owned())),
        })
        .collect()
}

fn conclude(ui: Ui, collected: &Collected, outcome: BuildOutcome) -> Result<()> {
    for warning in &outcome.warnings {
        ui.warn(warning);
    }
    let width = crate::report::columns();
    let (mut code, mut good, mut shown) = (None, 0, false);
    for target in &outcome.targets {
        match target {
            Ok(report) => {
                good += 1;
                if collected.progress == Progress::Quiet {
                    for artifact in &report.artifacts {
                        ui.print(&format!("{}\n", artifact.path.display()));
                    }
                }
            }
            // What failed first is shown in full; the others only lack it.
            Err(error @ (SolveError::Dependency { .. } | SolveError::Cancelled)) => {
                code.get_or_insert(solve_code(error));
            }
            Err(error) => {
                // A real failure decides the exit code, not what it dragged along.
                if !shown {
                    code = Some(solve_code(error));
                }
                shown = true;
                let log = failed_platform(error).and_then(|p| collected.logs.get(&p)).map(|p| project::shown(p));
                let options = FailureOptions { width, color: ui.color, log: log.as_deref() };
                ui.say(render_error(error, options).trim_end());
            }
        }
    }
    if collected.progress != Progress::Quiet && collected.progress != Progress::Json {
        ui.say(render_summary(&collected.rows(), width, ui.color).trim_end());
    }
    match code {
        None => Ok(()),
        Some(exit::CANCELLED) => {
            ui.say("stopped; what was finished is kept");
            Err(CliError::Shown { code: exit::CANCELLED })
        }
        Some(_) if good > 0 => Err(CliError::Shown { code: exit::PARTIAL }),
        Some(code) => Err(CliError::Shown { code }),
    }
}

/// The platform whose log has more about an error.
fn failed_platform(error: &SolveError) -> Option<Platform> {
    match error {
        SolveError::Step { platform, .. } | SolveError::StepEngine { platform, .. } => Some(*platform),
        _ => None,
    }
}
