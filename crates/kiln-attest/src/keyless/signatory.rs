//! Whom somebody believes who signs without a key.

use std::fmt;
use std::str::FromStr;

use kiln_graph::glob;

use super::authority::Identity;

/// How it is written among keys.
pub const KEYLESS: &str = "keyless:";

/// Who gives the tokens of those whose names begin so. Sources: "OpenID Connect reference" of GitHub, "ID token
/// authentication" of GitLab.
const ISSUERS: [(&str, &str); 2] = [
    ("https://github.com/", "https://token.actions.githubusercontent.com"),
    ("https://gitlab.com/", "https://gitlab.com"),
];

/// Somebody who may sign without a key: a name as certificates have it, in which `*` stands for anything, and who says that
/// it is theirs. Displays as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatory {
    name: String,
    issuer: String,
}

/// A text that does not say who may sign without a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatoryError {
    /// There is no name, or more than name and issuer.
    #[error("it is written keyless:NAME, or \"keyless:NAME ISSUER\"")]
    Form,
    /// The name may be anybody's.
    #[error("`*` may stand for the end of a name, not for whose it is")]
    Anybody,
    /// It is not said who vouches for the name.
    #[error("who gives the tokens of `{0}` is not known")]
    NoIssuer(String),
}

impl SignatoryError {
    /// What to write.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Form | Self::Anybody => {
                "such as keyless:https://github.com/OWNER/NAME/.github/workflows/release.yml@refs/tags/*"
            }
            Self::NoIssuer(_) => {
                "name the issuer behind a blank, such as \"keyless:me@example.org https://accounts.google.com\""
            }
        }
    }
}

impl Signatory {
    /// Whether a certificate's identity is this one.
    pub(crate) fn is(&self, identity: &Identity) -> bool {
        self.issuer == identity.issuer && glob::matches(&self.name, &identity.name)
    }
}

impl fmt::Display for Signatory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEYLESS}{}", self.name)
    }
}

impl FromStr for Signatory {
    type Err = SignatoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.strip_prefix(KEYLESS).ok_or(SignatoryError::Form)?.split_whitespace();
        let (name, issuer) = (words.next().ok_or(SignatoryError::Form)?, words.next());
        if words.next().is_some() {
            return Err(SignatoryError::Form);
        }
        // `https://github.com/*` would be everybody there.
        let whose =
            name.split_once("://").map_or(1, |(_, rest)| rest.split('/').take_while(|p| !p.contains('*')).count());
        let is_anybody = name.starts_with('*') || (name.contains("://") && name.contains('*') && whose < 2);
        if is_anybody || (name.contains('*') && name.contains('@') && !name.contains("://")) {
            return Err(SignatoryError::Anybody);
        }
        let usual = ISSUERS.iter().find(|(start, _)| name.starts_with(start)).map(|(_, issuer)| *issuer);
        let issuer = issuer.or(usual).ok_or_else(|| SignatoryError::NoIssuer(name.to_owned()))?;
        Ok(Self { name: name.to_owned(), issuer: issuer.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_issuer_are_compared() {
        let workflow = "https://github.com/me/hello/.github/workflows/release.yml@refs/tags/";
        let trusted: Signatory = format!("keyless:{workflow}*").parse().unwrap();
        let identity = |name: &str, issuer: &str| Identity { name: name.to_owned(), issuer: issuer.to_owned() };
        let github = "https://token.actions.githubusercontent.com";
        assert!(trusted.is(&identity(&format!("{workflow}v1"), github)));
        assert!(!trusted.is(&identity(&format!("{workflow}v1"), "https://example.org")));
        assert!(!trusted.is(&identity("https://github.com/you/hello/x@refs/tags/v1", github)));
        let person: Signatory = "keyless:me@example.org https://accounts.google.com".parse().unwrap();
        assert!(person.is(&identity("me@example.org", "https://accounts.google.com")));
        assert!(!person.is(&identity("me@example.org.evil", "https://accounts.google.com")));
    }

    #[test]
    fn what_would_be_anybody_is_refused() {
        for text in
            ["keyless:*", "keyless:https://github.com/*", "keyless:https://*/me/hello", "keyless:*@example.org x"]
        {
            assert_eq!(text.parse::<Signatory>(), Err(SignatoryError::Anybody), "{text}");
        }
        for text in ["keyless:", "me", "keyless:a b c"] {
            assert_eq!(text.parse::<Signatory>(), Err(SignatoryError::Form), "{text}");
        }
        assert!(matches!("keyless:me@example.org".parse::<Signatory>(), Err(SignatoryError::NoIssuer(_))));
        assert!("keyless:https://github.com/me/*".parse::<Signatory>().is_ok());
    }
}
