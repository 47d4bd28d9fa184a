//! Artifact names: a pattern with placeholders, and the relative path that it gives for one platform.

use std::fmt;
use std::str::FromStr;

use kiln_graph::Platform;

use crate::suggest::nearest;

/// A name pattern such as `{name}-linux-{arch}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactPattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Name,
    Version,
    Arch,
    Platform,
}

/// A text that is no artifact pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// A placeholder that does not exist.
    #[error("unknown placeholder {{{given}}}{}", suggestion.map(|known| format!(", did you mean {{{known}}}?")).unwrap_or_default())]
    UnknownPlaceholder {
        /// What stands between the braces.
        given: String,
        /// The placeholder that it most resembles.
        suggestion: Option<&'static str>,
    },
    /// A brace without its partner.
    #[error("a brace without its partner")]
    Unbalanced,
    /// The result would not stay inside the output folder.
    #[error("the artifact must stay inside the output folder: set `build.output` to write elsewhere")]
    Outside,
    /// The result would not be a portable file name.
    #[error("a file name ends with neither `/` nor blanks and has no control characters, `\\` or empty parts")]
    NotAFileName,
}

const PLACEHOLDERS: [(&str, Part); 4] =
    [("name", Part::Name), ("version", Part::Version), ("arch", Part::Arch), ("platform", Part::Platform)];

impl FromStr for ArtifactPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(open);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let inner = after.strip_prefix('{').ok_or(PatternError::Unbalanced)?;
            let (word, tail) = inner.split_once('}').ok_or(PatternError::Unbalanced)?;
            let (_, part) = PLACEHOLDERS.iter().find(|(known, _)| *known == word).ok_or_else(|| {
                PatternError::UnknownPlaceholder {
                    given: word.to_owned(),
                    suggestion: nearest(word, PLACEHOLDERS.iter().map(|(known, _)| *known))
                        .and_then(|found| PLACEHOLDERS.iter().find(|(known, _)| *known == found))
                        .map(|(known, _)| *known),
                }
            })?;
            parts.push(part.clone());
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let pattern = Self { parts };
        // What the placeholders stand for is checked where it is read, so a stand-in tells whether the rest is safe.
        check(&pattern.fill("n", "v", "a", "p"))?;
        Ok(pattern)
    }
}

impl ArtifactPattern {
    /// The path of the artifact below the output folder, `/`-separated.
    ///
    /// `{arch}` is the artifact name of the architecture (`x86_64`, `i686`, `arm64`), `{platform}` the platform's folder name
    /// (`linux_arm64`). A missing version is `0`.
    pub fn expand(&self, name: &str, version: Option<&str>, platform: Platform) -> String {
        self.fill(name, version.unwrap_or("0"), platform.arch.artifact_name(), &platform.folder())
    }

    /// Whether the pattern uses `{version}`.
    pub fn uses_version(&self) -> bool {
        self.parts.contains(&Part::Version)
    }

    fn fill(&self, name: &str, version: &str, arch: &str, platform: &str) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text,
                Part::Name => name,
                Part::Version => version,
                Part::Arch => arch,
                Part::Platform => platform,
            })
            .collect()
    }
}

fn check(path: &str) -> Result<(), PatternError> {
    if path.starts_with('/') || path.split(['/', '\\']).any(|part| part == "..") {
        return Err(PatternError::Outside);
    }
    let good_part = |part: &str| !part.is_empty() && part != "." && part.trim() == part;
    if !path.split('/').all(good_part) || path.contains(|c: char| c.is_control() || c == '\\') {
        return Err(PatternError::NotAFileName);
    }
    Ok(())
}

impl fmt::Display for ArtifactPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fill("{name}", "{version}", "{arch}", "{platform}"))
    }
}

#[cfg(test)]
mod tests {
    use kiln_graph::Arch;

    use super::*;

    #[test]
    fn patterns_expand() {
        for (pattern, expected) in [
            ("{name}-linux-{arch}", "tool-linux-armv7"),
            ("{platform}/{name}-{version}", "linux_arm_v7/tool-1.2"),
            ("fixed", "fixed"),
            ("..{name}", "..tool"),
        ] {
            let parsed: ArtifactPattern = pattern.parse().unwrap();
            assert_eq!(parsed.expand("tool", Some("1.2"), Platform::linux(Arch::ArmV7)), expected);
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn unsafe_and_malformed_patterns_are_refused() {
        for pattern in ["/tmp/{name}", "../{name}", "a/../../b", "..", "a\\..\\b"] {
            assert_eq!(pattern.parse::<ArtifactPattern>(), Err(PatternError::Outside), "{pattern}");
        }
        for pattern in ["", "a/", "a//b", "./a", " a", "a\nb", "a\\b"] {
            assert_eq!(pattern.parse::<ArtifactPattern>(), Err(PatternError::NotAFileName), "{pattern}");
        }
        for pattern in ["{name", "name}", "{{name}}"] {
            assert!(pattern.parse::<ArtifactPattern>().is_err(), "{pattern}");
        }
        assert_eq!(
            "{name}-{arhc}".parse::<ArtifactPattern>().unwrap_err().to_string(),
            "unknown placeholder {arhc}, did you mean {arch}?"
        );
    }
}
