//! Values that nobody may see.

use std::fmt;

/// A secret: its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Shorter texts are left alone: hiding every `1` hides nothing, and makes a log unreadable.
const SHORTEST: usize = 4;

/// Hides secrets in what a step writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masks(Vec<Secret>);

impl Masks {
    /// Hides the whole value and, of a long text, each of its lines.
    pub(crate) fn add(&mut self, secret: &Secret) {
        for line in secret.0.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii();
            if line.len() >= SHORTEST {
                self.0.push(Secret(line.to_owned()));
            }
        }
        // Longest first: a secret may be part of another.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.0.len()));
    }

    /// The line without secrets.
    pub(crate) fn hide(&self, mut line: String) -> String {
        for secret in &self.0 {
            if let Ok(text) = std::str::from_utf8(&secret.0)
                && line.contains(text)
            {
                line = line.replace(text, "***");
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_show_nowhere() {
        let secret = Secret::new(b"hunter2\n".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        let mut masks = Masks::default();
        masks.add(&secret);
        masks.add(&Secret::new(b"-----BEGIN\nAAAA BBBB\n1\n".to_vec()));
        assert_eq!(masks.hide("my hunter2, twice hunter2".into()), "my ***, twice ***");
        assert_eq!(masks.hide("line AAAA BBBB".into()), "line ***");
        assert_eq!(masks.hide("1 of 1".into()), "1 of 1");
    }

    #[test]
    fn the_longer_secret_goes_first() {
        let mut masks = Masks::default();
        masks.add(&Secret::new(b"abcd".to_vec()));
        masks.add(&Secret::new(b"abcdef".to_vec()));
        assert_eq!(masks.hide("abcdef".into()), "***");
    }
}
