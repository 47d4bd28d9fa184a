//! Detached signatures of a file.

use std::path::Path;

use super::{CHANGED, Checked, Checking, Status, TRUST, What, failed};
use crate::keyless::{Authority, BUNDLE, Finding, Identity, read_bundle};
use crate::keys::{MINISIG, PublicKey, SIG, Verdict, beside, check_minisig, check_sig};

/// Checks the text of a signature.
type Check = fn(&[u8], &str, &[PublicKey]) -> Verdict;

impl Checking<'_> {
    /// Checks the signatures of a file; whether one is by a trusted key.
    pub(super) fn signatures(&mut self, path: &Path, bytes: &[u8]) -> bool {
        let mut is_trusted = false;
        for (ending, tool, check) in
            [(MINISIG, "minisign", check_minisig as Check), (SIG, "cosign", check_sig as Check)]
        {
            let proof = beside(path, ending);
            let verdict = match fs_err::read_to_string(&proof) {
                Ok(text) => check(bytes, &text, &self.trust.keys),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => Verdict::Unreadable(error.to_string()),
            };
            is_trusted |= matches!(verdict, Verdict::Trusted(_));
            let has_keys = self.trust.keys.iter().any(|key| key.tool() == tool);
            self.results.push(told(&proof, path, (tool, has_keys), verdict));
        }
        self.bundle(path, bytes) | is_trusted
    }

    /// Checks the bundle of a file; whether it is by somebody trusted.
    fn bundle(&mut self, path: &Path, bytes: &[u8]) -> bool {
        let proof = beside(path, BUNDLE);
        let authority = self.trust.authority.as_ref().unwrap_or_else(|| Authority::sigstore());
        let finding = match fs_err::read_to_string(&proof) {
            Ok(text) => read_bundle(&text, bytes, authority),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
            Err(error) => Finding::Broken(error.to_string()),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let result =
            |status, detail, hint| Checked { what: What::Signature, file: proof.clone(), status, detail, hint };
        let is_trusted = |identity| self.trust.signatories.iter().any(|signatory| signatory.is(identity));
        let result = match &finding {
            Finding::Broken(reason) => failed(What::Signature, &proof, reason.clone(), Some(CHANGED)),
            Finding::Genuine(identity) if is_trusted(identity) => {
                result(Status::Ok, format!("{name} is signed by {}", identity.name), None)
            }
            Finding::Genuine(Identity { name: who, issuer }) => {
                let detail =
                    format!("{name} is signed by {who}, says {issuer}; who that is, is not told to be trusted");
                result(Status::Untrusted, detail, Some(TRUST))
            }
            Finding::Unknown(who, reason) => {
                let detail = format!("{name} is said to be signed by {who}, but {reason}");
                // Where somebody is trusted, whoever vouches for others' names must be known.
                if self.trust.signatories.is_empty() {
                    result(Status::Untrusted, detail, Some(AUTHORITY))
                } else {
                    failed(What::Signature, &proof, detail, Some(AUTHORITY))
                }
            }
        };
        let is_good = result.status == Status::Ok;
        self.results.push(result);
        is_good
    }
}

/// What to do about a bundle that is vouched for by nobody who is known.
const AUTHORITY: &str =
    "if it was made with another instance of Sigstore, give its trusted_root.json (release.trusted-root)";

fn told(proof: &Path, path: &Path, (tool, has_keys): (&str, bool), verdict: Verdict) -> Checked {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let result = |status, detail, hint| Checked { what: What::Signature, file: proof.to_owned(), status, detail, hint };
    match verdict {
        Verdict::Trusted(key) => result(Status::Ok, format!("{name} is signed by the {tool} key {key}"), None),
        Verdict::Broken(key) => {
            let detail = format!("it claims the trusted {tool} key {key}, but it does not fit {name}");
            failed(What::Signature, proof, detail, Some(CHANGED))
        }
        Verdict::Unreadable(reason) => {
            failed(What::Signature, proof, format!("it is no signature of {tool}: {reason}"), Some(CHANGED))
        }
        Verdict::Other(Some(key)) => result(
            Status::Untrusted,
            format!("{name} is signed by the {tool} key {key}, which is not trusted"),
            Some(TRUST),
        ),
        // Such a signature does not say whose it is: it may as well be one of a trusted key for other bytes.
        Verdict::Other(None) if has_keys => {
            let detail = format!("it fits {name} with none of the trusted {tool} keys");
            failed(What::Signature, proof, detail, Some(CHANGED))
        }
        Verdict::Other(None) => {
            let detail = format!("{name} is signed by a {tool} key, but none is trusted that it could be held against");
            result(Status::Untrusted, detail, Some(TRUST))
        }
    }
}
