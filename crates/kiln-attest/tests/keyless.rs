//! Signatures without a key, against services in this process that fail as the real ones may.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kiln_attest::check::{Status, Trust, What, check};
use kiln_attest::keyless::{self, Authority, Bundle, KeylessError, Services, Tokens};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePublicKey, EncodePublicKey};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use x509_cert::certificate::{Certificate, TbsCertificate, Version};
use x509_cert::der::asn1::{BitString, Ia5String, OctetString, Utf8StringRef};
use x509_cert::der::oid::{AssociatedOid, ObjectIdentifier};
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Encode, EncodePem};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

/// Who vouches for it.
const ISSUER: &str = "https://tokens.example.org";
/// The log's id, in hexadecimal.
const LOG: &str = "c0d2";
const IDENTITY: &str = "https://example.org/me/hello/.github/workflows/release.yml@refs/tags/v1";

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// This status.
    Status(u16),
    /// The connection ends before the answer.
    Cut,
    /// The answer is for another key, or about another signature.
    Other,
    /// The answer is a page for people.
    Page,
    /// The request is carried out, and its answer lost.
    Lost,
}

/// Fulcio, Rekor and a CI service at one address.
#[derive(Default)]
struct Double {
    faults: Mutex<VecDeque<(&'static str, Fault)>>,
    calls: Mutex<Vec<String>>,
    entry: Mutex<Option<Value>>,
}

impl Double {
    async fn start(faults: &[(&'static str, Fault)]) -> (Arc<Self>, Services) {
        let double = Arc::new(Self { faults: Mutex::new(faults.iter().copied().collect()), ..Self::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let server = double.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = server.serve(stream).await;
            }
        });
        let services = Services {
            fulcio: address.clone(),
            rekor: address,
            patience: Duration::from_secs(20),
            attempts: 3,
            pause: Duration::from_millis(1),
        };
        (double, services)
    }

    /// One request on one connection.
    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let (head, start) = loop {
            let mut block = [0; 4096];
            let count = stream.read(&mut block).await?;
            bytes.extend_from_slice(&block[..count]);
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break (String::from_utf8_lossy(&bytes[..end]).into_owned(), end + 4);
            }
        };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = bytes.split_off(start);
        while body.len() < length.unwrap_or(0) {
            let mut block = [0; 4096];
            let count = stream.read(&mut block).await?;
            body.extend_from_slice(&block[..count]);
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.calls.lock().unwrap().push(path.clone());
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            let is_next = faults.front().is_some_and(|(place, _)| path.contains(place));
            is_next.then(|| faults.pop_front()).flatten().map(|(_, fault)| fault)
        };
        let (status, more, answer) = match fault {
            Some(Fault::Cut) => return Ok(()),
            Some(Fault::Status(status)) => {
                (status, String::new(), json!({ "code": 1, "message": "not today" }).to_string())
            }
            Some(Fault::Page) => (200, String::new(), "<html>log in</html>".to_owned()),
            fault => self.answer(&path, &head, &body, fault == Some(Fault::Other)),
        };
        if fault == Some(Fault::Lost) {
            return Ok(());
        }
        let text = format!(
            "HTTP/1.1 {status} X\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        );
        stream.write_all(text.as_bytes()).await
    }

    fn answer(&self, path: &str, head: &str, body: &[u8], other: bool) -> (u16, String, String) {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let ok = |answer: Value| (201, String::new(), answer.to_string());
        if path.starts_with("/token") {
            assert!(head.contains("Bearer request-token") && path.contains("audience=sigstore"), "{head}");
            return ok(json!({ "value": token() }));
        }
        if path == "/api/v2/signingCert" {
            let pem = request.pointer("/publicKeyRequest/publicKey/content").and_then(Value::as_str).expect("a key");
            let key = VerifyingKey::from_public_key_pem(pem).expect("a key");
            let proof =
                request.pointer("/publicKeyRequest/proofOfPossession").and_then(Value::as_str).expect("a proof");
            let proof =
                DerSignature::try_from(STANDARD.decode(proof).expect("base64").as_slice()).expect("a signature");
            key.verify(b"repo:me/hello:ref:refs/tags/v1", &proof).expect("whoever asks has the key");
            let key = if other { *SigningKey::from_slice(&[7; 32]).expect("a key").verifying_key() } else { key };
            let chain = json!({ "chain": { "certificates": [certificate(&key)] } });
            return ok(json!({ "signedCertificateEmbeddedSct": chain }));
        }
        let mut known = self.entry.lock().unwrap();
        if let (Some(entry), true) = (&*known, head.starts_with("GET ")) {
            return ok(entry.clone());
        }
        if known.is_some() {
            return (
                409,
                "location: /api/v1/log/entries/abcd\r\n".to_owned(),
                json!({ "message": "there" }).to_string(),
            );
        }
        let mut request = request;
        if other {
            request["spec"]["signature"]["content"] = json!("AAAA");
        }
        let proof =
            json!({ "logIndex": 5, "rootHash": "00ff", "treeSize": 6, "hashes": ["aa", "bb"], "checkpoint": "x\n" });
        let body = STANDARD.encode(request.to_string());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let said = json!({ "body": body, "integratedTime": now, "logID": LOG, "logIndex": 123 }).to_string();
        let promise: DerSignature = log().sign(said.as_bytes());
        let entry = json!({ "abcd": {
            "body": body,
            "integratedTime": now,
            "logID": LOG,
            "logIndex": 123,
            "verification": {
                "signedEntryTimestamp": STANDARD.encode(promise.as_bytes()), "inclusionProof": proof,
            },
        } });
        *known = Some(entry.clone());
        ok(entry)
    }
}

/// The key of the log.
fn log() -> SigningKey {
    SigningKey::from_slice(&[2; 32]).expect("a key")
}

/// The key of the authority.
fn authority() -> SigningKey {
    SigningKey::from_slice(&[1; 32]).expect("a key")
}

/// A certificate as Fulcio makes it, by an authority of the test's own.
fn certificate(key: &VerifyingKey) -> String {
    let name = GeneralName::UniformResourceIdentifier(Ia5String::new(IDENTITY).expect("ASCII"));
    let name = SubjectAltName(vec![name]).to_der().expect("a name");
    let uses = ExtendedKeyUsage(vec![ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3")]).to_der().expect("uses");
    let issuer = Utf8StringRef::new(ISSUER).expect("a text").to_der().expect("bytes");
    let extensions = vec![
        extension(SubjectAltName::OID, name),
        extension(ExtendedKeyUsage::OID, uses),
        extension(ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8"), issuer),
    ];
    certified(key, Name::default(), extensions).to_pem(LineEnding::LF).expect("text")
}

fn extension(oid: ObjectIdentifier, bytes: Vec<u8>) -> Extension {
    Extension { extn_id: oid, critical: false, extn_value: OctetString::new(bytes).expect("bytes") }
}

/// From a minute ago to in ten minutes: what is made in a test later than something else counts for it, too.
fn validity() -> Validity {
    let now = std::time::SystemTime::now();
    let time = |time: std::time::SystemTime| Time::try_from(time).expect("a time");
    Validity { not_before: time(now - Duration::from_mins(1)), not_after: time(now + Duration::from_mins(10)) }
}

fn certified(key: &VerifyingKey, subject: Name, extensions: Vec<Extension>) -> Certificate {
    // ecdsa-with-SHA256
    let oid = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
    let algorithm = AlgorithmIdentifierOwned { oid, parameters: None };
    let tbs_certificate = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::from(1_u32),
        signature: algorithm.clone(),
        issuer: Name::from_str("CN=fulcio").expect("a name"),
        validity: validity(),
        subject,
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_key(*key).expect("a key"),
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    };
    let signature: DerSignature = authority().sign(&tbs_certificate.to_der().expect("bytes"));
    let signature = BitString::from_bytes(signature.as_bytes()).expect("bytes");
    Certificate { tbs_certificate, signature_algorithm: algorithm, signature }
}

/// The trusted root of these services.
fn trusted_root() -> Authority {
    let constraints = BasicConstraints { ca: true, path_len_constraint: None }.to_der().expect("bytes");
    let name = Name::from_str("CN=fulcio").expect("a name");
    let extensions = vec![extension(BasicConstraints::OID, constraints)];
    let root = certified(authority().verifying_key(), name, extensions).to_der().expect("bytes");
    let key = log().verifying_key().to_public_key_der().expect("a key");
    let root = json!({
        "tlogs": [{
            "publicKey": { "rawBytes": STANDARD.encode(key.as_bytes()), "validFor": { "start": "2024-01-01T00:00:00Z" } },
            "logId": { "keyId": "wNI=" },
        }],
        "certificateAuthorities": [{
            "certChain": { "certificates": [{ "rawBytes": STANDARD.encode(root) }] },
            "validFor": { "start": "2024-01-01T00:00:00Z" },
        }],
    });
    Authority::parse(&root.to_string()).expect("a trusted root")
}

fn token() -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"sub":"repo:me/hello:ref:refs/tags/v1"}"#))
}

fn client() -> reqwest::Client {
    // No TLS is spoken here, but a client is not made without a provider of it.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

async fn signed(faults: &[(&'static str, Fault)]) -> (Arc<Double>, Result<Bundle, KeylessError>) {
    let (double, services) = Double::start(faults).await;
    let bundle = keyless::sign(&client(), &services, &token(), b"content").await;
    (double, bundle)
}

/// What the check says of a bundle beside a file.
fn checked(bundle: &str, content: &str) -> (Status, String) {
    checked_by(&Trust::default(), bundle, content)
}

fn checked_by(trust: &Trust, bundle: &str, content: &str) -> (Status, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    fs_err::write(&file, content).expect("written");
    fs_err::write(dir.path().join("file.sigstore.json"), bundle).expect("written");
    let results = check(&file, trust);
    let result = results.iter().find(|result| result.what == What::Signature).expect("it was looked at");
    (result.status, result.detail.clone())
}

#[tokio::test]
async fn a_bundle_fits_its_file_alone() {
    let (double, bundle) = signed(&[]).await;
    assert_eq!(*double.calls.lock().unwrap(), ["/api/v2/signingCert", "/api/v1/log/entries"]);
    let json = bundle.expect("a bundle").to_json();
    let value: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["mediaType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
    let entry = &value["verificationMaterial"]["tlogEntries"][0];
    assert!(entry["logIndex"] == "123" && entry["integratedTime"].is_string(), "{entry}");
    assert_eq!(entry["logId"]["keyId"], "wNI=");
    assert_eq!(entry["inclusionProof"]["hashes"], json!(["qg==", "uw=="]));

    let (status, detail) = checked(&json, "content");
    assert!(status == Status::Untrusted && detail.contains(IDENTITY), "{status} {detail}");
    let (status, detail) = checked(&json, "Content");
    assert!(status == Status::Failed && detail.contains("another digest"), "{detail}");
    let signature = value["messageSignature"]["signature"].as_str().expect("text");
    let (status, detail) =
        checked(&json.replace(&format!("\"signature\":\"{signature}\""), "\"signature\":\"AAAA\""), "content");
    assert!(status == Status::Failed && detail.contains("not by the key of its certificate"), "{detail}");
    let body = entry["canonicalizedBody"].as_str().expect("text");
    let (status, detail) = checked(&json.replace(body, "e30="), "content");
    assert!(status == Status::Failed && detail.contains("none of its entries"), "{detail}");
    assert_eq!(checked("{}", "content").0, Status::Failed);
}

#[tokio::test]
async fn who_signed_is_known_by_the_authority_and_trusted_by_name() {
    let (_double, bundle) = signed(&[]).await;
    let json = bundle.expect("a bundle").to_json();
    let trust = |names: &[&str], authority: Option<Authority>| Trust {
        signatories: names.iter().map(|name| name.parse().expect("a name")).collect(),
        authority,
        ..Trust::default()
    };
    let told = |trust: &Trust| checked_by(trust, &json, "content");
    let its = format!("keyless:{} {ISSUER}", IDENTITY.replace("/v1", "/*"));
    let (status, detail) = told(&trust(&[&its], Some(trusted_root())));
    assert!(status == Status::Ok && detail == format!("file is signed by {IDENTITY}"), "{status} {detail}");
    let (status, detail) = told(&trust(&[], Some(trusted_root())));
    assert!(status == Status::Untrusted && detail.contains(&format!("{IDENTITY}, says {ISSUER}")), "{detail}");
    // Neither another issuer's word for the same name, nor another name, nor another authority's word counts.
    let elsewhere = format!("keyless:{IDENTITY} https://elsewhere.example.org");
    let other = format!("keyless:https://example.org/you/* {ISSUER}");
    for name in [&elsewhere, &other] {
        let (status, detail) = told(&trust(&[name], Some(trusted_root())));
        assert!(status == Status::Untrusted && detail.contains("not told to be trusted"), "{status} {detail}");
    }
    let (status, detail) = told(&trust(&[&its], None));
    assert!(status == Status::Failed && detail.contains("a log that is not known"), "{status} {detail}");
}

#[tokio::test]
async fn what_passes_is_waited_for() {
    for fault in [Fault::Cut, Fault::Status(503), Fault::Status(429)] {
        for place in ["signingCert", "entries"] {
            let (double, bundle) = signed(&[(place, fault), (place, fault)]).await;
            assert!(bundle.is_ok(), "{place} {fault:?}: {bundle:?}");
            assert_eq!(double.calls.lock().unwrap().len(), 4);
        }
    }
    // The entry is there, but nobody heard of it.
    let (double, bundle) = signed(&[("entries", Fault::Lost)]).await;
    bundle.expect("found again");
    assert_eq!(double.calls.lock().unwrap().last().expect("a call"), "/api/v1/log/entries/abcd");
}

#[tokio::test]
async fn what_does_not_pass_is_an_error_that_names_the_service() {
    for (place, service) in [("signingCert", "Fulcio"), ("entries", "Rekor")] {
        for (fault, words) in [
            (Fault::Status(401), "refuses with 401: not today"),
            (Fault::Page, "answers what was not asked for"),
            (Fault::Other, "for another key|about another signature"),
        ] {
            let error = signed(&[(place, fault)]).await.1.expect_err("it fails");
            let text = error.to_string();
            let is_told = words.split('|').any(|words| text.contains(words));
            assert!(text.starts_with(service) && is_told && error.hint().is_some(), "{text}");
        }
        let error = signed(&[(place, Fault::Cut); 3]).await.1.expect_err("it is away");
        assert_eq!(error.to_string(), format!("{service} cannot be reached"));
    }
}

#[tokio::test]
async fn tokens_come_from_the_service_that_offers_them() {
    let (_double, services) = Double::start(&[("token", Fault::Status(403))]).await;
    let request = Some((format!("{}/token?x=1", services.fulcio), "request-token".to_owned()));
    let tokens = Tokens { given: None, request: request.clone() };
    let error = tokens.get(&client()).await.expect_err("not today");
    assert!(!error.to_string().contains("request-token"), "{error}");
    assert_eq!(tokens.get(&client()).await.expect("a token"), Some(token()));
    let given = Tokens { given: Some("mine".into()), request };
    assert_eq!(given.get(&client()).await.expect("a token").as_deref(), Some("mine"));
    assert_eq!(Tokens::default().get(&client()).await.expect("nothing"), None);
}
