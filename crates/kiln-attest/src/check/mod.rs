//! The check of a file against the proofs that lie beside it.
//!
//! Looked at are `SHA256SUMS`, signatures of the file and of the sums (`.minisig`, `.sig`,
//! `.sigstore.json`), bills of materials (`.cdx.json`,
//! `.spdx.json`) and statements of provenance (`*.intoto.jsonl`). A proof that does not fit is a failure, whoever made it.
//! What nobody trusted has signed is [`Status::Untrusted`]; but once keys are trusted, a file that none of them vouches for
//! is a failure, too: whoever can change a file can take its signature away.
//!
//! Whoever signs the sums vouches for every file that they list, and so for bills and statements.

mod bill;
mod signature;
mod statement;

use std::fmt;
use std::path::{Path, PathBuf};

use kiln_artifact::checksum::{Sha256, Sums, sha256_file};

use crate::keyless::{Authority, Signatory};
use crate::keys::PublicKey;

/// The list of sums.
pub const SUMS: &str = "SHA256SUMS";
/// What the name of a bill of CycloneDX ends in.
pub const CYCLONEDX: &str = ".cdx.json";
/// What the name of a bill of SPDX ends in.
pub const SPDX: &str = ".spdx.json";
/// What the names of files with statements end in.
pub const STATEMENTS: &str = ".intoto.jsonl";

/// Who is believed.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Keys; with any, what none of them signed is a failure.
    pub keys: Vec<PublicKey>,
    /// Who may have signed without a key; with any, as with keys.
    pub signatories: Vec<Signatory>,
    /// Who says of signatures without a key whose they are; nothing is Sigstore's own service for everybody.
    pub authority: Option<Authority>,
}

impl Trust {
    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.signatories.is_empty()
    }
}

/// What was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A file's digest against the list of sums.
    Sum,
    /// A signature of a file or of the sums.
    Signature,
    /// A bill of materials.
    Bill,
    /// A statement of provenance.
    Provenance,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sum => "sum",
            Self::Signature => "signature",
            Self::Bill => "sbom",
            Self::Provenance => "provenance",
        })
    }
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It fits, and whoever vouches for it is trusted or need not be.
    Ok,
    /// It does not fit.
    Failed,
    /// There is none.
    Absent,
    /// Nobody who is trusted vouches for it; otherwise it may fit.
    Untrusted,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Absent => "absent",
            Self::Untrusted => "untrusted",
        })
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What was checked.
    pub what: What,
    /// The file that it is about: the proof, or where there is none the file that lacks it.
    pub file: PathBuf,
    /// How it went.
    pub status: Status,
    /// Why, as a sentence without its end.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

/// What to do where bytes are not those that were published.
const CHANGED: &str =
    "fetch the file and its proofs again from where they were published; if they still differ, do not run it";
/// What to do where nobody is known who signed.
const TRUST: &str = "name the public key of whoever publishes it as trusted, if you know it to be theirs";

/// Checks a file against what lies beside it. `path` may also be the list of sums itself, or a folder with one: then all
/// files of the list are checked that are there.
pub fn check(path: &Path, trust: &Trust) -> Vec<Checked> {
    let path = if path.is_dir() { path.join(SUMS) } else { path.to_owned() };
    if path.file_name().is_some_and(|name| name == SUMS) { check_list(&path, trust) } else { check_file(&path, trust) }
}

fn check_list(path: &Path, trust: &Trust) -> Vec<Checked> {
    let mut checking = Checking::begin(path.parent().unwrap_or(Path::new("")), trust);
    let Some(sums) = checking.sums.take() else {
        let what = checking.results.is_empty().then(|| absent(What::Sum, path, "there is no list of sums".to_owned()));
        return checking.results.into_iter().chain(what).collect();
    };
    let covered = checking.is_list_trusted;
    for (name, sum) in sums.iter() {
        let file = checking.folder.join(name);
        let found = match sha256_file(&file) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                checking.results.push(absent(What::Sum, &file, format!("{SUMS} lists it, and it is not here")));
                continue;
            }
            Err(error) => {
                checking.results.push(failed(What::Sum, &file, error.to_string(), None));
                continue;
            }
        };
        checking.results.push(compared(&file, found, sum));
    }
    checking.demand(path, covered);
    checking.results
}

fn check_file(path: &Path, trust: &Trust) -> Vec<Checked> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return vec![failed(What::Sum, path, error.to_string(), None)],
    };
    let mut checking = Checking::begin(folder, trust);
    let sum = Sha256::of(&bytes);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let listed = checking.sums.as_ref().and_then(|sums| sums.get(&name));
    checking.results.push(match listed {
        Some(listed) => compared(path, sum, listed),
        None if checking.sums.is_some() => absent(What::Sum, path, format!("{SUMS} does not list it")),
        None => absent(What::Sum, path, format!("there is no {SUMS} beside it")),
    });
    let mut covered = checking.is_list_trusted && listed == Some(sum);
    covered |= checking.signatures(path, &bytes);
    checking.bills(path, sum);
    covered |= checking.statements(path, &name, sum);
    checking.demand(path, covered);
    checking.results
}

/// A check on its way.
struct Checking<'a> {
    folder: PathBuf,
    trust: &'a Trust,
    sums: Option<Sums>,
    /// Whether a trusted key signed the sums.
    is_list_trusted: bool,
    results: Vec<Checked>,
}

impl<'a> Checking<'a> {
    /// Reads the sums of a folder and checks who signed them.
    fn begin(folder: &Path, trust: &'a Trust) -> Self {
        let folder = folder.to_owned();
        let mut checking = Self { folder, trust, sums: None, is_list_trusted: false, results: Vec::new() };
        let path = checking.folder.join(SUMS);
        let bytes = match fs_err::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return checking,
            Err(error) => {
                checking.results.push(failed(What::Sum, &path, error.to_string(), None));
                return checking;
            }
        };
        let sums = str::from_utf8(&bytes).map_err(|e| e.to_string());
        match sums.and_then(|text| Sums::parse(text).map_err(|e| e.to_string())) {
            Ok(sums) => checking.sums = Some(sums),
            Err(problem) => {
                let detail = format!("it is no list of sums: {problem}");
                checking.results.push(failed(What::Sum, &path, detail, Some(CHANGED)));
            }
        }
        checking.is_list_trusted = checking.signatures(&path, &bytes);
        checking
    }

    /// Whether the sums vouch for a file beside them. If they say that it is another, that is noted as a failure.
    fn vouch(&mut self, what: What, path: &Path, bytes: &[u8]) -> Result<bool, ()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(listed) = self.sums.as_ref().and_then(|sums| sums.get(&name)) else { return Ok(false) };
        let found = Sha256::of(bytes);
        if found == listed {
            return Ok(self.is_list_trusted);
        }
        self.results.push(Checked { what, ..compared(path, found, listed) });
        Err(())
    }

    /// With trusted keys, one of them must vouch for the file.
    fn demand(&mut self, path: &Path, covered: bool) {
        let is_signed = self.results.iter().any(|result| result.what == What::Signature);
        if !self.trust.is_empty() && !covered {
            let keys = self.trust.keys.iter().map(PublicKey::id);
            let names = self.trust.signatories.iter().map(ToString::to_string);
            let trusted: Vec<String> = keys.chain(names).collect();
            let detail = format!("nothing here by a trusted key vouches for it; trusted: {}", trusted.join(", "));
            self.results.push(failed(What::Signature, path, detail, Some(CHANGED)));
        } else if !is_signed && !covered {
            self.results.push(absent(What::Signature, path, "it is not signed".to_owned()));
        }
    }
}

fn compared(path: &Path, found: Sha256, listed: Sha256) -> Checked {
    if found == listed {
        let detail = format!("its SHA-256 is the one in {SUMS}, {}", found.short());
        return Checked { what: What::Sum, file: path.to_owned(), status: Status::Ok, detail, hint: None };
    }
    let detail = format!("its SHA-256 is {found}, but {SUMS} says {listed}");
    failed(What::Sum, path, detail, Some(CHANGED))
}

fn failed(what: What, path: &Path, detail: String, hint: Option<&'static str>) -> Checked {
    Checked { what, file: path.to_owned(), status: Status::Failed, detail, hint }
}

fn absent(what: What, path: &Path, detail: String) -> Checked {
    Checked { what, file: path.to_owned(), status: Status::Absent, detail, hint: None }
}

#[cfg(test)]
mod tests;
