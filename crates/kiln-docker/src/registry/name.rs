//! Names of images in registries, in full: `docker.io/library/alpine:latest`.

use std::fmt;

use super::RegistryError;
use crate::driver::reference::Reference;

/// The registry of names without one.
const HUB: &str = "docker.io";

/// A registry, a repository in it, and a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageName {
    /// Host and port: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// The repository: `library/alpine`.
    pub repository: String,
    /// The tag: `latest` where none was given.
    pub tag: String,
}

impl ImageName {
    /// Reads a name as people write it.
    ///
    /// # Errors
    /// If it cannot be one, or names a digest.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let wrong = || RegistryError::Name { text: text.to_owned() };
        let reference = Reference::parse(text).filter(|reference| reference.digest.is_none()).ok_or_else(wrong)?;
        let tag = reference.tag.clone().unwrap_or_else(|| "latest".to_owned());
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if tag.len() > 128 || tag.starts_with(['.', '-']) || !tag.chars().all(legal) {
            return Err(wrong());
        }
        let (registry, path) = split(&reference.repository, reference.registry());
        if path.contains([':', '[', ']']) {
            return Err(wrong());
        }
        let repository =
            if registry == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        Ok(Self { registry: registry.to_owned(), repository, tag })
    }

    /// The registry and repository of any reference, digests allowed; none if it is not one.
    pub fn repository_of(text: &str) -> Option<(String, String)> {
        let reference = Reference::parse(text)?;
        let name = Self::parse(&reference.repository).ok()?;
        Some((name.registry, name.repository))
    }

    /// As the docker command shows it: without what goes without saying.
    pub fn familiar(&self) -> String {
        let repository = match self.registry.as_str() {
            HUB => self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_owned(),
            registry => format!("{registry}/{}", self.repository),
        };
        format!("{repository}:{}", self.tag)
    }
}

fn split<'t>(repository: &'t str, registry: &'t str) -> (&'t str, &'t str) {
    let path = repository.strip_prefix(registry).and_then(|rest| rest.strip_prefix('/')).unwrap_or(repository);
    if registry == "index.docker.io" { (HUB, path) } else { (registry, path) }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_whole() {
        for (text, whole, familiar) in [
            ("a", "docker.io/library/a:latest", "a:latest"),
            ("a/b:1", "docker.io/a/b:1", "a/b:1"),
            ("docker.io/x", "docker.io/library/x:latest", "x:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("ghcr.io/x/y", "ghcr.io/x/y:latest", "ghcr.io/x/y:latest"),
        ] {
            let name = ImageName::parse(text).unwrap();
            assert_eq!((name.to_string().as_str(), name.familiar().as_str()), (whole, familiar), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_pushed_to_is_refused() {
        let digest = format!("a@sha256:{}", "a".repeat(64));
        for text in ["", "A", "a:b c", "a:-x", &digest, "a:"] {
            assert!(ImageName::parse(text).is_err(), "{text}");
        }
        assert_eq!(ImageName::repository_of(&digest), Some(("docker.io".to_owned(), "library/a".to_owned())));
    }
}
