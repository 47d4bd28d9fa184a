//! What is remembered of images between builds, on the client: everything in it is true for good, because it is named by
//! digests. Losing it costs time: an archive of the daemon is read again, a layer packed again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manifest::{Blob, Compression};
use crate::error::{Result, SolveError};

/// Version of the file; another version is not read.
const VERSION: u32 = 1;
/// Beyond this many layers the oldest knowledge is not worth its bytes.
const MOST_LAYERS: usize = 5000;

/// An image that others stand on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BaseFacts {
    pub(crate) history: Vec<Value>,
    pub(crate) diff_ids: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    blob: Blob,
    /// `registry/repository`, where it was last seen.
    homes: BTreeSet<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct Stored {
    version: u32,
    bases: BTreeMap<String, BaseFacts>,
    blobs: BTreeMap<String, Known>,
    /// Places in daemons' archives that hold a certain layer.
    places: HashMap<String, String>,
}

/// The file.
pub(crate) struct Facts {
    path: PathBuf,
    stored: Stored,
}

impl Facts {
    pub(crate) fn load(state: &Path) -> Self {
        let path = state.join("images.json");
        let bytes = fs_err::read(&path).unwrap_or_default();
        let stored: Stored = serde_json::from_slice(&bytes).unwrap_or_default();
        let stored =
            if stored.version == VERSION && stored.blobs.len() < MOST_LAYERS { stored } else { Stored::default() };
        Self { path, stored: Stored { version: VERSION, ..stored } }
    }

    pub(crate) fn save(&self) -> Result<()> {
        let bytes = serde_json::to_vec(&self.stored).map_err(std::io::Error::other);
        let written = bytes.and_then(|bytes| crate::store::write_atomically(&self.path, &bytes));
        written.map_err(SolveError::io("write", &self.path))
    }

    pub(crate) fn base(&self, key: &str) -> Option<&BaseFacts> {
        self.stored.bases.get(key)
    }

    pub(crate) fn learn_base(&mut self, key: String, base: BaseFacts) {
        self.stored.bases.insert(key, base);
    }

    pub(crate) fn blob(&self, compression: Compression, diff_id: &str) -> Option<Blob> {
        self.stored.blobs.get(&blob_key(compression, diff_id)).map(|known| known.blob.clone())
    }

    pub(crate) fn learn_blob(&mut self, compression: Compression, diff_id: &str, blob: &Blob) {
        let known = Known { blob: blob.clone(), homes: BTreeSet::new() };
        let slot = self.stored.blobs.entry(blob_key(compression, diff_id)).or_insert_with(|| known.clone());
        if slot.blob != *blob {
            *slot = known;
        }
    }

    /// Repositories of the registry that have the layer.
    pub(crate) fn homes(&self, compression: Compression, diff_id: &str, registry: &str) -> Vec<String> {
        let known = self.stored.blobs.get(&blob_key(compression, diff_id));
        let homes = known.into_iter().flat_map(|known| &known.homes);
        homes.filter_map(|home| home.strip_prefix(registry)?.strip_prefix('/').map(str::to_owned)).collect()
    }

    pub(crate) fn learn_home(&mut self, compression: Compression, diff_id: &str, registry: &str, repository: &str) {
        if let Some(known) = self.stored.blobs.get_mut(&blob_key(compression, diff_id)) {
            known.homes.insert(format!("{registry}/{repository}"));
        }
    }

    pub(crate) fn places(&self) -> &HashMap<String, String> {
        &self.stored.places
    }

    pub(crate) fn learn_place(&mut self, path: &str, diff_id: &str) {
        self.stored.places.insert(path.to_owned(), diff_id.to_owned());
    }
}

fn blob_key(compression: Compression, diff_id: &str) -> String {
    match compression {
        Compression::Gzip => format!("gzip {diff_id}"),
        Compression::None => format!("none {diff_id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_and_damage_does_not_matter() {
        let dir = tempfile::tempdir().expect("folder");
        let mut facts = Facts::load(dir.path());
        let blob = Blob { digest: "sha256:b".into(), size: 3 };
        facts.learn_blob(Compression::Gzip, "sha256:a", &blob);
        facts.learn_home(Compression::Gzip, "sha256:a", "r:5000", "x/y");
        facts.learn_place("p/layer.tar", "sha256:a");
        facts.learn_base("id".into(), BaseFacts { history: vec![Value::Null], diff_ids: vec!["d".into()] });
        facts.save().expect("saved");
        let facts = Facts::load(dir.path());
        assert_eq!(facts.blob(Compression::Gzip, "sha256:a"), Some(blob));
        assert_eq!(facts.blob(Compression::None, "sha256:a"), None);
        assert_eq!(facts.homes(Compression::Gzip, "sha256:a", "r:5000"), ["x/y"]);
        assert_eq!(facts.homes(Compression::Gzip, "sha256:a", "r"), [""; 0]);
        assert_eq!(facts.places()["p/layer.tar"], "sha256:a");
        assert_eq!(facts.base("id").map(|base| base.diff_ids.len()), Some(1));
        for text in ["", "[]", "{\"version\": 9}"] {
            std::fs::write(dir.path().join("images.json"), text).expect("written");
            assert!(Facts::load(dir.path()).places().is_empty(), "{text}");
        }
    }
}
