//! A project as the command line finds it: folder, facts, settings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kiln_config::{Config, FlagValue, Layer, Loaded, ProjectFacts, SKIPPED_FOLDERS, Warning, pyproject};
use kiln_graph::Digest;

use crate::cli;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::sources::prepare::{Place, Prepared};

/// Folder levels that are looked at for facts.
const DEPTH: usize = 4;
/// Files that are looked at for facts; a project with more is not told apart by them any better.
const MOST_FILES: usize = 5_000;

/// Variables that begin as settings do, and are none.
const IGNORED: [&str; 10] = [
    "KILN_LOG",
    "KILN_PROGRESS",
    "KILN_TWIN_LOG",
    "KILN_CONFIG",
    "KILN_HOME",
    "KILN_CACHE_DIR",
    "KILN_SIGN*",
    "KILN_TEST*",
    "KILN_PEER*",
    "KILN_BENCH*",
];

/// A project with its settings.
#[derive(Clone)]
pub(crate) struct Project {
    /// Its folder, absolute.
    pub(crate) folder: PathBuf,
    pub(crate) facts: ProjectFacts,
    pub(crate) config: Config,
    /// The settings without the command line: what is constant for the project.
    pub(crate) platforms_configured: usize,
    pub(crate) warnings: Vec<Warning>,
    /// The settings file that was read, if any.
    pub(crate) file: Option<PathBuf>,
}

/// Reads the settings of a project that was brought to where `prepared` says.
pub(crate) fn load_prepared(environment: &Environment, prepared: &Prepared, more: Vec<Flag>) -> Result<Project> {
    load_at(environment, &prepared.args.project, more, prepared.place.as_ref())
}

/// The settings of the user and the command line alone.
pub(crate) fn without_folder(environment: &Environment, args: &cli::Project) -> Result<Config> {
    let mut layers = Vec::new();
    let user = environment.config_folder.join("config.toml");
    if let Some(text) = read_if_there(&user)? {
        layers.push(Layer::user_file(&user, text));
    }
    layers.push(Layer::env(environment.variables.iter().cloned()).ignoring(&IGNORED));
    layers.push(Layer::options(flags(args)));
    Ok(Config::load(layers, &ProjectFacts::default())?.config)
}

/// Reads a project's settings. `more` are settings that other options of the command stand for.
pub(crate) fn load(environment: &Environment, args: &cli::Project, more: Vec<Flag>) -> Result<Project> {
    load_at(environment, args, more, None)
}

fn load_at(environment: &Environment, args: &cli::Project, more: Vec<Flag>, place: Option<&Place>) -> Result<Project> {
    let folder = folder(&args.path)?;
    let mut facts = facts(&folder)?;
    if let Some(place) = place {
        // Where it was brought to says nothing about it.
        facts.folder_name.clone_from(&place.name);
        Digest::of(&place.id).short()[..8].clone_into(&mut facts.folder_digest);
    }
    let mut layers = Vec::new();
    let user = environment.config_folder.join("config.toml");
    if let Some(text) = read_if_there(&user)? {
        layers.push(Layer::user_file(&user, text));
    }
    let mut file = None;
    let named = args.config.clone().or_else(|| environment.config_file.clone());
    match named {
        Some(path) => {
            let text = read_if_there(&path)?.ok_or_else(|| CliError::Missing {
                problem: format!("the settings file {} does not exist", path.display()),
                hint: "`kiln init` writes one".to_owned(),
            })?;
            layers.push(Layer::file(shown(&path), text));
            file = Some(path);
        }
        None => {
            for name in ["pyproject.toml", "kiln.toml"] {
                let path = folder.join(name);
                if let Some(text) = read_if_there(&path)? {
                    layers.push(Layer::file(shown(&path), text));
                    file = Some(path);
                }
            }
        }
    }
    layers.push(Layer::env(environment.variables.iter().cloned()).ignoring(&IGNORED));
    let without_flags = Config::load(layers.clone(), &facts)?;
    let platforms_configured = without_flags.config.resolved().build.platforms.len();
    layers.push(Layer::options(flags(args).into_iter().chain(more)));
    let Loaded { config, warnings } = Config::load(layers, &facts)?;
    Ok(Project { folder, facts, config, platforms_configured, warnings, file })
}

/// An option that is a setting: its name, the setting's key, the value.
pub(crate) type Flag = (String, String, FlagValue);

fn flags(args: &cli::Project) -> Vec<Flag> {
    let mut flags: Vec<Flag> = Vec::new();
    let mut text = |option: &str, key: &str, value: &Option<String>| {
        if let Some(value) = value {
            flags.push((option.to_owned(), key.to_owned(), FlagValue::from(value.as_str())));
        }
    };
    text("--entry", "project.entry", &args.entry);
    text("--module", "project.module", &args.module);
    text("--name", "project.name", &args.name);
    text("--requirements", "project.requirements", &args.requirements);
    text("--recipe", "build.recipe", &args.recipe);
    if !args.platforms.is_empty() {
        let value = FlagValue::from(args.platforms.clone());
        flags.push(("--platform".to_owned(), "build.platforms".to_owned(), value));
    }
    let set = |(key, value): &(String, String)| ("--set".to_owned(), key.clone(), FlagValue::from(value.as_str()));
    flags.extend(args.set.iter().map(set));
    flags
}

/// The project folder, absolute.
pub(crate) fn folder(path: &Path) -> Result<PathBuf> {
    let folder = fs_err::canonicalize(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => CliError::Missing {
            problem: format!("the project folder {} does not exist", path.display()),
            hint: "name the folder of your project".to_owned(),
        },
        _ => CliError::io("open the project folder", path)(source),
    })?;
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(CliError::Missing {
        problem: format!("{} is no folder", path.display()),
        hint: "name the folder; --entry names the file".to_owned(),
    })
}

/// The path as it is best shown: relative to where the user is.
pub(crate) fn shown(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or_else(|| path.to_owned())
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(CliError::Missing {
            problem: format!("{} is no text in UTF-8", shown(path).display()),
            hint: "save it as UTF-8".to_owned(),
        }),
        Err(error) => Err(CliError::io("read", path)(error)),
    }
}

/// Looks at the folder for what settings can follow from.
pub(crate) fn facts(folder: &Path) -> Result<ProjectFacts> {
    // The folder's name counts, and `.` has none.
    let folder = &fs_err::canonicalize(folder).map_err(CliError::io("find", folder))?;
    let mut files = BTreeSet::new();
    list(folder, "", DEPTH, &mut files)?;
    let pyproject = match read_if_there(&folder.join("pyproject.toml"))? {
        // A pyproject.toml that cannot be read is reported by its own layer, with the place.
        Some(text) => pyproject::read(&text).ok(),
        None => None,
    };
    Ok(ProjectFacts {
        folder_name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        folder_digest: Digest::of(folder.as_os_str().as_encoded_bytes()).short()[..8].to_owned(),
        pyproject,
        files,
    })
}

fn list(root: &Path, folder: &str, depth: usize, files: &mut BTreeSet<String>) -> Result<()> {
    let path = root.join(folder);
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(_) if !folder.is_empty() => return Ok(()),
        Err(error) => return Err(CliError::io("read", path)(error)),
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(kind) = entry.file_type() else { continue };
        if files.len() >= MOST_FILES {
            break;
        }
        let relative = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if kind.is_file() {
            files.insert(relative);
        } else if kind.is_dir() && depth > 1 && !name.starts_with('.') && !SKIPPED_FOLDERS.contains(&name.as_str()) {
            list(root, &relative, depth - 1, files)?;
        }
    }
    Ok(())
}
