//! Volumes.

use std::collections::{BTreeMap, HashMap};

use bollard::errors::Error as BollardError;
use bollard::models;
use bollard::query_parameters as options;
use serde::Deserialize;

use super::wire::query;
use super::{BollardEngine, convert};
use crate::{EngineError, Result, Volume, labels};

/// The part of `/system/df` that says what volumes take, as daemons up to API 1.51 write it.
#[derive(Deserialize)]
struct DiskUsage {
    #[serde(rename = "Volumes")]
    volumes: Option<Vec<Listed>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    name: String,
    labels: Option<BTreeMap<String, String>>,
    created_at: Option<String>,
    usage_data: Option<Usage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    size: i64,
    ref_count: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    volumes: Option<Vec<Listed>>,
}

/// How long to wait before asking again.
const BUSY: std::time::Duration = std::time::Duration::from_millis(100);

/// Whether the daemon is measuring for someone else: it does so for one at a time and turns others away.
fn is_busy(error: &BollardError) -> bool {
    let BollardError::DockerResponseServerError { message, .. } = error else { return false };
    message.contains("disk usage operation is already running")
}

impl BollardEngine {
    pub(super) async fn make_volume(
        &self,
        name: &str,
        volume_labels: &BTreeMap<String, String>,
        options: Option<HashMap<String, String>>,
    ) -> Result<()> {
        let doing = self.doing("making", format!("volume {name}"));
        let mut all: HashMap<String, String> = volume_labels.clone().into_iter().collect();
        all.insert(labels::VERSION.to_owned(), labels::CURRENT_VERSION.to_owned());
        let request = models::VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(all),
            driver_opts: options,
            ..models::VolumeCreateRequest::default()
        };
        self.docker.create_volume(request).await.map(drop).map_err(|error| doing.failed(error))
    }

    pub(super) async fn list_volumes(&self, label: &str, with_size: bool) -> Result<Vec<Volume>> {
        let doing = self.doing("listing", "volumes");
        let filter = query(&serde_json::json!({ "label": [label] }).to_string());
        let list: List =
            self.wire.get_json(&format!("/volumes?filters={filter}")).await.map_err(|error| doing.failed(error))?;
        let mut usage: HashMap<String, Usage> = HashMap::new();
        if with_size {
            // Asking for one type spares the daemon a walk through images; older daemons ignore the parameter. Volumes in
            // memory are not in it.
            let answer = loop {
                match self.wire.get_json::<DiskUsage>("/system/df?type=volume").await {
                    Ok(usage) => break usage,
                    Err(error) if is_busy(&error) => tokio::time::sleep(BUSY).await,
                    Err(error) => return Err(doing.failed(error)),
                }
            };
            let measured = answer.volumes.into_iter().flatten();
            usage.extend(measured.filter_map(|volume| Some((volume.name, volume.usage_data?))));
        }
        let (name, value) = label.split_once('=').map_or((label, None), |(name, value)| (name, Some(value)));
        Ok(list
            .volumes
            .unwrap_or_default()
            .into_iter()
            .map(|volume| Volume {
                size: usage.get(&volume.name).map(|usage| convert::unsigned(Some(usage.size))),
                users: usage.get(&volume.name).map(|usage| convert::unsigned(Some(usage.ref_count))),
                name: volume.name,
                labels: volume.labels.unwrap_or_default(),
                created: volume.created_at.as_deref().and_then(convert::seconds),
            })
            .filter(|volume| volume.labels.get(name).is_some_and(|have| value.is_none_or(|want| want == have)))
            .collect())
    }

    pub(super) async fn delete_volume(&self, name: &str) -> Result<()> {
        let doing = self.doing("removing", format!("volume {name}"));
        let options = options::RemoveVolumeOptions { force: false };
        match self.docker.remove_volume(name, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) => match doing.failed(error) {
                EngineError::NotFound { .. } => Ok(()),
                error => Err(error),
            },
        }
    }
}
