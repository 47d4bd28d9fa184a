//! The dispatcher: it alone owns the mutable state of a build. Tasks run steps and finish targets, and tell it how they
//! ended; it decides what may start next.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_docker::{Engine, ImageId};
use kiln_graph::{Op, Source, Twin, Vertex, VertexId};
use tokio::task::JoinSet;

use crate::arrival::Arrival;
use crate::cancel::Cancel;
use crate::error::{Result, SolveError};
use crate::event::{BuildEvent, EventSender, PlannedTarget};
use crate::failed::Failed;
use crate::finish::Finished;
use crate::image::{self, Made, Published};
use crate::plan::{Action, Plan};
use crate::record::{BuiltTarget, Placed};
use crate::removal::{remove_all, settle};
use crate::report::{StepReport, TargetReport};
use crate::request::Output;
use crate::shared::{Shared, lock};
use crate::snapshot::{Pending, Snapshot};
use crate::{finish, step, twin};

/// How a build ended.
pub struct BuildOutcome {
    /// Per target of the graph, in its order.
    pub targets: Vec<Result<TargetReport>>,
    /// Wall time of planning's end to the last clean-up.
    pub took: Duration,
    /// Per group: what was made of its targets together; none if that was not asked for, or one of them failed.
    pub published: Vec<Option<Result<Published>>>,
    /// Checkpoints that newer ones of this build have replaced, later steps first: see [`crate::remove_replaced`].
    pub replaced: Vec<ImageId>,
    /// How long the steps took that ran, by key.
    pub times: HashMap<String, Duration>,
    /// Problems that did not fail the build: state that could not be saved, a container that would not go.
    pub warnings: Vec<String>,
    /// The first command that failed, if [`keep_failed`](crate::BuildRequest::keep_failed) asked for it: to be closed.
    pub failed: Option<Failed>,
}

/// Runs a planned build to its end, whatever that is. All its containers are gone afterwards, or when what failed is closed.
pub async fn run(engine: Arc<dyn Engine>, plan: Plan, events: EventSender, cancel: Cancel) -> BuildOutcome {
    let started = Instant::now();
    let mut plan = Box::new(plan);
    loop {
        match attempt(&engine, *plan, (&events, &cancel), started).await {
            Ok(outcome) => return outcome,
            Err(other) => plan = other,
        }
    }
}

/// Runs a planned build. If a checkpoint that it counts on does not arrive, another plan has to be run.
async fn attempt(
    engine: &Arc<dyn Engine>,
    plan: Plan,
    (events, cancel): (&EventSender, &Cancel),
    started: Instant,
) -> Result<BuildOutcome, Box<Plan>> {
    let (shared, made) = Shared::new(engine.clone(), plan, events, cancel.child());
    let mut dispatcher = Dispatcher::new(shared.clone(), started);
    dispatcher.announce().await;
    dispatcher.run().await;
    // Nothing of it outlives the build: whoever goes on with the daemon finds it still.
    shared.plan.arrived().await;
    let mut problem = None;
    if dispatcher.needs_other_plan() && !cancel.is_stopped() {
        match Plan::make(engine, shared.plan.request.clone()).await {
            Ok(other) => {
                // What is finished is not made again.
                let _ = dispatcher.save();
                settle(&shared).await;
                remove_all(&shared, made).await;
                return Err(Box::new(other));
            }
            Err(error) => problem = Some(error),
        }
    }
    dispatcher.end(problem).await;
    let published = dispatcher.publish().await;
    if let Err(error) = dispatcher.save() {
        dispatcher.warnings.push(format!("{error}: the next build will not know what this one did"));
    }
    let (targets, mut warnings) = dispatcher.into_outcome();
    settle(&shared).await;
    let kept = lock(&shared.kept).take();
    let failed = if let Some(kept) = kept {
        Some(Failed::new(shared.clone(), made, kept))
    } else {
        warnings.extend(remove_all(&shared, made).await);
        None
    };
    if shared.plan.request.groups.iter().any(|group| !group.exports.list.is_empty()) {
        image::sweep(&shared.plan.request);
    }
    let committed = std::mem::take(&mut *lock(&shared.committed));
    let replaced = committed.iter().rev().flat_map(|id| shared.plan.known(*id)).cloned().collect();
    let times = lock(&shared.times).iter().map(|(id, time)| (shared.plan.key(*id).to_string(), time.took)).collect();
    Ok(BuildOutcome { targets, took: started.elapsed(), published, replaced, times, warnings, failed })
}

enum Ended {
    Step(VertexId, Result<Snapshot>),
    Target(usize, Result<Finished>),
    /// A commit that nobody waits for.
    Commit(Result<()>),
    /// Native programs were made ready, or not: the step that wants them will see.
    Native,
    /// A checkpoint did not arrive.
    Lost,
}

struct Dispatcher {
    shared: Arc<Shared>,
    started: Instant,
    results: Vec<Option<Snapshot>>,
    /// Vertices that will never have a result.
    failed: HashSet<VertexId>,
    /// Steps that have started; those that still run can be stopped one by one.
    started_vertices: HashMap<VertexId, Cancel>,
    targets: Vec<Option<Result<TargetReport>>>,
    /// Per target: its files as they were placed.
    placed: Vec<Vec<Placed>>,
    /// What finished targets hand on.
    made: Vec<Made>,
    /// Per target: all that it needs.
    needed: Vec<HashSet<VertexId>>,
    /// Per target: what it needs or what makes it faster.
    helps: Vec<HashSet<VertexId>>,
    started_targets: HashSet<usize>,
    /// Commands whose native programs were made ready.
    with_native: HashSet<VertexId>,
    tasks: JoinSet<Ended>,
    /// Commands whose result is worth a checkpoint though no other command stands on it.
    keep: HashSet<VertexId>,
    warnings: Vec<String>,
    /// Whether a checkpoint did not arrive that the plan counts on.
    has_lost: bool,
}

impl Dispatcher {
    fn new(shared: Arc<Shared>, started: Instant) -> Self {
        let plan = &shared.plan;
        let targets = &plan.graph().targets;
        Self {
            results: vec![None; plan.graph().len()],
            failed: HashSet::new(),
            started_vertices: HashMap::new(),
            targets: targets.iter().map(|_| None).collect(),
            placed: vec![Vec::new(); targets.len()],
            made: Vec::new(),
            needed: targets.iter().map(|target| plan.steps_of(target.root).into_iter().collect()).collect(),
            helps: targets.iter().map(|target| plan.helps(target.root)).collect(),
            started_targets: HashSet::new(),
            with_native: HashSet::new(),
            tasks: JoinSet::new(),
            keep: plan.wanted(),
            warnings: Vec::new(),
            has_lost: false,
            shared,
            started,
        }
    }

    async fn announce(&mut self) {
        let shared = self.shared.clone();
        let plan = &shared.plan;
        let mut targets = Vec::new();
        for (target, current) in plan.graph().targets.iter().zip(&plan.current) {
            let steps = plan.steps_of(target.root);
            let to_run = steps.iter().filter(|id| matches!(plan.action(**id), Action::Run(_))).count();
            targets.push(PlannedTarget {
                platform: target.platform,
                way: shared.planned_way(target.root, target.platform),
                to_run,
                cached: steps.len() - to_run,
                up_to_date: current.is_some(),
            });
        }
        shared.emit(BuildEvent::Planned { build: plan.request.id.clone(), targets }).await;
        for (id, vertex) in plan.graph().iter() {
            if matches!(plan.action(id), Action::Cached(_)) {
                let platforms = plan.platforms[id.0].clone();
                shared.emit(BuildEvent::StepCached { vertex: id, platforms, origin: vertex.origin().clone() }).await;
            }
        }
    }

    async fn run(&mut self) {
        for (index, current) in self.shared.plan.current.iter().enumerate() {
            if let Some(record) = current {
                let took = self.started.elapsed();
                let (ran, cached) = (0, record.report.ran + record.report.cached);
                let report = TargetReport { took, ran, cached, up_to_date: true, ..record.report.clone() };
                self.targets[index] = Some(Ok(report));
            }
        }
        for target in self.targets.iter().flatten().flatten() {
            self.shared.emit(BuildEvent::TargetFinished { report: Box::new(target.clone()) }).await;
        }
        self.release();
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ended::Step(id, Ok(snapshot))) => self.step_done(id, snapshot),
                Ok(Ended::Step(id, Err(error))) => self.step_failed(id, error).await,
                Ok(Ended::Target(index, Ok(finished))) => {
                    self.placed[index] = finished.placed;
                    self.made.push(finished.made);
                    self.target_done(index, Ok(finished.report)).await;
                }
                Ok(Ended::Target(index, Err(error))) => self.target_done(index, Err(error)).await,
                Ok(Ended::Commit(result)) => {
                    // The build's result does not depend on it, but people want to know why the next one is slow.
                    if let Err(error) = result {
                        self.shared.notice(None, format!("a checkpoint could not be kept: {error}")).await;
                    }
                }
                Ok(Ended::Lost) => {
                    self.has_lost = true;
                    self.shared.cancel.stop();
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Ok(Ended::Native) | Err(_) => {}
            }
            self.release();
        }
    }

    /// Whether something is left to do for which a checkpoint did not arrive.
    fn needs_other_plan(&self) -> bool {
        let has_failed = self.targets.iter().flatten().any(Result::is_err);
        self.has_lost && (self.shared.plan.request.keep_going || !has_failed)
    }

    /// Ends targets that have not ended. Every failure of a step has found its targets; what is left was stopped, or has
    /// a problem of all.
    async fn end(&mut self, mut problem: Option<SolveError>) {
        for index in 0..self.targets.len() {
            if self.targets[index].is_none() {
                self.target_done(index, Err(problem.take().unwrap_or(SolveError::Cancelled))).await;
            }
        }
    }

    /// Makes what was asked for of each group, if all of its targets are there.
    async fn publish(&mut self) -> Vec<Option<Result<Published>>> {
        self.made.sort_by_key(|made| made.target);
        let mut published = Vec::new();
        for group in &self.shared.plan.request.groups {
            let made: Vec<&Made> = self.made.iter().filter(|made| group.targets.contains(&made.target)).collect();
            if group.exports.list.is_empty() || made.len() != group.targets.len() {
                published.push(None);
                continue;
            }
            let publishing = Box::pin(image::publish(&self.shared, &group.exports, &made));
            published.push(Some(self.shared.cancel.or_stop(publishing).await));
        }
        published
    }

    /// Whether the vertex still serves a target that can be made.
    fn is_wanted(&self, id: VertexId) -> bool {
        self.targets.iter().zip(&self.helps).any(|(target, helps)| target.is_none() && helps.contains(&id))
    }

    /// What became of the inputs of a command's twin; `None` while one of them may still come.
    fn twin_inputs(&self, twin: Twin) -> Option<twin::Inputs> {
        let is_settled = |id: &VertexId| {
            let is_unneeded = matches!(self.shared.plan.action(*id), Action::Unneeded);
            self.results[id.0].is_some() || self.failed.contains(id) || is_unneeded
        };
        if !twin.inputs().all(|id| is_settled(&id)) {
            return None;
        }
        let result = |id: VertexId| self.results[id.0].clone();
        Some(twin::Inputs { root: result(twin.root), cross: twin.cross.and_then(result) })
    }

    /// Starts everything whose inputs are there.
    fn release(&mut self) {
        if self.shared.cancel.is_stopped() {
            return;
        }
        let shared = self.shared.clone();
        // Ids are in topological order, so one pass settles all that needs no task; but a twin's inputs may have greater
        // ids than the command, so there may be another.
        while self.release_vertices(&shared) {}
        for (index, target) in shared.plan.graph().targets.iter().enumerate() {
            if self.targets[index].is_some() || self.started_targets.contains(&index) {
                continue;
            }
            let Some(snapshot) = self.results[target.root.0].clone() else { continue };
            self.started_targets.insert(index);
            let (shared, started) = (shared.clone(), self.started);
            self.tasks.spawn(async move {
                Ended::Target(index, Box::pin(finish::target(&shared, index, snapshot, started)).await)
            });
        }
    }

    /// One pass over the vertices; whether it changed anything.
    fn release_vertices(&mut self, shared: &Arc<Shared>) -> bool {
        let mut changed = false;
        for (id, vertex) in shared.plan.graph().iter() {
            if self.results[id.0].is_some() || self.started_vertices.contains_key(&id) || self.failed.contains(&id) {
                continue;
            }
            self.make_native_ready(shared, id, vertex);
            match shared.plan.action(id) {
                Action::Unneeded => continue,
                Action::Cached(image) => {
                    let snapshot = Snapshot::Image(image.clone(), vertex_platform(shared, id));
                    match shared.plan.arrivals.of(image) {
                        Some(arrival) => self.await_arrival(shared, id, snapshot, arrival),
                        None => self.results[id.0] = Some(snapshot),
                    }
                    changed = true;
                    continue;
                }
                Action::Run(_) => {}
            }
            if vertex.inputs.iter().any(|input| self.failed.contains(input)) {
                self.failed.insert(id);
                changed = true;
                continue;
            }
            let Some(inputs) = vertex.inputs.iter().map(|i| self.results[i.0].clone()).collect::<Option<Vec<_>>>()
            else {
                continue;
            };
            let twin = match vertex.twin {
                Some(twin) => {
                    let Some(inputs) = self.twin_inputs(twin) else { continue };
                    Some(inputs)
                }
                None => None,
            };
            match &vertex.op {
                Op::Source(Source::Scratch) => {
                    self.results[id.0] = Some(Snapshot::Scratch(vertex_platform(shared, id)));
                }
                Op::Source(Source::Image { id: image, platform, .. }) => {
                    let image = kiln_docker::ImageId(image.clone());
                    self.results[id.0] = Some(Snapshot::Image(image, *platform));
                }
                Op::Source(Source::Local { name }) => self.results[id.0] = Some(Snapshot::Local(name.clone())),
                Op::Source(Source::Remote(remote)) => self.results[id.0] = Some(Snapshot::Local(remote.context())),
                Op::File(_) => {
                    self.results[id.0] = Some(Snapshot::Pending(Arc::new(Pending::new(&shared.plan, id, inputs))));
                }
                Op::Exec(exec) if self.is_wanted(id) => {
                    let cancel = shared.cancel.child();
                    self.started_vertices.insert(id, cancel.clone());
                    let (shared, exec) = (shared.clone(), exec.clone());
                    self.tasks.spawn(async move {
                        Ended::Step(id, step::run(&shared, id, &exec, &inputs, twin.as_ref(), &cancel).await)
                    });
                }
                Op::Exec(_) => continue,
            }
            changed = true;
        }
        changed
    }

    /// The result of a vertex is on its way.
    fn await_arrival(&mut self, shared: &Arc<Shared>, id: VertexId, snapshot: Snapshot, arrival: Arrival) {
        let cancel = shared.cancel.child();
        self.started_vertices.insert(id, cancel.clone());
        self.tasks.spawn(async move {
            match cancel.unless_stopped(arrival).await {
                Ok(Ok(())) => Ended::Step(id, Ok(snapshot)),
                Ok(Err(_)) => Ended::Lost,
                Err(error) => Ended::Step(id, Err(error)),
            }
        });
    }

    /// Begins to make the native programs of a command as soon as they can be had, which may be long before its turn.
    fn make_native_ready(&mut self, shared: &Arc<Shared>, id: VertexId, vertex: &Vertex) {
        let Some(twin) = vertex.twin else { return };
        let runs = matches!(shared.plan.action(id), Action::Run(_)) && self.is_wanted(id);
        if !runs || self.with_native.contains(&id) {
            return;
        }
        let Some(inputs) = self.twin_inputs(twin) else { return };
        self.with_native.insert(id);
        let shared = shared.clone();
        self.tasks.spawn(async move {
            let ready = shared.cancel.or_stop(twin::prepare(&shared, &inputs)).await;
            if let Err(error) = ready.map(Result::err) {
                tracing::debug!(%error, "native programs are not ready");
            }
            Ended::Native
        });
    }

    fn step_done(&mut self, id: VertexId, snapshot: Snapshot) {
        if self.keep.contains(&id)
            && let Snapshot::Step(made) = &snapshot
        {
            let (shared, made) = (self.shared.clone(), made.clone());
            self.tasks.spawn(async move { Ended::Commit(shared.commit(&made).await.map(|_| ())) });
        }
        self.results[id.0] = Some(snapshot);
    }

    /// Gives the error to the first target that needs the step; the others are told where to look.
    async fn step_failed(&mut self, id: VertexId, error: SolveError) {
        self.failed.insert(id);
        if matches!(error, SolveError::Cancelled) {
            return;
        }
        let origin = self.shared.plan.graph().vertex(id).origin().clone();
        let mut error = Some(error);
        for index in 0..self.targets.len() {
            if self.targets[index].is_some() || !self.needed[index].contains(&id) {
                continue;
            }
            let platform = self.shared.plan.graph().targets[index].platform;
            let dependency = || SolveError::Dependency { origin: Box::new(origin.clone()), platform };
            let error = error.take().unwrap_or_else(dependency);
            self.target_done(index, Err(error)).await;
        }
        if let Some(error) = error {
            let only_helps = !self.needed.iter().any(|needed| needed.contains(&id));
            self.warnings.push(if only_helps {
                format!("native programs for an emulated platform could not be made: {error}")
            } else {
                format!("another step failed, too: {error}")
            });
        }
    }

    async fn target_done(&mut self, index: usize, result: Result<TargetReport>) {
        let platform = self.shared.plan.graph().targets[index].platform;
        let event = match &result {
            Ok(report) => BuildEvent::TargetFinished { report: Box::new(report.clone()) },
            Err(error) => BuildEvent::TargetFailed { platform, error: error.to_string() },
        };
        self.shared.emit(event).await;
        let failed = result.is_err();
        self.targets[index] = Some(result);
        if failed && !self.shared.plan.request.keep_going {
            self.shared.cancel.stop();
        }
        // Steps that only a failed target needed would run for nothing.
        for (id, cancel) in &self.started_vertices {
            if failed && !self.is_wanted(*id) {
                cancel.stop();
            }
        }
    }

    /// Remembers what every step's key was made of, and where the exported files are.
    fn save(&self) -> Result<()> {
        let plan = &self.shared.plan;
        let mut targets = Vec::new();
        let mut steps = Vec::new();
        for (index, (target, output)) in plan.graph().targets.iter().zip(&plan.request.outputs).enumerate() {
            if plan.current[index].is_some() {
                continue;
            }
            for id in plan.steps_of(target.root) {
                let origin = plan.graph().vertex(id).origin().clone();
                let is_committed = lock(&self.shared.committed).contains(&id);
                steps.push((target.platform, origin, plan.step_record(id, is_committed)));
            }
            if let (Output::Files(files), Some(Ok(report))) = (output, &self.targets[index]) {
                targets.push(BuiltTarget {
                    target: target.clone(),
                    output: files.clone(),
                    key: plan.key(target.root),
                    report: report.clone(),
                    scope: plan.request.scope.clone(),
                    placed: self.placed[index].clone(),
                });
            }
        }
        plan.records.save(targets, steps)
    }

    fn into_outcome(self) -> (Vec<Result<TargetReport>>, Vec<String>) {
        let targets = self.targets.into_iter().map(|t| t.unwrap_or(Err(SolveError::Cancelled))).collect();
        (targets, self.warnings)
    }
}

fn vertex_platform(shared: &Shared, id: VertexId) -> kiln_graph::Platform {
    match &shared.plan.graph().vertex(id).op {
        Op::Exec(exec) => exec.platform,
        Op::Source(Source::Image { platform, .. }) => *platform,
        _ => shared.plan.platforms[id.0]
            .first()
            .copied()
            .unwrap_or(kiln_graph::Platform::linux(shared.engine.info().arch)),
    }
}

/// Per step of a target: what it did.
pub(crate) fn step_reports(shared: &Shared, root: VertexId) -> (Vec<StepReport>, Duration) {
    let times = lock(&shared.times);
    let mut in_containers = Duration::ZERO;
    let reports = shared
        .plan
        .steps_of(root)
        .into_iter()
        .map(|id| {
            let origin = shared.plan.graph().vertex(id).origin();
            let time = times.get(&id).copied().unwrap_or_default();
            in_containers += time.in_container;
            let reason = match shared.plan.action(id) {
                Action::Run(reason) => Some(reason.clone()),
                _ => None,
            };
            StepReport {
                text: origin.text.clone(),
                stage: origin.stage.clone(),
                cached: reason.is_none(),
                reason,
                took: time.took,
            }
        })
        .collect();
    (reports, in_containers)
}
