//! Archives, recognised by what they hold: a tar, plain or compressed. Names do not matter.
//!
//! After BuildKit's `isArchivePath`: what can be decompressed and starts with a valid tar header is an archive; all else is
//! a file.

use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

/// Bytes of a tar header.
const BLOCK: usize = 512;
/// Bytes that tell a compression.
const MAGIC: usize = 6;
/// Memory that xz may use, in KiB: its highest level takes 64 MiB, and a header may ask for 4 GiB.
const XZ_MEMORY: u32 = 512 << 10;

type Reader = Box<dyn Read + Send>;

/// An archive that is read as a stream.
pub struct Archive(tar::Archive<Reader>);

impl Archive {
    /// Its entries, in order; each has to be read before the next.
    ///
    /// # Errors
    /// If it was read before.
    pub fn entries(&mut self) -> io::Result<tar::Entries<'_, Reader>> {
        self.0.entries()
    }
}

/// What a stream turned out to be.
pub enum Opened {
    /// An archive.
    Archive(Archive),
    /// Something else, from its first byte on.
    Other(Reader),
}

/// Opens a file as an archive; `None` if it is none.
///
/// # Errors
/// If the file cannot be read.
pub fn open(path: &Path) -> io::Result<Option<Archive>> {
    let file = std::fs::File::open(path)?;
    Ok(match detect(Box::new(BufReader::new(file)))? {
        Opened::Archive(archive) => Some(archive),
        Opened::Other(_) => None,
    })
}

/// Tells what a stream holds. Of what is no archive, the first bytes are given back; if it is compressed, though, its
/// beginning is lost, for nothing but an archive is ever expected to be compressed.
///
/// # Errors
/// If the stream cannot be read.
pub fn detect(mut stream: Reader) -> io::Result<Opened> {
    let head = read_up_to(&mut stream, MAGIC)?;
    let compression = Compression::of(&head);
    let whole: Reader = Box::new(Cursor::new(head).chain(stream));
    let mut plain = match compression {
        None => whole,
        Some(compression) => match compression.decoder(whole) {
            Ok(decoder) => decoder,
            Err(_) => return Ok(Opened::Other(Box::new(io::empty()))),
        },
    };
    let block = match read_up_to(&mut plain, BLOCK) {
        Ok(block) => block,
        // Damaged from the start: a file that only looks compressed.
        Err(_) if compression.is_some() => return Ok(Opened::Other(Box::new(io::empty()))),
        Err(error) => return Err(error),
    };
    let is_tar = is_header(&block);
    let stream: Reader = Box::new(Cursor::new(block).chain(plain));
    Ok(if is_tar { Opened::Archive(Archive(tar::Archive::new(stream))) } else { Opened::Other(stream) })
}

/// A stream without its compression, and the name of that, if it has one; anything else comes as it is.
///
/// # Errors
/// If the stream cannot be read or does not begin as what is compressed.
pub fn decoded(mut stream: Reader) -> io::Result<(Option<&'static str>, Reader)> {
    let head = read_up_to(&mut stream, MAGIC)?;
    let compression = Compression::of(&head);
    let whole: Reader = Box::new(Cursor::new(head).chain(stream));
    match compression {
        None => Ok((None, whole)),
        Some(compression) => Ok((Some(compression.name()), compression.decoder(whole)?)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Compression {
    fn of(head: &[u8]) -> Option<Self> {
        let magics: [(&[u8], Self); 4] = [
            (b"\x1f\x8b\x08", Self::Gzip),
            (b"BZh", Self::Bzip2),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
        ];
        magics.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, compression)| compression)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    fn decoder(self, stream: Reader) -> io::Result<Reader> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(stream)),
            Self::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(stream)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(stream, true, XZ_MEMORY)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::new(stream)?),
        })
    }
}

fn read_up_to(stream: &mut Reader, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most);
    stream.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a block is the header of an entry: its checksum is right. Old archives have no magic.
fn is_header(block: &[u8]) -> bool {
    /// Where a header keeps its checksum; it counts as spaces.
    const SUM: std::ops::Range<usize> = 148..156;
    if block.len() < BLOCK || block.iter().all(|byte| *byte == 0) {
        return false;
    }
    let text = String::from_utf8_lossy(&block[SUM]);
    let Ok(expected) = i64::from_str_radix(text.trim_matches([' ', '\0']), 8) else { return false };
    let counted = |index: usize, byte: u8| if SUM.contains(&index) { b' ' } else { byte };
    let unsigned: i64 = block.iter().enumerate().map(|(i, b)| i64::from(counted(i, *b))).sum();
    let signed: i64 = block.iter().enumerate().map(|(i, b)| i64::from(counted(i, *b).cast_signed())).sum();
    expected == unsigned || expected == signed
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn tarball() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o640);
        builder.append_data(&mut header, "a/b", &b"abc"[..]).expect("entry");
        builder.into_inner().expect("archive")
    }

    fn names(stream: &[u8]) -> Option<Vec<String>> {
        match detect(Box::new(Cursor::new(stream.to_vec()))).expect("readable") {
            Opened::Other(_) => None,
            Opened::Archive(mut archive) => {
                let entries = archive.entries().expect("entries");
                Some(entries.map(|e| e.expect("entry").path().expect("path").display().to_string()).collect())
            }
        }
    }

    #[test]
    fn archives_are_told_by_their_content() {
        let tar = tarball();
        let gzip = |bytes: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).expect("memory");
            out.finish().expect("memory")
        };
        let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bz.write_all(&tar).expect("memory");
        let bz = bz.finish().expect("memory");
        let zstd = zstd::encode_all(tar.as_slice(), 1).expect("memory");
        for stream in [tar.as_slice(), &gzip(&tar), &bz, &zstd, XZ] {
            assert_eq!(names(stream).expect("an archive"), ["a/b"]);
        }
        for stream in [
            &b""[..],
            b"text",
            &[0; 2048],
            &gzip(b"only text"),
            b"\x1f\x8b\x08 not really",
            b"BZh not really",
            b"\xfd7zXZ\0 not really",
            b"\x28\xb5\x2f\xfd not really",
            &tar[..300],
        ] {
            assert_eq!(names(stream), None, "{stream:?}");
        }
        let mut damaged = tar;
        damaged[0] ^= 1;
        assert_eq!(names(&damaged), None);
    }

    #[test]
    fn what_is_no_archive_is_given_back_whole() {
        let text = "FROM scratch\n".repeat(100);
        let Opened::Other(mut rest) = detect(Box::new(Cursor::new(text.clone().into_bytes()))).expect("readable")
        else {
            panic!("an archive?")
        };
        let mut read = String::new();
        rest.read_to_string(&mut read).expect("readable");
        assert_eq!(read, text);
    }

    /// The same archive through `xz`.
    const XZ: &[u8] = include_bytes!("../tests/data/entry.tar.xz");
}
