//! Settings as typed values, after all layers are merged.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use kiln_graph::{Arch, Platform};

use crate::artifact::ArtifactPattern;
use crate::error::ConfigError;
use crate::layer::Provenance;
use crate::units::ByteSize;

/// The settings of the whole project.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `[project]`.
    pub project: Project,
    /// `[nuitka]`.
    pub nuitka: Nuitka,
    /// `[build]`.
    pub build: Build,
    /// `[network]`.
    pub network: Network,
    /// `[verify]`.
    pub verify: Verify,
    /// `[test]`.
    pub test: Test,
    /// `[release]`. Boxed: builds hold their settings while they wait, and have no use for these.
    pub release: Box<Release>,
    /// `[release]`, as far as it is of `kiln release`.
    pub publish: Publish,
    /// `[cache]`.
    pub cache: Cache,
    /// `[emulation]`.
    pub emulation: Emulation,
    /// `[history]`.
    pub history: History,
    /// `[ci]`.
    pub ci: Ci,
}

/// The settings for one platform: its overrides and kiln's policy are applied.
#[derive(Clone, Debug, PartialEq)]
pub struct PlatformSettings {
    /// The platform.
    pub platform: Platform,
    /// `[project]`.
    pub project: Project,
    /// `[nuitka]`.
    pub nuitka: Nuitka,
    /// Whether to use link-time optimisation, decided.
    pub lto: Lto,
    /// `emulation.twin`.
    pub twin: Twin,
    /// `[build]`; `platforms` and `output` are those of the whole build.
    pub build: Build,
    /// `[network]`.
    pub network: Network,
    /// `[verify]`.
    pub verify: Verify,
    /// `ci.runner`: the labels of the runner.
    pub runner: Vec<String>,
    /// The artifact's path below the output folder, `/`-separated.
    pub artifact: String,
}

/// What is baked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Name of the program, fit for file names.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// What starts it; nothing if no layer says so and the project does not show it.
    pub program: Option<Program>,
    /// What pip installs.
    pub requirements: Requirements,
    /// Version of Python; nothing is that of the base image.
    pub python: Option<String>,
    /// Files and folders to take along.
    pub data: Vec<DataMapping>,
    /// Picture for the program, relative to the project folder.
    pub icon: Option<String>,
}

/// What starts a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A file, relative to the project folder.
    Entry(String),
    /// A dotted module name.
    Module(String),
}

/// What pip installs before compiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirements {
    /// Nothing.
    None,
    /// A requirements file, relative to the project folder.
    File(String),
    /// Requirements.
    List(Vec<String>),
}

/// A file or folder to take along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataMapping {
    /// Where it is, relative to the project folder.
    pub source: String,
    /// Where the program finds it, relative to its own folder.
    pub target: String,
}

/// How Nuitka compiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nuitka {
    /// A version or pip specifier; nothing is the one that the recipes name.
    pub version: Option<String>,
    /// What comes out.
    pub mode: Mode,
    /// Plugins to enable.
    pub plugins: Vec<String>,
    /// Link-time optimisation as it was set; [`PlatformSettings::lto`] has the decision.
    pub lto: Toggle,
    /// Compilers at once.
    pub jobs: Jobs,
    /// Whether to link Python into the executable.
    pub static_libpython: Toggle,
    /// Whether to compress the payload.
    pub compression: Toggle,
    /// More arguments, as they are.
    pub extra_args: Vec<String>,
}

/// What Nuitka makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One executable that unpacks itself.
    #[default]
    Onefile,
    /// A folder.
    Standalone,
}

/// A choice that can be left to kiln.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Toggle {
    /// kiln decides.
    #[default]
    Auto,
    /// Yes.
    Yes,
    /// No.
    No,
}

impl Toggle {
    /// The choice, or `auto` where it is left to kiln.
    pub fn or(self, auto: bool) -> bool {
        match self {
            Self::Auto => auto,
            Self::Yes => true,
            Self::No => false,
        }
    }
}

/// How many compilers run at once for one platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jobs {
    /// The daemon's cores, shared fairly.
    #[default]
    Auto,
    /// So many.
    Count(NonZeroU16),
}

/// The decision on link-time optimisation, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lto {
    /// Whether it is used.
    pub enabled: bool,
    /// Where it was set explicitly; nothing if kiln's policy decided.
    pub explicit: Option<Provenance>,
}

impl Lto {
    /// kiln's policy: it pays on x86; elsewhere, and above all under emulation, it costs more time than it is worth.
    pub fn policy(platform: Platform) -> bool {
        matches!(platform.arch, Arch::Amd64 | Arch::I386)
    }

    /// A few words for the summary: `yes (auto)`, `no (kiln.toml:7)`.
    pub fn summary(&self) -> String {
        let answer = if self.enabled { "yes" } else { "no" };
        match &self.explicit {
            Some(provenance) => format!("{answer} ({provenance})"),
            None => format!("{answer} (auto)"),
        }
    }
}

/// In what is built, for which platforms, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// What is run.
    pub recipe: Recipe,
    /// Image to build in; nothing if a Dockerfile of the user's own names it.
    pub base: Option<String>,
    /// More system packages.
    pub packages: Vec<String>,
    /// Platforms to build for; never empty, each once.
    pub platforms: Vec<Platform>,
    /// Folder for the artifacts, relative to the project folder unless absolute.
    pub output: PathBuf,
    /// Name of the artifacts.
    pub artifact: ArtifactPattern,
    /// Shell commands to run before compiling.
    pub before_build: Vec<String>,
    /// Stage of the Dockerfile; nothing is the last.
    pub target: Option<String>,
    /// More build arguments.
    pub args: BTreeMap<String, String>,
    /// Whether tools that a Dockerfile calls get volumes for their caches. [`crate::Config::has_project_file`] decides where
    /// it is left to kiln.
    pub auto_caches: Toggle,
}

/// What is run to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// kiln's own, on Alpine (musl).
    Alpine,
    /// kiln's own, on Debian (glibc).
    Debian,
    /// A Dockerfile, relative to the project folder unless absolute.
    Dockerfile(PathBuf),
}

impl Recipe {
    /// The image that a built-in recipe builds in unless told otherwise.
    pub fn default_base(&self) -> Option<&'static str> {
        match self {
            Self::Alpine => Some("alpine:3.20"),
            Self::Debian => Some("debian:bookworm"),
            Self::Dockerfile(_) => None,
        }
    }
}

/// How the build reaches the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// File with more certificate authorities, relative to the project folder unless absolute.
    pub ca_certificates: Option<PathBuf>,
    /// Package index for pip. May hold a password: do not print.
    pub pip_index_url: Option<String>,
    /// More arguments for pip.
    pub pip_args: Vec<String>,
    /// Mirror for Alpine packages.
    pub apk_mirror: Option<String>,
    /// Mirror for Debian packages.
    pub apt_mirror: Option<String>,
    /// Proxy for http. May hold a password: do not print.
    pub http_proxy: Option<String>,
    /// Proxy for https. May hold a password: do not print.
    pub https_proxy: Option<String>,
    /// Hosts to reach without a proxy, separated by commas.
    pub no_proxy: Option<String>,
    /// Network of the build containers.
    pub build_network: BuildNetwork,
}

/// Network of the build containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BuildNetwork {
    /// The daemon's default network.
    #[default]
    Default,
    /// The network of the daemon's machine.
    Host,
    /// None.
    None,
}

/// The test of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// What is run.
    pub run: Smoke,
    /// How long it may take.
    pub timeout: Duration,
    /// Clean image to run it in; nothing if the build's base image is not known either.
    pub image: Option<String>,
    /// The newest glibc that it may need.
    pub glibc_max: Option<String>,
    /// Findings that may be.
    pub allow: Vec<String>,
    /// Findings that are errors.
    pub deny: Vec<String>,
    /// Images to run and install it in.
    pub run_on: Vec<String>,
    /// What looks like a secret and is none.
    pub secrets_allow: Vec<String>,
}

/// What is run to test an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Smoke {
    /// `--version` if the program has it, else `--help`.
    #[default]
    Auto,
    /// Nothing.
    Off,
    /// The artifact with these arguments.
    Arguments(Vec<String>),
    /// A shell command, in which `{artifact}` stands for the path of the artifact.
    Shell(String),
}

/// The project's own tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// What runs them; nothing if no layer says and the project shows none.
    pub command: Option<TestCommand>,
    /// Versions of Python, each once; none is that of the base image.
    pub python: Vec<String>,
    /// Platforms, each once; none is the daemon's own.
    pub platforms: Vec<Platform>,
    /// What pip installs beside the project's own requirements; `.` is the project itself.
    pub requirements: Requirements,
    /// System packages.
    pub packages: Vec<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Image to test in where no version of Python is asked for, or no image has it.
    pub base: Option<String>,
    /// Images with versions of Python; nothing is the usual ones.
    pub images: Option<PythonImages>,
    /// How long the tests of one Python on one platform may take.
    pub timeout: Duration,
}

/// What runs the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestCommand {
    /// A program and its arguments.
    Words(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// Which images have which version of Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PythonImages {
    /// A name in which `{python}` stands for the version.
    Pattern(String),
    /// By version.
    Table(BTreeMap<String, String>),
}

impl PythonImages {
    /// The image that should have this version.
    pub fn of(&self, version: &str) -> Option<String> {
        match self {
            Self::Pattern(pattern) => Some(pattern.replace(crate::kind::PYTHON, version)),
            Self::Table(table) => table.get(version).cloned(),
        }
    }
}

/// The image that has the program in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseImage {
    /// What it stands on; nothing is for kiln to choose.
    pub base: Option<String>,
    /// Who runs the program, with a group after a colon.
    pub user: String,
    /// Its names, with `{name}` and `{version}` in them.
    pub tags: Vec<String>,
    /// More labels.
    pub labels: BTreeMap<String, String>,
    /// The folder that the program starts in.
    pub workdir: Option<String>,
    /// Ports, with `/udp` where it is not TCP.
    pub ports: Vec<String>,
    /// More files: from the project folder to the image's root.
    pub files: Vec<DataMapping>,
}

/// How a release is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The word for the kind of forge; nothing is left to what the machine shows.
    pub forge: Option<String>,
    /// The repository: `OWNER/NAME`.
    pub repository: Option<String>,
    /// Address of the forge or of its API.
    pub url: Option<String>,
    /// The tag, in which `{version}` stands for the version.
    pub tag: String,
    /// Names of the files, with wildcards; none is all.
    pub assets: Vec<String>,
    /// The changelog, relative to the project folder.
    pub changelog: Option<String>,
    /// Whether the notes list commits.
    pub notes_commits: bool,
    /// Whether the notes list files.
    pub notes_files: bool,
    /// Whether it stays a draft.
    pub draft: bool,
    /// Whether it is one to try out.
    pub prerelease: Toggle,
}

/// Cache volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Builds with the same scope share volumes; fit for volume names.
    pub scope: String,
    /// What `kiln cache prune` leaves in place.
    pub keep_size: ByteSize,
    /// Limit of each compiler cache.
    pub max_size: ByteSize,
    /// Storage that compiler caches share, as ccache writes it. May hold a password: do not print.
    pub ccache_remote: Option<String>,
    /// Places that caches are restored from and saved to. May hold credentials: do not print.
    pub remote: Vec<String>,
    /// Secret key of minisign: `env:VARIABLE`, or a file relative to the project folder unless absolute.
    pub sign_key: Option<String>,
    /// Public keys of minisign.
    pub trusted_keys: Vec<String>,
}

/// Foreign platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulation {
    /// Whether kiln may register QEMU.
    pub install: bool,
    /// Image that registers it; nothing is kiln's own.
    pub qemu_image: Option<String>,
    /// Native programs for emulated platforms.
    pub twin: Twin,
}

/// Records of builds.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// How many builds are remembered.
    pub keep: usize,
    /// What a minute of a CI runner costs.
    pub minute_price: f64,
    /// What that is in.
    pub currency: String,
}

/// A form of bills of materials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BillForm {
    /// CycloneDX 1.6.
    CycloneDx,
    /// SPDX 2.3.
    Spdx,
}

/// What signs. A key is `env:VARIABLE`, or a file relative to the project folder unless absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignWith {
    /// A secret key of minisign.
    Minisign(String),
    /// A private key of cosign.
    Cosign(String),
    /// Sigstore, where the CI service gives a token.
    Keyless,
}

/// What continuous integration runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ci {
    /// Versions of Python to test with.
    pub python: Vec<String>,
    /// Versions of Python to test pull requests with.
    pub python_pull_request: Vec<String>,
    /// Platforms of the default branch and of tags; nothing is those of the build.
    pub platforms: Option<Vec<Platform>>,
    /// Platforms of pull requests and of other branches; nothing is the same.
    pub development_platforms: Option<Vec<Platform>>,
    /// The branch on which everything is built and tested, if it was set.
    pub default_branch: Option<String>,
    /// The labels of the runner, where a platform has none of its own.
    pub runner: Vec<String>,
}

/// What is made of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Name of archives and packages.
    pub name: String,
    /// Their version, if it is known without git.
    pub version: Option<String>,
    /// One line about the program.
    pub summary: Option<String>,
    /// More about it.
    pub description: Option<String>,
    /// Its license.
    pub license: Option<String>,
    /// Its page.
    pub homepage: Option<String>,
    /// Who looks after the packages.
    pub maintainer: Option<String>,
    /// Who publishes them.
    pub vendor: Option<String>,
    /// Section of the Debian package.
    pub section: String,
    /// What is made: of `tar.gz`, `tar.xz`, `tar.zst`, `zip`, `deb`, `rpm` and `apk`.
    pub formats: Vec<String>,
    /// License, README and their like, relative to the project folder, as all that follows.
    pub documents: Vec<String>,
    /// Completions: files, or `SHELL=FILE`.
    pub completions: Vec<String>,
    /// Pages of the manual.
    pub man: Vec<String>,
    /// Units of systemd.
    pub systemd: Vec<String>,
    /// Scripts of OpenRC.
    pub openrc: Vec<String>,
    /// Files with settings.
    pub config_files: Vec<DataMapping>,
    /// Other files.
    pub files: Vec<DataMapping>,
    /// What packages need beside the C library.
    pub depends: ReleaseDepends,
    /// RSA key for apk files: `env:VARIABLE`, or a file relative to the project folder unless absolute.
    pub apk_key: Option<String>,
    /// Name of its public half.
    pub apk_key_name: Option<String>,
    /// Whether `install.sh` is written.
    pub installer: bool,
    /// What it downloads from, with `{version}` and `{tag}`.
    pub download_url: Option<String>,
    /// `[release.image]`.
    pub image: ReleaseImage,
    /// Forms of bills of materials.
    pub sbom: Vec<BillForm>,
    /// Whether a statement of provenance is made.
    pub provenance: bool,
    /// What signs.
    pub sign: Vec<SignWith>,
    /// Public keys that releases are checked by: of minisign, or files of either tool; or `keyless:` and a name.
    pub trusted_keys: Vec<String>,
    /// Whose word counts on those names: a file relative to the project folder unless absolute.
    pub trusted_root: Option<String>,
}

/// What packages need beside the C library, in the words of each format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseDepends {
    /// `depends.deb`.
    pub deb: Vec<String>,
    /// `depends.rpm`.
    pub rpm: Vec<String>,
    /// `depends.apk`.
    pub apk: Vec<String>,
}

/// Whether steps of an emulated platform use native programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Twin {
    /// Where they work.
    #[default]
    Auto,
    /// Always; what cannot is an error.
    On,
    /// Never.
    Off,
}

impl Settings {
    /// What starts the program. Files that look like one go into the error's hint.
    ///
    /// Errors: no layer says, and the project does not show it.
    pub fn program(&self, candidates: &[String]) -> Result<&Program, ConfigError> {
        self.project.program.as_ref().ok_or_else(|| ConfigError::NoProgram { candidates: candidates.to_vec() })
    }
}
