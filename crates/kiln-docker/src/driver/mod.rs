//! The driver of a real daemon, over bollard.
//!
//! `address` decides where the daemon is, `connector` and `wire` reach it, [`BollardEngine`] implements
//! [`Engine`] on top, `convert` holds the pure translations and `errors` every mapping of a failure.

mod address;
pub(crate) mod auth;
pub(crate) mod connector;
mod containers;
mod convert;
mod errors;
mod images;
pub(crate) mod reference;
mod ssh;
pub(crate) mod tls;
mod volumes;
pub(crate) mod wire;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters as options;
use bollard::{ClientVersion, Docker, models};
use kiln_graph::{Arch, Platform};
use tokio::sync::Mutex;

pub use address::{Chosen, ConnectOptions, Located, locate};
use connector::Connector;
use containers::container;
use errors::Doing;
use wire::{ApiVersion, NEWEST, OLDEST, Wire};

use crate::{
    ByteStream, CommitSpec, Container, ContainerId, ContainerSpec, DaemonInfo, Engine, EngineError, ExitStatus, Hold,
    Image, ImageId, LogStream, PastStep, PathStat, PullPolicy, PullProgress, Result, StoreKind, TerminalSize, Volume,
};

/// How long the first answers may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// bollard limits every request to two minutes by default; commits, uploads and pulls take as long as they take.
const REQUEST_TIMEOUT: Duration = Duration::from_hours(24 * 7);

/// A connection to a Docker daemon.
pub struct BollardEngine {
    docker: Docker,
    wire: Arc<Wire>,
    info: DaemonInfo,
    config_dir: Option<PathBuf>,
    container_labels: BTreeMap<String, String>,
    /// One lock per base image, so that two pulls do not fight over its tag.
    locks: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl BollardEngine {
    /// Connects, negotiates the API version and reads the daemon's facts. Fails within seconds if nobody answers.
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        let address = address::resolve(options).await?;
        let wire = Arc::new(Wire::new(Connector(address.endpoint)));
        let host = address.host;
        let doing = Doing::new("asking", "the daemon who it is", &host);
        let slow = || EngineError::Unreachable {
            host: host.clone(),
            source: format!("no answer within {} seconds", HANDSHAKE_TIMEOUT.as_secs()).into(),
        };
        let ask = async { futures::try_join!(wire.get("/_ping"), wire.get_json::<models::SystemInfo>("/info")) };
        let (ping, info) = tokio::time::timeout(HANDSHAKE_TIMEOUT, ask)
            .await
            .map_err(|_| slow())?
            .map_err(|error| first_contact(&doing, &host, error))?;
        let found = ping.headers().get("api-version").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let version = negotiate(found, options.api_version.as_deref())?;
        wire.set_version(version);
        let info = daemon_info(info, version, host)?;
        let transport = Arc::clone(&wire);
        let docker = Docker::connect_with_custom_transport(
            move |request| {
                let wire = Arc::clone(&transport);
                async move { wire.send(request).await }
            },
            Some("http://localhost"),
            REQUEST_TIMEOUT.as_secs(),
            &ClientVersion { major_version: version.major, minor_version: version.minor },
        )
        .map_err(|error| doing.failed(error))?;
        Ok(Self {
            docker,
            wire,
            info,
            config_dir: options.config_dir.clone(),
            container_labels: options.container_labels.clone(),
            locks: Mutex::default(),
        })
    }

    fn doing(&self, verb: &'static str, object: impl Into<String>) -> Doing {
        Doing::new(verb, object, &self.info.host)
    }
}

/// A broken first exchange means that nobody useful is there; later it means that the connection was lost.
fn first_contact(doing: &Doing, host: &str, error: bollard::errors::Error) -> EngineError {
    match doing.failed(error) {
        EngineError::Transport { source, .. } => EngineError::Unreachable { host: host.to_owned(), source },
        EngineError::Api { status: 400, message, .. } if message.contains("HTTP request to an HTTPS server") => {
            EngineError::Connection {
                problem: format!("{host} speaks TLS, but was reached without"),
                hint: "set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, or use an `https://` address".to_owned(),
            }
        }
        EngineError::Api { message, .. } => no_daemon(host, &message),
        EngineError::NotFound { .. } => no_daemon(host, "it knows no such request"),
        other => other,
    }
}

fn no_daemon(host: &str, said: &str) -> EngineError {
    EngineError::Connection {
        problem: format!("what answers at {host} is no Docker daemon, or is broken: {said}"),
        hint: "check DOCKER_HOST and the docker context".to_owned(),
    }
}

/// The version to use with a daemon whose newest is `found`.
fn negotiate(found: &str, wanted: Option<&str>) -> Result<ApiVersion> {
    let offered = ApiVersion::parse(found).filter(|version| *version >= OLDEST).ok_or_else(|| EngineError::TooOld {
        found: if found.is_empty() { "older than 1.24".to_owned() } else { found.to_owned() },
        needed: OLDEST.to_string(),
    })?;
    let Some(wanted) = wanted else { return Ok(offered.min(NEWEST)) };
    let version = ApiVersion::parse(wanted).filter(|version| version.major == OLDEST.major).ok_or_else(|| {
        EngineError::Connection {
            problem: format!("`{wanted}` is not a Docker API version"),
            hint: "DOCKER_API_VERSION is a number like 1.41".to_owned(),
        }
    })?;
    if version < OLDEST {
        return Err(EngineError::TooOld { found: wanted.to_owned(), needed: OLDEST.to_string() });
    }
    Ok(version.min(offered))
}

fn daemon_info(info: models::SystemInfo, version: ApiVersion, host: String) -> Result<DaemonInfo> {
    let machine = info.architecture.unwrap_or_default();
    let wrong = |problem: String, hint: &str| EngineError::Connection { problem, hint: hint.to_owned() };
    if info.os_type.as_deref().is_some_and(|os| os != "linux") {
        return Err(wrong(
            format!("the daemon at {host} runs {} containers", info.os_type.unwrap_or_default()),
            "switch Docker Desktop to Linux containers",
        ));
    }
    let arch = Arch::from_machine(&machine).ok_or_else(|| {
        wrong(format!("the daemon's architecture `{machine}` is not one that kiln knows"), "use another daemon")
    })?;
    let status = info.driver_status.unwrap_or_default();
    let containerd = status.iter().flatten().any(|text| text.starts_with("io.containerd.snapshotter"));
    Ok(DaemonInfo {
        id: info.id.unwrap_or_default(),
        version: info.server_version.unwrap_or_default(),
        api_version: version.to_string(),
        arch,
        cpus: info.ncpu.and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1),
        memory: convert::unsigned(info.mem_total),
        store: if containerd { StoreKind::Containerd } else { StoreKind::Classic },
        storage_driver: info.driver.unwrap_or_default(),
        rootless: info.security_options.unwrap_or_default().iter().any(|option| option.contains("name=rootless")),
        kernel: info.kernel_version.unwrap_or_default(),
        name: info.name.unwrap_or_default(),
        host,
    })
}

#[async_trait]
impl Engine for BollardEngine {
    fn info(&self) -> &DaemonInfo {
        &self.info
    }

    async fn resolve_image(
        &self,
        reference: &str,
        platform: Platform,
        policy: PullPolicy,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Image> {
        self.resolve(reference, platform, policy, progress).await
    }

    async fn digest_now(&self, reference: &str) -> Option<String> {
        self.ask_registry(reference).await
    }

    async fn inspect_image(&self, reference: &str) -> Result<Option<Image>> {
        self.inspect_any(reference).await
    }

    async fn images_with_label(&self, label: &str) -> Result<Vec<Image>> {
        self.list_images("label", label).await
    }

    async fn images_named(&self, pattern: &str) -> Result<Vec<Image>> {
        self.list_images("reference", pattern).await
    }

    async fn load_image(&self, archive: ByteStream, reference: &str) -> Result<ImageId> {
        self.load(archive, reference).await
    }

    async fn save_image(&self, image: &ImageId) -> Result<ByteStream> {
        let doing = self.doing("saving", format!("image {image}"));
        containers::first_then_rest(self.docker.export_image(&image.0), &doing).await
    }

    async fn image_history(&self, image: &ImageId) -> Result<Vec<PastStep>> {
        self.history(image).await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.remove(reference).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        self.create(spec, convert::Reach::Container).await
    }

    async fn create_host_container(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        self.create(spec, convert::Reach::Machine).await
    }

    async fn attach(&self, id: &ContainerId) -> Result<LogStream> {
        self.attach_output(id).await
    }

    async fn hold(&self, id: &ContainerId) -> Result<Hold> {
        self.hold_open(id).await
    }

    async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<()> {
        let options = options::ResizeContainerTTYOptions { h: i32::from(size.rows), w: i32::from(size.columns) };
        let doing = self.doing("resizing", container(id));
        self.docker.resize_container_tty(&id.0, options).await.map_err(|error| doing.failed(error))
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let doing = self.doing("starting", container(id));
        self.docker.start_container(&id.0, None).await.map_err(|error| doing.failed(error))
    }

    async fn written(&self, id: &ContainerId) -> Result<u64> {
        self.written_by(id).await
    }

    async fn wait_container(&self, id: &ContainerId) -> Result<ExitStatus> {
        self.wait(id).await
    }

    async fn stop_container(&self, id: &ContainerId, grace_seconds: u32) -> Result<()> {
        let doing = self.doing("stopping", container(id));
        let options = options::StopContainerOptions {
            t: Some(i32::try_from(grace_seconds).unwrap_or(i32::MAX)),
            ..options::StopContainerOptions::default()
        };
        self.docker.stop_container(&id.0, Some(options)).await.map_err(|error| doing.failed(error))
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        self.remove_forced(id).await
    }

    async fn containers_with_label(&self, label: &str) -> Result<Vec<Container>> {
        self.list_containers(label).await
    }

    async fn upload(&self, id: &ContainerId, path: &str, archive: ByteStream) -> Result<()> {
        self.put(id, path, archive).await
    }

    async fn download(&self, id: &ContainerId, path: &str) -> Result<ByteStream> {
        self.get(id, path).await
    }

    async fn export(&self, id: &ContainerId) -> Result<ByteStream> {
        self.export_all(id).await
    }

    async fn stat(&self, id: &ContainerId, path: &str) -> Result<Option<PathStat>> {
        self.stat_path(id, path).await
    }

    async fn commit(&self, id: &ContainerId, spec: &CommitSpec) -> Result<ImageId> {
        self.commit_image(id, spec).await
    }

    async fn ensure_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        self.make_volume(name, labels, None).await
    }

    async fn ensure_memory_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "mode=0755")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.make_volume(name, labels, Some(options.into())).await
    }

    async fn volumes_with_label(&self, label: &str, with_size: bool) -> Result<Vec<Volume>> {
        self.list_volumes(label, with_size).await
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        self.delete_volume(name).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_meet_in_the_middle() {
        let negotiated = |found: &str, wanted: Option<&str>| negotiate(found, wanted).map(|v| v.to_string()).ok();
        assert_eq!(negotiated("1.41", None).as_deref(), Some("1.41"));
        assert_eq!(negotiated("1.99", None).as_deref(), Some("1.51"));
        assert_eq!(negotiated("1.51", Some("1.43")).as_deref(), Some("1.43"));
        assert!(matches!(negotiate("1.40", None), Err(EngineError::TooOld { .. })));
        assert!(matches!(negotiate("", None), Err(EngineError::TooOld { .. })));
        assert!(matches!(negotiate("1.51", Some("new")), Err(EngineError::Connection { .. })));
    }
}
