//! What is refused, in which words, and what no message says.

use std::io::Write as _;

use kiln_publish::{PublishError, Server, Step, Token, preview, publish};
use kiln_testkit::{ForgeFault as Fault, ForgeServer};

use crate::{COMMIT, Client, Folder, OTHER, limits, place, ready, run, server, servers, token};

#[tokio::test]
async fn tags_and_commits_have_to_fit() {
    for server in servers() {
        let mut folder = Folder::new();
        folder.wanted.commit = "3".repeat(40);
        let error = run(&server, &folder.wanted).await.0.expect_err("unknown");
        assert!(matches!(&error, PublishError::NotPushed { commit, .. } if *commit == "3".repeat(40)), "{error:?}");
        folder.wanted.commit = COMMIT.to_owned();
        for with_message in [false, true] {
            server.tag("v1.0", OTHER, with_message);
            let error = run(&server, &folder.wanted).await.0.expect_err("another commit");
            assert!(matches!(&error, PublishError::TagElsewhere { found, .. } if found == OTHER), "{error:?}");
        }
        assert!(server.releases().is_empty(), "{}", server.kind());
        let unpushed = kiln_publish::Wanted { tag: "v1.0-mine".to_owned(), tag_is_made: true, ..folder.wanted.clone() };
        let error = run(&server, &unpushed).await.0.expect_err("it is not there");
        assert!(matches!(&error, PublishError::TagNotPushed { tag, .. } if tag == "v1.0-mine"), "{error:?}");
        // A tag that is there stays.
        server.tag("v1.0", COMMIT, true);
        run(&server, &folder.wanted).await.0.expect("published");
        folder.assert_published(&server, "a tag");
    }
}

#[tokio::test]
async fn what_a_token_lacks_is_told() {
    for on in servers() {
        let kind = on.kind();
        let folder = Folder::new();
        let (with, _) = server(&on, limits(), token(&on, "nonsense-0123456789"));
        let error = publish(&with, &folder.wanted).await.expect_err("unknown");
        assert!(matches!(error, PublishError::Unauthorized { .. }), "{kind}: {error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("the token needs")), "{kind}");
        let (with, _) = server(&on, limits(), token(&on, on.read_token));
        let error = publish(&with, &folder.wanted).await.expect_err("reads alone");
        assert!(matches!(error, PublishError::Forbidden { .. }), "{kind}: {error:?}");
        let mut elsewhere = place(&on);
        elsewhere.repository = "acme/gone".to_owned();
        let access = kiln_publish::Access {
            network: kiln_cache::reach::Network::default(),
            limits: limits(),
            token: token(&on, on.token),
            events: std::sync::Arc::new(|_| {}),
        };
        let with = Server::new(elsewhere, access).expect("a client");
        let error = publish(&with, &folder.wanted).await.expect_err("gone");
        assert!(matches!(error, PublishError::NotFound { .. }), "{kind}: {error:?}");
        assert!(error.to_string().contains("repository acme/gone on 127.0.0.1"), "{error}");
    }
}

#[tokio::test]
async fn no_message_has_the_token() {
    let echo = "you said writer-0123456789, authorization: Bearer writer-0123456789";
    for start in [ForgeServer::github, ForgeServer::gitea, ForgeServer::gitlab] {
        let (on, folder) = (ready(start), Folder::new());
        let client = Client::new(&on, kiln_publish::Limits { attempts: 2, ..limits() });
        for status in [400, 401, 403, 404, 422, 500] {
            for number in 0..9 {
                on.reset();
                on.fail_at(number, Fault::Status(status, echo));
                let (result, said) = client.run(&folder.wanted).await;
                let error = result.err().map(|error| format!("{error} {error:?} {:?}", error.hint()));
                let text = format!("{error:?} {said:?}");
                assert!(!text.contains("writer-"), "{} {status} {number}: {text}", on.kind());
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_is_not_published() {
    for on in servers() {
        let kind = on.kind();
        for change in [b"shorter".to_vec(), vec![7; 300_000], vec![7; 300_001]] {
            let folder = Folder::new();
            let file = folder.wanted.files.iter().find(|file| file.size == 300_000).expect("it is one of them");
            fs_err::File::create(&file.path).and_then(|mut file| file.write_all(&change)).expect("changed");
            let error = run(&on, &folder.wanted).await.0.expect_err("changed");
            assert!(matches!(&error, PublishError::FileChanged { path } if *path == file.path), "{kind}: {error:?}");
            assert!(on.published().is_empty(), "{kind}");
        }
        let folder = Folder::new();
        run(&on, &folder.wanted).await.0.expect("published");
        folder.assert_published(&on, "changes");
    }
}

#[tokio::test]
async fn nobody_is_there() {
    let on = ready(ForgeServer::github);
    let (with, _) = server(&on, limits(), token(&on, on.token));
    drop(on);
    let error = publish(&with, &Folder::new().wanted).await.expect_err("nobody");
    assert!(matches!(error, PublishError::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_preview_sends_nothing_and_says_what_would_be_sent() {
    for (on, uploads) in servers().into_iter().zip(["POST", "POST", "PUT"]) {
        let (with, _) = server(&on, limits(), Token::default());
        let folder = Folder::new();
        let steps = preview(&with, &folder.wanted);
        assert!(on.requests().is_empty());
        let requests: Vec<&String> = steps.iter().flat_map(|(_, requests)| requests).collect();
        assert!(requests.iter().filter(|request| request.starts_with(uploads)).count() >= 3, "{requests:?}");
        assert!(requests.iter().all(|request| request.contains(&on.url)), "{requests:?}");
        assert!(matches!(steps.last(), Some((Step::Publish, _))), "{steps:?}");
    }
}
