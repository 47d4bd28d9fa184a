//! Debian packages: an `ar` archive of a version number, what the package manager reads, and the files.
//!
//! Sources: deb(5), deb-control(5), Debian Policy. The container is written here: its headers are sixty bytes of text.

use std::fmt::Write as _;
use std::io::Write;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use md5::{Digest, Md5};

use crate::archive::tar;
use crate::compress::xz;
use crate::error::PackageError;
use crate::format::Format;
use crate::name::package_name;
use crate::release::{DocumentKind, Program, Release};
use crate::scripts;
use crate::tree::{Content, Entry, Role, Tree};

/// The first package of a version.
const REVISION: &str = "1";

/// The version with the revision.
pub(crate) fn version(release: &Release, without_epoch: bool) -> String {
    format!("{}-{REVISION}", release.version.deb(without_epoch))
}

pub(crate) fn write(
    mut out: impl Write,
    release: &Release,
    program: &Program,
    tree: &Tree,
) -> Result<(), PackageError> {
    let time = release.time;
    let mut control = Tree::new();
    control.insert("control", Entry::bytes(describe(release, program, tree)?, Role::Plain))?;
    control.insert("md5sums", Entry::bytes(md5sums(tree)?, Role::Plain))?;
    let mut conffiles = String::new();
    for (path, _) in tree.iter().filter(|(_, entry)| entry.role == Role::Config) {
        let _ = writeln!(conffiles, "/{path}");
    }
    if !conffiles.is_empty() {
        control.insert("conffiles", Entry::bytes(conffiles, Role::Plain))?;
    }
    for (name, script) in scripts::deb(release) {
        control.insert(name, Entry { executable: true, ..Entry::bytes(script, Role::Plain) })?;
    }
    let control = tar(xz(Vec::new())?, "./", time, &control)?.finish()?;
    let data = tar(xz(Vec::new())?, "./", time, tree)?.finish()?;
    out.write_all(b"!<arch>\n")?;
    for (name, bytes) in [("debian-binary", b"2.0\n".as_slice()), ("control.tar.xz", &control), ("data.tar.xz", &data)]
    {
        writeln!(out, "{name:<16}{time:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, "100644", bytes.len())?;
        out.write_all(bytes)?;
        if bytes.len() % 2 == 1 {
            out.write_all(b"\n")?;
        }
    }
    Ok(out.flush()?)
}

/// The control file.
fn describe(release: &Release, program: &Program, tree: &Tree) -> Result<String, PackageError> {
    let name = package_name(Format::Deb, &release.name)?;
    let mut depends = program.need.deb();
    depends.extend(release.depends.deb.iter().cloned());
    // In KiB, each file rounded up, and one for each folder and link. Source: deb-substvars(5).
    let mut kib = tree.folders().len() as u64;
    for (_, entry) in tree.iter() {
        kib += if matches!(entry.content, Content::Link(_)) { 1 } else { entry.size()?.div_ceil(1024) };
    }
    let fields = [
        ("Package", Some(name)),
        ("Version", Some(version(release, false))),
        ("Architecture", Some(program.platform.arch.debian_name().to_owned())),
        ("Maintainer", Some(maintainer(release))),
        ("Installed-Size", Some(kib.to_string())),
        ("Depends", Some(depends.join(", ")).filter(|list| !list.is_empty())),
        ("Section", Some(release.section.clone())),
        ("Priority", Some("optional".to_owned())),
        ("Homepage", release.homepage.clone()),
        ("Description", Some(release.summary.clone())),
    ];
    let mut text = String::new();
    for (field, value) in fields {
        if let Some(value) = value {
            let _ = writeln!(text, "{field}: {value}");
        }
    }
    // It must have more than one line.
    let none = release.description.trim().is_empty() || release.description == release.summary;
    let more = format!("This package has the program {}.", release.command);
    for line in if none { more.as_str() } else { release.description.trim_end() }.lines() {
        let line = line.trim_end();
        let _ = writeln!(text, " {}", if line.is_empty() { "." } else { line });
    }
    Ok(text)
}

/// Who looks after the package; the field must be there.
pub(crate) fn maintainer(release: &Release) -> String {
    release.maintainer.clone().unwrap_or_else(|| format!("The makers of {} <root@localhost>", release.name))
}

fn md5sums(tree: &Tree) -> Result<String, PackageError> {
    let mut text = String::new();
    for (path, entry) in tree.iter() {
        if matches!(entry.content, Content::Link(_)) || entry.role == Role::Config {
            continue;
        }
        let digest = Md5::digest(&*entry.read()?);
        digest.iter().for_each(|byte| {
            let _ = write!(text, "{byte:02x}");
        });
        let _ = writeln!(text, "  {path}");
    }
    Ok(text)
}

/// The copyright file: what is known, and the licence as it is. Source: Debian Policy, section 12.5.
pub(crate) fn copyright(release: &Release) -> Vec<u8> {
    let mut text = format!("{}\n", release.name);
    if let Some(homepage) = &release.homepage {
        let _ = writeln!(text, "Source: {homepage}");
    }
    if let Some(license) = &release.license {
        let _ = writeln!(text, "License: {license}");
    }
    let mut bytes = text.into_bytes();
    for document in release.documents.iter().filter(|document| document.kind == DocumentKind::License) {
        bytes.push(b'\n');
        bytes.extend_from_slice(&document.bytes);
    }
    bytes
}

/// The changelog of the package, with the one entry that there is to make. Source: deb-changelog(5).
pub(crate) fn changelog(release: &Release, name: &str) -> String {
    format!(
        "{name} ({}) unstable; urgency=medium\n\n  * Release {}.\n\n -- {}  {}\n",
        version(release, false),
        release.version,
        maintainer(release),
        mail_date(release.time)
    )
}

/// `Mon, 02 Jan 2006 15:04:05 +0000`.
fn mail_date(time: u64) -> String {
    date_time(time).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// A time in seconds since 1970 by the calendar, in UTC; the beginning of 1970 for what is after the year 9999.
pub(crate) fn date_time(time: u64) -> DateTime {
    let moment = i64::try_from(time).ok().and_then(|time| Timestamp::from_second(time).ok());
    moment.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC).datetime()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(mail_date(0), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(mail_date(1_136_214_245), "Mon, 02 Jan 2006 15:04:05 +0000");
        assert_eq!(mail_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 +0000");
        assert_eq!(mail_date(4_102_444_799), "Thu, 31 Dec 2099 23:59:59 +0000");
    }
}
