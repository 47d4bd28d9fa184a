//! Checkpoints: the layers that they add to a base image which every machine can pull.
//!
//! A tree has `layers/SHA256` (a layer as a tar archive; its name is what the daemon calls its diff id) and
//! `checkpoints/KEY` (JSON: which image it is). A checkpoint is brought only if that is likely to be quicker than running
//! what it stands for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_cache::snapshot::PackRef;
use kiln_cache::{Contents, Entry, Fetched, Kind, SaveError, Saved, Snapshot, pack};
use kiln_docker::{Image, StoreKind, labels};
use kiln_graph::{Digest, Op, Platform, Source, VertexId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Guide, Mode, Remote, Times, add, bytes, seconds};
use crate::archive::{PipeWriter, StreamReader, until_stopped, writer};
use crate::error::{Result, SolveError};
use crate::image::{self, guess, rfc3339};
use crate::plan::{Action, Plan};
use crate::shared::joined;

/// Bytes a second that a store is taken to give until some came from it.
const GUESSED_SPEED: f64 = 40e6;
/// Bytes a second that a daemon unpacks and hashes.
const LOAD_SPEED: f64 = 120e6;

/// What is known of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Checkpoint {
    /// Its labels.
    labels: BTreeMap<String, String>,
    /// Platform of the image.
    platform: Platform,
    /// Digests of all its layers, those of the base image too, lowest first.
    layers: Vec<String>,
    /// What a daemon says of its past, as an image configuration has it.
    history: Vec<serde_json::Value>,
    /// How long all commands took that it stands for, in seconds.
    seconds: f64,
}

/// The checkpoints that a build can make.
#[derive(Clone, Debug)]
pub(crate) struct Cargo {
    job: String,
    steps: Vec<Step>,
    /// Base images.
    bases: Vec<String>,
}

/// A vertex that may have a checkpoint.
#[derive(Clone, Debug)]
struct Step {
    key: String,
    /// The keys of all that it needs, itself included.
    needs: Vec<String>,
    /// Whether a target needs it, and not only its twin.
    main: bool,
}

impl Cargo {
    pub(crate) fn of(plan: &Plan) -> Self {
        let graph = plan.graph();
        let (mut main, mut all): (BTreeSet<VertexId>, BTreeSet<VertexId>) = Default::default();
        for target in &graph.targets {
            main.extend(plan.steps_of(target.root));
            all.extend(plan.helps(target.root));
        }
        let steps = all.iter().filter(|id| !matches!(graph.vertex(**id).op, Op::Source(_))).map(|id| Step {
            key: plan.key(*id).to_string(),
            needs: plan.steps_of(*id).into_iter().map(|id| plan.key(id).to_string()).collect(),
            main: main.contains(id),
        });
        let bases = graph.iter().filter_map(|(_, vertex)| match &vertex.op {
            Op::Source(Source::Image { id, .. }) => Some(id.clone()),
            _ => None,
        });
        Self { job: job_of(plan), steps: steps.collect(), bases: bases.collect() }
    }
}

/// What tells the builds of a project apart: what they build, and for whom.
fn job_of(plan: &Plan) -> String {
    let targets = plan.graph().targets.iter().map(|target| format!("{} {}", target.name, target.platform));
    let mut all: Vec<String> = targets.collect();
    all.sort();
    let platforms: Vec<String> =
        plan.graph().targets.iter().map(|target| target.platform.to_string().replace('/', "-")).collect();
    let readable = if all.len() == 1 { platforms.concat() } else { format!("{}-targets", all.len()) };
    format!("{readable}-{}", &Digest::of(all.join("\n")).short()[..8])
}

fn layer_path(diff_id: &str) -> String {
    format!("layers/{}", diff_id.trim_start_matches("sha256:"))
}

fn checkpoint_path(key: &str) -> String {
    format!("checkpoints/{key}")
}

// ---- Bringing.

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
    found: super::Found,
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
        let mut fetched = Fetched::new(&guide.spool("stages"));
        let list = catalogue(guide, &found, &mut fetched).await?;
        Ok(Some(Self { found, fetched, list }))
    }

    /// The steps that need not run if all of it is brought.
    pub(crate) fn spares(&self, plan: &Plan) -> HashSet<VertexId> {
        wanted(plan, &self.list).into_iter().flat_map(|(id, _)| plan.steps_of(id)).collect()
    }
}

/// Brings checkpoints; whether there are any now that were not there.
pub(crate) async fn bring(guide: &Guide, plan: &Plan, stock: Stock) -> Result<bool> {
    let Stock { found, mut fetched, list } = stock;
    let mut known = known_layers(guide, plan).await?;
    let (mut count, started) = (0, Instant::now());
    let mut speed = GUESSED_SPEED;
    let mut dear = Vec::new();
    for (id, checkpoint) in wanted(plan, &list) {
        let Some(offer) = offer(&found.snapshot, checkpoint, &known, &fetched) else { continue };
        let origin = plan.graph().vertex(id).origin();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let cost = offer.fetch as f64 / speed + offer.size as f64 / LOAD_SPEED;
        if cost > offer.checkpoint.seconds && !guide.travel.whole {
            dear.push(format!(
                "{} of stage {} would take {cost:.0} s to restore ({}) and took {:.0} s to make",
                short(&origin.text),
                origin.stage,
                bytes(offer.fetch),
                offer.checkpoint.seconds
            ));
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
        let layers = offer.checkpoint.layers.clone();
        let platform = offer.checkpoint.platform;
        match load(guide, &found.snapshot, &fetched, offer).await {
            Ok(()) => {
                count += 1;
                known.insert(layers);
            }
            Err(SolveError::Cancelled) => return Err(SolveError::Cancelled),
            Err(error) => guide.say(Some(platform), format!("a stage was not restored: {error}")).await,
        }
    }
    let _ = fs_err::remove_dir_all(guide.spool("stages"));
    for text in dear {
        guide.say(None, format!("{text}: it runs instead")).await;
    }
    if count > 0 {
        let text = format!(
            "restored {count} stage{} from {}: {} in {}",
            if count == 1 { "" } else { "s" },
            found.store.place(),
            bytes(fetched.bytes),
            seconds(started)
        );
        guide.say(None, text).await;
    }
    Ok(count > 0)
}

/// What a snapshot says of its checkpoints, by key. Their descriptions are small and share few packs.
async fn catalogue(guide: &Guide, found: &super::Found, fetched: &mut Fetched) -> Result<HashMap<String, Checkpoint>> {
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

/// The checkpoints that would spare a build work, those first that others stand on.
fn wanted<'a>(plan: &Plan, list: &'a HashMap<String, Checkpoint>) -> Vec<(VertexId, &'a Checkpoint)> {
    let graph = plan.graph();
    let mut found: BTreeMap<VertexId, &Checkpoint> = BTreeMap::new();
    let mut seen = HashSet::new();
    let targets = graph.targets.iter().enumerate().filter(|(index, _)| !plan.is_current(*index));
    let mut stack: Vec<VertexId> = targets.map(|(_, target)| target.root).collect();
    while let Some(id) = stack.pop() {
        if !seen.insert(id)
            || !matches!(plan.action(id), Action::Run(reason) if *reason != kiln_graph::MissReason::NoCache)
        {
            continue;
        }
        if let Some(checkpoint) = list.get(&plan.key(id).to_string()) {
            found.insert(id, checkpoint);
            continue;
        }
        let vertex = graph.vertex(id);
        stack.extend(&vertex.inputs);
        stack.extend(vertex.twin.into_iter().flat_map(kiln_graph::Twin::inputs));
    }
    found.into_iter().collect()
}

/// The layers of images that the daemon has: base images, and checkpoints that the build counts on.
async fn known_layers(guide: &Guide, plan: &Plan) -> Result<HashSet<Vec<String>>> {
    let mut known: HashSet<Vec<String>> = HashSet::from([Vec::new()]);
    let bases = plan.graph().iter().filter_map(|(_, vertex)| match &vertex.op {
        Op::Source(Source::Image { id, .. }) => Some(id.clone()),
        _ => None,
    });
    for id in bases.chain(plan.checkpoints()) {
        known.extend(guide.engine.inspect_image(&id).await?.map(|image| image.layers));
    }
    Ok(known)
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

/// Makes an image of a checkpoint. The daemon checks every layer against its digest.
async fn load(guide: &Guide, snapshot: &Arc<Snapshot>, fetched: &Fetched, mut offer: Offer) -> Result<()> {
    // It belongs to the project of this machine.
    offer.checkpoint.labels.insert(labels::SCOPE.to_owned(), guide.scope.clone());
    let config = config(&offer.checkpoint);
    let id = image::digest(&config);
    let (out, stream) = writer();
    let (name, snapshot, fetched) = (id.clone(), snapshot.clone(), fetched.clone());
    let writing = tokio::task::spawn_blocking(move || write_image(&config, &name, &snapshot, &fetched, &offer, out));
    let loaded = guide.engine.load_image(until_stopped(stream, &guide.cancel), &id).await;
    match joined(writing.await) {
        _ if guide.cancel.is_stopped() => Err(SolveError::Cancelled),
        // The side that broke off first knows why.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(SolveError::Travel { problem: error.to_string(), hint: None })
        }
        _ => Ok(loaded.map(drop)?),
    }
}

fn write_image(
    config: &[u8],
    id: &str,
    snapshot: &Snapshot,
    fetched: &Fetched,
    offer: &Offer,
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
        Ok(())
    })?;
    out.finish()
}

fn config(checkpoint: &Checkpoint) -> Vec<u8> {
    let (arch, variant) = checkpoint.platform.arch.oci();
    let config = json!({
        "architecture": arch,
        "variant": variant,
        "os": "linux",
        "created": rfc3339(i64::try_from(super::now()).unwrap_or_default()),
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

// ---- Taking.

/// Takes the checkpoints of a build to a store.
pub(crate) async fn take(
    guide: &Guide,
    remote: &Remote,
    cargo: &Cargo,
    times: &Times,
    sum: &mut Saved,
) -> Result<(), SaveError> {
    if guide.engine.info().store != StoreKind::Classic {
        return Ok(());
    }
    let failed = |error: kiln_docker::EngineError| SaveError::Source(io::Error::other(error));
    let images = guide.engine.images_with_label(labels::KEY).await.map_err(failed)?;
    let by_key: HashMap<&String, &Image> =
        images.iter().filter_map(|image| Some((image.labels.get(labels::KEY)?, image))).collect();
    let mut bases: HashSet<String> = HashSet::new();
    for base in &cargo.bases {
        let base = guide.engine.inspect_image(base).await.map_err(failed)?;
        bases.extend(base.into_iter().flat_map(|base| base.layers));
    }
    let mut made: BTreeMap<String, (Checkpoint, Image)> = BTreeMap::new();
    for step in &cargo.steps {
        let Some(image) = by_key.get(&step.key).filter(|_| step.main || remote.mode == Mode::Max) else { continue };
        // A listing does not tell layers.
        let Some(image) = guide.engine.inspect_image(&image.id.0).await.map_err(failed)? else { continue };
        let past = guide.engine.image_history(&image.id).await.map_err(failed)?;
        let Some(platform) = image.labels.get(labels::PLATFORM).and_then(|text| text.parse().ok()) else { continue };
        let history = past.iter().zip(guess(&past, image.layers.len())).map(|(step, has_layer)| {
            json!({ "created": rfc3339(step.created), "created_by": step.created_by, "comment": step.comment,
                    "empty_layer": !has_layer })
        });
        let checkpoint = Checkpoint {
            labels: image.labels.clone(),
            platform,
            layers: image.layers.clone(),
            history: history.collect(),
            seconds: step.needs.iter().filter_map(|key| times.get(key)).sum::<Duration>().as_secs_f64(),
        };
        made.insert(step.key.clone(), (checkpoint, image));
    }
    if made.is_empty() {
        return Ok(());
    }
    let (engine, spool) = (guide.engine.clone(), guide.spool("stages"));
    let runtime = tokio::runtime::Handle::current();
    let made = Arc::new(made);
    let read = move |before: Option<&Snapshot>, packer: &mut pack::Packer<'_>| {
        let wanted: BTreeSet<&String> = made
            .values()
            .flat_map(|(checkpoint, _)| &checkpoint.layers)
            .filter(|layer| !bases.contains(*layer))
            .collect();
        packer.add(folder(""));
        packer.add(folder("layers"));
        let mut missing: BTreeSet<String> = wanted.into_iter().cloned().collect();
        missing.retain(|layer| !packer.add_known(&layer_path(layer)));
        // The images with most layers first: they have those of the others.
        let mut tips: Vec<&Image> = made.values().map(|(_, image)| image).collect();
        tips.sort_by_key(|image| std::cmp::Reverse(image.layers.len()));
        for image in tips {
            if image.layers.iter().any(|layer| missing.contains(layer)) {
                let stream = runtime.block_on(engine.save_image(&image.id)).map_err(io::Error::other)?;
                add_layers(StreamReader::new(stream), &spool, &mut missing, packer)?;
            }
        }
        packer.add(folder("checkpoints"));
        for (key, (checkpoint, _)) in made.iter() {
            if checkpoint.layers.iter().all(|layer| !missing.contains(layer)) {
                let before = before.and_then(|before| recorded(before, packer, key));
                if before.is_none() {
                    let text = serde_json::to_vec(checkpoint)?;
                    packer.add_file(file(&checkpoint_path(key)), &mut text.as_slice())?;
                }
            }
        }
        Ok(())
    };
    let saved = guide.save(remote, ("stages", &cargo.job), read).await;
    let _ = fs_err::remove_dir_all(guide.spool("stages"));
    add(sum, saved?);
    Ok(())
}

/// Keeps the description of a checkpoint that was there before: it knows how long its steps took when they ran.
fn recorded(before: &Snapshot, packer: &mut pack::Packer<'_>, key: &str) -> Option<()> {
    let path = checkpoint_path(key);
    before.entries.iter().any(|entry| entry.path == path).then_some(())?;
    packer.add_known(&path).then_some(())
}

fn folder(path: &str) -> Entry {
    Entry { path: path.to_owned(), mode: 0o755, uid: 0, gid: 0, mtime: 0, kind: Kind::Folder }
}

fn file(path: &str) -> Entry {
    Entry { mode: 0o644, kind: Kind::File(Vec::new()), ..folder(path) }
}

/// Adds the layers of an archive of `docker save` that are missing, and says no more that they are.
fn add_layers(
    archive: impl Read,
    spool: &Path,
    missing: &mut BTreeSet<String>,
    packer: &mut pack::Packer<'_>,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let is_layer = path.ends_with("layer.tar") || path.starts_with("blobs/");
        if !entry.header().entry_type().is_file() || !is_layer {
            continue;
        }
        // Only who has read a layer knows which it is.
        let mut file = unnamed(spool)?;
        let mut hasher = Sha256::new();
        let mut block = vec![0; 256 << 10];
        loop {
            match entry.read(&mut block)? {
                0 => break,
                count => {
                    hasher.update(&block[..count]);
                    file.write_all(&block[..count])?;
                }
            }
        }
        let id = image::spelled(hasher.finalize().as_ref());
        if missing.remove(&id) {
            file.rewind()?;
            packer.add_file(self::file(&layer_path(&id)), &mut file)?;
        }
    }
    Ok(())
}

/// A file without a name in a folder.
fn unnamed(folder: &Path) -> io::Result<File> {
    fs_err::create_dir_all(folder)?;
    let path = folder.join(".layer");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}
