//! What the engine tests share: a daemon, an image to work with, and clean-up.
#![allow(dead_code, reason = "every test binary uses a part of it")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use kiln_docker::driver::{BollardEngine, ConnectOptions};
use kiln_docker::{ByteStream, ContainerId, ContainerSpec, Engine, ExitStatus, ImageId};
use kiln_graph::Platform;

/// The label of everything that these tests make.
pub(crate) const TEST_LABEL: &str = "kiln.test";

/// The options for the daemon under test; says aloud when there is none.
pub(crate) fn options() -> Option<ConnectOptions> {
    let host = std::env::var("KILN_TEST_DOCKER_HOST").ok().filter(|host| !host.is_empty());
    if host.is_none() {
        eprintln!("SKIPPED: set KILN_TEST_DOCKER_HOST to a daemon's address to run this test");
    }
    host.map(|host| ConnectOptions { host: Some(host), ..ConnectOptions::default() })
}

/// A connection to the daemon under test.
pub(crate) async fn engine() -> Option<BollardEngine> {
    Some(BollardEngine::connect(&options()?).await.expect("the daemon under test answers"))
}

/// The image that steps run in: `KILN_TEST_IMAGE`, by default `alpine:3.20`, of the daemon's own platform.
pub(crate) async fn shell_image(engine: &dyn Engine) -> kiln_docker::Image {
    let name = std::env::var("KILN_TEST_IMAGE").unwrap_or_else(|_| "alpine:3.20".to_owned());
    let platform = Platform::linux(engine.info().arch);
    engine.resolve_image(&name, platform, kiln_docker::PullPolicy::Missing, &|_| {}).await.expect("the test image")
}

/// A container specification with the least in it.
pub(crate) fn spec(image: &ImageId, platform: Platform, argv: &[&str]) -> ContainerSpec {
    ContainerSpec {
        argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: "/".to_owned(),
        ..ContainerSpec::idle(image.clone(), platform, BTreeMap::from([(TEST_LABEL.to_owned(), "1".to_owned())]))
    }
}

/// How a container ended and what it wrote, standard error after standard output.
pub(crate) struct Ran {
    pub(crate) id: ContainerId,
    pub(crate) exit: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a container to its end, without removing it.
pub(crate) async fn run(engine: &dyn Engine, spec: &ContainerSpec) -> Ran {
    let id = engine.create_container(spec).await.expect("create");
    let mut logs = engine.attach(&id).await.expect("attach");
    engine.start_container(&id).await.expect("start");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(chunk) = logs.next().await {
        let chunk = chunk.expect("log");
        if chunk.stderr { err.extend(chunk.bytes) } else { out.extend(chunk.bytes) }
    }
    let exit = engine.wait_container(&id).await.expect("wait");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { id, exit, out: text(out), err: text(err) }
}

/// A tar archive of files, as a stream.
pub(crate) fn archive(files: &[(&str, u32, &[u8])]) -> ByteStream {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        builder.append_data(&mut header, path, *bytes).expect("in memory");
    }
    let bytes = Bytes::from(builder.into_inner().expect("in memory"));
    futures::stream::iter([Ok(bytes)]).boxed()
}
