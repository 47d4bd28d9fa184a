//! Packages of Debian: an `ar` archive of two tar archives. Source: the manual page deb(5).

use std::io::{self, Read};

use fs_err::File;
use kiln_fetch::archive::decoded;

use super::bounds::Meter;
use super::{Control, Member, MemberKind, PackageError, Visit, read_text, tar};

/// How it begins.
pub(super) const MAGIC: &[u8] = b"!<arch>\ndebian-binary";
/// Length of `!<arch>` with its line end.
const GLOBAL: usize = 8;
/// Length of a member's header.
const HEADER: usize = 60;

/// Visits the files of a package; those of `control.tar` as `DEBIAN/...`.
pub(super) fn walk(mut file: File, meter: &Meter, visit: &mut Visit<'_>) -> Result<Control, PackageError> {
    let mut global = [0; GLOBAL];
    file.read_exact(&mut global)?;
    let mut control = None;
    let mut has_data = false;
    while let Some((name, size)) = header(&mut file)? {
        meter.member()?;
        // The decoder owns what it reads, and reads on after an end.
        let part = Part::new(&file, size)?;
        if name.starts_with("control.tar") {
            let (_, plain) = decoded(Box::new(part))?;
            control = Some(walk_control(&mut meter.limited(plain), meter, visit)?);
        } else if name.starts_with("data.tar") {
            has_data = true;
            let (_, plain) = decoded(Box::new(part))?;
            tar::walk(&mut meter.limited(plain), meter, visit)?;
        }
        // Contents are padded to even lengths.
        skip(&mut file, size + size % 2)?;
    }
    if !has_data {
        return Err(PackageError::damaged("it has no data.tar"));
    }
    control.ok_or_else(|| PackageError::damaged("it has no control file"))
}

/// Name and size of the next member.
fn header(file: &mut File) -> Result<Option<(String, u64)>, PackageError> {
    let mut header = Vec::new();
    file.take(HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    if header.len() < HEADER || !header.ends_with(b"`\n") {
        return Err(PackageError::damaged("a header of its ar archive is none"));
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let size = text(&header[48..58]).parse().map_err(|_| PackageError::damaged("a size in its ar archive is none"))?;
    Ok(Some((text(&header[..16]).trim_end_matches('/').to_owned(), size)))
}

fn walk_control(plain: &mut dyn Read, meter: &Meter, visit: &mut Visit<'_>) -> Result<Control, PackageError> {
    let mut control = Control::default();
    tar::walk(plain, meter, &mut |member| {
        let name = format!("DEBIAN/{}", member.name);
        if member.name == "control" && member.kind == MemberKind::File {
            let text = read_text(member.body)?;
            control = parse(&text);
            let mut bytes = text.as_bytes();
            return visit(Member { name, is_control: true, body: &mut bytes, ..member });
        }
        visit(Member { name, is_control: true, ..member })
    })?;
    Ok(control)
}

fn parse(text: &str) -> Control {
    let mut control = Control::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim().to_owned();
        match key {
            "Package" => control.name = value,
            "Version" => control.version = value,
            "Architecture" => control.arch = value,
            "Depends" | "Pre-Depends" => control.depends.extend(value.split(',').map(|one| one.trim().to_owned())),
            _ => {}
        }
    }
    control
}

/// A part of a file with a position of its own.
struct Part {
    file: std::fs::File,
    position: u64,
    end: u64,
}

impl Part {
    /// The next `size` bytes of a file, whose position stays.
    fn new(file: &File, size: u64) -> io::Result<Self> {
        use std::io::Seek;
        let position = (&mut &*file).stream_position()?;
        Ok(Self { file: file.file().try_clone()?, position, end: position.saturating_add(size) })
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..left], self.position)?;
        if count == 0 && left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}

fn skip(file: &mut File, size: u64) -> Result<(), PackageError> {
    use std::io::{Seek, SeekFrom};
    let size = i64::try_from(size).map_err(|_| PackageError::damaged("a size in its ar archive is none"))?;
    file.seek(SeekFrom::Current(size))?;
    Ok(())
}
