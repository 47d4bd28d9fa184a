//! Ways to reach a daemon. The first half needs none; the second takes addresses from `KILN_TEST_DOCKER_TCP`,
//! `KILN_TEST_DOCKER_TLS` (certificates in `KILN_TEST_DOCKER_CERTS`) and `KILN_TEST_DOCKER_SSH`.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{run, spec};
use kiln_docker::driver::{BollardEngine, ConnectOptions};
use kiln_docker::{Engine, EngineError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn at(host: impl Into<String>) -> ConnectOptions {
    ConnectOptions { host: Some(host.into()), ..ConnectOptions::default() }
}

async fn refused(options: &ConnectOptions) -> EngineError {
    let start = Instant::now();
    let error = BollardEngine::connect(options).await.err().expect("no daemon");
    assert!(start.elapsed() < Duration::from_secs(6), "fails fast");
    error
}

/// A server that answers every request on every connection with the same bytes, or not at all.
async fn stub(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    match answer {
                        Some(answer) if stream.write_all(answer.as_bytes()).await.is_ok() => {}
                        Some(_) => return,
                        None => {}
                    }
                }
            });
        }
    });
    format!("tcp://{address}")
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    for host in ["unix:///nonexistent/docker.sock", "tcp://127.0.0.1:9"] {
        let error = refused(&at(host)).await;
        assert!(matches!(&error, EngineError::Unreachable { host: named, .. } if named == host), "{error:?}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn a_silent_server_is_unreachable_in_seconds() {
    let error = refused(&at(stub(None).await)).await;
    assert!(matches!(error, EngineError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_old_daemon_is_too_old() {
    let answer = "HTTP/1.1 200 OK\r\nApi-Version: 1.40\r\nContent-Length: 2\r\n\r\n{}";
    let error = refused(&at(stub(Some(answer)).await)).await;
    assert!(
        matches!(&error, EngineError::TooOld { found, needed } if (found.as_str(), needed.as_str()) == ("1.40", "1.41")),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_is_no_daemon_is_an_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ] {
        let error = refused(&at(stub(Some(answer)).await)).await;
        let told = matches!(error, EngineError::Connection { .. } | EngineError::Unreachable { .. });
        assert!(told, "{error:?}");
    }
    let plain = stub(Some("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")).await;
    let error = refused(&at(plain.replace("tcp://", "https://"))).await;
    assert!(matches!(&error, EngineError::Connection { problem, .. } if problem.contains("TLS")), "{error:?}");
}

/// Does what a build does over a connection: small calls, an upload, a stream, a commit-free end.
async fn exercise(options: &ConnectOptions) {
    let engine = BollardEngine::connect(options).await.unwrap();
    let image = common::shell_image(&engine).await;
    let id = engine.create_container(&spec(&image.id, image.platform, &["/x"])).await.unwrap();
    engine.upload(&id, "/tmp", common::archive(&[("a", 0o644, &vec![7; 3 << 20])])).await.unwrap();
    assert_eq!(engine.stat(&id, "/tmp/a").await.unwrap().unwrap().size, 3 << 20);
    engine.remove_container(&id).await.unwrap();
    let line = "head -c 5000000 /dev/zero; exit 3";
    let ran = run(&engine, &spec(&image.id, image.platform, &["sh", "-c", line])).await;
    engine.remove_container(&ran.id).await.unwrap();
    assert_eq!((ran.exit.code, ran.out.len()), (3, 5_000_000));
}

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        eprintln!("SKIPPED: set {name} to a daemon's address to run this test");
    }
    value
}

#[tokio::test]
async fn tcp() {
    let Some(host) = variable("KILN_TEST_DOCKER_TCP") else { return };
    exercise(&at(host)).await;
}

#[tokio::test]
async fn tls_with_client_certificates() {
    let Some(host) = variable("KILN_TEST_DOCKER_TLS") else { return };
    let certs = PathBuf::from(variable("KILN_TEST_DOCKER_CERTS").unwrap());
    let good = ConnectOptions { tls_verify: true, cert_path: Some(certs), ..at(host.clone()) };
    exercise(&good).await;
    let empty = std::env::temp_dir().join(format!("kiln-no-certs-{}", std::process::id()));
    std::fs::create_dir_all(&empty).unwrap();
    for options in [
        ConnectOptions { cert_path: Some(empty.clone()), ..good.clone() },
        ConnectOptions { tls_verify: false, ..good.clone() },
        at(host.replace("tcp://", "https://")),
    ] {
        let error = refused(&options).await;
        eprintln!("{error}: {}", error.hint().unwrap_or_default());
        assert!(matches!(error, EngineError::Connection { .. }), "{error:?}");
    }
    // The right authority, but no certificate of our own.
    std::fs::copy(good.cert_path.clone().unwrap().join("ca.pem"), empty.join("ca.pem")).unwrap();
    let error = refused(&ConnectOptions { cert_path: Some(empty.clone()), ..good }).await;
    eprintln!("{error}: {}", error.hint().unwrap_or_default());
    std::fs::remove_dir_all(empty).unwrap();
    assert!(matches!(error, EngineError::Connection { .. }), "{error:?}");
}

#[tokio::test]
async fn ssh() {
    let Some(host) = variable("KILN_TEST_DOCKER_SSH") else { return };
    exercise(&at(host)).await;
    let error = refused(&at("ssh://nobody@kiln-no-such-host.invalid")).await;
    eprintln!("{error}: {}", error.hint().unwrap_or_default());
    assert!(matches!(error, EngineError::Connection { .. }), "{error:?}");
}
