//! Keys as cosign writes them. Source: `pkg/cosign/keys.go` of cosign 2, and `encrypted` of go-securesystemslib: PEM around
//! JSON that names scrypt's parameters, in which NaCl's secretbox holds PKCS #8.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{Key, KeyInit, Nonce, XSalsa20Poly1305};
use p256::SecretKey;
use p256::ecdsa::{SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey};
use serde::Deserialize;

use super::KeyError;

/// What locked keys are called, now and before cosign 2.
const LOCKED: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
/// Bounds of scrypt, so that a key from elsewhere cannot take all memory: cosign's are 2^16, 8 and 1.
const MOST: (u32, u32, u32) = (1 << 20, 16, 16);
/// What a readable key is.
const KEY: &str = "private key of P-256 in PEM";

#[derive(Deserialize)]
struct Locked {
    kdf: Derivation,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Derivation {
    name: String,
    params: Parameters,
    salt: String,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Reads a private key.
pub(super) fn read(pem: &str, password: Option<&str>) -> Result<SigningKey, KeyError> {
    if let Some(body) = LOCKED.iter().find_map(|label| body(pem, label)) {
        let json = decode(&body)?;
        let der = unlock(&json, password.ok_or(KeyError::NoPassword)?)?;
        return SigningKey::from_pkcs8_der(&der).map_err(|e| KeyError::not(KEY, &e));
    }
    if body(pem, "ENCRYPTED PRIVATE KEY").is_some() {
        return Err(KeyError::Locked("PKCS #8".to_owned()));
    }
    if let Some(body) = body(pem, "PRIVATE KEY") {
        return SigningKey::from_pkcs8_der(&decode(&body)?).map_err(|e| KeyError::not(KEY, &e));
    }
    if let Some(body) = body(pem, "EC PRIVATE KEY") {
        let key = SecretKey::from_sec1_der(&decode(&body)?).map_err(|e| KeyError::not(KEY, &e))?;
        return Ok(key.into());
    }
    Err(KeyError::not(KEY, &"there is no such block in it"))
}

/// Reads a public key.
pub(super) fn read_public(pem: &str) -> Result<VerifyingKey, KeyError> {
    VerifyingKey::from_public_key_pem(pem).map_err(|e| KeyError::not("public key of P-256 in PEM", &e))
}

/// The SHA-256 of the key as ASN.1.
pub(super) fn id(key: &VerifyingKey) -> String {
    let der = key.to_public_key_der().expect("a key of P-256 can be written");
    format!("SHA256:{}", kiln_artifact::checksum::Sha256::of(der.as_bytes()))
}

/// The base64 of a block, without line breaks.
fn body(pem: &str, label: &str) -> Option<String> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    Some(body.split_whitespace().collect())
}

fn decode(base64: &str) -> Result<Vec<u8>, KeyError> {
    STANDARD.decode(base64).map_err(|e| KeyError::not(KEY, &e))
}

fn unlock(json: &[u8], password: &str) -> Result<Vec<u8>, KeyError> {
    let locked: Locked = serde_json::from_slice(json).map_err(|e| KeyError::not("locked key of cosign", &e))?;
    let (kdf, cipher) = (&locked.kdf.name, &locked.cipher.name);
    if kdf != "scrypt" || cipher != "nacl/secretbox" {
        return Err(KeyError::Locked(format!("{kdf} and {cipher}")));
    }
    let Parameters { n, r, p } = locked.kdf.params;
    let beyond = || KeyError::Locked(format!("scrypt with N={n}, r={r}, p={p}"));
    if !n.is_power_of_two() || n > MOST.0 || r > MOST.1 || p > MOST.2 {
        return Err(beyond());
    }
    let log = u8::try_from(n.trailing_zeros()).map_err(|_| beyond())?;
    let parameters = scrypt::Params::new(log, r, p, 32).map_err(|_| beyond())?;
    let mut key = Key::default();
    scrypt::scrypt(password.as_bytes(), &decode(&locked.kdf.salt)?, &parameters, &mut key)
        .map_err(|e| KeyError::not("locked key of cosign", &e))?;
    let nonce = decode(&locked.cipher.nonce)?;
    if nonce.len() != 24 {
        return Err(KeyError::not("locked key of cosign", &"its nonce has not 24 bytes"));
    }
    let text = decode(&locked.ciphertext)?;
    // A wrong password and a damaged key look the same.
    XSalsa20Poly1305::new(&key).decrypt(Nonce::from_slice(&nonce), text.as_slice()).map_err(|_| KeyError::WrongPassword)
}
