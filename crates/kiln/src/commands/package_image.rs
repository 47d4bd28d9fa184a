//! `kiln package-image`: what `kiln package --format image` does, alone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cli;
use crate::commands::run::{Surroundings, told};
use crate::environment::Environment;
use crate::error::Result;
use crate::output;
use crate::package::image::{self, Request, To};
use crate::project;
use crate::ui::Ui;

pub(crate) async fn run(
    ui: Ui,
    environment: &Environment,
    global: &cli::Global,
    args: &cli::PackageImage,
) -> Result<()> {
    let surroundings = Surroundings::new(ui, environment, (global, &args.show), "package");
    let attempt = async move {
        let project = project::load(environment, &args.project, Vec::new())?;
        ui.warnings(&project.warnings);
        let settings = project.config.resolved();
        let output = project.folder.join(&settings.build.output);
        let program = |platform: &kiln_graph::Platform| {
            (*platform, output.join(&project.config.for_platform(*platform).artifact))
        };
        let mut image = settings.release.image;
        image.base = args.base.clone().or(image.base);
        if !args.tags.is_empty() {
            image.tags.clone_from(&args.tags);
        }
        let epoch = environment.get(output::EPOCH).map(|value| (output::EPOCH.to_owned(), value.to_owned()));
        let request = Request {
            programs: settings.build.platforms.iter().map(program).collect(),
            name: settings.project.name,
            version: settings.project.version,
            image,
            labels: BTreeMap::new(),
            epoch: output::epoch(&epoch.into_iter().collect())?.unwrap_or_default(),
            to: to(args)?,
        };
        Box::pin(image::make(surroundings, project, &request)).await.map(drop)
    };
    told(ui, Box::pin(attempt)).await
}

/// What becomes of the image; on the daemon, if nobody says.
fn to(args: &cli::PackageImage) -> Result<Vec<To>> {
    let mut to = Vec::new();
    for path in &args.output {
        let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let path: PathBuf = std::path::absolute(path).map_err(crate::error::CliError::io("find", path))?;
        to.push(if is_folder { To::Folder(path) } else { To::Archive(path) });
    }
    if args.push {
        to.push(To::Registry);
    }
    if args.load || to.is_empty() {
        to.push(To::Daemon);
    }
    Ok(to)
}
