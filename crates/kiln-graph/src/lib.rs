//! The vocabulary of a build: platforms, digests, the build graph and its cache keys.
//!
//! Nothing here does I/O. A front end lowers its input to a [`BuildGraph`]; a solver computes the [`CacheKey`] of each
//! vertex with [`key::compute`], compares it with what the daemon has, and runs what is missing.

mod chmod;
mod config;
mod digest;
pub mod glob;
mod graph;
pub mod key;
mod platform;
pub mod remote;
mod words;

pub use chmod::{Chmod, ChmodError};
pub use config::{Healthcheck, HistoryEntry, ImageConfig};
pub use digest::{Digest, DigestError, Hasher};
pub use graph::{
    BuildGraph, CacheMount, Copy, Exec, FileAction, FileOp, InlineFile, Mount, MountKind, Network, Op, Origin, Owner,
    SecretMount, Sharing, Source, Target, Twin, Vertex, VertexId,
};
pub use key::{CacheKey, KeyParts, MissReason, PartKind};
pub use platform::{Arch, ElfIdentity, Endian, Platform, PlatformError};
pub use remote::{GitReference, Remote, RemoteError};
pub use words::edits;
