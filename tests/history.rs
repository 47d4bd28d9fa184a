//! Builds are remembered: `kiln history`, `kiln stats`, and `kiln build --watch`.

use std::time::{Duration, Instant};

use kiln_e2e::{Project, Running};
use rustix::process::Signal;
use serde_json::Value;

use crate::fresh;

fn project() -> Option<Project> {
    let body = "RUN echo begun && sleep 1 && uname -m > /machine\nCOPY note.txt /\nRUN cat /machine /note.txt > /result && \
                grep -v bad /note.txt\nFROM scratch\nCOPY --from=0 /result /\n";
    Project::new(&[("Dockerfile", &fresh(body)), ("note.txt", "one\n")])
}

const BUILD: [&str; 6] = ["-f", "Dockerfile", "-o", "out", "--platform=linux/amd64,linux/arm64", "."];

fn json(project: &Project, arguments: &[&str]) -> Value {
    let ran = project.kiln(arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

#[test]
fn builds_are_remembered_shown_and_compared() {
    let Some(project) = project() else { return };
    let none = project.kiln(&["history", "show"]);
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    assert!(none.stderr.contains("no build was recorded here yet"), "{}", none.stderr);

    let first = project.build(&BUILD);
    project.build(&BUILD);
    project.write("note.txt", "two\n");
    project.build(&BUILD);
    project.write("note.txt", "bad\n");
    let failed = project.kiln(&[&["build"], &BUILD[..]].concat());
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);

    let list = json(&project, &["history", "ls", "--json"]);
    let outcomes: Vec<&str> = list.as_array().expect("a list").iter().filter_map(|r| r["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["failed", "done", "done", "done"]);
    let record = json(&project, &["history", "show", "last~3", "--json"]);
    // What the build said and what is remembered are the same.
    let reports = first.events_of("target-finished");
    assert_eq!(record["targets"].as_array().map(Vec::len), Some(reports.len()));
    for report in &reports {
        let targets = record["targets"].as_array().expect("a list");
        let target = targets.iter().find(|t| t["platform"] == report["report"]["platform"]).expect("that platform");
        for key in ["ran", "cached", "way", "seconds"] {
            assert_eq!(target[key], report["report"][key], "{key}");
        }
    }
    let slept = record["steps"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|s| s["text"].as_str().is_some_and(|t| t.contains("sleep")));
    let slept = slept.expect("that step");
    assert!(slept["seconds"].as_f64().is_some_and(|seconds| seconds >= 1.0), "{slept}");
    assert_eq!(slept["reason"], "not built before");

    let second = json(&project, &["history", "show", "last~1", "--json"]);
    let ran: Vec<&Value> =
        second["steps"].as_array().expect("a list").iter().filter(|s| s["cached"] == false).collect();
    assert!(ran.iter().all(|step| !step["text"].as_str().is_some_and(|text| text.contains("sleep"))), "{ran:?}");
    assert!(ran.iter().any(|step| step["reason"].as_str().is_some_and(|r| r.contains("note.txt"))), "{ran:?}");

    let text = project.kiln(&["history", "compare", "last~3", "last~1"]);
    assert_eq!(text.code, Some(0), "{}", text.stderr);
    assert!(text.stdout.contains("linux/arm64") && text.stdout.contains("cached"), "{}", text.stdout);
    let logs = project.kiln(&["history", "logs", "last~3", "--platform", "linux/arm64"]);
    assert!(logs.stdout.contains("begun"), "{}", logs.stdout);
    let none = project.kiln(&["history", "logs", "last~2"]);
    assert_eq!(none.code, Some(3), "a build without work has no log: {}", none.stdout);

    let stats = json(&project, &["stats", "--json"]);
    assert_eq!((&stats["builds"], &stats["failed"], &stats["up_to_date"]), (&4.into(), &1.into(), &1.into()));
    let text = project.kiln(&["stats", "--check"]);
    assert_eq!(text.code, Some(0), "too few builds for an alarm: {}", text.stderr);
    let csv = project.kiln(&["stats", "--format", "csv"]).stdout;
    assert_eq!(csv.lines().count(), 1 + 4 * 2, "{csv}");
}

#[test]
fn a_history_that_cannot_be_written_does_not_fail_a_build() {
    let Some(project) = project() else { return };
    project.write(".kiln/history.db", &"this is no database; ".repeat(100));
    let ran = project.kiln(&[&["build"], &BUILD[..]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("this build is not remembered"), "{}", ran.stderr);
    let asked = project.kiln(&["history", "ls"]);
    assert_eq!(asked.code, Some(7), "{}", asked.stderr);
    assert!(asked.stderr.contains("hint: move"), "{}", asked.stderr);
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_change_builds_again_and_stops_a_build_that_runs() {
    let Some(project) = project() else { return };
    let arguments = ["build", "--watch", "-f", "Dockerfile", "-o", "out", "--platform=linux/amd64", "."];
    let running = Running::start(project.command(&arguments));
    let result = || std::fs::read_to_string(project.path().join("out/result")).unwrap_or_default();
    until("the first build", || result().ends_with("one\n"));
    let waits = |times: usize| running.said().matches("waiting for changes").count() >= times;
    until("the first end", || waits(1));
    project.write("note.txt", "two\n");
    until("the second build", || result().ends_with("two\n"));
    until("the second end", || waits(2));

    // A broken file is no end, and one that is mended builds.
    project.write("Dockerfile", "FRM alpine:3.20\n");
    until("the error", || running.said().contains("FRM") && waits(3));
    let slow = fresh("RUN sleep 1000\n");
    project.write("Dockerfile", &slow);
    project.daemon().wait_for_container(running.pid());
    project.write(
        "Dockerfile",
        "FROM alpine:3.20 AS build\nRUN echo mended > /result\nFROM scratch\nCOPY --from=build /result /\n",
    );
    until("the third build", || result() == "mended\n");
    running.signal(Signal::INT);
    let pid = running.pid();
    let ran = running.wait();
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    project.daemon().assert_nothing_left(pid);
}
