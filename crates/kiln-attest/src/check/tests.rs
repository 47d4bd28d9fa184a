use kiln_graph::{Arch, Platform};

use super::*;
use crate::dsse::Envelope;
use crate::fixture;
use crate::ingredients::{Materials, Report};
use crate::keys::Signer;
use crate::keys::tests::{cosign, minisign};
use crate::provenance::{Built, Provenance};
use crate::sbom::{Bill, Subject};

const PROGRAM: &str = "hello-linux-x86_64";

/// A released program with all its proofs.
struct Release {
    dir: tempfile::TempDir,
    minisign: Signer,
    cosign: Signer,
}

impl Release {
    fn new() -> Self {
        let release = Self { dir: tempfile::tempdir().unwrap(), minisign: minisign(), cosign: cosign(1) };
        release.write(PROGRAM, "the program");
        let sum = Sha256::of("the program").to_string();
        let platform = Platform::linux(Arch::Amd64);
        let subject = Subject { name: "hello", version: Some("1"), file: PROGRAM, sha256: &sum, platform };
        let materials = fixture::MATERIALS.replace(fixture::SHA256, &sum);
        let materials = Materials::parse(&materials).unwrap();
        let report = Report::parse(fixture::REPORT).unwrap();
        let bill = Bill::new(subject, Some(&report), Some(&materials), 0, ("kiln", "0.1.0"));
        release.write(&format!("{PROGRAM}.cdx.json"), &bill.to_cyclonedx());
        release.write(&format!("{PROGRAM}.spdx.json"), &bill.to_spdx());
        release.state(PROGRAM, &sum);
        release.list();
        release.sign();
        release
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs_err::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).unwrap()
    }

    /// A signed statement about a file.
    fn state(&self, name: &str, sum: &str) {
        let files = vec![Built { name: name.into(), sha256: sum.into() }];
        let statement = Provenance { files, builder: "me".into(), ..Provenance::default() }.statement();
        let envelope = Envelope::sign(&statement, std::slice::from_ref(&self.cosign)).unwrap();
        self.write("hello-1.intoto.jsonl", &serde_json::to_string(&envelope).unwrap());
    }

    /// Writes the sums of all that is there.
    fn list(&self) {
        let mut sums = Sums::new();
        for name in [PROGRAM, "hello-linux-x86_64.cdx.json", "hello-linux-x86_64.spdx.json", "hello-1.intoto.jsonl"] {
            sums.insert(name, Sha256::of(fs_err::read(self.path(name)).unwrap()));
        }
        self.write(SUMS, &sums.to_string());
    }

    fn sign(&self) {
        for signer in [&self.minisign, &self.cosign] {
            signer.sign_file(&self.path(SUMS), 0).unwrap();
        }
    }

    fn trust(&self) -> Trust {
        Trust { keys: vec![self.minisign.public().unwrap(), self.cosign.public().unwrap()], ..Trust::default() }
    }

    fn check(&self, trust: &Trust) -> Vec<Checked> {
        check(&self.path(PROGRAM), trust)
    }

    /// What failed with the release's own keys trusted.
    fn failures(&self) -> Vec<String> {
        let failed = self.check(&self.trust()).into_iter().filter(|checked| checked.status == Status::Failed);
        failed.map(|c| format!("{} {}: {}", c.what, c.file.file_name().unwrap().display(), c.detail)).collect()
    }
}

#[track_caller]
fn has(failures: &[String], words: &str) {
    assert!(failures.iter().any(|failure| failure.contains(words)), "no {words:?} in {failures:#?}");
}

#[test]
fn a_good_release_is_good() {
    let release = Release::new();
    let results = release.check(&release.trust());
    assert!(results.iter().all(|checked| checked.status == Status::Ok), "{results:#?}");
    let of = |what| results.iter().filter(|checked| checked.what == what).count();
    assert_eq!((of(What::Sum), of(What::Signature), of(What::Bill), of(What::Provenance)), (1, 2, 2, 1));
    let all = check(release.dir.path(), &release.trust());
    assert!(all.iter().all(|checked| checked.status == Status::Ok) && all.len() == 6, "{all:#?}");
}

#[test]
fn a_changed_program_fits_nothing() {
    let release = Release::new();
    release.write(PROGRAM, "another program");
    let failures = release.failures();
    has(&failures, "sum hello-linux-x86_64: its SHA-256 is");
    has(&failures, "sbom hello-linux-x86_64.cdx.json: it is about a file with SHA-256");
    has(&failures, "sbom hello-linux-x86_64.spdx.json: it is about a file with SHA-256");
    has(&failures, "provenance hello-1.intoto.jsonl: it says that the SHA-256 of hello-linux-x86_64 is");
    has(&failures, "nothing here by a trusted key vouches for it");
}

#[test]
fn changed_sums_do_not_fit_their_signatures() {
    let release = Release::new();
    release.write(PROGRAM, "another program");
    release.list();
    let failures = release.failures();
    has(&failures, "SHA256SUMS.minisig: it claims the trusted minisign key");
    has(&failures, "SHA256SUMS.sig: it fits SHA256SUMS with none of the trusted cosign keys");
    has(&failures, "nothing here by a trusted key vouches for it");
    release.write(SUMS, "no sums\n");
    has(&release.failures(), "SHA256SUMS: it is no list of sums");
}

#[test]
fn changed_proofs_are_refused() {
    for name in ["hello-linux-x86_64.cdx.json", "hello-linux-x86_64.spdx.json"] {
        let release = Release::new();
        release.write(name, &release.read(name).replace("lxml", "evil"));
        has(&release.failures(), &format!("sbom {name}: its SHA-256 is"));
        release.write(name, "{}");
        release.list();
        release.sign();
        has(&release.failures(), &format!("sbom {name}: it is no bill of"));
    }
    let release = Release::new();
    let name = "hello-1.intoto.jsonl";
    let text = release.read(name);
    release.write(name, &text.replace("\"sig\":\"", "\"sig\":\"A"));
    has(&release.failures(), &format!("provenance {name}: its SHA-256 is"));
    release.list();
    release.sign();
    has(&release.failures(), "its signature claims the trusted key SHA256:");
    release.write(name, "{}\n");
    release.list();
    release.sign();
    has(&release.failures(), "line 1 is no statement of in-toto");
    release.state(PROGRAM, &"0".repeat(64));
    release.list();
    release.sign();
    has(&release.failures(), "it says that the SHA-256 of hello-linux-x86_64 is 000");
}

#[test]
fn a_bill_of_another_program_is_refused_though_it_is_signed() {
    let release = Release::new();
    release.write(PROGRAM, "the next program");
    release.state(PROGRAM, &Sha256::of("the next program").to_string());
    release.list();
    release.sign();
    let failures = release.failures();
    assert_eq!(failures.len(), 2, "{failures:#?}");
    has(&failures, "cdx.json: it is about a file with SHA-256");
    has(&failures, "spdx.json: it is about a file with SHA-256");
}

#[test]
fn changed_signatures_are_refused() {
    let release = Release::new();
    let text = release.read("SHA256SUMS.minisig");
    release.write("SHA256SUMS.minisig", &text.replace("file:SHA256SUMS", "file:SHA256SUMZ"));
    release.write("SHA256SUMS.sig", "bm8gc2lnbmF0dXJl");
    let failures = release.failures();
    has(&failures, "SHA256SUMS.minisig: it claims the trusted minisign key");
    has(&failures, "SHA256SUMS.sig: it is no signature of cosign");
    release.write("SHA256SUMS.minisig", "nonsense");
    has(&release.failures(), "SHA256SUMS.minisig: it is no signature of minisign");
}

#[test]
fn another_key_is_named() {
    let release = Release::new();
    let stranger = minisign();
    let trust = Trust { keys: vec![stranger.public().unwrap()], ..Trust::default() };
    let results = release.check(&trust);
    let id = release.minisign.public().unwrap().id();
    let minisig = results.iter().find(|checked| checked.file.ends_with("SHA256SUMS.minisig")).unwrap();
    assert_eq!(minisig.status, Status::Untrusted);
    assert!(minisig.detail.contains(&id) && minisig.hint.is_some(), "{minisig:?}");
    let demand = results.last().unwrap();
    assert_eq!((demand.what, demand.status), (What::Signature, Status::Failed));
    assert!(demand.detail.contains(&stranger.public().unwrap().id()), "{demand:?}");
    // A key of cosign does not name itself in its signatures.
    let results = release.check(&Trust { keys: vec![cosign(9).public().unwrap()], ..Trust::default() });
    assert!(results.iter().any(|c| c.detail.contains("it fits SHA256SUMS with none of the trusted cosign keys")));
}

#[test]
fn a_signature_that_was_taken_away_is_missed() {
    let release = Release::new();
    for name in ["SHA256SUMS.minisig", "SHA256SUMS.sig", "hello-1.intoto.jsonl"] {
        fs_err::remove_file(release.path(name)).unwrap();
    }
    has(&release.failures(), "nothing here by a trusted key vouches for it");
    // Nobody is trusted, so nobody is missed.
    let results = release.check(&Trust::default());
    assert!(results.iter().all(|checked| checked.status != Status::Failed), "{results:#?}");
}

#[test]
fn without_trust_nothing_is_believed_and_nothing_refused() {
    let release = Release::new();
    let results = release.check(&Trust::default());
    let untrusted = results.iter().filter(|checked| checked.status == Status::Untrusted).count();
    assert_eq!((untrusted, results.len()), (5, 6), "{results:#?}");
}

#[test]
fn each_proof_alone_vouches() {
    for keep in ["SHA256SUMS.minisig", "SHA256SUMS.sig", "hello-1.intoto.jsonl"] {
        let release = Release::new();
        for name in ["SHA256SUMS.minisig", "SHA256SUMS.sig", "hello-1.intoto.jsonl"] {
            if name != keep {
                fs_err::remove_file(release.path(name)).unwrap();
            }
        }
        assert_eq!(release.failures(), Vec::<String>::new(), "{keep}");
    }
    let release = Release::new();
    fs_err::remove_file(release.path(SUMS)).unwrap();
    fs_err::remove_file(release.path("hello-1.intoto.jsonl")).unwrap();
    release.minisign.sign_file(&release.path(PROGRAM), 0).unwrap();
    assert_eq!(release.failures(), Vec::<String>::new());
}

#[test]
fn a_bare_file_lacks_everything() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("program"), "x").unwrap();
    let results = check(&dir.path().join("program"), &Trust::default());
    assert!(results.iter().all(|checked| checked.status == Status::Absent), "{results:#?}");
    assert_eq!(results.len(), 4);
    let results = check(&dir.path().join("none"), &Trust::default());
    assert_eq!(results[0].status, Status::Failed);
    assert_eq!(check(dir.path(), &Trust::default())[0].status, Status::Absent);
}
