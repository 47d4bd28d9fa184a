//! Image archives and layouts. Source: OCI image-spec `image-layout.md`, and moby's image-spec 1.2 for `manifest.json`.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use kiln_docker::registry::ImageName;
use serde_json::{Value, json};

use super::manifest::Descriptor;

/// Where the bytes of a blob are.
pub(crate) enum Bytes {
    Here(Vec<u8>),
    File(PathBuf, u64),
}

/// A blob of a layout.
pub(crate) struct Part {
    pub(crate) digest: String,
    pub(crate) bytes: Bytes,
}

/// What becomes a layout.
pub(crate) struct Layout {
    pub(crate) parts: Vec<Part>,
    /// What the layout is about.
    pub(crate) root: Descriptor,
    pub(crate) names: Vec<ImageName>,
    /// `manifest.json` for `docker load`: the digests of configuration and layers.
    pub(crate) docker: Option<(String, Vec<String>)>,
}

impl Layout {
    fn documents(&self) -> serde_json::Result<Vec<(&'static str, Vec<u8>)>> {
        let named = |name: &ImageName| {
            let mut descriptor = self.root.clone();
            descriptor.annotations.insert("io.containerd.image.name".to_owned(), name.to_string());
            descriptor.annotations.insert("org.opencontainers.image.ref.name".to_owned(), name.tag.clone());
            descriptor
        };
        let mut manifests: Vec<Descriptor> = self.names.iter().map(named).collect();
        if manifests.is_empty() {
            manifests.push(self.root.clone());
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        let mut documents = vec![("index.json", serde_json::to_vec(&index)?)];
        if let Some((config, layers)) = &self.docker {
            documents.push(("manifest.json", docker_manifest(config, layers, &self.names)?));
        }
        documents.push(("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        Ok(documents)
    }

    /// Writes the layout as a tar archive.
    pub(crate) fn write(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        for folder in ["blobs/", "blobs/sha256/"] {
            let mut header = header(0, 0o755);
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, folder, io::empty())?;
        }
        let mut seen = BTreeSet::new();
        for part in self.parts.iter().filter(|part| seen.insert(&part.digest)) {
            let path = blob_path(&part.digest);
            match &part.bytes {
                Bytes::Here(bytes) => append(&mut archive, &path, bytes)?,
                Bytes::File(file, size) => {
                    let reader = fs_err::File::open(file)?.take(*size);
                    archive.append_data(&mut header(*size, 0o644), path, reader)?;
                }
            }
        }
        for (path, bytes) in self.documents()? {
            append(&mut archive, path, &bytes)?;
        }
        archive.into_inner()?.flush()
    }

    /// Writes the layout as a folder: the documents last, so that it is whole once they are there.
    pub(crate) fn write_folder(&self, folder: &Path) -> io::Result<()> {
        for part in &self.parts {
            let path = folder.join(blob_path(&part.digest));
            if path.exists() {
                continue;
            }
            match &part.bytes {
                Bytes::Here(bytes) => crate::store::write_atomically(&path, bytes)?,
                Bytes::File(file, _) => {
                    fs_err::create_dir_all(path.parent().unwrap_or(folder))?;
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    let staged = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
                    let copied = fs_err::copy(file, &staged).and_then(|_| fs_err::rename(&staged, &path));
                    if copied.is_err() {
                        let _ = fs_err::remove_file(&staged);
                    }
                    copied?;
                }
            }
        }
        for (name, bytes) in self.documents()?.iter().rev() {
            crate::store::write_atomically(&folder.join(name), bytes)?;
        }
        Ok(())
    }
}

/// The archive that names an image whose layers the daemon has already: configuration and list alone.
pub(crate) fn without_layers(
    config: &[u8],
    digest: &str,
    diff_ids: &[String],
    names: &[ImageName],
) -> io::Result<Vec<u8>> {
    let file = format!("{}.json", hex(digest));
    let layers: Vec<String> = diff_ids.iter().map(|layer| format!("{}/layer.tar", hex(layer))).collect();
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, &file, config)?;
    append(&mut archive, "manifest.json", &list(&file, &layers, names)?)?;
    archive.into_inner()
}

/// Writes an archive with an image for a daemon that has all but some of its layers, lowest first; `add` adds those with
/// [`append_layer`].
pub(crate) fn with_layers<W: Write>(
    (config, digest): (&[u8], &str),
    diff_ids: &[String],
    names: &[ImageName],
    out: W,
    add: impl FnOnce(&mut tar::Builder<W>) -> io::Result<()>,
) -> io::Result<()> {
    let file = format!("{}.json", hex(digest));
    let layers: Vec<String> = diff_ids.iter().map(|layer| layer_path(layer)).collect();
    let mut archive = tar::Builder::new(out);
    append(&mut archive, &file, config)?;
    append(&mut archive, "manifest.json", &list(&file, &layers, names)?)?;
    add(&mut archive)?;
    archive.into_inner()?.flush()
}

/// Adds a layer of so many bytes.
pub(crate) fn append_layer(
    archive: &mut tar::Builder<impl Write>,
    diff_id: &str,
    (layer, size): (impl Read, u64),
) -> io::Result<()> {
    archive.append_data(&mut header(size, 0o644), layer_path(diff_id), layer.take(size))
}

fn layer_path(diff_id: &str) -> String {
    format!("{}/layer.tar", hex(diff_id))
}

fn docker_manifest(config: &str, layers: &[String], names: &[ImageName]) -> serde_json::Result<Vec<u8>> {
    let layers: Vec<String> = layers.iter().map(|layer| blob_path(layer)).collect();
    list(&blob_path(config), &layers, names)
}

fn list(config: &str, layers: &[String], names: &[ImageName]) -> serde_json::Result<Vec<u8>> {
    let names: Option<Vec<String>> = (!names.is_empty()).then(|| names.iter().map(ImageName::familiar).collect());
    let list: Value = json!([{ "Config": config, "RepoTags": names, "Layers": layers }]);
    serde_json::to_vec(&list)
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, bytes: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(bytes.len() as u64, 0o644), path, bytes)
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header
}

fn blob_path(digest: &str) -> String {
    format!("blobs/sha256/{}", hex(digest))
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::manifest::{Blob, Compression, MediaTypes, digest, manifest};
    use super::*;

    #[test]
    fn a_layout_holds_its_blobs_once_and_names_them() {
        let dir = tempfile::tempdir().expect("folder");
        let layer = dir.path().join("layer");
        std::fs::write(&layer, "layer").expect("written");
        let blob = Blob { digest: digest(b"layer"), size: 5 };
        let layers = [blob.clone(), blob.clone()];
        let (bytes, root) =
            manifest(MediaTypes::Oci, Compression::Gzip, b"{}", &layers, &BTreeMap::new()).expect("JSON");
        let file = || Part { digest: blob.digest.clone(), bytes: Bytes::File(layer.clone(), 5) };
        let config = digest(b"{}");
        let layout = Layout {
            parts: vec![
                Part { digest: config.clone(), bytes: Bytes::Here(b"{}".to_vec()) },
                file(),
                file(),
                Part { digest: root.digest.clone(), bytes: Bytes::Here(bytes) },
            ],
            root: root.clone(),
            names: vec![ImageName::parse("a/b:1").expect("name"), ImageName::parse("c").expect("name")],
            docker: Some((config.clone(), vec![blob.digest.clone(); 2])),
        };
        let mut tar = Vec::new();
        layout.write(&mut tar).expect("written");
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(tar.as_slice()).entries().expect("entries") {
            let mut entry = entry.expect("entry");
            let path = entry.path().expect("path").display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("read");
            assert!(files.insert(path.clone(), bytes).is_none(), "{path} is there twice");
        }
        let json = |path: &str| serde_json::from_slice::<Value>(&files[path]).expect("JSON");
        assert_eq!(json("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));
        let names: Vec<_> = json("index.json")["manifests"]
            .as_array()
            .expect("list")
            .iter()
            .map(|m| (m["digest"].clone(), m["annotations"]["io.containerd.image.name"].clone()))
            .collect();
        let whole = |name: &str| (json!(root.digest), json!(name));
        assert_eq!(names, [whole("docker.io/a/b:1"), whole("docker.io/library/c:latest")]);
        assert_eq!(json("manifest.json")[0]["RepoTags"], json!(["a/b:1", "c:latest"]));
        for path in [json("manifest.json")[0]["Config"].as_str(), json("manifest.json")[0]["Layers"][1].as_str()] {
            assert!(files.contains_key(path.expect("path")));
        }
        let folder = dir.path().join("layout");
        layout.write_folder(&folder).expect("written");
        for (path, bytes) in files.iter().filter(|(path, _)| !path.ends_with('/')) {
            assert_eq!(&std::fs::read(folder.join(path)).expect("there"), bytes, "{path}");
        }
        assert_eq!(std::fs::read_dir(folder.join("blobs/sha256")).expect("listing").count(), 3);
    }
}
