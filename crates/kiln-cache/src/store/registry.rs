//! A repository of a registry, as OCI artifacts: a tag per pack and one per series.
//!
//! A registry names blobs by SHA-256 and forgets those that no manifest names. So each object has a manifest of its own,
//! with the object as its only layer, and the manifest has a tag that says what it is: `p-<digest>` for a pack,
//! `s-<tag>.<series>-<digest>` for the newest snapshot of a series. A pack is thus found by its name with one request more
//! than elsewhere, whoever has put it, and is kept for as long as its tag is there. (A snapshot whose manifest named all
//! packs would keep them as well, but then a pack could be found only through the snapshots that are known.)

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use kiln_docker::registry::{ImageName, Registry, RegistryError, RegistryOptions};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::{Listed, Object, Put, Store};
use crate::error::{CacheError, Result};
use crate::name::{PackId, Series};
use crate::reach::Limits;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What artifacts of kiln are; also the type of their configuration, for registries that look there.
const ARTIFACT: &str = "application/vnd.kiln.cache.v1+json";
const PACK: &str = "application/vnd.kiln.cache.pack.v1";
const SNAPSHOT: &str = "application/vnd.kiln.cache.snapshot.v1";
/// The configuration: there is nothing to configure.
const EMPTY: &[u8] = b"{}";
/// A snapshot with more bytes is not read.
const MOST_SNAPSHOT: u64 = 1 << 30;
/// Characters that the readable part of a tag has at most; a tag has 128.
const MOST_READABLE: usize = 60;
/// Characters of the address' tag in other tags.
const MOST_TAG: usize = 24;
/// Manifests that are read side by side for a list.
const SIDE_BY_SIDE: usize = 8;

/// A repository as a store.
pub struct InRegistry {
    name: ImageName,
    tag: Option<String>,
    insecure: bool,
    options: RegistryOptions,
    limits: Limits,
    connection: OnceCell<Registry>,
    /// Whether the configuration is there.
    configuration: OnceCell<()>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Annotations {
    /// The pack's digest, or the series.
    #[serde(rename = "dev.kiln.cache.name")]
    name: String,
    /// Seconds since 1970.
    #[serde(rename = "dev.kiln.cache.written")]
    written: String,
    /// Of a snapshot: the tag that the address has.
    #[serde(rename = "dev.kiln.cache.tag", skip_serializing_if = "String::is_empty")]
    tag: String,
}

impl Descriptor {
    fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self { media_type: media_type.to_owned(), digest: sha256(bytes), size: bytes.len() as u64 }
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl InRegistry {
    /// The store in a repository; the registry is first asked when something is wanted of it. Snapshots under different
    /// tags are apart, packs are shared.
    pub fn new(name: ImageName, tag: Option<String>, insecure: bool, options: RegistryOptions, limits: Limits) -> Self {
        let (connection, configuration) = (OnceCell::new(), OnceCell::new());
        Self { name, tag, insecure, options, limits, connection, configuration }
    }

    fn pack_tag(id: &PackId) -> String {
        format!("p-{id}")
    }

    fn series_tag(&self, series: &Series) -> String {
        let tag = self.tag.as_deref().unwrap_or_default();
        // One that is cut is told apart by its digest.
        let under = if tag.len() > MOST_TAG {
            format!("{}-{}.", &tag[..MOST_TAG - 9], &PackId::of(tag.as_bytes()).to_string()[..8])
        } else if tag.is_empty() {
            String::new()
        } else {
            format!("{tag}.")
        };
        let readable = series.parts().collect::<Vec<_>>().join("_");
        let readable: String = readable.chars().take(MOST_READABLE).collect();
        format!("s-{under}{readable}-{}", series.short())
    }

    fn failed(&self, action: &'static str, error: RegistryError) -> CacheError {
        let place = self.place();
        match error {
            RegistryError::Unreachable { source, .. } => CacheError::Unreachable { place, reason: source.to_string() },
            RegistryError::Denied { message, .. } | RegistryError::Failed { status: 405, message, .. } => {
                CacheError::Denied { place, action, reason: message }
            }
            RegistryError::Failed { status: 429, .. } => CacheError::Busy { place, wait: Duration::ZERO },
            RegistryError::Failed { status: 500.., message, .. } => CacheError::Unreachable { place, reason: message },
            RegistryError::Failed { action, message, .. } => {
                CacheError::Odd { place, reason: format!("while {action}: {message}") }
            }
            RegistryError::Credentials(error) => CacheError::Denied { place, action, reason: error.to_string() },
            other @ (RegistryError::Name { .. } | RegistryError::File { .. }) => {
                CacheError::Odd { place, reason: other.to_string() }
            }
        }
    }

    async fn registry(&self) -> Result<&Registry> {
        let connect = |()| Registry::connect(&self.name.registry, self.insecure, &self.options);
        self.connection.get_or_try_init(|| self.retried("read", connect, ())).await
    }

    /// Does something, again if its failure may pass.
    async fn retried<A: Clone, T, F: Future<Output = std::result::Result<T, RegistryError>>>(
        &self,
        action: &'static str,
        work: impl Fn(A) -> F,
        on: A,
    ) -> Result<T> {
        let mut pause = self.limits.pause;
        let mut attempt = 1;
        loop {
            match work(on.clone()).await {
                Err(error) if may_pass(&error) && attempt < self.limits.attempts => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    attempt += 1;
                }
                result => return result.map_err(|error| self.failed(action, error)),
            }
        }
    }

    /// The manifest under a tag, and its digest.
    async fn manifest(&self, tag: &str) -> Result<Option<(Manifest, String)>> {
        let registry = self.registry().await?;
        let repository = self.name.repository.as_str();
        let read = self.retried("read", |tag| registry.manifest(repository, tag), tag).await?;
        let Some((_, bytes)) = read else { return Ok(None) };
        match serde_json::from_slice::<Manifest>(&bytes) {
            Ok(manifest) if manifest.artifact_type == ARTIFACT && manifest.layers.len() == 1 => {
                Ok(Some((manifest, sha256(&bytes))))
            }
            _ => Err(CacheError::Odd { place: self.place(), reason: format!("the tag `{tag}` is no cache of kiln") }),
        }
    }

    async fn blob(&self, manifest: &Manifest, limit: u64) -> Result<Option<Bytes>> {
        let Some(layer) = manifest.layers.first() else { return Ok(None) };
        let registry = self.registry().await?;
        let repository = self.name.repository.as_str();
        let read = |digest: String| async move { registry.blob(repository, &digest, limit).await };
        self.retried("read", read, layer.digest.clone()).await
    }

    /// Puts an object, its manifest last.
    async fn put(&self, tag: &str, media_type: &str, name: String, under: &str, bytes: Bytes) -> Result<()> {
        let layer = Descriptor::of(media_type, &bytes);
        let config = Descriptor::of(ARTIFACT, EMPTY);
        self.configuration.get_or_try_init(|| self.put_blob(&config.digest, Bytes::from_static(EMPTY))).await?;
        self.put_blob(&layer.digest, bytes).await?;
        let written = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let annotations = Annotations { name, written: written.to_string(), tag: under.to_owned() };
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            artifact_type: ARTIFACT.to_owned(),
            config,
            layers: vec![layer],
            annotations,
        };
        // A type of plain fields always serialises.
        let manifest = Bytes::from(serde_json::to_vec(&manifest).unwrap_or_default());
        let registry = self.registry().await?;
        let repository = self.name.repository.as_str();
        self.retried("write", |bytes| registry.put_manifest(repository, tag, MANIFEST, bytes), manifest).await
    }

    async fn put_blob(&self, digest: &str, bytes: Bytes) -> Result<()> {
        let registry = self.registry().await?;
        let repository = self.name.repository.as_str();
        if self.retried("write", |digest| registry.has_blob(repository, digest), digest).await? {
            return Ok(());
        }
        // It tries again by itself.
        let sent = registry.upload_bytes(repository, digest, bytes).await;
        sent.map_err(|error| self.failed("write", error))
    }

    /// What a tag is, if it is of this store.
    async fn listed(&self, tag: String) -> Result<Option<Listed>> {
        let pack = tag.strip_prefix("p-").and_then(|id| id.parse::<PackId>().ok());
        if pack.is_none() && !tag.starts_with("s-") {
            return Ok(None);
        }
        let manifest = match self.manifest(&tag).await {
            Ok(Some((manifest, _))) => manifest,
            // It was removed meanwhile, or is somebody else's.
            Ok(None) | Err(CacheError::Odd { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Annotations { name, written, tag: under } = &manifest.annotations;
        let what = if let Some(id) = pack {
            Object::Pack(id)
        } else {
            let series = Series::new(name.split('/'));
            if self.tag.as_deref().unwrap_or_default() != under || self.series_tag(&series) != tag {
                return Ok(None);
            }
            Object::Snapshot { series, version: tag }
        };
        let size = manifest.layers.iter().map(|layer| layer.size).sum();
        Ok(Some(Listed { what, size, written: written.parse().unwrap_or_default() }))
    }
}

/// Whether it is worth another try.
fn may_pass(error: &RegistryError) -> bool {
    match error {
        RegistryError::Unreachable { .. } => true,
        // While another saver's upload of the same content is moved into its place, the registry does not know it.
        RegistryError::Failed { status, message, .. } => {
            matches!(*status, 0 | 429 | 500..) || message.contains("blob unknown")
        }
        _ => false,
    }
}

#[async_trait]
impl Store for InRegistry {
    fn place(&self) -> String {
        let tag = self.tag.as_ref().map_or_else(String::new, |tag| format!(":{tag}"));
        format!("{}/{}{tag}", self.name.registry, self.name.repository)
    }

    async fn has_pack(&self, id: &PackId) -> Result<bool> {
        Ok(self.manifest(&Self::pack_tag(id)).await?.is_some())
    }

    async fn put_pack(&self, id: &PackId, bytes: Bytes) -> Result<Put> {
        let tag = Self::pack_tag(id);
        let known = match self.manifest(&tag).await {
            // One that is nothing of ours is put right.
            Ok(None) | Err(CacheError::Odd { .. }) => false,
            Ok(Some((manifest, _))) => manifest.layers.iter().any(|layer| layer.digest == sha256(&bytes)),
            Err(error) => return Err(error),
        };
        if known {
            return Ok(Put::AlreadyThere);
        }
        self.put(&tag, PACK, id.to_string(), "", bytes).await?;
        Ok(Put::Stored)
    }

    async fn pack(&self, id: &PackId, size: u64) -> Result<Option<Bytes>> {
        match self.manifest(&Self::pack_tag(id)).await? {
            Some((manifest, _)) => self.blob(&manifest, size).await,
            None => Ok(None),
        }
    }

    async fn put_snapshot(&self, series: &Series, bytes: Bytes, _packs: &[(PackId, u64)]) -> Result<Put> {
        let under = self.tag.as_deref().unwrap_or_default();
        self.put(&self.series_tag(series), SNAPSHOT, series.to_string(), under, bytes).await?;
        Ok(Put::Stored)
    }

    async fn snapshot(&self, series: &Series) -> Result<Option<Bytes>> {
        match self.manifest(&self.series_tag(series)).await? {
            Some((manifest, _)) => self.blob(&manifest, MOST_SNAPSHOT).await,
            None => Ok(None),
        }
    }

    async fn list(&self) -> Result<Option<Vec<Listed>>> {
        let registry = self.registry().await?;
        let repository = self.name.repository.as_str();
        let tags = self.retried("read", |()| registry.tags(repository), ()).await?;
        let listed = futures::stream::iter(tags).map(|tag| self.listed(tag)).buffered(SIDE_BY_SIDE);
        let listed: Vec<Option<Listed>> = listed.try_collect().await?;
        Ok(Some(listed.into_iter().flatten().collect()))
    }

    async fn remove(&self, what: &Object) -> Result<()> {
        let tag = match what {
            Object::Pack(id) => Self::pack_tag(id),
            Object::Snapshot { version, .. } => version.clone(),
            Object::Debris { path } => path.clone(),
        };
        let Some((_, digest)) = self.manifest(&tag).await? else { return Ok(()) };
        let registry = self.registry().await?;
        let repository = self.name.repository.as_str();
        let remove = |digest: String| async move { registry.delete_manifest(repository, &digest).await };
        self.retried("write", remove, digest).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(tag: Option<&str>) -> InRegistry {
        let name = ImageName::parse("registry.example/team/cache").expect("a name");
        InRegistry::new(name, tag.map(str::to_owned), false, RegistryOptions::default(), Limits::default())
    }

    #[test]
    fn tags_are_legal_and_apart() {
        let long = "x".repeat(128);
        let series = [
            Series::new(["a", "b"]),
            Series::new(["a", "b", "c"]),
            Series::new(["a_b"]),
            Series::new([long.as_str(); 9]),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for tag in [None, Some("main"), Some("p-x"), Some(long.as_str()), Some(&long[1..])] {
            for series in &series {
                let tag = store(tag).series_tag(series);
                assert!(
                    tag.len() <= 128 && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)),
                    "{tag}"
                );
                assert!(seen.insert(tag.clone()), "{tag}");
            }
        }
        assert_eq!(InRegistry::pack_tag(&PackId::of(b"x")).len(), 66);
        assert_eq!(store(Some("main")).place(), "registry.example/team/cache:main");
    }

    #[test]
    fn manifests_are_artifacts() {
        let text = serde_json::to_value(Annotations { name: "n".into(), written: "1".into(), tag: String::new() });
        assert_eq!(text.expect("json"), serde_json::json!({"dev.kiln.cache.name": "n", "dev.kiln.cache.written": "1"}));
        let under = serde_json::to_value(Annotations { tag: "t".into(), ..Annotations::default() }).expect("json");
        assert_eq!(under["dev.kiln.cache.tag"], "t");
        assert_eq!(sha256(EMPTY), "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }
}
