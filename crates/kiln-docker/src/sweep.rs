//! Containers that a dead kiln left behind, and what belongs to them.
//!
//! Every container names its owner in [`labels::OWNER`] as `HOST/PID/START`: a process id alone may have been given to
//! another process since, its start time tells. What another machine owns is left alone unless it is old and still.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::{Container, Engine, EngineError, Image, Result, Volume, labels};

/// How old a stopped container of another machine must be, in seconds.
const FOREIGN_AGE: i64 = 24 * 60 * 60;

/// What this machine can say of owners.
pub struct ThisHost<'a> {
    /// The machine's part of an owner.
    pub id: &'a str,
    /// Whether a process with this id and start time lives.
    pub alive: &'a (dyn Fn(u32, u64) -> bool + Send + Sync),
    /// Seconds since 1970.
    pub now: i64,
}

/// The text of [`labels::OWNER`].
pub fn owner(host: &str, pid: u32, start: u64) -> String {
    format!("{host}/{pid}/{start}")
}

/// Whether nobody will come back for a container.
pub fn is_stale(container: &Container, host: &ThisHost<'_>) -> bool {
    host.is_ownerless(&container.labels, (!container.running).then_some(container.created))
}

impl ThisHost<'_> {
    /// Whether the owner that labels name is dead. Of owners elsewhere that is only known by the age of what is `still`.
    fn is_ownerless(&self, of: &BTreeMap<String, String>, still: Option<i64>) -> bool {
        // A container that a person made from an image of ours inherits its labels; there the owner is empty.
        let Some(owner) = of.get(labels::OWNER).filter(|owner| !owner.is_empty()) else { return false };
        match parse(owner) {
            Some((id, pid, start)) if id == self.id => !(self.alive)(pid, start),
            // Another machine's, or from a kiln that writes owners in another way.
            Some(_) | None => still.is_some_and(|created| self.now.saturating_sub(created) > FOREIGN_AGE),
        }
    }
}

fn parse(owner: &str) -> Option<(&str, u32, u64)> {
    let (rest, start) = owner.rsplit_once('/')?;
    let (host, pid) = rest.rsplit_once('/')?;
    Some((host, pid.parse().ok()?, start.parse().ok()?))
}

/// Removes stale containers, the volumes of single steps and images for shells, all at once; the containers that were
/// removed. Three requests at a time if there are none.
pub async fn sweep(engine: &dyn Engine, host: &ThisHost<'_>) -> Result<Vec<Container>> {
    let Owned { containers: all, volumes, images } = Owned::list(engine).await?;
    let mut removals: FuturesUnordered<_> = all
        .into_iter()
        .filter(|container| is_stale(container, host))
        .map(|container| async move { engine.remove_container(&container.id).await.map(|()| container) })
        .collect();
    let mut removed = Vec::new();
    while let Some(result) = removals.next().await {
        removed.push(result?);
    }
    // What cannot be removed somebody looks at.
    let gone = |result| match result {
        Ok(()) | Err(EngineError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    };
    for volume in volumes.into_iter().filter(|volume| is_left(volume, host)) {
        gone(engine.remove_volume(&volume.name).await)?;
    }
    for image in images.into_iter().filter(|image| host.is_ownerless(&image.labels, Some(image.created))) {
        gone(engine.remove_image(&image.id.0).await)?;
    }
    Ok(removed)
}

/// What names an owner.
struct Owned {
    containers: Vec<Container>,
    volumes: Vec<Volume>,
    images: Vec<Image>,
}

impl Owned {
    async fn list(engine: &dyn Engine) -> Result<Self> {
        let shells = format!("{}={}", labels::ROLE, labels::SHELL);
        let (containers, volumes, images) = futures::try_join!(
            engine.containers_with_label(labels::OWNER),
            engine.volumes_with_label(labels::OWNER, false),
            engine.images_with_label(&shells),
        )?;
        Ok(Self { containers, volumes, images })
    }
}

/// How many containers, volumes and images of dead owners there are; removes nothing.
///
/// # Errors
/// If the daemon fails.
pub async fn count(engine: &dyn Engine, host: &ThisHost<'_>) -> Result<usize, EngineError> {
    let Owned { containers, volumes, images } = Owned::list(engine).await?;
    let stale = containers.iter().filter(|container| is_stale(container, host)).count();
    let images = images.iter().filter(|image| host.is_ownerless(&image.labels, Some(image.created))).count();
    Ok(stale + volumes.iter().filter(|volume| is_left(volume, host)).count() + images)
}

/// Whether a step's volume is of a dead owner. Nothing tells whether one of another machine is in use but the daemon,
/// which does not give away what a container holds; so it has to be old.
pub fn is_left(volume: &Volume, host: &ThisHost<'_>) -> bool {
    host.is_ownerless(&volume.labels, volume.created)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContainerId;

    fn container(owner: &str, running: bool, created: i64) -> Container {
        Container {
            id: ContainerId("1".to_owned()),
            name: String::new(),
            labels: [(labels::OWNER.to_owned(), owner.to_owned())].into(),
            running,
            created,
        }
    }

    #[test]
    fn only_the_dead_are_stale() {
        let alive = |pid: u32, start: u64| (pid, start) == (7, 100);
        let host = ThisHost { id: "me/1", alive: &alive, now: 1_000_000 };
        for (owner, running, created, stale) in [
            ("me/1/7/100", true, 0, false),
            ("me/1/7/99", true, 999_999, true),
            ("me/1/8/100", false, 999_999, true),
            ("you/7/99", false, 999_999, false),
            ("you/7/99", false, 0, true),
            ("you/7/99", true, 0, false),
            ("nonsense", false, 999_999, false),
            ("", false, 0, false),
        ] {
            assert_eq!(is_stale(&container(owner, running, created), &host), stale, "{owner}");
        }
        assert_eq!(parse(&super::owner("a/b", 1, 2)), Some(("a/b", 1, 2)));
        for (owner, created, left) in [
            ("me/1/7/100", Some(0), false),
            ("me/1/8/100", None, true),
            ("you/7/99", Some(999_999), false),
            ("you/7/99", None, false),
            ("you/7/99", Some(0), true),
            ("", Some(0), false),
        ] {
            let labels = [(labels::OWNER.to_owned(), owner.to_owned())].into();
            let volume = Volume { name: String::new(), labels, size: None, users: None, created };
            assert_eq!(is_left(&volume, &host), left, "{owner}");
        }
    }
}
