//! `kiln build --check`: what could be written better in the Dockerfiles of a build. Runs nothing.

use std::sync::Arc;

use kiln_docker::{Engine, PullPolicy};
use kiln_dockerfile::{BaseImage, Checked, Options, ResolvedImage, ResolvedImages};
use kiln_graph::{Arch, Platform};
use serde_json::json;

use crate::checks::{self, Noted};
use crate::cli;
use crate::commands::build::flags;
use crate::environment::Environment;
use crate::error::{CliError, Result, exit};
use crate::job::Job;
use crate::lower::Wanted;
use crate::ui::Ui;
use crate::{context, project, session};

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Whether the command line asks for a check instead of a build.
pub(crate) fn asked(args: &cli::Build) -> Result<Option<Format>> {
    let Some(call) = &args.call else { return Ok(args.check.then_some(Format::Text)) };
    let unknown = |part: &str| CliError::Usage {
        problem: format!("--call `{call}`: `{part}` is not known"),
        hint: "write --call=build, --call=check or --call=check,format=json".to_owned(),
    };
    let mut parts = call.split(',');
    let method = parts.next().unwrap_or_default();
    let mut format = Format::Text;
    for part in parts {
        format = match part {
            "format=text" => Format::Text,
            "format=json" => Format::Json,
            other => return Err(unknown(other)),
        };
    }
    match method {
        "build" | "" => Ok(None),
        "check" | "lint" => Ok(Some(format)),
        other => Err(unknown(other)),
    }
}

pub(crate) async fn run(
    ui: Ui,
    environment: &Environment,
    global: &cli::Global,
    args: &cli::Build,
    format: Format,
) -> Result<()> {
    let project = project::load(environment, &args.project, flags(args)?)?;
    ui.warnings(&project.warnings);
    let folder = project.folder.clone();
    let job = Job::new(environment, args, project)?;
    let (sources, wanted) = (job.sources()?, job.wanted(1)?);
    let mut daemon = Daemon { environment, global, engine: None, asked: false };
    let mut noted: Vec<(usize, Noted)> = Vec::new();
    let (mut error, mut unknown) = (None, Vec::new());
    for (index, (source, wanted)) in sources.iter().zip(&wanted).enumerate() {
        if source.path.is_none() {
            continue;
        }
        let mut options = Options::new(Platform::linux(this_arch()));
        options.build_args.clone_from(&wanted.args);
        options.ignore = context::find(&folder, source.path.as_deref())?.map(|(ignore, _)| ignore);
        let checked = daemon.check(wanted, &options).await;
        if checked.is_uncertain() {
            unknown.extend(checked.assumed);
        }
        error = error.or(checked.error);
        for warning in checked.warnings {
            let warning = (source.name.clone(), warning);
            if noted.iter().all(|(_, known)| *known != warning) {
                noted.push((index, warning));
            }
        }
    }
    match format {
        Format::Json => {
            let warnings: Vec<_> = noted.iter().map(|(_, (file, warning))| checks::value(file, warning)).collect();
            let mut value = json!({ "warnings": warnings });
            if let Some(error) = &error {
                let line =
                    error.span.map(|span| json!({ "start": { "line": span.line }, "end": { "line": span.end_line } }));
                let ranges: Vec<_> = line.into_iter().collect();
                value["buildError"] = json!({ "message": error.to_string(), "location": { "ranges": ranges } });
            }
            ui.print(&format!("{value:#}\n"));
        }
        Format::Text => {
            for (index, (file, warning)) in &noted {
                ui.print(&format!("{}\n", checks::text(file, &sources[*index].text, warning)));
            }
            ui.print(&match noted.len() {
                0 => "no warnings\n".to_owned(),
                1 => "1 warning\n".to_owned(),
                count => format!("{count} warnings\n"),
            });
        }
    }
    if checks::is_annotated(environment) {
        // Standard output is for machines if it is JSON; the service reads both streams.
        for (_, (file, warning)) in &noted {
            ui.say(&checks::annotation(file, warning));
        }
    }
    unknown.sort();
    unknown.dedup();
    for image in unknown {
        ui.say(&format!("note: {} is not on a daemon here: what it sets is not known", image.reference));
    }
    match error {
        Some(error) => Err(error.into()),
        None if noted.is_empty() => Ok(()),
        None => Err(CliError::Shown { code: exit::STEP }),
    }
}

/// The daemon, asked only if an answer depends on it.
struct Daemon<'a> {
    environment: &'a Environment,
    global: &'a cli::Global,
    engine: Option<Arc<dyn Engine>>,
    asked: bool,
}

impl Daemon<'_> {
    /// Checks a file; where variables of base images matter, with those images that the daemon has.
    async fn check(&mut self, wanted: &Wanted, options: &Options) -> Checked {
        let mut images = ResolvedImages::new();
        loop {
            let checked = wanted.dockerfile.check_all(options, wanted.platform, &images);
            if !checked.is_uncertain() {
                return checked;
            }
            let mut found = false;
            for image in &checked.assumed {
                if let Some(resolved) = self.find(image).await {
                    images.insert(image.clone(), resolved);
                    found = true;
                }
            }
            if !found {
                return checked;
            }
        }
    }

    async fn find(&mut self, image: &BaseImage) -> Option<ResolvedImage> {
        if !std::mem::replace(&mut self.asked, true) {
            self.engine = session::connect(self.environment, self.global).await.ok();
        }
        let engine = self.engine.as_ref()?;
        let found = engine.resolve_image(&image.reference, image.platform, PullPolicy::Never, &|_| {}).await.ok()?;
        Some(ResolvedImage { id: found.id.0, config: found.config })
    }
}

/// The architecture of this machine, which a daemon most likely has, too.
fn this_arch() -> Arch {
    match std::env::consts::ARCH {
        "aarch64" => Arch::Arm64,
        _ => Arch::Amd64,
    }
}
