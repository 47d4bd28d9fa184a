//! Native programs for a step of a foreign platform: which volumes it gets, and what happens if that does not work.

use std::sync::Arc;

use kiln_docker::{ImageId, MountSpec, twin};
use kiln_graph::Platform;

use crate::error::Result;
use crate::shared::{Shared, lock};
use crate::snapshot::Snapshot;

/// What became of a step's twin inputs.
#[derive(Clone, Default)]
pub(crate) struct Inputs {
    /// The same stage for the daemon's platform; `None` if it could not be built.
    pub(crate) root: Option<Snapshot>,
    /// Compilers for the step's platform, if there are any.
    pub(crate) cross: Option<Snapshot>,
}

/// How a step sees its native programs.
pub(crate) struct Native {
    mounts: Vec<MountSpec>,
}

impl Native {
    pub(crate) fn mounts(&self) -> impl Iterator<Item = MountSpec> {
        self.mounts.iter().cloned()
    }
}

/// A step's command, with the stand-ins in its path.
pub(crate) fn wrap(argv: Vec<String>) -> Vec<String> {
    [kiln_twin::PROGRAM.to_owned(), "enter".to_owned()].into_iter().chain(argv).collect()
}

/// Makes the volumes of a step's twin, if it has one; otherwise why not, for people.
pub(crate) async fn prepare(shared: &Arc<Shared>, inputs: &Inputs) -> Result<Result<Native, String>> {
    let Some(root) = &inputs.root else {
        return Ok(Err("the same stage could not be built for the daemon's own platform".to_owned()));
    };
    let mut mounts = Vec::new();
    for (snapshot, seen) in [(Some(root), kiln_twin::NATIVE), (inputs.cross.as_ref(), kiln_twin::CROSS)] {
        let Some(snapshot) = snapshot else { continue };
        let image = shared.image_of(snapshot).await?;
        match shared.twin_volume(image, shared.platform_of(snapshot), seen).await {
            Ok(volume) => mounts.push(twin::mount(&volume, seen)),
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    Ok(Ok(Native { mounts }))
}

impl Shared {
    /// The volume with an image's native programs; several steps may want the same. A filling that has begun comes to
    /// its end, so that no half-filled volume is left behind.
    async fn twin_volume(
        self: &Arc<Self>,
        image: ImageId,
        platform: Platform,
        seen: &'static str,
    ) -> kiln_docker::Result<String> {
        let cell = lock(&self.twins).entry((image.clone(), seen)).or_default().clone();
        let fill = || async {
            let toolbox = self.toolbox_volume().await?;
            let (engine, labels) = (self.engine.clone(), self.labels("twin"));
            let filling = async move { twin::ensure(engine.as_ref(), &image, platform, seen, &toolbox, labels).await };
            crate::shared::joined(self.tasks.spawn(filling).await)
        };
        cell.get_or_try_init(fill).await.cloned()
    }
}
