use kiln_graph::{Arch, Platform};
use serde_json::Value;

use super::*;
use crate::fixture;

fn subject(sha256: &str) -> Subject<'_> {
    let platform = Platform::linux(Arch::Amd64);
    Subject { name: "hello", version: Some("1.0.0"), file: "hello-linux-x86_64", sha256, platform }
}

fn bill(materials: Option<&Materials>, sha256: &'static str) -> Bill<'static> {
    let report = Report::parse(fixture::REPORT).unwrap();
    Bill::new(subject(sha256), Some(&report), materials, 1_700_000_000, ("kiln", "0.1.0"))
}

fn whole() -> Bill<'static> {
    bill(Some(&Materials::parse(fixture::MATERIALS).unwrap()), fixture::SHA256)
}

#[test]
fn both_forms() {
    insta::assert_snapshot!("cyclonedx", whole().to_cyclonedx());
    insta::assert_snapshot!("spdx", whole().to_spdx());
}

#[test]
fn the_same_build_has_the_same_bill_and_another_one_another() {
    assert_eq!(whole().to_cyclonedx(), whole().to_cyclonedx());
    assert_eq!(whole().to_spdx(), whole().to_spdx());
    let mut materials = Materials::parse(fixture::MATERIALS).unwrap();
    materials.packages[4].version.push('1');
    assert_ne!(bill(Some(&materials), fixture::SHA256).uuid(), whole().uuid());
}

#[test]
fn what_is_not_known_is_said() {
    let without = bill(None, fixture::SHA256);
    assert!(without.gaps().iter().any(|gap| gap.contains("no list of materials")), "{:?}", without.gaps());
    let json: Value = serde_json::from_str(&without.to_cyclonedx()).unwrap();
    assert_eq!(json["compositions"][0]["aggregate"], "incomplete");
    assert!(json["components"].as_array().unwrap().iter().any(|c| c["purl"] == "pkg:pypi/rich@13.9.4"));

    let materials = Materials::parse(fixture::MATERIALS).unwrap();
    let other = "0000000000000000000000000000000000000000000000000000000000000001";
    for bill in [bill(Some(&materials), other), Bill::new(subject(other), None, None, 0, ("kiln", "0.1.0"))] {
        let json: Value = serde_json::from_str(&bill.to_cyclonedx()).unwrap();
        assert_eq!(json["compositions"][0]["aggregate"], "unknown");
        assert_eq!(json["components"].as_array().map(Vec::len), Some(0));
        assert_eq!(bill.gaps().len(), 1);
        let json: Value = serde_json::from_str(&bill.to_spdx()).unwrap();
        assert!(json["comment"].as_str().unwrap().starts_with("What is inside is not known"));
    }
    let gaps = whole();
    assert!(gaps.gaps().iter().any(|gap| gap.contains("libodd.so.1")), "{:?}", gaps.gaps());
    assert!(gaps.gaps().iter().any(|gap| gap.contains("licence of rich")), "{:?}", gaps.gaps());
}

#[test]
fn every_reference_leads_somewhere() {
    let json: Value = serde_json::from_str(&whole().to_spdx()).unwrap();
    let mut ids: Vec<&str> = json["packages"].as_array().unwrap().iter().filter_map(|p| p["SPDXID"].as_str()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    for relation in json["relationships"].as_array().unwrap() {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            let id = relation[end].as_str().unwrap();
            assert!(id == "SPDXRef-DOCUMENT" || ids.contains(&id), "{id}");
        }
    }
}
