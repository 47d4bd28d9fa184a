//! The programs that `kiln build` left, looked at before they are packed.

use std::path::{Path, PathBuf};

use kiln_artifact::check::{self, Expectations, Inspection, Problem};
use kiln_artifact::{ContainedFile, Content};
use kiln_config::PlatformSettings;
use kiln_package::{FolderFile, Need, Program, Shape};
use kiln_solver::SolveError;

use crate::error::{CliError, Result};
use crate::project::{self, Project};

/// The programs of the platforms, in their order.
///
/// Errors: some are not there, or not for their platform.
pub(crate) fn programs(project: &Project) -> Result<Vec<Program>> {
    let settings = project.config.resolved();
    let output = project.folder.join(&settings.build.output);
    let platforms = settings.build.platforms;
    let found: Vec<(PlatformSettings, Option<PathBuf>)> = platforms
        .into_iter()
        .map(|platform| project.config.for_platform(platform))
        .map(|settings| {
            let path = candidates(&output, &settings).into_iter().find(|path| path.exists());
            (settings, path)
        })
        .collect();
    let missing: Vec<String> = found
        .iter()
        .filter(|(_, path)| path.is_none())
        .map(|(settings, _)| {
            format!("{} ({})", project::shown(&output.join(&settings.artifact)).display(), settings.platform)
        })
        .collect();
    if !missing.is_empty() {
        let several = if missing.len() > 1 { "these programs are" } else { "this program is" };
        return Err(CliError::Missing {
            problem: format!("{several} not there: {}", missing.join(", ")),
            hint: "`kiln build` makes them; --platform names those that are to be packed".to_owned(),
        });
    }
    found.into_iter().filter_map(|(settings, path)| Some(program(&settings, &path?))).collect()
}

/// Where the program of a platform may lie: where a recipe's does, and in the folder that a Dockerfile's files go to.
fn candidates(output: &Path, settings: &PlatformSettings) -> [PathBuf; 3] {
    let apart = output.join(settings.platform.folder());
    [output.join(&settings.artifact), apart.join(&settings.artifact), apart.join(&settings.project.name)]
}

fn program(settings: &PlatformSettings, path: &Path) -> Result<Program> {
    let platform = settings.platform;
    let inspection = check::inspect(path).map_err(|error| CliError::io("read", &error.path)(error.source))?;
    let verdict = check::verify(&inspection, platform, &Expectations::default());
    // What was downloaded from a CI service has lost its mode, and gets it back in the package.
    let problems: Vec<String> = verdict
        .problems
        .iter()
        .filter(|problem| !matches!(problem, Problem::NotExecutable { .. }))
        .map(ToString::to_string)
        .collect();
    if !problems.is_empty() {
        return Err(SolveError::BadArtifact { path: project::shown(path), platform, problems, hint: None }.into());
    }
    Ok(Program { platform, source: project::shown(path), shape: shape(path, &inspection), need: Need::of(&inspection) })
}

fn shape(path: &Path, inspection: &Inspection) -> Shape {
    let Some(main) = inspection.program.as_ref().filter(|_| path.is_dir()) else { return Shape::File };
    let file = |file: &ContainedFile| FolderFile {
        name: file.name.clone(),
        executable: file.executable || file.name == main.name,
        link: match &file.content {
            Content::Link { target } => Some(target.clone()),
            _ => None,
        },
    };
    let files = std::iter::once(main).chain(&inspection.files).map(file).collect();
    Shape::Folder { main: main.name.clone(), files }
}
