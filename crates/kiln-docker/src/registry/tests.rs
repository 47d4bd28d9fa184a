//! Against a registry of a few lines, which wants a token.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[test]
fn registries_of_this_machine_are_known() {
    for (host, expected) in [
        ("localhost", true),
        ("localhost:5000", true),
        ("127.0.0.1:5000", true),
        ("[::1]:5000", true),
        ("registry.example:5000", false),
        ("localhost.example", false),
    ] {
        assert_eq!(is_this_machine(host), expected, "{host}");
    }
}

/// Reads one request: its head and its body.
async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        // A handshake of TLS is nothing that it understands.
        if stream.read_buf(&mut bytes).await.ok()? == 0 || bytes[0] == 0x16 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok());
    while bytes.len() < end + length.unwrap_or(0usize) {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    Some((head, bytes[end..].to_vec()))
}

/// A registry that knows `have`, wants the token `let-me-in`, and notes what it is asked.
async fn serve(have: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let log = Arc::new(Mutex::new(Vec::new()));
    let (seen, realm) = (log.clone(), format!("http://{host}/token"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, realm) = (seen.clone(), realm.clone());
            tokio::spawn(async move {
                while let Some((head, body)) = request(&mut stream).await {
                    let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
                    let entry = if body.is_empty() { line.clone() } else { format!("{line} {}", body.len()) };
                    seen.lock().unwrap().push(entry);
                    let challenge = format!("www-authenticate: Bearer realm=\"{realm}\",service=\"s\"\r\n");
                    let allowed = head.to_lowercase().contains("authorization: bearer let-me-in");
                    let (status, headers, text) = match line.split(' ').next().unwrap_or_default() {
                        _ if line.contains(" /token") => ("200 OK", String::new(), "{\"token\": \"let-me-in\"}"),
                        _ if !allowed => ("401 Unauthorized", challenge, ""),
                        "GET" if line.contains("/blobs/sha256:moved") => {
                            ("307 Temporary Redirect", "location: /elsewhere/x\r\n".to_owned(), "")
                        }
                        "GET" if line.contains("/elsewhere/") || line.contains("/blobs/sha256:there") => {
                            ("200 OK", String::new(), "content")
                        }
                        "GET" if line.contains("last=b") => ("200 OK", String::new(), "{\"tags\": [\"c\"]}"),
                        "GET" if line.contains("a/b/tags") => {
                            let next = "link: </v2/a/b/tags/list?n=1000&last=b>; rel=\"next\"\r\n".to_owned();
                            ("200 OK", next, "{\"tags\": [\"a\", \"b\"]}")
                        }
                        "GET" if line.contains("empty/tags") => ("200 OK", String::new(), "{\"tags\": null}"),
                        "DELETE" if line.contains("sha256:there") => ("202 Accepted", String::new(), ""),
                        "DELETE" if line.contains("fixed") => ("405 Method Not Allowed", String::new(), ""),
                        "HEAD" if line.contains(have) => ("200 OK", String::new(), ""),
                        "GET" | "DELETE" | "HEAD" => ("404 Not Found", String::new(), ""),
                        "POST" if line.contains("from=other") => ("201 Created", String::new(), ""),
                        "POST" => ("202 Accepted", "location: /upload/1?state=x\r\n".to_owned(), ""),
                        "PUT" if line.contains("forbidden") => {
                            ("400 Bad Request", String::new(), "{\"errors\": [{\"message\": \"no such thing\"}]}")
                        }
                        _ => ("201 Created", String::new(), ""),
                    };
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{text}", text.len());
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (host, log)
}

#[tokio::test]
async fn a_blob_is_looked_for_and_sent_once_with_a_token() {
    let (host, log) = serve("sha256:there").await;
    let registry = Registry::connect(&host, false, &RegistryOptions::default()).await.unwrap();
    assert!(registry.has_blob("a/b", "sha256:there").await.unwrap());
    assert!(!registry.has_blob("a/b", "sha256:missing").await.unwrap());
    assert!(registry.mount_blob("a/b", "sha256:missing", "other").await.unwrap());
    let file = std::env::temp_dir().join(format!("kiln-registry-{}", std::process::id()));
    std::fs::write(&file, vec![7; 300_000]).unwrap();
    registry.upload_blob("a/b", "sha256:missing", &file, 300_000).await.unwrap();
    std::fs::remove_file(file).unwrap();
    registry.put_manifest("a/b", "1.0", "application/json", Bytes::from_static(b"{}")).await.unwrap();
    let log = log.lock().unwrap();
    // The greeting of the TLS attempt is no request.
    let log: Vec<&str> = log.iter().map(String::as_str).filter(|line| line.contains('/')).collect();
    assert_eq!(
        log,
        [
            "GET /v2/",
            "HEAD /v2/a/b/blobs/sha256:there",
            "GET /token?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush",
            "HEAD /v2/a/b/blobs/sha256:there",
            "HEAD /v2/a/b/blobs/sha256:missing",
            "POST /v2/a/b/blobs/uploads/?mount=sha256%3Amissing&from=other",
            "POST /v2/a/b/blobs/uploads/",
            "PUT /upload/1?state=x&digest=sha256%3Amissing 300000",
            "PUT /v2/a/b/manifests/1.0 2",
        ]
    );
}

#[tokio::test]
async fn what_is_stored_is_read_listed_and_taken_away() {
    let (host, log) = serve("x").await;
    let registry = Registry::connect(&host, false, &RegistryOptions::default()).await.unwrap();
    let blob = |digest: &'static str, limit| registry.blob("a/b", digest, limit);
    assert_eq!(blob("sha256:there", 7).await.unwrap(), Some(Bytes::from_static(b"content")));
    assert_eq!(blob("sha256:moved", 7).await.unwrap(), Some(Bytes::from_static(b"content")));
    assert_eq!(blob("sha256:missing", 7).await.unwrap(), None);
    let large = blob("sha256:there", 6).await.unwrap_err().to_string();
    assert!(large.contains("larger than it should be"), "{large}");
    assert_eq!(registry.tags("a/b").await.unwrap(), ["a", "b", "c"]);
    assert_eq!(registry.tags("empty").await.unwrap(), [""; 0]);
    assert_eq!(registry.tags("nothing").await.unwrap(), [""; 0]);
    assert!(registry.delete_manifest("a/b", "sha256:there").await.unwrap());
    assert!(!registry.delete_manifest("a/b", "sha256:missing").await.unwrap());
    let fixed = registry.delete_manifest("a/b", "fixed").await.unwrap_err();
    assert!(matches!(fixed, RegistryError::Failed { status: 405, .. }), "{fixed:?}");
    let log = log.lock().unwrap();
    assert!(log.contains(&"GET /elsewhere/x".to_owned()), "{log:?}");
}

#[tokio::test]
async fn credentials_stay_with_the_registry() {
    let (host, _) = serve("x").await;
    let registry = Registry::connect(&host, false, &RegistryOptions::default()).await.unwrap();
    registry.tags("a/b").await.unwrap();
    let (other, log) = serve("x").await;
    // A server whose name only begins like the registry's, and one that is another.
    for url in [format!("http://{host}@{other}/x"), format!("http://{other}/x")] {
        let answer = registry.send(Method::HEAD, &url, "a/b", &HeaderMap::new(), &Content::Nothing).await;
        assert!(answer.is_err() || answer.is_ok_and(|response| response.status() == StatusCode::UNAUTHORIZED), "{url}");
    }
    let log = log.lock().unwrap();
    assert!(log.contains(&"HEAD /x".to_owned()) && !log.iter().any(|line| line.contains("/token")), "{log:?}");
}

#[tokio::test]
async fn refusals_say_why() {
    let (host, _) = serve("x").await;
    let registry = Registry::connect(&host, false, &RegistryOptions::default()).await.unwrap();
    let refused = registry.put_manifest("a", "forbidden", "application/json", Bytes::from_static(b"{}")).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("no such thing") && error.contains("a:forbidden"), "{error}");
    let nobody = Registry::connect("127.0.0.1:1", false, &RegistryOptions::default()).await.err().unwrap();
    assert!(nobody.to_string().contains("cannot reach the registry 127.0.0.1:1"), "{nobody}");
    assert!(nobody.hint().is_some());
}
