//! `kiln verify`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

use kiln_artifact::examine::Options;
use kiln_artifact::package::Bounds;
use kiln_attest::check::Trust;
use kiln_config::FlagValue;
use kiln_graph::Platform;
use kiln_solver::Cancel;
use serde_json::to_string_pretty;

use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::project::{self, Flag, Project};
use crate::proof::keys;
use crate::ui::Ui;
use crate::verify::{self, Subject, json, proofs, run_on, table};
use crate::{cli, report, session};

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Verify) -> Result<()> {
    let started = Instant::now();
    let platform = args.platform.as_deref().map(parse).transpose()?;
    let wanted = cli::Project {
        path: ".".into(),
        config: args.config.clone(),
        set: args.set.clone(),
        ..cli::Project::default()
    };
    let project = project::load(environment, &wanted, flags(args))?;
    ui.warnings(&project.warnings);
    let trust = keys::trust(&project)?;
    let (mut paths, mut proofs) = (Vec::new(), Vec::new());
    for path in &args.paths {
        let of_path = verify::expand(path)?;
        proofs.extend(proofs::list_in(path));
        let (proof, artifacts): (Vec<_>, Vec<_>) = of_path.into_iter().partition(|path| proofs::is_proof(path));
        proofs.extend(proof);
        paths.extend(artifacts);
    }
    let cancel = Cancel::new();
    session::stop_on_signals(cancel.clone(), None);
    let scratch = tempfile::Builder::new().prefix(&format!("kiln-{}", session::prefix())).tempdir();
    let scratch = scratch.map_err(CliError::io("make", std::env::temp_dir()))?;
    let policy = verify::policy(&project.config.resolved().verify, platform);
    let mut subjects: Vec<Subject> = proofs.iter().map(|path| proofs::subject(path, &paths, &trust, &policy)).collect();
    subjects.extend(examine(&project, paths, platform, &trust, scratch.path().to_owned(), &cancel).await?);
    let images = &project.config.resolved().verify.run_on;
    if !images.is_empty() {
        let run = run_on::Wanted {
            images,
            may_install: !args.no_install_emulation,
            scratch: scratch.path(),
            cancel: &cancel,
        };
        run_on::run(ui, environment, global, &project, &run, &mut subjects).await?;
    }
    let code = verify::exit_code(&subjects);
    if args.json {
        let text = to_string_pretty(&json::render(&subjects, code)).expect("all of it can be JSON");
        ui.print(&format!("{text}\n"));
    } else {
        let color = ui.color && std::io::stdout().is_terminal();
        ui.print(&table::render(&subjects, report::columns(), color, global.verbose > 0));
        ui.say(&format!("{} ({:.1} s)", verify::summary(&subjects), started.elapsed().as_secs_f64()));
    }
    match code {
        0 => Ok(()),
        code => Err(CliError::Shown { code }),
    }
}

/// Looks at one artifact after the other, aside, so that a wish to stop is heard.
async fn examine(
    project: &Project,
    paths: Vec<PathBuf>,
    platform: Option<Platform>,
    trust: &Trust,
    scratch: PathBuf,
    cancel: &Cancel,
) -> Result<Vec<Subject>> {
    let options = Options { bounds: Bounds::default(), scratch };
    let mut subjects = Vec::new();
    for path in paths {
        let (config, options, trust) = (project.config.clone(), options.clone(), trust.clone());
        let work = tokio::task::spawn_blocking(move || {
            let own = |platform: Option<Platform>| match platform {
                Some(platform) => config.for_platform(platform),
                None => config.for_platform(config.resolved().build.platforms[0]),
            };
            verify::check(&path, &options, platform, &own, &[&|path| proofs::beside(path, &trust)])
        });
        let found = cancel.unless_stopped(work).await?;
        // A panic there is one here.
        subjects.extend(found.expect("examining does not panic")?);
    }
    Ok(subjects)
}

fn parse(text: &str) -> Result<Platform> {
    text.parse().map_err(|error: kiln_graph::PlatformError| CliError::Usage {
        problem: format!("--platform: {error}"),
        hint: error.hint(),
    })
}

/// The options that are settings.
fn flags(args: &cli::Verify) -> Vec<Flag> {
    let mut flags: Vec<Flag> = Vec::new();
    if let Some(version) = &args.glibc_max {
        flags.push(("--glibc-max".to_owned(), "verify.glibc-max".to_owned(), FlagValue::from(version.as_str())));
    }
    for (option, list) in [("allow", &args.allow), ("deny", &args.deny), ("run-on", &args.run_on)] {
        if !list.is_empty() {
            flags.push((format!("--{option}"), format!("verify.{option}"), FlagValue::from(list.clone())));
        }
    }
    if !args.keys.is_empty() {
        flags.push(("--key".to_owned(), "release.trusted-keys".to_owned(), FlagValue::from(args.keys.clone())));
    }
    flags
}
