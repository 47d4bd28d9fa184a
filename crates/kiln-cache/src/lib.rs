//! Caches that travel: trees of files as snapshots and packs, and the stores that keep them.
//!
//! A tree is a cache volume, an image's layers, or the files that a build exported. What it holds goes into packs, which
//! are named by their content; a snapshot says which files a tree has and where in the packs their bytes are. The format is
//! described in `snapshot.rs` and `pack.rs`.

pub mod address;
mod blocks;
pub mod error;
pub mod name;
pub mod pack;
pub mod reach;
pub mod save;
mod secret;
pub mod sign;
pub mod snapshot;
pub mod store;
mod traffic;
pub mod tree;
pub mod unpack;
pub mod upkeep;

pub use address::{Address, Direction};
pub use error::{CacheError, Result};
pub use name::{ContentId, PackId, Series};
pub use reach::Limits;
pub use save::{SaveError, Saved, Saving, newest};
pub use secret::Secret;
pub use sign::{Signer, Trust};
pub use snapshot::{Entry, Kind, Snapshot};
pub use store::{Listed, Object, Put, Store};
pub use traffic::Traffic;
pub use unpack::{Contents, Fetched};
