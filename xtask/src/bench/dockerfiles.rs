//! Small Dockerfiles of the usual kinds, measured on both sides: many small steps, many small files, one large layer.
//!
//! Every cold run has keys of its own (a build argument, or a changed file), so nothing has to be pruned for it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::measure;
use super::side::Ground;
use super::{middle, seconds};
use crate::process;

/// Seven commands and four copies in three stages.
const STEPS: &str = "\
ARG SALT
FROM $BASE AS one
ARG SALT
RUN echo $SALT > /a
COPY first /first
RUN mkdir -p /x && echo b > /x/b
RUN cat /a /x/b > /c
COPY second /x/second
FROM one AS two
RUN echo d > /d
RUN cp /d /e
FROM $BASE AS three
ARG SALT
COPY --from=two /e /e
RUN echo $SALT > /g
RUN cat /e /g > /h
FROM scratch
COPY --from=three /h /h
";

const MANY: &str = "\
FROM $BASE AS counted
COPY . /src
RUN find /src -type f | wc -l > /n
FROM scratch
COPY --from=counted /n /n
";

/// A gigabyte that nothing can compress, and a command that stands on it.
const LARGE: &str = "\
FROM $BASE AS large
ARG SALT
RUN echo $SALT && head -c 1073741824 /dev/urandom > /large
RUN ls -l /large > /size
FROM scratch
COPY --from=large /size /size
";

/// Folders and files in each of them.
const FOLDERS: usize = 500;
const FILES: usize = 100;

/// What is measured of both sides, under one name.
#[derive(Default)]
struct Row {
    name: &'static str,
    peer: Vec<Duration>,
    kiln: Vec<Duration>,
}

/// Measures and prints.
pub(super) fn run(ground: &Ground, runs: usize) -> Result<()> {
    let Some(peer) = ground.peer() else { bail!("there is no peer to compare with (--peer-host)") };
    let case = |name: &str, text: &str| Case::new(ground, peer, name, text);
    let steps = case("steps", STEPS)?;
    for file in ["first", "second"] {
        fs::write(steps.context.join(file), file)?;
    }
    let many = case("many", MANY)?;
    for folder in 0..FOLDERS {
        let path = many.context.join(format!("files/{folder}"));
        fs::create_dir_all(&path)?;
        for file in 0..FILES {
            fs::write(path.join(file.to_string()), format!("{folder} {file}\n").repeat(5))?;
        }
    }
    let large = case("large", LARGE)?;
    let names =
        ["11 small steps, cold", "nothing changed", "50,000 files, one changed", "unchanged", "1 GB layer, cold"];
    let mut rows = names.map(|name| Row { name, ..Row::default() });
    // Runs of one kind follow each other, after one that does not count: what a daemon does when it has slept, or has the
    // files of another kind to write, is no matter of the build.
    let salt = std::process::id() as usize * 1000;
    let none = &mut Row::default();
    steps.both(salt + runs, 0, none)?;
    for run in 0..runs {
        steps.both(salt + run, run, &mut rows[0])?;
        steps.both(salt + run, run, &mut rows[1])?;
    }
    many.both(0, 0, none)?;
    for run in 0..runs {
        many.change(run)?;
        many.both(0, run, &mut rows[2])?;
        many.both(0, run, &mut rows[3])?;
    }
    for run in 0..runs {
        large.both(salt + run, run, &mut rows[4])?;
    }
    let mut text = String::new();
    for row in rows {
        let (kiln, peer) = (middle(row.kiln.into_iter()), middle(row.peer.into_iter()));
        let ratio = kiln.as_secs_f64() / peer.as_secs_f64();
        let _ = writeln!(text, "{:<28}{:>8} s{:>10} s  {ratio:.2}", row.name, seconds(peer), seconds(kiln));
    }
    print!("\n{:<28}{:>10}{:>12}\n{text}", "Dockerfiles", "buildx", "kiln");
    Ok(())
}

/// A Dockerfile with its context.
struct Case<'a> {
    ground: &'a Ground,
    peer: &'a str,
    folder: PathBuf,
    context: PathBuf,
}

impl<'a> Case<'a> {
    fn new(ground: &'a Ground, peer: &'a str, name: &str, text: &str) -> Result<Self> {
        let folder = ground.folder().join(name);
        let context = folder.join("context");
        fs::create_dir_all(&context)?;
        let base = ground.small_base();
        fs::write(context.join("Dockerfile"), text.replace("$BASE", &base)).context("the Dockerfile")?;
        Ok(Self { ground, peer, folder, context })
    }

    /// Changes one of the files.
    fn change(&self, run: usize) -> Result<()> {
        let text = format!("run {run} of {}", std::process::id());
        Ok(fs::write(self.context.join("files/0/0"), text)?)
    }

    /// Builds on both sides, the one or the other first.
    fn both(&self, salt: usize, run: usize, row: &mut Row) -> Result<()> {
        for turn in 0..2 {
            let is_kiln = turn == run % 2;
            let (side, list) = if is_kiln { ("kiln", &mut row.kiln) } else { ("buildx", &mut row.peer) };
            let mut command = if is_kiln { self.ground.kiln() } else { Command::new("docker") };
            if !is_kiln {
                command.arg("buildx").env("DOCKER_HOST", self.peer);
            }
            command.args(["build", "--platform=linux/amd64", "--build-arg", &format!("SALT={salt}")]);
            command.args(["-f", "Dockerfile", "-o", &destination(&self.folder, side), "."]).current_dir(&self.context);
            // What the build before this one left to be written must not slow this one down.
            process::run(&mut Command::new("sync"))?;
            let took = measure::run(&mut command)?.wall;
            eprintln!("{side}, {}: {} s", row.name, seconds(took));
            list.push(took);
        }
        Ok(())
    }
}

fn destination(folder: &Path, side: &str) -> String {
    format!("type=local,dest={}", folder.join(side).display())
}
