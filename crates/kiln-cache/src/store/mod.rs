//! Where snapshots and packs are kept, on machines of others.
//!
//! A store knows two kinds of objects. A **pack** is content under its own digest: it never changes, and whoever puts it
//! twice has put it once. A **snapshot** belongs to a series, of which only the newest counts; it is written after all packs
//! that it names, so whoever finds it finds them, too. Nothing here trusts what it reads: bytes are checked by the caller.

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::name::{PackId, Series};

mod folder;
mod gha;
mod http;
mod layout;
mod objects;
mod registry;

pub use self::http::{Http, Login};
pub use folder::Folder;
pub use gha::{Access, Gha, GhaOptions, RestOptions};
pub use objects::Objects;
pub use registry::InRegistry;

/// What became of a wish to put something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there now.
    Stored,
    /// It was there; nothing was sent, or what was sent was not needed.
    AlreadyThere,
}

/// Something in a store, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it is.
    pub what: Object,
    /// Bytes.
    pub size: u64,
    /// When it was written, in seconds since 1970; 0 where the store does not tell.
    pub written: u64,
}

/// A thing in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A pack.
    Pack(PackId),
    /// A snapshot: its series, and what tells it from others of the series.
    Snapshot {
        /// The series.
        series: Series,
        /// What the store calls it.
        version: String,
    },
    /// Something that a save that did not end has left.
    Debris {
        /// What the store calls it.
        path: String,
    },
}

/// A place for packs and snapshots. All methods may be called side by side, by any number of processes.
#[async_trait]
pub trait Store: Send + Sync {
    /// The place, fit for people to read: no credentials.
    fn place(&self) -> String;

    /// Whether a pack is there, as far as that can be told without reading it.
    async fn has_pack(&self, id: &PackId) -> Result<bool>;

    /// Puts a pack. It is there whole or not at all.
    async fn put_pack(&self, id: &PackId, bytes: Bytes) -> Result<Put>;

    /// A pack of `size` bytes; `None` if it is not there. The bytes are as they came: the caller checks them.
    async fn pack(&self, id: &PackId, size: u64) -> Result<Option<Bytes>>;

    /// Where on this machine a pack lies, if that is where this store keeps it: it is read in place then.
    fn file_of_pack(&self, _id: &PackId) -> Option<PathBuf> {
        None
    }

    /// Puts a snapshot as the newest of its series. `packs` are those that it names: a store that removes what nobody
    /// names (a registry) is told them.
    async fn put_snapshot(&self, series: &Series, bytes: Bytes, packs: &[(PackId, u64)]) -> Result<Put>;

    /// The newest snapshot of a series.
    async fn snapshot(&self, series: &Series) -> Result<Option<Bytes>>;

    /// Everything that is there; `None` if this store cannot tell.
    async fn list(&self) -> Result<Option<Vec<Listed>>>;

    /// Removes something. Not there is no error.
    async fn remove(&self, what: &Object) -> Result<()>;
}

impl fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.place())
    }
}
