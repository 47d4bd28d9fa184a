//! Prints what is known of the files named on the command line: for development.
#![expect(clippy::print_stdout, reason = "an example talks to its terminal")]

use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args_os().skip(1).map(PathBuf::from) {
        let start = Instant::now();
        let facts = kiln_artifact::elf::inspect(&path)?;
        let elf = start.elapsed();
        let payload = kiln_artifact::payload::read(&path)?;
        println!("{} elf {elf:?} all {:?}\n{facts:#?}", path.display(), start.elapsed());
        if let Some(payload) = payload {
            println!(
                "{:?} {:?} crc {} at {} stored {} unpacked {} files {}",
                payload.placement,
                payload.compression,
                payload.checksums,
                payload.offset,
                payload.stored_size,
                payload.unpacked_size,
                payload.files.len()
            );
            for f in &payload.files {
                println!(
                    "{} {} {} {:?} {:?}",
                    f.name,
                    f.size,
                    f.executable,
                    f.elf().map(|e| (&e.libc, &e.needed)),
                    matches!(f.content, kiln_artifact::Content::BrokenElf { .. })
                );
            }
        }
    }
    Ok(())
}
