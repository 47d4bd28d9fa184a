//! What lies beside an artifact to prove it: its digest, signatures, bills of materials and statements, as findings.

use std::path::{Path, PathBuf};

use kiln_artifact::findings::{Check, Finding, Level, Policy};
use kiln_attest::check::{self, CYCLONEDX, Checked, SPDX, STATEMENTS, SUMS, Status, Trust, What};
use kiln_attest::keyless::BUNDLE;

use super::Subject;

/// How the names of signatures end.
const SIGNATURES: [&str; 3] = [".minisig", ".sig", BUNDLE];

/// The list of sums of a folder that is to be verified, if it has one.
pub(crate) fn list_in(folder: &Path) -> Option<PathBuf> {
    Some(folder.join(SUMS)).filter(|path| folder.is_dir() && path.is_file())
}

/// Whether a file is no artifact, but proves something about others.
pub(crate) fn is_proof(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let endings = [CYCLONEDX, SPDX, STATEMENTS].into_iter().chain(SIGNATURES);
    name == SUMS || endings.into_iter().any(|ending| name.ends_with(ending))
}

/// What an artifact's proofs say.
pub(crate) fn beside(path: &Path, trust: &Trust) -> Vec<Finding> {
    if path.is_dir() {
        return Vec::new();
    }
    let results = check::check(path, trust);
    // What nobody claimed is no finding. Where keys are trusted, a lack of signatures is a failure.
    results.iter().filter(|checked| checked.status != Status::Absent).map(|checked| finding(path, checked)).collect()
}

/// A file that is itself a proof. What `others` are told about themselves is not told twice.
pub(crate) fn subject(path: &Path, others: &[PathBuf], trust: &Trust, policy: &Policy) -> Subject {
    let results = check::check(path, trust);
    let own = results.iter().filter(|checked| !others.contains(&checked.file));
    let mut findings: Vec<Finding> = own.map(|checked| finding(path, checked)).collect();
    policy.apply(&mut findings);
    findings.sort_by_key(|finding| finding.level);
    Subject { path: crate::project::shown(path), examined: None, findings, runs: Vec::new() }
}

fn finding(path: &Path, checked: &Checked) -> Finding {
    let check = match checked.what {
        What::Sum => Check::Sum,
        What::Signature => Check::Signature,
        What::Bill => Check::Bill,
        What::Provenance => Check::Provenance,
    };
    let level = match checked.status {
        Status::Failed => Level::Error,
        Status::Ok | Status::Absent | Status::Untrusted => Level::Info,
    };
    let name = checked.file.file_name().unwrap_or_default().to_string_lossy();
    let detail = if checked.file == path { checked.detail.clone() } else { format!("{name}: {}", checked.detail) };
    let finding = Finding::new(check, "", detail).at(level);
    match checked.hint.filter(|_| checked.status == Status::Failed) {
        Some(hint) => finding.fix(hint),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_known_by_their_names() {
        for name in
            ["SHA256SUMS", "SHA256SUMS.minisig", "a.cdx.json", "a.spdx.json", "a-1.intoto.jsonl", "a.sigstore.json"]
        {
            assert!(is_proof(Path::new(name)), "{name}");
        }
        for name in ["hello", "a.tar.gz", "a.json", "SHA256SUMS.txt"] {
            assert!(!is_proof(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_what_is_not_there_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hello");
        fs_err::write(&path, "one").expect("written");
        let levels = || beside(&path, &Trust::default()).iter().map(|f| (f.check, f.level)).collect::<Vec<_>>();
        assert_eq!(levels(), []);
        fs_err::write(folder.path().join(SUMS), format!("{}  hello\n", "0".repeat(64))).expect("written");
        assert!(levels().contains(&(Check::Sum, Level::Error)), "{:?}", levels());
        let list =
            subject(&folder.path().join(SUMS), std::slice::from_ref(&path), &Trust::default(), &Policy::default());
        assert!(list.findings.iter().all(|finding| finding.level == Level::Info), "{:?}", list.findings);
        let list = subject(&folder.path().join(SUMS), &[], &Trust::default(), &Policy::default());
        assert_eq!(list.findings[0].level, Level::Error);
    }
}
