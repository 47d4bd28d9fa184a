//! The command line.

mod room;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::environment::Environment;
use crate::report::Progress;

pub(crate) use room::{Cache, CacheCommand, CachePrune, Du, DuFormat, Prune};

const EVERYWHERE: &str = "Global options";

const EXAMPLES: &str = "\
Examples:
  kiln init                     write kiln.toml, then
  kiln build                    build for all platforms, into dist/
  kiln build --entry main.py    build without settings
  kiln help build               all options of a command

Exit codes: 0 done, 1 a step failed, 2 wrong command line, 3 wrong settings or Dockerfile, 4 daemon or
image, 5 emulation, 6 wrong artifact or failed smoke run, 7 files of this machine, 8 some platforms
failed, 130 stopped";

const BUILD_EXAMPLES: &str = "\
Examples:
  kiln build --platform linux/arm64
  kiln build --entry main.py --recipe debian --set nuitka.lto=no
  kiln build -f Dockerfile.build --target export --build-arg ARCH=x86_64 -o type=local,dest=out .
  kiln build -f Dockerfile --platform linux/amd64,linux/arm64 -t registry.example/app:1 --push .

Output types: local, tar, docker, image, registry, oci, cacheonly";

const BAKE_EXAMPLES: &str = "\
Examples:
  kiln bake                                   the group or target `default`
  kiln bake --print                           show what that is, as JSON
  kiln bake app docs --set app.args.VERSION=2 --set '*.platform=linux/arm64'";

/// Bakes a Python program into one verified binary per platform, through the Docker Engine API alone.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Daemon: unix://, tcp:// or ssh://; default: as the docker CLI finds it
    #[arg(short = 'H', long, global = true, value_name = "ADDRESS", help_heading = EVERYWHERE, display_order = 100)]
    pub(crate) host: Option<String>,
    /// Docker context to connect to
    #[arg(long, global = true, value_name = "NAME", help_heading = EVERYWHERE, display_order = 101)]
    pub(crate) docker_context: Option<String>,
    /// When to use colour: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true,
        hide_default_value = true, help_heading = EVERYWHERE, display_order = 102)]
    pub(crate) color: Color,
    /// Say more of what kiln itself does; twice for everything (or set KILN_LOG)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = EVERYWHERE, display_order = 103)]
    pub(crate) verbose: u8,
}

impl Global {
    /// Whether kiln says what itself does.
    pub(crate) fn is_traced(&self, environment: &Environment) -> bool {
        self.verbose > 0 || environment.get("KILN_LOG").is_some()
    }
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build the project for all its platforms
    #[command(after_help = BUILD_EXAMPLES)]
    Build(Box<Build>),
    /// Show what a build would do: each step, whether and why it runs, natively or emulated
    #[command(
        after_help = "Examples:\n  kiln plan\n  kiln plan --platform linux/arm64 --json\n  kiln plan --format dot | dot -Tsvg -o plan.svg"
    )]
    Plan(Box<Plan>),
    /// Build the targets of a docker-bake.hcl, a docker-bake.json or a compose file, or of kiln.toml
    #[command(after_help = BAKE_EXAMPLES)]
    Bake(Bake),
    /// Write a commented kiln.toml from what is found in the project
    #[command(
        after_help = "Examples:\n  kiln init\n  kiln init --eject debian   write the recipe out too, to change it"
    )]
    Init(Init),
    /// Show settings and where each comes from
    Config(Config),
    /// Show, install or remove the emulators of foreign platforms
    Emulation(Emulation),
    /// Give the disk back: remove checkpoints, what dead builds left, with --all everything
    #[command(after_help = room::PRUNE_EXAMPLES)]
    Prune(Prune),
    /// Say what takes how much room, on the daemon and here
    #[command(after_help = "Examples:\n  kiln du\n  kiln du --verbose --filter type=regular\n  kiln du --format json")]
    Du(Du),
    /// List, measure or prune the cache volumes and checkpoints of projects
    Cache(Cache),
}

/// What would be built.
#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// How to print: text, json, dot or mermaid
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, hide_possible_values = true)]
    pub(crate) format: PlanFormat,
    /// Same as --format=json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// As for `kiln build`.
    #[command(flatten)]
    pub(crate) build: Build,
}

/// Several targets at once.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Bake {
    /// Targets and groups; default: `default`
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// File to read instead of those that are looked for (repeatable; later ones lie over earlier ones)
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Change a target: TARGET.KEY=VALUE, such as app.tags=x or '*.args.A=1' (repeatable)
    #[arg(long = "set", value_name = "TARGET.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print what would be built as JSON, and build nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// Run every step again; cache volumes are kept
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Ask the registry for newer base images
    #[arg(long)]
    pub(crate) pull: bool,
    /// auto, tty, plain, json (events on stdout) or quiet (paths only)
    #[arg(long, value_name = "MODE", default_value = "auto", hide_possible_values = true, hide_default_value = true)]
    pub(crate) progress: Progress,
    /// Same as --progress=quiet
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// How a plan is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// A graph for Graphviz.
    Dot,
    /// A graph for Markdown.
    Mermaid,
}

/// Which project, and what in it differs for this run.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Project {
    /// Project folder, the build context (or git repository, URL, `-`); default: the current one
    #[arg(default_value = ".", value_name = "PATH", hide_default_value = true)]
    pub(crate) path: PathBuf,
    /// Settings file instead of the project's kiln.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Python file to build
    #[arg(long, value_name = "FILE", conflicts_with = "module")]
    pub(crate) entry: Option<String>,
    /// Python module to build (package.module, or package.module:function)
    #[arg(long, value_name = "MODULE")]
    pub(crate) module: Option<String>,
    /// Name of the program
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Requirements file
    #[arg(long, value_name = "FILE")]
    pub(crate) requirements: Option<String>,
    /// Recipe: alpine, debian, or a Dockerfile
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<String>,
    /// Any setting, as in kiln.toml: nuitka.lto=no (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Platforms to build for, separated by commas (repeatable)
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
}

#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) project: Project,
    /// Dockerfile to build instead of a recipe; `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Stage of the Dockerfile to build
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Value for an ARG (repeatable); NAME alone takes the environment's
    #[arg(long = "build-arg", value_name = "NAME=VALUE", value_parser = build_arg)]
    pub(crate) args: Vec<String>,
    /// Secret for steps: id=ID,src=FILE or id=ID,env=VARIABLE (repeatable)
    #[arg(long, value_name = "SECRET")]
    pub(crate) secret: Vec<String>,
    /// Ssh agent for steps: default, or ID=SOCKET (repeatable)
    #[arg(long, value_name = "AGENT")]
    pub(crate) ssh: Vec<String>,
    /// Network of steps: default, none, host, or a network's name
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Host that steps know, NAME:ADDRESS (repeatable)
    #[arg(long, value_name = "HOST")]
    pub(crate) add_host: Vec<String>,
    /// Size of /dev/shm in steps, such as 128m
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// Limit of steps, such as nofile=1024:2048 (repeatable)
    #[arg(long, value_name = "LIMIT")]
    pub(crate) ulimit: Vec<String>,
    /// Folder, image, git repository or URL for that name (repeatable)
    #[arg(long = "build-context", value_name = "NAME=VALUE", value_parser = build_context)]
    pub(crate) contexts: Vec<(String, String)>,
    /// Folder, `-`, or type=TYPE,dest=PATH,name=NAME (repeatable)
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<String>,
    /// Name of the image (repeatable)
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<String>,
    /// Load the image into the daemon: --output=type=docker
    #[arg(long)]
    pub(crate) load: bool,
    /// Push the image: --output=type=registry
    #[arg(long)]
    pub(crate) push: bool,
    /// Label of the image (repeatable)
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Annotation (repeatable): [index:|manifest:]NAME=VALUE
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub(crate) annotations: Vec<String>,
    /// Write facts about the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Run every step again; cache volumes are kept
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Run every step of these stages again
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Start with empty cache volumes
    #[arg(long)]
    pub(crate) no_cache_mounts: bool,
    /// Ask the registry for newer base images
    #[arg(long)]
    pub(crate) pull: bool,
    /// auto, tty, plain, json (events on stdout) or quiet (paths only)
    #[arg(long, value_name = "MODE", default_value = "auto", hide_possible_values = true, hide_default_value = true)]
    pub(crate) progress: Progress,
    /// Same as --progress=quiet
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Stop all platforms when one fails
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Go on with the other platforms when one fails (the default)
    #[arg(long, conflicts_with = "fail_fast")]
    pub(crate) keep_going: bool,
    /// Do not install emulators; fail if a platform cannot run
    #[arg(long)]
    pub(crate) no_install_emulation: bool,
    /// Do not run the artifacts after building them
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Parallel C compilers per platform: auto or a number
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<String>,
    /// Link-time optimisation: auto, yes or no
    #[arg(long, value_name = "WHEN")]
    pub(crate) lto: Option<String>,
    /// Native programs for emulated platforms: auto, on or off
    #[arg(long, value_name = "WHEN")]
    pub(crate) twin: Option<String>,
    /// Check the Dockerfile, build nothing; exit code 1 for warnings
    #[arg(long)]
    pub(crate) check: bool,
    /// What to do instead of building: check, or check,format=json
    #[arg(long, value_name = "METHOD", conflicts_with = "check")]
    pub(crate) call: Option<String>,
    /// Steps that may run at the same time; default: all that can
    #[arg(long, value_name = "N")]
    pub(crate) parallel: Option<NonZeroUsize>,
}

#[derive(Args, Debug)]
pub(crate) struct Init {
    /// Project folder
    #[arg(default_value = ".", value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// Replace a kiln.toml that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Write the built-in recipe as kiln.Dockerfile too, for editing
    #[arg(long, value_name = "RECIPE", num_args = 0..=1, default_missing_value = "")]
    pub(crate) eject: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting with where it comes from
    Show {
        #[command(flatten)]
        project: Project,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Emulation {
    #[command(subcommand)]
    pub(crate) command: EmulationCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EmulationCommand {
    /// Say how each platform runs on the daemon, by executing a program
    Status {
        /// Platforms, separated by commas; default: all
        #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
        platforms: Vec<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Register emulators with the daemon's kernel
    Install {
        /// Platforms, separated by commas; default: linux/arm64
        #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
        platforms: Vec<String>,
        /// Image with the emulators instead of kiln's own (tonistiigi/binfmt works)
        #[arg(long, value_name = "IMAGE")]
        qemu_image: Option<String>,
    },
    /// Remove emulators that kiln registered
    Uninstall {
        /// Platforms, separated by commas; default: all
        #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
        platforms: Vec<String>,
    },
}

fn build_arg(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        None | Some("") => Err("write NAME=VALUE, or NAME alone to take it from the environment".to_owned()),
        Some(_) => Ok(text.to_owned()),
    }
}

fn build_context(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE, such as src=../src or alpine=docker-image://alpine:3.20".to_owned()),
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, such as nuitka.lto=no".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_buildx_command_line_is_understood() {
        let line = "kiln build -f Dockerfile.build --target export --platform linux/amd64,linux/386 \
                    --build-arg ARCH=x86_64 -o type=local,dest=out .";
        let cli = Cli::try_parse_from(line.split_whitespace()).expect("valid");
        let Command::Build(build) = cli.command else { panic!("not a build") };
        assert_eq!(build.project.platforms, ["linux/amd64", "linux/386"]);
        assert_eq!(build.output, ["type=local,dest=out"]);
    }
}
