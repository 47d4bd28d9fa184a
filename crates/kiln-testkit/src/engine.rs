//! The fake engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use kiln_docker::{
    ByteStream, CommitSpec, Container, ContainerId, ContainerSpec, DaemonInfo, Engine, EngineError, ExitStatus, Hold,
    Image, ImageId, LogStream, PastStep, PathStat, PullPolicy, PullProgress, Result, StoreKind, TerminalSize, Volume,
    VolumeSource,
};
use kiln_graph::{Arch, ImageConfig, Platform};
use tokio::sync::{mpsc, watch};

use crate::containers::{FakeContainer, Outcome, State, Step};
use crate::files::Files;
use crate::serve::{is_server, until_stopped};
use crate::streams::{broken, collect, once};

type Script = Arc<dyn Fn(&mut Step<'_>) -> Outcome + Send + Sync>;
type Fault = Box<dyn FnOnce() -> EngineError + Send>;

/// A Docker engine in memory. Clones share one daemon.
#[derive(Clone)]
pub struct FakeEngine {
    info: Arc<DaemonInfo>,
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
pub(crate) struct World {
    images: BTreeMap<String, FakeImage>,
    /// What a registry has: reference and platform to image id.
    registry: BTreeMap<(String, Platform), String>,
    /// Names of images on the daemon.
    tags: BTreeMap<String, String>,
    containers: BTreeMap<String, FakeContainer>,
    pub(crate) volumes: BTreeMap<String, Files>,
    volume_labels: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) script: Option<Script>,
    faults: Vec<(String, Fault)>,
    calls: Vec<String>,
    /// Configurations of images that were loaded.
    loaded: Vec<Vec<u8>>,
    next: u64,
}

#[derive(Clone)]
struct FakeImage {
    image: Image,
    files: Files,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new(Arch::Amd64)
    }
}

impl FakeEngine {
    /// A daemon of an architecture with nothing in it. Commands succeed silently until [`FakeEngine::on_run`].
    pub fn new(arch: Arch) -> Self {
        let info = DaemonInfo {
            id: "FAKE".to_owned(),
            version: "28.0.0".to_owned(),
            api_version: "1.48".to_owned(),
            arch,
            cpus: 4,
            memory: 8 << 30,
            store: StoreKind::Classic,
            storage_driver: "overlay2".to_owned(),
            rootless: false,
            kernel: "6.12.0".to_owned(),
            name: "fake".to_owned(),
            host: "fake://".to_owned(),
        };
        Self { info: Arc::new(info), world: Arc::default() }
    }

    /// Puts an image into the registry and on the daemon. The same one again is the same.
    pub fn add_image(&self, reference: &str, platform: Platform, config: ImageConfig, files: Files) -> ImageId {
        let mut world = self.world();
        let known = world.registry.get(&(reference.to_owned(), platform)).and_then(|id| world.find(id));
        if let Some(known) = known.filter(|known| known.files == files && known.image.config == config) {
            return known.image.id;
        }
        let layers = vec![world.id("layer")];
        let id = world.add(platform, config, layers, files);
        world.registry.insert((reference.to_owned(), platform), id.0.clone());
        id
    }

    /// What containers do when they are started.
    pub fn on_run(&self, script: impl Fn(&mut Step<'_>) -> Outcome + Send + Sync + 'static) {
        self.world().script = Some(Arc::new(script));
    }

    /// Lets the next call whose line starts with `call` (`create`, `commit`, `upload`, ...) fail.
    pub fn fail_next(&self, call: &str, error: impl FnOnce() -> EngineError + Send + 'static) {
        self.world().faults.push((call.to_owned(), Box::new(error)));
    }

    /// The calls so far, one line each: a verb and its object.
    pub fn calls(&self) -> Vec<String> {
        self.world().calls.clone()
    }

    /// How many calls so far start with `call`.
    pub fn count(&self, call: &str) -> usize {
        self.world().calls.iter().filter(|line| line.starts_with(call)).count()
    }

    /// Forgets the calls so far.
    pub fn clear_calls(&self) {
        self.world().calls.clear();
    }

    /// How many containers there are, running or not.
    pub fn container_count(&self) -> usize {
        self.world().containers.len()
    }

    /// The files of an image.
    pub fn image_files(&self, id: &ImageId) -> Option<Files> {
        self.world().find(&id.0).map(|image| image.files)
    }

    /// The configurations of the images that were loaded, as JSON.
    pub fn loaded_configs(&self) -> Vec<Vec<u8>> {
        self.world().loaded.clone()
    }

    /// The files of a volume.
    pub fn volume_files(&self, name: &str) -> Option<Files> {
        self.world().volumes.get(name).cloned()
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call and fails it if a test wants that.
    fn call(&self, line: String) -> Result<MutexGuard<'_, World>> {
        let mut world = self.world();
        let fault = world.faults.iter().position(|(call, _)| line.starts_with(call.as_str()));
        world.calls.push(line);
        match fault.map(|at| world.faults.remove(at)) {
            Some((_, error)) => Err(error()),
            None => Ok(world),
        }
    }
}

impl World {
    fn id(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("sha256:{}", kiln_graph::Digest::of(format!("{kind} {}", self.next)))
    }

    fn add(&mut self, platform: Platform, config: ImageConfig, layers: Vec<String>, files: Files) -> ImageId {
        let id = ImageId(self.id("image"));
        let size = layers.len() as u64 * 1000;
        let image = Image {
            id: id.clone(),
            platform,
            labels: config.labels.clone(),
            config,
            size,
            created: i64::try_from(self.next).unwrap_or_default(),
            repo_digests: Vec::new(),
            tags: Vec::new(),
            layers,
            parent: None,
        };
        self.images.insert(id.0.clone(), FakeImage { image, files });
        id
    }

    fn find(&self, reference: &str) -> Option<FakeImage> {
        let id = self.tags.get(reference).map_or(reference, String::as_str);
        let mut found = self.images.get(id).cloned()?;
        found.image.tags = self.tags.iter().filter(|(_, tagged)| *tagged == id).map(|(name, _)| name.clone()).collect();
        Some(found)
    }

    pub(crate) fn container(&mut self, id: &ContainerId) -> Result<&mut FakeContainer> {
        let what = format!("container {id}");
        self.containers.get_mut(&id.0).ok_or(EngineError::NotFound { what })
    }
}

impl World {
    /// The file system that a path of a container lies in, and the path in it: a volume if one is mounted there.
    fn place(&mut self, id: &ContainerId, path: &str) -> Result<(&mut Files, String)> {
        let mounts = self.container(id)?.spec.mounts.clone();
        for mount in mounts {
            if let VolumeSource::Volume(name) = mount.source
                && let Some(rest) = path.strip_prefix(&mount.target)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                return Ok((self.volumes.entry(name).or_default(), format!("/{rest}")));
            }
        }
        Ok((&mut self.container(id)?.files, path.to_owned()))
    }
}

/// Whether labels have `name` or `name=value`.
fn labelled(labels: &BTreeMap<String, String>, label: &str) -> bool {
    match label.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|have| have == value),
        None => labels.contains_key(label),
    }
}

#[async_trait]
impl Engine for FakeEngine {
    fn info(&self) -> &DaemonInfo {
        &self.info
    }

    async fn resolve_image(
        &self,
        reference: &str,
        platform: Platform,
        policy: PullPolicy,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Image> {
        let world = self.call(format!("resolve {reference} {platform}"))?;
        let found = world.registry.get(&(reference.to_owned(), platform)).and_then(|id| world.find(id));
        let found = found.filter(|_| policy != PullPolicy::Never).map(|found| found.image);
        drop(world);
        let image = found.ok_or_else(|| EngineError::ImageNotFound {
            reference: reference.to_owned(),
            platform,
            message: "the fake registry does not have it".to_owned(),
        })?;
        progress(PullProgress { reference: reference.to_owned(), current: image.size, total: image.size });
        Ok(image)
    }

    async fn digest_now(&self, reference: &str) -> Option<String> {
        let world = self.call(format!("digest of {reference}")).ok()?;
        let mut found = world.registry.iter().filter(|((name, _), _)| name == reference);
        let image = found.find_map(|(_, id)| world.find(id))?.image;
        image.digest_for(reference).map(str::to_owned)
    }

    async fn inspect_image(&self, reference: &str) -> Result<Option<Image>> {
        Ok(self.call(format!("inspect {reference}"))?.find(reference).map(|found| found.image))
    }

    async fn images_with_label(&self, label: &str) -> Result<Vec<Image>> {
        let world = self.call(format!("images {label}"))?;
        let listed = world.images.keys().filter_map(|id| world.find(id)).map(|found| found.image);
        Ok(listed.filter(|image| labelled(&image.labels, label)).collect())
    }

    async fn images_named(&self, pattern: &str) -> Result<Vec<Image>> {
        let world = self.call(format!("images named {pattern}"))?;
        let start = pattern.trim_end_matches('*');
        let ids: std::collections::BTreeSet<&String> =
            world.tags.iter().filter(|(name, _)| name.starts_with(start)).map(|(_, id)| id).collect();
        Ok(ids.into_iter().filter_map(|id| world.find(id)).map(|found| found.image).collect())
    }

    async fn load_image(&self, archive: ByteStream, reference: &str) -> Result<ImageId> {
        drop(self.call(format!("load {reference}"))?);
        let bytes = collect(archive).await?;
        let platform = Platform::linux(self.info.arch);
        let mut world = self.world();
        let Some(loaded) = crate::archives::read(&bytes) else {
            let layers = vec![world.id("layer")];
            let id = world.add(platform, ImageConfig::default(), layers, Files::new());
            world.tags.insert(reference.to_owned(), id.0.clone());
            return Ok(id);
        };
        let mut files = Files::new();
        if let (Some((_, below)), Some(top)) = (loaded.layers.split_last(), &loaded.top) {
            let there = world.images.values().find(|image| image.image.layers == below);
            files = there.map(|image| image.files.clone()).unwrap_or_default();
            for (path, file) in Files::entries("/", top).map_err(|error| broken("loading", error))? {
                files.unpack(&path, file);
            }
        }
        let config = ImageConfig { labels: loaded.labels, ..ImageConfig::default() };
        let id = world.add(platform, config, loaded.layers, files);
        world.tags.insert(reference.to_owned(), id.0.clone());
        world.tags.extend(loaded.names.into_iter().map(|name| (name, id.0.clone())));
        world.loaded.push(loaded.config);
        Ok(id)
    }

    async fn save_image(&self, image: &ImageId) -> Result<ByteStream> {
        let found = self.call(format!("save {image}"))?.find(&image.0);
        let found = found.ok_or_else(|| EngineError::NotFound { what: format!("image {image}") })?;
        let bytes = crate::archives::save(&found.image).map_err(|error| broken("saving", error))?;
        Ok(once(bytes))
    }

    async fn image_history(&self, image: &ImageId) -> Result<Vec<PastStep>> {
        let found = self.call(format!("history {image}"))?.find(&image.0);
        let found = found.ok_or_else(|| EngineError::NotFound { what: format!("image {image}") })?;
        let step = |(index, _): (usize, &String)| PastStep {
            id: None,
            created: 978_307_200,
            created_by: format!("layer {index}"),
            comment: String::new(),
            size: 1000,
        };
        Ok(found.image.layers.iter().enumerate().map(step).collect())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let mut world = self.call(format!("rmi {reference}"))?;
        if world.tags.remove(reference).is_none() {
            let stands_on = |image: &FakeImage| image.image.parent.as_ref().is_some_and(|parent| parent.0 == reference);
            if world.containers.values().any(|container| container.spec.image.0 == reference)
                || world.images.values().any(stands_on)
            {
                return Err(EngineError::Conflict {
                    action: format!("removing image `{reference}`"),
                    message: "a container uses it, or an image stands on it".to_owned(),
                });
            }
            world.images.remove(reference);
            world.tags.retain(|_, id| id != reference);
        }
        Ok(())
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let mut world = self.call(format!("create {}", spec.argv.join(" ")))?;
        let files = world
            .find(&spec.image.0)
            .map(|found| found.files)
            .ok_or_else(|| EngineError::NotFound { what: format!("image {}", spec.image) })?;
        if let Some(name) = &spec.name
            && world.containers.values().any(|container| container.name == *name)
        {
            return Err(EngineError::Conflict {
                action: "creating a container".to_owned(),
                message: format!("the name {name} is in use"),
            });
        }
        // As a daemon does: a volume that is not there is made, without labels.
        for mount in &spec.mounts {
            if let VolumeSource::Volume(name) = &mount.source {
                world.volumes.entry(name.clone()).or_default();
                world.volume_labels.entry(name.clone()).or_default();
            }
        }
        let id = world.id("container").trim_start_matches("sha256:").to_owned();
        let container = FakeContainer {
            transfer: Arc::default(),
            name: spec.name.clone().unwrap_or_else(|| format!("fake-{}", world.next)),
            created: i64::try_from(world.next).unwrap_or_default(),
            spec: spec.clone(),
            files,
            readers: Vec::new(),
            state: watch::Sender::new(State::Created),
            stop: watch::Sender::new(None),
        };
        world.containers.insert(id.clone(), container);
        Ok(ContainerId(id))
    }

    async fn attach(&self, id: &ContainerId) -> Result<LogStream> {
        let mut world = self.call(format!("attach {id}"))?;
        let (sender, receiver) = mpsc::unbounded_channel();
        world.container(id)?.readers.push(sender);
        Ok(futures::stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|chunk| (chunk, receiver)))
            .boxed())
    }

    async fn hold(&self, id: &ContainerId) -> Result<Hold> {
        self.call(format!("hold {id}"))?.container(id)?;
        let (hold, sent) = Hold::new();
        tokio::spawn(self.clone().keep(id.clone(), sent));
        Ok(hold)
    }

    async fn resize(&self, id: &ContainerId, _: TerminalSize) -> Result<()> {
        self.call(format!("resize {id}")).map(|_| ())
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let mut world = self.call(format!("start {id}"))?;
        let container = world.container(id)?;
        if is_server(&container.spec) {
            container.state.send_replace(State::Running);
            tokio::spawn(until_stopped(container.state.clone(), container.stop.subscribe()));
            return Ok(());
        }
        let script = world.script.clone();
        let mut volumes = std::mem::take(&mut world.volumes);
        let started = world.container(id).map(|container| {
            let spec = container.spec.clone();
            let mut step = Step { spec: &spec, files: &mut container.files, volumes: &mut volumes };
            let outcome = script.map_or_else(Outcome::default, |script| script(&mut step));
            container.state.send_replace(State::Running);
            let readers = std::mem::take(&mut container.readers);
            (outcome, readers, container.state.clone(), container.stop.subscribe())
        });
        world.volumes = volumes;
        let (outcome, readers, state, mut stop) = started?;
        // Ends by itself, or when the container is stopped or removed.
        tokio::spawn(async move {
            for chunk in outcome.output {
                for reader in &readers {
                    let _gone = reader.send(Ok(chunk.clone()));
                }
            }
            let exit = tokio::select! {
                () = tokio::time::sleep(outcome.takes) => outcome.exit,
                code = stop.wait_for(Option::is_some) => {
                    ExitStatus { code: code.ok().and_then(|code| *code).unwrap_or(137), oom: false }
                }
            };
            state.send_replace(State::Ended(exit));
        });
        Ok(())
    }

    async fn written(&self, id: &ContainerId) -> Result<u64> {
        // What is small is all that it holds.
        self.call(format!("measure {id}"))?.container(id).map(|_| 0)
    }

    async fn wait_container(&self, id: &ContainerId) -> Result<ExitStatus> {
        let mut state = self.call(format!("wait {id}"))?.container(id)?.state.subscribe();
        let ended = state.wait_for(|state| matches!(state, State::Ended(_))).await.map(|state| *state);
        match ended {
            Ok(State::Ended(exit)) => Ok(exit),
            _ => Err(EngineError::NotFound { what: format!("container {id}") }),
        }
    }

    async fn stop_container(&self, id: &ContainerId, grace_seconds: u32) -> Result<()> {
        let mut world = self.call(format!("stop {id} {grace_seconds}"))?;
        world.container(id)?.stop.send_replace(Some(143));
        Ok(())
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let removed = self.call(format!("rm {id}"))?.containers.remove(&id.0);
        if let Some(container) = removed {
            container.stop.send_replace(Some(137));
        }
        Ok(())
    }

    async fn containers_with_label(&self, label: &str) -> Result<Vec<Container>> {
        let world = self.call(format!("containers {label}"))?;
        let listed = world.containers.iter().filter(|(_, container)| labelled(&container.spec.labels, label));
        Ok(listed
            .map(|(id, container)| Container {
                id: ContainerId(id.clone()),
                name: container.name.clone(),
                labels: container.spec.labels.clone(),
                running: *container.state.borrow() == State::Running,
                created: container.created,
            })
            .collect())
    }

    async fn upload(&self, id: &ContainerId, path: &str, archive: ByteStream) -> Result<()> {
        let transfer = self.call(format!("upload {id} {path}"))?.container(id)?.transfer.clone();
        let _busy = transfer.lock().await;
        let bytes = collect(archive).await?;
        let mut world = self.world();
        let (files, inner) = world.place(id, path)?;
        if files.get(&inner).is_none() {
            return Err(EngineError::NotFound { what: format!("`{path}` of container {id}") });
        }
        // What lies below a mount point goes into the volume.
        for (path, file) in Files::entries(path, &bytes).map_err(|error| broken("uploading", error))? {
            let (files, inner) = world.place(id, &path)?;
            files.unpack(&inner, file);
        }
        Ok(())
    }

    async fn download(&self, id: &ContainerId, path: &str) -> Result<ByteStream> {
        let transfer = self.call(format!("download {id} {path}"))?.container(id)?.transfer.clone();
        let busy = transfer.lock_owned().await;
        let mut world = self.world();
        let (files, inner) = world.place(id, path)?;
        let real = files.follow(&inner, inner.ends_with('/')).unwrap_or_default();
        let packed = files.pack(&real).map_err(|error| broken("downloading", error))?;
        let packed = packed.ok_or_else(|| EngineError::NotFound { what: format!("`{path}` of container {id}") })?;
        let chunks: Vec<Bytes> = packed.chunks(4096).map(Bytes::copy_from_slice).collect();
        // The container is locked for as long as the reader takes.
        Ok(futures::stream::iter(chunks)
            .map(move |chunk| {
                let _busy = &busy;
                Ok(chunk)
            })
            .boxed())
    }

    async fn export(&self, id: &ContainerId) -> Result<ByteStream> {
        let mut world = self.call(format!("export {id}"))?;
        let packed = world.container(id)?.files.pack("/").map_err(|error| broken("exporting", error))?;
        Ok(once(packed.unwrap_or_default()))
    }

    async fn stat(&self, id: &ContainerId, path: &str) -> Result<Option<PathStat>> {
        let transfer = self.call(format!("stat {id} {path}"))?.container(id)?.transfer.clone();
        let _idle = transfer.lock().await;
        let mut world = self.world();
        let (files, inner) = world.place(id, path)?;
        Ok(files.stat(&inner))
    }

    async fn commit(&self, id: &ContainerId, spec: &CommitSpec) -> Result<ImageId> {
        let mut world = self.call(format!("commit {id}"))?;
        let container = world.container(id)?;
        let (parent, files) = (container.spec.image.0.clone(), container.files.clone());
        let Some(parent) = world.find(&parent) else {
            return Err(EngineError::NotFound { what: format!("image {parent}") });
        };
        let layer = world.id("layer");
        let layers = parent.image.layers.iter().cloned().chain([layer]).collect();
        let config = ImageConfig { labels: spec.labels.clone(), ..spec.config.clone() };
        let made = world.add(parent.image.platform, config, layers, files);
        if let Some(made) = world.images.get_mut(&made.0) {
            made.image.parent = Some(parent.image.id);
        }
        if let Some((repository, tag)) = &spec.name {
            world.tags.insert(format!("{repository}:{tag}"), made.0.clone());
        }
        Ok(made)
    }

    async fn ensure_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let mut world = self.call(format!("volume {name}"))?;
        world.volumes.entry(name.to_owned()).or_default();
        world.volume_labels.entry(name.to_owned()).or_insert_with(|| labels.clone());
        Ok(())
    }

    async fn ensure_memory_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        self.ensure_volume(name, labels).await
    }

    async fn volumes_with_label(&self, label: &str, with_size: bool) -> Result<Vec<Volume>> {
        let world = self.call(format!("volumes {label}"))?;
        let listed = world.volume_labels.iter().filter(|(_, labels)| labelled(labels, label));
        Ok(listed
            .map(|(name, labels)| {
                let files = world.volumes.get(name);
                let sizes = files.iter().flat_map(|files| files.paths()).filter_map(|path| files?.get(&path));
                let size: u64 = sizes.map(|file| file.bytes.len() as u64).sum();
                Volume {
                    name: name.clone(),
                    labels: labels.clone(),
                    size: with_size.then_some(size),
                    users: with_size.then_some(0),
                    created: None,
                }
            })
            .collect())
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        let mut world = self.call(format!("volume-rm {name}"))?;
        let holds = |container: &FakeContainer| {
            container.spec.mounts.iter().any(|mount| mount.source == VolumeSource::Volume(name.to_owned()))
        };
        if world.containers.values().any(holds) {
            return Err(EngineError::Conflict {
                action: format!("removing volume {name}"),
                message: "a container holds it".to_owned(),
            });
        }
        world.volumes.remove(name);
        world.volume_labels.remove(name);
        Ok(())
    }
}
