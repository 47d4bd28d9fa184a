//! Downloads from a server on the loopback interface.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use kiln_fetch::http::{Network, fetch};
use kiln_fetch::{Cache, FetchError};

/// What a server answers to a request, given its lines.
type Answer = Box<dyn Fn(&[String]) -> Vec<u8> + Send>;

struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Server {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("connection");
                let lines = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                let lines: Vec<String> = lines.collect();
                seen.lock().expect("whole").push(lines.clone());
                let _ = stream.write_all(&answer(&lines));
            }
        });
        Self { address, requests }
    }

    fn count(&self) -> usize {
        self.requests.lock().expect("whole").len()
    }
}

fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}").into_bytes()
}

fn get(cache: &Cache, url: &str, checksum: Option<&str>) -> Result<kiln_fetch::http::Fetched, FetchError> {
    fetch(&Network::default(), cache, url, "name", checksum, &|| false)
}

const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[test]
fn an_unchanged_file_is_not_transferred_again() {
    let server = Server::start(Box::new(|lines| {
        if lines.iter().any(|line| line.eq_ignore_ascii_case("if-none-match: \"v1\"")) {
            return reply("304 Not Modified", "", "");
        }
        reply("200 OK", "ETag: \"v1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "hello")
    }));
    let dir = tempfile::tempdir().expect("temporary folder");
    let cache = Cache::new(dir.path());
    let url = format!("{}/f", server.address);
    let first = get(&cache, &url, None).expect("fetched");
    assert_eq!((first.digest.as_str(), first.transferred), (HELLO, 5));
    assert_eq!(fs_err::read_to_string(&first.file).expect("file"), "hello");
    let modified = fs_err::metadata(&first.file).and_then(|meta| meta.modified()).expect("time");
    let since = modified.duration_since(std::time::SystemTime::UNIX_EPOCH).expect("after 1970");
    assert_eq!(since.as_secs(), 784_111_777);
    let again = get(&cache, &url, None).expect("fetched");
    assert_eq!((again.transferred, server.count()), (0, 2));
    assert_eq!(again.file, first.file);
    // A digest that is here already needs no server.
    assert_eq!(get(&cache, "http://127.0.0.1:1/gone", Some(HELLO)).expect("known").digest, HELLO);
    assert_eq!(server.count(), 2);
    // A damaged cache only costs a transfer.
    fs_err::write(&first.file, "longer than before").expect("write");
    assert_eq!(get(&cache, &url, None).expect("fetched").transferred, 5);
}

#[test]
fn a_wrong_digest_names_both_and_keeps_nothing() {
    let server = Server::start(Box::new(|_| reply("200 OK", "", "other")));
    let dir = tempfile::tempdir().expect("temporary folder");
    let error = get(&Cache::new(dir.path()), &server.address, Some(HELLO)).expect_err("wrong");
    let text = error.to_string();
    assert!(text.contains(HELLO) && text.contains("sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27"), "{text}");
    assert!(error.hint().expect("a hint").contains("--checksum=sha256:d9298a"));
    assert_eq!(fs_err::read_dir(dir.path().join("v1/blobs")).expect("folder").count(), 0);
}

#[test]
fn a_transfer_that_breaks_off_leaves_nothing() {
    let server = Server::start(Box::new(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec()));
    let dir = tempfile::tempdir().expect("temporary folder");
    let error = get(&Cache::new(dir.path()), &server.address, None).expect_err("short");
    assert!(matches!(error, FetchError::Transfer { .. }), "{error:?}");
    assert_eq!(fs_err::read_dir(dir.path().join("v1/blobs")).expect("folder").count(), 0);
}

#[test]
fn refusals_and_redirects() {
    let server = Server::start(Box::new(|lines| match lines[0].split(' ').nth(1) {
        Some("/moved") => reply("302 Found", "Location: /here\r\n", ""),
        Some("/here") => reply("200 OK", "", "hello"),
        _ => reply("404 Not Found", "", "no"),
    }));
    let dir = tempfile::tempdir().expect("temporary folder");
    let cache = Cache::new(dir.path());
    assert_eq!(get(&cache, &format!("{}/moved", server.address), None).expect("followed").digest, HELLO);
    let error = get(&cache, &format!("{}/gone", server.address), None).expect_err("no such file");
    assert!(matches!(error, FetchError::Status { status: 404, .. }));
    let stopped = fetch(&Network::default(), &cache, &server.address, "n", None, &|| true);
    assert!(matches!(stopped, Err(FetchError::Stopped)));
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let busy = Mutex::new(1);
    let server = Server::start(Box::new(move |_| {
        let mut left = busy.lock().expect("whole");
        if *left == 0 {
            return reply("200 OK", "", "hello");
        }
        *left -= 1;
        reply("503 Service Unavailable", "", "")
    }));
    let dir = tempfile::tempdir().expect("temporary folder");
    assert_eq!(get(&Cache::new(dir.path()), &server.address, None).expect("in the end").digest, HELLO);
}

#[test]
fn proxies_are_asked_but_for_some_hosts() {
    let proxy = Server::start(Box::new(|_| reply("403 Forbidden", "", "")));
    let server = Server::start(Box::new(|_| reply("200 OK", "", "hello")));
    let dir = tempfile::tempdir().expect("temporary folder");
    let cache = Cache::new(dir.path());
    let mut network = Network { http_proxy: Some(proxy.address.clone()), ..Network::default() };
    let url = format!("{}/f", server.address);
    assert!(fetch(&network, &cache, &url, "n", None, &|| false).is_err());
    assert!(proxy.requests.lock().expect("whole")[0][0].starts_with("CONNECT 127.0.0.1:"));
    network.no_proxy = Some("example.org, 127.0.0.1".into());
    assert_eq!(fetch(&network, &cache, &url, "n", None, &|| false).expect("direct").digest, HELLO);
    network.no_proxy = None;
    network.http_proxy = Some("not a proxy".into());
    assert!(matches!(fetch(&network, &cache, &url, "n", None, &|| false), Err(FetchError::Proxy { .. })));
}
