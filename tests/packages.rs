//! `kiln package`: what the stock tools of the distributions make of it, on each platform.
//!
//! The programs are those that `getconf` is in Debian's and in Alpine's image: small, real, and with nothing but the C library.

#![expect(clippy::print_stderr, reason = "a test says what it does not do")]

use std::collections::BTreeMap;

use kiln_e2e::{Project, Ran, Running};
use serde_json::Value;

const THREE: &str = "--platform=linux/amd64,linux/386,linux/arm64";

const SETTINGS: &str = r#"
[project]
name = "greeter"
[build]
recipe = "Dockerfile"
[release]
version = "1.2.3rc1"
summary = "prints what the system is set to"
description = "It prints limits of the system.\n\nAnd more."
license = "MIT"
maintainer = "Some Body <somebody@example.org>"
homepage = "https://example.org/greeter"
completions = ["greeter.bash", "zsh=completions.txt"]
man = ["greeter.1"]
systemd = ["greeter.service"]
openrc = ["init/greeter"]
config-files = ["greeter.conf=/etc/greeter.conf"]
files = ["data=data"]
"#;

const PROGRAM: &str = "ARG BASE\nFROM ${BASE} AS from\nFROM scratch\nCOPY --from=from /usr/bin/getconf /greeter\n";

/// Lists what is on the system, but for what the package managers and the kernel write; `/p` are the packages.
const LIST: &str = "list() { find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /p \
    -o -path /var/lib -o -path /var/cache -o -path /var/log -o -path /lib/apk/db -o -path /etc/apk -o -path /l -o -path /root/.rpmdb \\) -prune \
    -o -print | sort; }; mkdir -p /l\n";

/// A project with programs of both C libraries, and what was packed of each in `packages`.
fn packed(formats: &[&str]) -> Option<Project> {
    let project = Project::new(&[
        ("kiln.toml", SETTINGS),
        ("Dockerfile", PROGRAM),
        ("greeter.bash", "complete -W LONG_BIT greeter\n"),
        ("completions.txt", "#compdef greeter\n"),
        ("greeter.1", ".TH GREETER 1\n.SH NAME\ngreeter \\- prints\n"),
        ("greeter.service", "[Service]\nExecStart=/usr/bin/greeter -a\n[Install]\nWantedBy=multi-user.target\n"),
        ("init/greeter", "#!/sbin/openrc-run\ncommand=/usr/bin/greeter\n"),
        ("greeter.conf", "a = 1\n"),
        ("data/words.txt", "words\n"),
        ("LICENSE", "MIT License\n\nCopyright (c) Some Body\n"),
        ("README.md", "# greeter\n"),
        ("CHANGELOG.md", "# Changelog\n"),
    ])?;
    for (base, output) in [("debian:bookworm", "glibc"), ("alpine:3.20", "musl")] {
        let base = format!("BASE={base}");
        project.build(&["-f", "Dockerfile", "--build-arg", &base, THREE, "-o", output, "."]);
        let output = format!("build.output={output}");
        let mut arguments = vec!["--output", "packages", "--set", &output];
        for format in formats {
            arguments.extend(["--format", *format]);
        }
        let ran = package(&project, &arguments);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    Some(project)
}

fn package(project: &Project, arguments: &[&str]) -> Ran {
    let mut command = project.command(&[&["package"], arguments].concat());
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    Running::start(command).wait()
}

/// Runs a script of the image's shell with the packages in `/p`, on each platform.
fn on_each(project: &Project, name: &str, base: &str, script: &str) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let file = format!("Dockerfile.{name}");
    let text = format!(
        "FROM {base}\nENV RUN_ID={now}\nCOPY packages /p\nRUN <<'SH'\nset -eux\n{LIST}{script}\ntouch /done\nSH\n\
         FROM scratch\nCOPY --from=0 /done /\n"
    );
    project.write(&file, &text);
    project.build(&["-f", &file, THREE, "-o", "out", "."]);
}

#[test]
fn a_deb_installs_with_dpkg_and_apt_and_leaves_nothing() {
    let Some(project) = packed(&["all"]) else { return };
    on_each(
        &project,
        "deb",
        "debian:bookworm",
        r#"
deb=/p/greeter_1.2.3.rc1-1_$(dpkg --print-architecture).deb
case $(dpkg --print-architecture) in i386) bits=32 ;; *) bits=64 ;; esac
list > /l/before
dpkg -i "$deb"
[ "$(greeter LONG_BIT)" = "$bits" ]
[ "$(command -v greeter)" = /usr/bin/greeter ]
dpkg -V greeter
dpkg --compare-versions "$(dpkg-query -W -f '${Version}' greeter)" lt 1.2.3-1
grep -q 'Copyright (c) Some Body' /usr/share/doc/greeter/copyright
zcat /usr/share/doc/greeter/changelog.Debian.gz | dpkg-parsechangelog -l - >/dev/null 2>&1 || zcat /usr/share/doc/greeter/changelog.Debian.gz | grep -q '^greeter (1.2.3~rc1-1)'
[ "$(stat -c '%U:%G %a %Y' /usr/bin/greeter /etc/greeter.conf | tr '\n' ' ')" = 'root:root 755 1700000000 root:root 644 1700000000 ' ]
echo mine > /etc/greeter.conf
dpkg -i "$deb"
[ "$(cat /etc/greeter.conf)" = mine ]
dpkg -P greeter
list > /l/after
diff /l/before /l/after
apt-get install -y "$deb"
[ "$(greeter LONG_BIT)" = "$bits" ]
apt-get purge -y greeter
list > /l/after
diff /l/before /l/after
"#,
    );
}

#[test]
fn an_rpm_installs_verifies_and_leaves_nothing() {
    let Some(project) = packed(&["all"]) else { return };
    // Debian's database of rpm is empty: what glibc provides there, rpm does not know, hence `--nodeps`.
    on_each(
        &project,
        "rpm",
        "debian:bookworm",
        r#"
apt-get update
apt-get install -y --no-install-recommends rpm
case $(dpkg --print-architecture) in amd64) arch=x86_64 bits=64 mark='(64bit)' ;; i386) arch=i686 bits=32 mark= ;; *) arch=aarch64 bits=64 mark='(64bit)' ;; esac
rpm=/p/greeter-1.2.3.rc1-1.$arch.rpm
rpm -K --nosignature "$rpm"
rpm -qp --requires "$rpm" | grep -Fx "libc.so.6(GLIBC_2.34)$mark"
[ "$(rpm -qp --qf '%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{LICENSE}' "$rpm")" = "greeter 1.2.3~rc1 1 $arch MIT" ]
# As on every system that has rpm for its own packages.
mkdir -p /usr/share/licenses /usr/share/man/man1
list > /l/before
rpm -i --nodeps --ignorearch "$rpm"
[ "$(greeter LONG_BIT)" = "$bits" ]
rpm -V --nodeps greeter
rpm -qc greeter | grep -Fx /etc/greeter.conf
echo mine > /etc/greeter.conf
rpm -U --nodeps --ignorearch --replacepkgs "$rpm"
[ "$(cat /etc/greeter.conf)" = mine ]
rpm -e greeter
rm -f /etc/greeter.conf.rpmsave
list > /l/after
diff /l/before /l/after
"#,
    );
}

#[test]
fn an_apk_installs_on_alpine_and_leaves_nothing() {
    let Some(project) = packed(&["all"]) else { return };
    sign(&project);
    on_each(
        &project,
        "apk",
        "alpine:3.20",
        r#"
apk=/p/greeter_1.2.3_rc1-r0_$(apk --print-arch).apk
case $(apk --print-arch) in x86) bits=32 ;; *) bits=64 ;; esac
list > /l/before
if apk add --no-network "$apk"; then exit 9; fi
apk add --no-network --allow-untrusted "$apk"
[ "$(greeter LONG_BIT)" = "$bits" ]
apk info -e greeter
[ -z "$(apk audit --check-permissions /usr/bin 2>/dev/null | grep greeter)" ]
[ "$(apk version -t 1.2.3_rc1-r0 1.2.3-r0)" = '<' ]
apk info -R greeter | grep -q "so:libc.musl-$(apk --print-arch).so.1"
[ -x /etc/init.d/greeter ]
apk del --no-network greeter
list > /l/after
diff /l/before /l/after
if [ -d /p/signed ]; then
    signed=/p/signed/greeter_1.2.3_rc1-r0_$(apk --print-arch).apk
    if apk add --no-network "$signed"; then exit 9; fi
    cp /p/signed/me-1.rsa.pub /etc/apk/keys/
    apk verify "$signed"
    apk add --no-network "$signed"
    [ "$(greeter LONG_BIT)" = "$bits" ]
    apk del --no-network greeter
fi
"#,
    );
}

/// Packs apk files with a signature in `packages/signed`, beside the public key.
fn sign(project: &Project) {
    let openssl = |arguments: &[&str]| {
        let status = std::process::Command::new("openssl").args(arguments).current_dir(project.path()).output();
        status.is_ok_and(|output| output.status.success())
    };
    std::fs::create_dir_all(project.path().join("packages/signed")).expect("a folder");
    if !openssl(&["genrsa", "-out", "me-1.rsa", "2048"])
        || !openssl(&["rsa", "-in", "me-1.rsa", "-pubout", "-out", "packages/signed/me-1.rsa.pub"])
    {
        eprintln!("SKIPPED: signatures of apk files, there is no openssl to make a key");
        std::fs::remove_dir(project.path().join("packages/signed")).expect("it is empty");
        return;
    }
    let key = ["--set", "release.apk-key=me-1.rsa", "--set", "build.output=musl", "--format", "apk"];
    let ran = package(project, &[["--output", "packages/signed"].as_slice(), &key].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_folder_lies_in_lib_with_a_link_to_its_program() {
    let Some(project) = packed(&["tar.gz"]) else { return };
    for platform in ["linux_amd64", "linux_386", "linux_arm64"] {
        let folder = project.path().join("folder").join(platform).join("greeter");
        std::fs::create_dir_all(folder.join("data")).expect("a folder");
        std::fs::copy(project.path().join("glibc").join(platform).join("greeter"), folder.join("greeter.bin"))
            .expect("a copy");
        std::fs::write(folder.join("data/words.txt"), "words").expect("a file");
        std::os::unix::fs::symlink("data/words.txt", folder.join("words")).expect("a link");
    }
    let arguments = ["--set", "build.output=folder", "--format", "tar.gz,deb,zip", "--output", "packages/folder"];
    let ran = package(&project, &arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    on_each(
        &project,
        "folder",
        "debian:bookworm",
        r#"
case $(dpkg --print-architecture) in i386) bits=32 ;; *) bits=64 ;; esac
list > /l/before
dpkg -i /p/folder/greeter_*_$(dpkg --print-architecture).deb
[ "$(greeter LONG_BIT)" = "$bits" ]
[ "$(readlink -f /usr/bin/greeter)" = /usr/lib/greeter/greeter.bin ]
[ "$(cat /usr/lib/greeter/words)" = words ]
dpkg -P greeter
list > /l/after
diff /l/before /l/after
for time in first second; do
    sh /p/folder/install.sh --from /p/folder
    [ "$(greeter LONG_BIT)" = "$bits" ]
    [ "$(readlink -f /usr/local/bin/greeter)" = /usr/local/lib/greeter/greeter.bin ]
done
# From a folder to one file, and away.
sh /p/install.sh --from /p
[ ! -e /usr/local/lib/greeter ]
sh /p/folder/install.sh --from /p/folder
sh /p/folder/install.sh --uninstall
list > /l/after
diff /l/before /l/after
mkdir -p /usr/local/lib/greeter
if sh /p/folder/install.sh --from /p/folder; then exit 9; fi
[ ! -e /usr/local/bin/greeter ]
"#,
    );
}

#[test]
fn archives_unpack_with_the_stock_tools_and_are_the_same_twice() {
    let Some(project) = packed(&["all"]) else { return };
    let all = |folder: &str| -> BTreeMap<String, Vec<u8>> {
        let read = |name: String| {
            let bytes = std::fs::read(project.path().join(folder).join(&name)).expect("a file");
            (name, bytes)
        };
        project.list(folder).into_iter().map(read).collect()
    };
    let first = all("packages");
    // Other times of files and another folder.
    std::fs::File::options()
        .append(true)
        .open(project.path().join("glibc/linux_amd64/greeter"))
        .and_then(|file| file.set_modified(std::time::SystemTime::now()))
        .expect("a new time");
    for output in ["glibc", "musl"] {
        let output = format!("build.output={output}");
        let ran = package(&project, &["--output", "again", "--format", "all", "--set", &output]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    let again = all("again");
    assert_eq!(first.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    for (name, bytes) in &first {
        assert!(bytes == &again[name], "{name} differs");
    }
    assert_eq!(first.keys().filter(|name| name.contains("-1_")).count(), 3);
    let archives = first.keys().filter(|name| name.contains("-musl.tar.") && !name.contains("json"));
    assert_eq!(archives.count(), 9);
    on_each(
        &project,
        "archives",
        "debian:bookworm",
        r#"
apt-get update
apt-get install -y --no-install-recommends unzip xz-utils zstd file
cd /p
sha256sum -c --quiet SHA256SUMS
mkdir /u
for archive in greeter-1.2.3rc1-linux-*; do
    rm -rf /u/*
    case $archive in *.json) continue ;; *.zip) unzip -q "$archive" -d /u ;; *) tar -xf "$archive" -C /u ;; esac
    top=${archive%.zip}; top=${top%.tar.*}
    [ "$(ls /u)" = "$top" ]
    [ -x "/u/$top/greeter" ]
    [ -f "/u/$top/LICENSE" ] && [ -f "/u/$top/completions/_greeter" ] && [ -f "/u/$top/man/greeter.1" ]
done
"#,
    );
}

#[test]
fn the_installer_picks_checks_and_removes() {
    let Some(project) = packed(&["all"]) else { return };
    let script = r#"
sh /p/install.sh --version
[ "$(sh /p/install.sh --version)" = 'greeter 1.2.3rc1' ]
list > /l/before
sh /p/install.sh --from /p
[ "$(greeter LONG_BIT)" = "$bits" ]
[ "$(command -v greeter)" = /usr/local/bin/greeter ]
sh /p/install.sh --from /p
sh /p/install.sh --uninstall
list > /l/after
diff /l/before /l/after
if sh /p/install.sh --uninstall; then exit 9; fi
# A 64-bit kernel with a 32-bit system.
if [ "$bits" = 32 ]; then
    mkdir /l/fake
    printf '#!/bin/sh\n[ "$1" = -m ] && echo x86_64 || echo Linux\n' > /l/fake/uname
    chmod 755 /l/fake/uname
    PATH=/l/fake:$PATH sh /p/install.sh --from /p --prefix /l/x
    [ "$(/l/x/bin/greeter LONG_BIT)" = 32 ]
fi
# What is not what was released is not installed.
cp -r /p /l/p
for archive in /l/p/*.tar.gz; do printf x >> "$archive"; done
if sh /p/install.sh --from /l/p --prefix /l/y 2> /l/said; then exit 9; fi
cat /l/said
grep -q 'is not what was released: its SHA-256 is' /l/said
[ -z "$(ls -A /l/y/bin)" ]
# A download that was cut off.
for bytes in 300 2000 6000; do
    head -c $bytes /p/install.sh > /l/cut.sh
    sh /l/cut.sh --from /p --prefix /l/z || true
    [ ! -e /l/z ]
done
if sh /p/install.sh --from /nowhere --prefix /l/y; then exit 9; fi
if sh /p/install.sh --prefix /l/y; then exit 9; fi
[ -z "$(ls -A /l/y/bin)" ]
"#;
    let with = |bits: &str| format!("{bits}\n{script}");
    let debian = "case $(dpkg --print-architecture) in i386) bits=32 ;; *) bits=64 ;; esac";
    on_each(&project, "installer-debian", "debian:bookworm", &with(debian));
    let alpine = r#"case $(apk --print-arch) in x86) bits=32 ;; *) bits=64 ;; esac
grep -q musl /p/install.sh
# By HTTP, of which busybox has the client.
arch=$(apk --print-arch | sed 's/^x86$/i686/; s/aarch64/arm64/')
archive=/p/greeter-1.2.3rc1-linux-$arch-musl.tar.gz
{ printf 'HTTP/1.0 200 OK\r\nContent-Length: %s\r\n\r\n' "$(wc -c < "$archive")"; cat "$archive"; } | nc -l -p 8080 &
sleep 2
no_proxy='*' http_proxy='' sh /p/install.sh --from http://127.0.0.1:8080 --prefix /l/http
[ "$(/l/http/bin/greeter LONG_BIT)" = "$bits" ]"#;
    on_each(&project, "installer-alpine", "alpine:3.20", &with(alpine));
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_left() {
    let Some(project) = packed(&["all"]) else { return };
    let before = project.list("packages");
    let refused = |arguments: &[&str], code: i32, words: &str| {
        let ran = package(&project, &[&["--output", "packages", "--set", "build.output=glibc"], arguments].concat());
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        assert_eq!(project.list("packages"), before);
    };
    refused(&["--format", "apk"], 3, "needs glibc 2.36");
    refused(&["--version", "nightly"], 3, "`nightly` is not a version");
    refused(&["--platform", "linux/riscv64"], 3, "linux/riscv64");
    // The program of another platform.
    let of = |platform: &str| project.path().join("glibc").join(platform).join("greeter");
    std::fs::copy(of("linux_arm64"), of("linux_amd64")).expect("a copy");
    refused(&["--format", "deb"], 6, "is for aarch64, not for linux/amd64");
    std::fs::remove_file(of("linux_386")).expect("it was there");
    refused(&["--format", "deb"], 3, "`kiln build` makes them");
    let ran = package(&project, &["--output", "json", "--set", "build.output=musl", "--format", "apk", "--json"]);
    let made: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let files: Vec<_> = made.as_array().expect("a list").iter().map(|one| one["file"].as_str()).collect();
    assert_eq!(files.len(), 3);
    assert_eq!(files[0], Some("greeter_1.2.3_rc1-r0_x86_64.apk"));
}
