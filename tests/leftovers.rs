//! What is on the daemon after builds that end well, fail, are stopped or killed: checkpoints and caches, and nothing else.
//!
//! Only what has the scope of the test's own project is looked at, because other tests use the same daemon. The test of
//! `kiln prune --all` needs a daemon on which nobody else uses kiln: `KILN_TEST_OWN_DAEMON` is its address.

use std::collections::BTreeSet;
use std::process::Command;

use kiln_e2e::{Project, Running, needed};
use rustix::process::Signal;

/// A step with mounts of every kind, after which `body` comes; its key is nobody else's.
fn dockerfile(body: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    format!(
        "FROM alpine:3.20 AS seed\nENV RUN_ID={now}-{}\nRUN mkdir /seed && echo seed > /seed/f\nFROM alpine:3.20\n\
         COPY --from=seed /seed /seed\n\
         RUN --mount=type=bind,target=/context --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN \
         --mount=type=tmpfs,target=/memory --mount=type=cache,from=seed,source=/seed,target=/begun \
         --mount=type=cache,target=/cache cat /context/note.txt /run/secrets/token /begun/f > /out{body}\n\
         FROM scratch\nCOPY --from=1 /out /\n",
        std::process::id()
    )
}

const ARGUMENTS: &[&str] = &["build", "-f", "Dockerfile", "--platform=linux/amd64", "--secret", "id=token,src=token"];

fn project(body: &str) -> Option<Project> {
    Project::new(&[("Dockerfile", &dockerfile(body)), ("note.txt", "note\n"), ("token", "sesame\n")])
}

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [ARGUMENTS, more, &["."]].concat()
}

#[test]
fn after_any_end_there_are_checkpoints_and_caches_alone() {
    let cases: [(&str, &str, &[&str], i32); 6] = [
        ("success, files", "", &["-o", "out"], 0),
        ("success, no output", "", &["-o", "type=cacheonly"], 0),
        ("a failing step", " && exit 3", &["-o", "out"], 1),
        ("a failing COPY of a stage", "\nCOPY --from=seed /nowhere /\n", &["-o", "out"], 3),
        ("a failing push", "", &["-t", "127.0.0.1:1/nobody:1", "--push"], 4),
        ("a folder that cannot be written to", "", &["-o", "note.txt/out"], 7),
    ];
    for (name, body, more, code) in cases {
        let Some(project) = project(body) else { return };
        let ran = project.kiln(&arguments(more));
        assert_eq!(ran.code, Some(code), "{name}: {}", ran.stderr);
        assert_eq!(project.left_behind(), [""; 0], "{name}");
        assert_eq!(project.list(".kiln/state/exports"), [""; 0], "{name}");
    }
}

#[test]
fn after_a_stop_or_a_kill_there_are_checkpoints_and_caches_alone() {
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::TERM, Some(130)), (Signal::KILL, None)] {
        // Whoever has seen the line knows that all mounts are there.
        let Some(project) = project(" && [ -e /context/go ] || { echo mounted; sleep 60; }") else { return };
        let arguments = arguments(&["-o", "out"]);
        let running = Running::start(project.command(&arguments));
        running.wait_for_line("mounted");
        running.signal(signal);
        let ran = running.wait();
        assert_eq!(ran.code, code, "{}", ran.stderr);
        if signal == Signal::KILL {
            assert_ne!(project.left_behind(), [""; 0], "a killed build can remove nothing");
            project.write("go", "");
            let ran = project.kiln(&arguments);
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        }
        assert_eq!(project.left_behind(), [""; 0], "{signal:?}");
    }
}

#[test]
fn a_rebuilt_step_replaces_its_checkpoint() {
    let Some(project) = project("") else { return };
    let own = tempfile::tempdir().expect("a folder");
    let build = || {
        let mut command = project.command(&arguments(&["-o", "type=cacheonly", "--no-cache"]));
        // Locks of its own: no build of another test runs for it.
        command.env("KILN_CACHE_DIR", own.path());
        let ran = Running::start(command).wait();
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        project.checkpoints()
    };
    let (first, second) = (build(), build());
    assert_eq!(first.len(), second.len(), "{first:?} {second:?}");
    assert!(second.iter().all(|checkpoint| !first.contains(checkpoint)), "they are the new ones");
    // A plain build finds them.
    assert_eq!(project.build(&arguments(&["-o", "type=cacheonly"])[1..]).steps_run(), [""; 0]);
}

#[test]
fn what_is_pruned_and_what_stays() {
    let Some(project) = project("") else { return };
    let build = || assert_eq!(project.kiln(&arguments(&["-o", "type=cacheonly"])).code, Some(0));
    build();
    let kiln = |arguments: &[&str]| {
        let ran = project.kiln(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        ran
    };
    let records = || -> Vec<(String, String)> {
        let listed = kiln(&["du", "--format", "json"]).stdout;
        let records = listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let own = records.filter(|record| record["project"] == project.scope());
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        own.map(|record| (text(&record["type"]), text(&record["id"]))).collect()
    };
    let of = |kind: &str| records().into_iter().filter(|(of, _)| of == kind).map(|(_, id)| id).collect::<Vec<_>>();
    let caches = of("exec.cachemount");
    assert_eq!((of("regular").len(), caches.len()), (project.checkpoints().len(), 2));
    // Asked without a terminal, and nobody answers.
    let asked = kiln(&["prune", "--filter", &format!("id={}", caches[0])]);
    assert!(asked.stderr.contains("[y/N]") && asked.stderr.contains("nothing was removed"), "{}", asked.stderr);
    let dry = kiln(&["prune", "--dry-run", "--filter", &format!("id={}", caches[0])]);
    assert!(dry.stderr.contains("nothing to remove"), "a cache stays without --all: {}", dry.stderr);
    // Used a moment ago.
    kiln(&["prune", "--all", "--force", "--filter", "until=1h", "--filter", &format!("id={}", caches[0])]);
    assert_eq!(of("exec.cachemount").len(), 2);
    let pruned = kiln(&["prune", "--all", "--force", "--filter", &format!("id={}", caches[0])]);
    assert!(pruned.stdout.contains(&caches[0]) && pruned.stdout.contains("Total:"), "{}", pruned.stdout);
    assert_eq!(of("exec.cachemount"), caches[1..]);
    let checkpoint = of("regular")[0].clone();
    kiln(&["prune", "--force", "--filter", &format!("id={checkpoint}")]);
    assert!(!of("regular").contains(&checkpoint));
    let ran = project.kiln(&["prune", "--force", "--filter", "parents=x"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("filters are"), "{}", ran.stderr);
    kiln(&["cache", "prune"]);
    assert_eq!(records(), []);
    assert_eq!(project.left_behind(), [""; 0]);
}

#[test]
fn pruning_everything_leaves_nothing_of_kilns() {
    let Some(host) = needed("KILN_TEST_OWN_DAEMON") else { return };
    let Some(project) = project("").map(|project| project.on(&host)) else { return };
    let before = names(&host);
    let run = |arguments: &[&str]| {
        let ran = project.kiln(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        ran
    };
    run(&arguments(&["-o", "out"]));
    run(&arguments(&["-t", "kiln-e2e-pruned:1", "--load"]));
    let running = Running::start(project.command(&arguments(&["-o", "out", "--no-cache"])));
    project.daemon().wait_for_container(running.pid());
    running.signal(Signal::KILL);
    running.wait();
    // What the dead build had asked the daemon for is made all the same, a moment later.
    let mut last = BTreeSet::new();
    while last != names(&host) {
        last = names(&host);
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    run(&["prune", "--all", "--force"]);
    project.daemon().remove_image("kiln-e2e-pruned:1");
    // The base image was pulled under the name that the user gave it, and is theirs.
    let new: Vec<String> = names(&host).difference(&before).filter(|name| *name != "alpine:3.20").cloned().collect();
    assert_eq!(new, [""; 0]);
    assert_eq!(run(&["du"]).stdout, "Reclaimable:\t0 B\nTotal:\t\t0 B\n");
}

/// All containers, volumes and images of a daemon, as docker lists them.
fn names(host: &str) -> BTreeSet<String> {
    let lists: [&[&str]; 3] = [
        &["ps", "-a", "--format", "container {{.Names}}"],
        &["volume", "ls", "--format", "volume {{.Name}}"],
        &["images", "-a", "--format", "{{if eq .Tag \"<none>\"}}image {{.ID}}{{else}}{{.Repository}}:{{.Tag}}{{end}}"],
    ];
    let list = |arguments: &[&str]| {
        let output = Command::new("docker").args(["-H", host]).args(arguments).output().expect("docker is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    lists.into_iter().flat_map(list).collect()
}
