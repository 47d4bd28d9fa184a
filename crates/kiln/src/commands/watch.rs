//! `kiln build --watch`: builds again whenever something that the build reads has changed.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_solver::Cancel;

use super::build;
use super::run::Surroundings;
use crate::environment::Environment;
use crate::error::{CliError, Result, exit};
use crate::ui::Ui;
use crate::watch::{Inputs, Watch};
use crate::{cli, project, session};

/// What the running build reads, once that is known.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<Mutex<Inputs>>);

impl Known {
    pub(super) fn set(&self, inputs: Inputs) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = inputs;
    }

    fn get(&self) -> Inputs {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Builds, and builds again, until the user has enough of it.
pub(super) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Build) -> Result<()> {
    if args.project.path == Path::new("-") || args.file.as_deref() == Some(Path::new("-")) {
        return Err(CliError::Usage {
            problem: "standard input cannot be watched".to_owned(),
            hint: "--watch needs a project folder and a Dockerfile in a file".to_owned(),
        });
    }
    let folder = project::folder(&args.project.path)?;
    let known = Known::default();
    known.set(Inputs::of(&folder));
    let mut watch = Watch::new()?;
    watch.follow(&known.get())?;
    let session = Cancel::new();
    session::stop_on_signals(session.clone(), None);
    loop {
        let surroundings = Surroundings::within(&session, ui, environment, (global, &args.show), "build");
        let cancel = surroundings.cancel.clone();
        let mut attempt = Box::pin(build::once(surroundings, args, Some(&known)));
        let mut changed = None;
        let result = loop {
            tokio::select! {
                result = &mut attempt => break result,
                change = watch.change(|| known.get()), if changed.is_none() => {
                    let change = change?;
                    ui.say(&format!("{} changed: this build is stopped", shown(&folder, &change)));
                    cancel.stop();
                    changed = Some(change);
                }
            }
        };
        drop(attempt);
        if session.is_stopped() {
            return Err(CliError::Shown { code: exit::CANCELLED });
        }
        if let (Err(error), None) = (&result, &changed) {
            ui.error(error);
        }
        watch.follow(&known.get())?;
        if changed.is_none() {
            ui.say("waiting for changes; Ctrl-C ends it");
            tokio::select! {
                () = session.stopped() => return Err(CliError::Shown { code: exit::CANCELLED }),
                change = watch.change(|| known.get()) => {
                    ui.say(&format!("\n{} changed: building again", shown(&folder, &change?)));
                }
            }
        }
    }
}

fn shown(folder: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(folder).unwrap_or(path);
    if inside.as_os_str().is_empty() { "something".to_owned() } else { inside.display().to_string() }
}
