//! Image references as people write them. Source: `distribution/reference` of the OCI distribution project.

use kiln_graph::{Digest, Platform};

use crate::labels::BASE_NAMES;

/// `[registry/]repository[:tag][@digest]`, or the id of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Registry and repository as given.
    pub(crate) repository: String,
    /// The tag; `latest` where neither tag nor digest was given.
    pub(crate) tag: Option<String>,
    /// `sha256:...`
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// Reads a reference; `None` if it cannot be one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]".contains(c);
        if text.is_empty() || !text.chars().all(legal) || text.contains("//") || text.contains("..") {
            return None;
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let (algorithm, hex) = digest.split_once(':')?;
                if algorithm.is_empty() || hex.len() < 32 || !hex.chars().all(|c| c.is_ascii_hexdigit()) {
                    return None;
                }
                (rest, Some(digest.to_owned()))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to the port of a registry.
        let name_start = rest.rfind('/').map_or(0, |at| at + 1);
        let (repository, tag) = match rest[name_start..].split_once(':') {
            Some((name, tag)) if !tag.is_empty() => (&rest[..name_start + name.len()], Some(tag.to_owned())),
            Some(_) => return None,
            None => (rest, None),
        };
        let path =
            repository.split_once('/').filter(|(first, _)| is_registry(first)).map_or(repository, |(_, path)| path);
        if path.is_empty()
            || path.starts_with('/')
            || path.ends_with('/')
            || path.chars().any(|c| c.is_ascii_uppercase())
        {
            return None;
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Some(Self { repository: repository.to_owned(), tag, digest })
    }

    /// The host (and port) of its registry; `docker.io` where none is named.
    pub(crate) fn registry(&self) -> &str {
        match self.repository.split_once('/') {
            Some((first, _)) if is_registry(first) => first,
            _ => "docker.io",
        }
    }

    /// The text that a daemon takes.
    pub(crate) fn name(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{}@{digest}", self.repository),
            (None, tag) => format!("{}:{}", self.repository, tag.as_deref().unwrap_or("latest")),
        }
    }

    /// What is asked of the registry: the digest where there is one.
    pub(crate) fn version(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// kiln's own name for the image of one platform: repository and tag. A digest of the reference keeps names of any
    /// length and spelling apart; the readable part is for people who list images.
    pub(crate) fn alias(&self, platform: Platform) -> (String, String) {
        let readable: String = self
            .repository
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        let readable = readable.trim_matches('-');
        let readable = &readable[..readable.len().min(60)];
        let digest = Digest::of(self.name()).short();
        (format!("{BASE_NAMES}{}-{digest}", readable.trim_matches('-')), platform.to_string().replace('/', "-"))
    }
}

fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.starts_with('[')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_fall_into_their_parts() {
        let hex = "a".repeat(64);
        for (text, registry, name) in [
            ("alpine", "docker.io", "alpine:latest".to_owned()),
            ("alpine:3.20", "docker.io", "alpine:3.20".to_owned()),
            ("library/alpine", "docker.io", "library/alpine:latest".to_owned()),
            ("localhost:5000/a/b:c", "localhost:5000", "localhost:5000/a/b:c".to_owned()),
            ("ghcr.io/x/y", "ghcr.io", "ghcr.io/x/y:latest".to_owned()),
            (&format!("alpine:3@sha256:{hex}"), "docker.io", format!("alpine@sha256:{hex}")),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.registry(), reference.name()), (registry, name), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in ["", "a b", "Alpine", "a:", "x?y", "a//b", "alpine@sha256:12", "../x", "localhost:5000/"] {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
    }

    #[test]
    fn aliases_keep_references_and_platforms_apart() {
        let alias = |text: &str, platform: &str| Reference::parse(text).unwrap().alias(platform.parse().unwrap());
        assert_ne!(alias("a/b:1", "arm64"), alias("a/b:2", "arm64"));
        assert_ne!(alias("a/b", "arm64").0, alias("a-b", "arm64").0);
        assert_eq!(alias("localhost:5000/x", "linux/arm/v7").1, "linux-arm-v7");
        assert!(Reference::parse(&alias("localhost:5000/x", "arm64").0).is_some());
    }
}
