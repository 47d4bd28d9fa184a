//! Manifests and indexes. Source: OCI image-spec `manifest.md`, `image-index.md`, and Docker's schema 2.

use std::collections::BTreeMap;

use kiln_graph::Platform;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Which names the parts have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaTypes {
    /// `application/vnd.oci...`
    #[default]
    Oci,
    /// `application/vnd.docker...`
    Docker,
}

impl MediaTypes {
    pub(crate) fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    pub(crate) fn index(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn layer(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Docker, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Self::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
        }
    }
}

/// How layers are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// gzip.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

/// A layer as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    /// `sha256:...` of the packed bytes.
    pub(crate) digest: String,
    /// Size in bytes.
    pub(crate) size: u64,
}

/// A manifest's or index's reference to something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// Notes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The platform of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformName>,
}

/// A platform in an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlatformName {
    architecture: &'static str,
    os: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'static str>,
}

impl PlatformName {
    pub(crate) fn of(platform: Platform) -> Self {
        let (architecture, variant) = platform.arch.oci();
        Self { architecture, os: platform.os(), variant }
    }
}

impl Descriptor {
    fn new(media_type: &str, digest: &str, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest.to_owned(),
            size,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: &'a [Descriptor],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// `sha256:...` of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    spelled(Sha256::digest(bytes).as_ref())
}

/// The digest of these hash bytes.
pub(crate) fn spelled(hash: &[u8]) -> String {
    use std::fmt::Write as _;
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// A manifest, and how an index refers to it.
pub(crate) fn manifest(
    types: MediaTypes,
    compression: Compression,
    config: &[u8],
    layers: &[Blob],
    annotations: &BTreeMap<String, String>,
) -> serde_json::Result<(Vec<u8>, Descriptor)> {
    let layer = |blob: &Blob| Descriptor::new(types.layer(compression), &blob.digest, blob.size);
    let manifest = Manifest {
        schema_version: 2,
        media_type: types.manifest(),
        config: Descriptor::new(types.config(), &digest(config), config.len() as u64),
        layers: layers.iter().map(layer).collect(),
        annotations,
    };
    Ok(described(types.manifest(), serde_json::to_vec_pretty(&manifest)?))
}

/// An index, and how others refer to it.
pub(crate) fn index(
    types: MediaTypes,
    manifests: &[Descriptor],
    annotations: &BTreeMap<String, String>,
) -> serde_json::Result<(Vec<u8>, Descriptor)> {
    let index = Index { schema_version: 2, media_type: types.index(), manifests, annotations };
    Ok(described(types.index(), serde_json::to_vec_pretty(&index)?))
}

fn described(media_type: &str, bytes: Vec<u8>) -> (Vec<u8>, Descriptor) {
    let descriptor = Descriptor::new(media_type, &digest(&bytes), bytes.len() as u64);
    (bytes, descriptor)
}

#[cfg(test)]
mod tests {
    use kiln_graph::Arch;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn manifests_and_indexes_have_buildkits_shape() {
        let none = BTreeMap::new();
        let layers = [Blob { digest: "sha256:l".into(), size: 7 }];
        let (bytes, mut descriptor) =
            manifest(MediaTypes::Oci, Compression::Gzip, b"{}", &layers, &none).expect("JSON");
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        let expected = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "size": 2,
            },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:l", "size": 7 }],
        });
        assert_eq!(value, expected);
        assert_eq!(descriptor.digest, digest(&bytes));
        descriptor.platform = Some(PlatformName::of(Platform::linux(Arch::ArmV7)));
        let notes = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let (bytes, described) = index(MediaTypes::Docker, &[descriptor.clone()], &notes).expect("JSON");
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        let expected = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": descriptor.digest,
                "size": descriptor.size,
                "platform": { "architecture": "arm", "os": "linux", "variant": "v7" },
            }],
            "annotations": { "a": "b" },
        });
        assert_eq!(value, expected);
        assert_eq!(described.size, bytes.len() as u64);
    }
}
