//! Containers: making, running, copying, committing.

use std::collections::{BTreeMap, HashMap};

use bollard::errors::Error as BollardError;
use bollard::query_parameters as query;
use bollard::{body_try_stream, container::LogOutput, models};
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use super::convert::{Parts, Reach};
use super::errors::Doing;
use super::wire::query as query_value;
use super::{ApiVersion, BollardEngine, convert};
use crate::{
    ByteStream, CommitSpec, Container, ContainerId, ContainerSpec, EngineError, ExitStatus, Hold, ImageId, LogChunk,
    LogStream, PathStat, Result, VolumeSource,
};

/// A container in a list. bollard refuses states that it does not know, such as `stopped` of Podman's.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    names: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    created: i64,
}

/// What is asked of a container; by itself for the same reason.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: Option<State>,
    size_rw: Option<i64>,
    config: Option<models::ContainerConfig>,
}

#[derive(Deserialize)]
struct State {
    #[serde(rename = "OOMKilled")]
    oom_killed: Option<bool>,
}

impl BollardEngine {
    pub(super) async fn create(&self, spec: &ContainerSpec, reach: Reach) -> Result<ContainerId> {
        let options = query::CreateContainerOptions { name: spec.name.clone(), platform: spec.platform.to_string() };
        let body = convert::create_body(spec, &self.container_labels, reach, &self.parts(spec).await?);
        let doing = self.doing("creating", format!("a container of {}", spec.image));
        let created = self.docker.create_container(Some(options), body).await;
        created.map(|created| ContainerId(created.id)).map_err(|error| doing.failed(error))
    }

    /// How the daemon is told of parts of volumes.
    async fn parts(&self, spec: &ContainerSpec) -> Result<Parts> {
        const KNOWN_SINCE: ApiVersion = ApiVersion { major: 1, minor: 45 };
        if ApiVersion::parse(&self.info.api_version).is_some_and(|version| version >= KNOWN_SINCE) {
            return Ok(Parts::Known);
        }
        let mut places = HashMap::new();
        for mount in &spec.mounts {
            let VolumeSource::Part { volume, .. } = &mount.source else { continue };
            if !places.contains_key(volume) {
                let doing = self.doing("looking at", format!("volume {volume}"));
                let found = self.docker.inspect_volume(volume).await.map_err(|error| doing.failed(error))?;
                places.insert(volume.clone(), found.mountpoint);
            }
        }
        Ok(Parts::Bound(places))
    }

    pub(super) async fn hold_open(&self, id: &ContainerId) -> Result<Hold> {
        let options =
            query::AttachContainerOptions { stream: true, stdin: true, ..query::AttachContainerOptions::default() };
        let doing = self.doing("holding", container(id));
        let attached = self.docker.attach_container(&id.0, Some(options)).await.map_err(|error| doing.failed(error))?;
        let (hold, mut sent) = Hold::new();
        tokio::spawn(async move {
            // Both halves live as long as the hold does.
            let (mut input, _output) = (attached.input, attached.output);
            while let Some(bytes) = sent.recv().await {
                if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
                    break;
                }
            }
        });
        Ok(hold)
    }

    pub(super) async fn attach_output(&self, id: &ContainerId) -> Result<LogStream> {
        let options = query::AttachContainerOptions {
            stream: true,
            stdout: true,
            stderr: true,
            ..query::AttachContainerOptions::default()
        };
        let doing = self.doing("reading", format!("the output of container {}", short(id)));
        let attached = self.docker.attach_container(&id.0, Some(options)).await.map_err(|error| doing.failed(error))?;
        let input = attached.input;
        let stream = attached.output.map(move |chunk| {
            // The write half lives as long as the read half; without it the daemon might see a half-closed connection.
            let _open = &input;
            match chunk {
                Ok(LogOutput::StdErr { message }) => Ok(LogChunk { stderr: true, bytes: message }),
                Ok(other) => Ok(LogChunk { stderr: false, bytes: other.into_bytes() }),
                Err(error) => Err(doing.failed(error)),
            }
        });
        Ok(stream.boxed())
    }

    pub(super) async fn wait(&self, id: &ContainerId) -> Result<ExitStatus> {
        let doing = self.doing("waiting for", container(id));
        let options = query::WaitContainerOptions { condition: "not-running".to_owned() };
        let answer = self.docker.wait_container(&id.0, Some(options)).next().await;
        let code = match answer {
            Some(Ok(answer)) => answer.status_code,
            // bollard takes a non-zero exit code for an error.
            Some(Err(BollardError::DockerContainerWaitError { code, .. })) => code,
            Some(Err(error)) => return Err(doing.failed(error)),
            None => return Err(doing.broke(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())),
        };
        let oom = code != 0 && self.was_out_of_memory(id).await;
        Ok(ExitStatus { code, oom })
    }

    /// Whether the kernel ended something in the container for memory. A container that is gone was not asked in time.
    async fn was_out_of_memory(&self, id: &ContainerId) -> bool {
        self.inspect_container(id, "").await.ok().and_then(|inspected| inspected.state?.oom_killed).unwrap_or_default()
    }

    pub(super) async fn written_by(&self, id: &ContainerId) -> Result<u64> {
        let doing = self.doing("measuring", container(id));
        let inspected = self.inspect_container(id, "?size=true").await.map_err(|error| doing.failed(error))?;
        Ok(convert::unsigned(inspected.size_rw))
    }

    pub(super) async fn remove_forced(&self, id: &ContainerId) -> Result<()> {
        let doing = self.doing("removing", container(id));
        let options = query::RemoveContainerOptions { force: true, v: true, link: false };
        match self.docker.remove_container(&id.0, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) => match doing.failed(error) {
                error if error.is_not_found() => Ok(()),
                // Someone else is removing it at this moment.
                EngineError::Conflict { message, .. } if message.contains("already in progress") => Ok(()),
                error => Err(error),
            },
        }
    }

    pub(super) async fn list_containers(&self, label: &str) -> Result<Vec<Container>> {
        let filters = serde_json::json!({ "label": [label] }).to_string();
        let doing = self.doing("listing", "containers");
        let path = format!("/containers/json?all=true&filters={}", query_value(&filters));
        let list: Vec<Listed> = self.wire.get_json(&path).await.map_err(|error| doing.failed(error))?;
        let container = |listed: Listed| Container {
            id: ContainerId(listed.id),
            name: listed.names.iter().flatten().next().map_or("", |name| name.trim_start_matches('/')).to_owned(),
            labels: listed.labels.unwrap_or_default(),
            running: matches!(listed.state.as_str(), "running" | "paused"),
            created: listed.created,
        };
        Ok(list.into_iter().map(container).collect())
    }

    async fn inspect_container(&self, id: &ContainerId, query: &str) -> std::result::Result<Inspected, BollardError> {
        self.wire.get_json(&format!("/containers/{}/json{query}", id.0)).await
    }

    pub(super) async fn put(&self, id: &ContainerId, path: &str, archive: ByteStream) -> Result<()> {
        let options =
            query::UploadToContainerOptions { path: path.to_owned(), ..query::UploadToContainerOptions::default() };
        let doing = self.doing("copying into", format!("`{path}` of container {}", short(id)));
        let sent = self.docker.upload_to_container(&id.0, Some(options), body_try_stream(archive)).await;
        sent.map_err(|error| doing.failed(error))
    }

    pub(super) async fn get(&self, id: &ContainerId, path: &str) -> Result<ByteStream> {
        let options = query::DownloadFromContainerOptions { path: path.to_owned() };
        let doing = self.doing("copying out of", format!("`{path}` of container {}", short(id)));
        first_then_rest(self.docker.download_from_container(&id.0, Some(options)), &doing).await
    }

    pub(super) async fn export_all(&self, id: &ContainerId) -> Result<ByteStream> {
        let doing = self.doing("exporting", container(id));
        first_then_rest(self.docker.export_container(&id.0), &doing).await
    }

    pub(super) async fn stat_path(&self, id: &ContainerId, path: &str) -> Result<Option<PathStat>> {
        let doing = self.doing("looking at", format!("`{path}` of container {}", short(id)));
        let options = query::ContainerArchiveInfoOptions { path: path.to_owned() };
        match self.docker.get_container_archive_info(&id.0, Some(options)).await {
            Ok(stat) => Ok(Some(convert::path_stat(stat.file_mode, stat.size, stat.link_target))),
            Err(error) => match doing.failed(error) {
                error if error.is_not_found() => Ok(None),
                error => Err(error),
            },
        }
    }

    pub(super) async fn commit_image(&self, id: &ContainerId, spec: &CommitSpec) -> Result<ImageId> {
        let doing = self.doing("committing", container(id));
        let inspected = self.inspect_container(id, "").await.map_err(|error| doing.failed(error))?;
        let body = convert::commit_config(&spec.config, &spec.labels, &inspected.config.unwrap_or_default());
        let options = query::CommitContainerOptions {
            container: Some(id.0.clone()),
            repo: spec.name.as_ref().map(|(repository, _)| repository.clone()),
            tag: spec.name.as_ref().map(|(_, tag)| tag.clone()),
            comment: Some(spec.comment.clone()),
            author: spec.config.author.clone(),
            pause: false,
            changes: None,
        };
        let committed = self.docker.commit_container(options, body).await.map_err(|error| doing.failed(error))?;
        Ok(ImageId(committed.id))
    }
}

/// Twelve digits, as people see ids.
pub(super) fn short(id: &ContainerId) -> &str {
    id.0.get(..12).unwrap_or(&id.0)
}

pub(super) fn container(id: &ContainerId) -> String {
    format!("container {}", short(id))
}

/// A stream whose first element has been seen: the daemon's refusal is an error of the call, not of the stream.
pub(super) async fn first_then_rest(
    stream: impl futures::Stream<Item = std::result::Result<bytes::Bytes, BollardError>> + Send + 'static,
    doing: &Doing,
) -> Result<ByteStream> {
    let mut stream = Box::pin(stream);
    let first = stream.next().await.transpose().map_err(|error| doing.failed(error))?;
    let rest = stream.map_err(std::io::Error::other);
    Ok(futures::stream::iter(first.map(Ok)).chain(rest).boxed())
}
