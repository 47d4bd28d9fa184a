//! What is kept of a command that failed: files that it wrote for people, such as reports of tests.

use kiln_artifact::place::{self, Manner};
use kiln_docker::ContainerId;
use kiln_graph::{Platform, VertexId};

use crate::archive::{StreamReader, until_stopped};
use crate::error::{Result, SolveError};
use crate::finish::bad;
use crate::request::Salvage;
use crate::shared::{Shared, joined};

/// Takes what the groups of a command want to keep of it. The command's own failure is what people must hear of, so what
/// goes wrong here is a notice.
pub(crate) async fn salvage(shared: &Shared, id: VertexId, platform: Platform, container: &ContainerId) {
    let wanted: Vec<Salvage> = shared.settings(id).filter_map(|settings| settings.salvage.clone()).collect();
    for salvage in wanted {
        let taken = shared.cancel.or_stop(take(shared, platform, container, &salvage)).await;
        if let Err(error) = taken
            && !matches!(error, SolveError::Cancelled)
        {
            shared.notice(Some(platform), format!("the reports of a failed step could not be read: {error}")).await;
        }
    }
}

async fn take(shared: &Shared, platform: Platform, container: &ContainerId, salvage: &Salvage) -> Result<()> {
    if shared.engine.stat(container, &salvage.from).await?.is_none() {
        return Ok(());
    }
    let stream = shared.engine.download(container, &salvage.from).await?;
    let (stream, to) = (until_stopped(stream, &shared.cancel), salvage.to.clone());
    let unpacking = tokio::task::spawn_blocking(move || {
        if to.exists() {
            fs_err::remove_dir_all(&to).map_err(SolveError::io("replace", &to))?;
        }
        fs_err::create_dir_all(&to).map_err(SolveError::io("write", &to))?;
        // The daemon packs the folder itself, too.
        let unpacked = place::extract_tar(StreamReader::new(stream), &to, 1, Manner::Files);
        unpacked.map(drop).map_err(|error| bad(platform, error))
    });
    joined(unpacking.await)
}
