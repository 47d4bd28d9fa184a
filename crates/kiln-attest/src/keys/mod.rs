//! Keys that sign files, and keys that are trusted: those of minisign and of cosign, as their own tools write them.
//!
//! A signature of minisign lies in `FILE.minisig`, one of cosign in `FILE.sig`; [`keyless`](crate::keyless) has those that
//! need no key. Signing reads a file as it is on disk, and writes next to it by rename.

mod cosign;
mod error;

use std::fmt;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_artifact::place::write_atomically;
use minisign::{SecretKeyBox, SignatureBox};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};

pub use self::error::KeyError;

/// What the name of a signature of minisign ends in.
pub const MINISIG: &str = ".minisig";
/// What the name of a signature of cosign ends in.
pub const SIG: &str = ".sig";

/// A key that signs.
pub enum Signer {
    /// One of minisign.
    Minisign(Box<minisign::SecretKey>),
    /// One of cosign: ECDSA over P-256.
    Cosign(Box<SigningKey>),
}

/// Keys are not shown.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minisign(_) => f.write_str("Minisign(..)"),
            Self::Cosign(_) => f.write_str("Cosign(..)"),
        }
    }
}

impl Signer {
    /// Reads a secret key of minisign, with both its lines; `password` opens it if it is locked.
    ///
    /// Errors: it is no key, or the password is missing or another one.
    pub fn minisign(text: &str, password: Option<&str>) -> Result<Self, KeyError> {
        const WHAT: &str = "secret key of minisign";
        let line = text.trim().lines().nth(1).unwrap_or_default();
        let bytes = STANDARD.decode(line.trim()).map_err(|e| KeyError::not(WHAT, &e))?;
        // Source: minisign's "Secret key format": the signature's algorithm, that of the lock, ...
        let (b"Ed", Some(lock)) = (bytes.get(..2).unwrap_or_default(), bytes.get(2..4)) else {
            return Err(KeyError::not(WHAT, &"its second line is another thing"));
        };
        let boxed = SecretKeyBox::from_string(text.trim()).map_err(|e| KeyError::not(WHAT, &e))?;
        let key = if lock == [0, 0] && bytes.ends_with(&[0; 32]) {
            // `minisign -G -W` writes no checksum, which the crate would miss: that both halves fit, a signature shows.
            let key = minisign::SecretKey::from_bytes(&bytes).map_err(|e| KeyError::not(WHAT, &e))?;
            let public = minisign::PublicKey::from_secret_key(&key).map_err(|e| KeyError::not(WHAT, &e))?;
            minisign::sign(Some(&public), &key, Cursor::new([]), None, None).map_err(|e| KeyError::not(WHAT, &e))?;
            key
        } else if lock == [0, 0] {
            boxed.into_unencrypted_secret_key().map_err(|e| KeyError::not(WHAT, &e))?
        } else {
            let password = password.ok_or(KeyError::NoPassword)?;
            // A wrong password and a damaged key look the same.
            boxed.into_secret_key(Some(password.to_owned())).map_err(|_| KeyError::WrongPassword)?
        };
        Ok(Self::Minisign(Box::new(key)))
    }

    /// Reads a private key in PEM: one that cosign locked, or an unlocked one of P-256 (`PRIVATE KEY`, `EC PRIVATE KEY`).
    ///
    /// Errors: it is no such key, or the password is missing or another one.
    pub fn cosign(pem: &str, password: Option<&str>) -> Result<Self, KeyError> {
        cosign::read(pem, password).map(|key| Self::Cosign(Box::new(key)))
    }

    /// Its public half.
    ///
    /// Errors: a key of minisign that is damaged has none.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        match self {
            Self::Minisign(key) => {
                let public = minisign::PublicKey::from_secret_key(key);
                public.map(PublicKey::Minisign).map_err(|e| KeyError::not("secret key of minisign", &e))
            }
            Self::Cosign(key) => Ok(PublicKey::Cosign(*key.verifying_key())),
        }
    }

    /// Signs a file: writes `FILE.minisig` or `FILE.sig` and returns its path. `epoch` is the moment that minisign's
    /// comment names, in seconds since 1970.
    ///
    /// Errors: the file cannot be read, or the signature cannot be written.
    pub fn sign_file(&self, path: &Path, epoch: i64) -> Result<PathBuf, KeyError> {
        let bytes = fs_err::read(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (text, ending) = match self {
            Self::Minisign(key) => {
                let comment = format!("timestamp:{epoch}\tfile:{name}\thashed");
                let signature = minisign::sign(None, key, Cursor::new(bytes), Some(&comment), None);
                let signature = signature.map_err(|e| KeyError::not("secret key of minisign", &e))?;
                (signature.to_string(), MINISIG)
            }
            Self::Cosign(key) => (STANDARD.encode(ecdsa(key, &bytes)), SIG),
        };
        let path = beside(path, ending);
        write_atomically(&path, 0o644, text.as_bytes())?;
        Ok(path)
    }

    /// A bare signature, ASN.1 of ECDSA over SHA-256; none of a key of minisign, which signs files alone.
    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Minisign(_) => None,
            Self::Cosign(key) => Some(ecdsa(key, bytes)),
        }
    }
}

fn ecdsa(key: &SigningKey, bytes: &[u8]) -> Vec<u8> {
    let signature: DerSignature = key.sign(bytes);
    signature.as_bytes().to_vec()
}

/// `FILE` + an ending.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A key that is trusted.
#[derive(Clone, Debug)]
pub enum PublicKey {
    /// One of minisign.
    Minisign(minisign::PublicKey),
    /// One of cosign: ECDSA over P-256.
    Cosign(VerifyingKey),
}

impl PublicKey {
    /// Reads a key: the line of base64 that minisign prints (`RW...`), its whole file, or PEM as cosign writes it.
    ///
    /// Errors: it is neither.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.contains("-----BEGIN") {
            return cosign::read_public(text).map(Self::Cosign);
        }
        // A file of minisign has a comment above.
        let line = text.lines().last().unwrap_or_default().trim();
        let key = minisign::PublicKey::from_base64(line).map_err(|e| KeyError::not("public key", &e))?;
        Ok(Self::Minisign(key))
    }

    /// What it is called in messages: minisign's own number (`F2A1...`), or the SHA-256 of cosign's key.
    pub fn id(&self) -> String {
        match self {
            Self::Minisign(key) => key_number(key.keynum()),
            Self::Cosign(key) => cosign::id(key),
        }
    }

    /// Which tool it is of.
    pub fn tool(&self) -> &'static str {
        match self {
            Self::Minisign(_) => "minisign",
            Self::Cosign(_) => "cosign",
        }
    }

    /// Whether a bare signature is by this key and fits.
    pub(crate) fn fits_bytes(&self, bytes: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Minisign(_) => false,
            Self::Cosign(key) => {
                DerSignature::try_from(signature).is_ok_and(|signature| key.verify(bytes, &signature).is_ok())
            }
        }
    }
}

/// What came of checking a detached signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A trusted key made it for these bytes: its id.
    Trusted(String),
    /// Another key made it: its id, if the signature says.
    Other(Option<String>),
    /// It says that it is of this trusted key, and does not fit.
    Broken(String),
    /// It is none.
    Unreadable(String),
}

/// Checks the text of a `.minisig`.
pub(crate) fn check_minisig(bytes: &[u8], signature: &str, trusted: &[PublicKey]) -> Verdict {
    let signature = match SignatureBox::from_string(signature.trim_end()) {
        Ok(signature) => signature,
        Err(error) => return Verdict::Unreadable(error.to_string()),
    };
    let mut named = None;
    for key in trusted {
        let PublicKey::Minisign(public) = key else { continue };
        if public.keynum() != signature.keynum() {
            continue;
        }
        if minisign::verify(public, &signature, Cursor::new(bytes), true, false, true).is_ok() {
            return Verdict::Trusted(key.id());
        }
        named = Some(key.id());
    }
    named.map_or_else(|| Verdict::Other(Some(key_number(signature.keynum()))), Verdict::Broken)
}

/// Checks the text of a `.sig`, which does not say whose it is.
pub(crate) fn check_sig(bytes: &[u8], signature: &str, trusted: &[PublicKey]) -> Verdict {
    let Ok(signature) = STANDARD.decode(signature.trim()) else {
        return Verdict::Unreadable("it is no base64".to_owned());
    };
    if let Err(error) = DerSignature::try_from(signature.as_slice()) {
        return Verdict::Unreadable(format!("it is no signature of ECDSA: {error}"));
    }
    let by = trusted.iter().find(|key| key.fits_bytes(bytes, &signature));
    by.map_or(Verdict::Other(None), |key| Verdict::Trusted(key.id()))
}

/// The number of a key as minisign prints it.
fn key_number(bytes: &[u8]) -> String {
    bytes.iter().rev().fold(String::new(), |text, byte| format!("{text}{byte:02X}"))
}

#[cfg(test)]
pub(crate) mod tests;
