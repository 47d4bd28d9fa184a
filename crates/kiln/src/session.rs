//! One run of kiln: its id, its connection, the user's wish to stop it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_docker::driver::{BollardEngine, ConnectOptions};
use kiln_docker::{Engine, EngineError, labels, stock, sweep};
use kiln_graph::Digest;
use kiln_solver::{BuildEvent, Cancel};
use tokio::sync::mpsc::WeakSender;

use crate::cli;
use crate::environment::Environment;
use crate::error::Result;

/// Connects to the daemon that the user means.
pub(crate) async fn connect(environment: &Environment, global: &cli::Global) -> Result<Arc<dyn Engine>> {
    Ok(Arc::new(BollardEngine::connect(&options(environment, global)).await?))
}

/// How the daemon that the user means is found.
pub(crate) fn options(environment: &Environment, global: &cli::Global) -> ConnectOptions {
    let get = |name: &str| environment.get(name).map(str::to_owned);
    let mut sockets = Vec::new();
    if let Some(runtime) = environment.get("XDG_RUNTIME_DIR") {
        sockets.push(PathBuf::from(runtime).join("docker.sock"));
    }
    if let Some(home) = environment.get("HOME") {
        sockets.push(PathBuf::from(home).join(".docker/run/docker.sock"));
        sockets.push(PathBuf::from(home).join(".docker/desktop/docker.sock"));
    }
    ConnectOptions {
        host: global.host.clone(),
        context: global.docker_context.clone(),
        env_host: get("DOCKER_HOST"),
        env_context: get("DOCKER_CONTEXT"),
        config_dir: Some(environment.docker_folder.clone()),
        tls_verify: environment.get("DOCKER_TLS_VERIFY").is_some(),
        cert_path: get("DOCKER_CERT_PATH").map(PathBuf::from),
        api_version: get("DOCKER_API_VERSION"),
        sockets,
        container_labels: BTreeMap::from([(labels::OWNER.to_owned(), Host::this().owner())]),
    }
}

/// An id for this run: sortable by time, unique, safe in names.
pub(crate) fn new_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let noise = Digest::of(format!("{} {}", now.as_nanos(), std::process::id())).short();
    format!("{:x}-{}", now.as_secs(), &noise[..6])
}

/// The folder of locks between processes of this machine that use the same daemon.
pub(crate) fn locks(environment: &Environment, engine: &dyn Engine) -> PathBuf {
    environment.cache_folder.join("locks").join(Digest::of(&engine.info().id).short())
}

/// Turns Ctrl-C, SIGTERM and the end of the terminal into a request to stop: once gracefully, twice by force, three times at
/// once. `events` is told, for as long as someone else holds the other end.
pub(crate) fn stop_on_signals(cancel: Cancel, events: impl Into<Option<WeakSender<BuildEvent>>>) {
    use tokio::signal::unix::{SignalKind, signal};
    // Before anything else happens: a signal that comes first would end the process.
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let mut hangup = if ignores_hangup() { None } else { signal(SignalKind::hangup()).ok() };
    let events = events.into();
    tokio::spawn(async move {
        for count in 1.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                Some(()) = async { hangup.as_mut()?.recv().await } => {}
            }
            match count {
                1 => {
                    if let Some(events) = events.as_ref().and_then(WeakSender::upgrade) {
                        let text = "stopping; press Ctrl-C again to stop at once".to_owned();
                        // A reporter that is behind needs no news of this.
                        let _ = events.try_send(BuildEvent::Notice { platform: None, text });
                    }
                    cancel.stop();
                }
                2 => cancel.kill(),
                // Labels let the next run remove what is left behind.
                _ => crate::exit_now(crate::error::exit::CANCELLED),
            }
            // One key press can send several signals (to the group, and through a wrapper): count it once.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
}

/// Whether this process was started to go on without its terminal, as by nohup(1).
fn ignores_hangup() -> bool {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit 0 is signal 1: proc_pid_status(5).
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// This machine and process, as owners of containers are named.
pub(crate) struct Host {
    id: String,
}

impl Host {
    /// A container with its own process ids is a machine of its own: the namespace is part of the name.
    pub(crate) fn this() -> Self {
        let read = |path: &str| fs_err::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let machine = read("/etc/machine-id").filter(|id| !id.is_empty());
        let machine = machine.or_else(|| read("/proc/sys/kernel/hostname")).unwrap_or_default();
        let namespace = fs_err::read_link("/proc/self/ns/pid").map(|p| p.display().to_string()).unwrap_or_default();
        Self { id: Digest::of(format!("{machine} {namespace}")).short() }
    }

    /// The owner of what this process makes.
    pub(crate) fn owner(&self) -> String {
        let pid = std::process::id();
        sweep::owner(&self.id, pid, started(pid).unwrap_or_default())
    }

    /// Removes what dead processes of this machine left in the daemon; how many containers.
    pub(crate) async fn sweep(&self, engine: &dyn Engine) -> Result<usize> {
        Ok(sweep::sweep(engine, &self.facts()).await?.len())
    }

    /// How many containers and volumes of dead processes there are.
    pub(crate) async fn leftovers(&self, engine: &dyn Engine) -> Result<usize, EngineError> {
        sweep::count(engine, &self.facts()).await
    }

    /// Removes the containers that this process has made.
    pub(crate) async fn remove_own(&self, engine: &dyn Engine) -> Result<()> {
        for container in engine.containers_with_label(&format!("{}={}", labels::OWNER, self.owner())).await? {
            engine.remove_container(&container.id).await?;
        }
        Ok(())
    }

    /// All that kiln has on the daemon.
    pub(crate) async fn stock(&self, engine: &dyn Engine) -> Result<stock::Stock> {
        Ok(stock::list(engine, &self.facts()).await?)
    }

    fn facts(&self) -> sweep::ThisHost<'_> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        sweep::ThisHost {
            id: &self.id,
            alive: &|pid, start| started(pid) == Some(start),
            now: i64::try_from(now).unwrap_or(i64::MAX),
        }
    }
}

/// How the names of this process's temporary folders begin.
pub(crate) fn prefix() -> String {
    let pid = std::process::id();
    format!("{pid}-{}-", started(pid).unwrap_or_default())
}

/// Whether a temporary folder of this name belongs to a process that has ended.
pub(crate) fn is_of_dead(name: &str) -> bool {
    let mut parts = name.split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(start))) = (parts.next(), parts.next()) else { return false };
    u32::try_from(pid).is_ok_and(|pid| started(pid) != Some(start))
}

/// When a living process started, in clock ticks since the machine did. Source: proc(5), field 22 of `stat`.
fn started(pid: u32) -> Option<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces and brackets; the fields after it do not.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself_and_not_the_dead() {
        assert!(started(std::process::id()).is_some());
        assert_eq!(started(u32::MAX), None);
        let owner = Host::this().owner();
        assert_eq!(owner.matches('/').count(), 2, "{owner}");
        assert!(!is_of_dead(&format!("{}x", prefix())));
        assert!(is_of_dead("1-99999999999-x"));
        assert!(!is_of_dead("something else"));
    }
}
