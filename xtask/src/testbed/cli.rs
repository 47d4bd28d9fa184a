//! The command line of the testbed.

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::daemon::Flavour;
use super::{Options, down, status, up};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the engine and the registry and fill it with base images, as far as that is not done
    Up {
        #[arg(long, value_enum, default_value_t = Flavour::Stable)]
        engine: Flavour,
        /// Make the musl builder images as well (minutes)
        #[arg(long)]
        musl: bool,
    },
    /// Make the musl builder images, kilntest/musl-python:3.13 for amd64 and arm64 (the same as `up --musl`)
    Musl,
    /// Stop what was started here
    Down {
        /// Delete the testbed's folder as well
        #[arg(long)]
        purge: bool,
    },
    /// Say what runs
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the variables with which kiln and docker use the testbed, starting it if need be
    Env {
        #[arg(long, value_enum, default_value_t = Flavour::Stable)]
        engine: Flavour,
        #[arg(long, value_enum, default_value_t = Format::Shell)]
        format: Format,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// `export NAME='value'`, for `eval "$(...)"`
    Shell,
    /// One object
    Json,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match args.command {
        Command::Up { engine, musl } => {
            let testbed = up(&Options { engine, musl })?;
            println!("{}", testbed.docker_host);
        }
        Command::Musl => drop(up(&Options { engine: Flavour::Stable, musl: true })?),
        Command::Down { purge } => down(purge)?,
        Command::Status { json } => print_status(json)?,
        Command::Env { engine, format } => {
            let variables = up(&Options { engine, musl: false })?.env;
            match format {
                Format::Shell => {
                    for (name, value) in variables {
                        println!("export {name}={}", quoted(&value));
                    }
                }
                Format::Json => {
                    let object: Map<_, _> = variables.into_iter().map(|(name, value)| (name, value.into())).collect();
                    println!("{:#}", Value::Object(object));
                }
            }
        }
    }
    Ok(())
}

/// A word for a POSIX shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn print_status(as_json: bool) -> Result<()> {
    let status = status()?;
    if as_json {
        println!("{:#}", json!(status));
        return Ok(());
    }
    println!("root      {}", status.root.display());
    match &status.registry {
        Some(registry) => println!("registry  {} (pid {})", registry.address, registry.pid),
        None => println!("registry  down"),
    }
    for (_, address) in &status.stores {
        println!("store     {address}");
    }
    for image in &status.images {
        println!("image     {}  {}", image.name, image.platforms.join(" "));
    }
    for engine in &status.engines {
        match (&engine.pid, &engine.version) {
            (Some(pid), Some(version)) => {
                println!("engine    {}  Docker {version}  {}  (pid {pid})", engine.name, engine.docker_host);
            }
            (Some(pid), None) => println!("engine    {}  does not answer (pid {pid})", engine.name),
            (None, _) => println!("engine    {}  down", engine.name),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn quotes_for_the_shell() {
        assert_eq!(super::quoted("it's"), r"'it'\''s'");
    }
}
