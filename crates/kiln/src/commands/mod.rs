//! One file per command: arguments become settings, one call does the work, the result is rendered.

pub(crate) mod bake;
pub(crate) mod build;
pub(crate) mod cache;
mod call;
mod check;
pub(crate) mod ci;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod du;
pub(crate) mod emulation;
pub(crate) mod help;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod migrate;
pub(crate) mod package;
pub(crate) mod plan;
mod plan_graph;
pub(crate) mod prune;
pub(crate) mod release;
pub(crate) mod report;
pub(crate) mod run;
mod stores;
pub(crate) mod test;
mod travel;
pub(crate) mod verify;
mod watch;
