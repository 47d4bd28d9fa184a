//! Artifacts: what a build produced, inspected, verified, checksummed and placed.
//!
//! Synchronous, and without knowledge of Docker. [`elf`] reads what one ELF file says of itself; [`payload`] what a
//! onefile program has inside.

mod contained;
pub mod elf;
pub mod payload;

pub use contained::{ContainedFile, Content};
