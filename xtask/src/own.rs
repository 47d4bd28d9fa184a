//! Engines for tests that empty one, and for whatever needs a second machine: containers have no network but the machine's
//! own, and all is gone when they are done.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::daemon::Daemon;
use crate::process::run;

/// How long it may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// An engine that ends when this is dropped.
pub(crate) struct Own {
    folder: PathBuf,
    dockerd: Child,
}

impl Own {
    /// Starts one that pulls from `registry`, if there is one; `name` tells it from others of this process.
    pub(crate) fn start(name: &str, registry: Option<&str>) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("kiln-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let mut command = Command::new("dockerd");
        let path = |name: &str| folder.join(name).display().to_string();
        // A file that is not there: what is set for the machine's own engine is not meant for this one.
        command.args(["--config-file", &path("none.json"), "--data-root", &path("data"), "--exec-root", &path("run")]);
        command.args(["--host", &format!("unix://{}", path("docker.sock")), "--pidfile", &path("pid")]);
        command.args([
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--exec-opt=native.cgroupdriver=cgroupfs",
        ]);
        if let Some(registry) = registry {
            command.arg(format!("--registry-mirror=http://{registry}"));
        }
        let log = fs::File::create(folder.join("log"))?;
        command.env_remove("NOTIFY_SOCKET").env_remove("DOCKER_HOST");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        fs::write(folder.join("none.json"), "{}")?;
        let dockerd = command.spawn().context("cannot run dockerd")?;
        let mut own = Self { folder, dockerd };
        let start = Instant::now();
        while Daemon::at(&own.host()).get("/version").is_err() {
            if own.dockerd.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                bail!(
                    "it does not answer; its log: {}",
                    fs::read_to_string(own.folder.join("log")).unwrap_or_default()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(own)
    }

    /// Its address.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.join("docker.sock").display())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Asked to end, it takes its mounts with it; what is killed would leave them.
        let _ = run(Command::new("kill").arg(self.dockerd.id().to_string()));
        let start = Instant::now();
        while matches!(self.dockerd.try_wait(), Ok(None)) {
            if start.elapsed() > PATIENCE {
                let _ = self.dockerd.kill();
                let _ = self.dockerd.wait();
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
