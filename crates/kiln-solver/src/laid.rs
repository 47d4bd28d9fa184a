//! Copies that become a layer at once: the files go to the daemon as an image, not into a container.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use kiln_docker::{CommitSpec, EngineError, Image, ImageId, PastStep, StoreKind};
use kiln_graph::Platform;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::archive::{self, Apply, ApplyError, Place, Remote, Use};
use crate::error::{Result, SolveError};
use crate::image::{self, guess, rfc3339};
use crate::shared::{Reader, Shared, joined, lock};
use crate::snapshot::{Pending, Snapshot};

/// A layer on this machine's disk.
struct Layer {
    file: File,
    size: u64,
    digest: String,
}

impl Shared {
    /// Whether a copy becomes a layer: it is a large one, and the daemon takes layers without those below them.
    pub(crate) fn is_laid(&self, pending: &Pending) -> bool {
        pending.is_kept() && self.engine.info().store == StoreKind::Classic
    }

    /// An image with the result of a copy, which is a checkpoint of it.
    pub(crate) async fn lay(self: &Arc<Self>, pending: &Arc<Pending>) -> Result<ImageId> {
        let (base, mut operations) = self.base_of(&pending.below).await?;
        operations.push(pending.clone());
        let started = Instant::now();
        let platform = self.platform_of(&base);
        let below = self.image_of(&base).await?;
        let apply = self.resolve(&operations).await?;
        let place = Place::Container(self.reader_of(&below, platform, Reader::Questions).await?);
        let making = async { self.make_layer(pending, &below, platform, (place, apply)).await.map(Some) };
        let made = self.told(&operations, platform, started, making).await?;
        lock(&self.committed).insert(pending.vertex);
        // Something always comes of it.
        made.ok_or(SolveError::Cancelled)
    }

    async fn make_layer(
        self: &Arc<Self>,
        pending: &Arc<Pending>,
        below: &ImageId,
        platform: Platform,
        (place, apply): (Place, Vec<Apply>),
    ) -> Result<ImageId> {
        let there = self.engine.inspect_image(&below.0).await?;
        let there = there.ok_or_else(|| EngineError::NotFound { what: format!("image {below}") })?;
        let past = self.engine.image_history(below).await?;
        let remote = Remote::new(self.engine.clone());
        let folder = self.plan.request.state.clone();
        let name = format!(".kiln-layer-{}-{}", std::process::id(), pending.vertex.0);
        let spooling = self.tasks.spawn_blocking(move || spool(&folder, &name, &remote, &place, &apply));
        let layer = joined(spooling.await)?;
        let spec = self.checkpoint(pending.vertex, platform, &self.stubs_of(&Snapshot::Pending(pending.clone())));
        let config = config(platform, &spec, &there, &past, &layer.digest);
        let id = image::digest(&config);
        let mut layers = there.layers;
        layers.push(layer.digest.clone());
        let engine = self.engine.clone();
        // Not to be dropped half way, as a commit is not.
        let loading = self.tasks.spawn(async move {
            let (mut out, stream) = archive::writer();
            let name = id.clone();
            let writing = tokio::task::spawn_blocking(move || {
                let add = |archive: &mut tar::Builder<_>| {
                    image::append_layer(archive, &layer.digest, (layer.file, layer.size))
                };
                image::with_layers((&config, &name), &layers, &[], &mut out, add)?;
                out.finish()
            });
            let loaded = engine.load_image(stream, &id).await;
            let sent = joined(writing.await);
            let loaded = loaded?;
            sent.map_err(SolveError::io("send", "the layer"))?;
            Ok(loaded)
        });
        joined(loading.await)
    }
}

/// A file without a name in a folder, which is made if it is not there.
pub(crate) fn unnamed(folder: &Path, name: &str) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(name);
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Writes the archive of copies to a file that nobody else sees.
fn spool(folder: &Path, name: &str, remote: &Remote, place: &Place, apply: &[Apply]) -> Result<Layer> {
    let failed = || SolveError::io("write", folder);
    // A project that cannot be written to can be built.
    let file = unnamed(folder, name).or_else(|_| unnamed(&std::env::temp_dir(), name)).map_err(failed())?;
    let out = Counted { out: BufWriter::with_capacity(1 << 20, file), size: 0, hasher: Sha256::new() };
    let written = archive::apply(remote, place, &[], apply, (out, Use::Layer));
    let (mut out, _) = written.map_err(|error| match error {
        ApplyError::Failed(error) => error,
        ApplyError::Mounted => failed()(io::ErrorKind::Unsupported.into()),
    })?;
    out.flush().map_err(failed())?;
    let mut file = out.out.into_inner().map_err(|error| failed()(error.into_error()))?;
    file.rewind().map_err(failed())?;
    let digest = image::spelled(out.hasher.finalize().as_ref());
    Ok(Layer { file, size: out.size, digest })
}

/// Counts and hashes what is written.
struct Counted {
    out: BufWriter<File>,
    size: u64,
    hasher: Sha256,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.size += written as u64;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The configuration of a checkpoint with one layer more than the image below.
fn config(platform: Platform, spec: &CommitSpec, below: &Image, past: &[PastStep], layer: &str) -> Vec<u8> {
    let has_layer = guess(past, below.layers.len());
    let before = past.iter().zip(has_layer).map(|(step, has_layer)| {
        let created = rfc3339(step.created);
        json!({ "created": created, "created_by": step.created_by, "comment": step.comment, "empty_layer": !has_layer })
    });
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = rfc3339(i64::try_from(now).unwrap_or_default());
    let own = json!({ "created": now, "comment": spec.comment });
    let history: Vec<Value> = before.chain([own]).collect();
    let (arch, variant) = platform.arch.oci();
    let layers: Vec<&str> = below.layers.iter().map(String::as_str).chain([layer]).collect();
    let config = json!({
        "architecture": arch,
        "variant": variant,
        "os": "linux",
        "created": now,
        "config": { "Labels": spec.labels },
        "rootfs": { "type": "layers", "diff_ids": layers },
        "history": history,
    });
    config.to_string().into_bytes()
}
