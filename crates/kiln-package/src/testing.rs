//! What the tests share: a release with something of everything, and a program.

use std::path::Path;

use kiln_artifact::elf::GlibcVersion;
use kiln_graph::{Arch, Platform};

use crate::release::{Completion, Depends, Document, DocumentKind, Named, Program, Release, Shape, Shell};
use crate::{LibcKind, Need, Placed};

pub(crate) fn release() -> Release {
    let named = |name: &str| Named { name: name.to_owned(), bytes: format!("{name}\n").into_bytes() };
    let document = |name: &str| Document {
        kind: DocumentKind::of(name),
        name: name.to_owned(),
        bytes: format!("{name}\n").into_bytes(),
    };
    Release {
        name: "hello".to_owned(),
        command: "hello".to_owned(),
        version: "1.2.3rc1".parse().unwrap(),
        summary: "says hello".to_owned(),
        description: "It says hello.\n\nAnd more.".to_owned(),
        license: Some("MIT".to_owned()),
        homepage: Some("https://example.org/hello".to_owned()),
        maintainer: Some("Somebody <somebody@example.org>".to_owned()),
        vendor: None,
        section: "utils".to_owned(),
        depends: Depends { deb: vec!["ca-certificates".to_owned()], ..Depends::default() },
        documents: ["LICENSE", "README.md", "CHANGELOG.md"].map(document).to_vec(),
        completions: vec![Completion { shell: Shell::Bash, bytes: b"complete\n".to_vec() }],
        man: vec![named("hello.1")],
        systemd: vec![named("hello.service")],
        openrc: vec![named("hello")],
        config_files: Vec::new(),
        files: Vec::new(),
        time: 1_700_000_000,
        apk_key: None,
    }
}

/// A program of one file that lies in `folder`, and a file with settings.
pub(crate) fn program(folder: &Path, libc: LibcKind) -> (Program, Placed) {
    let (source, settings) = (folder.join("hello"), folder.join("hello.conf"));
    std::fs::write(&source, [b"\x7fELF".as_slice(), &[7; 5000]].concat()).unwrap();
    std::fs::write(&settings, "a = 1\n").unwrap();
    let need = Need { libc, symbols: [].into(), libraries: Vec::new() };
    let program = Program { platform: Platform::linux(Arch::Arm64), source, shape: Shape::File, need };
    (program, Placed { target: "/etc/hello.conf".to_owned(), source: settings, executable: false })
}

pub(crate) fn glibc() -> LibcKind {
    LibcKind::Glibc { floor: Some(GlibcVersion::new(2, 34)) }
}
