//! `--check`: what could be written better in the Dockerfiles of a build. Runs nothing.

use std::sync::Arc;

use kiln_docker::{Engine, PullPolicy};
use kiln_dockerfile::{BaseImage, Checked, Options, ResolvedImage, ResolvedImages};
use kiln_graph::{Arch, Platform};
use serde_json::{Value, json};

use crate::checks::{self, Noted};
use crate::cli;
use crate::environment::Environment;
use crate::error::Result;
use crate::job::{Item, counted};
use crate::lower::Wanted;
use crate::ui::Ui;
use crate::{recipe, session};

/// What was found in the Dockerfiles of one item.
pub(super) struct Findings {
    sources: Vec<recipe::Source>,
    /// Warnings with the index of their source.
    noted: Vec<(usize, Noted)>,
    /// What keeps it from being built.
    pub(super) error: Option<kiln_dockerfile::Error>,
    /// Images whose variables would matter, and are not known.
    unknown: Vec<BaseImage>,
}

/// Looks at the Dockerfiles of an item.
pub(super) async fn find(daemon: &mut Daemon<'_>, item: &Item) -> Result<Findings> {
    let mut found = Findings { sources: item.sources()?, noted: Vec::new(), error: None, unknown: Vec::new() };
    for (index, (source, wanted)) in found.sources.iter().zip(&item.wanted(1)?).enumerate() {
        if source.path.is_none() {
            continue;
        }
        let mut options = Options::new(Platform::linux(this_arch()));
        options.build_args.clone_from(&wanted.args);
        options.ignore = item.ignore()?;
        let checked = daemon.check(wanted, &options).await;
        if checked.is_uncertain() {
            found.unknown.extend(checked.assumed);
        }
        found.error = found.error.or(checked.error);
        for warning in checked.warnings {
            let warning = (wanted.dockerfile.name.clone(), warning);
            if found.noted.iter().all(|(_, known)| *known != warning) {
                found.noted.push((index, warning));
            }
        }
    }
    found.unknown.sort();
    found.unknown.dedup();
    Ok(found)
}

impl Findings {
    /// Whether there is nothing to say.
    pub(super) fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// As buildx has it for `format=json`.
    pub(super) fn value(&self) -> Value {
        let warnings: Vec<_> = self.noted.iter().map(|(_, (file, warning))| checks::value(file, warning)).collect();
        let mut value = json!({ "warnings": warnings });
        if let Some(error) = &self.error {
            let line =
                error.span.map(|span| json!({ "start": { "line": span.line }, "end": { "line": span.end_line } }));
            let ranges: Vec<_> = line.into_iter().collect();
            value["buildError"] = json!({ "message": error.to_string(), "location": { "ranges": ranges } });
        }
        value
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let shown = |(index, (file, warning)): &(usize, Noted)| {
            format!("{}\n", checks::text(file, &self.sources[*index].text, warning))
        };
        let text: String = self.noted.iter().map(shown).collect();
        let count = self.noted.len();
        text + &if count == 0 { "no warnings\n".to_owned() } else { counted(count, "warning") + "\n" }
    }

    /// What is said beside the result, a line each.
    pub(super) fn remarks(&self) -> Vec<String> {
        let unknown = self.unknown.iter();
        unknown
            .map(|image| format!("note: {} is not on a daemon here: what it sets is not known", image.reference))
            .collect()
    }

    /// The findings as annotations. Standard output is for machines if it is JSON; the service reads both streams.
    pub(super) fn annotate(&self, ui: Ui, environment: &Environment) {
        for (_, (file, warning)) in &self.noted {
            ui.annotate(|| checks::annotation(environment, file, warning));
        }
    }
}

/// The daemon, asked only if an answer depends on it.
pub(super) struct Daemon<'a> {
    environment: &'a Environment,
    global: &'a cli::Global,
    engine: Option<Arc<dyn Engine>>,
    asked: bool,
}

impl<'a> Daemon<'a> {
    pub(super) fn new(environment: &'a Environment, global: &'a cli::Global) -> Self {
        Self { environment, global, engine: None, asked: false }
    }

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
        Some(ResolvedImage { id: found.id.0, config: found.config, digest: None })
    }
}

/// The architecture of this machine, which a daemon most likely has, too.
fn this_arch() -> Arch {
    match std::env::consts::ARCH {
        "aarch64" => Arch::Arm64,
        _ => Arch::Amd64,
    }
}
