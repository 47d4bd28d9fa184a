//! A cache of a gigabyte in 20,000 files: kiln saves it to a folder and restores it from there, beside `tar` and `zstd` with
//! the same files, in turns.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::measure::{self, Sample};
use super::side::{Ground, SCOPE, settle};
use super::{middle, seconds};
use crate::daemon::Daemon;
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
    let tree = folder.join("tree");
    fill(&tree)?;
    fs::write(folder.join("Dockerfile"), DOCKERFILE)?;
    let scope = format!("{SCOPE}-volumes");
    let kiln = |arguments: &[&str]| {
        let mut command = ground.kiln();
        command.args(arguments).args(["--file=Dockerfile", "--platform=linux/amd64", "--output=../volumes-out"]);
        command.arg(format!("--build-arg=BASE={}", ground.small_base())).arg(".").current_dir(&folder);
        command.env("KILN_CACHE_SCOPE", &scope);
        command
    };
    let forget = || Daemon::at(ground.host()).remove_labelled(&format!("kiln.scope={scope}"));
    process::run(&mut kiln(&["build", "--no-cache"])).context("the cache cannot be filled")?;
    let (archive, store) = (folder.join("tar.zst"), folder.join("store"));
    let [tar_path, tree_path, store_path] = [&archive, &tree, &store].map(|path| path.display().to_string());
    let (to, from) = (format!("--to=type=local,dest={store_path}"), format!("--from=type=local,src={store_path}"));
    let (mut own, mut others) = (Samples::default(), Samples::default());
    let measure = |name: &str, command: &mut Command| {
        // What the one has written is not left for the other to wait for.
        process::run(&mut Command::new("sync"))?;
        let sample = measure::run(command)?;
        eprintln!("{name}: {:.2} s", sample.wall.as_secs_f64());
        Ok::<_, anyhow::Error>(sample)
    };
    for run in 0..runs {
        for old in [&archive, &store] {
            let _ = fs::remove_file(old);
            let _ = fs::remove_dir_all(old);
        }
        let save = format!("tar cf - -C {tree_path} . | zstd -1 -T0 -q -o {tar_path}");
        others.save.push(measure("tar, save", &mut shell(&save))?);
        own.save.push(measure("kiln, save", &mut kiln(&["cache", "save", "--only=large", &to]))?);
        forget()?;
        settle()?;
        let unpacked = folder.join(format!("unpacked{run}"));
        fs::create_dir(&unpacked)?;
        let restore = format!("zstd -dqc {tar_path} | tar xf - -C {}", unpacked.display());
        others.restore.push(measure("tar, restore", &mut shell(&restore))?);
        own.restore.push(measure("kiln, restore", &mut kiln(&["cache", "restore", "--only=large", &from]))?);
    }
    forget()?;
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
