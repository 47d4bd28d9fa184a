use kiln_graph::Arch;

use super::super::testing::TinyElf;
use super::super::{GlibcVersion, inspect};
use super::*;

fn facts_of(tiny: &TinyElf) -> ElfFacts {
    read(tiny.build().as_slice()).unwrap()
}

#[test]
fn every_architecture_is_recognised() {
    for arch in Arch::ALL {
        let facts = facts_of(&TinyElf::program(arch));
        assert_eq!(facts.identity(), arch.elf());
        assert_eq!(facts.kind, ElfKind::Pie);
        assert_eq!(facts.needed, ["libm.so.6", "libc.so.6"]);
        assert_eq!(facts.libc, Libc::Glibc { floor: Some(GlibcVersion::new(2, 34)) }, "{arch:?}");
        assert_eq!((facts.stack, facts.relro), (Stack::NotExecutable, Relro::Full));
    }
}

#[test]
fn this_very_program_is_a_program_of_this_machine() {
    let facts = inspect(&std::env::current_exe().unwrap()).unwrap();
    assert_eq!(facts.arch(), Arch::from_machine(std::env::consts::ARCH));
    assert!(facts.is_program());
    assert_eq!(facts.writable_executable, 0);
}

#[test]
fn kinds_and_families_are_told_apart() {
    let fixed = facts_of(&TinyElf::fixed(Arch::Amd64));
    assert_eq!((fixed.kind, fixed.libc), (ElfKind::Executable, Libc::Static));
    let static_pie = facts_of(&TinyElf { file_type: 3, flags_1: 0x0800_0000, ..TinyElf::fixed(Arch::Amd64) });
    assert_eq!((static_pie.kind, static_pie.libc), (ElfKind::StaticPie, Libc::Static));
    let library = facts_of(&TinyElf::library(Arch::Amd64, "GLIBC_2.17"));
    assert_eq!(library.kind, ElfKind::SharedLibrary);
    let musl = facts_of(&TinyElf {
        interpreter: Some("/lib/ld-musl-x86_64.so.1"),
        needed: vec!["libc.musl-x86_64.so.1"],
        versions: vec![],
        ..TinyElf::program(Arch::Amd64)
    });
    assert_eq!(musl.libc, Libc::Musl);
    let alone = TinyElf { needed: vec!["libpython3.12.so.1.0"], versions: vec![], ..TinyElf::library(Arch::Amd64, "") };
    assert_eq!(facts_of(&alone).libc, Libc::Unknown);
}

#[test]
fn hardening_is_read() {
    let facts = facts_of(&TinyElf {
        stack: Some(7),
        relro: false,
        load_flags: 7,
        runpath: Some("$ORIGIN:/opt/lib"),
        ..TinyElf::program(Arch::Arm64)
    });
    assert!(facts.has_executable_stack());
    assert_eq!((facts.relro, facts.writable_executable), (Relro::None, 1));
    assert_eq!(facts.runpath, ["$ORIGIN", "/opt/lib"]);
    assert!(!facts.text_relocations);
    assert!(facts_of(&TinyElf { flags: Some(4), ..TinyElf::library(Arch::I386, "GLIBC_2.0") }).text_relocations);
    let unstated = |arch| facts_of(&TinyElf { stack: None, ..TinyElf::program(arch) }).has_executable_stack();
    assert!(unstated(Arch::Amd64) && !unstated(Arch::Arm64));
}

#[test]
fn what_is_no_elf_file_is_an_error_of_its_own() {
    for bytes in [&b""[..], b"\x7fEL", b"#!/bin/sh\necho hello, world\n", &[0; 64]] {
        assert!(matches!(read(bytes), Err(ElfError::NotElf)), "{bytes:?}");
    }
    assert!(matches!(inspect("/nonexistent".as_ref()), Err(ElfError::Io(_))));
    assert!(matches!(inspect("/".as_ref()), Err(ElfError::Io(_))));
}

/// Every prefix, every single byte set to each of a few values, and many random mutations: any answer but a panic.
#[test]
fn hostile_files_do_not_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for arch in [Arch::Amd64, Arch::I386, Arch::S390x] {
        let good = TinyElf::program(arch).build();
        for len in 0..good.len() {
            let _ = read(&good[..len]);
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = read(bytes.as_slice());
            }
        }
        for _ in 0..2000 {
            let mut bytes = good.clone();
            for _ in 0..=random() % 8 {
                let at = usize::try_from(random() % bytes.len() as u64).unwrap();
                bytes[at] = random().to_le_bytes()[3];
            }
            let _ = read(bytes.as_slice());
        }
    }
}
