//! `kiln verify` on real programs, which the C compiler of this machine makes with the flags that weaken them.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod common;

use std::path::Path;
use std::process::Command;

use common::Project;
use serde_json::Value;

/// With `-DBOTH` a section of it is writable and executable.
const PROGRAM: &str = r#"
#include <stdio.h>
#ifdef BOTH
__asm__(".section .both, \"awx\", @progbits; .long 0; .text");
#endif
int main(void) { puts("1.0"); return 0; }
"#;

/// Compiles a program to a file of the project; false, and said aloud, where there is no compiler.
fn compile(project: &Project, name: &str, flags: &[&str]) -> bool {
    project.write("a.c", PROGRAM);
    let status = Command::new("cc").arg("a.c").args(["-o", name]).args(flags).current_dir(project.path("")).status();
    let is_made = status.is_ok_and(|status| status.success());
    if !is_made {
        eprintln!("SKIPPED: `cc a.c -o {name} {}` does not work here", flags.join(" "));
    }
    is_made
}

/// Checks and levels of what is found, and the exit code.
fn found(project: &Project, args: &[&str]) -> (Vec<(String, String)>, i32) {
    let ran = project.kiln(&[&["verify", "--json"], args].concat());
    let facts: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr));
    let findings = facts["artifacts"].as_array().into_iter().flatten().filter_map(|one| one["findings"].as_array());
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    (findings.flatten().map(|one| (text(one, "check"), text(one, "level"))).collect(), ran.code)
}

fn pair(check: &str, level: &str) -> (String, String) {
    (check.to_owned(), level.to_owned())
}

const GOOD: [&str; 4] = ["-fPIE", "-pie", "-Wl,-z,relro,-z,now", "-Wl,-z,noexecstack"];

/// Flags of the compiler, and what is found: check and level.
type Case = (&'static [&'static str], &'static [(&'static str, &'static str)]);

#[test]
fn a_compilers_flags_are_seen() {
    let project = Project::new(&[]);
    let cases: [Case; 5] = [
        (&[], &[]),
        (&["-Wl,-z,execstack"], &[("exec-stack", "warning")]),
        (&["-no-pie", "-fno-pie"], &[("pie", "warning")]),
        (&["-Wl,-z,norelro"], &[("relro", "warning")]),
        (&["-Wl,-rpath,/opt/lib"], &[("rpath", "warning")]),
    ];
    for (flags, expected) in cases {
        if compile(&project, "hello", &[GOOD.as_slice(), flags].concat()) {
            let expected: Vec<_> = expected.iter().map(|(check, level)| pair(check, level)).collect();
            assert_eq!(found(&project, &["hello"]), (expected, 0), "{flags:?}");
        }
    }
    if compile(&project, "hello", &[GOOD.as_slice(), &["-DBOTH"]].concat()) {
        let (findings, code) = found(&project, &["hello"]);
        assert!(code == 6 && findings.contains(&pair("wx-segment", "error")), "{findings:?}");
    }
}

#[test]
fn settings_and_options_make_the_policy() {
    let project = Project::new(&[("kiln.toml", "[verify]\ndeny = [\"exec-stack\"]\nallow = [\"pie:hello\"]\n")]);
    if !compile(&project, "hello", &["-no-pie", "-fno-pie", "-Wl,-z,execstack,-z,relro,-z,now"]) {
        return;
    }
    let (findings, code) = found(&project, &["hello"]);
    assert_eq!((findings, code), (vec![pair("exec-stack", "error"), pair("pie", "info")], 6));
    let (findings, code) = found(&project, &["hello", "--deny", "relro", "--allow", "exec-stack"]);
    assert_eq!((findings, code), (vec![pair("pie", "warning"), pair("exec-stack", "info")], 0));
    let ran = project.kiln(&["verify", "hello", "--deny", "exec-stck"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("did you mean \"exec-stack\"?"), "{}", ran.stderr);
    let ran = project.kiln(&["verify", "hello", "--glibc-max", "new"]);
    assert!(ran.code == 3 && ran.stderr.contains("a glibc version such as"), "{}", ran.stderr);
}

#[test]
fn archives_are_made_of_real_programs_by_stock_tools() {
    let project = Project::new(&[]);
    if !compile(&project, "hello", &GOOD) {
        return;
    }
    project.write("key.pem", "https://deploy:h7Gq2-zz81L@git.corp.net/x\n");
    for (file, flag) in [("a.tar", ""), ("a.tar.gz", "-z"), ("a.tar.xz", "-J")] {
        let flags = ["-cf", file, "hello", "key.pem", flag];
        let flags = flags.iter().filter(|flag| !flag.is_empty());
        let made = Command::new("tar").args(flags).current_dir(project.path("")).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: tar does not make {file} here");
            continue;
        }
        assert_eq!(found(&project, &[file]), (vec![pair("secret", "error")], 6), "{file}");
        let known = ["--set", "verify.secrets-allow=url-credentials:*.pem"];
        assert_eq!(found(&project, &[&[file], known.as_slice()].concat()).1, 0, "{file}");
    }
    let ran = project.kiln(&["verify", "a.tar"]);
    for words in ["url-credentials", "https://deploy:…@git.corp.net"] {
        assert!(ran.stdout.contains(words), "{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("h7Gq2"), "the secret is shown: {}", ran.stdout);
}

#[test]
fn what_cannot_be_verified_says_so() {
    let project = Project::new(&[("notes.txt", "text"), ("empty/SHA256SUMS", "")]);
    let ran = project.kiln(&["verify", "notes.txt"]);
    assert_eq!(ran.code, 6, "{}", ran.stderr);
    assert!(ran.stdout.contains("error    format"), "{}", ran.stdout);
    assert!(ran.stderr.starts_with("1 error in 1 artifact"), "{}", ran.stderr);
    assert_eq!(project.kiln(&["verify", "nosuch"]).code, 7);
    assert_eq!(project.kiln(&["verify", "empty"]).code, 3);
    assert_eq!(project.kiln(&["verify"]).code, 2);
    let ran = project.kiln(&["verify", "notes.txt", "--platform", "linux/amd46"]);
    assert!(ran.code == 2 && ran.stderr.contains("did you mean"), "{}", ran.stderr);
    assert!(Path::new(&project.path("notes.txt")).exists());
}
