//! kiln's own small files inside step containers: a read-only volume at [`MOUNT_POINT`].
//!
//! The mount point lies in the `/dev` that every container gets anew, so no folder of ours ends up in a committed
//! layer. A volume is filled once per content, through a container that never runs. It counts as filled only when its
//! *seal* exists: a second, empty volume, made last. Making a volume is atomic, so a crash leaves an unsealed volume
//! that is filled again, and a sealed one is never written to while others use it. The name of the filling container is
//! the lock between two kilns.

mod linux32;

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_graph::Arch;

use crate::probe_image::{self, Content, Entry, FOLDER};
use crate::{Engine, EngineError, MountSpec, Result, VolumeSource, labels};

/// Where the toolbox is in a container.
pub const MOUNT_POINT: &str = "/dev/kiln";

/// Runs its arguments under the 32-bit personality; for 386 containers of an amd64 daemon. See [`wrap`].
pub const LINUX32_PATH: &str = "/dev/kiln/linux32";

/// How long another kiln may take to fill the volume before it is taken for dead.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// A file of the toolbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolFile {
    /// Path below [`MOUNT_POINT`], without a leading slash.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub bytes: Vec<u8>,
}

/// The mount of a toolbox volume in a step container.
pub fn mount(volume: &str) -> MountSpec {
    MountSpec { target: MOUNT_POINT.to_owned(), source: VolumeSource::Volume(volume.to_owned()), readonly: true }
}

/// The command of a container: under `linux32` where a 386 program runs on an amd64 kernel, else as it is.
pub fn wrap(daemon: Arch, target: Arch, argv: Vec<String>) -> Vec<String> {
    if (daemon, target) == (Arch::Amd64, Arch::I386) {
        [LINUX32_PATH.to_owned()].into_iter().chain(argv).collect()
    } else {
        argv
    }
}

/// The volume with kiln's helpers and `files`; filled if it is not there. One round trip if it is.
pub async fn ensure_toolbox(engine: &dyn Engine, files: &[ToolFile]) -> Result<String> {
    let mut all: Vec<ToolFile> = files.to_vec();
    if engine.info().arch == Arch::Amd64 {
        all.push(ToolFile { path: "linux32".to_owned(), mode: 0o755, bytes: linux32::file() });
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    let digest = probe_image::digest(all.iter().map(|file| (file.path.as_str(), file.mode, file.bytes.as_slice())));
    let box_ = Names { volume: format!("kiln-tools-{}", digest.short()), digest: digest.to_string() };
    let mut waited = Duration::ZERO;
    loop {
        if box_.is_sealed(engine).await? {
            return Ok(box_.volume);
        }
        match fill(engine, &box_, &all).await {
            Ok(()) => return Ok(box_.volume),
            // Another kiln holds the lock: soon there is a seal, or its maker is dead.
            Err(EngineError::Conflict { .. }) if waited < PATIENCE => {
                tokio::time::sleep(POLL).await;
                waited += POLL;
            }
            Err(EngineError::Conflict { .. }) => {
                waited = Duration::ZERO;
                box_.break_lock(engine).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The objects of one toolbox.
struct Names {
    volume: String,
    digest: String,
}

impl Names {
    fn seal(&self) -> String {
        format!("{}-sealed", self.volume)
    }

    async fn is_sealed(&self, engine: &dyn Engine) -> Result<bool> {
        let volumes = engine.volumes_with_label(&format!("{}={}", labels::TOOLBOX, self.digest), false).await?;
        let there = |name: &str| volumes.iter().any(|volume| volume.name == name);
        Ok(there(&self.volume) && there(&self.seal()))
    }

    /// Removes the container of a kiln that died while it filled the volume.
    async fn break_lock(&self, engine: &dyn Engine) -> Result<()> {
        for container in engine.containers_with_label(labels::TOOLBOX).await? {
            if container.name == self.volume {
                engine.remove_container(&container.id).await?;
            }
        }
        Ok(())
    }
}

/// Fills and seals the volume under the lock; `Conflict` if another has it.
async fn fill(engine: &dyn Engine, names: &Names, files: &[ToolFile]) -> Result<()> {
    let marks = BTreeMap::from([(labels::TOOLBOX.to_owned(), names.digest.clone())]);
    let image = probe_image::ensure(engine).await?;
    engine.ensure_volume(&names.volume, &marks).await?;
    let mut spec = probe_image::container(&image, engine, "toolbox", vec!["/none".to_owned()]);
    spec.mounts = vec![MountSpec { target: FOLDER.to_owned(), readonly: false, ..mount(&names.volume) }];
    spec.labels.extend(marks.clone());
    spec.name = Some(names.volume.clone());
    let id = engine.create_container(&spec).await?;
    let filled = async {
        // The other may have finished between our look and our lock.
        if names.is_sealed(engine).await? {
            return Ok(());
        }
        engine.upload(&id, FOLDER, probe_image::once(archive(files))).await?;
        engine.ensure_volume(&names.seal(), &marks).await
    }
    .await;
    let removed = engine.remove_container(&id).await;
    filled.and(removed)
}

fn archive(files: &[ToolFile]) -> Vec<u8> {
    probe_image::pack(files.iter().map(|file| Entry {
        path: file.path.clone(),
        mode: file.mode,
        content: Content::File(&file.bytes),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_386_on_amd64_is_wrapped() {
        let argv = || vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()];
        assert_eq!(wrap(Arch::Amd64, Arch::I386, argv())[0], LINUX32_PATH);
        assert_eq!(wrap(Arch::Amd64, Arch::Amd64, argv()), argv());
        assert_eq!(wrap(Arch::Arm64, Arch::I386, argv()), argv());
    }
}
