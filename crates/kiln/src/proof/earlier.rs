//! What earlier runs stated of files that are still there: who makes one package more does not take back what is known of the
//! others.

use std::collections::HashSet;
use std::path::Path;

use kiln_artifact::checksum::sha256_file;
use kiln_attest::dsse::{Envelope, Verdict};
use kiln_attest::keys::{PublicKey, Signer};
use serde_json::Value;

use super::keys;
use crate::error::{CliError, Result};

/// Statements of `path` about files beside it that have the sums which it says and are not stated `anew`, each a line. Where
/// statements are signed, they are what our own keys have signed.
pub(super) fn statements(path: &Path, anew: &HashSet<&str>, signers: Option<&[Signer]>) -> Result<Earlier> {
    let text = match fs_err::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Earlier::default()),
        Err(error) => return Err(CliError::io("read", path)(error)),
    };
    let own: Vec<PublicKey> = signers.into_iter().flatten().filter_map(|signer| signer.public().ok()).collect();
    let mut earlier = Earlier::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let envelope: Option<Envelope> = serde_json::from_str(line).ok();
        let statement = match (&envelope, signers) {
            (Some(envelope), Some(_)) if matches!(envelope.check(&own), Verdict::Trusted(_)) => envelope.payload(),
            (None, None) => Some(line.as_bytes().to_vec()),
            _ => None,
        };
        let statement = statement.and_then(|statement| serde_json::from_slice::<Value>(&statement).ok());
        let Some(mut statement) = statement else {
            earlier.is_foreign = true;
            continue;
        };
        let Some(subjects) = statement.get_mut("subject").and_then(Value::as_array_mut) else { continue };
        let all = subjects.len();
        subjects.retain(|subject| still_holds(path, anew, subject).unwrap_or_default());
        if subjects.len() == all {
            earlier.lines.push(line.to_owned());
        } else if !subjects.is_empty() {
            earlier.lines.push(signed(&statement.to_string(), signers)?);
        }
    }
    Ok(earlier)
}

/// What is left of earlier statements.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    pub(super) lines: Vec<String>,
    /// Whether some were not made as these are.
    pub(super) is_foreign: bool,
}

fn still_holds(path: &Path, anew: &HashSet<&str>, subject: &Value) -> Option<bool> {
    let (name, sum) = (subject["name"].as_str()?, subject["digest"]["sha256"].as_str()?);
    // Nothing that is beside it has a path.
    if anew.contains(name) || name.contains('/') {
        return Some(false);
    }
    Some(sha256_file(&path.with_file_name(name)).ok()?.to_string() == sum)
}

/// A statement as a line: in an envelope if somebody signs.
pub(super) fn signed(statement: &str, signers: Option<&[Signer]>) -> Result<String> {
    let Some(signers) = signers else { return Ok(statement.to_owned()) };
    let envelope = Envelope::sign(statement, signers).map_err(|error| keys::refused("release.sign", &error))?;
    Ok(serde_json::to_string(&envelope).expect("texts alone"))
}
