//! Gives the commands of emulated platforms their native twins: the same Dockerfile is lowered for the daemon's own
//! platform into the same graph, and each command is paired with its counterpart.
//!
//! What a command gets is the counterpart's parent, file operations left out: programs come from commands. A command
//! that installs system packages gets the counterpart's own result, if that is made anyway for a later one: so it waits
//! a little, and finds the interpreters that it installs in their native form.

use std::collections::{BTreeMap, HashMap, HashSet};

use kiln_config::Twin as Setting;
use kiln_docker::{EngineError, PullPolicy};
use kiln_dockerfile::LoweredCommand;
use kiln_graph::{BuildGraph, Exec, Op, Platform, Source, Twin, VertexId};
use kiln_solver::BuildEvent;

use crate::error::{CliError, Result};
use crate::lower::{self, Lookup, Lowered, Wanted};
use crate::recipe;

/// What twins need to know of a build.
pub(crate) struct Surroundings<'a> {
    pub(crate) lookup: Lookup<'a>,
    /// Arguments of the recipe that makes cross toolchains.
    pub(crate) args: BTreeMap<String, String>,
}

/// Attaches twins to the commands of `wanted`, each with its setting.
pub(crate) async fn attach(
    surroundings: &Surroundings<'_>,
    wanted: &[(Wanted, Setting)],
    lowered: &mut Lowered,
) -> Result<()> {
    let daemon = surroundings.lookup.engine.info().arch;
    for (index, (wanted, setting)) in wanted.iter().enumerate() {
        let platform = wanted.platform;
        if platform.arch.may_run_on(daemon) {
            continue;
        }
        if *setting == Setting::Off {
            note_rest(index, platform, "twins are off", lowered);
            continue;
        }
        let outcome = match kiln_twin::stands_in(daemon, platform.arch) {
            None => {
                Err(format!("a {} machine has no native programs that could stand in for {platform}", daemon.oci().0))
            }
            Some(_) if kiln_twin::program(daemon).is_none() => {
                Err(format!("this kiln was built without the program for {} daemons", daemon.oci().0))
            }
            Some(root) => {
                let commands = lowered.commands[index].clone();
                attach_to(surroundings, wanted, Platform::linux(root), &commands, lowered).await
            }
        };
        note_rest(index, platform, outcome.as_ref().err().map_or(NOT_HELPED, String::as_str), lowered);
        match outcome {
            Ok(()) => {}
            Err(reason) if *setting == Setting::On => {
                return Err(CliError::Engine(EngineError::Emulation {
                    platform,
                    reason: format!("native programs are wanted, but {reason}"),
                    hint: "leave it to kiln with `--twin auto`, or emulate with `--twin off`".to_owned(),
                }));
            }
            Err(reason) => {
                let text = format!("no native twin: {reason}");
                let _ = surroundings.lookup.events.send(BuildEvent::Notice { platform: Some(platform), text }).await;
            }
        }
    }
    Ok(())
}

/// Why a command has no twin where others have.
const NOT_HELPED: &str = "it calls nothing that has a native equal";

/// Notes why the commands that have got no twin are emulated.
fn note_rest(index: usize, platform: Platform, why: &str, lowered: &mut Lowered) {
    for command in &lowered.commands[index] {
        let vertex = lowered.graph.vertex(command.vertex);
        let is_foreign = matches!(&vertex.op, Op::Exec(exec) if exec.platform == platform);
        if is_foreign && vertex.twin.is_none() {
            lowered.emulated.entry(command.vertex).or_insert_with(|| why.to_owned());
        }
    }
}

/// Attaches twins to a platform's commands: programs of `own`, which the daemon's machine runs.
async fn attach_to(
    surroundings: &Surroundings<'_>,
    wanted: &Wanted,
    own: Platform,
    commands: &[LoweredCommand],
    lowered: &mut Lowered,
) -> Result<(), String> {
    let graph = &lowered.graph;
    let foreign = |command: &&LoweredCommand| {
        exec(graph, command.vertex)
            .is_some_and(|exec| exec.platform == wanted.platform && kiln_twin::helps(&text(exec)))
    };
    let commands: Vec<LoweredCommand> = commands.iter().filter(foreign).copied().collect();
    if commands.is_empty() {
        return Ok(());
    }
    let native = Wanted { platform: own, pull: PullPolicy::Missing, ..wanted.clone() };
    let counterparts = lower_into(surroundings, &native, lowered).await?.1;
    let counterparts: HashMap<(usize, u32), VertexId> =
        counterparts.iter().map(|command| ((command.stage, command.step), command.vertex)).collect();
    let mut pairs: Vec<(VertexId, VertexId)> = Vec::new();
    for command in &commands {
        let counterpart = counterparts.get(&(command.stage, command.step)).copied();
        let counterpart = counterpart.filter(|id| exec(&lowered.graph, *id).is_some_and(|exec| exec.platform == own));
        if let Some(counterpart) = counterpart {
            pairs.push((command.vertex, counterpart));
        } else {
            lowered.emulated.insert(command.vertex, format!("the Dockerfile has no such step for {own}"));
        }
    }
    let parents: Vec<VertexId> = pairs.iter().map(|(_, counterpart)| programs(&lowered.graph, *counterpart)).collect();
    let needed: HashSet<VertexId> = parents.iter().copied().collect();
    let mut crosses: HashMap<String, Option<VertexId>> = HashMap::new();
    for ((vertex, counterpart), parent) in pairs.into_iter().zip(parents) {
        let installs = exec(&lowered.graph, vertex).is_some_and(|exec| kiln_twin::installs(&text(exec)));
        let twin = if installs && needed.contains(&counterpart) {
            Twin { root: counterpart, cross: None }
        } else {
            let mut found = None;
            if let Some(base) = base(&lowered.graph, vertex).filter(|_| !installs) {
                if !crosses.contains_key(&base) {
                    crosses.insert(base.clone(), cross(surroundings, wanted.platform, &base, lowered).await?);
                }
                found = crosses[&base];
            }
            Twin { root: parent, cross: found }
        };
        lowered.graph.set_twin(vertex, twin);
    }
    Ok(())
}

/// Adds a Dockerfile for the daemon's own platform to the graph: its root and its commands.
async fn lower_into(
    surroundings: &Surroundings<'_>,
    native: &Wanted,
    lowered: &mut Lowered,
) -> Result<(VertexId, Vec<LoweredCommand>), String> {
    let wanted = std::slice::from_ref(native);
    let resolved = lower::resolve_images(&surroundings.lookup, wanted, &mut lowered.images).await;
    resolved.map_err(|error| error.to_string())?;
    let options = lower::options(surroundings.lookup.engine, native);
    let target = native.target.as_deref();
    let made = native.dockerfile.lower(&options, target, native.platform, &lowered.images, &mut lowered.graph);
    let made = made.map_err(|error| error.to_string())?;
    Ok((made.target.root, made.commands))
}

/// The image with compilers for `platform`, on the same base.
async fn cross(
    surroundings: &Surroundings<'_>,
    platform: Platform,
    base: &str,
    lowered: &mut Lowered,
) -> Result<Option<VertexId>, String> {
    let Some(triple) = kiln_twin::triple(platform.arch) else { return Ok(None) };
    let source = recipe::cross();
    let dockerfile = kiln_dockerfile::parse(&source.name, &source.text).map_err(|error| error.to_string())?;
    let mut args = surroundings.args.clone();
    args.extend([("BASE".to_owned(), base.to_owned()), ("TRIPLE".to_owned(), triple.to_owned())]);
    let own = Platform::linux(surroundings.lookup.engine.info().arch);
    // It is no part of what the user builds: `--no-cache` does not concern it.
    let wanted = Wanted::own(own, dockerfile, args);
    Ok(Some(lower_into(surroundings, &wanted, lowered).await?.0))
}

fn exec(graph: &BuildGraph, id: VertexId) -> Option<&Exec> {
    match &graph.vertex(id).op {
        Op::Exec(exec) => Some(exec),
        _ => None,
    }
}

/// All that a command runs, as text.
fn text(exec: &Exec) -> String {
    let files = exec.files.iter().map(|file| String::from_utf8_lossy(&file.data).into_owned());
    exec.argv.iter().cloned().chain(files).collect::<Vec<_>>().join("\n")
}

/// The vertex below a command that its programs come from: files that are only copied bring none.
fn programs(graph: &BuildGraph, command: VertexId) -> VertexId {
    let mut at = graph.vertex(command).inputs[0];
    while matches!(graph.vertex(at).op, Op::File(_)) {
        at = graph.vertex(at).inputs[0];
    }
    at
}

/// The image that a command's stages stand on.
fn base(graph: &BuildGraph, command: VertexId) -> Option<String> {
    let mut at = command;
    loop {
        let vertex = graph.vertex(at);
        match &vertex.op {
            Op::Source(Source::Image { reference, .. }) => return Some(reference.clone()),
            Op::Source(_) => return None,
            _ => at = *vertex.inputs.first()?,
        }
    }
}
