//! The tiers that need an engine: what the tests are told of it, and which tests they are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::read::Show;
use super::tier::{Outcome, Tests, libtest};
use super::transports::Transports;
use super::{has_nextest, kiln};
use crate::daemon::Daemon;
use crate::own::Own;
use crate::testbed::{Layout, Testbed, packages};

/// A unit test that needs no engine, but emulators: those come with a package that only a testbed's machine must have.
pub(super) const NEEDS_QEMU: &str = "(package(kiln-docker) and test(every_probe_gives_the_right_answer))";

/// What the command of the image that brings the emulators contains, by `dockerfiles/binfmt.Dockerfile`.
const EMULATION_MARK: &str = "/etc/qemu-version";

/// The tests that build small images or need servers, by package; the unit tier leaves them out.
pub(super) const BINARIES: [(&str, &str); 5] = [
    ("kiln", "engine"),
    ("kiln", "sources"),
    ("kiln-cache", "servers"),
    ("kiln-e2e", "engine"),
    ("kiln-e2e", "conformance"),
];

/// The daemon on which `docker buildx` builds the cases of the conformance suite too.
const PEER: &str = "KILN_TEST_PEER";

/// Validators of CycloneDX and SPDX by those who make the formats.
const VALIDATORS: [&str; 2] = ["cyclonedx-python-lib[json-validation]==11.12.0", "spdx-tools==0.8.5"];

/// Tests of the driver, and of the whole program on small images.
pub(super) fn seconds(testbed: &Testbed, filters: &[String]) -> Result<Outcome> {
    let kiln = kiln()?;
    let mut env = env(testbed, &kiln);
    env.push(("KILN_TEST_PULL".to_owned(), pullable(testbed)));
    if let Ok(peer) = std::env::var(PEER) {
        env.push((PEER.to_owned(), peer));
    }
    match emulators(testbed, &kiln) {
        Ok(image) => env.push(("KILN_TEST_QEMU_IMAGE".to_owned(), image)),
        Err(error) => eprintln!("no image with emulators: {error:#}"),
    }
    let qemu = std::env::temp_dir().join("kiln-test-qemu");
    if qemu.is_dir() || packages::unpack("qemu-user-static", &qemu).is_ok() {
        env.push(("KILN_TEST_QEMU_DIR".to_owned(), qemu.join("usr/bin").display().to_string()));
    }
    // Where one of these cannot be had, the test that needs it says so.
    match packages::install(&[("chromium", "chromium")]) {
        Ok(()) => env.push(("KILN_TEST_CHROMIUM".to_owned(), "chromium".to_owned())),
        Err(error) => eprintln!("no browser: {error:#}"),
    }
    for (program, variable) in [("minisign", "KILN_TEST_MINISIGN"), ("openssl", "KILN_TEST_OPENSSL")] {
        match packages::install(&[(program, program)]) {
            Ok(()) => env.push((variable.to_owned(), program.to_owned())),
            Err(error) => eprintln!("no {program}: {error:#}"),
        }
    }
    match validators() {
        Ok(python) => env.push(("KILN_TEST_BILL_PYTHON".to_owned(), python.display().to_string())),
        Err(error) => eprintln!("no validators of bills of materials: {error:#}"),
    }
    let transports = Transports::start(&testbed.docker_host);
    env.extend(transports.env());
    let mirror = pullable(testbed);
    let mirror = mirror.strip_suffix("/library/alpine:3.20");
    let _engines = [("own", "KILN_TEST_OWN_DAEMON"), ("other", "KILN_TEST_OTHER_DAEMON")].map(|(name, variable)| {
        let engine = Own::start(name, mirror);
        match &engine {
            Ok(engine) => env.push((variable.to_owned(), engine.host())),
            Err(error) => eprintln!("no engine for {variable}: {error:#}"),
        }
        engine
    });
    if has_nextest() {
        let binaries = BINARIES.map(|(package, name)| format!("(package({package}) and binary({name}))")).join(" or ");
        let select = &format!("(package(kiln-docker) and kind(test)) or {binaries} or {NEEDS_QEMU}");
        return Tests { select, env: &env, filters, show: Show::EveryTest }.nextest();
    }
    let mut outcome = libtest(&["--package", "kiln-docker", "--lib", "--tests"], filters, &env, None)?;
    for (package, name) in BINARIES {
        outcome.add(libtest(&["--package", package, "--test", name], filters, &env, None)?);
    }
    Ok(outcome)
}

/// Tests that bake real programs.
pub(super) fn minutes(testbed: &Testbed, long: bool, filters: &[String]) -> Result<Outcome> {
    let env = env(testbed, &kiln()?);
    let binaries: &[&str] = if long { &["long"] } else { &["bake", "twin"] };
    if has_nextest() {
        let binaries: Vec<String> = binaries.iter().map(|name| format!("binary({name})")).collect();
        let select = &format!("package(kiln-e2e) and ({})", binaries.join(" or "));
        return Tests { select, env: &env, filters, show: Show::EveryTest }.nextest();
    }
    let tests = binaries.iter().flat_map(|name| ["--test", name]);
    let part: Vec<&str> = ["--package", "kiln-e2e"].into_iter().chain(tests).collect();
    libtest(&part, filters, &env, Some(1))
}

/// A Python with the validators.
fn validators() -> Result<PathBuf> {
    let folder = packages::kept_environment(&Layout::from_environment()?, "bill-validators", &VALIDATORS)?;
    Ok(folder.join("bin/python"))
}

/// What every test of these tiers is told.
fn env(testbed: &Testbed, kiln: &Path) -> Vec<(String, String)> {
    let mut env = vec![
        ("KILN_TEST_DOCKER_HOST".to_owned(), testbed.docker_host.clone()),
        ("KILN_TEST_BIN".to_owned(), kiln.display().to_string()),
    ];
    env.extend(testbed.env.iter().filter(|(name, _)| name.starts_with("KILN_NETWORK_")).cloned());
    // Servers have other names in tests, which may be given others than the testbed's.
    for (name, address) in &testbed.env {
        if let Some(server @ ("REGISTRY" | "S3" | "AZBLOB" | "GCS" | "WEB" | "REDIS" | "MUSL_IMAGE")) =
            name.strip_prefix("KILN_TESTBED_")
        {
            env.push((format!("KILN_TEST_{server}"), address.clone()));
        }
    }
    env
}

/// An image for many platforms whose name on the daemon nobody else uses: the registry is named in it.
fn pullable(testbed: &Testbed) -> String {
    let registry = testbed.env.iter().find(|(name, _)| name == "KILN_TESTBED_REGISTRY").map(|(_, value)| value);
    match registry {
        Some(registry) if Daemon::at(&format!("tcp://{registry}")).get("/v2/library/alpine/tags/list").is_ok() => {
            format!("{registry}/library/alpine:3.20")
        }
        // Docker Hub was reached, and the local registry is empty.
        _ => "busybox:1.36".to_owned(),
    }
}

/// Has kiln make the image that brings the emulators, and register arm64 with it; the image's id.
fn emulators(testbed: &Testbed, kiln: &Path) -> Result<String> {
    let mut install = Command::new(kiln);
    install.args(["emulation", "install", "--platform", "linux/arm64"]).stdin(Stdio::null());
    let status = install.envs(testbed.env.iter().cloned()).status().context("cannot run kiln")?;
    if !status.success() {
        bail!("`kiln emulation install` ended with {status}");
    }
    let daemon = Daemon::at(&testbed.docker_host);
    let mut images = daemon.images("kiln.version=1")?;
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    let mut images = images.into_iter().map(|image| image.id);
    images.find(|image| daemon.command(image).contains(EMULATION_MARK)).context("kiln made no image")
}
