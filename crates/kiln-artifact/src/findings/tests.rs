use std::path::Path;

use kiln_graph::{Arch, Platform};

use super::*;
use crate::elf::testing::TinyElf;
use crate::examine::{Options, examine};
use crate::package::Bounds;
use crate::package::testing::{Entry, apk, deb, docker, rpm, tar};
use crate::payload::testing::TinyPayload;

/// Level and name of what is found in a file of this name, with the file that it is about.
fn found(name: &str, bytes: &[u8], policy: &Policy) -> Vec<(Level, &'static str, String)> {
    all(name, bytes, policy).into_iter().map(|finding| (finding.level, finding.check.name(), finding.file)).collect()
}

fn all(name: &str, bytes: &[u8], policy: &Policy) -> Vec<Finding> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, bytes).unwrap();
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = Options { bounds: Bounds::default(), scratch: folder.path().to_owned() };
    examine(Path::new(&path), &options).unwrap().iter().flat_map(|one| judge(one, policy)).collect()
}

fn of(tiny: &TinyElf) -> Vec<(Level, &'static str)> {
    found("hello", &tiny.build(), &Policy::default()).into_iter().map(|(level, check, _)| (level, check)).collect()
}

fn onefile(program: &TinyElf, files: &[(&str, &[u8])]) -> Vec<u8> {
    [program.build(), TinyPayload::NEW.build(files)].concat()
}

const GOOD: Policy =
    Policy { platform: None, glibc_max: None, allow: Vec::new(), deny: Vec::new(), secrets_allow: Vec::new() };

#[test]
fn names_are_unique_and_lists_complete() {
    let mut names: Vec<&str> = Check::ALL.into_iter().map(Check::name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Check::ALL.len());
}

#[test]
fn a_good_program_has_no_findings_and_each_weakness_its_own() {
    let good = TinyElf::program(Arch::Amd64);
    assert_eq!(of(&good), []);
    assert_eq!(of(&TinyElf { stack: Some(7), ..good.clone() }), [(Level::Warning, "exec-stack")]);
    assert_eq!(of(&TinyElf { load_flags: 7, ..good.clone() }), [(Level::Error, "wx-segment")]);
    assert_eq!(of(&TinyElf { relro: false, ..good.clone() }), [(Level::Warning, "relro")]);
    assert_eq!(of(&TinyElf { flags_1: 0x0800_0000, ..good.clone() }), [(Level::Info, "relro")], "partial");
    assert_eq!(of(&TinyElf { file_type: 2, ..good.clone() }), [(Level::Warning, "pie")]);
    assert_eq!(of(&TinyElf { flags: Some(4), ..good.clone() }), [(Level::Warning, "text-relocations")]);
    assert_eq!(of(&TinyElf { interpreter: Some("/nix/ld.so"), ..good.clone() }), [(Level::Warning, "interpreter")]);
    let needs = |library| TinyElf { needed: vec![library, "libc.so.6"], ..good.clone() };
    assert_eq!(of(&needs("libfoo.so.2")), [(Level::Error, "library")]);
    assert_eq!(of(&needs("libz.so.1")), [(Level::Info, "system-library")]);
    for (runpath, is_bad) in
        [("/opt/lib", true), ("lib", true), ("$ORIGIN", false), ("$ORIGIN/..", true), ("$ORIGIN/lib:", false)]
    {
        let expected: &[_] = if is_bad { &[(Level::Warning, "rpath")] } else { &[] };
        assert_eq!(of(&TinyElf { runpath: Some(runpath), ..good.clone() }), expected, "{runpath}");
    }
}

#[test]
fn the_payload_counts_as_well() {
    let (program, arm) = (TinyElf::program(Arch::Amd64), TinyElf::library(Arch::Arm64, "GLIBC_2.17").build());
    let main = program.build();
    let needs = TinyElf { needed: vec!["liba.so.1"], ..TinyElf::library(Arch::Amd64, "GLIBC_2.17") }.build();
    let library = TinyElf { runpath: Some("$ORIGIN/../x"), ..TinyElf::library(Arch::Amd64, "GLIBC_2.17") }.build();
    let weak = TinyElf { relro: false, ..TinyElf::library(Arch::Amd64, "GLIBC_2.17") }.build();
    let bytes = onefile(
        &program,
        &[("hello.bin", &main), ("p/liba.so.1", &library), ("needs.so", &needs), ("arm.so", &arm), ("weak.so", &weak)],
    );
    let text = |text: &str| text.to_owned();
    assert_eq!(
        found("hello-linux-x86_64", &bytes, &GOOD),
        [(Level::Error, "foreign-file", text("arm.so")), (Level::Info, "relro", text("weak.so"))]
    );
    let allowed = Policy { allow: vec!["foreign-file:arm*".to_owned()], ..GOOD };
    assert!(!is_breach(&all("hello", &bytes, &allowed)));
    let elsewhere = Policy { allow: vec!["foreign-file:other/*".to_owned()], ..GOOD };
    assert!(is_breach(&all("hello", &bytes, &elsewhere)));
}

#[test]
fn the_architecture_is_that_of_the_name_the_package_or_the_option() {
    let bytes = TinyElf::program(Arch::Amd64).build();
    let wrong = found("hello-linux-arm64", &bytes, &GOOD);
    assert_eq!(wrong, [(Level::Error, "architecture", "hello-linux-arm64".to_owned())]);
    let asked = Policy { platform: Some(Platform::linux(Arch::I386)), ..GOOD };
    assert_eq!(found("hello", &bytes, &asked)[0].1, "architecture");
    let entries: [Entry<'_>; 1] = [("usr/bin/hello", &bytes, 0o755)];
    let package = deb("Package: hello\nArchitecture: arm64\n", &entries);
    assert_eq!(found("hello.deb", &package, &GOOD)[0], (Level::Error, "architecture", "usr/bin/hello".to_owned()));
    let two = found("hello_1.0_amd64.deb", &package, &GOOD);
    assert_eq!(two, [(Level::Error, "architecture", String::new())], "the name and the package differ");
}

#[test]
fn packages_may_leave_libraries_to_their_dependencies() {
    let bytes = TinyElf { needed: vec!["libfoo.so.2", "libc.so.6"], ..TinyElf::program(Arch::Amd64) }.build();
    let entries: [Entry<'_>; 1] = [("usr/bin/hello", &bytes, 0o755)];
    let level = |name: &str, bytes: &[u8]| found(name, bytes, &GOOD).first().map(|(level, ..)| *level);
    assert_eq!(level("a.apk", &apk("pkgname = x\narch = x86_64\ndepend = so:libfoo.so.2\n", &entries)), None);
    assert_eq!(level("a.apk", &apk("pkgname = x\narch = x86_64\n", &entries)), Some(Level::Error));
    assert_eq!(level("a.rpm", &rpm("x86_64", "libfoo.so.2()(64bit)", &entries)), None);
    assert_eq!(level("a.rpm", &rpm("x86_64", "libfoo.so.20()(64bit)", &entries)), Some(Level::Error));
    let control = "Package: x\nArchitecture: amd64\nDepends: libc6 (>= 2.34)";
    assert_eq!(level("a.deb", &deb(&format!("{control}, libfoo2\n"), &entries)), Some(Level::Warning));
    assert_eq!(level("a.deb", &deb(&format!("{control}\n"), &entries)), Some(Level::Error));
    assert_eq!(level("a.tar", &tar(&entries, true)), Some(Level::Error));
}

#[test]
fn a_newer_glibc_is_refused_with_an_older_base() {
    let policy = Policy { glibc_max: "2.30".parse().ok(), ..GOOD };
    let main = TinyElf::program(Arch::Amd64).build();
    let new = TinyElf::library(Arch::Amd64, "GLIBC_2.38").build();
    let findings = all("hello", &onefile(&TinyElf::fixed(Arch::Amd64), &[("m", &main), ("new.so", &new)]), &policy);
    let glibc: Vec<_> = findings.iter().filter(|finding| finding.check == Check::Glibc).collect();
    assert_eq!(glibc.len(), 2);
    assert_eq!(glibc[1].detail, "needs glibc 2.38, newer than the 2.30 that is allowed");
    assert!(glibc[0].fix.as_ref().unwrap().contains("debian:buster"), "{glibc:?}");
    let newer = Policy { glibc_max: "2.38".parse().ok(), ..GOOD };
    assert!(!is_breach(&all("hello", &onefile(&TinyElf::program(Arch::Amd64), &[("m", &main)]), &newer)));
}

#[test]
fn secrets_are_errors_unless_they_are_known() {
    let secret = b"https://deploy:h7Gq2-zz81L@git.corp.net/x";
    let bytes =
        onefile(&TinyElf::program(Arch::Amd64), &[("m", &TinyElf::program(Arch::Amd64).build()), ("a/conf", secret)]);
    assert_eq!(found("hello", &bytes, &GOOD), [(Level::Error, "secret", "a/conf".to_owned())]);
    for entry in ["url-credentials", "a/conf", "a/*", "conf", "url-credentials:a/conf"] {
        let policy = Policy { secrets_allow: vec![entry.to_owned()], ..GOOD };
        let findings = all("hello", &bytes, &policy);
        assert!(!is_breach(&findings) && findings[0].allowed, "{entry}");
    }
    for entry in ["private-key", "b/*", "private-key:a/conf", "*"] {
        let policy = Policy { secrets_allow: vec![entry.to_owned()], ..GOOD };
        assert_eq!(is_breach(&all("hello", &bytes, &policy)), entry != "*", "{entry}");
    }
}

#[test]
fn a_policy_changes_levels_and_forbidding_wins() {
    let bytes = TinyElf { stack: Some(7), relro: false, ..TinyElf::program(Arch::Amd64) }.build();
    let with = |allow: &[&str], deny: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let policy = Policy { allow: texts(allow), deny: texts(deny), ..GOOD };
        found("hello", &bytes, &policy).into_iter().map(|(level, check, _)| (level, check)).collect::<Vec<_>>()
    };
    assert_eq!(with(&[], &["exec-stack"])[0], (Level::Error, "exec-stack"));
    assert_eq!(with(&["exec-stack"], &["exec-stack"])[0], (Level::Error, "exec-stack"));
    assert_eq!(with(&["exec-stack", "relro"], &[]), [(Level::Info, "exec-stack"), (Level::Info, "relro")]);
}

#[test]
fn of_an_image_only_the_program_is_hardened() {
    let (program, weak) =
        (TinyElf::program(Arch::Arm64).build(), TinyElf { file_type: 2, ..TinyElf::program(Arch::Arm64) }.build());
    let alien = TinyElf::program(Arch::Amd64).build();
    let entries: [Entry<'_>; 3] =
        [("usr/bin/hello", &program, 0o755), ("bin/weak", &weak, 0o755), ("opt/alien", &alien, 0o755)];
    let findings = found("image.tar", &docker("arm64", &entries), &GOOD);
    assert_eq!(findings, [(Level::Error, "foreign-file", "opt/alien".to_owned())]);
    let entries: [Entry<'_>; 1] = [("usr/bin/hello", &weak, 0o755)];
    assert_eq!(found("image.tar", &docker("arm64", &entries), &GOOD)[0].1, "pie");
}
