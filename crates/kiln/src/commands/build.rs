//! `kiln build`.

use std::path::Path;

use kiln_config::FlagValue;

use crate::commands::call;
use crate::commands::run::{Surroundings, run as run_job, told};
use crate::commands::watch::{self, Known};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::job::Job;
use crate::project::{self, Flag};
use crate::sources::prepare::{Written, prepare};
use crate::ui::Ui;
use crate::{cli, metadata, output};

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Build) -> Result<()> {
    if args.watch {
        return watch::run(ui, environment, global, args).await;
    }
    once(Surroundings::new(ui, environment, (global, &args.show), "build"), args, None).await
}

/// Builds. `known` is told what the build reads.
pub(super) async fn once(surroundings: Surroundings<'_>, args: &cli::Build, known: Option<&Known>) -> Result<()> {
    let call = call::asked(args.check, args.call.as_deref())?;
    let (ui, environment, global) = (surroundings.ui, surroundings.environment, surroundings.global);
    let attempt = async move {
        // Held to the end: it removes what was brought in.
        let prepared = prepare(environment, args, Written::AsNamed, &surroundings.events, &surroundings.cancel).await?;
        let args = &prepared.args;
        let project = project::load_prepared(environment, &prepared, flags(args)?)?;
        ui.warnings(&project.warnings);
        let mut job = Job::of_project(environment, &prepared, project)?;
        if let Some(known) = known {
            known.set(job.inputs()?);
        }
        if let Some(call) = call {
            return call::answer(ui, environment, global, &job, call).await;
        }
        let outcome = run_job(surroundings, &mut job).await?;
        match &args.iidfile {
            Some(file) => metadata::write_id(file, outcome.published.first().and_then(Option::as_ref)),
            None => Ok(()),
        }
    };
    told(ui, Box::pin(attempt)).await
}

/// Options of the command that are settings.
pub(super) fn flags(args: &cli::Build) -> Result<Vec<Flag>> {
    let mut flags: Vec<Flag> = Vec::new();
    let mut text = |option: &str, key: &str, value: Option<String>| {
        if let Some(value) = value {
            flags.push((option.to_owned(), key.to_owned(), FlagValue::from(value)));
        }
    };
    let absolute = |path: &Path| std::path::absolute(path).map(|p| p.display().to_string());
    if let Some(file) = &args.file {
        if !file.exists() {
            return Err(CliError::Missing {
                problem: format!("the Dockerfile {} does not exist", file.display()),
                hint: "--file names one, relative to the current folder".to_owned(),
            });
        }
        text("--file", "build.recipe", Some(absolute(file).map_err(CliError::io("find", file))?));
    }
    text("--target", "build.target", args.target.clone());
    text("--jobs", "nuitka.jobs", args.jobs.clone());
    text("--lto", "nuitka.lto", args.lto.clone());
    text("--twin", "emulation.twin", args.schedule.twin.clone());
    if let Some(folder) = output::folder(args)? {
        text("--output", "build.output", Some(absolute(&folder).map_err(CliError::io("find", &folder))?));
    }
    if args.no_verify {
        text("--no-verify", "verify.run", Some("false".to_owned()));
    }
    Ok(flags)
}
