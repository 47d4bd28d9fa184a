//! From a target's result on the daemon to the image that a user gets: its configuration and its layers' digests.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_docker::{EngineError, ImageId, PastStep};
use kiln_graph::{Op, Platform, Source, Target, VertexId};

use super::config;
use super::facts::{BaseFacts, Facts};
use super::manifest::digest;
use super::past::{self, Commit};
use super::saved::{self, Saved, Want};
use crate::archive::{StreamReader, until_stopped};
use crate::error::{Result, SolveError};
use crate::shared::{Shared, joined};

/// An image that is known down to its digests.
#[derive(Clone)]
pub(crate) struct Described {
    pub(crate) platform: Platform,
    /// The image on the daemon that holds its layers.
    pub(crate) image: ImageId,
    /// The configuration.
    pub(crate) config: Vec<u8>,
    /// Its digest: the image's id.
    pub(crate) id: String,
    /// The layers before packing, lowest first.
    pub(crate) diff_ids: Vec<String>,
    pub(crate) base: Option<Base>,
}

impl Described {
    /// The layers that are not those of its base.
    pub(crate) fn own(&self) -> &[String] {
        let below = self.base.as_ref().map_or(0, |base| base.diff_ids.len());
        self.diff_ids.get(below..).unwrap_or_default()
    }
}

/// The image that a target stands on.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) reference: String,
    pub(crate) id: String,
    pub(crate) diff_ids: Vec<String>,
}

/// Finds out what a target's image is. `epoch` is the latest time that it may claim.
pub(crate) async fn describe(
    shared: &Arc<Shared>,
    facts: &mut Facts,
    (target, epoch): (&Target, Option<i64>),
    image: ImageId,
) -> Result<Described> {
    let (base, base_facts) = match base_of(shared, target.root) {
        Some((reference, id, platform)) => {
            let known = base(shared, facts, &id, platform).await?;
            (Some(Base { reference, id, diff_ids: known.diff_ids.clone() }), known)
        }
        None => (None, BaseFacts::default()),
    };
    let gone = || SolveError::ImageGone {
        what: format!("result of `{}`", target.name),
        source: EngineError::NotFound { what: format!("image {image}") },
    };
    let found = shared.engine.inspect_image(&image.0).await?.ok_or_else(gone)?;
    let history = shared.engine.image_history(&image).await?;
    let steps = history.get(base_facts.history.len()..).unwrap_or_default();
    let commits = commits(shared, steps, base_facts.diff_ids.len(), found.layers.len()).await?;
    let text = |id: VertexId| shared.plan.graph().vertex(id).origin().text.clone();
    let own = past::own(&target.config.history, text, &commits);
    let config = config::json(target.platform, &target.config, &found.layers, &base_facts.history, &own, epoch)
        .map_err(|error| SolveError::io("write", "the image's configuration")(error.into()))?;
    Ok(Described { platform: target.platform, image, id: digest(&config), config, diff_ids: found.layers, base })
}

/// The image at the bottom of a target; none on scratch.
fn base_of(shared: &Shared, root: VertexId) -> Option<(String, String, Platform)> {
    let graph = shared.plan.graph();
    let mut at = graph.vertex(root);
    while let Some(below) = at.inputs.first() {
        at = graph.vertex(*below);
    }
    match &at.op {
        Op::Source(Source::Image { reference, id, platform }) => Some((reference.clone(), id.clone(), *platform)),
        _ => None,
    }
}

async fn base(shared: &Arc<Shared>, facts: &mut Facts, id: &str, platform: Platform) -> Result<BaseFacts> {
    let key = format!("{id} {platform}");
    if let Some(known) = facts.base(&key) {
        return Ok(known.clone());
    }
    let saved = save(shared, &ImageId(id.to_owned()), platform, None).await?;
    let found = BaseFacts { history: saved.history, diff_ids: saved.diff_ids };
    facts.learn_base(key, found.clone());
    Ok(found)
}

/// The commits above a base, and which of them have a layer.
async fn commits(shared: &Shared, steps: &[PastStep], below: usize, layers: usize) -> Result<Vec<Commit>> {
    let above = layers.saturating_sub(below);
    let has_layer = if steps.len() == above {
        vec![true; above]
    } else {
        match counted(shared, steps, below).await? {
            Some(exact) if exact.iter().filter(|has| **has).count() == above => exact,
            _ => past::guess(steps, above),
        }
    };
    let commit = |(step, has_layer): (&PastStep, bool)| Commit {
        comment: step.comment.clone(),
        created: step.created,
        has_layer,
    };
    Ok(steps.iter().zip(has_layer).map(commit).collect())
}

/// Counts the layers of each step's image, where the daemon still has them all.
async fn counted(shared: &Shared, steps: &[PastStep], below: usize) -> Result<Option<Vec<bool>>> {
    let mut before = below;
    let mut has = Vec::new();
    for step in steps {
        let Some(id) = &step.id else { return Ok(None) };
        let Some(image) = shared.engine.inspect_image(&id.0).await? else { return Ok(None) };
        has.push(image.layers.len() > before);
        before = image.layers.len();
    }
    Ok(Some(has))
}

/// Where layers go that are read from the daemon.
#[derive(Clone)]
pub(crate) struct Into {
    pub(crate) folder: PathBuf,
    pub(crate) compression: super::manifest::Compression,
    /// Places in the archive that are not wanted.
    pub(crate) known: Arc<HashMap<String, String>>,
}

/// Reads the daemon's archive of an image.
pub(crate) async fn save(
    shared: &Arc<Shared>,
    image: &ImageId,
    platform: Platform,
    into: Option<Into>,
) -> Result<Saved> {
    let stream = shared.engine.save_image(image).await?;
    let stream = until_stopped(stream, &shared.cancel);
    let folder = into.as_ref().map(|into| into.folder.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let want = match &into {
            None => Want::Documents,
            Some(Into { folder, compression, known }) => {
                Want::Layers { folder, compression: *compression, known: known.as_ref() }
            }
        };
        saved::read(StreamReader::new(stream), platform, &want)
    });
    joined(reading.await).map_err(|source| match (source.kind(), folder) {
        _ if shared.cancel.is_stopped() => SolveError::Cancelled,
        (std::io::ErrorKind::StorageFull | std::io::ErrorKind::PermissionDenied, Some(folder)) => {
            SolveError::io("write", folder)(source)
        }
        _ => EngineError::Transport { action: format!("saving image {image}"), source: source.into() }.into(),
    })
}
