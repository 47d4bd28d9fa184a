//! Images of folders in OCI layout, as base images. Source: OCI image-spec, `image-layout.md`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use kiln_docker::registry::ImageName;
use kiln_docker::{Engine, EngineError, Image, StoreKind, labels};
use kiln_graph::Platform;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::archive::{append_layer, with_layers};
use super::manifest::spelled;
use crate::archive::writer;
use crate::shared::joined;

/// How references to layouts begin.
pub const SCHEME: &str = "oci-layout://";
/// JSON documents of an image are smaller than this.
const MOST_JSON: u64 = 16 << 20;
/// The annotation with the tag.
const TAG: &str = "org.opencontainers.image.ref.name";

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Place>,
}

#[derive(Clone, Debug, Deserialize)]
struct Place {
    os: String,
    architecture: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Blob>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Blob,
    layers: Vec<Blob>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// A folder, and what of it is meant: a tag or a digest.
struct Reference {
    folder: PathBuf,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    fn parse(text: &str) -> Self {
        if let Some((folder, digest)) = text.split_once('@') {
            return Self { folder: folder.into(), tag: None, digest: Some(digest.to_owned()) };
        }
        match text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((folder, tag)) => Self { folder: folder.into(), tag: Some(tag.to_owned()), digest: None },
            None => Self { folder: text.into(), tag: None, digest: None },
        }
    }
}

/// An image of a layout that was found.
struct Found {
    /// The configuration, and its digest.
    config: Vec<u8>,
    id: String,
    diff_ids: Vec<String>,
    layers: Vec<(PathBuf, Blob)>,
}

fn bad(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

fn place_of(folder: &Path, digest: &str) -> io::Result<PathBuf> {
    let hex =
        digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    Ok(folder.join("blobs/sha256").join(hex.ok_or_else(|| bad(format!("`{digest}` is no SHA-256 digest")))?))
}

/// A document of a layout, which is what its digest says.
fn document(folder: &Path, blob: &Blob) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(place_of(folder, &blob.digest)?)?.take(MOST_JSON).read_to_end(&mut bytes)?;
    let is_it = spelled(Sha256::digest(&bytes).as_ref()) == blob.digest;
    if is_it { Ok(bytes) } else { Err(bad(format!("{} is not what its digest says", blob.digest))) }
}

fn find(reference: &Reference, platform: Platform) -> io::Result<Found> {
    let folder = &reference.folder;
    if !folder.join("oci-layout").is_file() {
        return Err(bad(format!("{} is no OCI layout: it has no file `oci-layout`", folder.display())));
    }
    let index: Index = serde_json::from_slice(&std::fs::read(folder.join("index.json"))?)?;
    let tag = reference.tag.as_deref().unwrap_or("latest");
    let is_meant = |blob: &&Blob| match &reference.digest {
        Some(digest) => blob.digest == *digest,
        None => blob.annotations.get(TAG).is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}"))),
    };
    let sole = || index.manifests.first().filter(|_| index.manifests.len() == 1 && reference.tag.is_none());
    let meant = match (&reference.digest, index.manifests.iter().find(is_meant)) {
        (_, Some(blob)) => blob.clone(),
        // What an index in the layout names may be meant as well.
        (Some(digest), None) => Blob { digest: digest.clone(), size: 0, annotations: BTreeMap::new(), platform: None },
        (None, None) => sole().cloned().ok_or_else(|| bad(format!("it has no image with the tag `{tag}`")))?,
    };
    let bytes = document(folder, &meant)?;
    let bytes = match serde_json::from_slice::<Index>(&bytes) {
        Ok(index) => {
            let (arch, variant) = platform.arch.oci();
            let suits = |blob: &&Blob| {
                blob.platform.as_ref().is_some_and(|place| {
                    let has_variant = variant.is_none() || place.variant.as_deref() == variant;
                    place.os == "linux" && place.architecture == arch && (has_variant || place.variant.is_none())
                })
            };
            let one = index.manifests.iter().find(suits).ok_or_else(|| bad("it has no image for this platform"))?;
            document(folder, one)?
        }
        Err(_) => bytes,
    };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| bad(format!("a manifest: {error}")))?;
    let config = document(folder, &manifest.config)?;
    let Config { rootfs } =
        serde_json::from_slice(&config).map_err(|error| bad(format!("a configuration: {error}")))?;
    if rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(bad("its manifest and its configuration have different numbers of layers"));
    }
    let layers = manifest.layers.into_iter().map(|layer| Ok((place_of(folder, &layer.digest)?, layer)));
    Ok(Found {
        id: manifest.config.digest,
        config,
        diff_ids: rootfs.diff_ids,
        layers: layers.collect::<io::Result<_>>()?,
    })
}

/// A layer as it lies there, which must be what its digest says.
struct Checked<'a> {
    file: File,
    hasher: Sha256,
    left: u64,
    digest: &'a str,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.left = self.left.saturating_sub(count as u64);
        // Before the last bytes are handed on: half an archive is refused, a whole one would be believed.
        if self.left == 0 && count > 0 && spelled(self.hasher.clone().finalize().as_ref()) != self.digest {
            return Err(bad(format!("{} is not what its digest says", self.digest)));
        }
        Ok(count)
    }
}

/// The image that a reference to a layout stands for, with [`SCHEME`], made known to the daemon if it is not.
///
/// # Errors
/// [`EngineError::ImageNotFound`] if the layout has no such image or is damaged; or what the daemon says.
pub async fn from_layout(engine: &dyn Engine, reference: &str, platform: Platform) -> kiln_docker::Result<Image> {
    let missing = |message: String| EngineError::ImageNotFound { reference: reference.to_owned(), platform, message };
    let place = Reference::parse(reference.trim_start_matches(SCHEME));
    let finding = tokio::task::spawn_blocking(move || find(&place, platform));
    let found = joined(finding.await).map_err(|error| missing(error.to_string()))?;
    // Under a name of kiln's own it is not taken for a leftover.
    let id = found.id.trim_start_matches("sha256:").chars().take(12).collect::<String>();
    let name = format!("{}oci-layout:{id}", labels::BASE_NAMES);
    if let Some(image) = engine.inspect_image(&name).await?
        && (engine.info().store != StoreKind::Classic || image.id.0 == found.id)
    {
        return Ok(image);
    }
    let named = ImageName::parse(&name).map_err(|error| missing(error.to_string()))?;
    let (mut out, stream) = writer();
    let writing = tokio::task::spawn_blocking(move || {
        let Found { config, id, diff_ids, layers } = found;
        with_layers((&config, &id), &diff_ids, &[named], &mut out, |archive| {
            for (diff_id, (path, blob)) in diff_ids.iter().zip(&layers) {
                let (file, digest) = (File::open(path)?, blob.digest.as_str());
                let layer = Checked { file, hasher: Sha256::new(), left: blob.size, digest };
                // As it is packed: the daemon unpacks it.
                append_layer(archive, diff_id, (layer, blob.size))?;
            }
            Ok(())
        })?;
        out.finish()
    });
    let loaded = engine.load_image(stream, &name).await;
    match joined(writing.await) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(missing(error.to_string())),
        _ => drop(loaded?),
    }
    engine.inspect_image(&name).await?.ok_or_else(|| missing("the daemon did not keep it".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, bytes: &[u8]) -> serde_json::Value {
        let digest = spelled(Sha256::digest(bytes).as_ref());
        let path = place_of(folder, &digest).expect("a digest");
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs_err::write(path, bytes).expect("written");
        serde_json::json!({ "digest": digest, "size": bytes.len() })
    }

    fn layout(folder: &Path) -> String {
        fs_err::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
        let layer = put(folder, b"a layer");
        let config = put(folder, br#"{"architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:0a"]}}"#);
        let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        let mut one = put(folder, manifest.to_string().as_bytes());
        one["platform"] = serde_json::json!({ "os": "linux", "architecture": "amd64" });
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [one] });
        let mut all = put(folder, index.to_string().as_bytes());
        all["annotations"] = serde_json::json!({ TAG: "v1" });
        let digest = all["digest"].as_str().expect("text").to_owned();
        let top = serde_json::json!({ "schemaVersion": 2, "manifests": [all] });
        fs_err::write(folder.join("index.json"), top.to_string()).expect("written");
        digest
    }

    #[test]
    fn an_image_is_found_by_tag_digest_or_as_the_only_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let digest = layout(dir.path());
        let (amd64, arm64): (Platform, Platform) =
            ("linux/amd64".parse().expect("known"), "linux/arm64".parse().expect("known"));
        let path = dir.path().display();
        let at = |text: &str, platform| find(&Reference::parse(text), platform).map(|found| found.layers.len());
        for text in [format!("{path}"), format!("{path}:v1"), format!("{path}@{digest}")] {
            assert_eq!(at(&text, amd64).expect(&text), 1);
        }
        let wrong = |text: String, platform| at(&text, platform).expect_err(&text).to_string();
        assert!(wrong(format!("{path}:v2"), amd64).contains("no image with the tag `v2`"));
        assert!(wrong(format!("{path}"), arm64).contains("no image for this platform"));
        assert!(wrong("/".to_owned(), amd64).contains("no OCI layout"));
        let blob = place_of(dir.path(), &digest).expect("a place");
        fs_err::write(blob, "{}").expect("written");
        assert!(wrong(format!("{path}:v1"), amd64).contains("not what its digest says"));
    }

    #[test]
    fn a_layer_that_was_changed_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("layer");
        for (content, is_good) in [("layer", true), ("other", false)] {
            fs_err::write(&path, content).expect("written");
            let digest = spelled(Sha256::digest(b"layer").as_ref());
            let file = File::open(&path).expect("open");
            let mut layer = Checked { file, hasher: Sha256::new(), left: 5, digest: &digest };
            assert_eq!(io::read_to_string(&mut layer).is_ok(), is_good, "{content}");
        }
    }
}
