//! Failures and stops: who is told what, and that nothing is left behind.

mod common;

use std::time::Duration;

use common::{AMD64, ARM64, Bed, Graph, cache, exec};
use kiln_docker::{Engine, EngineError, labels};
use kiln_graph::{Exec, Sharing, VertexId};
use kiln_solver::{BuildEvent, Cancel, FilesOutput, Output, Salvage, SolveError};
use kiln_testkit::Files;

fn export(graph: &mut Graph, step: VertexId, name: &str, platform: kiln_graph::Platform) {
    let scratch = graph.scratch();
    let root = graph.copy(scratch, step, &["out"], &format!("/{name}"));
    graph.target(name, platform, root);
}

/// Two platforms; the second one's step is `line`.
fn pair(bed: &Bed, line: &str) -> Graph {
    let mut graph = Graph::default();
    for (platform, line) in [(AMD64, "write /out good"), (ARM64, line)] {
        let base = bed.image(&mut graph, "base", platform, Files::new());
        let step = graph.run(base, platform, line);
        export(&mut graph, step, platform.arch.artifact_name(), platform);
    }
    graph
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_shows_its_own_words_and_the_others_go_on() {
    let bed = Bed::new();
    let graph = pair(&bed, "say one; say kiln: error: no module x; say kiln: hint: install x; fail 3");
    let built = bed.build(&graph).await;
    built.report(0);
    let SolveError::Step { code, tail, errors, platform, .. } = built.error(1) else { panic!() };
    assert_eq!((*code, *platform), (3, ARM64));
    assert_eq!(tail, &["one", "kiln: error: no module x", "kiln: hint: install x"]);
    assert_eq!(errors, &["no module x"]);
    assert_eq!(built.error(1).hint().as_deref(), Some("install x"));
    assert_eq!(bed.dist(), ["x86_64"]);
    let failed = built.events.iter().filter(|e| matches!(e, BuildEvent::TargetFailed { .. })).count();
    assert_eq!(failed, 1);
    // The good one is remembered, the bad one tried again.
    let again = bed.build(&graph).await;
    assert!(again.report(0).up_to_date);
    assert!(matches!(again.error(1), SolveError::Step { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_whatever_the_step_makes_of_it() {
    let bed = Bed::new();
    let graph =
        pair(&bed, "say cp: error writing '/a': No space left on device; say kiln: error: copying failed; fail 1");
    let built = bed.build(&graph).await;
    let SolveError::Step { no_space, certain, .. } = built.error(1) else { panic!() };
    assert!(*no_space && *certain);
    assert!(built.error(1).hint().is_some_and(|hint| hint.contains("kiln cache prune")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_reported_once_and_named_to_the_others() {
    let bed = Bed::new();
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let shared = graph.run(base, AMD64, "fail 1");
    for name in ["a", "b"] {
        let step = graph.run(shared, AMD64, &format!("write /out {name}"));
        export(&mut graph, step, name, AMD64);
    }
    let built = bed.build(&graph).await;
    assert!(matches!(built.error(0), SolveError::Step { .. }));
    assert_eq!(built.error(1).to_string(), "`RUN fail 1` failed, which linux/amd64 needs too");
    assert_eq!(built.outcome.warnings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_only_a_failed_target_needs_are_stopped() {
    let bed = Bed::new();
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let bad = graph.run(base, AMD64, "fail 1");
    let slow = graph.run(base, AMD64, "sleep 60000");
    let both = graph.copy(bad, slow, &["x"], "/x");
    let top = graph.run(both, AMD64, "write /out x");
    export(&mut graph, top, "a", AMD64);
    let fine = graph.run(base, AMD64, "sleep 100; write /out fine");
    export(&mut graph, fine, "b", AMD64);
    let built = bed.build(&graph).await;
    assert!(matches!(built.error(0), SolveError::Step { .. }));
    built.report(1);
    assert_eq!(bed.exported("b").as_deref(), Some("fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keep_going_the_first_failure_stops_all() {
    let bed = Bed::new();
    let mut graph = Graph::default();
    for (platform, line) in [(AMD64, "sleep 60000; write /out x"), (ARM64, "fail 2")] {
        let base = bed.image(&mut graph, "base", platform, Files::new());
        let step = graph.run(base, platform, line);
        export(&mut graph, step, platform.arch.artifact_name(), platform);
    }
    let mut request = bed.request(&graph, vec![bed.files(), bed.files()]);
    request.keep_going = false;
    let built = bed.build_as(request, Cancel::new()).await;
    assert!(matches!(built.error(0), SolveError::Cancelled));
    assert!(matches!(built.error(1), SolveError::Step { code: 2, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_at_any_point_ends_the_build_and_leaves_nothing() {
    for (delay, kill) in [(0, false), (5, false), (30, false), (0, true), (10, true), (60, true)] {
        let bed = Bed::new();
        bed.write("main.py", "x".repeat(1 << 20));
        let mut graph = Graph::default();
        let local = graph.local();
        for platform in [AMD64, ARM64] {
            let base = bed.image(&mut graph, "base", platform, Files::new());
            let one = graph.run(base, platform, "sleep 10; write /a 1");
            let two = graph.copy(one, local, &["."], "/src/");
            let three = graph.run(two, platform, "sleep 60000; write /out x");
            export(&mut graph, three, platform.arch.artifact_name(), platform);
        }
        let plan = bed.plan(bed.request(&graph, vec![bed.files(), bed.files()])).await.expect("plan");
        let cancel = Cancel::new();
        let stopping = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            stopping.stop();
            if kill {
                stopping.kill();
            }
        });
        let built = bed.run(plan, cancel).await;
        for index in 0..2 {
            assert!(matches!(built.error(index), SolveError::Cancelled), "{delay}: {:?}", built.error(index));
        }
        assert_eq!(bed.dist(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_build_is_finished_by_the_next() {
    let bed = Bed::new();
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let one = graph.run(base, AMD64, "write /a 1");
    let two = graph.run(one, AMD64, "sleep 200; cat /a /out");
    export(&mut graph, two, "a", AMD64);
    let plan = bed.plan(bed.request(&graph, vec![bed.files()])).await.expect("plan");
    let cancel = Cancel::new();
    let (engine, stopping) = (bed.engine.clone(), cancel.clone());
    tokio::spawn(async move {
        // The second command begins when the first is committed.
        while engine.count("commit ") < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stopping.stop();
    });
    let built = bed.run(plan, cancel).await;
    assert!(matches!(built.error(0), SolveError::Cancelled));
    let built = bed.build(&graph).await;
    assert_eq!(built.started(), ["RUN sleep 200; cat /a /out"], "the first step was kept");
    assert_eq!(bed.exported("a").as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_hangs_does_not_hold_a_killed_build() {
    let bed = Bed::new();
    let noise = "say noise; ".repeat(100) + "sleep 60000";
    let graph = pair(&bed, &noise);
    let plan = bed.plan(bed.request(&graph, vec![bed.files(), bed.files()])).await.expect("plan");
    let (sender, _never_read) = tokio::sync::mpsc::channel(1);
    let cancel = Cancel::new();
    let stopping = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stopping.kill();
    });
    let running = kiln_solver::run(bed.engine(), plan, sender, cancel);
    tokio::time::timeout(Duration::from_secs(10), running).await.expect("ended");
    assert_eq!(bed.engine.container_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_daemon_name_the_instruction() {
    const CALLS: [&str; 7] = ["create", "attach", "start", "wait", "upload", "download", "commit"];
    // Both commands in one container, which nobody has to wait for, or each in one of its own.
    let ways = CALLS.map(|call| (call, true)).into_iter().chain(CALLS.map(|call| (call, false)));
    for (call, together) in ways.filter(|way| *way != ("wait", true)) {
        let bed = Bed::new();
        bed.write("main.py", "x");
        let mut graph = Graph::default();
        let base = bed.image(&mut graph, "base", AMD64, Files::new());
        let local = graph.local();
        let zero = graph.run(base, AMD64, "write /zero 0");
        let one = graph.copy(zero, local, &["."], "/src/");
        let mounts = if together { Vec::new() } else { vec![cache("/x", "one", Sharing::Shared)] };
        let two = caching(&mut graph, one, "write /out x", mounts);
        export(&mut graph, two, "a", AMD64);
        bed.engine.fail_next(call, || EngineError::NoSpace { action: "working".to_owned() });
        let built = bed.build(&graph).await;
        let error = built.error(0);
        if call == "download" {
            assert!(matches!(error, SolveError::Engine(EngineError::NoSpace { .. })), "{call}: {error:?}");
        } else {
            assert!(error.origin().is_some_and(|origin| !origin.text.is_empty()), "{call}: {error:?}");
        }
        assert!(error.hint().is_some(), "{call}");
        assert_eq!(bed.dist(), Vec::<String>::new(), "{call}");
        bed.build(&graph).await.report(0);
        assert_eq!(bed.exported("a").as_deref(), Some("x"), "{call}");
    }
}

/// A step with caches.
fn caching(graph: &mut Graph, on: VertexId, line: &str, mounts: Vec<kiln_graph::Mount>) -> VertexId {
    graph.exec(on, Exec { mounts, ..exec(AMD64, line) })
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_caches_are_taken_in_turns_without_a_deadlock() {
    let bed = Bed::new();
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let locked = |target: &str, id: &str| cache(target, id, Sharing::Locked);
    // Mounted in either order, twice in one step, and shared by a third.
    let mounts = [
        vec![locked("/x", "one"), locked("/y", "two")],
        vec![locked("/x", "two"), locked("/y", "one")],
        vec![locked("/x", "one"), locked("/y", "one")],
        vec![cache("/x", "one", Sharing::Shared), cache("/y", "two", Sharing::Shared)],
        vec![cache("/x", "one", Sharing::Private), cache("/y", "one", Sharing::Private)],
    ];
    for (index, mounts) in mounts.into_iter().enumerate() {
        let step = caching(&mut graph, base, &format!("sleep 20; hit /x; hit /y; write /out {index}"), mounts);
        export(&mut graph, step, &index.to_string(), AMD64);
    }
    let outputs = || (0..5).map(|_| bed.files()).collect();
    let plan = async || bed.plan(bed.request(&graph, outputs())).await.expect("plan");
    let (first, second) = (plan().await, plan().await);
    // Two builds at once, as two processes would: locks are per open file.
    let (sender, mut events) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let runs = async {
        tokio::join!(
            kiln_solver::run(bed.engine(), first, sender.clone(), Cancel::new()),
            kiln_solver::run(bed.engine(), second, sender.clone(), Cancel::new()),
        )
    };
    let (first, second) = tokio::time::timeout(Duration::from_secs(20), runs).await.expect("no deadlock");
    for target in first.targets.into_iter().chain(second.targets) {
        target.expect("built");
    }
    assert_eq!(bed.engine.container_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_cache_that_is_in_use_is_named() {
    let bed = Bed::new();
    let graph = |line: &str| {
        let mut graph = Graph::default();
        let base = bed.image(&mut graph, "base", AMD64, Files::new());
        let step = caching(&mut graph, base, line, vec![cache("/x", "pip", Sharing::Shared)]);
        export(&mut graph, step, "a", AMD64);
        graph
    };
    bed.build(&graph("hit /x; write /out 1")).await.report(0);
    let volumes = kiln_docker::Engine::volumes_with_label(&bed.engine, kiln_docker::labels::CACHE, false).await;
    let volume = volumes.expect("volumes")[0].name.clone();
    let emptying = graph("write /out 2");
    let request = || {
        let mut request = bed.request(&emptying, vec![bed.files()]);
        request.no_cache_mounts = true;
        request
    };
    bed.engine.fail_next("volume-rm", || EngineError::Conflict { action: "x".to_owned(), message: "y".to_owned() });
    let built = bed.build_as(request(), Cancel::new()).await;
    assert_eq!(
        built.error(0).to_string(),
        "the cache `pip` for linux/amd64 cannot be emptied while a container uses it"
    );
    bed.build_as(request(), Cancel::new()).await.report(0);
    assert!(bed.engine.volume_files(&volume).expect("made anew").paths().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_files_or_without_its_artifact_leaves_the_old_one() {
    let bed = Bed::new();
    std::fs::create_dir_all(bed.path("dist")).expect("folder");
    std::fs::write(bed.path("dist/app"), "old").expect("file");
    let graph = |line: &str| {
        let mut graph = Graph::default();
        let base = bed.image(&mut graph, "base", AMD64, Files::new());
        let step = graph.run(base, AMD64, line);
        let scratch = graph.scratch();
        let root = graph.copy(scratch, step, &["out/*"], "/");
        graph.target("export", AMD64, root);
        graph
    };
    let output = Output::Files(FilesOutput {
        folder: bed.path("dist"),
        artifact: Some("app".to_owned()),
        smoke: None,
        glibc_max: None,
        reports: None,
        sums: true,
    });
    let none = graph("say nothing");
    let built = bed.build_as(bed.request(&none, vec![output.clone()]), Cancel::new()).await;
    assert!(matches!(built.error(0), SolveError::NothingToExport { .. }));
    let other = graph("write /out/other x");
    let built = bed.build_as(bed.request(&other, vec![output.clone()]), Cancel::new()).await;
    assert!(matches!(built.error(0), SolveError::BadArtifact { .. }));
    // Not a program at all.
    let text = graph("write /out/app text");
    bed.build_as(bed.request(&text, vec![output]), Cancel::new()).await.error(0);
    assert_eq!(bed.dist(), ["app"]);
    assert_eq!(bed.exported("app").as_deref(), Some("old"));
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_a_failed_command_are_kept_and_nothing_of_it_is_remembered() {
    let bed = Bed::new();
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let step = graph.run(base, AMD64, "write /reports/one first; fail 1");
    export(&mut graph, step, "a", AMD64);
    let to = bed.path("kept");
    std::fs::create_dir_all(&to).expect("a folder");
    std::fs::write(to.join("old"), "of an earlier run").expect("a file");
    for from in ["/nowhere", "/reports"] {
        let mut request = bed.request(&graph, vec![bed.files()]);
        request.groups[0].steps.salvage = Some(Salvage { from: from.to_owned(), to: to.clone() });
        let built = bed.build_as(request, Cancel::new()).await;
        assert!(matches!(built.error(0), SolveError::Step { code: 1, .. }), "{from}");
        let names = || std::fs::read_dir(&to).expect("there").flatten().map(|entry| entry.file_name());
        let expected = if from == "/nowhere" { "old" } else { "one" };
        assert_eq!(names().collect::<Vec<_>>(), [expected], "{from}");
    }
    assert_eq!(std::fs::read_to_string(to.join("one")).expect("kept"), "first");
    assert_eq!(bed.dist(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_first_is_kept_for_a_shell_and_goes_with_it() {
    let bed = Bed::new();
    let mut graph = Graph::default();
    for platform in [AMD64, ARM64] {
        let base = bed.image(&mut graph, "base", platform, Files::new());
        let step = caching(&mut graph, base, "write /left behind; fail 1", vec![cache("/x", "pip", Sharing::Locked)]);
        export(&mut graph, step, platform.arch.artifact_name(), platform);
    }
    let images = bed.engine.images_with_label(labels::VERSION).await.expect("images").len();
    let mut request = bed.request(&graph, vec![bed.files(), bed.files()]);
    request.keep_failed = true;
    let plan = bed.plan(request).await.expect("a plan");
    let (sender, mut events) = tokio::sync::mpsc::channel(1000);
    let outcome = kiln_solver::run(bed.engine(), plan, sender, Cancel::new()).await;
    // Whoever shows the build has seen its end while the failure is still there.
    while events.recv().await.is_some() {}
    let mut failed = outcome.failed.expect("it is kept");
    assert!(failed.origin().text.contains("fail 1"), "{}", failed.origin().text);
    let shell = failed.shell().await.expect("a container");
    assert!(bed.engine.stat(&shell, "/left").await.expect("an answer").is_some(), "its files are there");
    let created = bed.engine.calls().into_iter().filter(|call| call == "create /bin/sh").count();
    assert_eq!(created, 1, "{:?}", bed.engine.calls());
    // Nobody waits for the cache meanwhile.
    let volumes = bed.engine.volumes_with_label(labels::CACHE, false).await.expect("volumes");
    let lock = std::fs::File::open(bed.path("locks").join(format!("{}.lock", volumes[0].name))).expect("a lock");
    lock.try_lock().expect("nobody holds it");
    assert_eq!(failed.close().await, Vec::<String>::new());
    assert_eq!(bed.engine.container_count(), 0);
    assert_eq!(bed.engine.images_with_label(labels::VERSION).await.expect("images").len(), images);
}
