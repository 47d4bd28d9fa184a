//! What kiln keeps, on the daemon and on this machine: what `du` shows and `prune` removes.
//!
//! `gather` lists all of it, `filter` and `choose` say what goes, `client` knows the folders of this machine.

pub(crate) mod choose;
mod client;
pub(crate) mod filter;
pub(crate) mod remove;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_docker::stock::{self, Kind};
use kiln_docker::{Engine, labels};
use serde::Serialize;

use crate::environment::Environment;
use crate::error::Result;
use crate::{scope, session};

/// What a record is for. Names are buildx's where it has one for the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) enum Type {
    /// A container, volume or folder of a build that died.
    #[serde(rename = "leftover")]
    Leftover,
    /// A committed step: what buildx calls regular.
    #[serde(rename = "regular")]
    Checkpoint,
    /// A volume with native programs.
    #[serde(rename = "twin")]
    Twin,
    /// A volume of a cache mount.
    #[serde(rename = "exec.cachemount")]
    Cache,
    /// A file or commit that was fetched.
    #[serde(rename = "source")]
    Fetched,
    /// kiln's own tools.
    #[serde(rename = "internal")]
    Tool,
    /// kiln's name of a base image.
    #[serde(rename = "base")]
    Base,
}

impl Type {
    /// All of them, in the order in which they are removed.
    pub(crate) const ALL: [Self; 7] =
        [Self::Leftover, Self::Checkpoint, Self::Twin, Self::Cache, Self::Fetched, Self::Tool, Self::Base];

    /// What people write.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Leftover => "leftover",
            Self::Checkpoint => "regular",
            Self::Twin => "twin",
            Self::Cache => "exec.cachemount",
            Self::Fetched => "source",
            Self::Tool => "internal",
            Self::Base => "base",
        }
    }

    /// Reads [`Self::name`], and buildx's names of what is one here.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = match text {
            "source.git.checkout" | "source.http" => "source",
            "frontend" => "internal",
            text => text,
        };
        Self::ALL.into_iter().find(|kind| kind.name() == text)
    }

    /// Whether it goes without `--all`: what the next build makes again by itself, without asking anybody.
    pub(crate) fn goes_first(self) -> bool {
        matches!(self, Self::Leftover | Self::Checkpoint | Self::Twin)
    }

    /// Whether builds of any project may be about to use it.
    pub(crate) fn is_common(self) -> bool {
        matches!(self, Self::Twin | Self::Fetched | Self::Tool | Self::Base)
    }
}

/// Something that takes room.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: Type,
    pub(crate) description: String,
    #[serde(rename = "project")]
    pub(crate) scope: String,
    pub(crate) platform: String,
    /// Bytes; none if nobody said.
    pub(crate) size: Option<u64>,
    /// Seconds since 1970; 0 where it is not known.
    pub(crate) created: i64,
    /// When it was used last, as far as is known.
    pub(crate) used: i64,
    pub(crate) in_use: bool,
    /// How many others it stands on.
    #[serde(skip)]
    pub(crate) depth: usize,
    #[serde(skip)]
    pub(crate) place: Place,
}

/// Where a record is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Daemon(stock::Item),
    Here(PathBuf),
}

impl Record {
    fn of_daemon(item: stock::Item) -> Self {
        Self {
            id: item.id.clone(),
            kind: match item.kind {
                Kind::Leftover => Type::Leftover,
                Kind::Checkpoint => Type::Checkpoint,
                Kind::Cache => Type::Cache,
                Kind::Twin => Type::Twin,
                Kind::Tool => Type::Tool,
                Kind::Base => Type::Base,
            },
            description: item.description.clone(),
            scope: item.scope.clone(),
            platform: item.platform.clone(),
            size: item.size,
            created: item.created,
            used: item.created,
            in_use: item.in_use,
            depth: 0,
            place: Place::Daemon(item),
        }
    }

    /// What `cache ls` and `--only` call it: the cache, or the kind of thing.
    pub(crate) fn cache(&self) -> &str {
        match self.kind {
            Type::Cache => &self.description,
            Type::Checkpoint => "checkpoints",
            kind => kind.name(),
        }
    }
}

/// All that is kept.
pub(crate) struct Room {
    pub(crate) records: Vec<Record>,
    /// Scopes of which a build runs somewhere, as far as the daemon shows.
    pub(crate) busy: BTreeSet<String>,
    /// Whether the size of a checkpoint is its own alone.
    pub(crate) is_exact: bool,
}

/// Lists all that kiln keeps on the daemon and on this machine; of a project, if `project` is the folder of one, what
/// dead builds left in its state as well.
pub(crate) async fn gather(
    environment: &Environment,
    engine: &Arc<dyn Engine>,
    project: Option<(&Path, &str)>,
) -> Result<Room> {
    let locks = session::locks(environment, engine.as_ref());
    let cache_folder = environment.cache_folder.clone();
    let state = project.map(|(folder, scope)| (folder.join(".kiln").join("state"), scope.to_owned()));
    let here = tokio::task::spawn_blocking(move || {
        let mut records = client::fetched(&cache_folder);
        if let Some((state, scope)) = state {
            records.extend(client::exports(&state, &scope));
        }
        records
    });
    let stock = session::Host::this().stock(engine.as_ref()).await?;
    let here = here.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let is_exact = engine.info().store == kiln_docker::StoreKind::Classic;
    let mut records: Vec<Record> = stock.items.into_iter().map(Record::of_daemon).chain(here).collect();
    for record in &mut records {
        // The daemon knows when something was made, the locks when it was used.
        let used = match record.kind {
            Type::Cache => scope::last_used(&locks, &record.scope),
            Type::Tool | Type::Base => scope::any_used(&locks),
            _ => None,
        };
        record.used = record.used.max(used.unwrap_or_default());
    }
    stack(&mut records);
    Ok(Room { records, busy: stock.busy, is_exact })
}

/// Whoever uses a checkpoint uses those that it stands on, and is gone before them.
fn stack(records: &mut [Record]) {
    let at: HashMap<String, usize> = records.iter().enumerate().map(|(index, r)| (r.id.clone(), index)).collect();
    let parent = |record: &Record| match &record.place {
        Place::Daemon(item) => item.parent.as_ref().and_then(|parent| at.get(parent)).copied(),
        Place::Here(_) => None,
    };
    let parents: Vec<Option<usize>> = records.iter().map(parent).collect();
    for index in 0..records.len() {
        let used = records[index].used;
        let mut below = parents[index];
        while let Some(parent) = below {
            records[parent].used = records[parent].used.max(used);
            records[index].depth += 1;
            below = parents[parent];
        }
    }
}

/// An id as people see it: digests are cut.
pub(crate) fn short(id: &str) -> String {
    let is_hex = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bare = id.strip_prefix("sha256:").unwrap_or(id);
    if is_hex(bare) { bare[..12].to_owned() } else { id.strip_prefix(labels::NAMES).unwrap_or(id).to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(id: &str, kind: Type, size: u64, used: i64) -> Record {
        Record {
            id: id.to_owned(),
            kind,
            description: format!("about {id}"),
            scope: "p".to_owned(),
            platform: "linux/amd64".to_owned(),
            size: Some(size),
            created: used,
            used,
            in_use: false,
            depth: 0,
            place: Place::Here(PathBuf::from(id)),
        }
    }

    #[test]
    fn types_have_buildx_names_and_read_them() {
        for kind in Type::ALL {
            assert_eq!(Type::parse(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.name());
        }
        assert_eq!(Type::parse("source.git.checkout"), Some(Type::Fetched));
        assert_eq!(Type::parse("nonsense"), None);
    }

    #[test]
    fn ids_are_cut_where_they_are_digests() {
        assert_eq!(short(&format!("sha256:{}", "ab".repeat(32))), "abababababab");
        assert_eq!(short("kiln-cache-pip"), "kiln-cache-pip");
        assert_eq!(short("kiln.local/base/alpine:x"), "base/alpine:x");
    }
}
