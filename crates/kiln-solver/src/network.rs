//! Networks that steps use one after the other.
//!
//! A daemon takes longer to make a container's network than for all else that a small step costs, and longer still to
//! take it down. So where a build has several steps to run, a container of kiln's that does nothing
//! (`kiln-twin hold`) has the network, and steps enter it. It is lent to one step at a time: what runs at the same time
//! has different networks, as without this. Processes of a step end with it; what it wrote to `/etc/hosts` or
//! `/etc/resolv.conf`, which come with the network, is put back before the next one.

use std::sync::Mutex;

use kiln_docker::{ContainerId, Hold, NetworkSpec};
use kiln_graph::{Exec, Network, Op, VertexId};

use crate::chain::Chains;
use crate::error::Result;
use crate::plan::{Action, Plan};
use crate::shared::{Shared, lock};

/// Steps that a network has to serve to be worth a container.
const WORTH: usize = 3;

/// The networks of a build.
pub(crate) struct Networks(Mutex<State>);

struct State {
    /// Steps that may use one, have not begun, and will hardly go on in the container of another one.
    left: usize,
    made: usize,
    free: Vec<Holder>,
}

/// A container that has a network, for as long as this lives.
struct Holder {
    network: NetworkSpec,
    /// Hosts that were added to it.
    hosts: Vec<String>,
    container: ContainerId,
    hold: Hold,
}

/// The network of one step.
pub(crate) struct Lent {
    pub(crate) spec: NetworkSpec,
    holder: Option<Holder>,
}

impl Networks {
    pub(crate) fn new(plan: &Plan, chains: &Chains) -> Self {
        let may_use = |(id, vertex): &(VertexId, &kiln_graph::Vertex)| match &vertex.op {
            Op::Exec(exec) => matches!(plan.action(*id), Action::Run(_)) && shares(exec) && !chains.follows(*id),
            _ => false,
        };
        let left = plan.graph().iter().filter(may_use).count();
        Self(Mutex::new(State { left, made: 0, free: Vec::new() }))
    }

    /// The network that a step has where it shares none.
    pub(crate) fn own(shared: &Shared, id: VertexId, exec: &Exec) -> Lent {
        let spec = match exec.network {
            Network::Default => shared.settings(id).next().map(|settings| settings.network.clone()).unwrap_or_default(),
            Network::None => NetworkSpec::None,
            Network::Host => NetworkSpec::Host,
        };
        Lent { spec, holder: None }
    }

    /// The network for a step: one that is free, a new one if enough steps are left for it, or the step's own.
    pub(crate) async fn lend(&self, shared: &Shared, id: VertexId, exec: &Exec) -> Lent {
        let settings = shared.settings(id).next().cloned().unwrap_or_default();
        let Lent { spec, .. } = Self::own(shared, id, exec);
        let own = |spec| Lent { spec, holder: None };
        if !shared.has_program() || !shares(exec) || !matches!(spec, NetworkSpec::Bridge | NetworkSpec::Named(_)) {
            return own(spec);
        }
        {
            let mut state = lock(&self.0);
            let left = state.left;
            if !shared.chains.follows(id) {
                state.left = left.saturating_sub(1);
            }
            let fits = |holder: &Holder| holder.network == spec && holder.hosts == settings.extra_hosts;
            if let Some(at) = state.free.iter().rposition(fits) {
                return Lent::of(state.free.remove(at));
            }
            if left < WORTH * (state.made + 1) {
                return own(spec);
            }
            state.made += 1;
        }
        match make(shared, spec.clone(), settings.extra_hosts).await {
            Ok(holder) => Lent::of(holder),
            // Whatever it is, the step's own network meets it again if it matters.
            Err(error) => {
                tracing::debug!("no network to share: {error}");
                own(spec)
            }
        }
    }

    /// Takes a network back from a step that has ended well.
    pub(crate) fn give_back(&self, lent: Lent) {
        let Some(holder) = lent.holder else { return };
        let mut state = lock(&self.0);
        // Else it ends while the build does other things, so that nobody has to wait for that at the end.
        if state.left > state.free.len() {
            holder.hold.send(&b"\n"[..]);
            state.free.push(holder);
        }
    }
}

impl Lent {
    fn of(holder: Holder) -> Self {
        Self { spec: NetworkSpec::Of(holder.container.clone()), holder: Some(holder) }
    }
}

/// Whether a step may use a network after another step: one with privileges could have changed it.
fn shares(exec: &Exec) -> bool {
    exec.network == Network::Default && !exec.privileged
}

async fn make(shared: &Shared, network: NetworkSpec, hosts: Vec<String>) -> Result<Holder> {
    let (container, hold) = shared
        .holder("network", |spec| {
            spec.network = network.clone();
            spec.extra_hosts.clone_from(&hosts);
        })
        .await?;
    Ok(Holder { network, hosts, container, hold })
}
