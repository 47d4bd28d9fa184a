//! The payload of a Nuitka onefile program: what it unpacks and runs.
//!
//! Format, as `nuitka/tools/onefile_compressor/OnefileCompressor.py` writes it and
//! `nuitka/build/static_src/OnefileBootstrap.c` reads it (Nuitka 4.3; 2.7 differs only in the place):
//!
//! ```text
//! "KA" "X"|"Y"                    Y: compressed with zstd
//! then entries; with Y they are together one zstd frame, unless built as an archive:
//!   name, NUL                     UTF-8, relative; an empty name ends the list
//!   flags: u8                     1 executable, 2 symbolic link
//!   link:  target, NUL
//!   file:  size: u64
//!          [crc32: u32]           only if the program unpacks to a place that it keeps
//!          [stored size: u32]     only in compressed archives, where each file is a zstd frame
//!          the bytes
//! u64                             distance from this number back to "KA"
//! ```
//!
//! Integers have the byte order of the machine. The layout does not say whether there are checksums or whether it is an
//! archive; that is deduced from where the first bytes of content are. Older versions append the payload to the program,
//! so that the last number is the end of the file; newer ones link it into a read-only segment under no exported name.
//! So: try the end of the file, then search the loaded segments for the magic and believe only what reads as entries.
//!
//! Files stream by. ELF files among them are read from windows (`window`), never as a whole; where a window turns
//! out too small, the stream is read again with a better one. Memory is that of zstd: its window, which the level that
//! Nuitka uses makes as large as the unpacked payload, up to 128 MiB. Platforms that are verified at the same time
//! therefore take turns here.

mod entries;
mod find;
#[cfg(test)]
pub(crate) mod testing;
mod window;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use fs_err::File;
use kiln_graph::Endian;
use serde::Serialize;

use self::entries::{Entry, Fault, Form};
use self::find::Candidate;
use crate::contained::{ContainedFile, Content};
use crate::elf::{self, ElfError, FileSource};

/// Times the stream is read at most until every ELF file's parts were seen; two are rarely needed.
const MAX_PASSES: usize = 8;

/// Only one payload at a time is decompressed.
static TURN: Mutex<()> = Mutex::new(());

/// What is inside of a onefile program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Payload {
    /// Where it is.
    pub placement: Placement,
    /// How it is compressed.
    pub compression: Compression,
    /// Whether files carry a CRC-32, as they do when the program keeps what it unpacked.
    pub checksums: bool,
    /// Where it starts in the program, in bytes.
    pub offset: u64,
    /// Its size in the program, in bytes, without the trailing length.
    pub stored_size: u64,
    /// The sum of its files' sizes, in bytes.
    pub unpacked_size: u64,
    /// Its files in stored order; the first is what the program runs.
    pub files: Vec<ContainedFile>,
}

/// Where a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Behind the end of the program.
    Appended,
    /// In a segment that is loaded with the program.
    Embedded,
}

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    None,
    /// As one zstd frame.
    Stream,
    /// File by file.
    PerFile,
}

/// Why a payload could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// There is a payload, but it is cut off or overwritten.
    #[error("the onefile payload at byte {offset} is damaged: {reason}")]
    Damaged {
        /// Where the payload starts.
        offset: u64,
        /// What does not fit.
        reason: String,
    },
    /// Reading the program failed.
    #[error("could not read the program")]
    Io(#[source] io::Error),
}

/// Reads the payload of the program at `path`; `None` if it has none that is recognised, or is not an ELF file.
pub fn read(path: &Path) -> Result<Option<Payload>, PayloadError> {
    let source = FileSource::open(path).map_err(PayloadError::Io)?;
    let layout = match elf::layout(&source) {
        Ok(layout) => layout,
        Err(ElfError::Io(error)) => return Err(PayloadError::Io(error)),
        Err(_) => return Ok(None),
    };
    let file = File::open(path).map_err(PayloadError::Io)?;
    let order = layout.identity.endian;
    // A panic elsewhere says nothing about this turn.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = Ok(None);
    find::candidates(&file, &layout, |candidate| {
        found = read_candidate(&file, candidate, order);
        !matches!(found, Ok(None))
    })
    .map_err(PayloadError::Io)?;
    found
}

/// Calls `visit` with the name and content of each file of a payload that [`read`] has found in the program at `path`.
pub fn contents(
    path: &Path,
    payload: &Payload,
    visit: &mut dyn FnMut(&str, &mut dyn io::Read) -> io::Result<()>,
) -> io::Result<()> {
    let file = File::open(path)?;
    let order = match elf::layout(&FileSource::open(path)?) {
        Ok(layout) => layout.identity.endian,
        Err(_) => return Err(io::ErrorKind::InvalidData.into()),
    };
    let candidate = Candidate {
        placement: payload.placement,
        offset: payload.offset,
        end: payload.offset.saturating_add(payload.stored_size),
        compression: payload.compression,
        is_certain: true,
    };
    let form = Form { order, compression: payload.compression, checksums: payload.checksums };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let walked = entries::walk(&file, &candidate, form, |entry, body| visit(&entry.name, body));
    walked.map(drop).map_err(|fault| match fault {
        Fault::Io(error) => error,
        Fault::OtherLayout | Fault::Damaged(_) => io::ErrorKind::InvalidData.into(),
    })
}

/// Reads a candidate in each layout that it may have; `None` if it reads as entries in neither.
fn read_candidate(file: &File, candidate: &Candidate, order: Endian) -> Result<Option<Payload>, PayloadError> {
    let mut damage = None;
    for checksums in [false, true] {
        let form = Form { order, compression: candidate.compression, checksums };
        match read_form(file, candidate, form) {
            Ok(payload) if candidate.is_certain || find::is_sealed(file, &payload, order)? => {
                return Ok(Some(payload));
            }
            Ok(_) | Err(Fault::OtherLayout) => {}
            Err(Fault::Io(error)) => return Err(PayloadError::Io(error)),
            Err(Fault::Damaged(reason)) => {
                damage.get_or_insert(reason);
            }
        }
    }
    match damage {
        Some(reason) if candidate.is_certain => Err(PayloadError::Damaged { offset: candidate.offset, reason }),
        _ => Ok(None),
    }
}

/// Reads a candidate in one layout, as often as its ELF files need.
fn read_form(file: &File, candidate: &Candidate, form: Form) -> Result<Payload, Fault> {
    let mut files: Vec<ContainedFile> = Vec::new();
    let mut wanted: HashMap<usize, Vec<Range<u64>>> = HashMap::new();
    let mut stored_size = 0;
    for pass in 0..MAX_PASSES {
        let mut index = 0;
        let mut has_entry = false;
        let mut next_wanted: HashMap<usize, Vec<Range<u64>>> = HashMap::new();
        let walked = entries::walk(file, candidate, form, |entry, body| {
            has_entry = true;
            let wants = wanted.get(&index).map(Vec::as_slice);
            if pass == 0 || wants.is_some() {
                let (contained, misses) = look(entry, body, wants.unwrap_or_default())?;
                if !misses.is_empty() {
                    next_wanted.insert(index, wants.unwrap_or_default().iter().cloned().chain(misses).collect());
                }
                match files.get_mut(index) {
                    Some(known) => *known = contained,
                    None => files.push(contained),
                }
            }
            index += 1;
            Ok(())
        });
        stored_size = match walked {
            // A program may well contain the magic for reasons of its own, as this crate's tests do.
            Err(Fault::Damaged(_)) if !has_entry && candidate.placement == Placement::Embedded => {
                return Err(Fault::OtherLayout);
            }
            walked => walked?,
        };
        wanted = next_wanted;
        if wanted.is_empty() {
            break;
        }
    }
    Ok(Payload {
        placement: candidate.placement,
        compression: form.compression,
        checksums: form.checksums,
        offset: candidate.offset,
        stored_size,
        unpacked_size: files.iter().map(|file| file.size).sum(),
        files,
    })
}

/// Reads one entry. Also returns the parts of an ELF file that were not kept and are needed.
fn look(entry: Entry, body: &mut dyn io::Read, wants: &[Range<u64>]) -> io::Result<(ContainedFile, Vec<Range<u64>>)> {
    let mut misses = Vec::new();
    let content = match entry.link {
        Some(target) => Content::Link { target },
        None => match window::keep(body, entry.size, wants)? {
            None => Content::Data,
            Some(window) => match elf::read(&window) {
                Ok(facts) => Content::Elf(Box::new(facts)),
                Err(error) => {
                    if matches!(error, ElfError::NotKept) {
                        misses = window.into_misses();
                    }
                    Content::BrokenElf { reason: error.to_string() }
                }
            },
        },
    };
    Ok((ContainedFile { name: entry.name, size: entry.size, executable: entry.executable, content }, misses))
}

#[cfg(test)]
mod tests;
