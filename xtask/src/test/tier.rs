//! Running cargo for one tier and counting what came of it.

use std::io::{BufRead, BufReader};
use std::ops::AddAssign;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::engine::NEEDS_QEMU;
use super::has_nextest;
use super::read::{Reader, Show};
use crate::testbed::packages;
use crate::workspace::cargo;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// What became of a tier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    /// Names of what failed.
    pub(crate) failures: Vec<String>,
    /// What was skipped, with the reason.
    pub(crate) skips: Vec<String>,
}

impl Outcome {
    /// A tier that could not be run at all: one failure.
    pub(crate) fn broken(name: &str, error: &anyhow::Error) -> Self {
        let text = format!("{error:#}");
        let failure = format!("{name}: {}", text.lines().next().unwrap_or_default());
        Self { counts: Counts { failed: 1, ..Counts::default() }, failures: vec![failure], skips: Vec::new() }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.counts += other.counts;
        self.failures.extend(other.failures);
        self.skips.extend(other.skips);
    }

    fn check(&mut self, name: &str, passed: bool) {
        if passed {
            println!("    {name}: ok");
            self.counts.passed += 1;
        } else {
            println!("    {name}: FAILED");
            self.counts.failed += 1;
            self.failures.push(name.to_owned());
        }
    }
}

/// Formatting, clippy and rustdoc, the examples of workflows, and scripts.
pub(crate) fn lint() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let checks: [(&str, Command); 3] = [
        ("cargo fmt", cargo(["fmt", "--all", "--check"])),
        ("cargo clippy", cargo(["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "-Dwarnings"])),
        ("cargo doc", {
            let mut doc = cargo(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
            doc.env("RUSTDOCFLAGS", "-Dwarnings");
            doc
        }),
    ];
    for (name, mut command) in checks {
        let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {name}"))?;
        outcome.check(name, status.success());
    }
    for (name, result) in [("actionlint", super::workflows::lint()), ("shellcheck", super::scripts::lint())] {
        if let Err(error) = &result {
            println!("{error:#}");
        }
        outcome.check(name, result.is_ok());
    }
    Ok(outcome)
}

/// What needs no engine: all tests but those of the driver's `tests` folder and the end-to-end ones.
pub(crate) fn unit(filters: &[String]) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    // Where it cannot be had, the tests that need it say so.
    if let Err(error) = packages::install(&[("node", "nodejs")]) {
        eprintln!("no node: {error:#}");
    }
    if has_nextest() {
        let select = "not package(kiln-e2e) and not (package(kiln-docker) and kind(test))";
        let others = super::engine::BINARIES.map(|(_, name)| format!(" and not binary({name})")).concat();
        let select = &format!("{select}{others} and not {NEEDS_QEMU}");
        outcome.add(Tests { select, env: &[], filters, show: Show::Problems }.nextest()?);
    } else {
        // The driver's own tests follow in the next tier, all of them: cargo's runner cannot tell them apart.
        let part = ["--workspace", "--exclude=kiln-e2e", "--exclude=kiln-docker", "--lib", "--bins", "--tests"];
        outcome.add(libtest(&part, filters, &[], None)?);
    }
    outcome.add(libtest(&["--workspace", "--doc"], filters, &[], None)?);
    Ok(outcome)
}

/// A run of cargo-nextest.
pub(crate) struct Tests<'a> {
    /// Which tests, in nextest's language of filters.
    pub(crate) select: &'a str,
    pub(crate) env: &'a [(String, String)],
    pub(crate) filters: &'a [String],
    pub(crate) show: Show,
}

impl Tests<'_> {
    pub(crate) fn nextest(&self) -> Result<Outcome> {
        let mut command = cargo(["nextest", "run", "--locked", "--workspace", "--no-fail-fast", "--no-tests=pass"]);
        // Output of tests that passed is where the skipped ones say so.
        command.args(["--color=never", "--success-output=immediate", "--failure-output=immediate"]);
        command.arg("-E").arg(self.expression());
        run(isolated(&mut command).envs(self.env.iter().cloned()), Reader::nextest(self.show))
    }

    /// The tests of the tier whose name contains one of the filters, or that are in the file of that name. Of any other word
    /// for a file nextest says that it is a mistake.
    fn expression(&self) -> String {
        let Self { select, filters, .. } = self;
        if filters.is_empty() {
            return (*select).to_owned();
        }
        let is_file = |word: &str| super::engine::BINARIES.iter().any(|(_, name)| *name == word);
        let named = filters.iter().map(|word| {
            let file = if is_file(word) { format!(" or binary(={word})") } else { String::new() };
            format!("test(~{word}){file}")
        });
        let named: Vec<_> = named.collect();
        format!("({select}) and ({})", named.join(" or "))
    }
}

/// A run of cargo's own test runner over the targets that `part` selects.
pub(crate) fn libtest(
    part: &[&str],
    filters: &[String],
    env: &[(String, String)],
    threads: Option<usize>,
) -> Result<Outcome> {
    let mut command = cargo(["test", "--locked", "--no-fail-fast", "--quiet"]);
    command.args(part).arg("--").arg("--show-output").args(filters);
    if let Some(threads) = threads {
        command.arg(format!("--test-threads={threads}"));
    }
    run(isolated(&mut command).envs(env.iter().cloned()), Reader::libtest())
}

/// Keeps the user's own daemon and settings out of tests: they see only what they are given.
fn isolated(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("KILN_") || text.starts_with("DOCKER_") {
            command.env_remove(&name);
        }
    }
    // A failed assertion names its line; the machinery below it is not worth a hundred lines.
    command.env("RUST_BACKTRACE", "0")
}

/// Runs a command, reading what it prints as it comes.
fn run(command: &mut Command, mut reader: Reader) -> Result<Outcome> {
    let (output, input) = std::io::pipe().context("cannot make a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input)
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    // The command holds the writing end too: without this, the end of the output would never come.
    *command = Command::new("true");
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        reader.line(&String::from_utf8_lossy(&line));
    }
    let status = child.wait()?;
    let mut outcome = reader.end();
    if !status.success() && outcome.counts.failed == 0 {
        // It did not come to running tests: they do not compile, most likely.
        outcome.counts.failed = 1;
        outcome.failures.push(format!("running the tests ended with {status}"));
    }
    Ok(outcome)
}
