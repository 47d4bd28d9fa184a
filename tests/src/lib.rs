//! What the end-to-end tests share: projects in folders of their own, the kiln program, and a look at the daemon.
//!
//! `cargo xtask test` sets the variables: `KILN_TEST_DOCKER_HOST` is the daemon, `KILN_TEST_BIN` the program,
//! `KILN_TEST_REGISTRY` a registry to push to, `KILN_TEST_CHROMIUM` a browser, `KILN_TEST_BILL_PYTHON` a Python with
//! validators of bills of materials, `KILN_TEST_MINISIGN` and `KILN_TEST_OPENSSL` these programs, `KILN_TEST_S3`,
//! `KILN_TEST_WEB` and `KILN_TEST_REDIS` servers for caches, `KILN_TEST_OTHER_DAEMON` a second daemon, and `KILN_NETWORK_*` how
//! containers reach the outside. A test that misses one of them says `SKIPPED` and why.
#![expect(clippy::print_stderr, reason = "a test says what it does")]

pub mod case;
mod daemon;
mod run;
pub mod same;

use std::path::{Path, PathBuf};
use std::process::Command;

pub use daemon::Daemon;
pub use run::{Ran, Running};

/// The scope of cache volumes and checkpoints of the examples: they share it, so a toolchain is installed once. Other
/// projects have scopes of their own: pruning one does not wait for builds of another.
const SCOPE: &str = "kiln-e2e";

/// The value of a variable that is set and not empty; says aloud when there is none.
pub fn needed(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        eprintln!("SKIPPED: {name} is not set; `cargo xtask test` sets it");
    }
    value
}

/// A project in a temporary folder, and a daemon to build it on.
pub struct Project {
    /// None only while it is dropped.
    folder: Option<tempfile::TempDir>,
    bin: PathBuf,
    host: String,
    scope: String,
}

impl Project {
    /// A project of files, given by path and content; `None` where there is no daemon to build on.
    pub fn new(files: &[(&str, &str)]) -> Option<Self> {
        let (host, bin) = (needed("KILN_TEST_DOCKER_HOST")?, needed("KILN_TEST_BIN")?.into());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let project = Self { folder: Some(folder), bin, host, scope: String::new() }.apart();
        for (path, content) in files {
            project.write(path, content);
        }
        Some(project)
    }

    /// A copy of one of the examples, without what was built of it.
    pub fn example(name: &str) -> Option<Self> {
        let mut project = Self::new(&[])?;
        SCOPE.clone_into(&mut project.scope);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
        copy(&source, project.path());
        Some(project)
    }

    /// Has caches and checkpoints of its own from now on: what empties caches must not meet builds of other tests.
    #[must_use]
    pub fn apart(mut self) -> Self {
        let name = self.path().file_name().unwrap_or_default().to_string_lossy();
        self.scope = format!("e2e-{}", name.trim_matches('.'));
        self
    }

    /// Compiles almost without optimising from now on, by a recipe of its own that is otherwise kiln's of that name. Emulated or
    /// from empty caches that is what takes the most time, and nothing but the speed of the program depends on it.
    pub fn unoptimized(&self, recipe: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../dockerfiles/{recipe}.Dockerfile"));
        let text = std::fs::read_to_string(path).expect("a recipe");
        let stage = "FROM dependencies AS compile\n";
        assert!(text.contains(stage), "the recipe has that stage");
        // Without any, clang for musl makes a program on arm64 that crashes before it has unpacked itself.
        let level = if recipe == "alpine" { "-O1" } else { "-O0" };
        let text = text.replace(stage, &format!("{stage}ENV CFLAGS={level}\n"));
        // As `kiln init --eject` marks it.
        self.write("kiln.Dockerfile", &format!("# kiln: recipe\n{text}"));
        let settings = self.read("kiln.toml");
        let named = |line: &str| line.starts_with("recipe = ");
        assert!(settings.lines().any(named), "the settings name a recipe");
        let lines = settings.lines().map(|line| if named(line) { "recipe = \"kiln.Dockerfile\"" } else { line });
        self.write("kiln.toml", &lines.collect::<Vec<_>>().join("\n"));
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.as_ref().expect("it is there until the end").path()
    }

    /// Writes a file.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it lies in the project")).expect("a folder");
        std::fs::write(path, content).expect("a file");
    }

    /// A file's content.
    pub fn read(&self, path: &str) -> String {
        let bytes = std::fs::read(self.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Names in a folder, sorted; none if it is not there.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path().join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The kiln program in this project, with nothing of the environment but what a test sets and the way to the network.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.bin);
        command.args(arguments).current_dir(self.path()).env_clear();
        command.envs(std::env::vars().filter(|(name, _)| name == "PATH" || name.starts_with("KILN_NETWORK_")));
        // One user runs all the tests of a daemon: builds at the same time meet the same locks. Those of another daemon do
        // not, also where an old one takes its id from a file of the machine.
        let daemon = self.host.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        command.env("HOME", std::env::temp_dir().join(format!("kiln-e2e-home-{daemon}")));
        command.env("DOCKER_HOST", &self.host).env("KILN_CACHE_SCOPE", &self.scope).env("CI", "true");
        command
    }

    /// Runs kiln to its end.
    pub fn kiln(&self, arguments: &[&str]) -> Ran {
        Running::start(self.command(arguments)).wait()
    }

    /// `kiln build`, which must end well.
    pub fn build(&self, arguments: &[&str]) -> Ran {
        let arguments = [&["build", "--progress=json"], arguments].concat();
        let mut ran = self.kiln(&arguments);
        // The way to the package servers is not what is tested.
        if ran.code != Some(0)
            && ["could not be reached", "could not be fetched"].iter().any(|t| ran.stderr.contains(t))
        {
            eprintln!("once more, the network failed: {}", ran.stderr);
            ran = self.kiln(&arguments);
        }
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        self.daemon().assert_nothing_left(ran.pid);
        ran
    }

    /// The scope of its caches and checkpoints.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The same on another daemon.
    #[must_use]
    pub fn on(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Containers, volumes and images of its scope that are no checkpoints, caches or native programs.
    pub fn left_behind(&self) -> Vec<String> {
        self.daemon().left_of(&self.scope)
    }

    /// Ids of its checkpoints.
    pub fn checkpoints(&self) -> Vec<String> {
        self.daemon().checkpoints_of(&self.scope)
    }

    /// The daemon.
    pub fn daemon(&self) -> Daemon {
        Daemon::connect(&self.host)
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            if self.scope != SCOPE {
                let _ = self.command(&["cache", "prune"]).output();
            }
            return;
        }
        // What a failed build left, its logs above all, is worth a look.
        if let Some(folder) = self.folder.take() {
            eprintln!("the project is kept in {}", folder.keep().display());
        }
    }
}

fn copy(source: &Path, target: &Path) {
    for entry in std::fs::read_dir(source).expect("an example").flatten() {
        let name = entry.file_name();
        if name == "dist" || name == ".kiln" || name == "__pycache__" {
            continue;
        }
        let to = target.join(&name);
        if entry.path().is_dir() {
            std::fs::create_dir_all(&to).expect("a folder");
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a file");
        }
    }
}
