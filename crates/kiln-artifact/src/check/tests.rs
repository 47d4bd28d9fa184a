use std::os::unix::fs::PermissionsExt;

use kiln_graph::Arch;

use super::*;
use crate::elf::testing::TinyElf;
use crate::payload::testing::TinyPayload;

const AMD64: Platform = Platform::linux(Arch::Amd64);

fn write(path: &Path, bytes: &[u8], mode: u32) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, bytes).unwrap();
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn inspect_bytes(bytes: &[u8], mode: u32) -> Inspection {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hello");
    write(&path, bytes, mode);
    inspect(&path).unwrap()
}

fn onefile(program: &TinyElf, files: &[(&str, &[u8])]) -> Inspection {
    let mut bytes = program.build();
    bytes.extend(TinyPayload::NEW.build(files));
    inspect_bytes(&bytes, 0o755)
}

fn musl(arch: Arch) -> TinyElf {
    let interpreter = Some("/lib/ld-musl-x86_64.so.1");
    TinyElf { interpreter, needed: vec!["libc.musl-x86_64.so.1"], versions: vec![], ..TinyElf::program(arch) }
}

#[test]
fn a_good_program_is_fit_and_says_what_it_needs() {
    for (tiny, needs) in [
        (TinyElf::program(Arch::Amd64), "glibc >= 2.34"),
        (musl(Arch::Amd64), "musl loader (/lib/ld-musl-x86_64.so.1)"),
        (TinyElf::fixed(Arch::Amd64), "nothing (static)"),
        (
            TinyElf { needed: vec!["libz.so.1", "libc.so.6"], ..TinyElf::program(Arch::Amd64) },
            "glibc >= 2.34, libz.so.1",
        ),
    ] {
        let verdict = verify(&inspect_bytes(&tiny.build(), 0o755), AMD64, &Expectations::default());
        assert_eq!((verdict.problems, verdict.warnings), (vec![], vec![]));
        assert_eq!(verdict.needs.to_string(), needs);
    }
}

#[test]
fn each_way_of_being_unfit_has_its_problem() {
    let problems = |bytes: &[u8], mode| {
        let verdict = verify(&inspect_bytes(bytes, mode), AMD64, &Expectations::default());
        verdict.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let good = TinyElf::program(Arch::Amd64).build();
    assert_eq!(problems(b"#!/bin/sh\n", 0o755), ["`hello` is not an ELF file"]);
    assert_eq!(problems(&good, 0o644), ["`hello` is not executable"]);
    assert_eq!(problems(&good[..70], 0o755), ["`hello` cannot be read: malformed ELF file: program headers"]);
    let foreign = TinyElf::program(Arch::Arm64).build();
    assert_eq!(problems(&foreign, 0o755), ["`hello` is for aarch64, not for linux/amd64"]);
    let library = TinyElf::library(Arch::Amd64, "GLIBC_2.4").build();
    assert_eq!(problems(&library, 0o755), ["`hello` is not a program but a shared library"]);
    let mut x32 = TinyElf::program(Arch::I386).build();
    x32[18] = 62;
    assert_eq!(problems(&x32, 0o755), ["`hello` has 32 bits, which linux/amd64 does not run"]);
}

#[test]
fn the_payload_counts() {
    let main = TinyElf::program(Arch::Amd64).build();
    let newer = TinyElf::library(Arch::Amd64, "GLIBC_2.38").build();
    let inspection = onefile(&TinyElf::program(Arch::Amd64), &[("hello", &main), ("lib/x.so", &newer)]);
    let expectations = Expectations {
        payload: Some(true),
        glibc_max: Some(GlibcVersion::new(2, 36)),
        libc: Some(Family::Glibc),
        ..Expectations::default()
    };
    let verdict = verify(&inspection, AMD64, &expectations);
    assert_eq!(verdict.needs.to_string(), "glibc >= 2.38 (payload; bootstrap: glibc >= 2.34)");
    let problems: Vec<String> = verdict.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["`lib/x.so` needs glibc 2.38, newer than the 2.36 that is allowed"]);
}

#[test]
fn a_foreign_file_in_the_payload_is_a_problem_unless_allowed() {
    let main = TinyElf::program(Arch::Amd64).build();
    let foreign = TinyElf::library(Arch::I386, "GLIBC_2.4").build();
    let inspection = onefile(&TinyElf::program(Arch::Amd64), &[("hello", &main), ("debug/attach_x86.so", &foreign)]);
    let verdict = verify(&inspection, AMD64, &Expectations::default());
    assert_eq!(verdict.problems.len(), 1);
    assert_eq!(verdict.problems[0].to_string(), "`debug/attach_x86.so` inside is for i686, not for linux/amd64");
    for allowed in ["debug/attach_x86.so", "debug/"] {
        let expectations = Expectations { foreign_allowed: vec![allowed.into()], ..Expectations::default() };
        assert!(verify(&inspection, AMD64, &expectations).is_fit(), "{allowed}");
    }
}

#[test]
fn bootstrap_and_payload_may_differ_in_libc() {
    let (glibc, musl) = (TinyElf::program(Arch::Amd64), musl(Arch::Amd64));
    let inspection = onefile(&TinyElf::fixed(Arch::Amd64), &[("hello", &musl.build())]);
    assert_eq!(
        Needs::of(&inspection).to_string(),
        "musl loader (/lib/ld-musl-x86_64.so.1) (payload; bootstrap: nothing (static))"
    );
    let mixed = onefile(&musl, &[("hello", &musl.build()), ("x.so", &glibc.build())]);
    let verdict = verify(&mixed, AMD64, &Expectations { libc: Some(Family::Glibc), ..Expectations::default() });
    assert_eq!(verdict.warnings.len(), 1, "{:?}", verdict.warnings);
    assert_eq!(verdict.problems, [Problem::WrongLibc { expected: Family::Glibc, found: Family::Musl }]);
}

#[test]
fn a_damaged_or_missing_payload_is_a_problem() {
    let mut bytes = TinyElf::program(Arch::Amd64).build();
    let wanted = Expectations { payload: Some(true), ..Expectations::default() };
    assert_eq!(verify(&inspect_bytes(&bytes, 0o755), AMD64, &wanted).problems, [Problem::MissingPayload]);
    let mut payload = TinyPayload::NEW.build(&[("hello", &bytes.clone())]);
    let middle = payload.len() / 2;
    payload[8..middle].fill(0x55);
    bytes.extend(payload);
    let problems = verify(&inspect_bytes(&bytes, 0o755), AMD64, &wanted).problems;
    assert!(matches!(problems[..], [Problem::DamagedPayload { .. }]), "{problems:?}");
}

#[test]
fn a_standalone_folder_is_inspected_whole() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("hello.dist");
    write(&root.join("hello.bin"), &TinyElf::program(Arch::Amd64).build(), 0o755);
    let helper = TinyElf { padding: 4096, ..TinyElf::program(Arch::Amd64) };
    write(&root.join("helper"), &helper.build(), 0o755);
    write(&root.join("sub/libz.so.1"), &TinyElf::library(Arch::Amd64, "GLIBC_2.36").build(), 0o644);
    let user = TinyElf { needed: vec!["libz.so.1", "libq.so"], ..TinyElf::library(Arch::Amd64, "GLIBC_2.4") };
    write(&root.join("sub/zlib.so"), &user.build(), 0o644);
    write(&root.join("data.txt"), b"text", 0o644);
    std::os::unix::fs::symlink("sub/libz.so.1", root.join("libz.so")).unwrap();
    let inspection = inspect(&root).unwrap();
    assert_eq!(inspection.program.as_ref().unwrap().name, "hello.bin");
    assert_eq!(inspection.files.len(), 5);
    let verdict = verify(&inspection, AMD64, &Expectations::default());
    assert!(verdict.is_fit(), "{:?}", verdict.problems);
    assert_eq!(verdict.needs.to_string(), "glibc >= 2.36, libq.so");
    fs_err::remove_file(root.join("hello.bin")).unwrap();
    fs_err::remove_file(root.join("helper")).unwrap();
    assert_eq!(verify(&inspect(&root).unwrap(), AMD64, &Expectations::default()).problems, [Problem::NoProgram]);
    assert!(inspect(&root.join("gone")).is_err());
}
