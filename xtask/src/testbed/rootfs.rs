//! Root file systems of Debian, made from its package archive.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use super::emulation::Emulation;
use super::images::Architecture;
use super::layout::Layout;
use super::network::{DEBIAN_ARCHIVE, DEBIAN_SECURITY, HostNetwork};
use super::{packages, say};
use crate::process::run;

const SUITE: &str = "bookworm";
/// Raised when the commands below change, so that the cached file systems are made again.
const RECIPE: &str = "r2";
/// The time that files get which are newer, in seconds since 1970: the same input makes the same file system.
const EPOCH: &str = "1704067200";

/// What Debian's official images set up beyond the packages (see their builder, debuerreotype), and the removal of what
/// differs from one run to the next. `$1` is the root file system; [`apt_settings`] has the rest.
const CUSTOMIZE: &str = r#"
set -eu
rm -f "$1/etc/apt/sources.list" "$1"/etc/apt/sources.list.d/0*
cat >"$1/etc/apt/apt.conf.d/docker-clean" <<'END'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
echo 'Acquire::Languages "none";' >"$1/etc/apt/apt.conf.d/docker-no-languages"
echo 'Acquire::GzipIndexes "true";' >"$1/etc/apt/apt.conf.d/docker-gzip-indexes"
echo 'Apt::AutoRemove::SuggestsImportant "false";' >"$1/etc/apt/apt.conf.d/docker-autoremove-suggests"
rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/hostname" "$1/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
rm -rf "$1"/var/cache/apt/* "$1"/var/cache/ldconfig/aux-cache "$1"/var/cache/debconf/*-old "$1"/var/log/apt
find "$1/var/log" -type f -delete
"#;

/// Makes the file systems that are not cached yet, all at once, and returns the tar file of each.
pub(crate) fn debian(layout: &Layout, architectures: &[Architecture]) -> Result<Vec<(Architecture, PathBuf)>> {
    let folder = layout.cache().join("rootfs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path =
        |architecture: &Architecture| folder.join(format!("debian-{SUITE}-{RECIPE}-{}.tar", architecture.debian));
    let missing: Vec<_> = architectures.iter().filter(|architecture| !path(architecture).is_file()).collect();
    if !missing.is_empty() {
        packages::install(&[("mmdebstrap", "mmdebstrap")])?;
        if !Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists() {
            packages::install(&[("debian-archive-keyring", "debian-archive-keyring")])?;
        }
        let names: Vec<_> = missing.iter().map(|architecture| architecture.debian).collect();
        say(format!("making Debian {SUITE} for {} (about two minutes)", names.join(", ")));
        let foreign: Vec<_> = missing.iter().map(|architecture| **architecture).collect();
        let _emulation = Emulation::borrow(layout, &foreign)?;
        let host = HostNetwork::detect();
        thread::scope(|scope| {
            let jobs: Vec<_> = missing
                .iter()
                .map(|architecture| scope.spawn(|| bootstrap(layout, &host, **architecture, &path(architecture))))
                .collect();
            jobs.into_iter().try_for_each(|job| job.join().expect("making a file system does not panic"))
        })?;
    }
    Ok(architectures.iter().map(|architecture| (*architecture, path(architecture))).collect())
}

/// A suite, and whether it is in the security archive.
type Suite = (&'static str, bool);
const SUITES: [Suite; 3] = [("bookworm", false), ("bookworm-updates", false), ("bookworm-security", true)];

/// Makes one file system.
///
/// A mirror may hold inconsistent indexes of one architecture, with which `apt-get update` fails, now as well as in a
/// container later. The suites that do not work are left out of the file system and of the sources in it.
fn bootstrap(layout: &Layout, host: &HostNetwork, architecture: Architecture, path: &Path) -> Result<()> {
    let start = Instant::now();
    let mut suites = SUITES.to_vec();
    while let Err(error) = bootstrap_from(layout, host, architecture, &suites, path) {
        let text = format!("{error:#}");
        if suites.len() == 1 || !text.contains("apt-get update") {
            return Err(error.context(format!("cannot make Debian {SUITE} for {}", architecture.debian)));
        }
        let broken = suites[1..].iter().rposition(|(suite, _)| text.contains(&format!("dists/{suite}/")));
        let (left_out, _) = suites.remove(broken.map_or(suites.len() - 1, |position| position + 1));
        say(format!("the mirror's {left_out} is inconsistent for {}: leaving it out", architecture.debian));
    }
    say(format!("made Debian {SUITE} for {} in {:.0} s", architecture.debian, start.elapsed().as_secs_f32()));
    Ok(())
}

fn bootstrap_from(
    layout: &Layout,
    host: &HostNetwork,
    architecture: Architecture,
    suites: &[Suite],
    path: &Path,
) -> Result<()> {
    let temporary = layout.cache().join("tmp");
    fs::create_dir_all(&temporary)?;
    // mmdebstrap lets apt's unprivileged user into its folder.
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777))?;
    let archive = |security: bool| if security { &host.debian_security } else { &host.debian_archive };
    let staged = path.with_extension("new");
    let mut command = Command::new("mmdebstrap");
    command
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("TMPDIR", &temporary)
        .args(["--mode=root", "--variant=minbase", "--format=tar", "--skip=check/qemu", "--skip=output/dev"])
        .arg(format!("--arch={}", architecture.debian))
        .args(["--aptopt=Acquire::Languages \"none\"", "--dpkgopt=force-unsafe-io"])
        .arg(format!("--aptopt=Acquire::Retries \"{}\"", packages::RETRIES))
        .args(
            ["doc", "man", "info", "lintian", "locale"]
                .map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")),
        )
        .arg("--dpkgopt=path-include=/usr/share/doc/*/copyright")
        .arg("--dpkgopt=path-include=/usr/share/locale/locale.alias")
        .arg(format!("--customize-hook={CUSTOMIZE}\n{}", apt_settings(suites)))
        .arg(SUITE)
        .arg(&staged)
        .args(suites.iter().map(|(suite, security)| format!("deb {} {suite} main", archive(*security))));
    run(&mut command)?;
    fs::rename(&staged, path).with_context(|| format!("cannot write {}", path.display()))
}

/// The lines of a shell script that write the package sources as Debian's images have them, and how often apt tries
/// again, which those leave alone: what is installed in a test must not fail with the network's bad minutes.
fn apt_settings(suites: &[Suite]) -> String {
    let stanzas = [(DEBIAN_ARCHIVE, false), (DEBIAN_SECURITY, true)].map(|(archive, wanted)| {
        let names: Vec<_> = suites.iter().filter(|(_, security)| *security == wanted).map(|(name, _)| *name).collect();
        if names.is_empty() {
            return String::new();
        }
        format!(
            "Types: deb\nURIs: {archive}\nSuites: {}\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n",
            names.join(" ")
        )
    });
    format!(
        "cat >\"$1/etc/apt/sources.list.d/debian.sources\" <<'END'\n{}END\n\
         echo 'Acquire::Retries \"{}\";' >\"$1/etc/apt/apt.conf.d/testbed-retries\"\n",
        stanzas.concat(),
        packages::RETRIES
    )
}
