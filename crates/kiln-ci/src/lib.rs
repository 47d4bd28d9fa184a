//! What continuous integration runs. Pure: no I/O.
//!
//! Two halves. [`mod@matrix`] answers what a run builds and tests, by its event and branch ([`trigger`]) and the rules of the
//! settings. `migrate` reads a workflow or script that builds with docker's actions or commands, and writes the
//! same with kiln: settings, and the text with only those lines changed that have to be (`rewrite`). `compare` then asks
//! both texts what they would do for the usual events (`plan`), and tells where the answers differ.
//!
//! Below that: `yaml` (a tree that keeps the bytes of every value), `expression` (`${{ }}`), `axes` (what a
//! `strategy.matrix` unfolds to), `shell` and `outputs` (what a `run:` step writes to `GITHUB_OUTPUT`), `container` (`docker
//! run`), `suite` (a job of tests), `nuitka` and `program` (a compiler's command line, and the script around it), `draft` (settings that are to be written).

mod axes;
mod compare;
mod container;
mod draft;
mod error;
mod expression;
pub mod matrix;
mod migrate;
mod nuitka;
mod outputs;
mod plan;
mod program;
mod recipe;
mod rewrite;
mod shell;
mod suite;
pub mod trigger;
mod workflow;
mod yaml;

pub use compare::{Comparison, Row, compare};
pub use error::MigrateError;
pub use migrate::{Migration, Note, Source, is_script, migrate};
