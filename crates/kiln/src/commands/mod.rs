//! One file per command: arguments become settings, one call does the work, the result is rendered.

pub(crate) mod build;
pub(crate) mod config;
pub(crate) mod init;
