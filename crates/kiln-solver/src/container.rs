//! The container of a step.

use std::sync::Arc;

use kiln_docker::{ContainerId, ContainerSpec, ImageId, NetworkSpec, labels, toolbox};
use kiln_graph::{Exec, VertexId};
use tokio::try_join;

use crate::chain;
use crate::error::Result;
use crate::furnish::Furniture;
use crate::network::Lent;
use crate::shared::{Reader, Shared};
use crate::snapshot::Snapshot;
use crate::stubs::{self, Points, Stubs};
use crate::tidy;
use crate::twin::{self, Native};

/// Where programs look for a user's agent.
const AGENT: &str = "SSH_AUTH_SOCK";

/// Variables that kiln itself gives to steps. A checkpoint remembers those of the container it was made of, so each new
/// container drops the ones that are not wanted any more.
const INJECTED: &[&str] = &[
    "APT_CONFIG",
    "CARGO_HTTP_CAINFO",
    "CCACHE_MAXSIZE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "KILN_JOBS",
    "KILN_TWIN_LOG",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "REQUESTS_CA_BUNDLE",
    AGENT,
    "SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// A step and all that its container needs.
pub(crate) struct Step<'a> {
    pub(crate) id: VertexId,
    pub(crate) exec: &'a Exec,
    pub(crate) furniture: &'a Furniture,
    pub(crate) lent: &'a Lent,
    pub(crate) native: Option<&'a Native>,
    /// Whether its container is to run other commands after it.
    pub(crate) serves: bool,
}

/// A container that is ready to start.
pub(crate) struct Prepared {
    pub(crate) container: ContainerId,
    pub(crate) points: Points,
    /// The command with all that has to come before it, for a container that waits for commands.
    pub(crate) argv: Vec<String>,
}

/// The stubs in what a step stands on, and whether it removes them.
struct Below {
    stubs: Arc<Stubs>,
    tidies: bool,
}

impl Step<'_> {
    /// Makes the container, with the files of `below`.
    pub(crate) async fn prepare(&self, shared: &Arc<Shared>, below: &Snapshot) -> Result<Prepared> {
        let (id, exec) = (self.id, self.exec);
        let (mut snapshot, mut stubs) = (below.clone(), shared.stubs_of(below));
        if !stubs.is_empty() && shared.can_tidy() && !is_root(exec) {
            let parent = shared.plan.graph().vertex(id).inputs[0];
            // Only root can remove what root has made.
            let clean = Box::pin(shared.clean_image_of(parent, below)).await?;
            (snapshot, stubs) = (Snapshot::Image(clean, shared.platform_of(below)), Arc::default());
        }
        let below = Below { tidies: !stubs.is_empty() && shared.can_tidy(), stubs };
        let (base, operations) = match shared.base_of(&snapshot).await? {
            // One chain of files on nothing may serve several platforms.
            (Snapshot::Scratch(_), operations) => (Snapshot::Scratch(exec.platform), operations),
            split => split,
        };
        let targets: Vec<String> = self.furniture.mounts.iter().map(|mount| mount.target.clone()).collect();
        let mut image = shared.image_of(&base).await?;
        let first = self.spec(shared, &image, &below).await?;
        // What is copied into a container makes mount points in it. Those below `/dev` cannot be removed from there, because
        // another `/dev` lies over them when it runs; kiln knows them, but an image is for others.
        let marks =
            shared.plan.request.makes_image() && first.mounts.iter().any(|mount| mount.target.starts_with("/dev/"));
        let mut made = None;
        if operations.is_empty() || !marks {
            let place = shared.place(&base, &image, exec.platform, &operations);
            let (container, place) = try_join!(shared.create(first), place)?;
            let unpacked = shared.apply(&container, place, exec.platform, &targets, &operations).await?;
            made = unpacked.map(|unpacked| (container, unpacked));
        }
        let (container, unpacked) = if let Some(made) = made {
            made
        } else {
            // What is copied to a place that the step mounts over would end up in the mount: it is put below it first.
            image = shared.image_of(&snapshot).await?;
            (shared.create(self.spec(shared, &image, &below).await?).await?, Vec::new())
        };
        let mut points = if exec.mounts.is_empty() {
            let stubs = if below.tidies { Stubs::default() } else { Stubs::clone(&below.stubs) };
            Points { stubs, mounted: Vec::new(), covers: false }
        } else {
            let reader = shared.reader_of(&image, exec.platform, Reader::Questions).await?;
            stubs::find(shared, &reader, (&below.stubs, below.tidies), &targets, &unpacked).await?
        };
        points.covers |= self.furniture.has_secrets();
        Ok(Prepared { container, points, argv: self.argv(shared, &below) })
    }

    /// The command with all that has to come before it.
    fn argv(&self, shared: &Shared, below: &Below) -> Vec<String> {
        let argv = match self.native {
            Some(_) => twin::wrap(self.exec.argv.clone()),
            None => self.exec.argv.clone(),
        };
        let mut argv = self.furniture.wrap(argv);
        if below.tidies {
            argv = tidy::command(&below.stubs, argv);
        }
        toolbox::under_kernel(shared.engine.info().arch, self.exec.platform.arch, argv)
    }

    async fn spec(&self, shared: &Shared, image: &ImageId, below: &Below) -> Result<ContainerSpec> {
        let (exec, arch) = (self.exec, shared.engine.info().arch);
        let settings = shared.settings(self.id).next().cloned().unwrap_or_default();
        let toolbox = if self.native.is_some() || self.furniture.variables || below.tidies || self.serves {
            Some(toolbox::mount(&shared.toolbox_volume().await?))
        } else {
            shared.toolbox(exec.platform).await?
        };
        let mut env = environment(shared, exec);
        if let Some(agent) = self.furniture.agent.as_ref().filter(|_| !exec.env.iter().any(|(name, _)| name == AGENT)) {
            env.retain(|entry| entry != AGENT);
            env.push(format!("{AGENT}={agent}"));
        }
        Ok(ContainerSpec {
            argv: if self.serves {
                chain::serve()
            } else {
                toolbox::as_first(arch, exec.platform.arch, self.argv(shared, below))
            },
            env,
            cwd: exec.cwd.clone(),
            user: exec.user.clone(),
            mounts: self.furniture.mounts.iter().cloned().chain(toolbox).collect(),
            network: self.lent.spec.clone(),
            privileged: exec.privileged,
            // A network of another container has its names.
            extra_hosts: if matches!(self.lent.spec, NetworkSpec::Of(_)) { Vec::new() } else { settings.extra_hosts },
            limits: settings.limits,
            stdin: self.serves,
            ..ContainerSpec::idle(image.clone(), exec.platform, shared.labels("step"))
        })
    }

    /// A container like that of the step, of an image of what the step has left, for a shell.
    pub(crate) async fn shell(&self, shared: &Shared, image: &ImageId) -> Result<ContainerSpec> {
        let below = Below { stubs: Arc::default(), tidies: false };
        let spec = self.spec(shared, image, &below).await?;
        let argv = self.furniture.wrap(vec![shell_of(&self.exec.argv).to_owned()]);
        Ok(ContainerSpec {
            argv: toolbox::under_kernel(shared.engine.info().arch, self.exec.platform.arch, argv),
            labels: shared.labels(labels::SHELL),
            stdin: true,
            tty: true,
            ..spec
        })
    }
}

/// The shell that a command was given to, if it was one.
fn shell_of(argv: &[String]) -> &str {
    const SHELLS: [&str; 7] = ["ash", "bash", "busybox", "dash", "ksh", "sh", "zsh"];
    let program = argv.first().map_or("", String::as_str);
    let name = program.rsplit('/').next().unwrap_or_default();
    if SHELLS.contains(&name) { program } else { "/bin/sh" }
}

/// Whether a command runs as root, in whatever group.
pub(crate) fn is_root(exec: &Exec) -> bool {
    matches!(exec.user.split(':').next().unwrap_or_default(), "" | "0" | "root")
}

/// The environment of a step: its own, what kiln gives to every step, and the names of what it does not give.
pub(crate) fn environment(shared: &Shared, exec: &Exec) -> Vec<String> {
    let mut env: Vec<String> = exec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let set = |name: &str| exec.env.iter().any(|(n, _)| n == name);
    let injected = shared.plan.request.run.env.get(&exec.platform);
    for (name, value) in injected.into_iter().flatten() {
        if !set(name) {
            env.push(format!("{name}={value}"));
        }
    }
    let given = |name: &str| injected.is_some_and(|env| env.iter().any(|(n, _)| n == name));
    env.extend(INJECTED.iter().filter(|name| !set(name) && !given(name)).map(|name| (*name).to_owned()));
    env
}
