use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::elf::testing::TinyElf;
use crate::package::testing::{Entry, deb, docker, gzip, layout, tar};
use crate::payload::testing::TinyPayload;

fn write(path: &Path, bytes: &[u8]) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, bytes).unwrap();
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What comes of a file of this name.
fn of(name: &str, bytes: &[u8]) -> Result<Vec<Examined>, PackageError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write(&path, bytes);
    examine(&path, &Options { bounds: Bounds::default(), scratch: folder.path().to_owned() })
}

fn onefile(arch: Arch) -> Vec<u8> {
    let (program, library) = (TinyElf::program(arch).build(), TinyElf::library(arch, "GLIBC_2.38").build());
    let secret = b"https://deploy:h7Gq2-zz81L@git.corp.net/x";
    let payload = TinyPayload::NEW.build(&[("hello.bin", &program), ("lib/a.so.1", &library), ("conf", secret)]);
    [program, payload].concat()
}

#[test]
fn a_onefile_program_is_looked_into() {
    let all = of("hello-linux-arm64", &onefile(Arch::Arm64)).unwrap();
    let [one] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((one.shape.clone(), one.arch()), (Shape::Program, Some(Arch::Arm64)));
    let main = one.main().unwrap();
    assert_eq!(one.needs(main).to_string(), "glibc >= 2.38 (payload; bootstrap: glibc >= 2.34)");
    let [leak] = one.leaks.found() else { panic!("{:?}", one.leaks) };
    assert_eq!((leak.kind, leak.file.as_str(), leak.offset), ("url-credentials", "conf", 5));
}

#[test]
fn a_program_is_found_in_archives_packages_and_images() {
    let program = onefile(Arch::Amd64);
    let library = TinyElf::library(Arch::Amd64, "GLIBC_2.17").build();
    let top: [Entry<'_>; 3] =
        [("hello-1.0/README", b"x", 0o644), ("hello-1.0/hello", &program, 0o755), ("hello-1.0/x.so", &library, 0o644)];
    let system: [Entry<'_>; 2] = [("usr/bin/hello", &program, 0o755), ("usr/lib/x.so", &library, 0o644)];
    let control = "Package: hello\nArchitecture: amd64\n";
    let cases = [
        ("hello-linux-x86_64.tar.gz", gzip(&tar(&top, true)), "hello-1.0/hello"),
        ("hello_1.0_amd64.deb", deb(control, &system), "usr/bin/hello"),
        ("hello.tar", docker("amd64", &system), "usr/bin/hello"),
        ("layout.tar", layout("amd64", &system, false), "usr/bin/hello"),
    ];
    for (name, bytes, main) in cases {
        let all = of(name, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let [one] = all.as_slice() else { panic!("{name}: {all:?}") };
        let found = one.main().unwrap_or_else(|| panic!("{name}: no program"));
        assert_eq!(found.file.name, main, "{name}");
        assert_eq!(found.inside().len(), 3, "{name}");
        assert_eq!(one.arch(), Some(Arch::Amd64), "{name}");
        assert_eq!(one.leaks.found()[0].file, format!("{main}!conf"), "{name}");
        assert!(one.files.iter().any(|file| file.file_name() == "x.so" && file.elf().is_some()), "{name}");
    }
}

#[test]
fn a_folder_is_one_program_or_a_list_of_artifacts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("hello.dist/hello.bin"), &TinyElf::program(Arch::Amd64).build());
    write(&at("hello.dist/big-helper"), &TinyElf { padding: 9000, ..TinyElf::program(Arch::Amd64) }.build());
    write(&at("hello.dist/lib/a.so"), &TinyElf::library(Arch::Amd64, "GLIBC_2.17").build());
    let options = Options { bounds: Bounds::default(), scratch: folder.path().to_owned() };
    let all = examine(&at("hello.dist"), &options).unwrap();
    assert_eq!(all[0].main().unwrap().file.name, "hello.bin");
    assert_eq!((all[0].programs.len(), all[0].files.len()), (2, 1));
    assert_eq!(artifacts_in(folder.path()).unwrap(), None);
    write(&at("SHA256SUMS"), b"");
    write(&at("hello"), &onefile(Arch::Amd64));
    write(&at("notes.txt"), b"text");
    write(&at("a.tar"), &tar(&[("x", b"y", 0o644)], true));
    let names = artifacts_in(folder.path()).unwrap().unwrap();
    let names: Vec<_> = names.iter().map(|path| path.file_name().unwrap().to_string_lossy()).collect();
    assert_eq!(names, ["a.tar", "hello", "hello.dist"]);
}

#[test]
fn what_is_no_artifact_says_so() {
    let library = TinyElf::library(Arch::Amd64, "GLIBC_2.17").build();
    for (bytes, expected) in [
        (&b"#!/bin/sh\n"[..], "no program, package or image"),
        (b"", "no program, package or image"),
        (&library, "a shared library"),
        (&TinyElf::program(Arch::Amd64).build()[..70], "damaged"),
    ] {
        let error = of("x", bytes).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(matches!(
        examine(Path::new("/nonexistent"), &Options { bounds: Bounds::default(), scratch: "/".into() }),
        Err(PackageError::Io { .. })
    ));
}

#[test]
fn names_say_what_they_are_for() {
    for (name, arch) in [
        ("hello-linux-x86_64", Some(Arch::Amd64)),
        ("hello-1.2-linux-arm64.tar.gz", Some(Arch::Arm64)),
        ("hello_1.2_i386.deb", Some(Arch::I386)),
        ("hello-1.2-1.aarch64.rpm", Some(Arch::Arm64)),
        ("hello_linux_386", Some(Arch::I386)),
        ("hello-linux-armv7", Some(Arch::ArmV7)),
        ("x64-tool-linux-arm64", Some(Arch::Arm64)),
        ("robot-arm", None),
        ("route-386", None),
        ("hello", None),
        ("hello_1.0_all.deb", None),
    ] {
        assert_eq!(arch_of_name(name), arch, "{name}");
    }
    assert_eq!((arch_of_package("x86"), arch_of_package("noarch")), (Some(Arch::I386), None));
}
