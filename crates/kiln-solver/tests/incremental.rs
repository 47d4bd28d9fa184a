//! What a second build does: nothing that the first has done.

mod common;

use common::{AMD64, ARM64, Bed, Graph, exec};
use kiln_graph::Sharing;
use kiln_solver::{Action, Cancel, FilesOutput, Output, SolveError};
use kiln_testkit::Files;

/// Toolchain, source, compile, export: the shape of every build.
fn program(bed: &Bed, compile: &str) -> Graph {
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let local = graph.local();
    let tools = graph.run(base, AMD64, "write /tools 1");
    let source = graph.copy(tools, local, &["."], "/src/");
    let compiled = graph.run(source, AMD64, compile);
    let scratch = graph.scratch();
    let export = graph.copy(scratch, compiled, &["out/*"], "/");
    graph.target("export", AMD64, export);
    graph
}

const COMPILE: &str = "cat /src/main.py /out/app";

#[tokio::test(flavor = "multi_thread")]
async fn the_second_build_touches_no_container() {
    let bed = Bed::new();
    bed.write("main.py", "print()");
    let graph = program(&bed, COMPILE);
    let first = bed.build(&graph).await;
    assert_eq!(first.report(0).ran, 4);
    assert_eq!(bed.exported("app").as_deref(), Some("print()"));
    assert_eq!(bed.dist(), ["app"]);
    bed.engine.clear_calls();
    let second = bed.build(&graph).await;
    assert!(second.report(0).up_to_date);
    assert_eq!(second.started(), Vec::<String>::new());
    assert_eq!(bed.engine.calls(), ["images kiln.key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_line_reruns_what_stands_on_it_and_says_why() {
    let bed = Bed::new();
    bed.write("main.py", "one");
    bed.write("lib/util.py", "same");
    let graph = program(&bed, COMPILE);
    bed.build(&graph).await;
    bed.write("main.py", "two");
    bed.engine.clear_calls();
    let built = bed.build(&graph).await;
    assert_eq!(built.started(), ["COPY . /src/", "RUN cat /src/main.py /out/app"]);
    assert_eq!(built.reason("COPY . /src/"), "files of . changed: main.py");
    assert_eq!(built.reason("RUN cat /src/main.py /out/app"), "previous step changed");
    assert_eq!(bed.exported("app").as_deref(), Some("two"));
    assert_eq!(bed.engine.count("start "), 1);
    assert_eq!(bed.engine.count("commit "), 0, "the last step is remembered by its files");
    bed.write("new.py", "");
    assert_eq!(bed.build(&graph).await.reason("COPY . /src/"), "files of . changed: new.py is new");
    std::fs::remove_file(bed.path("src/new.py")).expect("removed");
    assert_eq!(bed.build(&graph).await.reason("COPY . /src/"), "files of . changed: new.py is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_variable_is_named() {
    let bed = Bed::new();
    let graph = |value: &str| {
        let mut graph = Graph::default();
        let base = graph.scratch();
        let env = vec![("A".to_owned(), "1".to_owned()), ("JOBS".to_owned(), value.to_owned())];
        let step = graph.exec(base, kiln_graph::Exec { env, ..exec(AMD64, "write /out x") });
        let scratch = graph.scratch();
        let export = graph.copy(scratch, step, &["out"], "/out");
        graph.target("export", AMD64, export);
        graph
    };
    bed.build(&graph("1")).await;
    let built = bed.build(&graph("2")).await;
    assert_eq!(built.reason("RUN write /out x"), "variable JOBS changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_not_as_it_was_left_is_made_again() {
    let bed = Bed::new();
    bed.write("main.py", "x");
    let graph = program(&bed, COMPILE);
    let request = || {
        let files = FilesOutput {
            folder: bed.path("dist"),
            artifact: None,
            smoke: None,
            glibc_max: None,
            reports: None,
            sums: true,
        };
        bed.request(&graph, vec![Output::Files(files)])
    };
    bed.build_as(request(), Cancel::new()).await;
    assert!(bed.plan(request()).await.expect("plan").is_up_to_date());
    let app = bed.path("dist/app");
    let spoil: [(&str, &dyn Fn()); 5] = [
        ("deleted", &|| std::fs::remove_file(&app).expect("removed")),
        ("replaced", &|| {
            std::fs::write(bed.path("other"), "y").expect("written");
            std::fs::rename(bed.path("other"), &app).expect("renamed");
        }),
        ("changed", &|| std::fs::write(&app, "z").expect("written")),
        ("of another mode", &|| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&app, std::fs::Permissions::from_mode(0o600)).expect("changed");
        }),
        ("not in the list of sums", &|| std::fs::remove_file(bed.path("dist/SHA256SUMS")).expect("removed")),
    ];
    for (how, spoil) in spoil {
        spoil();
        let plan = bed.plan(request()).await.expect("plan");
        assert!(!plan.is_up_to_date(), "{how}");
        bed.run(plan, Cancel::new()).await;
        assert_eq!(bed.exported("app").as_deref(), Some("x"), "{how}");
        assert!(bed.plan(request()).await.expect("plan").is_up_to_date(), "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_was_pruned_is_a_reason() {
    let bed = Bed::new();
    bed.write("main.py", "x");
    let graph = program(&bed, COMPILE);
    bed.build(&graph).await;
    std::fs::remove_file(bed.path("dist/app")).expect("removed");
    let plan = bed.plan(bed.request(&graph, vec![bed.files()])).await.expect("plan");
    let images = kiln_docker::Engine::images_with_label(&bed.engine, kiln_docker::labels::KEY).await.expect("images");
    assert_eq!(images.len(), 1, "the toolchain alone is worth a checkpoint");
    kiln_docker::Engine::remove_image(&bed.engine, &images[0].id.0).await.expect("removed");
    // Planned before it went: the build says so rather than fail somewhere.
    let built = bed.run(plan, Cancel::new()).await;
    assert_eq!(
        built.error(0).to_string(),
        "the checkpoint of `RUN write /tools 1` was removed from the daemon while the build ran"
    );
    let built = bed.build(&graph).await;
    assert_eq!(built.reason("RUN write /tools 1"), "no checkpoint of it on this daemon");
    assert_eq!(bed.exported("app").as_deref(), Some("x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_vertices_run_once_for_all_platforms() {
    let bed = Bed::new();
    bed.write("main.py", "x");
    let mut graph = Graph::default();
    let local = graph.local();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let shared = graph.run(base, AMD64, "write /generated g");
    for (name, platform) in [("a", AMD64), ("b", ARM64)] {
        let base = bed.image(&mut graph, "base", platform, Files::new());
        let source = graph.copy(base, local, &["main.py"], "/src/");
        let generated = graph.copy(source, shared, &["generated"], "/src/");
        let step = graph.run(generated, platform, &format!("cat /src/generated /out/{name}"));
        let scratch = graph.scratch();
        let export = graph.copy(scratch, step, &["out"], "/");
        graph.target(name, platform, export);
    }
    let built = bed.build(&graph).await;
    assert_eq!(built.started().iter().filter(|text| *text == "RUN write /generated g").count(), 1);
    assert_eq!(bed.engine.count("start "), 4, "three commands, and what has the network that they share");
    assert_eq!(bed.dist(), ["a", "b"]);
    assert_eq!(bed.exported("b").as_deref(), Some("g"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_step_reruns_with_all_above_it() {
    let bed = Bed::new();
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let below = graph.run(base, AMD64, "write /a 1");
    let mut top = graph.run_always(below, AMD64, "write /b 1");
    // A diamond of diamonds: its paths are 2^64.
    for index in 0..64 {
        let left = graph.workdir(top, &format!("/left{index}"));
        let right = graph.workdir(top, &format!("/right{index}"));
        top = graph.copy(left, right, &["b"], "/b");
    }
    graph.target("top", AMD64, top);
    let request = || bed.request(&graph, vec![Output::Nothing]);
    bed.build_as(request(), Cancel::new()).await;
    let plan = bed.plan(request()).await.expect("plan");
    assert!(matches!(plan.action(below), Action::Cached(_)));
    assert_eq!(*plan.action(top), Action::Run(kiln_graph::MissReason::NoCache));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_committed_only_if_something_stands_on_them() {
    let bed = Bed::new();
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let one = graph.run(base, AMD64, "write /a 1");
    let two = graph.run(one, AMD64, "cat /a /b");
    let side = graph.run(base, AMD64, "write /c 3");
    let with_side = graph.copy(two, side, &["c"], "/c");
    let three = graph.run(with_side, AMD64, "cat /c /d");
    let scratch = graph.scratch();
    let export = graph.copy(scratch, three, &["a", "b", "c", "d"], "/");
    graph.target("export", AMD64, export);
    let built = bed.build(&graph).await;
    built.report(0);
    // `side` is read from its container, and the last one, too.
    assert_eq!(bed.engine.count("commit "), 2);
    assert_eq!(bed.dist(), ["a", "b", "c", "d"]);
    assert_eq!(bed.exported("d").as_deref(), Some("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_no_files_is_kept_as_a_checkpoint() {
    let bed = Bed::new();
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let mut step = common::exec(AMD64, "hit /cache; write /a 1");
    step.mounts.push(common::cache("/cache", "pip", Sharing::Shared));
    let one = graph.exec(base, step);
    graph.target("one", AMD64, one);
    let build = || bed.build_as(bed.request(&graph, vec![Output::Nothing]), Cancel::new());
    build().await.report(0);
    assert_eq!(bed.engine.count("commit "), 1);
    bed.engine.clear_calls();
    assert_eq!(build().await.report(0).cached, 1);
    assert_eq!(bed.engine.count("create "), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_at_the_end_are_copied_though_nobody_reads_them() {
    let bed = Bed::new();
    let build = async |file: &str| {
        let mut graph = Graph::default();
        let base = bed.image(&mut graph, "base", AMD64, Files::new());
        let one = graph.run(base, AMD64, "write /a 1");
        let top = graph.copy(base, one, &[file], "/x");
        graph.target("top", AMD64, top);
        bed.build_as(bed.request(&graph, vec![Output::Nothing]), Cancel::new()).await
    };
    build("a").await.report(0);
    assert!(matches!(build("missing").await.error(0), SolveError::CopyMissing { .. }));
    bed.engine.clear_calls();
    build("a").await.report(0);
    assert_eq!(bed.engine.count("create "), 0, "it is remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_large_copy_only_what_changed_is_copied_again() {
    let bed = Bed::new();
    bed.write("main.py", "x");
    for index in 0..1200 {
        bed.write(&format!("many/{index}"), "old");
    }
    let build = async |commands: &str, changed: &str| {
        bed.write("main.py", changed);
        bed.engine.clear_calls();
        let built = bed.build(&program(&bed, commands)).await;
        (built.report(0).ran, bed.engine.count("load sha256:"), bed.engine.count("commit"))
    };
    let exported = || ["app", "seven", "more"].map(|name| bed.exported(name).unwrap_or_default());
    let compile = "cat /src/main.py /out/app; cat /src/many/7 /out/seven";
    assert_eq!(build(compile, "1").await, (4, 1, 1), "the copy is a layer; the tools are committed");
    assert_eq!(build(compile, "2").await, (3, 0, 0), "one file is copied onto it");
    assert_eq!(exported(), ["2", "old", ""]);
    bed.write("many/7", "new");
    bed.write("more/0", "added");
    let with_more = "cat /src/main.py /out/app; cat /src/many/7 /out/seven; cat /src/more/0 /out/more";
    assert_eq!(build(with_more, "3").await, (3, 0, 0));
    assert_eq!(exported(), ["3", "new", "added"]);
    // Once more onto the same checkpoint; a file that is back to what it was is no difference.
    bed.write("many/7", "old");
    assert_eq!(build(with_more, "4").await, (3, 0, 0));
    assert_eq!(exported(), ["4", "old", "added"]);
    std::fs::remove_dir_all(bed.path("src/more")).expect("removed");
    assert_eq!(build(compile, "5").await, (3, 0, 0), "nothing is gone since the checkpoint");
    // What is gone cannot be copied: all of it is, and that is the new checkpoint.
    std::fs::remove_file(bed.path("src/many/1100")).expect("removed");
    assert_eq!(build(compile, "6").await, (3, 1, 0));
    bed.build(&program(&bed, "cat /src/many/1100 /out/app")).await.report(0);
    assert_eq!(bed.exported("app").as_deref(), Some("nothing"));
    // Without its checkpoint it is copied as a whole.
    for image in bed.engine().images_with_label("kiln.key").await.expect("a listing") {
        kiln_docker::Engine::remove_image(&bed.engine, &image.id.0).await.expect("removed");
    }
    assert_eq!(build(compile, "7").await, (4, 1, 1));
    assert_eq!(bed.exported("app").as_deref(), Some("7"));
}
