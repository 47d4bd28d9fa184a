//! Containers of the fake engine and what they do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kiln_docker::{ContainerSpec, ExitStatus, LogChunk, Result, VolumeSource};
use tokio::sync::{mpsc, watch};

use crate::Files;

/// A command that runs: what a script sees and may change.
pub struct Step<'a> {
    /// How the container was made.
    pub spec: &'a ContainerSpec,
    /// Its file system, mounts left out.
    pub files: &'a mut Files,
    /// Every volume, by name.
    pub volumes: &'a mut BTreeMap<String, Files>,
}

impl Step<'_> {
    /// The command, without the program of kiln's that is the first process where a command is emulated.
    pub fn argv(&self) -> &[String] {
        match self.spec.argv.as_slice() {
            [program, word, argv @ ..] if program.ends_with("/kiln-twin") && word == "first" => argv,
            argv => argv,
        }
    }

    /// The command as one line.
    pub fn line(&self) -> String {
        self.argv().join(" ")
    }

    /// The volume mounted at a path.
    pub fn volume(&mut self, target: &str) -> Option<&mut Files> {
        let mount = self.spec.mounts.iter().find(|mount| mount.target == target)?;
        match &mount.source {
            VolumeSource::Volume(name) => Some(self.volumes.entry(name.clone()).or_default()),
            VolumeSource::Part { .. } | VolumeSource::Host(_) | VolumeSource::Tmpfs(_) => None,
        }
    }
}

/// What a command does.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ends.
    pub exit: ExitStatus,
    /// What it writes.
    pub output: Vec<LogChunk>,
    /// How long it runs, in tokio's time.
    pub takes: Duration,
}

impl Default for Outcome {
    fn default() -> Self {
        Self { exit: ExitStatus { code: 0, oom: false }, output: Vec::new(), takes: Duration::ZERO }
    }
}

impl Outcome {
    /// Ends with a code at once.
    pub fn exit(code: i64) -> Self {
        Self { exit: ExitStatus { code, oom: false }, ..Self::default() }
    }

    /// Writes a text to standard output.
    pub fn out(mut self, text: &str) -> Self {
        self.output.push(LogChunk { stderr: false, bytes: text.to_owned().into() });
        self
    }

    /// Writes a text to standard error.
    pub fn err(mut self, text: &str) -> Self {
        self.output.push(LogChunk { stderr: true, bytes: text.to_owned().into() });
        self
    }

    /// Takes a time.
    pub fn takes(mut self, time: Duration) -> Self {
        self.takes = time;
        self
    }
}

/// A container.
pub(crate) struct FakeContainer {
    /// Held while an archive goes in or out: nothing can be asked of it meanwhile, as of a real one.
    pub(crate) transfer: Arc<tokio::sync::Mutex<()>>,
    pub(crate) spec: ContainerSpec,
    pub(crate) name: String,
    pub(crate) created: i64,
    pub(crate) files: Files,
    /// Where attached readers get the output; dropped when the container ends.
    pub(crate) readers: Vec<mpsc::UnboundedSender<Result<LogChunk>>>,
    pub(crate) state: watch::Sender<State>,
    /// Set to stop it early.
    pub(crate) stop: watch::Sender<Option<i64>>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Running,
    Ended(ExitStatus),
}
