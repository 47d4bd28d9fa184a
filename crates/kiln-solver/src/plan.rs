//! What a build has to do: keys, what the daemon has of them, and why the rest is missing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kiln_docker::{Engine, Image, ImageId, labels};
use kiln_graph::{BuildGraph, CacheKey, KeyParts, MissReason, Op, PartKind, Platform, Twin, Vertex, VertexId};

use crate::arrival::Arrivals;
use crate::bulk::{self, Bulk};
use crate::error::Result;
use crate::keys;
use crate::record::{FileList, Records, StepRecord, TargetRecord};
use crate::request::{BuildRequest, Output};
use crate::stubs::Stubs;

/// What is to be done for one vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nobody needs it in this build.
    Unneeded,
    /// Its result is an image on the daemon.
    Cached(ImageId),
    /// It has to be made.
    Run(MissReason),
}

/// A planned build.
pub struct Plan {
    pub(crate) request: BuildRequest,
    pub(crate) keys: Vec<(CacheKey, KeyParts)>,
    pub(crate) actions: Vec<Action>,
    /// The platforms of targets that each vertex serves.
    pub(crate) platforms: Vec<Vec<Platform>>,
    /// Per vertex: the groups that it serves, by index; those that need it come before those that it only helps.
    pub(crate) groups: Vec<Vec<usize>>,
    /// Per target: the record that makes building it needless.
    pub(crate) current: Vec<Option<TargetRecord>>,
    /// Per vertex: whether it must run whatever is cached.
    forced: Vec<bool>,
    pub(crate) files: HashMap<VertexId, Arc<FileList>>,
    /// Mount points in checkpoints, by image.
    pub(crate) stubs: HashMap<ImageId, Arc<Stubs>>,
    /// All checkpoints by key.
    known: HashMap<String, Vec<ImageId>>,
    pub(crate) records: Records,
    /// Large copies that are made in a way of their own.
    pub(crate) bulk: HashMap<VertexId, Bulk>,
    /// Checkpoints that are not on the daemon yet.
    pub(crate) arrivals: Arrivals,
}

impl Plan {
    /// Computes keys and looks up what the daemon has.
    ///
    /// # Errors
    /// If the daemon does not answer, a context cannot be read, or a `COPY` names what is not there.
    pub async fn make(engine: &Arc<dyn Engine>, request: BuildRequest) -> Result<Self> {
        Self::counting_on(engine, request, Arrivals::default()).await
    }

    /// The same, as if what is on its way had arrived.
    pub(crate) async fn counting_on(
        engine: &Arc<dyn Engine>,
        request: BuildRequest,
        arrivals: Arrivals,
    ) -> Result<Self> {
        let plan = tokio::task::spawn_blocking(move || Self::without_daemon(request));
        let (images, plan) = tokio::join!(engine.images_with_label(labels::KEY), plan);
        // A panic in there is a bug; it is passed on as what it is.
        let mut plan = plan.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))?;
        let mut images = images?;
        let there: HashSet<ImageId> = images.iter().map(|image| image.id.clone()).collect();
        images.extend(arrivals.images().filter(|image| !there.contains(&image.id)).cloned());
        // Best first: one without stubs, the latest.
        let stubs = |image: &Image| image.labels.get(labels::STUBS).filter(|text| !text.is_empty()).cloned();
        images.sort_by_key(|image| (stubs(image).is_some(), std::cmp::Reverse(image.created)));
        let mut checkpoints: HashMap<String, ImageId> = HashMap::new();
        for image in images {
            if let Some(text) = stubs(&image) {
                plan.stubs.insert(image.id.clone(), Arc::new(Stubs::of_label(&text)));
            }
            let Some(key) = image.labels.get(labels::KEY) else { continue };
            checkpoints.entry(key.clone()).or_insert_with(|| image.id.clone());
            // What somebody has given a name is theirs.
            if image.tags.is_empty() {
                plan.known.entry(key.clone()).or_default().push(image.id);
            }
        }
        plan.decide(&checkpoints);
        // Nobody would wait for what a copy is patched onto.
        checkpoints.retain(|_, image| arrivals.of(image).is_none());
        plan.bulk = bulk::find(&plan, &checkpoints, engine.info().store);
        plan.arrivals = arrivals;
        Ok(plan)
    }

    /// Waits until no checkpoint is on its way to the daemon any more.
    pub async fn arrived(&self) {
        self.arrivals.settled().await;
    }

    /// The checkpoints that the build counts on.
    pub fn checkpoints(&self) -> impl Iterator<Item = String> + '_ {
        let cached = self.actions.iter().filter_map(|action| match action {
            Action::Cached(image) => Some(image),
            _ => None,
        });
        let patched = self.bulk.values().filter_map(|bulk| match bulk {
            Bulk::Patch { image, .. } => Some(image),
            Bulk::Keep => None,
        });
        cached.chain(patched).map(|image| image.0.clone())
    }

    /// The checkpoints that were there of a vertex when the build was planned, those first that stand on others.
    pub(crate) fn known(&self, id: VertexId) -> &[ImageId] {
        self.known.get(&self.key(id).to_string()).map_or(&[], Vec::as_slice)
    }

    /// All that can be said without the daemon.
    fn without_daemon(request: BuildRequest) -> Result<Self> {
        let graph = &request.graph;
        let keys = keys::compute(graph, &request.contexts)?;
        let forced = forced(graph);
        let records = Records::load(&request.state);
        let current: Vec<Option<TargetRecord>> = graph
            .targets
            .iter()
            .zip(&request.outputs)
            .enumerate()
            .map(|(index, (target, output))| match output {
                // What is made of all targets together is not remembered.
                Output::Files(files) if !forced[target.root.0] && request.group_of(index).exports.list.is_empty() => {
                    records.target_if_current(target, keys[target.root.0].0, files)
                }
                _ => None,
            })
            .collect();
        let is_current = !current.is_empty() && current.iter().all(Option::is_some);
        let files = if is_current { HashMap::new() } else { keys::files(graph, &request.contexts)? };
        Ok(Self {
            platforms: platforms(graph),
            groups: groups(&request),
            actions: vec![Action::Unneeded; graph.len()],
            request,
            keys,
            forced,
            current,
            files,
            stubs: HashMap::new(),
            known: HashMap::new(),
            records,
            bulk: HashMap::new(),
            arrivals: Arrivals::default(),
        })
    }

    fn decide(&mut self, checkpoints: &HashMap<String, ImageId>) {
        let roots: Vec<VertexId> = self
            .request
            .graph
            .targets
            .iter()
            .zip(&self.current)
            .filter(|(_, current)| current.is_none())
            .map(|(target, _)| target.root)
            .collect();
        let mut stack = roots;
        let mut seen = HashSet::new();
        while let Some(id) = stack.pop() {
            if !seen.insert(id) {
                continue;
            }
            let vertex = self.request.graph.vertex(id);
            let forced = self.forced[id.0];
            let (key, parts) = &self.keys[id.0];
            match checkpoints.get(&key.to_string()) {
                Some(image) if !forced => self.actions[id.0] = Action::Cached(image.clone()),
                _ => {
                    let reason = if forced { MissReason::NoCache } else { self.miss_reason(id, parts) };
                    self.actions[id.0] = Action::Run(reason);
                    stack.extend(&vertex.inputs);
                    stack.extend(vertex.twin.into_iter().flat_map(Twin::inputs));
                }
            }
        }
    }

    /// The steps whose checkpoints somebody wants. What ends in files is remembered by those files; a checkpoint of it would
    /// only fill the daemon's disk.
    pub(crate) fn wanted(&self) -> HashSet<VertexId> {
        let ends = self.request.graph.targets.iter().zip(&self.request.outputs);
        let others = ends.filter(|(_, output)| !matches!(output, Output::Files(_)));
        others.flat_map(|(target, _)| self.steps_of(target.root)).collect()
    }

    /// The record of a step in the last build that had it.
    pub(crate) fn last(&self, id: VertexId) -> Option<&StepRecord> {
        let platform = self.platforms[id.0].first().copied()?;
        self.records.step(platform, self.request.graph.vertex(id).origin())
    }

    fn miss_reason(&self, id: VertexId, parts: &KeyParts) -> MissReason {
        let last = self.last(id);
        match MissReason::between(last.map(|r| &r.parts), parts) {
            MissReason::Changed { part: part @ PartKind::Context(_), .. } => {
                let detail = last.and_then(|last| last.files.first_difference(self.files.get(&id)?));
                MissReason::Changed { part, detail }
            }
            reason => reason,
        }
    }

    /// The graph.
    pub fn graph(&self) -> &BuildGraph {
        &self.request.graph
    }

    /// What is to be done for a vertex.
    pub fn action(&self, id: VertexId) -> &Action {
        &self.actions[id.0]
    }

    /// The key of a vertex.
    pub fn key(&self, id: VertexId) -> CacheKey {
        self.keys[id.0].0
    }

    /// The platforms of containers that will have to run commands.
    pub fn platforms_to_run(&self) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = Vec::new();
        for (id, vertex) in self.request.graph.iter() {
            if let (Op::Exec(exec), Action::Run(_)) = (&vertex.op, &self.actions[id.0])
                && !platforms.contains(&exec.platform)
            {
                platforms.push(exec.platform);
            }
        }
        // The smoke run executes the artifact even when no step runs.
        for ((target, output), current) in
            self.request.graph.targets.iter().zip(&self.request.outputs).zip(&self.current)
        {
            let smokes = matches!(output, Output::Files(files) if files.smoke.is_some());
            if smokes && current.is_none() && !platforms.contains(&target.platform) {
                platforms.push(target.platform);
            }
        }
        platforms
    }

    /// Whether the files of the target of this index are there and current.
    pub fn is_current(&self, target: usize) -> bool {
        self.current.get(target).is_some_and(Option::is_some)
    }

    /// Whether nothing has to be done at all.
    pub fn is_up_to_date(&self) -> bool {
        !self.current.is_empty() && self.current.iter().all(Option::is_some)
    }

    /// Sets how each platform's steps run; asked for after planning, because a build that runs nothing need not know.
    pub fn set_ways(&mut self, ways: BTreeMap<Platform, crate::event::Way>) {
        self.request.run.ways = ways;
    }

    /// The steps a target needs, in order: its vertices that are commands or file operations.
    pub fn steps_of(&self, root: VertexId) -> Vec<VertexId> {
        let needed = closure(&self.request.graph, root, |_| None);
        let mut steps: Vec<VertexId> =
            needed.into_iter().filter(|id| !matches!(self.request.graph.vertex(*id).op, Op::Source(_))).collect();
        steps.sort_unstable();
        steps
    }

    /// All that may help a target: what it needs, and what its commands' twins need.
    pub fn helps(&self, root: VertexId) -> HashSet<VertexId> {
        closure(&self.request.graph, root, |vertex| vertex.twin)
    }

    pub(crate) fn step_record(&self, id: VertexId, is_committed: bool) -> StepRecord {
        StepRecord {
            parts: self.keys[id.0].1.clone(),
            files: self.files.get(&id).cloned().unwrap_or_default(),
            kept: bulk::kept(self, id, is_committed),
        }
    }
}

/// Per vertex: whether it, or anything that it needs, must run whatever is cached.
fn forced(graph: &BuildGraph) -> Vec<bool> {
    let mut forced: Vec<bool> = Vec::with_capacity(graph.len());
    for (_, vertex) in graph.iter() {
        let own = vertex.no_cache && !matches!(vertex.op, Op::Source(_));
        let inherited = vertex.inputs.iter().any(|input| forced[input.0]);
        forced.push(own || inherited);
    }
    forced
}

fn platforms(graph: &BuildGraph) -> Vec<Vec<Platform>> {
    let mut serves: Vec<Vec<Platform>> = vec![Vec::new(); graph.len()];
    for target in &graph.targets {
        let mut stack = vec![target.root];
        while let Some(id) = stack.pop() {
            if !serves[id.0].contains(&target.platform) {
                serves[id.0].push(target.platform);
                stack.extend(&graph.vertex(id).inputs);
            }
        }
    }
    // What only twins need belongs to the platform of the first target that it helps.
    for target in &graph.targets {
        for id in closure(graph, target.root, |vertex| vertex.twin) {
            if serves[id.0].is_empty() {
                serves[id.0].push(target.platform);
            }
        }
    }
    serves
}

fn groups(request: &BuildRequest) -> Vec<Vec<usize>> {
    let graph = &request.graph;
    let mut serves: Vec<Vec<usize>> = vec![Vec::new(); graph.len()];
    let twins: [fn(&Vertex) -> Option<Twin>; 2] = [|_| None, |vertex| vertex.twin];
    for twin in twins {
        for (index, group) in request.groups.iter().enumerate() {
            for target in graph.targets.get(group.targets.clone()).unwrap_or_default() {
                for id in closure(graph, target.root, twin) {
                    if !serves[id.0].contains(&index) {
                        serves[id.0].push(index);
                    }
                }
            }
        }
    }
    serves
}

/// A vertex and all that it needs, with what `twin` adds to each.
fn closure(graph: &BuildGraph, root: VertexId, twin: impl Fn(&Vertex) -> Option<Twin>) -> HashSet<VertexId> {
    let mut found = HashSet::new();
    let mut stack = vec![root];
    while let Some(id) = stack.pop() {
        if found.insert(id) {
            let vertex = graph.vertex(id);
            stack.extend(&vertex.inputs);
            stack.extend(twin(vertex).into_iter().flat_map(Twin::inputs));
        }
    }
    found
}
