//! Caches that travel, measured: machine A builds and saves, machine B, which has nothing, restores and builds; kiln with
//! its store beside `docker buildx` with `--cache-to type=local,mode=max`, in one run.
//!
//! kiln's machines are engines of their own with the base image and nothing else (one has not even that), each used once,
//! and no machine is removed before the end; a minute is between what a build removed and a machine B: see [`settle`]. The
//! peer's machine B is the same daemon after all that the side has made was removed.

use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::side::{Ground, Kind, Project, Side, settle};
use super::{middle, seconds};
use crate::own::Own;
use crate::process;

const AMD64: &str = "linux/amd64";

/// What was measured of one side.
#[derive(Default)]
struct Times {
    cold: Vec<Duration>,
    /// Machine A, nothing changed.
    nothing: Vec<Duration>,
    /// Machine A, a changed line.
    warm: Vec<Duration>,
    /// Machine B, the same sources.
    same: Vec<Duration>,
    /// Machine B, a changed line.
    line: Vec<Duration>,
    /// The same where B does not even have the base image.
    bare: Vec<Duration>,
    /// Bytes of the store after the first save, and what the changed line added.
    stored: Vec<u64>,
    added: Vec<u64>,
}

/// Measures and prints.
pub(super) fn run(ground: &Ground, example: &str, runs: usize) -> Result<()> {
    let (mut kiln, mut buildx) = (Times::default(), Times::default());
    let mut machines = Vec::new();
    for index in 0..runs {
        of_kiln(ground, example, index, &mut machines, &mut kiln)?;
    }
    drop(machines);
    // After kiln: what it removes would be in the way of those who come next.
    for index in 0..runs {
        if ground.peer().is_some() {
            of_buildx(ground, example, index, &mut buildx)?;
        }
    }
    let mut text = format!("{:<28}{:>12}{:>16}\n", "", "kiln", "docker buildx");
    let mut row = |name: &str, of: fn(&Times) -> &Vec<Duration>| {
        let (own, peer) = (middle(of(&kiln).iter().copied()), middle(of(&buildx).iter().copied()));
        let ratio =
            if peer.is_zero() { String::new() } else { format!("  {:.2}", own.as_secs_f64() / peer.as_secs_f64()) };
        let _ = writeln!(text, "{name:<28}{:>10} s{:>14} s{ratio}", seconds(own), seconds(peer));
        own
    };
    row("A: cold, saved", |times| &times.cold);
    row("A: nothing changed", |times| &times.nothing);
    let warm = row("A: one line", |times| &times.warm);
    row("B: same sources, restored", |times| &times.same);
    let line = row("B: one line, restored", |times| &times.line);
    let bare = row("B: base image pulled, too", |times| &times.bare);
    let (stored, added) = (bytes(&kiln.stored), bytes(&kiln.added));
    let _ = writeln!(
        text,
        "kiln: B's line is {:.2} of A's, {:.2} if B pulls the base image; the store has {:.1} MB, the changed line added {:.1} MB \
         ({:.1} %)",
        line.as_secs_f64() / warm.as_secs_f64(),
        bare.as_secs_f64() / warm.as_secs_f64(),
        stored / 1e6,
        added / 1e6,
        100.0 * added / stored
    );
    print!("\ncaches that travel, examples/{example}, {AMD64}\n{text}");
    Ok(())
}

fn of_kiln(ground: &Ground, example: &str, index: usize, machines: &mut Vec<Own>, times: &mut Times) -> Result<()> {
    let store = ground.folder().join(format!("kiln-store{index}"));
    let to = format!("--cache-to=type=local,dest={},mode=max", store.display());
    let from = format!("--cache-from=type=local,src={}", store.display());
    let mut project = |name: &str, has_base: bool| {
        let named = format!("{name}{index}");
        let machine = if has_base { ground.machine(&named)? } else { ground.bare_machine(&named)? };
        let project = ground.project_on(&machine, example, &format!("caches-{named}"), "caches");
        machines.push(machine);
        project
    };
    let build = |project: &Project<'_>, name: &str, more: &[&str]| -> Result<Duration> {
        process::run(&mut Command::new("sync"))?;
        let took = project.build(AMD64, more)?;
        eprintln!("kiln, {name}: {:.2} s", took.as_secs_f64());
        Ok(took)
    };
    let a = project("a", true)?;
    times.cold.push(build(&a, "A cold, saved", &[&to])?);
    let stored = size(&store)?;
    times.nothing.push(build(&a, "A nothing", &[])?);
    // What B will change is what A changes after it, so that neither has seen it.
    a.change(1000 + index)?;
    times.warm.push(build(&a, "A one line", &[])?);
    let same = project("same", true)?;
    settle()?;
    times.same.push(build(&same, "B same", &[&from])?);
    let bare = project("bare", false)?;
    bare.change(4000 + index)?;
    settle()?;
    times.bare.push(build(&bare, "B one line, no base image", &[&from])?);
    let line = project("line", true)?;
    line.change(2000 + index)?;
    settle()?;
    times.line.push(build(&line, "B one line", &[&from])?);
    line.change(3000 + index)?;
    build(&line, "B one more line, saved", &[&to])?;
    times.stored.push(stored);
    times.added.push(size(&store)?.saturating_sub(stored));
    Ok(())
}

fn of_buildx(ground: &Ground, example: &str, index: usize, times: &mut Times) -> Result<()> {
    let side = Side::new(ground, Kind::Buildx, example, AMD64)?;
    let store = ground.folder().join("buildx-store");
    let _ = fs::remove_dir_all(&store);
    let to = format!("--cache-to=type=local,dest={},mode=max", store.display());
    let from = format!("--cache-from=type=local,src={}", store.display());
    let told = |name: &str, took: Duration| {
        eprintln!("docker buildx, {name}: {:.2} s", took.as_secs_f64());
        took
    };
    side.forget()?;
    times.cold.push(told("A cold, saved", side.with(&[&to])?.wall));
    times.nothing.push(told("A nothing", side.with(&[])?.wall));
    side.change(1000 + index)?;
    times.warm.push(told("A one line", side.with(&[])?.wall));
    side.forget()?;
    settle()?;
    times.same.push(told("B same", side.with(&[&from])?.wall));
    side.forget()?;
    settle()?;
    side.change(2000 + index)?;
    times.line.push(told("B one line", side.with(&[&from])?.wall));
    side.forget()
}

fn size(folder: &std::path::Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { size(&entry.path())? } else { meta.len() };
    }
    Ok(sum)
}

/// The median of bytes.
fn bytes(values: &[u64]) -> f64 {
    // Durations have the median already.
    middle(values.iter().map(|value| Duration::from_micros(*value))).as_secs_f64() * 1e6
}
