//! The Dockerfile language, case by case (`conformance/*.txt`; the format is told in `src/case.rs`).
//!
//! With `KILN_TEST_PEER` set to the address of a daemon, each case is built there by `docker buildx build` as well, and
//! both results must be the same: so the expectations are right, too.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use std::collections::{BTreeMap, BTreeSet};

use kiln_e2e::case::{Case, Entry, cases, tree, tree_of_archive};
use kiln_e2e::{Daemon, Project, needed};
use kiln_graph::{Arch, Platform};

/// The base image of all cases that are about images.
const BASE: &str = "alpine:3.20";

fn check(file: &str) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance").join(file));
    let mut problems = Vec::new();
    for case in cases(&text.expect("the cases")) {
        let Some(project) = Project::new(&[]) else { return };
        problems.extend(run(&case, &project).into_iter().map(|problem| format!("{}: {problem}", case.name)));
    }
    assert!(problems.is_empty(), "{file}:\n{}", problems.join("\n"));
}

/// The options of a case, with a platform if it has none.
fn options(case: &Case) -> Vec<&str> {
    let platform =
        if case.args.iter().any(|arg| arg.starts_with("--platform")) { vec![] } else { vec!["--platform=linux/amd64"] };
    platform.into_iter().chain(case.args.iter().map(String::as_str)).collect()
}

fn run(case: &Case, project: &Project) -> Vec<String> {
    case.write(&project.path().join("context"));
    let options = options(case);
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
    made: &BTreeMap<String, Entry>,
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
    } else if case.fails.is_none() {
        problems.extend(differences(&theirs, made));
    }
    problems
}

fn differences(theirs: &BTreeMap<String, Entry>, made: &BTreeMap<String, Entry>) -> Vec<String> {
    let names: BTreeSet<&String> = theirs.keys().chain(made.keys()).collect();
    let differ = names.into_iter().filter(|name| theirs.get(*name) != made.get(*name));
    differ.map(|name| format!("{name}: buildx {:?}, kiln {:?}", theirs.get(name), made.get(name))).collect()
}

/// What a case's image holds: as it is loaded, as it is pushed and pulled again, and as buildx makes it.
fn run_as_image(case: &Case, project: &Project, registry: &str, index: usize) -> Vec<String> {
    case.write(&project.path().join("context"));
    let (options, daemon) = (options(case), project.daemon());
    let named = options.iter().find_map(|option| option.strip_prefix("--platform=")).expect("a platform");
    let platform: Platform = named.parse().expect("one that kiln knows");
    // The names of a daemon stand for one platform.
    daemon.pull(BASE, Platform::linux(Arch::Amd64));
    let base = daemon.files(BASE, Platform::linux(Arch::Amd64));
    // Without what the base image has: that is not the case's.
    let files = |daemon: &Daemon, image: &str, base: &[u8]| {
        let (mut made, base) = (tree_of_archive(&daemon.files(image, platform)), tree_of_archive(base));
        made.retain(|path, entry| base.get(path) != Some(entry));
        made
    };
    let name = format!("kiln-e2e-image-{}-{index}:1", std::process::id());
    let pushed = format!("{registry}/{name}");
    let build = |more: &[&str]| {
        let arguments = [&["build", "-f", "context/Dockerfile"], more, options.as_slice(), &["context"]].concat();
        let ran = project.kiln(&arguments);
        assert_eq!(ran.code, Some(0), "{}: {}", case.name, ran.stderr);
        daemon.assert_nothing_left(ran.pid);
    };
    build(&["--no-cache", "--load", "-t", &name]);
    let made = files(&daemon, &name, &base);
    let mut problems = case.problems(&made);
    let loaded = daemon.image(&name).expect("it was loaded").id;
    build(&["--load", "-t", &name]);
    if daemon.image(&name).map(|image| image.id) != Some(loaded) {
        problems.push("the second build makes another image".to_owned());
    }
    build(&["--push", "-t", &pushed]);
    daemon.remove_image(&name);
    let pulled = daemon.pull(&pushed, platform);
    problems.extend(
        differences(&made, &files(&daemon, &pulled.0, &base)).into_iter().map(|text| format!("pushed: {text}")),
    );
    daemon.remove_whole_image(&pulled);
    if let (Ok(peer), None) = (std::env::var("KILN_TEST_PEER"), &case.differs) {
        let mut command = Command::new("docker");
        command.args(["-H", &peer, "buildx", "build", "--network=host", "-q", "--load", "-t", &name]);
        command.args(["-f", "context/Dockerfile"]).args(&options).arg("context").current_dir(project.path());
        let output = command.stdin(Stdio::null()).output().expect("docker is there");
        assert!(output.status.success(), "{}: buildx: {}", case.name, String::from_utf8_lossy(&output.stderr));
        let peer = Daemon::connect(&peer);
        peer.pull(BASE, Platform::linux(Arch::Amd64));
        let theirs = files(&peer, &name, &peer.files(BASE, Platform::linux(Arch::Amd64)));
        problems.extend(differences(&theirs, &made));
        peer.remove_image(&name);
    }
    problems
}

#[test]
fn images() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/images.txt"));
    let Some(registry) = needed("KILN_TEST_REGISTRY") else { return };
    let mut problems = Vec::new();
    for (index, case) in cases(&text.expect("the cases")).iter().enumerate() {
        let Some(project) = Project::new(&[]) else { return };
        let found = run_as_image(case, &project, &registry, index);
        problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", case.name)));
    }
    assert!(problems.is_empty(), "images.txt:\n{}", problems.join("\n"));
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
