//! What the tests of other crates share. Dev only: nothing of it ships.
//!
//! [`FakeEngine`] is a Docker engine in memory: images, containers, volumes, a small file system in each, commands that
//! a test scripts, faults that a test injects, and a log of the calls. [`GithubCache`] is the cache of GitHub Actions.
//! [`ForgeServer`] is GitHub, Gitea or GitLab, as far as releases go.

mod archives;
mod containers;
mod engine;
mod files;
mod forge;
mod github;
mod serve;
mod streams;
mod wire;

pub use containers::{Outcome, Step};
pub use engine::FakeEngine;
pub use files::{File, Files};
pub use forge::{ForgeAsset, ForgeFault, ForgeRelease, ForgeServer};
pub use github::{DEFAULT_REF, GithubCache, GithubCall, GithubEntry, GithubFault};
