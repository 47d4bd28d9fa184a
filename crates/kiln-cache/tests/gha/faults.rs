//! What goes wrong on the way.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kiln_cache::store::{Gha, GhaOptions};
use kiln_cache::{CacheError, Object, PackId, Put, Store};
use kiln_testkit::{GithubCache, GithubCall as Call, GithubFault as Fault};

use crate::{LONG, NOTE, PATIENCE, hurried, options, pack, series, store, with_rest};

#[tokio::test]
async fn a_busy_service_is_waited_for_but_not_for_ever() {
    let server = GithubCache::start();
    let store = store(&server);
    server.fail(Call::Create, Fault::Busy(1));
    let started = Instant::now();
    store.put_snapshot(&series("a"), NOTE, &[]).await.expect("put");
    assert!(started.elapsed() >= Duration::from_secs(1), "it did not wait");
    assert_eq!(server.count(Call::Create), 2);
    // Longer than all patience: not waited for at all.
    server.fail(Call::Find, Fault::Busy(90));
    let started = Instant::now();
    let error = store.snapshot(&series("a")).await.expect_err("busy");
    assert!(matches!(error, CacheError::Busy { wait, .. } if wait == Duration::from_secs(90)), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(1));
    server.fail(Call::GetBlob, Fault::Busy(90));
    let error = store.snapshot(&series("a")).await.expect_err("busy");
    assert!(matches!(error, CacheError::Busy { .. }), "{error:?}");
    // Asked at once again and again, it still ends.
    server.fail_times(Call::Find, Fault::Busy(0), 1000);
    let error = store.snapshot(&series("a")).await.expect_err("busy");
    assert!(matches!(error, CacheError::Busy { .. }), "{error:?}");
    assert!(server.count(Call::Find) < 30);
}

#[tokio::test]
async fn what_breaks_a_few_times_is_done_again() {
    let server = GithubCache::start();
    let store = store(&server);
    let calls = [Call::Create, Call::PutBlob, Call::PutBlock, Call::PutBlockList, Call::Find, Call::GetBlob];
    let mut size = 1000;
    for fault in
        [Fault::Status(500, "oh"), Fault::Status(503, "oh"), Fault::CutRequest, Fault::CutAnswer, Fault::CutBody]
    {
        for call in calls {
            for large in [false, true] {
                size += 1;
                let (id, bytes) = pack(if large { size } else { size - 900 });
                server.fail_times(call, fault.clone(), 4);
                assert_eq!(store.put_pack(&id, bytes.clone()).await.expect("put"), Put::Stored, "{call:?} {fault:?}");
                server.heal();
                server.fail_times(call, fault.clone(), 4);
                let read = store.pack(&id, bytes.len() as u64).await;
                assert_eq!(read.expect("read"), Some(bytes), "{call:?} {fault:?}");
                server.heal();
            }
        }
    }
}

#[tokio::test]
async fn what_breaks_for_ever_is_an_error_that_says_so() {
    let server = GithubCache::start();
    let store = store(&server);
    let (id, bytes) = pack(2000);
    let (small, _) = pack(20);
    store.put_pack(&id, bytes.clone()).await.expect("put");
    store.put_pack(&small, pack(20).1).await.expect("put");
    let mut size = 2000;
    for fault in [Fault::Status(502, "oh"), Fault::CutRequest] {
        for call in [Call::Create, Call::PutBlob, Call::PutBlock, Call::PutBlockList, Call::Finalize] {
            size += 1;
            let (id, bytes) = pack(if call == Call::PutBlob { size - 1900 } else { size });
            server.fail_times(call, fault.clone(), 1000);
            let before = server.count(call);
            let error = store.put_pack(&id, bytes).await.expect_err("broken");
            assert!(matches!(error, CacheError::Unreachable { .. }), "{call:?} {fault:?}: {error:?}");
            let tries = server.count(call) - before;
            assert!((5..=20).contains(&tries) && (call == Call::PutBlock || tries == 5), "{call:?}: {tries}");
            server.heal();
            // What was not uploaded is not taken for stored.
            assert!(!store.has_pack(&id).await.expect("asked"), "{call:?} {fault:?}");
        }
        server.fail_times(Call::Find, fault.clone(), 5);
        let error = store.has_pack(&id).await.expect_err("broken");
        assert!(matches!(error, CacheError::Unreachable { .. }), "{fault:?}: {error:?}");
        server.fail_times(Call::GetBlob, fault.clone(), 5);
        let error = store.pack(&id, 2000).await.expect_err("broken");
        assert!(matches!(error, CacheError::Unreachable { .. }), "{fault:?}: {error:?}");
    }
    server.fail(Call::Find, Fault::Page);
    let error = store.has_pack(&id).await.expect_err("a page");
    assert!(matches!(error, CacheError::Odd { .. }), "{error:?}");
    drop(server);
    let error = store.pack(&id, 2000).await.expect_err("nobody is there");
    assert!(matches!(error, CacheError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_key_that_a_dead_writer_holds_is_gone_around() {
    let server = GithubCache::start();
    let (id, bytes) = pack(10);
    server.fail_times(Call::PutBlob, Fault::CutRequest, 5);
    store(&server).put_pack(&id, bytes.clone()).await.expect_err("broken");
    // The key is taken, and nothing is behind it.
    let store = store(&server);
    assert!(!store.has_pack(&id).await.expect("asked"));
    assert_eq!(store.put_pack(&id, bytes.clone()).await.expect("put"), Put::Stored);
    assert!(store.has_pack(&id).await.expect("asked"));
    assert_eq!(store.pack(&id, 10).await.expect("read"), Some(bytes.clone()));
    assert_eq!(store.put_pack(&id, bytes).await.expect("put"), Put::AlreadyThere);
    assert_eq!(server.entries().len(), 2);
}

#[tokio::test]
async fn an_upload_that_is_not_accepted_is_no_success() {
    let server = GithubCache::start();
    let store = store(&server);
    let (id, bytes) = pack(10);
    server.fail(Call::Finalize, Fault::Status(400, "no"));
    let error = store.put_pack(&id, bytes).await.expect_err("not accepted");
    assert!(matches!(error, CacheError::Odd { .. }), "{error:?}");
    assert!(!store.has_pack(&id).await.expect("asked"));
    server.fail(Call::Finalize, Fault::Status(400, "no"));
    store.put_snapshot(&series("a"), NOTE, &[]).await.expect_err("not accepted");
    assert_eq!(store.snapshot(&series("a")).await.expect("read"), None);
    // Storage that does not take it: nothing is finalized.
    server.forget_calls();
    server.fail(Call::PutBlob, Fault::Status(403, "expired"));
    let (id, bytes) = pack(11);
    let error = store.put_pack(&id, bytes).await.expect_err("not taken");
    assert!(matches!(error, CacheError::Odd { .. }), "{error:?}");
    assert_eq!(server.count(Call::Finalize), 0);
    // Accepted, though the answer was lost: it is there, also if it is seen a while later only.
    for lag in [0, 2] {
        server.lag(lag);
        server.fail(Call::Finalize, Fault::CutAnswer);
        let (id, bytes) = pack(12 + lag);
        assert_eq!(store.put_pack(&id, bytes).await.expect("put"), Put::Stored);
    }
}

#[tokio::test]
async fn a_slow_server_is_given_up() {
    let server = GithubCache::start();
    let store = hurried(options(&server));
    let (id, bytes) = pack(2000);
    store.put_pack(&id, bytes.clone()).await.expect("put");
    store.put_snapshot(&series("a"), NOTE, &[]).await.expect("put");
    let faults = [Fault::Late(LONG), Fault::Stall(LONG), Fault::Drip(Duration::from_millis(40))];
    for call in [Call::Find, Call::GetBlob] {
        for fault in &faults {
            let started = Instant::now();
            server.fail_times(call, fault.clone(), 2);
            let error = store.pack(&id, 2000).await.expect_err("slow");
            assert!(
                matches!(error, CacheError::TimedOut { limit, .. } if limit == PATIENCE),
                "{call:?} {fault:?}: {error:?}"
            );
            assert!(started.elapsed() < Duration::from_secs(2), "{call:?} {fault:?}: {:?}", started.elapsed());
        }
        // Once slow is not for ever slow.
        server.fail(call, Fault::Stall(LONG));
        assert_eq!(store.pack(&id, 2000).await.expect("read"), Some(bytes.clone()), "{call:?}");
    }
}

#[tokio::test]
async fn a_slow_server_is_not_written_to_for_ever() {
    let server = GithubCache::start();
    let store = hurried(options(&server));
    let mut size = 2000;
    for call in [Call::Create, Call::PutBlob, Call::PutBlock, Call::PutBlockList, Call::Finalize] {
        size += 1;
        let (id, bytes) = pack(if call == Call::PutBlob { size - 1900 } else { size });
        server.fail_times(call, Fault::Late(LONG), 10);
        let error = store.put_pack(&id, bytes).await.expect_err("slow");
        assert!(matches!(error, CacheError::TimedOut { .. }), "{call:?}: {error:?}");
        server.heal();
    }
}

#[tokio::test]
async fn an_upload_may_take_long_as_long_as_it_moves() {
    let server = GithubCache::start();
    let timeout = Duration::from_secs(1);
    let at_once = GhaOptions { single_upload: usize::MAX, timeout, ..options(&server) };
    let store = Gha::new(at_once).expect("a store");
    let bytes = Bytes::from(vec![7; 48 * 1024 * 1024]);
    let id = PackId::of(&bytes);
    let each = Duration::from_millis(30);
    server.fail(Call::PutBlob, Fault::SlowRead(each));
    let started = Instant::now();
    store.put_pack(&id, bytes.clone()).await.expect("put");
    assert!(started.elapsed() >= each * 48 && each * 48 > timeout, "{:?}", started.elapsed());
    assert_eq!(server.count(Call::PutBlob), 1);
    assert_eq!(store.pack(&id, bytes.len() as u64).await.expect("read"), Some(bytes.clone()));
    // One that stands still is given up.
    let bytes = bytes.slice(1..);
    server.fail_times(Call::PutBlob, Fault::SlowRead(LONG), 2);
    let started = Instant::now();
    let error = store.put_pack(&PackId::of(&bytes), bytes).await.expect_err("stuck");
    assert!(matches!(error, CacheError::TimedOut { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_torn_object_is_read_again_and_is_never_passed_on() {
    let server = GithubCache::start();
    let store = store(&server);
    let (id, bytes) = pack(900);
    store.put_pack(&id, bytes.clone()).await.expect("put");
    store.put_snapshot(&series("a"), NOTE, &[]).await.expect("put");
    for fault in [Fault::Short, Fault::CutBody] {
        server.fail_times(Call::GetBlob, fault.clone(), 4);
        assert_eq!(store.pack(&id, 900).await.expect("read"), Some(bytes.clone()), "{fault:?}");
        server.fail_times(Call::GetBlob, fault.clone(), 5);
        let error = store.pack(&id, 900).await.expect_err("torn");
        assert!(matches!(error, CacheError::Damaged { .. }), "{fault:?}: {error:?}");
        assert!(error.to_string().contains("450"), "{error}");
    }
    server.fail_times(Call::GetBlob, Fault::CutBody, 5);
    let error = store.snapshot(&series("a")).await.expect_err("torn");
    assert!(matches!(error, CacheError::Damaged { .. }), "{error:?}");
    // Truncated where it lies, and longer than it should be.
    for size in [899, 901, 100_000] {
        server.damage("kiln-main-pack-", |bytes| bytes.resize(size, 0));
        let error = store.pack(&id, 900).await.expect_err("another size");
        assert!(matches!(error, CacheError::Damaged { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_address_that_has_expired_is_asked_for_anew() {
    let server = GithubCache::start();
    let store = store(&server);
    let (id, bytes) = pack(900);
    store.put_pack(&id, bytes.clone()).await.expect("put");
    server.forget_calls();
    server.fail_times(Call::GetBlob, Fault::Status(403, "expired"), 2);
    assert_eq!(store.pack(&id, 900).await.expect("read"), Some(bytes));
    assert_eq!(server.count(Call::Find), 3);
    server.fail_times(Call::GetBlob, Fault::Status(403, "expired"), 1000);
    let error = store.pack(&id, 900).await.expect_err("never good");
    assert!(matches!(error, CacheError::Denied { action: "read", .. }), "{error:?}");
    assert_eq!(server.count(Call::Find), 6);
    server.heal();
    // What is evicted between two requests is not there.
    server.fail_times(Call::GetBlob, Fault::Status(404, "gone"), 1000);
    assert_eq!(store.pack(&id, 900).await.expect("read"), None);
    server.heal();
    server.evict("kiln-main-pack-");
    assert_eq!(store.pack(&id, 900).await.expect("read"), None);
}

#[tokio::test]
async fn credentials_are_in_no_message() {
    let server = GithubCache::start();
    let (id, bytes) = pack(10);
    let mut texts = Vec::new();
    let mut options = with_rest(&server);
    options.tries = 1;
    let store = Gha::new(options.clone()).expect("a store");
    texts.push(format!("{options:?} {store:?} {} {:?}", store.place(), &store as &dyn Store));
    store.put_pack(&id, bytes.clone()).await.expect("put");
    let all = [Call::Create, Call::PutBlob, Call::Finalize, Call::Find, Call::GetBlob, Call::List, Call::Remove];
    let echo: &'static str =
        format!("what is {} to http://x/blob?sig=signature7 or {}", server.token, server.rest_token).leak();
    let faults = [400, 401, 403, 500].map(|status| Fault::Status(status, echo));
    let broken = [Fault::CutRequest, Fault::CutAnswer, Fault::CutBody, Fault::Page, Fault::Busy(9)];
    let mut size = 10;
    for call in all {
        for fault in faults.iter().chain(&broken) {
            let store = Gha::new(options.clone()).expect("a store");
            size += 1;
            let (new, content) = pack(size);
            server.fail_times(call, fault.clone(), 3);
            let mut errors = Vec::new();
            errors.extend(store.put_pack(&new, content).await.err());
            server.heal();
            server.fail_times(call, fault.clone(), 3);
            errors.extend(store.pack(&id, 10).await.err());
            server.heal();
            server.fail_times(call, fault.clone(), 3);
            errors.extend(store.list().await.err());
            errors.extend(store.remove(&Object::Pack(id)).await.err());
            server.heal();
            // Another store, since this one may have been denied.
            crate::store(&server).put_pack(&id, bytes.clone()).await.expect("put");
            texts.extend(errors.iter().map(|error| format!("{error} {error:?} {:?}", error.hint())));
        }
    }
    assert!(texts.len() > 50, "{} errors", texts.len());
    for text in texts {
        assert!(!text.contains("secret-of") && !text.contains("signature"), "{text}");
    }
}
