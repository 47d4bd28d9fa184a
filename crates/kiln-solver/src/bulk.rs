//! Large copies of which little changes.
//!
//! A daemon unpacks some thousand small files a second. So the result of a `COPY` of many files becomes a checkpoint of its
//! own, and the next time only what differs from that is copied onto it. The classic store takes the files as a layer at
//! once, which costs no more than unpacking them into a container; with another store a commit is due, so only a copy that
//! runs once more because of its files is worth it. Files of an image are always copied whole: what was there before would
//! stay in a layer below.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kiln_docker::{ImageId, StoreKind};
use kiln_graph::{Copy, Digest, FileAction, KeyParts, MissReason, Op, PartKind, VertexId};

use crate::chain;
use crate::plan::{Action, Plan};
use crate::record::Kept;

/// Number of files that are worth it.
const MANY: usize = 1000;
/// One part of so many may differ; more is copied as a whole, and becomes the new checkpoint.
const FEW: usize = 10;
/// Most bytes of a layer that is made here; it lies on this machine's disk for that time.
const MOST_BYTES: u64 = 1 << 30;

/// How a large copy is made.
#[derive(Clone, Debug)]
pub(crate) enum Bulk {
    /// Onto an earlier result of it, of which only these paths of the context differ; folders end in `/`.
    Patch { image: ImageId, only: Arc<HashSet<String>> },
    /// As a whole, and its result is worth a checkpoint.
    Keep,
}

/// The large copies among the steps that have to run.
pub(crate) fn find(plan: &Plan, checkpoints: &HashMap<String, ImageId>, store: StoreKind) -> HashMap<VertexId, Bulk> {
    let mut layers = None;
    let mut found = HashMap::new();
    for (id, vertex) in plan.graph().iter() {
        let Op::File(op) = &vertex.op else { continue };
        let [FileAction::Copy(copy)] = op.actions.as_slice() else { continue };
        let is_large = plan.files.get(&id).is_some_and(|files| files.len() >= MANY);
        let runs = matches!(plan.action(id), Action::Run(_));
        if !runs || !is_large || copy.unpack || layers.get_or_insert_with(|| chain::layers(plan)).contains(&id) {
            continue;
        }
        let bulk = patch(plan, id, checkpoints).or_else(|| {
            let is_worth_it = match store {
                StoreKind::Classic => bytes(plan, &vertex.inputs, copy) <= MOST_BYTES,
                StoreKind::Containerd => plan.last(id).is_some_and(|last| is_alike(&last.parts, &plan.keys[id.0].1)),
            };
            is_worth_it.then_some(Bulk::Keep)
        });
        found.extend(bulk.map(|bulk| (id, bulk)));
    }
    found
}

/// How much a copy takes from a context.
fn bytes(plan: &Plan, inputs: &[VertexId], copy: &Copy) -> u64 {
    let context = inputs.get(copy.input).and_then(|input| match &plan.graph().vertex(*input).op {
        Op::Source(source) => plan.request.contexts.get(source.context()?.as_ref()),
        _ => None,
    });
    let Some(context) = context else { return u64::MAX };
    context.select(copy).entries.iter().map(|selected| selected.entry.size()).sum()
}

fn patch(plan: &Plan, id: VertexId, checkpoints: &HashMap<String, ImageId>) -> Option<Bulk> {
    if matches!(plan.action(id), Action::Run(MissReason::NoCache)) {
        return None;
    }
    let (files, parts) = (plan.files.get(&id)?, &plan.keys[id.0].1);
    let last = plan.last(id)?;
    if let Some(kept) = &last.kept
        && is_alike(&kept.parts, parts)
        && let Some(image) = checkpoints.get(&kept.key.to_string())
        // Mount points in it would be taken for the result of the vertex below.
        && !plan.stubs.contains_key(image)
        && let Some(only) = files.added_since(&kept.files)
        && only.len() <= files.len() / FEW
    {
        return Some(Bulk::Patch { image: image.clone(), only: Arc::new(only) });
    }
    None
}

/// Whether two copies differ by nothing but the files of their context.
fn is_alike(one: &KeyParts, other: &KeyParts) -> bool {
    let rest = |parts: &KeyParts| -> Vec<(PartKind, Digest)> {
        parts.0.iter().filter(|(kind, _)| !matches!(kind, PartKind::Context(_))).cloned().collect()
    };
    rest(one) == rest(other)
}

/// What the next build is told of a step: the checkpoint of this build, if it was worth one, or that of an earlier one.
pub(crate) fn kept(plan: &Plan, id: VertexId, is_committed: bool) -> Option<Kept> {
    match plan.bulk.get(&id) {
        Some(Bulk::Keep) if is_committed => {
            let (key, parts) = plan.keys[id.0].clone();
            Some(Kept { key, parts, files: plan.files.get(&id)?.clone() })
        }
        _ => plan.last(id)?.kept.clone(),
    }
}
