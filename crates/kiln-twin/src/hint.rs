//! What a command is likely to call, told by its text: whether native programs would help it, and which.
//!
//! A guess, since being wrong costs little. Where a command must be read as a shell reads it, as for its caches, that is
//! `kiln-dockerfile`'s `lower/caches/shell.rs`.

/// Words that name something with a native stand-in, or that usually ends in such.
const HELPED: &[&str] = &[
    "apt",
    "apt-get",
    "bash",
    "c++",
    "cargo",
    "cc",
    "ccache",
    "cmake",
    "configure",
    "cython",
    "dpkg",
    "g++",
    "gcc",
    "hatch",
    "ld",
    "make",
    "meson",
    "ninja",
    "nuitka",
    "pip",
    "pip3",
    "pipx",
    "poetry",
    "python",
    "python3",
    "pytest",
    "sh",
    "tar",
    "tox",
    "uv",
    "virtualenv",
    "xz",
];

/// Programs that install packages of the distribution.
const INSTALLERS: &[&str] = &["apk", "apt", "apt-get", "dnf", "microdnf", "yum", "zypper"];

/// Whether native programs are likely to make the command faster.
pub fn helps(text: &str) -> bool {
    words(text).any(|word| {
        let name = word.rsplit('/').next().unwrap_or(word);
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        HELPED.contains(&name) || HELPED.contains(&plain) || [".py", ".sh"].iter().any(|end| name.ends_with(end))
    })
}

/// Whether the command installs system packages: what it brings is of use to itself already, in its native form.
pub fn installs(text: &str) -> bool {
    let words: Vec<&str> = words(text).collect();
    let installer = words.iter().position(|word| INSTALLERS.contains(word));
    installer.is_some_and(|at| words[at..].iter().any(|word| matches!(*word, "install" | "add" | "in")))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || "'\"`;&|()<>={}$".contains(c)).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_calls_python_or_a_compiler_is_helped() {
        for text in [
            "python3 -m nuitka main.py",
            "/venv/bin/pip install -r requirements.txt",
            "set -eu\nexport X=1; exec make -j4",
            "./configure --prefix=/usr && true",
            "gcc-12 -o a a.c",
            "python3.12 setup.py build",
            "./build.sh",
        ] {
            assert!(helps(text), "{text}");
        }
        for text in ["echo hello > /file", "mkdir -p /a && chown 1:1 /a", "rm -rf /var/lib/x"] {
            assert!(!helps(text), "{text}");
        }
    }

    #[test]
    fn installing_packages_is_told_from_other_uses() {
        assert!(installs("apt-get update && apt-get install -y gcc"));
        assert!(installs("apk add --no-cache python3"));
        assert!(!installs("apt-get update"));
        assert!(!installs("pip install requests"));
    }
}
