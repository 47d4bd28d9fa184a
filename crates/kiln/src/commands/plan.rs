//! `kiln plan` and `kiln test --plan`: what would be done, step by step, and how each step would run. Changes nothing.

use std::collections::BTreeSet;

use kiln_graph::{MountKind, Op, Platform, Source, VertexId};
use kiln_solver::{Action, BuildEvent, Cancel};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::cli::{self, PlanFormat};
use crate::commands::build::flags;
use crate::commands::plan_graph::{self, Kind, Node};
use crate::environment::Environment;
use crate::error::Result;
use crate::job::{Item, Job, Looked, Run};
use crate::report::columns;
use crate::sources::prepare::{Written, prepare};
use crate::suite::base::Base;
use crate::ui::Ui;
use crate::{checks, project, recipe, session};

/// One step of the plan.
#[derive(Debug, Serialize)]
struct Step {
    stage: String,
    number: u32,
    of: u32,
    instruction: String,
    /// `cached` (on the daemon), `remote` (in a store), `run` or `unneeded`.
    state: &'static str,
    /// Why it is not cached.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// `native`, `twin` or `qemu`, for commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<&'static str>,
    /// Why it is emulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    emulated_because: Option<String>,
    /// Caches that the Dockerfile does not ask for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    auto_caches: Vec<AutoCache>,
    key: String,
}

/// A cache that kiln adds to a command.
#[derive(Debug, Serialize)]
struct AutoCache {
    id: String,
    /// Where the command sees it.
    target: String,
}

#[derive(Debug, Serialize)]
struct Target {
    name: String,
    platform: Platform,
    /// Where the Python of its tests comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    python: Option<String>,
    up_to_date: bool,
    /// Whether a store has its files: then no step runs.
    remote: bool,
    steps: Vec<Step>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Shown {
    targets: Vec<Target>,
    /// Steps for the daemon's own platform that only twins need.
    helpers: Vec<Step>,
}

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Plan) -> Result<()> {
    let looking = Looking::new();
    let prepared = prepare(environment, &args.build, Written::AsNamed, &looking.events, &looking.cancel).await?;
    let build = &prepared.args;
    let project = project::load_prepared(environment, &prepared, flags(build)?)?;
    ui.warnings(&project.warnings);
    let job = Job::of_project(environment, &prepared, project)?;
    let format = if args.json { PlanFormat::Json } else { args.format };
    show(ui, environment, (global, &args.build.show), looking, job, format).await
}

/// What surrounds a look at a plan.
pub(super) struct Looking {
    pub(super) cancel: Cancel,
    pub(super) events: mpsc::Sender<BuildEvent>,
    received: mpsc::Receiver<BuildEvent>,
}

impl Looking {
    /// Begins to listen to the user's wish to stop.
    pub(super) fn new() -> Self {
        let cancel = Cancel::new();
        let (events, received) = mpsc::channel(64);
        session::stop_on_signals(cancel.clone(), events.downgrade());
        Self { cancel, events, received }
    }
}

/// Compares a job with the daemon and prints what it would do.
pub(super) async fn show(
    ui: Ui,
    environment: &Environment,
    (global, show): (&cli::Global, &cli::Show),
    looking: Looking,
    mut job: Job,
    format: PlanFormat,
) -> Result<()> {
    let Looking { cancel, events, mut received } = looking;
    let progress = show.mode(environment)?;
    let notices = tokio::spawn(async move {
        let mut notices = Vec::new();
        while let Some(event) = received.recv().await {
            if let BuildEvent::Notice { platform, text } = event {
                notices.push(platform.map_or(text.clone(), |platform| format!("[{platform}] {text}")));
            }
        }
        notices
    });
    let engine = cancel.unless_stopped(session::connect(environment, global)).await??;
    job.on_daemon(engine.info().arch);
    let auto_jobs = recipe::auto_jobs(engine.info().cpus, job.project.platforms_configured);
    let locks = session::locks(environment, engine.as_ref());
    let run = Run { environment, auto_jobs, locks: &locks };
    let looked = async {
        let mut looked = job.look(&engine, &run, &events, &cancel).await?;
        let travel = job.travel(environment, None)?;
        (looked.remote, looked.remote_targets) =
            kiln_solver::travel::peek(&engine, &looked.plan, &travel, &events, &cancel).await?;
        Ok(looked)
    };
    let looked: Result<Looked> = looked.await;
    drop(events);
    checks::show(ui, environment, progress, job.warnings.get());
    let looked = looked?;
    for notice in notices.await.unwrap_or_default() {
        ui.say(&format!("note: {notice}"));
    }
    let shown = shown(&job, &looked, engine.info().arch);
    ui.print(&match format {
        PlanFormat::Json => format!("{}\n", serde_json::json!(shown)),
        PlanFormat::Text => text(&shown, columns()),
        PlanFormat::Dot => plan_graph::dot(&nodes(&looked, &shown, engine.info().arch)),
        PlanFormat::Mermaid => plan_graph::mermaid(&nodes(&looked, &shown, engine.info().arch)),
    });
    Ok(())
}

fn shown(job: &Job, looked: &Looked, daemon: kiln_graph::Arch) -> Shown {
    let plan = &looked.plan;
    // The graph's targets have the order of the items and of their platforms.
    let python = |item: &Item| item.cell.as_ref().and_then(|cell| cell.base.get()).map(Base::described);
    let mut pythons = job.items.iter().flat_map(|item| item.platforms().into_iter().map(move |_| python(item)));
    let step = |id: VertexId| describe(looked, id, daemon);
    let (mut own, mut helps) = (BTreeSet::new(), BTreeSet::new());
    let mut targets = Vec::new();
    for (index, target) in plan.graph().targets.iter().enumerate() {
        let steps = plan.steps_of(target.root);
        own.extend(steps.iter().copied());
        helps.extend(plan.helps(target.root));
        targets.push(Target {
            name: target.name.clone(),
            platform: target.platform,
            python: pythons.next().flatten(),
            up_to_date: plan.is_current(index),
            remote: looked.remote_targets.contains(&index),
            steps: steps.into_iter().map(step).collect(),
        });
    }
    let is_step = |id: &VertexId| !matches!(plan.graph().vertex(*id).op, Op::Source(_));
    let needed = |id: &VertexId| !matches!(plan.action(*id), Action::Unneeded);
    let helpers = helps.difference(&own).filter(|id| is_step(id) && needed(id)).map(|id| step(*id)).collect();
    Shown { targets, helpers }
}

/// Every vertex that a target or a helper needs, and the targets themselves.
fn nodes(looked: &Looked, shown: &Shown, daemon: kiln_graph::Arch) -> Vec<Node> {
    let plan = &looked.plan;
    let graph = plan.graph();
    let mut needed: BTreeSet<VertexId> = BTreeSet::new();
    let helps = graph.targets.iter().flat_map(|target| plan.helps(target.root));
    let mut waiting: Vec<VertexId> = graph.targets.iter().map(|target| target.root).collect();
    waiting.extend(helps.filter(|id| !shown.helpers.is_empty() && !matches!(plan.action(*id), Action::Unneeded)));
    while let Some(id) = waiting.pop() {
        if needed.insert(id) {
            waiting.extend(&graph.vertex(id).inputs);
        }
    }
    let name = |id: VertexId| format!("v{}", id.0);
    let mut found = Vec::new();
    for &id in &needed {
        let vertex = graph.vertex(id);
        let step = describe(looked, id, daemon);
        let (kind, title) = match &vertex.op {
            Op::Source(Source::Image { reference, platform, .. }) => {
                (Kind::Source, format!("{reference} ({platform})"))
            }
            Op::Source(Source::Local { name }) if name == "." => (Kind::Source, "build context".to_owned()),
            Op::Source(Source::Local { name }) => (Kind::Source, format!("context {name}")),
            Op::Source(_) => (Kind::Source, "scratch".to_owned()),
            _ => (Kind::of(step.state), format!("{} {}/{}: {}", step.stage, step.number, step.of, step.instruction)),
        };
        let is_step = kind != Kind::Source;
        let state = if step.state == "unneeded" { "not needed" } else { step.state };
        let way = step.way.map(|way| format!(", {way}")).unwrap_or_default();
        let key = step.key.rsplit(':').next().unwrap_or_default().chars().take(12).collect::<String>();
        let mut notes = Vec::new();
        if is_step {
            notes.push(format!("{state}{way}, key {key}"));
            notes.extend(step.why.as_ref().map(|why| format!("why: {why}")));
            notes.extend(step.emulated_because.as_ref().map(|why| format!("emulated: {why}")));
            notes.extend(caches_said(&step));
        }
        let inputs = vertex.inputs.iter().map(|id| (name(*id), false));
        let twin = vertex.twin.into_iter().flat_map(kiln_graph::Twin::inputs).filter(|id| needed.contains(id));
        let inputs = inputs.chain(twin.map(|id| (name(id), true))).collect();
        found.push(Node { id: name(id), kind, title, notes, inputs });
    }
    for (index, target) in graph.targets.iter().enumerate() {
        let title = format!("{} ({})", target.name, target.platform);
        let state = if plan.is_current(index) { "up to date" } else { "to build" };
        let inputs = vec![(name(target.root), false)];
        found.push(Node { id: format!("t{index}"), kind: Kind::Target, title, notes: vec![state.to_owned()], inputs });
    }
    found
}

fn describe(looked: &Looked, id: VertexId, daemon: kiln_graph::Arch) -> Step {
    let plan = &looked.plan;
    let vertex = plan.graph().vertex(id);
    let origin = vertex.origin();
    let (state, why) = match plan.action(id) {
        Action::Unneeded => ("unneeded", None),
        Action::Cached(_) => ("cached", None),
        Action::Run(_) if looked.remote.contains(&id) => ("remote", None),
        Action::Run(reason) => ("run", Some(reason.to_string())),
    };
    let way = match &vertex.op {
        Op::Exec(exec) if exec.platform.arch.may_run_on(daemon) => Some("native"),
        Op::Exec(_) if vertex.twin.is_some() => Some("twin"),
        Op::Exec(_) => Some("qemu"),
        _ => None,
    };
    let mounts = match &vertex.op {
        Op::Exec(exec) => exec.mounts.as_slice(),
        _ => &[],
    };
    let added = mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Cache(cache) if cache.added => {
            Some(AutoCache { id: cache.id.clone(), target: mount.target.clone() })
        }
        _ => None,
    });
    Step {
        stage: origin.stage.clone(),
        number: origin.step,
        of: origin.steps,
        instruction: origin.text.clone(),
        state,
        why,
        way,
        emulated_because: looked.emulated.get(&id).filter(|_| way == Some("qemu")).cloned(),
        auto_caches: added.collect(),
        key: plan.key(id).to_string(),
    }
}

fn text(shown: &Shown, width: usize) -> String {
    let mut lines = Vec::new();
    for target in &shown.targets {
        let count = |state: &str| target.steps.iter().filter(|step| step.state == state).count();
        let python = target.python.as_ref().map(|from| format!("; Python: {from}")).unwrap_or_default();
        lines.push(if target.up_to_date {
            format!("{} ({}): up to date{python}", target.platform, target.name)
        } else {
            let remote = match (target.remote, count("remote")) {
                (true, _) => ", the result can be restored".to_owned(),
                (false, 0) => String::new(),
                (false, count) => format!(", {count} can be restored"),
            };
            let (run, cached) = (count("run"), count("cached"));
            format!("{} ({}): {run} to run, {cached} cached{remote}{python}", target.platform, target.name)
        });
        lines.extend(target.steps.iter().filter(|_| !target.up_to_date).flat_map(step_lines));
    }
    if !shown.helpers.is_empty() {
        lines.push("native programs for emulated platforms:".to_owned());
        lines.extend(shown.helpers.iter().flat_map(step_lines));
    }
    let cut = |line: &String| line.chars().take(width.max(40)).collect::<String>() + "\n";
    lines.iter().map(cut).collect()
}

fn step_lines(step: &Step) -> Vec<String> {
    let place = format!("{} {}/{}", step.stage, step.number, step.of);
    let state = if step.state == "unneeded" { "-" } else { step.state };
    let mut lines =
        vec![format!("  {state:<6}  {:<6}  {place:<16}  {}", step.way.unwrap_or_default(), step.instruction)];
    let reasons = [
        step.why.as_ref().map(|why| format!("why: {why}")),
        step.emulated_because.as_ref().map(|why| format!("emulated: {why}")),
    ];
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    if !reasons.is_empty() {
        lines.push(format!("{:18}{}", "", reasons.join("; ")));
    }
    lines.extend(caches_said(step).map(|said| format!("{:18}{said}", "")));
    lines
}

/// The caches that kiln adds, a line each.
fn caches_said(step: &Step) -> impl Iterator<Item = String> {
    step.auto_caches.iter().map(|cache| format!("cache added: {} at {}", cache.id, cache.target))
}
