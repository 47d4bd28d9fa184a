//! Volumes with the native programs that steps of a foreign platform use: see `kiln-twin`.
//!
//! A volume is made from an image of the daemon's platform, inside the daemon: a container of that image runs kiln's
//! program, which copies programs and libraries. It lives as long as its image; [`sweep`] removes it afterwards.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use kiln_graph::{Digest, Hasher, Platform};

use crate::sealed::{Sealed, Work};
use crate::{ContainerSpec, Engine, EngineError, ImageId, MountSpec, Result, VolumeSource, labels, toolbox};

/// How long another kiln may take to fill a volume before it is taken for dead.
const PATIENCE: Duration = Duration::from_mins(3);

/// The mount of a volume with native programs.
pub fn mount(volume: &str, target: &str) -> MountSpec {
    MountSpec { target: target.to_owned(), source: VolumeSource::Volume(volume.to_owned()), readonly: true }
}

/// The volume with what native programs of `image` need, for containers that see it at `seen`; filled if it is not there.
/// `toolbox` is the volume with kiln's program. `owner` are labels for the container that fills it.
///
/// # Errors
/// If the daemon fails, or the image has no programs that could be moved: of an unknown C library, for instance.
pub async fn ensure(
    engine: &dyn Engine,
    image: &ImageId,
    platform: Platform,
    seen: &str,
    toolbox: &str,
    owner: BTreeMap<String, String>,
) -> Result<String> {
    let program = kiln_twin::program(engine.info().arch).unwrap_or_default();
    let mut hasher = Hasher::new();
    let id = hasher.field(&image.0).field(seen).field(Digest::of(program).to_string()).finish();
    // The project that made it, for those who list and prune; others use it as well.
    let scope = owner.get(labels::SCOPE).cloned().unwrap_or_default();
    let sealed = Sealed {
        volume: format!("kiln-twin-{}", id.short()),
        label: labels::TWIN,
        value: image.0.clone(),
        labels: BTreeMap::from([
            (labels::VERSION.to_owned(), labels::CURRENT_VERSION.to_owned()),
            (labels::SCOPE.to_owned(), scope),
            (labels::PLATFORM.to_owned(), platform.to_string()),
        ]),
        patience: PATIENCE,
        work: Work::Run,
    };
    if sealed.is_sealed(engine).await? {
        return Ok(sealed.volume);
    }
    sweep(engine).await?;
    let argv = [kiln_twin::PROGRAM, "fill", seen, seen, &id.to_string()].map(str::to_owned);
    let spec = ContainerSpec {
        argv: argv.into(),
        cwd: "/".to_owned(),
        user: "0".to_owned(),
        mounts: vec![toolbox::mount(toolbox), MountSpec { readonly: false, ..mount(&sealed.volume, seen) }],
        ..ContainerSpec::idle(image.clone(), platform, owner)
    };
    sealed.ensure(engine, &spec).await?;
    Ok(sealed.volume)
}

/// Removes the volumes whose image is gone; how many went. Volumes in use stay.
///
/// # Errors
/// If the daemon fails.
pub async fn sweep(engine: &dyn Engine) -> Result<usize> {
    let volumes = engine.volumes_with_label(labels::TWIN, false).await?;
    let mut images: HashSet<String> = HashSet::new();
    let mut gone: HashSet<String> = HashSet::new();
    let mut removed = 0;
    for volume in volumes {
        let Some(image) = volume.labels.get(labels::TWIN) else { continue };
        if !images.contains(image) && !gone.contains(image) {
            let there = engine.inspect_image(image).await?.is_some();
            if there { &mut images } else { &mut gone }.insert(image.clone());
        }
        if gone.contains(image) {
            match engine.remove_volume(&volume.name).await {
                Ok(()) => removed += 1,
                Err(EngineError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}
