//! Which files of a project a build can see.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_dockerfile::Ignore;
use kiln_solver::context::Filter;

use crate::error::{CliError, Result};
use crate::project::shown;

/// Left out of a recipe's context where the project has no `.dockerignore`: what is never part of a program, and changes
/// all the time.
const NEVER_PROGRAM: &str = "\
.git\n.hg\n.svn\n.github\n.gitlab\n.idea\n.vscode\n**/.DS_Store\n\
**/__pycache__\n**/*.py[cod]\n**/.mypy_cache\n**/.pytest_cache\n**/.ruff_cache\n**/.tox\n**/.nox\n**/.coverage\n\
.venv\nvenv\n**/*.egg-info\n**/node_modules\n.kiln\n";

/// Ignore rules of the project and of kiln.
struct Rules {
    project: Ignore,
    /// The file that `project` was read from; none if the rules are kiln's.
    file: Option<PathBuf>,
    own: Ignore,
}

impl Filter for Rules {
    fn excluded(&self, path: &str) -> bool {
        self.own.excluded(path) || self.project.excluded(path)
    }

    fn rule(&self, path: &str) -> Option<String> {
        if self.own.excluded(path) {
            return Some("kiln leaves it out: it is a file of kiln's own".to_owned());
        }
        let line = self.project.line_that_excludes(path)?;
        Some(match &self.file {
            Some(file) => format!("{}:{line} leaves it out; add `!{path}` at its end", shown(file).display()),
            None => "kiln leaves it out where there is no .dockerignore: write one".to_owned(),
        })
    }

    fn descends(&self, folder: &str) -> bool {
        !self.own.excluded(folder) && (!self.project.excluded(folder) || self.project.enter_dir(folder))
    }
}

/// The filter for a build of `folder` by the file `dockerfile`. `hidden` are paths in it that are never part of the context:
/// kiln's own state, and for recipes the output and the settings, whose changes must not look like changes of the program.
pub(crate) fn filter(
    folder: &Path,
    dockerfile: Option<&Path>,
    is_recipe: bool,
    hidden: &[String],
) -> Result<Arc<dyn Filter>> {
    let project = find(folder, dockerfile)?;
    let built_in = |text: &str| Ignore::parse(text).expect("the built-in patterns are valid");
    let (project, file) = match project {
        Some((ignore, path)) => (ignore, Some(path)),
        None if is_recipe => (built_in(NEVER_PROGRAM), None),
        None => (Ignore::default(), None),
    };
    let own = hidden.iter().map(|path| escaped(path)).collect::<Vec<_>>().join("\n");
    Ok(Arc::new(Rules { project, file, own: built_in(&own) }))
}

/// The ignore file for a Dockerfile and a context: the Dockerfile's own, else the context's.
pub(crate) fn find(folder: &Path, dockerfile: Option<&Path>) -> Result<Option<(Ignore, PathBuf)>> {
    let specific = dockerfile.map(own_ignore_file);
    for path in specific.into_iter().chain([folder.join(".dockerignore")]) {
        match fs_err::read(&path) {
            Ok(bytes) => {
                let ignore =
                    Ignore::parse_bytes(&bytes).map_err(|error| CliError::Ignore { path: path.clone(), error })?;
                return Ok(Some((ignore, path)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(CliError::io("read", path)(error)),
        }
    }
    Ok(None)
}

/// The ignore file of one Dockerfile.
pub(crate) fn own_ignore_file(dockerfile: &Path) -> PathBuf {
    let mut name = dockerfile.as_os_str().to_owned();
    name.push(".dockerignore");
    PathBuf::from(name)
}

/// A path as a pattern that matches only it.
fn escaped(path: &str) -> String {
    path.chars().flat_map(|c| if "*?[]\\!#".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_outputs_and_settings_are_not_context() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let filter = filter(dir.path(), None, true, &["dist".into(), "kiln.toml".into()]).expect("filter");
        for path in ["dist", "kiln.toml", ".git", "a/__pycache__", "a/b.pyc", ".venv"] {
            assert!(filter.excluded(path), "{path}");
        }
        for path in ["main.py", "a/dist", "a/kiln.toml", "requirements.txt"] {
            assert!(!filter.excluded(path), "{path}");
        }
    }

    #[test]
    fn the_projects_own_rules_replace_the_built_in_ones_but_not_kilns() {
        let dir = tempfile::tempdir().expect("temporary folder");
        fs_err::write(dir.path().join(".dockerignore"), "*.txt\n!keep.txt\n").expect("write");
        let filter = filter(dir.path(), None, true, &[".kiln".into()]).expect("filter");
        assert!(filter.excluded("a.txt"));
        assert!(!filter.excluded("keep.txt"));
        assert!(!filter.excluded(".git"));
        assert!(filter.excluded(".kiln"));
    }
}
