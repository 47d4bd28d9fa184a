//! Reads what a daemon saves of an image: `docker save` archives of all versions, with either image store. Layers go to
//! files as they stream by, packed on the way; nothing but a few kilobytes of JSON is held in memory.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use kiln_graph::Platform;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::manifest::{Blob, Compression, spelled};

/// A JSON document that is larger is taken for a layer.
const MOST_JSON: u64 = 4 << 20;
/// Bytes that tell what something is.
const PEEK: usize = 512;
/// Bytes copied at once.
const BLOCK: usize = 128 << 10;

/// What of an archive is wanted.
pub(crate) enum Want<'a> {
    /// The documents alone.
    Documents,
    /// The layers too, packed and written to a folder, but for those whose place in the archive is in `known`.
    Layers { folder: &'a Path, compression: Compression, known: &'a HashMap<String, String> },
}

/// What an archive holds of one platform.
#[derive(Debug)]
pub(crate) struct Saved {
    /// Entries of the history, as they stand there.
    pub(crate) history: Vec<Value>,
    /// Digests of the layers before packing, lowest first.
    pub(crate) diff_ids: Vec<String>,
    /// The layers: place in the archive, and the packed file unless it was not wanted.
    pub(crate) layers: Vec<(String, Option<(Blob, PathBuf)>)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Config {
    architecture: String,
    #[serde(default)]
    history: Option<Vec<Value>>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// Reads an archive to its end.
pub(crate) fn read(reader: impl Read, platform: Platform, want: &Want<'_>) -> io::Result<Saved> {
    let mut documents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut layers: BTreeMap<String, (Blob, PathBuf)> = BTreeMap::new();
    let mut links: BTreeMap<String, String> = BTreeMap::new();
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {}
            tar::EntryType::Symlink | tar::EntryType::Link => {
                if let Some(to) = entry.link_name()? {
                    links.insert(path.clone(), beside(&path, &to.to_string_lossy()));
                }
                continue;
            }
            _ => continue,
        }
        let size = entry.size();
        let mut head = Vec::with_capacity(PEEK);
        entry.by_ref().take(PEEK as u64).read_to_end(&mut head)?;
        if size <= MOST_JSON && matches!(head.first(), Some(b'{' | b'[')) {
            let mut bytes = head;
            entry.read_to_end(&mut bytes)?;
            if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok() {
                documents.insert(path, bytes);
                continue;
            }
            keep(&path, &mut bytes.as_slice(), &[], want, &mut layers)?;
            continue;
        }
        keep(&path, &mut entry, &head, want, &mut layers)?;
    }
    chosen(platform, &documents, &links, &layers)
}

/// Packs a layer into the folder, if it is one and is wanted.
fn keep(
    path: &str,
    reader: &mut impl Read,
    head: &[u8],
    want: &Want<'_>,
    layers: &mut BTreeMap<String, (Blob, PathBuf)>,
) -> io::Result<()> {
    // The files of the oldest format that are no layers: `VERSION` and such.
    let is_layer = path.ends_with("layer.tar") || path.starts_with("blobs/");
    match want {
        Want::Layers { folder, compression, known } if is_layer && !known.contains_key(path) => {
            let packed = pack(&mut head.chain(reader), head, folder, *compression)?;
            layers.insert(path.to_owned(), packed);
        }
        _ => {}
    }
    Ok(())
}

fn pack(reader: &mut impl Read, head: &[u8], folder: &Path, compression: Compression) -> io::Result<(Blob, PathBuf)> {
    fs_err::create_dir_all(folder)?;
    let file = temporary(folder)?;
    let out = Hashing::new(fs_err::File::create(&file)?);
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let problem = "the daemon keeps a layer of this image packed with zstd, which kiln cannot repack";
        return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
    }
    let is_packed = head.starts_with(&[0x1f, 0x8b]);
    let out = match compression {
        Compression::Gzip if !is_packed => {
            let mut encoder = GzEncoder::new(out, flate2::Compression::default());
            copy(reader, &mut encoder)?;
            encoder.finish()?
        }
        Compression::None if is_packed => {
            let mut out = out;
            copy(&mut flate2::read::MultiGzDecoder::new(reader), &mut out)?;
            out
        }
        _ => {
            let mut out = out;
            copy(reader, &mut out)?;
            out
        }
    };
    let blob = out.blob();
    let path = folder.join(blob.digest.trim_start_matches("sha256:"));
    fs_err::rename(&file, &path)?;
    Ok((blob, path))
}

/// Packs a layer that is an archive of files.
pub(crate) fn pack_file(from: &Path, folder: &Path, compression: Compression) -> io::Result<(Blob, PathBuf)> {
    pack(&mut fs_err::File::open(from)?, &[], folder, compression)
}

fn copy(reader: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    loop {
        match reader.read(&mut block)? {
            0 => return Ok(()),
            count => out.write_all(&block[..count])?,
        }
    }
}

/// A name that no other writer of the folder has.
pub(super) fn temporary(folder: &Path) -> io::Result<PathBuf> {
    static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::path::absolute(folder.join(format!(".layer-{}-{count}", std::process::id())))
}

/// Counts and hashes what is written.
pub(super) struct Hashing<W> {
    out: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, hash: Sha256::new(), size: 0 }
    }

    /// What was written.
    pub(super) fn blob(self) -> Blob {
        Blob { digest: spelled(self.hash.finalize().as_ref()), size: self.size }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The part of the archive that is for the platform.
fn chosen(
    platform: Platform,
    documents: &BTreeMap<String, Vec<u8>>,
    links: &BTreeMap<String, String>,
    layers: &BTreeMap<String, (Blob, PathBuf)>,
) -> io::Result<Saved> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the daemon's image archive {what}"));
    let list = documents.get("manifest.json").ok_or_else(|| bad("has no manifest.json"))?;
    let list: Vec<Listed> = serde_json::from_slice(list).map_err(|_| bad("has a manifest.json that is none"))?;
    let mut found: Vec<(Listed, Config)> = Vec::new();
    for listed in list {
        let Some(bytes) = documents.get(&listed.config) else { continue };
        let config = serde_json::from_slice(bytes).map_err(|_| bad("has a configuration that is none"))?;
        found.push((listed, config));
    }
    // An archive of one image is what was asked for, whatever it says of itself.
    let own = platform.arch.oci().0;
    let at = found.iter().position(|(_, config)| config.architecture == own).unwrap_or(0);
    if at >= found.len() {
        return Err(bad("holds no image"));
    }
    let (listed, config) = found.swap_remove(at);
    let follow = |path: &String| {
        let path = links.get(path).unwrap_or(path);
        (path.clone(), layers.get(path).cloned())
    };
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    let layers: Vec<_> = listed.layers.unwrap_or_default().iter().map(follow).collect();
    if layers.len() != diff_ids.len() {
        return Err(bad("lists other layers than its configuration"));
    }
    Ok(Saved { history: config.history.unwrap_or_default(), diff_ids, layers })
}

/// Where a relative link in an archive leads.
fn beside(path: &str, to: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use kiln_graph::Arch;

    use super::*;

    fn archive(files: &[(&str, &[u8])], link: Option<(&str, &str)>) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, *bytes).expect("written");
        }
        if let Some((path, to)) = link {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, path, to).expect("written");
        }
        builder.into_inner().expect("whole")
    }

    const CONFIG: &[u8] = br#"{"architecture": "amd64", "history": [{"created_by": "x"}],
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]}}"#;

    #[test]
    fn the_old_format_with_links_is_read_and_packed() {
        let manifest = br#"[{"Config": "c.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar"]}]"#;
        let files: [(&str, &[u8]); 5] = [
            ("a/layer.tar", b"some layer"),
            ("a/VERSION", b"1.0"),
            ("a/json", b"{}"),
            ("c.json", CONFIG),
            ("manifest.json", manifest),
        ];
        let bytes = archive(&files, Some(("b/layer.tar", "../a/layer.tar")));
        let folder = tempfile::tempdir().expect("folder");
        let known = HashMap::new();
        let want = Want::Layers { folder: folder.path(), compression: Compression::Gzip, known: &known };
        let saved = read(bytes.as_slice(), Platform::linux(Arch::Amd64), &want).expect("read");
        assert_eq!(saved.diff_ids, ["sha256:1", "sha256:2"]);
        assert_eq!(saved.history.len(), 1);
        assert_eq!(saved.layers[0], saved.layers[1]);
        let (blob, path) = saved.layers[0].1.clone().expect("packed");
        let packed = std::fs::read(path).expect("there");
        assert_eq!(packed.len() as u64, blob.size);
        assert_eq!(super::super::manifest::digest(&packed), blob.digest);
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).expect("gzip");
        assert_eq!(text, "some layer");
        assert_eq!(std::fs::read_dir(folder.path()).expect("listing").count(), 1, "no temporary file is left");
        // Packing is reproducible.
        let again = read(bytes.as_slice(), Platform::linux(Arch::Amd64), &want).expect("read");
        assert_eq!(again.layers[0].1.as_ref().map(|(blob, _)| blob), Some(&blob));
    }

    #[test]
    fn what_is_known_is_left_and_documents_need_no_folder() {
        let manifest = br#"[{"Config": "blobs/sha256/c", "Layers": ["blobs/sha256/1", "blobs/sha256/2"]}]"#;
        let files: [(&str, &[u8]); 4] = [
            ("blobs/sha256/1", b"one"),
            ("blobs/sha256/2", b"{not json}"),
            ("blobs/sha256/c", CONFIG),
            ("manifest.json", manifest),
        ];
        let bytes = archive(&files, None);
        let saved = read(bytes.as_slice(), Platform::linux(Arch::Amd64), &Want::Documents).expect("read");
        assert!(saved.layers.iter().all(|(_, file)| file.is_none()));
        let folder = tempfile::tempdir().expect("folder");
        let known = HashMap::from([("blobs/sha256/1".to_owned(), "sha256:1".to_owned())]);
        let want = Want::Layers { folder: folder.path(), compression: Compression::None, known: &known };
        let saved = read(bytes.as_slice(), Platform::linux(Arch::Amd64), &want).expect("read");
        assert!(saved.layers[0].1.is_none());
        let (_, path) = saved.layers[1].1.clone().expect("kept");
        assert_eq!(std::fs::read(path).expect("there"), b"{not json}");
    }

    #[test]
    fn archives_that_are_none_are_errors() {
        for files in [vec![], vec![("manifest.json", b"[]".as_slice())], vec![("manifest.json", b"{}".as_slice())]] {
            let bytes = archive(&files, None);
            assert!(read(bytes.as_slice(), Platform::linux(Arch::Amd64), &Want::Documents).is_err());
        }
    }
}
