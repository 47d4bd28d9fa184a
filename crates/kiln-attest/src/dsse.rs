//! Dead Simple Signing Envelopes: JSON around a payload, signed together with its type. Source: secure-systems-lab/dsse.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::keys::{KeyError, PublicKey, Signer};

/// The type of statements of in-toto.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// An envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// What is signed, in base64.
    payload: String,
    /// Its type.
    pub payload_type: String,
    /// Who signed it.
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// What came of checking an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A trusted key signed it: its id.
    Trusted(String),
    /// Only others signed it: their ids, as they say.
    Others(Vec<String>),
    /// A trusted key is named, and its signature does not fit: its id.
    Broken(String),
}

impl Envelope {
    /// Puts a statement of in-toto into an envelope that these keys sign. Keys of minisign cannot: they sign files.
    ///
    /// Errors: a key cannot sign.
    pub fn sign(statement: &str, signers: &[Signer]) -> Result<Self, KeyError> {
        let bytes = encode(IN_TOTO, statement.as_bytes());
        let mut signatures = Vec::new();
        for signer in signers {
            if let Some(sig) = signer.sign_bytes(&bytes) {
                signatures.push(Signature { keyid: signer.public()?.id(), sig: STANDARD.encode(sig) });
            }
        }
        Ok(Self { payload: STANDARD.encode(statement), payload_type: IN_TOTO.to_owned(), signatures })
    }

    /// What is inside; nothing if that is no base64.
    pub fn payload(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.payload).ok()
    }

    /// Whether anybody signed it.
    pub fn is_signed(&self) -> bool {
        !self.signatures.is_empty()
    }

    /// Who signed it.
    pub fn check(&self, trusted: &[PublicKey]) -> Verdict {
        let bytes = encode(&self.payload_type, &self.payload().unwrap_or_default());
        let mut broken = None;
        for key in trusted {
            for signature in &self.signatures {
                let fits = STANDARD.decode(&signature.sig).is_ok_and(|sig| key.fits_bytes(&bytes, &sig));
                if fits {
                    return Verdict::Trusted(key.id());
                }
                if signature.keyid == key.id() {
                    broken = Some(key.id());
                }
            }
        }
        let ids = self.signatures.iter().map(|signature| signature.keyid.clone());
        broken.map_or_else(|| Verdict::Others(ids.collect()), Verdict::Broken)
    }
}

/// What is signed: the pre-authentication encoding.
fn encode(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::{cosign, minisign};

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        assert_eq!(
            encode("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn an_envelope_is_trusted_by_its_key_alone() {
        let (ours, other) = (cosign(1), cosign(2));
        let envelope = Envelope::sign("{}", std::slice::from_ref(&ours)).unwrap();
        let (key, others) = (ours.public().unwrap(), other.public().unwrap());
        assert_eq!(envelope.check(&[others.clone(), key.clone()]), Verdict::Trusted(key.id()));
        assert_eq!(envelope.check(&[others]), Verdict::Others(vec![key.id()]));
        let changed = Envelope { payload: STANDARD.encode("[]"), ..envelope.clone() };
        assert_eq!(changed.check(std::slice::from_ref(&key)), Verdict::Broken(key.id()));
        let changed = Envelope { payload_type: "text/plain".into(), ..envelope.clone() };
        assert_eq!(changed.check(std::slice::from_ref(&key)), Verdict::Broken(key.id()));
        let json = serde_json::to_string(&envelope).unwrap();
        assert_eq!(serde_json::from_str::<Envelope>(&json).unwrap(), envelope);
    }

    #[test]
    fn a_key_of_minisign_signs_no_envelope() {
        assert!(!Envelope::sign("{}", &[minisign()]).unwrap().is_signed());
    }
}
