//! The smoke run, in a clean image.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod common;

use std::time::Duration;

use common::{AMD64, Bed, Graph};
use kiln_graph::ImageConfig;
use kiln_solver::{Cancel, FilesOutput, Output, Smoke, SmokeCommand, SolveError};
use kiln_testkit::{Files, Outcome, Step};

/// A static program for amd64 that is as small as one can be: a header and one segment to load.
fn program() -> Vec<u8> {
    let mut elf = vec![0_u8; 120];
    elf[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2_u16.to_le_bytes());
    put(18, &62_u16.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(24, &0x40_0078_u64.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(52, &64_u16.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &1_u16.to_le_bytes());
    put(58, &64_u16.to_le_bytes());
    put(64, &1_u32.to_le_bytes());
    put(68, &5_u32.to_le_bytes());
    put(80, &0x40_0000_u64.to_le_bytes());
    put(88, &0x40_0000_u64.to_le_bytes());
    put(96, &120_u64.to_le_bytes());
    put(104, &120_u64.to_le_bytes());
    put(112, &4096_u64.to_le_bytes());
    elf
}

/// A bed whose steps make the program, and whose program does what `runs` says.
fn bed(runs: impl Fn(&str) -> Outcome + Send + Sync + 'static) -> Bed {
    let bed = Bed::new();
    bed.engine.on_run(move |step: &mut Step<'_>| {
        let line = step.line();
        if line == "compile" {
            let file = kiln_testkit::File::new(kiln_docker::FileKind::File, 0o755);
            step.files.put("/out/app", kiln_testkit::File { bytes: program(), ..file });
            return Outcome::default();
        }
        assert!(step.files.get("/kiln-smoke/app").is_some(), "the artifact is in the clean image");
        runs(line.strip_prefix("/kiln-smoke/app ").unwrap_or(&line))
    });
    bed.engine.add_image("clean", AMD64, ImageConfig::default(), Files::new());
    bed
}

async fn build(bed: &Bed, command: SmokeCommand) -> Result<String, SolveError> {
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let step = graph.run(base, AMD64, "compile");
    let scratch = graph.scratch();
    let root = graph.copy(scratch, step, &["out/app"], "/app");
    graph.target("export", AMD64, root);
    let output = Output::Files(FilesOutput {
        folder: bed.path("dist"),
        artifact: Some("app".to_owned()),
        smoke: Some(Smoke { image: "clean".to_owned(), command, timeout: Duration::from_millis(200) }),
        glibc_max: None,
        reports: None,
        sums: false,
    });
    let built = bed.build_as(bed.request(&graph, vec![output]), Cancel::new()).await;
    let report = built.outcome.targets.into_iter().next().expect("one target")?;
    Ok(report.artifacts[0].smoke.clone().expect("it was tried"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_needs_a_newer_glibc_than_allowed_is_refused() {
    let shell = std::path::Path::new("/bin/sh");
    let facts = kiln_artifact::elf::inspect(shell).ok();
    if !facts.is_some_and(|facts| facts.arch() == Some(AMD64.arch) && facts.glibc_floor().is_some()) {
        eprintln!("SKIPPED: this machine's shell is no program for glibc on amd64");
        return;
    }
    let bytes = std::fs::read(shell).expect("the shell");
    let bed = Bed::new();
    bed.engine.on_run(move |step: &mut Step<'_>| {
        let file = kiln_testkit::File::new(kiln_docker::FileKind::File, 0o755);
        step.files.put("/out/app", kiln_testkit::File { bytes: bytes.clone(), ..file });
        Outcome::default()
    });
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", AMD64, Files::new());
    let step = graph.run(base, AMD64, "compile");
    let scratch = graph.scratch();
    let root = graph.copy(scratch, step, &["out/app"], "/app");
    graph.target("export", AMD64, root);
    let output = |allowed: &str| {
        Output::Files(FilesOutput {
            folder: bed.path("dist"),
            artifact: Some("app".to_owned()),
            smoke: None,
            glibc_max: Some(allowed.parse().expect("a version")),
            reports: None,
            sums: false,
        })
    };
    let built = bed.build_as(bed.request(&graph, vec![output("2.2")]), Cancel::new()).await;
    let error = built.error(0);
    assert!(error.to_string().contains("newer than the 2.2 that is allowed"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("older base image")), "{:?}", error.hint());
    assert_eq!(bed.dist(), [""; 0]);
    let built = bed.build_as(bed.request(&graph, vec![output("2.99")]), Cancel::new()).await;
    assert!(built.outcome.targets[0].is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_version_is_asked_for_help() {
    let version = bed(|_| Outcome::default().out("app 1.0\nmore\n"));
    assert_eq!(build(&version, SmokeCommand::Auto).await.expect("good"), "--version: app 1.0");
    let help = bed(|arguments| match arguments {
        "--help" => Outcome::default().out("usage: app\n"),
        _ => Outcome::exit(2).err("unknown option\n"),
    });
    assert_eq!(build(&help, SmokeCommand::Auto).await.expect("good"), "--help: usage: app");
    let server = bed(|_| Outcome::default().takes(Duration::from_mins(1)));
    assert!(build(&server, SmokeCommand::Auto).await.expect("good").starts_with("started and still ran"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_is_not_placed() {
    let crashing = bed(|_| Outcome::exit(139).err("no such symbol\n"));
    let error = build(&crashing, SmokeCommand::Auto).await.expect_err("bad");
    let SolveError::Smoke { command, problem, tail, .. } = error else { panic!("{error:?}") };
    assert_eq!((command.as_str(), problem.as_str()), ("app --help", "exit code 139"));
    assert_eq!(tail, ["no such symbol"]);
    assert_eq!(crashing.dist(), Vec::<String>::new());
    let slow = bed(|_| Outcome::default().takes(Duration::from_mins(1)));
    let error = build(&slow, SmokeCommand::Arguments(vec!["check".to_owned()])).await.expect_err("too slow");
    assert!(error.to_string().ends_with("it did not end within 0 s"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_settings_of_the_smoke_run_are_tried_anew() {
    let bed = bed(|line| Outcome::default().out(line));
    build(&bed, SmokeCommand::Auto).await.expect("good");
    bed.engine.clear_calls();
    build(&bed, SmokeCommand::Auto).await.expect("good");
    assert_eq!(bed.engine.count("create "), 0);
    let shell = SmokeCommand::Shell("{artifact} check | grep ok".to_owned());
    build(&bed, shell).await.expect("good");
    assert!(bed.engine.calls().iter().any(|call| call == "create /bin/sh -c /kiln-smoke/app check | grep ok"));
}
