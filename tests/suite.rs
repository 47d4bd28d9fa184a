//! `kiln test`: the project's own tests, per Python, in one graph with each other and with the build.
//!
//! Debian's own Python and that of the testbed's musl image stand for two versions, so the daemon needs no images of Python.

use std::time::Duration;

use kiln_e2e::{Project, Ran, Running, needed};
use rustix::process::Signal;

const SETTINGS: &str = r#"
[build]
recipe = "Dockerfile"
platforms = ["linux/amd64"]
[test]
python = ["3.11", "3.13"]
images = { "3.11" = "debian:bookworm", "3.13" = "MUSL" }
env = { ANSWER = "42" }
"#;
const DOCKERFILE: &str = "FROM alpine:3.20\nRUN echo built > /app\nFROM scratch\nCOPY --from=0 /app /\n";
const TESTS: &str = r#"import os
import sys

import pytest
from app import answer

def test_answer():
    assert answer() == 42

def test_environment():
    assert os.environ["ANSWER"] == "42" and "COMMAND" not in os.environ

@pytest.mark.skip(reason="not now")
def test_later():
    assert False
"#;
const GOOD: &str = "def answer():\n    return 42\n";
const BAD: &str = "def answer():\n    return 41\n";

fn project(app: &str) -> Option<Project> {
    let musl = needed("KILN_TEST_MUSL_IMAGE")?;
    Project::new(&[
        ("kiln.toml", &SETTINGS.replace("MUSL", &musl)),
        ("Dockerfile", DOCKERFILE),
        ("app.py", app),
        ("conftest.py", ""),
        ("tests/test_app.py", TESTS),
    ])
}

/// `kiln test` with variables; once more if the network failed, which is not what is tested.
fn test(project: &Project, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let run = || {
        let mut command = project.command(&[&["test", "--progress=json"], arguments].concat());
        command.envs(variables.iter().copied());
        Running::start(command).wait()
    };
    let mut ran = run();
    if ["could not be reached", "could not be fetched"].iter().any(|text| ran.stderr.contains(text)) {
        ran = run();
    }
    project.daemon().assert_nothing_left(ran.pid);
    ran
}

/// The commands that ran; copies ride along with them.
fn commands(ran: &Ran) -> Vec<String> {
    ran.steps_run().into_iter().filter(|step| step.starts_with("RUN ")).collect()
}

/// Python, result, and tests that passed, failed, were skipped.
type Row = (String, String, Option<u64>, Option<u64>, Option<u64>);

/// The results, as programs get them.
fn results(project: &Project) -> Vec<Row> {
    let facts: serde_json::Value = serde_json::from_str(&project.read("facts.json")).expect("JSON");
    let row = |cell: &serde_json::Value| {
        let text = |name: &str| cell[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| cell[name].as_u64();
        (text("python"), text("result"), number("passed"), number("failed"), number("skipped"))
    };
    facts.as_array().expect("a list").iter().map(row).collect()
}

fn cell(python: &str, result: &str, counts: [u64; 3]) -> Row {
    let [passed, failed, skipped] = counts.map(Some);
    (python.to_owned(), result.to_owned(), passed, failed, skipped)
}

#[test]
fn tests_fail_pass_and_are_remembered_only_where_they_pass() {
    let Some(project) = project(BAD) else { return };
    let arguments = ["--junit=junit.xml", "--metadata-file=facts.json"];
    let failed = test(&project, &arguments, &[("GITHUB_ACTIONS", "true")]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    let of_both = |result: &str, counts| [cell("3.11", result, counts), cell("3.13", result, counts)];
    assert_eq!(results(&project), of_both("failed", [1, 1, 1]), "{}", failed.stderr);
    for text in [
        "failed: python 3.11, linux/amd64: 1 of 3 tests failed",
        "failed: python 3.13, linux/amd64: 1 of 3 tests failed",
        "assert 41 == 42",
        "::error file=tests/test_app.py,line=8,endLine=8,title=tests.test_app%3A%3Atest_answer failed (python 3.11%2C linux/amd64; python 3.13%2C linux/amd64)::assert 41 == 42",
    ] {
        assert!(failed.stderr.contains(text), "{text}: {}", failed.stderr);
    }
    let report = project.read("junit.xml");
    for (text, count) in [("<testcase", 6), ("<failure", 2), ("<skipped", 2), ("<testsuite ", 2)] {
        assert_eq!(report.matches(text).count(), count, "{text}: {report}");
    }
    for text in ["pytest [python 3.11, linux/amd64]", "pytest [python 3.13, linux/amd64]", "name=\"platform\""] {
        assert!(report.contains(text), "{text}: {report}");
    }

    // What fails runs again, and nothing but that.
    let again = test(&project, &arguments, &[]);
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    let ran = commands(&again);
    assert!(ran.len() == 2 && ran.iter().all(|step| step.contains("/kiln/test.py")), "{ran:?}");
    assert!(!again.stderr.contains("::error"), "{}", again.stderr);

    project.write("app.py", GOOD);
    let passed = test(&project, &arguments, &[]);
    assert_eq!(passed.code, Some(0), "{}", passed.stderr);
    assert_eq!(results(&project), of_both("passed", [2, 0, 1]));

    // The reports that kiln writes into the project are no reason to test again.
    let cached = test(&project, &["--junit=reports/", "--metadata-file=facts.json"], &[]);
    assert_eq!((cached.code, cached.was_up_to_date()), (Some(0), true), "{}", cached.stdout);
    assert!(cached.took < Duration::from_secs(3), "{:?}", cached.took);
    assert_eq!(results(&project), of_both("up to date", [2, 0, 1]));
    assert_eq!(project.list("reports"), ["junit-py3.11-linux_amd64.xml", "junit-py3.13-linux_amd64.xml"]);
    assert_eq!(project.read("reports/junit-py3.13-linux_amd64.xml").matches("<testcase").count(), 3);

    let forced = test(&project, &["--again", "--python=3.13", "--junit=reports/", "--", "-k", "answer"], &[]);
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
    assert_eq!(commands(&forced).len(), 1, "{:?}", commands(&forced));
    assert_eq!(project.read("reports/junit-py3.13-linux_amd64.xml").matches("<testcase").count(), 1);

    // A failure in between does not make what passed before unknown.
    project.write("app.py", BAD);
    assert_eq!(test(&project, &["--python=3.11", "--junit=reports/"], &[]).code, Some(1));
    project.write("app.py", GOOD);
    let back = test(&project, &["--python=3.11"], &[]);
    assert_eq!((back.code, back.was_up_to_date()), (Some(0), true), "{}", back.stdout);
}

#[test]
fn the_program_is_built_at_the_same_time_and_any_command_has_a_report() {
    let Some(project) = project(GOOD) else { return };
    let command = "test.command=sh -c 'echo said; python -c \"import app; print(app.answer())\"; exit 0'";
    let arguments = ["--build", "--junit=junit.xml", "--python=3.11", "--set", command];
    let ran = test(&project, &arguments, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(project.read("dist/app"), "built\n");
    let report = project.read("junit.xml");
    assert_eq!((report.matches("<testcase").count(), report.matches("<failure").count()), (1, 0), "{report}");
    // Tests that fail keep nobody from the program, and say what they said.
    std::fs::remove_dir_all(project.path().join("dist")).expect("it was built");
    let ran = test(&project, &[&arguments[..4], &["test.command=echo said; exit 3"]].concat(), &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("the tests failed with exit code 3\n  | said\n"), "{}", ran.stderr);
    assert_eq!(project.read("dist/app"), "built\n");
    let report = project.read("junit.xml");
    assert!(report.contains("message=\"the tests failed with exit code 3\">said</failure>"), "{report}");
    // Time is limited, whatever the tests do about it.
    let slow = "test.command=trap '' TERM; sleep 60";
    let ran = test(&project, &["--python=3.11", "--set", slow, "--set", "test.timeout=2"], &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("the tests did not end within 2 s"), "{}", ran.stderr);
}

#[test]
fn what_keeps_tests_from_running_is_no_failed_test() {
    let Some(project) = project(GOOD) else { return };
    project.write("requirements-dev.txt", "no-such-distribution-of-kiln==1; python_version >= \"3.13\"\n");
    let ran = test(&project, &["--metadata-file=facts.json", "--junit=junit.xml"], &[]);
    assert_eq!(ran.code, Some(8), "{}", ran.stderr);
    let expected = [cell("3.11", "passed", [2, 0, 1]), ("3.13".to_owned(), "error".to_owned(), None, None, None)];
    assert_eq!(results(&project), expected);
    assert!(ran.stderr.contains("no distribution fits the requirement no-such-distribution-of-kiln"), "{}", ran.stderr);
    assert_eq!(project.read("junit.xml").matches("<error ").count(), 1);
    // A command that is not there is not one that failed, but if nothing else is, its own code counts.
    let ran = test(&project, &["--python=3.11", "--set", "test.command=[\"nosuch\"]"], &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("the test command cannot be run"), "{}", ran.stderr);
    // An image without the Python that was asked for says what to do.
    let ran = test(&project, &["--python=3.12", "--set", "test.images=[\"3.12=debian:bookworm\"]"], &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("neither the base image nor its packages have Python 3.12"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: set [test] images"), "{}", ran.stderr);
}

#[test]
fn a_stopped_run_leaves_nothing() {
    let Some(project) = project(GOOD) else { return };
    // What the tests stand on may take its time on a busy machine.
    assert_eq!(test(&project, &["--python=3.13", "--set", "test.command=true"], &[]).code, Some(0));
    let arguments = ["test", "--progress=plain", "--python=3.13", "--set", "test.command=echo asleep; sleep 60"];
    let running = Running::start(project.command(&arguments));
    running.wait_for_line(" asleep");
    running.signal(Signal::INT);
    let ran = running.wait();
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert!(ran.stderr.contains("stopped"), "{}", ran.stderr);
    assert_eq!(project.left_behind(), [""; 0]);
}

#[test]
fn a_plan_says_which_python_is_tested_and_runs_nothing() {
    let settings = SETTINGS.replace("MUSL", "alpine:3.20");
    let files = [("kiln.toml", settings.as_str()), ("Dockerfile", DOCKERFILE), ("tests/test_app.py", TESTS)];
    let Some(project) = Project::new(&files) else { return };
    let plan = |arguments: &[&str]| project.kiln(&[&["test"], arguments].concat());
    let ran = plan(&["--plan"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let heads: Vec<&str> = ran.stdout.lines().filter(|line| line.starts_with("linux/")).collect();
    assert_eq!(heads.len(), 2, "{}", ran.stdout);
    assert!(heads[0].starts_with("linux/amd64 (test-3.11): ") && heads[0].contains("; Python: image debian:bookworm"));
    assert!(heads[1].starts_with("linux/amd64 (test-3.13): ") && heads[1].contains("; Python: image alpine:3.20"));
    assert!(ran.stdout.contains("test-3.13 ") && !project.path().join(".kiln/logs").exists(), "{}", ran.stdout);

    let ran = plan(&["--plan=json", "--build", "--python=3.11"]);
    let shown: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let targets = shown["targets"].as_array().expect("a list");
    let pythons: Vec<_> = targets.iter().map(|target| target["python"].as_str()).collect();
    assert_eq!(pythons, [None, Some("image debian:bookworm")], "the program comes first");

    // What would be taken in the place of an image that cannot be had, and what to do about it.
    let images = ["--set", "test.images=[\"3.11=127.0.0.1:1/none:1\"]", "--set", "test.base=debian:bookworm"];
    let ran = plan(&[["--plan", "--python=3.11"].as_slice(), &images].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let note = "Python 3.11 comes from base image debian:bookworm and its packages; [test] images names others";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    let nowhere = ["--set", "test.images=[\"3.10=127.0.0.1:1/none:1\"]", "--set", "test.base=127.0.0.1:1/none:1"];
    let ran = plan(&[["--plan", "--python=3.10"].as_slice(), &nowhere].concat());
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("[test] images names others, such as"), "{}", ran.stderr);
}
