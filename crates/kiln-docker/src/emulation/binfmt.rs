//! How Linux tells programs of an architecture by their first bytes. Source: QEMU's `scripts/qemu-binfmt-conf.sh`.

use kiln_graph::{Arch, Endian};

/// A rule for `/proc/sys/fs/binfmt_misc/register`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// The first 20 bytes of the ELF header.
    pub(super) magic: [u8; 20],
    /// The bits of them that count.
    pub(super) mask: [u8; 20],
}

/// The rule of an architecture.
pub(super) fn rule(arch: Arch) -> Rule {
    let elf = arch.elf();
    let big = elf.endian == Endian::Big;
    let mut magic = [0; 20];
    magic[..7].copy_from_slice(&[
        0x7f,
        b'E',
        b'L',
        b'F',
        if elf.bits == 64 { 2 } else { 1 },
        if big { 2 } else { 1 },
        1,
    ]);
    // ET_EXEC; the mask lets ET_DYN through, too.
    let order = if big { u16::to_be_bytes } else { u16::to_le_bytes };
    magic[16..18].copy_from_slice(&order(2));
    magic[18..20].copy_from_slice(&order(elf.machine));
    let mut mask = [0xff; 20];
    // The OS ABI byte says System V or Linux; for ppc64le and s390x only its low bits are free.
    mask[7] = if matches!(arch, Arch::Ppc64le | Arch::S390x) { 0xfc } else { 0 };
    mask[if big { 17 } else { 16 }] = 0xfe;
    if arch == Arch::Ppc64le {
        mask[19] = 0;
    }
    Rule { magic, mask }
}

/// The architecture that a handler's magic is for, by the bytes that tell architectures apart.
pub(super) fn arch_of(magic: &[u8]) -> Option<Arch> {
    Arch::ALL.into_iter().filter(|arch| *arch != Arch::ArmV6).find(|arch| {
        let elf = arch.elf();
        let big = elf.endian == Endian::Big;
        let machine = if big { elf.machine.to_be_bytes() } else { elf.machine.to_le_bytes() };
        magic.len() >= 20
            && magic[..4] == *b"\x7fELF"
            && magic[4] == if elf.bits == 64 { 2 } else { 1 }
            && magic[5] == if big { 2 } else { 1 }
            && magic[18..20] == machine
    })
}

/// Bytes as the kernel's `register` file takes them.
pub(super) fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<Vec<_>>().concat()
}

/// Bytes out of the hexadecimal digits in which the kernel shows a rule.
pub(super) fn bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arch: Arch, magic: &str, mask: &str) {
        let rule = rule(arch);
        assert_eq!(crate::hex(&rule.magic), magic, "{arch:?}");
        assert_eq!(crate::hex(&rule.mask), mask, "{arch:?}");
        assert_eq!(arch_of(&rule.magic), Some(if arch == Arch::ArmV6 { Arch::ArmV7 } else { arch }));
    }

    #[test]
    fn the_rules_are_qemus() {
        let common = "ffffffffffffff00fffffffffffffffffeffffff";
        check(Arch::Arm64, "7f454c460201010000000000000000000200b700", common);
        check(Arch::ArmV7, "7f454c4601010100000000000000000002002800", common);
        check(Arch::ArmV6, "7f454c4601010100000000000000000002002800", common);
        check(Arch::Riscv64, "7f454c460201010000000000000000000200f300", common);
        check(Arch::Ppc64le, "7f454c4602010100000000000000000002001500", "fffffffffffffffcfffffffffffffffffeffff00");
        check(Arch::S390x, "7f454c4602020100000000000000000000020016", "fffffffffffffffcfffffffffffffffffffeffff");
        check(Arch::Amd64, "7f454c4602010100000000000000000002003e00", common);
    }

    #[test]
    fn rules_read_back() {
        let rule = rule(Arch::Arm64);
        assert_eq!(bytes(&crate::hex(&rule.magic)).as_deref(), Some(&rule.magic[..]));
        assert!(escaped(&rule.magic).starts_with(r"\x7f\x45\x4c\x46\x02"));
        assert_eq!(bytes("7f4"), None);
        assert_eq!(arch_of(b"#!"), None);
    }
}
