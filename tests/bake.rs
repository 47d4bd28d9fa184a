//! Real programs: what takes minutes. One test per project, because its steps stand on each other.
#![expect(clippy::print_stderr, reason = "measured times are worth seeing")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use kiln_artifact::check;
use kiln_artifact::checksum::sha256_file;
use kiln_artifact::elf::Libc;
use kiln_attest::ingredients::Materials;
use kiln_e2e::{Project, Ran, needed};
use kiln_graph::{Arch, Platform};

const AMD64: Platform = Platform::linux(Arch::Amd64);
const I386: Platform = Platform::linux(Arch::I386);
const ARM64: Platform = Platform::linux(Arch::Arm64);
const DEBIAN: &str = "debian:bookworm";
const ALPINE: &str = "alpine:3.20";

/// What a platform's artifact is called after the program's name.
fn suffix(platform: Platform) -> &'static str {
    match platform.arch {
        Arch::Amd64 => "linux-x86_64",
        Arch::I386 => "linux-i686",
        Arch::Arm64 => "linux-arm64",
        other => panic!("no test bakes for {other:?}"),
    }
}

/// The artifact of a platform, after a look at what it is.
fn artifact(project: &Project, name: &str, platform: Platform) -> PathBuf {
    let path = project.path().join("dist").join(format!("{name}-{}", suffix(platform)));
    let inspection = check::inspect(&path).expect("the artifact can be read");
    let elf = inspection.elf().expect("it is an ELF program");
    assert_eq!(elf.arch(), Some(platform.arch));
    assert!(inspection.payload.is_some(), "it is one file with all in it");
    let verdict = check::verify(&inspection, platform, &check::Expectations::default());
    assert!(verdict.is_fit(), "{:?}", verdict.problems);
    path
}

/// Runs a platform's artifact in a clean image.
fn run(project: &Project, name: &str, platform: Platform, image: &str, arguments: &[&str]) -> String {
    let path = artifact(project, name, platform);
    let (code, text) = project.daemon().run(image, platform, &path, arguments);
    assert_eq!(code, 0, "{platform}: {text}");
    text
}

/// The finished platforms of a build, with a line for people.
fn finished(what: &str, ran: &Ran) -> BTreeSet<String> {
    let reports = ran.events_of("target-finished");
    for event in &reports {
        let report = &event["report"];
        eprintln!(
            "{what}: {} in {:.1} s, {:.1} s of it in containers",
            report["platform"],
            seconds(report, "seconds"),
            seconds(report, "container_seconds")
        );
    }
    reports.iter().map(|event| event["report"]["platform"].as_str().unwrap_or_default().to_owned()).collect()
}

fn seconds(report: &serde_json::Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_default()
}

/// Changes the program in one line, to one that no earlier run had: caches of earlier runs of these tests are kept.
fn change(project: &Project, file: &str, word: &str) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let text = project.read(file);
    let (before, rest) = text.split_once("from ").expect("the greeting says where it is from");
    let (_, after) = rest.split_once("kiln").expect("and that is kiln");
    let text = format!("{before}from {word} {now} kiln{after}");
    project.write(file, &text);
}

#[test]
fn hello_for_three_platforms_then_nothing_then_a_line() {
    let Some(project) = Project::example("hello") else { return };
    change(&project, "greeting.py", "the");
    let cold = project.build(&[]);
    assert_eq!(finished("hello", &cold).len(), 3);

    let expected = ["SHA256SUMS", "hello-linux-arm64", "hello-linux-i686", "hello-linux-x86_64"];
    assert_eq!(project.list("dist"), expected);
    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--strict", "SHA256SUMS"]).current_dir(project.path().join("dist"));
    assert!(sums.status().expect("sha256sum runs").success());
    for (platform, machine) in [(AMD64, "x86_64"), (I386, "i686"), (ARM64, "aarch64")] {
        let text = run(&project, "hello", platform, DEBIAN, &[]);
        assert!(text.contains("sqlite 45, asyncio 42, http /ping"), "{platform}: {text}");
        // The daemon's kernel names its own machine to 32-bit programs, unless they are told otherwise.
        assert!(platform == I386 || text.contains(machine), "{platform}: {text}");
        materials(&project, platform);
    }
    for event in cold.events_of("target-finished") {
        let (all, inside) = (seconds(&event["report"], "seconds"), seconds(&event["report"], "container_seconds"));
        assert!(inside > 0.0 && inside <= all + 1.0, "{event}");
    }

    let nothing = project.build(&[]);
    assert!(nothing.was_up_to_date(), "{}", nothing.stdout);
    assert_eq!(nothing.steps_run(), [""; 0]);
    eprintln!("hello again: {:?}", nothing.took);

    let before = project.read("dist/hello-linux-arm64");
    change(&project, "greeting.py", "another");
    let line = project.build(&["--platform=linux/amd64"]);
    finished("hello with a changed line", &line);
    let steps = line.steps_run();
    assert!(!steps.iter().any(|step| step.contains("apt-get") || step.contains("pip install")), "{steps:?}");
    let text = run(&project, "hello", AMD64, DEBIAN, &[]);
    assert!(text.contains("from another"), "{text}");
    assert!(before == project.read("dist/hello-linux-arm64"), "the other platforms were not asked for");

    a_wrong_program_changes_nothing(&project);
}

/// What the recipe says hello is made of is about that very program, and no file or tool is without a package of Debian's,
/// whichever way the steps ran.
fn materials(project: &Project, platform: Platform) {
    let text = project.read(&format!(".kiln/reports/{}/materials.json", platform.folder()));
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let sum = sha256_file(&artifact(project, "hello", platform)).expect("it is there").to_string();
    assert_eq!(json["result"]["sha256"], sum.as_str(), "{platform}");
    let materials = Materials::parse(&text).expect("what the recipes write is read");
    for file in &materials.files {
        assert!(file.package.is_some() && file.sha256.is_some(), "{platform}: {file:?}");
    }
    // zstandard comes with pip.
    let of_system = |tool: &&kiln_attest::ingredients::Tool| tool.name != "zstandard";
    let tools = materials.tools.iter().filter(of_system);
    assert!(tools.clone().count() == 5 && tools.clone().all(|tool| tool.package.is_some()), "{:?}", materials.tools);
    assert!(materials.packages.iter().any(|package| package.name.starts_with("libssl")), "{platform}: {text}");
}

/// Mistakes in the program, on top of a build that went well.
fn a_wrong_program_changes_nothing(project: &Project) {
    let before = project.read("dist/hello-linux-x86_64");
    let right = project.read("main.py");
    project.write("main.py", &format!("{right}\ndef broken(:\n"));
    let ran = project.kiln(&["build", "--platform=linux/amd64"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("main.py") && ran.stderr.contains("syntax"), "{}", ran.stderr);
    project.daemon().assert_nothing_left(ran.pid);

    project.write("main.py", &right);
    project.write("requirements.txt", "kiln-there-is-no-such-package==1\n");
    let ran = project.kiln(&["build", "--platform=linux/amd64"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("kiln-there-is-no-such-package"), "{}", ran.stderr);
    project.daemon().assert_nothing_left(ran.pid);
    assert!(before == project.read("dist/hello-linux-x86_64"), "a failed build left its mark");
}

#[test]
fn extension_modules_and_data_files_come_along() {
    let Some(project) = Project::example("native") else { return };
    project.unoptimized("debian");
    let ran = project.build(&[]);
    assert_eq!(finished("native", &ran).len(), 3);
    for platform in [AMD64, I386, ARM64] {
        assert_eq!(run(&project, "catalog", platform, DEBIAN, &["--version"]).trim(), "catalog 2.1.0");
        let text = run(&project, "catalog", platform, DEBIAN, &["--extensions"]);
        for words in ["markupsafe C", "crcmod C", "psutil sees itself", "<li>"] {
            assert!(text.contains(words), "{platform}: no {words} in {text}");
        }
        // For 386 there is no wheel: PyYAML is built from source, and without libyaml's headers does without it.
        assert!(platform == I386 || text.contains("libyaml yes"), "{text}");
    }
}

#[test]
fn a_requirement_of_cpp_sources_is_built() {
    let Some(project) = Project::example("hello") else { return };
    // There is a wheel, which nobody may take; the recipe has no compiler for this until it is needed.
    project.write("requirements.txt", "--no-binary=kiwisolver\nkiwisolver==1.4.7\n");
    let main = project.read("main.py").replacen("import argparse\n", "import argparse\nimport kiwisolver\n", 1);
    assert!(main.contains("kiwisolver"));
    project.write("main.py", &main);
    finished("C++", &project.build(&["--platform=linux/amd64"]));
    let text = run(&project, "hello", AMD64, DEBIAN, &[]);
    assert!(text.contains("sqlite 45, asyncio 42, http /ping"), "{text}");
}

#[test]
fn a_program_for_musl() {
    let Some(image) = needed("KILN_TEST_MUSL_IMAGE") else { return };
    let Some(project) = Project::example("hello") else { return };
    let platforms = [AMD64, ARM64];
    let names: Vec<_> = platforms.iter().map(ToString::to_string).collect();
    change(&project, "greeting.py", "the");
    let base = format!("build.base={image}");
    let ran = project.build(&["--recipe=alpine", "--set", &base, "--platform", &names.join(",")]);
    assert_eq!(finished("musl", &ran).len(), platforms.len());
    for platform in platforms {
        let text = run(&project, "hello", platform, ALPINE, &[]);
        assert!(text.contains("sqlite 45, asyncio 42, http /ping"), "{platform}: {text}");
        let inspection = check::inspect(&artifact(&project, "hello", platform)).expect("it was read before");
        let libc = inspection.elf().map(|elf| elf.libc.clone());
        assert!(matches!(libc, Some(Libc::Musl | Libc::Static)), "{libc:?}");
    }
}

#[test]
fn compilers_of_two_machines_share_a_storage() {
    let Some(storage) = needed("KILN_TEST_REDIS") else { return };
    let Some(project) = Project::example("hello").map(Project::apart) else { return };
    project.unoptimized("debian");
    // The server is reached by the machine's own network.
    let build = |storage: &str, arguments: &[&str]| {
        let storage = format!("cache.ccache.remote-storage={storage}");
        let settings = ["--set", &storage, "--set", "network.build-network=host"];
        let ran = project.build(&[settings.as_slice(), arguments].concat());
        finished("shared storage", &ran);
        let reports = ran.events_of("target-finished");
        let counts = reports.iter().map(|event| {
            let ccache = &event["report"]["ccache"];
            ["hits", "misses", "remote_hits", "remote_errors"].map(|name| ccache[name].as_u64().expect("a number"))
        });
        (counts.collect::<Vec<_>>(), ran)
    };
    // Empty caches, as another machine would have.
    let on_a_machine = || build(&storage, &["--platform=linux/amd64,linux/arm64", "--no-cache-mounts"]).0;
    change(&project, "greeting.py", "the");
    for [hits, misses, remote, errors] in on_a_machine() {
        // The server may know the program of an earlier run.
        assert!(hits == remote && errors == 0, "{hits} hits, {misses} misses, {remote} remote, {errors} errors");
    }
    // The twin's compiler is another one than the native, and the storage is one for both.
    change(&project, "greeting.py", "another");
    for [hits, misses, remote, errors] in on_a_machine() {
        assert!(remote > 5 && misses <= 2 && errors == 0, "{hits} hits, {misses} misses, {remote}, {errors}");
    }
    for platform in [AMD64, ARM64] {
        let text = run(&project, "hello", platform, DEBIAN, &[]);
        assert!(text.contains("from another"), "{text}");
    }
    change(&project, "greeting.py", "a third");
    let (alone, ran) = build("redis://127.0.0.1:1", &["--platform=linux/amd64"]);
    let [[_, misses, remote, errors]] = alone[..] else { panic!("{alone:?}") };
    assert!(misses > 0 && remote == 0 && errors > 0, "{alone:?}");
    assert!(ran.stdout.contains("the storage that compiler caches share failed"), "{}", ran.stdout);
}
