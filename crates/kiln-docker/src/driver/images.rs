//! Images: finding, pulling, loading, listing, removing.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::errors::Error as BollardError;
use bollard::query_parameters as options;
use bollard::{body_try_stream, models};
use futures::StreamExt;
use kiln_graph::Platform;

use super::convert::{platform_json, serves, spelled};
use super::errors::{self, Doing};
use super::reference::Reference;
use super::wire::query;
use super::{BollardEngine, convert};
use crate::{ByteStream, EngineError, Image, ImageId, PastStep, PullPolicy, PullProgress, Result, StoreKind};

/// The oldest `1.x` API that can inspect one platform of an image.
const INSPECTS_PLATFORM: usize = 49;

type Progress<'a> = &'a (dyn Fn(PullProgress) + Send + Sync);

/// One request for a base image.
struct Wanted<'a> {
    text: &'a str,
    reference: Reference,
    platform: Platform,
    doing: Doing,
    progress: Progress<'a>,
}

/// Why a pull failed.
struct FailedPull {
    error: bollard::errors::Error,
    /// Why it was tried without credentials.
    unreadable: Option<EngineError>,
}

/// How often a pull is repeated when another process moved the tag in between.
const ATTEMPTS: usize = 4;

impl BollardEngine {
    pub(super) async fn resolve(
        &self,
        text: &str,
        platform: Platform,
        policy: PullPolicy,
        progress: Progress<'_>,
    ) -> Result<Image> {
        let Some(reference) = Reference::parse(text) else {
            return Err(not_found(text, platform, "this is not an image reference"));
        };
        let doing = self.doing("pulling", format!("image `{text}`"));
        let wanted = Wanted { text, reference, platform, doing, progress };
        let lock = {
            let mut locks = self.locks.lock().await;
            Arc::clone(locks.entry(wanted.reference.name()).or_default())
        };
        let _one_at_a_time = lock.lock().await;
        match self.info.store {
            StoreKind::Classic => self.resolve_classic(&wanted, policy).await,
            StoreKind::Containerd => self.resolve_containerd(&wanted, policy).await,
        }
    }

    async fn resolve_classic(&self, wanted: &Wanted<'_>, policy: PullPolicy) -> Result<Image> {
        let name = wanted.reference.name();
        let alias = wanted.reference.alias(wanted.platform);
        let alias_name = format!("{}:{}", alias.0, alias.1);
        let (tagged, aliased) = futures::try_join!(self.inspect(&name, None), self.inspect(&alias_name, None))?;
        let local = [&tagged, &aliased].into_iter().flatten().find(|image| is_for(image, wanted.platform)).cloned();
        if policy != PullPolicy::Always
            && let Some(image) = local
        {
            if aliased.as_ref().and_then(id) != id(&image) {
                self.tag(&image, &alias).await?;
            }
            return Ok(convert::image(image, wanted.platform));
        }
        if policy == PullPolicy::Never {
            return Err(nothing_local(wanted, tagged.as_ref()));
        }
        self.make_room(wanted, tagged.as_ref()).await?;
        let (mut found, mut digest) = (None, None);
        for attempt in 1..=ATTEMPTS {
            match self.pull(wanted).await {
                Ok(told) => digest = told,
                // Another process pulled another platform of this digest just now.
                Err(failed) if attempt < ATTEMPTS && failed.error.to_string().contains("annot overwrite digest") => {
                    self.make_room(wanted, self.inspect(&name, None).await?.as_ref()).await?;
                    continue;
                }
                // Nothing was moved: a failed pull leaves the tag alone.
                Err(failed) => return offline(wanted, local, failed),
            }
            let pulled = self.inspect(&name, None).await?;
            match pulled {
                Some(image) if is_for(&image, wanted.platform) => {
                    self.tag(&image, &alias).await?;
                    found = Some(image);
                    break;
                }
                // Another process pulled another platform just now; or the registry has only that one.
                Some(image) if attempt == ATTEMPTS => {
                    self.put_back(wanted, tagged.as_ref()).await?;
                    return Err(wrong_platform(wanted, &image));
                }
                _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
        let Some(image) = found else {
            return Err(not_found(wanted.text, wanted.platform, "the image vanished right after it was pulled"));
        };
        // A user's tag of the same platform follows the registry, as with `docker pull`; another stays what it was.
        let foreign_tag = tagged.as_ref().is_some_and(|before| !is_for(before, wanted.platform));
        let no_tag = tagged.is_none() && wanted.platform.arch != self.info.arch;
        if foreign_tag || no_tag {
            self.put_back(wanted, tagged.as_ref()).await?;
        }
        let mut image = convert::image(image, wanted.platform);
        // The store keeps the digest of several platforms for the image of the first that was pulled.
        let digest = digest.map(|digest| format!("{}@{digest}", wanted.reference.repository));
        image.repo_digests.extend(digest.filter(|_| image.digest_for(wanted.text).is_none()));
        Ok(image)
    }

    /// The classic store refuses to pull a digest ("cannot overwrite digest") that stands for another platform's image.
    /// So that name goes first, and the image keeps an alias, without which it would go with it.
    async fn make_room(&self, wanted: &Wanted<'_>, before: Option<&models::ImageInspect>) -> Result<()> {
        let in_the_way = before.filter(|image| wanted.reference.digest.is_some() && !is_for(image, wanted.platform));
        let Some((image, platform)) = in_the_way.and_then(|image| Some((image, platform_of(image)?))) else {
            return Ok(());
        };
        self.tag(image, &wanted.reference.alias(platform)).await?;
        self.remove(&wanted.reference.name()).await
    }

    /// Points the name at what it stood for before a pull, or removes it if there was none.
    async fn put_back(&self, wanted: &Wanted<'_>, before: Option<&models::ImageInspect>) -> Result<()> {
        let name = wanted.reference.name();
        match (before, &wanted.reference) {
            (None, _) => self.remove(&name).await,
            (Some(image), Reference { digest: None, tag: Some(tag), repository }) => {
                self.tag(image, &(repository.clone(), tag.clone())).await
            }
            // A digest cannot be given to an image, only pulled; its layers are here, so this is a question of manifests.
            (Some(image), _) => {
                self.remove(&name).await?;
                let Some(platform) = platform_of(image) else { return Ok(()) };
                if let Err(failed) = self.pull_platform(wanted, platform).await {
                    tracing::warn!(image = name, error = %failed.error, "the name now stands for another platform than before");
                }
                Ok(())
            }
        }
    }

    async fn resolve_containerd(&self, wanted: &Wanted<'_>, policy: PullPolicy) -> Result<Image> {
        if self.wire.minor() < INSPECTS_PLATFORM {
            return Err(EngineError::Connection {
                problem: format!(
                    "Engine {} uses the containerd image store, which kiln supports from Engine 28.1 (API 1.{INSPECTS_PLATFORM}) on",
                    self.info.version
                ),
                hint: "upgrade the Docker Engine, or switch `containerd-snapshotter` off in its features".to_owned(),
            });
        }
        let name = wanted.reference.name();
        let local = self.inspect_platform(&name, wanted.platform).await?;
        match (policy, local) {
            (PullPolicy::Missing | PullPolicy::Never, Some(image)) => Ok(convert::image(image, wanted.platform)),
            (PullPolicy::Never, None) => Err(nothing_local(wanted, None)),
            (_, local) => {
                if let Err(failed) = self.pull(wanted).await {
                    return offline(wanted, local, failed);
                }
                match self.inspect_platform(&name, wanted.platform).await? {
                    Some(image) => Ok(convert::image(image, wanted.platform)),
                    None => match self.inspect(&name, None).await? {
                        Some(image) => Err(wrong_platform(wanted, &image)),
                        None => {
                            Err(not_found(wanted.text, wanted.platform, "the image vanished right after it was pulled"))
                        }
                    },
                }
            }
        }
    }

    /// One platform of an image in the containerd store, under the id of the whole: containers are made of that and a
    /// platform, while the id that the daemon gives for the part is known to no other call.
    async fn inspect_platform(&self, name: &str, platform: Platform) -> Result<Option<models::ImageInspect>> {
        let (part, whole) = futures::try_join!(self.inspect(name, Some(platform)), self.inspect(name, None))?;
        let part = part.filter(|image| is_for(image, platform));
        Ok(part.zip(whole).map(|(part, whole)| models::ImageInspect { id: whole.id, ..part }))
    }

    /// The digest that a registry has for a reference, as the daemon finds it with its mirrors and certificates.
    pub(super) async fn ask_registry(&self, text: &str) -> Option<String> {
        let reference = Reference::parse(text)?;
        // It may be public: what is wrong with credentials is said when they are needed.
        let credentials = self.credentials(reference.registry()).await.ok().flatten();
        match self.docker.inspect_registry_image(&reference.name(), credentials).await {
            Ok(found) => found.descriptor.digest,
            Err(error) => {
                tracing::debug!(image = text, %error, "the registry does not tell the digest");
                None
            }
        }
    }

    /// Pulls by platform; the digest that the daemon tells of the reference. Credentials are read only now: most builds need
    /// none.
    async fn pull(&self, wanted: &Wanted<'_>) -> std::result::Result<Option<String>, FailedPull> {
        self.pull_platform(wanted, wanted.platform).await
    }

    async fn pull_platform(
        &self,
        wanted: &Wanted<'_>,
        platform: Platform,
    ) -> std::result::Result<Option<String>, FailedPull> {
        // The image may be public; unreadable credentials matter only if the registry wants some.
        let (credentials, unreadable) = match self.credentials(wanted.reference.registry()).await {
            Ok(credentials) => (credentials, None),
            Err(error) => (None, Some(error)),
        };
        let options = options::CreateImageOptions {
            from_image: Some(wanted.reference.repository.clone()),
            tag: Some(wanted.reference.version().to_owned()),
            platform: platform.to_string(),
            ..options::CreateImageOptions::default()
        };
        let mut stream = self.docker.create_image(Some(options), None, credentials);
        let mut layers: HashMap<String, (u64, u64)> = HashMap::new();
        let mut digest = None;
        while let Some(message) = stream.next().await {
            let message = match message {
                Ok(message) => message,
                Err(error) => return Err(FailedPull { error, unreadable }),
            };
            let Some(layer) = message.id else {
                let told = message.status.as_deref().and_then(|status| status.strip_prefix("Digest: "));
                digest = told.map(str::to_owned).or(digest);
                continue;
            };
            let detail = message.progress_detail.unwrap_or_default();
            let entry = layers.entry(layer).or_default();
            match message.status.as_deref() {
                Some("Downloading") => {
                    *entry = (convert::unsigned(detail.current), convert::unsigned(detail.total));
                }
                Some("Download complete" | "Pull complete" | "Already exists") => entry.0 = entry.1,
                _ => continue,
            }
            let (current, total) = layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
            (wanted.progress)(PullProgress { reference: wanted.text.to_owned(), current, total });
        }
        Ok(digest)
    }

    /// An image as the daemon describes it; with the containerd store, that of one platform.
    pub(super) async fn inspect(&self, name: &str, platform: Option<Platform>) -> Result<Option<models::ImageInspect>> {
        let platform = platform.map(|p| format!("?platform={}", query(&platform_json(p)))).unwrap_or_default();
        match self.wire.get_json::<serde_json::Value>(&format!("/images/{name}/json{platform}")).await {
            Ok(mut image) => {
                // Of an index without an image for its own machine, the containerd store says nothing here.
                if let Some(files) = image.get_mut("RootFS").and_then(serde_json::Value::as_object_mut) {
                    files.entry("Type").or_insert_with(|| "layers".into());
                }
                let read = serde_json::from_value(image);
                read.map(Some).map_err(|error| EngineError::Api {
                    action: format!("inspecting image `{name}`"),
                    status: 200,
                    message: format!("unexpected answer: {error}"),
                })
            }
            Err(error) => match self.doing("inspecting", format!("image `{name}`")).failed(error) {
                error if error.is_not_found() => Ok(None),
                error => Err(error),
            },
        }
    }

    pub(super) async fn inspect_any(&self, text: &str) -> Result<Option<Image>> {
        // An id is no reference, but harmless in a path; anything else that is not one cannot exist.
        if Reference::parse(text).is_none() {
            return Ok(None);
        }
        let Some(image) = self.inspect(text, None).await? else { return Ok(None) };
        let (arch, variant) = said(&image);
        let label = image.config.as_ref().and_then(|config| config.labels.as_ref()?.get(crate::labels::PLATFORM));
        let labelled = label.and_then(|text| text.parse().ok()).filter(|platform| serves(arch, variant, *platform));
        let Some(platform) = labelled.or_else(|| convert::platform_of(arch, variant)) else {
            let spelled = spelled(arch, variant);
            return Err(EngineError::Api {
                action: format!("inspecting image `{text}`"),
                status: 200,
                message: format!("its configuration says {spelled} as its platform, which kiln does not know"),
            });
        };
        Ok(Some(convert::image(image, platform)))
    }

    async fn tag(&self, image: &models::ImageInspect, (repository, tag): &(String, String)) -> Result<()> {
        let doing = self.doing("naming", format!("image `{repository}:{tag}`"));
        let options = options::TagImageOptions { repo: Some(repository.clone()), tag: Some(tag.clone()) };
        let tagged = self.docker.tag_image(id(image).unwrap_or_default(), Some(options)).await;
        tagged.map_err(|error| doing.failed(error))
    }

    pub(super) async fn list_images(&self, filter: &str, value: &str) -> Result<Vec<Image>> {
        // Without `all` an image that is the parent of another is left out, and checkpoints are parents of checkpoints.
        let options = options::ListImagesOptions {
            all: true,
            filters: Some(HashMap::from([(filter.to_owned(), vec![value.to_owned()])])),
            ..options::ListImagesOptions::default()
        };
        let doing = self.doing("listing", "images");
        let list = self.docker.list_images(Some(options)).await.map_err(|error| doing.failed(error))?;
        let own = Platform::linux(self.info.arch);
        Ok(list.into_iter().map(|summary| convert::listed_image(summary, own)).collect())
    }

    pub(super) async fn load(&self, archive: ByteStream, reference: &str) -> Result<ImageId> {
        let doing = self.doing("loading", format!("image `{reference}`"));
        let options = options::ImportImageOptions { quiet: true, ..options::ImportImageOptions::default() };
        let mut stream = self.docker.import_image(options, body_try_stream(archive), None);
        while let Some(message) = stream.next().await {
            message.map_err(|error| doing.failed(error))?;
        }
        let image = self.inspect(reference, None).await?;
        image.and_then(|image| image.id).map(ImageId).ok_or_else(|| doing.answered(404, "the archive does not name it"))
    }

    pub(super) async fn history(&self, image: &ImageId) -> Result<Vec<PastStep>> {
        let doing = self.doing("reading", format!("the history of image {image}"));
        let listed = match self.docker.image_history(&image.0).await {
            // The containerd store says `null` of an image without a history.
            Err(BollardError::JsonDataError { message, .. }) if message.contains("invalid type: null") => Vec::new(),
            listed => listed.map_err(|error| doing.failed(error))?,
        };
        let step = |item: models::ImageHistoryResponseItem| PastStep {
            id: Some(item.id).filter(|id| id.starts_with("sha256:")).map(ImageId),
            created: item.created,
            created_by: item.created_by,
            comment: item.comment,
            size: convert::unsigned(Some(item.size)),
        };
        Ok(listed.into_iter().rev().map(step).collect())
    }

    pub(super) async fn remove(&self, reference: &str) -> Result<()> {
        let doing = self.doing("removing", format!("image `{reference}`"));
        // Untagged parents are checkpoints of their own: they must not go with their child.
        let options = options::RemoveImageOptions { noprune: true, ..options::RemoveImageOptions::default() };
        match self.docker.remove_image(reference, Some(options), None).await {
            Ok(_) => Ok(()),
            Err(error) => match doing.failed(error) {
                error if error.is_not_found() => Ok(()),
                error => Err(error),
            },
        }
    }
}

/// A failed pull, or what is here already if only the network was missing.
fn offline(wanted: &Wanted<'_>, local: Option<models::ImageInspect>, failed: FailedPull) -> Result<Image> {
    let FailedPull { error, unreadable } = failed;
    if let Some(image) = local.filter(|_| errors::is_network(&error)) {
        tracing::warn!(image = wanted.text, %error, "registry out of reach, using the image at hand");
        return Ok(convert::image(image, wanted.platform));
    }
    Err(match errors::pull_failed(&wanted.doing, wanted.text, wanted.platform, error) {
        EngineError::Unauthorized { reference, message } => {
            unreadable.unwrap_or(EngineError::Unauthorized { reference, message })
        }
        other => other,
    })
}

fn nothing_local(wanted: &Wanted<'_>, other: Option<&models::ImageInspect>) -> EngineError {
    let message = match other {
        Some(image) => format!("the daemon has it for {} only, and pulling is off", said_platform(image)),
        None => "it is not on the daemon, and pulling is off".to_owned(),
    };
    not_found(wanted.text, wanted.platform, &message)
}

fn wrong_platform(wanted: &Wanted<'_>, image: &models::ImageInspect) -> EngineError {
    let said = said_platform(image);
    not_found(
        wanted.text,
        wanted.platform,
        &format!("the registry gave an image whose configuration says {said}; it is for that platform, or mislabelled"),
    )
}

fn id(image: &models::ImageInspect) -> Option<&str> {
    image.id.as_deref()
}

fn said(image: &models::ImageInspect) -> (&str, &str) {
    (image.architecture.as_deref().unwrap_or_default(), image.variant.as_deref().unwrap_or_default())
}

fn platform_of(image: &models::ImageInspect) -> Option<Platform> {
    let (arch, variant) = said(image);
    convert::platform_of(arch, variant)
}

fn said_platform(image: &models::ImageInspect) -> String {
    let (arch, variant) = said(image);
    spelled(arch, variant)
}

fn is_for(image: &models::ImageInspect, platform: Platform) -> bool {
    let (arch, variant) = said(image);
    serves(arch, variant, platform)
}

fn not_found(reference: &str, platform: Platform, message: &str) -> EngineError {
    EngineError::ImageNotFound { reference: reference.to_owned(), platform, message: message.to_owned() }
}
