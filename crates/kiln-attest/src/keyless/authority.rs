//! Whom bundles are held against: authorities that certify who somebody is, and logs that say when something was signed.
//!
//! Source: `sigstore_trustroot.proto` of sigstore/protobuf-specs for the file, "Signed Entry Timestamp" of sigstore/rekor for
//! what the log signs, RFC 5280 for certificates, `oid-info.md` of sigstore/fulcio for who is named in them. Not looked at are
//! the logs of certificates: a bundle counts because Rekor's log has it, at a time at which its certificate was good.

use std::fmt::Write as _;
use std::sync::LazyLock;

use jiff::Timestamp;
use p256::ecdsa::signature::Verifier;
use p256::pkcs8::DecodePublicKey;
use serde::Deserialize;
use x509_cert::Certificate;
use x509_cert::der::asn1::Utf8StringRef;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName};

use super::bundle::Logged;
use super::{decoded, services};

/// The authorities and logs that Sigstore runs for everybody, as its trusted root of 2022 and later has them.
const SIGSTORE: &str = include_str!("../../data/trusted_root.json");

const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
/// Who gave the token: as DER, and, in older certificates, as bare bytes.
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
const OLD_ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");

/// A file that says nothing of authorities and logs.
#[derive(Debug, thiserror::Error)]
#[error("it is no trusted root of Sigstore: {0}")]
pub struct AuthorityError(String);

/// Authorities and logs.
#[derive(Clone, Debug)]
pub struct Authority {
    certifiers: Vec<Certifier>,
    logs: Vec<Log>,
}

/// An authority's certificates: the one that signs first, its root last.
#[derive(Clone, Debug)]
struct Certifier {
    chain: Vec<Certificate>,
    valid: Span,
}

#[derive(Clone, Debug)]
struct Log {
    id: Vec<u8>,
    key: p256::ecdsa::VerifyingKey,
    valid: Span,
}

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// An address, or the URL of a workflow.
    pub(crate) name: String,
    /// Who said so: the service that gave the token.
    pub(crate) issuer: String,
}

/// A span of time, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: i64,
    end: Option<i64>,
}

impl Span {
    fn has(self, time: i64) -> bool {
        self.start <= time && self.end.is_none_or(|end| time <= end)
    }
}

impl Authority {
    /// Sigstore's own, for everybody.
    pub fn sigstore() -> &'static Self {
        static SIGSTORES: LazyLock<Authority> = LazyLock::new(|| Authority::parse(SIGSTORE).expect("it is tested"));
        &SIGSTORES
    }

    /// Reads a trusted root, as `trusted_root.json` of Sigstore's own or of somebody's instance.
    ///
    /// # Errors
    /// It is none, or has neither authorities nor logs of a kind that can be checked.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        let wrong = |reason: &str| AuthorityError(reason.to_owned());
        let file: File = serde_json::from_str(text).map_err(|error| wrong(&error.to_string()))?;
        let mut certifiers = Vec::new();
        for found in file.certificate_authorities {
            let chain = found.cert_chain.certificates.iter().map(|raw| services::parse(&decoded(&raw.raw_bytes)?));
            let chain: Option<Vec<Certificate>> = chain.collect();
            let chain = chain.filter(|chain| !chain.is_empty()).ok_or_else(|| wrong("a certificate cannot be read"))?;
            certifiers.push(Certifier { chain, valid: found.valid_for.span()? });
        }
        let mut logs = Vec::new();
        for found in file.tlogs {
            let key = decoded(&found.public_key.raw_bytes);
            // Newer logs may have keys of other kinds, whose word is not needed.
            let Some(key) = key.and_then(|der| p256::ecdsa::VerifyingKey::from_public_key_der(&der).ok()) else {
                continue;
            };
            let id = decoded(&found.log_id.key_id).ok_or_else(|| wrong("the id of a log cannot be read"))?;
            logs.push(Log { id, key, valid: found.public_key.valid_for.unwrap_or_default().span()? });
        }
        if certifiers.is_empty() || logs.is_empty() {
            return Err(wrong("it has no authority, or no log with a key of P-256"));
        }
        Ok(Self { certifiers, logs })
    }

    /// Whether one of these logs has written the entry down, at a time at which one of these authorities said whom the
    /// certificate is of: whom.
    pub(super) fn check(&self, certificate: &Certificate, entry: &Logged) -> Result<Identity, String> {
        let time = self.logged(entry)?;
        let mut reasons = Vec::new();
        for certifier in &self.certifiers {
            match certifier.check(certificate, time) {
                Ok(()) => return identity(certificate).ok_or_else(|| "its certificate names nobody".to_owned()),
                Err(reason) => reasons.push(reason),
            }
        }
        // The last one is the one that signs today.
        Err(reasons.pop().unwrap_or_default())
    }

    /// When a log has written an entry down.
    fn logged(&self, entry: &Logged) -> Result<i64, String> {
        let id = entry.log_id["keyId"].as_str().and_then(decoded).unwrap_or_default();
        let log = self.logs.iter().find(|log| log.id == id).ok_or("it is in a log that is not known")?;
        let time = entry.integrated_time.parse::<i64>().ok();
        let index = entry.log_index.parse::<i64>().ok();
        let (time, index) = time.zip(index).ok_or("the entry of its log has no time or number")?;
        let id = hex(&id);
        // Canonical JSON: names in order, no blanks.
        let said = serde_json::json!({
            "body": entry.canonicalized_body, "integratedTime": time, "logID": id, "logIndex": index,
        });
        let promise = entry.inclusion_promise["signedEntryTimestamp"].as_str().and_then(decoded);
        let signature = promise.and_then(|bytes| p256::ecdsa::DerSignature::try_from(bytes.as_slice()).ok());
        let is_said =
            signature.is_some_and(|signature| log.key.verify(said.to_string().as_bytes(), &signature).is_ok());
        if !is_said {
            return Err("the entry of its log is not signed by that log".to_owned());
        }
        if !log.valid.has(time) {
            return Err("its log was not trusted when it wrote the entry".to_owned());
        }
        Ok(time)
    }
}

impl Certifier {
    fn check(&self, certificate: &Certificate, time: i64) -> Result<(), String> {
        if !self.valid.has(time) {
            return Err("no authority that is known was trusted when it was signed".to_owned());
        }
        if !validity(certificate).has(time) {
            return Err("its certificate was not good when it was signed".to_owned());
        }
        let uses = certificate.tbs_certificate.get::<ExtendedKeyUsage>().ok().flatten();
        if uses.is_none_or(|(_, uses)| !uses.0.contains(&CODE_SIGNING)) {
            return Err("its certificate is not for signing".to_owned());
        }
        let mut below = certificate;
        for above in &self.chain {
            signed(below, above)?;
            let is_authority = above.tbs_certificate.get::<BasicConstraints>().ok().flatten();
            if is_authority.is_none_or(|(_, is)| !is.ca) || !validity(above).has(time) {
                return Err("a certificate above its own is none of an authority, or was not good then".to_owned());
            }
            below = above;
        }
        Ok(())
    }
}

/// Whether a certificate is signed by another one's key.
fn signed(certificate: &Certificate, by: &Certificate) -> Result<(), String> {
    let other = || "its certificate is not by an authority that is known".to_owned();
    if certificate.tbs_certificate.issuer != by.tbs_certificate.subject {
        return Err(other());
    }
    let key = by.tbs_certificate.subject_public_key_info.to_der().map_err(|_| other())?;
    let bytes = certificate.tbs_certificate.to_der().map_err(|_| other())?;
    let signature = certificate.signature.as_bytes().unwrap_or_default();
    let is_signed = match certificate.signature_algorithm.oid {
        ECDSA_SHA256 => {
            let key = p256::ecdsa::VerifyingKey::from_public_key_der(&key).ok();
            let signature = p256::ecdsa::DerSignature::try_from(signature).ok();
            key.zip(signature).is_some_and(|(key, signature)| key.verify(&bytes, &signature).is_ok())
        }
        ECDSA_SHA384 => {
            let key = p384::ecdsa::VerifyingKey::from_public_key_der(&key).ok();
            let signature = p384::ecdsa::DerSignature::try_from(signature).ok();
            key.zip(signature).is_some_and(|(key, signature)| key.verify(&bytes, &signature).is_ok())
        }
        kind => return Err(format!("its certificate is signed in a way that is not known here ({kind})")),
    };
    if is_signed { Ok(()) } else { Err(other()) }
}

fn validity(certificate: &Certificate) -> Span {
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs().try_into().unwrap_or(i64::MAX);
    let validity = certificate.tbs_certificate.validity;
    Span { start: seconds(validity.not_before), end: Some(seconds(validity.not_after)) }
}

/// Whom a certificate is of.
pub(super) fn identity(certificate: &Certificate) -> Option<Identity> {
    let names = certificate.tbs_certificate.get::<SubjectAltName>().ok().flatten()?.1.0;
    let name = names.iter().find_map(|name| match name {
        GeneralName::Rfc822Name(name) | GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
        _ => None,
    })?;
    let extension = |oid| {
        let all = certificate.tbs_certificate.extensions.iter().flatten();
        all.into_iter().find(|extension| extension.extn_id == oid).map(|extension| extension.extn_value.as_bytes())
    };
    let issuer = extension(ISSUER).and_then(|der| Some(Utf8StringRef::from_der(der).ok()?.as_str().to_owned()));
    let issuer = issuer.or_else(|| extension(OLD_ISSUER).and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()));
    Some(Identity { name, issuer: issuer.unwrap_or_default() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `trusted_root.json`, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    tlogs: Vec<FileLog>,
    #[serde(default)]
    certificate_authorities: Vec<FileAuthority>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileLog {
    public_key: FileKey,
    log_id: FileId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileKey {
    raw_bytes: String,
    valid_for: Option<FileSpan>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileId {
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileAuthority {
    cert_chain: FileChain,
    #[serde(default)]
    valid_for: FileSpan,
}

#[derive(Deserialize)]
struct FileChain {
    certificates: Vec<FileRaw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileRaw {
    raw_bytes: String,
}

#[derive(Default, Deserialize)]
struct FileSpan {
    start: Option<String>,
    end: Option<String>,
}

impl FileSpan {
    fn span(&self) -> Result<Span, AuthorityError> {
        let seconds = |text: &String| {
            let time: Result<Timestamp, _> = text.parse();
            time.map(Timestamp::as_second).map_err(|_| AuthorityError(format!("`{text}` is no time")))
        };
        let start = self.start.as_ref().map(seconds).transpose()?.unwrap_or(i64::MIN);
        Ok(Span { start, end: self.end.as_ref().map(seconds).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The certificate and the log's entry of the provenance of `sigstore` 5.0.0, as npm has it: public, and by others.
    const REAL: &str = include_str!("../../tests/fixture/sigstore-js-5.0.0.json");

    fn real() -> (Certificate, Logged) {
        let json: Value = serde_json::from_str(REAL).unwrap();
        let raw = json.pointer("/certificate/rawBytes").and_then(Value::as_str).and_then(decoded).unwrap();
        (services::parse(&raw).unwrap(), serde_json::from_value(json["tlogEntries"][0].clone()).unwrap())
    }

    #[test]
    fn what_sigstore_certified_and_logged_is_known() {
        let (certificate, entry) = real();
        let identity = Authority::sigstore().check(&certificate, &entry).unwrap();
        let name = "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main";
        assert_eq!(identity.name, name);
        assert_eq!(identity.issuer, "https://token.actions.githubusercontent.com");
    }

    #[test]
    fn nothing_of_it_can_be_changed() {
        let (certificate, entry) = real();
        let refused = |certificate: &Certificate, entry: &Logged| {
            Authority::sigstore().check(certificate, entry).expect_err("refused")
        };
        let later = Logged { integrated_time: "1780347771".to_owned(), ..entry.clone() };
        assert!(refused(&certificate, &later).contains("not signed by that log"));
        let moved = Logged { log_index: "1".to_owned(), ..entry.clone() };
        assert!(refused(&certificate, &moved).contains("not signed by that log"));
        let body = Logged { canonicalized_body: format!("{}=", entry.canonicalized_body), ..entry.clone() };
        assert!(refused(&certificate, &body).contains("not signed by that log"));
        let other = Logged { log_id: serde_json::json!({ "keyId": "AAAA" }), ..entry.clone() };
        assert!(refused(&certificate, &other).contains("a log that is not known"));
        let mut renamed = certificate.clone();
        renamed.tbs_certificate.serial_number = x509_cert::serial_number::SerialNumber::from(7_u32);
        assert!(refused(&renamed, &entry).contains("not by an authority that is known"));
        let mut longer = certificate;
        longer.tbs_certificate.validity.not_after = longer.tbs_certificate.validity.not_before;
        assert!(!refused(&longer, &entry).is_empty());
    }

    #[test]
    fn what_is_no_trusted_root_is_refused() {
        for text in ["", "{}", r#"{"tlogs":[],"certificateAuthorities":[]}"#, "[1]"] {
            assert!(Authority::parse(text).is_err(), "{text}");
        }
        let broken = SIGSTORE.replace("MIIB", "AAAA");
        assert!(Authority::parse(&broken).is_err());
    }
}
