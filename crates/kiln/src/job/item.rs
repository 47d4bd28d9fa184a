//! One thing to build: a Dockerfile, the platforms that it is built for, and what becomes of the results.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use kiln_artifact::place;
use kiln_config::{PlatformSettings, Recipe, Section, Smoke as SmokeSetting};
use kiln_docker::PullPolicy;
use kiln_dockerfile::{Dockerfile, NoCache, ResolvedImages};
use kiln_graph::{Arch, Platform};
use kiln_solver::image::Export;
use kiln_solver::{FilesOutput, Output, Smoke, SmokeCommand};

use super::{CONTEXT, STATE, state_of};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::lower::{More, Wanted};
use crate::output::{self, Asked};
use crate::project::{self, Project};
use crate::sources::named::{self, Named, Value};
use crate::sources::prepare::{Place, Prepared};
use crate::suite::{self, Cell};
use crate::{cli, context, recipe};

/// What the graph calls the project's folder where its tests read it.
const SOURCES_OF_TESTS: &str = "tests";

/// What makes a target of a bake file more than a command line.
#[derive(Clone, Debug)]
pub(crate) struct Baked {
    /// Its name.
    pub(crate) name: String,
    /// Contexts that are other targets, by the context's name.
    pub(crate) links: BTreeMap<String, String>,
}

/// One thing to build, known down to its files.
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub(crate) struct Item {
    /// What was asked for.
    pub(crate) args: cli::Build,
    /// What is made of all platforms together.
    pub(crate) asked: Asked,
    pub(super) baked: Option<Baked>,
    /// Tests of the project, rather than the program.
    pub(crate) cell: Option<Cell>,
    /// The folder of the context.
    pub(super) folder: PathBuf,
    /// Where the context comes from, if it is no folder of the user's.
    pub(super) place: Option<Place>,
    /// Folder for what is unpacked while it is built.
    pub(super) temporary: PathBuf,
    pub(super) platforms: Vec<PlatformSettings>,
    /// Parsed Dockerfiles, by platform.
    dockerfiles: Vec<Arc<Dockerfile>>,
    /// Whether the Dockerfile is a recipe, which kiln fills with arguments and whose result it knows.
    pub(super) recipe: bool,
    source: recipe::Source,
    pub(super) output: PathBuf,
    user_args: BTreeMap<String, String>,
    /// Whether nobody said which platforms: then it is the daemon's, as with buildx.
    implicit: bool,
    /// Whether files go to [`Item::output`].
    files: bool,
    labels: BTreeMap<String, String>,
    /// Files that kiln itself writes when it has ended, absolute: they are no part of the context.
    pub(super) written: Vec<PathBuf>,
    /// `SOURCE_DATE_EPOCH`.
    pub(super) epoch: Option<i64>,
    /// `--build-context`.
    pub(super) named: Named,
    /// Whether the project is made for kiln. Then, if nobody says otherwise, tools that its Dockerfiles call get volumes for
    /// their caches; elsewhere a Dockerfile gives what it would give with buildx, cache folders included.
    is_kilns: bool,
}

impl Item {
    /// The project that a command line is about.
    pub(super) fn of_project(environment: &Environment, prepared: &Prepared, project: &Project) -> Result<Self> {
        let args = &prepared.args;
        let settings = project.config.resolved();
        let platforms = settings.build.platforms.iter().map(|p| project.config.for_platform(*p)).collect();
        let state = state_of(project, prepared);
        let mut item = Self::new(environment, prepared, (&project.folder, &state), platforms, None, None)?;
        item.is_kilns = project.config.has_project_file();
        if item.recipe {
            settings.program(&project.facts.entry_candidates())?;
        }
        let is_asked = output::folder(args)?.is_some();
        item.output = match &item.place {
            None => project.folder.join(&settings.build.output),
            Some(_) => output_here(&settings.build.output, is_asked)?,
        };
        let is_set = |key: &str| project.config.provenance(Section::Build, key, None).is_explicit();
        if !item.recipe && args.file.is_some() {
            item.implicit = !is_set("platforms");
            if !is_set("output") {
                item.make_image();
            }
        }
        item.files = match (item.recipe, item.asked.explicit) {
            (_, false) => true,
            (false, true) => item.asked.folder.is_some(),
            // A program is checked where it lies; only `type=cacheonly` alone asks for nothing.
            (true, true) => item.asked.folder.is_some() || !item.asked.exports.is_empty(),
        };
        Ok(item)
    }

    /// A target of a bake file.
    pub(crate) fn of_target(
        environment: &Environment,
        prepared: &Prepared,
        project: &Project,
        baked: Baked,
    ) -> Result<Self> {
        let args = &prepared.args;
        let folder = project::folder(&args.project.path)?;
        let file = args.file.clone().unwrap_or_else(|| folder.join("Dockerfile"));
        let file = std::path::absolute(&file).map_err(CliError::io("find", &file))?;
        let platforms = args.project.platforms.iter().map(|platform| {
            platform.parse().map_err(|source: kiln_graph::PlatformError| CliError::Missing {
                problem: source.to_string(),
                hint: source.hint(),
            })
        });
        let mut platforms: Vec<Platform> = platforms.collect::<Result<_>>()?;
        let implicit = platforms.is_empty();
        if implicit {
            platforms.push(Platform::linux(Arch::Amd64));
        }
        let settings = platforms.into_iter().map(|platform| {
            let mut settings = project.config.for_platform(platform);
            settings.build.recipe = Recipe::Dockerfile(file.clone());
            settings.build.target.clone_from(&args.target);
            settings.build.args.clear();
            settings
        });
        let state = project.folder.join(STATE);
        let mut item = Self::new(environment, prepared, (&folder, &state), settings.collect(), Some(baked), None)?;
        item.implicit = implicit;
        item.is_kilns = project.config.has_project_file();
        item.make_image();
        item.files = item.asked.folder.is_some();
        if let Some(folder) = &item.asked.folder {
            item.output = std::path::absolute(folder).map_err(CliError::io("find", folder))?;
        }
        Ok(item)
    }

    /// Tests of the project with one Python on one platform; without one it is the daemon's own.
    pub(super) fn of_cell(
        environment: &Environment,
        prepared: &Prepared,
        project: &Project,
        (cell, platform): (Cell, Option<Platform>),
    ) -> Result<Self> {
        let state = state_of(project, prepared);
        let platforms = vec![project.config.for_platform(platform.unwrap_or(suite::SOME_PLATFORM))];
        let source = cell.source();
        let mut item = Self::new(environment, prepared, (&project.folder, &state), platforms, None, Some(&source))?;
        item.implicit = platform.is_none();
        item.files = true;
        item.output.clone_from(&state);
        item.cell = Some(cell);
        Ok(item)
    }

    fn new(
        environment: &Environment,
        prepared: &Prepared,
        (folder, state): (&Path, &Path),
        platforms: Vec<PlatformSettings>,
        baked: Option<Baked>,
        own: Option<&recipe::Source>,
    ) -> Result<Self> {
        let args = &prepared.args;
        let mut dockerfiles = Vec::new();
        let mut parsed: Vec<(Recipe, Arc<Dockerfile>)> = Vec::new();
        let mut first = None;
        for platform in &platforms {
            let recipe = &platform.build.recipe;
            let known = parsed.iter().find(|(r, _)| r == recipe).map(|(_, d)| d.clone());
            let dockerfile = if let Some(dockerfile) = known {
                dockerfile
            } else {
                let mut source = match own {
                    Some(source) => source.clone(),
                    None => recipe::source(recipe, folder)?,
                };
                if let Some(name) = &prepared.dockerfile {
                    source.name.clone_from(name);
                }
                // A recipe is of the project, with its settings; a bake file has targets.
                source.is_recipe &= baked.is_none();
                let dockerfile = Arc::new(kiln_dockerfile::parse(&source.name, &source.text)?);
                parsed.push((recipe.clone(), dockerfile.clone()));
                first.get_or_insert(source);
                dockerfile
            };
            dockerfiles.push(dockerfile);
        }
        let source = first.expect("there is at least one platform");
        let user_args = build_args(environment, &args.args);
        Ok(Self {
            asked: output::asked(args, &state.join(format!("stdout-{}.tar", std::process::id())))?,
            args: args.clone(),
            baked,
            cell: None,
            folder: folder.to_owned(),
            place: prepared.place.clone(),
            temporary: prepared.temporary.path().to_owned(),
            recipe: source.is_recipe,
            labels: output::labels(&args.labels)?,
            epoch: output::epoch(&user_args)?,
            named: named::read(&args.contexts)?,
            written: Vec::new(),
            is_kilns: false,
            implicit: false,
            files: false,
            output: PathBuf::new(),
            user_args,
            platforms,
            dockerfiles,
            source,
        })
    }

    /// As buildx on the daemon's own builder: without an output, a Dockerfile makes an image.
    fn make_image(&mut self) {
        if !self.asked.explicit {
            self.asked.exports.push(Export::Load { names: Vec::new(), rewritten: false });
            self.asked.explicit = true;
        }
    }

    /// Settles what depends on the daemon: the platform, if nobody named one.
    pub(super) fn on_daemon(&mut self, own: Arch, project: &Project) {
        if self.implicit {
            let old = self.platforms.remove(0);
            let mut settings = project.config.for_platform(Platform::linux(own));
            if self.baked.is_some() {
                settings.build = old.build;
            }
            self.platforms = vec![settings];
            self.dockerfiles.truncate(1);
        }
    }

    /// Its name in a bake file.
    pub(crate) fn name(&self) -> Option<&str> {
        self.baked.as_ref().map(|baked| baked.name.as_str())
    }

    /// The platforms that it is built for.
    pub(crate) fn platforms(&self) -> Vec<Platform> {
        self.platforms.iter().map(|settings| settings.platform).collect()
    }

    /// The Dockerfiles as they lie there, as many as [`Self::wanted`] names.
    pub(crate) fn sources(&self) -> Result<Vec<recipe::Source>> {
        self.platforms.iter().map(|p| recipe::source(&p.build.recipe, &self.folder)).collect()
    }

    /// The ignore rules of its context.
    pub(crate) fn ignore(&self) -> Result<Option<kiln_dockerfile::Ignore>> {
        Ok(context::find(&self.folder, self.source.path.as_deref())?.map(|(ignore, _)| ignore))
    }

    /// What is to be built, by platform.
    pub(crate) fn wanted(&self, auto_jobs: u32) -> Result<Vec<Wanted>> {
        let no_cache = match (self.args.no_cache, self.args.no_cache_filter.is_empty()) {
            (true, _) => NoCache::All,
            (false, false) => NoCache::Stages(self.args.no_cache_filter.clone()),
            (false, true) => NoCache::None,
        };
        let pull = if self.args.pull { PullPolicy::Always } else { PullPolicy::Missing };
        let mut more =
            More { contexts: named::for_front_end(&self.named), labels: self.labels.clone(), ..More::default() };
        if let Some(baked) = &self.baked {
            more.name = Some(baked.name.clone());
            more.links.clone_from(&baked.links);
            more.locals = self.locals().map(|(local, name)| (local.to_owned(), name)).collect();
        }
        if let Some(cell) = &self.cell {
            more.name = Some(cell.name());
            more.locals.insert(CONTEXT.to_owned(), self.context_name());
        }
        let stages = |no_cache: &NoCache| match (&self.cell, no_cache) {
            (Some(cell), NoCache::Stages(stages)) => {
                NoCache::Stages(stages.iter().map(|stage| cell.stage(stage)).collect())
            }
            (_, other) => other.clone(),
        };
        let mut wanted = Vec::new();
        for (settings, dockerfile) in self.platforms.iter().zip(&self.dockerfiles) {
            let (target, mut args) = if let Some(cell) = &self.cell {
                (Some(recipe::EXPORT.to_owned()), cell.arguments(settings, &self.folder)?)
            } else if self.recipe {
                let args = recipe::arguments(settings, &self.folder, auto_jobs)?;
                (Some(recipe::EXPORT.to_owned()), args)
            } else {
                (settings.build.target.clone(), settings.build.args.clone())
            };
            args.extend(self.user_args.clone());
            let (platform, dockerfile) = (settings.platform, dockerfile.clone());
            // Recipes have mounts for all that they call.
            let auto_caches = !self.recipe && settings.build.auto_caches.or(self.is_kilns);
            wanted.push(Wanted {
                platform,
                dockerfile,
                target,
                args,
                no_cache: stages(&no_cache),
                pull,
                more: More { auto_caches, ..more.clone() },
            });
        }
        Ok(wanted)
    }

    /// The Dockerfile's names for contexts, and the graph's: targets of a bake file may mean different folders by the
    /// same name, and the same folder by different ones.
    fn locals(&self) -> impl Iterator<Item = (&str, String)> {
        let named = self.named.iter().filter(|(_, value)| !matches!(value, Value::Image(_)));
        let named = named.map(|(name, value)| (name.as_str(), self.graph_name(name, value)));
        [(CONTEXT, self.context_name())].into_iter().chain(named)
    }

    /// What the graph calls the main context.
    pub(super) fn context_name(&self) -> String {
        if self.cell.is_some() {
            // What is no part of the tests may be one of the program, and the reverse.
            return SOURCES_OF_TESTS.to_owned();
        }
        let folder = match (&self.baked, &self.place) {
            (None, _) => return CONTEXT.to_owned(),
            (Some(_), Some(place)) => return format!("{} {}", place.id, self.folder.display()),
            (Some(_), None) => self.folder.display(),
        };
        // Another ignore file is another context.
        let own = self.source.path.as_deref().map(context::own_ignore_file).filter(|path| path.is_file());
        own.map_or(folder.to_string(), |ignore| format!("{folder} ({})", ignore.display()))
    }

    /// What the graph calls a named context.
    pub(super) fn graph_name(&self, name: &str, value: &Value) -> String {
        if self.baked.is_some() { value.to_string() } else { name.to_owned() }
    }

    /// Files that it is read from: the Dockerfile, if it is the user's own, and the ignore rules.
    pub(super) fn own_files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.folder.join(".dockerignore")];
        if let Some(path) = self.source.path.as_deref().and_then(|path| std::path::absolute(path).ok()) {
            files.push(context::own_ignore_file(&path));
            files.push(path);
        }
        files
    }

    /// Which files of its folder it sees; none for all of them.
    pub(super) fn filter(&self, project: &Project) -> Result<Option<Arc<dyn kiln_solver::context::Filter>>> {
        // As with BuildKit, what was left out of an archive or a repository is not there, and all else is.
        if self.place.is_some() && !self.recipe {
            return Ok(None);
        }
        let mut hidden = vec![STATE.to_owned()];
        if self.recipe {
            let output = match self.cell {
                Some(_) => self.folder.join(project.config.resolved().build.output),
                None => self.output.clone(),
            };
            let written = [output].into_iter().chain(self.written.iter().cloned());
            for path in written.filter_map(|path| path.strip_prefix(&self.folder).map(Path::to_owned).ok()) {
                hidden.push(path.display().to_string());
            }
            if let Some(name) = project.file.as_ref().and_then(|f| f.strip_prefix(&self.folder).ok()) {
                let name = name.display().to_string();
                // pyproject.toml belongs to the program: tools and packages read it.
                if name != "pyproject.toml" {
                    hidden.push(name);
                }
            }
        }
        context::filter(&self.folder, self.source.path.as_deref(), self.recipe, &hidden).map(Some)
    }

    /// Where the results of a platform go.
    fn folder(&self, settings: &PlatformSettings) -> PathBuf {
        // As buildx does: a folder per platform where there are several.
        if let Some(cell) = &self.cell {
            return suite::outcome::folders(&self.output, cell, settings.platform).0;
        }
        let apart = !self.recipe && self.platforms.len() > 1;
        if apart { self.output.join(settings.platform.folder()) } else { self.output.clone() }
    }

    /// What becomes of each platform.
    pub(super) fn outputs(&self, project: &Project, state: &Path, images: &ResolvedImages) -> Vec<Output> {
        self.platforms.iter().map(|settings| self.output(settings, project, state, images)).collect()
    }

    fn output(&self, settings: &PlatformSettings, project: &Project, state: &Path, images: &ResolvedImages) -> Output {
        if !self.files {
            return Output::Nothing;
        }
        let (name, folder) = (settings.platform.folder(), self.folder(settings));
        if !self.recipe || self.cell.is_some() {
            return Output::Files(FilesOutput {
                folder,
                artifact: None,
                smoke: None,
                glibc_max: None,
                reports: None,
                sums: false,
            });
        }
        let command = smoke_command(&settings.verify.run);
        let image = clean_image(settings, project, images);
        let smoke =
            command.zip(image).map(|(command, image)| Smoke { image, command, timeout: settings.verify.timeout });
        Output::Files(FilesOutput {
            folder,
            artifact: Some(settings.artifact.clone()),
            smoke,
            // The settings have seen that it is a version.
            glibc_max: settings.verify.glibc_max.as_deref().and_then(|version| version.parse().ok()),
            reports: Some(state.join("reports").join(name)),
            sums: true,
        })
    }

    /// Fails now rather than after a long build if the results cannot be placed.
    pub(super) fn try_outputs(&self) -> Result<()> {
        for settings in self.platforms.iter().filter(|_| self.files) {
            place::Staging::new(&self.folder(settings)).map(drop)?;
        }
        Ok(())
    }
}

/// What a setting means to run; nothing if nothing is to be run.
pub(crate) fn smoke_command(setting: &SmokeSetting) -> Option<SmokeCommand> {
    match setting {
        SmokeSetting::Off => None,
        SmokeSetting::Auto => Some(SmokeCommand::Auto),
        SmokeSetting::Arguments(arguments) => Some(SmokeCommand::Arguments(arguments.clone())),
        SmokeSetting::Shell(line) => Some(SmokeCommand::Shell(line.clone())),
    }
}

/// The image of the smoke run: the one that was set, else the base; but a base that is a builder itself is not clean,
/// and the recipe's usual one stands in for it.
fn clean_image(settings: &PlatformSettings, project: &Project, images: &ResolvedImages) -> Option<String> {
    let from = project.config.provenance(Section::Verify, "image", Some(settings.platform));
    let is_builder = images.iter().any(|(base, image)| {
        base.platform == settings.platform && image.config.env_value(recipe::TOOLCHAIN) == Some("preinstalled")
    });
    if is_builder && !from.is_explicit() {
        return settings.build.recipe.default_base().map(str::to_owned);
    }
    settings.verify.image.clone()
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

fn build_args(environment: &Environment, args: &[String]) -> BTreeMap<String, String> {
    let given = args.iter().filter_map(|arg| match arg.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => environment.get(arg).map(|value| (arg.clone(), value.to_owned())),
    });
    // buildx hands it on, too.
    let epoch = environment.get(output::EPOCH).map(|value| (output::EPOCH.to_owned(), value.to_owned()));
    epoch.into_iter().chain(given).collect()
}
