//! The newest engine that Debian has, from sid, in a chroot of its own: kiln is to work with old and new ones.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change};

use super::daemon::chroot;
use super::layout::{Layout, mounts_below};
use super::network::HostNetwork;
use super::{packages, say};
use crate::process::run;

/// The engine with what it runs, and the command line client with buildx, to measure against.
const PACKAGES: &str = "docker.io,docker-cli,docker-buildx,iptables,ca-certificates";

/// Makes the chroot, once, and mounts what an engine in it needs.
pub(crate) fn up(layout: &Layout) -> Result<()> {
    let root = chroot(layout);
    if !root.join("usr/sbin/dockerd").exists() {
        install(layout, &root)?;
    }
    mount_all(&root).with_context(|| format!("cannot mount what the engine in {} needs", root.display()))?;
    for file in ["etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"] {
        let (from, to) = (Path::new("/").join(file), root.join(file));
        if from.exists() {
            let _ = fs::remove_file(&to);
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

fn install(layout: &Layout, root: &Path) -> Result<()> {
    let start = Instant::now();
    packages::install(&[("mmdebstrap", "mmdebstrap")])?;
    say("installing the newest engine from Debian sid (a minute or two)");
    let staged = root.with_extension("new");
    let _ = fs::remove_dir_all(&staged);
    let temporary = layout.cache().join("tmp");
    fs::create_dir_all(&temporary)?;
    run(Command::new("mmdebstrap")
        .env("TMPDIR", &temporary)
        .args(["--mode=root", "--variant=minbase", "--format=directory", "--dpkgopt=force-unsafe-io"])
        .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Apt::Install-Recommends \"false\""])
        // sid's index is valid for a week only, and a mirror may lag behind.
        .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
        .arg(format!("--include={PACKAGES}"))
        .arg("sid")
        .arg(&staged)
        .arg(format!("deb {} sid main", HostNetwork::detect().debian_archive)))
    .context("cannot install the newest engine")?;
    fs::rename(&staged, root)?;
    say(format!("installed it in {:.0} s", start.elapsed().as_secs_f32()));
    Ok(())
}

/// An engine remounts its root when it unpacks layers, so the chroot must be a mount point. All of it is private: what is
/// unmounted here later on must not be unmounted on the host as well.
fn mount_all(root: &Path) -> Result<()> {
    let mounted = mounts_below(root);
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    if !mounted.iter().any(|path| path == root) {
        mount_bind(root, root)?;
        mount_change(root, private)?;
    }
    for name in ["proc", "sys", "dev"] {
        let target = root.join(name);
        if !mounted.contains(&target) {
            mount_bind_recursive(Path::new("/").join(name), &target)?;
            mount_change(&target, private)?;
        }
    }
    Ok(())
}
