#!/bin/sh
# Installs @TITLE@: picks the program for this machine, checks its SHA-256 and puts it in place.
#
#   sh install.sh [--prefix FOLDER] [--from FOLDER|URL] [--uninstall] [--version] [--help]
#
# Made by kiln. All is done by functions that the last line calls, so what was not downloaded to its end does nothing.
set -eu

NAME=@NAME@
COMMAND=@COMMAND@
VERSION=@VERSION@
URL=@URL@

# Architecture, C library, oldest version of it, SHA-256, file. Of those that fit, the first is taken.
entries() {
    cat <<'ENTRIES'
@ENTRIES@
ENTRIES
}

usage() {
    cat <<USAGE
Installs $NAME $VERSION.

  --prefix FOLDER      install to FOLDER/bin; default: /usr/local as root, else ~/.local
  --from FOLDER|URL    where the archives are; default: ${URL:-none}
  --uninstall          remove what an earlier run installed
  --version            print name and version
USAGE
}

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    say "error: $1"
    [ -z "${2-}" ] || say "hint: $2"
    exit 1
}

# 32 or 64: the fifth byte of any program of this system says it. A kernel of 64 bits may have a system of 32.
bits() {
    case $(dd if=/bin/sh bs=1 skip=4 count=1 2>/dev/null | tr '\001\002' '12') in
        1) echo 32 ;;
        *) echo 64 ;;
    esac
}

find_machine() {
    [ "$(uname -s)" = Linux ] || fail "$NAME is for Linux, and this is $(uname -s)"
    arch=$(uname -m)
    case $arch in
        x86_64 | amd64) arch=x86_64 ;;
        i?86) arch=i686 ;;
        aarch64 | arm64) arch=arm64 ;;
        armv7* | armv8l) arch=armv7 ;;
        armv6*) arch=armv6 ;;
    esac
    if [ "$(bits)" = 32 ]; then
        case $arch in
            x86_64) arch=i686 ;;
            arm64) arch=armv7 ;;
        esac
    fi
    case $arch in
        i686) loader=i386 ;;
        arm64) loader=aarch64 ;;
        armv[67]) loader=armhf ;;
        ppc64le) loader=powerpc64le ;;
        *) loader=$arch ;;
    esac
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
    case $glibc in
        "glibc "*) glibc=${glibc#glibc } ;;
        *) glibc=$(ldd --version 2>/dev/null | sed -n '1s/.*[ )]\([0-9][0-9]*\.[0-9][0-9]*\)$/\1/p' || true) ;;
    esac
    musl=
    [ ! -e "/lib/ld-musl-$loader.so.1" ] || musl=yes
}

# Whether version $1 is $2 or newer, by its first two numbers.
at_least() {
    minor_1=${1#*.} minor_2=${2#*.}
    if [ "${1%%.*}" -ne "${2%%.*}" ]; then
        [ "${1%%.*}" -gt "${2%%.*}" ]
    else
        [ "${minor_1%%.*}" -ge "${minor_2%%.*}" ]
    fi
}

# Whether a program that needs version $2 of the C library $1 runs here; else what it lacks.
fits() {
    case $1 in
        static) return 0 ;;
        glibc)
            if [ -z "$glibc" ]; then
                lacks="it needs glibc, which this system does not have"
            elif ! at_least "$glibc" "$2"; then
                lacks="it needs glibc $2, and this system has $glibc"
            else
                return 0
            fi
            ;;
        musl)
            [ -z "$musl" ] || return 0
            lacks="it needs musl, which this system does not have"
            ;;
    esac
    return 1
}

choose() {
    file='' sum='' lacks='' known=''
    while read -r its_arch its_libc its_version its_sum its_file; do
        case " $known " in
            *" $its_arch "*) ;;
            *) known="$known $its_arch" ;;
        esac
        if [ -z "$file" ] && [ "$its_arch" = "$arch" ] && fits "$its_libc" "$its_version"; then
            file=$its_file sum=$its_sum
        fi
    done <<LIST
$(entries)
LIST
    [ -z "$file" ] || return 0
    [ -z "$lacks" ] || fail "$NAME $VERSION for $arch does not run here: $lacks"
    fail "there is no $NAME $VERSION for $arch" "there is one for:$known"
}

fetch() {
    say "fetching $from/$1"
    case $from in
        '') fail "this script knows no address to download from" "say where the archives are with --from" ;;
        *://*)
            if command -v curl >/dev/null 2>&1; then
                curl -fsSL --retry 3 -o "$2" "$from/$1" || return 1
            elif command -v wget >/dev/null 2>&1; then
                wget -q -O "$2" "$from/$1" || return 1
            else
                fail "neither curl nor wget is here" "install one of them, or download $1 and use --from FOLDER"
            fi
            ;;
        *) cp "$from/$1" "$2" || return 1 ;;
    esac
}

sum_of() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum "$1"
    elif command -v shasum >/dev/null 2>&1; then
        shasum -a 256 "$1"
    elif command -v openssl >/dev/null 2>&1; then
        openssl dgst -sha256 -r "$1"
    else
        fail "no program for SHA-256 is here" "install coreutils, perl or openssl"
    fi | cut -d ' ' -f 1
}

# Whether the command is a link into a folder that an earlier run made.
is_folder_of_ours() {
    case $(readlink "$prefix/bin/$COMMAND" 2>/dev/null || true) in
        "../lib/$COMMAND/"*) [ -d "$prefix/lib/$COMMAND" ] ;;
        *) return 1 ;;
    esac
}

place_folder() {
    if [ -e "$prefix/lib/$COMMAND" ] && ! is_folder_of_ours; then
        fail "$prefix/lib/$COMMAND is there, and not of $NAME" "choose another --prefix"
    fi
    mkdir -p "$prefix/lib"
    link=$(readlink "$1/$COMMAND")
    ln -s "../$link" "$stage/link"
    if [ -e "$prefix/lib/$COMMAND" ]; then
        mv "$prefix/lib/$COMMAND" "$stage/old"
    fi
    if ! mv "$1/lib/$COMMAND" "$prefix/lib/$COMMAND"; then
        [ ! -e "$stage/old" ] || mv "$stage/old" "$prefix/lib/$COMMAND"
        fail "could not write to $prefix/lib"
    fi
    mv -f "$stage/link" "$prefix/bin/$COMMAND"
}

place_file() {
    old=
    ! is_folder_of_ours || old=$prefix/lib/$COMMAND
    mv -f "$1/$COMMAND" "$prefix/bin/$COMMAND"
    [ -z "$old" ] || rm -rf "$old"
}

do_install() {
    find_machine
    choose
    mkdir -p "$prefix/bin" 2>/dev/null || fail "could not make $prefix/bin" "choose a folder of yours with --prefix"
    # On the file system of the place itself, so that the last step is a rename.
    stage=$(mktemp -d "$prefix/bin/.$COMMAND-XXXXXX" 2>/dev/null) ||
        fail "could not write to $prefix/bin" "choose a folder of yours with --prefix"
    trap 'rm -rf "$stage"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    fetch "$file" "$stage/archive" || fail "could not get $from/$file"
    found=$(sum_of "$stage/archive")
    [ "$found" = "$sum" ] ||
        fail "$file is not what was released: its SHA-256 is $found, and should be $sum" "nothing was installed; download it again"
    mkdir "$stage/files"
    tar -xzf "$stage/archive" -C "$stage/files" || fail "could not unpack $file"
    top=$stage/files/${file%.tar.gz}
    if [ -d "$top/lib/$COMMAND" ]; then
        place_folder "$top"
    else
        place_file "$top"
    fi
    say "installed $NAME $VERSION as $prefix/bin/$COMMAND"
    case ":$PATH:" in
        *":$prefix/bin:"*) ;;
        *) say "note: $prefix/bin is not in PATH" ;;
    esac
}

do_uninstall() {
    if [ ! -e "$prefix/bin/$COMMAND" ] && [ ! -L "$prefix/bin/$COMMAND" ]; then
        fail "$NAME is not installed in $prefix" "name the folder with --prefix"
    fi
    if is_folder_of_ours; then
        rm -rf "$prefix/lib/${COMMAND:?}"
    fi
    rm -f "$prefix/bin/$COMMAND"
    say "removed $prefix/bin/$COMMAND"
}

main() {
    prefix='' from=$URL action=do_install
    while [ $# -gt 0 ]; do
        case $1 in
            --prefix | --from)
                [ $# -gt 1 ] || fail "$1 needs a value"
                if [ "$1" = --prefix ]; then prefix=$2; else from=$2; fi
                shift
                ;;
            --prefix=*) prefix=${1#*=} ;;
            --from=*) from=${1#*=} ;;
            --uninstall) action=do_uninstall ;;
            --version)
                echo "$NAME $VERSION"
                return 0
                ;;
            -h | --help)
                usage
                return 0
                ;;
            *) fail "unknown option $1" "--help lists them" ;;
        esac
        shift
    done
    from=${from%/}
    if [ -z "$prefix" ]; then
        if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=${HOME:?}/.local; fi
    fi
    "$action"
}

main "$@"
