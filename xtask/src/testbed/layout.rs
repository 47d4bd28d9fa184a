//! Where the testbed keeps its things, and what it remembers between commands.
//!
//! Everything lies below one root folder, so that `down --purge` is the removal of that folder. The state file holds
//! what was chosen once for this machine (bridge names, subnets, the registry's port) and what was found out about it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::network::Reach;
use super::say;
use crate::process::{hinted, write_file};

/// The variable that moves the root folder.
pub(crate) const ROOT_VARIABLE: &str = "KILN_TESTBED_ROOT";
const DEFAULT_ROOT: &str = "/var/lib/kiln-testbed";
const STATE_VERSION: u32 = 1;

/// The root folder and the paths below it.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    /// The layout that the environment asks for.
    pub(crate) fn from_environment() -> Result<Self> {
        let root = std::env::var_os(ROOT_VARIABLE).map_or_else(|| PathBuf::from(DEFAULT_ROOT), PathBuf::from);
        // A unix socket's path has at most 107 bytes, and ours are up to 67 bytes below the root.
        if !root.is_absolute() || root.as_os_str().len() > 40 {
            return Err(hinted(
                format!("the testbed cannot live in {}", root.display()),
                format!("set {ROOT_VARIABLE} to an absolute path of at most 40 bytes"),
            ));
        }
        Ok(Self { root })
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("log").join(name).with_extension("log")
    }

    /// What can be made again, but took time or traffic to make.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// Makes the folders and waits until no other command changes the same part. The lock ends with the returned file.
    pub(crate) fn lock(&self, part: &str) -> Result<File> {
        for folder in [self.run(), self.root.join("log"), self.cache()] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let path = self.root.join(part).with_extension("lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        if file.try_lock().is_err() {
            say(format!("another command is changing the {part}; waiting for it"));
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }
}

/// What is remembered between commands.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    /// Port of the registry on the loopback address.
    pub(crate) registry_port: Option<u16>,
    /// Ports of the servers that caches are kept on, by the server's name.
    #[serde(default)]
    pub(crate) store_ports: BTreeMap<String, u16>,
    /// Whether Docker Hub was reached, so that the registry holds no base images.
    #[serde(default)]
    pub(crate) real_images: bool,
    /// The bridge of each engine, by the engine's name.
    #[serde(default)]
    pub(crate) bridges: BTreeMap<String, Bridge>,
    /// What containers reach, by the engine's name, valid as long as the host's network looks the same.
    #[serde(default)]
    pub(crate) reach: BTreeMap<String, Reach>,
}

/// A bridge that belongs to the testbed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bridge {
    /// Interface name, such as `kiln-tb0`.
    pub(crate) name: String,
    /// The third byte of its /24 network.
    pub(crate) subnet: u8,
}

impl State {
    /// Reads the state; a missing file, or one of another version, is an empty state.
    pub(crate) fn load(layout: &Layout) -> Self {
        let state = fs::read(layout.state()).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        state.filter(|state| state.version == STATE_VERSION).unwrap_or_default()
    }

    pub(crate) fn save(&mut self, layout: &Layout) -> Result<()> {
        self.version = STATE_VERSION;
        write_file(&layout.state(), serde_json::to_vec_pretty(self)?)
    }
}

/// Takes what a mount table shows below a folder, deepest first.
pub(crate) fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts: Vec<_> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .filter(|path| path.starts_with(folder))
        .collect();
    mounts.reverse();
    mounts
}

/// Unmounts everything below a folder.
pub(crate) fn unmount_below(folder: &Path) -> Result<()> {
    use rustix::mount::{UnmountFlags, unmount};
    for path in mounts_below(folder) {
        unmount(&path, UnmountFlags::DETACH).with_context(|| format!("cannot unmount {}", path.display()))?;
    }
    Ok(())
}
