//! A cache of a gigabyte in 20,000 files: kiln saves it to a folder and restores it from there, beside `tar` and `zstd` with
//! the same files, in turns.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::measure::{self, Sample};
use super::side::{Ground, SCOPE};
use super::{middle, seconds};
use crate::own::Own;
use crate::process;

/// Files, folders that they lie in, and bytes of each file.
const FILES: u64 = 20_000;
const FOLDERS: u64 = 256;
const SIZE: usize = 50_000;

const DOCKERFILE: &str = "\
ARG BASE
FROM $BASE AS filled
RUN --mount=type=cache,id=large,target=/cache --mount=type=bind,target=/from cp -a /from/tree/. /cache/ && date > /done
FROM scratch
COPY --from=filled /done /
";

/// What is measured of one side.
#[derive(Default)]
struct Samples {
    save: Vec<Sample>,
    restore: Vec<Sample>,
}

/// Measures and prints.
pub(super) fn run(ground: &Ground, runs: usize) -> Result<()> {
    let folder = ground.folder().join("volumes");
    let context = folder.join("context");
    let tree = context.join("tree");
    fill(&tree)?;
    fs::write(context.join("Dockerfile"), DOCKERFILE)?;
    // A machine that has it and one that does not, and a cache of its own for each run: nothing is removed before the end.
    let machines = [ground.machine("from")?, ground.machine("to")?];
    let kiln = |machine: &Own, run: usize, arguments: &[&str]| {
        let mut command = ground.kiln();
        command.args(arguments).args(["--file=Dockerfile", "--platform=linux/amd64", "--output=../volumes-out"]);
        command.args(["--build-arg=BASE=alpine:3.20", "."]).current_dir(&context);
        command.env("DOCKER_HOST", machine.host()).env("KILN_CACHE_SCOPE", format!("{SCOPE}-volumes{run}"));
        command
    };
    let (mut own, mut others) = (Samples::default(), Samples::default());
    let measure = |name: &str, command: &mut Command| {
        // What the one has written is not left for the other to wait for.
        process::run(&mut Command::new("sync"))?;
        let sample = measure::run(command)?;
        eprintln!("{name}: {:.2} s", sample.wall.as_secs_f64());
        Ok::<_, anyhow::Error>(sample)
    };
    for run in 0..runs {
        process::run(&mut kiln(&machines[0], run, &["build", "--no-cache"])).context("the cache cannot be filled")?;
        let [archive, store, unpacked] =
            [format!("tar{run}.zst"), format!("store{run}"), format!("unpacked{run}")].map(|name| folder.join(name));
        fs::create_dir(&unpacked)?;
        let save = format!("tar cf - -C {} . | zstd -1 -T0 -q -o {}", tree.display(), archive.display());
        let restore = format!("zstd -dqc {} | tar xf - -C {}", archive.display(), unpacked.display());
        let to = format!("--to=type=local,dest={}", store.display());
        let from = format!("--from=type=local,src={}", store.display());
        others.save.push(measure("tar, save", &mut shell(&save))?);
        own.save.push(measure("kiln, save", &mut kiln(&machines[0], run, &["cache", "save", "--only=large", &to]))?);
        others.restore.push(measure("tar, restore", &mut shell(&restore))?);
        let arguments = ["cache", "restore", "--only=large", &from];
        own.restore.push(measure("kiln, restore", &mut kiln(&machines[1], run, &arguments))?);
    }
    println!(
        "\na cache of {} files with {} MB\n{:<12}{:>12}{:>16}",
        FILES,
        FILES * SIZE as u64 / 1_000_000,
        "",
        "kiln",
        "tar and zstd"
    );
    for (name, own, others) in [("save", &own.save, &others.save), ("restore", &own.restore, &others.restore)] {
        let [time, other] = [own, others].map(|samples| middle(samples.iter().map(|sample| sample.wall)));
        let peak = own.iter().map(|sample| sample.peak).max().unwrap_or_default() / 1_000_000;
        let ratio = time.as_secs_f64() / other.as_secs_f64();
        println!("{name:<12}{:>10} s{:>14} s  {ratio:.2}; kiln's peak memory {peak} MB", seconds(time), seconds(other));
    }
    Ok(())
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Half of the files cannot be compressed; the others are of words, as objects and texts are.
fn fill(tree: &Path) -> Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let words: Vec<Vec<u8>> = (0..4000)
        .map(|_| {
            let len = 4 + usize::from(next()[0] % 36);
            std::iter::repeat_with(&mut next).flatten().take(len).collect()
        })
        .collect();
    for folder in 0..FOLDERS {
        fs::create_dir_all(tree.join(folder.to_string()))?;
    }
    for number in 0..FILES {
        let mut content = Vec::with_capacity(SIZE + 64);
        while content.len() < SIZE {
            let random = next();
            if number % 2 == 0 {
                content.extend_from_slice(&random);
            } else {
                content
                    .extend_from_slice(&words[usize::from(u16::from_le_bytes([random[0], random[1]])) % words.len()]);
            }
        }
        content.truncate(SIZE);
        fs::write(tree.join(format!("{}/{number}", number % FOLDERS)), content)?;
    }
    Ok(())
}
