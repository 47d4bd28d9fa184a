//! Alpine packages, version 2: up to three streams of gzip, which together are one tar archive: the signature, what the
//! package manager reads, and the files, each with its digest in a header.
//!
//! Sources: apk-v2(5), and `abuild` and `abuild-tar` of Alpine, which write the same.

use std::fmt::Write as _;
use std::io::{self, Write};

use kiln_artifact::checksum::Sha256;
use sha1::{Digest, Sha1};
use tar::{Builder, EntryType, Header};

use crate::arch;
use crate::archive::header;
use crate::compress::gzip;
use crate::deb;
use crate::error::PackageError;
use crate::format::Format;
use crate::name::package_name;
use crate::release::{Program, Release};
use crate::scripts;
use crate::tree::{Content, Node, Tree};

/// The header with the digest of a file or of a link's text.
const DIGEST: &str = "APK-TOOLS.checksum.SHA1";
/// The end of a tar archive, which all streams but the last are without.
const END: usize = 1024;

/// The version with the revision.
pub(crate) fn version(release: &Release) -> Result<String, PackageError> {
    Ok(format!("{}-r0", release.version.apk()?))
}

pub(crate) fn write(
    mut out: impl Write,
    release: &Release,
    program: &Program,
    tree: &Tree,
) -> Result<(), PackageError> {
    let data = files(tree, release.time)?;
    let mut entries = vec![(".PKGINFO".to_owned(), 0o644, describe(release, program, tree, &data)?.into_bytes())];
    entries.extend(scripts::apk(release).into_iter().map(|(name, text)| (name.to_owned(), 0o755, text.into_bytes())));
    let control = segment(&entries, release.time)?;
    if let Some(key) = &release.apk_key {
        let signature = key.sign(&control)?;
        out.write_all(&segment(&[(key.entry(), 0o644, signature)], release.time)?)?;
    }
    out.write_all(&control)?;
    out.write_all(&data)?;
    Ok(out.flush()?)
}

/// A stream with a few files that another one follows.
fn segment(entries: &[(String, u32, Vec<u8>)], time: u64) -> io::Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (name, mode, bytes) in entries {
        let mut header = header(Header::new_ustar(), EntryType::Regular, *mode, time);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes.as_slice())?;
    }
    let mut bytes = builder.into_inner()?;
    bytes.truncate(bytes.len() - END);
    let mut writer = gzip(Vec::new());
    writer.write_all(&bytes)?;
    writer.finish()
}

/// The stream with the files.
fn files(tree: &Tree, time: u64) -> io::Result<Vec<u8>> {
    let mut builder = Builder::new(gzip(Vec::new()));
    for node in tree.nodes() {
        let (path, entry) = match node {
            Node::Folder(path) => {
                let folder = header(Header::new_ustar(), EntryType::Directory, 0o755, time);
                append(&mut builder, folder, &format!("{path}/"), None, &[])?;
                continue;
            }
            Node::Entry(path, entry) => (path, entry),
        };
        if let Content::Link(target) = &entry.content {
            let mut link = header(Header::new_ustar(), EntryType::Symlink, entry.mode(), time);
            link.set_link_name(target)?;
            append(&mut builder, link, path, Some(sha1(target.as_bytes())), &[])?;
        } else {
            let bytes = entry.read()?;
            let mut file = header(Header::new_ustar(), EntryType::Regular, entry.mode(), time);
            file.set_size(bytes.len() as u64);
            append(&mut builder, file, path, Some(sha1(&bytes)), &bytes)?;
        }
    }
    builder.into_inner()?.finish()
}

fn append<W: Write>(
    builder: &mut Builder<W>,
    mut header: Header,
    path: &str,
    digest: Option<String>,
    bytes: &[u8],
) -> io::Result<()> {
    let mut records = String::new();
    if header.set_path(path).is_err() {
        records.push_str(&record("path", path));
        header.set_path("long")?;
    }
    records.extend(digest.map(|digest| record(DIGEST, &digest)));
    if !records.is_empty() {
        let mut extended = self::header(Header::new_ustar(), EntryType::XHeader, 0o644, header.mtime()?);
        extended.set_size(records.len() as u64);
        // apk takes a header without a name for the end, so the tar crate's own, which has none, will not do.
        extended.set_path("pax")?;
        extended.set_cksum();
        builder.append(&extended, records.as_bytes())?;
    }
    header.set_cksum();
    builder.append(&header, bytes)
}

/// A record of an extended header: its own length, a name and a value. Source: POSIX, `pax`, "pax Extended Header".
fn record(name: &str, value: &str) -> String {
    let rest = format!(" {name}={value}\n");
    // The length counts its own digits.
    let mut length = rest.len() + 1;
    while rest.len() + length.to_string().len() != length {
        length += 1;
    }
    format!("{length}{rest}")
}

fn sha1(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The `.PKGINFO`.
fn describe(release: &Release, program: &Program, tree: &Tree, data: &[u8]) -> Result<String, PackageError> {
    let name = package_name(Format::Apk, &release.name)?;
    let (version, arch) = (version(release)?, program.platform.arch);
    let mut fields = vec![
        ("pkgname", name.clone()),
        ("pkgver", version.clone()),
        ("pkgdesc", release.summary.clone()),
        ("url", release.homepage.clone().unwrap_or_default()),
        ("builddate", release.time.to_string()),
        ("packager", deb::maintainer(release)),
        ("maintainer", deb::maintainer(release)),
        ("size", tree.size()?.to_string()),
        ("arch", arch::apk(arch).to_owned()),
        ("origin", name),
        ("license", release.license.clone().unwrap_or_else(|| "Unknown".to_owned())),
    ];
    let mut depends = program.need.apk(arch);
    depends.extend(release.depends.apk.iter().cloned());
    depends.sort();
    fields.extend(depends.into_iter().map(|depend| ("depend", depend)));
    fields.push(("provides", format!("cmd:{}={version}", release.command)));
    fields.push(("datahash", Sha256::of(data).to_string()));
    let mut text = String::from("# made by kiln\n");
    for (field, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "{field} = {value}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        assert_eq!(record("path", "abc"), "12 path=abc\n");
        for length in [0, 85, 86, 87, 88, 89, 90, 91, 985, 986, 987, 988] {
            let text = record("p", &"x".repeat(length));
            assert_eq!(text.split(' ').next().unwrap().parse(), Ok(text.len()), "{length}");
        }
    }
}
