# The image that `kiln emulation install` runs once, privileged, to register QEMU with the kernel: static emulators and a
# shell, nothing else. Which QEMU it is, the base image's release decides, so that it changes only when the base does.
ARG BASE=debian:bookworm

FROM ${BASE} AS qemu
# The package is unpacked, not installed: its maintainer scripts would register handlers where binfmt-support is present,
# and a build must not change the machine it runs on.
RUN --mount=type=cache,id=apt-lists,target=/var/lib/apt/lists,sharing=locked \
    --mount=type=cache,id=apt-cache,target=/var/cache/apt,sharing=locked <<'SH'
set -eu
apt-get update -o APT::Update::Error-Mode=any || { echo "kiln: error: the lists of Debian packages could not be fetched"; exit 1; }
mkdir -p /tmp/qemu/unpacked && cd /tmp/qemu
chown _apt . 2>/dev/null || true
apt-get download qemu-user-static
dpkg-deb --extract qemu-user-static_*.deb unpacked
mkdir -p /image/usr/bin /image/etc
# Of some 40 emulators only those of platforms that an image can be had for, and none for what the machine runs itself: on
# amd64 a 386 program runs natively, and an emulator registered for it would slow it down.
machines="aarch64 arm i386 mips64el ppc64le riscv64 s390x x86_64"
case $(dpkg --print-architecture) in
amd64 | i386) machines="aarch64 arm mips64el ppc64le riscv64 s390x" ;;
esac
for machine in $machines; do cp "unpacked/usr/bin/qemu-$machine-static" /image/usr/bin/; done
dpkg-deb --field qemu-user-static_*.deb Version >/image/etc/qemu-version
SH

FROM ${BASE}
COPY --from=qemu /image/ /
CMD ["/bin/sh", "-c", "cat /etc/qemu-version; ls /usr/bin/qemu-*-static"]
