//! Makes tiny ELF files for tests: one loaded segment that holds everything, and the program headers asked for.

use kiln_graph::{Arch, Endian};

/// What the file shall say.
#[derive(Clone)]
pub(crate) struct TinyElf {
    pub(crate) arch: Arch,
    pub(crate) file_type: u16,
    pub(crate) interpreter: Option<&'static str>,
    pub(crate) needed: Vec<&'static str>,
    /// Library, version, weak.
    pub(crate) versions: Vec<(&'static str, &'static str, bool)>,
    pub(crate) runpath: Option<&'static str>,
    pub(crate) flags_1: u64,
    /// Flags of `PT_GNU_STACK`, if it shall exist.
    pub(crate) stack: Option<u32>,
    pub(crate) relro: bool,
    /// Value of `DT_FLAGS`, if it shall exist.
    pub(crate) flags: Option<u64>,
    pub(crate) load_flags: u32,
    /// Bytes of zeroes between the headers and the rest.
    pub(crate) padding: usize,
}

impl TinyElf {
    /// A position-independent program for glibc.
    pub(crate) fn program(arch: Arch) -> Self {
        Self {
            arch,
            file_type: 3,
            interpreter: Some("/lib64/ld-linux-x86-64.so.2"),
            needed: vec!["libm.so.6", "libc.so.6"],
            versions: vec![("libc.so.6", "GLIBC_2.2.5", false), ("libc.so.6", "GLIBC_2.34", false)],
            runpath: None,
            flags_1: 0x0800_0001,
            stack: Some(6),
            relro: true,
            flags: None,
            load_flags: 5,
            padding: 0,
        }
    }

    /// A program without loader or libraries.
    pub(crate) fn fixed(arch: Arch) -> Self {
        Self { file_type: 2, interpreter: None, needed: vec![], versions: vec![], flags_1: 0, ..Self::program(arch) }
    }

    /// A shared library.
    pub(crate) fn library(arch: Arch, version: &'static str) -> Self {
        Self {
            interpreter: None,
            needed: vec!["libc.so.6"],
            versions: vec![("libc.so.6", version, false)],
            flags_1: 0,
            ..Self::program(arch)
        }
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let identity = self.arch.elf();
        let (wide, big) = (identity.bits == 64, identity.endian == Endian::Big);
        let mut strings = vec![0_u8];
        let mut name = |text: &str| {
            let at = strings.len() as u64;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let needed: Vec<u64> = self.needed.iter().map(|text| name(text)).collect();
        let runpath = self.runpath.map(&mut name);
        let mut libraries: Vec<Library> = Vec::new();
        for (library, version, weak) in &self.versions {
            let version = (name(version), *weak);
            if let Some(known) = libraries.iter_mut().find(|known| known.name == *library) {
                known.versions.push(version);
            } else {
                libraries.push(Library { at: name(library), name: library, versions: vec![version] });
            }
        }
        let dynamic = !self.needed.is_empty() || self.flags_1 != 0;
        let header_size = if wide { 64 } else { 52 };
        let entry_size = if wide { 56 } else { 32 };
        let count = 1
            + usize::from(self.interpreter.is_some())
            + usize::from(dynamic)
            + usize::from(self.stack.is_some())
            + usize::from(self.relro);
        let base = header_size + count * entry_size + self.padding;
        let mut body = Out { bytes: Vec::new(), wide, big };
        let interpreter = self.interpreter.map(|text| {
            body.bytes.extend_from_slice(text.as_bytes());
            body.bytes.push(0);
            (base, body.bytes.len())
        });
        let strings_at = base + body.bytes.len();
        body.bytes.extend_from_slice(&strings);
        let versions_at = base + body.bytes.len();
        for (index, Library { at: file, versions, .. }) in libraries.iter().enumerate() {
            let size = u32::try_from(16 + 16 * versions.len()).unwrap();
            body.u16(1).u16(u16::try_from(versions.len()).unwrap()).u32(u32::try_from(*file).unwrap()).u32(16);
            body.u32(if index + 1 == libraries.len() { 0 } else { size });
            for (index, (version, weak)) in versions.iter().enumerate() {
                body.u32(0).u16(if *weak { 2 } else { 0 }).u16(2).u32(u32::try_from(*version).unwrap());
                body.u32(if index + 1 == versions.len() { 0 } else { 16 });
            }
        }
        let dynamic_at = base + body.bytes.len();
        if dynamic {
            for offset in needed {
                body.word(1).word(offset);
            }
            if let Some(offset) = runpath {
                body.word(29).word(offset);
            }
            if let Some(flags) = self.flags {
                body.word(30).word(flags);
            }
            body.word(5).word(strings_at as u64).word(10).word(strings.len() as u64);
            if !libraries.is_empty() {
                body.word(0x6fff_fffe).word(versions_at as u64).word(0x6fff_ffff).word(libraries.len() as u64);
            }
            body.word(0x6fff_fffb).word(self.flags_1).word(0).word(0);
        }
        let end = base + body.bytes.len();

        let mut out = Out { bytes: Vec::new(), wide, big };
        out.bytes.extend_from_slice(&[0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, if big { 2 } else { 1 }, 1]);
        out.bytes.resize(16, 0);
        out.u16(self.file_type).u16(identity.machine).u32(1).word(0).word(header_size as u64).word(0).u32(0);
        out.u16(u16::try_from(header_size).unwrap()).u16(u16::try_from(entry_size).unwrap());
        out.u16(u16::try_from(count).unwrap()).u16(0).u16(0).u16(0);
        out.segment(1, self.load_flags, 0, end);
        if let Some((at, size)) = interpreter {
            out.segment(3, 4, at, size);
        }
        if dynamic {
            out.segment(2, 6, dynamic_at, end - dynamic_at);
        }
        if let Some(flags) = self.stack {
            out.segment(0x6474_e551, flags, 0, 0);
        }
        if self.relro {
            out.segment(0x6474_e552, 4, 0, 0);
        }
        out.bytes.resize(base, 0);
        out.bytes.extend_from_slice(&body.bytes);
        out.bytes
    }
}

/// A library with its name in the string table and its versions: their names there, and whether they are weak.
struct Library {
    at: u64,
    name: &'static str,
    versions: Vec<(u64, bool)>,
}

struct Out {
    bytes: Vec<u8>,
    wide: bool,
    big: bool,
}

impl Out {
    fn put(&mut self, little: &[u8]) -> &mut Self {
        if self.big {
            self.bytes.extend(little.iter().rev());
        } else {
            self.bytes.extend_from_slice(little);
        }
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn word(&mut self, value: u64) -> &mut Self {
        if self.wide { self.put(&value.to_le_bytes()) } else { self.u32(u32::try_from(value).unwrap()) }
    }

    fn segment(&mut self, kind: u32, flags: u32, at: usize, size: usize) {
        let (at, size) = (at as u64, size as u64);
        if self.wide {
            self.u32(kind).u32(flags).word(at).word(at).word(at).word(size).word(size).word(8);
        } else {
            self.u32(kind).word(at).word(at).word(at).word(size).word(size).u32(flags).word(8);
        }
    }
}
