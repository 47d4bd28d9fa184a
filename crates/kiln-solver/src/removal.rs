//! What a build leaves on the daemon, and how it goes.

use std::time::Duration;

use futures::StreamExt;
use kiln_docker::{ContainerId, Engine, ImageId};
use tokio::sync::mpsc;

use crate::shared::{Shared, lock};

/// Containers that are removed at the same time.
const REMOVALS: usize = 8;

/// How long a killed build waits for calls that are under way.
const PATIENCE: Duration = Duration::from_secs(2);

/// Removes checkpoints that a build has replaced, as far as nothing stands on them. No other build may run: one may have
/// planned with them.
pub async fn remove_replaced(engine: &dyn Engine, replaced: &[ImageId]) {
    for image in replaced {
        // One that stays is removed by the next build that replaces it, or by a prune.
        if let Err(error) = engine.remove_image(&image.0).await {
            tracing::debug!(%image, %error, "a replaced checkpoint stays");
        }
    }
}

/// Waits for calls that make something on the daemon. Whoever asked twice does not wait for long: what is made after
/// that is removed by the next build.
pub(crate) async fn settle(shared: &Shared) {
    shared.tasks.close();
    let hurry = async {
        shared.cancel.killed().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        () = shared.tasks.wait() => {}
        () = hurry => {}
    }
}

/// Removes the containers and volumes of a build; what could not be removed, in words.
pub(crate) async fn remove_all(shared: &Shared, mut made: mpsc::UnboundedReceiver<ContainerId>) -> Vec<String> {
    let mut ids = Vec::new();
    while let Ok(id) = made.try_recv() {
        ids.push(id);
    }
    let mut left = Vec::new();
    // Podman keeps one whose network others have until they are gone.
    for _ in 0..2 {
        let removals = std::mem::take(&mut ids).into_iter();
        let removals = removals.map(|id| async move { shared.engine.remove_container(&id).await.map_err(|e| (id, e)) });
        let outcomes: Vec<_> = futures::stream::iter(removals).buffer_unordered(REMOVALS).collect().await;
        let failed = outcomes.into_iter().filter_map(Result::err);
        (ids, left) = failed.map(|(id, error)| (id, format!("a container was left behind: {error}"))).unzip();
    }
    let volumes = std::mem::take(&mut *lock(&shared.volumes));
    for volume in volumes {
        let removed = shared.engine.remove_volume(&volume).await;
        left.extend(removed.err().map(|error| format!("a volume was left behind: {error}")));
    }
    left
}
