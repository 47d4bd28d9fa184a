//! kiln's own small files inside step containers: a read-only volume at [`MOUNT_POINT`].
//!
//! The mount point lies in the `/dev` that every container gets anew, so no folder of ours ends up in a committed
//! layer. A volume is filled once per content, through a container that never runs.

mod linux32;

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_graph::Arch;

use crate::probe_image::{self, Content, Entry, FOLDER};
use crate::sealed::{Sealed, Work};
use crate::{Engine, EngineError, MountSpec, Result, VolumeSource, labels};

/// Where the toolbox is in a container.
pub const MOUNT_POINT: &str = "/dev/kiln";

/// Runs its arguments under the 32-bit personality; for 386 containers of an amd64 daemon. See [`wrap`].
pub const LINUX32_PATH: &str = "/dev/kiln/linux32";

/// How long another kiln may take to fill the volume before it is taken for dead.
const PATIENCE: Duration = Duration::from_secs(20);

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

/// The command of a container, with what has to come before it.
pub fn wrap(daemon: Arch, target: Arch, argv: Vec<String>) -> Vec<String> {
    as_first(daemon, target, under_kernel(daemon, target, argv))
}

/// Whether something has to come before the commands of containers of an architecture.
pub fn wraps(daemon: Arch, target: Arch) -> bool {
    !wrap(daemon, target, Vec::new()).is_empty()
}

/// A command as the first of a container: where it is emulated it is a child of kiln's program, as a first process that is
/// emulated does not end when it crashes.
pub fn as_first(daemon: Arch, target: Arch, argv: Vec<String>) -> Vec<String> {
    if target.may_run_on(daemon) || kiln_twin::program(daemon).is_none() {
        return argv;
    }
    [kiln_twin::PROGRAM, "first"].map(str::to_owned).into_iter().chain(argv).collect()
}

/// A command as the kernel has to see it: under `linux32` where a 386 program runs on an amd64 kernel, else as it is.
pub fn under_kernel(daemon: Arch, target: Arch, argv: Vec<String>) -> Vec<String> {
    if (daemon, target) == (Arch::Amd64, Arch::I386) {
        [LINUX32_PATH.to_owned()].into_iter().chain(argv).collect()
    } else {
        argv
    }
}

/// The volume with kiln's helpers and `files`; filled if it is not there. One round trip if it is.
pub async fn ensure_toolbox(engine: &dyn Engine, files: &[ToolFile]) -> Result<String> {
    let mut all: Vec<ToolFile> = files.to_vec();
    let daemon = engine.info().arch;
    if daemon == Arch::Amd64 {
        all.push(ToolFile { path: "linux32".to_owned(), mode: 0o755, bytes: linux32::file() });
    }
    all.extend(kiln_twin::files(daemon).into_iter().map(|file| ToolFile {
        path: file.path.to_owned(),
        mode: file.mode,
        bytes: file.bytes.to_vec(),
    }));
    all.sort_by(|a, b| a.path.cmp(&b.path));
    let digest = probe_image::digest(all.iter().map(|file| (file.path.as_str(), file.mode, file.bytes.as_slice())));
    let pack = || archive(&all);
    let sealed = Sealed {
        volume: format!("kiln-tools-{}", digest.short()),
        label: labels::TOOLBOX,
        value: digest.to_string(),
        labels: BTreeMap::new(),
        patience: PATIENCE,
        work: Work::Upload(FOLDER, &pack),
    };
    if sealed.is_sealed(engine).await? {
        return Ok(sealed.volume);
    }
    let image = probe_image::ensure(engine).await?;
    let mut spec = probe_image::container(&image, engine, "toolbox", vec!["/none".to_owned()]);
    spec.mounts = vec![MountSpec { target: FOLDER.to_owned(), readonly: false, ..mount(&sealed.volume) }];
    sealed.ensure(engine, &spec).await?;
    Ok(sealed.volume)
}

/// Free bytes where the daemon keeps its volumes; none if kiln has no program to ask with there.
///
/// # Errors
/// If the daemon fails, or the program does not answer.
pub async fn free_space(engine: &dyn Engine) -> Result<Option<u64>> {
    if kiln_twin::program(engine.info().arch).is_none() {
        return Ok(None);
    }
    let volume = ensure_toolbox(engine, &[]).await?;
    let image = probe_image::ensure(engine).await?;
    let argv = [kiln_twin::PROGRAM, "room", MOUNT_POINT].map(str::to_owned).into();
    let mut spec = probe_image::container(&image, engine, "toolbox", argv);
    spec.mounts = vec![mount(&volume)];
    let ran = crate::emulation::run(engine, &spec).await?;
    let wrong = || EngineError::Api {
        action: "asking for the daemon's free disk space".to_owned(),
        status: 0,
        message: format!("kiln's program said `{}`", ran.output.trim()),
    };
    ran.output.trim().parse().map(Some).map_err(|_| wrong())
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
    fn what_is_not_of_the_daemons_machine_is_wrapped() {
        let argv = || vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()];
        assert_eq!(wrap(Arch::Amd64, Arch::Arm64, argv())[..3], [kiln_twin::PROGRAM, "first", "sh"]);
        assert_eq!(wrap(Arch::Amd64, Arch::I386, argv())[0], LINUX32_PATH);
        assert_eq!(wrap(Arch::Amd64, Arch::Amd64, argv()), argv());
        assert_eq!(under_kernel(Arch::Arm64, Arch::I386, argv()), argv());
    }
}
