//! `kiln build` and `kiln plan`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::environment::Environment;
use crate::error::CliError;
use crate::report::Progress;

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

#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) project: Project,
    /// Dockerfile to build instead of a recipe; `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Build again whenever a file changes that the build reads
    #[arg(long, conflicts_with_all = ["check", "call", "shell_on_failure"])]
    pub(crate) watch: bool,
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
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// What the steps may use of the machine.
    #[command(flatten)]
    pub(crate) resources: Resources,
    /// Restore caches (repeatable): type=local,src=DIR, type=gha, s3://...
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_from: Vec<String>,
    /// Save caches (repeatable): type=local,dest=DIR, type=gha,mode=max
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_to: Vec<String>,
    /// Attestation: no effect yet
    #[arg(long, value_name = "ATTESTATION")]
    pub(crate) attest: Vec<String>,
    /// Same as --attest=type=provenance
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) provenance: Option<String>,
    /// Same as --attest=type=sbom
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) sbom: Option<String>,
    /// For command lines of buildx: kiln forbids no step what it asks for
    #[arg(long, value_name = "RIGHT", value_delimiter = ',', hide = true)]
    pub(crate) allow: Vec<String>,
    /// Run every step again; cache volumes are kept
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Run every step of these stages again
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Ask the registry for newer base images
    #[arg(long)]
    pub(crate) pull: bool,
    /// Do not run the artifacts after building them
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Parallel C compilers per platform: auto or a number
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<String>,
    /// Link-time optimisation: auto, yes or no
    #[arg(long, value_name = "WHEN")]
    pub(crate) lto: Option<String>,
    /// Check the Dockerfile, build nothing; exit code 1 for warnings
    #[arg(long)]
    pub(crate) check: bool,
    /// Answer instead of building: check, targets (,format=json)
    #[arg(long, value_name = "METHOD", conflicts_with = "check")]
    pub(crate) call: Option<String>,
    /// How progress and results are shown.
    #[command(flatten)]
    pub(crate) show: Show,
    /// When and where steps run.
    #[command(flatten)]
    pub(crate) schedule: Schedule,
}

/// How progress and results of a build are shown.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Show {
    /// auto, tty, plain, json (on stdout), rawjson (as BuildKit) or quiet
    #[arg(long, value_name = "MODE", default_value = "auto", hide_possible_values = true, hide_default_value = true)]
    pub(crate) progress: Progress,
    /// Same as --progress=quiet
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write facts about the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// For command lines of buildx: kiln has no builders
    #[arg(long, value_name = "NAME", hide = true)]
    pub(crate) builder: Option<String>,
}

impl Show {
    /// How progress is shown; where the command line leaves it open, `KILN_PROGRESS` and `BUILDKIT_PROGRESS` may say.
    pub(crate) fn mode(&self, environment: &Environment) -> Result<Progress, CliError> {
        match (self.quiet, self.progress) {
            (true, Progress::Auto | Progress::Quiet) => return Ok(Progress::Quiet),
            (true, _) => {
                return Err(CliError::Usage {
                    problem: "--quiet and another --progress cannot both hold".to_owned(),
                    hint: "leave one of them out".to_owned(),
                });
            }
            (false, Progress::Auto) => {}
            (false, given) => return Ok(given),
        }
        for name in ["KILN_PROGRESS", "BUILDKIT_PROGRESS"] {
            if let Some(value) = environment.get(name) {
                return Progress::from_str(value, false).map_err(|_| CliError::Usage {
                    problem: format!("{name}={value} is no way to show progress"),
                    hint: "it is auto, tty, plain, json, rawjson or quiet".to_owned(),
                });
            }
        }
        Ok(Progress::Auto)
    }

    /// What was given and has no effect, in words.
    pub(crate) fn without_effect(&self) -> Option<String> {
        let builder = self.builder.as_ref().filter(|name| *name != "default")?;
        Some(format!(
            "--builder {builder} has no effect: kiln has no builders, --host and --docker-context name the daemon"
        ))
    }
}

/// When and where steps run.
#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Schedule {
    /// Stop all platforms when one fails
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Go on with the other platforms when one fails (the default)
    #[arg(long, conflicts_with = "fail_fast")]
    pub(crate) keep_going: bool,
    /// Open a shell where a step fails, and stop the others
    #[arg(long)]
    pub(crate) shell_on_failure: bool,
    /// Do not install emulators; fail if a platform cannot run
    #[arg(long)]
    pub(crate) no_install_emulation: bool,
    /// Start with empty cache volumes
    #[arg(long)]
    pub(crate) no_cache_mounts: bool,
    /// Native programs for emulated platforms: auto, on or off
    #[arg(long, value_name = "WHEN")]
    pub(crate) twin: Option<String>,
    /// Steps that may run at the same time; default: all that can
    #[arg(long, value_name = "N")]
    pub(crate) parallel: Option<NonZeroUsize>,
}

impl Schedule {
    /// Whether the first failure ends the build: nobody who wants to look at it waits for what else there is.
    pub(crate) fn stops_early(&self) -> bool {
        self.fail_fast || self.shell_on_failure && !self.keep_going
    }
}

/// What a step may use of the machine; most under the names that `docker build` without BuildKit has for it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Resources {
    /// What a step may use, such as memory=2g,cpus=1.5 (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', value_parser = key_value)]
    pub(crate) resource: Vec<(String, String)>,
    /// Memory of a step, such as 2g
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Memory and swap of a step together; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, hide = true)]
    pub(crate) memory_swap: Option<String>,
    /// Weight of a step among those that want the processor (1024 is usual)
    #[arg(short, long, value_name = "WEIGHT", hide = true)]
    pub(crate) cpu_shares: Option<String>,
    /// Period of the scheduler in microseconds
    #[arg(long, value_name = "TIME", hide = true)]
    pub(crate) cpu_period: Option<String>,
    /// Time of a step in each period, in microseconds
    #[arg(long, value_name = "TIME", hide = true)]
    pub(crate) cpu_quota: Option<String>,
    /// Processors that steps may use: 0-2,4
    #[arg(long, value_name = "CPUS", hide = true)]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes that steps may use: 0,1
    #[arg(long, value_name = "NODES", hide = true)]
    pub(crate) cpuset_mems: Option<String>,
    /// Control group that those of the steps are made in
    #[arg(long, value_name = "GROUP")]
    pub(crate) cgroup_parent: Option<String>,
}

impl Resources {
    /// All of them, by the name of the option.
    pub(crate) fn all(&self) -> Vec<(&str, &str)> {
        let single = [
            ("memory", &self.memory),
            ("memory-swap", &self.memory_swap),
            ("cpu-shares", &self.cpu_shares),
            ("cpu-period", &self.cpu_period),
            ("cpu-quota", &self.cpu_quota),
            ("cpuset-cpus", &self.cpuset_cpus),
            ("cpuset-mems", &self.cpuset_mems),
            ("cgroup-parent", &self.cgroup_parent),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        self.resource.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(single).collect()
    }
}

/// What was given and has no effect, in words.
pub(crate) fn without_effect(args: &Build) -> Vec<String> {
    let mut said = Vec::new();
    let is_off = |text: &str| matches!(text, "false" | "0" | "f" | "F" | "FALSE" | "False");
    let attests = |text: &String| {
        let fields = text.split(',').filter_map(|field| field.split_once('='));
        !fields.clone().any(|(name, value)| name == "disabled" && !is_off(value))
    };
    let modes = [&args.provenance, &args.sbom].into_iter().flatten();
    if args.attest.iter().any(attests) || modes.into_iter().any(|mode| !is_off(mode)) {
        said.push("attestations are not written: --provenance, --sbom and --attest have no effect yet".to_owned());
    }
    said
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

pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, such as nuitka.lto=no".to_owned()),
    }
}
