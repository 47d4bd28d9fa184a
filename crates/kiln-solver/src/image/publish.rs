//! Makes what was asked for of all targets, in the order in which it was asked.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_docker::registry::ImageName;
use kiln_docker::{ByteStream, ImageId, StoreKind};

use super::archive::{Bytes, Layout, Part};
use super::describe::{self, Described, Into};
use super::exports::{Export, Exported, Exports, ImageArchive, ImageForm, ImageResult, Published};
use super::facts::Facts;
use super::manifest::{self, Blob, Compression, Descriptor, PlatformName};
use super::saved::{self, Saved};
use super::{load, push};
use crate::archive::StreamReader;
use crate::error::{Result, SolveError};
use crate::event::BuildEvent;
use crate::request::BuildRequest;
use crate::shared::{Shared, joined};

/// Folders of builds that were killed are removed after this time.
const STALE: Duration = Duration::from_hours(24);

/// What a finished target hands on.
pub(crate) struct Made {
    /// Index of the target.
    pub(crate) target: usize,
    /// Its result as an image on the daemon.
    pub(crate) image: Option<ImageId>,
    /// Its files as an archive.
    pub(crate) files: Option<PathBuf>,
}

/// The folder for what lies on the client for the time of one build.
pub(crate) fn work_folder(request: &BuildRequest) -> PathBuf {
    request.state.join("exports").join(&request.id)
}

/// Removes the folder of this build, and those that killed builds left.
pub(crate) fn sweep(request: &BuildRequest) {
    let own = work_folder(request);
    let _ = fs_err::remove_dir_all(&own);
    let Some(parent) = own.parent() else { return };
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let age = entry
            .metadata()
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > STALE) {
            let _ = fs_err::remove_dir_all(entry.path());
        }
    }
}

/// All images of a group, and what is known of their layers.
pub(super) struct Images<'s> {
    pub(super) shared: &'s Arc<Shared>,
    pub(super) exports: &'s Exports,
    pub(super) facts: Facts,
    pub(super) list: Vec<Described>,
    /// Whether their files have times of at most the epoch.
    pub(super) is_rewritten: bool,
    /// The images as they are, or with times of at most the epoch: whichever is not the list, if it is known.
    pub(super) others: Option<Vec<Described>>,
    /// Layers that were read from the daemon and packed.
    pub(super) packed: HashMap<(Compression, String), (Blob, PathBuf)>,
}

/// Makes what is asked for of one group. Its targets are in the order of the graph.
pub(crate) async fn publish(shared: &Arc<Shared>, exports: &Exports, made: &[&Made]) -> Result<Published> {
    let facts = Facts::load(&shared.plan.request.state);
    let mut images =
        Images { shared, exports, facts, list: Vec::new(), is_rewritten: false, others: None, packed: HashMap::new() };
    let mut published = Published::default();
    if exports.has_image() {
        for made in made {
            let Some(image) = made.image.clone() else { continue };
            let target = &shared.plan.graph().targets[made.target];
            let described = describe::describe(shared, &mut images.facts, (target, exports.epoch), image).await?;
            images.list.push(described);
        }
        published.image = Some(ImageResult::default());
    }
    let mut outcome = Ok(());
    for export in &exports.list {
        outcome = one(&mut images, made, export, &mut published).await;
        if outcome.is_err() {
            break;
        }
    }
    // What was learned is true however it ended.
    if let Err(error) = images.facts.save() {
        shared.notice(None, error.to_string()).await;
    }
    outcome.map(|()| published)
}

async fn one(images: &mut Images<'_>, made: &[&Made], export: &Export, published: &mut Published) -> Result<()> {
    let shared = images.shared;
    images.choose(export.is_rewritten()).await?;
    if let (Some(published), [only]) = (&mut published.image, images.list.as_slice()) {
        published.config = Some(only.id.clone());
    }
    let (written, names) = match export {
        Export::Tar { dest } => (vec![tar(made, dest).await?], [].as_slice()),
        Export::Archive(archive) => {
            let (exported, root) = write_archive(images, archive).await?;
            describe_with(published, root);
            (vec![exported], archive.names.as_slice())
        }
        Export::Load { names, .. }
            if images.shared.engine.info().store == StoreKind::Containerd && images.list.len() > 1 =>
        {
            let (exported, root) = load::load_index(images, names).await?;
            describe_with(published, root);
            (exported, names.as_slice())
        }
        Export::Load { names, .. } => (load::load(images, names).await?, names.as_slice()),
        Export::Push { names, insecure, form } => {
            let root = push::push(images, names, *insecure, form).await?;
            let exported = |name: &ImageName| Exported {
                kind: "registry",
                name: name.to_string(),
                digest: Some(root.digest.clone()),
                size: None,
            };
            let written = names.iter().map(exported).collect();
            describe_with(published, root);
            (written, names.as_slice())
        }
    };
    if let Some(image) = &mut published.image {
        for name in names {
            if !image.names.contains(name) {
                image.names.push(name.clone());
            }
        }
    }
    for exported in &written {
        shared.emit(BuildEvent::Exported { exported: exported.clone() }).await;
    }
    published.exported.extend(written);
    Ok(())
}

fn describe_with(published: &mut Published, root: Descriptor) {
    if let Some(image) = &mut published.image {
        // What a name stands for has no platform in what others read.
        image.descriptor = Some(Descriptor { platform: None, ..root });
    }
}

/// One archive of the files of all targets.
async fn tar(made: &[&Made], dest: &Path) -> Result<Exported> {
    let parts: Vec<PathBuf> = made.iter().filter_map(|made| made.files.clone()).collect();
    let size = written(dest, move |out| {
        let mut size = 0;
        for part in &parts {
            // Each ends with the two blocks that end an archive; there must be one end only.
            let whole = fs_err::metadata(part)?.len();
            let mut reader = io::Read::take(fs_err::File::open(part)?, whole.saturating_sub(1024));
            size += io::copy(&mut reader, out)?;
        }
        out.write_all(&[0; 1024])?;
        Ok(size + 1024)
    })
    .await?;
    Ok(Exported { kind: "tar", name: dest.display().to_string(), digest: None, size: Some(size) })
}

/// Writes a file through one beside it, which is renamed once it is whole.
async fn written<T: Send + 'static>(
    dest: &Path,
    write: impl FnOnce(&mut io::BufWriter<fs_err::File>) -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let dest = dest.to_owned();
    let result = tokio::task::spawn_blocking(move || {
        let failed = |source| SolveError::io("write", &dest)(source);
        let folder = dest.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs_err::create_dir_all(folder).map_err(failed)?;
        if dest.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let name = dest.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let staged = folder.join(format!(".{name}.{}.tmp", std::process::id()));
        let attempt = || {
            let mut out = io::BufWriter::new(fs_err::File::create(&staged)?);
            let result = write(&mut out)?;
            out.flush()?;
            fs_err::rename(&staged, &dest)?;
            Ok(result)
        };
        attempt().map_err(|source| {
            let _ = fs_err::remove_file(&staged);
            failed(source)
        })
    });
    joined(result.await)
}

/// Manifests of all images, and the index if there are several: bytes and descriptors, the root last.
pub(super) fn documents(
    images: &[Described],
    layers: &[Vec<Blob>],
    form: &ImageForm,
) -> Result<Vec<(Vec<u8>, Descriptor)>> {
    let unwritable = |error: serde_json::Error| SolveError::io("write", "the image's manifest")(error.into());
    let mut documents = Vec::new();
    for (image, layers) in images.iter().zip(layers) {
        let annotations = form.of_manifest(image.platform);
        let (bytes, mut descriptor) =
            manifest::manifest(form.types, form.compression, &image.config, layers, &annotations)
                .map_err(unwritable)?;
        descriptor.platform = Some(PlatformName::of(image.platform));
        documents.push((bytes, descriptor));
    }
    if images.len() > 1 {
        let list: Vec<Descriptor> = documents.iter().map(|(_, descriptor)| descriptor.clone()).collect();
        documents.push(manifest::index(form.types, &list, &form.of_index()).map_err(unwritable)?);
    }
    Ok(documents)
}

impl Images<'_> {
    /// Reads layers from the daemon and packs them, as far as that has not been done.
    pub(super) async fn pack(&mut self, compression: Compression, needed: &BTreeSet<String>) -> Result<()> {
        let folder = work_folder(&self.shared.plan.request).join(match compression {
            Compression::Gzip => "gzip",
            Compression::None => "tar",
        });
        self.pack_known(compression, needed, &folder).await?;
        for index in 0..self.list.len() {
            let image = &self.list[index];
            let is_missing =
                |diff: &String| needed.contains(diff) && !self.packed.contains_key(&(compression, diff.clone()));
            if !image.diff_ids.iter().any(is_missing) {
                continue;
            }
            let places = self.facts.places().iter();
            let known: HashMap<String, String> = places
                .filter(|(_, diff)| !is_missing(diff))
                .map(|(place, diff)| (place.clone(), diff.clone()))
                .collect();
            let (image, platform) = (image.image.clone(), image.platform);
            let mut into = Into { folder: folder.clone(), compression, known: Arc::new(known) };
            let saved = describe::save(self.shared, &image, platform, Some(into.clone())).await?;
            let mut complete = self.learn(compression, needed, saved);
            if !complete {
                // A place held another layer than it did before: all of them are read.
                into.known = Arc::default();
                let saved = describe::save(self.shared, &image, platform, Some(into)).await?;
                complete = self.learn(compression, needed, saved);
            }
            if !complete {
                tracing::warn!(%image, "the daemon's archive lacks layers");
            }
        }
        Ok(())
    }

    /// Packs the layers that are here already, as they are in an archive of files.
    async fn pack_known(&mut self, compression: Compression, needed: &BTreeSet<String>, folder: &Path) -> Result<()> {
        for diff in needed {
            let key = (compression, diff.clone());
            let plain = self.packed.get(&(Compression::None, diff.clone()));
            let Some((_, from)) = plain.filter(|_| !self.packed.contains_key(&key)) else { continue };
            let (from, to) = (from.clone(), folder.to_owned());
            let packing = tokio::task::spawn_blocking(move || saved::pack_file(&from, &to, compression));
            let (blob, path) = joined(packing.await).map_err(SolveError::io("write", folder))?;
            self.facts.learn_blob(compression, diff, &blob);
            self.packed.insert(key, (blob, path));
        }
        Ok(())
    }

    /// Remembers what an archive held; whether all that is needed of it is there.
    fn learn(&mut self, compression: Compression, needed: &BTreeSet<String>, saved: Saved) -> bool {
        let mut complete = true;
        for (diff, (place, file)) in saved.diff_ids.iter().zip(saved.layers) {
            self.facts.learn_place(&place, diff);
            // What was not asked for may be known under another digest, which others rely on.
            if !needed.contains(diff) {
                continue;
            }
            let key = (compression, diff.clone());
            if let Some((blob, path)) = file {
                self.facts.learn_blob(compression, diff, &blob);
                self.packed.insert(key, (blob, path));
            } else {
                complete &= self.packed.contains_key(&key);
            }
        }
        complete
    }

    /// The packed layers of an image. All of them have been packed.
    fn files_of(&self, image: &Described, compression: Compression) -> Result<Vec<(Blob, PathBuf)>> {
        image.diff_ids.iter().map(|diff| self.layer(compression, diff)).collect()
    }

    /// A packed layer.
    pub(super) fn layer(&self, compression: Compression, diff: &str) -> Result<(Blob, PathBuf)> {
        let found = self.packed.get(&(compression, diff.to_owned())).cloned();
        found.ok_or_else(|| {
            let problem = format!("the daemon's archive lacks the layer {diff}");
            SolveError::io("read", "the image")(io::Error::new(io::ErrorKind::NotFound, problem))
        })
    }

    /// All that a layout needs.
    pub(super) async fn layout(&mut self, form: &ImageForm, names: &[ImageName], docker: bool) -> Result<Layout> {
        let needed = self.list.iter().flat_map(|image| image.diff_ids.iter().cloned()).collect();
        self.pack(form.compression, &needed).await?;
        let mut parts = Vec::new();
        let mut layers = Vec::new();
        for image in &self.list {
            let files = self.files_of(image, form.compression)?;
            parts.push(Part { digest: image.id.clone(), bytes: Bytes::Here(image.config.clone()) });
            layers.push(files.iter().map(|(blob, _)| blob.clone()).collect::<Vec<_>>());
            parts.extend(
                files.into_iter().map(|(blob, path)| Part { digest: blob.digest, bytes: Bytes::File(path, blob.size) }),
            );
        }
        let documents = documents(&self.list, &layers, form)?;
        let root = documents.last().map(|(_, descriptor)| descriptor.clone()).ok_or(SolveError::Cancelled)?;
        let part =
            |(bytes, descriptor): (Vec<u8>, Descriptor)| Part { digest: descriptor.digest, bytes: Bytes::Here(bytes) };
        parts.extend(documents.into_iter().map(part));
        let docker = match (self.list.as_slice(), layers.first()) {
            ([only], Some(layers)) if docker => {
                Some((only.id.clone(), layers.iter().map(|blob| blob.digest.clone()).collect()))
            }
            _ => None,
        };
        Ok(Layout { parts, root, names: names.to_vec(), docker })
    }
}

async fn write_archive(images: &mut Images<'_>, archive: &ImageArchive) -> Result<(Exported, Descriptor)> {
    let layout = images.layout(&archive.form, &archive.names, archive.docker).await?;
    let root = layout.root.clone();
    let size = if archive.folder {
        let folder = archive.dest.clone();
        let writing =
            tokio::task::spawn_blocking(move || layout.write_folder(&folder).map_err(SolveError::io("write", folder)));
        joined(writing.await)?;
        None
    } else {
        written(&archive.dest, move |out| layout.write(out)).await?;
        let meta = fs_err::metadata(&archive.dest).map_err(SolveError::io("read", &archive.dest))?;
        Some(meta.len())
    };
    let name = archive.dest.display().to_string();
    Ok((Exported { kind: "archive", name, digest: Some(root.digest.clone()), size }, root))
}

/// Reads a tar stream into a file, entry by entry. `prefix` and times are as [`super::Rewrite`] says.
pub(crate) async fn spool(stream: ByteStream, file: PathBuf, rewrite: super::Rewrite) -> Result<u64> {
    let spooling = tokio::task::spawn_blocking(move || {
        let attempt = || {
            if let Some(folder) = file.parent() {
                fs_err::create_dir_all(folder)?;
            }
            let mut out = tar::Builder::new(io::BufWriter::new(fs_err::File::create(&file)?));
            let count = super::copy_files(StreamReader::new(stream), &rewrite, &mut out)?;
            out.into_inner()?.flush()?;
            Ok(count)
        };
        attempt().map_err(SolveError::io("write", &file))
    });
    joined(spooling.await)
}
