//! The engines: a containerd and a dockerd each, with everything they touch below the testbed's root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::engine::Api;
use super::layout::{Bridge, Layout, unmount_below};
use super::registry::Registry;
use super::{hex, network, say};
use crate::process::{Service, command_line, end, processes_with, write_file};

/// An engine that the testbed can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flavour {
    /// Docker of this Debian release (Engine 20.10 on bookworm), overlay2
    Stable,
    /// Docker of Debian sid, in a chroot, overlay2
    Newest,
    /// Docker of Debian sid, in a chroot, with the containerd image store
    NewestContainerd,
}

impl Flavour {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Newest => "newest",
            Self::NewestContainerd => "newest-containerd",
        }
    }
}

/// Where an engine lives.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) flavour: Flavour,
    /// The root that its processes see, if that is not the host's.
    chroot: Option<PathBuf>,
    /// Its folder, as seen from the host.
    folder: PathBuf,
    layout: Layout,
}

impl Engine {
    pub(crate) fn new(layout: &Layout, flavour: Flavour) -> Self {
        // The folder's name tells two testbeds' processes apart even where both see the same path in their chroot.
        let id = format!("k-{}", hex(&Sha256::digest(layout.root.as_os_str().as_encoded_bytes())[..4]));
        let chroot = (flavour != Flavour::Stable).then(|| chroot(layout));
        let folder = chroot.as_ref().unwrap_or(&layout.root).join(id).join(flavour.name());
        Self { flavour, chroot, folder, layout: layout.clone() }
    }

    /// The engine's socket, as seen from the host.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(&self.socket())
    }

    /// A path in its folder, as its processes see it.
    fn inside(&self, name: &str) -> String {
        let path = self.folder.join(name);
        match &self.chroot {
            Some(chroot) => format!("/{}", path.strip_prefix(chroot).unwrap_or(&path).display()),
            None => path.display().to_string(),
        }
    }

    /// A program that runs where the engine runs.
    fn command(&self, program: &str) -> Command {
        match &self.chroot {
            Some(chroot) => {
                let mut command = Command::new("chroot");
                command.arg(chroot).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    fn service(&self, program: &str, config: &str) -> Service {
        let name = format!("{}-{program}", self.flavour.name());
        Service {
            pidfile: self.layout.run().join(&name).with_extension("pid"),
            token: self.inside(config),
            log: self.layout.log(&name),
            name,
        }
    }

    fn containerd(&self) -> Service {
        self.service("containerd", "containerd.toml")
    }

    pub(crate) fn dockerd(&self) -> Service {
        self.service("dockerd", "daemon.json")
    }

    /// Whether both processes run and the engine answers.
    pub(crate) fn is_up(&self) -> bool {
        self.containerd().pid().is_some() && self.dockerd().pid().is_some() && self.api().ping()
    }

    /// Starts the engine unless it is up, over whatever an earlier one left.
    pub(crate) fn up(&self, bridge: &Bridge, registry: &Registry) -> Result<()> {
        if self.is_up() {
            return Ok(());
        }
        self.down()?;
        fs::create_dir_all(&self.folder)?;
        write_file(&self.folder.join("containerd.toml"), self.containerd_config())?;
        write_file(&self.folder.join("daemon.json"), self.dockerd_config(bridge, registry)?)?;
        let socket = self.folder.join("containerd.sock");
        let containerd = self.containerd();
        containerd.start(self.command("containerd").arg("--config").arg(self.inside("containerd.toml")))?;
        containerd.wait_until(Duration::from_secs(30), || std::os::unix::net::UnixStream::connect(&socket).is_ok())?;
        let dockerd = self.dockerd();
        let mut command = self.command("dockerd");
        command.arg("--config-file").arg(self.inside("daemon.json"));
        // An engine inside a container must not believe that it is the init system's to stop.
        command.env_remove("NOTIFY_SOCKET").env_remove("DOCKER_HOST");
        dockerd.start(&command)?;
        dockerd.wait_until(Duration::from_mins(1), || self.api().ping())?;
        let (version, api) = self.api().version()?;
        say(format!(
            "engine {} (Docker {version}, API {api}) on unix://{}",
            self.flavour.name(),
            self.socket().display()
        ));
        Ok(())
    }

    /// Ends the engine's processes and unmounts what they mounted.
    pub(crate) fn down(&self) -> Result<bool> {
        let was_up = self.dockerd().stop(Duration::from_secs(20))?;
        self.containerd().stop(Duration::from_secs(10))?;
        // Containers outlive an engine that was killed, held by their shims, which name our containerd's address.
        let address = self.inside("containerd.sock");
        for shim in processes_with(&address) {
            if command_line(shim).split(' ').next().is_some_and(|program| program.contains("containerd-shim")) {
                let children = children(shim.as_raw_nonzero().get());
                end(shim, Duration::from_millis(500))?;
                for child in children {
                    end(child, Duration::from_millis(500))?;
                }
            }
        }
        unmount_below(&self.folder)?;
        for name in ["docker.pid", "docker.sock", "containerd.sock", "containerd.sock.ttrpc"] {
            let _ = fs::remove_file(self.folder.join(name));
        }
        Ok(was_up)
    }

    fn containerd_config(&self) -> String {
        format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = \"{}\"\n",
            self.inside("containerd"),
            self.inside("run-containerd"),
            self.inside("containerd.sock"),
        )
    }

    fn dockerd_config(&self, bridge: &Bridge, registry: &Registry) -> Result<String> {
        let mut config = json!({
            "data-root": self.inside("data"),
            "exec-root": self.inside("exec"),
            "pidfile": self.inside("docker.pid"),
            "hosts": [format!("unix://{}", self.inside("docker.sock"))],
            "containerd": self.inside("containerd.sock"),
            "bridge": bridge.name,
            "iptables": false,
            "ip6tables": false,
            "mtu": network::mtu(),
            // systemd may not be there, and this driver works with both versions of cgroups.
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "registry-mirrors": [format!("http://{}", registry.address())],
            "shutdown-timeout": 5,
            "log-level": "warn",
        });
        if self.flavour == Flavour::NewestContainerd {
            config["features"] = json!({"containerd-snapshotter": true});
        } else {
            config["storage-driver"] = "overlay2".into();
        }
        if self.flavour == Flavour::Newest {
            config["features"] = json!({"containerd-snapshotter": false});
        }
        Ok(serde_json::to_string_pretty(&config)?)
    }
}

/// Where the newest engine's Debian lies.
pub(crate) fn chroot(layout: &Layout) -> PathBuf {
    layout.root.join("sid")
}

/// The direct children of a process.
fn children(parent: i32) -> Vec<rustix::process::Pid> {
    let path = PathBuf::from(format!("/proc/{parent}/task/{parent}/children"));
    let text = fs::read_to_string(Path::new(&path)).unwrap_or_default();
    text.split_whitespace().filter_map(|number| rustix::process::Pid::from_raw(number.parse().ok()?)).collect()
}
