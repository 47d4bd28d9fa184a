//! `kiln verify`: programs and packages of three platforms, made by their own images, examined and run in clean ones.

use std::io::Write;

use kiln_artifact::checksum::Sha256;
use kiln_e2e::{Project, Ran, Running};
use rustix::process::Signal;
use serde_json::Value;

use super::THREE;

/// Debian's `env` is a small program for glibc, Alpine's `busybox` one for musl; each in a package of its distribution.
const FILES: &str = r#"
FROM debian:bookworm AS glibc
RUN mkdir -p /p/DEBIAN /p/usr/bin && cp /usr/bin/env /p/usr/bin/kiln-hello \
 && printf 'Package: kiln-hello\nVersion: 1.0\nArchitecture: %s\nMaintainer: x <x@example.org>\nDepends: libc6\nDescription: x\n' \
    "$(dpkg --print-architecture)" > /p/DEBIAN/control && dpkg-deb -b /p /kiln-hello.deb
FROM alpine:3.20 AS musl
RUN sha1sum /bin/busybox | cut -d' ' -f1 > /sha1 && apk --print-arch > /arch
FROM scratch
COPY --from=glibc /usr/bin/env /kiln-hello.deb /
COPY --from=musl /bin/busybox /sha1 /arch /
"#;

const PLATFORMS: [&str; 3] = ["linux_amd64", "linux_386", "linux_arm64"];

fn files(platforms: &str) -> Option<Project> {
    let project = Project::new(&[("Dockerfile", FILES)])?;
    project.build(&["-f", "Dockerfile", "-o", "out", platforms, "."]);
    for folder in PLATFORMS.iter().map(|platform| format!("out/{platform}")).chain(["out".to_owned()]) {
        if project.path().join(&folder).join("sha1").is_file() {
            let package = apk(&project, &folder);
            std::fs::write(project.path().join(&folder).join("busybox-hello.apk"), package).expect("a file");
        }
    }
    Some(project)
}

/// A package of Alpine with busybox under a name that no other package has. Source: apk-package(5).
fn apk(project: &Project, folder: &str) -> Vec<u8> {
    let text = |name: &str| project.read(&format!("{folder}/{name}")).trim().to_owned();
    let program = std::fs::read(project.path().join(folder).join("busybox")).expect("the program");
    let mut data = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    for name in ["usr", "usr/bin"] {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        data.append_data(&mut header, name, std::io::empty()).expect("in memory");
    }
    // Its length, which is part of it, has two digits. apk wants a name for it, which the library would not write.
    let record = format!("APK-TOOLS.checksum.SHA1={}\n", text("sha1"));
    let record = format!("{} {record}", record.len() + 3);
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(record.len() as u64);
    data.append_data(&mut header, "PaxHeader", record.as_bytes()).expect("in memory");
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(program.len() as u64);
    data.append_data(&mut header, "usr/bin/busybox-hello", program.as_slice()).expect("in memory");
    let data = gzip(&data.into_inner().expect("in memory"));
    let info = format!(
        "pkgname = busybox-hello\npkgver = 1.0-r0\npkgdesc = x\nurl = http://x\nsize = 1\narch = {}\n\
         license = MIT\ndatahash = {}\n",
        text("arch"),
        Sha256::of(&data)
    );
    let mut control = tar::Builder::new(Vec::new());
    header.set_mode(0o644);
    header.set_size(info.len() as u64);
    control.append_data(&mut header, ".PKGINFO", info.as_bytes()).expect("in memory");
    let mut control = control.into_inner().expect("in memory");
    // The parts are read as one archive, so all but the last have no end.
    control.truncate(control.len() - 1024);
    [gzip(&control), data].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).and_then(|()| out.finish()).expect("in memory")
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
        for at in &places {
            bytes[*at..*at + to.len()].copy_from_slice(to);
        }
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

/// A program for arm64 whose first instruction is none. Source: elf(5).
fn crashing() -> Vec<u8> {
    let half = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let wide = |values: &[u64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let (header, entry, size, base) = (64, 56, 4, 0x40_0000);
    let program = [
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        // An executable for AArch64, version 1.
        half(&[2, 183, 1, 0]),
        wide(&[base + header + entry, header, 0]),
        half(&[0, 0, 64, 56, 1, 64, 0, 0]),
        // All of it is loaded, to be read and executed.
        half(&[1, 0, 5, 0]),
        wide(&[0, base, base, header + entry + size, header + entry + size, 0x1_0000]),
        vec![0; 4],
    ];
    program.concat()
}

#[test]
fn a_program_that_crashes_under_emulation_is_told() {
    let Some(project) = Project::new(&[]) else { return };
    let path = project.path().join("crash-linux-arm64");
    std::fs::write(&path, crashing()).expect("a file");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let ran = project.kiln(&["verify", "--run-on", "alpine:3.20", "crash-linux-arm64"]);
    assert!(ran.code == Some(6) && ran.stdout.contains("(SIGILL)"), "{} {}", ran.stdout, ran.stderr);
}
