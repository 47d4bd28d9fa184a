//! Base images, put into the registry as multi-platform OCI indexes.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-index.md>. The layers are the root file systems as they
//! are: an uncompressed tar costs nothing to make or to unpack, and never leaves this machine.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use super::layout::Layout;
use super::registry::{Blob, Hashing, Registry};
use super::{ImageStatus, hex, musl, rootfs, say};

/// Raised when the way that images are made changes, so that `up` makes them again.
const RECIPE: &str = "3";
const RECIPE_ANNOTATION: &str = "io.kiln.testbed.recipe";
const CREATED: &str = "2024-01-01T00:00:00Z";
const MINIROOTFS: &str = "3.20.3";

/// A platform that the testbed has images for, with the names it goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Architecture {
    /// In image indexes and platform names.
    pub(crate) docker: &'static str,
    pub(crate) variant: Option<&'static str>,
    pub(crate) debian: &'static str,
    pub(crate) alpine: &'static str,
}

pub(crate) const AMD64: Architecture =
    Architecture { docker: "amd64", variant: None, debian: "amd64", alpine: "x86_64" };
pub(crate) const I386: Architecture = Architecture { docker: "386", variant: None, debian: "i386", alpine: "x86" };
pub(crate) const ARM64: Architecture =
    Architecture { docker: "arm64", variant: Some("v8"), debian: "arm64", alpine: "aarch64" };

pub(crate) const ARMV7: Architecture =
    Architecture { docker: "arm", variant: Some("v7"), debian: "armhf", alpine: "armv7" };

/// The architectures of all base images.
pub(crate) const ARCHITECTURES: [Architecture; 3] = [AMD64, I386, ARM64];
/// Debian has one more: a 32-bit machine that is emulated.
const DEBIAN_ARCHITECTURES: [Architecture; 4] = [AMD64, I386, ARM64, ARMV7];

/// A layer as a tar file, gzipped or not.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) path: PathBuf,
}

/// An image of one architecture.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) architecture: Architecture,
    pub(crate) layers: Vec<Layer>,
    /// The image's `config`: environment, command.
    pub(crate) config: Value,
}

const ALPINE: (&str, &str) = ("library/alpine", "3.20");
const DEBIAN: (&str, &str) = ("library/debian", "bookworm");

/// Whether the registry has all base images as they are made now.
pub(crate) fn are_current(registry: &Registry) -> bool {
    [ALPINE, DEBIAN].into_iter().all(|(name, tag)| is_current(registry, name, tag, RECIPE))
}

/// The images that the registry has.
pub(crate) fn stored(registry: &Registry) -> Vec<ImageStatus> {
    let known = [ALPINE, DEBIAN, musl::IMAGE].into_iter();
    let indexes = known.filter_map(|(name, tag)| Some((name, tag, registry.index(name, tag)?)));
    indexes
        .map(|(name, tag, index)| {
            let entries = index["manifests"].as_array().into_iter().flatten();
            let platforms = entries.filter_map(|entry| entry["platform"]["architecture"].as_str());
            ImageStatus {
                name: format!("{}:{tag}", name.trim_start_matches("library/")),
                platforms: platforms.map(|architecture| format!("linux/{architecture}")).collect(),
            }
        })
        .collect()
}

/// Fills the registry with `alpine:3.20` and `debian:bookworm` as far as they are missing.
pub(crate) fn ensure_base_images(layout: &Layout, registry: &Registry, testdata: &Path) -> Result<()> {
    if !is_current(registry, ALPINE.0, ALPINE.1, RECIPE) {
        push(registry, ALPINE.0, ALPINE.1, RECIPE, &alpine(testdata)?)?;
    }
    if !is_current(registry, DEBIAN.0, DEBIAN.1, RECIPE) {
        let tarballs = rootfs::debian(layout, &DEBIAN_ARCHITECTURES)?;
        let config = json!({"Env": [PATH], "Cmd": ["bash"]});
        let images: Vec<_> = tarballs
            .into_iter()
            .map(|(architecture, path)| Image { architecture, layers: vec![Layer { path }], config: config.clone() })
            .collect();
        push(registry, DEBIAN.0, DEBIAN.1, RECIPE, &images)?;
    }
    Ok(())
}

pub(crate) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether the registry has the image as this recipe makes it.
pub(crate) fn is_current(registry: &Registry, name: &str, tag: &str, recipe: &str) -> bool {
    registry.index(name, tag).is_some_and(|index| index["annotations"][RECIPE_ANNOTATION] == recipe)
}

/// Whether the official minirootfs tarballs are there.
pub(crate) fn has_minirootfs(testdata: &Path) -> bool {
    ARCHITECTURES.iter().all(|architecture| minirootfs_path(testdata, *architecture).is_file())
}

fn minirootfs_path(testdata: &Path, architecture: Architecture) -> PathBuf {
    testdata.join(format!("alpine-minirootfs-{MINIROOTFS}-{}.tar.gz", architecture.alpine))
}

/// The official minirootfs of an architecture, verified against the checksums beside it.
pub(crate) fn minirootfs(testdata: &Path, architecture: Architecture) -> Result<Layer> {
    let path = minirootfs_path(testdata, architecture);
    let checksums = testdata.join("checksums.sha512");
    let checksums = fs::read_to_string(&checksums).with_context(|| format!("cannot read {}", checksums.display()))?;
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let digest = hex(&Sha512::digest(&bytes));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let listed = checksums.lines().find(|line| line.ends_with(&*name)).and_then(|line| line.split(' ').next());
    if listed != Some(digest.as_str()) {
        bail!("{} does not have the checksum that is listed for it", path.display());
    }
    Ok(Layer { path })
}

fn alpine(testdata: &Path) -> Result<Vec<Image>> {
    let config = json!({"Env": [PATH], "Cmd": ["/bin/sh"]});
    ARCHITECTURES
        .iter()
        .map(|architecture| {
            let layers = vec![minirootfs(testdata, *architecture)?];
            Ok(Image { architecture: *architecture, layers, config: config.clone() })
        })
        .collect()
}

/// Puts a multi-platform image into the registry.
pub(crate) fn push(registry: &Registry, name: &str, tag: &str, recipe: &str, images: &[Image]) -> Result<()> {
    let mut manifests = Vec::new();
    for image in images {
        manifests.push(push_platform(registry, name, image)?);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
        "annotations": {RECIPE_ANNOTATION: recipe},
    });
    registry.push_index(name, tag, &index)?;
    let names: Vec<_> = images.iter().map(|image| image.architecture.docker).collect();
    say(format!("{}:{tag} for {}", name.trim_start_matches("library/"), names.join(", ")));
    Ok(())
}

/// Uploads one platform's image and returns its entry in the index.
fn push_platform(registry: &Registry, name: &str, image: &Image) -> Result<Value> {
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for layer in &image.layers {
        let blob = Blob::of_file(&layer.path)?;
        registry.push_file(name, &blob, &layer.path)?;
        let compressed = layer.path.extension().is_some_and(|extension| extension == "gz");
        let kind = if compressed { "tar+gzip" } else { "tar" };
        diff_ids.push(if compressed { unpacked_digest(&layer.path)? } else { blob.digest.clone() });
        layers.push(json!({
            "mediaType": format!("application/vnd.oci.image.layer.v1.{kind}"),
            "digest": blob.digest,
            "size": blob.size,
        }));
    }
    let architecture = image.architecture;
    let mut config = json!({
        "architecture": architecture.docker,
        "os": "linux",
        "created": CREATED,
        "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|_| json!({"created": CREATED, "created_by": "kiln testbed"})).collect::<Vec<_>>(),
    });
    let mut platform = json!({"architecture": architecture.docker, "os": "linux"});
    if let Some(variant) = architecture.variant {
        config["variant"] = variant.into();
        platform["variant"] = variant.into();
    }
    let config = registry.push_bytes(name, &serde_json::to_vec(&config)?)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.digest,
            "size": config.size,
        },
        "layers": layers,
    });
    let manifest = registry.push_manifest(name, &manifest)?;
    Ok(json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": manifest.digest,
        "size": manifest.size,
        "platform": platform,
    }))
}

/// The digest of a gzipped file's content.
fn unpacked_digest(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Hashing(Sha256::new());
    std::io::copy(&mut GzDecoder::new(BufReader::new(file)), &mut hash)
        .with_context(|| format!("{} is no whole gzip file", path.display()))?;
    Ok(format!("sha256:{}", hex(&hash.0.finalize())))
}
