//! Releases on servers that behave as GitHub, Gitea and GitLab do: what is there in the end, and after whatever goes wrong.

mod faults;
mod refusals;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_artifact::checksum::Sha256;
use kiln_publish::{
    Access, Event, ForgeKind, Given, Limits, LocalFile, Outcome, Place, PublishError, Server, Token, Wanted, publish,
};
use kiln_testkit::{ForgeRelease, ForgeServer};

/// The commit that is released.
pub(crate) const COMMIT: &str = "1111111111111111111111111111111111111111";
/// Another one.
pub(crate) const OTHER: &str = "2222222222222222222222222222222222222222";

/// One of each kind, which knows the commit.
pub(crate) fn servers() -> Vec<ForgeServer> {
    [ForgeServer::github, ForgeServer::gitea, ForgeServer::gitlab].into_iter().map(ready).collect()
}

pub(crate) fn ready(start: fn() -> ForgeServer) -> ForgeServer {
    let server = start();
    server.push(OTHER);
    server.push(COMMIT);
    server
}

/// Limits for servers on this machine.
pub(crate) fn limits() -> Limits {
    Limits {
        answer: Duration::from_secs(5),
        attempts: 4,
        pause: Duration::from_millis(1),
        patience: Duration::from_secs(2),
    }
}

/// Files to publish.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
    pub(crate) wanted: Wanted,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self::of(&[("app-linux-x86_64.tar.gz", 70_000), ("app_1.0_amd64.deb", 300_000), ("SHA256SUMS", 170)])
    }

    pub(crate) fn of(files: &[(&str, usize)]) -> Self {
        let wanted = Wanted {
            tag: "v1.0".to_owned(),
            commit: COMMIT.to_owned(),
            tag_is_made: false,
            title: "app 1.0".to_owned(),
            notes: "### Added\n- \"things\"\n".to_owned(),
            prerelease: false,
            package: "app".to_owned(),
            version: "1.0".to_owned(),
            files: Vec::new(),
            draft: false,
            replace: false,
        };
        let mut folder = Self { folder: tempfile::tempdir().expect("a folder"), wanted };
        for (name, size) in files {
            let bytes: Vec<u8> = name.bytes().cycle().take(*size).collect();
            folder.put(name, &bytes);
        }
        folder
    }

    /// Adds or changes a file.
    pub(crate) fn put(&mut self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        fs_err::write(&path, bytes).expect("written");
        self.wanted.files.retain(|file| file.name != name);
        let (size, sha256) = (bytes.len() as u64, Sha256::of(bytes));
        self.wanted.files.push(LocalFile { name: name.to_owned(), path, size, sha256 });
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.wanted.files.iter().map(|file| file.name.clone()).collect();
        names.sort();
        names
    }

    /// Fails unless the forge shows this release once, with exactly these files, and never showed less of it.
    pub(crate) fn assert_published(&self, server: &ForgeServer, after: &str) {
        let what = format!("{} after {after}", server.kind());
        let releases = server.releases();
        let [release] = releases.as_slice() else { panic!("{what}: {} releases", releases.len()) };
        assert_eq!((release.draft, release.tag.as_str()), (false, "v1.0"), "{what}");
        assert_eq!((&release.name, &release.body), (&self.wanted.title, &self.wanted.notes), "{what}");
        self.assert_files(release, &what);
        let mut shown = server.published();
        for names in &mut shown {
            names.sort();
        }
        assert_eq!(shown, [self.names()], "{what}");
        assert_eq!(server.commit_of("v1.0").as_deref(), Some(COMMIT), "{what}");
        if server.kind() == "gitlab" {
            assert_eq!(server.package_files().len(), self.wanted.files.len(), "{what}");
        }
    }

    pub(crate) fn assert_files(&self, release: &ForgeRelease, what: &str) {
        let mut names: Vec<String> = release.assets.iter().map(|asset| asset.name.clone()).collect();
        names.sort();
        assert_eq!(names, self.names(), "{what}");
        for file in &self.wanted.files {
            let asset = release.assets.iter().find(|asset| asset.name == file.name).expect("it was named");
            assert!(asset.complete && Sha256::of(&asset.bytes) == file.sha256, "{what}: {}", file.name);
        }
    }
}

/// What a run said.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<Event>>>);

impl Said {
    fn forget(&self) {
        self.0.lock().expect("nobody panicked").clear();
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().expect("nobody panicked").clone()
    }
}

pub(crate) fn place(server: &ForgeServer) -> Place {
    let given = Given {
        forge: server.kind().parse::<ForgeKind>().ok(),
        repository: Some(server.repository.to_owned()),
        url: Some(server.url.clone()),
    };
    Place::detect(&given, &|_| None, None).expect("a place")
}

pub(crate) fn token(server: &ForgeServer, token: &str) -> Token {
    let names = ["GITHUB_TOKEN", "GITEA_TOKEN", "GITLAB_TOKEN"];
    let variable = |name: &str| names.contains(&name).then(|| token.to_owned());
    Token::find(&place(server), &variable).expect("a token")
}

pub(crate) fn server(server: &ForgeServer, limits: Limits, token: Token) -> (Server, Said) {
    let said = Said::default();
    let events = Arc::clone(&said.0);
    let access = Access {
        network: kiln_cache::reach::Network::default(),
        limits,
        token,
        events: Arc::new(move |event| events.lock().expect("nobody panicked").push(event)),
    };
    (Server::new(place(server), access).expect("a client"), said)
}

/// A client for many runs: to make one takes longer than a run.
pub(crate) struct Client {
    server: Server,
    said: Said,
}

impl Client {
    pub(crate) fn new(on: &ForgeServer, limits: Limits) -> Self {
        let (server, said) = server(on, limits, token(on, on.token));
        Self { server, said }
    }

    pub(crate) async fn run(&self, wanted: &Wanted) -> (Result<Outcome, PublishError>, Vec<Event>) {
        self.said.forget();
        let result = publish(&self.server, wanted).await;
        (result, self.said.events())
    }
}

/// A run that gives nothing up soon.
pub(crate) async fn run(on: &ForgeServer, wanted: &Wanted) -> (Result<Outcome, PublishError>, Said) {
    run_with(on, limits(), wanted).await
}

/// A run.
pub(crate) async fn run_with(
    on: &ForgeServer,
    limits: Limits,
    wanted: &Wanted,
) -> (Result<Outcome, PublishError>, Said) {
    let (server, said) = server(on, limits, token(on, on.token));
    (publish(&server, wanted).await, said)
}

#[tokio::test]
async fn a_release_is_published_once() {
    for server in servers() {
        let kind = server.kind();
        let folder = Folder::new();
        let (outcome, said) = run(&server, &folder.wanted).await;
        let outcome = outcome.expect("published");
        assert_eq!((outcome.draft, outcome.unchanged, outcome.sent, outcome.kept), (false, false, 3, 0), "{kind}");
        let is_page = outcome.url.ends_with("releases/v1.0") || outcome.url.ends_with("tag/v1.0");
        assert!(outcome.url.starts_with(&server.url) && is_page, "{}", outcome.url);
        folder.assert_published(&server, "a run");
        let created = said.events().iter().any(|event| matches!(event, Event::Created { .. }));
        assert_eq!(created, kind != "gitlab", "{kind}");
        // Nothing but looks, the second time.
        server.requests();
        let (again, _) = run(&server, &folder.wanted).await;
        let again = again.expect("there already");
        assert_eq!((again.unchanged, again.sent, again.kept, again.url), (true, 0, 3, outcome.url), "{kind}");
        let requests = server.requests();
        assert!(requests.iter().all(|request| request.starts_with("GET ")), "{kind}: {requests:?}");
        folder.assert_published(&server, "two runs");
    }
}

#[tokio::test]
async fn what_was_published_is_changed_only_if_it_may() {
    for server in servers() {
        let kind = server.kind();
        let mut folder = Folder::new();
        run(&server, &folder.wanted).await.0.expect("published");
        let before = server.releases();
        folder.put("app_1.0_amd64.deb", &vec![7; 300_000]);
        folder.put("new", b"new");
        let (result, _) = run(&server, &folder.wanted).await;
        let error = result.expect_err("it is another file").to_string();
        let expected = "is published, and app_1.0_amd64.deb has other contents, new is missing";
        assert!(error.ends_with(expected), "{kind}: {error}");
        assert_eq!(server.releases(), before, "{kind}");
        folder.wanted.replace = true;
        let (result, _) = run(&server, &folder.wanted).await;
        let outcome = result.expect("replaced");
        assert_eq!((outcome.sent, outcome.kept, outcome.draft), (2, 2, false), "{kind}");
        folder.assert_files(&server.releases()[0], kind);
    }
}

#[tokio::test]
async fn a_draft_stays_one_until_it_is_published() {
    for server in servers() {
        let kind = server.kind();
        let mut folder = Folder::new();
        folder.wanted.draft = true;
        let (outcome, _) = run(&server, &folder.wanted).await;
        assert!(outcome.expect("a draft").draft, "{kind}");
        assert!(server.published().is_empty() && server.commit_of("v1.0").is_none(), "{kind}");
        assert_eq!(server.releases().len(), usize::from(kind != "gitlab"), "{kind}");
        // Again: nothing is to do, but for the text if that is another one.
        let (outcome, _) = run(&server, &folder.wanted).await;
        assert!(outcome.expect("a draft").unchanged, "{kind}");
        folder.wanted.notes.push_str("more\n");
        let (outcome, _) = run(&server, &folder.wanted).await;
        assert_eq!(outcome.expect("a draft").sent, 0, "{kind}");
        if let [release] = server.releases().as_slice() {
            assert!(release.draft && release.body == folder.wanted.notes, "{kind}");
        }
        folder.wanted.draft = false;
        let (outcome, said) = run(&server, &folder.wanted).await;
        assert_eq!(outcome.expect("published").kept, 3, "{kind}");
        assert!(said.events().iter().any(|event| matches!(event, Event::Resumed { .. })), "{kind}");
        folder.assert_published(&server, "a draft");
    }
}

#[tokio::test]
async fn a_file_that_changed_between_two_runs_is_sent_again() {
    for server in servers() {
        let kind = server.kind();
        let mut folder = Folder::new();
        folder.wanted.draft = true;
        run(&server, &folder.wanted).await.0.expect("a draft");
        // Of the same length: only the sum tells.
        folder.put("app_1.0_amd64.deb", &vec![7; 300_000]);
        folder.wanted.draft = false;
        let (outcome, said) = run(&server, &folder.wanted).await;
        let outcome = outcome.expect("published");
        assert_eq!((outcome.sent, outcome.kept), (1, 2), "{kind}");
        let removed = Event::Removed { name: "app_1.0_amd64.deb".to_owned(), why: "has other contents" };
        assert!(said.events().contains(&removed), "{kind}");
        folder.assert_published(&server, "a change");
    }
}

#[tokio::test]
async fn older_servers_tell_no_sums() {
    for server in servers() {
        server.without_digests();
        let mut folder = Folder::new();
        folder.wanted.draft = true;
        run(&server, &folder.wanted).await.0.expect("a draft");
        folder.put("app_1.0_amd64.deb", &vec![7; 300_000]);
        folder.wanted.draft = false;
        // The files are read: GitHub's lie behind a redirection to where the token is not meant for.
        let (outcome, _) = run(&server, &folder.wanted).await;
        assert_eq!(outcome.expect("published").kept, 2, "{}", server.kind());
        folder.assert_published(&server, "a change without sums");
    }
}

#[tokio::test]
async fn a_release_of_many() {
    for server in servers() {
        // More than a page of releases and of files.
        server.add_releases(120);
        let names: Vec<String> = (0..130).map(|number| format!("file-{number}")).collect();
        let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 10)).collect();
        let mut folder = Folder::of(&files);
        folder.wanted.draft = true;
        run(&server, &folder.wanted).await.0.expect("a draft");
        folder.wanted.draft = false;
        let (outcome, _) = run(&server, &folder.wanted).await;
        assert_eq!(outcome.expect("published").kept, 130, "{}", server.kind());
        let release = server.releases().into_iter().find(|release| release.tag == "v1.0").expect("published");
        folder.assert_files(&release, server.kind());
    }
}

#[tokio::test]
async fn github_renames_files() {
    let server = ready(ForgeServer::github);
    let folder = Folder::of(&[("app_1.0~rc1+b_amd64.deb", 1000)]);
    run(&server, &folder.wanted).await.0.expect("published");
    assert_eq!(server.releases()[0].assets[0].name, "app_1.0.rc1+b_amd64.deb");
    let (again, _) = run(&server, &folder.wanted).await;
    assert!(again.expect("there").unchanged);
}

#[tokio::test]
async fn a_job_of_gitlabs_has_a_token_that_may_do_less() {
    let on = ready(ForgeServer::gitlab);
    let variable = |name: &str| (name == "CI_JOB_TOKEN").then(|| on.job_token().to_owned());
    let token = Token::find(&place(&on), &variable).expect("a token");
    let folder = Folder::new();
    let (server, _) = server(&on, limits(), token);
    publish(&server, &folder.wanted).await.expect("published");
    folder.assert_published(&on, "a job");
}

#[tokio::test]
async fn others_files_in_a_draft_are_told_and_kept() {
    let server = ready(ForgeServer::github);
    let mut folder = Folder::of(&[("a", 10), ("b", 10)]);
    folder.wanted.draft = true;
    run(&server, &folder.wanted).await.0.expect("a draft");
    folder.wanted.draft = false;
    folder.wanted.files.retain(|file| file.name == "a");
    let (outcome, said) = run(&server, &folder.wanted).await;
    outcome.expect("published");
    assert!(said.events().contains(&Event::Stranger { name: "b".to_owned() }));
    assert_eq!(server.releases()[0].assets.len(), 2);
}
