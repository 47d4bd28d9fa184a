//! What is measured: a way to build the example for a platform, in a project folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::measure::{self, Sample};
use super::named;
use crate::daemon::Daemon;
use crate::own::Own;
use crate::process::run;
use crate::workspace;

/// The scope of everything that kiln makes for the bench: what is removed before a cold build.
pub(super) const SCOPE: &str = "kiln-bench";
/// Where the bench puts certificates that containers need, if the machine has its own.
const CERTIFICATES: &str = "bench-certificates.crt";
/// The file whose line changes, and the line's beginning.
const CHANGED: (&str, &str) = ("greeting.py", "from kiln");

/// A way to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// `docker buildx build`
    #[value(skip)]
    Buildx,
    /// kiln with the same Dockerfile
    Dockerfile,
    /// kiln with its own recipe
    Recipe,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Buildx, Self::Dockerfile, Self::Recipe];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Buildx => "buildx",
            Self::Dockerfile => "dockerfile",
            Self::Recipe => "recipe",
        }
    }
}

/// Until ext4 gives the numbers of deleted files to new ones, if what it knows of them was written to the disk by then.
const DELETED: Duration = Duration::from_secs(61);

/// Lets the disk forget what was removed, before a machine is measured that never had it: for a minute ext4 passes over the
/// numbers of deleted files one by one, so who makes many files then pays several times as much for each. Numbers whose
/// records were not written back by then are passed over for five minutes more, so it is better still to remove nothing.
/// Source: `recently_deleted` in Linux' fs/ext4/ialloc.c.
pub(super) fn settle() -> Result<()> {
    run(&mut Command::new("sync"))?;
    std::thread::sleep(DELETED);
    Ok(())
}

/// What all sides stand on.
pub(super) struct Ground {
    kiln: PathBuf,
    host: String,
    env: Vec<(String, String)>,
    peer: Option<String>,
    folder: PathBuf,
    /// What comes before the names of images that all sides build on.
    library: String,
}

impl Ground {
    pub(super) fn new(kiln: PathBuf, host: String, env: Vec<(String, String)>, peer: Option<String>) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("kiln-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let registry = env.iter().find(|(name, _)| name == "KILN_TESTBED_REGISTRY").map(|(_, value)| value.clone());
        let served =
            |registry: &String| Daemon::at(&format!("tcp://{registry}")).get("/v2/library/debian/tags/list").is_ok();
        // Where Docker Hub is reached, the testbed's registry is empty.
        let library = registry.filter(served).map_or_else(String::new, |registry| format!("{registry}/library/"));
        Ok(Self { kiln, host, env, peer, folder, library })
    }

    /// The image that programs are built on.
    fn base(&self) -> String {
        format!("{}debian:bookworm", self.library)
    }

    /// An image for what needs no more than a shell.
    pub(super) fn small_base(&self) -> String {
        format!("{}alpine:3.20", self.library)
    }

    /// The peer's daemon.
    pub(super) fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// Another machine for kiln: an engine of its own that has nothing. What is made there is removed when it is dropped.
    pub(super) fn bare_machine(&self, name: &str) -> Result<Own> {
        Own::start(&format!("bench-{name}"), self.library.strip_suffix("/library/"))
    }

    /// The same with the base images.
    pub(super) fn machine(&self, name: &str) -> Result<Own> {
        let own = self.bare_machine(name)?;
        for base in [self.base(), self.small_base()] {
            // By their own names, which recipes have.
            let base = base.trim_start_matches(&self.library);
            run(Command::new("docker").args(["pull", "--quiet", base]).env("DOCKER_HOST", own.host()))
                .with_context(|| format!("{base} cannot be pulled"))?;
        }
        Ok(own)
    }

    /// Where all that is measured lies.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// kiln on its daemon, with the network as everybody has it.
    pub(super) fn kiln(&self) -> Command {
        let mut command = Command::new(&self.kiln);
        command.env("DOCKER_HOST", &self.host).env("KILN_CACHE_SCOPE", format!("{SCOPE}-dockerfiles"));
        command
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The example's Dockerfile, with the base image and what this machine's network asks of pip; the same for all sides.
    fn dockerfile(&self, text: &str, certificates: bool) -> String {
        let mut lines = Vec::new();
        for line in text.lines() {
            lines.push(line.replace("FROM debian:bookworm", &format!("FROM {}", self.base())));
            if line.starts_with("FROM debian") {
                if certificates {
                    lines.push(format!("COPY {CERTIFICATES} /etc/{CERTIFICATES}"));
                    lines.push(format!("ENV PIP_CERT=/etc/{CERTIFICATES}"));
                }
                if let Some(index) = self.variable("KILN_NETWORK_PIP_INDEX_URL") {
                    lines.push(format!("ENV PIP_INDEX_URL={index}"));
                }
            }
        }
        lines.join("\n") + "\n"
    }
}

impl Ground {
    /// A copy of an example to build with kiln's own recipe.
    pub(super) fn project(&self, example: &str, name: &str) -> Result<Project<'_>> {
        let folder = self.folder.join(name);
        copy(&workspace::root().join("examples").join(example), &folder)?;
        let text = fs::read_to_string(folder.join(CHANGED.0))?;
        let scope = format!("{SCOPE}-{name}");
        Ok(Project { ground: self, folder, scope, text, host: self.host.clone(), network: None })
    }

    /// The same project checked out on another machine.
    pub(super) fn project_on(&self, machine: &Own, example: &str, name: &str, scope: &str) -> Result<Project<'_>> {
        let project = self.project(example, name)?;
        // Its engine has no other.
        let network = Some(("KILN_NETWORK_BUILD_NETWORK", "host"));
        Ok(Project { scope: format!("{SCOPE}-{scope}"), host: machine.host(), network, ..project })
    }
}

/// An example that kiln builds with its own recipe.
pub(super) struct Project<'a> {
    ground: &'a Ground,
    folder: PathBuf,
    scope: String,
    /// The unchanged text of the file that changes.
    text: String,
    host: String,
    /// The network of its steps, if it is not the engine's.
    network: Option<(&'static str, &'static str)>,
}

impl Project<'_> {
    /// Removes its volumes, checkpoints and state.
    pub(super) fn forget(&self) -> Result<()> {
        for made in ["dist", ".kiln"] {
            let _ = fs::remove_dir_all(self.folder.join(made));
        }
        fs::write(self.folder.join(CHANGED.0), &self.text)?;
        Daemon::at(&self.host).remove_labelled(&format!("kiln.scope={}", self.scope)).map(drop)
    }

    /// Changes a line to one that no other run has.
    pub(super) fn change(&self, index: usize) -> Result<()> {
        let line = format!("from run {index} of {} with kiln", std::process::id());
        Ok(fs::write(self.folder.join(CHANGED.0), self.text.replacen(CHANGED.1, &line, 1))?)
    }

    /// Builds; the wall time.
    pub(super) fn build(&self, platforms: &str, arguments: &[&str]) -> Result<Duration> {
        let mut command = Command::new(&self.ground.kiln);
        command.args(["build", "--recipe=debian", "--progress=json", "--platform", platforms]).args(arguments);
        command.envs(self.ground.env.iter().cloned()).envs(self.network).current_dir(&self.folder);
        command.env("DOCKER_HOST", &self.host).env("KILN_CACHE_SCOPE", &self.scope);
        Ok(measure::run(&mut command)?.wall)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// One way to build the example for one platform.
pub(super) struct Side<'a> {
    pub(super) kind: Kind,
    ground: &'a Ground,
    platform: String,
    folder: PathBuf,
    /// The unchanged text of the file that changes.
    text: String,
}

impl<'a> Side<'a> {
    pub(super) fn new(ground: &'a Ground, kind: Kind, example: &str, platform: &str) -> Result<Self> {
        let folder = named(&ground.folder, kind, platform);
        let source = workspace::root().join("examples").join(example);
        copy(&source, &folder)?;
        let dockerfile = folder.join("Dockerfile.buildx");
        let text = fs::read_to_string(&dockerfile)
            .with_context(|| format!("examples/{example} has no Dockerfile.buildx to measure with"))?;
        let certificates = ground.variable("KILN_NETWORK_CA_CERTIFICATES");
        if let Some(path) = certificates {
            fs::copy(path, folder.join(CERTIFICATES))?;
        }
        fs::write(&dockerfile, ground.dockerfile(&text, certificates.is_some()))?;
        let text = fs::read_to_string(folder.join(CHANGED.0))?;
        if !text.contains(CHANGED.1) {
            bail!("{} has no line to change", CHANGED.0);
        }
        Ok(Self { kind, ground, platform: platform.to_owned(), folder, text })
    }

    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Buildx => "docker buildx",
            Kind::Dockerfile => "kiln, same Dockerfile",
            Kind::Recipe => "kiln, its own recipe",
        }
    }

    /// Removes all that this side has made, and takes changes back.
    pub(super) fn forget(&self) -> Result<()> {
        fs::write(self.folder.join(CHANGED.0), &self.text)?;
        for made in [self.output(), self.folder.join(".kiln")] {
            let _ = fs::remove_dir_all(made);
        }
        if let (Kind::Buildx, Some(peer)) = (self.kind, &self.ground.peer) {
            let mut prune = Command::new("docker");
            return run(prune.args(["buildx", "prune", "--all", "--force"]).env("DOCKER_HOST", peer)).map(drop);
        }
        Daemon::at(&self.ground.host).remove_labelled(&format!("kiln.scope={}", self.scope())).map(drop)
    }

    /// Builds with nothing at hand.
    pub(super) fn cold(&self) -> Result<Sample> {
        self.forget()?;
        if self.kind == Kind::Buildx {
            return self.build();
        }
        // Checkpoints of other projects would do as well, and stay: so they are not looked at.
        measure::run(self.command().arg("--no-cache"))
    }

    /// Builds what is there.
    pub(super) fn build(&self) -> Result<Sample> {
        measure::run(&mut self.command())
    }

    /// Builds what is there with more arguments.
    pub(super) fn with(&self, arguments: &[&str]) -> Result<Sample> {
        measure::run(self.command().args(arguments))
    }

    /// Changes a line to one that no other run has.
    pub(super) fn change(&self, index: usize) -> Result<()> {
        let line = format!("from run {index} of {} with kiln", std::process::id());
        Ok(fs::write(self.folder.join(CHANGED.0), self.text.replacen(CHANGED.1, &line, 1))?)
    }

    /// Changes a line to one that no other run has, and builds.
    pub(super) fn changed(&self, index: usize) -> Result<Sample> {
        self.change(index)?;
        self.build()
    }

    /// Beside the project: what is built must not change what is built from.
    fn output(&self) -> PathBuf {
        self.folder.with_added_extension("out")
    }

    fn scope(&self) -> String {
        format!("{SCOPE}-{}", self.kind.word())
    }

    fn command(&self) -> Command {
        let (arch, lto) = match self.platform.as_str() {
            "linux/amd64" => ("x86_64", "yes"),
            "linux/386" => ("i686", "yes"),
            "linux/arm64" => ("arm64", "no"),
            other => (other, "no"),
        };
        let arguments = [
            "build".to_owned(),
            "--file=Dockerfile.buildx".to_owned(),
            format!("--platform={}", self.platform),
            format!("--build-arg=ARCH={arch}"),
            format!("--build-arg=ENABLE_LTO={lto}"),
            format!("--output=type=local,dest={}", self.output().display()),
        ];
        let mut command = if self.kind == Kind::Buildx {
            let mut command = Command::new("docker");
            command.arg("buildx").args(arguments).args(["--network=host", "--progress=plain"]);
            command.env("DOCKER_HOST", self.ground.peer.as_deref().unwrap_or_default());
            for (name, value) in &self.ground.env {
                if let Some(name) = name.strip_prefix("KILN_NETWORK_").filter(|name| name.ends_with("_PROXY")) {
                    command.arg(format!("--build-arg={name}={value}"));
                }
            }
            command
        } else {
            let mut command = Command::new(&self.ground.kiln);
            if self.kind == Kind::Dockerfile {
                command.args(arguments);
            } else {
                command.args(["build", "--recipe=debian"]).arg(format!("--platform={}", self.platform));
                command.arg(format!("--output={}", self.output().display()));
                command.args(["--set", &format!("build.base={}", self.ground.base())]);
                command.args(["--set", &format!("verify.image={}", self.ground.base())]);
            }
            command.arg("--progress=json").envs(self.ground.env.iter().cloned());
            command.env("DOCKER_HOST", &self.ground.host).env("KILN_CACHE_SCOPE", self.scope());
            command
        };
        command.arg(".").current_dir(&self.folder);
        command
    }
}

fn copy(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source).with_context(|| format!("there is no {}", source.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "dist" || name == ".kiln" || name == "__pycache__" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target.join(&name))?;
        } else {
            fs::copy(entry.path(), target.join(&name))?;
        }
    }
    Ok(())
}
