//! Bills of materials of a file.

use std::path::Path;

use kiln_artifact::checksum::Sha256;
use serde_json::Value;

use super::{CHANGED, CYCLONEDX, Checked, Checking, SPDX, Status, What, absent, failed};
use crate::keys::beside;

impl Checking<'_> {
    /// Checks the bills of a file against it.
    pub(super) fn bills(&mut self, path: &Path, sum: Sha256) {
        let mut is_there = false;
        for (ending, form, read) in
            [(CYCLONEDX, "CycloneDX", cyclonedx as fn(&Value) -> Option<Said>), (SPDX, "SPDX", spdx as fn(&Value) -> _)]
        {
            let bill = beside(path, ending);
            let bytes = match fs_err::read(&bill) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.results.push(failed(What::Bill, &bill, error.to_string(), None));
                    continue;
                }
            };
            is_there = true;
            let Ok(is_vouched) = self.vouch(What::Bill, &bill, &bytes) else { continue };
            let said = serde_json::from_slice(&bytes).ok().as_ref().and_then(read);
            self.results.push(told(&bill, path, sum, form, said, is_vouched));
        }
        if !is_there {
            self.results.push(absent(What::Bill, path, "it has no bill of materials".to_owned()));
        }
    }
}

/// What a bill says of its program.
struct Said {
    version: String,
    sha256: Option<String>,
    parts: usize,
}

fn told(bill: &Path, path: &Path, sum: Sha256, form: &str, said: Option<Said>, is_vouched: bool) -> Checked {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(Said { version, sha256, parts }) = said else {
        return failed(What::Bill, bill, format!("it is no bill of {form}"), Some(CHANGED));
    };
    match sha256 {
        None => {
            failed(What::Bill, bill, "it does not say which file it is about, by a SHA-256".to_owned(), Some(CHANGED))
        }
        Some(other) if !other.eq_ignore_ascii_case(&sum.to_string()) => {
            let detail = format!("it is about a file with SHA-256 {other}, but that of {name} is {sum}");
            failed(What::Bill, bill, detail, Some(CHANGED))
        }
        Some(_) => {
            let signed = if is_vouched { "" } else { ", for which nobody who is trusted vouches" };
            let detail = format!("{form} {version} of {name}, {parts} parts{signed}");
            let status = if is_vouched { Status::Ok } else { Status::Untrusted };
            Checked { what: What::Bill, file: bill.to_owned(), status, detail, hint: None }
        }
    }
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn cyclonedx(bill: &Value) -> Option<Said> {
    text(bill, "/bomFormat").filter(|form| form == "CycloneDX")?;
    let hashes = list(bill, "/metadata/component/hashes");
    let sha256 = hashes.iter().find(|hash| hash["alg"] == "SHA-256").and_then(|hash| text(hash, "/content"));
    Some(Said { version: text(bill, "/specVersion")?, sha256, parts: list(bill, "/components").len() })
}

fn spdx(bill: &Value) -> Option<Said> {
    let version = text(bill, "/spdxVersion")?.strip_prefix("SPDX-")?.to_owned();
    let described = list(bill, "/relationships").iter().find(|relation| {
        relation["spdxElementId"] == "SPDXRef-DOCUMENT" && relation["relationshipType"] == "DESCRIBES"
    });
    let id = described.and_then(|relation| text(relation, "/relatedSpdxElement"));
    let packages = list(bill, "/packages");
    let program = packages.iter().find(|package| id.is_some() && text(package, "/SPDXID") == id);
    let checksums = program.map_or(&[][..], |program| list(program, "/checksums"));
    let sha256 = checksums.iter().find(|sum| sum["algorithm"] == "SHA256");
    let sha256 = sha256.and_then(|sum| text(sum, "/checksumValue"));
    Some(Said { version, sha256, parts: packages.len().saturating_sub(1) })
}
