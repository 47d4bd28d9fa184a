//! Giving images to the daemon.

use std::path::PathBuf;

use futures::StreamExt;
use kiln_docker::registry::ImageName;
use kiln_docker::{ByteStream, StoreKind};

use super::archive::{self, Layout};
use super::describe::Described;
use super::exports::{Exported, ImageForm};
use super::manifest::{Compression, Descriptor};
use super::publish::Images;
use crate::archive::writer;
use crate::error::{Result, SolveError};
use crate::shared::{Shared, joined};

/// Gives an image of several platforms to the daemon, whose store must be able to hold it.
pub(super) async fn load_index(images: &mut Images<'_>, names: &[ImageName]) -> Result<(Vec<Exported>, Descriptor)> {
    let layout = images.layout(&ImageForm::default(), names, false).await?;
    let root = layout.root.clone();
    let mut is_there = !names.is_empty();
    for name in names {
        let known = images.shared.engine.inspect_image(&name.familiar()).await?;
        is_there &= known.is_some_and(|image| image.id.0 == root.digest);
    }
    if !is_there {
        let reference = names.first().map_or_else(|| root.digest.clone(), ImageName::familiar);
        send(images.shared, layout, &reference).await?;
    }
    let exported = |name: String| Exported { kind: "daemon", name, digest: Some(root.digest.clone()), size: None };
    let exported = match names {
        [] => vec![exported(root.digest.clone())],
        names => names.iter().map(|name| exported(name.familiar())).collect(),
    };
    Ok((exported, root))
}

/// Sends a layout to the daemon, which knows the image by `reference` then.
async fn send(shared: &Shared, layout: Layout, reference: &str) -> Result<()> {
    let (mut out, stream) = writer();
    let writing = tokio::task::spawn_blocking(move || {
        layout.write(&mut out)?;
        out.finish()
    });
    let loaded = shared.engine.load_image(stream, reference).await;
    let sent = joined(writing.await);
    loaded?;
    sent.map_err(SolveError::io("send", "the image's archive"))
}

/// Gives the image to the daemon. The classic store has its layers, and takes a configuration that names them.
pub(super) async fn load(images: &mut Images<'_>, names: &[ImageName]) -> Result<Vec<Exported>> {
    let engine = images.shared.engine.clone();
    for index in 0..images.list.len() {
        let image = &images.list[index];
        let id = image.id.clone();
        if let Some(there) = engine.inspect_image(&id).await?
            && names.iter().all(|name| there.tags.contains(&name.familiar()))
        {
            continue;
        }
        if engine.info().store == StoreKind::Classic {
            match send_new(images, image, names).await {
                Ok(()) => continue,
                Err(error) => tracing::debug!(%error, "the daemon wants the other layers, too"),
            }
        }
        let layout = images.layout(&ImageForm::default(), names, true).await?;
        let reference = match (engine.info().store, names.first()) {
            (StoreKind::Classic, _) => id.clone(),
            (StoreKind::Containerd, Some(name)) => name.familiar(),
            (StoreKind::Containerd, None) => layout.root.digest.clone(),
        };
        send(images.shared, layout, &reference).await?;
    }
    let exported =
        |image: &Described, name: String| Exported { kind: "daemon", name, digest: Some(image.id.clone()), size: None };
    Ok(images
        .list
        .iter()
        .flat_map(|image| match names {
            [] => vec![exported(image, image.id.clone())],
            names => names.iter().map(|name| exported(image, name.familiar())).collect(),
        })
        .collect())
}

/// Sends the configuration, and those layers that were not made by the daemon.
async fn send_new(images: &Images<'_>, image: &Described, names: &[ImageName]) -> Result<()> {
    let failed = || SolveError::io("write", "the image's archive");
    let stream: ByteStream = if images.is_rewritten {
        let mut layers: Vec<(String, PathBuf, u64)> = Vec::new();
        for diff in image.own() {
            let (blob, path) = images.layer(Compression::None, diff)?;
            layers.push((diff.clone(), path, blob.size));
        }
        let (config, id, diff_ids, names) =
            (image.config.clone(), image.id.clone(), image.diff_ids.clone(), names.to_vec());
        let (mut out, stream) = writer();
        let writing = tokio::task::spawn_blocking(move || {
            archive::with_layers((&config, &id), &diff_ids, &names, &mut out, |archive| {
                layers.iter().try_for_each(|(diff, path, size)| {
                    archive::append_layer(archive, diff, (fs_err::File::open(path)?, *size))
                })
            })?;
            out.finish()
        });
        let loaded = images.shared.engine.load_image(stream, &image.id).await;
        let sent = joined(writing.await);
        loaded?;
        return sent.map_err(failed());
    } else {
        let bytes = archive::without_layers(&image.config, &image.id, &image.diff_ids, names).map_err(failed())?;
        futures::stream::iter([Ok(bytes.into())]).boxed()
    };
    images.shared.engine.load_image(stream, &image.id).await?;
    Ok(())
}
