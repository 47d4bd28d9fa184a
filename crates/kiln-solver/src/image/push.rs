//! Pushing: every layer once, whichever platforms and tags use it, and not at all where the registry has it.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use kiln_docker::StoreKind;
use kiln_docker::registry::{ImageName, Registry};
use serde::Deserialize;

use super::exports::ImageForm;
use super::manifest::{Blob, Compression, Descriptor};
use super::publish::{Images, documents};
use crate::error::{Result, SolveError};

/// Layers that are sent at the same time.
const UPLOADS: usize = 4;

/// A repository that is pushed to, and the tags in it.
struct Place {
    registry: Registry,
    name: String,
    repository: String,
    tags: Vec<String>,
}

/// Pushes all images under all names; what the names then stand for.
pub(super) async fn push(
    images: &mut Images<'_>,
    names: &[ImageName],
    insecure: bool,
    form: &ImageForm,
) -> Result<Descriptor> {
    let places = places(images, names, insecure).await?;
    let diff_ids: BTreeSet<String> = images.list.iter().flat_map(|image| image.diff_ids.iter().cloned()).collect();
    if form.compression == Compression::Gzip {
        for place in &places {
            adopt(images, place).await;
        }
    }
    let mut missing: Vec<BTreeSet<String>> = Vec::new();
    for place in &places {
        missing.push(absent(images, place, form.compression, &diff_ids).await?);
    }
    let needed: BTreeSet<String> = missing.iter().flatten().cloned().collect();
    images.pack(form.compression, &needed).await?;
    for (place, missing) in places.iter().zip(&missing) {
        send(images, place, form.compression, missing, diff_ids.len()).await?;
    }
    let mut layers = Vec::new();
    for image in &images.list {
        let blob = |diff: &String| images.facts.blob(form.compression, diff).ok_or_else(|| unknown(diff));
        layers.push(image.diff_ids.iter().map(blob).collect::<Result<Vec<_>>>()?);
    }
    let documents = documents(&images.list, &layers, form)?;
    let Some((root_bytes, root)) = documents.last().cloned() else { return Err(SolveError::Cancelled) };
    for place in &places {
        for image in &images.list {
            if !place.registry.has_blob(&place.repository, &image.id).await? {
                place.registry.upload_bytes(&place.repository, &image.id, image.config.clone().into()).await?;
            }
        }
        // Parts first: a registry refuses an index whose manifests it lacks.
        for (bytes, descriptor) in &documents[..documents.len() - 1] {
            let put = place.registry.put_manifest(
                &place.repository,
                &descriptor.digest,
                &descriptor.media_type,
                bytes.clone().into(),
            );
            put.await?;
        }
        for tag in &place.tags {
            place.registry.put_manifest(&place.repository, tag, &root.media_type, root_bytes.clone().into()).await?;
        }
    }
    Ok(root)
}

async fn places(images: &Images<'_>, names: &[ImageName], insecure: bool) -> Result<Vec<Place>> {
    let mut groups: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for name in names {
        let tags = groups.entry((&name.registry, &name.repository)).or_default();
        if !tags.contains(&name.tag) {
            tags.push(name.tag.clone());
        }
    }
    let options = &images.exports.registry;
    let mut places = Vec::new();
    for ((name, repository), tags) in groups {
        let registry = Registry::connect(name, insecure, options).await?;
        places.push(Place { registry, name: name.to_owned(), repository: repository.to_owned(), tags });
    }
    Ok(places)
}

/// The layers that the repository lacks, and cannot take over from another one of its registry.
async fn absent(
    images: &mut Images<'_>,
    place: &Place,
    compression: Compression,
    diff_ids: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    let mut absent = BTreeSet::new();
    for diff in diff_ids {
        let there = match images.facts.blob(compression, diff) {
            Some(blob) => has(images, place, compression, diff, &blob).await?,
            None => false,
        };
        if !there {
            absent.insert(diff.clone());
        }
    }
    Ok(absent)
}

async fn has(
    images: &mut Images<'_>,
    place: &Place,
    compression: Compression,
    diff: &str,
    blob: &Blob,
) -> Result<bool> {
    let mut there = place.registry.has_blob(&place.repository, &blob.digest).await?;
    if !there {
        for home in images.facts.homes(compression, diff, &place.name) {
            if home != place.repository && place.registry.mount_blob(&place.repository, &blob.digest, &home).await? {
                there = true;
                break;
            }
        }
    }
    if there {
        images.facts.learn_home(compression, diff, &place.name, &place.repository);
    }
    Ok(there)
}

/// Sends what is missing.
async fn send(
    images: &mut Images<'_>,
    place: &Place,
    compression: Compression,
    missing: &BTreeSet<String>,
    all: usize,
) -> Result<()> {
    let mut to_send: BTreeMap<String, (Vec<String>, std::path::PathBuf, u64)> = BTreeMap::new();
    for diff in missing {
        let (blob, path) = images.layer(compression, diff)?;
        // Now that it is packed its digest is known, and the registry may have it after all.
        if !has(images, place, compression, diff, &blob).await? {
            to_send.entry(blob.digest).or_insert((Vec::new(), path, blob.size)).0.push(diff.clone());
        }
    }
    if !to_send.is_empty() {
        let bytes: u64 = to_send.values().map(|(_, _, size)| size).sum();
        let text = format!(
            "pushing {} of {all} layers to {}/{} ({} kB)",
            to_send.len(),
            place.name,
            place.repository,
            bytes.div_ceil(1000)
        );
        images.shared.notice(None, text).await;
    }
    let uploads = to_send
        .iter()
        .map(|(digest, (_, path, size))| place.registry.upload_blob(&place.repository, digest, path, *size));
    let mut uploads = futures::stream::iter(uploads).buffer_unordered(UPLOADS);
    while let Some(uploaded) = uploads.next().await {
        uploaded?;
    }
    drop(uploads);
    for diff in to_send.values().flat_map(|(diffs, _, _)| diffs) {
        images.facts.learn_home(compression, diff, &place.name, &place.repository);
    }
    Ok(())
}

fn unknown(diff: &str) -> SolveError {
    let problem = format!("the daemon's archive lacks the layer {diff}");
    SolveError::io("read", "the image")(std::io::Error::new(std::io::ErrorKind::NotFound, problem))
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    manifests: Vec<Listed>,
    config: Option<Listed>,
    #[serde(default)]
    layers: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
    platform: Option<ListedPlatform>,
}

#[derive(Deserialize)]
struct ListedPlatform {
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// Learns how a base image from the same registry is packed there, so that its layers are taken over as they are.
/// Whatever goes wrong: they are then packed and sent like others.
async fn adopt(images: &mut Images<'_>, place: &Place) {
    // Only with the classic store is an image's id the digest of its configuration, which proves what was found.
    if images.shared.engine.info().store != StoreKind::Classic {
        return;
    }
    for index in 0..images.list.len() {
        let (image, facts) = (&images.list[index], &images.facts);
        let Some(base) = &image.base else { continue };
        let is_known = |diff: &String| facts.blob(Compression::Gzip, diff).is_some();
        let home = ImageName::repository_of(&base.reference);
        let Some((_, repository)) = home.filter(|(registry, _)| *registry == place.name) else { continue };
        if base.diff_ids.iter().all(is_known) {
            continue;
        }
        let (id, diff_ids, platform) = (base.id.clone(), base.diff_ids.clone(), image.platform);
        let Some(layers) = published_layers(images, place, &repository, &id, platform).await else { continue };
        if layers.len() == diff_ids.len() {
            for (diff, blob) in diff_ids.iter().zip(&layers) {
                images.facts.learn_blob(Compression::Gzip, diff, blob);
                images.facts.learn_home(Compression::Gzip, diff, &place.name, &repository);
            }
        }
    }
}

async fn published_layers(
    images: &Images<'_>,
    place: &Place,
    repository: &str,
    id: &str,
    platform: kiln_graph::Platform,
) -> Option<Vec<Blob>> {
    let image = images.shared.engine.inspect_image(id).await.ok()??;
    let digests = image.repo_digests.iter().filter_map(|name| {
        let (_, digest) = name.split_once('@')?;
        let (registry, of) = ImageName::repository_of(name)?;
        (registry == place.name && of == repository).then_some(digest)
    });
    let read = async |digest: &str| -> Option<Listing> {
        let (_, bytes) = place.registry.manifest(repository, digest).await.ok()??;
        serde_json::from_slice(&bytes).ok()
    };
    for digest in digests {
        let mut listing = read(digest).await?;
        if !listing.manifests.is_empty() {
            let (arch, variant) = platform.arch.oci();
            let fits = |listed: &&Listed| {
                let Some(platform) = &listed.platform else { return false };
                platform.architecture == arch
                    && variant.is_none_or(|v| platform.variant.as_deref().is_none_or(|o| o == v))
            };
            let part = listing.manifests.iter().find(fits)?.digest.clone();
            listing = read(&part).await?;
        }
        let gzip = listing.layers.iter().all(|layer| layer.media_type.ends_with("gzip"));
        if gzip && listing.config.is_some_and(|config| config.digest == id) {
            let blob = |layer: Listed| Blob { digest: layer.digest, size: layer.size };
            return Some(listing.layers.into_iter().map(blob).collect());
        }
    }
    None
}
