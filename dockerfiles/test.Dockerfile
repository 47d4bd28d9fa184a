# kiln's recipe for tests: one Python, one platform, the project's own test command.
#
# `kiln test` builds it once per Python and platform, all in one graph. Arguments marked (list) hold one item per line,
# those marked (JSON) are JSON. All are optional. dockerfiles/README.md has the contract with kiln.

# Image to test in.
ARG BASE=debian:bookworm
# image: BASE or its packages have the Python that is asked for. source: if they do not, it is built from PYTHON_URL.
ARG WAY=image
# Python's source, and its SHA-256.
ARG PYTHON_URL=""
ARG PYTHON_SHA256=""
# Version of Python, such as 3.12; empty takes what is there.
ARG PYTHON=""
# System packages, separated by white space.
ARG PACKAGES=""
# Mirrors for system packages, as in the other recipes.
ARG APT_MIRROR=""
ARG APK_MIRROR=""
# Volume of pip's cache. Wheels that are built do not say which C library they are for.
ARG PIP_CACHE=pip
# Options for every `pip install` (list).
ARG PIP_ARGS=""
# Requirements file of the project in the context, its folder, and a glob of further files that it refers to.
ARG REQUIREMENTS=""
ARG REQUIREMENTS_FOLDER=.
ARG REQUIREMENTS_ALSO=""
# The same of the tests.
ARG TEST_REQUIREMENTS=""
ARG TEST_REQUIREMENTS_FOLDER=.
ARG TEST_REQUIREMENTS_ALSO=""
# Requirement specifiers (list), installed together with the files.
ARG REQUIRES=""
# yes: pytest is installed if no requirement brings it.
ARG PYTEST=yes
# The project itself as requirements (list): `.[test]`.
ARG LOCAL=""
# The command and its arguments (JSON, list of texts), and variables for it (JSON, object).
ARG COMMAND=[\"pytest\"]
ARG VARIABLES={}
# Seconds that it may take.
ARG TIMEOUT=1800

FROM ${BASE} AS with-image

FROM ${BASE} AS with-source
ARG PYTHON_URL
ARG PYTHON_SHA256
ADD --checksum=sha256:${PYTHON_SHA256} ${PYTHON_URL} /kiln/python.tgz

FROM with-${WAY} AS python
ARG PYTHON
ARG PACKAGES
ARG APT_MIRROR
ARG APK_MIRROR
RUN --mount=type=cache,id=apt-lists,target=/var/lib/apt/lists,sharing=locked \
    --mount=type=cache,id=apt-cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apk,target=/var/cache/apk,sharing=locked <<'SH'
set -eu
fail() { echo "kiln: error: $1"; [ -z "${2-}" ] || echo "kiln: hint: $2"; exit 1; }
export DEBIAN_FRONTEND=noninteractive
minor=$(echo "$PYTHON" | cut -d. -f1,2)
choose="set [test] images to an image with Python $PYTHON, or [test] base to a release that has it"

# The interpreter of the version that is asked for, if it is there and can make an environment.
find_python() {
    for name in "python$minor" python3 python; do
        if command -v "$name" >/dev/null && "$name" -c "import sys, venv
try: import ensurepip
except ImportError: import pip
wanted = [part for part in '$PYTHON'.split('.') if part]
sys.exit([str(part) for part in sys.version_info[:3]][:len(wanted)] != wanted)" 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

if command -v apt-get >/dev/null; then
    update() {
        if [ -n "$APT_MIRROR" ]; then
            for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
                [ ! -f "$list" ] || sed -i "s#https\{0,1\}://[^ ]*/debian\b#$APT_MIRROR#" "$list"
            done
        fi
        rm -f /etc/apt/apt.conf.d/docker-clean
        apt-get update -o APT::Update::Error-Mode=any || fail "the lists of Debian packages could not be fetched" "set [network] apt-mirror or proxies"
    }
    add() {
        apt-get install -y --no-install-recommends -o Binary::apt-get::APT::Keep-Downloaded-Packages=true \
            -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--path-exclude=/usr/share/man/* \
            -o Dpkg::Options::=--path-exclude=/usr/share/doc/* -o Dpkg::Options::=--path-exclude=/usr/share/locale/* "$@"
    }
    # The packages with the Python that is asked for.
    packaged() {
        if [ -n "$minor" ] && apt-cache show "python$minor-venv" >/dev/null 2>&1; then
            echo "python$minor python$minor-venv"
        elif [ -z "$minor" ] || apt-cache show python3 | grep -q "^Version: $minor\."; then
            echo "python3 python3-venv"
        fi
    }
    tools="gcc make libc6-dev zlib1g-dev libssl-dev libffi-dev libsqlite3-dev libbz2-dev liblzma-dev libreadline-dev"
elif command -v apk >/dev/null; then
    update() {
        [ -z "$APK_MIRROR" ] || sed -i "s#https\{0,1\}://[^ ]*/alpine#$APK_MIRROR#" /etc/apk/repositories
        # apk keeps what it downloads only where this link leads.
        ln -sfn /var/cache/apk /etc/apk/cache
        apk update || fail "the lists of Alpine packages could not be fetched" "set [network] apk-mirror or proxies"
    }
    add() { apk add "$@"; }
    packaged() {
        if [ -z "$minor" ] || apk search -e python3 | grep -q "^python3-$minor\."; then echo "python3 py3-pip"; fi
    }
    tools="build-base zlib-dev openssl-dev libffi-dev sqlite-dev bzip2-dev xz-dev readline-dev linux-headers"
else
    update() { fail "the base image has neither apt nor apk to install packages with" "$choose"; }
fi

build() {
    echo "Python $PYTHON is built from its source"
    add $tools || fail "what Python is built with could not be installed" "$choose"
    mkdir -p /kiln/python
    tar -xzf /kiln/python.tgz -C /kiln/python --strip-components=1
    cd /kiln/python
    { ./configure --prefix=/usr/local --disable-test-modules && make -j"$(nproc)" && make altinstall; } >/kiln/python.log 2>&1 || {
        tail -n 30 /kiln/python.log
        fail "Python $PYTHON could not be built from its source" "$choose"
    }
    cd / && rm -rf /kiln/python
}

missing=
find_python >/dev/null || missing=yes
if [ -n "$missing${PACKAGES# }" ]; then
    update
    [ -z "${PACKAGES# }" ] || add $PACKAGES || fail "system packages could not be installed" "check [test] packages against the base image's release"
fi
if [ -n "$missing" ]; then
    packages=$(packaged)
    if [ -n "$packages" ]; then
        add $packages || fail "Python could not be installed" "$choose"
    fi
    if ! find_python >/dev/null && [ -e /kiln/python.tgz ]; then build; fi
fi
mkdir -p /kiln
find_python >/kiln/python-path || fail "neither the base image nor its packages have Python $PYTHON" "$choose"
rm -f /kiln/python.tgz /kiln/python.log
[ ! -L /etc/apk/cache ] || rm /etc/apk/cache
SH

FROM python AS environment
ARG PIP_CACHE
ARG PIP_ARGS
ARG REQUIREMENTS
ARG REQUIREMENTS_FOLDER
ARG REQUIREMENTS_ALSO
ARG TEST_REQUIREMENTS
ARG TEST_REQUIREMENTS_FOLDER
ARG TEST_REQUIREMENTS_ALSO
ARG REQUIRES
ARG PYTEST
ENV VIRTUAL_ENV=/venv PATH=/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# A pattern that matches nothing copies nothing, so that a project may have no requirements. Folders are those of the
# project, so that one file finds another.
COPY ${REQUIREMENTS:-requirements.non[e]} /kiln/requirements/${REQUIREMENTS_FOLDER}/
COPY ${REQUIREMENTS_ALSO:-requirements.non[e]} /kiln/requirements/${REQUIREMENTS_FOLDER}/
COPY ${TEST_REQUIREMENTS:-requirements.non[e]} /kiln/requirements/${TEST_REQUIREMENTS_FOLDER}/
COPY ${TEST_REQUIREMENTS_ALSO:-requirements.non[e]} /kiln/requirements/${TEST_REQUIREMENTS_FOLDER}/
RUN --mount=type=cache,id=${PIP_CACHE},target=/root/.cache/pip <<'SH'
set -eu
python=$(cat /kiln/python-path)
# A Python without ensurepip has pip, if at all, among its own packages.
"$python" -m venv /venv || "$python" -m venv --clear --without-pip --system-site-packages /venv
set --
while IFS= read -r line; do [ -z "$line" ] || set -- "$@" "$line"; done <<LIST
$REQUIRES
LIST
[ -z "$REQUIREMENTS" ] || set -- "$@" -r "/kiln/requirements/$REQUIREMENTS"
[ -z "$TEST_REQUIREMENTS" ] || set -- "$@" -r "/kiln/requirements/$TEST_REQUIREMENTS"
install() {
    while IFS= read -r line; do [ -z "$line" ] || set -- "$@" "$line"; done <<LIST
$PIP_ARGS
LIST
    python -m pip --log /tmp/pip.log install "$@" && rm /tmp/pip.log && return
    # Under native twins it may be their fault: kiln tries again without them.
    echo "kiln: doubt"
    first() { sed -n "s/.*$1/\1/p" /tmp/pip.log | head -n 1; }
    missing=$(first 'No matching distribution found for \(.*\)')
    built=$(first 'Failed building wheel for \(.*\)')
    if grep -q 'Failed to establish a new connection\|Temporary failure in name resolution\|SSLError' /tmp/pip.log; then
        echo "kiln: error: the package index could not be reached"
        echo "kiln: hint: set [network] pip-index-url, ca-certificates or proxies"
    elif [ -n "$missing" ]; then
        echo "kiln: error: no distribution fits the requirement $missing"
        echo "kiln: hint: check its name and version, and that it supports this platform and Python"
    elif [ -n "$built" ]; then
        echo "kiln: error: the requirement $built has no wheel for this platform and Python, and building it from source failed"
        echo "kiln: hint: [test] packages adds system packages that it needs, such as headers or a compiler"
    else
        echo "kiln: error: the requirements of the tests could not be installed"
    fi
    exit 1
}
[ $# -eq 0 ] || install "$@"
[ "$PYTEST" != yes ] || python -c "import pytest" 2>/dev/null || install pytest
SH

FROM environment AS test
WORKDIR /src
COPY <<'PYTHON' /kiln/test.py
"""Runs in the test step: the project's test command, its results for kiln, and kiln's line protocol.

It runs on every Python that projects are tested with, so it is written for old ones, too.
"""

import collections
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

SOURCE, OUT = "/src", "/kiln/out"
JUNIT = OUT + "/junit.xml"
# Lines of output that are kept.
TAIL = 40
# Seconds between asking programs to end and ending them.
GRACE = 5
# What pytest says if there are no tests.
NO_TESTS = 5
# The recipe's own arguments are none of the tests' business.
ARGUMENTS = """BASE WAY PYTHON_URL PYTHON_SHA256 PYTHON PACKAGES APT_MIRROR APK_MIRROR PIP_CACHE PIP_ARGS REQUIREMENTS
REQUIREMENTS_FOLDER REQUIREMENTS_ALSO TEST_REQUIREMENTS TEST_REQUIREMENTS_FOLDER TEST_REQUIREMENTS_ALSO REQUIRES PYTEST
LOCAL COMMAND VARIABLES TIMEOUT""".split()


def fail(error, hint=None):
    # Under native twins it may be their fault: kiln tries again without them.
    print("kiln: doubt")
    print("kiln: error: " + error)
    if hint:
        print("kiln: hint: " + hint)
    sys.stdout.flush()
    sys.exit(1)


def items(name):
    return [line for line in os.environ.get(name, "").splitlines() if line.strip()]


def install_project():
    if items("LOCAL"):
        command = [sys.executable, "-m", "pip", "install"] + items("PIP_ARGS") + items("LOCAL")
        if subprocess.call(command, cwd=SOURCE):
            fail("the project itself could not be installed", "check [test] requirements and the project's build backend")


def environment():
    env = {name: value for name, value in os.environ.items() if name not in ARGUMENTS}
    env.update(json.loads(os.environ.get("VARIABLES") or "{}"))
    env["PYTEST_ADDOPTS"] = (env.get("PYTEST_ADDOPTS", "") + " --junitxml=" + JUNIT).strip()
    env["KILN_JUNIT"] = JUNIT
    env.setdefault("PYTHONUNBUFFERED", "1")
    return env


def run(command, env, timeout):
    """Exit code, whether the time was over, and the last lines of output."""
    try:
        process = subprocess.Popen(
            command, cwd=SOURCE, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )
    except OSError as error:
        fail("the test command cannot be run: " + str(error), "check [test] command, and that [test] requirements bring it")
    tail = collections.deque(maxlen=TAIL)

    def read():
        for line in iter(process.stdout.readline, b""):
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
            tail.append(line.decode("utf-8", "replace").rstrip("\r\n"))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    late = False
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        late = True
        kill(process, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass
    # What the tests left running holds the output open.
    reader.join(0 if late else GRACE)
    kill(process, signal.SIGKILL)
    process.wait()
    reader.join(GRACE)
    return process.returncode, late, list(tail)


def kill(process, number):
    try:
        os.killpg(process.pid, number)
    except OSError:
        pass


def counted():
    """Tests and failures; nothing if there is no report that can be read."""
    try:
        cases = list(ElementTree.parse(JUNIT).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return None
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return len(cases), len(bad)


def main():
    os.makedirs(OUT)
    install_project()
    command, timeout = json.loads(os.environ["COMMAND"]), int(os.environ["TIMEOUT"])
    print("+ " + " ".join(command))
    sys.stdout.flush()
    started = time.time()
    code, late, tail = run(command, environment(), timeout)
    seconds = time.time() - started
    with open(OUT + "/result.json", "w") as file:
        json.dump({"python": platform.python_version(), "code": code, "seconds": round(seconds, 3), "late": late, "tail": tail}, file)
    tests, bad = counted() or (0, 0)
    if late:
        fail("the tests did not end within %d s" % timeout, "[test] timeout gives them more time")
    elif code == NO_TESTS and not tests and any("pytest" in word for word in command):
        fail("pytest found no tests", "tests that .dockerignore leaves out are not there: add `!tests` at its end")
    elif code and bad:
        fail("%d of %d test%s failed" % (bad, tests, "" if tests == 1 else "s"))
    elif code:
        fail("the tests failed with exit code %d" % code)


main()
PYTHON
COPY . .
ARG LOCAL
ARG COMMAND
ARG VARIABLES
ARG TIMEOUT
RUN --mount=type=cache,id=${PIP_CACHE},target=/root/.cache/pip python /kiln/test.py

FROM scratch AS export
COPY --from=test /kiln/out/ /
