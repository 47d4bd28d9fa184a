//! `kiln verify`: programs and packages of three platforms, made by their own images, examined and run in clean ones.

use kiln_e2e::{Project, Ran, Running};
use rustix::process::Signal;
use serde_json::Value;

use super::{THREE, fresh};

/// Debian's `env` is a small program for glibc, Alpine's `busybox` one for musl; each in a package of its distribution.
const FILES: &str = r#"
FROM debian:bookworm AS glibc
RUN mkdir -p /p/DEBIAN /p/usr/bin && cp /usr/bin/env /p/usr/bin/kiln-hello \
 && printf 'Package: kiln-hello\nVersion: 1.0\nArchitecture: %s\nMaintainer: x <x@example.org>\nDepends: libc6\nDescription: x\n' \
    "$(dpkg --print-architecture)" > /p/DEBIAN/control && dpkg-deb -b /p /kiln-hello.deb
FROM alpine:3.20 AS musl
RUN mkdir -p /d/usr/bin && cp /bin/busybox /d/usr/bin/busybox-hello && cd /d && tar -c usr | gzip > /data.tar.gz \
 && sum=$(sha256sum /data.tar.gz | cut -d' ' -f1) && cd / \
 && printf 'pkgname = busybox-hello\npkgver = 1.0-r0\npkgdesc = x\nurl = http://x\nsize = 1\narch = %s\nlicense = MIT\ndatahash = %s\n' \
    "$(apk --print-arch)" "$sum" > .PKGINFO \
 && tar -c .PKGINFO | head -c 1024 | gzip > /control.tar.gz && cat /control.tar.gz /data.tar.gz > /busybox-hello.apk
FROM scratch
COPY --from=glibc /usr/bin/env /kiln-hello.deb /
COPY --from=musl /bin/busybox /busybox-hello.apk /
"#;

const PLATFORMS: [&str; 3] = ["linux_amd64", "linux_386", "linux_arm64"];

fn files(platforms: &str) -> Option<Project> {
    let project = Project::new(&[("Dockerfile", FILES)])?;
    project.build(&["-f", "Dockerfile", "-o", "out", platforms, "."]);
    Some(project)
}

/// `kiln verify --json`, and nothing left of it.
fn verify(project: &Project, arguments: &[&str]) -> (Ran, Value) {
    let ran = project.kiln(&[&["verify", "--json"], arguments].concat());
    project.daemon().assert_nothing_left(ran.pid);
    let facts = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr));
    (ran, facts)
}

/// Image and status of each run of the artifact of this index.
fn runs(facts: &Value, artifact: usize) -> Vec<(String, String)> {
    let runs = facts["artifacts"][artifact]["runs"].as_array().expect("a list");
    let text = |run: &Value, name: &str| run[name].as_str().unwrap_or_default().to_owned();
    runs.iter().map(|run| (text(run, "image"), text(run, "status"))).collect()
}

fn detail(facts: &Value, artifact: usize, run: usize) -> String {
    facts["artifacts"][artifact]["runs"][run]["detail"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn programs_run_where_their_c_library_is_on_each_platform() {
    let Some(project) = files(THREE) else { return };
    for platform in PLATFORMS {
        let (env, busybox) = (format!("out/{platform}/env"), format!("out/{platform}/busybox"));
        let (ran, facts) = verify(&project, &[&env, &busybox, "--run-on", "debian:bookworm,alpine:3.20"]);
        assert_eq!(ran.code, Some(0), "{platform}: {facts:#}\n{}", ran.stderr);
        let pair = |first: &str, second: &str| {
            vec![("debian:bookworm".to_owned(), first.to_owned()), ("alpine:3.20".to_owned(), second.to_owned())]
        };
        assert_eq!(runs(&facts, 0), pair("ok", "other-libc"), "{platform}: {facts:#}");
        assert_eq!(runs(&facts, 1), pair("other-libc", "ok"), "{platform}: {facts:#}");
        assert!(detail(&facts, 0, 0).contains("coreutils"), "{}", detail(&facts, 0, 0));
        assert!(detail(&facts, 0, 1).contains("made for glibc"), "{}", detail(&facts, 0, 1));
        assert!(detail(&facts, 1, 0).contains("made for musl"), "{}", detail(&facts, 1, 0));
        assert_eq!(facts["artifacts"][0]["platform"], platform.replace('_', "/"));
    }
}

#[test]
fn packages_are_installed_run_and_removed_on_each_platform() {
    let Some(project) = files(THREE) else { return };
    for platform in PLATFORMS {
        let (deb, apk) = (format!("out/{platform}/kiln-hello.deb"), format!("out/{platform}/busybox-hello.apk"));
        let (ran, facts) = verify(&project, &[&deb, &apk, "--run-on", "debian:bookworm,alpine:3.20"]);
        assert_eq!(ran.code, Some(0), "{platform}: {facts:#}\n{}", ran.stderr);
        assert!(detail(&facts, 0, 0).starts_with("installed with dpkg, ran, and was removed: "), "{facts:#}");
        assert!(detail(&facts, 1, 1).starts_with("installed with apk, ran, and was removed: "), "{facts:#}");
        assert!(detail(&facts, 0, 1).contains("made for glibc"), "{facts:#}");
        assert_eq!(facts["artifacts"][0]["kind"], "deb");
        assert_eq!(facts["artifacts"][1]["package"]["name"], "busybox-hello");
    }
}

#[test]
fn a_glibc_that_is_too_old_is_named_and_so_is_a_missing_library() {
    let Some(project) = files("--platform=linux/amd64") else { return };
    let bytes = std::fs::read(project.path().join("out/env")).expect("the program");
    let changed = |from: &[u8], to: &[u8], name: &str| {
        let mut bytes = bytes.clone();
        let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
        assert!(!places.is_empty(), "{name}: it is another program than this test knows");
        places.iter().for_each(|at| bytes[*at..*at + to.len()].copy_from_slice(to));
        std::fs::write(project.path().join(name), bytes).expect("a file");
        let path = project.path().join(name);
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    };
    changed(b"GLIBC_2.34", b"GLIBC_2.94", "too-new");
    changed(b"libc.so.6", b"libq.so.6", "lacking");
    let (ran, facts) = verify(&project, &["too-new", "--run-on", "debian:bookworm", "--glibc-max", "2.36"]);
    assert_eq!(ran.code, Some(6), "{}", ran.stderr);
    assert_eq!(detail(&facts, 0, 0), "needs glibc 2.94, the image has 2.36", "{facts:#}");
    assert_eq!(facts["artifacts"][0]["findings"][0]["check"], "glibc", "{facts:#}");
    let (ran, facts) = verify(&project, &["lacking", "--run-on", "debian:bookworm"]);
    assert_eq!(ran.code, Some(6), "{}", ran.stderr);
    assert_eq!(detail(&facts, 0, 0), "needs libq.so.6, which the image does not have", "{facts:#}");
    assert_eq!(facts["artifacts"][0]["findings"][0]["check"], "library", "{facts:#}");
}

#[test]
fn an_image_that_cannot_be_had_is_a_row_of_its_own() {
    let Some(project) = files("--platform=linux/amd64") else { return };
    let gone = "127.0.0.1:1/nosuch:1";
    let (ran, facts) = verify(&project, &["out/env", "--run-on", gone]);
    assert_eq!(ran.code, Some(4), "{facts:#}");
    assert_eq!(runs(&facts, 0), [(gone.to_owned(), "untried".to_owned())]);
    let (ran, _) = verify(&project, &["out/env", "--run-on", gone, "--run-on", "debian:bookworm"]);
    assert_eq!(ran.code, Some(8), "{}", ran.stderr);
}

#[test]
fn a_stopped_run_leaves_nothing() {
    let Some(project) = files("--platform=linux/amd64") else { return };
    project.write("kiln.toml", "[verify]\nrun = \"sleep 300\"\n");
    let arguments = ["verify", "out/env", "--run-on", "debian:bookworm"];
    let running = Running::start(project.command(&arguments));
    project.daemon().wait_for_container(running.pid());
    running.signal(Signal::INT);
    let ran = running.wait();
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    project.daemon().assert_nothing_left(ran.pid);
    let prefix = format!("kiln-{}-", ran.pid);
    let left: Vec<_> = std::fs::read_dir(std::env::temp_dir())
        .expect("a folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_build_that_needs_a_newer_glibc_than_allowed_fails() {
    let text = format!(
        "{}FROM debian:bookworm AS glibc\nFROM scratch\nCOPY --from=glibc /usr/bin/env /hello-linux-x86_64\n",
        fresh("")
    );
    let settings = "[project]\nname = \"hello\"\nentry = \"main.py\"\n[build]\nrecipe = \"./Bake.Dockerfile\"\n\
        platforms = [\"linux/amd64\"]\n[verify]\nglibc-max = \"2.17\"\n";
    let files = [("Bake.Dockerfile", text.as_str()), ("kiln.toml", settings), ("main.py", "print(1)\n")];
    let Some(project) = Project::new(&files) else { return };
    let ran = project.kiln(&["build"]);
    assert_eq!(ran.code, Some(6), "{}", ran.stderr);
    assert!(ran.stderr.contains("newer than the 2.17 that is allowed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("build on an older base image"), "{}", ran.stderr);
    assert_eq!(project.list("dist"), [""; 0], "nothing is placed");
    let ran = project.kiln(&["build", "--set", "verify.glibc-max=2.36"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (ran, facts) = verify(&project, &["dist", "--set", "verify.glibc-max=2.36"]);
    assert_eq!((ran.code, &facts["passed"]), (Some(0), &Value::Bool(true)), "{facts:#}");
}
