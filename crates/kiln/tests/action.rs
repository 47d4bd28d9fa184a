//! The unit tests of the GitHub Action, which Node runs, and the form of the examples for shells.

#![expect(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_modules_of_the_action() {
    if Command::new("node").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no node; `cargo xtask test` installs it");
        return;
    }
    let folder = root().join("action/test");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("action/test").flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=tap"]).args(&files).env_remove("NODE_TEST_CONTEXT");
    let output = node.output().expect("node runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // A run without tests would be a success, too.
    let passed = said.lines().find_map(|line| line.strip_prefix("# pass ")).and_then(|count| count.parse().ok());
    assert!(passed >= Some(files.len()), "{said}");
}

#[test]
fn the_example_for_shells_can_be_read_and_knows_its_words() {
    let script = root().join("examples/workflows/ci.sh");
    let run = |arguments: &[&str]| Command::new("sh").args(arguments).output().expect("sh runs");
    let script = script.to_str().expect("text");
    assert!(run(&["-n", script]).status.success());
    assert_eq!(run(&[script, "nonsense"]).status.code(), Some(2));
    // With a kiln that notes what it was called with, and fails.
    let folder = tempfile::tempdir().expect("a folder");
    let kiln = folder.path().join("kiln");
    std::fs::write(&kiln, "#!/bin/sh\necho \"$1\" >> \"$0.log\"\n[ \"$1\" = build ] && exit 3\nexit 0\n")
        .expect("kiln");
    Command::new("chmod").arg("+x").arg(&kiln).status().expect("chmod runs");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let status = Command::new("sh").args([script, "all"]).env("PATH", path).env("HOME", folder.path()).status();
    assert_eq!(status.expect("sh runs").code(), Some(1));
    let log = std::fs::read_to_string(folder.path().join("kiln.log")).expect("it was called");
    let mut calls: Vec<&str> = log.lines().collect();
    calls.sort_unstable();
    assert_eq!(calls, ["build", "test"]);
}
