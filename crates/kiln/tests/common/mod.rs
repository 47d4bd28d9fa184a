//! A project in a temporary folder, and kiln run in it with nothing of the machine's own settings.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// What a run of kiln left.
#[derive(Debug)]
#[allow(dead_code, reason = "each test file uses its own part")]
pub(crate) struct Ran {
    /// Its exit code; -1 if a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn new(output: &Output, folder: &Path) -> Self {
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.replace(&folder.display().to_string(), "[PROJECT]")
        };
        Self { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// A project.
pub(crate) struct Project {
    folder: TempDir,
    home: TempDir,
    host: String,
}

#[allow(dead_code, reason = "each test file uses its own part")]
impl Project {
    /// A project with these files, on a daemon that does not exist.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        Self::on("unix:///no/daemon.sock", files)
    }

    /// A project with these files, on this daemon.
    pub(crate) fn on(host: &str, files: &[(&str, &str)]) -> Self {
        let project = Self {
            folder: tempfile::Builder::new().prefix("kiln-test-").tempdir().expect("temporary folder"),
            home: tempfile::tempdir().expect("temporary folder"),
            host: host.to_owned(),
        };
        for (path, text) in files {
            project.write(path, text);
        }
        project
    }

    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        // As kiln shows it, without links.
        let folder = fs_err::canonicalize(self.folder.path()).expect("it exists");
        if path.is_empty() { folder } else { folder.join(path) }
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs_err::create_dir_all(path.parent().expect("it is in a folder")).expect("folder");
        fs_err::write(path, text).expect("file");
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs_err::read_to_string(self.path(path)).expect("file")
    }

    /// Writes the user's own settings.
    pub(crate) fn user(&self, text: &str) {
        let folder = self.home.path().join(".config/kiln");
        fs_err::create_dir_all(&folder).expect("folder");
        fs_err::write(folder.join("config.toml"), text).expect("file");
    }

    /// Names in the project folder, kiln's state left out.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs_err::read_dir(self.path("")).expect("folder");
        let names = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name != ".kiln").collect();
        names.sort();
        names
    }

    /// kiln with these arguments, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.args(args).current_dir(self.path("")).env_clear().stdin(Stdio::null());
        for name in ["PATH", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", self.home.path()).env("DOCKER_HOST", &self.host);
        command
    }

    pub(crate) fn kiln(&self, args: &[&str]) -> Ran {
        self.kiln_with(args, &[])
    }

    pub(crate) fn kiln_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        let output = self.command(args).envs(variables.iter().copied()).output().expect("kiln runs");
        Ran::new(&output, &self.path(""))
    }
}
