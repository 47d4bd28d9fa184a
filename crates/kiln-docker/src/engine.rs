//! The seam between the solver and a daemon.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use kiln_graph::{Arch, ImageConfig, Platform};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::Result;

/// A stream of bytes in constant memory: an archive on its way in or out.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// The output of a container, in order.
pub type LogStream = BoxStream<'static, Result<LogChunk>>;

/// A piece of a container's output; it need not end at a line's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Standard error rather than standard output.
    pub stderr: bool,
    /// The bytes.
    pub bytes: Bytes,
}

/// What a container is started from: an image id, or with the containerd store a name that holds several platforms.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageId(pub String);

/// The daemon's id of a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerId(pub String);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the daemon stores images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Graph drivers: one platform per tag.
    Classic,
    /// containerd snapshotters: all platforms under one tag.
    Containerd,
}

/// What the daemon says of itself.
#[derive(Clone, Debug)]
pub struct DaemonInfo {
    /// Identity of the daemon, stable over restarts.
    pub id: String,
    /// Engine version.
    pub version: String,
    /// API version in use.
    pub api_version: String,
    /// Its processor architecture.
    pub arch: Arch,
    /// Number of processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Image store.
    pub store: StoreKind,
    /// Storage driver: `overlay2`, `overlayfs`, ...
    pub storage_driver: String,
    /// Whether it runs without root.
    pub rootless: bool,
    /// Kernel release.
    pub kernel: String,
    /// Name of the machine.
    pub name: String,
    /// The address kiln reached it at.
    pub host: String,
}

/// When to ask the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Only if the image is not on the daemon.
    #[default]
    Missing,
    /// Every time.
    Always,
    /// Never.
    Never,
}

/// Progress of a pull, summed over its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullProgress {
    /// The reference.
    pub reference: String,
    /// Bytes fetched so far.
    pub current: u64,
    /// Bytes to fetch, as far as known.
    pub total: u64,
}

/// An image of one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// What to start containers from.
    pub id: ImageId,
    /// Its platform.
    pub platform: Platform,
    /// Its configuration.
    pub config: ImageConfig,
    /// All its labels, `kiln.*` ones too.
    pub labels: BTreeMap<String, String>,
    /// Size in bytes, as the daemon counts.
    pub size: u64,
    /// Creation time in seconds since 1970.
    pub created: i64,
    /// `name@sha256:...` of the registry, if it came from one.
    pub repo_digests: Vec<String>,
    /// Names.
    pub tags: Vec<String>,
    /// Layer digests, lowest first. Empty in listings.
    pub layers: Vec<String>,
    /// The image that it was committed on top of, where the daemon says so.
    pub parent: Option<ImageId>,
}

impl Image {
    /// Of the digests that registries know it by, that of the repository that was asked for; any, if there is none.
    pub fn digest_for(&self, reference: &str) -> Option<&str> {
        let digests = || self.repo_digests.iter().filter_map(|known| known.split_once('@'));
        let is_asked_for =
            |(name, _): &(&str, &str)| reference.starts_with(name) || reference.contains(&format!("/{name}"));
        digests().find(is_asked_for).or_else(|| digests().next()).map(|(_, digest)| digest)
    }
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A named volume. Image content is never copied into it.
    Volume(String),
    /// A file or folder of a named volume; it must be there when the container starts.
    Part {
        /// The volume.
        volume: String,
        /// Path in it, without a slash in front.
        path: String,
    },
    /// A path of the daemon's machine.
    Host(String),
    /// Memory, with a limit in bytes.
    Tmpfs(Option<u64>),
}

/// A limit of what a process may use, as `ulimit` sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Its name: `nofile`, `nproc`, ...
    pub name: String,
    /// What is in force at first; -1 for none.
    pub soft: i64,
    /// What a process may raise it to; -1 for none.
    pub hard: i64,
}

/// What the processes of a container may use of the machine; what is not set is not limited.
/// Source: `HostConfig` of the Docker Engine API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Limits of single processes.
    pub ulimits: Vec<Ulimit>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together in bytes; -1 for no limit.
    pub memory_swap: Option<i64>,
    /// Processors, in billionths of one.
    pub nano_cpus: Option<u64>,
    /// Weight among the containers that want the processor; 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// Period of the scheduler in microseconds.
    pub cpu_period: Option<u64>,
    /// Time in each period in microseconds.
    pub cpu_quota: Option<i64>,
    /// Processors that may be used: `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used: `0,1`.
    pub cpuset_mems: Option<String>,
    /// The control group that the container's own is made in.
    pub cgroup_parent: Option<String>,
}

/// Keeps a container's standard input open. See [`Engine::hold`].
#[derive(Debug)]
pub struct Hold(mpsc::UnboundedSender<Bytes>);

impl Hold {
    /// A hold, and what its keeper listens to: what to send, and the end when it is dropped.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Bytes>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Sends something to the container; nobody waits for it to arrive.
    pub fn send(&self, bytes: impl Into<Bytes>) {
        // Whoever keeps it is gone only if the container is.
        let _ = self.0.send(bytes.into());
    }
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// A mount of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// Absolute path in the container.
    pub target: String,
    /// What is mounted.
    pub source: VolumeSource,
    /// Read-only.
    pub readonly: bool,
}

/// The network of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkSpec {
    /// The daemon's default bridge.
    #[default]
    Bridge,
    /// Loopback only.
    None,
    /// The daemon machine's.
    Host,
    /// A network by name.
    Named(String),
    /// That of a running container, with its `/etc/hosts` and `/etc/resolv.conf`.
    Of(ContainerId),
}

/// One entry of an image's history, as far as a daemon tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastStep {
    /// The image that the entry made, if the daemon still has it.
    pub id: Option<ImageId>,
    /// Seconds since 1970.
    pub created: i64,
    /// The command.
    pub created_by: String,
    /// Comment of whoever made it.
    pub comment: String,
    /// Bytes that the layer added; 0 also for layers of folders and links alone.
    pub size: u64,
}

/// How to make a container.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// The image.
    pub image: ImageId,
    /// The platform of the image; the containerd store needs it to pick one.
    pub platform: Platform,
    /// The whole command; the image's entrypoint and command are not used.
    pub argv: Vec<String>,
    /// `NAME=value`, or `NAME` alone to remove a variable of the image.
    pub env: Vec<String>,
    /// Working folder.
    pub cwd: String,
    /// User; empty means root.
    pub user: String,
    /// Mounts.
    pub mounts: Vec<MountSpec>,
    /// Network.
    pub network: NetworkSpec,
    /// All privileges.
    pub privileged: bool,
    /// Labels; [`crate::labels::VERSION`] is added by the driver.
    pub labels: BTreeMap<String, String>,
    /// A fixed name, where uniqueness is wanted.
    pub name: Option<String>,
    /// Hosts to add, as `name:address`.
    pub extra_hosts: Vec<String>,
    /// What it may use of the machine.
    pub limits: Limits,
    /// Whether it has a standard input, which [`Engine::hold`] keeps open.
    pub stdin: bool,
    /// Whether its input and output are a terminal; all output is standard output then.
    pub tty: bool,
}

impl ContainerSpec {
    /// A container that nobody starts: files go in and out of it. Those that run say what differs.
    pub fn idle(image: ImageId, platform: Platform, labels: BTreeMap<String, String>) -> Self {
        Self {
            image,
            platform,
            argv: vec!["/kiln".to_owned()],
            env: Vec::new(),
            cwd: String::new(),
            user: String::new(),
            mounts: Vec::new(),
            network: NetworkSpec::None,
            privileged: false,
            labels,
            name: None,
            extra_hosts: Vec::new(),
            limits: Limits::default(),
            stdin: false,
            tty: false,
        }
    }
}

/// How to commit a container.
#[derive(Clone, Debug, Default)]
pub struct CommitSpec {
    /// Configuration of the new image. The daemon adds what the container had and this leaves open.
    pub config: ImageConfig,
    /// Labels of the new image; replaces `config.labels`.
    pub labels: BTreeMap<String, String>,
    /// Text of the history entry.
    pub comment: String,
    /// A name for the image: `repository`, `tag`.
    pub name: Option<(String, String)>,
}

/// The type of a path in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Regular file.
    File,
    /// Folder.
    Folder,
    /// Symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

/// What the daemon says of a path in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// Type of the path itself (links are not followed).
    pub kind: FileKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// Where a link leads, resolved by the daemon to an absolute path in the container.
    pub link_target: String,
}

/// A container in a listing.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs.
    pub running: bool,
    /// Creation time in seconds since 1970.
    pub created: i64,
}

/// A volume in a listing.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Size in bytes, where it was asked for.
    pub size: Option<u64>,
    /// Containers that hold it, where it was asked for.
    pub users: Option<u64>,
    /// Creation time in seconds since 1970, where the daemon says it.
    pub created: Option<i64>,
}

/// A Docker daemon. Calls may be cancelled by dropping them; an object may then exist or not, and carries our labels.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Facts about the daemon, read when it was connected.
    fn info(&self) -> &DaemonInfo;

    /// Finds `reference` for `platform`, pulling it if `policy` says so, and never moving a tag the user has.
    ///
    /// With the classic store a tag holds one platform: pulls of one reference are serialised, every result keeps a
    /// name of kiln's own, and a tag that stood for another platform is put back.
    async fn resolve_image(
        &self,
        reference: &str,
        platform: Platform,
        policy: PullPolicy,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Image>;

    /// The digest that its registry has for a reference now, as the daemon sees it: of all platforms together, if it is
    /// for several. `None` where the registry, or the daemon, does not tell. Nothing is pulled.
    async fn digest_now(&self, reference: &str) -> Option<String>;

    /// An image by id or name, as it is on the daemon; `None` if it is not.
    async fn inspect_image(&self, reference: &str) -> Result<Option<Image>>;

    /// All images that carry the label (dangling ones too).
    async fn images_with_label(&self, label: &str) -> Result<Vec<Image>>;

    /// All images with a name that matches a pattern of the daemon's, such as `kiln.local/base/*`.
    async fn images_named(&self, pattern: &str) -> Result<Vec<Image>>;

    /// Loads an image archive (`docker save` format) and returns the image named `reference` in it.
    async fn load_image(&self, archive: ByteStream, reference: &str) -> Result<ImageId>;

    /// An image with its parents and all its layers as an archive, in the format of `docker save`.
    async fn save_image(&self, image: &ImageId) -> Result<ByteStream>;

    /// The history of an image, oldest first.
    async fn image_history(&self, image: &ImageId) -> Result<Vec<PastStep>>;

    /// Removes an image, or one name of it. Not found is no error. Fails with `Conflict` if it is in use.
    async fn remove_image(&self, reference: &str) -> Result<()>;

    /// Makes a container without starting it.
    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId>;

    /// Makes a container that may change the daemon's machine, for setting up emulation: it sees the machine's processes,
    /// may enter their namespaces and mount, and writes `/proc/sys`. An engine that knows no such thing makes a plain one.
    async fn create_host_container(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        self.create_container(spec).await
    }

    /// Attaches to the output of a container. Call before [`Engine::start_container`], so nothing is lost.
    async fn attach(&self, id: &ContainerId) -> Result<LogStream>;

    /// Attaches to the standard input of a container that has one. The container sees its end after what is returned is
    /// dropped, or when this process dies. Call before [`Engine::start_container`].
    async fn hold(&self, id: &ContainerId) -> Result<Hold>;

    /// Tells a running container that has a terminal how large that is.
    async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<()>;

    /// Starts a container.
    async fn start_container(&self, id: &ContainerId) -> Result<()>;

    /// Waits until a container stops; its exit code. 137 with `oom` set when the kernel ended it for memory.
    async fn wait_container(&self, id: &ContainerId) -> Result<ExitStatus>;

    /// How many bytes a container has written over the files of its image.
    async fn written(&self, id: &ContainerId) -> Result<u64>;

    /// Stops a container: SIGTERM, then SIGKILL after `grace_seconds`.
    async fn stop_container(&self, id: &ContainerId, grace_seconds: u32) -> Result<()>;

    /// Removes a container and its anonymous volumes, running or not. Not found is no error.
    async fn remove_container(&self, id: &ContainerId) -> Result<()>;

    /// Containers, running or not, that carry the label.
    async fn containers_with_label(&self, label: &str) -> Result<Vec<Container>>;

    /// Unpacks a tar stream at the folder `path`, which must exist.
    async fn upload(&self, id: &ContainerId, path: &str, archive: ByteStream) -> Result<()>;

    /// A tar stream of `path`: its entries start with the last component of the path.
    async fn download(&self, id: &ContainerId, path: &str) -> Result<ByteStream>;

    /// A tar stream of the whole file system.
    async fn export(&self, id: &ContainerId) -> Result<ByteStream>;

    /// What a path in a container is; `None` if nothing is there.
    async fn stat(&self, id: &ContainerId, path: &str) -> Result<Option<PathStat>>;

    /// Makes an image of a container.
    async fn commit(&self, id: &ContainerId, spec: &CommitSpec) -> Result<ImageId>;

    /// Makes a volume if there is none of that name.
    async fn ensure_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()>;

    /// Makes a volume whose files are in memory, and only as long as a container with it runs.
    async fn ensure_memory_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()>;

    /// Volumes that carry the label. Sizes cost the daemon a walk through them, so only `with_size`.
    async fn volumes_with_label(&self, label: &str, with_size: bool) -> Result<Vec<Volume>>;

    /// Removes a volume. Not found is no error; `Conflict` if a container holds it.
    async fn remove_volume(&self, name: &str) -> Result<()>;
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i64,
    /// Whether it was ended for lack of memory.
    pub oom: bool,
}
