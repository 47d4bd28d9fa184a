//! Compiles `shim/main.rs` to a static ELF program for every daemon architecture that this toolchain can make one for.
//!
//! It is one program without dependencies, so the compiler is called directly: a nested cargo would need a workspace, a
//! target folder and a lock of its own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is compiled for one architecture.
#[derive(Clone, Copy)]
enum Kind {
    /// `kiln-twin`, a static program.
    Program,
    /// The hook, a library for glibc's loader.
    Hook,
}

/// Architecture and the targets that give a static program for it, best first.
const HOSTS: [(&str, [&str; 2]); 2] = [
    ("x86_64", ["x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"]),
    ("aarch64", ["aarch64-unknown-linux-musl", "aarch64-unknown-linux-gnu"]),
];

fn main() {
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let rustc = env::var("RUSTC").expect("cargo sets it");
    for (arch, targets) in HOSTS {
        for (kind, name) in [(Kind::Program, "kiln-twin"), (Kind::Hook, "hook")] {
            let file = out.join(format!("{name}-{arch}"));
            // A library for glibc is made as one, whatever the program is.
            let suitable = targets.iter().filter(|target| matches!(kind, Kind::Program) || target.ends_with("gnu"));
            let made =
                suitable.into_iter().any(|target| is_installed(&rustc, target) && compile(&rustc, target, kind, &file));
            if !made {
                // An empty file stands for what could not be made; the library says so when it is asked for it.
                fs::write(&file, []).expect("the output folder can be written");
            }
        }
    }
}

fn is_installed(rustc: &str, target: &str) -> bool {
    let printed = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output();
    printed.is_ok_and(|printed| {
        let folder = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
        fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
    })
}

fn compile(rustc: &str, target: &str, kind: Kind, file: &Path) -> bool {
    let mut command = Command::new(rustc);
    command
        .args(["--edition=2024", "--target", target])
        .args(["-Copt-level=2", "-Cpanic=abort", "-Cstrip=symbols"])
        .arg("-o")
        .arg(file);
    match kind {
        Kind::Program => command.args(["shim/main.rs", "--crate-type=bin", "-Ctarget-feature=+crt-static"]),
        Kind::Hook => {
            command.args(["shim/hook.rs", "--crate-type=cdylib", "-Clink-arg=-nostdlib", "-Clink-arg=-nostartfiles"])
        }
    };
    if target != env::var("HOST").expect("cargo sets it") && target.ends_with("musl") {
        // No cross compiler is needed for a program without C.
        command.args(["-Clinker=rust-lld", "-Clink-self-contained=yes"]);
    }
    let compiled = command.output().expect("the compiler starts");
    if !compiled.status.success() {
        println!("cargo:warning=no native twin for {target}: the shim could not be compiled");
        for line in String::from_utf8_lossy(&compiled.stderr).lines().take(12) {
            println!("cargo:warning={line}");
        }
    }
    compiled.status.success()
}
