//! Packages of the RPM package manager: a lead, two headers, and a compressed cpio archive.
//!
//! Source: "Package File Format" of the Linux Standard Base, and cpio(5) for the form called `newc`. The `rpm` crate
//! reads the archive of files into memory, and trusts the sizes that it finds.

use std::io::{self, BufReader, Read};

use fs_err::File;
use kiln_fetch::archive::decoded;

use super::bounds::Meter;
use super::{Control, Member, MemberKind, PackageError, Visit, inside};

/// How it begins.
pub(super) const MAGIC: &[u8] = &[0xed, 0xab, 0xee, 0xdb];
const LEAD: usize = 96;
const HEADER: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
/// Entries of a header at most; a package of many files has some hundred.
const MOST_ENTRIES: u32 = 100_000;
/// Bytes of a header at most; names and digests of many files are in it.
const MOST_BYTES: u32 = 256 << 20;
/// Bytes of a name or of a link's text at most.
const MOST_NAME: u32 = 64 << 10;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const ARCH: u32 = 1022;
const REQUIRES: u32 = 1049;

/// Visits the files of a package.
pub(super) fn walk(file: File, meter: &Meter, visit: &mut Visit<'_>) -> Result<Control, PackageError> {
    let mut input = BufReader::new(file);
    let mut lead = [0; LEAD];
    input.read_exact(&mut lead)?;
    let signatures = Header::read(&mut input)?;
    // The first header is padded to eight bytes.
    io::copy(&mut (&mut input).take(signatures.size.next_multiple_of(8) - signatures.size), &mut io::sink())?;
    let header = Header::read(&mut input)?;
    let release = header.text(RELEASE);
    let version = header.text(VERSION);
    let control = Control {
        name: header.text(NAME),
        version: if release.is_empty() { version } else { format!("{version}-{release}") },
        arch: header.text(ARCH),
        depends: header.texts(REQUIRES),
    };
    let (_, plain) = decoded(Box::new(input))?;
    walk_cpio(&mut meter.limited(plain), meter, visit)?;
    Ok(control)
}

/// A header: entries, and the bytes that they point to.
struct Header {
    /// Tag, place, number of texts.
    entries: Vec<(u32, u32, u32)>,
    store: Vec<u8>,
    /// Bytes that it takes in the file.
    size: u64,
}

impl Header {
    fn read(input: &mut impl Read) -> Result<Self, PackageError> {
        let mut start = [0; 16];
        input.read_exact(&mut start)?;
        let [count, size] = [8, 12].map(|at| number(&start, at));
        if start[..4] != HEADER || count > MOST_ENTRIES || size > MOST_BYTES {
            return Err(PackageError::damaged("a header of the package is none"));
        }
        let mut index = vec![0; count as usize * 16];
        input.read_exact(&mut index)?;
        let mut store = Vec::new();
        input.take(size.into()).read_to_end(&mut store)?;
        if store.len() != size as usize {
            return Err(PackageError::damaged("it ends early"));
        }
        let entries = index.chunks_exact(16).map(|entry| (number(entry, 0), number(entry, 8), number(entry, 12)));
        Ok(Self { entries: entries.collect(), store, size: 16 + u64::from(count) * 16 + u64::from(size) })
    }

    /// The texts of a tag; none if it is not there.
    fn texts(&self, tag: u32) -> Vec<String> {
        let Some((_, place, count)) = self.entries.iter().find(|(found, ..)| *found == tag) else { return Vec::new() };
        let bytes = self.store.get(*place as usize..).unwrap_or_default();
        let texts = bytes.split(|byte| *byte == 0).take((*count).min(MOST_ENTRIES) as usize);
        texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    fn text(&self, tag: u32) -> String {
        self.texts(tag).into_iter().next().unwrap_or_default()
    }
}

/// A number of four bytes, the largest first.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

fn walk_cpio(input: &mut dyn Read, meter: &Meter, visit: &mut Visit<'_>) -> Result<(), PackageError> {
    loop {
        meter.member()?;
        let mut header = [0; 110];
        input.read_exact(&mut header)?;
        match &header[..6] {
            b"070701" | b"070702" => {}
            b"07070X" => {
                let what = "it has files of more than 4 GB, in a form that kiln does not read";
                return Err(PackageError::Unsupported(what.to_owned()));
            }
            _ => return Err(PackageError::damaged("its payload is no cpio archive")),
        }
        let field = |index: usize| {
            let text = std::str::from_utf8(&header[6 + index * 8..14 + index * 8]).unwrap_or_default();
            u32::from_str_radix(text, 16).map_err(|_| PackageError::damaged("a number in its cpio archive is none"))
        };
        let (mode, size, name_size) = (field(1)?, field(6)?, field(11)?);
        if name_size > MOST_NAME {
            return Err(PackageError::damaged("a name in its cpio archive is too long"));
        }
        let mut name = vec![0; name_size as usize];
        input.read_exact(&mut name)?;
        pad(input, 110 + u64::from(name_size))?;
        let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
        if name == "TRAILER!!!" {
            return Ok(());
        }
        let mut body = input.take(size.into());
        if let Some(name) = inside(&name)? {
            let kind = match mode & 0o170_000 {
                0o100_000 => MemberKind::File,
                0o040_000 => MemberKind::Folder,
                0o120_000 if size <= MOST_NAME => {
                    let mut text = Vec::new();
                    body.read_to_end(&mut text)?;
                    MemberKind::Link(String::from_utf8_lossy(&text).into_owned())
                }
                _ => MemberKind::Other,
            };
            visit(Member { name, mode: mode & 0o7777, kind, is_control: false, body: &mut body })?;
        }
        io::copy(&mut body, &mut io::sink())?;
        if body.limit() > 0 {
            return Err(PackageError::damaged("it ends early"));
        }
        pad(input, size.into())?;
    }
}

/// Reads over what fills up to four bytes.
fn pad(input: &mut dyn Read, size: u64) -> io::Result<()> {
    io::copy(&mut input.take(size.next_multiple_of(4) - size), &mut io::sink()).map(drop)
}
