//! Commands that follow each other in one container.
//!
//! A container costs a daemon more than a small command does. So where a command stands on another one and both see
//! nothing but files, the second goes on in the container of the first, after that has been committed: the first process
//! (`kiln-twin serve`) runs them one by one, ends what each leaves running, and tells whether the container is still like
//! a new one. The next checkpoint then holds the files of both. That is worth it while they are few, of which the time
//! that the last commit took tells. What takes long to commit for the time it took to make, a gigabyte out of an archive, gets no
//! checkpoint where none was asked for: to run it again costs less.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_docker::{ContainerId, Hold, LogStream};
use kiln_graph::{Exec, Network, Op, VertexId};

use crate::cancel::Cancel;
use crate::error::Result;
use crate::network::Lent;
use crate::output::{self, Ended, Output as Said};
use crate::plan::{Action, Plan};
use crate::request::Output;
use crate::secret::Masks;
use crate::shared::{Shared, lock};
use crate::snapshot::{Made, Pending, Snapshot};

/// What a daemon commits in a second, in bytes, if it is fast.
const COMMITTED: u64 = 250_000_000;
/// A commit may take one part of so many of the time that it may save: not every checkpoint is used.
const PART: u32 = 4;
/// A commit that is always worth its time.
const CHEAP: Duration = Duration::from_millis(300);
/// Longest time that a commit may have taken for its container to be used on.
const QUICK: Duration = Duration::from_millis(150);
/// How long a container may take to end when its input has.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which command may go on in the container of which.
#[derive(Default)]
pub(crate) struct Chains {
    followed: HashMap<VertexId, VertexId>,
    /// What somebody wants the checkpoints of: with no files to remember a build by, they are its result.
    wanted: HashSet<VertexId>,
}

impl Chains {
    pub(crate) fn new(plan: &Plan) -> Self {
        let graph = plan.graph();
        let runs = |id: VertexId| matches!(plan.action(id), Action::Run(_));
        // Whose result is used once only.
        let mut uses: HashMap<VertexId, usize> = HashMap::new();
        for (_, vertex) in graph.iter().filter(|(id, _)| runs(*id)) {
            let twin = vertex.twin.iter().flat_map(|twin| twin.inputs());
            for input in vertex.inputs.iter().copied().chain(twin) {
                *uses.entry(input).or_default() += 1;
            }
        }
        for target in &graph.targets {
            *uses.entry(target.root).or_default() += 1;
        }
        let alone = |id: VertexId| uses.get(&id) == Some(&1);
        let layers = layers(plan);
        let command = |id: VertexId| match &graph.vertex(id).op {
            Op::Exec(exec) if runs(id) && graph.vertex(id).twin.is_none() && suits(exec) => Some(exec),
            _ => None,
        };
        let command = |id: VertexId| command(id).filter(|_| !layers.contains(&id));
        let mut followed = HashMap::new();
        for (id, vertex) in graph.iter() {
            let Some(exec) = command(id) else { continue };
            let mut below = vertex.inputs[0];
            // Files may come in between.
            while matches!(graph.vertex(below).op, Op::File(_)) && runs(below) && alone(below) {
                let Some(input) = graph.vertex(below).inputs.first() else { break };
                below = *input;
            }
            if let Some(first) = command(below)
                && alone(below)
                && first.platform == exec.platform
                && first.network == exec.network
                && plan.groups[below.0] == plan.groups[id.0]
            {
                followed.insert(below, id);
            }
        }
        Self { followed, wanted: plan.wanted() }
    }

    /// Whether another command may go on in the container of this one.
    pub(crate) fn is_followed(&self, id: VertexId) -> bool {
        self.followed.contains_key(&id)
    }

    /// Whether a command may go on in the container of another one.
    pub(crate) fn follows(&self, id: VertexId) -> bool {
        self.followed.values().any(|follower| *follower == id)
    }
}

/// The vertices that become layers of an image. Who gets an image wants a layer for each command: those that did not change
/// are not sent again.
pub(crate) fn layers(plan: &Plan) -> HashSet<VertexId> {
    let request = &plan.request;
    let mut layers = HashSet::new();
    for (index, (target, output)) in plan.graph().targets.iter().zip(&request.outputs).enumerate() {
        if !request.group_of(index).exports.has_image() && !matches!(output, Output::Image(_)) {
            continue;
        }
        let mut next = Some(target.root);
        while let Some(id) = next {
            layers.insert(id);
            next = plan.graph().vertex(id).inputs.first().copied();
        }
    }
    layers
}

/// Whether a command's container is like that of any other, but for its files. The first process runs as root and
/// reads no list of users.
fn suits(exec: &Exec) -> bool {
    let is_root = matches!(exec.user.as_str(), "" | "0" | "root");
    exec.mounts.is_empty() && exec.files.is_empty() && !exec.privileged && is_root && exec.network != Network::Host
}

/// A container that waits for commands.
pub(crate) struct Live {
    hold: Hold,
    logs: LogStream,
    lent: Lent,
}

impl Live {
    /// Starts a container whose first process is [`serve`].
    pub(crate) async fn start(shared: &Shared, container: &ContainerId, lent: Lent) -> Result<Self> {
        let hold = shared.engine.hold(container).await?;
        let logs = shared.engine.attach(container).await?;
        shared.engine.start_container(container).await?;
        Ok(Self { hold, logs, lent })
    }

    /// Runs a command to its end; `None` if the container ended before it.
    pub(crate) async fn run(&mut self, shared: &Shared, id: VertexId, command: Request<'_>) -> (Said, Option<Ended>) {
        let mark = format!("{:016x}", RandomState::new().hash_one(id.0));
        self.hold.send(command.bytes(&mark));
        output::follow(shared, id, &mut self.logs, &Masks::default(), Some(&mark)).await
    }

    /// Ends it.
    pub(crate) fn end(self, shared: &Shared) {
        drop(self.hold);
        shared.networks.give_back(self.lent);
    }

    /// Ends it after a command has failed; whether that was for lack of memory.
    pub(crate) async fn end_failed(self, shared: &Shared, container: &ContainerId) -> bool {
        drop(self.hold);
        let waiting = tokio::time::timeout(PATIENCE, shared.engine.wait_container(container));
        matches!(waiting.await, Ok(Ok(status)) if status.oom)
    }
}

/// The command of a container that waits for commands.
pub(crate) fn serve() -> Vec<String> {
    [kiln_twin::PROGRAM, "serve"].map(str::to_owned).into()
}

/// A command for a container that waits for one.
pub(crate) struct Request<'a> {
    pub(crate) argv: &'a [String],
    pub(crate) env: &'a [String],
    pub(crate) cwd: &'a str,
}

impl Request<'_> {
    /// As `shim/serve.rs` reads it.
    fn bytes(&self, mark: &str) -> Vec<u8> {
        let cwd = if self.cwd.is_empty() { "/" } else { self.cwd };
        let count = self.argv.len().to_string();
        let fields = [mark, cwd, &count].into_iter();
        let fields = fields.chain(self.argv.iter().chain(self.env).map(String::as_str));
        let mut bytes = vec![0; 4];
        for field in fields {
            bytes.extend_from_slice(field.as_bytes());
            bytes.push(0);
        }
        let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }
}

/// The container that a command goes on in, with the files that come before it.
pub(crate) struct Continued {
    pub(crate) made: Arc<Made>,
    pub(crate) live: Live,
    pub(crate) operations: Vec<Arc<Pending>>,
    /// How long the commands ran whose files have no checkpoint.
    pub(crate) spent: Duration,
}

/// Whether so many bytes are committed in little time, measured by that which it took to make them.
fn pays(bytes: u64, spent: Duration) -> bool {
    Duration::from_millis(bytes * 1000 / COMMITTED) <= (spent / PART).max(CHEAP)
}

/// Looks for the container that the command of `id` may go on in. What is below the command is committed then.
pub(crate) async fn take(
    shared: &Arc<Shared>,
    id: VertexId,
    below: &Snapshot,
    cancel: &Cancel,
) -> Result<Option<Continued>> {
    let (Snapshot::Step(made), operations) = below.split() else { return Ok(None) };
    if !shared.chains.follows(id) {
        return Ok(None);
    }
    let Some(live) = lock(&made.live).take() else { return Ok(None) };
    if !shared.stubs_of(below).is_empty() || operations.iter().any(|pending| pending.is_kept()) {
        live.end(shared);
        return Ok(None);
    }
    let started = Instant::now();
    let committed = async {
        if operations.is_empty()
            && !shared.chains.wanted.contains(&made.vertex)
            && !pays(shared.engine.written(&made.container).await?, made.spent)
        {
            return Ok(false);
        }
        shared.commit(&made).await.map(|_| true)
    };
    match cancel.or_stop(committed).await {
        Ok(false) => {
            let spent = made.spent;
            Ok(Some(Continued { made, live, operations, spent }))
        }
        Ok(true) if started.elapsed() <= QUICK => Ok(Some(Continued { made, live, operations, spent: Duration::ZERO })),
        Ok(true) => {
            live.end(shared);
            Ok(None)
        }
        Err(error) => {
            live.end(shared);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_faster_than_committed_gets_no_checkpoint() {
        assert!(pays(1_000_000, Duration::ZERO));
        assert!(!pays(1_000_000_000, Duration::from_secs(8)));
        assert!(pays(1_000_000_000, Duration::from_secs(30)));
    }

    #[test]
    fn a_request_is_length_and_fields() {
        let argv = ["/bin/sh".to_owned(), "-c".to_owned(), "x".to_owned()];
        let request = Request { argv: &argv, env: &["A=b c".to_owned()], cwd: "" };
        assert_eq!(request.bytes("m"), b"\x19\0\0\0m\0/\x003\0/bin/sh\0-c\0x\0A=b c\0");
    }
}
