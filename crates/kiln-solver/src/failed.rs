//! A command that failed, kept as it was when it ended: for a shell in what it has left.
//!
//! A container that has ended cannot be entered, so it is committed to an image that nobody else sees, and the shell gets
//! a new container like the first, with the same mounts. Caches are not locked for it: a build that wants them does not
//! wait for somebody who is reading.

use std::sync::Arc;

use kiln_docker::{CommitSpec, ContainerId, Engine, ImageId, labels};
use kiln_graph::{Exec, Origin, Platform, VertexId};
use tokio::sync::mpsc;

use crate::container::Step;
use crate::error::{Result, SolveError};
use crate::furnish::Furniture;
use crate::network::Networks;
use crate::removal::remove_all;
use crate::shared::{Shared, lock};

/// What is kept of a command that failed, until the end of the build.
pub(crate) struct Kept {
    id: VertexId,
    exec: Exec,
    container: ContainerId,
    furniture: Furniture,
}

/// Keeps what a command needs that failed, if that is wanted and it is the first; else clears its furniture.
pub(crate) async fn keep(shared: &Shared, id: VertexId, exec: &Exec, furniture: Furniture, error: &SolveError) {
    let furniture = match error {
        SolveError::Step { container, .. } if shared.plan.request.keep_failed => {
            let mut kept = lock(&shared.kept);
            if kept.is_none() {
                *kept = Some(Kept { id, exec: exec.clone(), container: container.clone(), furniture });
                return;
            }
            furniture
        }
        _ => furniture,
    };
    furniture.clear(shared).await;
}

/// A command that failed, with all that its build has on the daemon. It has to be [closed](Self::close); what a process
/// leaves that is killed before, the next build removes.
pub struct Failed {
    shared: Arc<Shared>,
    made: mpsc::UnboundedReceiver<ContainerId>,
    kept: Kept,
    image: Option<ImageId>,
}

impl Failed {
    pub(crate) fn new(shared: Arc<Shared>, made: mpsc::UnboundedReceiver<ContainerId>, kept: Kept) -> Self {
        Self { shared, made, kept, image: None }
    }

    /// The daemon.
    pub fn engine(&self) -> &dyn Engine {
        self.shared.engine.as_ref()
    }

    /// The instruction.
    pub fn origin(&self) -> &Origin {
        self.shared.plan.graph().vertex(self.kept.id).origin()
    }

    /// The platform of the container.
    pub fn platform(&self) -> Platform {
        self.kept.exec.platform
    }

    /// Makes a container for a shell, which has a terminal and is not started: with the files as the command left them,
    /// its user, folder, variables, secrets, mounts and network.
    ///
    /// # Errors
    /// If the daemon fails.
    pub async fn shell(&mut self) -> Result<ContainerId> {
        let (shared, kept) = (&self.shared, &self.kept);
        let image = if let Some(image) = &self.image {
            image.clone()
        } else {
            let committed = shared.commit_as(&kept.container, remains(shared, kept.exec.platform)).await?;
            self.image.insert(committed).clone()
        };
        let lent = Networks::own(shared, kept.id, &kept.exec);
        let (exec, furniture) = (&kept.exec, &kept.furniture);
        let step = Step { id: kept.id, exec, furniture, lent: &lent, native: None, serves: false };
        shared.create(step.shell(shared, &image).await?).await
    }

    /// Removes all that the build has left; what could not be removed, in words.
    pub async fn close(self) -> Vec<String> {
        self.kept.furniture.clear(&self.shared).await;
        let mut left = remove_all(&self.shared, self.made).await;
        if let Some(image) = self.image {
            let removed = self.shared.engine.remove_image(&image.0).await;
            left.extend(removed.err().map(|error| format!("an image was left behind: {error}")));
        }
        left
    }
}

/// How the files that a command has left become an image. It has no key: it is no checkpoint.
fn remains(shared: &Shared, platform: Platform) -> CommitSpec {
    let mut labels = shared.labels(labels::SHELL);
    labels.insert(labels::VERSION.to_owned(), labels::CURRENT_VERSION.to_owned());
    labels.insert(labels::PLATFORM.to_owned(), platform.to_string());
    CommitSpec { labels, comment: "kiln: what a failed command has left".to_owned(), ..CommitSpec::default() }
}
