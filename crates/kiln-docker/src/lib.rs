//! The Docker Engine as kiln sees it.
//!
//! [`Engine`] is the seam: the solver knows only this trait, and tests put a fake behind it. The driver behind a real
//! daemon is the only user of bollard.

mod contents;
pub mod driver;
mod elf;
pub mod emulation;
mod engine;
mod error;
pub mod facts;
pub mod labels;
mod probe_image;
pub mod registry;
mod sealed;
pub mod stock;
pub mod sweep;
pub mod toolbox;
pub mod twin;

pub use contents::Contents;
pub use engine::{
    ByteStream, CommitSpec, Container, ContainerId, ContainerSpec, DaemonInfo, Engine, ExitStatus, FileKind, Hold,
    Image, ImageId, Limits, LogChunk, LogStream, MountSpec, NetworkSpec, PastStep, PathStat, PullPolicy, PullProgress,
    StoreKind, TerminalSize, Ulimit, Volume, VolumeSource,
};
pub use error::{Cause, DOCTOR, EngineError, Result};
pub use probe_image::empty as empty_image;

/// Hexadecimal digits, as daemons and registries write SHA-256.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
