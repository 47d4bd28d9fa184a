//! Forms that secrets have in common.

use std::collections::HashMap;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Words in what stands for a password in documentation and templates.
const PLACEHOLDERS: [&str; 18] = [
    "pass",
    "pwd",
    "secret",
    "example",
    "changeme",
    "change_me",
    "xxx",
    "***",
    "...",
    "token",
    "your",
    "dummy",
    "foo",
    "sesame",
    "1234",
    "placeholder",
    "redacted",
    "default",
];

const LAX: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LAX);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LAX);

/// The bytes at the start of `bytes` that are of a class, at most `most` of them.
pub(super) fn run(bytes: &[u8], most: usize, is_of: impl Fn(u8) -> bool) -> &[u8] {
    let end = bytes.iter().take(most).position(|byte| !is_of(*byte)).unwrap_or(bytes.len().min(most));
    &bytes[..end]
}

/// Letters and digits.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// What base64 for addresses consists of.
pub(super) fn is_base64_url(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'-' | b'_')
}

/// What base64 consists of, without the padding.
pub(super) fn is_base64(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'+' | b'/')
}

/// Base64 of either alphabet, with or without padding.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let engine = if text.iter().any(|byte| matches!(byte, b'-' | b'_')) { BASE64_URL } else { BASE64 };
    engine.decode(text).ok()
}

/// Shannon's entropy in bits per byte. A generated token of 36 letters and digits has more than 4, a word less than 3.5.
pub(super) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts: HashMap<u8, u32> = HashMap::new();
    for byte in bytes {
        *counts.entry(*byte).or_default() += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "a secret is short")]
    let total = bytes.len() as f64;
    -counts.values().map(|count| f64::from(*count) / total).map(|share| share * share.log2()).sum::<f64>()
}

/// How many of these are in it: small letters, capital letters, digits, anything else.
pub(super) fn classes(bytes: &[u8]) -> usize {
    let has = |is_of: fn(&u8) -> bool| usize::from(bytes.iter().any(is_of));
    has(u8::is_ascii_lowercase)
        + has(u8::is_ascii_uppercase)
        + has(u8::is_ascii_digit)
        + has(|byte| !byte.is_ascii_alphanumeric())
}

/// Whether a text stands for a password rather than being one.
pub(super) fn is_placeholder(password: &[u8]) -> bool {
    let text = String::from_utf8_lossy(password).to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|word| text.contains(word)) || text.contains(['{', '<', '$', '%', '[', '('])
}

/// Whether a password looks like one that somebody or something chose with care.
pub(super) fn is_password(password: &[u8]) -> bool {
    password.len() >= 8 && classes(password) >= 2 && entropy(password) >= 2.5 && !is_placeholder(password)
}

/// Whether the last six characters are the CRC-32 of those before, in base 62.
///
/// Source: "Behind GitHub's new authentication token formats" and "Announcing npm's new access token format", both in
/// GitHub's blog of 2021.
pub(super) fn has_checksum(token: &[u8]) -> bool {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some((body, sum)) = token.split_last_chunk::<6>() else { return false };
    let mut rest = crc32fast::hash(body) as usize;
    let mut expected = [b'0'; 6];
    for digit in expected.iter_mut().rev() {
        *digit = DIGITS[rest % 62];
        rest /= 62;
    }
    *sum == expected
}

/// The user of `user:password`, if the text is that and the password no placeholder.
pub(super) fn user_of(pair: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(pair).ok()?;
    let (user, password) = text.split_once(':')?;
    let good = !user.is_empty() && password.len() >= 6 && !text.contains(char::is_control);
    (good && !is_placeholder(password.as_bytes())).then(|| user.chars().take(40).collect())
}
