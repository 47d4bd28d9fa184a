//! A project folder, a daemon in memory, and short words for graphs.
#![allow(dead_code, unreachable_pub, reason = "each test file is a crate of its own and uses its part")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_docker::Engine;
use kiln_graph::{
    Arch, BuildGraph, CacheMount, Copy, Exec, FileAction, FileOp, ImageConfig, Mount, MountKind, Network, Op, Origin,
    Owner, Platform, Sharing, Source, Target, VertexId,
};
use kiln_solver::context::{Context, Everything, StatCache};
use kiln_solver::{
    BuildEvent, BuildOutcome, BuildRequest, Cancel, FilesOutput, Group, Output, Plan, RunSettings, SolveError,
    TargetReport,
};
use kiln_testkit::{FakeEngine, Files, Outcome, Step};

pub const AMD64: Platform = Platform::linux(Arch::Amd64);
pub const ARM64: Platform = Platform::linux(Arch::Arm64);

/// Longer than any of these builds takes: a deadlock fails the test rather than hang it.
const HANG: Duration = Duration::from_secs(20);

/// A project on a daemon.
pub struct Bed {
    pub engine: FakeEngine,
    pub dir: tempfile::TempDir,
}

/// A build that ended.
pub struct Built {
    pub outcome: BuildOutcome,
    pub events: Vec<BuildEvent>,
}

impl Bed {
    pub fn new() -> Self {
        let engine = FakeEngine::new(Arch::Amd64);
        engine.on_run(script);
        Self { engine, dir: tempfile::tempdir().expect("temporary folder") }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes a file of the context.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path("src").join(path);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(path, text).expect("file");
    }

    /// An image on the daemon, as a vertex.
    pub fn image(&self, graph: &mut Graph, name: &str, platform: Platform, files: Files) -> VertexId {
        let id = self.engine.add_image(name, platform, ImageConfig::default(), files);
        graph.source(Source::Image { reference: name.to_owned(), id: id.0, platform })
    }

    pub fn files(&self) -> Output {
        Output::Files(FilesOutput {
            folder: self.path("dist"),
            artifact: None,
            smoke: None,
            glibc_max: None,
            reports: None,
            sums: false,
        })
    }

    pub fn request(&self, graph: &Graph, outputs: Vec<Output>) -> BuildRequest {
        std::fs::create_dir_all(self.path("src")).expect("folder");
        let context = Context::scan(&self.path("src"), Arc::new(Everything), StatCache::default()).expect("scan");
        BuildRequest {
            id: "test".to_owned(),
            owner: "host/1/1".to_owned(),
            scope: "project".to_owned(),
            graph: graph.graph.clone(),
            contexts: BTreeMap::from([(".".to_owned(), Arc::new(context))]),
            outputs,
            groups: vec![Group { targets: 0..graph.graph.targets.len(), ..Group::default() }],
            run: RunSettings::default(),
            parallel: 8,
            keep_going: true,
            keep_failed: false,
            no_cache_mounts: false,
            state: self.path("state"),
            locks: self.path("locks"),
        }
    }

    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.engine.clone())
    }

    pub async fn plan(&self, request: BuildRequest) -> Result<Plan, SolveError> {
        Plan::make(&self.engine(), request).await
    }

    /// Builds targets of one output each, all to files.
    pub async fn build(&self, graph: &Graph) -> Built {
        let outputs = graph.graph.targets.iter().map(|_| self.files()).collect();
        self.build_as(self.request(graph, outputs), Cancel::new()).await
    }

    pub async fn build_as(&self, request: BuildRequest, cancel: Cancel) -> Built {
        let plan = self.plan(request).await.expect("a plan");
        self.run(plan, cancel).await
    }

    pub async fn run(&self, plan: Plan, cancel: Cancel) -> Built {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(16);
        let collecting = tokio::spawn(async move {
            let mut events = Vec::new();
            while let Some(event) = receiver.recv().await {
                events.push(event);
            }
            events
        });
        let running = kiln_solver::run(self.engine(), plan, sender, cancel);
        let outcome = tokio::time::timeout(HANG, running).await.expect("the build hangs");
        let events = collecting.await.expect("events");
        assert_eq!(self.engine.container_count(), 0, "containers are left: {:?}", self.engine.calls());
        Built { outcome, events }
    }

    /// The text of an exported file.
    pub fn exported(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path("dist").join(path)).ok()
    }

    /// What lies in the output folder, sorted.
    pub fn dist(&self) -> Vec<String> {
        let listing = std::fs::read_dir(self.path("dist")).into_iter().flatten().flatten();
        let mut names: Vec<String> = listing.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Built {
    pub fn report(&self, index: usize) -> &TargetReport {
        match &self.outcome.targets[index] {
            Ok(report) => report,
            Err(error) => panic!("target {index} failed: {error:?}"),
        }
    }

    pub fn error(&self, index: usize) -> &SolveError {
        self.outcome.targets[index].as_ref().expect_err("the target should have failed")
    }

    /// The steps that were started, in order.
    pub fn started(&self) -> Vec<String> {
        let text = |event: &BuildEvent| match event {
            BuildEvent::StepStarted { origin, .. } => Some(origin.text.clone()),
            _ => None,
        };
        self.events.iter().filter_map(text).collect()
    }

    /// Why a step ran.
    pub fn reason(&self, text: &str) -> String {
        let reason = self.events.iter().find_map(|event| match event {
            BuildEvent::StepStarted { origin, reason, .. } if origin.text == text => Some(reason.to_string()),
            _ => None,
        });
        reason.unwrap_or_else(|| panic!("`{text}` did not run"))
    }
}

/// A graph under construction; every vertex is a step of one stage.
#[derive(Clone, Default)]
pub struct Graph {
    pub graph: BuildGraph,
    step: u32,
}

impl Graph {
    pub fn source(&mut self, source: Source) -> VertexId {
        self.graph.insert(Op::Source(source), vec![], Origin::default(), false)
    }

    pub fn local(&mut self) -> VertexId {
        self.source(Source::Local { name: ".".to_owned() })
    }

    pub fn scratch(&mut self) -> VertexId {
        self.source(Source::Scratch)
    }

    fn insert(&mut self, op: Op, inputs: Vec<VertexId>, text: &str, no_cache: bool) -> VertexId {
        self.step += 1;
        let origin = Origin { stage: "build".to_owned(), step: self.step, text: text.to_owned(), ..Origin::default() };
        self.graph.insert(op, inputs, origin, no_cache)
    }

    pub fn run(&mut self, on: VertexId, platform: Platform, line: &str) -> VertexId {
        self.exec(on, exec(platform, line))
    }

    pub fn exec(&mut self, on: VertexId, exec: Exec) -> VertexId {
        let text = format!("RUN {}", exec.argv.join(" "));
        self.insert(Op::Exec(Box::new(exec)), vec![on], &text, false)
    }

    pub fn run_always(&mut self, on: VertexId, platform: Platform, line: &str) -> VertexId {
        self.insert(Op::Exec(Box::new(exec(platform, line))), vec![on], &format!("RUN {line}"), true)
    }

    pub fn copy(&mut self, on: VertexId, from: VertexId, sources: &[&str], dest: &str) -> VertexId {
        self.copy_as(on, from, copy(sources, dest))
    }

    pub fn copy_as(&mut self, on: VertexId, from: VertexId, copy: Copy) -> VertexId {
        let text = format!("COPY {} {}", copy.sources.join(" "), copy.dest);
        self.insert(Op::File(FileOp { actions: vec![FileAction::Copy(copy)] }), vec![on, from], &text, false)
    }

    pub fn workdir(&mut self, on: VertexId, path: &str) -> VertexId {
        let action = FileAction::Mkdir { path: path.to_owned(), owner: None };
        self.insert(Op::File(FileOp { actions: vec![action] }), vec![on], &format!("WORKDIR {path}"), false)
    }

    pub fn target(&mut self, name: &str, platform: Platform, root: VertexId) {
        self.graph.targets.push(Target { name: name.to_owned(), platform, root, config: ImageConfig::default() });
    }
}

pub fn copy(sources: &[&str], dest: &str) -> Copy {
    Copy {
        input: 1,
        sources: sources.iter().map(|s| (*s).to_owned()).collect(),
        dest: dest.to_owned(),
        owner: None,
        chmod: None,
        unpack: false,
        link: false,
        parents: false,
        excludes: Vec::new(),
    }
}

pub fn owned(owner: &str, copy: Copy) -> Copy {
    Copy { owner: Some(Owner { spec: owner.to_owned() }), ..copy }
}

pub fn exec(platform: Platform, line: &str) -> Exec {
    Exec {
        argv: vec![line.to_owned()],
        env: Vec::new(),
        cwd: "/".to_owned(),
        user: String::new(),
        platform,
        mounts: Vec::new(),
        network: Network::Default,
        privileged: false,
        files: Vec::new(),
    }
}

pub fn cache(target: &str, id: &str, sharing: Sharing) -> Mount {
    let cache = CacheMount { id: id.to_owned(), sharing, mode: None, uid: 0, gid: 0, from: None, added: false };
    Mount { target: target.to_owned(), readonly: false, kind: MountKind::Cache(cache) }
}

/// Runs lines like `write /a text; cat /a /b; hit /cache; say hello; sleep 5; fail 3`.
pub fn script(step: &mut Step<'_>) -> Outcome {
    let line = step.line();
    let mut outcome = Outcome::default();
    for command in line.split("; ") {
        let words: Vec<&str> = command.split(' ').collect();
        match words.as_slice() {
            ["write", path, text @ ..] => drop(step.files.write(path, text.join(" "))),
            ["cat", from, to] => {
                let text = step.files.text(from).unwrap_or_else(|| "nothing".to_owned());
                step.files.write(to, text);
            }
            ["hit", target] => drop(step.volume(target).expect("a volume").write("/hit", "1")),
            ["say", text @ ..] => outcome = outcome.out(&format!("{}\n", text.join(" "))),
            ["sleep", time] => outcome = outcome.takes(Duration::from_millis(time.parse().expect("a number"))),
            ["fail", code] => outcome.exit.code = code.parse().expect("a number"),
            // kiln's own program, with no command after it.
            _ if step.argv().last().is_some_and(|last| last == "--") => {}
            _ => outcome.exit.code = 127,
        }
    }
    outcome
}
