//! Keys for apk files, as `abuild-keygen` makes them.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::error::PackageError;

/// An RSA key, and the name of its public half in `/etc/apk/keys`.
#[derive(Clone)]
pub struct ApkKey {
    public_name: String,
    pair: std::sync::Arc<RsaKeyPair>,
}

impl ApkKey {
    /// Reads a key in PEM (PKCS#1 or PKCS#8, without a password). `public_name` is the name of the public key's file on the
    /// machines that install: `me@example.org-1234.rsa.pub`.
    ///
    /// Errors: it is no such key, or too short.
    pub fn read(pem: &[u8], public_name: impl Into<String>) -> Result<Self, PackageError> {
        let refused = |reason| PackageError::Key { reason };
        let der = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| refused("it is no private key in PEM without a password"))?;
        let pair = match &der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(refused("it is no RSA key")),
        };
        let pair = pair.map_err(|_| refused("it is no RSA key of 2048 to 4096 bits"))?;
        Ok(Self { public_name: public_name.into(), pair: pair.into() })
    }

    /// The name of the entry that a signature is.
    pub(crate) fn entry(&self) -> String {
        format!(".SIGN.RSA256.{}", self.public_name)
    }

    /// The signature of these bytes: PKCS#1 v1.5 with SHA-256, which has no random part.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, PackageError> {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature)
            .map_err(|_| PackageError::Key { reason: "signing failed" })?;
        Ok(signature)
    }
}

impl fmt::Debug for ApkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApkKey").field("public_name", &self.public_name).finish_non_exhaustive()
    }
}

impl PartialEq for ApkKey {
    fn eq(&self, other: &Self) -> bool {
        self.public_name == other.public_name && self.pair.public().as_ref() == other.pair.public().as_ref()
    }
}

impl Eq for ApkKey {}
