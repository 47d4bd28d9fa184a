//! The cache of GitHub Actions in memory: the service (version 2), the storage behind it, and the part of the general API
//! that lists and removes caches.
//!
//! It behaves as the real one where that matters: entries are written once, a key that was taken is never free again, an
//! entry belongs to the ref of the token that wrote it and is found by that ref and, on the default branch, by all; the
//! key of a lookup finds what begins with it, too; what is uploaded cannot be read before it is finalized. A test adds
//! what goes wrong.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod service;

use self::service::{Entry, Tokens};
use crate::wire::{Answer, Connection, Server, listen};

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GithubCall {
    /// `CreateCacheEntry`
    Create,
    /// `FinalizeCacheEntryUpload`
    Finalize,
    /// `GetCacheEntryDownloadURL`
    Find,
    /// The upload of all bytes at once.
    PutBlob,
    /// The upload of a block.
    PutBlock,
    /// The upload of the list of blocks.
    PutBlockList,
    /// A download.
    GetBlob,
    /// The list of caches, of the general API.
    List,
    /// The removal of a cache, by the general API.
    Remove,
}

/// How a call goes wrong.
#[derive(Clone, Debug)]
pub enum GithubFault {
    /// It is answered with this status, and a message.
    Status(u16, &'static str),
    /// It is answered that the client is to come back in so many seconds.
    Busy(u64),
    /// The connection ends when half of the request was read. Nothing is done.
    CutRequest,
    /// The request is carried out, and the connection ends.
    CutAnswer,
    /// The request is carried out, and the connection ends after half of the answer.
    CutBody,
    /// The request is carried out, and the answer is half as long as it should be, and says so.
    Short,
    /// The request is carried out, and answered so much later.
    Late(Duration),
    /// The request is carried out; half of the answer comes, and the rest so much later.
    Stall(Duration),
    /// The request is carried out, and between two bytes of the answer's body is so much time.
    Drip(Duration),
    /// So much time goes by before each mebibyte of the request's body is read.
    SlowRead(Duration),
    /// It is answered with a page for people.
    Page,
}

/// An entry, as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GithubEntry {
    /// The ref that it belongs to.
    pub reference: String,
    /// Its key.
    pub key: String,
    /// Whether all of it is there.
    pub finalized: bool,
    /// Bytes.
    pub size: usize,
}

/// A server with the semantics of GitHub's cache, on a thread of its own. It ends when this is dropped.
pub struct GithubCache {
    /// What a run finds in `ACTIONS_RESULTS_URL`.
    pub results_url: String,
    /// What a run finds in `GITHUB_API_URL`.
    pub api_url: String,
    /// `GITHUB_REPOSITORY`
    pub repository: String,
    /// What a run of the default branch finds in `ACTIONS_RUNTIME_TOKEN`.
    pub token: String,
    /// A token for the general API (`GITHUB_TOKEN`).
    pub rest_token: String,
    world: Arc<Mutex<World>>,
    _server: Server,
}

/// The ref that all others may read.
pub const DEFAULT_REF: &str = "refs/heads/main";
/// The repository.
const REPOSITORY: &str = "kiln/test";

struct World {
    url: String,
    entries: Vec<Entry>,
    tokens: Tokens,
    /// Good signatures: of which entry, and whether for writing.
    signatures: HashMap<String, (u64, bool)>,
    faults: Vec<(GithubCall, VecDeque<GithubFault>)>,
    calls: Vec<GithubCall>,
    counter: u64,
    /// How many lookups do not see an entry that was just finalized.
    lag: usize,
}

impl World {
    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}

impl GithubCache {
    /// A server on a free port of this machine.
    pub fn start() -> Self {
        let (listener, url) = listen();
        let url = format!("{url}/");
        let mut tokens = Tokens::default();
        let token = tokens.make(DEFAULT_REF, true);
        let world = Arc::new(Mutex::new(World {
            url: url.clone(),
            entries: Vec::new(),
            tokens,
            signatures: HashMap::new(),
            faults: Vec::new(),
            calls: Vec::new(),
            counter: 0,
            lag: 0,
        }));
        let shared = Arc::clone(&world);
        let server = Server::start(listener, move |connection| answer_all(connection, Arc::clone(&shared)));
        Self {
            results_url: url.clone(),
            api_url: url,
            repository: REPOSITORY.to_owned(),
            token,
            rest_token: service::REST_TOKEN.to_owned(),
            world,
            _server: server,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token of a run of a ref: `refs/heads/x`, `refs/pull/1/merge`.
    pub fn token_of(&self, reference: &str) -> String {
        self.world().tokens.make(reference, true)
    }

    /// The token of a run that is not trusted: it may read alone.
    pub fn read_only_token(&self, reference: &str) -> String {
        self.world().tokens.make(reference, false)
    }

    /// What the kiln action would give to the steps after it, for a run of the default branch.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ACTIONS_CACHE_SERVICE_V2", "True".to_owned()),
            ("ACTIONS_RESULTS_URL", self.results_url.clone()),
            ("ACTIONS_RUNTIME_TOKEN", self.token.clone()),
            ("GITHUB_API_URL", self.api_url.clone()),
            ("GITHUB_REF", DEFAULT_REF.to_owned()),
            ("GITHUB_REPOSITORY", self.repository.clone()),
            ("GITHUB_RUN_ATTEMPT", "1".to_owned()),
            ("GITHUB_RUN_ID", "1000".to_owned()),
            ("GITHUB_TOKEN", self.rest_token.clone()),
        ]
    }

    /// Lets the next call of a kind go wrong.
    pub fn fail(&self, call: GithubCall, fault: GithubFault) {
        self.fail_times(call, fault, 1);
    }

    /// Lets the next calls of a kind go wrong.
    pub fn fail_times(&self, call: GithubCall, fault: GithubFault, times: usize) {
        self.world().faults.push((call, std::iter::repeat_n(fault, times).collect()));
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        self.world().faults.clear();
    }

    /// From now on so many lookups do not see an entry that was just finalized.
    pub fn lag(&self, lookups: usize) {
        self.world().lag = lookups;
    }

    /// How often something was asked for.
    pub fn count(&self, call: GithubCall) -> usize {
        self.world().calls.iter().filter(|made| **made == call).count()
    }

    /// All calls, in their order.
    pub fn calls(&self) -> Vec<GithubCall> {
        self.world().calls.clone()
    }

    /// Forgets the calls that were made.
    pub fn forget_calls(&self) {
        self.world().calls.clear();
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> Vec<GithubEntry> {
        self.world().entries.iter().map(Entry::seen).collect()
    }

    /// Drops entries whose keys begin with some text, as GitHub does when there is no room.
    pub fn evict(&self, prefix: &str) {
        self.world().entries.retain(|entry| !entry.key().starts_with(prefix));
    }

    /// Changes the bytes of the entries whose keys begin with some text.
    pub fn damage(&self, prefix: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut world = self.world();
        world
            .entries
            .iter_mut()
            .filter(|entry| entry.key().starts_with(prefix))
            .for_each(|entry| entry.change(&change));
    }

    /// Puts an entry of the default branch as another program would, with the version of an entry that is there.
    pub fn add(&self, key: &str, like: &str, bytes: &[u8]) {
        let mut world = self.world();
        let id = world.next();
        let version = world.entries.iter().find(|entry| entry.key() == like).expect("an entry").version().to_owned();
        world.entries.push(Entry::whole(id, key, version, DEFAULT_REF, bytes));
    }
}

async fn answer_all(mut connection: Connection, world: Arc<Mutex<World>>) -> std::io::Result<()> {
    let lock = || world.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(head) = connection.head().await? {
        let call = service::call(&head);
        let fault = {
            let mut world = lock();
            world.calls.extend(call);
            let fault = world.faults.iter_mut().find(|(of, left)| Some(*of) == call && !left.is_empty());
            fault.and_then(|(_, left)| left.pop_front())
        };
        let Some(length) = head.length() else {
            return connection.send(&Answer::new(411, "").with("x-ms-error-code", "MissingContentLengthHeader")).await;
        };
        if matches!(fault, Some(GithubFault::CutRequest)) {
            connection.body(length / 2).await?;
            return Ok(());
        }
        let body = match &fault {
            Some(GithubFault::SlowRead(each)) => connection.body_slowly(length, *each).await?,
            _ => connection.body(length).await?,
        };
        let planned = match &fault {
            Some(GithubFault::Status(status, message)) => Some(service::failure(*status, message)),
            Some(GithubFault::Busy(seconds)) => {
                Some(service::failure(429, "slow down").with("retry-after", seconds.to_string()))
            }
            Some(GithubFault::Page) => Some(Answer::new(200, "<html>Sign in to the network</html>")),
            _ => None,
        };
        let mut answer = planned.unwrap_or_else(|| service::answer(&mut lock(), &head, &body));
        match fault {
            Some(GithubFault::CutAnswer) => return Ok(()),
            Some(GithubFault::CutBody) => return connection.send_half(&answer).await,
            Some(GithubFault::Short) => answer.body.truncate(answer.body.len() / 2),
            Some(GithubFault::Late(wait)) => tokio::time::sleep(wait).await,
            Some(GithubFault::Stall(wait)) => {
                connection.send_half(&answer).await?;
                tokio::time::sleep(wait).await;
                return Ok(());
            }
            Some(GithubFault::Drip(each)) => return connection.send_slowly(&answer, each).await,
            _ => {}
        }
        connection.send(&answer).await?;
    }
    Ok(())
}
