# kiln's glibc recipe: one Nuitka binary from a Python project, on Debian.
#
# Arguments marked (list) hold one item per line, so that spaces and quotes need no escaping; empty lines are ignored.
# All are optional but for one of ENTRY and MODULE. dockerfiles/README.md has the contract with kiln.

# Image to start from. With KILN_TOOLCHAIN=preinstalled in its environment nothing is installed but PACKAGES.
ARG BASE=debian:bookworm
# Python version that the project asks for, such as 3.11. The build fails if the base offers another; empty takes what is there.
ARG PYTHON=""
# Extra system packages, separated by white space.
ARG PACKAGES=""
# Debian mirror, such as http://mirror.example/debian; the security archive is looked for at the same address + "-security".
ARG APT_MIRROR=""
# Options for every `pip install` (list).
ARG PIP_ARGS=""
# Nuitka's version, or a pip specifier such as >=4.3,<5.
ARG NUITKA_VERSION=4.3.3
# Requirements file in the context.
ARG REQUIREMENTS=""
# Glob of further files that REQUIREMENTS refers to with -r or -c; they are laid beside it.
ARG REQUIREMENTS_ALSO=""
# Requirement specifiers (list), installed together with the file.
ARG REQUIRES=""
# What to compile: a file of the context; or, of the project or a requirement, a package with a __main__, a top-level
# module, or the function of any module as package.module:function.
ARG ENTRY=""
ARG MODULE=""
# File name of the result.
ARG OUTPUT=program
# onefile or standalone (a folder named OUTPUT).
ARG MODE=onefile
# yes, no or auto: yes where the C compiler runs fast, on amd64 and 386.
ARG LTO=auto
# Parallel C compilers; empty: one per processor. It enters the keys of ccache under LTO: keep it constant.
ARG JOBS=""
# yes, no or auto: whatever gives a program that runs.
ARG STATIC_LIBPYTHON=auto
# Nuitka plugins (list).
ARG PLUGINS=""
# Data files and folders (list) as SRC=DST: SRC in the context, DST beside the program's main file at run time.
ARG DATA=""
# Icon in the context.
ARG ICON=""
# How onefile packs its payload: auto (each file for itself, so that unchanged ones come from a cache), best (2 % smaller,
# all of it anew each time), fast (a quarter larger, at once), none.
ARG COMPRESSION=auto
# More arguments for Nuitka (list).
ARG EXTRA_ARGS=""
# Shell script, run in the project's folder before Nuitka.
ARG BEFORE_BUILD=""

FROM ${BASE} AS toolchain
ARG PYTHON
ARG PACKAGES
ARG APT_MIRROR
# The lists and archives are kept between builds; one build at a time may use them, because apt locks them.
RUN --mount=type=cache,id=apt-lists,target=/var/lib/apt/lists,sharing=locked \
    --mount=type=cache,id=apt-cache,target=/var/cache/apt,sharing=locked <<'SH'
set -eu
fail() { echo "kiln: error: $1"; [ -z "${2-}" ] || echo "kiln: hint: $2"; exit 1; }

packages=$PACKAGES
if [ "${KILN_TOOLCHAIN-}" != preinstalled ]; then
    # A compiler of C++ would be a fifth of all, and few need it: `dependencies` installs it where a requirement does.
    packages="gcc make patchelf ccache pkg-config libffi-dev libssl-dev $packages"
    # A base that brings the right Python itself, such as python:3.12-slim, keeps it.
    if python3 -c "import sys, sysconfig, os, venv, ensurepip
assert os.path.exists(sysconfig.get_path('include') + '/Python.h')
assert '$PYTHON' in ('', '%d.%d' % sys.version_info[:2])" 2>/dev/null; then :; else
        packages="python3 python3-dev python3-venv $packages"
    fi
fi
if [ -n "${packages# }" ]; then
    if [ -n "$APT_MIRROR" ]; then
        for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
            [ ! -f "$list" ] || sed -i "s#https\{0,1\}://[^ ]*/debian\b#$APT_MIRROR#" "$list"
        done
    fi
    # Docker's own images delete what they downloaded; here it goes to a cache that does not enter the image.
    rm -f /etc/apt/apt.conf.d/docker-clean
    # Manuals and translations would only make the image larger; nobody reads them here. Nor does anybody need tools that
    # debug the compiler and programs, and of Python's static libraries the one that is not for any address; nor sanitizers
    # and OpenSSL's static library, unless [build] packages names them. A machine that begins empty has to restore what is
    # here, and would take a third longer with all that.
    sanitizers='lib*san[._]*' openssl=libcrypto.a
    case " $packages " in *san[0-9]*) sanitizers=none ;; esac
    case " $PACKAGES " in *" libssl-dev "*) openssl=none ;; esac
    mkdir -p /kiln
    cat >/kiln/install <<END
#!/bin/sh
# Installs Debian packages as kiln does; ends with 3 if their lists cannot be fetched.
export DEBIAN_FRONTEND=noninteractive
# Without this it would only warn of what it cannot fetch.
apt-get update -o APT::Update::Error-Mode=any || exit 3
apt-get install -y --no-install-recommends -o Binary::apt-get::APT::Keep-Downloaded-Packages=true \\
    -o Dpkg::Options::=--force-unsafe-io -o "Dpkg::Options::=--path-exclude=/usr/share/man/*" \\
    -o "Dpkg::Options::=--path-exclude=/usr/share/doc/*" -o "Dpkg::Options::=--path-exclude=/usr/share/locale/*" \\
    -o "Dpkg::Options::=--path-exclude=/usr/bin/*lto-dump*" -o "Dpkg::Options::=--path-exclude=/usr/bin/*dwp" \\
    -o "Dpkg::Options::=--path-exclude=/usr/*gprofng*" -o "Dpkg::Options::=--path-exclude=/usr/lib/*/libpython3*[0-9].a" \\
    -o "Dpkg::Options::=--path-exclude=/usr/lib/*/$sanitizers" -o "Dpkg::Options::=--path-exclude=/usr/lib/*/$openssl" \\
    "\$@"
END
    chmod 755 /kiln/install
    /kiln/install $packages || case $? in
    3) fail "the lists of Debian packages could not be fetched" "set [network] apt-mirror or proxies" ;;
    *) fail "system packages could not be installed" "check [build] packages against the base image's release" ;;
    esac
fi

found=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "the base image has no python3"
[ -z "$PYTHON" ] || [ "$PYTHON" = "$found" ] ||
    fail "Python $PYTHON was asked for, but this base image offers $found" \
        "set [project] python = \"$found\", or [build] base to an image with Python $PYTHON"
# What the compiler's results depend on, besides what ccache looks at itself.
{ "${CC:-cc}" -v; as --version; ld --version; } 2>&1 | sha256sum | cut -c1-32 >/etc/kiln-toolchain
SH

# From this line to the end all recipes are the same; a test compares them.
ARG PIP_ARGS
ARG NUITKA_VERSION
ENV VIRTUAL_ENV=/venv PATH=/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN --mount=type=cache,id=pip,target=/root/.cache/pip <<'SH'
set -eu
# A Python without ensurepip has pip, if at all, among its own packages.
python3 -m venv /venv || python3 -m venv --clear --without-pip --system-site-packages /venv
set --
while IFS= read -r line; do [ -z "$line" ] || set -- "$@" "$line"; done <<LIST
$PIP_ARGS
LIST
case $NUITKA_VERSION in
[0-9]*) nuitka="nuitka==$NUITKA_VERSION" ;;
*) nuitka="nuitka$NUITKA_VERSION" ;;
esac
# Without zstandard Nuitka would write an uncompressed binary.
python -m pip install "$@" "$nuitka" zstandard || {
    echo "kiln: doubt"
    echo "kiln: error: Nuitka $NUITKA_VERSION could not be installed"
    echo "kiln: hint: check [nuitka] version, and [network] if the package index cannot be reached"
    exit 1
}
# Nine tenths of its libraries are for debuggers.
find /venv/lib -path '*/zstandard/*.so' -exec strip --strip-debug {} + || true
SH

FROM toolchain AS dependencies
ARG PIP_ARGS
ARG REQUIREMENTS
ARG REQUIREMENTS_ALSO
ARG REQUIRES
# A pattern that matches nothing copies nothing, so that a project may have no requirements.
COPY ${REQUIREMENTS:-requirements.non[e]} /kiln/requirements/
COPY ${REQUIREMENTS_ALSO:-requirements.non[e]} /kiln/requirements/
RUN --mount=type=cache,id=pip,target=/root/.cache/pip <<'SH'
set -eu
set --
while IFS= read -r line; do [ -z "$line" ] || set -- "$@" "$line"; done <<LIST
$REQUIRES
LIST
[ -z "$REQUIREMENTS" ] || set -- "$@" -r "/kiln/requirements/${REQUIREMENTS##*/}"
[ $# -gt 0 ] || exit 0
while IFS= read -r line; do [ -z "$line" ] || set -- "$@" "$line"; done <<LIST
$PIP_ARGS
LIST
python -m pip --log /tmp/pip.log install "$@" && rm /tmp/pip.log && exit 0

# A requirement that is built from source may be C++.
if [ -x /kiln/install ] && ! command -v c++ >/dev/null &&
    grep -q 'Failed building\|exited-with-error\|errored out' /tmp/pip.log; then
    echo "A requirement could not be built: installing a C++ compiler, and trying again."
    if /kiln/install g++; then
        rm -rf /tmp/pip.log /var/lib/apt/lists/* /var/cache/apt/archives
        python -m pip --log /tmp/pip.log install "$@" && rm /tmp/pip.log && exit 0
    fi
fi

# Under native twins it may be their fault: kiln tries again without them.
echo "kiln: doubt"
first() { sed -n "s/.*$1/\\1/p" /tmp/pip.log | head -n 1; }
missing=$(first 'No matching distribution found for \(.*\)')
built=$(first 'Failed building wheel for \(.*\)')
if grep -q 'Failed to establish a new connection\|Temporary failure in name resolution\|SSLError' /tmp/pip.log; then
    echo "kiln: error: the package index could not be reached"
    echo "kiln: hint: set [network] pip-index-url, ca-certificates or proxies"
elif [ -n "$missing" ]; then
    echo "kiln: error: no distribution fits the requirement $missing"
    echo "kiln: hint: check its name and version, and that it supports this platform and Python"
elif [ -n "$built" ]; then
    echo "kiln: error: the requirement $built has no wheel for this platform, and building it from source failed"
    echo "kiln: hint: [build] packages adds system packages that it needs, such as headers or a compiler"
else
    echo "kiln: error: the requirements could not be installed"
fi
exit 1
SH

FROM dependencies AS compile
WORKDIR /src
COPY <<'PYTHON' /kiln/bake.py
"""Runs in the compile step: makes one Nuitka command of the recipe's arguments, and speaks kiln's line protocol.

Lines for kiln: `kiln: error: ...`, `kiln: hint: ...`, `kiln: phase: NAME [N/M]`.
"""

import hashlib
import importlib.machinery
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

SOURCE, BUILD, OUT = Path("/src"), Path("/kiln/build"), Path("/kiln/out")
REPORTS = OUT / ".kiln"
CACHE, COMPRESSED = Path("/var/cache/kiln/nuitka"), Path("/kiln/compressed")
MUSL = "musl" in (sysconfig.get_config_var("EXT_SUFFIX") or "") or "musl" in (sysconfig.get_config_var("SOABI") or "")

COMPRESSION = {
    "auto": ["--onefile-as-archive"],
    "best": [],
    # Nuitka has no option for the level alone. Without --jobs, --low-memory would also mean one compiler at a time.
    "fast": ["--low-memory", f"--jobs={os.environ.get('JOBS', '').strip() or os.cpu_count()}"],
    "none": ["--onefile-no-compression"],
}
# What a line of Nuitka's log says has begun.
PHASES = [
    (re.compile(r"Starting Python compilation"), "python"),
    (re.compile(r"Running data composer tool|Generating source code for C backend"), "generate"),
    (re.compile(r"Running C compilation via Scons"), "compile"),
    (re.compile(r"Backend C linking"), "link"),
    (re.compile(r"Creating single file from dist folder"), "payload"),
    (re.compile(r"Onefile payload compression ratio"), "bootstrap"),
]


def say(kind, text):
    print(f"kiln: {kind}: {text}", flush=True)


def fail(error, hint=None):
    say("error", error)
    if hint:
        say("hint", hint)
    sys.exit(1)


def value(name, default=""):
    return os.environ.get(name, "").strip() or default


def items(name):
    return [line for line in os.environ.get(name, "").splitlines() if line.strip()]


def locate(module):
    """The module's spec, found without executing its packages."""
    path, name, spec = [str(SOURCE), *sys.path[1:]], "", None
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None:
            return None
        path = spec.submodule_search_locations or []
    return spec


def launcher(text):
    path = BUILD / "launch" / f"{value('OUTPUT', 'program')}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return [str(path)]


def main_arguments():
    """What tells Nuitka which program to compile."""
    entry, (module, _, function) = value("ENTRY"), value("MODULE").partition(":")
    if entry:
        path = SOURCE / entry
        if not path.exists():
            fail(f"the entry {entry} is not in the build context", "check [project] entry and .dockerignore")
        # A package's __main__ may use relative imports, which need it compiled as part of its package.
        if path.name == "__main__.py" and (path.parent / "__init__.py").exists():
            return ["--python-flag=-m", str(path.parent.relative_to(SOURCE))]
        return [entry]
    if not module:
        fail("nothing to compile", "set [project] entry or module")
    spec = locate(module)
    if spec is None:
        fail(f"the module {module} is neither in the project nor in its requirements", "check [project] module and requirements")
    if function:
        return launcher(f"import sys\nfrom {module} import {function.split('.')[0]}\n\nsys.exit({function}())\n")
    if spec.submodule_search_locations:
        module, spec = f"{module}.__main__", locate(f"{module}.__main__")
        if spec is None:
            fail(f"the package {module.removesuffix('.__main__')} has no __main__ to run", "name module:function")
    if module.count(".") == 0:
        return [spec.origin]
    # Nuitka compiles `python -m` of top-level packages only, and a compiled program cannot run a module by name.
    if module.count(".") > 1 or not module.endswith(".__main__"):
        fail(f"the module {module} cannot be the program itself", f"name the function to call: {module}:main, for instance")
    return ["--python-flag=-m", str(Path(spec.origin).parent)]


def lto():
    choice = value("LTO", "auto")
    if choice != "auto":
        return choice
    return "yes" if sysconfig.get_platform() in ("linux-x86_64", "linux-i686", "linux-i386") else "no"


def arguments():
    mode, output = value("MODE", "onefile"), value("OUTPUT", "program")
    static = value("STATIC_LIBPYTHON", "auto")
    # Alpine's Python is linked without -rdynamic: extension modules would not find its symbols in a static one.
    if static == "auto" and MUSL:
        static = "no"
    result = [
        f"--mode={mode}",
        f"--output-dir={BUILD}",
        f"--output-filename={output}",
        f"--report={REPORTS / 'report.xml'}",
        f"--lto={lto()}",
        f"--static-libpython={static}",
        "--assume-yes-for-downloads",
        "--progress-bar=none",
    ]
    if value("JOBS") and value("COMPRESSION") != "fast":
        result.append(f"--jobs={value('JOBS')}")
    for plugin in items("PLUGINS"):
        result.append(f"--enable-plugin={plugin}")
    for item in items("DATA"):
        source, _, target = item.partition("=")
        if not (SOURCE / source).exists():
            fail(f"the data path {source} is not in the build context", "check [project] data and .dockerignore")
        option = "dir" if (SOURCE / source).is_dir() else "files"
        result.append(f"--include-data-{option}={source}={target or source}")
    if value("ICON"):
        if not (SOURCE / value("ICON")).is_file():
            fail(f"the icon {value('ICON')} is not in the build context", "check [project] icon and .dockerignore")
        result.append(f"--linux-icon={value('ICON')}")
    if mode == "onefile":
        result += COMPRESSION[value("COMPRESSION", "auto")]
    return result + items("EXTRA_ARGS") + main_arguments()


def environment():
    return {
        **os.environ,
        "NUITKA_CACHE_DIR": str(CACHE),
        "NUITKA_CACHE_DIR_ONEFILE_COMPRESSION": str(COMPRESSED),
        # Nuitka writes these in place, and their path enters the compiler's arguments: not for sharing between builds.
        "NUITKA_CACHE_DIR_ADAPTED_HEADERS": "/kiln/adapted-headers",
        "CCACHE_DIR": "/var/cache/kiln/ccache",
        "CCACHE_BASEDIR": "/kiln/build",
        "CCACHE_NOHASHDIR": "1",
        "CCACHE_COMPILERCHECK": "string:" + Path("/etc/kiln-toolchain").read_text().strip(),
        "CCACHE_MAXSIZE": os.environ.get("CCACHE_MAXSIZE", "2G"),
        "CCACHE_STATSLOG": str(BUILD / "ccache-stats.log"),
        # Else Nuitka would ask the network for newer versions of itself.
        "NUITKA_UPDATE_CHECK": "never",
        "PYTHONUNBUFFERED": "1",
    }


def check_syntax(path):
    """Fails if a file of the project cannot be parsed; those of its requirements are not ours to judge."""
    if not path.is_relative_to(SOURCE):
        return
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        fail(f"syntax error in {path.relative_to(SOURCE)}:{error.lineno}: {error.msg}")
    except ValueError as error:
        fail(f"syntax error in {path.relative_to(SOURCE)}: {error}")


def watch(stop):
    """Nuitka prints no progress while the C compiler works; its object files tell."""
    shown = None
    while not stop.wait(1):
        folders = [folder for folder in BUILD.glob("*.build") if folder.is_dir()]
        sources = sum(1 for folder in folders for _ in folder.rglob("*.c"))
        objects = sum(1 for folder in folders for _ in folder.rglob("*.o"))
        if objects and (objects, sources) != shown:
            shown = (objects, sources)
            say("phase", f"compile {objects}/{sources}")


def run_nuitka():
    command = [sys.executable, "-m", "nuitka", *arguments()]
    main_file = SOURCE / command[-1]
    check_syntax(main_file / "__main__.py" if main_file.is_dir() else main_file)
    print("+", *command, flush=True)
    process = subprocess.Popen(
        command, cwd=SOURCE, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    )
    stop = current = None
    for line in process.stdout:
        print(line, end="", flush=True)
        for pattern, phase in PHASES:
            if pattern.search(line) and phase != current:
                current = phase
                say("phase", phase)
                if phase == "compile":
                    stop = threading.Event()
                    threading.Thread(target=watch, args=(stop,), daemon=True).start()
                elif stop:
                    stop.set()
        # Nuitka only warns of a module that cannot be parsed, and the program would fail when it imports it.
        broken = re.search(r"Cannot follow import to module '([\w.]+)' because of '\w*Error'", line)
        spec = locate(broken[1]) if broken else None
        if spec and spec.origin:
            try:
                check_syntax(Path(spec.origin))
            except SystemExit:
                process.kill()
                raise
    if process.wait() != 0:
        # Under native twins it may be their fault: kiln tries again without them.
        print("kiln: doubt", flush=True)
        fail("Nuitka failed")


def borrow_compressed():
    """Nuitka writes compressed files in place, so a killed build would leave half a file in the cache, which Nuitka then
    would trust. It works in a folder of its own instead, and what it adds is published atomically afterwards."""
    COMPRESSED.mkdir(parents=True, exist_ok=True)
    for entry in (CACHE / "compressed").glob("[0-9a-f]*"):
        if time.time() - entry.stat().st_mtime < 30 * 86400:
            (COMPRESSED / entry.name).symlink_to(entry)
        else:
            entry.unlink(missing_ok=True)


def publish_compressed():
    (CACHE / "compressed").mkdir(parents=True, exist_ok=True)
    new = sorted((e for e in COMPRESSED.iterdir() if not e.is_symlink()), key=lambda e: e.stat().st_mtime_ns)
    # The first is the program itself: other after each change, so it would only fill the cache.
    for entry in new[1:]:
        with tempfile.NamedTemporaryFile(dir=CACHE / "compressed", prefix=".", delete=False) as copy:
            copy.write(entry.read_bytes())
        os.replace(copy.name, CACHE / "compressed" / entry.name)


def first_line(*command):
    try:
        return (subprocess.run(command, capture_output=True, text=True).stdout.splitlines() or [""])[0]
    except OSError:
        return ""


def versions():
    yield "python", platform.python_version()
    yield "nuitka", importlib.metadata.version("nuitka")
    yield "zstandard", importlib.metadata.version("zstandard")
    yield "cc", first_line(os.environ.get("CC", "cc"), "--version")
    yield "ccache", first_line("ccache", "--version")
    yield "libc", "musl" if MUSL else " ".join(platform.libc_ver())
    release = platform.freedesktop_os_release()
    yield "base", release.get("PRETTY_NAME", "")


def expand(path):
    """A path of Nuitka's report as it is in this container."""
    for name, folder in (("${sys.real_prefix}", sys.base_prefix), ("${sys.prefix}", sys.prefix), ("${cwd}", str(SOURCE))):
        path = path.replace(name, folder)
    return path


def spellings(path):
    """All paths that a package may know a file by: behind links, and before or after /lib became /usr/lib."""
    folder, name = os.path.split(path)
    for known in {path, os.path.realpath(path), os.path.join(os.path.realpath(folder), name)}:
        yield known
        yield known.removeprefix("/usr") if known.startswith("/usr/") else "/usr" + known


def debian_packages(paths):
    """(path, package) of files that dpkg's database knows, and each such package with its version."""
    lists, status = Path("/var/lib/dpkg/info"), Path("/var/lib/dpkg/status")
    if not status.exists():
        return
    stanzas = {}
    for stanza in status.read_text(errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if "Package" in fields and "Version" in fields:
            stanzas[fields["Package"], fields.get("Architecture")] = fields
            stanzas.setdefault((fields["Package"], None), fields)
    for file in sorted(lists.glob("*.list")):
        for path in paths.intersection(file.read_text(errors="replace").splitlines()):
            name, _, architecture = file.name.removesuffix(".list").partition(":")
            fields = stanzas.get((name, architecture or None))
            if fields:
                source = fields.get("Source", name).split()
                yield path, {
                    "type": "deb", "name": name, "version": fields["Version"], "architecture": fields.get("Architecture"),
                    "source": source[0], "source_version": source[1].strip("()") if source[1:] else fields["Version"],
                }


def alpine_packages(paths):
    """The same of apk's database, which has licences as well."""
    databases = [Path(root, "lib/apk/db/installed") for root in ("/", "/usr")]
    database = next((path for path in databases if path.exists()), None)
    if not database:
        return
    for stanza in database.read_text(errors="replace").split("\n\n"):
        fields, folder = {}, ""
        for line in stanza.splitlines():
            field, _, text = line.partition(":")
            if field == "F":
                folder = f"/{text}" if text else ""
            elif field == "R" and f"{folder}/{text}" in paths:
                yield f"{folder}/{text}", {
                    "type": "apk", "name": fields["P"], "version": fields["V"], "architecture": fields.get("A"),
                    "source": fields.get("o", fields["P"]), "source_version": fields["V"], "license": fields.get("L"),
                }
            else:
                fields.setdefault(field, text)


def system_packages(files):
    """The system package of each file that has one."""
    known = {path: file for file in files for path in spellings(file)}
    found = {}
    for find in (debian_packages, alpine_packages):
        for path, package in find(set(known)):
            found.setdefault(known[path], package)
    return found


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution(metadata, version):
    """What a distribution of Python says of itself."""
    said, license = metadata.metadata, metadata.metadata.get("License") or ""
    origin = json.loads(metadata.read_text("direct_url.json") or "{}")
    return {
        "name": said["Name"], "version": version,
        "license_expression": said.get("License-Expression"),
        # Some put the whole text there.
        "license": license.strip() if len(license.strip().splitlines()) == 1 and len(license) < 200 else None,
        "classifiers": sorted(c for c in said.get_all("Classifier") or [] if c.startswith("License ::")),
        "commit": origin.get("vcs_info", {}).get("commit_id"),
    }


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def materials(result, folder):
    """What the program is made of, by package: what Nuitka's report does not tell."""
    report = ElementTree.parse(REPORTS / "report.xml").getroot()
    named = {normal(d.get("name")): d.get("version") for d in report.iter("distribution")}
    named.setdefault("nuitka", importlib.metadata.version("nuitka"))
    distributions, owned = [], {}
    for found in importlib.metadata.distributions():
        name = normal(found.metadata["Name"] or "")
        if name in named:
            distributions.append(distribution(found, named.pop(name) or found.version))
            owned |= {os.path.normpath(found.locate_file(file)): found.metadata["Name"] for file in found.files or []}
    included = [e for e in report if e.tag in ("included_dll", "included_extension") and e.get("ignored") != "yes"]
    sources = {e.get("dest_path"): expand(e.get("source_path")) for e in included}
    python = [os.__file__, json.__file__]
    # A library that is linked in is no file of the program's.
    if not any(name.startswith("libpython") for name in sources):
        python.append(f"{sysconfig.get_config_var('LIBPL')}/{sysconfig.get_config_var('LIBRARY')}")
    # Under native twins the first of the path are programs of another machine.
    places = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if not p.startswith("/dev/"))
    names = (os.environ.get("CC", "cc").split()[0], "as", "ld", "patchelf", "ccache")
    tools = {name: shutil.which(name, path=places) for name in names}
    tools = {name: os.path.realpath(path) for name, path in tools.items() if path}
    packages = system_packages({*sources.values(), *python, *tools.values()})
    release = platform.freedesktop_os_release()
    return {
        "version": 1,
        "result": {"sha256": sha256(result)},
        "system": {"id": release.get("ID"), "version": release.get("VERSION_ID"), "name": release.get("PRETTY_NAME")},
        "python": {
            "version": platform.python_version(), "implementation": platform.python_implementation(),
            "packages": sorted({packages[file]["name"] for file in python if file in packages}),
        },
        "distributions": sorted(distributions, key=lambda d: d["name"]),
        "files": [
            {
                "name": name, "sha256": sha256(folder / name), "distribution": owned.get(os.path.normpath(source)),
                "package": packages.get(source, {}).get("name"),
            }
            for name, source in sorted(sources.items())
        ],
        "packages": sorted({json.dumps(p, sort_keys=True): p for p in packages.values()}.values(), key=lambda p: p["name"]),
        "tools": [
            {"name": name, "said": first_line(name, "--version"), "package": packages.get(path, {}).get("name")}
            for name, path in sorted(tools.items())
        ] + [{"name": "zstandard", "said": importlib.metadata.version("zstandard"), "package": None}],
    }


def write_reports(result, folder):
    try:
        (REPORTS / "materials.json").write_text(json.dumps(materials(result, folder), indent=1, sort_keys=True))
    except (OSError, ValueError, KeyError, TypeError, ElementTree.ParseError) as error:
        # The program is no worse for it; its bill of materials will say what it lacks.
        print(f"what the program is made of could not be told: {type(error).__name__}: {error}", flush=True)
    subprocess.run([sys.executable, "-m", "pip", "freeze"], stdout=(REPORTS / "packages.txt").open("w"), check=True)
    (REPORTS / "versions.txt").write_text("".join(f"{name}={version}\n" for name, version in versions()))
    log = BUILD / "ccache-stats.log"
    results = Counter(log.read_text().split("\n")) if log.exists() else Counter()
    counts = {name: number for name, number in results.items() if re.fullmatch(r"\w+", name)}
    (REPORTS / "ccache-stats.json").write_text(json.dumps(counts, sort_keys=True))
    if log.exists():
        subprocess.run(["ccache", "--show-log-stats", "-vv"], env=environment(), stdout=(REPORTS / "ccache-stats.txt").open("w"))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    if value("BEFORE_BUILD"):
        say("phase", "before-build")
        if subprocess.run(["sh", "-e", "-c", value("BEFORE_BUILD")], cwd=SOURCE).returncode:
            fail("a before-build hook failed")
    borrow_compressed()
    run_nuitka()
    publish_compressed()
    say("phase", "report")
    output = value("OUTPUT", "program")
    result, folder = OUT / output, next(BUILD.glob("*.dist"), BUILD / "removed.dist")
    if value("MODE", "onefile") == "onefile":
        shutil.move(BUILD / output, result)
    else:
        shutil.move(folder, result)
        result, folder = result / output, result
    write_reports(result, folder)
    say("phase", "done")


main()
PYTHON
COPY . .
ARG ENTRY
ARG MODULE
ARG OUTPUT
ARG MODE
ARG LTO
ARG JOBS
ARG STATIC_LIBPYTHON
ARG PLUGINS
ARG DATA
ARG ICON
ARG COMPRESSION
ARG EXTRA_ARGS
ARG BEFORE_BUILD
RUN --mount=type=cache,id=ccache,target=/var/cache/kiln/ccache \
    --mount=type=cache,id=nuitka,target=/var/cache/kiln/nuitka \
    python /kiln/bake.py

FROM scratch AS export
COPY --from=compile /kiln/out/ /
