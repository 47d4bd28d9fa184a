use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// A key of cosign that is the same each time.
pub(crate) fn cosign(seed: u8) -> Signer {
    Signer::Cosign(Box::new(SigningKey::from_slice(&[seed; 32]).unwrap()))
}

/// A new key of minisign.
pub(crate) fn minisign() -> Signer {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    Signer::minisign(&pair.sk.to_box(None).unwrap().to_string(), None).unwrap()
}

/// Made by a script of Python (PyNaCl, hashlib and cryptography), as cosign 2 does: the password is `open sesame`.
const LOCKED: &str = include_str!("../../tests/keys/cosign.key");
const LOCKED_PUBLIC: &str = include_str!("../../tests/keys/cosign.pub");
/// Made by OpenSSL: `genpkey`, `ecparam -genkey`, and the former's public half.
const PKCS8: &str = include_str!("../../tests/keys/pkcs8.pem");
const SEC1: &str = include_str!("../../tests/keys/sec1.pem");

#[test]
fn a_locked_key_opens_with_its_password_alone() {
    let key = Signer::cosign(LOCKED, Some("open sesame")).unwrap();
    assert_eq!(key.public().unwrap().id(), PublicKey::parse(LOCKED_PUBLIC).unwrap().id());
    let wrong = |password| Signer::cosign(LOCKED, password).unwrap_err();
    assert!(matches!(wrong(Some("open barley")), KeyError::WrongPassword));
    assert!(matches!(wrong(None), KeyError::NoPassword));
    assert_eq!(format!("{key:?}"), "Cosign(..)");
}

#[test]
fn keys_of_openssl_are_read() {
    for pem in [PKCS8, SEC1] {
        let key = Signer::cosign(pem, None).unwrap();
        assert!(key.sign_bytes(b"x").is_some());
    }
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert!(matches!(Signer::cosign(locked, Some("x")), Err(KeyError::Locked(_))));
    assert!(matches!(Signer::cosign("no key", None), Err(KeyError::Not { .. })));
    assert!(matches!(Signer::minisign("no key", None), Err(KeyError::Not { .. })));
    assert!(matches!(PublicKey::parse("RWno key"), Err(KeyError::Not { .. })));
}

/// Made by minisign 0.11: `minisign -G -W`.
const UNLOCKED: &str = include_str!("../../tests/keys/minisign.key");
const UNLOCKED_PUBLIC: &str = include_str!("../../tests/keys/minisign.pub");

#[test]
fn an_unlocked_key_of_minisigns_own_is_read() {
    let key = Signer::minisign(UNLOCKED, None).unwrap();
    assert_eq!(key.public().unwrap().id(), PublicKey::parse(UNLOCKED_PUBLIC).unwrap().id());
    let line = UNLOCKED.lines().nth(1).unwrap();
    let mut bytes = STANDARD.decode(line).unwrap();
    // In the secret half.
    bytes[70] ^= 1;
    let damaged = UNLOCKED.replace(line, &STANDARD.encode(bytes));
    assert!(matches!(Signer::minisign(&damaged, None), Err(KeyError::Not { .. })));
}

#[test]
fn a_signature_is_for_one_file_by_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("SHA256SUMS");
    fs_err::write(&file, "content").unwrap();
    for (signer, other) in [(minisign(), minisign()), (cosign(1), cosign(2))] {
        let path = signer.sign_file(&file, 1_700_000_000).unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        let (key, others) = (signer.public().unwrap(), other.public().unwrap());
        let check = |bytes: &[u8], text: &str, keys: &[PublicKey]| match key {
            PublicKey::Minisign(_) => check_minisig(bytes, text, keys),
            PublicKey::Cosign(_) => check_sig(bytes, text, keys),
        };
        let both = [others.clone(), key.clone()];
        assert_eq!(check(b"content", &text, &both), Verdict::Trusted(key.id()), "{path:?}");
        assert_ne!(check(b"Content", &text, &both), Verdict::Trusted(key.id()));
        assert!(matches!(check(b"content", &text, &both[..1]), Verdict::Other(_)));
        assert!(matches!(check(b"content", "nonsense", &both), Verdict::Unreadable(_)));
    }
    let text = fs_err::read_to_string(dir.path().join("SHA256SUMS.minisig")).unwrap();
    assert!(text.contains("trusted comment: timestamp:1700000000\tfile:SHA256SUMS\thashed\n"), "{text}");
}

#[test]
fn a_trusted_comment_cannot_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs_err::write(&file, "content").unwrap();
    let signer = minisign();
    let text = fs_err::read_to_string(signer.sign_file(&file, 1).unwrap()).unwrap();
    let key = signer.public().unwrap();
    let changed = text.replace("timestamp:1\t", "timestamp:2\t");
    assert_eq!(check_minisig(b"content", &changed, std::slice::from_ref(&key)), Verdict::Broken(key.id()));
}

#[test]
fn parameters_that_take_all_memory_are_refused() {
    let json = LOCKED.lines().filter(|line| !line.starts_with("---")).collect::<String>();
    let json = String::from_utf8(STANDARD.decode(json).unwrap()).unwrap();
    let huge = json.replace("\"N\":65536", "\"N\":1073741824");
    assert_ne!(json, huge);
    let label = "ENCRYPTED SIGSTORE PRIVATE KEY";
    let mut pem = format!("-----BEGIN {label}-----\n");
    writeln!(pem, "{}\n-----END {label}-----", STANDARD.encode(huge)).unwrap();
    assert!(matches!(Signer::cosign(&pem, Some("open sesame")), Err(KeyError::Locked(_))));
}

proptest! {
    #[test]
    fn nothing_panics(text in "(?s).{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let keys = [cosign(1).public().unwrap()];
        let _ = PublicKey::parse(&text);
        let _ = Signer::cosign(&format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", STANDARD.encode(&bytes)), None);
        let _ = check_minisig(&bytes, &text, &keys);
        prop_assert!(!matches!(check_sig(&bytes, &STANDARD.encode(&bytes), &keys), Verdict::Trusted(_)));
    }
}
