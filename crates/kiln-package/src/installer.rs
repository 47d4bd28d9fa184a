//! `install.sh`: a script that picks an archive by architecture and C library, checks its sum and installs from it.
//!
//! What it chooses from are lines in it, so that a later run, for other platforms or the other C library, adds its own.

use kiln_artifact::checksum::Sha256;
use kiln_graph::Arch;

use crate::need::LibcKind;
use crate::release::{Program, Release};

/// The script's name.
pub const NAME: &str = "install.sh";

const TEMPLATE: &str = include_str!("installer.sh");
const BEGIN: &str = "    cat <<'ENTRIES'\n";
const END: &str = "\nENTRIES\n";

/// An archive that the script can install from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The architecture, by its name in file names.
    pub arch: String,
    /// `glibc`, `musl` or `static`.
    pub libc: String,
    /// The oldest version of glibc that will do; `0` if there is none to name.
    pub version: String,
    /// The archive's sum.
    pub sha256: Sha256,
    /// The archive's name.
    pub file: String,
}

impl Offer {
    /// What an archive of a program offers; nothing if the program's parts need different C libraries.
    pub fn new(program: &Program, file: impl Into<String>, sha256: Sha256) -> Option<Self> {
        let (libc, version) = match &program.need.libc {
            LibcKind::Glibc { floor } => ("glibc", floor.map_or_else(|| "0".to_owned(), |floor| floor.to_string())),
            LibcKind::Musl => ("musl", "0".to_owned()),
            LibcKind::Static => ("static", "0".to_owned()),
            LibcKind::Mixed => return None,
        };
        let arch = program.platform.arch.artifact_name().to_owned();
        Some(Self { arch, libc: libc.to_owned(), version, sha256, file: file.into() })
    }

    /// In which order the script tries them: by architecture, and what uses most of a system first.
    fn order(&self) -> (usize, usize, &str) {
        let arch = Arch::ALL.iter().position(|arch| arch.artifact_name() == self.arch).unwrap_or(usize::MAX);
        let libc = ["glibc", "static", "musl"].iter().position(|libc| *libc == self.libc).unwrap_or(usize::MAX);
        (arch, libc, &self.file)
    }

    fn line(&self) -> String {
        format!("{} {} {} {} {}", self.arch, self.libc, self.version, self.sha256, self.file)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next().map(str::to_owned);
        let (arch, libc, version, sum, file) = (word()?, word()?, word()?, word()?, word()?);
        Some(Self { arch, libc, version, sha256: sum.parse().ok()?, file })
    }
}

/// The script. `url` is the folder that the archives are downloaded from, if one is known.
pub fn script(release: &Release, url: Option<&str>, offers: &[Offer]) -> String {
    let mut offers: Vec<&Offer> = offers.iter().collect();
    offers.sort_by(|a, b| a.order().cmp(&b.order()));
    let lines: Vec<String> = offers.into_iter().map(Offer::line).collect();
    TEMPLATE
        .replace("@TITLE@", &format!("{} {}", release.name, release.version))
        .replace("@NAME@", &quoted(&release.name))
        .replace("@COMMAND@", &quoted(&release.command))
        .replace("@VERSION@", &quoted(release.version.as_str()))
        .replace("@URL@", &quoted(url.unwrap_or_default().trim_end_matches('/')))
        .replace("@ENTRIES@", &lines.join("\n"))
}

/// What an earlier script of the same release offers; nothing of any other text.
pub fn offers(text: &str, release: &Release) -> Vec<Offer> {
    let is_same = [("NAME", release.name.as_str()), ("VERSION", release.version.as_str())]
        .iter()
        .all(|(name, value)| text.contains(&format!("\n{name}={}\n", quoted(value))));
    let lines = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(lines, _)| lines);
    lines.filter(|_| is_same).into_iter().flat_map(str::lines).filter_map(Offer::parse).collect()
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::release;

    fn offer(arch: &str, libc: &str, version: &str) -> Offer {
        let file = format!("hello-1.2.3-linux-{arch}-{libc}.tar.gz");
        Offer {
            arch: arch.to_owned(),
            libc: libc.to_owned(),
            version: version.to_owned(),
            sha256: Sha256::of(&file),
            file,
        }
    }

    #[test]
    fn a_script_tells_what_it_offers() {
        let release = release();
        let all = [offer("arm64", "glibc", "2.34"), offer("x86_64", "musl", "0"), offer("x86_64", "glibc", "2.36")];
        let text = script(&release, Some("https://host/it's/"), &all);
        let [arm, musl, glibc] = all;
        assert_eq!(offers(&text, &release), [glibc, musl, arm]);
        assert!(text.contains("\nURL='https://host/it'\\''s'\n"), "{text}");
        assert!(!text.contains('@') || !text.contains("@ENTRIES"), "{text}");
        let other = Release { version: "1.2.4".parse().unwrap(), ..release };
        assert_eq!(offers(&text, &other), []);
        assert_eq!(offers("#!/bin/sh\n", &other), []);
    }
}
