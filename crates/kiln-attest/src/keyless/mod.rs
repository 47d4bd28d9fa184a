//! Signatures without a key of one's own: Sigstore certifies for some minutes who somebody is, as an OIDC token says, and
//! a public log remembers what was signed then.
//!
//! [`sign`] makes a new key, gets a certificate for it from Fulcio (API v2), signs, has Rekor (API v1) write that down, and
//! returns a [`Bundle`] (v0.3), which other tools know by the name `FILE.sigstore.json`. The key is forgotten. All that
//! the services answer is held against what was asked: a certificate for another key, or an entry for another signature, is
//! an error.
//!
//! Whoever checks a bundle holds it against an [`Authority`]: whether its certificate and its entry are genuine, and so whom
//! it is of. Whether that is a [`Signatory`] who is believed is another question.

mod authority;
mod bundle;
mod error;
mod services;
mod signatory;
mod token;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_artifact::checksum::Sha256;
use p256::SecretKey;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::rand_core::OsRng;

pub(crate) use self::authority::Identity;
pub use self::authority::{Authority, AuthorityError};
pub use self::bundle::Bundle;
pub(crate) use self::bundle::{Finding, read as read_bundle};
pub use self::error::KeylessError;
pub use self::signatory::{KEYLESS, Signatory, SignatoryError};
pub use self::token::Tokens;

/// What the name of a bundle ends in.
pub const BUNDLE: &str = ".sigstore.json";

/// The services, and how long is waited for them.
#[derive(Clone, Debug)]
pub struct Services {
    /// The address of the certificate authority.
    pub fulcio: String,
    /// The address of the log.
    pub rekor: String,
    /// For one answer.
    pub patience: Duration,
    /// Tries of a request in all, while failures may pass.
    pub attempts: u32,
    /// The first pause between two tries; the next is twice as long.
    pub pause: Duration,
}

/// Sigstore's own, for everybody.
impl Default for Services {
    fn default() -> Self {
        Self {
            fulcio: "https://fulcio.sigstore.dev".to_owned(),
            rekor: "https://rekor.sigstore.dev".to_owned(),
            patience: Duration::from_secs(30),
            attempts: 3,
            pause: Duration::from_secs(1),
        }
    }
}

/// Signs bytes as whoever the token is of.
///
/// Errors: a service cannot be reached, refuses, or answers something else than was asked.
pub async fn sign(
    client: &reqwest::Client,
    services: &Services,
    token: &str,
    bytes: &[u8],
) -> Result<Bundle, KeylessError> {
    let subject = token::subject(token)?;
    let key = SigningKey::from(SecretKey::random(&mut OsRng));
    let certificate = services::certificate(client, services, token, &subject, &key).await?;
    let signature: DerSignature = key.sign(bytes);
    let digest = Sha256::of(bytes);
    let entry = services::entry(client, services, digest, signature.as_bytes(), &certificate).await?;
    Ok(bundle::new(&certificate, digest, signature.as_bytes(), entry))
}

fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
