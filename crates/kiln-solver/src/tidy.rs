//! Images without the mount points that the daemon left in them.
//!
//! A command as root removes those of the commands before it on its way in. Where none follows, or one that is not root's,
//! a small container of kiln's does it: what is committed of it adds a layer of a few hundred bytes. It is a checkpoint of
//! the same vertex, and is preferred from then on.

use std::sync::Arc;

use kiln_docker::{ContainerId, ContainerSpec, EngineError, ImageId, toolbox};
use kiln_graph::{Platform, VertexId};

use crate::error::Result;
use crate::shared::{Shared, lock};
use crate::snapshot::Snapshot;
use crate::stubs::Stubs;

/// What the history says of a layer that does nothing else.
pub(crate) const COMMENT: &str = "kiln: removal of mount points";

impl Shared {
    /// Whether mount points can be removed on this daemon.
    pub(crate) fn can_tidy(&self) -> bool {
        self.has_program()
    }

    /// An image with the content of a snapshot, which is the result of `vertex`, and without stubs.
    pub(crate) async fn clean_image_of(self: &Arc<Self>, vertex: VertexId, snapshot: &Snapshot) -> Result<ImageId> {
        let stubs = self.stubs_of(snapshot);
        if stubs.is_empty() || !self.can_tidy() {
            return self.image_of(snapshot).await;
        }
        let cell = lock(&self.tidied).entry(vertex).or_default().clone();
        cell.get_or_try_init(|| self.tidy(vertex, snapshot, &stubs)).await.cloned()
    }

    async fn tidy(self: &Arc<Self>, vertex: VertexId, snapshot: &Snapshot, stubs: &Stubs) -> Result<ImageId> {
        let platform = self.platform_of(snapshot);
        let (container, comment) = match snapshot.split() {
            (base, operations) if operations.iter().any(|pending| !pending.is_made()) => {
                // They are copied onto what is clean: so that is there for others, and what they bring is no stub.
                let below = self.plan.graph().vertex(operations[0].vertex).inputs[0];
                let clean = Box::pin(self.clean_image_of(below, &base)).await?;
                (self.filled(&Snapshot::Image(clean, platform), platform, &operations).await?, None)
            }
            _ => (self.swept(self.image_of(snapshot).await?, platform, stubs).await?, Some(COMMENT)),
        };
        let mut spec = self.checkpoint(vertex, platform, &Stubs::default());
        if let Some(comment) = comment {
            comment.clone_into(&mut spec.comment);
        }
        let image = self.commit_as(&container, spec).await?;
        lock(&self.committed).insert(vertex);
        Ok(image)
    }

    /// A container of an image in which kiln's program has removed stubs.
    async fn swept(&self, image: ImageId, platform: Platform, stubs: &Stubs) -> Result<ContainerId> {
        let spec = ContainerSpec {
            argv: command(stubs, Vec::new()),
            cwd: "/".to_owned(),
            user: "0".to_owned(),
            mounts: vec![toolbox::mount(&self.toolbox_volume().await?)],
            ..self.idle(image, platform, "tidy")
        };
        let container = self.create(spec).await?;
        self.engine.start_container(&container).await?;
        let ended = self.engine.wait_container(&container).await?;
        if ended.code != 0 {
            let action = "removing mount points".to_owned();
            let message = format!("kiln's program ended with {}", ended.code);
            return Err(EngineError::Api { action, status: 0, message }.into());
        }
        Ok(container)
    }
}

/// The command that removes stubs and becomes `argv`, if there is one.
pub(crate) fn command(stubs: &Stubs, argv: Vec<String>) -> Vec<String> {
    let tidy = [kiln_twin::PROGRAM, "tidy"].map(str::to_owned).into_iter();
    let paths = stubs.paths().map(|path| format!("/{path}"));
    tidy.chain(paths).chain(["--".to_owned()]).chain(argv).collect()
}
