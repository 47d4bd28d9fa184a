//! Every setting there is, in one table: its kind, default, example and explanation.
//!
//! Reading, `kiln config show`, the comments of `kiln init` and the reference in the documentation all come from here.

use std::fmt;

use kiln_graph::Platform;

use crate::kind::{FORMATS, Item, Kind};

/// A section of `kiln.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// What is baked.
    Project,
    /// How Nuitka compiles it.
    Nuitka,
    /// In what, for which platforms, and where to.
    Build,
    /// How the network is reached.
    Network,
    /// The test of the result.
    Verify,
    /// The project's own tests.
    Test,
    /// What `kiln package` and `kiln release` make of the programs.
    Release,
    /// Cache volumes.
    Cache,
    /// Foreign platforms.
    Emulation,
    /// What continuous integration runs.
    Ci,
    /// Records of builds.
    History,
}

impl Section {
    /// Every section, in the order in which they are listed to people.
    pub const ALL: [Self; 11] = [
        Self::Project,
        Self::Nuitka,
        Self::Build,
        Self::Network,
        Self::Verify,
        Self::Test,
        Self::Release,
        Self::Cache,
        Self::Emulation,
        Self::Ci,
        Self::History,
    ];

    /// The name as it stands in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Nuitka => "nuitka",
            Self::Build => "build",
            Self::Network => "network",
            Self::Verify => "verify",
            Self::Test => "test",
            Self::Release => "release",
            Self::Cache => "cache",
            Self::Emulation => "emulation",
            Self::Ci => "ci",
            Self::History => "history",
        }
    }

    /// One line that says what the section is about.
    pub fn doc(self) -> &'static str {
        match self {
            Self::Project => "What is baked.",
            Self::Nuitka => "How Nuitka compiles it.",
            Self::Build => "In which container it is built, for which platforms, and where the result goes.",
            Self::Network => "How the build reaches the network.",
            Self::Verify => "The test of each artifact, in a clean container of its platform.",
            Self::Test => "The project's own tests, which `kiln test` runs in containers.",
            Self::Release => "What `kiln package` and `kiln release` make of the programs.",
            Self::Cache => "Caches that outlive a build: pip, ccache and Nuitka's own, in volumes.",
            Self::Emulation => "Platforms that the machine cannot run by itself.",
            Self::Ci => "What `kiln ci matrix` gives a workflow to run, by event and branch.",
            Self::History => "Records of builds: `kiln history` shows them, `kiln stats` learns from them.",
        }
    }

    /// The section of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.name() == name)
    }

    /// Whether `[platform]` tables may override settings of this section.
    pub fn per_platform(self) -> bool {
        !matches!(self, Self::Cache | Self::History | Self::Release | Self::Test)
    }
}

/// What a setting is when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This value, as TOML.
    Value(&'static str),
    /// What these words say: it is derived from the project or left to a later stage.
    Derived(&'static str),
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The section.
    pub section: Section,
    /// The name inside the section.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it is when nobody sets it.
    pub default: Fallback,
    /// A value other than the default, as TOML.
    pub example: &'static str,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
}

impl Key {
    /// `section.name`.
    pub fn dotted(&self) -> String {
        self.to_string()
    }

    /// The environment variable that sets it: `KILN_SECTION_NAME`.
    pub fn variable(&self) -> String {
        format!("KILN_{}_{}", self.section.name(), self.name).to_ascii_uppercase().replace(['-', '.'], "_")
    }

    /// The environment variable that sets it for one platform: `KILN_PLATFORM_LINUX_ARM64_SECTION_NAME`.
    pub fn platform_variable(&self, platform: Platform) -> String {
        let platform = platform.folder().to_ascii_uppercase();
        format!("KILN_PLATFORM_{platform}_{}", self.variable().trim_start_matches("KILN_"))
    }

    /// Whether `[platform]` tables may override it.
    pub fn per_platform(&self) -> bool {
        let whole_build = matches!(
            (self.section, self.name),
            (Section::Build, "platforms" | "output") | (Section::Emulation, "install" | "qemu-image")
        );
        // Of these only the runner is one platform's.
        let whole_project = self.section == Section::Ci && self.name != "runner";
        self.section.per_platform() && !whole_build && !whole_project
    }

    /// Whether names in a section begin with this one and a dot.
    pub(crate) fn is_group(section: Section, name: &str) -> bool {
        let is_in = |key: &Self| key.name.split_once('.').is_some_and(|(group, _)| group == name);
        KEYS.iter().any(|key| key.section == section && is_in(key))
    }

    /// The setting of this name in a section.
    pub fn find(section: Section, name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.section == section && key.name == name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section.name(), self.name)
    }
}

/// Every setting, in the order in which they are listed to people.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter()
}

const fn key(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: Fallback,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key { section, name, kind, default, example, doc }
}

use Fallback::{Derived, Value};
use Section::{Build, Cache, Ci, Emulation, History, Network, Nuitka, Project, Release, Test, Verify};

#[rustfmt::skip]
pub(crate) static KEYS: &[Key] = &[
    key(Project, "name", Kind::Name, Derived("the name in pyproject.toml, else that of the folder"), r#""greeter""#,
        "Name of the program."),
    key(Project, "version", Kind::Version, Derived("the version in pyproject.toml"), r#""1.2.3""#,
        "Version of the program, for {version} in artifact names and for packages."),
    key(Project, "entry", Kind::Inside, Derived("the one file that looks like a program, if there is just one"), r#""src/hello/main.py""#,
        "The Python file that starts the program. Either this or `module`."),
    key(Project, "module", Kind::Module, Derived("none"), r#""hello.__main__""#,
        "The module that starts the program, from the project or from a requirement. Either this or `entry`."),
    key(Project, "requirements", Kind::Requirements, Derived("requirements.txt if it exists, else the dependencies in pyproject.toml"), r#"["rich>=13"]"#,
        "What pip installs before compiling: a requirements file, or a list of requirements."),
    key(Project, "python", Kind::Python, Derived("the Python of the base image"), r#""3.12""#,
        "Version of Python to bake in."),
    key(Project, "data", Kind::List(Item::Data), Value("[]"), r#"["assets=assets"]"#,
        "Files and folders to take along, as SRC=DST: from the project folder to the program's folder."),
    key(Project, "icon", Kind::Inside, Derived("none"), r#""assets/icon.png""#,
        "Picture that Nuitka attaches to the program as its icon."),

    key(Nuitka, "version", Kind::Text, Derived("the version that this kiln was tried with"), r#""4.3.3""#,
        "Nuitka to use: a version, or a pip specifier such as \">=2.4,<3\"."),
    key(Nuitka, "mode", Kind::Choice(&["onefile", "standalone"]), Value(r#""onefile""#), r#""standalone""#,
        "\"onefile\": one executable that unpacks itself. \"standalone\": a folder."),
    key(Nuitka, "plugins", Kind::List(Item::Word), Value("[]"), r#"["tk-inter"]"#,
        "Nuitka plugins to enable."),
    key(Nuitka, "lto", Kind::Toggle, Value(r#""auto""#), r#""no""#,
        "Link-time optimisation. \"auto\": yes on linux/amd64 and linux/386, no elsewhere, where it costs too much time."),
    key(Nuitka, "jobs", Kind::Jobs, Value(r#""auto""#), "4",
        "Compilers at once per platform. \"auto\": the daemon's cores, shared among the platforms that build at once."),
    key(Nuitka, "static-libpython", Kind::Toggle, Value(r#""auto""#), r#""yes""#,
        "Link Python into the executable. \"auto\": where the Python of the build can do it."),
    key(Nuitka, "compression", Kind::Toggle, Value(r#""auto""#), "false",
        "Compress the payload of a onefile program. \"auto\": yes."),
    key(Nuitka, "extra-args", Kind::List(Item::Text), Value("[]"), r#"["--include-package=hello.plugins"]"#,
        "More arguments for Nuitka, as they are."),

    key(Build, "recipe", Kind::Recipe, Value(r#""alpine""#), r#""debian""#,
        "\"alpine\": runs on musl systems. \"debian\": runs on glibc systems. Or the path of a Dockerfile of your own."),
    key(Build, "base", Kind::Image, Derived("alpine:3.20 or debian:bookworm, by recipe"), r#""debian:trixie""#,
        "Image to build in."),
    key(Build, "packages", Kind::List(Item::Word), Value("[]"), r#"["libxml2-dev"]"#,
        "More system packages to install in the build container."),
    key(Build, "platforms", Kind::Platforms, Value(r#"["linux/amd64", "linux/386", "linux/arm64"]"#), r#"["linux/amd64"]"#,
        "Platforms to build for."),
    key(Build, "output", Kind::Path, Value(r#""dist""#), r#""out""#,
        "Folder for the artifacts."),
    key(Build, "artifact", Kind::Artifact, Value(r#""{name}-linux-{arch}""#), r#""{name}-{platform}""#,
        "Name of an artifact, from {name}, {version}, {arch} (x86_64, i686, arm64) and {platform} (linux_arm64)."),
    key(Build, "before-build", Kind::List(Item::Text), Value("[]"), r#"["make translations"]"#,
        "Shell commands to run in the build container, in the project folder, before compiling."),
    key(Build, "target", Kind::Text, Derived("the last stage"), r#""export""#,
        "Stage of your own Dockerfile whose files are the result."),
    key(Build, "args", Kind::Arguments, Value("{}"), r#"{ FLAVOUR = "full" }"#,
        "More build arguments (ARG) for the recipe or Dockerfile."),
    key(Build, "auto-caches", Kind::Toggle, Value(r#""auto""#), r#""no""#,
        "Keep the caches of pip, uv, ccache, Nuitka, apt, apk, cargo and npm in volumes where a Dockerfile of your own calls them without a cache mount. \"auto\": yes in a project with settings for kiln, no where there are none."),

    key(Network, "ca-certificates", Kind::Path, Derived("none"), r#""certs/ca.pem""#,
        "File with more certificate authorities to trust in the build."),
    key(Network, "pip-index-url", Kind::Url, Derived("that of pip"), r#""https://pypi.example.org/simple""#,
        "Package index for pip."),
    key(Network, "pip-args", Kind::List(Item::Text), Value("[]"), r#"["--retries=10"]"#,
        "More arguments for pip, as they are."),
    key(Network, "apk-mirror", Kind::Url, Derived("that of the base image"), r#""https://mirror.example.org/alpine""#,
        "Mirror for Alpine packages."),
    key(Network, "apt-mirror", Kind::Url, Derived("that of the base image"), r#""https://mirror.example.org/debian""#,
        "Mirror for Debian packages."),
    key(Network, "http-proxy", Kind::Proxy, Derived("none"), r#""http://proxy.example.org:3128""#,
        "Proxy for http, during the build only."),
    key(Network, "https-proxy", Kind::Proxy, Derived("none"), r#""http://proxy.example.org:3128""#,
        "Proxy for https, during the build only."),
    key(Network, "no-proxy", Kind::Text, Derived("none"), r#""localhost,.example.org""#,
        "Hosts to reach without a proxy, separated by commas."),
    key(Network, "build-network", Kind::Choice(&["default", "host", "none"]), Value(r#""default""#), r#""host""#,
        "Network of the build containers: the daemon's default, the daemon's own (\"host\"), or \"none\"."),

    key(Verify, "run", Kind::Smoke, Value(r#""auto""#), r#""--selftest""#,
        "Test of the artifact: its arguments as a text or list, or a shell command that names it as {artifact}. \"auto\": --version if the program has it, else --help. false: none."),
    key(Verify, "timeout", Kind::Seconds, Value("120"), "300",
        "Time that the test may take, in seconds or as \"5m\"."),
    key(Verify, "image", Kind::Image, Derived("the base image of the build"), r#""debian:bookworm-slim""#,
        "Clean image to run the test in."),
    key(Verify, "glibc-max", Kind::Glibc, Derived("any"), r#""2.28""#,
        "The newest glibc that a program may need; a build or `kiln verify` that finds a newer one fails."),
    key(Verify, "allow", Kind::List(Item::Finding), Value("[]"), r#"["rpath"]"#,
        "Findings of `kiln verify` that may be: a name, or a name and the files meant, as in \"foreign-file:firmware/*\"."),
    key(Verify, "deny", Kind::List(Item::Finding), Value("[]"), r#"["exec-stack"]"#,
        "Findings of `kiln verify` that are errors where they would be warnings."),
    key(Verify, "run-on", Kind::List(Item::Text), Value("[]"), r#"["debian:bookworm", "ubuntu:20.04"]"#,
        "Images in which `kiln verify` runs the programs and installs the packages."),
    key(Verify, "secrets-allow", Kind::List(Item::Text), Value("[]"), r#"["url-credentials", "private-key:tests/*.pem"]"#,
        "What looks like a secret to `kiln verify` and is none: a kind, a file, or KIND:FILE, with wildcards."),

    key(Test, "command", Kind::Command, Derived("pytest, if the project shows that it has tests for it"), r#"["python", "-m", "unittest"]"#,
        "What runs the tests: a list of words, or a line for the shell. Every pytest in it writes its results for kiln; another program may write them as JUnit to the file $KILN_JUNIT."),
    key(Test, "python", Kind::List(Item::Python), Derived("the Python of the base image"), r#"["3.11", "3.13"]"#,
        "Versions of Python to test with."),
    key(Test, "platforms", Kind::Platforms, Derived("the daemon's own, because tests under emulation are slow"), r#"["linux/amd64", "linux/arm64"]"#,
        "Platforms to test on."),
    key(Test, "requirements", Kind::Requirements, Derived("requirements-test.txt, requirements-dev.txt or the like if it exists, else the extra `test` or `dev` in pyproject.toml"), r#"["pytest-cov", ".[cli]"]"#,
        "What pip installs for the tests beside `project.requirements`: a requirements file, or a list of requirements, in which `.` is the project itself."),
    key(Test, "packages", Kind::List(Item::Word), Value("[]"), r#"["git"]"#,
        "System packages to install in the test containers."),
    key(Test, "env", Kind::Arguments, Value("{}"), r#"{ TZ = "UTC" }"#,
        "Environment variables of the tests."),
    key(Test, "base", Kind::Image, Derived("build.base, or that of the recipe"), r#""debian:trixie""#,
        "Image to test in where no version of Python is asked for, or no image has it."),
    key(Test, "images", Kind::Images, Derived("python:{python}-alpine or python:{python}-slim-bookworm, by recipe"), r#""registry.example.org/python:{python}""#,
        "Images with the versions of Python: a pattern with {python}, or a table such as { \"3.12\" = \"image\" }."),
    key(Test, "timeout", Kind::Seconds, Value("1800"), "300",
        "Time that the tests of one Python on one platform may take, in seconds or as \"5m\"."),

    key(Release, "name", Kind::Name, Derived("project.name"), r#""greeter""#,
        "Name of archives and packages; the command in them has the name of the project."),
    key(Release, "version", Kind::Version, Derived("project.version, else the tag of the commit that is checked out"), r#""1.2.3rc1""#,
        "Version of archives and packages. Pre-releases come before their release in each format."),
    key(Release, "summary", Kind::Text, Derived("the description in pyproject.toml"), r#""Greets people""#,
        "One line about the program."),
    key(Release, "description", Kind::Text, Derived("the summary"), r#""Greets people by name, in any language.""#,
        "More about it."),
    key(Release, "license", Kind::Text, Derived("the license in pyproject.toml"), r#""MIT""#,
        "Its license, as SPDX writes it."),
    key(Release, "homepage", Kind::Url, Derived("the URLs in pyproject.toml"), r#""https://example.org/greeter""#,
        "Its page."),
    key(Release, "maintainer", Kind::Text, Derived("the maintainers or authors in pyproject.toml"), r#""Some Body <somebody@example.org>""#,
        "Who looks after the packages."),
    key(Release, "vendor", Kind::Text, Derived("none"), r#""Example Ltd""#,
        "Who publishes them."),
    key(Release, "section", Kind::Text, Value(r#""utils""#), r#""net""#,
        "Section of the Debian package."),
    key(Release, "formats", Kind::List(Item::OneOf(FORMATS)), Value(r#"["tar.gz", "deb", "rpm", "apk"]"#), r#"["tar.xz", "zip", "image"]"#,
        "What `kiln package` makes. Without a choice of yours, deb and rpm are left out for a musl program, and apk for a glibc program."),
    key(Release, "documents", Kind::List(Item::Text), Derived("LICENSE, README and CHANGELOG, as far as they are there"), r#"["LICENSE", "docs/README.txt"]"#,
        "License, README and their like, from the project folder; a folder stands for its files."),
    key(Release, "completions", Kind::List(Item::Text), Value("[]"), r#"["completions/greeter.bash", "zsh=completions/zsh.txt"]"#,
        "Completions for bash, zsh and fish: files or folders of them, with the shell before a `=` where the name does not tell it."),
    key(Release, "man", Kind::List(Item::Text), Value("[]"), r#"["man/greeter.1"]"#,
        "Pages of the manual, named NAME.SECTION; a folder stands for all pages in it."),
    key(Release, "systemd", Kind::List(Item::Text), Value("[]"), r#"["init/greeter.service"]"#,
        "Units of systemd, for deb and rpm. They are neither enabled nor started, and stopped before they are removed."),
    key(Release, "openrc", Kind::List(Item::Text), Value("[]"), r#"["init/greeter"]"#,
        "Scripts of OpenRC, for apk."),
    key(Release, "config-files", Kind::List(Item::Placed), Value("[]"), r#"["greeter.conf=/etc/greeter.conf"]"#,
        "Files with settings, as SRC=DST. What the user changes in them is kept by newer packages."),
    key(Release, "files", Kind::List(Item::Placed), Value("[]"), r#"["icon.svg=/usr/share/icons/hicolor/scalable/apps/greeter.svg"]"#,
        "Other files, as SRC=DST. A DST without a leading `/` is in the folder of an archive, and in /usr/share/NAME of a package."),
    key(Release, "depends.deb", Kind::List(Item::Text), Value("[]"), r#"["libgl1 (>= 1.3)"]"#,
        "What the Debian package needs beside the C library."),
    key(Release, "depends.rpm", Kind::List(Item::Text), Value("[]"), r#"["libglvnd-glx >= 1.3"]"#,
        "What the RPM package needs beside the C library."),
    key(Release, "depends.apk", Kind::List(Item::Text), Value("[]"), r#"["mesa-gl>=24"]"#,
        "What the Alpine package needs beside the C library."),
    key(Release, "apk-key", Kind::Text, Derived("none"), r#""env:KILN_APK_KEY""#,
        "RSA key that signs apk files, as abuild-keygen makes it: a file, or env:VARIABLE. Without one they install with --allow-untrusted."),
    key(Release, "apk-key-name", Kind::Name, Derived("the key's file name, else NAME.rsa, with .pub"), r#""me-1234.rsa.pub""#,
        "Name of the public key in /etc/apk/keys."),
    key(Release, "installer", Kind::Bool, Value("true"), "false",
        "Write install.sh, which installs from the tar.gz archives."),
    key(Release, "download-url", Kind::Url, Derived("the releases of the repository, if its forge is known"), r#""https://example.org/greeter/{version}""#,
        "Folder that install.sh downloads from; {version} and {tag} stand for theirs."),
    key(Release, "sbom", Kind::List(Item::Bill), Value(r#"["cyclonedx", "spdx"]"#), r#"["cyclonedx"]"#,
        "Bills of materials of each program, which say what it is made of: \"cyclonedx\" (1.6), \"spdx\" (2.3)."),
    key(Release, "provenance", Kind::Bool, Value("true"), "false",
        "A statement of how and of what everything was built, in the form of in-toto and SLSA."),
    key(Release, "sign", Kind::List(Item::Signer), Value("[]"), r#"["minisign:env:RELEASE_KEY", "cosign:cosign.key", "keyless"]"#,
        "What signs the sums and the provenance: minisign:KEY, cosign:KEY, each a file or env:VARIABLE, or keyless, which asks Sigstore where the CI service gives a token. KILN_SIGN_PASSWORD or COSIGN_PASSWORD opens a key."),
    key(Release, "trusted-keys", Kind::List(Item::Text), Value("[]"), r#"["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3", "cosign.pub"]"#,
        "Public keys of whoever releases, of minisign or as files of minisign or cosign, or keyless:NAME for who signs without one (`*` stands for the rest of a name, \"keyless:NAME ISSUER\" names who vouches for it); with any, `kiln verify` wants each file vouched for by one of them."),
    key(Release, "trusted-root", Kind::Path, Derived("Sigstore's own, as of 2026"), r#""trusted_root.json""#,
        "Whose word counts on who signed without a key: the trusted_root.json of an instance of Sigstore."),
    key(Release, "image.base", Kind::Image, Derived("by the program's C library: debian:bookworm-slim or trixie-slim, alpine:3.20, scratch for a static one"), r#""gcr.io/distroless/base-debian12""#,
        "Image that the program's image stands on; \"scratch\" is nothing at all."),
    key(Release, "image.user", Kind::User, Value(r#""65532:65532""#), r#""nobody""#,
        "Who runs the program: numbers, for which there is a home folder, or names that the base image knows."),
    key(Release, "image.tags", Kind::List(Item::Word), Value("[]"), r#"["ghcr.io/example/{name}:{version}"]"#,
        "Names of the image, with {name} and {version}."),
    key(Release, "image.labels", Kind::List(Item::Label), Value("[]"), r#"["org.opencontainers.image.source=https://example.org/greeter"]"#,
        "Labels of the image, as NAME=VALUE, beside its title, version and time."),
    key(Release, "image.workdir", Kind::Absolute, Derived("the user's home folder, or that of the base image"), r#""/data""#,
        "Folder that the program starts in; made for its user."),
    key(Release, "image.ports", Kind::List(Item::Port), Value("[]"), r#"["8080"]"#,
        "Ports that the program listens on."),
    key(Release, "image.files", Kind::List(Item::Data), Value("[]"), r#"["LICENSE=usr/share/doc/greeter/LICENSE"]"#,
        "More files for the image, as SRC=DST: from the project folder to the image's root."),
    // Of `kiln release`.
    key(Release, "forge", Kind::Choice(&["github", "gitea", "gitlab"]), Derived("the CI service that runs this, else by the host of git's remote"), r#""gitea""#,
        "Where `kiln release` publishes. \"gitea\" is Forgejo, too."),
    key(Release, "repository", Kind::Text, Derived("that of the CI service, else of git's remote"), r#""owner/name""#,
        "The repository whose release it is."),
    key(Release, "url", Kind::Url, Derived("that of the CI service, else of git's remote"), r#""https://git.example.org""#,
        "Address of the forge, or of its API."),
    key(Release, "tag", Kind::Text, Value(r#""v{version}""#), r#""{version}""#,
        "The tag of a release, in which {version} stands for the version."),
    key(Release, "assets", Kind::List(Item::Text), Derived("all of SHA256SUMS, signatures, bills of materials, provenance and install.sh"), r#"["*.tar.gz", "*.deb"]"#,
        "The files of the output folder that are published, by name; `*` stands for anything. SHA256SUMS is always one of them."),
    key(Release, "changelog", Kind::Inside, Derived("CHANGELOG.md, if it exists"), r#""docs/changes.md""#,
        "The file whose section of the version is what people read of a release."),
    key(Release, "notes-commits", Kind::Bool, Value("true"), "false",
        "Whether the notes list the commits since the last tag."),
    key(Release, "notes-files", Kind::Bool, Value("true"), "false",
        "Whether the notes have a table of the files with their sums."),
    key(Release, "draft", Kind::Bool, Value("false"), "true",
        "Whether a release stays a draft that somebody publishes by hand."),
    key(Release, "prerelease", Kind::Toggle, Value(r#""auto""#), r#""yes""#,
        "Whether a release is one to try out. \"auto\": if its version says so (1.0rc1, 1.0-beta.2)."),

    key(Cache, "scope", Kind::Name, Derived("the project's name and a digest of its folder's path"), r#""hello-ci""#,
        "Builds with the same scope share cache volumes."),
    key(Cache, "keep-size", Kind::Size, Value(r#""10GB""#), r#""5GB""#,
        "What `kiln cache prune` leaves in place."),
    key(Cache, "max-size", Kind::Size, Value(r#""2GB""#), r#""5GB""#,
        "Limit of each compiler cache (ccache)."),
    key(Cache, "ccache.remote-storage", Kind::Text, Derived("none"), r#""redis://cache.example.org""#,
        "Storage that a team's compiler caches share, as ccache writes it: redis://HOST, http://HOST/PATH, ... It has to be reached from the build containers."),
    key(Cache, "remote", Kind::List(Item::Text), Value("[]"), r#"["s3://bucket/prefix?region=eu-west-1&mode=max"]"#,
        "Places that caches are restored from and saved to, as addresses or as --cache-from writes them."),
    key(Cache, "sign-key", Kind::Text, Derived("none"), r#""env:KILN_SIGN_KEY""#,
        "Secret key of minisign that signs what is saved: env:VARIABLE, or a file. KILN_SIGN_PASSWORD opens it."),
    key(Cache, "trusted-keys", Kind::List(Item::Text), Value("[]"), r#"["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]"#,
        "Public keys of minisign; with any, what is restored must be signed by one of them or by sign-key."),

    key(Emulation, "install", Kind::Bool, Value("true"), "false",
        "Register QEMU with the daemon's kernel when a platform needs it."),
    key(Emulation, "qemu-image", Kind::Image, Derived("built from Debian's qemu-user-static"), r#""tonistiigi/binfmt""#,
        "Image that registers QEMU."),
    key(Emulation, "twin", Kind::Choice(&["auto", "on", "off"]), Value(r#""auto""#), r#""off""#,
        "Native programs for platforms that are emulated: where they work (\"auto\"), always or fail (\"on\"), never (\"off\")."),

    key(Ci, "python", Kind::List(Item::Release), Value(r#"["3.11", "3.12", "3.13"]"#), r#"["3.12", "3.13"]"#,
        "Versions of Python to test with."),
    key(Ci, "python-pull-request", Kind::List(Item::Release), Value(r#"["3.12"]"#), r#"["3.12", "3.13"]"#,
        "Versions of Python to test pull requests with."),
    key(Ci, "platforms", Kind::Platforms, Derived("those of build.platforms"), r#"["linux/amd64", "linux/arm64"]"#,
        "Platforms of the default branch and of tags."),
    key(Ci, "development-platforms", Kind::Platforms, Derived("those of ci.platforms"), r#"["linux/amd64"]"#,
        "Platforms of pull requests and of other branches."),
    key(Ci, "default-branch", Kind::Text, Derived("what the CI system or git says, else main"), r#""trunk""#,
        "The branch on which everything is built and tested."),
    key(Ci, "runner", Kind::Labels, Value(r#""ubuntu-latest""#), r#""ubuntu-24.04-arm""#,
        "Label of the runner, or a list of labels. Of one platform in its own table: [platform.\"linux/arm64\".ci]; without that a foreign platform is built by its twin."),

    key(History, "keep", Kind::Count, Value("1000"), "200",
        "How many builds are remembered; full logs are kept for the last thirty."),
    key(History, "minute-price", Kind::Price, Value(r#""0""#), r#""0.008""#,
        "What a minute of a CI runner costs, for `kiln stats`."),
    key(History, "currency", Kind::Text, Value(r#""USD""#), r#""EUR""#,
        "What that price is in."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::parse_value;

    #[test]
    fn every_default_and_example_is_valid_and_they_differ() {
        for key in KEYS {
            let check = |toml: &str| key.kind.check(&parse_value(toml).unwrap());
            let example = check(key.example).unwrap_or_else(|error| panic!("{key}: {error:?}"));
            if let Value(default) = key.default {
                let default = check(default).unwrap_or_else(|error| panic!("{key}: {error:?}"));
                assert_ne!(default, example, "{key}");
            }
            assert!(key.doc.ends_with('.'), "{key}");
        }
    }

    #[test]
    fn dotted_keys_and_variables_are_unique() {
        let mut names: Vec<String> = keys().flat_map(|key| [key.dotted(), key.variable()]).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        let lto = Key::find(Nuitka, "static-libpython").unwrap();
        assert_eq!(lto.variable(), "KILN_NUITKA_STATIC_LIBPYTHON");
        let armv7 = "linux/arm/v7".parse().unwrap();
        assert_eq!(lto.platform_variable(armv7), "KILN_PLATFORM_LINUX_ARM_V7_NUITKA_STATIC_LIBPYTHON");
    }
}
