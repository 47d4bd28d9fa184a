//! Bake files: from text to the targets to build, as `docker buildx bake` reads them. Pure: no I/O.
//!
//! The flow: [`Definition::add`] reads one file after the other, `hcl` and `json` for bake files, `compose` for
//! compose files, `toml` for `[target.NAME]` in kiln.toml; [`Definition::resolve`] evaluates variables and expressions (`eval`, `functions`), unfolds
//! matrices, follows groups and `inherits`, applies `--set`, and hands out [`Bake`], which serializes to what `--print`
//! prints.
//!
//! Own evaluator: `hcl-rs` evaluates expressions as well, but its functions are plain `fn` pointers, so functions that a
//! file defines cannot be given to it, and its errors have no place. `hcl-edit` of the same project parses with places.
//!
//! Not read: references between blocks (`target.app.tags`), functions of dates, remote files.

mod compose;
mod error;
mod eval;
mod functions;
mod hcl;
mod json;
mod list;
mod resolve;
mod set;
mod target;
mod template;
mod toml;

pub use error::{BakeError, BakeErrorKind};
pub use list::Listed;
pub use resolve::{Bake, Definition, Group, Request};
pub use set::Override;
pub use target::{Entry, Ssh, Target};

/// The names that are looked for where no file is given, in the order in which they are read.
pub const DEFAULT_FILES: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];
