# Compilers of the daemon's platform for a foreign one, from the packages of the base image's distribution: the same
# compiler in the same version as there, for kiln's native twin (kiln-twin). Not part of any result.
#
# A base without such packages gets nothing: its compilers stay emulated.

ARG BASE=debian:bookworm
FROM ${BASE} AS cross
# The compilers' target, such as aarch64-linux-gnu.
ARG TRIPLE
ARG APT_MIRROR=""
USER 0
RUN --mount=type=cache,id=apt-lists,target=/var/lib/apt/lists,sharing=locked \
    --mount=type=cache,id=apt-cache,target=/var/cache/apt,sharing=locked <<'SH'
set -eu
command -v apt-get >/dev/null || exit 0
export DEBIAN_FRONTEND=noninteractive
if [ -n "$APT_MIRROR" ]; then
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        [ ! -f "$list" ] || sed -i "s#https\{0,1\}://[^ ]*/debian\b#$APT_MIRROR#" "$list"
    done
fi
rm -f /etc/apt/apt.conf.d/docker-clean
apt-get update -o APT::Update::Error-Mode=any
name=$(echo "$TRIPLE" | tr _ -)
apt-get install -y --no-install-recommends -o Binary::apt-get::APT::Keep-Downloaded-Packages=true \
    -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--path-exclude=/usr/share/man/* \
    -o Dpkg::Options::=--path-exclude=/usr/share/doc/* -o Dpkg::Options::=--path-exclude=/usr/share/locale/* \
    -o Dpkg::Options::=--path-exclude=/usr/bin/*lto-dump* -o Dpkg::Options::=--path-exclude=/usr/bin/*dwp \
    "gcc-$name" "g++-$name"
SH
