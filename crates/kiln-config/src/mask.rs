//! Hides credentials in values that are shown.

use crate::key::Key;
use crate::kind::{Kind, Value};

/// The value with the credentials of its URLs replaced.
pub(crate) fn masked(key: &Key, value: &Value) -> Value {
    match value {
        // A proxy may be written without a scheme.
        Value::Text(text) if key.kind == Kind::Proxy && !text.contains("://") => {
            Value::Text(text.rsplit_once('@').map_or_else(|| text.clone(), |(_, host)| format!("***@{host}")))
        }
        Value::Text(text) => Value::Text(mask(text)),
        Value::List(items) => Value::List(items.iter().map(|item| mask(item)).collect()),
        other => other.clone(),
    }
}

/// The text with `***` for what stands before the `@` in each URL: a token can stand in place of the user's name.
pub(crate) fn mask(text: &str) -> String {
    let Some((before, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.find(|c: char| "/?#\"'".contains(c) || c.is_whitespace()).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => format!("{before}://***{}", mask(&rest[at..])),
        None => format!("{before}://{}", mask(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden() {
        for (text, shown) in [
            ("https://user:secret@host/simple", "https://***@host/simple"),
            ("https://token@host", "https://***@host"),
            ("https://host/a@b", "https://host/a@b"),
            ("--index-url=http://u:p@a --extra=http://u:p@b/", "--index-url=http://***@a --extra=http://***@b/"),
            ("a@b", "a@b"),
            ("://", "://"),
        ] {
            assert_eq!(mask(text), shown, "{text}");
        }
    }
}
