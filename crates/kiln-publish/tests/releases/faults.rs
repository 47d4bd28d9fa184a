//! Whatever goes wrong at whatever request: nothing is published by half, and the next run completes it.

use std::time::Duration;

use kiln_publish::{Event, Limits, PublishError};
use kiln_testkit::{ForgeFault as Fault, ForgeServer};

use crate::{Client, Folder, limits, ready, run, run_with, servers};

/// Every failure is one for good.
fn hasty() -> Limits {
    Limits { attempts: 1, patience: Duration::ZERO, ..limits() }
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
        let (server, folder) = (ready(start), Folder::new());
        let (hasty, patient) = (Client::new(&server, hasty()), Client::new(&server, limits()));
        let mut failed = 0;
        for number in 0..count {
            for fault in faults() {
                server.reset();
                server.fail_at(number, fault.clone());
                let (result, said) = hasty.run(&folder.wanted).await;
                let after = format!("{} after {fault:?} at request {number}: {result:?}", server.kind());
                // A 404 is an answer where something is looked for.
                failed += usize::from(result.is_err());
                let left = said.iter().any(|event| matches!(event, Event::Left { .. }));
                assert!(!(result.is_ok() && left), "{after}");
                // Where it is known that there is a draft, it is told.
                let known = said.iter().any(|event| matches!(event, Event::Created { .. } | Event::Sent { .. }));
                assert!(!(result.is_err() && known) || left, "{after}");
                let (again, _) = patient.run(&folder.wanted).await;
                again.unwrap_or_else(|error| panic!("{after}, then {error}"));
                // And whatever was visible at any time was all of it.
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
    ];
    for start in KINDS {
        let count = requests(start).await;
        let (server, folder) = (ready(start), Folder::new());
        let client = Client::new(&server, limits());
        for number in 0..count {
            for fault in &passing {
                server.reset();
                server.fail_at(number, fault.clone());
                let (result, said) = client.run(&folder.wanted).await;
                let after = format!("{} after {fault:?} at request {number}", server.kind());
                result.unwrap_or_else(|error| panic!("{after}: {error}"));
                assert!(said.iter().any(|event| matches!(event, Event::Again { .. })), "{after}");
                folder.assert_published(&server, &after);
            }
        }
    }
}

#[tokio::test]
async fn who_does_not_answer_is_asked_again() {
    for start in KINDS {
        let count = requests(start).await;
        let (server, folder) = (ready(start), Folder::new());
        let client = Client::new(&server, Limits { answer: Duration::from_millis(300), attempts: 9, ..limits() });
        for number in 0..count {
            server.reset();
            server.fail_at(number, Fault::Late(Duration::from_millis(600)));
            client.run(&folder.wanted).await.0.expect("published");
            folder.assert_published(&server, &format!("silence at request {number}"));
        }
    }
    let server = ready(ForgeServer::github);
    server.fail_on("GET", "", Fault::Late(Duration::from_mins(1)), 9);
    let limits = Limits { answer: Duration::from_millis(100), attempts: 2, ..limits() };
    let error = run_with(&server, limits, &Folder::new().wanted).await.0.expect_err("silence");
    assert!(matches!(error, PublishError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn runs_that_fail_again_and_again_get_on() {
    for server in servers() {
        let folder = Folder::new();
        let client = Client::new(&server, hasty());
        // The draft, each file, the end: something fails each time.
        for (method, part) in [("POST", "releases"), ("POST", "assets"), ("PUT", "generic"), ("PATCH", "releases")] {
            server.fail_on(method, part, Fault::CutRequest, 1);
            let _ = client.run(&folder.wanted).await;
            server.heal();
        }
        client.run(&folder.wanted).await.0.expect("completed");
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
        assert!(matches!(error, PublishError::Busy { wait, .. } if wait == Duration::from_mins(1)), "{error:?}");
    }
}

#[tokio::test]
async fn a_run_that_is_stopped_leaves_a_draft_that_the_next_completes() {
    for server in servers() {
        let kind = server.kind();
        let folder = Folder::new();
        let method = if kind == "gitlab" { "PUT" } else { "POST" };
        let part = if kind == "gitlab" { "generic" } else { "assets" };
        server.fail_on(method, part, Fault::Late(Duration::from_mins(1)), 1);
        let running = run(&server, &folder.wanted);
        // As a Ctrl-C does: whoever waits for the run drops it.
        let stopped = tokio::time::timeout(Duration::from_millis(500), running).await;
        assert!(stopped.is_err() && server.published().is_empty(), "{kind}");
        server.heal();
        run(&server, &folder.wanted).await.0.expect("completed");
        folder.assert_published(&server, "a stop");
    }
}
