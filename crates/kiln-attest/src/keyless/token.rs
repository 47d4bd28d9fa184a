//! Tokens of OIDC: where a CI service gives one, and who it is of.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::KeylessError;

/// For whom a token must be.
const AUDIENCE: &str = "sigstore";
/// How the service is called in errors.
const SERVICE: &str = "the CI service";

/// What a CI service's variables offer.
#[derive(Clone, Default)]
pub struct Tokens {
    /// `SIGSTORE_ID_TOKEN`: a token as it is, as GitLab's `id_tokens` give it.
    pub given: Option<String>,
    /// `ACTIONS_ID_TOKEN_REQUEST_URL` and `ACTIONS_ID_TOKEN_REQUEST_TOKEN` of GitHub: where to get one, and with what.
    pub request: Option<(String, String)>,
}

/// Tokens are not shown.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens(given: {}, request: {})", self.given.is_some(), self.request.is_some())
    }
}

impl Tokens {
    /// A token; none where none is offered.
    ///
    /// Errors: the service that offers one does not give it.
    pub async fn get(&self, client: &reqwest::Client) -> Result<Option<String>, KeylessError> {
        #[derive(Deserialize)]
        struct Answer {
            value: String,
        }
        if let Some(token) = &self.given {
            return Ok(Some(token.clone()));
        }
        let Some((url, bearer)) = &self.request else { return Ok(None) };
        let separator = if url.contains('?') { '&' } else { '?' };
        let request = client.get(format!("{url}{separator}audience={AUDIENCE}")).bearer_auth(bearer);
        let unreachable =
            |source: reqwest::Error| KeylessError::Unreachable { service: SERVICE, source: source.without_url() };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(unreachable)?;
        if !status.is_success() {
            let message = "it gives no identity token".to_owned();
            return Err(KeylessError::Refused { service: SERVICE, status: status.as_u16(), message });
        }
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|e| KeylessError::Answer { service: SERVICE, problem: e.to_string() })?;
        Ok(Some(answer.value))
    }
}

/// What Fulcio wants to see signed: the address of a person, else the subject.
pub(super) fn subject(token: &str) -> Result<String, KeylessError> {
    #[derive(Deserialize)]
    struct Claims {
        sub: Option<String>,
        email: Option<String>,
    }
    let bad = |problem| KeylessError::Token { problem };
    let part = token.split('.').nth(1).ok_or(bad("it has not three parts"))?;
    let json = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).map_err(|_| bad("its second part is no base64"))?;
    let claims: Claims = serde_json::from_slice(&json).map_err(|_| bad("its second part is no JSON of claims"))?;
    claims.email.or(claims.sub).ok_or(bad("it does not say who it is of"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn who_a_token_is_of() {
        assert_eq!(subject(&token(r#"{"sub":"repo:me/hello"}"#)).unwrap(), "repo:me/hello");
        assert_eq!(subject(&token(r#"{"sub":"1","email":"me@example.org"}"#)).unwrap(), "me@example.org");
        for bad in ["", "a.b.c", "no token", &token("{}"), &token("[]")] {
            assert!(matches!(subject(bad), Err(KeylessError::Token { .. })), "{bad}");
        }
    }

    #[test]
    fn tokens_are_not_shown() {
        let tokens = Tokens { given: Some("secret".into()), request: Some(("url".into(), "secret".into())) };
        assert!(!format!("{tokens:?}").contains("secret"));
    }
}
