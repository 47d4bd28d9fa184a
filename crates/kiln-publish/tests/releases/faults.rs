//! Whatever goes wrong at whatever request: nothing is published by half, and the next run completes it.

use std::time::Duration;

use kiln_publish::{Event, Limits, PublishError};
use kiln_testkit::{ForgeFault as Fault, ForgeServer};

use crate::{Folder, limits, ready, run, run_with, servers};

/// Every failure is one for good.
fn hasty() -> Limits {
    Limits { attempts: 1, answer: Duration::from_millis(300), patience: Duration::ZERO, ..limits() }
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::Status(401, "Bad credentials"),
        Fault::Status(403, "Forbidden"),
        Fault::Status(404, "Not Found"),
        Fault::Status(422, "Validation Failed"),
        Fault::Status(500, "oh"),
        Fault::Status(502, "oh"),
        Fault::Busy(60),
        Fault::CutRequest,
        Fault::CutAnswer,
        Fault::CutBody,
        Fault::Page,
    ]
}

/// How many requests a run makes.
async fn requests(start: fn() -> ForgeServer) -> usize {
    let server = ready(start);
    run(&server, &Folder::new().wanted).await.0.expect("published");
    server.requests().len()
}

const KINDS: [fn() -> ForgeServer; 3] = [ForgeServer::github, ForgeServer::gitea, ForgeServer::gitlab];

#[tokio::test]
async fn a_run_that_fails_anywhere_is_completed_by_the_next() {
    for start in KINDS {
        let count = requests(start).await;
        assert!(count >= 8, "{count}");
        let mut failed = 0;
        for number in 0..count {
            for fault in faults() {
                let server = ready(start);
                let folder = Folder::new();
                server.fail_at(number, fault.clone());
                let (result, said) = run_with(&server, hasty(), &folder.wanted).await;
                let after = format!("{fault:?} at request {number}: {result:?}");
                // A 404 means what it says where something is looked for.
                failed += usize::from(result.is_err());
                for published in server.published() {
                    assert_eq!(published.len(), 3, "{} {after}", server.kind());
                }
                let left = said.events().iter().any(|event| matches!(event, Event::Left { .. }));
                let is_draft = server.releases().iter().any(|release| release.draft);
                if result.is_ok() {
                    assert!(!left, "{} {after}", server.kind());
                } else if is_draft && server.kind() != "gitlab" && !said.events().is_empty() {
                    assert!(left, "{} {after}", server.kind());
                }
                server.heal();
                let (again, _) = run(&server, &folder.wanted).await;
                again.unwrap_or_else(|error| panic!("{} {after}, then {error}", server.kind()));
                folder.assert_published(&server, &after);
            }
        }
        assert!(failed > count * 7, "{failed} of {count}");
    }
}

#[tokio::test]
async fn trouble_that_passes_is_sat_out() {
    let passing = [
        Fault::Status(500, "oh"),
        Fault::Status(503, "oh"),
        Fault::Busy(0),
        Fault::CutRequest,
        Fault::CutAnswer,
        Fault::CutBody,
        Fault::Late(Duration::from_millis(600)),
    ];
    for start in KINDS {
        let count = requests(start).await;
        for number in 0..count {
            for fault in &passing {
                let server = ready(start);
                let folder = Folder::new();
                server.fail_at(number, fault.clone());
                let limits = Limits { answer: Duration::from_millis(300), ..limits() };
                let (result, said) = run_with(&server, limits, &folder.wanted).await;
                let after = format!("{fault:?} at request {number}");
                result.unwrap_or_else(|error| panic!("{} {after}: {error}", server.kind()));
                assert!(said.events().iter().any(|event| matches!(event, Event::Again { .. })), "{after}");
                folder.assert_published(&server, &after);
            }
        }
    }
}

#[tokio::test]
async fn runs_that_fail_again_and_again_get_on() {
    for server in servers() {
        let folder = Folder::new();
        let mut runs = 0;
        loop {
            runs += 1;
            // Each run gets through with one request more that changes something.
            server.fail_on("POST", "", Fault::Status(500, "oh"), 0);
            for method in ["POST", "PUT", "PATCH"] {
                server.fail_on(method, "", Fault::CutRequest, 1);
            }
            let (result, _) = run_with(&server, hasty(), &folder.wanted).await;
            server.heal();
            if result.is_err() && runs < 3 {
                assert!(server.published().is_empty(), "{}", server.kind());
                continue;
            }
            break;
        }
        run(&server, &folder.wanted).await.0.expect("completed");
        folder.assert_published(&server, "several runs");
    }
}

#[tokio::test]
async fn a_file_that_is_only_there_in_part_is_sent_again() {
    let server = ready(ForgeServer::github);
    let folder = Folder::new();
    server.fail_on("POST", "assets", Fault::CutRequest, 1);
    run_with(&server, hasty(), &folder.wanted).await.0.expect_err("cut");
    let releases = server.releases();
    assert!(releases[0].draft && releases[0].assets.iter().any(|asset| !asset.complete), "{releases:?}");
    let (result, said) = run(&server, &folder.wanted).await;
    result.expect("completed");
    let removed = |event: &Event| matches!(event, Event::Removed { why: "is there in part", .. });
    assert!(said.events().iter().any(removed), "{:?}", said.events());
    folder.assert_published(&server, "a part");
    // Within one run, too: the name is taken by what broke off.
    let server = ready(ForgeServer::github);
    server.fail_on("POST", "assets", Fault::Status(502, "oh"), 2);
    let (result, said) = run(&server, &folder.wanted).await;
    result.expect("sat out");
    assert!(said.events().iter().any(removed), "{:?}", said.events());
    folder.assert_published(&server, "a 502");
}

#[tokio::test]
async fn who_is_busy_is_waited_for_but_not_for_ever() {
    for server in servers() {
        let folder = Folder::new();
        server.fail_at(1, Fault::Busy(1));
        run(&server, &folder.wanted).await.0.expect("published");
        let again = ready(ForgeServer::github);
        again.fail_on("POST", "", Fault::Busy(60), 1);
        let (result, _) = run(&again, &folder.wanted).await;
        let error = result.expect_err("too long");
        assert!(matches!(error, PublishError::Busy { wait, .. } if wait == Duration::from_secs(60)), "{error:?}");
    }
}

#[tokio::test]
async fn a_run_that_is_stopped_leaves_a_draft_that_the_next_completes() {
    for server in servers() {
        let kind = server.kind();
        let folder = Folder::new();
        let method = if kind == "gitlab" { "PUT" } else { "POST" };
        let part = if kind == "gitlab" { "generic" } else { "assets" };
        server.fail_on(method, part, Fault::Late(Duration::from_secs(60)), 1);
        let running = run(&server, &folder.wanted);
        // As a Ctrl-C does: whoever waits for the run drops it.
        let stopped = tokio::time::timeout(Duration::from_millis(500), running).await;
        assert!(stopped.is_err() && server.published().is_empty(), "{kind}");
        server.heal();
        run(&server, &folder.wanted).await.0.expect("completed");
        folder.assert_published(&server, "a stop");
    }
}
