//! The image that kiln's own containers are made of: the probes of all architectures and an empty folder.
//!
//! It is generated here and loaded into the daemon, so neither a registry nor a shell is needed.

use std::collections::BTreeMap;
use std::io;

use futures::StreamExt;
use kiln_graph::{Arch, Digest, Hasher, Platform};
use sha2::{Digest as _, Sha256};

use crate::emulation::program;
use crate::{ByteStream, ContainerSpec, Engine, ImageId, Result, hex, labels};

/// A folder in the image to mount a volume at.
pub(crate) const FOLDER: &str = "/kiln";

/// The probe image of the daemon's platform, loaded if it is not there.
pub(crate) async fn ensure(engine: &dyn Engine) -> Result<ImageId> {
    let platform = Platform::linux(engine.info().arch);
    let layer = layer();
    let mut hasher = Hasher::new();
    let digest = hasher.field(platform.to_string()).field(&layer).finish();
    let name = format!("kiln.local/probe:{}", digest.short());
    match engine.inspect_image(&name).await? {
        Some(image) => Ok(image.id),
        None => engine.load_image(archive(platform, &name, Some(&layer)), &name).await,
    }
}

/// An image of `platform` without any file, loaded if it is not there: what `FROM scratch` stands for.
pub async fn empty(engine: &dyn Engine, platform: Platform) -> Result<ImageId> {
    let name = format!("kiln.local/empty:{}", platform.to_string().replace('/', "-"));
    match engine.inspect_image(&name).await? {
        Some(image) => Ok(image.id),
        None => engine.load_image(archive(platform, &name, None), &name).await,
    }
}

/// A container of the probe image, without network.
pub(crate) fn container(image: &ImageId, engine: &dyn Engine, role: &str, argv: Vec<String>) -> ContainerSpec {
    let labels = BTreeMap::from([(labels::ROLE.to_owned(), role.to_owned())]);
    let platform = Platform::linux(engine.info().arch);
    ContainerSpec { argv, cwd: "/".to_owned(), ..ContainerSpec::idle(image.clone(), platform, labels) }
}

/// Bytes as a stream.
pub(crate) fn once(bytes: Vec<u8>) -> ByteStream {
    futures::stream::iter([Ok(bytes.into())]).boxed()
}

/// The image as `docker save` writes it: configuration, layer, manifest.
fn archive(platform: Platform, name: &str, layer: Option<&[u8]>) -> ByteStream {
    let diffs: Vec<String> = layer.iter().map(|layer| format!("sha256:{}", hex(&Sha256::digest(layer)))).collect();
    let history: Vec<_> =
        diffs.iter().map(|_| serde_json::json!({ "created": "1970-01-01T00:00:00Z", "created_by": "kiln" })).collect();
    let (arch, variant) = platform.arch.oci();
    let mut config = serde_json::json!({
        "architecture": arch,
        "os": platform.os(),
        "created": "1970-01-01T00:00:00Z",
        "config": { "Labels": { labels::VERSION: labels::CURRENT_VERSION, labels::ROLE: "probe" } },
        "rootfs": { "type": "layers", "diff_ids": diffs },
        "history": history,
    });
    if let Some(variant) = variant {
        config["variant"] = variant.into();
    }
    let config = config.to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let layers: Vec<&str> = layer.iter().map(|_| "layer.tar").collect();
    let manifest = serde_json::json!([{ "Config": config_name, "RepoTags": [name], "Layers": layers }]);
    let manifest = manifest.to_string();
    let files = [(config_name.as_str(), config.as_bytes()), ("manifest.json", manifest.as_bytes())];
    let layer = layer.map(|layer| ("layer.tar", layer));
    once(pack(files.into_iter().chain(layer).map(|(path, bytes)| Entry {
        path: path.to_owned(),
        mode: 0o644,
        content: Content::File(bytes),
    })))
}

fn layer() -> Vec<u8> {
    let probes: BTreeMap<String, Vec<u8>> =
        Arch::ALL.into_iter().map(|arch| (program::path(arch), program::file(arch))).collect();
    let folders = ["probe/".to_owned(), format!("{}/", FOLDER.trim_start_matches('/'))];
    let folders = folders.into_iter().map(|path| Entry { path, mode: 0o755, content: Content::Folder });
    let files =
        probes.iter().map(|(path, bytes)| Entry { path: path.clone(), mode: 0o755, content: Content::File(bytes) });
    pack(folders.chain(files))
}

/// An entry of an archive.
pub(crate) struct Entry<'a> {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) content: Content<'a>,
}

/// What an entry holds.
pub(crate) enum Content<'a> {
    File(&'a [u8]),
    Folder,
}

impl Content<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::File(bytes) => bytes,
            Self::Folder => &[],
        }
    }
}

/// A tar archive, the same for the same entries.
pub(crate) fn pack<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<u8> {
    let write = || -> io::Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        for entry in entries {
            let bytes = entry.content.bytes();
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(match entry.content {
                Content::File(_) => tar::EntryType::Regular,
                Content::Folder => tar::EntryType::Directory,
            });
            header.set_mode(entry.mode);
            header.set_size(bytes.len() as u64);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            builder.append_data(&mut header, &entry.path, bytes)?;
        }
        builder.into_inner()
    };
    write().expect("relative paths and memory take everything")
}

/// The digest of a set of files.
pub(crate) fn digest<'a>(files: impl Iterator<Item = (&'a str, u32, &'a [u8])>) -> Digest {
    let mut hasher = Hasher::new();
    for (path, mode, bytes) in files {
        hasher.field(path).field(mode.to_le_bytes()).field(bytes);
    }
    hasher.finish()
}
