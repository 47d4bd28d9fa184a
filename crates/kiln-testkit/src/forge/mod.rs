//! GitHub, Gitea and GitLab in memory, as far as releases go: one repository, its commits and tags, releases with files.
//!
//! They behave as the real ones where that matters. GitHub: drafts are in the list of releases alone, and several can be of
//! one tag; an upload that breaks off leaves a file in the state `starter` that holds the name; names are changed; files are
//! read by way of a storage that wants no token. Gitea: a tag has one release; two files may have the same name; files
//! have no sums. GitLab: no drafts; files of packages, of which the newest of a name is read; a job's token sees neither
//! commits nor tags. A test adds what goes wrong.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use sha2::Digest as _;

use crate::wire::{Answer, Connection, Head, Server, listen};

mod gitea;
mod github;
mod gitlab;

/// How a request goes wrong.
#[derive(Clone, Debug)]
pub enum ForgeFault {
    /// It is answered with this status, and a message.
    Status(u16, &'static str),
    /// It is answered that the client is to come back in so many seconds.
    Busy(u64),
    /// The connection ends when half of the request's body was read. Nothing is done.
    CutRequest,
    /// The request is carried out, and the connection ends.
    CutAnswer,
    /// The request is carried out, and the connection ends after half of the answer.
    CutBody,
    /// The request is carried out, and answered so much later.
    Late(Duration),
    /// It is answered with a page for people.
    Page,
}

/// A file of a release, as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeAsset {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Whether all of it was received.
    pub complete: bool,
}

/// A release, as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeRelease {
    /// Its tag.
    pub tag: String,
    /// Its title.
    pub name: String,
    /// Its notes.
    pub body: String,
    /// Whether nobody sees it.
    pub draft: bool,
    /// Whether it is one to try out.
    pub prerelease: bool,
    /// The commit that it is of.
    pub target: String,
    /// Its files; on GitLab those that it links to.
    pub assets: Vec<ForgeAsset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Github,
    Gitea,
    Gitlab,
}

struct Stored {
    id: u64,
    name: String,
    bytes: Vec<u8>,
    complete: bool,
}

impl Stored {
    fn sha256(&self) -> String {
        let mut text = String::new();
        for byte in sha2::Sha256::digest(&self.bytes) {
            write!(text, "{byte:02x}").expect("a text takes everything");
        }
        text
    }
}

#[derive(Default)]
struct Release {
    id: u64,
    tag: String,
    name: String,
    body: String,
    draft: bool,
    prerelease: bool,
    target: String,
    assets: Vec<Stored>,
    /// GitLab: names and addresses.
    links: Vec<(u64, String, String)>,
}

/// Files below one name and version, of GitLab.
struct Package {
    id: u64,
    name: String,
    version: String,
    files: Vec<Stored>,
}

struct World {
    kind: Kind,
    url: String,
    commits: Vec<String>,
    /// The commit of each tag, and whether the tag has a message.
    tags: BTreeMap<String, (String, bool)>,
    releases: Vec<Release>,
    packages: Vec<Package>,
    has_digests: bool,
    counter: u64,
    requests: Vec<String>,
    /// By the number of the request.
    faults_at: BTreeMap<usize, ForgeFault>,
    faults_on: Vec<(&'static str, &'static str, ForgeFault, usize)>,
    seen: usize,
    /// The names of the files that were whole whenever a release became visible.
    published: Vec<Vec<String>>,
}

impl World {
    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn fault(&mut self, head: &Head) -> Option<ForgeFault> {
        let number = self.seen;
        self.seen += 1;
        self.requests.push(format!("{} {}", head.method, head.path));
        if let Some(fault) = self.faults_at.remove(&number) {
            return Some(fault);
        }
        let fits = |(method, part, _, left): &&mut (&str, &str, ForgeFault, usize)| {
            *left > 0 && head.method == *method && head.path.contains(*part)
        };
        self.faults_on.iter_mut().find(fits).map(|(_, _, fault, left)| {
            *left -= 1;
            fault.clone()
        })
    }

    /// Notes what people see from now on.
    fn show(&mut self, names: Vec<String>) {
        self.published.push(names);
    }
}

/// A forge on a thread of its own. It ends when this is dropped.
pub struct ForgeServer {
    /// Its address.
    pub url: String,
    /// The repository.
    pub repository: &'static str,
    /// A token that may do what is needed.
    pub token: &'static str,
    /// A token that may read alone.
    pub read_token: &'static str,
    world: Arc<Mutex<World>>,
    _server: Server,
}

const REPOSITORY: &str = "acme/app";
const TOKEN: &str = "writer-0123456789";
const READ_TOKEN: &str = "reader-0123456789";
/// The token of a job of GitLab's.
const JOB_TOKEN: &str = "jobber-0123456789";

impl ForgeServer {
    /// GitHub Enterprise.
    pub fn github() -> Self {
        Self::start(Kind::Github)
    }

    /// Gitea.
    pub fn gitea() -> Self {
        Self::start(Kind::Gitea)
    }

    /// GitLab.
    pub fn gitlab() -> Self {
        Self::start(Kind::Gitlab)
    }

    fn start(kind: Kind) -> Self {
        let (listener, url) = listen();
        let world = Arc::new(Mutex::new(World {
            kind,
            url: url.clone(),
            commits: Vec::new(),
            tags: BTreeMap::new(),
            releases: Vec::new(),
            packages: Vec::new(),
            has_digests: true,
            counter: 0,
            requests: Vec::new(),
            faults_at: BTreeMap::new(),
            faults_on: Vec::new(),
            seen: 0,
            published: Vec::new(),
        }));
        let shared = Arc::clone(&world);
        let server = Server::start(listener, move |connection| answer_all(connection, Arc::clone(&shared)));
        Self { url, repository: REPOSITORY, token: TOKEN, read_token: READ_TOKEN, world, _server: server }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The word for this kind of forge.
    pub fn kind(&self) -> &'static str {
        match self.world().kind {
            Kind::Github => "github",
            Kind::Gitea => "gitea",
            Kind::Gitlab => "gitlab",
        }
    }

    /// The token of a job of GitLab's.
    pub fn job_token(&self) -> &'static str {
        JOB_TOKEN
    }

    /// Forgets releases, tags, packages, requests and faults; commits stay.
    pub fn reset(&self) {
        let mut world = self.world();
        world.releases.clear();
        world.tags.clear();
        world.packages.clear();
        world.requests.clear();
        world.faults_at.clear();
        world.faults_on.clear();
        world.published.clear();
    }

    /// Makes a commit known, as a push does.
    pub fn push(&self, commit: &str) {
        self.world().commits.push(commit.to_owned());
    }

    /// Makes a tag; with a message it is an object of its own.
    pub fn tag(&self, tag: &str, commit: &str, with_message: bool) {
        self.world().tags.insert(tag.to_owned(), (commit.to_owned(), with_message));
    }

    /// The commit of a tag.
    pub fn commit_of(&self, tag: &str) -> Option<String> {
        self.world().tags.get(tag).map(|(commit, _)| commit.clone())
    }

    /// Adds so many releases, without files: `v0.0`, `v0.1`, and so on.
    pub fn add_releases(&self, count: usize) {
        let mut world = self.world();
        for number in 0..count {
            let (id, tag) = (world.next(), format!("v0.{number}"));
            world.releases.push(Release { id, tag, ..Release::default() });
        }
    }

    /// From now on files have no sums, as on older servers.
    pub fn without_digests(&self) {
        self.world().has_digests = false;
    }

    /// Lets a request go wrong: the one after so many others from now on.
    pub fn fail_at(&self, number: usize, fault: ForgeFault) {
        let mut world = self.world();
        let number = world.seen + number;
        world.faults_at.insert(number, fault);
    }

    /// Lets the next requests with this method, and this in their path, go wrong.
    pub fn fail_on(&self, method: &'static str, part: &'static str, fault: ForgeFault, times: usize) {
        self.world().faults_on.push((method, part, fault, times));
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        let mut world = self.world();
        world.faults_at.clear();
        world.faults_on.clear();
    }

    /// All requests since the last call, in their order: method and path.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.world().requests)
    }

    /// The names of the files that were whole whenever a release became visible, in order.
    pub fn published(&self) -> Vec<Vec<String>> {
        self.world().published.clone()
    }

    /// All releases, oldest first.
    pub fn releases(&self) -> Vec<ForgeRelease> {
        let world = self.world();
        let assets = |release: &Release| -> Vec<ForgeAsset> {
            let seen = |stored: &Stored| ForgeAsset {
                name: stored.name.clone(),
                bytes: stored.bytes.clone(),
                complete: stored.complete,
            };
            match world.kind {
                Kind::Gitlab => {
                    release.links.iter().filter_map(|(_, _, url)| gitlab::linked(&world, url)).map(seen).collect()
                }
                _ => release.assets.iter().map(seen).collect(),
            }
        };
        let seen = |release: &Release| ForgeRelease {
            tag: release.tag.clone(),
            name: release.name.clone(),
            body: release.body.clone(),
            draft: release.draft,
            prerelease: release.prerelease,
            target: release.target.clone(),
            assets: assets(release),
        };
        world.releases.iter().map(seen).collect()
    }

    /// The names of the files of all packages of GitLab's.
    pub fn package_files(&self) -> Vec<String> {
        let world = self.world();
        world.packages.iter().flat_map(|package| &package.files).map(|file| file.name.clone()).collect()
    }
}

async fn answer_all(mut connection: Connection, world: Arc<Mutex<World>>) -> std::io::Result<()> {
    let lock = || world.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(head) = connection.head().await? {
        let fault = lock().fault(&head);
        let Some(length) = head.length() else {
            return connection.send(&Answer::new(411, "")).await;
        };
        if matches!(fault, Some(ForgeFault::CutRequest)) {
            connection.body(length / 2).await?;
            broken_off(&mut lock(), &head);
            return Ok(());
        }
        let body = connection.body(length).await?;
        let planned = match &fault {
            Some(ForgeFault::Status(status, message)) => {
                if *status >= 500 {
                    broken_off(&mut lock(), &head);
                }
                Some(message_of(*status, message))
            }
            Some(ForgeFault::Busy(seconds)) => {
                Some(message_of(429, "slow down").with("retry-after", seconds.to_string()))
            }
            Some(ForgeFault::Page) => Some(Answer::new(200, "<html>Sign in to the network</html>")),
            _ => None,
        };
        let answer = planned.unwrap_or_else(|| answer(&mut lock(), &head, &body));
        match fault {
            Some(ForgeFault::CutAnswer) => return Ok(()),
            Some(ForgeFault::CutBody) => return connection.send_half(&answer).await,
            Some(ForgeFault::Late(wait)) => tokio::time::sleep(wait).await,
            _ => {}
        }
        connection.send(&answer).await?;
    }
    Ok(())
}

/// What an upload leaves that did not come to its end: on GitHub, a file that holds the name.
fn broken_off(world: &mut World, head: &Head) {
    if world.kind == Kind::Github {
        github::leave_starter(world, head);
    }
}

fn answer(world: &mut World, head: &Head, body: &[u8]) -> Answer {
    let result = match world.kind {
        Kind::Github => github::answer(world, head, body),
        Kind::Gitea => gitea::answer(world, head, body),
        Kind::Gitlab => gitlab::answer(world, head, body),
    };
    result.unwrap_or_else(|answer| answer)
}

/// An answer with a message.
fn message_of(status: u16, message: &str) -> Answer {
    Answer::json(status, &json!({ "message": message }))
}

/// Whether a token may do what is asked; else the answer.
fn may(head: &Head, token: Option<&str>, unknown: &str, denied: impl Fn() -> Answer) -> Result<(), Answer> {
    match token {
        Some(TOKEN | JOB_TOKEN) => Ok(()),
        Some(READ_TOKEN) if head.method == "GET" => Ok(()),
        Some(READ_TOKEN) => Err(denied()),
        _ => Err(message_of(401, unknown)),
    }
}

/// The page of a list that a query asks for.
fn page<T>(head: &Head, list: Vec<T>, size: &str) -> Vec<T> {
    let number = |name: &str| head.query(name).and_then(|value| value.parse::<usize>().ok());
    let (size, page) = (number(size).unwrap_or(30), number("page").unwrap_or(1));
    list.into_iter().skip(size * (page - 1)).take(size).collect()
}

/// The text of a field.
fn text(value: &serde_json::Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

/// Carries over what a request says of a release.
fn apply(release: &mut Release, value: &serde_json::Value) {
    let mut set = |name: &str, field: fn(&mut Release) -> &mut String| {
        if let Some(text) = text(value, name) {
            *field(release) = text;
        }
    };
    set("tag_name", |release| &mut release.tag);
    set("name", |release| &mut release.name);
    set("body", |release| &mut release.body);
    set("target_commitish", |release| &mut release.target);
    let flag = |name: &str| value.get(name).and_then(serde_json::Value::as_bool);
    release.draft = flag("draft").unwrap_or(release.draft);
    release.prerelease = flag("prerelease").unwrap_or(release.prerelease);
}
