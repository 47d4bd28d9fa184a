//! Files that come from elsewhere: what `ADD` downloads, named contexts, and contexts that are no folder.

pub(crate) mod named;
pub(crate) mod prepare;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fs_err as fs;
use kiln_fetch::{Attributes, Cache, FetchError, git, http};
use kiln_graph::{BuildGraph, Digest, GitReference, Op, Origin, Remote, Source};
use kiln_solver::context::{Context, Everything, StatCache};
use kiln_solver::{BuildEvent, Cancel, SolveError};
use tokio::sync::mpsc;

use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::network;

/// Bytes from which on a transfer is worth a word.
const WORTH_A_WORD: u64 = 1 << 20;
/// How long blocking work that was told to stop is waited for.
const GRACE: Duration = Duration::from_secs(2);

/// What BuildKit gives a downloaded file.
const DOWNLOADED: Attributes = Attributes { mode: 0o600, uid: 0, gid: 0 };

/// Contexts by the graph's names for them.
pub(crate) type Contexts = BTreeMap<String, Arc<Context>>;

/// Fetches files, as the settings and the environment say.
#[derive(Clone)]
pub(crate) struct Fetcher {
    cache: Cache,
    network: http::Network,
    git: git::Settings,
}

impl Fetcher {
    /// What the settings of the project in `folder` say; where they are silent, the usual variables.
    pub(crate) fn new(environment: &Environment, settings: &kiln_config::Network, folder: &Path) -> Result<Self> {
        let network = network::of_client(environment, settings, folder)?;
        let proxies = [
            ("http_proxy", &network.http_proxy),
            ("https_proxy", &network.https_proxy),
            ("no_proxy", &network.no_proxy),
        ];
        let mut env: Vec<(String, String)> =
            proxies.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect();
        let root = environment.cache_folder.join("fetched");
        if let Some(bundle) = &network.certificates {
            let path = root.join(format!("{}.crt", Digest::of(bundle).short()));
            if !path.exists() {
                kiln_artifact::place::write_atomically(&path, 0o644, bundle)?;
            }
            env.push(("GIT_SSL_CAINFO".to_owned(), path.display().to_string()));
        }
        Ok(Self { cache: Cache::new(&root), network, git: git::Settings { env } })
    }

    /// Fetches all that a graph names and lies elsewhere.
    pub(crate) async fn remotes(
        &self,
        graph: &BuildGraph,
        events: &mpsc::Sender<BuildEvent>,
        cancel: &Cancel,
    ) -> Result<Contexts> {
        let mut contexts = Contexts::new();
        for (_, vertex) in graph.iter() {
            let Op::Source(Source::Remote(remote)) = &vertex.op else { continue };
            let name = remote.context();
            if contexts.contains_key(&name) {
                continue;
            }
            let context = self.remote(remote, events, cancel).await.map_err(|error| at(error, vertex.origin()))?;
            contexts.insert(name, Arc::new(context));
        }
        Ok(contexts)
    }

    async fn remote(&self, remote: &Remote, events: &mpsc::Sender<BuildEvent>, cancel: &Cancel) -> Result<Context> {
        let (folder, identity) = match remote {
            Remote::Http { url, checksum } => {
                let name = remote.file_name();
                let file = self.download(url, name, checksum.as_deref(), events, cancel).await?;
                (file.folder.clone(), file.identity(name))
            }
            Remote::Git { reference, keep_git_dir } => {
                let tree = self.git(reference, *keep_git_dir, events).await?;
                (tree.folder, tree.identity)
            }
        };
        let context = scan(folder, StatCache::default()).await?;
        Ok(context.identified(identity).titled(remote.to_string()))
    }

    /// Downloads a file.
    async fn download(
        &self,
        url: &str,
        name: &str,
        checksum: Option<&str>,
        events: &mpsc::Sender<BuildEvent>,
        cancel: &Cancel,
    ) -> Result<http::Fetched> {
        let (own, asked) = (self.clone(), (url.to_owned(), name.to_owned(), checksum.map(str::to_owned)));
        let file = unless_stopped(cancel, move |stop| {
            let (url, name, checksum) = asked;
            http::fetch(&own.network, &own.cache, &url, &name, checksum.as_deref(), stop)
        });
        let file = file.await?;
        if file.transferred >= WORTH_A_WORD {
            let text = format!(
                "downloaded {} ({} MB)",
                kiln_graph::remote::without_password(url),
                file.transferred / 1_000_000
            );
            let _ = events.send(BuildEvent::Notice { platform: None, text }).await;
        }
        Ok(file)
    }

    /// Fetches a commit.
    async fn git(
        &self,
        reference: &GitReference,
        keep_git_dir: bool,
        events: &mpsc::Sender<BuildEvent>,
    ) -> Result<git::Tree> {
        let tree = git::fetch(&self.git, &self.cache, reference, keep_git_dir).await.map_err(unplaced)?;
        if !tree.cached {
            let text = format!("fetched {reference} at commit {}", tree.commit);
            let _ = events.send(BuildEvent::Notice { platform: None, text }).await;
        }
        Ok(tree)
    }
}

/// All of a folder as a context.
async fn scan(folder: PathBuf, cache: StatCache) -> Result<Context> {
    let scan = tokio::task::spawn_blocking(move || Context::scan(&folder, Arc::new(Everything), cache));
    Ok(scan.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?)
}

/// Runs blocking work that asks now and then whether to stop, and waits a moment for its end if it has to.
async fn unless_stopped<T: Send + 'static>(
    cancel: &Cancel,
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, FetchError> + Send + 'static,
) -> Result<T> {
    /// Also if nobody waits any more.
    struct Stops(Arc<AtomicBool>);
    impl Drop for Stops {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stops = Stops(Arc::new(AtomicBool::new(false)));
    let seen = stops.0.clone();
    let mut task = tokio::task::spawn_blocking(move || work(&|| seen.load(Ordering::Relaxed)));
    tokio::select! {
        done = &mut task => {
            done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())).map_err(unplaced)
        }
        () = cancel.stopped() => {
            drop(stops);
            // What it writes to is removed next.
            let _ = tokio::time::timeout(GRACE, task).await;
            Err(SolveError::Cancelled.into())
        }
    }
}

fn unplaced(error: FetchError) -> CliError {
    CliError::Fetch { place: None, error }
}

/// An error with the place of the instruction that it is about.
fn at(error: CliError, origin: &Origin) -> CliError {
    match error {
        CliError::Fetch { error, .. } if origin.line > 0 => {
            CliError::Fetch { place: Some(format!("{}:{}", origin.file, origin.line)), error }
        }
        other => other,
    }
}

/// A folder of this process that is removed at its end; what killed processes have left is removed too.
fn temporary(environment: &Environment) -> Result<tempfile::TempDir> {
    let root = environment.cache_folder.join("contexts");
    fs::create_dir_all(&root).map_err(CliError::io("make", &root))?;
    for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
        if crate::session::is_of_dead(&entry.file_name().to_string_lossy()) {
            // Whoever comes next tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = crate::session::prefix();
    tempfile::Builder::new().prefix(&prefix).tempdir_in(&root).map_err(CliError::io("write to", &root))
}
