//! What Fulcio and Rekor are asked. Source: `fulcio.proto` of sigstore/fulcio (v2, over JSON), `openapi.yaml` of
//! sigstore/rekor (v1).

use kiln_artifact::checksum::Sha256;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::pkcs8::{EncodePublicKey, LineEnding};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use x509_cert::Certificate;
use x509_cert::der::{Decode, DecodePem, Encode, EncodePem};

use super::{KeylessError, Services, encoded};

const FULCIO: &str = "Fulcio";
const REKOR: &str = "Rekor";
/// Characters of a service's message that are shown.
const MOST_SHOWN: usize = 300;

/// An entry of the log.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub(super) body: String,
    pub(super) integrated_time: i64,
    #[serde(rename = "logID")]
    pub(super) log_id: String,
    pub(super) log_index: i64,
    pub(super) verification: Verification,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verification {
    pub(super) signed_entry_timestamp: String,
    pub(super) inclusion_proof: Option<Proof>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Proof {
    pub(super) log_index: i64,
    pub(super) root_hash: String,
    pub(super) tree_size: i64,
    pub(super) hashes: Vec<String>,
    pub(super) checkpoint: String,
}

/// A certificate for a key.
pub(super) async fn certificate(
    client: &Client,
    services: &Services,
    token: &str,
    subject: &str,
    key: &SigningKey,
) -> Result<Certificate, KeylessError> {
    let public = VerifyingKey::from(key);
    let pem = public.to_public_key_pem(LineEnding::LF).expect("a key of P-256 can be written");
    let proof: DerSignature = key.sign(subject.as_bytes());
    let body = json!({
        "credentials": { "oidcIdentityToken": token },
        "publicKeyRequest": {
            "publicKey": { "algorithm": "ECDSA", "content": pem },
            "proofOfPossession": encoded(proof.as_bytes()),
        },
    });
    let url = format!("{}/api/v2/signingCert", services.fulcio.trim_end_matches('/'));
    let answer = ask(FULCIO, services, || client.post(&url).json(&body)).await?;
    let json = read(FULCIO, answer).await?;
    let chains =
        ["/signedCertificateEmbeddedSct/chain/certificates", "/signedCertificateDetachedSct/chain/certificates"];
    let leaf = chains.iter().find_map(|chain| json.pointer(chain)?.get(0)?.as_str());
    let bad = |problem: String| KeylessError::Answer { service: FULCIO, problem };
    let leaf = leaf.ok_or_else(|| bad("there is no certificate in it".to_owned()))?;
    let certificate = Certificate::from_pem(leaf).map_err(|e| bad(format!("its certificate cannot be read: {e}")))?;
    let own = public.to_public_key_der().expect("a key of P-256 can be written");
    if certificate.tbs_certificate.subject_public_key_info.to_der().ok().as_deref() != Some(own.as_bytes()) {
        return Err(bad("the certificate is for another key".to_owned()));
    }
    Ok(certificate)
}

/// An entry of the log for a signature.
pub(super) async fn entry(
    client: &Client,
    services: &Services,
    digest: Sha256,
    signature: &[u8],
    certificate: &Certificate,
) -> Result<Entry, KeylessError> {
    let pem = certificate.to_pem(LineEnding::LF).expect("a certificate that was read can be written");
    let (digest, content) = (digest.to_string(), encoded(signature));
    let spec = json!({
        "data": { "hash": { "algorithm": "sha256", "value": digest } },
        "signature": { "content": content, "publicKey": { "content": encoded(pem.as_bytes()) } },
    });
    let body = json!({ "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec });
    let base = services.rekor.trim_end_matches('/');
    let url = format!("{base}/api/v1/log/entries");
    let mut answer = ask(REKOR, services, || client.post(&url).json(&body)).await?;
    // An answer that was lost on the way: the entry is there.
    if answer.status() == StatusCode::CONFLICT {
        let place = answer.headers().get("location").and_then(|place| place.to_str().ok()).map(str::to_owned);
        let place = place.filter(|place| place.starts_with('/')).ok_or_else(|| KeylessError::Answer {
            service: REKOR,
            problem: "the entry is there already, but it does not say where".to_owned(),
        })?;
        let url = format!("{base}{place}");
        answer = ask(REKOR, services, || client.get(&url)).await?;
    }
    let json = read(REKOR, answer).await?;
    let bad = |problem: &str| KeylessError::Answer { service: REKOR, problem: problem.to_owned() };
    let first = json.as_object().and_then(|entries| entries.values().next()).cloned();
    let entry: Entry = serde_json::from_value(first.ok_or_else(|| bad("there is no entry in it"))?)
        .map_err(|e| bad(&e.to_string()))?;
    let said = super::bundle::About::read(&entry.body).ok_or_else(|| bad("its entry cannot be read"))?;
    if (said.digest, said.signature) != (digest, content) {
        return Err(bad("its entry is about another signature"));
    }
    Ok(entry)
}

/// Sends a request until it is answered: what fails on the way, and what the service fails with itself, is tried again.
async fn ask(
    service: &'static str,
    services: &Services,
    request: impl Fn() -> reqwest::RequestBuilder,
) -> Result<Response, KeylessError> {
    let mut pause = services.pause;
    for attempt in 1.. {
        let result = request().timeout(services.patience).send().await;
        let may_pass = match &result {
            Ok(answer) => answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS,
            Err(_) => true,
        };
        if !may_pass || attempt >= services.attempts {
            return result.map_err(|source| KeylessError::Unreachable { service, source: source.without_url() });
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    unreachable!("the last attempt returns")
}

/// The JSON of a good answer.
async fn read(service: &'static str, answer: Response) -> Result<Value, KeylessError> {
    let status = answer.status();
    let bytes = answer.bytes().await.map_err(|e| KeylessError::Unreachable { service, source: e.without_url() })?;
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|e| KeylessError::Answer { service, problem: e.to_string() });
    }
    let json: Option<Value> = serde_json::from_slice(&bytes).ok();
    let said = json.as_ref().and_then(|json| json["message"].as_str());
    let message = said.map_or_else(|| String::from_utf8_lossy(&bytes).into_owned(), str::to_owned);
    let message = message.chars().filter(|c| !c.is_control()).take(MOST_SHOWN).collect();
    Err(KeylessError::Refused { service, status: status.as_u16(), message })
}

/// A certificate in DER.
pub(super) fn parse(der: &[u8]) -> Option<Certificate> {
    Certificate::from_der(der).ok()
}
