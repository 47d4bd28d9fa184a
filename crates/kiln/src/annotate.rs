//! Failures as annotations, which a CI service shows beside the lines of the files that they are about.

use kiln_solver::SolveError;

use crate::environment::Environment;
use crate::error::CliError;
use crate::report::brief;
use crate::report::ci::{Level, Spot, annotation};
use crate::ui::Ui;

/// The title where there is no instruction.
const TITLE: &str = "kiln";
/// Characters of an instruction in a title at most.
const MOST_CHARACTERS: usize = 80;

/// The failure of a target.
pub(crate) fn failure(ui: Ui, environment: &Environment, error: &SolveError) {
    ui.annotate(|| {
        let origin = error.origin().filter(|origin| origin.line > 0);
        let spot = origin.and_then(|origin| {
            Some(Spot { file: file(environment, &origin.file)?, lines: Some((origin.line, origin.end_line)) })
        });
        let title = origin.map_or(TITLE.to_owned(), |origin| crate::report::instruction(origin, MOST_CHARACTERS));
        annotation(Level::Error, spot.as_ref(), &title, &brief(error))
    });
}

/// The failure of a command; one that was shown in full already has its annotations.
pub(crate) fn command(ui: Ui, environment: &Environment, error: &CliError) {
    let (name, lines) = match error {
        CliError::Shown { .. } => return,
        CliError::Solve(error) => return failure(ui, environment, error),
        CliError::Dockerfile(error) => {
            (Some(error.file.clone()), error.span.as_ref().map(|span| (span.line, span.end_line)))
        }
        CliError::Config(error) => match error.location() {
            Some(location) => {
                let line = u32::try_from(location.line).unwrap_or_default();
                (Some(location.file.display().to_string()), Some((line, line)))
            }
            None => (None, None),
        },
        _ => (None, None),
    };
    ui.annotate(|| {
        let spot = name.and_then(|name| Some(Spot { file: file(environment, &name)?, lines }));
        let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        annotation(Level::Error, spot.as_ref(), TITLE, &format!("{error}{hint}"))
    });
}

/// A file as the service knows it: relative to the checkout. None if there is no such file, as for built-in recipes.
pub(crate) fn file(environment: &Environment, name: &str) -> Option<String> {
    let path = std::path::absolute(name).ok().filter(|path| path.is_file())?;
    let Some(workspace) = environment.get("GITHUB_WORKSPACE") else { return Some(name.to_owned()) };
    Some(path.strip_prefix(workspace).unwrap_or(&path).display().to_string())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn environment(workspace: Option<&Path>) -> Environment {
        let variable = |path: &Path| ("GITHUB_WORKSPACE".to_owned(), path.display().to_string());
        Environment {
            variables: workspace.map(variable).into_iter().collect(),
            config_folder: PathBuf::new(),
            cache_folder: PathBuf::new(),
            docker_folder: PathBuf::new(),
            config_file: None,
        }
    }

    #[test]
    fn files_are_named_as_the_checkout_has_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("Dockerfile");
        std::fs::write(&path, "FROM scratch\n").expect("a file");
        let name = path.display().to_string();
        let named = |workspace: Option<&Path>| file(&environment(workspace), &name);
        assert_eq!(named(Some(folder.path())).as_deref(), Some("Dockerfile"));
        assert_eq!(named(Some(Path::new("/elsewhere"))), Some(name.clone()));
        assert_eq!(named(None), Some(name.clone()));
        assert_eq!(file(&environment(None), "no such recipe"), None);
    }
}
