//! The Dockerfile language, case by case (`conformance/*.txt`; the format is told in `src/case.rs`).
//!
//! With `KILN_TEST_PEER` set to the address of a daemon, each case is built there by `docker buildx build` as well, and
//! both results must be the same: so the expectations are right, too.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use kiln_e2e::Project;
use kiln_e2e::case::{Case, Entry, cases, tree};

fn check(file: &str) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance").join(file));
    let mut problems = Vec::new();
    for case in cases(&text.expect("the cases")) {
        let Some(project) = Project::new(&[]) else { return };
        problems.extend(run(&case, &project).into_iter().map(|problem| format!("{}: {problem}", case.name)));
    }
    assert!(problems.is_empty(), "{file}:\n{}", problems.join("\n"));
}

fn run(case: &Case, project: &Project) -> Vec<String> {
    case.write(&project.path().join("context"));
    let platform =
        if case.args.iter().any(|arg| arg.starts_with("--platform")) { vec![] } else { vec!["--platform=linux/amd64"] };
    let options: Vec<&str> = platform.into_iter().chain(case.args.iter().map(String::as_str)).collect();
    let file = if case.args.iter().any(|arg| arg == "-f") { vec![] } else { vec!["-f", "context/Dockerfile"] };
    let ran = project
        .kiln(&[&["build"], file.as_slice(), &["-o", "kiln", "--no-cache"], options.as_slice(), &["context"]].concat());
    let made = tree(&project.path().join("kiln"));
    let mut problems = Vec::new();
    match (&case.fails, ran.code) {
        (None, Some(0)) => problems.extend(case.problems(&made)),
        (None, _) => problems.push(format!("kiln failed: {}", ran.stderr)),
        (Some(_), Some(0)) => problems.push("kiln built it".to_owned()),
        (Some(words), _) => {
            let missing = words.iter().filter(|words| !ran.stderr.contains(*words));
            problems.extend(missing.map(|words| format!("the error does not say `{words}`: {}", ran.stderr)));
            if !made.is_empty() {
                problems.push("a failed build left files".to_owned());
            }
        }
    }
    project.daemon().assert_nothing_left(ran.pid);
    if let (Ok(peer), None) = (std::env::var("KILN_TEST_PEER"), &case.differs) {
        problems.extend(compare(case, project, &peer, &options, &made));
    }
    problems
}

/// How kiln's result differs from that of `docker buildx build`.
fn compare(
    case: &Case,
    project: &Project,
    peer: &str,
    options: &[&str],
    made: &std::collections::BTreeMap<String, Entry>,
) -> Vec<String> {
    let mut command = Command::new("docker");
    // A context that kiln has not looked at: its state lies in the other.
    let folder = project.path().join("peers");
    case.write(&folder.join("context"));
    command.args(["-H", peer, "buildx", "build", "--network=host", "-q", "-o", "type=local,dest=../peer"]);
    if !options.contains(&"-f") {
        command.args(["-f", "context/Dockerfile"]);
    }
    let output = command.args(options).arg("context").current_dir(&folder).stdin(Stdio::null()).output();
    let output = output.expect("docker is there");
    let theirs = tree(&project.path().join("peer"));
    let mut problems = Vec::new();
    if output.status.success() != case.fails.is_none() {
        problems.push(format!("buildx ends otherwise: {}", String::from_utf8_lossy(&output.stderr)));
    } else if case.fails.is_none() && theirs != *made {
        let names: std::collections::BTreeSet<&String> = theirs.keys().chain(made.keys()).collect();
        for name in names.into_iter().filter(|name| theirs.get(*name) != made.get(*name)) {
            problems.push(format!("{name}: buildx {:?}, kiln {:?}", theirs.get(name), made.get(name)));
        }
    }
    problems
}

#[test]
fn mounts() {
    check("mounts.txt");
}

#[test]
fn copies() {
    check("copies.txt");
}

#[test]
fn variables() {
    check("variables.txt");
}

#[test]
fn following() {
    check("following.txt");
}

#[test]
fn stages() {
    check("stages.txt");
}

#[test]
fn scripts() {
    check("scripts.txt");
}

#[test]
fn contexts() {
    check("contexts.txt");
}
