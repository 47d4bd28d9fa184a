//! `kiln`: the command line.
//!
//! This crate alone reads the environment, talks to the terminal and ends the process.

mod annotate;
mod bake;
mod checkout;
mod checks;
mod cli;
mod commands;
mod context;
mod doctor;
mod emulate;
mod environment;
mod error;
mod fields;
mod git;
mod history;
mod job;
mod lower;
mod metadata;
mod network;
mod output;
mod package;
mod phase;
mod project;
mod proof;
mod recipe;
mod release;
mod report;
mod room;
mod run_flags;
mod scope;
mod session;
mod shell;
mod sources;
mod suite;
mod travel;
mod twin;
mod ui;
mod verify;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::environment::Environment;
use crate::error::Result;
use crate::ui::Ui;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::read();
    let ui = Ui::new(cli.global.color, &environment);
    trace(&cli, &environment, ui);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(&cli, &environment, ui));
            // A blocking read that nobody waits for any more must not hold the process.
            runtime.shutdown_background();
            result
        }
        Err(source) => Err(error::CliError::io("start", "the asynchronous runtime")(source)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.error(&error);
            annotate::command(ui, &environment, &error);
            ExitCode::from(error.code())
        }
    }
}

async fn run(cli: &Cli, environment: &Environment, ui: Ui) -> Result<()> {
    let Some(command) = &cli.command else {
        if cli.version {
            commands::help::version(ui, cli.json);
            return Ok(());
        }
        return Err(error::CliError::Usage {
            problem: "no command was given".to_owned(),
            hint: "`kiln help` lists them; `kiln build` builds".to_owned(),
        });
    };
    match command {
        Command::Build(args) => commands::build::run(ui, environment, &cli.global, args).await,
        Command::Bake(args) => commands::bake::run(ui, environment, &cli.global, args).await,
        Command::Test(args) => Box::pin(commands::test::run(ui, environment, &cli.global, args)).await,
        Command::Package(args) => commands::package::run(ui, environment, &cli.global, args).await,
        Command::Plan(args) => commands::plan::run(ui, environment, &cli.global, args).await,
        Command::Init(args) => commands::init::run(ui, args),
        Command::Config(args) => commands::config::run(ui, environment, &args.command),
        Command::Emulation(args) => commands::emulation::run(ui, environment, &cli.global, &args.command).await,
        Command::Doctor(args) => commands::doctor::run(ui, environment, &cli.global, args).await,
        Command::Verify(args) => Box::pin(commands::verify::run(ui, environment, &cli.global, args)).await,
        Command::Prune(args) => commands::prune::run(ui, environment, &cli.global, args).await,
        Command::Du(args) => commands::du::run(ui, environment, &cli.global, args).await,
        Command::Ci(args) => commands::ci::run(ui, environment, &args.command),
        Command::Migrate(args) => commands::migrate::run(ui, args),
        Command::Cache(args) => commands::cache::run(ui, environment, &cli.global, &args.command).await,
        Command::History(args) => commands::history::run(ui, &args.command),
        Command::Stats(args) => commands::history::stats(ui, environment, args),
        Command::Report(args) => commands::report::run(ui, args),
        Command::Release(args) => commands::release::run(ui, environment, args).await,
        Command::Completions { shell } => commands::help::completions(ui, environment, *shell),
        Command::Man { output } => commands::help::man(ui, output.as_deref()),
    }
}

/// Ends the process at once: for the third Ctrl-C.
#[expect(clippy::exit, reason = "the user asked three times; the next run removes what is left behind")]
fn exit_now(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

fn trace(cli: &Cli, environment: &Environment, ui: Ui) {
    let filter = match (environment.get("KILN_LOG"), cli.global.verbose) {
        (Some(filter), _) => filter.to_owned(),
        // There it is the records that are told at length.
        (None, _) if matches!(cli.command, Some(Command::Prune(_) | Command::Du(_))) => return,
        (None, 0) => return,
        (None, 1) => "kiln=debug,kiln_solver=debug,kiln_docker=debug".to_owned(),
        (None, _) => "trace".to_owned(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(ui.color)
        .init();
}
