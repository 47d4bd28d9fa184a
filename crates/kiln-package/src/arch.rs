//! What the formats call the architectures. Debian's names are those of [`Arch::debian_name`].

use kiln_graph::Arch;

/// Fedora's names; `armv6hl` is that of distributions for old boards.
pub(crate) fn rpm(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "x86_64",
        Arch::I386 => "i686",
        Arch::Arm64 => "aarch64",
        Arch::ArmV7 => "armv7hl",
        Arch::ArmV6 => "armv6hl",
        Arch::Riscv64 => "riscv64",
        Arch::Ppc64le => "ppc64le",
        Arch::S390x => "s390x",
    }
}

/// Alpine's names, which are also in the name of its C library.
pub(crate) fn apk(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "x86_64",
        Arch::I386 => "x86",
        Arch::Arm64 => "aarch64",
        Arch::ArmV7 => "armv7",
        Arch::ArmV6 => "armhf",
        Arch::Riscv64 => "riscv64",
        Arch::Ppc64le => "ppc64le",
        Arch::S390x => "s390x",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distribution_has_its_own_name() {
        let names = |arch: Arch| (arch.debian_name(), rpm(arch), apk(arch));
        assert_eq!(names(Arch::Amd64), ("amd64", "x86_64", "x86_64"));
        assert_eq!(names(Arch::I386), ("i386", "i686", "x86"));
        assert_eq!(names(Arch::Arm64), ("arm64", "aarch64", "aarch64"));
        assert_eq!(names(Arch::ArmV7), ("armhf", "armv7hl", "armv7"));
        assert_eq!(names(Arch::ArmV6), ("armel", "armv6hl", "armhf"));
        assert_eq!(names(Arch::Ppc64le), ("ppc64el", "ppc64le", "ppc64le"));
    }
}
