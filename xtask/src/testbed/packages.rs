//! Debian packages that the testbed's programs come from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use super::layout::Layout;
use super::say;
use crate::process::{hinted, installed, run, succeeds, write_file};

/// Fails unless this is root on a system with apt, which is what installing and starting an engine needs.
pub(crate) fn require_root_on_debian() -> Result<()> {
    if !installed("apt-get") {
        return Err(hinted(
            "the testbed needs Debian or Ubuntu: there is no apt-get here",
            "any Docker engine will do instead: set DOCKER_HOST to it and leave the testbed out",
        ));
    }
    require_root()
}

/// Fails unless this is root.
pub(crate) fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(hinted(
        "the testbed starts an engine, which needs root",
        "run it as root: sudo -E env \"PATH=$PATH\" cargo xtask testbed ...",
    ))
}

/// How often apt tries again, up to 30 s after the last time, so that it outlasts minutes in which no name is resolved.
/// By itself it tries three times.
pub(crate) const RETRIES: u32 = 15;

/// apt-get does not wait for another one of this process.
static APT: Mutex<()> = Mutex::new(());

/// Installs what is missing, given as pairs of a program and the package it comes from.
pub(crate) fn install(wanted: &[(&str, &str)]) -> Result<()> {
    let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
    let missing: Vec<_> =
        wanted.iter().filter(|(program, _)| !installed(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(format!("installing {}", missing.join(", ")));
    update()?;
    // The packages bring services of their own, on their own ports and data; the testbed needs only their programs.
    let _guard = NoServices::new()?;
    run(apt_get().args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing))
        .with_context(|| format!("cannot install {}", missing.join(", ")))
}

/// Makes an environment for Python packages; `wanted` is what pip installs into it.
pub(crate) fn python_environment(folder: &Path, wanted: &[&str]) -> Result<()> {
    install(&[("python3", "python3")])?;
    if !succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        // Debian keeps these apart, in a package that has no program to look for.
        install(&[("python3-venv", "python3-venv")])?;
    }
    let _ = fs::remove_dir_all(folder);
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    run(pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(wanted))
}

/// The same, in a folder that is kept and made anew only for other packages.
pub(crate) fn kept_environment(layout: &Layout, name: &str, wanted: &[&str]) -> Result<PathBuf> {
    kept(layout, name, &wanted.join(" "), |folder| python_environment(folder, wanted))
}

/// A folder that is kept, with a package of npm and what that needs.
pub(crate) fn kept_node(layout: &Layout, name: &str, package: &str) -> Result<PathBuf> {
    kept(layout, name, package, |folder| {
        install(&[("node", "nodejs"), ("npm", "npm")])?;
        let _ = fs::remove_dir_all(folder);
        let mut npm = Command::new("npm");
        // Nothing that is installed is run by that.
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        run(npm.arg(folder).arg(package))
    })
}

/// A folder that is made anew only if other things are wanted.
fn kept(layout: &Layout, name: &str, wanted: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let _lock = layout.lock("tools")?;
    let folder = layout.cache().join(name);
    // Written when all of it is there, with what that was.
    let mark = folder.join("complete");
    if fs::read_to_string(&mark).ok().as_deref() != Some(wanted) {
        say(format!("installing {name}"));
        make(&folder)?;
        write_file(&mark, wanted)?;
    }
    Ok(folder)
}

/// Refreshes the package lists.
fn update() -> Result<()> {
    run(apt_get().args(["update", "-qq"])).context("cannot refresh the package lists")
}

/// Unpacks a package into a folder without installing it, and returns the folder.
pub(crate) fn unpack(package: &str, folder: &Path) -> Result<PathBuf> {
    let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
    let staged = folder.with_added_extension("new");
    let _ = fs::remove_dir_all(&staged);
    fs::create_dir_all(&staged).with_context(|| format!("cannot make {}", staged.display()))?;
    let download = || run(apt_get().args(["download", "-qq", package]).current_dir(&staged));
    if download().is_err() {
        update()?;
        download()?;
    }
    let archive = fs::read_dir(&staged)?.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some());
    let archive = archive.with_context(|| format!("apt-get downloaded nothing for {package}"))?;
    run(Command::new("dpkg").arg("-x").arg(&archive).arg(&staged))?;
    fs::remove_file(&archive)?;
    let _ = fs::remove_dir_all(folder);
    fs::rename(&staged, folder)?;
    Ok(folder.to_owned())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg(format!("-oAcquire::Retries={RETRIES}"));
    command
}

/// Keeps packages from starting their services while it lives, by the means Debian has for it (`policy-rc.d`).
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn new() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
