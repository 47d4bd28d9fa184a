//! `cargo xtask demo`: from a bare machine to programs that run, in one command.
//!
//! The engine is the testbed's unless `--host` names another. kiln is built as it ships and bakes the examples with its
//! own display; the results are then run, on this machine where they can be and in clean containers where not.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::daemon::{Daemon, Ran};
use crate::test::clock;
use crate::testbed::{self, Flavour, Options};
use crate::workspace::{self, Profile};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Examples to bake (repeatable)
    #[arg(long = "example", value_name = "NAME", default_values = ["hello", "httpie"])]
    examples: Vec<String>,
    /// Platforms to bake for, separated by commas
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',',
        default_values = ["linux/amd64", "linux/386", "linux/arm64"])]
    platforms: Vec<String>,
    /// Use a daemon that is there (unix:// or tcp://; without a value DOCKER_HOST) and leave the testbed out
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "")]
    host: Option<String>,
    /// Flavour of the testbed's engine
    #[arg(long, value_enum, default_value_t = Flavour::Stable)]
    engine: Flavour,
}

/// What is known of an example: the name of its program, and the arguments that show it at work.
struct Example {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

const EXAMPLES: [Example; 3] = [
    Example { name: "hello", program: "hello", arguments: &[] },
    Example {
        name: "httpie",
        program: "http",
        arguments: &["--ignore-stdin", "--offline", "POST", "example.org", "baked=with kiln"],
    },
    Example { name: "native", program: "catalog", arguments: &["--extensions"] },
];

/// One line of the table at the end.
struct Row {
    example: &'static str,
    platform: String,
    file: String,
    size: u64,
    ran: Result<Shown>,
}

/// How a result ran.
struct Shown {
    place: &'static str,
    line: String,
    took: Duration,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    let examples = args
        .examples
        .iter()
        .map(|name| EXAMPLES.iter().find(|example| example.name == name).with_context(|| unknown(name)))
        .collect::<Result<Vec<_>>>()?;
    say("an engine to bake on");
    let (host, env) = engine(args)?;
    let daemon = Daemon::at(&host);
    println!("{host}: {}", daemon.flavour()?);

    say("kiln, as it ships");
    let kiln = workspace::build_kiln(Profile::Release)?;

    let mut rows = Vec::new();
    let mut times = Vec::new();
    let mut complete = true;
    for example in examples {
        let folder = workspace::root().join("examples").join(example.name);
        say(&format!("kiln build examples/{} --recipe debian --platform {}", example.name, args.platforms.join(",")));
        let began = Instant::now();
        let mut build = Command::new(&kiln);
        build.args(["build", "--recipe", "debian", "--platform", &args.platforms.join(",")]).arg(&folder);
        let status = build.envs(env.iter().cloned()).env("DOCKER_HOST", &host).stdin(Stdio::null()).status()?;
        times.push(format!("{} baked in {}", example.name, clock(began.elapsed())));
        complete &= status.success();

        say(&format!("the results of {} at work", example.name));
        for platform in &args.platforms {
            let file = format!("{}-{}", example.program, suffix(platform)?);
            let path = folder.join("dist").join(&file);
            // A file of an earlier run is no result of this one.
            let fresh = fs::metadata(&path).ok().filter(|_| status.success() || status.code() == Some(8));
            let size = fresh.as_ref().map_or(0, fs::Metadata::len);
            let ran = if fresh.is_some() {
                at_work(&daemon, platform, &path, example.arguments)
            } else {
                Err(anyhow::anyhow!("it was not baked"))
            };
            rows.push(Row { example: example.name, platform: platform.clone(), file, size, ran });
        }
    }
    complete &= rows.iter().all(|row| row.ran.is_ok());
    table(&rows);
    println!("\n{}; {} in all", times.join(", "), clock(start.elapsed()));
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn unknown(name: &str) -> String {
    let known: Vec<_> = EXAMPLES.iter().map(|example| example.name).collect();
    format!("there is no example `{name}`, only {}", known.join(", "))
}

/// The engine's address, and the variables with which kiln uses it.
fn engine(args: &Args) -> Result<(String, Vec<(String, String)>)> {
    match &args.host {
        None => {
            let testbed = testbed::up(&Options { engine: args.engine, musl: false })?;
            Ok((testbed.docker_host, testbed.env))
        }
        Some(host) if host.is_empty() => {
            let variable = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
            Ok((variable.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned()), Vec::new()))
        }
        Some(host) => Ok((host.clone(), Vec::new())),
    }
}

/// What kiln calls a platform in names of files.
fn suffix(platform: &str) -> Result<&'static str> {
    Ok(match platform {
        "linux/amd64" => "linux-x86_64",
        "linux/386" => "linux-i686",
        "linux/arm64" => "linux-arm64",
        "linux/arm/v7" => "linux-armv7",
        "linux/riscv64" => "linux-riscv64",
        other => bail!("the demo does not know {other}"),
    })
}

/// Runs a result and shows what it writes.
fn at_work(daemon: &Daemon, platform: &str, path: &Path, arguments: &[&str]) -> Result<Shown> {
    let own = match std::env::consts::ARCH {
        "x86_64" => ["linux/amd64", "linux/386"].as_slice(),
        "aarch64" => ["linux/arm64"].as_slice(),
        _ => &[],
    };
    let start = Instant::now();
    let here = own.contains(&platform).then(|| here(path, arguments)).and_then(Result::ok);
    // A machine with an older C library, or with none for 32-bit programs, cannot run it itself.
    let (place, ran) = match here.filter(|ran| ran.code == 0) {
        Some(ran) => ("on this machine", ran),
        None => ("in a container", daemon.run_on_debian(platform, &fs::read(path)?, arguments)?),
    };
    let took = start.elapsed();
    println!("{platform}, {place}:");
    for line in ran.output.lines().filter(|line| !line.trim().is_empty()).take(6) {
        println!("    {}", line.trim_end());
    }
    if ran.code != 0 {
        bail!("it ended with exit code {}", ran.code);
    }
    let line = ran.output.lines().next().unwrap_or_default().trim().to_owned();
    Ok(Shown { place, line, took })
}

/// Runs a program on this machine, away from its project.
fn here(path: &Path, arguments: &[&str]) -> Result<Ran> {
    let folder = Scratch::new()?;
    let mut command = Command::new(path);
    command.arg0(path.file_name().unwrap_or_default()).args(arguments).current_dir(&folder.0).stdin(Stdio::null());
    let output = command.output()?;
    let mut text = output.stdout;
    text.extend_from_slice(&output.stderr);
    let code = output.status.code().map_or(-1, i64::from);
    Ok(Ran { code, output: String::from_utf8_lossy(&text).into_owned() })
}

/// A folder for the time of a run.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("kiln-demo-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn say(what: &str) {
    println!("\n==> {what}");
    // kiln writes to standard error: what comes first must be seen first.
    let _ = std::io::stdout().flush();
}

fn table(rows: &[Row]) {
    println!("\n{:<9}{:<13}{:<22}{:>9}  {:<16}{:>7}", "example", "platform", "file", "size", "ran", "time");
    for Row { example, platform, file, size, ran } in rows {
        let size = format!("{}.{} MB", size / 1_000_000, size / 100_000 % 10);
        match ran {
            Ok(Shown { place, line, took }) => {
                let took = format!("{:.1} s", took.as_secs_f32());
                println!("{example:<9}{platform:<13}{file:<22}{size:>9}  {place:<16}{took:>7}  {line}");
            }
            Err(error) => println!("{example:<9}{platform:<13}{file:<22}{size:>9}  FAILED: {error:#}"),
        }
    }
}
