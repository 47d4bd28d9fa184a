//! The entries of a payload, one after the other, as a stream.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use fs_err::File;
use kiln_graph::Endian;
use zstd::stream::read::Decoder;

use super::Compression;
use super::find::{Candidate, MAGIC_SIZE};
use crate::elf;

/// Bytes of a name at most: Linux's `PATH_MAX`.
pub(super) const MAX_NAME: usize = 4096;
/// Files at most: far above what programs have, and a bound for what a hostile one may make us remember.
const MAX_ENTRIES: usize = 1 << 20;
/// Bytes buffered of the stored stream, and again of the unpacked one.
const BUFFER: usize = 128 << 10;

/// How entries are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) order: Endian,
    pub(super) compression: Compression,
    pub(super) checksums: bool,
}

/// One entry without its content.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) executable: bool,
    pub(super) link: Option<String>,
}

/// Why entries could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// They are not laid out in the form that was assumed.
    OtherLayout,
    /// The stream ends early or does not decompress.
    Damaged(String),
    /// The file itself could not be read.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        // zstd reports what it cannot decode as `Other`; errors of the file have kinds of their own.
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it ends early".to_owned()),
            io::ErrorKind::Other | io::ErrorKind::InvalidData => Self::Damaged(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

/// An integer in the byte order of the machine that the payload is for.
pub(super) fn number(bytes: &[u8], order: Endian) -> u64 {
    let join = |number, byte: &u8| (number << 8) | u64::from(*byte);
    match order {
        Endian::Little => bytes.iter().rev().fold(0, join),
        Endian::Big => bytes.iter().fold(0, join),
    }
}

/// Calls `visit` for every entry with its content, and returns the stored size of the payload in bytes.
pub(super) fn walk(
    mut file: &File,
    candidate: &Candidate,
    form: Form,
    visit: impl FnMut(Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<u64, Fault> {
    let start = candidate.offset + MAGIC_SIZE;
    file.seek(SeekFrom::Start(start))?;
    let stored = file.take(candidate.end.saturating_sub(start));
    let mut stored = Counted { inner: BufReader::with_capacity(BUFFER, stored), consumed: 0 };
    if form.compression == Compression::Stream {
        let decoder = Decoder::with_buffer(&mut stored)?.single_frame();
        let mut unpacked = BufReader::with_capacity(BUFFER, decoder);
        walk_entries(&mut unpacked, form, visit)?;
        if !unpacked.fill_buf()?.is_empty() {
            return Err(Fault::Damaged("there is data behind the last file".to_owned()));
        }
    } else {
        walk_entries(&mut stored, form, visit)?;
    }
    Ok(stored.consumed + MAGIC_SIZE)
}

fn walk_entries(
    input: &mut impl BufRead,
    form: Form,
    mut visit: impl FnMut(Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), Fault> {
    for _ in 0..MAX_ENTRIES {
        let name = read_name(input)?;
        if name.is_empty() {
            return Ok(());
        }
        let [flags] = read_array(input)?;
        if flags > 3 {
            return Err(Fault::OtherLayout);
        }
        if flags & 2 != 0 {
            let link = Some(read_name(input)?);
            visit(Entry { name, size: 0, executable: false, link }, &mut io::empty())?;
            continue;
        }
        let size = number(&read_array::<8>(input)?, form.order);
        let entry = Entry { name, size, executable: flags & 1 != 0, link: None };
        if form.checksums {
            read_array::<4>(input)?;
        } else if form.compression != Compression::PerFile {
            // The program itself comes first, so its magic shows whether a checksum lies before the content.
            let ahead = input.fill_buf()?;
            if size > 8 && ahead.len() >= 8 && ahead[..4] != elf::MAGIC && ahead[4..8] == elf::MAGIC {
                return Err(Fault::OtherLayout);
            }
        }
        if form.compression == Compression::PerFile {
            let stored_size = number(&read_array::<4>(input)?, form.order);
            let mut stored = input.by_ref().take(stored_size);
            let mut unpacked = Decoder::with_buffer(&mut stored)?.take(size);
            visit_all(entry, &mut unpacked, &mut visit)?;
            io::copy(&mut stored, &mut io::sink())?;
        } else {
            visit_all(entry, &mut input.by_ref().take(size), &mut visit)?;
        }
    }
    Err(Fault::Damaged("it has no end".to_owned()))
}

/// Visits an entry, then makes sure that all of its content was there and is consumed.
fn visit_all(
    entry: Entry,
    body: &mut io::Take<impl Read>,
    visit: &mut impl FnMut(Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), Fault> {
    visit(entry, body)?;
    io::copy(body, &mut io::sink())?;
    if body.limit() == 0 { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
}

fn read_array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads up to a NUL. What is too long or no text is no name, so something else was assumed wrongly.
fn read_name(input: &mut impl BufRead) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    input.by_ref().take(MAX_NAME as u64 + 1).read_until(0, &mut bytes)?;
    match bytes.pop() {
        Some(0) => String::from_utf8(bytes).map_err(|_| Fault::OtherLayout),
        _ if bytes.len() >= MAX_NAME => Err(Fault::OtherLayout),
        _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

/// Counts what is consumed, which is less than what the buffer behind it has read.
struct Counted<R> {
    inner: R,
    consumed: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.consumed += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.consumed += count as u64;
        self.inner.consume(count);
    }
}
