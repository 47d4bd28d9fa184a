//! From settings to a Dockerfile and its arguments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_config::{Jobs, Mode, PlatformSettings, Program, Recipe, Requirements, Toggle};

use crate::error::{CliError, Result};

const ALPINE: &str = include_str!("../../../dockerfiles/alpine.Dockerfile");
const DEBIAN: &str = include_str!("../../../dockerfiles/debian.Dockerfile");
const TEST: &str = include_str!("../../../dockerfiles/test.Dockerfile");
const PACKAGE: &str = include_str!("../../../dockerfiles/package.Dockerfile");
const CROSS: &str = include_str!("../../../dockerfiles/cross.Dockerfile");
const BINFMT: &str = include_str!("../../../dockerfiles/binfmt.Dockerfile");

/// The line in the opening comment of a Dockerfile by which kiln treats it as a recipe: fills its arguments, builds its
/// stage `export`, examines and tries the result.
const MARK: &str = "# kiln: recipe";

/// A Dockerfile to build.
#[derive(Clone)]
pub(crate) struct Source {
    /// Its name, for messages.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
    /// Where it lies, if it is the user's own.
    pub(crate) path: Option<PathBuf>,
    /// Whether it is a recipe: kiln's, or one that was written out for editing.
    pub(crate) is_recipe: bool,
}

/// The text of a recipe.
pub(crate) fn source(recipe: &Recipe, folder: &Path) -> Result<Source> {
    let built_in = |name: &str, text: &str| Source {
        name: format!("{name} recipe"),
        text: text.to_owned(),
        path: None,
        is_recipe: true,
    };
    Ok(match recipe {
        Recipe::Alpine => built_in("alpine", ALPINE),
        Recipe::Debian => built_in("debian", DEBIAN),
        Recipe::Dockerfile(path) => {
            let path = folder.join(path);
            let bytes = fs_err::read(&path).map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => CliError::Missing {
                    problem: format!("the Dockerfile {} does not exist", path.display()),
                    hint: "check --file, or `[build] recipe`".to_owned(),
                },
                _ => CliError::io("read", &path)(source),
            })?;
            let name = crate::project::shown(&path).display().to_string();
            let text = match String::from_utf8(bytes) {
                Ok(text) => text,
                // Comments may be in any encoding; anything else is refused with its place.
                Err(error) => {
                    kiln_dockerfile::parse_bytes(&name, error.as_bytes())?;
                    String::from_utf8_lossy(error.as_bytes()).into_owned()
                }
            };
            let is_recipe = text.lines().take_while(|line| line.starts_with('#')).any(|line| line == MARK);
            Source { name, text, path: Some(path), is_recipe }
        }
    })
}

/// A built-in recipe's text for editing. The mark keeps it a recipe.
pub(crate) fn ejected(recipe: &Recipe, folder: &Path) -> Result<String> {
    Ok(format!("{MARK}\n{}", source(recipe, folder)?.text))
}

/// The Dockerfile of the image that brings kiln's emulators.
pub(crate) fn binfmt() -> Source {
    Source { name: "binfmt recipe".to_owned(), text: BINFMT.to_owned(), path: None, is_recipe: true }
}

/// The Dockerfile of the compilers for emulated platforms.
pub(crate) fn cross() -> Source {
    Source { name: "cross recipe".to_owned(), text: CROSS.to_owned(), path: None, is_recipe: true }
}

/// The Dockerfile of the project's own tests.
pub(crate) fn test() -> Source {
    Source { name: "test recipe".to_owned(), text: TEST.to_owned(), path: None, is_recipe: true }
}

/// The beginning of the Dockerfile of a program's image.
pub(crate) fn package() -> Source {
    Source { name: "package recipe".to_owned(), text: PACKAGE.to_owned(), path: None, is_recipe: false }
}

/// The variable by which a base image says that it brings the compilers; `dockerfiles/README.md` has the contract.
pub(crate) const TOOLCHAIN: &str = "KILN_TOOLCHAIN";

/// The limit of a compiler cache, as ccache reads it. It is no part of a key: another limit makes no other program.
pub(crate) fn ccache_limit(cache: &kiln_config::Cache) -> (String, String) {
    ("CCACHE_MAXSIZE".to_owned(), format!("{}k", cache.max_size.0.div_ceil(1000)))
}

/// The stage that a recipe's result is in.
pub(crate) const EXPORT: &str = "export";

/// Parallel compilers where the user leaves it to kiln: the daemon's processors, shared by the platforms of the project,
/// and one more each, because platforms wait for each other at times. It depends on the settings and the machine only,
/// not on which platforms this run builds, because under LTO it enters the compiler cache's keys.
pub(crate) fn auto_jobs(cpus: u32, platforms: usize) -> u32 {
    let platforms = u32::try_from(platforms.max(1)).unwrap_or(u32::MAX);
    (cpus.div_ceil(platforms) + u32::from(platforms > 1)).clamp(1, cpus.max(1))
}

/// The number of parallel compilers for a platform.
pub(crate) fn jobs(settings: &PlatformSettings, auto: u32) -> u32 {
    match settings.nuitka.jobs {
        Jobs::Auto => auto,
        Jobs::Count(count) => u32::from(count.get()),
    }
}

/// The arguments of the built-in recipes. Lists hold one item per line; README.md in `dockerfiles/` has the contract.
pub(crate) fn arguments(
    settings: &PlatformSettings,
    folder: &Path,
    auto_jobs: u32,
) -> Result<BTreeMap<String, String>> {
    let mut args = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        if !value.is_empty() {
            args.insert(name.to_owned(), value);
        }
    };
    let toggle = |toggle: Toggle| match toggle {
        Toggle::Auto => "auto",
        Toggle::Yes => "yes",
        Toggle::No => "no",
    };
    let (project, nuitka, build, network) = (&settings.project, &settings.nuitka, &settings.build, &settings.network);
    set("BASE", build.base.clone().or_else(|| build.recipe.default_base().map(Into::into)).unwrap_or_default());
    set("PYTHON", project.python.clone().unwrap_or_default());
    set("PACKAGES", build.packages.join(" "));
    set("APT_MIRROR", network.apt_mirror.clone().unwrap_or_default());
    set("APK_MIRROR", network.apk_mirror.clone().unwrap_or_default());
    set("PIP_ARGS", network.pip_args.join("\n"));
    set("NUITKA_VERSION", nuitka.version.clone().unwrap_or_default());
    match &project.requirements {
        Requirements::None => {}
        Requirements::File(path) => {
            set("REQUIREMENTS", path.clone());
            set("REQUIREMENTS_ALSO", neighbours(folder, path)?);
        }
        Requirements::List(list) => set("REQUIRES", list.join("\n")),
    }
    match &project.program {
        Some(Program::Entry(path)) => set("ENTRY", path.clone()),
        Some(Program::Module(module)) => set("MODULE", module.clone()),
        None => {}
    }
    set("OUTPUT", settings.artifact.clone());
    set("MODE", if nuitka.mode == Mode::Standalone { "standalone" } else { "onefile" }.to_owned());
    set("LTO", if settings.lto.enabled { "yes" } else { "no" }.to_owned());
    set("JOBS", jobs(settings, auto_jobs).to_string());
    set("STATIC_LIBPYTHON", toggle(nuitka.static_libpython).to_owned());
    set("PLUGINS", nuitka.plugins.join("\n"));
    let data: Vec<String> = project.data.iter().map(|d| format!("{}={}", d.source, d.target)).collect();
    set("DATA", data.join("\n"));
    set("ICON", project.icon.clone().unwrap_or_default());
    let compression = match nuitka.compression {
        Toggle::Auto => "auto",
        Toggle::Yes => "best",
        Toggle::No => "none",
    };
    set("COMPRESSION", compression.to_owned());
    set("EXTRA_ARGS", nuitka.extra_args.join("\n"));
    set("BEFORE_BUILD", build.before_build.join("\n"));
    args.extend(build.args.clone());
    Ok(args)
}

/// A pattern for the files that a requirements file refers to with `-r` or `-c`: they lie beside it.
pub(crate) fn neighbours(folder: &Path, path: &str) -> Result<String> {
    let file = folder.join(path);
    let text = fs_err::read_to_string(&file).map_err(CliError::io("read", &file))?;
    let refers = text.lines().any(|line| {
        let line = line.trim_start();
        ["-r", "-c", "--requirement", "--constraint"].iter().any(|option| line.starts_with(option))
    });
    let parent = path.rsplit_once('/').map_or(String::new(), |(parent, _)| format!("{parent}/"));
    Ok(if refers { format!("{parent}*.txt") } else { String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_part_of_the_recipes_is_the_same() {
        let common =
            |text: &'static str| text.split_once("# From this line to the end all recipes are the same").map(|t| t.1);
        assert!(common(ALPINE).is_some());
        assert_eq!(common(ALPINE), common(DEBIAN));
    }

    #[test]
    fn jobs_are_shared_fairly_and_never_exceed_the_machine() {
        for (cpus, platforms, jobs) in [(1, 3, 1), (2, 1, 2), (2, 3, 2), (4, 3, 3), (16, 3, 7), (16, 1, 16), (0, 0, 1)]
        {
            assert_eq!(auto_jobs(cpus, platforms), jobs, "{cpus} processors, {platforms} platforms");
        }
    }
}
