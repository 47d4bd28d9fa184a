//! A project as the command line finds it: folder, facts, settings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kiln_config::{Config, FlagValue, Layer, Loaded, ProjectFacts, SKIPPED_FOLDERS, Warning, pyproject};
use kiln_graph::Digest;

use crate::cli;
use crate::environment::Environment;
use crate::error::{CliError, Result};

/// Folder levels that are looked at for facts.
const DEPTH: usize = 4;
/// Files that are looked at for facts; a project with more is not told apart by them any better.
const MOST_FILES: usize = 5_000;

/// A project with its settings.
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

/// Reads a project's settings. `more` are settings that other options of the command stand for.
pub(crate) fn load(environment: &Environment, args: &cli::Project, more: Vec<(String, FlagValue)>) -> Result<Project> {
    let folder = fs_err::canonicalize(&args.path).map_err(|source| CliError::Missing {
        problem: format!("no project folder {}: {}", args.path.display(), source.kind()),
        hint: "name the folder of your project".to_owned(),
    })?;
    if !folder.is_dir() {
        return Err(CliError::Missing {
            problem: format!("{} is no folder", args.path.display()),
            hint: "name the folder; --entry names the file".to_owned(),
        });
    }
    let facts = facts(&folder)?;
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
    let ignored = ["KILN_LOG", "KILN_CONFIG", "KILN_HOME", "KILN_CACHE_DIR", "KILN_TEST*", "KILN_PEER*", "KILN_BENCH*"];
    layers.push(Layer::env(environment.variables.iter().cloned()).ignoring(&ignored));
    let without_flags = Config::load(layers.clone(), &facts)?;
    let platforms_configured = without_flags.config.resolved().build.platforms.len();
    layers.push(Layer::flags(flags(args).into_iter().chain(more)));
    let Loaded { config, warnings } = Config::load(layers, &facts)?;
    Ok(Project { folder, facts, config, platforms_configured, warnings, file })
}

fn flags(args: &cli::Project) -> Vec<(String, FlagValue)> {
    let mut flags: Vec<(String, FlagValue)> = Vec::new();
    let mut text = |key: &str, value: &Option<String>| {
        if let Some(value) = value {
            flags.push((key.to_owned(), FlagValue::from(value.as_str())));
        }
    };
    text("project.entry", &args.entry);
    text("project.module", &args.module);
    text("project.name", &args.name);
    text("project.requirements", &args.requirements);
    text("build.recipe", &args.recipe);
    if !args.platforms.is_empty() {
        flags.push(("build.platforms".to_owned(), FlagValue::from(args.platforms.clone())));
    }
    flags.extend(args.set.iter().map(|(key, value)| (key.clone(), FlagValue::from(value.as_str()))));
    flags
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
        Err(error) => Err(CliError::io("read", path)(error)),
    }
}

/// Looks at the folder for what settings can follow from.
pub(crate) fn facts(folder: &Path) -> Result<ProjectFacts> {
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
