//! All that kiln has on a daemon: what it is, how much room it takes, and how it goes.
//!
//! Everything is known by its labels, but for kiln's names of base images, which are known by how they begin. Of those
//! only the name is kiln's: the image goes with it if it has no other, as it then came for kiln alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::sealed::Sealed;
use crate::sweep::{self, ThisHost};
use crate::{Container, ContainerId, Engine, EngineError, Image, Result, Volume, labels};

/// What a thing is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A container or a volume of a build that died.
    Leftover,
    /// A committed step.
    Checkpoint,
    /// A volume of a cache mount.
    Cache,
    /// A volume with native programs for steps of a foreign platform.
    Twin,
    /// What kiln's own containers are made of: probes, small programs, certificates.
    Tool,
    /// kiln's name of a base image.
    Base,
}

/// Something that kiln made on a daemon.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is for.
    pub kind: Kind,
    /// Id of a container or image, name of a volume or of a base image.
    pub id: String,
    /// For people: the instruction, the cache, the name.
    pub description: String,
    /// The project; empty where it belongs to none.
    pub scope: String,
    /// The platform; empty where it has none.
    pub platform: String,
    /// Bytes that it takes by itself: of a checkpoint, without what it stands on. None if the daemon did not say.
    pub size: Option<u64>,
    /// Seconds since 1970; 0 where it is not known.
    pub created: i64,
    /// Whether a container holds it, or of a checkpoint, whether others stand on it.
    pub in_use: bool,
    /// Of a checkpoint, the id of the one that it stands on.
    pub parent: Option<String>,
    thing: Thing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Thing {
    Container(ContainerId),
    Image,
    Volume,
    /// A volume with its seal.
    Sealed,
}

/// All that kiln has on a daemon.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    /// Sorted by kind; later checkpoints before those that they stand on.
    pub items: Vec<Item>,
    /// Scopes of which a container of a living kiln is there, on whichever machine.
    pub busy: BTreeSet<String>,
}

/// Lists everything.
///
/// # Errors
/// If the daemon fails.
pub async fn list(engine: &dyn Engine, host: &ThisHost<'_>) -> Result<Stock> {
    let pattern = format!("{}*", labels::BASE_NAMES);
    let (containers, volumes, images, bases) = futures::try_join!(
        engine.containers_with_label(labels::OWNER),
        engine.volumes_with_label(labels::VERSION, true),
        engine.images_with_label(labels::VERSION),
        engine.images_named(&pattern),
    )?;
    let mut stock = Stock::default();
    for container in &containers {
        if sweep::is_stale(container, host) {
            stock.items.push(of_container(container));
        } else if let Some(scope) = container.labels.get(labels::SCOPE)
            && container.labels.get(labels::OWNER).is_some_and(|owner| !owner.is_empty())
        {
            stock.busy.insert(scope.clone());
        }
    }
    stock.items.extend(of_volumes(&volumes, host));
    stock.items.extend(of_images(engine, &images).await?);
    for base in &bases {
        // A listing by name leaves out the other names.
        let whole = engine.inspect_image(&base.id.0).await?;
        let is_ours = whole.as_ref().is_none_or(|image| image.tags.iter().all(|name| name.starts_with(labels::NAMES)));
        let names = base.tags.iter().filter(|name| name.starts_with(labels::BASE_NAMES));
        for (index, name) in names.enumerate() {
            let size = if is_ours && index == 0 { base.size } else { 0 };
            let item = Item { kind: Kind::Base, id: name.clone(), size: Some(size), ..of_image(base) };
            stock.items.push(Item { description: name[labels::BASE_NAMES.len()..].to_owned(), ..item });
        }
    }
    stock.items.sort_by(|a, b| (a.kind, b.created, &a.id).cmp(&(b.kind, a.created, &b.id)));
    Ok(stock)
}

/// Removes something; false if it has to stay for now, because a container holds it or an image stands on it.
///
/// # Errors
/// If the daemon fails.
pub async fn remove(engine: &dyn Engine, item: &Item) -> Result<bool> {
    let removed = match &item.thing {
        Thing::Container(id) => engine.remove_container(id).await,
        Thing::Image => engine.remove_image(&item.id).await,
        Thing::Volume => engine.remove_volume(&item.id).await,
        Thing::Sealed => Sealed::remove(engine, &item.id).await,
    };
    match removed {
        Ok(()) => Ok(true),
        Err(EngineError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn label(labels: &BTreeMap<String, String>, name: &str) -> String {
    labels.get(name).cloned().unwrap_or_default()
}

fn of_container(container: &Container) -> Item {
    Item {
        kind: Kind::Leftover,
        id: container.id.0.clone(),
        description: format!("container of a dead build ({})", label(&container.labels, labels::ROLE)),
        scope: label(&container.labels, labels::SCOPE),
        platform: String::new(),
        size: None,
        created: container.created,
        in_use: false,
        parent: None,
        thing: Thing::Container(container.id.clone()),
    }
}

/// Volumes but for seals, which go with what they seal, and those of builds that run.
fn of_volumes(volumes: &[Volume], host: &ThisHost<'_>) -> Vec<Item> {
    let known: BTreeSet<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
    let of_volume = |volume: &Volume| {
        let has = |name: &str| volume.labels.contains_key(name);
        let (kind, description, thing) = if has(labels::OWNER) {
            if !sweep::is_left(volume, host) {
                return None;
            }
            let role = label(&volume.labels, labels::ROLE);
            (Kind::Leftover, format!("volume of a dead build ({role})"), Thing::Volume)
        } else if has(labels::TWIN) || has(labels::TOOLBOX) {
            if Sealed::sealed_by(&volume.name).is_some_and(|of| known.contains(of)) {
                return None;
            }
            if has(labels::TWIN) {
                (Kind::Twin, "native programs".to_owned(), Thing::Sealed)
            } else {
                (Kind::Tool, "kiln's programs and certificates".to_owned(), Thing::Sealed)
            }
        } else if has(labels::CACHE) {
            (Kind::Cache, label(&volume.labels, labels::CACHE), Thing::Volume)
        } else {
            (Kind::Tool, "volume of another kiln".to_owned(), Thing::Volume)
        };
        Some(Item {
            kind,
            id: volume.name.clone(),
            description,
            scope: label(&volume.labels, labels::SCOPE),
            platform: label(&volume.labels, labels::PLATFORM),
            size: volume.size,
            created: volume.created.unwrap_or_default(),
            in_use: volume.users.is_some_and(|users| users > 0),
            parent: None,
            thing,
        })
    };
    volumes.iter().filter_map(of_volume).collect()
}

/// Whether an image is a checkpoint. What is made of a container of one has the label, too, but nothing in it.
fn has_key(image: &Image) -> bool {
    image.labels.get(labels::KEY).is_some_and(|key| !key.is_empty())
}

fn of_image(image: &Image) -> Item {
    let is_checkpoint = has_key(image);
    Item {
        kind: if is_checkpoint { Kind::Checkpoint } else { Kind::Tool },
        // All of its names go with the last one.
        id: image.tags.first().unwrap_or(&image.id.0).clone(),
        description: label(&image.labels, if is_checkpoint { labels::STEP } else { labels::ROLE }),
        scope: label(&image.labels, labels::SCOPE),
        platform: label(&image.labels, labels::PLATFORM),
        size: Some(image.size),
        created: image.created,
        in_use: false,
        parent: image.parent.as_ref().map(|parent| parent.0.clone()),
        thing: Thing::Image,
    }
}

/// Images with kiln's labels, but for those that somebody has given a name: they are theirs now.
async fn of_images(engine: &dyn Engine, images: &[Image]) -> Result<Vec<Item>> {
    let mut sizes: HashMap<&str, u64> = images.iter().map(|image| (image.id.0.as_str(), image.size)).collect();
    let mut below: BTreeSet<&str> = BTreeSet::new();
    for parent in images.iter().filter_map(|image| image.parent.as_ref()) {
        below.insert(&parent.0);
        if !sizes.contains_key(parent.0.as_str()) {
            let size = engine.inspect_image(&parent.0).await?.map_or(0, |image| image.size);
            sizes.insert(&parent.0, size);
        }
    }
    let own = |image: &Image| {
        let stands_on = image.parent.as_ref().and_then(|parent| sizes.get(parent.0.as_str())).copied();
        Item {
            size: Some(image.size.saturating_sub(stands_on.unwrap_or_default())),
            in_use: has_key(image) && below.contains(image.id.0.as_str()),
            ..of_image(image)
        }
    };
    let is_ours = |image: &&Image| image.tags.iter().all(|name| name.starts_with(labels::NAMES));
    Ok(images.iter().filter(is_ours).map(own).collect())
}
