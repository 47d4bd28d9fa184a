//! Prints what kiln knows of the files and folders named on the command line: for development.
//!
//! `cargo run --release -p kiln-artifact --example inspect -- PATH...`
#![expect(clippy::print_stdout, reason = "an example talks to its terminal")]

use std::path::PathBuf;
use std::time::Instant;

use kiln_artifact::elf::ElfFacts;
use kiln_artifact::{ContainedFile, check, checksum};
use kiln_graph::Platform;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args_os().skip(1).map(PathBuf::from) {
        let start = Instant::now();
        let inspection = check::inspect(&path)?;
        println!("{}: {} bytes, inspected in {:.1?}", path.display(), inspection.size, start.elapsed());
        if let Some(payload) = &inspection.payload {
            println!(
                "  payload: {:?} {:?} at {}, {} bytes stored, {} unpacked in {} files, checksums {}",
                payload.placement,
                payload.compression,
                payload.offset,
                payload.stored_size,
                payload.unpacked_size,
                payload.files.len(),
                payload.checksums,
            );
        }
        let Some(facts) = inspection.elf() else {
            println!("  no ELF program");
            continue;
        };
        println!("  {:?} {:?} {:?} {:?} needs {:?}", facts.kind, facts.libc, facts.relro, facts.stack, facts.needed);
        let highest = inspection.contained().filter_map(ContainedFile::elf).filter_map(ElfFacts::glibc_floor).max();
        println!("  highest glibc inside: {}", highest.map_or("none".to_owned(), |version| version.to_string()));
        if let Some(arch) = facts.arch() {
            let verdict = check::verify(&inspection, Platform::linux(arch), &check::Expectations::default());
            println!("  needs {}", verdict.needs);
            verdict.problems.iter().for_each(|problem| println!("  problem: {problem}"));
            verdict.warnings.iter().for_each(|warning| println!("  warning: {warning}"));
        }
        if path.is_file() {
            let start = Instant::now();
            let sum = checksum::sha256_file(&path)?;
            println!("  sha256 {sum} in {:.1?}", start.elapsed());
        }
    }
    Ok(())
}
