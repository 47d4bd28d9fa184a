//! Images and archives that are made of all targets together, once they are built.
//!
//! The daemon holds the layers: a target's result is committed as a checkpoint like any other. What a user gets has the
//! same layers under a configuration of its own (`config`), without kiln's labels and with the history that BuildKit
//! would have written (`past`). `describe` finds out its digests, `saved` reads layers out of the daemon where
//! somebody wants the bytes, `rewrite` gives their files a latest time, `archive`, `load` and `push` write them.

mod archive;
mod config;
mod describe;
mod exports;
mod facts;
mod files;
mod layout;
mod load;
mod manifest;
mod past;
mod publish;
mod push;
mod rewrite;
mod saved;
mod time;

pub use exports::{Annotation, Export, Exported, Exports, ImageArchive, ImageForm, ImageResult, Level, Published};
pub use layout::{SCHEME as LAYOUT, from_layout};
pub use manifest::{Compression, Descriptor, MediaTypes};
pub use time::rfc3339;

pub(crate) use archive::{append_layer, with_layers};
pub(crate) use files::{Rewrite, copy as copy_files};
pub(crate) use manifest::{digest, spelled};
pub(crate) use past::{COMMENT_LENGTH, guess};
pub(crate) use publish::{Made, publish, spool, sweep, work_folder};
