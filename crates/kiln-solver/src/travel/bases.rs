//! Base images: what they are on a machine that has them. One that has none of them can plan with that, and pulls them only
//! if a step must run.
//!
//! The facts of `SCOPE/BRANCH/bases/PLATFORM-STORE`, by reference. They hold as long as the registry has the same digest for
//! the reference, which the daemon is asked for; the kind of the daemon's store is part of the name as it decides of what an
//! image's id is the digest.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use kiln_cache::{SaveError, Saved, Snapshot, pack};
use kiln_docker::{Engine, StoreKind};
use kiln_graph::{ImageConfig, Platform};
use serde::{Deserialize, Serialize};

use super::volumes::source;
use super::{Direction, EventSender, Guide, Home, Remote, Travel, add, folder};
use crate::cancel::Cancel;

/// Most references that are remembered of a platform.
const MOST: usize = 50;

/// A base image as a machine that has it knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its id on a daemon.
    pub id: String,
    /// The digest that its registry had for it.
    pub digest: String,
    /// Its configuration.
    pub config: ImageConfig,
}

/// A base image of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// As it was asked for.
    pub reference: String,
    /// For which platform.
    pub platform: Platform,
    /// Its id on the daemon.
    pub id: String,
    /// The digest that its registry had for the reference, where that is known: the classic store forgets it when it pulls the
    /// image for another platform.
    pub digest: Option<String>,
}

fn name(platform: Platform, store: StoreKind) -> String {
    let store = match store {
        StoreKind::Classic => "classic",
        StoreKind::Containerd => "containerd",
    };
    format!("{}-{store}", platform.to_string().replace('/', "-"))
}

/// What a base image is that the daemon does not have, if a store knows it as the registry has it now.
pub async fn base(
    engine: &Arc<dyn Engine>,
    travel: &Travel,
    (reference, platform): (&str, Platform),
    events: &EventSender,
    cancel: &Cancel,
) -> Option<Base> {
    let guide = Guide::new(engine, &Home::default(), travel, (events, cancel), Direction::Restoring);
    let name = name(platform, engine.info().store);
    let found = guide.find("bases", &name, |snapshot| snapshot.facts.contains_key(reference)).await?;
    let base: Base = serde_json::from_str(found.snapshot.facts.get(reference)?).ok()?;
    let now = cancel.unless_stopped(engine.digest_now(reference)).await.ok()??;
    (now == base.digest).then_some(base)
}

/// Tells a store what the base images of a build are.
pub(super) async fn take(guide: &Guide, remote: &Remote, used: &[Used], sum: &mut Saved) -> Result<(), SaveError> {
    let mut platforms: BTreeMap<Platform, Vec<(Used, ImageConfig)>> = BTreeMap::new();
    for used in used {
        let image = guide.engine.inspect_image(&used.id).await.map_err(|error| source(error.into()))?;
        if let Some(image) = image {
            platforms.entry(used.platform).or_default().push((used.clone(), image.config));
        }
    }
    for (platform, images) in platforms {
        let read = move |before: Option<&Snapshot>, packer: &mut pack::Packer<'_>| {
            for (reference, text) in facts(before.map(|before| &before.facts), &images)? {
                packer.note(&reference, text);
            }
            packer.add(folder(""));
            Ok(())
        };
        let saved = guide.save(remote, ("bases", &name(platform, guide.engine.info().store)), read).await?;
        add(sum, saved);
    }
    Ok(())
}

/// What is known of references, after what was known before. What has no digest is as before or not known.
fn facts(
    before: Option<&BTreeMap<String, String>>,
    images: &[(Used, ImageConfig)],
) -> io::Result<BTreeMap<String, String>> {
    let mut facts: BTreeMap<String, String> =
        before.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    while facts.len() > MOST {
        facts.pop_first();
    }
    for (Used { reference, id, digest, .. }, config) in images {
        let known = facts.get(reference).and_then(|text| serde_json::from_str::<Base>(text).ok());
        let digest = digest.clone().or_else(|| Some(known.filter(|known| known.id == *id)?.digest));
        match digest {
            Some(digest) => {
                let base = Base { id: id.clone(), digest, config: config.clone() };
                facts.insert(reference.clone(), serde_json::to_string(&base)?);
            }
            None => drop(facts.remove(reference)),
        }
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_the_daemon_forgot_is_kept_for_the_same_image() {
        let platform = "linux/386".parse().expect("a platform");
        let used = |reference: &str, id: &str, digest: Option<&str>| {
            let (reference, id, digest) = (reference.to_owned(), id.to_owned(), digest.map(str::to_owned));
            (Used { reference, platform, id, digest }, ImageConfig::default())
        };
        let first = facts(None, &[used("a", "1", Some("x")), used("b", "2", Some("y")), used("own", "3", None)]);
        let first = first.expect("facts");
        assert_eq!(first.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(facts(Some(&first), &[used("a", "1", None)]).expect("facts"), first);
        let other = facts(Some(&first), &[used("a", "4", None)]).expect("facts");
        assert_eq!(other.keys().collect::<Vec<_>>(), ["b"]);
        let newer = facts(Some(&first), &[used("a", "4", Some("z"))]).expect("facts");
        assert!(newer["a"].contains("\"4\"") && newer["a"].contains("\"z\"") && newer["b"] == first["b"]);
    }
}
