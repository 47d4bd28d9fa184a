//! The smallest ELF files that run: a header, one segment, code. Source: the ELF gABI.

use kiln_graph::{Arch, Endian};

/// Where the segment is mapped. A multiple of 64 KiB, the largest page size of the architectures in question.
const BASE: u64 = 0x40_0000;
const ALIGN: u64 = 0x1_0000;
const READ_EXECUTE: u32 = 5;

/// A static executable whose entry point is the first byte of `code`, which must not depend on its address.
pub(crate) fn executable(arch: Arch, code: &[u8]) -> Vec<u8> {
    let identity = arch.elf();
    let wide = identity.bits == 64;
    let (header, program_header): (u16, u16) = if wide { (64, 56) } else { (52, 32) };
    let start = u64::from(header) + u64::from(program_header);
    let size = start + code.len() as u64;
    let mut out = Writer { bytes: Vec::new(), big: identity.endian == Endian::Big, wide };
    out.bytes.extend([0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, if out.big { 2 } else { 1 }, 1, 0]);
    out.bytes.extend([0; 8]);
    out.half(2); // ET_EXEC
    out.half(identity.machine);
    out.word(1);
    out.address(BASE + start);
    out.address(u64::from(header));
    out.address(0);
    out.word(flags(arch));
    for value in [header, program_header, 1, 0, 0, 0] {
        out.half(value);
    }
    out.word(1); // PT_LOAD
    if wide {
        out.word(READ_EXECUTE);
    }
    out.address(0);
    out.address(BASE);
    out.address(BASE);
    out.address(size);
    out.address(size);
    if !wide {
        out.word(READ_EXECUTE);
    }
    out.address(ALIGN);
    out.bytes.extend(code);
    out.bytes
}

/// `e_flags`: the ABI, where the architecture wants it told.
fn flags(arch: Arch) -> u32 {
    match arch {
        Arch::ArmV7 | Arch::ArmV6 => 0x0500_0000, // EABI version 5
        Arch::Ppc64le => 2,                       // ELFv2: the entry point is code, not a function descriptor
        _ => 0,
    }
}

struct Writer {
    bytes: Vec<u8>,
    big: bool,
    wide: bool,
}

impl Writer {
    fn half(&mut self, value: u16) {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn address(&mut self, value: u64) {
        if self.wide {
            self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        } else {
            self.word(u32::try_from(value).expect("every address of ours is small"));
        }
    }
}
