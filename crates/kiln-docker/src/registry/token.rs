//! What a registry asks for before it lets someone in. Source: the distribution project's `token` and `oauth` specs.

/// What `WWW-Authenticate` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token of this server.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads a header; none if it asks for something unknown.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (name, value) in parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }
}

/// `name="value"` pairs, separated by commas that may occur in the values, too.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_owned();
        let (value, next) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((name, value.trim().to_owned()));
        rest = next;
    }
    found
}

/// What a token is asked for: both pulling and pushing, whatever the first request was, so that one token serves for all,
/// and what else was wanted, such as `delete`.
pub(super) fn wide_scope(wanted: Option<&str>, repository: &str) -> String {
    let both = format!("repository:{repository}:pull,push");
    let Some(wanted) = wanted else { return both };
    let Some(actions) = wanted.strip_prefix(&format!("repository:{repository}:")) else {
        return if wanted.contains(&format!("repository:{repository}:")) { both } else { wanted.to_owned() };
    };
    let more = actions.split(',').filter(|action| !matches!(*action, "" | "pull" | "push"));
    more.fold(both, |scope, action| format!("{scope},{action}"))
}

/// What a token server answers.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub(super) token: Option<String>,
    pub(super) access_token: Option<String>,
}

impl Answer {
    pub(super) fn token(self) -> Option<String> {
        self.token.or(self.access_token).filter(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_wide() {
        for (wanted, expected) in [
            (None, "repository:a/b:pull,push"),
            (Some("repository:a/b:pull"), "repository:a/b:pull,push"),
            (Some("repository:a/b:delete"), "repository:a/b:pull,push,delete"),
            (Some("registry:catalog:*"), "registry:catalog:*"),
            (Some("repository:other:pull repository:a/b:pull"), "repository:a/b:pull,push"),
        ] {
            assert_eq!(wide_scope(wanted, "a/b"), expected, "{wanted:?}");
        }
    }

    #[test]
    fn challenges_are_read() {
        let header =
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("registry.example".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(Challenge::parse(header), Some(expected));
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=x"), None);
        let bare = Challenge::parse("bearer realm=http://a/t, service=s");
        assert_eq!(
            bare,
            Some(Challenge::Bearer { realm: "http://a/t".into(), service: Some("s".into()), scope: None })
        );
    }
}
