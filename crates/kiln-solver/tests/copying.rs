//! `COPY` by BuildKit's rules, over what is there already.

mod common;

use common::{AMD64, Bed, Graph, copy, owned};
use kiln_docker::FileKind;
use kiln_graph::{Copy, Sharing, VertexId};
use kiln_solver::{Cancel, Output, SolveError};
use kiln_testkit::{File, Files};

/// The files of the step that stands on `make`'s result.
async fn files_after(bed: &Bed, base: Files, make: impl FnOnce(&mut Graph, VertexId) -> VertexId) -> Files {
    try_files_after(bed, base, make).await.unwrap_or_else(|error| panic!("{error:?}"))
}

async fn try_files_after(
    bed: &Bed,
    base: Files,
    make: impl FnOnce(&mut Graph, VertexId) -> VertexId,
) -> Result<Files, SolveError> {
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, base);
    let filled = make(&mut graph, base);
    let top = graph.run(filled, AMD64, "say done");
    graph.target("top", AMD64, top);
    let built = bed.build_as(bed.request(&graph, vec![Output::Image(None)]), Cancel::new()).await;
    let report = built.outcome.targets.into_iter().next().expect("one target")?;
    let image = kiln_docker::ImageId(report.image.expect("an image"));
    Ok(bed.engine.image_files(&image).expect("files"))
}

/// What of `files` lies below `folder`.
fn below(files: &Files, folder: &str) -> Vec<String> {
    files.paths().into_iter().filter(|path| path.starts_with(folder)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_into_a_folder_that_an_earlier_instruction_made() {
    let bed = Bed::new();
    bed.write("main.py", "x");
    let files = files_after(&bed, Files::new(), |graph, base| {
        let local = graph.local();
        let workdir = graph.workdir(base, "/app");
        graph.copy(workdir, local, &["main.py"], "/app")
    });
    assert_eq!(below(&files.await, "/app"), ["/app", "/app/main.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_a_file_or_a_folder() {
    let bed = Bed::new();
    bed.write("main.py", "x");
    bed.write("pkg/a.py", "a");
    bed.write("pkg/sub/b.py", "b");
    let mut base = Files::new();
    base.folder("/there").symlink("/link", "/there").write("/file", "old").symlink("/to-file", "/file");
    let files = files_after(&bed, base, |graph, base| {
        let local = graph.local();
        let mut at = base;
        for (source, dest) in [
            ("main.py", "/new.py"),
            ("main.py", "/there"),
            ("main.py", "/link/named.py"),
            ("main.py", "/made/"),
            ("main.py", "/to-file"),
            ("pkg", "/pkg"),
            ("pkg/*/b.py", "/wild.py"),
            ("p*", "/contents"),
            ("nothing*", "/nothing/"),
        ] {
            at = graph.copy(at, local, &[source], dest);
        }
        at
    })
    .await;
    assert_eq!(files.text("/new.py").as_deref(), Some("x"));
    assert_eq!(below(&files, "/there"), ["/there", "/there/main.py", "/there/named.py"]);
    assert_eq!(below(&files, "/made"), ["/made", "/made/main.py"]);
    assert_eq!(files.text("/file").as_deref(), Some("x"), "a named link is written through");
    assert_eq!(below(&files, "/pkg"), ["/pkg", "/pkg/a.py", "/pkg/sub", "/pkg/sub/b.py"]);
    assert_eq!(files.text("/wild.py").as_deref(), Some("b"));
    assert_eq!(below(&files, "/contents"), ["/contents", "/contents/a.py", "/contents/sub", "/contents/sub/b.py"]);
    assert_eq!(below(&files, "/nothing"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_and_modes() {
    let bed = Bed::new();
    bed.write("pkg/sub/b.py", "b");
    let mut base = Files::new();
    base.write("/etc/passwd", "root:x:0:0::/:\napp:x:1000:1001::/:\n").write("/etc/group", "staff:x:50:\n");
    base.put("/app/sub", File { mode: 0o700, ..File::new(FileKind::Folder, 0o700) });
    let files = files_after(&bed, base.clone(), |graph, base| {
        let local = graph.local();
        let one = graph.copy_as(base, local, owned("app", copy(&["pkg"], "/app")));
        let two = graph.copy_as(one, local, owned("7:staff", copy(&["pkg/sub/b.py"], "/deep/down/b.py")));
        let suid = Copy { chmod: Some(kiln_graph::Chmod::Octal(0o4755)), ..copy(&["pkg/sub/b.py"], "/suid") };
        graph.copy_as(two, local, suid)
    })
    .await;
    let owner = |path: &str| files.get(path).map(|file| (file.uid, file.gid, file.mode));
    assert_eq!(owner("/app/sub/b.py"), Some((1000, 1001, 0o644)));
    assert_eq!(owner("/app/sub"), Some((1000, 1001, 0o755)), "a copied folder changes the one that is there");
    assert_eq!(owner("/app"), Some((0, 0, 0o755)), "the destination itself stays");
    assert_eq!(owner("/deep/down"), Some((7, 50, 0o755)));
    assert_eq!(owner("/deep/down/b.py"), Some((7, 50, 0o644)));
    assert_eq!(owner("/suid"), Some((0, 0, 0o4755)));
    let unknown = try_files_after(&bed, base, |graph, base| {
        let local = graph.local();
        graph.copy_as(base, local, owned("nobody", copy(&["pkg"], "/x")))
    })
    .await;
    assert_eq!(
        unknown.expect_err("unknown user").to_string(),
        "cannot copy to `/etc/passwd`: it knows no `nobody`; use a number instead"
    );
}

/// A stage with everything that a copy may meet.
fn stage() -> Files {
    let mut files = Files::new();
    files.put("/out/a.bin", File { uid: 5, gid: 6, bytes: b"a".into(), ..File::new(FileKind::File, 0o4755) });
    files.hard_link("/out/b.bin", "/out/a.bin").write("/out/sub/c.txt", "c").symlink("/out/sub/up", "../a.bin");
    files
        .symlink("/out/l.bin", "sub/c.txt")
        .symlink("/current", "/out")
        .write("/.dockerenv", "")
        .write("/etc/hosts", "");
    files
}

async fn from_stage(copies: Vec<Copy>) -> Files {
    let bed = Bed::new();
    files_after(&bed, Files::new(), |graph, base| {
        let stage = bed.image(graph, "stage", AMD64, stage());
        copies.into_iter().fold(base, |at, copy| graph.copy_as(at, stage, copy))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_from_a_stage_keep_what_files_are() {
    let files =
        from_stage(vec![copy(&["out"], "/all"), copy(&["out/b.bin"], "/b"), copy(&["current"], "/linked")]).await;
    assert_eq!(below(&files, "/all").len(), 7);
    let a = files.get("/all/a.bin").expect("copied");
    assert_eq!((a.uid, a.gid, a.mode), (5, 6, 0o4755));
    assert_eq!(files.get("/all/b.bin").expect("copied").twin.as_deref(), Some("/all/a.bin"));
    assert_eq!(files.get("/all/sub/up").expect("copied").link, "../a.bin");
    let b = files.get("/b").expect("copied");
    assert_eq!((b.bytes.as_slice(), b.twin), (b"a".as_slice(), None), "a second name alone brings its content");
    assert_eq!(below(&files, "/linked").len(), 7, "a named link is followed");
    assert_eq!(files.get("/all").map(|file| (file.uid, file.mode)), Some((0, 0o755)));
}

#[tokio::test(flavor = "multi_thread")]
async fn wildcards_in_a_stage() {
    let files = from_stage(vec![
        copy(&["out/*.bin"], "/w"),
        copy(&["out/b*"], "/one"),
        copy(&["out/s*"], "/contents"),
        copy(&["out/*/c.txt"], "/middle.txt"),
        copy(&["out/x*"], "/none"),
    ])
    .await;
    assert_eq!(below(&files, "/w"), ["/w", "/w/a.bin", "/w/b.bin", "/w/l.bin"]);
    assert_eq!(files.text("/w/l.bin").as_deref(), Some("c"), "a link that matches is followed");
    assert_eq!(files.text("/one").as_deref(), Some("a"), "one file becomes the destination");
    assert_eq!(below(&files, "/contents"), ["/contents", "/contents/c.txt", "/contents/up"]);
    assert_eq!(files.text("/middle.txt").as_deref(), Some("c"));
    assert_eq!(below(&files, "/none"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_and_excludes_in_a_stage() {
    let parents = |sources: &[&str], dest: &str| Copy { parents: true, ..copy(sources, dest) };
    let files = from_stage(vec![
        parents(&["out/sub/c.txt"], "/p/"),
        parents(&["out/./sub/*.txt"], "/q/"),
        parents(&["out/./**/*.bin"], "/r/"),
        Copy { excludes: vec!["*.bin".into(), "sub/up".into()], ..copy(&["out"], "/s") },
    ])
    .await;
    assert_eq!(below(&files, "/p/"), ["/p/out", "/p/out/sub", "/p/out/sub/c.txt"]);
    assert_eq!(below(&files, "/q/"), ["/q/sub", "/q/sub/c.txt"]);
    assert_eq!(below(&files, "/r/"), ["/r/a.bin", "/r/b.bin", "/r/l.bin"]);
    assert_eq!(files.get("/r/l.bin").expect("copied").kind, FileKind::Symlink);
    assert_eq!(below(&files, "/s"), ["/s", "/s/sub", "/s/sub/c.txt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_of_a_stage_comes_without_what_the_daemon_adds() {
    let files = from_stage(vec![copy(&["."], "/root-of-stage")]).await;
    let names = below(&files, "/root-of-stage/");
    assert!(names.contains(&"/root-of-stage/out/sub/c.txt".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.ends_with(".dockerenv") || name.ends_with("hosts")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_copied_over_itself() {
    // The daemon answers no question about a container that it is sending: this must not wait for itself.
    let bed = Bed::new();
    let mut base = Files::new();
    base.write("/usr/bin/tool", "t").folder("/usr/local").write("/etc/passwd", "app:x:9:9::/:\n");
    let files = files_after(&bed, base, |graph, base| {
        graph.copy_as(base, base, owned("app", copy(&["usr"], "/usr/local/copy")))
    });
    assert_eq!(files.await.get("/usr/local/copy/bin/tool").map(|file| file.uid), Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_copied_into_a_mount() {
    let bed = Bed::new();
    bed.write("seed", "s");
    let mut base = Files::new();
    base.symlink("/var/cache", "/real").folder("/real");
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, base);
    let local = graph.local();
    let seeded = graph.copy(base, local, &["seed"], "/var/cache/pip/");
    let mut step = common::exec(AMD64, "hit /real/pip");
    step.mounts.push(common::cache("/real/pip", "pip", Sharing::Shared));
    let top = graph.exec(seeded, step);
    graph.target("top", AMD64, top);
    let built = bed.build_as(bed.request(&graph, vec![Output::Image(None)]), Cancel::new()).await;
    let image = kiln_docker::ImageId(built.report(0).image.clone().expect("an image"));
    assert_eq!(below(&bed.engine.image_files(&image).expect("files"), "/real/"), ["/real/pip", "/real/pip/seed"]);
    let volumes = kiln_docker::Engine::volumes_with_label(&bed.engine, kiln_docker::labels::CACHE, false).await;
    let volume = &volumes.expect("volumes")[0].name;
    assert_eq!(bed.engine.volume_files(volume).expect("files").paths(), ["/hit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_in_the_way_is_said() {
    let bed = Bed::new();
    bed.write("main.py", "x");
    bed.write("pkg/a", "x");
    let mut base = Files::new();
    base.write("/file", "");
    let from_image = try_files_after(&bed, base.clone(), |graph, base| graph.copy(base, base, &["none"], "/x")).await;
    assert_eq!(
        from_image.expect_err("missing").to_string(),
        "`none` is not in the stage or image that it is copied from"
    );
    let in_the_way = try_files_after(&bed, base, |graph, base| {
        let local = graph.local();
        graph.copy(base, local, &["pkg"], "/file/pkg/")
    })
    .await;
    assert_eq!(in_the_way.expect_err("a clash").to_string(), "cannot copy to `/file`: a file is in the way");
    let mut graph = Graph::default();
    let (scratch, local) = (graph.scratch(), graph.local());
    let first = graph.copy(scratch, local, &["main.py"], "/");
    let second = graph.copy(first, local, &["gone.py"], "/");
    graph.target("x", AMD64, second);
    let error = bed.plan(bed.request(&graph, vec![bed.files()])).await.err().expect("missing");
    assert_eq!(error.origin().map(|origin| origin.text.as_str()), Some("COPY gone.py /"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_sent_is_an_error() {
    let bed = Bed::new();
    bed.write("main.py", "one");
    let mut graph = Graph::default();
    let (scratch, local) = (graph.scratch(), graph.local());
    let root = graph.copy(scratch, local, &["main.py"], "/");
    graph.target("x", AMD64, root);
    for text in ["two", "longer"] {
        bed.write("main.py", "one");
        let plan = bed.plan(bed.request(&graph, vec![bed.files()])).await.expect("plan");
        bed.write("main.py", text);
        let built = bed.run(plan, Cancel::new()).await;
        assert!(matches!(built.error(0), SolveError::ContextChanged { .. }), "{:?}", built.error(0));
        assert_eq!(bed.dist(), Vec::<String>::new());
    }
}
