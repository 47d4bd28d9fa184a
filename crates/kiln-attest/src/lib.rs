//! Proof of what a released program is made of, and who made it.
//!
//! [`ingredients`] reads what a build leaves behind: Nuitka's report and the recipe's list of materials. [`sbom`] makes a
//! bill of materials of it, as CycloneDX and as SPDX, and [`provenance`] a statement of how it was built. [`keys`] signs
//! files as minisign and cosign do, [`dsse`] statements. [`mod@check`] is the other side: it holds a file against all that
//! lies beside it, and believes no more than the keys that it is told to trust.
//!
//! Without knowledge of Docker, and synchronous but for [`keyless`], which asks services over a client that is passed in.
//! Bills and statements are deterministic: the same build at the same moment (which is passed in) gives the same bytes.

pub mod check;
pub mod dsse;
mod epoch;
pub mod ingredients;
pub mod keyless;
pub mod keys;
pub mod provenance;
pub mod sbom;

#[cfg(test)]
mod fixture;
