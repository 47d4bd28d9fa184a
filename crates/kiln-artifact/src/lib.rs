//! Artifacts: what a build produced, inspected, verified, checksummed and placed.
//!
//! Synchronous, and without knowledge of Docker. [`elf`] reads what one ELF file says of itself.

pub mod elf;
