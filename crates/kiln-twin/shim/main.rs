//! The native twin's program inside a container of a foreign platform: a static ELF file of the daemon's architecture.
//!
//! As `kiln-twin` it has commands: `enter` prepares a step and runs it, `scan` looks for tools that were installed
//! meanwhile, `fill` copies what native programs need into a volume; `hold` and `secrets` serve steps with secrets,
//! `tidy` removes what mounts of earlier steps left, `serve` runs one command after the other, `first` runs one that is
//! emulated, `room` says how much disk is free, `give` and `take` bring caches to kiln and back, `merge` makes what came a
//! part of a cache, `facts` and `handlers` tell `kiln doctor` what it asks. Under any other name it stands in for the program
//! of that name: it decides whether the native or the emulated one runs, and becomes it. It is compiled by the build script,
//! without dependencies.

mod archive;
mod carry;
mod decide;
mod elf;
mod enter;
mod facts;
mod fill;
mod first;
mod handlers;
mod ldcache;
mod merge;
mod options;
mod places;
mod python;
mod room;
mod secrets;
mod serve;
mod standin;
mod tidy;

use std::ffi::OsString;
use std::process::exit;

fn main() {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    if !places::is_shim(&name) {
        exit(standin::run(&name, &rest));
    }
    let code = match rest.split_first() {
        Some((command, rest)) if command == "enter" => enter::run(rest),
        Some((command, _)) if command == "scan" => enter::scan(),
        Some((command, rest)) if command == "fill" => fill::run(rest),
        Some((command, _)) if command == "hold" => secrets::hold(),
        Some((command, rest)) if command == "secrets" => secrets::run(rest),
        Some((command, _)) if command == "serve" => serve::run(),
        Some((command, rest)) if command == "first" => first::run(rest),
        Some((command, rest)) if command == "tidy" => tidy::run(rest),
        Some((command, rest)) if command == "room" => room::run(rest),
        Some((command, rest)) if command == "merge" => merge::run(rest),
        Some((command, rest)) if command == "give" => carry::give(rest),
        Some((command, rest)) if command == "take" => carry::take(rest),
        Some((command, rest)) if command == "facts" => facts::run(rest),
        Some((command, rest)) if command == "handlers" => handlers::run(rest),
        _ => {
            eprintln!("kiln-twin: commands are `enter COMMAND...`, `scan`, `fill FOLDER`, `hold`, `secrets FOLDER COMMAND...`, `serve`, `first COMMAND...`, `tidy PATH... [-- COMMAND...]`, `room PATH`, `merge FOLDER NAME`, `give FOLDER SOCKET`, `take FOLDER NAME SOCKET`, `facts ARGUMENT...` and `handlers FOLDER`");
            2
        }
    };
    exit(code);
}
