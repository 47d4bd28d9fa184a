//! File systems as vertices leave them, made real only as far as somebody needs them.
//!
//! A command leaves a stopped container; it is committed when something stands on it. File operations are kept as a
//! list and applied to the next container that is made from what is below them. So a changed source file costs one
//! container: made from the last checkpoint, filled, run, and read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kiln_docker::{CommitSpec, ContainerId, ContainerSpec, ImageId, labels};
use kiln_graph::{FileOp, ImageConfig, Op, Platform, VertexId};
use tokio::sync::OnceCell;
use tokio::try_join;

use crate::archive::{self, Apply, ApplyError, CopySource, Place, Remote, Use};
use crate::bulk::Bulk;
use crate::chain::Live;
use crate::error::{Result, SolveError};
use crate::image::COMMENT_LENGTH;
use crate::plan::Plan;
use crate::shared::{Reader, Shared, joined, lock};
use crate::stubs::{Points, Stubs};

/// The result of a vertex.
#[derive(Clone)]
pub(crate) enum Snapshot {
    /// Nothing.
    Scratch(Platform),
    /// An image on the daemon.
    Image(ImageId, Platform),
    /// A folder of the client.
    Local(String),
    /// What a command left.
    Step(Arc<Made>),
    /// File operations that wait for a container.
    Pending(Arc<Pending>),
}

/// A container whose file system is a vertex's result.
pub(crate) struct Made {
    pub(crate) vertex: VertexId,
    pub(crate) container: ContainerId,
    pub(crate) platform: Platform,
    /// Mount points in it that are no part of the result.
    stubs: Arc<Stubs>,
    /// What is mounted in it. The daemon mounts that for a reader, too.
    mounted: Vec<String>,
    /// Whether it was made by a command.
    has_run: bool,
    /// Whether reading it would show what is mounted instead of its own files.
    covered: bool,
    image: OnceCell<ImageId>,
    /// Its container, if that waits for the next command.
    pub(crate) live: Mutex<Option<Live>>,
    /// How long the commands ran that made its files since the last checkpoint.
    pub(crate) spent: Duration,
}

impl Made {
    fn new(vertex: VertexId, container: ContainerId, platform: Platform, stubs: Arc<Stubs>) -> Self {
        let (mounted, image) = (Vec::new(), OnceCell::new());
        Self {
            vertex,
            container,
            platform,
            stubs,
            mounted,
            has_run: false,
            covered: false,
            image,
            live: Mutex::default(),
            spent: Duration::ZERO,
        }
    }

    /// The container of a command, with its mount points.
    pub(crate) fn by_command(vertex: VertexId, container: ContainerId, platform: Platform, points: Points) -> Self {
        let Points { stubs, mounted, covers } = points;
        Self { mounted, covered: covers, has_run: true, ..Self::new(vertex, container, platform, Arc::new(stubs)) }
    }

    /// The same, with a container that waits for the next command.
    pub(crate) fn with_live(self, live: Option<Live>, spent: Duration) -> Self {
        Self { live: Mutex::new(live), spent, ..self }
    }
}

/// File operations on top of another snapshot.
pub(crate) struct Pending {
    pub(crate) vertex: VertexId,
    pub(crate) below: Snapshot,
    /// Results of the vertex's inputs, by index.
    pub(crate) inputs: Vec<Snapshot>,
    /// How it is made, if it copies much.
    bulk: Option<Bulk>,
    laid: OnceCell<ImageId>,
    made: OnceCell<Arc<Made>>,
}

impl Pending {
    pub(crate) fn new(plan: &Plan, vertex: VertexId, inputs: Vec<Snapshot>) -> Self {
        let bulk = plan.bulk.get(&vertex).cloned();
        let below = match (&bulk, inputs[0].platform()) {
            (Some(Bulk::Patch { image, .. }), Some(platform)) => Snapshot::Image(image.clone(), platform),
            _ => inputs[0].clone(),
        };
        Self { vertex, below, inputs, bulk, laid: OnceCell::new(), made: OnceCell::new() }
    }

    /// Whether its result is worth a checkpoint.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self.bulk, Some(Bulk::Keep))
    }

    /// Whether a container has it already.
    pub(crate) fn is_made(&self) -> bool {
        self.made.initialized()
    }
}

impl Snapshot {
    fn platform(&self) -> Option<Platform> {
        match self {
            Self::Scratch(platform) | Self::Image(_, platform) => Some(*platform),
            Self::Local(_) => None,
            Self::Step(made) => Some(made.platform),
            Self::Pending(pending) => pending.below.platform(),
        }
    }

    /// Splits off the file operations on top, lowest first.
    pub(crate) fn split(&self) -> (Self, Vec<Arc<Pending>>) {
        let mut operations = Vec::new();
        let mut at = self.clone();
        while let Self::Pending(pending) = at {
            at = pending.below.clone();
            operations.push(pending);
        }
        operations.reverse();
        (at, operations)
    }
}

impl Shared {
    /// What a container has to be made of, and the file operations on top: large copies below are committed.
    pub(crate) async fn base_of(self: &Arc<Self>, snapshot: &Snapshot) -> Result<(Snapshot, Vec<Arc<Pending>>)> {
        let (base, mut operations) = snapshot.split();
        let Some(at) = operations.iter().rposition(|pending| pending.is_kept()) else { return Ok((base, operations)) };
        let rest = operations.split_off(at + 1);
        let kept = Snapshot::Pending(operations[at].clone());
        let image = self.image_of(&kept).await?;
        Ok((Snapshot::Image(image, self.platform_of(&kept)), rest))
    }

    /// The platform of containers that hold this snapshot.
    pub(crate) fn platform_of(&self, snapshot: &Snapshot) -> Platform {
        snapshot.platform().unwrap_or(Platform::linux(self.engine.info().arch))
    }

    /// Mount points in a snapshot that are no part of it.
    pub(crate) fn stubs_of(&self, snapshot: &Snapshot) -> Arc<Stubs> {
        match snapshot {
            Snapshot::Image(id, _) => self.plan.stubs.get(id).cloned().unwrap_or_default(),
            Snapshot::Step(made) => made.stubs.clone(),
            Snapshot::Pending(pending) => {
                let below = self.stubs_of(&pending.below);
                match &self.plan.graph().vertex(pending.vertex).op {
                    Op::File(op) => Arc::new(below.after(op)),
                    _ => below,
                }
            }
            Snapshot::Scratch(_) | Snapshot::Local(_) => Arc::default(),
        }
    }

    /// Where a copy of a snapshot reads from.
    pub(crate) async fn source_of(self: &Arc<Self>, snapshot: &Snapshot) -> Result<CopySource> {
        Ok(match snapshot {
            Snapshot::Local(name) => CopySource::Context(self.context(name)?),
            Snapshot::Step(made) if !made.covered => {
                self.settle(made).await?;
                let stubs = made.stubs.in_container(&made.mounted, made.has_run);
                CopySource::Container(made.container.clone(), Arc::new(stubs))
            }
            other => {
                let mut stubs = self.stubs_of(other);
                if matches!(other.split().0, Snapshot::Scratch(_)) {
                    stubs = Arc::new(stubs.made_of_nothing());
                }
                CopySource::Container(self.container_of(other).await?, stubs)
            }
        })
    }

    /// An image with the snapshot's content.
    pub(crate) fn image_of<'a>(
        self: &'a Arc<Self>,
        snapshot: &'a Snapshot,
    ) -> futures::future::BoxFuture<'a, Result<ImageId>> {
        Box::pin(async move {
            match snapshot {
                Snapshot::Image(id, _) => Ok(id.clone()),
                Snapshot::Scratch(platform) => self.scratch_image(*platform).await,
                Snapshot::Local(name) => {
                    let problem = format!("the context `{name}` cannot be a base");
                    Err(SolveError::Unsupported { origin: Box::default(), what: problem })
                }
                Snapshot::Step(made) => self.commit(made).await,
                Snapshot::Pending(pending) if self.is_laid(pending) => {
                    pending.laid.get_or_try_init(|| self.lay(pending)).await.cloned()
                }
                Snapshot::Pending(pending) => {
                    let made = self.make(pending).await?;
                    self.commit(&made).await
                }
            }
        })
    }

    /// A container, running or not, that holds the snapshot's files.
    pub(crate) fn container_of<'a>(
        self: &'a Arc<Self>,
        snapshot: &'a Snapshot,
    ) -> futures::future::BoxFuture<'a, Result<ContainerId>> {
        Box::pin(self.container_of_unboxed(snapshot))
    }

    async fn container_of_unboxed(self: &Arc<Self>, snapshot: &Snapshot) -> Result<ContainerId> {
        match snapshot {
            Snapshot::Step(made) if made.covered => {
                let image = self.commit(made).await?;
                self.reader_of(&image, made.platform, Reader::Files).await
            }
            Snapshot::Step(made) => {
                self.settle(made).await?;
                Ok(made.container.clone())
            }
            Snapshot::Pending(pending) if !self.is_laid(pending) => {
                let made = self.make(pending).await?;
                self.settle(&made).await?;
                Ok(made.container.clone())
            }
            Snapshot::Image(..) | Snapshot::Scratch(_) | Snapshot::Local(_) | Snapshot::Pending(_) => {
                let image = self.image_of(snapshot).await?;
                self.reader_of(&image, self.platform_of(snapshot), Reader::Files).await
            }
        }
    }

    /// A container that is never started, to read an image's files from.
    pub(crate) async fn reader_of(&self, image: &ImageId, platform: Platform, reader: Reader) -> Result<ContainerId> {
        let cell = self.reader(image, reader);
        let id = cell.get_or_try_init(|| self.idle_container(image.clone(), platform, "copy")).await?;
        Ok(id.clone())
    }

    /// Commits what will be committed anyway, before anybody reads its container: the daemon works with a folder of its own
    /// in a container that it reads for somebody (`.pivot_root`), and that would be in the commit.
    async fn settle(self: &Arc<Self>, made: &Arc<Made>) -> Result<()> {
        if self.may_be_committed(made.vertex) {
            self.commit(made).await?;
        }
        Ok(())
    }

    /// Commits a container as the checkpoint of its vertex, once. A commit that has begun comes to its end even if the
    /// caller is dropped: the container must not be removed under it.
    pub(crate) async fn commit(self: &Arc<Self>, made: &Arc<Made>) -> Result<ImageId> {
        let commit = || async {
            let spec = self.checkpoint(made.vertex, made.platform, &made.stubs);
            let committed = self.commit_as(&made.container, spec).await;
            let image = committed.map_err(|source| SolveError::StepEngine {
                origin: Box::new(self.plan.graph().vertex(made.vertex).origin().clone()),
                platform: made.platform,
                source,
            })?;
            lock(&self.committed).insert(made.vertex);
            Ok(image)
        };
        made.image.get_or_try_init(commit).await.cloned()
    }

    /// How the checkpoint of a vertex is committed.
    pub(crate) fn checkpoint(&self, vertex: VertexId, platform: Platform, stubs: &Stubs) -> CommitSpec {
        let text = &self.plan.graph().vertex(vertex).origin().text;
        let took = lock(&self.times).get(&vertex).map_or(0, |time| time.took.as_millis());
        let labels = BTreeMap::from([
            (labels::VERSION.to_owned(), labels::CURRENT_VERSION.to_owned()),
            (labels::KEY.to_owned(), self.plan.key(vertex).to_string()),
            (labels::STEP.to_owned(), short(text, 200)),
            (labels::TOOK.to_owned(), took.to_string()),
            (labels::PLATFORM.to_owned(), platform.to_string()),
            (labels::SCOPE.to_owned(), self.plan.request.scope.clone()),
        ]);
        let labels = labels.into_iter().chain([stubs.label()]).collect();
        CommitSpec { config: ImageConfig::default(), labels, comment: short(text, COMMENT_LENGTH), name: None }
    }

    pub(crate) async fn commit_as(&self, container: &ContainerId, spec: CommitSpec) -> kiln_docker::Result<ImageId> {
        let (engine, container) = (self.engine.clone(), container.clone());
        joined(self.tasks.spawn(async move { engine.commit(&container, &spec).await }).await)
    }

    /// Commits a snapshot, which is the result of `vertex`, as the image that a user asked for.
    pub(crate) async fn commit_target(
        self: &Arc<Self>,
        vertex: VertexId,
        snapshot: &Snapshot,
        platform: Platform,
        spec: CommitSpec,
    ) -> Result<ImageId> {
        let (base, operations) = snapshot.split();
        let container = match &base {
            _ if !self.stubs_of(snapshot).is_empty() && self.can_tidy() => {
                let image = self.clean_image_of(vertex, snapshot).await?;
                self.idle_container(image, platform, "copy").await?
            }
            Snapshot::Step(made) if operations.is_empty() => made.container.clone(),
            // One chain of files on nothing serves several platforms; an image says which it is for.
            Snapshot::Scratch(_) => self.filled(&Snapshot::Scratch(platform), platform, &operations).await?,
            _ => self.container_of(snapshot).await?,
        };
        Ok(self.commit_as(&container, spec).await?)
    }

    /// A container with file operations applied to what is below them.
    async fn make(self: &Arc<Self>, pending: &Arc<Pending>) -> Result<Arc<Made>> {
        let make = || async {
            let snapshot = Snapshot::Pending(pending.clone());
            let (base, operations) = snapshot.split();
            let platform = self.platform_of(&base);
            let container = self.filled(&base, platform, &operations).await?;
            Ok(Arc::new(Made::new(pending.vertex, container, platform, self.stubs_of(&snapshot))))
        };
        pending.made.get_or_try_init(make).await.cloned()
    }

    /// A container that holds `base` with operations on top.
    pub(crate) async fn filled(
        self: &Arc<Self>,
        base: &Snapshot,
        platform: Platform,
        operations: &[Arc<Pending>],
    ) -> Result<ContainerId> {
        let image = self.image_of(base).await?;
        let making = self.idle_container(image.clone(), platform, "copy");
        let (container, place) = try_join!(making, self.place(base, &image, platform, operations))?;
        self.apply(&container, place, platform, &[], operations).await?;
        Ok(container)
    }

    /// A container that is never started.
    async fn idle_container(&self, image: ImageId, platform: Platform, role: &str) -> Result<ContainerId> {
        self.create(self.idle(image, platform, role)).await
    }

    /// How a container that is never started is made.
    pub(crate) fn idle(&self, image: ImageId, platform: Platform, role: &str) -> ContainerSpec {
        ContainerSpec::idle(image, platform, self.labels(role))
    }

    /// What tells which files a container that is made of `image` has, before `operations` are unpacked into it. The daemon
    /// locks a container while it unpacks into it, so that is another one: the one that `base` was committed from, if
    /// nothing is mounted in it and nobody copies from it, which would lock it, too.
    pub(crate) async fn place(
        self: &Arc<Self>,
        base: &Snapshot,
        image: &ImageId,
        platform: Platform,
        operations: &[Arc<Pending>],
    ) -> Result<Place> {
        if operations.is_empty() {
            return Ok(Place::EmptyFolder);
        }
        match base {
            Snapshot::Step(made)
                if made.mounted.is_empty() && !self.is_source(made.vertex) && !self.chains.is_followed(made.vertex) =>
            {
                Ok(Place::Container(made.container.clone()))
            }
            _ => Ok(Place::Container(self.reader_of(image, platform, Reader::Questions).await?)),
        }
    }

    /// Unpacks file operations into a container of which `place` tells what is in it; none if that would write into one of
    /// its `mounts`, else the folders above them that were unpacked.
    pub(crate) async fn apply(
        self: &Arc<Self>,
        container: &ContainerId,
        place: Place,
        platform: Platform,
        mounts: &[String],
        operations: &[Arc<Pending>],
    ) -> Result<Option<Vec<String>>> {
        if operations.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let started = Instant::now();
        // The sources may take steps of their own, so they come before the clock of this one is shown.
        let apply = self.resolve(operations).await?;
        let transfer = self.transfer(container, "/", place, mounts.to_vec(), apply);
        self.told(operations, platform, started, transfer).await
    }

    /// Does what makes the results of file operations, and tells of it. If nothing comes of it, it is done again in another
    /// way, and is told then.
    pub(crate) async fn told<T>(
        &self,
        operations: &[Arc<Pending>],
        platform: Platform,
        started: Instant,
        work: impl Future<Output = Result<Option<T>>>,
    ) -> Result<Option<T>> {
        for pending in operations {
            self.step_started(pending.vertex, None).await;
        }
        let done = work.await;
        for pending in operations {
            match &done {
                Ok(Some(_)) => self.step_finished(pending.vertex, started.elapsed()).await,
                Ok(None) => {}
                Err(_) => self.step_failed(pending.vertex, started.elapsed()).await,
            }
        }
        done.map_err(|error| match (error, operations.last()) {
            (SolveError::Engine(source), Some(last)) => {
                let origin = Box::new(self.plan.graph().vertex(last.vertex).origin().clone());
                SolveError::StepEngine { origin, platform, source }
            }
            (error, _) => error,
        })
    }

    /// Unpacks operations into a folder of a container, of which `place` tells what is there; as [`Self::apply`] answers.
    pub(crate) async fn transfer(
        &self,
        container: &ContainerId,
        folder: &str,
        place: Place,
        mounts: Vec<String>,
        apply: Vec<Apply>,
    ) -> Result<Option<Vec<String>>> {
        let (writer, stream) = archive::writer();
        let remote = Remote::new(self.engine.clone());
        let writing = self.tasks.spawn_blocking(move || {
            let (mut writer, above) = archive::apply(&remote, &place, &mounts, &apply, (writer, Use::Unpack))?;
            std::io::Write::flush(&mut writer)
                .and_then(|()| writer.finish())
                .map(|()| above)
                .map_err(SolveError::io("write", "the archive"))
                .map_err(ApplyError::from)
        });
        let upload = self.engine.upload(container, folder, stream).await;
        match (joined(writing.await), upload) {
            (Err(ApplyError::Mounted), _) => Ok(None),
            // A broken pipe on our side is only the shadow of the daemon's error.
            (Err(ApplyError::Failed(error)), Err(upload)) if error.is_broken_pipe() => Err(upload.into()),
            (Err(ApplyError::Failed(error)), _) => Err(error),
            (Ok(above), upload) => Ok(upload.map(|()| Some(above))?),
        }
    }

    /// The operations with their sources looked up.
    pub(crate) async fn resolve(self: &Arc<Self>, operations: &[Arc<Pending>]) -> Result<Vec<Apply>> {
        let mut resolved = Vec::new();
        for pending in operations {
            let vertex = self.plan.graph().vertex(pending.vertex);
            let Op::File(op) = &vertex.op else { continue };
            let mut sources = HashMap::new();
            for index in used_inputs(op) {
                sources.insert(index, self.source_of(&pending.inputs[index]).await?);
            }
            let only = match &pending.bulk {
                Some(Bulk::Patch { only, .. }) => Some(only.clone()),
                _ => None,
            };
            resolved.push(Apply { op: op.clone(), sources, whole: false, only, origin: vertex.origin().clone() });
        }
        Ok(resolved)
    }
}

fn used_inputs(op: &FileOp) -> impl Iterator<Item = usize> + '_ {
    op.actions.iter().filter_map(|action| match action {
        kiln_graph::FileAction::Copy(copy) => Some(copy.input),
        _ => None,
    })
}

/// The text, cut to `most` characters.
fn short(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
