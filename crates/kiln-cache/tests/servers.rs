//! Stores at real servers: those of the testbed, or others that the variables name.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kiln_cache::address::Surroundings;
use kiln_cache::reach::{Limits, Network};
use kiln_cache::{Address, CacheError, Direction, PackId, Series, Store};
use kiln_docker::registry::RegistryOptions;
use sha2::Sha256;

/// A variable's value; says aloud when there is none.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn server(variable: &str) -> Option<String> {
    let address = std::env::var(variable).ok().filter(|address| !address.is_empty());
    if address.is_none() {
        eprintln!("SKIPPED: set {variable} to a server's address to run this test");
    }
    address
}

fn open(text: &str) -> Arc<dyn Store> {
    let around = Surroundings {
        variables: &|_| None,
        folder: Path::new("/"),
        registry: RegistryOptions::default(),
        network: Network::default(),
        limits: Limits::default(),
    };
    Address::parse(text, Direction::To).unwrap().open(&around).unwrap()
}

fn host(url: &str) -> &str {
    url.strip_prefix("http://").expect("a server of this machine")
}

/// Sends a request by hand, with headers that each end with a line feed: the status line.
fn request(host: &str, method: &str, path: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(host).unwrap();
    let fixed = format!("host: {host}\nconnection: close\ncontent-length: {}\n", body.len());
    let head = format!("{method} {path} HTTP/1.1\n{fixed}{headers}\n").replace('\n', "\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

/// What is said of a store that takes nothing.
async fn refused(store: Arc<dyn Store>) -> String {
    let error = store.put_pack(&PackId::of(b"x"), Bytes::from_static(b"x")).await.expect_err("refused");
    assert!(matches!(error, CacheError::Denied { .. }), "{error:?}");
    format!("{error} {error:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry() {
    let Some(registry) = server("KILN_TEST_REGISTRY") else { return };
    let repository = format!("{registry}/kiln-cache-test/{}", common::unique());
    common::check(&*open(&format!("type=registry,ref={repository}"))).await;
    common::check(&*open(&format!("registry://{repository}:main"))).await;
    // Snapshots of two tags are apart, packs are not.
    let (one, other) = (open(&format!("{repository}:one")), open(&format!("{repository}:other")));
    let (series, id) = (Series::new(["a"]), PackId::of(b"content"));
    one.put_pack(&id, Bytes::from_static(b"content")).await.unwrap();
    one.put_snapshot(&series, Bytes::from_static(b"1"), &[(id, 7)]).await.unwrap();
    assert_eq!(other.snapshot(&series).await.unwrap(), None);
    assert!(other.has_pack(&id).await.unwrap());
    assert_eq!(other.list().await.unwrap().unwrap().len(), 1);
    // A pack that is larger than it was said to be is not read.
    assert!(matches!(one.pack(&id, 6).await, Err(CacheError::Odd { .. })));
    for listed in one.list().await.unwrap().unwrap() {
        one.remove(&listed.what).await.unwrap();
    }
    // An image is no cache, and is left alone.
    let foreign = open(&format!("{registry}/library/alpine"));
    assert_eq!(foreign.snapshot(&series).await.unwrap(), None);
    assert_eq!(foreign.list().await.unwrap(), Some(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let Some(endpoint) = server("KILN_TEST_S3") else { return };
    let bucket = format!("kiln-{}", common::unique());
    let made = request(host(&endpoint), "PUT", &format!("/{bucket}"), "", "");
    assert!(made.contains(" 200 "), "{made}");
    let options = format!("region=us-east-1,endpoint_url={endpoint},access_key_id=a-key,secret_access_key=a-secret");
    common::check(&*open(&format!("type=s3,bucket={bucket},{options}"))).await;
    common::check(&*open(&format!("type=s3,bucket={bucket},prefix=deep/er,name=main,{options}"))).await;
    // A bucket that is not there is no empty one.
    let none = open(&format!("type=s3,bucket={bucket}-none,{options}"));
    let error = none.put_pack(&PackId::of(b"x"), Bytes::from_static(b"x")).await.expect_err("no bucket");
    assert!(matches!(&error, CacheError::Denied { reason, .. } if reason.contains("NoSuchBucket")), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("a-secret"), "{error:?}");
    let gone = request(host(&endpoint), "DELETE", &format!("/{bucket}"), "", "");
    assert!(gone.contains(" 204 "), "everything was removed: {gone}");
}

/// The account that Azurite is known for, and its key.
const AZURITE: (&str, &str) =
    ("devstoreaccount1", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==");

/// Makes a container, which no store does.
/// Source: learn.microsoft.com, "Authorize with Shared Key"; the account is twice in the path where it is not in the host.
fn make_container(endpoint: &str, name: &str) {
    let (account, key) = AZURITE;
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now()).unwrap();
    let headers = format!("x-ms-date:{date}\nx-ms-version:2021-08-06\n");
    let text = format!("PUT{}{headers}/{account}/{account}/{name}\nrestype:container", "\n".repeat(12));
    let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64.decode(key).unwrap()).unwrap();
    mac.update(text.as_bytes());
    let signature = BASE64.encode(mac.finalize().into_bytes());
    let headers = format!("{headers}authorization: SharedKey {account}:{signature}\n");
    let made = request(host(endpoint), "PUT", &format!("/{account}/{name}?restype=container"), &headers, "");
    assert!(made.contains(" 201 "), "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn azblob() {
    let Some(endpoint) = server("KILN_TEST_AZBLOB") else { return };
    let (account, key) = AZURITE;
    let container = format!("kiln-{}", common::unique());
    make_container(&endpoint, &container);
    let at = |container: &str, key: &str| {
        format!("type=azblob,account_url={endpoint}/{account},container={container},secret_access_key={key}")
    };
    common::check(&*open(&at(&container, key))).await;
    common::check(&*open(&format!("{},prefix=deep/er,name=main", at(&container, key)))).await;
    // Another key is refused, and a container that is not there is no empty one.
    let wrong = "d3JvbmcgIHdyb25nICB3cm9uZyAgd3JvbmcgIHdyb25nICA=";
    assert!(!refused(open(&at(&container, wrong))).await.contains(wrong));
    let none = refused(open(&at(&format!("{container}-none"), key))).await;
    assert!(none.contains("ContainerNotFound") && !none.contains(key), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gcs() {
    let Some(endpoint) = server("KILN_TEST_GCS") else { return };
    let bucket = format!("kiln-{}", common::unique());
    let options = format!("endpoint_url={endpoint},token=a-token");
    let none = refused(open(&format!("type=gcs,bucket={bucket},{options}"))).await;
    assert!(!none.contains("a-token"), "{none}");
    let body = format!("{{\"name\":\"{bucket}\"}}");
    let made =
        request(host(&endpoint), "POST", "/storage/v1/b?project=kiln", "content-type: application/json\n", &body);
    assert!(made.contains(" 200 "), "{made}");
    common::check(&*open(&format!("type=gcs,bucket={bucket},{options}"))).await;
    common::check(&*open(&format!("gs://{bucket}/deep/er?endpoint_url={endpoint}&token=a-token"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webdav() {
    let Some(server) = server("KILN_TEST_WEB") else { return };
    let folder = common::unique();
    common::check(&*open(&format!("type=webdav,url={server}/dav,prefix={folder}/deep"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http() {
    let Some(server) = server("KILN_TEST_WEB") else { return };
    common::check(&*open(&format!("type=http,url={server}/plain/{}/deep", common::unique()))).await;
    // What is torn is made anew.
    let folder = format!("/plain/{}", common::unique());
    let store = open(&format!("{server}{folder}"));
    let bytes = Bytes::from_static(b"some content");
    let id = PackId::of(&bytes);
    let torn = request(host(&server), "PUT", &format!("{folder}/packs/{id}"), "", "some");
    assert!(torn.contains(" 201 "), "{torn}");
    assert_eq!(store.put_pack(&id, bytes.clone()).await.unwrap(), kiln_cache::Put::Stored);
    assert_eq!(store.pack(&id, 12).await.unwrap(), Some(bytes));
    store.remove(&kiln_cache::Object::Pack(id)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_a_password() {
    let Some(server) = server("KILN_TEST_WEB") else { return };
    let host = host(&server);
    for kind in ["http", "webdav"] {
        let url = |login: &str| format!("type={kind},url=http://{login}{host}/locked/{}", common::unique());
        common::check(&*open(&url("kiln:let-me-in@"))).await;
        for login in ["", "kiln:wrong-password@"] {
            let store = open(&url(login));
            let error = store.put_pack(&PackId::of(b"x"), Bytes::from_static(b"x")).await.expect_err("refused");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("wrong-password"), "{shown}");
            assert!(matches!(error, CacheError::Denied { .. }), "{kind} {login}: {shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_reads() {
    let Some(server) = server("KILN_TEST_WEB") else { return };
    let store = open(&format!("{server}/readonly"));
    let series = Series::new(["a"]);
    assert_eq!(store.snapshot(&series).await.unwrap(), None);
    let error = store.put_snapshot(&series, Bytes::from_static(b"x"), &[]).await.expect_err("no writing");
    assert!(matches!(&error, CacheError::Denied { action: "write", .. }), "{error:?}");
}
