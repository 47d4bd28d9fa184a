//! From the daemon to a store.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kiln_cache::{Entry, Kind, SaveError, Saved, Snapshot, pack};
use kiln_docker::{Image, StoreKind, labels};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::super::folder;
use super::{Cargo, Checkpoint, Guide, Mode, Remote, Times, add, checkpoint_path, layer_path};
use crate::archive::StreamReader;
use crate::image::{self, guess, rfc3339};
use crate::laid::unnamed;

/// Takes the checkpoints of a build to a store.
pub(crate) async fn take(
    guide: &Guide,
    remote: &Remote,
    cargo: &Cargo,
    times: &Times,
    sum: &mut Saved,
) -> Result<(), SaveError> {
    if guide.engine.info().store != StoreKind::Classic {
        return Ok(());
    }
    let failed = |error: kiln_docker::EngineError| SaveError::Source(io::Error::other(error));
    let images = guide.engine.images_with_label(labels::KEY).await.map_err(failed)?;
    let by_key: HashMap<&String, &Image> =
        images.iter().filter_map(|image| Some((image.labels.get(labels::KEY)?, image))).collect();
    let mut bases: HashSet<String> = HashSet::new();
    for base in &cargo.bases {
        let base = guide.engine.inspect_image(base).await.map_err(failed)?;
        bases.extend(base.into_iter().flat_map(|base| base.layers));
    }
    // What this build has found there took its time in an earlier one.
    let took = |key: &String| {
        let label = || by_key.get(key)?.labels.get(labels::TOOK)?.parse().ok().map(Duration::from_millis);
        times.get(key).copied().or_else(label)
    };
    let mut made: BTreeMap<String, (Checkpoint, Image)> = BTreeMap::new();
    for step in &cargo.steps {
        let Some(image) = by_key.get(&step.key).filter(|_| step.main || remote.mode == Mode::Max) else { continue };
        // A listing does not tell layers.
        let Some(image) = guide.engine.inspect_image(&image.id.0).await.map_err(failed)? else { continue };
        let past = guide.engine.image_history(&image.id).await.map_err(failed)?;
        let Some(platform) = image.labels.get(labels::PLATFORM).and_then(|text| text.parse().ok()) else { continue };
        let history = past.iter().zip(guess(&past, image.layers.len())).map(|(step, has_layer)| {
            json!({ "created": rfc3339(step.created), "created_by": step.created_by, "comment": step.comment,
                    "empty_layer": !has_layer })
        });
        let checkpoint = Checkpoint {
            labels: image.labels.clone(),
            platform,
            layers: image.layers.clone(),
            history: history.collect(),
            seconds: step.needs.iter().filter_map(took).sum::<Duration>().as_secs_f64(),
        };
        made.insert(step.key.clone(), (checkpoint, image));
    }
    if made.is_empty() {
        return Ok(());
    }
    let (engine, spool) = (guide.engine.clone(), guide.spool("stages"));
    let runtime = tokio::runtime::Handle::current();
    let made = Arc::new(made);
    let read = move |_: Option<&Snapshot>, packer: &mut pack::Packer<'_>| {
        let wanted: BTreeSet<&String> = made
            .values()
            .flat_map(|(checkpoint, _)| &checkpoint.layers)
            .filter(|layer| !bases.contains(*layer))
            .collect();
        packer.add(folder(""));
        packer.add(folder("layers"));
        let mut missing: BTreeSet<String> = wanted.into_iter().cloned().collect();
        missing.retain(|layer| !packer.add_known(&layer_path(layer)));
        // The images with most layers first: they have those of the others.
        let mut tips: Vec<&Image> = made.values().map(|(_, image)| image).collect();
        tips.sort_by_key(|image| std::cmp::Reverse(image.layers.len()));
        for image in tips {
            if image.layers.iter().any(|layer| missing.contains(layer)) {
                let stream = runtime.block_on(engine.save_image(&image.id)).map_err(io::Error::other)?;
                add_layers(StreamReader::new(stream), &spool, &mut missing, packer)?;
            }
        }
        packer.add(folder("checkpoints"));
        for (key, (checkpoint, _)) in made.iter() {
            if checkpoint.layers.iter().all(|layer| !missing.contains(layer)) {
                // A description that was there knows how long its steps took when they ran.
                if !packer.add_known(&checkpoint_path(key)) {
                    let text = serde_json::to_vec(checkpoint)?;
                    packer.add_file(file(&checkpoint_path(key)), &mut text.as_slice())?;
                }
            }
        }
        Ok(())
    };
    let saved = guide.save(remote, ("stages", &cargo.job), read).await;
    let _ = fs_err::remove_dir_all(guide.spool("stages"));
    add(sum, saved?);
    Ok(())
}

fn file(path: &str) -> Entry {
    Entry { mode: 0o644, kind: Kind::File(Vec::new()), ..folder(path) }
}

/// Adds the layers of an archive of `docker save` that are missing, and says no more that they are.
fn add_layers(
    archive: impl Read,
    spool: &Path,
    missing: &mut BTreeSet<String>,
    packer: &mut pack::Packer<'_>,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let is_layer = path.ends_with("layer.tar") || path.starts_with("blobs/");
        if !entry.header().entry_type().is_file() || !is_layer {
            continue;
        }
        // Only who has read a layer knows which it is.
        let mut file = unnamed(spool, ".layer")?;
        let mut hasher = Sha256::new();
        let mut block = vec![0; 256 << 10];
        loop {
            match entry.read(&mut block)? {
                0 => break,
                count => {
                    hasher.update(&block[..count]);
                    file.write_all(&block[..count])?;
                }
            }
        }
        let id = image::spelled(hasher.finalize().as_ref());
        if missing.remove(&id) {
            file.rewind()?;
            packer.add_file(self::file(&layer_path(&id)), &mut file)?;
        }
    }
    Ok(())
}
