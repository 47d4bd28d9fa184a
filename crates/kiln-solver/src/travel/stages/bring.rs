//! From a store to the daemon.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use kiln_cache::snapshot::PackRef;
use kiln_cache::{Contents, Entry, Fetched, Kind, Snapshot};
use kiln_docker::{ImageId, StoreKind, labels};
use kiln_graph::{MissReason, Twin, VertexId};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Checkpoint, Found, Guide, bases, bytes, job_of, layer_path, now, seconds};
use crate::archive::{PipeWriter, until_stopped, writer};
use crate::arrival::Arrivals;
use crate::error::{Result, SolveError};
use crate::image::{self, rfc3339};
use crate::plan::{Action, Plan};
use crate::shared::joined;

/// Bytes a second that a store is taken to give until some came from it.
const GUESSED_SPEED: f64 = 40e6;
/// Bytes a second that a daemon unpacks and hashes.
const LOAD_SPEED: f64 = 120e6;

/// A checkpoint that is to be brought.
struct Offer {
    checkpoint: Checkpoint,
    /// Layers that the daemon does not have.
    layers: Vec<String>,
    packs: Vec<PackRef>,
    /// Their bytes, and those of the layers.
    fetch: u64,
    size: u64,
}

/// Checkpoints that a store has.
pub(crate) struct Stock {
    found: Found,
    fetched: Fetched,
    list: HashMap<String, Checkpoint>,
}

impl Stock {
    /// Looks for checkpoints that would spare a build work.
    pub(crate) async fn of(guide: &Guide, plan: &Plan) -> Result<Option<Self>> {
        // The containerd store takes whole images alone, and a base image of it cannot be told apart.
        if guide.engine.info().store != StoreKind::Classic {
            return Ok(None);
        }
        let suits = |snapshot: &Snapshot| !snapshot.entries.is_empty();
        let Some(found) = guide.find("stages", &job_of(plan), suits).await else { return Ok(None) };
        let mut fetched = guide.fetched(&guide.spool("stages"));
        let list = catalogue(guide, &found, &mut fetched).await?;
        Ok(Some(Self { found, fetched, list }))
    }

    /// The steps that need not run if all of it is brought.
    pub(crate) fn spares(&self, plan: &Plan) -> HashSet<VertexId> {
        wanted(plan, &self.list, &HashSet::new()).into_iter().flat_map(|(id, _)| plan.steps_of(id)).collect()
    }
}

/// Fetches checkpoints, and begins to bring them to the daemon. The base images that they stand on are there when `bases` says
/// so.
pub(crate) async fn bring(
    guide: &Guide,
    plan: &Plan,
    stock: Stock,
    bases: impl Future<Output = bool> + Clone + Send + 'static,
) -> Result<Arrivals> {
    let Stock { found, mut fetched, list } = stock;
    let mut known = known_layers(guide, plan).await?;
    // The layers that no snapshot has are those of base images.
    known.extend(list.values().map(|checkpoint| below(&found.snapshot, checkpoint)));
    let started = Instant::now();
    let mut arrivals = Arrivals::default();
    let mut loads: Option<JoinHandle<usize>> = None;
    let mut speed = GUESSED_SPEED;
    let (mut dear, mut done) = (Vec::new(), HashSet::new());
    let mut refused = HashSet::new();
    // Where one is not worth it, one below it may be.
    while let Some((id, checkpoint)) = wanted(plan, &list, &refused).into_iter().find(|(id, _)| !done.contains(id)) {
        done.insert(id);
        let Some(offer) = offer(&found.snapshot, checkpoint, &known, &fetched) else { continue };
        let origin = plan.graph().vertex(id).origin();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let cost = offer.fetch as f64 / speed + offer.size as f64 / LOAD_SPEED;
        let is_dear = offer.checkpoint.seconds > 0.0 && cost > offer.checkpoint.seconds;
        if is_dear && !guide.travel.whole {
            let text = format!(
                "{} of stage {} would take {cost:.1} s to restore ({}) and took {:.1} s to make: it runs instead",
                short(&origin.text),
                origin.stage,
                bytes(offer.fetch),
                offer.checkpoint.seconds
            );
            dear.push((offer.checkpoint.platform, text));
            refused.insert(id);
            continue;
        }
        let begun = Instant::now();
        guide.fetch(&found, &offer.packs, &mut fetched).await?;
        if offer.fetch > 1 << 20 {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let measured = offer.fetch as f64 / begun.elapsed().as_secs_f64().max(0.001);
            speed = measured;
        }
        if !offer.packs.iter().all(|pack| fetched.has(&pack.id)) {
            continue;
        }
        known.insert(offer.checkpoint.layers.clone());
        let load = Load::of(guide, &found.snapshot, &fetched, offer);
        let (id, labels) = (ImageId(load.id.clone()), load.checkpoint().labels.clone());
        let arrived = arrivals.expect(id, load.checkpoint().platform, labels);
        let (guide, bases, before) = (guide.clone(), bases.clone(), loads.take());
        // One after the other: it may stand on the one before.
        loads = Some(tokio::spawn(async move {
            let count = match before {
                Some(before) => joined(before.await),
                None => 0,
            };
            let platform = load.checkpoint().platform;
            match load.run(&guide, bases).await {
                Ok(true) => {
                    // Nobody may wait for it any more.
                    let _ = arrived.send(());
                    return count + 1;
                }
                Ok(false) | Err(SolveError::Cancelled) => {}
                Err(error) => guide.say(Some(platform), format!("a stage was not restored: {error}")).await,
            }
            count
        }));
    }
    for (platform, text) in dear {
        guide.say(Some(platform), text).await;
    }
    let (guide, bytes, place) = (guide.clone(), bytes(fetched.bytes), found.store.place());
    arrivals.follow(async move {
        let count = match loads {
            Some(loads) => joined(loads.await),
            None => 0,
        };
        let _ = fs_err::remove_dir_all(guide.spool("stages"));
        if count > 0 {
            let (s, took) = (if count == 1 { "" } else { "s" }, seconds(started));
            guide.say(None, format!("restored {count} stage{s} from {place}: {bytes} in {took}")).await;
        }
    });
    Ok(arrivals)
}

/// What a snapshot says of its checkpoints, by key. Their descriptions are small and share few packs.
async fn catalogue(guide: &Guide, found: &Found, fetched: &mut Fetched) -> Result<HashMap<String, Checkpoint>> {
    let entries: Vec<&Entry> =
        found.snapshot.entries.iter().filter(|entry| entry.path.starts_with("checkpoints/")).collect();
    let packs = packs_of(&found.snapshot, entries.iter().copied());
    guide.fetch(found, &packs, fetched).await?;
    let mut contents = Contents::new(&found.snapshot, fetched);
    let mut list = HashMap::new();
    for entry in entries {
        let mut text = String::new();
        let is_read = contents.has(entry) && contents.read(entry).read_to_string(&mut text).is_ok();
        // What cannot be read is a miss.
        if let (true, Ok(checkpoint)) = (is_read, serde_json::from_str::<Checkpoint>(&text)) {
            list.insert(entry.path.trim_start_matches("checkpoints/").to_owned(), checkpoint);
        }
    }
    Ok(list)
}

/// The packs that entries need.
fn packs_of<'a>(snapshot: &Snapshot, entries: impl Iterator<Item = &'a Entry>) -> Vec<PackRef> {
    let mut wanted: BTreeSet<u32> = BTreeSet::new();
    for entry in entries {
        if let Kind::File(pieces) = &entry.kind {
            let blocks = pieces.iter().map(|piece| &snapshot.blocks[snapshot.pieces[*piece as usize].block as usize]);
            wanted.extend(blocks.map(|block| block.pack));
        }
    }
    wanted.into_iter().map(|pack| snapshot.packs[pack as usize].clone()).collect()
}

/// The checkpoints that would spare a build work, but for those that are refused; those first that others stand on.
fn wanted<'a>(
    plan: &Plan,
    list: &'a HashMap<String, Checkpoint>,
    refused: &HashSet<VertexId>,
) -> Vec<(VertexId, &'a Checkpoint)> {
    let graph = plan.graph();
    let mut found: BTreeMap<VertexId, &Checkpoint> = BTreeMap::new();
    let mut seen = HashSet::new();
    let targets = graph.targets.iter().enumerate().filter(|(index, _)| !plan.is_current(*index));
    let mut stack: Vec<VertexId> = targets.map(|(_, target)| target.root).collect();
    while let Some(id) = stack.pop() {
        if !seen.insert(id) || !matches!(plan.action(id), Action::Run(reason) if *reason != MissReason::NoCache) {
            continue;
        }
        if let Some(checkpoint) = list.get(&plan.key(id).to_string()).filter(|_| !refused.contains(&id)) {
            found.insert(id, checkpoint);
            continue;
        }
        let vertex = graph.vertex(id);
        stack.extend(&vertex.inputs);
        stack.extend(vertex.twin.into_iter().flat_map(Twin::inputs));
    }
    found.into_iter().collect()
}

/// The layers of images that the daemon has: base images, and checkpoints that the build counts on.
async fn known_layers(guide: &Guide, plan: &Plan) -> Result<HashSet<Vec<String>>> {
    let mut known: HashSet<Vec<String>> = HashSet::from([Vec::new()]);
    for id in bases(plan).chain(plan.checkpoints()) {
        known.extend(guide.engine.inspect_image(&id).await?.map(|image| image.layers));
    }
    Ok(known)
}

/// The lowest layers of a checkpoint, as far as a snapshot does not have them.
fn below(snapshot: &Snapshot, checkpoint: &Checkpoint) -> Vec<String> {
    let is_missing = |layer: &&String| !snapshot.entries.iter().any(|entry| entry.path == layer_path(layer));
    checkpoint.layers.iter().take_while(is_missing).cloned().collect()
}

/// What bringing a checkpoint would take; `None` if the snapshot lacks a layer of it.
fn offer(
    snapshot: &Snapshot,
    checkpoint: &Checkpoint,
    known: &HashSet<Vec<String>>,
    fetched: &Fetched,
) -> Option<Offer> {
    // The daemon knows a layer by all below it: the most that any image has in common.
    let shared = known.iter().map(|layers| layers.iter().zip(&checkpoint.layers).take_while(|(a, b)| a == b).count());
    let shared = shared.max().unwrap_or_default();
    let layers = checkpoint.layers[shared..].to_vec();
    let entry = |layer: &String| snapshot.entries.iter().find(|entry| entry.path == layer_path(layer));
    let entries: Vec<&Entry> = layers.iter().map(entry).collect::<Option<_>>()?;
    let packs: Vec<PackRef> =
        packs_of(snapshot, entries.iter().copied()).into_iter().filter(|pack| !fetched.has(&pack.id)).collect();
    let size = entries.iter().map(|entry| snapshot.size_of(entry)).sum();
    let fetch = packs.iter().map(|pack| pack.size).sum();
    Some(Offer { checkpoint: checkpoint.clone(), layers, packs, fetch, size })
}

/// A checkpoint on its way to the daemon.
struct Load {
    /// What the image will be called.
    id: String,
    config: Vec<u8>,
    offer: Offer,
    snapshot: Arc<Snapshot>,
    fetched: Fetched,
}

impl Load {
    fn of(guide: &Guide, snapshot: &Arc<Snapshot>, fetched: &Fetched, mut offer: Offer) -> Self {
        // It belongs to the project of this machine.
        offer.checkpoint.labels.insert(labels::SCOPE.to_owned(), guide.scope.clone());
        let config = config(&offer.checkpoint, i64::try_from(now()).unwrap_or_default());
        let id = image::digest(&config);
        Self { id, config, offer, snapshot: snapshot.clone(), fetched: fetched.clone() }
    }

    fn checkpoint(&self) -> &Checkpoint {
        &self.offer.checkpoint
    }

    /// Makes an image of it; false if there is none to stand on. The daemon checks every layer against its digest.
    async fn run(self, guide: &Guide, bases: impl Future<Output = bool>) -> Result<bool> {
        let Self { id, config, offer, snapshot, fetched } = self;
        let (out, stream) = writer();
        // The daemon begins to look at what it got when that has ended: by then the images below must be there.
        let (there, wait) = oneshot::channel();
        let name = id.clone();
        let writing =
            tokio::task::spawn_blocking(move || write_image((&config, &name), &snapshot, &fetched, &offer, wait, out));
        let telling = async {
            let are_there = bases.await;
            // Who does not listen has failed.
            let _ = there.send(are_there);
            are_there
        };
        let loading = guide.engine.load_image(until_stopped(stream, &guide.cancel), &id);
        let (are_there, loaded) = tokio::join!(telling, loading);
        match joined(writing.await) {
            _ if guide.cancel.is_stopped() => Err(SolveError::Cancelled),
            _ if !are_there => Ok(false),
            // The side that broke off first knows why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(SolveError::Travel { problem: error.to_string(), hint: None })
            }
            _ => Ok(loaded.map(|_| true)?),
        }
    }
}

/// Writes an image; its end when `bases` says that what it stands on is there.
fn write_image(
    (config, id): (&[u8], &str),
    snapshot: &Snapshot,
    fetched: &Fetched,
    offer: &Offer,
    bases: oneshot::Receiver<bool>,
    mut out: PipeWriter,
) -> io::Result<()> {
    let mut contents = Contents::new(snapshot, fetched);
    image::with_layers((config, id), &offer.checkpoint.layers, &[], &mut out, |archive| {
        for layer in &offer.layers {
            let gone = || io::Error::new(io::ErrorKind::NotFound, "a layer is not there any more");
            let path = layer_path(layer);
            let entry = snapshot.entries.iter().find(|entry| entry.path == path).ok_or_else(gone)?;
            image::append_layer(archive, layer, (contents.read(entry), snapshot.size_of(entry)))?;
        }
        match bases.blocking_recv() {
            Ok(true) => Ok(()),
            _ => Err(io::Error::other("its base image is not there")),
        }
    })?;
    out.finish()
}

fn config(checkpoint: &Checkpoint, created: i64) -> Vec<u8> {
    let (arch, variant) = checkpoint.platform.arch.oci();
    let config = json!({
        "architecture": arch,
        "variant": variant,
        "os": "linux",
        "created": rfc3339(created),
        "config": { "Labels": checkpoint.labels },
        "rootfs": { "type": "layers", "diff_ids": checkpoint.layers },
        "history": checkpoint.history,
    });
    config.to_string().into_bytes()
}

fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 48 {
        format!("`{line}`")
    } else {
        format!("`{}...`", line.chars().take(45).collect::<String>())
    }
}
