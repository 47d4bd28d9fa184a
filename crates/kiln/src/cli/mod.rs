//! The command line.

mod bake;
mod build;
mod ci;
mod history;
mod package;
mod release;
mod room;
mod test;
mod verify;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::environment::Environment;

pub(crate) use bake::{Bake, List};
pub(crate) use build::{Build, Plan, PlanFormat, Project, Schedule, Show, key_value, without_effect};
pub(crate) use ci::{Ci, CiCommand, CiMatrix, MatrixFormat, Migrate};
pub(crate) use history::{History, HistoryCommand, Open, Report, Stats, StatsFormat, Where};
pub(crate) use package::{ALL_FORMATS, Package};
pub(crate) use release::Release;
pub(crate) use room::{Cache, CacheCommand, CachePrune, CacheRestore, CacheSave, Du, DuFormat, Elsewhere, Prune};
pub(crate) use test::{ALL as ALL_PLATFORMS, Test};
pub(crate) use verify::Verify;

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

const TEST_EXAMPLES: &str = "\
Examples:
  kiln test
  kiln test --python 3.11,3.12,3.13 --junit junit.xml
  kiln test --platform all --build
  kiln test -- -k parser --maxfail=1

Exit codes: 0 all passed, 1 tests failed, 8 some could not run (another code if none could)";

const BAKE_EXAMPLES: &str = "\
Examples:
  kiln bake                                   the group or target `default`
  kiln bake --print                           show what that is, as JSON
  kiln bake app docs --set app.args.VERSION=2 --set '*.platform=linux/arm64'";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  kiln doctor
  kiln doctor --platform linux/arm64 --fix
  kiln doctor --json

A check is ok, a warning (a build works, but slowly or by luck), failed (a build fails by it) or skipped. Each takes ten
seconds at most. The exit code is 0 if nothing failed, else that of the first failed check, as a build would end.";

/// Bakes a Python program into one verified binary per platform, through the Docker Engine API alone.
#[derive(Debug, Parser)]
#[command(name = "kiln", disable_version_flag = true, arg_required_else_help = true, max_term_width = 100,
    after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Print the version
    #[arg(short = 'V', long)]
    pub(crate) version: bool,
    /// With --version: as JSON
    #[arg(long, requires = "version")]
    pub(crate) json: bool,
    /// What every command understands.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
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
    /// Run the project's tests in containers: per Python and platform, in parallel
    #[command(after_help = TEST_EXAMPLES)]
    Test(Box<Test>),
    /// Show what a build would do: each step, whether and why it runs, natively or emulated
    #[command(
        after_help = "Examples:\n  kiln plan\n  kiln plan --platform linux/arm64 --json\n  kiln plan --format dot | dot -Tsvg -o plan.svg"
    )]
    Plan(Box<Plan>),
    /// Build the targets of a docker-bake.hcl, a docker-bake.json or a compose file, or of kiln.toml
    #[command(after_help = BAKE_EXAMPLES)]
    Bake(Bake),
    /// Make archives, deb, rpm and apk packages and an installer of what was built
    #[command(after_help = package::EXAMPLES)]
    Package(Box<Package>),
    /// Write a commented kiln.toml from what is found in the project
    #[command(
        after_help = "Examples:\n  kiln init\n  kiln init --eject debian   write the recipe out too, to change it"
    )]
    Init(Init),
    /// Show settings and where each comes from
    Config(Config),
    /// Show, install or remove the emulators of foreign platforms
    Emulation(Emulation),
    /// Look at all that a build needs: daemon, platforms, network, caches, settings, results
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Doctor),
    /// Look at programs, packages and images: what they need, what weakens them, secrets; run them in clean images
    #[command(after_help = verify::VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Give the disk back: remove checkpoints, what dead builds left, with --all everything
    #[command(after_help = room::PRUNE_EXAMPLES)]
    Prune(Prune),
    /// Say what takes how much room, on the daemon and here
    #[command(after_help = "Examples:\n  kiln du\n  kiln du --verbose --filter type=regular\n  kiln du --format json")]
    Du(Du),
    /// List, measure or prune the cache volumes and checkpoints of projects
    Cache(Cache),
    /// Say what a run of continuous integration builds and tests
    Ci(Ci),
    /// Turn a workflow or script that builds with docker into one that builds with kiln
    #[command(after_help = ci::MIGRATE_EXAMPLES)]
    Migrate(Migrate),
    /// Show earlier builds: what ran and why, how long it took, their logs; compare two
    History(History),
    /// Show figures of builds per platform, and what is slower than it was and why
    #[command(after_help = history::STATS_EXAMPLES)]
    Stats(Stats),
    /// Write a build as a page for a browser, or as a CI job summary
    #[command(after_help = history::REPORT_EXAMPLES)]
    Report(Report),
    /// Publish the files of the output folder as a release on GitHub, Gitea or GitLab
    #[command(after_help = release::EXAMPLES)]
    Release(Release),
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  kiln completions bash > /etc/bash_completion.d/kiln\n  kiln completions fish > ~/.config/fish/completions/kiln.fish"
    )]
    Completions {
        /// bash, elvish, fish, powershell or zsh; default: the one of SHELL
        #[arg(hide_possible_values = true)]
        shell: Option<Shell>,
    },
    /// Print the manual page, or write a page per command
    Man {
        /// Folder for a page per command
        #[arg(long, value_name = "FOLDER")]
        output: Option<PathBuf>,
    },
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
pub(crate) struct Doctor {
    /// Project folder
    #[arg(default_value = ".", value_name = "PATH", hide_default_value = true)]
    pub(crate) path: PathBuf,
    /// Platforms to look at, separated by commas (repeatable); default: those of the project
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
    /// As JSON: a list of {check, platform?, status, detail, fix?}
    #[arg(long)]
    pub(crate) json: bool,
    /// Do what is safe first: install emulators, mend kiln's handlers, remove what dead builds left
    #[arg(long)]
    pub(crate) fix: bool,
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
        let Some(Command::Build(build)) = cli.command else { panic!("not a build") };
        assert_eq!(build.project.platforms, ["linux/amd64", "linux/386"]);
        assert_eq!(build.output, ["type=local,dest=out"]);
    }
}
