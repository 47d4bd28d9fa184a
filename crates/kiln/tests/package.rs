//! `kiln package` as a user meets it, without a daemon: what is made, said and refused.

mod common;

use std::process::Command;

use common::{Project, Ran};
use serde_json::Value;

/// The head of a program for x86_64 that needs no C library: an ELF header and one segment that is loaded.
fn program() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    // Type, machine, version; entry, offsets of program and section headers; flags; sizes and counts.
    for (value, size) in [(2, 2), (62, 2), (1, 4), (0x40_0078, 8), (64, 8), (0, 8), (0, 4)] {
        bytes.extend_from_slice(&u64::to_le_bytes(value)[..size]);
    }
    for value in [64_u16, 56, 1, 64, 0, 0] {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    // PT_LOAD, read and execute; then a stack that is not executable.
    bytes.extend_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    for value in [0_u64, 0x40_0000, 0x40_0000, 0x1000, 0x1000, 0x1000] {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes.resize(4096, 0);
    bytes
}

const SETTINGS: &str = "[project]\nname = \"hello\"\nentry = \"main.py\"\n[build]\nplatforms = [\"linux/amd64\"]\n\
    [release]\nsummary = \"says hello\"\nlicense = \"MIT\"\nmaintainer = \"Me <me@example.org>\"\n";

fn project(settings: &str) -> Project {
    let project =
        Project::new(&[("main.py", ""), ("kiln.toml", settings), ("LICENSE", "MIT\n"), ("README.md", "# hello\n")]);
    let folder = project.path("dist");
    fs_err::create_dir_all(&folder).expect("a folder");
    fs_err::write(folder.join("hello-linux-x86_64"), program()).expect("a program");
    project
}

fn package(project: &Project, arguments: &[&str]) -> Ran {
    project.kiln_with(&[&["package"], arguments].concat(), &[("SOURCE_DATE_EPOCH", "1700000000")])
}

fn listed(project: &Project, folder: &str) -> Vec<String> {
    let entries = fs_err::read_dir(project.path(folder)).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn all_formats_lie_beside_the_program_with_their_sums() {
    let project = project(SETTINGS);
    let ran = package(&project, &["--format", "all", "--version", "1.2.3", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected = [
        "SHA256SUMS",
        "hello-1.2.3-1.x86_64.rpm",
        "hello-1.2.3-linux-x86_64.tar.gz",
        "hello-1.2.3-linux-x86_64.tar.xz",
        "hello-1.2.3-linux-x86_64.tar.zst",
        "hello-1.2.3-linux-x86_64.zip",
        "hello-1.2.3.intoto.jsonl",
        "hello-linux-x86_64",
        "hello-linux-x86_64.cdx.json",
        "hello-linux-x86_64.spdx.json",
        "hello_1.2.3-1_amd64.deb",
        "hello_1.2.3-r0_x86_64.apk",
        "install.sh",
    ];
    assert_eq!(listed(&project, "dist"), expected);
    let made: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let made = made.as_array().expect("a list");
    assert_eq!(made.len(), 7);
    assert_eq!((&made[4]["platform"], &made[4]["format"]), (&"linux/amd64".into(), &"deb".into()));
    assert_eq!(made[4]["program"], "dist/hello-linux-x86_64");
    let sums = project.read("dist/SHA256SUMS");
    for one in made {
        let line = format!("{}  {}\n", one["sha256"].as_str().expect("a sum"), one["file"].as_str().expect("a name"));
        assert!(sums.contains(&line), "{line}{sums}");
    }
    assert!(sums.ends_with("  install.sh\n") && !sums.contains("staging"), "{sums}");
    // The screen is that of a narrow terminal.
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines[0], "note: install.sh knows no address to download from: set `download-url` in [release]");
    assert!(lines.iter().any(|line| line.starts_with("platform     format   file")), "{}", ran.stderr);
    assert!(ran.stderr.contains("note: the bill of materials of hello-linux-x86_64 is nearly empty"), "{}", ran.stderr);
    assert!(lines[1..].iter().all(|line| line.chars().count() <= 80), "{}", ran.stderr);
    assert_eq!(lines[lines.len() - 1], "in dist, with their sums in SHA256SUMS");
    // A second run, with something new in the folder's sums: the same bytes.
    assert_eq!(package(&project, &["--format", "all", "--version", "1.2.3"]).code, 0);
    assert_eq!(project.read("dist/SHA256SUMS"), sums);
    // A signature is of these sums, and not of others.
    project.write("dist/SHA256SUMS.minisig", "a signature");
    assert_eq!(package(&project, &["--format", "all", "--version", "1.2.3"]).code, 0);
    assert!(project.path("dist/SHA256SUMS.minisig").is_file());
    // What is left of an older version is told, and stays; the list is one of the new version.
    let next = package(&project, &["--format", "deb", "--version", "1.2.4"]);
    let note = "note: of other versions, and no longer listed in SHA256SUMS: hello-1.2.3-1.x86_64.rpm,";
    let told = next.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains(note), "{}", next.stderr);
    assert!(project.path("dist/hello_1.2.3-1_amd64.deb").is_file());
    assert!(told.contains("SHA256SUMS.minisig was of earlier sums and is removed"), "{}", next.stderr);
    assert!(!project.path("dist/SHA256SUMS.minisig").exists());
    let sums = project.read("dist/SHA256SUMS");
    assert!(!sums.contains("1.2.3") && sums.contains("hello_1.2.4-1_amd64.deb"), "{sums}");
    assert!(sums.contains("  hello-linux-x86_64.cdx.json\n"), "{sums}");
}

#[test]
fn the_version_is_the_tag_of_the_commit_if_nothing_else_says_it() {
    let project = project(SETTINGS);
    let none = package(&project, &[]);
    assert_eq!(none.code, 3, "{}", none.stderr);
    assert!(none.stderr.contains("the version is not known: neither kiln.toml nor"), "{}", none.stderr);
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(project.path("")).args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments);
        command.env("GIT_COMMITTER_DATE", "1600000000 +0000").env("GIT_CONFIG_GLOBAL", "/dev/null");
        assert!(command.output().expect("git runs").status.success(), "{arguments:?}");
    };
    git(&["init", "-q"]);
    let first = package(&project, &["--version", "0.1", "--format", "tar.gz"]);
    assert_eq!(first.code, 0, "there is no commit yet: {}", first.stderr);
    git(&["add", "main.py"]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["tag", "other"]);
    git(&["tag", "v0.9rc1"]);
    git(&["tag", "v0.9"]);
    git(&["remote", "add", "origin", "git@github.com:me/hello.git"]);
    // And the time is that of the commit.
    let ran = project.kiln(&["package", "--format", "tar.gz"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let tar = Command::new("tar")
        .args(["--full-time", "-tvzf"])
        .arg(project.path("dist/hello-0.9-linux-x86_64.tar.gz"))
        .env("TZ", "UTC")
        .output()
        .expect("tar runs");
    let text = String::from_utf8_lossy(&tar.stdout).into_owned();
    assert!(
        !text.is_empty() && text.lines().all(|line| line.contains("root/root") && line.contains("2020-09-13 12:26:40")),
        "{text}"
    );
    let script = project.read("dist/install.sh");
    assert!(script.contains("URL='https://github.com/me/hello/releases/download/v0.9'\n"), "{script}");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let wrong = |more: &str, arguments: &[&str], code: i32, expected: &str| {
        let project = project(&format!("{SETTINGS}{more}"));
        let ran = package(&project, &[&["--version", "1.0"], arguments].concat());
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{expected}\n{}", ran.stderr);
        assert_eq!(listed(&project, "dist"), ["hello-linux-x86_64"]);
    };
    wrong("man = [\"x.1\"]\n", &[], 3, "kiln.toml:10:7: `x.1` of `release.man` does not exist");
    wrong("name = \"-x\"\n", &[], 3, "kiln.toml:10:8: `release.name` cannot be \"-x\"");
    wrong("name = \"x\"\n", &[], 3, "kiln.toml:10:8: `x` is no name for deb packages: it has two characters at least");
    wrong(
        "man = [\"README.md\"]\n",
        &["--format", "deb"],
        3,
        "kiln.toml:10:7: `README.md` of `release.man`: a page of",
    );
    wrong("completions = [\"README.md\"]\n", &[], 3, "kiln.toml:10:15: `README.md` of `release.completions`: its name");
    wrong(
        "files = [\"README.md=/usr/bin/hello\"]\n",
        &["--format", "deb"],
        3,
        "two files would lie at `usr/bin/hello`",
    );
    wrong("files = [\"README.md=../x\"]\n", &[], 3, "DST is a path without `..`");
    wrong("", &["--format", "msi"], 3, "allowed: a list of \"tar.gz\", \"tar.xz\"");
    wrong("", &["--format", "tar.g"], 3, "did you mean \"tar.gz\"?");
    wrong("", &["--platform", "linux/arm64"], 3, "dist/hello-linux-arm64 (linux/arm64)");
    wrong("apk-key = \"LICENSE\"\n", &[], 3, "kiln.toml:10:11: the key for apk files cannot be used");
    wrong("apk-key = \"env:NO_SUCH\"\n", &[], 3, "NO_SUCH is not set");
    wrong("", &["--set", "release.summary=two\nlines"], 3, "`release.summary` may not have several lines");
}

#[test]
fn a_folder_stands_for_its_files() {
    let project = project(SETTINGS);
    for (path, text) in
        [("pages/b.5", "two"), ("pages/a.1", "one"), ("shells/hello.bash", "b"), ("shells/hello.fish", "f")]
    {
        let path = project.path(path);
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs_err::write(path, text).expect("written");
    }
    let lists = ["--set", "release.man=pages/", "--set", "release.completions=shells"];
    let ran = package(&project, &[&["--version", "1.0", "--format", "tar.gz"][..], &lists].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let packed = fs_err::File::open(project.path("dist/hello-1.0-linux-x86_64.tar.gz")).expect("there");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let paths = archive
        .entries()
        .expect("an archive")
        .map(|entry| entry.expect("whole").path().expect("a path").display().to_string());
    let names = ["completions/hello.bash", "completions/hello.fish", "man/a.1", "man/b.5"];
    let found: Vec<String> = paths.filter(|path| names.iter().any(|name| path.ends_with(name))).collect();
    assert_eq!(found.len(), names.len(), "{found:?}");
}

#[test]
fn a_program_for_another_machine_is_refused() {
    let project = project(SETTINGS);
    let mut bytes = program();
    bytes[18] = 183;
    fs_err::write(project.path("dist/hello-linux-x86_64"), bytes).expect("written");
    let ran = package(&project, &["--version", "1.0"]);
    assert_eq!(ran.code, 6, "{}", ran.stderr);
    assert!(ran.stderr.contains("is for aarch64, not for linux/amd64"), "{}", ran.stderr);
    assert_eq!(listed(&project, "dist"), ["hello-linux-x86_64"]);
}
