//! The reader: header, program headers, dynamic segment, symbol versions. Every size that a file states is bounded
//! before memory is reserved for it, and every loop by a count of our own.

use std::io;

use kiln_graph::{ElfIdentity, Endian};
use object::elf;
use object::pod::{Pod, from_bytes, slice_from_bytes};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endian as _, Endianness};

use super::{ByteSource, ElfError, ElfFacts, ElfKind, Libc, MAGIC, Relro, SourceError, Stack, VersionNeed};

/// Program headers read at most; real files have around a dozen.
const MAX_SEGMENTS: u16 = 4096;
/// Bytes of dynamic entries read at most; real files have a few hundred.
const MAX_DYNAMIC: u64 = 1 << 20;
/// Libraries and versions read at most.
const MAX_NEEDS: usize = 8192;
/// Bytes of a name read at most: Linux's `PATH_MAX`, times some for lists of folders.
const MAX_STRING: u64 = 16 << 10;
/// Bytes of a name read at once.
const STRING_STEP: u64 = 256;

/// One program header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) kind: elf::ProgramType,
    pub(crate) flags: elf::ProgramFlags,
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) file_size: u64,
}

/// Header and program headers: enough to know where the rest is.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) identity: ElfIdentity,
    pub(crate) segments: Vec<Segment>,
    os_abi: u8,
    flags: u32,
    file_type: u16,
}

/// Reads the facts of an ELF file.
pub fn read(source: &(impl ByteSource + ?Sized)) -> Result<ElfFacts, ElfError> {
    let layout = layout(source)?;
    if layout.identity.bits == 64 {
        facts::<elf::FileHeader64<Endianness>>(source, &layout)
    } else {
        facts::<elf::FileHeader32<Endianness>>(source, &layout)
    }
}

/// Reads header and program headers alone.
pub(crate) fn layout(source: &(impl ByteSource + ?Sized)) -> Result<Layout, ElfError> {
    let ident = match source.size() {
        0..16 => return Err(ElfError::NotElf),
        _ => take(source, 0, 16, "header")?,
    };
    if ident[..4] != MAGIC {
        return Err(ElfError::NotElf);
    }
    match ident[4] {
        1 => layout_of::<elf::FileHeader32<Endianness>>(source),
        2 => layout_of::<elf::FileHeader64<Endianness>>(source),
        _ => Err(ElfError::malformed("class")),
    }
}

fn layout_of<H: FileHeader<Endian = Endianness>>(source: &(impl ByteSource + ?Sized)) -> Result<Layout, ElfError> {
    let bytes = take(source, 0, size_of::<H>() as u64, "header")?;
    let header: &H = pod(&bytes)?;
    if !header.is_supported() {
        return Err(ElfError::malformed("byte order or version"));
    }
    let endian = header.endian().map_err(|_| ElfError::malformed("byte order"))?;
    let count = header.e_phnum(endian);
    if count > MAX_SEGMENTS {
        return Err(ElfError::malformed("number of program headers"));
    }
    let mut segments = Vec::with_capacity(count.into());
    if count > 0 {
        if usize::from(header.e_phentsize(endian)) != size_of::<H::ProgramHeader>() {
            return Err(ElfError::malformed("size of a program header"));
        }
        let len = u64::from(count) * size_of::<H::ProgramHeader>() as u64;
        let table = take(source, header.e_phoff(endian).into(), len, "program headers")?;
        let (headers, _) = slice_from_bytes::<H::ProgramHeader>(&table, count.into())
            .map_err(|()| ElfError::malformed("program headers"))?;
        segments.extend(headers.iter().map(|header| Segment {
            kind: header.p_type(endian),
            flags: header.p_flags(endian),
            offset: header.p_offset(endian).into(),
            address: header.p_vaddr(endian).into(),
            file_size: header.p_filesz(endian).into(),
        }));
    }
    let order = if endian.is_big_endian() { Endian::Big } else { Endian::Little };
    let bits = if header.is_class_64() { 64 } else { 32 };
    Ok(Layout {
        identity: ElfIdentity { bits, endian: order, machine: header.e_machine(endian).0 },
        segments,
        os_abi: header.e_ident().os_abi.0,
        flags: header.e_flags(endian).0,
        file_type: header.e_type(endian).0,
    })
}

/// The dynamic segment's entries that matter here.
#[derive(Default)]
struct Dynamic {
    needed: Vec<u64>,
    rpath: Option<u64>,
    runpath: Option<u64>,
    soname: Option<u64>,
    strings: Option<u64>,
    strings_size: u64,
    version_needs: Option<u64>,
    version_need_count: u64,
    bind_now: bool,
    text_relocations: bool,
    pie: bool,
}

impl Dynamic {
    fn read<H: FileHeader<Endian = Endianness>>(bytes: &[u8], endian: Endianness) -> Result<Self, ElfError> {
        let mut dynamic = Self::default();
        let count = bytes.len() / size_of::<H::Dyn>();
        let (entries, _) =
            slice_from_bytes::<H::Dyn>(bytes, count).map_err(|()| ElfError::malformed("dynamic segment"))?;
        for entry in entries {
            let value: u64 = entry.d_val(endian).into();
            match entry.d_tag(endian) {
                elf::DT_NULL => break,
                elf::DT_NEEDED if dynamic.needed.len() < MAX_NEEDS => dynamic.needed.push(value),
                elf::DT_SONAME => dynamic.soname = Some(value),
                elf::DT_RPATH => dynamic.rpath = Some(value),
                elf::DT_RUNPATH => dynamic.runpath = Some(value),
                elf::DT_STRTAB => dynamic.strings = Some(value),
                elf::DT_STRSZ => dynamic.strings_size = value,
                elf::DT_VERNEED => dynamic.version_needs = Some(value),
                elf::DT_VERNEEDNUM => dynamic.version_need_count = value,
                elf::DT_BIND_NOW => dynamic.bind_now = true,
                elf::DT_TEXTREL => dynamic.text_relocations = true,
                elf::DT_FLAGS => {
                    dynamic.bind_now |= value & elf::DF_BIND_NOW.0 != 0;
                    dynamic.text_relocations |= value & elf::DF_TEXTREL.0 != 0;
                }
                elf::DT_FLAGS_1 => {
                    dynamic.bind_now |= value & elf::DF_1_NOW.0 != 0;
                    dynamic.pie = value & elf::DF_1_PIE.0 != 0;
                }
                _ => {}
            }
        }
        Ok(dynamic)
    }
}

fn facts<H: FileHeader<Endian = Endianness>>(
    source: &(impl ByteSource + ?Sized),
    layout: &Layout,
) -> Result<ElfFacts, ElfError> {
    let endian = match layout.identity.endian {
        Endian::Little => Endianness::Little,
        Endian::Big => Endianness::Big,
    };
    let segment = |kind| layout.segments.iter().find(move |segment| segment.kind == kind);
    let interpreter = match segment(elf::PT_INTERP) {
        Some(segment) if segment.file_size > MAX_STRING => return Err(ElfError::malformed("interpreter")),
        Some(segment) => {
            let bytes = take(source, segment.offset, segment.file_size, "interpreter")?;
            Some(text(bytes.split(|byte| *byte == 0).next().unwrap_or_default()))
        }
        None => None,
    };
    let dynamic = match segment(elf::PT_DYNAMIC) {
        Some(segment) if segment.file_size > MAX_DYNAMIC => return Err(ElfError::malformed("dynamic segment")),
        Some(segment) => {
            let bytes = take(source, segment.offset, segment.file_size, "dynamic segment")?;
            Some(Dynamic::read::<H>(&bytes, endian)?)
        }
        None => None,
    };
    let is_dynamic = dynamic.is_some();
    let dynamic = dynamic.unwrap_or_default();
    let names = Names::new(source, layout, &dynamic)?;
    let folders = |offset: Option<u64>| -> Result<Vec<String>, ElfError> {
        let list = offset.map(|offset| names.get(offset)).transpose()?.unwrap_or_default();
        Ok(list.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect())
    };
    let kind = match layout.file_type {
        1 => ElfKind::Relocatable,
        2 => ElfKind::Executable,
        3 if interpreter.is_some() => ElfKind::Pie,
        3 if dynamic.pie => ElfKind::StaticPie,
        3 => ElfKind::SharedLibrary,
        4 => ElfKind::Core,
        other => ElfKind::Other(other),
    };
    let relro = match (segment(elf::PT_GNU_RELRO), dynamic.bind_now || !is_dynamic) {
        (None, _) => Relro::None,
        (Some(_), false) => Relro::Partial,
        (Some(_), true) => Relro::Full,
    };
    let stack = match segment(elf::PT_GNU_STACK) {
        Some(segment) if segment.flags.0 & elf::PF_X.0 != 0 => Stack::Executable,
        Some(_) => Stack::NotExecutable,
        None => Stack::Unstated,
    };
    let both = elf::PF_W.0 | elf::PF_X.0;
    let loaded = layout.segments.iter().filter(|segment| segment.kind == elf::PT_LOAD);
    let writable_executable = loaded.filter(|segment| segment.flags.0 & both == both).count();
    let mut facts = ElfFacts {
        bits: layout.identity.bits,
        endian: layout.identity.endian,
        machine: layout.identity.machine,
        os_abi: layout.os_abi,
        flags: layout.flags,
        kind,
        interpreter,
        soname: dynamic.soname.map(|offset| names.get(offset)).transpose()?,
        needed: dynamic.needed.iter().map(|offset| names.get(*offset)).collect::<Result<_, _>>()?,
        rpath: folders(dynamic.rpath)?,
        runpath: folders(dynamic.runpath)?,
        versions: version_needs(source, layout, &dynamic, endian, &names)?,
        libc: Libc::Unknown,
        stack,
        relro,
        writable_executable,
        text_relocations: dynamic.text_relocations,
    };
    facts.libc = Libc::of(&facts);
    Ok(facts)
}

/// Follows the chains of `DT_VERNEED`: per library a record, per version of it another.
fn version_needs<S: ByteSource + ?Sized>(
    source: &S,
    layout: &Layout,
    dynamic: &Dynamic,
    endian: Endianness,
    names: &Names<'_, S>,
) -> Result<Vec<VersionNeed>, ElfError> {
    const WHAT: &str = "symbol versions";
    let mut needs = Vec::new();
    let Some(address) = dynamic.version_needs else { return Ok(needs) };
    let mut offset = layout.file_offset(address).ok_or(ElfError::malformed(WHAT))?;
    for _ in 0..dynamic.version_need_count.min(MAX_NEEDS as u64) {
        let bytes = take(source, offset, size_of::<elf::Verneed<Endianness>>() as u64, WHAT)?;
        let record: &elf::Verneed<Endianness> = pod(&bytes)?;
        let library = names.get(record.vn_file.get(endian).into())?;
        let mut version_offset = offset.saturating_add(record.vn_aux.get(endian).into());
        for _ in 0..record.vn_cnt.get(endian) {
            if needs.len() >= MAX_NEEDS {
                return Err(ElfError::malformed(WHAT));
            }
            let bytes = take(source, version_offset, size_of::<elf::Vernaux<Endianness>>() as u64, WHAT)?;
            let version: &elf::Vernaux<Endianness> = pod(&bytes)?;
            needs.push(VersionNeed {
                library: library.clone(),
                version: names.get(version.vna_name.get(endian).into())?,
                weak: version.vna_flags.get(endian).0 & elf::VER_FLG_WEAK.0 != 0,
            });
            match version.vna_next.get(endian) {
                0 => break,
                next => version_offset = version_offset.saturating_add(next.into()),
            }
        }
        match record.vn_next.get(endian) {
            0 => break,
            next => offset = offset.saturating_add(next.into()),
        }
    }
    Ok(needs)
}

impl Layout {
    /// Where in the file the byte that is loaded at `address` lies.
    fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().filter(|segment| segment.kind == elf::PT_LOAD).find_map(|segment| {
            let inside = address.checked_sub(segment.address)?;
            if inside < segment.file_size { segment.offset.checked_add(inside) } else { None }
        })
    }
}

/// The dynamic string table. It is read name by name: that of a large C++ library has tens of megabytes.
struct Names<'a, S: ?Sized> {
    source: &'a S,
    start: u64,
    size: u64,
}

impl<'a, S: ByteSource + ?Sized> Names<'a, S> {
    fn new(source: &'a S, layout: &Layout, dynamic: &Dynamic) -> Result<Self, ElfError> {
        let start = match dynamic.strings {
            Some(address) => layout.file_offset(address).ok_or(ElfError::malformed("string table"))?,
            None => 0,
        };
        let size = if dynamic.strings.is_some() { dynamic.strings_size } else { 0 };
        Ok(Self { source, start, size: size.min(source.size().saturating_sub(start)) })
    }

    fn get(&self, offset: u64) -> Result<String, ElfError> {
        const WHAT: &str = "name outside of the string table";
        let longest = self.size.saturating_sub(offset).min(MAX_STRING);
        let mut name = Vec::new();
        while (name.len() as u64) < longest {
            let step = STRING_STEP.min(longest - name.len() as u64);
            let at = self.start.saturating_add(offset).saturating_add(name.len() as u64);
            let bytes = take(self.source, at, step, WHAT)?;
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                name.extend_from_slice(&bytes[..end]);
                return Ok(text(&name));
            }
            name.extend_from_slice(&bytes);
        }
        Err(ElfError::malformed(WHAT))
    }
}

/// `len` bytes at `offset`, or that the part called `what` is not all there.
fn take(source: &(impl ByteSource + ?Sized), offset: u64, len: u64, what: &'static str) -> Result<Vec<u8>, ElfError> {
    let inside = offset.checked_add(len).is_some_and(|end| end <= source.size());
    let len = usize::try_from(len).ok().filter(|_| inside).ok_or(ElfError::Malformed { what })?;
    source.bytes(offset, len).map_err(|error| match error {
        SourceError::OutOfBounds => ElfError::Malformed { what },
        SourceError::NotKept => ElfError::NotKept,
        SourceError::Io(error) => ElfError::Io(error),
    })
}

fn pod<T: Pod>(bytes: &[u8]) -> Result<&T, ElfError> {
    from_bytes(bytes).map(|(value, _)| value).map_err(|()| ElfError::Io(io::ErrorKind::UnexpectedEof.into()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
