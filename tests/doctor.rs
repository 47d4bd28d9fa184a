//! `kiln doctor` on systems that are really broken, as far as that can be done without touching what is not ours.

use std::time::Duration;

use kiln_e2e::{Project, Ran, Running};
use rustix::process::Signal;
use serde_json::Value;

/// A project that builds in seconds, with a compiler cache of sorts, and a network that nothing is needed of.
const SETTINGS: &str = "[project]\nname = \"patient\"\nentry = \"main.py\"\n[build]\nrecipe = \"Dockerfile\"\n\
    platforms = [\"linux/amd64\"]\n[verify]\nrun = false\n";
const OFFLINE: &str = "[network]\nbuild-network = \"none\"\n";

fn patient(more: &str) -> Option<Project> {
    let body = "RUN --mount=type=cache,id=ccache,target=/ccache echo x > /ccache/x && mkdir /out && cp /bin/busybox /out/patient\n\
                FROM scratch\nCOPY --from=0 /out/ /\n";
    let settings = format!("{SETTINGS}{more}");
    Project::new(&[("kiln.toml", &settings), ("Dockerfile", &super::fresh(body)), ("main.py", "print('hello')\n")])
}

/// What the doctor says, as data. Nothing of it may stay on the daemon.
fn examined(project: &Project, arguments: &[&str]) -> (Ran, Vec<Value>) {
    let ran = project.kiln(&[&["doctor", "--json"], arguments].concat());
    let checks: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    for check in &checks {
        let status = check["status"].as_str().expect("each has one");
        assert!(["ok", "warning", "failed", "skipped"].contains(&status), "{check}");
        assert!(check["check"].is_string() && check["detail"].is_string(), "{check}");
        assert!(!matches!(status, "warning" | "failed") || check["fix"].is_string(), "{check}");
    }
    project.daemon().assert_nothing_left(ran.pid);
    (ran, checks)
}

/// The status of a check, of a platform if one is named, and what it says.
#[track_caller]
fn said(checks: &[Value], name: &str, platform: Option<&str>) -> (String, String) {
    let is_it = |check: &&Value| check["check"] == name && platform.is_none_or(|wanted| check["platform"] == wanted);
    let check = checks.iter().find(is_it).unwrap_or_else(|| panic!("no {name} in {checks:?}"));
    let text = |field: &str| check[field].as_str().unwrap_or_default().to_owned();
    (text("status"), format!("{} {}", text("detail"), text("fix")))
}

#[track_caller]
fn assert_said(checks: &[Value], name: &str, status: &str, words: &str) {
    let (found, text) = said(checks, name, None);
    assert!(found == status && text.contains(words), "{name} is {found}: {text}");
}

#[test]
fn a_daemon_is_examined_by_running_things_on_it() {
    let Some(project) = Project::new(&[("kiln.toml", OFFLINE), ("main.py", "print('hello')\n")]) else { return };
    examined(&project, &[]);
    let (ran, checks) = examined(&project, &[]);
    assert_eq!(ran.code, Some(0), "{checks:?}");
    assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
    assert_said(&checks, "daemon", "ok", "DOCKER_HOST says so");
    assert_said(&checks, "version", "ok", "API 1.");
    assert_said(&checks, "disk", "ok", "free of");
    assert_said(&checks, "clock", "ok", "clock");
    assert_said(&checks, "artifact", "skipped", "nothing was built");
    assert_said(&checks, "network", "skipped", "build-network");
    for platform in ["linux/amd64", "linux/386"] {
        assert_eq!(said(&checks, "emulation", Some(platform)).0, "ok", "{platform}");
    }
    assert_eq!(said(&checks, "emulation", Some("linux/arm64")).0, "ok");
    let (status, handler) = said(&checks, "handler", Some("linux/arm64"));
    assert!(status == "ok" && handler.contains("flags") && handler.contains('F'), "{handler}");
    let lto = said(&checks, "lto", Some("linux/arm64"));
    assert!(lto.0 == "ok" && lto.1.contains("by intention"), "{lto:?}");
}

#[test]
fn a_volume_that_was_removed_and_a_scope_that_changed_are_named() {
    let Some(project) = patient(OFFLINE) else { return };
    project.build(&[]);
    let (ran, checks) = examined(&project, &[]);
    assert_eq!(ran.code, Some(0), "{checks:?}");
    assert_said(&checks, "cache volumes", "ok", "ccache");
    assert_said(&checks, "scope", "ok", project.scope());
    assert_said(&checks, "artifact", "ok", "x86_64");

    let mut command = project.command(&["doctor", "--json"]);
    command.env("KILN_CACHE_SCOPE", format!("{}-other", project.scope()));
    let other = Running::start(command).wait();
    let checks_of_other: Vec<Value> = serde_json::from_str(&other.stdout).expect("JSON");
    assert_said(&checks_of_other, "scope", "warning", &format!("last build used the scope {}", project.scope()));
    assert_said(&checks_of_other, "cache volumes", "warning", "gone");

    let pruned = project.kiln(&["cache", "prune", "--only", "ccache"]);
    assert_eq!(pruned.code, Some(0), "{}", pruned.stderr);
    let (ran, checks) = examined(&project, &[]);
    assert_eq!(ran.code, Some(0), "a build works without: {checks:?}");
    assert_said(&checks, "cache volumes", "warning", "they are gone");
}

#[test]
fn a_program_of_another_machine_is_named() {
    let Some(project) = patient(OFFLINE) else { return };
    project.build(&[]);
    let path = project.path().join("dist/patient");
    // A head of a 64-bit ARM program is enough to tell.
    let mut bytes = std::fs::read(&path).expect("the program");
    bytes[18..20].copy_from_slice(&183_u16.to_le_bytes());
    std::fs::write(&path, bytes).expect("written");
    let (ran, checks) = examined(&project, &[]);
    assert_eq!(ran.code, Some(6), "{checks:?}");
    assert_said(&checks, "artifact", "failed", "dist/patient is for aarch64, not for linux/amd64");
    std::fs::remove_file(&path).expect("removed");
    assert_said(&examined(&project, &[]).1, "artifact", "warning", "is gone");
}

#[test]
fn a_dead_proxy_is_named_and_its_password_is_not() {
    let more =
        "[network]\nhttps-proxy = \"http://me:sesame@127.0.0.1:9\"\nhttp-proxy = \"http://me:sesame@127.0.0.1:9\"\n";
    let Some(project) = patient(more) else { return };
    let (ran, checks) = examined(&project, &[]);
    assert_eq!(ran.code, Some(4), "{checks:?}");
    assert_said(&checks, "proxy", "failed", "127.0.0.1:9: containers cannot connect");
    assert!(!format!("{ran:?}").contains("sesame"));
    assert!(ran.took < Duration::from_secs(15), "{:?}", ran.took);
}

#[test]
fn a_certificate_that_is_none_is_named() {
    let Some(project) = patient("[network]\nca-certificates = \"ca.crt\"\n") else { return };
    project.write("ca.crt", "nothing\n");
    let mut command = project.command(&["doctor", "--json"]);
    command.env_remove("KILN_NETWORK_CA_CERTIFICATES");
    let ran = Running::start(command).wait();
    let checks: Vec<Value> = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_said(&checks, "certificates", "failed", "no certificate in PEM form");
    project.write("ca.crt", "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n");
    let mut command = project.command(&["doctor", "--json"]);
    command.env_remove("KILN_NETWORK_CA_CERTIFICATES");
    let ran = Running::start(command).wait();
    let checks: Vec<Value> = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_said(&checks, "certificates", "ok", "arrive in containers (tried)");
}

#[test]
fn a_store_is_looked_at_and_a_full_one_is_named() {
    let more = format!("{OFFLINE}[cache]\nremote = [\"./store\"]\nkeep-size = \"1kB\"\n");
    let Some(project) = patient(&more) else { return };
    assert_said(&examined(&project, &[]).1, "remote cache", "ok", "can be read and written");
    project.build(&[]);
    assert_said(&examined(&project, &[]).1, "remote cache", "warning", "more than `cache.keep-size`");
    project.write("kiln.toml", &format!("{SETTINGS}{OFFLINE}[cache]\nremote = [\"http://127.0.0.1:9/cache\"]\n"));
    let (ran, checks) = examined(&project, &[]);
    assert_eq!(ran.code, Some(0), "a build works without: {checks:?}");
    assert_said(&checks, "remote cache", "warning", "builds go on without it");
}

#[test]
fn without_a_daemon_the_rest_is_checked_and_a_build_points_here() {
    let Some(project) = patient("") else { return };
    for host in ["tcp://127.0.0.1:9", "unix:///nowhere/docker.sock"] {
        let ran = project.kiln(&["-H", host, "doctor", "--json"]);
        let checks: Vec<Value> = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(ran.code, Some(4), "{checks:?}");
        assert_said(&checks, "daemon", "failed", &format!("{host} (--host says so)"));
        for name in ["disk", "emulation", "network", "cache volumes"] {
            assert_said(&checks, name, "skipped", "no daemon");
        }
        assert_said(&checks, "settings", "ok", "kiln.toml");
        assert_said(&checks, "output", "ok", "dist");
        let built = project.kiln(&["-H", host, "build"]);
        assert!(built.stderr.contains("`kiln doctor` looks for the cause"), "{}", built.stderr);
    }
}

#[test]
fn what_dead_builds_left_is_removed_if_asked() {
    let body = "RUN echo begun; sleep 60\n";
    let Some(project) = Project::new(&[("Dockerfile", &super::fresh(body)), ("kiln.toml", OFFLINE)]) else { return };
    let running = Running::start(project.command(&["build", "-f", "Dockerfile", "--platform=linux/amd64", "."]));
    running.wait_for_line("begun");
    running.signal(Signal::KILL);
    let pid = running.wait().pid;
    // A build of another test may have come first.
    if project.daemon().left_by(pid).is_empty() {
        return;
    }
    let ran = project.kiln(&["doctor", "--fix", "--platform=linux/amd64"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("nothing of dead builds is left"), "{}", ran.stdout);
    project.daemon().assert_nothing_left(pid);
}
