//! `cargo xtask bench`: kiln against `docker buildx build`, the peer.
//!
//! Both sides build the same program on the same daemon: the peer and kiln from one Dockerfile of the usual kind, and
//! kiln with its own recipe. Per platform three things are measured: a cold build, a build with nothing changed, and one
//! with a changed line. Sides take turns, in an order that alternates; the middle value of several runs counts. Cold
//! means: the peer's build cache is pruned, and of kiln's volumes and images those that the bench made are removed.

mod caches;
mod dockerfiles;
mod measure;
mod side;
mod twin;
mod volumes;

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::daemon::Daemon;
use crate::process::output;
use crate::test::clock;
use crate::testbed::{self, Flavour, Options};
use crate::workspace::{self, Profile};
use measure::Sample;
use side::{Ground, Kind, Side};

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "options that have nothing to do with each other")]
pub(crate) struct Args {
    /// Platforms to build for, each by itself, separated by commas
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',', default_values = ["linux/amd64"])]
    platforms: Vec<String>,
    /// Runs of each kind; cold builds once unless this is given
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Daemon for `docker buildx` (unix://); without it the peer's script beside the checkout is used, if it is there
    #[arg(long, value_name = "ADDRESS")]
    peer_host: Option<String>,
    /// Measure kiln alone
    #[arg(long, conflicts_with = "peer_host")]
    no_peer: bool,
    /// Run kiln on the testbed's engine, even though the peer runs on another daemon
    #[arg(long)]
    testbed: bool,
    /// Leave one of kiln's sides out
    #[arg(long, value_enum)]
    only: Option<Kind>,
    /// Measure the native twin instead: arm64 against amd64 and against plain emulation
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "full")]
    twin: Option<Depth>,
    /// Measure small Dockerfiles instead: many steps, 50,000 files, a layer of 1 GB
    #[arg(long, conflicts_with_all = ["twin", "no_peer"])]
    dockerfiles: bool,
    /// Measure caches that travel instead: a machine that has nothing and restores what another has saved
    #[arg(long, conflicts_with_all = ["twin", "dockerfiles"])]
    caches: bool,
    /// Measure how one large cache is saved and restored instead, beside `tar` and `zstd`
    #[arg(long, conflicts_with_all = ["twin", "dockerfiles", "caches"])]
    volumes: bool,
    /// Example to build
    #[arg(long, default_value = "hello")]
    example: String,
}

/// How much of the twin is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Depth {
    /// Against plain emulation, too, which takes ten minutes
    Full,
    /// Against the native build only
    Quick,
}

/// Repetitions whose middle value is worth something.
const RUNS: usize = 3;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    let testbed = testbed::up(&Options { engine: Flavour::Stable, musl: false })?;
    let peer = if args.twin.is_some() || args.volumes { None } else { peer(args)? };
    let kiln = workspace::build_kiln(Profile::Release)?;
    // The peer exports caches with the containerd image store alone, in which kiln's checkpoints do not travel.
    let same = peer.clone().filter(|_| !args.testbed && !args.caches);
    let host = same.clone().unwrap_or_else(|| testbed.docker_host.clone());
    let mut env = testbed.env.clone();
    if same.is_some() {
        // The peer's daemon has a bridge without a way out; `docker buildx` gets the machine's network as well.
        env.push(("KILN_NETWORK_BUILD_NETWORK".to_owned(), "host".to_owned()));
    }
    let ground = Ground::new(kiln, host.clone(), env, peer.clone())?;
    println!("kiln on {}", Daemon::at(&host).flavour()?);
    let runs = args.runs.unwrap_or(RUNS);
    let special = match args.twin {
        Some(depth) => Some(twin::run(&ground, &args.example, args.runs, depth == Depth::Full)),
        None if args.dockerfiles => Some(dockerfiles::run(&ground, runs)),
        None if args.caches => Some(caches::run(&ground, &args.example, runs)),
        None if args.volumes => Some(volumes::run(&ground, runs)),
        None => None,
    };
    if let Some(measured) = special {
        measured?;
        println!("\nmeasured in {}", clock(start.elapsed()));
        return Ok(ExitCode::SUCCESS);
    }
    match &peer {
        Some(peer) if *peer == host => println!("docker buildx on the same daemon"),
        Some(peer) => println!("docker buildx on {}", Daemon::at(peer).flavour()?),
        None => println!("docker buildx is not measured: there is no peer (--peer-host)"),
    }
    for platform in &args.platforms {
        let sides = Kind::ALL.iter().filter(|kind| match kind {
            Kind::Buildx => peer.is_some(),
            other => args.only.is_none_or(|only| only == **other),
        });
        let sides = sides.map(|kind| Side::new(&ground, *kind, &args.example, platform)).collect::<Result<Vec<_>>>()?;
        let measured = platform_rounds(&sides, args.runs)?;
        print!("{}", table(platform, &sides, &measured));
    }
    println!("\nmeasured in {}", clock(start.elapsed()));
    Ok(ExitCode::SUCCESS)
}

/// The address of the peer's daemon.
fn peer(args: &Args) -> Result<Option<String>> {
    if args.no_peer || args.peer_host.is_some() {
        return Ok(args.peer_host.clone());
    }
    let Some(script) = workspace::shared("tools/peer-up.sh") else { return Ok(None) };
    let mut up = Command::new("bash");
    up.arg(&script).arg("up");
    if args.caches {
        // One that runs with the other store would be left as it is.
        output(Command::new("bash").arg(&script).arg("down")).context("the peer does not go down")?;
        up.arg("containerd");
    }
    // Asked to go down, it takes some seconds, and does not come up before.
    let mut printed = output(&mut up);
    for _ in 0..10 {
        if printed.is_ok() || !args.caches {
            break;
        }
        std::thread::sleep(Duration::from_secs(2));
        printed = output(&mut up);
    }
    let printed = printed.context("the peer does not come up")?;
    Ok(printed.lines().last().map(str::to_owned))
}

/// What was measured of one side.
#[derive(Default)]
struct Measured {
    cold: Vec<Sample>,
    nothing: Vec<Sample>,
    line: Vec<Sample>,
}

fn platform_rounds<'a>(sides: &[Side<'a>], runs: Option<usize>) -> Result<Vec<Measured>> {
    let mut measured: Vec<Measured> = sides.iter().map(|_| Measured::default()).collect();
    let mut round = |name: &str, index: usize, build: &dyn Fn(&Side<'a>) -> Result<Sample>| -> Result<()> {
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if index % 2 == 1 {
            order.reverse();
        }
        for side in order {
            let sample = build(&sides[side]).with_context(|| format!("{}, {name}", sides[side].name()))?;
            eprintln!("{}, {name}: {:.2} s", sides[side].name(), sample.wall.as_secs_f64());
            let list = match name {
                "cold" => &mut measured[side].cold,
                "nothing" => &mut measured[side].nothing,
                _ => &mut measured[side].line,
            };
            list.push(sample);
        }
        Ok(())
    };
    for index in 0..runs.unwrap_or(1) {
        round("cold", index, &Side::cold)?;
    }
    for index in 0..runs.unwrap_or(RUNS) {
        round("nothing", index, &Side::build)?;
    }
    for index in 0..runs.unwrap_or(RUNS) {
        round("one line", index, &|side| side.changed(index))?;
    }
    Ok(measured)
}

fn table(platform: &str, sides: &[Side<'_>], measured: &[Measured]) -> String {
    let mut text = format!("\n{:<24}{:>16}{:>18}{:>16}\n", platform, "cold", "nothing changed", "one line");
    let peer = sides.iter().position(|side| side.kind == Kind::Buildx).map(|index| &measured[index]);
    for (side, measured) in sides.iter().zip(measured) {
        let cell = |samples: &[Sample], of_peer: Option<&[Sample]>| {
            let own = middle(samples.iter().map(|sample| sample.wall));
            let ratio = of_peer.filter(|_| side.kind != Kind::Buildx).map(|samples| {
                let peer = middle(samples.iter().map(|sample| sample.wall));
                format!(" ({:.2})", own.as_secs_f64() / peer.as_secs_f64())
            });
            format!("{} s{}", seconds(own), ratio.unwrap_or_default())
        };
        let cold = cell(&measured.cold, peer.map(|peer| &peer.cold[..]));
        let nothing = cell(&measured.nothing, peer.map(|peer| &peer.nothing[..]));
        let line = cell(&measured.line, peer.map(|peer| &peer.line[..]));
        let _ = writeln!(text, "{:<24}{cold:>16}{nothing:>18}{line:>16}", side.name());
    }
    for (side, measured) in sides.iter().zip(measured).filter(|(side, _)| side.kind != Kind::Buildx) {
        let all = measured.cold.iter().chain(&measured.nothing).chain(&measured.line);
        let peak = all.map(|sample| sample.peak).max().unwrap_or_default() >> 20;
        let overhead = |samples: &[Sample]| middle(samples.iter().filter_map(Sample::overhead));
        let (cold, line) = (overhead(&measured.cold), overhead(&measured.line));
        let share = 100.0 * cold.as_secs_f64() / middle(measured.cold.iter().map(|s| s.wall)).as_secs_f64();
        let _ = writeln!(
            text,
            "{}: peak memory {peak} MiB; outside of containers {} s of the cold build ({share:.1} %), {} s of one line",
            side.name(),
            seconds(cold),
            seconds(line),
        );
    }
    text
}

/// Seconds with as many places as are worth reading.
fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.2}") } else { format!("{seconds:.1}") }
}

/// The median.
fn middle(values: impl Iterator<Item = Duration>) -> Duration {
    let mut values: Vec<_> = values.collect();
    values.sort();
    let half = values.len() / 2;
    match values.len() {
        0 => Duration::ZERO,
        odd if odd % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2,
    }
}

/// The name of a folder in the bench's own one.
fn named(folder: &Path, kind: Kind, platform: &str) -> std::path::PathBuf {
    folder.join(format!("{}-{}", kind.word(), platform.replace('/', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_values() {
        let of = |values: &[u64]| middle(values.iter().map(|value| Duration::from_secs(*value))).as_secs();
        assert_eq!((of(&[]), of(&[5]), of(&[9, 1, 5]), of(&[8, 2, 4, 6])), (0, 5, 5, 5));
    }
}
