use kiln_artifact::ContainedFile;
use kiln_artifact::examine::Claim;
use kiln_artifact::secrets::Leaks;
use kiln_graph::Arch;

use super::run_on::Status;
use super::*;

fn examined(path: &str, shape: Shape) -> Examined {
    Examined {
        path: path.into(),
        shape,
        size: 8_123_456,
        claims: vec![Claim { arch: Arch::Amd64, by: "its name" }],
        control: None,
        programs: Vec::new(),
        files: vec![ContainedFile {
            name: "lib/a.so".to_owned(),
            size: 1,
            executable: false,
            content: kiln_artifact::Content::Data,
        }],
        leaks: Leaks::new(),
    }
}

fn subject(path: &str, findings: Vec<Finding>, runs: Vec<Run>) -> Subject {
    Subject { path: path.into(), examined: Some(examined(path, Shape::Program)), findings, runs }
}

fn run(image: &str, status: Status, detail: &str) -> Run {
    Run {
        image: image.to_owned(),
        platform: Platform::linux(Arch::Amd64),
        installed: false,
        status,
        detail: detail.to_owned(),
        seconds: (status != Status::Untried).then_some(0.4),
        tail: Vec::new(),
    }
}

/// One of each.
fn subjects() -> Vec<Subject> {
    let foreign = |n: usize| {
        let detail = "is for aarch64, not for linux/amd64";
        Finding::new(Check::ForeignFile, format!("firmware/blob-{n}.so"), detail)
            .fix("leave it out with --noinclude-data-files")
    };
    let mut findings: Vec<Finding> = (1..9).map(foreign).collect();
    findings.push(Finding::new(
        Check::Secret,
        "conf.json",
        "has a secret at byte 17: github-token, ghp_… (40 characters)",
    ));
    findings.push(
        Finding::new(Check::ExecutableStack, "hello", "makes the stack executable").fix("link it with -z noexecstack"),
    );
    findings.push(Finding::new(
        Check::SystemLibrary,
        "hello",
        "needs libz.so.1 of the system, which minimal images lack",
    ));
    findings.push(Finding {
        allowed: true,
        level: Level::Info,
        ..Finding::new(Check::Rpath, "hello", "looks for libraries in /opt")
    });
    let failed = Run {
        tail: vec!["Traceback (most recent call last):".to_owned(), "ImportError: no \u{1b}[31mmodule".to_owned()],
        ..run("registry.example/team/debian:bullseye", Status::Fails, "exit code 1")
    };
    vec![
        subject(
            "dist/hello-linux-x86_64",
            findings,
            vec![
                run("debian:bookworm", Status::Runs, "--version: hello 1.0"),
                run(
                    "alpine:3.20",
                    Status::OtherLibc,
                    "it is made for glibc, and the image has no /lib64/ld-linux-x86-64.so.2",
                ),
                failed,
                run("nosuch:1", Status::Untried, "the registry does not have it"),
            ],
        ),
        subject("dist/good", Vec::new(), Vec::new()),
        Subject {
            path: "dist/notes.txt".into(),
            examined: None,
            findings: vec![unreadable(&PackageError::Unsupported(
                "it is no program, package or image that kiln knows".to_owned(),
            ))],
            runs: Vec::new(),
        },
    ]
}

#[test]
fn the_table_at_80_columns() {
    let text = table::render(&subjects(), 80, false, false);
    insta::assert_snapshot!("verify_table", text);
    assert_eq!(text.lines().find(|line| line.chars().count() > 80 && line.trim().contains(' ')), None);
    assert!(!text.contains("libz"), "notes are told only if they are asked for");
}

#[test]
fn notes_are_told_when_asked_for_and_colours_change_no_text() {
    let text = table::render(&subjects(), 80, false, true);
    assert!(text.contains("note     system-library") && text.contains("allowed  rpath"), "{text}");
    assert_eq!(console::strip_ansi_codes(&table::render(&subjects(), 80, true, true)), text);
}

#[test]
fn codes_say_the_worst() {
    use Status::{Fails, OtherLibc, Runs, Untried};
    let of = |findings: Vec<Finding>, runs: Vec<Run>| exit_code(&[subject("x", findings, runs)]);
    let error = || vec![Finding::new(Check::Glibc, "x", "y")];
    let warning = || vec![Finding::new(Check::Pie, "x", "y")];
    let status = |all: &[Status]| all.iter().map(|status| run("i", *status, "d")).collect::<Vec<_>>();
    assert_eq!(of(warning(), Vec::new()), 0);
    assert_eq!(of(error(), status(&[Untried])), exit::VERIFY);
    assert_eq!(of(Vec::new(), status(&[Runs, OtherLibc])), 0, "it runs somewhere");
    assert_eq!(of(Vec::new(), status(&[OtherLibc])), exit::VERIFY, "it runs nowhere");
    assert_eq!(of(Vec::new(), status(&[Runs, Fails])), exit::VERIFY);
    assert_eq!(of(Vec::new(), status(&[Runs, Untried])), exit::PARTIAL);
    assert_eq!(of(Vec::new(), status(&[Untried, Untried])), exit::DAEMON);
    assert_eq!(summary(&subjects()), "10 errors, 1 warning, 1 not running, 1 not tried in 3 artifacts");
}

#[test]
fn settings_know_the_names_of_all_checks() {
    assert_eq!(kiln_config::FINDINGS.to_vec(), Check::ALL.map(Check::name).to_vec());
}

#[test]
fn what_lies_beside_an_artifact_is_looked_at_too() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("hello");
    fs_err::write(&path, "no program").expect("a file");
    let options = Options { bounds: kiln_artifact::package::Bounds::default(), scratch: folder.path().to_owned() };
    let loaded = kiln_config::Config::load(Vec::new(), &kiln_config::ProjectFacts::default()).expect("defaults");
    let settings = |_: Option<Platform>| loaded.config.for_platform(Platform::linux(Arch::Amd64));
    let look: Look<'_> = &|path| vec![Finding::new(Check::Format, path.display().to_string(), "is not signed")];
    let found = check(&path, &options, None, &settings, &[look]).expect("it can be read");
    assert_eq!(found[0].findings[0].detail, "is not signed");
    assert_eq!(exit_code(&found), exit::VERIFY);
}
