//! Who made a snapshot: signatures of minisign, so that whoever may write to a store cannot slip something to those who
//! read from it. A run of a fork has the public key alone: it reads what the project saved and saves nothing that counts.

use std::io::{self, Cursor};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minisign::{PublicKey, SecretKey, SecretKeyBox, SignatureBox};

/// A key that signs.
pub struct Signer(SecretKey);

/// Whose snapshots are read.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Everybody's, as the store itself keeps others out.
    Anybody,
    /// Those that one of these keys signed.
    Keys(Vec<PublicKey>),
}

fn bad(error: &minisign::PError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

impl Signer {
    /// A secret key as minisign writes it, with both its lines; `password` opens it if it is locked.
    ///
    /// # Errors
    /// If it is no key, or locked with another password.
    pub fn new(text: &str, password: Option<&str>) -> io::Result<Self> {
        let boxed = SecretKeyBox::from_string(text.trim()).map_err(|e| bad(&e))?;
        let key = match password {
            Some(password) => boxed.into_secret_key(Some(password.to_owned())),
            // Nobody is asked: there may be nobody.
            None => match unlocked(text) {
                Some(key) => Ok(key),
                None => boxed.into_unencrypted_secret_key(),
            },
        };
        Ok(Self(key.map_err(|e| bad(&e))?))
    }

    /// The trust in what this key signs.
    ///
    /// # Errors
    /// If the key has no public half.
    pub fn trust(&self) -> io::Result<Trust> {
        Ok(Trust::Keys(vec![PublicKey::from_secret_key(&self.0).map_err(|e| bad(&e))?]))
    }

    /// A signature, as one line.
    pub(crate) fn sign(&self, bytes: &[u8]) -> io::Result<String> {
        let signature = minisign::sign(None, &self.0, bytes, Some("kiln cache"), None).map_err(|e| bad(&e))?;
        Ok(signature.to_string().trim_end().replace('\n', "\\n"))
    }
}

/// A key as `minisign -G -W` writes it: not locked, and without a checksum, which the crate would miss.
fn unlocked(text: &str) -> Option<SecretKey> {
    let bytes = STANDARD.decode(text.trim().lines().nth(1)?.trim()).ok()?;
    let is_it = bytes.starts_with(b"Ed\0\0") && bytes.ends_with(&[0; 32]);
    is_it.then(|| SecretKey::from_bytes(&bytes).ok()).flatten()
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(..)")
    }
}

impl Trust {
    /// Trust in these public keys: the lines of base64 that minisign prints and writes.
    ///
    /// # Errors
    /// If one is no key.
    pub fn in_keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> io::Result<Self> {
        let key = |text: &str| {
            // A whole file has a comment above.
            let line = text.trim().lines().last().unwrap_or_default();
            PublicKey::from_base64(line.trim()).map_err(|e| bad(&e))
        };
        Ok(Self::Keys(keys.into_iter().map(key).collect::<io::Result<_>>()?))
    }

    /// Trust in either.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Keys(mut keys), Self::Keys(more)) => {
                keys.extend(more);
                Self::Keys(keys)
            }
            (Self::Keys(keys), Self::Anybody) | (Self::Anybody, Self::Keys(keys)) => Self::Keys(keys),
            (Self::Anybody, Self::Anybody) => Self::Anybody,
        }
    }

    /// Whether some bytes with this signature are to be trusted; why not.
    pub(crate) fn check(&self, signature: Option<&str>, bytes: &[u8]) -> Result<(), String> {
        let Self::Keys(keys) = self else { return Ok(()) };
        let Some(signature) = signature else { return Err("it is not signed".to_owned()) };
        let signature = SignatureBox::from_string(&signature.replace("\\n", "\n"));
        let signature = signature.map_err(|e| format!("its signature cannot be read: {e}"))?;
        let is_by = |key: &PublicKey| minisign::verify(key, &signature, Cursor::new(bytes), true, false, false).is_ok();
        if keys.iter().any(is_by) { Ok(()) } else { Err("its signature is by no key that is trusted".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().expect("keys");
        Signer::new(&pair.sk.to_box(None).expect("text").to_string(), None).expect("a key")
    }

    #[test]
    fn a_key_trusts_itself_alone() {
        let (ours, other) = (signer(), signer());
        let line = ours.sign(b"content").expect("signed");
        assert!(!line.contains('\n'));
        let trust = ours.trust().expect("public");
        assert_eq!(trust.check(Some(&line), b"content"), Ok(()));
        assert!(trust.check(Some(&line), b"Content").is_err());
        assert!(trust.check(None, b"content").is_err());
        assert!(trust.check(Some("nonsense"), b"content").is_err());
        let others = other.trust().expect("public");
        assert!(others.check(Some(&line), b"content").is_err());
        assert_eq!(others.or(trust).check(Some(&line), b"content"), Ok(()));
        assert_eq!(Trust::Anybody.check(None, b"content"), Ok(()));
    }

    #[test]
    fn keys_are_read_as_minisign_writes_them() {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().expect("keys");
        let signer = Signer::new(&pair.sk.to_box(None).expect("text").to_string(), None).expect("a key");
        let line = signer.sign(b"content").expect("signed");
        let file = pair.pk.to_box().expect("text").to_string();
        for text in [pair.pk.to_base64(), file] {
            assert_eq!(
                Trust::in_keys([text.as_str()]).expect("a key").check(Some(&line), b"content"),
                Ok(()),
                "{text}"
            );
        }
        let (key, public) = (include_str!("../tests/minisign.key"), include_str!("../tests/minisign.pub"));
        let line = Signer::new(key, None).expect("a key of minisign's own").sign(b"content").expect("signed");
        assert_eq!(Trust::in_keys([public]).expect("a key").check(Some(&line), b"content"), Ok(()));
        assert!(Trust::in_keys(["RWno key"]).is_err());
        assert!(Signer::new("no key", None).is_err());
    }
}
