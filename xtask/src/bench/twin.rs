//! The native twin, measured: arm64 against amd64 and against plain emulation, and all platforms at once, in one run.
//!
//! Cold means: nothing of the build exists, down to the system packages; base images do. Each cold build has its own keys
//! (white space in an argument of the recipe's first stage) and empty volumes. arm64 is built after amd64 with the same
//! keys, as where both are wanted: the native stage that it uses is there.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::side::Ground;
use super::{middle, seconds};

const AMD64: &str = "linux/amd64";
const ARM64: &str = "linux/arm64";
const ALL: &str = "linux/amd64,linux/386,linux/arm64";

/// Measures and prints.
pub(super) fn run(ground: &Ground, example: &str, runs: Option<usize>, emulated: bool) -> Result<()> {
    let project = ground.project(example, "twin")?;
    let (mut native, mut twin, mut all, mut qemu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 4000;
    let mut keys = usize::try_from(start).unwrap_or_default();
    let build = |name: &str, platforms: &str, keys: usize, more: &[&str]| -> Result<Duration> {
        let args = format!("build.args={{PACKAGES = \"{}\"}}", " ".repeat(keys));
        let took = project.build(platforms, &[&["--set", &args], more].concat())?;
        eprintln!("{name}: {:.1} s", took.as_secs_f64());
        Ok(took)
    };
    for _ in 0..runs.unwrap_or(1) {
        keys += 1;
        project.forget()?;
        native.push(build("amd64, cold", AMD64, keys, &[])?);
        twin.push(build("arm64, cold, twin", ARM64, keys, &["--twin=on"])?);
        keys += 1;
        project.forget()?;
        all.push(build("all platforms at once, cold", ALL, keys, &["--twin=on"])?);
    }
    // What stands now is warm: the volumes of the last cold build.
    let (mut native_line, mut twin_line) = (Vec::new(), Vec::new());
    for index in 0..runs.unwrap_or(super::RUNS) {
        project.change(index)?;
        native_line.push(build("amd64, one line", AMD64, keys, &[])?);
        twin_line.push(build("arm64, one line, twin", ARM64, keys, &["--twin=on"])?);
    }
    if emulated {
        for _ in 0..runs.unwrap_or(1) {
            keys += 1;
            project.forget()?;
            qemu.push(build("arm64, cold, emulated", ARM64, keys, &["--twin=off"])?);
        }
    }
    let [native, twin, all, qemu, native_line, twin_line] =
        [native, twin, all, qemu, native_line, twin_line].map(|list| middle(list.into_iter()));
    let mut text = String::new();
    let mut line = |name: &str, took: Duration, of: Option<(&str, Duration)>| {
        let ratio = of.map(|(what, base)| format!("{:.2} of {what}", took.as_secs_f64() / base.as_secs_f64()));
        let _ = writeln!(text, "{name:<34}{:>9} s  {}", seconds(took), ratio.unwrap_or_default());
    };
    line("linux/amd64, cold", native, None);
    line("linux/arm64 as twin, cold", twin, Some(("amd64", native)));
    line("amd64, 386 and arm64 at once, cold", all, Some(("amd64 alone", native)));
    line("linux/amd64, one line", native_line, None);
    line("linux/arm64 as twin, one line", twin_line, Some(("amd64", native_line)));
    if emulated {
        line("linux/arm64 emulated, cold", qemu, None);
        line("linux/arm64 as twin, cold", twin, Some(("emulated", qemu)));
    }
    print!("\nnative twin, examples/{example}\n{text}");
    Ok(())
}
