//! How files were built: a statement of in-toto with SLSA's provenance. Source: in-toto.io/Statement/v1 and
//! slsa.dev/spec/v1.0/provenance.
//!
//! [`Provenance`] is what is known of a build; [`Provenance::statement`] says it in the form's words. `ARCHITECTURE.md`
//! describes what the parameters mean, which is what [`BUILD_TYPE`] refers to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::epoch::moment_of_millis;
use crate::ingredients::Materials;
use crate::sbom::purl;

/// The form of a statement.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The form of what it says.
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// The meaning of a build's parameters.
pub const BUILD_TYPE: &str = "https://github.com/kiln-build/kiln/blob/main/ARCHITECTURE.md#provenance-v1";
/// Who builds where no service does.
pub const LOCAL_BUILDER: &str = "https://github.com/kiln-build/kiln#local";

/// A file that was built.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Built {
    /// Its name, as it is published.
    pub name: String,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Something that a build used.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Resource {
    /// Where it comes from: `git+https://...@ref`, `pkg:docker/...`, `pkg:pypi/...`; empty where only a digest is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Its digests by algorithm, in hexadecimal: `sha256`, `gitCommit`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    /// What it was used as.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// More about it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is known of a build.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// All files.
    pub files: Vec<Built>,
    /// Who built: the workflow of a service, or [`LOCAL_BUILDER`].
    pub builder: String,
    /// Versions of what built, by name.
    pub versions: BTreeMap<String, String>,
    /// What the user chose.
    pub external: BTreeMap<String, serde_json::Value>,
    /// What the builder chose.
    pub internal: BTreeMap<String, serde_json::Value>,
    /// What was used.
    pub resources: Vec<Resource>,
    /// What the run is called: its address at a service, or the id of the build.
    pub invocation: String,
    /// When it began, in milliseconds since 1970.
    pub started: Option<i64>,
    /// When it ended, in milliseconds since 1970.
    pub finished: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a> {
    #[serde(rename = "_type")]
    form: &'a str,
    subject: Vec<Subject<'a>>,
    predicate_type: &'a str,
    predicate: Predicate<'a>,
}

#[derive(Serialize)]
struct Subject<'a> {
    name: &'a str,
    digest: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Predicate<'a> {
    build_definition: Definition<'a>,
    run_details: Details<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    build_type: &'a str,
    external_parameters: &'a BTreeMap<String, serde_json::Value>,
    internal_parameters: &'a BTreeMap<String, serde_json::Value>,
    resolved_dependencies: Vec<Resource>,
}

#[derive(Serialize)]
struct Details<'a> {
    builder: Builder<'a>,
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Builder<'a> {
    id: &'a str,
    version: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    invocation_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_on: Option<String>,
}

impl Provenance {
    /// The statement, as JSON in one line. Its order does not depend on that of what was given.
    pub fn statement(&self) -> String {
        let mut files: Vec<&Built> = self.files.iter().collect();
        files.sort();
        let mut resolved_dependencies = self.resources.clone();
        resolved_dependencies.sort();
        resolved_dependencies.dedup();
        let statement = Statement {
            form: STATEMENT,
            subject: files
                .into_iter()
                .map(|file| Subject { name: &file.name, digest: BTreeMap::from([("sha256", file.sha256.as_str())]) })
                .collect(),
            predicate_type: PREDICATE,
            predicate: Predicate {
                build_definition: Definition {
                    build_type: BUILD_TYPE,
                    external_parameters: &self.external,
                    internal_parameters: &self.internal,
                    resolved_dependencies,
                },
                run_details: Details {
                    builder: Builder { id: &self.builder, version: &self.versions },
                    metadata: Metadata {
                        invocation_id: &self.invocation,
                        started_on: self.started.map(moment_of_millis),
                        finished_on: self.finished.map(moment_of_millis),
                    },
                },
            },
        };
        serde_json::to_string(&statement).expect("texts and numbers alone")
    }
}

impl Materials {
    /// Distributions and system packages as resources of a build. Their versions name them: package managers keep no
    /// digests of what they installed.
    pub fn resources(&self) -> Vec<Resource> {
        let resource = |uri: String, name: &str| Resource { uri, name: name.to_owned(), ..Resource::default() };
        let distributions = self.distributions.iter().map(|distribution| {
            let commit = distribution.commit.iter().map(|commit| ("gitCommit".to_owned(), commit.clone()));
            Resource { digest: commit.collect(), ..resource(purl::pypi(distribution), "distribution") }
        });
        let packages =
            self.packages.iter().map(|package| resource(purl::system(package, &self.system), "system package"));
        distributions.chain(packages).collect()
    }
}

/// What a check needs of a statement.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Said {
    #[serde(rename = "_type")]
    pub(crate) form: String,
    pub(crate) subject: Vec<SaidSubject>,
    pub(crate) predicate_type: String,
    #[serde(default)]
    pub(crate) predicate: serde_json::Value,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SaidSubject {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) digest: BTreeMap<String, String>,
}

impl Said {
    /// Who it says built.
    pub(crate) fn builder(&self) -> &str {
        let id = self.predicate.pointer("/runDetails/builder/id").and_then(serde_json::Value::as_str);
        id.unwrap_or("somebody who is not named")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Provenance {
        let digest = |kind: &str, hex: &str| BTreeMap::from([(kind.to_owned(), hex.to_owned())]);
        Provenance {
            files: ["b", "a"].map(|name| Built { name: name.into(), sha256: name.repeat(64) }).into(),
            builder: LOCAL_BUILDER.into(),
            versions: BTreeMap::from([("kiln".to_owned(), "0.1.0".to_owned())]),
            external: BTreeMap::from([("recipe".to_owned(), "debian".into())]),
            internal: BTreeMap::new(),
            resources: vec![
                Resource {
                    uri: "pkg:docker/debian@bookworm".into(),
                    digest: digest("sha256", "01"),
                    ..Resource::default()
                },
                Resource {
                    uri: "git+https://example.org/hello@refs/heads/main".into(),
                    digest: digest("gitCommit", "02"),
                    name: "source".into(),
                    annotations: BTreeMap::from([("dirty".to_owned(), "true".to_owned())]),
                },
            ],
            invocation: "65b1".into(),
            started: Some(1_700_000_000_999),
            finished: Some(1_700_000_060_000),
        }
    }

    #[test]
    fn a_statement() {
        let json: serde_json::Value = serde_json::from_str(&example().statement()).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
        let said: Said = serde_json::from_value(json).unwrap();
        assert_eq!((said.builder(), said.subject.len()), (LOCAL_BUILDER, 2));
        assert_eq!((said.form.as_str(), said.predicate_type.as_str()), (STATEMENT, PREDICATE));
    }

    #[test]
    fn the_order_of_what_is_given_does_not_matter() {
        let mut other = example();
        other.files.reverse();
        other.resources.reverse();
        other.resources.push(other.resources[0].clone());
        assert_eq!(other.statement(), example().statement());
    }
}
