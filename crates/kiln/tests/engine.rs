//! kiln against a real daemon: what is left after failures, stops and kills. Runs where `KILN_TEST_DOCKER_HOST` is set; the
//! daemon must have or reach `alpine:3.20`.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Project, Ran};
use kiln_docker::driver::{BollardEngine, ConnectOptions};
use kiln_docker::{Engine, labels};

/// A project on the daemon of the tests; what it left there goes with it.
struct Tried {
    project: Project,
    host: String,
    scope: String,
}

const BUILD: &[&str] = &["build", "-f", "Dockerfile", "--platform", "linux/amd64", "-o", "out"];

/// A project with this Dockerfile; none, said aloud, where there is no daemon.
fn project(dockerfile: &str) -> Option<Tried> {
    let Some(host) = std::env::var("KILN_TEST_DOCKER_HOST").ok().filter(|host| !host.is_empty()) else {
        eprintln!("SKIPPED: set KILN_TEST_DOCKER_HOST to a daemon's address to run this test");
        return None;
    };
    let project = Project::on(&host, &[("Dockerfile", dockerfile), ("a.txt", "one\n")]);
    let settings = project.kiln(&["config", "show"]).stdout;
    let scope = settings.lines().find_map(|line| line.strip_prefix("cache.scope = \"")).expect("every project has one");
    let scope = scope.split('"').next().unwrap_or_default().to_owned();
    Some(Tried { project, host, scope })
}

impl Tried {
    fn build(&self) -> Ran {
        self.project.kiln(BUILD)
    }

    /// Starts a build and waits until it says `text`.
    #[track_caller]
    fn build_until(&self, text: &str) -> Child {
        let mut child = self.project.command(BUILD).stderr(Stdio::piped()).spawn().expect("kiln runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| line.contains(text)) {
            seen.push(lines.next().unwrap_or_else(|| panic!("kiln ended: {seen:?}")).expect("text"));
        }
        // Whoever writes to a closed pipe is told so; kiln must not mind, but this test is about something else.
        std::thread::spawn(move || lines.for_each(drop));
        child
    }

    /// Ids of the project's containers on the daemon.
    fn containers(&self) -> Vec<String> {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(async {
            let options = ConnectOptions { host: Some(self.host.clone()), ..ConnectOptions::default() };
            let engine = BollardEngine::connect(&options).await.expect("a daemon");
            let all = engine.containers_with_label(labels::SCOPE).await.expect("containers");
            let own = all.into_iter().filter(|c| c.labels.get(labels::SCOPE) == Some(&self.scope));
            own.map(|container| format!("{container:?}")).collect()
        })
    }

    /// Lines of `kiln cache ls` about the project.
    fn volumes(&self) -> Vec<String> {
        let listed = self.project.kiln(&["cache", "ls"]);
        assert_eq!(listed.code, 0, "{}", listed.stderr);
        listed.stdout.lines().filter(|line| line.contains(&self.scope)).map(str::to_owned).collect()
    }

    fn output(&self) -> Vec<String> {
        let entries = fs_err::read_dir(self.project.path("out")).expect("output folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Tried {
    fn drop(&mut self) {
        // A no-op build would do, but it needs a Dockerfile that builds; `cache prune` takes the rest.
        self.project.write("Dockerfile", "FROM alpine:3.20 AS a\nFROM scratch\nCOPY --from=a /etc/alpine-release /\n");
        self.build();
        self.project.kiln(&["cache", "prune"]);
    }
}

fn signal(name: &str, child: &Child) {
    let status = std::process::Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

/// Makes `/o` from `a.txt`, in no hurry.
const SLOW: &str = "FROM alpine:3.20 AS b\nCOPY a.txt /\nRUN --mount=type=cache,id=c,target=/c echo x >> /c/n; \
                    echo begun; sleep 4; cat a.txt > /o\nFROM scratch\nCOPY --from=b /o /\n";

#[test]
fn a_failed_step_is_named_and_leaves_nothing() {
    let dockerfile = "FROM alpine:3.20\nRUN echo some; echo other >&2; exit 7\n";
    let Some(tried) = project(dockerfile) else { return };
    let ran = tried.build();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let error = &ran.stderr[ran.stderr.find("error:").expect("an error")..];
    let expected = "error: `RUN echo some; echo other >&2; exit 7` failed for linux/amd64 with exit code 7\n  \
                    --> Dockerfile:2, stage stage-0, step 2/2\n  last lines of its output:\n";
    assert!(error.starts_with(expected), "{error}");
    assert!(error.contains("  | some\n") && error.contains("  | other\n"), "{error}");
    assert!(error.contains("  full log: .kiln/logs/linux_amd64.log\n"), "{error}");
    assert_eq!(tried.project.names(), ["Dockerfile", "a.txt"]);
    assert_eq!(tried.containers(), [""; 0]);
}

#[test]
fn what_is_missing_is_named_with_its_place() {
    let Some(tried) = project("FROM alpine:3.20\nCOPY b.txt /\n") else { return };
    let error = |code: i32| {
        let ran = tried.build();
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert_eq!(tried.containers(), [""; 0]);
        assert!(!tried.project.path("out").exists());
        ran.stderr
    };
    let text = error(3);
    let place = "  --> Dockerfile:2, stage stage-0, step 2/2\n  | COPY b.txt /\n";
    assert!(text.starts_with("error: `b.txt` is not in the build context [PROJECT]"), "{text}");
    assert!(text.contains(place), "{text}");
    tried.project.write("b.txt", "");
    tried.project.write(".dockerignore", "# no texts\n*.txt\n");
    let text = error(3);
    assert!(text.contains("hint: it is there, but .dockerignore:2 leaves it out; add `!b.txt` at its end\n"), "{text}");
    tried.project.write("Dockerfile", "FROM kiln.invalid/nosuch:1\nRUN true\n");
    let text = error(4);
    assert!(text.starts_with("error: Dockerfile:1:6: "), "{text}");
    tried.project.write("Dockerfile", "FROM alpine:3.20 AS a\nRUN [\"nosuch\"]\n");
    let text = error(1);
    assert!(text.contains("cannot start the command: exec: \"nosuch\""), "{text}");
}

#[test]
fn an_output_that_cannot_be_written_stops_the_build_before_it_runs() {
    let Some(tried) = project(SLOW) else { return };
    tried.project.write("out", "a file");
    let started = Instant::now();
    let ran = tried.build();
    assert_eq!(ran.code, 7, "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: a file is in the way"), "{}", ran.stderr);
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_stopped_build_leaves_nothing_and_can_be_repeated() {
    let Some(tried) = project(SLOW) else { return };
    for (signals, most) in [(&["-INT"][..], 4), (&["-TERM"], 4), (&["-HUP"], 4), (&["-INT", "-INT"], 3)] {
        let mut child = tried.build_until("begun");
        let started = Instant::now();
        for name in signals {
            signal(name, &child);
            std::thread::sleep(Duration::from_millis(300));
        }
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(130), "{signals:?}");
        assert!(started.elapsed() < Duration::from_secs(most), "{signals:?}");
        assert_eq!(tried.containers(), [""; 0], "{signals:?}");
        assert!(!tried.project.path("out").exists());
    }
    let ran = tried.build();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!((tried.output(), tried.project.read("out/o").as_str()), (vec!["o".to_owned()], "one\n"));
}

#[test]
fn what_a_killed_build_leaves_goes_with_the_next_even_if_that_has_nothing_to_do() {
    let Some(tried) = project(SLOW) else { return };
    assert_eq!(tried.build().code, 0);
    tried.project.write("a.txt", "two\n");
    let mut child = tried.build_until("begun");
    signal("-KILL", &child);
    child.wait().expect("it ends");
    // What the dead build had asked the daemon for is made all the same, a moment later.
    let mut last = Vec::new();
    while last != tried.containers() {
        last = tried.containers();
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    // A build of another test may have removed it by now.
    // As if killed while it exported, too.
    fs_err::create_dir(tried.project.path("out/.kiln-staging-1-2-3")).expect("folder");
    tried.project.write("a.txt", "one\n");
    let ran = tried.build();
    assert!(ran.code == 0 && ran.stderr.contains("plan: up to date"), "{}", ran.stderr);
    assert_eq!((tried.containers(), tried.output()), (vec![], vec!["o".to_owned()]));
    tried.project.write("a.txt", "two\n");
    assert_eq!(tried.build().code, 0);
    assert_eq!(tried.project.read("out/o"), "two\n");
}

#[test]
fn two_builds_at_once_share_caches_and_both_are_right() {
    let Some(tried) = project(SLOW) else { return };
    let mut first = tried.build_until("begun");
    tried.project.write("a.txt", "two\n");
    // Into a folder of its own: which of two ends last, and so has the last word in one folder, nobody knows.
    let second = tried.project.kiln(&[&BUILD[..BUILD.len() - 1], &["second"]].concat());
    assert_eq!((first.wait().expect("it ends").code(), second.code), (Some(0), 0), "{}", second.stderr);
    assert_eq!((tried.project.read("out/o").as_str(), tried.project.read("second/o").as_str()), ("one\n", "two\n"));
    assert_eq!((tried.containers(), tried.volumes().len()), (vec![], 1));
}

#[test]
fn pruning_keeps_to_the_project_and_away_from_running_builds() {
    // In no hurry the second time: it ends when the test says so.
    let waits = "FROM alpine:3.20 AS b\nCOPY a.txt /\nRUN --mount=type=cache,id=c,target=/c echo x >> /c/n; \
                 cp a.txt /o; grep one a.txt || { echo begun; sleep 600; }\nFROM scratch\nCOPY --from=b /o /\n";
    let (Some(own), Some(other)) = (project(waits), project(waits)) else { return };
    assert_eq!((own.build().code, other.build().code), (0, 0));
    assert_eq!((own.volumes().len(), other.volumes().len()), (1, 1));
    let ran = own.project.kiln(&["cache", "prune", "--dry-run"]);
    assert!(ran.code == 0 && ran.stderr.contains("would remove c of"), "{}", ran.stderr);
    // In use a moment ago.
    own.project.kiln(&["cache", "prune", "--older-than", "1d"]);
    assert_eq!(own.volumes().len(), 1);
    let ran = own.project.kiln(&["cache", "prune", "--only", "pip"]);
    assert!(ran.code == 2 && ran.stderr.contains("there is no cache `pip` here"), "{}", ran.stderr);

    own.project.write("a.txt", "two\n");
    let mut child = own.build_until("begun");
    let ran = own.project.kiln(&["cache", "prune"]);
    assert!(ran.stderr.contains("is being built: what it has stays"), "{}", ran.stderr);
    signal("-INT", &child);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(own.volumes().len(), 1);

    let ran = own.project.kiln(&["cache", "prune"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!((own.volumes().len(), other.volumes().len()), (0, 1));
}

#[test]
fn what_baked_targets_share_runs_once() {
    // A step that no earlier run of this test has left.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let dockerfile = format!(
        "FROM alpine:3.20 AS base\nRUN : {now}; echo shared-$((1+1)); cat /proc/sys/kernel/random/uuid > /id\n\
         FROM base AS one\nRUN echo one > /name\nFROM base AS two\nRUN echo two > /name\n"
    );
    let Some(tried) = project(&dockerfile) else { return };
    tried.project.write(
        "docker-bake.hcl",
        "group default {\n  targets = [\"one\", \"two\", \"three\"]\n}\n\
         target one {\n  target = \"one\"\n}\n\
         target two {\n  target = \"two\"\n}\n\
         target three {\n  contexts = { first = \"target:one\", second = \"target:two\", files = \"more\" }\n\
         \x20 dockerfile-inline = <<EOT\nFROM first AS top\nRUN cp /id /id-of-base\nFROM scratch\n\
         COPY --from=top /id-of-base /one-id\nCOPY --from=second /id /name /\nCOPY --from=files f /\nEOT\n\
         \x20 output = [\"out\"]\n}\n",
    );
    tried.project.write("more/f", "more\n");
    let ran = tried.project.kiln(&["bake", "--progress", "plain"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // Once as it is said in the log, and not in the line that names the step.
    assert_eq!(ran.stderr.matches(" shared-2").count(), 1, "{}", ran.stderr);
    assert_eq!(tried.project.read("out/one-id"), tried.project.read("out/id"));
    assert_eq!((tried.project.read("out/name"), tried.project.read("out/f")), ("two\n".into(), "more\n".into()));
    let again = tried.project.kiln(&["bake", "--progress", "plain"]);
    assert!(again.code == 0 && !again.stderr.contains("] step "), "{}", again.stderr);
}
