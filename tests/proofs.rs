//! Proofs of releases, held against tools that are not ours: validators of bills of materials, minisign, openssl.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kiln_artifact::checksum::Sha256;
use kiln_attest::check::{Status, Trust, What, check};
use kiln_attest::ingredients::{Materials, Report};
use kiln_attest::keys::{PublicKey, Signer};
use kiln_attest::sbom::{Bill, Subject};
use kiln_e2e::needed;
use kiln_graph::{Arch, Platform};

const FILE: &str = "hello-linux-x86_64";
const CONTENT: &str = "the program";

/// A folder with a file to sign.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join(FILE), CONTENT).expect("written");
    dir
}

fn ours(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/kiln-attest/tests").join(name);
    std::fs::read_to_string(path).expect("a file of ours")
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

fn trust(key: &str) -> Trust {
    Trust { keys: vec![PublicKey::parse(key).expect("a key")], ..Trust::default() }
}

/// The status of the one signature of the file.
fn signature(folder: &Path, trust: &Trust) -> Status {
    let results = check(&folder.join(FILE), trust);
    results.iter().find(|result| result.what == What::Signature).expect("it is signed").status
}

#[test]
fn bills_are_valid_to_validators_that_are_not_ours() {
    let Some(python) = needed("KILN_TEST_BILL_PYTHON") else { return };
    let dir = folder();
    let sha256 = Sha256::of(CONTENT).to_string();
    let report = Report::parse(&ours("fixture/report.xml")).expect("a report");
    let mut materials: serde_json::Value = serde_json::from_str(&ours("fixture/materials.json")).expect("JSON");
    materials["result"]["sha256"] = sha256.clone().into();
    let materials = Materials::parse(&materials.to_string()).expect("materials");
    let platform = Platform::linux(Arch::Amd64);
    let (cyclonedx, spdx) = (dir.path().join("x.cdx.json"), dir.path().join("x.spdx.json"));
    let validate = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("proofs/validate.py");
        Command::new(&python).arg(script).args([&cyclonedx, &spdx]).output().expect("python runs")
    };
    let cases = [(Some(&report), Some(&materials), Some("1.0.0")), (Some(&report), None, None), (None, None, None)];
    for (report, materials, version) in cases {
        let subject = Subject { name: "hello", version, file: FILE, sha256: &sha256, platform };
        let bill = Bill::new(subject, report, materials, 1_700_000_000, ("kiln", "0.1.0"));
        std::fs::write(&cyclonedx, bill.to_cyclonedx()).expect("written");
        std::fs::write(&spdx, bill.to_spdx()).expect("written");
        let output = validate();
        assert!(output.status.success(), "{output:?}");
    }
    // A validator that finds nothing wrong with anything would prove nothing.
    for (path, right, wrong) in
        [(&cyclonedx, "\"application\"", "\"whatever\""), (&spdx, "\"APPLICATION\"", "\"WHATEVER\"")]
    {
        let text = std::fs::read_to_string(path).expect("read");
        assert_ne!(text, text.replace(right, wrong));
        std::fs::write(path, text.replace(right, wrong)).expect("written");
        let output = validate();
        assert!(!output.status.success(), "{output:?}");
        std::fs::write(path, text).expect("written");
    }
}

#[test]
fn minisign_and_we_believe_each_other() {
    let Some(minisign) = needed("KILN_TEST_MINISIGN") else { return };
    let dir = folder();
    let minisign = |arguments: &[&str]| {
        let mut command = Command::new(&minisign);
        command.args(arguments).current_dir(dir.path());
        command
    };
    run(&mut minisign(&["-G", "-W", "-p", "key.pub", "-s", "key"]));
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("read");
    let signer = Signer::minisign(&read("key"), None).expect("a key of minisign's");
    let file: PathBuf = dir.path().join(FILE);

    signer.sign_file(&file, 1_700_000_000).expect("signed");
    let output = run(&mut minisign(&["-V", "-p", "key.pub", "-m", FILE]));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("timestamp:1700000000") && said.contains(FILE), "{said}");

    let ours = read(&format!("{FILE}.minisig"));
    std::fs::remove_file(dir.path().join(format!("{FILE}.minisig"))).expect("removed");
    run(&mut minisign(&["-S", "-W", "-s", "key", "-m", FILE]));
    assert_ne!(read(&format!("{FILE}.minisig")), ours);
    assert_eq!(signature(dir.path(), &trust(&read("key.pub"))), Status::Ok);

    std::fs::write(&file, "another program").expect("written");
    assert!(!minisign(&["-V", "-p", "key.pub", "-m", FILE]).output().expect("it runs").status.success());
    assert_eq!(signature(dir.path(), &trust(&read("key.pub"))), Status::Failed);
}

/// cosign's signatures of files are ECDSA over SHA-256 in base64, its public keys PEM: openssl knows both.
#[test]
fn openssl_and_we_believe_each_other() {
    let Some(openssl) = needed("KILN_TEST_OPENSSL") else { return };
    let dir = folder();
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new(&openssl);
        command.args(arguments).current_dir(dir.path());
        command
    };
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("read");
    std::fs::write(dir.path().join("cosign.pub"), ours("keys/cosign.pub")).expect("written");
    let locked = Signer::cosign(&ours("keys/cosign.key"), Some("open sesame")).expect("a locked key");
    locked.sign_file(&dir.path().join(FILE), 0).expect("signed");
    let signature_file = format!("{FILE}.sig");
    run(&mut openssl(&["base64", "-d", "-A", "-in", &signature_file, "-out", "signature"]));
    run(&mut openssl(&["dgst", "-sha256", "-verify", "cosign.pub", "-signature", "signature", FILE]));

    run(&mut openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem"]));
    run(&mut openssl(&["pkey", "-in", "key.pem", "-pubout", "-out", "key.pub"]));
    let made = Signer::cosign(&read("key.pem"), None).expect("a key of openssl's");
    assert_eq!(made.public().expect("a half").id(), PublicKey::parse(&read("key.pub")).expect("a key").id());
    run(&mut openssl(&["dgst", "-sha256", "-sign", "key.pem", "-out", "signature", FILE]));
    run(&mut openssl(&["base64", "-A", "-in", "signature", "-out", &signature_file]));
    assert_eq!(signature(dir.path(), &trust(&read("key.pub"))), Status::Ok);
    std::fs::write(dir.path().join(FILE), "another program").expect("written");
    assert_eq!(signature(dir.path(), &trust(&read("key.pub"))), Status::Failed);
}
