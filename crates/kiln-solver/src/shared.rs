//! What every task of a build shares: the engine, the plan, the way to report, and what has to be cleaned up.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiln_docker::{ContainerId, ContainerSpec, Engine, EngineError, Hold, ImageId, MountSpec, labels, toolbox};
use kiln_graph::{MissReason, Op, Platform, Source, VertexId};
use tokio::sync::mpsc::WeakSender;
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use crate::cancel::Cancel;
use crate::chain::Chains;
use crate::context::Context;
use crate::error::{Result, SolveError};
use crate::event::{BuildEvent, EventSender, Way};
use crate::failed::Kept;
use crate::keys::no_context;
use crate::network::Networks;
use crate::plan::{Action, Plan};
use crate::request::StepSettings;

/// Something that is made once, by whoever needs it first.
type Once<T> = Arc<OnceCell<T>>;

pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) plan: Plan,
    pub(crate) cancel: Cancel,
    /// Whoever runs the build holds the other end: what outlives it keeps no reporter waiting.
    events: WeakSender<BuildEvent>,
    /// Limits the steps that run at a time.
    pub(crate) permits: Semaphore,
    /// What must come to its end even if nobody waits for it any more: calls that make something on the daemon.
    pub(crate) tasks: TaskTracker,
    /// Every container that is made goes here; the dispatcher removes them all at the end.
    made: mpsc::UnboundedSender<ContainerId>,
    /// Volumes of single steps; they go when all containers are gone.
    pub(crate) volumes: Mutex<Vec<String>>,
    readers: Mutex<HashMap<(ImageId, Reader), Once<ContainerId>>>,
    scratch: Mutex<HashMap<Platform, Once<ImageId>>>,
    toolbox: OnceCell<String>,
    pub(crate) networks: Networks,
    pub(crate) chains: Chains,
    /// Vertices that are or may be committed: others stand on them, or somebody wants their checkpoints.
    committing: HashSet<VertexId>,
    /// Vertices that others copy or mount files from.
    sources: HashSet<VertexId>,
    /// Volumes with native programs, by the image they come from and the place they are seen at.
    pub(crate) twins: Mutex<HashMap<(ImageId, &'static str), Once<String>>>,
    pub(crate) emptied: tokio::sync::Mutex<HashSet<String>>,
    /// Cache volumes that begin with something, and have it.
    pub(crate) filled: tokio::sync::Mutex<HashSet<String>>,
    pub(crate) times: Mutex<HashMap<VertexId, StepTime>>,
    /// Images without stubs of vertices whose results have some.
    pub(crate) tidied: Mutex<HashMap<VertexId, Once<ImageId>>>,
    /// Vertices of which this build has made a checkpoint.
    pub(crate) committed: Mutex<BTreeSet<VertexId>>,
    /// The first command that failed, if it is to be kept.
    pub(crate) kept: Mutex<Option<Kept>>,
}

/// What a container that never runs is read for. The daemon locks a container while it sends an archive of it, so one
/// that answers questions in the middle of a transfer must not be the one that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reader {
    /// To copy files from.
    Files,
    /// To ask what is there.
    Questions,
}

/// Times of a step that ran.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepTime {
    /// From start to end.
    pub(crate) took: Duration,
    /// While the container ran.
    pub(crate) in_container: Duration,
    /// How a command ran at last; `Mixed` if it failed with native programs before.
    pub(crate) way: Option<Way>,
}

impl Shared {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        plan: Plan,
        events: &EventSender,
        cancel: Cancel,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<ContainerId>) {
        let (made, to_remove) = mpsc::unbounded_channel();
        let permits = Semaphore::new(plan.request.parallel.max(1));
        let runs = |id: &VertexId| matches!(plan.action(*id), Action::Run(_));
        let stand =
            plan.graph().iter().filter(|(id, _)| runs(id)).filter_map(|(_, vertex)| vertex.inputs.first().copied());
        let committing = stand.chain(plan.wanted()).collect();
        let can_serve = kiln_twin::program(engine.info().arch).is_some();
        let chains = if can_serve { Chains::new(&plan) } else { Chains::default() };
        let networks = Networks::new(&plan, &chains);
        let sources = plan.graph().iter().flat_map(|(_, vertex)| vertex.inputs.iter().skip(1).copied()).collect();
        let shared = Self {
            engine,
            plan,
            cancel,
            events: events.downgrade(),
            permits,
            tasks: TaskTracker::new(),
            made,
            volumes: Mutex::default(),
            readers: Mutex::default(),
            scratch: Mutex::default(),
            toolbox: OnceCell::new(),
            networks,
            chains,
            committing,
            sources,
            twins: Mutex::default(),
            emptied: tokio::sync::Mutex::default(),
            filled: tokio::sync::Mutex::default(),
            times: Mutex::default(),
            tidied: Mutex::default(),
            committed: Mutex::default(),
            kept: Mutex::default(),
        };
        (Arc::new(shared), to_remove)
    }

    /// Makes a container and remembers to remove it, also if the caller is dropped meanwhile.
    pub(crate) async fn create(&self, spec: ContainerSpec) -> Result<ContainerId> {
        let (engine, made, image) = (self.engine.clone(), self.made.clone(), spec.image.clone());
        let making = self.tasks.spawn(async move {
            let id = engine.create_container(&spec).await?;
            // The receiver lives as long as the build.
            let _ = made.send(id.clone());
            Ok(id)
        });
        match joined(making.await) {
            Err(error @ EngineError::NotFound { .. }) => Err(self.image_gone(&image, error)),
            made => Ok(made?),
        }
    }

    /// The error for an image that was there when the build was planned.
    fn image_gone(&self, image: &ImageId, source: EngineError) -> SolveError {
        let of = self.plan.graph().iter().find_map(|(id, vertex)| match (&vertex.op, self.plan.action(id)) {
            (_, Action::Cached(cached)) if cached == image => Some(format!("checkpoint of `{}`", vertex.origin().text)),
            (Op::Source(Source::Image { id, reference, .. }), _) if *id == image.0 => {
                Some(format!("image `{reference}`"))
            }
            _ => None,
        });
        match of {
            Some(what) => SolveError::ImageGone { what, source },
            None => source.into(),
        }
    }

    /// Remembers to remove a volume at the end of the build.
    pub(crate) fn note_volume(&self, name: &str) {
        lock(&self.volumes).push(name.to_owned());
    }

    pub(crate) fn labels(&self, role: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            (labels::BUILD.to_owned(), self.plan.request.id.clone()),
            (labels::OWNER.to_owned(), self.plan.request.owner.clone()),
            (labels::ROLE.to_owned(), role.to_owned()),
            (labels::SCOPE.to_owned(), self.plan.request.scope.clone()),
        ])
    }

    /// Whether a vertex's result may be committed while others read it.
    pub(crate) fn may_be_committed(&self, id: VertexId) -> bool {
        self.committing.contains(&id)
    }

    /// Whether files are copied out of a vertex's result.
    pub(crate) fn is_source(&self, id: VertexId) -> bool {
        self.sources.contains(&id)
    }

    pub(crate) fn reader(&self, image: &ImageId, reader: Reader) -> Once<ContainerId> {
        lock(&self.readers).entry((image.clone(), reader)).or_default().clone()
    }

    pub(crate) async fn scratch_image(&self, platform: Platform) -> Result<ImageId> {
        let cell = lock(&self.scratch).entry(platform).or_default().clone();
        let id = cell.get_or_try_init(|| kiln_docker::empty_image(self.engine.as_ref(), platform)).await?;
        Ok(id.clone())
    }

    /// The mount with kiln's own files, if a container of `platform` needs them.
    pub(crate) async fn toolbox(&self, platform: Platform) -> Result<Option<MountSpec>> {
        let tools = &self.plan.request.run.tools;
        if tools.is_empty() && !toolbox::wraps(self.engine.info().arch, platform.arch) {
            return Ok(None);
        }
        Ok(Some(toolbox::mount(&self.toolbox_volume().await?)))
    }

    pub(crate) async fn toolbox_volume(&self) -> kiln_docker::Result<String> {
        let tools = &self.plan.request.run.tools;
        self.toolbox.get_or_try_init(|| toolbox::ensure_toolbox(self.engine.as_ref(), tools)).await.cloned()
    }

    /// The settings of the groups that a vertex serves; those that hold are the first.
    pub(crate) fn settings(&self, id: VertexId) -> impl Iterator<Item = &StepSettings> {
        self.plan.groups[id.0].iter().map(|group| &self.plan.request.groups[*group].steps)
    }

    /// Whether nothing but file operations make a vertex, on top of nothing.
    pub(crate) fn is_from_nothing(&self, id: VertexId) -> bool {
        let mut vertex = self.plan.graph().vertex(id);
        while let (Op::File(_), Some(below)) = (&vertex.op, vertex.inputs.first()) {
            vertex = self.plan.graph().vertex(*below);
        }
        matches!(vertex.op, Op::Source(Source::Scratch))
    }

    /// Whether kiln's program is there for this daemon.
    pub(crate) fn has_program(&self) -> bool {
        kiln_twin::program(self.engine.info().arch).is_some()
    }

    /// Starts a container of kiln's that does nothing as long as the hold lives; `change` says what else it has.
    pub(crate) async fn holder(
        &self,
        role: &str,
        change: impl FnOnce(&mut ContainerSpec),
    ) -> Result<(ContainerId, Hold)> {
        let platform = Platform::linux(self.engine.info().arch);
        let image = self.scratch_image(platform).await?;
        let mut spec = ContainerSpec {
            argv: [kiln_twin::PROGRAM, "hold"].map(str::to_owned).into(),
            mounts: vec![toolbox::mount(&self.toolbox_volume().await?)],
            stdin: true,
            ..self.idle(image, platform, role)
        };
        change(&mut spec);
        let container = self.create(spec).await?;
        let hold = self.engine.hold(&container).await?;
        self.engine.start_container(&container).await?;
        Ok((container, hold))
    }

    pub(crate) fn context(&self, name: &str) -> Result<Arc<Context>> {
        self.plan.request.contexts.get(name).cloned().ok_or_else(|| no_context(name))
    }

    pub(crate) fn way(&self, platform: Platform) -> Way {
        let native = platform.arch.may_run_on(self.engine.info().arch);
        let guess = if native { Way::Native } else { Way::Qemu };
        self.plan.request.run.ways.get(&platform).copied().unwrap_or(guess)
    }

    pub(crate) async fn emit(&self, event: BuildEvent) {
        let Some(events) = self.events.upgrade() else { return };
        tokio::select! {
            biased;
            // A consumer that went away does not stop the build.
            _ = events.send(event) => {}
            // Nor does one that hangs keep a user waiting who has asked twice.
            () = self.cancel.killed() => {}
        }
    }

    pub(crate) async fn notice(&self, platform: Option<Platform>, text: impl Into<String>) {
        self.emit(BuildEvent::Notice { platform, text: text.into() }).await;
    }

    /// How a target's commands ran; where none has run, how they would.
    pub(crate) fn way_of(&self, root: VertexId, platform: Platform) -> Way {
        let times = lock(&self.times);
        let steps = self.plan.steps_of(root);
        let ways: Vec<Way> = steps.iter().filter_map(|id| times.get(id)?.way).collect();
        [Way::Mixed, Way::Twin].into_iter().find(|way| ways.contains(way)).unwrap_or_else(|| self.way(platform))
    }

    /// How a target's commands will run, as far as is known before.
    pub(crate) fn planned_way(&self, root: VertexId, platform: Platform) -> Way {
        let graph = self.plan.graph();
        let with_twin =
            |id: &VertexId| graph.vertex(*id).twin.is_some() && matches!(self.plan.action(*id), Action::Run(_));
        if self.plan.steps_of(root).iter().any(with_twin) { Way::Twin } else { self.way(platform) }
    }

    pub(crate) async fn step_started(&self, id: VertexId, way: Option<Way>) {
        let vertex = self.plan.graph().vertex(id);
        let platforms = self.plan.platforms[id.0].clone();
        let way = way.unwrap_or(Way::Native);
        let reason = match self.plan.action(id) {
            Action::Run(reason) => reason.clone(),
            _ => MissReason::NeverBuilt,
        };
        let origin = vertex.origin().clone();
        self.emit(BuildEvent::StepStarted { vertex: id, platforms, origin, reason, way }).await;
    }

    pub(crate) async fn step_failed(&self, id: VertexId, took: Duration) {
        let platforms = self.plan.platforms[id.0].clone();
        let origin = self.plan.graph().vertex(id).origin().clone();
        self.emit(BuildEvent::StepFailed { vertex: id, platforms, origin, took }).await;
    }

    pub(crate) async fn step_finished(&self, id: VertexId, took: Duration) {
        lock(&self.times).entry(id).or_default().took = took;
        let platforms = self.plan.platforms[id.0].clone();
        self.emit(BuildEvent::StepFinished { vertex: id, platforms, took }).await;
    }
}

/// The result of a task that nobody aborts; its panic goes on.
pub(crate) fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Locks without caring for a panic elsewhere: what is behind these locks is whole after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
