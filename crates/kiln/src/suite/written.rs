//! Reports that kiln has written into a project: they are no part of what is tested, also when the next run writes none.

use std::path::{Path, PathBuf};

use kiln_artifact::place;

use crate::error::Result;

/// Their paths, in kiln's folder of the project.
const FILE: &str = "tests/written.json";

/// All that was written by earlier runs and is still there, and what this one will write.
pub(crate) fn known(state: &Path, now: &[PathBuf]) -> Vec<PathBuf> {
    let bytes = fs_err::read(state.join(FILE)).unwrap_or_default();
    // A list that cannot be read costs one run of tests.
    let mut all: Vec<PathBuf> = serde_json::from_slice(&bytes).unwrap_or_default();
    all.retain(|path| path.exists());
    all.extend(now.iter().cloned());
    all.sort();
    all.dedup();
    all
}

/// Notes what was written.
pub(crate) fn remember(state: &Path, now: &[PathBuf]) -> Result<()> {
    if now.is_empty() {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&known(state, now)).unwrap_or_default();
    Ok(place::write_atomically(&state.join(FILE), 0o644, &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_known_while_it_is_there() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, report) = (dir.path().join(".kiln"), dir.path().join("junit.xml"));
        assert_eq!(known(&state, &[]), [""; 0].map(PathBuf::from));
        fs_err::write(&report, "").expect("written");
        remember(&state, std::slice::from_ref(&report)).expect("noted");
        let other = dir.path().join("facts.json");
        remember(&state, std::slice::from_ref(&other)).expect("noted");
        assert_eq!(known(&state, &[]), std::slice::from_ref(&report));
        assert_eq!(known(&state, std::slice::from_ref(&other)), [other, report.clone()]);
        fs_err::write(state.join(FILE), "no list").expect("written");
        assert!(known(&state, &[]).is_empty());
    }
}
