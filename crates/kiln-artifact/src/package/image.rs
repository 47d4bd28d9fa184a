//! Images: layouts of the Open Container Initiative, and what `docker save` writes.
//!
//! Source: the image layout specification 1.1; for `manifest.json` the format of `docker save` 1.2. Either may be a folder or
//! a tar archive. Blobs are read where they lie, each layer as a stream, and held against their digests.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use fs_err::File;
use kiln_fetch::archive::decoded;
use kiln_graph::{Arch, Platform};
use serde_json::Value;

use super::bounds::{Meter, Summed};
use super::{Bounds, PackageError, Reader, Visit, read_text, tar};

/// Levels of indexes in indexes.
const DEPTH: usize = 4;
/// Images in one layout at most.
const MOST: usize = 1000;
/// How the names of files begin that say that a lower layer's file is gone.
const GONE: &str = ".wh.";

/// An image of one platform.
pub struct Image {
    /// What it is for, as its configuration says.
    pub platform: String,
    /// The same, if kiln knows it.
    pub arch: Option<Arch>,
    /// What a container of it starts.
    pub command: Vec<String>,
    /// Where programs are looked for.
    pub path: String,
    /// Its configuration.
    pub config: String,
    store: Store,
    /// Names of layers, lowest first; with the digest that each must have.
    layers: Vec<(String, Option<String>)>,
}

/// Whether a tar archive begins as images do. Others are told by a name somewhere in it.
pub(super) fn begins_like_one(first: &str) -> bool {
    let top = first.split('/').next().unwrap_or_default();
    let is_id = top.len() == 64 && top.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id || first == "oci-layout" || first.starts_with("blobs/")
}

/// Whether a tar archive has the file that makes it an image.
pub(super) fn is_archive(path: &Path) -> Result<bool, PackageError> {
    let mut archive = ::tar::Archive::new(super::open(path)?);
    for entry in archive.entries_with_seek()?.raw(true) {
        // A damaged archive is one, too.
        let Ok(entry) = entry else { return Ok(false) };
        if matches!(clean(&entry.path_bytes()).as_str(), "oci-layout" | "manifest.json") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The images in a layout or archive, one for each platform. An archive that is compressed is unpacked into a file in
/// `scratch`, which is removed with the images.
pub fn images(path: &Path, bounds: Bounds, scratch: &Path) -> Result<Vec<Image>, PackageError> {
    let store = Store::open(path, bounds, scratch)?;
    let mut images = Vec::new();
    if store.has("index.json") {
        let index = store.json("index.json", None)?;
        of_index(&store, &index, DEPTH, &mut images)?;
    } else if store.has("manifest.json") {
        let list = store.json("manifest.json", None)?;
        for manifest in list.as_array().into_iter().flatten() {
            let config = manifest["Config"].as_str().unwrap_or_default();
            let layers = texts(&manifest["Layers"]).into_iter().map(|layer| (layer, None)).collect();
            images.push(image(&store, config, None, layers)?);
        }
    }
    if images.is_empty() {
        return Err(PackageError::damaged("there is no image in it"));
    }
    Ok(images)
}

fn of_index(store: &Store, index: &Value, depth: usize, images: &mut Vec<Image>) -> Result<(), PackageError> {
    for descriptor in index["manifests"].as_array().into_iter().flatten() {
        // Attestations stand beside images, for a platform that there is not.
        if descriptor["platform"]["os"] == "unknown" {
            continue;
        }
        let (name, digest) = blob(descriptor)?;
        let manifest = store.json(&name, Some(&digest))?;
        if manifest["manifests"].is_array() {
            let deeper = depth.checked_sub(1).ok_or_else(|| PackageError::damaged("its indexes have no end"))?;
            of_index(store, &manifest, deeper, images)?;
        } else if manifest["layers"].is_array() {
            let (config, config_digest) = blob(&manifest["config"])?;
            let layers = manifest["layers"].as_array().into_iter().flatten();
            let layers = layers.map(|layer| blob(layer).map(|(name, digest)| (name, Some(digest))));
            images.push(image(store, &config, Some(&config_digest), layers.collect::<Result<_, _>>()?)?);
        }
        if images.len() > MOST {
            return Err(PackageError::TooLarge { what: format!("more than {MOST} images") });
        }
    }
    Ok(())
}

fn image(
    store: &Store,
    config: &str,
    digest: Option<&str>,
    layers: Vec<(String, Option<String>)>,
) -> Result<Image, PackageError> {
    let text = store.text(config, digest)?;
    let config: Value = serde_json::from_str(&text).map_err(|error| PackageError::damaged(error.to_string()))?;
    let part = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
    let (os, arch, variant) = (part("os"), part("architecture"), part("variant"));
    let parts: Vec<&str> = [os.as_str(), &arch, &variant].into_iter().filter(|part| !part.is_empty()).collect();
    let platform = parts.join("/");
    let environment = texts(&config["config"]["Env"]);
    let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH="));
    let command = [texts(&config["config"]["Entrypoint"]), texts(&config["config"]["Cmd"])].concat();
    Ok(Image {
        arch: platform.parse::<Platform>().ok().map(|platform| platform.arch),
        platform,
        command,
        path: path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").to_owned(),
        config: text,
        store: store.clone(),
        layers,
    })
}

impl Image {
    /// Bytes of its layers, as they are stored.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|(name, _)| self.store.size_of(name)).sum()
    }

    /// Calls `visit` for each file of each layer, lowest first: also for those that a higher layer replaces or removes.
    pub fn walk(&self, bounds: Bounds, visit: &mut Visit<'_>) -> Result<(), PackageError> {
        let meter = Meter::new(self.store.size, bounds);
        for (name, digest) in &self.layers {
            if let Some(digest) = digest {
                self.store.check(name, digest)?;
            }
            let (_, plain) = decoded(self.store.open_blob(name)?)?;
            tar::walk(&mut meter.limited(plain), &meter, &mut |member| {
                let last = member.name.rsplit('/').next().unwrap_or_default();
                if last.starts_with(GONE) { Ok(()) } else { visit(member) }
            })?;
        }
        Ok(())
    }
}

/// The files of a layout.
#[derive(Clone)]
struct Store {
    path: PathBuf,
    size: u64,
    /// Where each file lies in the archive; none for a folder.
    places: Option<HashMap<String, (u64, u64)>>,
    /// The archive without its compression, for as long as somebody reads it.
    plain: Option<std::sync::Arc<tempfile::NamedTempFile>>,
}

impl Store {
    fn open(path: &Path, bounds: Bounds, scratch: &Path) -> Result<Self, PackageError> {
        if path.is_dir() {
            return Ok(Self { path: path.to_owned(), size: folder_size(path)?, places: None, plain: None });
        }
        let file = super::open(path)?;
        let size = file.metadata().map_err(PackageError::io("read", path))?.len();
        let (compression, plain) = decoded(Box::new(file))?;
        let mut store = Self { path: path.to_owned(), size, places: None, plain: None };
        if compression.is_some() {
            let file = tempfile::NamedTempFile::new_in(scratch);
            let mut file = file.map_err(PackageError::io("write", scratch))?;
            io::copy(&mut Meter::new(size, bounds).limited(plain), &mut file)?;
            file.path().clone_into(&mut store.path);
            store.plain = Some(std::sync::Arc::new(file));
        }
        let meter = Meter::new(size, bounds);
        let mut archive = ::tar::Archive::new(super::open(&store.path)?);
        let mut places = HashMap::new();
        for entry in archive.entries_with_seek()?.raw(true) {
            let entry = entry?;
            meter.member()?;
            places.insert(clean(&entry.path_bytes()), (entry.raw_file_position(), entry.header().entry_size()?));
        }
        store.places = Some(places);
        Ok(store)
    }

    fn has(&self, name: &str) -> bool {
        match &self.places {
            Some(places) => places.contains_key(name),
            None => self.path.join(name).is_file(),
        }
    }

    fn size_of(&self, name: &str) -> u64 {
        match &self.places {
            Some(places) => places.get(&clean(name.as_bytes())).map_or(0, |(_, size)| *size),
            None => fs_err::metadata(self.path.join(name)).map_or(0, |metadata| metadata.len()),
        }
    }

    fn open_blob(&self, name: &str) -> Result<Reader, PackageError> {
        let missing = || PackageError::damaged(format!("`{name}` is missing"));
        let Some(places) = &self.places else {
            let name = super::inside(name)?.ok_or_else(missing)?;
            return Ok(Box::new(super::open(&self.path.join(name)).map_err(|_| missing())?));
        };
        let (offset, size) = *places.get(&clean(name.as_bytes())).ok_or_else(missing)?;
        let mut file = File::open(&self.path).map_err(PackageError::io("read", &self.path))?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file.take(size)))
    }

    /// Holds a blob against its digest.
    fn check(&self, name: &str, digest: &str) -> Result<(), PackageError> {
        let mut summed = Summed::new(self.open_blob(name)?);
        io::copy(&mut summed, &mut io::sink())?;
        if summed.digest() == digest { Ok(()) } else { Err(other(name)) }
    }

    fn text(&self, name: &str, digest: Option<&str>) -> Result<String, PackageError> {
        let mut summed = Summed::new(self.open_blob(name)?);
        let text = read_text(&mut summed)?;
        if digest.is_some_and(|digest| summed.digest() != digest) { Err(other(name)) } else { Ok(text) }
    }

    fn json(&self, name: &str, digest: Option<&str>) -> Result<Value, PackageError> {
        let text = self.text(name, digest)?;
        serde_json::from_str(&text).map_err(|error| PackageError::damaged(format!("`{name}`: {error}")))
    }
}

fn other(name: &str) -> PackageError {
    PackageError::damaged(format!("`{name}` does not have the digest that is its name"))
}

/// Name and digest of the blob that a descriptor means.
fn blob(descriptor: &Value) -> Result<(String, String), PackageError> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let hex =
        digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let hex = hex.ok_or_else(|| PackageError::damaged(format!("`{digest}` is no digest that kiln can check")))?;
    Ok((format!("blobs/sha256/{hex}"), hex.to_ascii_lowercase()))
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn clean(name: &[u8]) -> String {
    String::from_utf8_lossy(name).trim_start_matches("./").trim_end_matches('/').to_owned()
}

/// Bytes of all files of a layout.
fn folder_size(path: &Path) -> Result<u64, PackageError> {
    let mut size = 0;
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder).map_err(PackageError::io("read", &folder))? {
            let entry = entry.map_err(PackageError::io("read", &folder))?;
            let metadata = entry.metadata().map_err(PackageError::io("read", &entry.path()))?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                size += metadata.len();
            }
        }
    }
    Ok(size)
}
