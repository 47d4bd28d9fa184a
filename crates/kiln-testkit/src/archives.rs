//! Image archives: what a fake daemon saves, and what it reads of one that it is given.

use std::collections::BTreeMap;
use std::io::{self, Read};

use kiln_docker::Image;
use serde_json::{Value, json};

/// An image in the format of `docker save`. Each layer that it says it has is one file, from the year 2033.
pub(crate) fn save(image: &Image) -> io::Result<Vec<u8>> {
    let (arch, _) = image.platform.arch.oci();
    let history: Vec<Value> = image
        .layers
        .iter()
        .enumerate()
        .map(|(index, _)| json!({ "created": "2001-01-01T00:00:00.5Z", "created_by": format!("layer {index}") }))
        .collect();
    let config = json!({
        "architecture": arch,
        "os": "linux",
        "history": history,
        "rootfs": { "type": "layers", "diff_ids": image.layers },
    });
    // As with a daemon, a place in the archive stands for one layer on the layers below it.
    let names: Vec<String> =
        image.layers.iter().map(|layer| format!("{}/layer.tar", layer.trim_start_matches("sha256:"))).collect();
    let manifest = json!([{ "Config": "config.json", "RepoTags": null, "Layers": names }]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, layer) in names.iter().zip(&image.layers) {
        let mut files = tar::Builder::new(Vec::new());
        append(&mut files, "layer", 2_000_000_000, layer.as_bytes())?;
        append(&mut archive, name, 0, &files.into_inner()?)?;
    }
    append(&mut archive, "config.json", 0, config.to_string().as_bytes())?;
    append(&mut archive, "manifest.json", 0, manifest.to_string().as_bytes())?;
    archive.into_inner()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, time: u64, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, bytes)
}

/// What a daemon is given to load.
pub(crate) struct Loaded {
    pub(crate) config: Vec<u8>,
    /// The names that the image gets.
    pub(crate) names: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) layers: Vec<String>,
    /// The archive of the last layer, if it is there.
    pub(crate) top: Option<Vec<u8>>,
}

/// Reads an image archive.
pub(crate) fn read(bytes: &[u8]) -> Option<Loaded> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().ok()? {
        let mut entry = entry.ok()?;
        let path = entry.path().ok()?.display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).ok()?;
        files.insert(path, content);
    }
    let manifest: Value = serde_json::from_slice(files.get("manifest.json")?).ok()?;
    let config = files.get(manifest[0]["Config"].as_str()?)?.clone();
    let tags = manifest[0]["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let names = tags.map(str::to_owned).collect();
    let top = manifest[0]["Layers"].as_array().and_then(|layers| files.get(layers.last()?.as_str()?)).cloned();
    let parsed: Value = serde_json::from_slice(&config).ok()?;
    let labels = parsed["config"]["Labels"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    let layers = parsed["rootfs"]["diff_ids"].as_array().into_iter().flatten();
    let layers = layers.filter_map(|layer| Some(layer.as_str()?.to_owned())).collect();
    Some(Loaded { config, names, labels, layers, top })
}
