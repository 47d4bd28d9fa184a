//! Caches that travel: what a build needs is brought from stores before it runs, and what it made is taken there after it.
//!
//! Three things travel. *Volumes*: what `RUN --mount=type=cache` collected. *Stages*: checkpoints as the layers that they
//! add to their base image. *Results*: the files that a target exported. Each is a tree of `kiln-cache` in a series of its
//! own: `SCOPE/BRANCH/volume/NAME`, `SCOPE/BRANCH/stages/JOB`, `SCOPE/BRANCH/result/TARGET`. So platforms and targets never
//! overwrite each other, and a branch that has nothing yet reads what its base has. Base images do not travel, but what they
//! are does ([`base()`]).
//!
//! Nothing of this can fail a build: what cannot be had is a notice and a miss.

mod bases;
mod results;
mod road;
mod stages;
mod volumes;
mod way;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use kiln_cache::{
    CacheError, Entry, Fetched, Kind, SaveError, Saved, Saving, Series, Signer, Snapshot, Store, Trust, newest, pack,
};
use kiln_docker::{ContainerId, ContainerSpec, Engine, MountSpec, VolumeSource, toolbox};
use kiln_graph::{Platform, VertexId};
use tokio::sync::oneshot;

use crate::cancel::Cancel;
use crate::error::{Result, SolveError};
use crate::event::{BuildEvent, Direction, EventSender};
use crate::plan::Plan;
use crate::shared::{joined, lock};
use road::Road;
use stages::Stock;

pub use bases::{Base, Used, base};
/// Which checkpoints are taken along: those that the targets stand on, or all.
pub use kiln_cache::address::Mode;

/// What is brought or taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Ids of caches; nothing means all.
    pub caches: Option<Vec<String>>,
    /// Checkpoints.
    pub stages: bool,
    /// Exported files.
    pub results: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { caches: None, stages: true, results: true }
    }
}

impl Wanted {
    fn has_cache(&self, id: &str) -> bool {
        self.caches.as_ref().is_none_or(|list| list.iter().any(|wanted| wanted == id))
    }
}

/// A store, and how it is used.
#[derive(Clone)]
pub struct Remote {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Which checkpoints go there.
    pub mode: Mode,
    /// Whether a build goes on if nothing can be taken there.
    pub ignore_error: bool,
}

/// Where caches come from and go to.
#[derive(Clone)]
pub struct Travel {
    /// Stores to read, best first.
    pub from: Vec<Remote>,
    /// Stores to write.
    pub to: Vec<Remote>,
    /// What tells the caches of projects apart in a store.
    pub scope: String,
    /// The branch that is built, then those whose caches are as good when it has none.
    pub branches: Vec<String>,
    /// Who signs.
    pub signer: Option<Arc<Signer>>,
    /// Whose snapshots are read.
    pub trust: Trust,
    /// Also what no step of this build needs.
    pub whole: bool,
    /// A folder for packs on their way; it is removed afterwards.
    pub spool: PathBuf,
    /// What travels.
    pub wanted: Wanted,
    /// What people should know about the stores.
    pub notices: Vec<String>,
    /// Stores that did not answer: they are not asked again.
    pub away: Away,
}

/// The places of stores that did not answer.
pub type Away = Arc<Mutex<HashSet<String>>>;

/// A way to a daemon and to whoever listens.
#[derive(Clone)]
pub(crate) struct Guide {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) events: EventSender,
    pub(crate) cancel: Cancel,
    pub(crate) travel: Travel,
    pub(crate) owner: String,
    pub(crate) scope: String,
    pub(crate) locks: PathBuf,
    road: Arc<Road>,
    /// Whether there is no short way to volumes.
    no_way: Arc<AtomicBool>,
    /// Containers of [`Guide::beside`].
    open: Arc<Mutex<HashSet<ContainerId>>>,
}

/// What a build is on this machine.
#[derive(Clone, Default)]
struct Home {
    owner: String,
    scope: String,
    locks: PathBuf,
}

impl Home {
    fn of(plan: &Plan) -> Self {
        let request = &plan.request;
        Self { owner: request.owner.clone(), scope: request.scope.clone(), locks: request.locks.clone() }
    }
}

/// A snapshot that was found, and where.
pub(crate) struct Found {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) store: Arc<dyn Store>,
}

impl Guide {
    fn new(
        engine: &Arc<dyn Engine>,
        home: &Home,
        travel: &Travel,
        (events, cancel): (&EventSender, &Cancel),
        direction: Direction,
    ) -> Self {
        let Home { owner, scope, locks } = home.clone();
        Self {
            engine: engine.clone(),
            events: events.clone(),
            cancel: cancel.clone(),
            travel: travel.clone(),
            owner,
            scope,
            locks,
            road: Road::new(direction),
            no_way: Arc::default(),
            open: Arc::default(),
        }
    }

    pub(crate) async fn say(&self, platform: Option<Platform>, text: String) {
        // Whoever shows it may have gone; the build goes on.
        let _ = self.events.send(BuildEvent::Notice { platform, text }).await;
    }

    /// The series of a thing in a branch.
    fn series(&self, branch: &str, kind: &str, name: &str) -> Series {
        Series::new([self.travel.scope.as_str(), branch, kind, name])
    }

    /// The newest snapshot of a thing that suits: of the first branch that has one, in the first store.
    async fn find(&self, kind: &str, name: &str, suits: impl Fn(&Snapshot) -> bool) -> Option<Found> {
        for branch in &self.travel.branches {
            for remote in &self.travel.from {
                if lock(&self.travel.away).contains(&remote.store.place()) {
                    continue;
                }
                let series = self.series(branch, kind, name);
                self.road.to(remote.store.place());
                let found =
                    self.cancel.unless_stopped(newest(remote.store.as_ref(), &series, &self.travel.trust)).await;
                match found {
                    Ok(Ok(Some(snapshot))) if suits(&snapshot) => {
                        return Some(Found { snapshot: Arc::new(snapshot), store: remote.store.clone() });
                    }
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => {
                        if !matches!(error, CacheError::Damaged { .. } | CacheError::Untrusted { .. }) {
                            lock(&self.travel.away).insert(remote.store.place());
                        }
                        self.say(None, told(&error)).await;
                    }
                    Err(_) => return None,
                }
            }
        }
        None
    }

    /// A folder for the packs of one thing.
    fn spool(&self, name: &str) -> PathBuf {
        self.travel.spool.join(kiln_graph::Digest::of(name).short())
    }

    /// No packs yet, in a folder that the caller removes.
    fn fetched(&self, folder: &Path) -> Fetched {
        Fetched::new(folder).counted(&self.road.traffic)
    }

    /// Fetches packs, and says which could not be had.
    async fn fetch(&self, found: &Found, packs: &[kiln_cache::snapshot::PackRef], fetched: &mut Fetched) -> Result<()> {
        self.road.to(found.store.place());
        let fetching = fetched.fetch(found.store.as_ref(), packs);
        let problems = self.cancel.unless_stopped(fetching).await?.map_err(|error| failed(&error))?;
        for problem in &problems {
            self.say(None, told(problem)).await;
        }
        Ok(())
    }

    /// Saves a thing to every store that wants it; what came of it. `read` may be called more than once.
    async fn save(
        &self,
        remote: &Remote,
        (kind, name): (&str, &str),
        read: impl Fn(Option<&Snapshot>, &mut pack::Packer<'_>) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Result<Saved, SaveError> {
        let branch = self.travel.branches.first().map_or("default", String::as_str);
        let series = self.series(branch, kind, name);
        // What cannot be read is replaced; what somebody else wrote is not built upon.
        let before = match newest(remote.store.as_ref(), &series, &self.travel.trust).await {
            Ok(before) => before.map(Arc::new),
            Err(CacheError::Damaged { .. } | CacheError::Untrusted { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let saving = Saving {
            store: remote.store.as_ref(),
            series,
            now: now(),
            before: before.clone(),
            signer: self.travel.signer.clone(),
            traffic: self.road.traffic.clone(),
        };
        saving.save(move |packer| read(before.as_deref(), packer)).await
    }

    /// A container with a volume at [`SEEN`] and other mounts, which is not started. [`Guide::close`] removes it.
    async fn beside(&self, volume: &str, argv: Vec<String>, mounts: Vec<MountSpec>) -> Result<ContainerId> {
        let platform = Platform::linux(self.engine.info().arch);
        let image = kiln_docker::empty_image(self.engine.as_ref(), platform).await?;
        let mount =
            MountSpec { target: SEEN.to_owned(), source: VolumeSource::Volume(volume.to_owned()), readonly: false };
        let labels = [
            (kiln_docker::labels::OWNER, self.owner.as_str()),
            (kiln_docker::labels::ROLE, "cache"),
            (kiln_docker::labels::SCOPE, self.scope.as_str()),
        ];
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let spec = ContainerSpec {
            argv,
            user: "0".to_owned(),
            mounts: [mount].into_iter().chain(mounts).collect(),
            ..ContainerSpec::idle(image, platform, labels)
        };
        let container = self.engine.create_container(&spec).await?;
        lock(&self.open).insert(container.clone());
        Ok(container)
    }

    /// The mount of kiln's own programs.
    async fn tools(&self) -> Result<MountSpec> {
        Ok(toolbox::mount(&toolbox::ensure_toolbox(self.engine.as_ref(), &[]).await?))
    }

    async fn close(&self, container: &ContainerId) -> Result<()> {
        self.engine.remove_container(container).await?;
        lock(&self.open).remove(container);
        Ok(())
    }

    /// Closes what work that was dropped has left open.
    async fn close_all(&self) {
        let open: Vec<ContainerId> = lock(&self.open).iter().cloned().collect();
        for container in open {
            // The next build sweeps what stays.
            let _ = self.close(&container).await;
        }
    }
}

/// Where a container that reads or fills a volume sees it.
pub(crate) const SEEN: &str = "/kiln";

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A problem of a store as a notice.
fn told(error: &CacheError) -> String {
    with_hint(error.to_string(), error.hint())
}

fn with_hint(text: String, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("{text} ({hint})"),
        None => text,
    }
}

fn failed(error: &CacheError) -> SolveError {
    SolveError::Travel { problem: error.to_string(), hint: error.hint() }
}

/// Bytes for people.
fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "people want two digits")]
    let count_f = count as f64;
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.0} kB", count_f / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count_f / 1e6),
        _ => format!("{:.2} GB", count_f / 1e9),
    }
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

/// Brings what a build would have to make, as far as stores have it and bringing it is quicker. The plan afterwards: it counts on
/// checkpoints that are still on their way to the daemon ([`Plan::arrived`]).
///
/// The base images of the plan may be on their way still: `bases` ends when they are there, and tells whether they are. It is
/// only begun if stores do not have all files of the build.
///
/// # Errors
/// If the daemon fails or somebody asks to stop. Stores cannot fail a build.
pub async fn bring(
    engine: &Arc<dyn Engine>,
    plan: Plan,
    travel: &Travel,
    (events, cancel): (&EventSender, &Cancel),
    bases: impl Future<Output = bool> + Send,
) -> Result<Plan> {
    if travel.from.is_empty() || (plan.is_up_to_date() && !travel.whole) {
        return Ok(plan);
    }
    let guide = Guide::new(engine, &Home::of(&plan), travel, (events, cancel), Direction::Restoring);
    for notice in &travel.notices {
        guide.say(None, notice.clone()).await;
    }
    let brought = async {
        let mut changed = false;
        if travel.wanted.results {
            changed |= results::bring(&guide, &plan).await?;
        }
        let plan = if changed { Plan::make(engine, plan.request).await? } else { plan };
        if plan.is_up_to_date() && !travel.whole {
            return Ok(plan);
        }
        let bases = bases.shared();
        let stock = if travel.wanted.stages { Stock::of(&guide, &plan).await? } else { None };
        let plan = match stock {
            Some(stock) => {
                let (tell, there) = oneshot::channel();
                let there = there.map(|told| told.unwrap_or(false)).shared();
                let telling = async {
                    // Whoever does not listen counts on none of them.
                    let _ = tell.send(bases.clone().await);
                };
                let (arrivals, ()) = tokio::join!(stages::bring(&guide, &plan, stock, there), telling);
                let arrivals = arrivals?;
                if arrivals.is_empty() { plan } else { Plan::counting_on(engine, plan.request, arrivals).await? }
            }
            None => plan,
        };
        // What checkpoints need comes first: the daemon unpacks them meanwhile, on one core, and longer than volumes take. Each
        // container that ends has the kernel write out what was unpacked (moby/moby#47630), which the first step, or a pull,
        // would wait for.
        let (volumes, _) = tokio::join!(volumes::bring(&guide, &plan), bases);
        volumes.map(|()| plan)
    };
    let mut brought = guide.road.show(events, Box::pin(brought)).await;
    let (events, spool) = (events.clone(), travel.spool.clone());
    match &mut brought {
        Ok(plan) if !plan.arrivals.is_empty() => {
            let arrivals = plan.arrivals.clone();
            // Goes on while the build does.
            let rest = tokio::spawn(async move {
                guide.road.show(&events, Box::pin(arrivals.settled())).await;
                let _ = fs_err::remove_dir_all(&spool);
            });
            plan.arrivals.follow(async move { joined(rest.await) });
        }
        _ => drop(fs_err::remove_dir_all(&spool)),
    }
    brought
}

/// The steps whose checkpoints stores have, and targets (by index) whose files they have; brings nothing.
///
/// # Errors
/// If somebody asks to stop.
pub async fn peek(
    engine: &Arc<dyn Engine>,
    plan: &Plan,
    travel: &Travel,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<(HashSet<VertexId>, HashSet<usize>)> {
    if travel.from.is_empty() || plan.is_up_to_date() {
        return Ok(Default::default());
    }
    let guide = Guide::new(engine, &Home::of(plan), travel, (events, cancel), Direction::Restoring);
    let found = async {
        let stages = Stock::of(&guide, plan).await?.map(|stock| stock.spares(plan)).unwrap_or_default();
        Ok((stages, results::offered(&guide, plan).await))
    }
    .await;
    let _ = fs_err::remove_dir_all(&travel.spool);
    found
}

/// What a build makes that can travel: known before it runs, as running it takes the plan.
pub struct Cargo {
    bases: Vec<Used>,
    volumes: Vec<volumes::Cargo>,
    stages: stages::Cargo,
    results: Vec<results::Cargo>,
    home: Home,
}

impl Cargo {
    /// What a plan will make on its base images.
    pub fn of(plan: &Plan, bases: Vec<Used>) -> Self {
        Self {
            bases,
            volumes: volumes::Cargo::of(plan),
            stages: stages::Cargo::of(plan),
            results: results::Cargo::of(plan),
            home: Home::of(plan),
        }
    }
}

/// How long the steps of a build took that ran, by key.
pub type Times = HashMap<String, Duration>;

/// Takes what a build made to all stores. What could not be taken.
///
/// # Errors
/// If somebody asks to stop.
pub async fn take(
    engine: &Arc<dyn Engine>,
    cargo: &Cargo,
    times: &Times,
    travel: &Travel,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<()> {
    let guide = Guide::new(engine, &cargo.home, travel, (events, cancel), Direction::Saving);
    let mut problem = None;
    for remote in &travel.to {
        let started = Instant::now();
        // Each store gets it all.
        let guide = Guide { road: Road::new(Direction::Saving), ..guide.clone() };
        guide.road.to(remote.store.place());
        let taking = async {
            let mut sum = Saved::default();
            volumes::take(&guide, remote, &cargo.volumes, &mut sum).await?;
            if travel.wanted.stages {
                stages::take(&guide, remote, &cargo.stages, times, &mut sum).await?;
            }
            if travel.wanted.results {
                results::take(&guide, remote, &cargo.results, &mut sum).await?;
                bases::take(&guide, remote, &cargo.bases, &mut sum).await?;
            }
            Ok::<_, SaveError>(sum)
        };
        let taken = guide.road.show(events, Box::pin(cancel.unless_stopped(taking))).await;
        if taken.is_err() {
            guide.close_all().await;
        }
        let text = match taken? {
            Ok(sum) if sum.objects == 0 => format!("saved to {}: nothing is new", remote.store.place()),
            Ok(sum) => format!(
                "saved to {}: {} object{}, {} in {}",
                remote.store.place(),
                sum.objects,
                if sum.objects == 1 { "" } else { "s" },
                bytes(sum.sent),
                seconds(started)
            ),
            Err(error) => {
                let hint = match &error {
                    SaveError::Store(error) => error.hint(),
                    SaveError::Source(_) => None,
                };
                let text = format!("caches were not saved: {error}");
                if !remote.ignore_error {
                    problem.get_or_insert(SolveError::Travel { problem: text.clone(), hint: hint.clone() });
                }
                with_hint(text, hint)
            }
        };
        guide.say(None, text).await;
    }
    let _ = fs_err::remove_dir_all(&travel.spool);
    problem.map_or(Ok(()), Err)
}

/// A folder of a tree that kiln makes up.
fn folder(path: &str) -> Entry {
    Entry { path: path.to_owned(), mode: 0o755, uid: 0, gid: 0, mtime: 0, kind: Kind::Folder }
}

fn add(sum: &mut Saved, saved: Saved) {
    sum.is_new |= saved.is_new;
    sum.files += saved.files;
    sum.size += saved.size;
    sum.objects += saved.objects;
    sum.sent += saved.sent;
}
