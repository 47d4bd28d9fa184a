//! Statements of provenance that lie beside a file.

use std::path::{Path, PathBuf};

use kiln_artifact::checksum::Sha256;

use super::{CHANGED, Checked, Checking, STATEMENTS, Status, TRUST, What, absent, failed};
use crate::dsse::{Envelope, IN_TOTO, Verdict};
use crate::provenance::{PREDICATE, STATEMENT, Said};

/// A line of a file of statements.
struct Line {
    /// None where it is a bare statement.
    envelope: Option<Envelope>,
    said: Said,
}

impl Checking<'_> {
    /// Checks what statements say of a file; whether one by a trusted key names it with its sum.
    pub(super) fn statements(&mut self, path: &Path, name: &str, sum: Sha256) -> bool {
        let (mut is_there, mut is_trusted) = (false, false);
        for file in files(&self.folder) {
            let bytes = match fs_err::read(&file) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.results.push(failed(What::Provenance, &file, error.to_string(), None));
                    continue;
                }
            };
            is_there = true;
            let Ok(is_vouched) = self.vouch(What::Provenance, &file, &bytes) else { continue };
            let text = String::from_utf8_lossy(&bytes);
            let mut said = Vec::new();
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let checked = match Line::read(line) {
                    Ok(line) => self.statement(&file, (name, sum), &line, is_vouched),
                    Err(problem) => {
                        let detail = format!("line {} is no statement of in-toto: {problem}", number + 1);
                        (failed(What::Provenance, &file, detail, Some(CHANGED)), false)
                    }
                };
                is_trusted |= checked.1;
                said.push(checked.0);
            }
            // A file of several statements is about several files.
            if said.iter().any(|checked| checked.status != Status::Absent) {
                said.retain(|checked| checked.status != Status::Absent);
            } else {
                said.truncate(1);
            }
            self.results.append(&mut said);
        }
        if !is_there {
            self.results.push(absent(What::Provenance, path, "nothing says how it was built".to_owned()));
        }
        is_trusted
    }

    /// Checks one; whether a trusted key signed it and it names the file with its sum.
    fn statement(&self, file: &Path, (name, sum): (&str, Sha256), line: &Line, is_vouched: bool) -> (Checked, bool) {
        let verdict = line.envelope.as_ref().map(|envelope| envelope.check(&self.trust.keys));
        if let Some(Verdict::Broken(key)) = &verdict {
            let detail = format!("its signature claims the trusted key {key}, but it does not fit the statement");
            return (failed(What::Provenance, file, detail, Some(CHANGED)), false);
        }
        let digest = |subject: &&crate::provenance::SaidSubject| {
            subject.digest.get("sha256").is_some_and(|hex| hex.eq_ignore_ascii_case(&sum.to_string()))
        };
        if !line.said.subject.iter().any(|subject| digest(&subject)) {
            let named = line.said.subject.iter().find(|subject| subject.name == name);
            let Some(named) = named else {
                return (absent(What::Provenance, file, format!("its statement is not about {name}")), false);
            };
            let said = named.digest.get("sha256").map_or("none", String::as_str);
            let detail = format!("it says that the SHA-256 of {name} is {said}, but it is {sum}");
            return (failed(What::Provenance, file, detail, Some(CHANGED)), false);
        }
        let told = format!("{name} was built by {}", line.said.builder());
        let result =
            |status, detail, hint| Checked { what: What::Provenance, file: file.to_owned(), status, detail, hint };
        match verdict {
            Some(Verdict::Trusted(key)) => (result(Status::Ok, format!("{told}; signed by the key {key}"), None), true),
            _ if is_vouched => (result(Status::Ok, format!("{told}; the signed sums vouch for that"), None), false),
            Some(Verdict::Others(keys)) if !keys.is_empty() => {
                let detail = format!("{told}, says the key {}, which is not trusted", keys.join(" and "));
                (result(Status::Untrusted, detail, Some(TRUST)), false)
            }
            _ => (result(Status::Untrusted, format!("{told}, says a statement that nobody signed"), None), false),
        }
    }
}

impl Line {
    fn read(text: &str) -> Result<Self, String> {
        let envelope: Option<Envelope> = serde_json::from_str(text).ok();
        let statement = match &envelope {
            Some(envelope) if envelope.payload_type != IN_TOTO => {
                return Err(format!("its payload is of the type {}", envelope.payload_type));
            }
            Some(envelope) => envelope.payload().ok_or("its payload is no base64")?,
            None => text.as_bytes().to_vec(),
        };
        let said: Said = serde_json::from_slice(&statement).map_err(|e| e.to_string())?;
        if said.form != STATEMENT || said.predicate_type != PREDICATE {
            return Err(format!("it is {} with {}", said.form, said.predicate_type));
        }
        Ok(Self { envelope, said })
    }
}

/// The files with statements in a folder, in order of names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().ends_with(STATEMENTS)).collect();
    files.sort();
    files
}
