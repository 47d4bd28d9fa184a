//! Bundles of Sigstore, v0.3: a signature with all that is needed to check it. Source: `sigstore_bundle.proto` of
//! sigstore/protobuf-specs, in the JSON of Protocol Buffers.

use kiln_artifact::checksum::Sha256;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{DerSignature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use x509_cert::Certificate;
use x509_cert::der::{DecodePem, Encode};

use super::authority::{Authority, Identity, identity};
use super::services::{self, Entry};
use super::{decoded, encoded};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SHA2_256: &str = "SHA2_256";

/// A signature of a file with the certificate of who made it and the log's word for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    media_type: String,
    verification_material: Material,
    message_signature: Message,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Raw,
    #[serde(default)]
    tlog_entries: Vec<Logged>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    raw_bytes: String,
}

/// Numbers of 64 bits are texts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Logged {
    pub(super) log_index: String,
    pub(super) log_id: Value,
    pub(super) kind_version: Value,
    pub(super) integrated_time: String,
    pub(super) inclusion_promise: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inclusion_proof: Option<Value>,
    pub(super) canonicalized_body: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    message_digest: Digest,
    signature: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Digest {
    algorithm: String,
    digest: String,
}

impl Bundle {
    /// The bundle as JSON in one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts alone")
    }
}

pub(super) fn new(certificate: &Certificate, digest: Sha256, signature: &[u8], entry: Entry) -> Bundle {
    let der = certificate.to_der().expect("a certificate that was read can be written");
    let proof = entry.verification.inclusion_proof.map(|proof| {
        serde_json::json!({
            "logIndex": proof.log_index.to_string(),
            "rootHash": of_hex(&proof.root_hash),
            "treeSize": proof.tree_size.to_string(),
            "hashes": proof.hashes.iter().map(|hash| of_hex(hash)).collect::<Vec<_>>(),
            "checkpoint": { "envelope": proof.checkpoint },
        })
    });
    let logged = Logged {
        log_index: entry.log_index.to_string(),
        log_id: serde_json::json!({ "keyId": of_hex(&entry.log_id) }),
        kind_version: serde_json::json!({ "kind": "hashedrekord", "version": "0.0.1" }),
        integrated_time: entry.integrated_time.to_string(),
        inclusion_promise: serde_json::json!({ "signedEntryTimestamp": entry.verification.signed_entry_timestamp }),
        inclusion_proof: proof,
        canonicalized_body: entry.body,
    };
    Bundle {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: Material { certificate: Raw { raw_bytes: encoded(&der) }, tlog_entries: vec![logged] },
        message_signature: Message {
            message_digest: Digest { algorithm: SHA2_256.to_owned(), digest: encoded(digest.as_bytes()) },
            signature: encoded(signature),
        },
    }
}

/// Hexadecimal as base64.
fn of_hex(hex: &str) -> String {
    let digits = hex.as_bytes().chunks(2);
    let bytes = digits.map(|pair| str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    encoded(&bytes.collect::<Option<Vec<u8>>>().unwrap_or_default())
}

/// What an entry of the log is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct About {
    /// In hexadecimal.
    pub(super) digest: String,
    /// In base64.
    pub(super) signature: String,
    /// A certificate in PEM, in base64.
    pub(super) certificate: String,
}

impl About {
    /// That of an entry of the kind `hashedrekord`.
    pub(super) fn read(body: &str) -> Option<Self> {
        let json: Value = serde_json::from_slice(&decoded(body)?).ok()?;
        let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            digest: text("/spec/data/hash/value")?,
            signature: text("/spec/signature/content")?,
            certificate: text("/spec/signature/publicKey/content")?,
        })
    }

    fn is_certificate(&self, certificate: &Certificate) -> bool {
        let pem = decoded(&self.certificate);
        pem.and_then(|pem| Certificate::from_pem(pem).ok()).as_ref() == Some(certificate)
    }
}

/// What a bundle says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It fits the file, its certificate and the log's entry, and these are genuine: whom the certificate is of.
    Genuine(Identity),
    /// It fits, and that its certificate and the log's entry are genuine cannot be said: whom the certificate names, and why.
    Unknown(String, String),
    /// It does not fit: why.
    Broken(String),
}

/// Holds a bundle against bytes, and against those who must have vouched for it.
pub(crate) fn read(text: &str, bytes: &[u8], authority: &Authority) -> Finding {
    look(text, bytes, authority).unwrap_or_else(Finding::Broken)
}

fn look(text: &str, bytes: &[u8], authority: &Authority) -> Result<Finding, String> {
    let bundle: Bundle = serde_json::from_str(text).map_err(|e| format!("it is no bundle of Sigstore: {e}"))?;
    if bundle.media_type != MEDIA_TYPE {
        return Err(format!("it is of the type {}, of which this kiln knows nothing", bundle.media_type));
    }
    let message = &bundle.message_signature;
    let digest = Sha256::of(bytes);
    if message.message_digest.algorithm != SHA2_256 || message.message_digest.digest != encoded(digest.as_bytes()) {
        return Err(format!("it is for a file with another digest than {digest}"));
    }
    let raw = decoded(&bundle.verification_material.certificate.raw_bytes);
    let certificate = raw.and_then(|raw| services::parse(&raw)).ok_or("its certificate cannot be read")?;
    let public = certificate.tbs_certificate.subject_public_key_info.to_der().map_err(|e| e.to_string())?;
    let key = VerifyingKey::from_public_key_der(&public).map_err(|_| "its certificate is not for a key of P-256")?;
    let signature = decoded(&message.signature);
    let signature = signature.and_then(|signature| DerSignature::try_from(signature.as_slice()).ok());
    if signature.is_none_or(|signature| key.verify(bytes, &signature).is_err()) {
        return Err("its signature is not by the key of its certificate".to_owned());
    }
    let is_about = |entry: &&Logged| {
        About::read(&entry.canonicalized_body).is_some_and(|about| {
            about.digest == digest.to_string()
                && about.signature == message.signature
                && about.is_certificate(&certificate)
        })
    };
    let entry = bundle.verification_material.tlog_entries.iter().find(is_about);
    let entry = entry.ok_or("none of its entries of the log is about its signature and its certificate")?;
    Ok(match authority.check(&certificate, entry) {
        Ok(identity) => Finding::Genuine(identity),
        Err(reason) => {
            let name = identity(&certificate).map(|identity| identity.name);
            Finding::Unknown(name.unwrap_or_else(|| "somebody whom its certificate does not name".to_owned()), reason)
        }
    })
}
