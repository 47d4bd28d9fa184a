//! The store in GitHub's cache, against a server that behaves like it: what is stored, and who sees it.

mod faults;

use std::time::{Duration, Instant};

use bytes::Bytes;
use kiln_cache::reach::Network;
use kiln_cache::store::{Access, Gha, GhaOptions, RestOptions};
use kiln_cache::{CacheError, Listed, Object, PackId, Put, Secret, Series, Store};
use kiln_testkit::{DEFAULT_REF, GithubCache, GithubCall as Call, GithubFault as Fault};

/// What a request waits for where it is late on purpose.
const PATIENCE: Duration = Duration::from_millis(300);
/// Longer than that.
const LONG: Duration = Duration::from_secs(20);

fn options(server: &GithubCache) -> GhaOptions {
    GhaOptions {
        scope: "main".to_owned(),
        run: "7-1".to_owned(),
        timeout: Duration::from_secs(10),
        wait: Duration::from_micros(200),
        patience: Duration::from_millis(1500),
        single_upload: 1000,
        block: 400,
        ..GhaOptions::new(server.results_url.clone(), Secret::new(server.token.clone()))
    }
}

fn with_rest(server: &GithubCache) -> GhaOptions {
    let rest = RestOptions {
        api_url: server.api_url.clone(),
        repository: server.repository.clone(),
        token: Secret::new(server.rest_token.clone()),
        reference: Some(DEFAULT_REF.to_owned()),
    };
    GhaOptions { rest: Some(rest), ..options(server) }
}

fn store(server: &GithubCache) -> Gha {
    Gha::new(options(server)).expect("a store")
}

fn hurried(options: GhaOptions) -> Gha {
    Gha::new(GhaOptions { timeout: PATIENCE, ..options }).expect("a store")
}

fn of_token(server: &GithubCache, token: String) -> Gha {
    Gha::new(GhaOptions { token: Secret::new(token), ..options(server) }).expect("a store")
}

fn pack(size: usize) -> (PackId, Bytes) {
    let bytes: Vec<u8> = (0..size).map(|n| u8::try_from(n * 7 % 251).expect("a byte")).collect();
    (PackId::of(&bytes), Bytes::from(bytes))
}

fn series(name: &str) -> Series {
    Series::new(["hello", name])
}

const NOTE: Bytes = Bytes::from_static(b"a snapshot");

#[tokio::test]
async fn a_pack_that_is_put_is_there() {
    let server = GithubCache::start();
    let store = store(&server);
    // What one request holds, what needs blocks, and nothing at all.
    for size in [0, 1, 1000, 1001, 4123] {
        let (id, bytes) = pack(size);
        assert!(!store.has_pack(&id).await.expect("asked"), "{size}");
        assert_eq!(store.pack(&id, size as u64).await.expect("read"), None, "{size}");
        assert_eq!(store.put_pack(&id, bytes.clone()).await.expect("put"), Put::Stored, "{size}");
        assert!(store.has_pack(&id).await.expect("asked"), "{size}");
        assert_eq!(store.pack(&id, size as u64).await.expect("read"), Some(bytes.clone()), "{size}");
        assert_eq!(store.put_pack(&id, bytes).await.expect("put"), Put::AlreadyThere, "{size}");
    }
    assert_eq!(server.count(Call::PutBlob), 3);
    assert_eq!(server.count(Call::PutBlock), 3 + 11);
    assert_eq!(server.count(Call::PutBlockList), 2);
    let (id, _) = pack(1);
    let entry = server.entries().into_iter().find(|entry| entry.size == 1).expect("an entry");
    assert_eq!(entry.key, format!("kiln-main-pack-{id}"));
    // The service finds what begins with a key, too.
    let (id, _) = pack(77);
    server.add(&format!("kiln-main-pack-{id}0"), &entry.key, b"x");
    assert!(!store.has_pack(&id).await.expect("asked"));
    assert_eq!(store.pack(&id, 1).await.expect("read"), None);
    assert_eq!(store.list().await.expect("listed"), None);
    let error = store.remove(&Object::Pack(id)).await.expect_err("no API");
    assert!(error.to_string().contains("GITHUB_TOKEN"), "{error}");
}

#[tokio::test]
async fn the_newest_snapshot_of_a_series_is_read_and_no_other() {
    let server = GithubCache::start();
    let store = store(&server);
    assert_eq!(store.snapshot(&series("a")).await.expect("read"), None);
    for text in ["one", "two", "three"] {
        store.put_snapshot(&series("a"), text.into(), &[]).await.expect("put");
    }
    // Names that begin like another, and other scopes.
    for name in ["a-b", "ab", "a.0"] {
        store.put_snapshot(&series(name), "other".into(), &[]).await.expect("put");
    }
    store.put_snapshot(&Series::new(["hello", "a", "b"]), "other".into(), &[]).await.expect("put");
    let other = Gha::new(GhaOptions { scope: "main-s".to_owned(), ..options(&server) }).expect("a store");
    other.put_snapshot(&series("a"), "of another scope".into(), &[]).await.expect("put");
    assert_eq!(store.snapshot(&series("a")).await.expect("read"), Some("three".into()));
    assert_eq!(store.snapshot(&series("b")).await.expect("read"), None);
    assert_eq!(store.snapshot(&Series::new(["hello"])).await.expect("read"), None);
    assert_eq!(other.snapshot(&series("a")).await.expect("read"), Some("of another scope".into()));
    // A store of another version is empty.
    let salted = Gha::new(GhaOptions { version_salt: "2".to_owned(), ..options(&server) }).expect("a store");
    assert_eq!(salted.snapshot(&series("a")).await.expect("read"), None);
    // What is no version of ours is not taken for one, though the service finds it.
    let like = server.entries()[0].key.clone();
    server.add("kiln-main-s#hello/a#latest", &like, b"of somebody else");
    assert_eq!(store.snapshot(&series("a")).await.expect("read"), None);
}

#[tokio::test]
async fn a_branch_reads_what_the_default_branch_wrote_and_not_the_other_way() {
    let server = GithubCache::start();
    let (main, branch) = (store(&server), of_token(&server, server.token_of("refs/heads/topic")));
    let (id, bytes) = pack(10);
    main.put_pack(&id, bytes.clone()).await.expect("put");
    main.put_snapshot(&series("a"), "main".into(), &[]).await.expect("put");
    assert_eq!(branch.pack(&id, 10).await.expect("read"), Some(bytes));
    assert_eq!(branch.snapshot(&series("a")).await.expect("read"), Some("main".into()));
    branch.put_snapshot(&series("a"), "topic".into(), &[]).await.expect("put");
    main.put_snapshot(&series("a"), "newer".into(), &[]).await.expect("put");
    assert_eq!(branch.snapshot(&series("a")).await.expect("read"), Some("topic".into()));
    assert_eq!(main.snapshot(&series("a")).await.expect("read"), Some("newer".into()));
}

#[tokio::test]
async fn a_token_for_reading_alone_is_asked_to_write_once() {
    for by_status in [false, true] {
        let server = GithubCache::start();
        store(&server).put_snapshot(&series("a"), NOTE, &[]).await.expect("put");
        server.forget_calls();
        let reader = if by_status {
            server.fail(Call::Create, Fault::Status(403, "cache write denied: token has no writable scopes"));
            store(&server)
        } else {
            of_token(&server, server.read_only_token(DEFAULT_REF))
        };
        let (id, bytes) = pack(10);
        for _ in 0..3 {
            let error = reader.put_pack(&id, bytes.clone()).await.expect_err("denied");
            assert!(matches!(error, CacheError::Denied { action: "write", .. }), "{error:?}");
            assert!(error.to_string().contains("no writable scopes"), "{error}");
        }
        let error = reader.put_snapshot(&series("a"), NOTE, &[]).await.expect_err("denied");
        assert!(matches!(error, CacheError::Denied { action: "write", .. }), "{error:?}");
        assert_eq!(server.calls(), [Call::Create]);
        assert_eq!(reader.snapshot(&series("a")).await.expect("read"), Some(NOTE));
    }
}

#[tokio::test]
async fn the_cache_mode_of_a_run_is_kept_without_asking() {
    let server = GithubCache::start();
    let none = Access { read: false, write: false };
    let store = Gha::new(GhaOptions { access: none, ..options(&server) }).expect("a store");
    let error = store.snapshot(&series("a")).await.expect_err("denied");
    assert!(matches!(error, CacheError::Denied { action: "read", .. }), "{error:?}");
    let error = store.put_snapshot(&series("a"), NOTE, &[]).await.expect_err("denied");
    assert!(matches!(error, CacheError::Denied { action: "write", .. }), "{error:?}");
    assert!(server.calls().is_empty());
    // A service that denies reads says so with a status.
    server.fail(Call::Find, Fault::Status(403, "cache read denied: token has no readable scopes"));
    let error = self::store(&server).has_pack(&pack(1).0).await.expect_err("denied");
    assert!(matches!(error, CacheError::Denied { action: "read", .. }), "{error:?}");
}

#[tokio::test]
async fn a_token_that_is_none_is_denied() {
    let server = GithubCache::start();
    let error = of_token(&server, "made-up".to_owned()).snapshot(&series("a")).await.expect_err("denied");
    assert!(matches!(error, CacheError::Denied { action: "read", .. }), "{error:?}");
}

#[tokio::test]
async fn a_pack_that_another_is_about_to_finish_is_waited_for() {
    let server = GithubCache::start();
    let (one, other) = (store(&server), store(&server));
    let (id, bytes) = pack(10);
    server.fail(Call::PutBlob, Fault::Late(Duration::from_millis(8)));
    let both = futures::join!(one.put_pack(&id, bytes.clone()), async {
        tokio::time::sleep(Duration::from_millis(3)).await;
        other.put_pack(&id, bytes.clone()).await
    });
    both.0.expect("put");
    both.1.expect("put");
    // Written, but not seen by lookups for a while.
    server.lag(3);
    let (id, bytes) = pack(11);
    one.put_pack(&id, bytes.clone()).await.expect("put");
    let before = server.entries().len();
    assert_eq!(other.put_pack(&id, bytes).await.expect("put"), Put::AlreadyThere);
    assert_eq!(server.entries().len(), before);
}

#[tokio::test]
async fn the_way_may_lead_through_a_proxy() {
    let server = GithubCache::start();
    let behind = |no_proxy: Option<&str>| {
        let network = Network {
            http_proxy: Some(server.results_url.clone()),
            no_proxy: no_proxy.map(str::to_owned),
            ..Network::default()
        };
        // A name that nobody has.
        let results_url = "http://results.invalid/".to_owned();
        Gha::new(GhaOptions { results_url, network, tries: 1, ..options(&server) }).expect("a store")
    };
    behind(None).put_snapshot(&series("a"), NOTE, &[]).await.expect("put");
    assert_eq!(behind(None).snapshot(&series("a")).await.expect("read"), Some(NOTE));
    let error = behind(Some("example.org,.invalid")).snapshot(&series("a")).await.expect_err("no such host");
    assert!(matches!(error, CacheError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn the_general_api_lists_and_removes() {
    let server = GithubCache::start();
    let store = Gha::new(with_rest(&server)).expect("a store");
    assert_eq!(store.list().await.expect("listed"), Some(vec![]));
    let (id, bytes) = pack(10);
    store.put_pack(&id, bytes.clone()).await.expect("put");
    store.put_snapshot(&series("a"), NOTE, &[]).await.expect("put");
    // Not of this store: another branch, another program, another scope.
    let branch = of_token(&server, server.token_of("refs/heads/topic"));
    branch.put_pack(&id, bytes).await.expect("put");
    server.add("kiln-main-something", &server.entries()[0].key, b"x");
    let other = Gha::new(GhaOptions { scope: "main-x".to_owned(), ..options(&server) }).expect("a store");
    other.put_snapshot(&series("a"), NOTE, &[]).await.expect("put");
    let listed = store.list().await.expect("listed").expect("a list");
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(
        matches!(&listed[0], Listed { what: Object::Pack(pack), size: 10, written } if *pack == id && *written > 1_767_000_000)
    );
    assert!(matches!(&listed[1].what, Object::Snapshot { series: of, .. } if *of == series("a")));
    for listed in listed {
        store.remove(&listed.what).await.expect("removed");
        store.remove(&listed.what).await.expect("not there is no error");
    }
    assert_eq!(store.list().await.expect("listed"), Some(vec![]));
    assert!(!store.has_pack(&id).await.expect("asked"));
    assert!(branch.has_pack(&id).await.expect("asked"));
    assert_eq!(server.entries().len(), 3);
    // More than a page.
    for n in 0..230 {
        server.add(&format!("kiln-main-pack-{}", PackId::of(&[n])), "kiln-main-something", b"x");
    }
    assert_eq!(store.list().await.expect("listed").expect("a list").len(), 230);
    let mut options = with_rest(&server);
    options.rest.as_mut().expect("set").token = Secret::new("of a run without permissions");
    let error = Gha::new(options).expect("a store").list().await.expect_err("denied");
    assert!(error.to_string().contains("actions: write"), "{error}");
}

#[tokio::test]
async fn what_a_snapshot_supersedes_is_removed() {
    let server = GithubCache::start();
    let store = Gha::new(with_rest(&server)).expect("a store");
    // Without a ref, all refs are listed; what is removed is of one.
    let mut everywhere = GhaOptions { run: "8-1".to_owned(), ..with_rest(&server) };
    everywhere.token = Secret::new(server.token_of("refs/heads/topic"));
    everywhere.rest.as_mut().expect("set").reference = None;
    let branch = Gha::new(everywhere).expect("a store");
    for n in 0..4 {
        store.put_snapshot(&series("a"), format!("main {n}").into(), &[]).await.expect("put");
        store.put_snapshot(&series("ab"), format!("other {n}").into(), &[]).await.expect("put");
    }
    for n in 0..4 {
        branch.put_snapshot(&series("a"), format!("topic {n}").into(), &[]).await.expect("put");
    }
    let count = |prefix: &str, reference: &str| {
        server.entries().iter().filter(|e| e.key.starts_with(prefix) && e.reference == reference).count()
    };
    assert_eq!(count("kiln-main-s#hello/a#", DEFAULT_REF), 2);
    assert_eq!(count("kiln-main-s#hello/ab#", DEFAULT_REF), 2);
    assert_eq!(count("kiln-main-s#hello/a#", "refs/heads/topic"), 2);
    assert_eq!(store.snapshot(&series("a")).await.expect("read"), Some("main 3".into()));
    assert_eq!(branch.snapshot(&series("a")).await.expect("read"), Some("topic 3".into()));
    let store = hurried(with_rest(&server));
    // An API that does not work is no reason for a save to fail, or to take long.
    for call in [Call::List, Call::Remove] {
        for fault in [Fault::Status(500, "oh"), Fault::Busy(60), Fault::CutRequest, Fault::Late(LONG), Fault::Page] {
            server.forget_calls();
            server.fail_times(call, fault, 9);
            let started = Instant::now();
            store.put_snapshot(&series("a"), "later".into(), &[]).await.expect("put");
            assert!(started.elapsed() < Duration::from_secs(2), "{call:?}");
            assert_eq!(server.count(call), 1, "{call:?}");
            server.heal();
        }
    }
    store.put_snapshot(&series("a"), "last".into(), &[]).await.expect("put");
    assert_eq!(count("kiln-main-s#hello/a#", DEFAULT_REF), 2);
}
