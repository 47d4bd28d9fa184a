//! `cargo xtask test`: everything that must hold, in tiers of rising cost.
//!
//! `lint` checks form, `unit` runs what needs no engine, `engine` what needs one for seconds, `bake` what compiles real
//! programs for minutes. A test that cannot run says so with a line that begins with `SKIPPED`; such lines are counted
//! and shown at the end, and in CI, where `CI` is set, they are failures: nothing must look tested that was not.

mod engine;
mod read;
mod scripts;
mod tier;
mod tools;
mod transports;
mod workflows;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::process::installed;
use crate::testbed::{self, Flavour, Options, Testbed};
use crate::workspace::{self, Profile};
use tier::{Counts, Outcome};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Tiers to run; all but `long` if none is named
    #[arg(value_enum)]
    tiers: Vec<Tier>,
    /// Flavour of the testbed's engine
    #[arg(long, value_enum, default_value_t = Flavour::Stable)]
    engine: Flavour,
    /// Only tests whose names, or whose files' names, contain one of these
    #[arg(last = true, value_name = "FILTER")]
    filters: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tier {
    /// Formatting, clippy and rustdoc, warnings being errors, actionlint and shellcheck
    Lint,
    /// What needs no engine
    Unit,
    /// What needs an engine, for seconds
    Engine,
    /// Real programs, for minutes
    Bake,
    /// A large program under plain emulation, for more than an hour; only if it is named
    Long,
}

impl Tier {
    /// What is run if no tier is named.
    const ALL: [Self; 4] = [Self::Lint, Self::Unit, Self::Engine, Self::Bake];

    fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Engine => "engine",
            Self::Bake => "bake",
            Self::Long => "long",
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    let mut tiers = if args.tiers.is_empty() { Tier::ALL.to_vec() } else { args.tiers.clone() };
    tiers.sort();
    tiers.dedup();
    // Names select tests; the lints have none.
    if !args.filters.is_empty() && args.tiers.is_empty() {
        tiers.retain(|tier| *tier != Tier::Lint);
    }
    let mut done = Vec::new();
    let grounds = Grounds::prepare(&tiers, args.engine);
    for tier in tiers {
        let began = Instant::now();
        println!("==> {}", tier.name());
        let outcome = match tier {
            Tier::Lint => tier::lint(),
            Tier::Unit => tier::unit(&args.filters),
            Tier::Engine => grounds.with(true, |testbed| engine::seconds(testbed, &args.filters)),
            Tier::Bake => grounds.with(true, |testbed| engine::minutes(testbed, false, &args.filters)),
            Tier::Long => grounds.with(false, |testbed| engine::minutes(testbed, true, &args.filters)),
        };
        let outcome = outcome.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Outcome::broken(tier.name(), &error)
        });
        done.push((tier, outcome, began.elapsed()));
    }
    conclude(&done, start.elapsed())
}

/// The testbed, brought up while the tiers that need none run.
struct Grounds {
    engine: Flavour,
    coming: Option<mpsc::Receiver<Result<Testbed>>>,
    up: std::cell::OnceCell<Result<Testbed, String>>,
}

impl Grounds {
    fn prepare(tiers: &[Tier], engine: Flavour) -> Self {
        let coming = tiers.iter().any(|tier| *tier >= Tier::Engine).then(|| {
            let (sender, receiver) = mpsc::channel();
            thread::spawn(move || sender.send(testbed::up(&Options { engine, musl: false })));
            receiver
        });
        Self { engine, coming, up: std::cell::OnceCell::new() }
    }

    /// Runs a tier on the testbed, with the musl builder images if it is asked for.
    fn with(&self, musl: bool, tier: impl FnOnce(&Testbed) -> Result<Outcome>) -> Result<Outcome> {
        let up = self.up.get_or_init(|| {
            let coming = self.coming.as_ref().expect("a tier that needs the testbed prepares it");
            coming.recv().map_err(|_| "bringing it up ended early".to_owned())?.map_err(|error| format!("{error:#}"))
        });
        let testbed = match up {
            Ok(testbed) => testbed.clone(),
            Err(error) => bail!("no testbed: {error}"),
        };
        let testbed = if musl {
            // Where these cannot be made, the tests that need them say so.
            testbed::up(&Options { engine: self.engine, musl }).unwrap_or_else(|error| {
                eprintln!("no musl builder images: {error:#}");
                testbed
            })
        } else {
            testbed
        };
        tier(&testbed)
    }
}

/// Builds kiln for tests: as developers build it, since that is compiled for the tests anyway.
fn kiln() -> Result<PathBuf> {
    workspace::build_kiln(Profile::Dev)
}

/// Whether cargo-nextest is there; it runs tests in parallel, each in a process of its own.
fn has_nextest() -> bool {
    installed("cargo-nextest")
}

/// Whether this is a continuous integration service.
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Prints the end summary; its last line is the one that machines read.
fn conclude(done: &[(Tier, Outcome, Duration)], took: Duration) -> Result<ExitCode> {
    println!("\n{:<8}{:>8}{:>8}{:>9}{:>9}", "tier", "passed", "failed", "skipped", "time");
    let mut all = Counts::default();
    for (tier, outcome, took) in done {
        let Counts { passed, failed, skipped } = outcome.counts;
        println!("{:<8}{passed:>8}{failed:>8}{skipped:>9}{:>9}", tier.name(), clock(*took));
        all += outcome.counts;
    }
    println!("{:<8}{:>8}{:>8}{:>9}{:>9}", "all", all.passed, all.failed, all.skipped, clock(took));
    for failure in done.iter().flat_map(|(_, outcome, _)| &outcome.failures) {
        println!("failed: {failure}");
    }
    for skip in done.iter().flat_map(|(_, outcome, _)| &outcome.skips) {
        println!("skipped: {skip}");
    }
    let forbidden = in_ci() && all.skipped > 0;
    if forbidden {
        println!("in CI nothing may be skipped");
    }
    println!("{} passed, {} failed, {} skipped", all.passed, all.failed, all.skipped);
    if all.passed + all.failed == 0 {
        bail!("no test ran");
    }
    Ok(if all.failed > 0 || forbidden { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Minutes and seconds.
pub(crate) fn clock(took: Duration) -> String {
    let seconds = took.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
