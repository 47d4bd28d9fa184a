//! The part of an image's configuration that a build reads and writes. Source: OCI image-spec `config.md`, plus
//! Docker's own fields (`Healthcheck`, `OnBuild`, `Shell`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::VertexId;

/// How the container's health is tested.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// Time between checks, in nanoseconds.
    pub interval: Option<i64>,
    /// Time one check may take, in nanoseconds.
    pub timeout: Option<i64>,
    /// Time the container gets to start, in nanoseconds.
    pub start_period: Option<i64>,
    /// Time between checks while it starts, in nanoseconds.
    pub start_interval: Option<i64>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<i64>,
}

/// What one instruction did, as `docker history` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The instruction, in BuildKit's words: `RUN /bin/sh -c make # buildkit`.
    pub created_by: String,
    /// The vertex that changes files; none where only the configuration changes.
    pub vertex: Option<VertexId>,
}

/// The configuration of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Environment in the order in which it was set; names are unique.
    pub env: Vec<(String, String)>,
    /// Default arguments, or the command if there is no entrypoint.
    pub cmd: Option<Vec<String>>,
    /// The program to run.
    pub entrypoint: Option<Vec<String>>,
    /// `user[:group]`; empty means root.
    pub user: String,
    /// Working folder; empty means `/`.
    pub working_dir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `port/protocol`, sorted.
    pub exposed_ports: Vec<String>,
    /// Mount points of anonymous volumes.
    pub volumes: Vec<String>,
    /// Signal that stops the container.
    pub stop_signal: Option<String>,
    /// Health check.
    pub healthcheck: Option<Healthcheck>,
    /// Shell of the shell form; none means `["/bin/sh", "-c"]`.
    pub shell: Option<Vec<String>>,
    /// Instructions that run in a build based on this image.
    pub on_build: Vec<String>,
    /// `MAINTAINER`.
    pub author: Option<String>,
    /// Whether a `CMD` was given, which BuildKit notes as `ArgsEscaped`.
    #[serde(default)]
    pub args_escaped: bool,
    /// The instructions since the base image, in order. Empty for images that come from a daemon.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
}

impl ImageConfig {
    /// The value of an environment variable.
    pub fn env_value(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Sets an environment variable: in its place if it exists, else at the end.
    pub fn set_env(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.env.iter_mut().find(|(n, _)| n == name) {
            Some(slot) => slot.1 = value,
            None => self.env.push((name.to_owned(), value)),
        }
    }
}
