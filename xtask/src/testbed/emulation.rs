//! Emulators borrowed for making root file systems.
//!
//! Handlers are global to the kernel, so one that works is used as it is, no other one is ever touched, and ours is
//! removed as soon as it is not needed: whether kiln can install emulation itself is for its own tests to show.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::images::{ARM64, ARMV7, Architecture};
use super::layout::Layout;
use super::packages;
use crate::process::succeeds;

/// Every handler of ours has a name that begins so.
const PREFIX: &str = "kiln-testbed-";

/// A machine that this one cannot run by itself.
struct Machine {
    architecture: Architecture,
    qemu: &'static str,
    /// ELF class: 1 for 32 bits, 2 for 64.
    class: u8,
    /// `e_machine`.
    number: u16,
    /// `e_flags`.
    flags: u32,
    /// `exit(0)`.
    code: &'static [u32],
}

const MACHINES: [Machine; 2] = [
    Machine {
        architecture: ARM64,
        qemu: "aarch64",
        class: 2,
        number: 0xb7,
        flags: 0,
        code: &[0xd280_0000, 0xd280_0ba8, 0xd400_0001], // mov x0, 0; mov x8, 93; svc 0
    },
    Machine {
        architecture: ARMV7,
        qemu: "arm",
        class: 1,
        number: 0x28,
        flags: 0x0500_0000,                             // EABI version 5
        code: &[0xe3a0_0000, 0xe3a0_7001, 0xef00_0000], // mov r0, 0; mov r7, 1; svc 0
    },
];

/// Lets foreign programs run on this host while it lives.
pub(crate) struct Emulation {
    registry: PathBuf,
}

impl Emulation {
    /// Uses what is there, or registers handlers of our own for the time being.
    pub(crate) fn borrow(layout: &Layout, architectures: &[Architecture]) -> Result<Self> {
        let emulation = Self { registry: layout.run().join("binfmt") };
        for machine in MACHINES.iter().filter(|machine| architectures.contains(&machine.architecture)) {
            emulation.ensure(layout, machine)?;
        }
        Ok(emulation)
    }

    fn ensure(&self, layout: &Layout, machine: &Machine) -> Result<()> {
        let probe = layout.run().join("probe");
        fs::create_dir_all(&probe)?;
        let program = probe.join("exit-0");
        fs::write(&program, machine.program()).with_context(|| format!("cannot write {}", program.display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        // In a chroot only a handler works that the kernel has opened beforehand, which is what a foreign chroot needs.
        let works = || succeeds(Command::new("chroot").arg(&probe).arg("/exit-0"));
        if works() {
            return Ok(());
        }
        let qemu = layout.cache().join("qemu");
        if !qemu.exists() {
            packages::unpack("qemu-user-static", &qemu)?;
        }
        fs::create_dir_all(&self.registry)?;
        if !self.registry.join("register").exists() {
            mount("binfmt_misc", &self.registry, "binfmt_misc", MountFlags::empty(), None)
                .context("this kernel does not let us register emulators (binfmt_misc)")?;
        }
        let interpreter = qemu.join(format!("usr/bin/qemu-{}-static", machine.qemu));
        fs::write(self.registry.join("register"), machine.rule(&interpreter))
            .with_context(|| format!("cannot register an emulator for {}", machine.qemu))?;
        if !works() {
            bail!("the emulator for {} is registered, but does not run a program", machine.qemu);
        }
        Ok(())
    }

    /// Removes the handlers that a crash may have left.
    pub(crate) fn sweep(layout: &Layout) {
        drop(Self { registry: layout.run().join("binfmt") });
    }
}

impl Drop for Emulation {
    fn drop(&mut self) {
        if !self.registry.join("register").exists() {
            return;
        }
        for machine in &MACHINES {
            let handler = self.registry.join(format!("{PREFIX}{}", machine.qemu));
            if handler.exists() {
                let _ = fs::write(handler, "-1");
            }
        }
        let _ = unmount(&self.registry, UnmountFlags::DETACH);
    }
}

impl Machine {
    /// A line for the kernel's register.
    fn rule(&self, interpreter: &Path) -> String {
        let (low, high) = (self.number & 0xff, self.number >> 8);
        let magic = format!(r"\x7fELF\x0{}\x01\x01{}\x02\x00\x{low:02x}\x{high:02x}", self.class, r"\x00".repeat(9));
        let mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
        format!(":{PREFIX}{}:M::{magic}:{mask}:{}:F", self.qemu, interpreter.display())
    }

    /// The smallest program: an ELF header, one program header, and `exit(0)`.
    fn program(&self) -> Vec<u8> {
        const BASE: u64 = 0x1_0000;
        let wide = self.class == 2;
        let (header, entry) = if wide { (64_u16, 56_u16) } else { (52, 32) };
        let start = u64::from(header + entry);
        let size = start + 4 * self.code.len() as u64;
        let mut elf = [b"\x7fELF".as_slice(), &[self.class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        let half = |elf: &mut Vec<u8>, values: &[u16]| elf.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let word = |elf: &mut Vec<u8>, values: &[u32]| elf.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        // An address or a size.
        let long = |elf: &mut Vec<u8>, values: &[u64]| {
            elf.extend(values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(if wide { 8 } else { 4 })));
        };
        half(&mut elf, &[2, self.number]); // executable
        word(&mut elf, &[1]);
        long(&mut elf, &[BASE + start, u64::from(header), 0]); // entry, program headers, no sections
        word(&mut elf, &[self.flags]);
        half(&mut elf, &[header, entry, 1, 0, 0, 0]);
        // Load, readable and executable: the flags stand elsewhere in the two classes.
        word(&mut elf, &[1]);
        if wide {
            word(&mut elf, &[5]);
        }
        long(&mut elf, &[0, BASE, BASE, size, size]);
        if !wide {
            word(&mut elf, &[5]);
        }
        long(&mut elf, &[0x1000]);
        word(&mut elf, self.code);
        elf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probes_are_whole_elf_files() {
        let [arm64, arm] = MACHINES.each_ref().map(Machine::program);
        assert_eq!((arm64.len(), arm64[18]), (132, 0xb7));
        assert_eq!(u64::from_le_bytes(arm64[24..32].try_into().unwrap()), 0x1_0078);
        assert_eq!((arm.len(), arm[18]), (96, 0x28));
        assert_eq!(u32::from_le_bytes(arm[24..28].try_into().unwrap()), 0x1_0054);
    }

    #[test]
    fn a_rule_names_its_machine() {
        let rule = MACHINES[1].rule(Path::new("/qemu"));
        assert!(rule.starts_with(r":kiln-testbed-arm:M::\x7fELF\x01\x01\x01\x00"), "{rule}");
        assert!(rule.contains(r"\x02\x00\x28\x00:\xff"), "{rule}");
    }
}
