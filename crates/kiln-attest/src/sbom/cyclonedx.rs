//! CycloneDX 1.6, JSON. Source: the specification at cyclonedx.org, schema `bom-1.6.schema.json`.

use serde::Serialize;

use super::license::License;
use super::{Bill, Component, Kind, SUBJECT};
use crate::epoch::moment;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom<'a> {
    #[serde(rename = "$schema")]
    schema: &'a str,
    #[serde(rename = "bomFormat")]
    format: &'a str,
    spec_version: &'a str,
    serial_number: String,
    version: u32,
    metadata: Metadata<'a>,
    components: Vec<Part<'a>>,
    dependencies: Vec<Dependency<'a>>,
    compositions: Vec<Composition<'a>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    timestamp: String,
    lifecycles: [Lifecycle<'a>; 1],
    tools: Tools<'a>,
    component: Part<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property<'a>>,
}

#[derive(Serialize)]
struct Lifecycle<'a> {
    phase: &'a str,
}

#[derive(Serialize)]
struct Tools<'a> {
    components: [Part<'a>; 1],
}

#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Part<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bom_ref: Option<&'a str>,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Self>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property<'a>>,
}

#[derive(Serialize)]
struct Hash<'a> {
    alg: &'a str,
    content: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Choice<'a> {
    License(Licence<'a>),
    #[serde(untagged)]
    Expression {
        expression: &'a str,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Licence<'a> {
    Id(&'a str),
    Name(&'a str),
}

#[derive(Serialize)]
struct Property<'a> {
    name: &'a str,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency<'a> {
    r#ref: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<&'a str>,
}

#[derive(Serialize)]
struct Composition<'a> {
    aggregate: &'a str,
    assemblies: [&'a str; 1],
}

/// The bill's text.
pub(super) fn write(bill: &Bill<'_>) -> String {
    let subject = &bill.subject;
    let program = Part {
        r#type: "application",
        bom_ref: Some(SUBJECT),
        name: subject.name,
        version: subject.version.unwrap_or_default(),
        hashes: hashes(Some(subject.sha256)),
        purl: Some(super::purl::generic(subject.name, subject.version.unwrap_or_default())),
        properties: vec![
            Property { name: "kiln:file", value: subject.file.to_owned() },
            Property { name: "kiln:platform", value: subject.platform.to_string() },
        ],
        ..Part::default()
    };
    let tool = Part { r#type: "application", name: bill.tool.0, version: bill.tool.1, ..Part::default() };
    let top = bill.components.iter().filter(|component| component.parent.is_none());
    let inside = bill.components.iter().filter(|component| component.kind != Kind::Tool);
    let ids = [SUBJECT].into_iter().chain(inside.map(|component| component.id.as_str()));
    let dependencies = ids.map(|id| Dependency {
        r#ref: id,
        depends_on: bill.needs.get(id).into_iter().flatten().map(String::as_str).collect(),
    });
    // Never complete: see `VENDORED`.
    let aggregate = if bill.is_known { "incomplete" } else { "unknown" };
    let bom = Bom {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        format: "CycloneDX",
        spec_version: "1.6",
        serial_number: bill.uuid().urn().to_string(),
        version: 1,
        metadata: Metadata {
            timestamp: moment(bill.epoch),
            lifecycles: [Lifecycle { phase: "build" }],
            tools: Tools { components: [tool] },
            component: program,
            properties: bill.gaps.iter().map(|gap| Property { name: "kiln:gap", value: gap.clone() }).collect(),
        },
        components: top.map(|component| part(bill, component)).collect(),
        dependencies: dependencies.collect(),
        compositions: vec![Composition { aggregate, assemblies: [SUBJECT] }],
    };
    let mut text = serde_json::to_string_pretty(&bom).expect("texts and numbers alone");
    text.push('\n');
    text
}

fn part<'a>(bill: &'a Bill<'_>, component: &'a Component) -> Part<'a> {
    let children = bill.components.iter().filter(|child| child.parent.as_ref() == Some(&component.id));
    Part {
        r#type: match component.kind {
            Kind::Interpreter => "platform",
            Kind::Library => "library",
            Kind::File => "file",
            Kind::Tool => "application",
        },
        bom_ref: Some(&component.id),
        name: &component.name,
        version: &component.version,
        // "Excluded" is what is not inside of the product.
        scope: Some(if component.kind == Kind::Tool { "excluded" } else { "required" }),
        hashes: hashes(component.sha256.as_deref()),
        licenses: component.license.iter().map(choice).collect(),
        purl: component.purl.clone(),
        components: children.map(|child| part(bill, child)).collect(),
        properties: component.notes.iter().map(|(name, value)| Property { name, value: value.clone() }).collect(),
    }
}

fn choice(license: &License) -> Choice<'_> {
    match license {
        License::Id(id) => Choice::License(Licence::Id(id)),
        License::Named(name) => Choice::License(Licence::Name(name)),
        License::Expression(expression) => Choice::Expression { expression },
    }
}

fn hashes(sha256: Option<&str>) -> Vec<Hash<'_>> {
    sha256.map(|content| Hash { alg: "SHA-256", content }).into_iter().collect()
}
