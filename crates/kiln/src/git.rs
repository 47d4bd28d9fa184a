//! The system's git, asked about a project.

use std::path::Path;
use std::process::{Command, Stdio};

/// A call of git about the repository that a folder is in.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    // What it says is read by a program.
    command.args(arguments).current_dir(folder).env("LC_ALL", "C").env("GIT_PAGER", "cat").stdin(Stdio::null());
    // What this process stands in must not be taken for the project.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(name);
    }
    command
}

/// What git answers, without blanks around it; nothing where there is no git, no repository, or no such thing.
pub(crate) fn ask(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = command(folder, arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
