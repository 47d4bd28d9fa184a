//! The probe: a program of a few instructions per architecture that ends with 41 plus the number of its arguments,
//! the program's own name included.
//!
//! The right answer is [`RIGHT_ANSWER`]. A handler that hands its interpreter an extra argument (flag `P` with a QEMU
//! that does not know it) runs programs, but with shifted arguments; the sum gives it away.

use kiln_graph::Arch;

use crate::elf;

/// The exit code of a probe that ran, started without arguments.
pub(crate) const RIGHT_ANSWER: i64 = 42;

/// Where the probe of an architecture is in the probe image.
pub(crate) fn path(arch: Arch) -> String {
    format!("probe/{}", arch.qemu_name())
}

/// The probe as an ELF file.
pub(crate) fn file(arch: Arch) -> Vec<u8> {
    elf::executable(arch, code(arch))
}

/// Each line loads the argument count from the stack, adds 41, and calls exit.
#[rustfmt::skip]
fn code(arch: Arch) -> &'static [u8] {
    match arch {
        Arch::Amd64 => &[
            0x8b, 0x3c, 0x24,             // mov edi, [rsp]
            0x83, 0xc7, 0x29,             // add edi, 41
            0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, 60
            0x0f, 0x05,                   // syscall
        ],
        Arch::I386 => &[
            0x8b, 0x1c, 0x24,             // mov ebx, [esp]
            0x83, 0xc3, 0x29,             // add ebx, 41
            0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1
            0xcd, 0x80,                   // int 0x80
        ],
        Arch::Arm64 => &[
            0xe0, 0x03, 0x40, 0xf9,       // ldr x0, [sp]
            0x00, 0xa4, 0x00, 0x91,       // add x0, x0, #41
            0xa8, 0x0b, 0x80, 0xd2,       // mov x8, #93
            0x01, 0x00, 0x00, 0xd4,       // svc #0
        ],
        Arch::ArmV7 | Arch::ArmV6 => &[
            0x00, 0x00, 0x9d, 0xe5,       // ldr r0, [sp]
            0x29, 0x00, 0x80, 0xe2,       // add r0, r0, #41
            0x01, 0x70, 0xa0, 0xe3,       // mov r7, #1
            0x00, 0x00, 0x00, 0xef,       // svc 0
        ],
        Arch::Riscv64 => &[
            0x03, 0x35, 0x01, 0x00,       // ld a0, 0(sp)
            0x13, 0x05, 0x95, 0x02,       // addi a0, a0, 41
            0x93, 0x08, 0xd0, 0x05,       // li a7, 93
            0x73, 0x00, 0x00, 0x00,       // ecall
        ],
        Arch::Ppc64le => &[
            0x00, 0x00, 0x61, 0xe8,       // ld r3, 0(r1)
            0x29, 0x00, 0x63, 0x38,       // addi r3, r3, 41
            0x01, 0x00, 0x00, 0x38,       // li r0, 1
            0x02, 0x00, 0x00, 0x44,       // sc
        ],
        Arch::S390x => &[
            0xe3, 0x20, 0xf0, 0x00, 0x00, 0x04, // lg %r2, 0(%r15)
            0xa7, 0x2b, 0x00, 0x29,             // aghi %r2, 41
            0x0a, 0x01,                         // svc 1
        ],
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![expect(clippy::print_stderr, reason = "a skipped architecture says so")]

    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    /// Runs each probe itself where this machine can, else under `qemu-NAME[-static]` from `KILN_TEST_QEMU_DIR` or PATH.
    #[test]
    fn every_probe_gives_the_right_answer() {
        let folder = std::env::temp_dir().join(format!("kiln-probe-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for arch in Arch::ALL {
            let path = folder.join(arch.qemu_name());
            std::fs::write(&path, file(arch)).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            let host = Arch::from_machine(std::env::consts::ARCH);
            let qemu = format!("qemu-{}-static", arch.qemu_name());
            let mut command = match std::env::var_os("KILN_TEST_QEMU_DIR") {
                _ if host == Some(arch) || (host, arch) == (Some(Arch::Amd64), Arch::I386) => Command::new(&path),
                Some(folder) => Command::new(std::path::Path::new(&folder).join(qemu)),
                None => Command::new(qemu),
            };
            if command.get_program() != path.as_os_str() {
                command.arg(&path);
            }
            match command.status() {
                Ok(status) => assert_eq!(status.code().map(i64::from), Some(RIGHT_ANSWER), "{arch:?}"),
                Err(error) => eprintln!("SKIPPED: {arch:?}: {:?}: {error}", command.get_program()),
            }
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
