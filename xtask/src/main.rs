//! Automation for the people who work on kiln, run as `cargo xtask ...`.
//!
//! One module per task. A task is a function that other tasks can call as well; the command line only chooses it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool for developers")]

mod bench;
mod daemon;
mod demo;
mod own;
mod process;
mod test;
mod testbed;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Automation for the people who work on kiln.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// A Docker engine, a registry and base images of its own, for tests and demonstrations
    Testbed(testbed::cli::Args),
    /// From a bare machine to programs that run: bakes the examples and shows their results at work
    Demo(demo::Args),
    /// Everything that must hold: lint, unit, engine and bake
    Test(test::Args),
    /// kiln against `docker buildx build`: cold, nothing changed, one line
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Testbed(args) => testbed::cli::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Demo(args) => demo::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Test(args) => test::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(hint) = process::hint(&error) {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
