//! The whole program on small images: what takes seconds.

mod action;
mod caches;
mod doctor;
mod history;
mod leftovers;
mod many;
mod outputs;
mod package_image;
mod packages;
mod proofs;
mod report;
mod shell;
mod suite;
mod targets;
mod travel;
mod verify;

use std::time::Duration;

use kiln_e2e::{Project, Running, needed};
use rustix::process::Signal;

/// Writes the machine's name; three stages' worth of a build in a second.
const SMALL: &str = "FROM alpine:3.20 AS build\nWORKDIR /work\nRUN uname -m > machine\nCOPY note.txt .\n\
    RUN cat machine note.txt > result\nFROM scratch AS export\nCOPY --from=build /work/result /\n";

const THREE: &str = "--platform=linux/amd64,linux/386,linux/arm64";

fn small() -> Option<Project> {
    Project::new(&[("Dockerfile", SMALL), ("note.txt", "one\n")])
}

/// A Dockerfile whose key no other run has, so that its steps do run.
fn fresh(body: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    format!("FROM alpine:3.20\nENV RUN_ID={now}-{}\n{body}", std::process::id())
}

#[test]
fn three_platforms_then_nothing_then_one_file() {
    let Some(project) = small() else { return };
    let arguments = ["-f", "Dockerfile", "-o", "out", THREE, "."];
    let first = project.build(&arguments);
    let machine = |platform: &str| project.read(&format!("out/{platform}/result"));
    assert_eq!(machine("linux_amd64"), "x86_64\none\n");
    assert_eq!(machine("linux_386"), "i686\none\n");
    assert_eq!(machine("linux_arm64"), "aarch64\none\n");
    assert_eq!(first.events_of("target-finished").len(), 3);

    let again = project.build(&arguments);
    assert!(again.was_up_to_date(), "{}", again.stdout);
    assert_eq!(again.steps_run(), [""; 0]);
    assert!(again.took < Duration::from_secs(2), "{:?}", again.took);

    project.write("note.txt", "two\n");
    let changed = project.build(&arguments);
    assert_eq!(machine("linux_arm64"), "aarch64\ntwo\n");
    let ran = changed.steps_run();
    assert!(!ran.iter().any(|step| step.contains("uname")), "{ran:?}");
    assert!(ran.iter().any(|step| step.contains("result")), "{ran:?}");

    // Somebody deleted a result: it comes back.
    std::fs::remove_file(project.path().join("out/linux_386/result")).expect("it was there");
    project.build(&arguments);
    assert_eq!(machine("linux_386"), "i686\ntwo\n");
}

#[test]
fn a_failing_step_tells_where_and_leaves_nothing() {
    let text = fresh("RUN echo before && \\\n    echo the last words >&2 && exit 7\n");
    let Some(project) = Project::new(&[("Dockerfile", &text)]) else { return };
    let ran = project.kiln(&["build", "-f", "Dockerfile", "-o", "out", "--platform=linux/amd64", "."]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for words in ["Dockerfile:3", "the last words", "7"] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    assert_eq!(project.list("out"), [""; 0]);
    project.daemon().assert_nothing_left(ran.pid);
}

#[test]
fn the_other_platforms_go_on_when_one_fails() {
    let text = fresh("RUN uname -m > /result && [ $(uname -m) != i686 ]\nFROM scratch\nCOPY --from=0 /result /\n");
    let Some(project) = Project::new(&[("Dockerfile", &text)]) else { return };
    let both = ["build", "-f", "Dockerfile", "-o", "out", "--platform=linux/amd64,linux/386", "."];
    let ran = project.kiln(&both);
    assert_eq!(ran.code, Some(8), "{}", ran.stderr);
    assert_eq!(project.read("out/linux_amd64/result"), "x86_64\n");
    assert_eq!(project.list("out/linux_386"), [""; 0]);
    project.daemon().assert_nothing_left(ran.pid);
}

#[test]
fn every_kind_of_failure_has_its_exit_code() {
    let Some(project) = Project::new(&[("main.py", "print('hello')\n")]) else { return };
    let cases: [(&str, &[&str], i32, &str); 9] = [
        ("usage", &["build", "--no-such-option"], 2, "--no-such-option"),
        ("a requirements file that is not there", &["build", "--requirements", "gone.txt"], 3, "gone.txt"),
        ("an entry that is not there", &["build", "--entry", "gone.py"], 3, "gone.py"),
        ("an unknown platform", &["build", "--platform", "linux/none"], 3, "linux/none"),
        ("an unknown key", &["build", "--set", "nuitka.ltoo=no"], 3, "ltoo"),
        ("no project", &["build", "gone"], 3, "gone"),
        ("a Dockerfile that is wrong", &["build", "-f", "wrong", "."], 3, "wrong:2"),
        ("no daemon", &["-H", "unix:///nowhere.sock", "build"], 4, "nowhere.sock"),
        ("no base image", &["build", "-f", "baseless", "."], 4, "127.0.0.1:9/none"),
    ];
    project.write("wrong", "FROM scratch\nCOPI a b\n");
    project.write("baseless", "FROM 127.0.0.1:9/none:1\nRUN true\n");
    for (name, arguments, code, words) in cases {
        let ran = project.kiln(arguments);
        assert_eq!(ran.code, Some(code), "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{name}: {}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{name}: {}", ran.stderr);
    }
}

#[test]
fn an_interrupted_build_ends_soon_and_leaves_nothing() {
    let text = fresh("RUN sleep 120\n");
    let Some(project) = Project::new(&[("Dockerfile", &text)]) else { return };
    let command = project.command(&["build", "-f", "Dockerfile", "-o", "out", "--platform=linux/amd64", "."]);
    let (running, daemon) = (Running::start(command), project.daemon());
    daemon.wait_for_container(running.pid());
    std::thread::sleep(Duration::from_millis(500));
    running.signal(Signal::INT);
    let ran = running.wait();
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert!(ran.took < Duration::from_secs(40), "{:?}", ran.took);
    daemon.assert_nothing_left(ran.pid);
    assert_eq!(project.list("out"), [""; 0]);
}

#[test]
fn after_a_killed_build_the_next_cleans_up() {
    let text = fresh("RUN sleep 4; echo done > /result\nFROM scratch\nCOPY --from=0 /result /\n");
    let Some(project) = Project::new(&[("Dockerfile", &text)]) else { return };
    let arguments = ["-f", "Dockerfile", "-o", "out", "--platform=linux/amd64", "."];
    let running = Running::start(project.command(&[&["build"], &arguments[..]].concat()));
    let daemon = project.daemon();
    daemon.wait_for_container(running.pid());
    std::thread::sleep(Duration::from_millis(500));
    running.signal(Signal::KILL);
    let killed = running.wait();
    assert_eq!(killed.code, None);
    assert_eq!(project.list("out"), [""; 0]);
    project.build(&arguments);
    assert_eq!(project.read("out/result"), "done\n");
    daemon.assert_nothing_left(killed.pid);
}

#[test]
fn cache_mounts_outlive_builds_until_they_are_to_be_empty() {
    let id = format!("e2e-counter-{}", std::process::id());
    let text = format!(
        "FROM alpine:3.20 AS build\nRUN --mount=type=cache,id={id},target=/cache echo x >> /cache/runs && \
         wc -l < /cache/runs > /count\nFROM scratch\nCOPY --from=build /count /\n"
    );
    let Some(project) = Project::new(&[("Dockerfile", &text)]) else { return };
    let count = |more: &[&str]| {
        project.build(&[&["-f", "Dockerfile", "-o", "out", "--platform=linux/amd64"], more, &["."]].concat());
        project.read("out/count").trim().to_owned()
    };
    assert_eq!(count(&[]), "1");
    assert_eq!(count(&["--no-cache"]), "2");
    assert_eq!(count(&["--no-cache", "--no-cache-mounts"]), "1");
    let listed = project.kiln(&["cache", "ls"]);
    assert!(listed.stdout.contains(&id), "{}", listed.stdout);
    let pruned = project.kiln(&["cache", "prune", "--only", &id]);
    assert_eq!(pruned.code, Some(0), "{}", pruned.stderr);
    assert!(!project.kiln(&["cache", "ls"]).stdout.contains(&id));
}

#[test]
fn two_builds_of_one_project_at_once_both_end_well() {
    let text = fresh("RUN sleep 1; echo done > /result\nFROM scratch\nCOPY --from=0 /result /\n");
    let Some(project) = Project::new(&[("Dockerfile", &text)]) else { return };
    let build =
        || Running::start(project.command(&["build", "-f", "Dockerfile", "-o", "out", "--platform=linux/amd64", "."]));
    let (one, two) = (build(), build());
    for ran in [one.wait(), two.wait()] {
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        project.daemon().assert_nothing_left(ran.pid);
    }
    assert_eq!(project.read("out/result"), "done\n");
}

#[test]
fn the_state_of_emulation_is_told() {
    let Some(project) = Project::new(&[]) else { return };
    let ran = project.kiln(&["emulation", "status", "--json", "--platform", "linux/amd64,linux/386,linux/arm64"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for platform in ["linux/amd64", "linux/386", "linux/arm64"] {
        assert!(ran.stdout.contains(platform), "{}", ran.stdout);
    }
}

#[test]
fn an_emulated_command_that_crashes_has_ended() {
    let Some(image) = needed("KILN_TEST_MUSL_IMAGE") else { return };
    let text = format!("FROM {image}\nRUN [\"python3\", \"-c\", \"import ctypes; ctypes.string_at(1)\"]\n");
    let Some(project) = Project::new(&[("Dockerfile", &text)]) else { return };
    let ran = project.kiln(&["build", "-f", "Dockerfile", "--platform=linux/arm64", "--twin=off", "-o", "out", "."]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("exit code 139"), "{}", ran.stderr);
    project.daemon().assert_nothing_left(ran.pid);
}
