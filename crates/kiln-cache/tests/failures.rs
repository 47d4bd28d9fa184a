//! Servers that refuse, stall, break off or lie: what becomes of it, and that no credentials come out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kiln_cache::address::Surroundings;
use kiln_cache::reach::{Limits, Network};
use kiln_cache::{Address, CacheError, Direction, PackId, Series, Store};
use kiln_docker::registry::RegistryOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A secret that is base64, too: an account's key must be.
const SECRET: &str = "hunter2hunter2hh";

/// Reads a request: its head.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    while bytes.len() < end + length.unwrap_or(0usize) {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// A server that answers with what `answer` says for the number of the request and its head; nothing is a silence.
async fn serve(answer: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let (seen, answer) = (log.clone(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, answer) = (seen.clone(), answer.clone());
            tokio::spawn(async move {
                while let Some(head) = head(&mut stream).await {
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(head.lines().next().unwrap_or_default().to_owned());
                        seen.len()
                    };
                    let text = answer(number, &head);
                    if text.is_empty() {
                        tokio::time::sleep(Duration::from_mins(1)).await;
                    }
                    // One that tells more bytes than it sends breaks off.
                    let torn = text.contains("x-torn");
                    if stream.write_all(text.as_bytes()).await.is_err() || torn {
                        return;
                    }
                }
            });
        }
    });
    (host, log)
}

fn limits() -> Limits {
    let short = Duration::from_millis(300);
    Limits { connect: short, answer: short, transfer: short, attempts: 2, pause: Duration::from_millis(10) }
}

fn open(text: &str) -> Arc<dyn Store> {
    let around = Surroundings {
        variables: &|_| None,
        folder: std::path::Path::new("/"),
        registry: RegistryOptions::default(),
        network: Network::default(),
        limits: limits(),
    };
    Address::parse(text, Direction::To).unwrap().open(&around).unwrap()
}

/// A store of each kind at a server.
fn stores(host: &str) -> Vec<(&'static str, Arc<dyn Store>)> {
    vec![
        (
            "s3",
            open(&format!(
                "type=s3,bucket=b,endpoint_url=http://{host},region=r,access_key_id={SECRET}id,secret_access_key={SECRET}"
            )),
        ),
        ("azblob", open(&format!("type=azblob,account_url=http://{host}/account,secret_access_key={SECRET}"))),
        ("gcs", open(&format!("type=gcs,bucket=b,endpoint_url=http://{host},token={SECRET}"))),
        ("webdav", open(&format!("type=webdav,url=http://me:{SECRET}@{host}/dav"))),
        ("http", open(&format!("type=http,url=http://{host}/plain,token={SECRET}"))),
    ]
}

/// What reading and writing come to.
async fn both(store: &dyn Store) -> [CacheError; 2] {
    let id = PackId::of(b"x");
    let read = store.pack(&id, 1).await.expect_err("it cannot be read");
    let written = store.put_pack(&id, Bytes::from_static(b"x")).await.expect_err("it cannot be written");
    for error in [&read, &written] {
        let shown = format!("{error} {error:?} {:?}", error.hint());
        assert!(!shown.contains(SECRET) && !shown.to_lowercase().contains("authorization: "), "{shown}");
        assert!(shown.chars().count() < 1200, "{shown}");
    }
    [read, written]
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_told_so() {
    let (host, log) = serve(|_, head| {
        // Some servers say back what they were told.
        let body =
            format!("<Error><Code>AccessDenied</Code><Message>not {SECRET}</Message><Extra>{head}</Extra></Error>");
        answer("403 Forbidden", "", &body)
    })
    .await;
    for (name, store) in stores(&host) {
        for error in both(&*store).await {
            assert!(matches!(error, CacheError::Denied { .. }), "{name}: {error:?}");
        }
    }
    assert!(!log.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_something_else_is_no_answer() {
    let page = format!("<html>{}{SECRET}{}</html>", "a ".repeat(2000), "ö".repeat(2000));
    let (host, _) = serve(move |_, head| answer("400 Bad Request", "", &format!("{SECRET} {head} {page}"))).await;
    for (name, store) in stores(&host) {
        for error in both(&*store).await {
            assert!(matches!(error, CacheError::Odd { .. }), "{name}: {error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_asked_again_and_then_left_alone() {
    let (host, log) = serve(|_, _| answer("429 Too Many Requests", "retry-after: 0\r\n", "")).await;
    for (name, store) in stores(&host) {
        log.lock().unwrap().clear();
        for error in both(&*store).await {
            assert!(matches!(error, CacheError::Busy { .. }), "{name}: {error:?}");
        }
        let asked = log.lock().unwrap().len();
        assert_eq!(asked, 4, "{name}");
    }
    let (host, log) = serve(|_, _| answer("429 Too Many Requests", "retry-after: 3600\r\n", "")).await;
    let store = open(&format!("http://{host}"));
    let [error, _] = both(&*store).await;
    assert!(matches!(error, CacheError::Busy { wait, .. } if wait.as_secs() == 3600), "{error:?}");
    assert_eq!(log.lock().unwrap().len(), 2, "nobody waits for an hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_once_is_tried_again() {
    let (host, log) = serve(|number, _| match number {
        1 => answer("503 Service Unavailable", "", "<Error><Code>SlowDown</Code></Error>"),
        _ => answer("200 OK", "", "x"),
    })
    .await;
    for (name, store) in stores(&host) {
        log.lock().unwrap().clear();
        assert_eq!(store.pack(&PackId::of(b"x"), 1).await.unwrap().as_deref(), Some(&b"x"[..]), "{name}");
        assert_eq!(log.lock().unwrap().len(), 2, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let (host, _) = serve(|_, _| String::new()).await;
    for (name, store) in stores(&host) {
        for error in both(&*store).await {
            assert!(matches!(error, CacheError::TimedOut { .. }), "{name}: {error:?}");
        }
    }
    // Nobody listens there.
    for (name, store) in stores("127.0.0.1:1") {
        for error in both(&*store).await {
            let CacheError::Unreachable { reason, .. } = &error else { panic!("{name}: {error:?}") };
            assert!(reason.contains("refused"), "{name}: {reason}");
        }
    }
    let registry = open("type=registry,ref=127.0.0.1:1/a/b");
    for error in both(&*registry).await {
        assert!(matches!(error, CacheError::Unreachable { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_off_is_no_answer() {
    let torn = || "HTTP/1.1 200 OK\r\ncontent-length: 100\r\nx-torn: 1\r\n\r\nhalf".to_owned();
    let (host, _) = serve(move |_, _| torn()).await;
    for (name, store) in stores(&host) {
        let error = store.pack(&PackId::of(b"x"), 100).await.expect_err("half of it came");
        assert!(matches!(error, CacheError::Unreachable { .. }), "{name}: {error:?}");
    }
    // The second time it comes whole.
    let whole = "x".repeat(100);
    let (host, log) = serve(move |number, _| if number == 1 { torn() } else { answer("200 OK", "", &whole) }).await;
    for (name, store) in stores(&host) {
        log.lock().unwrap().clear();
        let read = store.pack(&PackId::of(b"x"), 100).await.unwrap();
        assert_eq!(read, Some(Bytes::from(vec![b'x'; 100])), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sends_without_end_is_not_heard_out() {
    let (host, _) = serve(|_, _| answer("200 OK", "", &"x".repeat(1 << 20))).await;
    for (name, store) in stores(&host) {
        let error = store.pack(&PackId::of(b"x"), 1000).await.expect_err("more than it should be");
        assert!(matches!(error, CacheError::Odd { .. }), "{name}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_reads_says_so() {
    let (host, _) = serve(|_, head| match head.split(' ').next() {
        Some("HEAD" | "GET") => answer("404 Not Found", "", ""),
        _ => answer("405 Method Not Allowed", "", ""),
    })
    .await;
    let store = open(&format!("http://{host}"));
    assert_eq!(store.snapshot(&Series::new(["a"])).await.unwrap(), None);
    let error = store.put_snapshot(&Series::new(["a"]), Bytes::new(), &[]).await.expect_err("no writing");
    assert!(
        matches!(&error, CacheError::Denied { action: "write", reason, .. } if reason.contains("PUT")),
        "{error:?}"
    );
}

/// A WebDAV server that has every folder and no file, and takes `MOVE` or not.
async fn webdav(moves: bool) -> (String, Arc<Mutex<Vec<String>>>) {
    let folder = "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/</D:href><D:propstat><D:prop><D:getlastmodified>Sat, 28 Nov 2026 00:00:00 GMT</D:getlastmodified><D:resourcetype>\
                  <D:collection/></D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\
                  </D:multistatus>";
    serve(move |_, head| match head.split([' ', '?']).collect::<Vec<_>>()[..] {
        ["PROPFIND", path, ..] if path.ends_with('/') || path.contains("/tmp/") => {
            answer("207 Multi-Status", "", folder)
        }
        ["PUT", ..] => answer("201 Created", "", ""),
        ["MOVE", ..] if moves => answer("201 Created", "", ""),
        ["MOVE", ..] => answer("405 Method Not Allowed", "", ""),
        ["DELETE", ..] => answer("204 No Content", "", ""),
        _ => answer("404 Not Found", "", ""),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_webdav_objects_get_their_names_when_they_are_whole() {
    for moves in [true, false] {
        let (host, log) = webdav(moves).await;
        let store = open(&format!("webdav://{host}/dav"));
        let id = PackId::of(b"x");
        store.put_pack(&id, Bytes::from_static(b"x")).await.unwrap();
        let log = log.lock().unwrap();
        let asked = |start: &str| log.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!((asked("PUT /dav/tmp/"), asked("MOVE /dav/tmp/")), (1, 1), "{log:#?}");
        // Where the server cannot, the name is written at once, and nothing is left.
        let (puts, removed) = if moves { (0, 0) } else { (1, 1) };
        assert_eq!((asked(&format!("PUT /dav/packs/{id}")), asked("DELETE /dav/tmp/")), (puts, removed), "{log:#?}");
    }
}
