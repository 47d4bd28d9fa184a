//! Artifacts: what a build produced, extracted, inspected, verified, checksummed and placed.
//!
//! Synchronous, and without knowledge of Docker. The way of an artifact: [`place::Staging`] takes the tar stream that
//! the engine sends; [`check`] inspects what came out, with [`elf`] for what one file says of itself and [`payload`] for
//! what a onefile program has inside, and says whether it fits its platform; the staging is committed to the output
//! folder; [`checksum`] lists it in `SHA256SUMS`.

pub mod check;
pub mod checksum;
mod contained;
pub mod elf;
pub mod examine;
pub mod findings;
pub mod package;
pub mod payload;
pub mod place;
pub mod secrets;

pub use contained::{ContainedFile, Content};
