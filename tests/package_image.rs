//! Images of finished programs: they run on every platform as somebody who is not root, and are the same twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::time::Duration;

use kiln_docker::PullPolicy;
use kiln_e2e::{Project, Ran, Running, needed};
use kiln_graph::{Arch, Platform};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A program of Alpine's, which needs musl.
const MUSL: &str = "FROM alpine:3.20 AS base\nFROM scratch\nCOPY --from=base /bin/busybox /\n";
/// A program of Debian's, which needs glibc.
const GLIBC: &str = "FROM debian:bookworm AS base\nFROM scratch\nCOPY --from=base /usr/bin/id /\n";
/// A program of Debian's that needs nothing.
const STATIC: &str = "FROM debian:bookworm AS base\nFROM scratch\nCOPY --from=base /sbin/ldconfig /\n";
/// A moment in 2001.
const EPOCH: &str = "1000000000";

const PLATFORMS: [Arch; 3] = [Arch::Amd64, Arch::I386, Arch::Arm64];

/// A project whose programs have been built.
fn project(name: &str, dockerfile: &str, image: &str) -> Option<Project> {
    let settings = format!(
        "[project]\nname = \"{name}\"\nversion = \"1.2.3\"\n[build]\nrecipe = \"Dockerfile\"\n\
         platforms = [\"linux/amd64\", \"linux/386\", \"linux/arm64\"]\nartifact = \"{{platform}}/{name}\"\n\
         [release.image]\n{image}\n"
    );
    let project = Project::new(&[("kiln.toml", &settings), ("Dockerfile", dockerfile), ("LICENSE", "free\n")])?;
    project.build(&[]);
    Some(project)
}

fn package(project: &Project, arguments: &[&str]) -> Ran {
    let mut command = project.command(&[&["package", "--format=image", "--progress=json"], arguments].concat());
    command.env("SOURCE_DATE_EPOCH", EPOCH);
    Running::start(command).wait()
}

fn good(project: &Project, arguments: &[&str]) -> Ran {
    let ran = package(project, arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    project.daemon().assert_nothing_left(ran.pid);
    assert!(!ran.steps_run().iter().any(|step| step.starts_with("RUN")), "{:?}", ran.steps_run());
    ran
}

/// Hexadecimal digits of a digest.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// The files of an archive, by path.
fn unpacked(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("whole");
        files.insert(entry.path().expect("a path").display().to_string(), bytes);
    }
    files
}

#[test]
fn an_index_is_pushed_and_runs_on_each_platform_for_nobody_in_particular() {
    let Some(host) = needed("KILN_TEST_REGISTRY") else { return };
    let image = "base = \"alpine:3.20\"\nports = [\"8080\"]\nfiles = [\"LICENSE=usr/share/licenses/busybox\"]\n\
                 labels = [\"org.opencontainers.image.licenses=MIT\"]";
    let Some(project) = project("busybox", MUSL, image) else { return };
    let name = format!("{host}/kiln-e2e/package-{}:1.2.3", std::process::id());
    let pattern = name.replace("1.2.3", "{version}");
    good(&project, &["--push", "--tag", &pattern]);
    let daemon = project.daemon();
    for platform in PLATFORMS.map(Platform::linux) {
        let script = "id -u; id -g; pwd; cat /usr/share/licenses/busybox; echo x > ~/a; echo x > /tmp/a; cp /bin/busybox /tmp; \
                      /tmp/busybox uname -m; test -w /usr/local/bin/busybox || echo safe";
        let arguments = ["sh", "-c", script];
        let (code, text) = daemon.run_image(&name, platform, PullPolicy::Always, &arguments);
        let machine = if platform.arch == Arch::I386 { "" } else { platform.arch.machine() };
        assert_eq!(code, 0, "{platform}: {text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..4], ["65532", "65532", "/home/nonroot", "free"], "{platform}");
        // The kernel answers for itself, unless it is asked to pretend.
        assert!(machine.is_empty() || lines[4] == machine, "{platform}: {text}");
        assert_eq!(lines[5], "safe");
    }
    let image = daemon.image(&daemon.pull(&name, Platform::linux(Arch::Amd64)).0).expect("it was pulled");
    assert_eq!(image.config.entrypoint, Some(vec!["/usr/local/bin/busybox".to_owned()]));
    let label = |label: &str| image.labels.get(&format!("org.opencontainers.image.{label}")).map(String::as_str);
    assert_eq!((label("title"), label("version"), label("licenses")), (Some("busybox"), Some("1.2.3"), Some("MIT")));
    assert_eq!(label("created"), Some("2001-09-09T01:46:40Z"));
    assert_eq!(image.config.exposed_ports, ["8080/tcp"]);
    assert!(!image.labels.keys().any(|label| label.starts_with("kiln.")));
}

#[test]
fn a_layout_is_whole_and_the_same_twice() {
    let image = "base = \"alpine:3.20\"\nuser = \"1000\"\nworkdir = \"/data\"";
    let make = |wait: bool| {
        let project = project("busybox", MUSL, image)?;
        if wait {
            // Files of a second build are newer.
            std::thread::sleep(Duration::from_millis(1100));
        }
        good(&project, &["--image", "image.tar", "--image", "layout/"]);
        let listed = project.list("layout/blobs/sha256");
        Some((std::fs::read(project.path().join("image.tar")).expect("written"), listed, project))
    };
    let Some((bytes, listed, first)) = make(false) else { return };
    let files = unpacked(&bytes);
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
        let bytes = files.get(&format!("blobs/sha256/{digest}")).expect("it is there");
        assert_eq!((sha256(bytes).as_str(), Some(bytes.len() as u64)), (digest, descriptor["size"].as_u64()));
        bytes
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    let roots = json(&files["index.json"]);
    let index = json(blob(&roots["manifests"][0]));
    let manifests = index["manifests"].as_array().expect("a list");
    let platforms: Vec<_> = manifests.iter().map(|manifest| manifest["platform"]["architecture"].clone()).collect();
    assert_eq!(platforms, ["amd64", "386", "arm64"]);
    assert_eq!(index["annotations"]["org.opencontainers.image.version"], "1.2.3");
    for manifest in manifests {
        let manifest = json(blob(manifest));
        let config = json(blob(&manifest["config"]));
        assert_eq!(config["created"], "2001-09-09T01:46:40Z");
        assert_eq!(config["config"]["User"], "1000");
        let layers = manifest["layers"].as_array().expect("a list");
        let diffs = config["rootfs"]["diff_ids"].as_array().expect("a list");
        assert_eq!(layers.len(), diffs.len());
        let mut top = Vec::new();
        for (layer, diff) in layers.iter().zip(diffs) {
            top.clear();
            flate2::read::GzDecoder::new(blob(layer).as_slice()).read_to_end(&mut top).expect("gzip");
            assert_eq!(diff.as_str(), Some(format!("sha256:{}", sha256(&top)).as_str()));
        }
        let mut owners = BTreeMap::new();
        for entry in tar::Archive::new(top.as_slice()).entries().expect("entries") {
            let entry = entry.expect("an entry");
            let header = entry.header();
            assert!(header.mtime().expect("a time") <= 1_000_000_000, "{:?}", entry.path());
            owners.insert(entry.path().expect("a path").display().to_string(), header.uid().expect("an owner"));
        }
        assert_eq!((owners["usr/local/bin/busybox"], owners["home/nonroot/"], owners["data/"]), (0, 1000, 1000));
    }
    assert_eq!(
        listed.len(),
        files.keys().filter(|path| path.starts_with("blobs/sha256/") && !path.ends_with('/')).count()
    );
    drop(first);
    let (again, ..) = make(true).expect("as before");
    assert!(bytes == again, "the archives differ");
}

#[test]
fn a_static_program_stands_on_nothing_and_can_be_loaded() {
    let Some(project) = project("ldconfig", STATIC, "user = \"app\"") else { return };
    let name = format!("kiln-e2e-package-{}:1", std::process::id());
    good(&project, &["--platform=linux/amd64", "--load", "--tag", &name]);
    let daemon = project.daemon();
    let own = Platform::linux(Arch::Amd64);
    // What it writes shows that /tmp is there for everybody.
    let (code, text) = daemon.run_image(&name, own, PullPolicy::Never, &["-C", "/tmp/cache", "-f", "/dev/null"]);
    assert_eq!((code, text.as_str()), (0, ""));
    let image = daemon.image(&name).expect("it is on the daemon");
    assert_eq!((image.config.user.as_str(), image.config.env_value("HOME")), ("app", Some("/home/app")));
    let files = unpacked(&daemon.files(&image.id.0, own));
    let text = |path: &str| String::from_utf8_lossy(&files[path]).into_owned();
    assert_eq!(text("etc/passwd"), "root:x:0:0:root:/root:/sbin/nologin\napp:x:65532:65532::/home/app:/sbin/nologin\n");
    // Again: the same image, and it is not loaded again.
    good(&project, &["--platform=linux/amd64", "--load", "--tag", &name]);
    assert_eq!(daemon.image(&name).map(|again| again.id), Some(image.id));
    daemon.remove_image(&name);
}

#[test]
fn a_program_that_needs_glibc_runs_on_debian() {
    let Some(project) = project("id", GLIBC, "base = \"debian:bookworm\"\nuser = \"nobody\"") else { return };
    let daemon = project.daemon();
    for platform in PLATFORMS.map(Platform::linux) {
        let name = format!("kiln-e2e-package-{}-{}:1", platform.folder(), std::process::id());
        good(&project, &[&format!("--platform={platform}"), "--load", "--tag", &name]);
        assert_eq!(daemon.run_image(&name, platform, PullPolicy::Never, &["-nu"]), (0, "nobody\n".to_owned()));
        daemon.remove_image(&name);
    }
}

#[test]
fn programs_that_could_not_start_are_refused() {
    let Some(project) = project("id", GLIBC, "base = \"alpine:3.20\"") else { return };
    let refused = |arguments: &[&str], words: &[&str], code| {
        let ran = package(&project, arguments);
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
        project.daemon().assert_nothing_left(ran.pid);
    };
    let loader = "cannot start on alpine:3.20: it needs glibc, and the image has no /lib64/ld-linux-x86-64.so.2";
    refused(&["--platform=linux/amd64"], &[loader, "hint: name an image with glibc, such as debian"], 3);
    refused(&["--set=release.image.base=scratch"], &["cannot start on scratch: it needs glibc >= 2."], 3);
    refused(&["--push"], &["nothing says where the image is to be pushed", "[release.image]"], 3);
    refused(&["--platform=linux/arm/v7"], &["this program is not there", "(linux/arm/v7)", "kiln build"], 3);
    std::fs::copy(project.path().join("dist/linux_arm64/id"), project.path().join("dist/linux_amd64/id"))
        .expect("copied");
    refused(&["--platform=linux/amd64"], &["is not a good artifact for linux/amd64"], 6);
}
