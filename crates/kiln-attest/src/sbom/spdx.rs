//! SPDX 2.3, JSON. Source: the specification at spdx.github.io/spdx-spec/v2.3.
//!
//! Bundled files are packages with the purpose `FILE`: files of SPDX need a SHA-1, which says nothing any more.

#![expect(clippy::struct_field_names, reason = "they are those of the format")]

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Bill, Component, Kind, SUBJECT};
use crate::epoch::moment;

const NOTHING: &str = "NOASSERTION";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    spdx_version: &'a str,
    data_license: &'a str,
    #[serde(rename = "SPDXID")]
    id: &'a str,
    name: &'a str,
    document_namespace: String,
    creation_info: Creation,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    packages: Vec<Package>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct Creation {
    created: String,
    creators: [String; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version_info: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_file_name: Option<String>,
    primary_package_purpose: &'static str,
    download_location: &'static str,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    license_concluded: &'static str,
    license_declared: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_comments: Option<String>,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<Reference>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

/// The bill's text.
pub(super) fn write(bill: &Bill<'_>) -> String {
    let ids = ids(bill);
    let packages = [program(bill)].into_iter().chain(bill.components.iter().map(|c| package(c, &ids[&*c.id])));
    let document = Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: DOCUMENT,
        name: bill.subject.file,
        document_namespace: format!("https://spdx.org/spdxdocs/kiln-{}", bill.uuid()),
        creation_info: Creation {
            created: moment(bill.epoch),
            creators: [format!("Tool: {}-{}", bill.tool.0, bill.tool.1)],
        },
        comment: (!bill.gaps.is_empty()).then(|| bill.gaps.join("\n")),
        packages: packages.collect(),
        relationships: relationships(bill, &ids),
    };
    let mut text = serde_json::to_string_pretty(&document).expect("texts and numbers alone");
    text.push('\n');
    text
}

/// Ids of SPDX, which have letters, digits, `.` and `-` alone, by those of the bill.
fn ids<'a>(bill: &'a Bill<'_>) -> BTreeMap<&'a str, String> {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let mut unique = |id: &str| {
        let fit: String = id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let count = taken.entry(fit.clone()).or_default();
        *count += 1;
        if *count == 1 { format!("SPDXRef-{fit}") } else { format!("SPDXRef-{fit}-{count}") }
    };
    let all = [SUBJECT].into_iter().chain(bill.components.iter().map(|component| component.id.as_str()));
    all.map(|id| (id, unique(id))).collect()
}

fn program(bill: &Bill<'_>) -> Package {
    let subject = &bill.subject;
    let version = subject.version.unwrap_or_default();
    Package {
        id: format!("SPDXRef-{SUBJECT}"),
        name: subject.name.to_owned(),
        version_info: version.to_owned(),
        package_file_name: Some(subject.file.to_owned()),
        primary_package_purpose: "APPLICATION",
        download_location: NOTHING,
        files_analyzed: false,
        checksums: checksums(Some(subject.sha256)),
        license_concluded: NOTHING,
        license_declared: NOTHING.to_owned(),
        license_comments: None,
        copyright_text: NOTHING,
        comment: Some(format!("Built for {}.", subject.platform)),
        external_refs: reference(Some(&super::purl::generic(subject.name, version))),
    }
}

fn package(component: &Component, id: &str) -> Package {
    let license = component.license.as_ref();
    let declared = license.and_then(|license| license.expression());
    let words = license.filter(|_| declared.is_none()).map(|license| match license {
        super::License::Named(words) => format!("Its metadata says: {words}"),
        super::License::Id(text) | super::License::Expression(text) => text.clone(),
    });
    let notes: Vec<String> = component.notes.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    Package {
        id: id.to_owned(),
        name: component.name.clone(),
        version_info: component.version.clone(),
        package_file_name: (component.kind == Kind::File).then(|| component.name.clone()),
        primary_package_purpose: match component.kind {
            Kind::Interpreter | Kind::Library => "LIBRARY",
            Kind::File => "FILE",
            Kind::Tool => "APPLICATION",
        },
        download_location: NOTHING,
        files_analyzed: false,
        checksums: checksums(component.sha256.as_deref()),
        license_concluded: NOTHING,
        license_declared: declared.unwrap_or(NOTHING).to_owned(),
        license_comments: words,
        copyright_text: NOTHING,
        comment: (!notes.is_empty()).then(|| notes.join("\n")),
        external_refs: reference(component.purl.as_deref()),
    }
}

fn relationships(bill: &Bill<'_>, ids: &BTreeMap<&str, String>) -> Vec<Relationship> {
    let relation = |from: &str, kind, to: &str| Relationship {
        spdx_element_id: from.to_owned(),
        relationship_type: kind,
        related_spdx_element: to.to_owned(),
    };
    let program = ids[SUBJECT].as_str();
    let mut list = vec![relation(DOCUMENT, "DESCRIBES", program)];
    for component in &bill.components {
        let id = ids[&*component.id].as_str();
        match (component.kind, &component.parent) {
            (Kind::Tool, _) => list.push(relation(id, "BUILD_TOOL_OF", program)),
            (_, Some(parent)) => list.push(relation(&ids[&**parent], "CONTAINS", id)),
            (_, None) => list.push(relation(program, "CONTAINS", id)),
        }
    }
    for (user, used) in &bill.needs {
        list.extend(used.iter().map(|used| relation(&ids[&**user], "DEPENDS_ON", &ids[&**used])));
    }
    list
}

fn checksums(sha256: Option<&str>) -> Vec<Checksum> {
    sha256.map(|sum| Checksum { algorithm: "SHA256", checksum_value: sum.to_owned() }).into_iter().collect()
}

fn reference(purl: Option<&str>) -> Vec<Reference> {
    let reference = |purl: &str| Reference {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: purl.to_owned(),
    };
    purl.map(reference).into_iter().collect()
}
