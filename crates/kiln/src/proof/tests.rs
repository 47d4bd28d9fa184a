//! A release of a project that was built once, from its settings to its checks.

use kiln_artifact::checksum::{self, Sha256};
use kiln_attest::check::{Checked, Status, Trust, What, check};
use kiln_graph::Arch;
use kiln_history::record::{Artifact, Image, Outcome, Record, Source, Target, VERSION};
use kiln_history::{History, Keep};
use serde_json::Value;

use super::keyless::sign_keyless;
use super::keys::trust;
use super::*;
use crate::cli;

const PLATFORM: Platform = Platform::linux(Arch::Amd64);
const REPORT: &str = include_str!("../../../kiln-attest/tests/fixture/report.xml");
const MATERIALS: &str = include_str!("../../../kiln-attest/tests/fixture/materials.json");
/// The key of `pkcs8.pem`; the one of `cosign.pub` is another.
const KEY: &str = include_str!("../../../kiln-attest/tests/keys/pkcs8.pem");
const LOCKED: &str = include_str!("../../../kiln-attest/tests/keys/cosign.key");
const LOCKED_PUBLIC: &str = include_str!("../../../kiln-attest/tests/keys/cosign.pub");
const SETTINGS: &str = "[project]\nname = \"hello\"\nversion = \"1.0.0\"\nentry = \"main.py\"\n\
    [build]\nrecipe = \"debian\"\nplatforms = [\"linux/amd64\"]\n";

struct Example {
    dir: tempfile::TempDir,
    environment: Environment,
}

impl Example {
    /// A project that was built at a commit, with more settings.
    fn new(more: &str, variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let nowhere = dir.path().join("none");
        let environment = Environment { variables, config_folder: nowhere, config_file: None, ..Environment::read() };
        let example = Self { dir, environment };
        example.write("kiln.toml", &format!("{SETTINGS}{more}"));
        example.write("main.py", "print('hello')\n");
        example.write("dist/hello-linux-x86_64", "the program");
        example.write(".kiln/reports/linux_amd64/report.xml", REPORT);
        let sum = Sha256::of("the program").to_string();
        let materials: Value = serde_json::from_str(MATERIALS).expect("JSON");
        let of_other = materials["result"]["sha256"].as_str().expect("text");
        example.write(".kiln/reports/linux_amd64/materials.json", &MATERIALS.replace(of_other, &sum));
        let image = |reference: &str, digest: Option<&str>| Image {
            reference: reference.to_owned(),
            platform: PLATFORM,
            id: "sha256:1234".to_owned(),
            digest: digest.map(str::to_owned),
        };
        let artifact =
            Artifact { path: "dist/hello-linux-x86_64".into(), size: 11, sha256: Some(sum), needs: None, smoke: None };
        let target = |ran: usize| Target {
            name: String::new(),
            platform: PLATFORM,
            way: "native".into(),
            outcome: Outcome::Done,
            up_to_date: ran == 0,
            seconds: 60.0,
            container_seconds: 50.0,
            ran,
            cached: 0,
            ccache: None,
            artifacts: vec![artifact.clone()],
            image: None,
            policy: Some("lto=yes jobs=2".into()),
            error: None,
        };
        let record = |number: i64, ran: usize| Record {
            version: VERSION,
            id: format!("b{number}"),
            command: "build".into(),
            started: 1_700_000_000_000 + number * 1_000_000,
            seconds: 60.0,
            source: Source { commit: Some("0123456789abcdef0123456789abcdef01234567".into()), branch: None },
            images: vec![image("debian:bookworm", Some("sha256:abcd")), image("localhost:5000/mine", None)],
            targets: vec![target(ran)],
            ..Record::default()
        };
        let mut history = History::open(&crate::history::of_project(example.dir.path())).expect("a history");
        // The second build found everything there: the first one is where the program comes from.
        for (number, ran) in [(1, 8), (2, 0)] {
            history.add(&record(number, ran), &[], Keep::default()).expect("added");
        }
        example
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs_err::write(path, text).expect("written");
    }

    fn read(&self, name: &str) -> Value {
        let text = fs_err::read_to_string(self.dir.path().join("dist").join(name)).expect("read");
        serde_json::from_str(&text).expect("JSON")
    }

    fn project(&self) -> Project {
        let args = cli::Project { path: self.dir.path().to_owned(), ..cli::Project::default() };
        crate::project::load(&self.environment, &args, Vec::new()).expect("a project")
    }

    /// Makes the proofs, lists all files and signs.
    fn release(&self) -> Result<(Made, Vec<PathBuf>)> {
        let (project, into) = (self.project(), self.dir.path().join("dist"));
        let making = making(&self.environment, &project, &into);
        let released = |name: &str, content: &str, kind| {
            let path = into.join(name);
            fs_err::write(&path, content).expect("written");
            Released { path, sha256: Sha256::of(content).to_string(), kind }
        };
        let program = released("hello-linux-x86_64", "the program", Kind::Program(PLATFORM));
        let package = released("hello-1.0.0.tar.gz", "the program, packed", Kind::Package);
        let signers = keys::signers(&self.environment, &project)?;
        let made = write(&making, &[package.clone(), program.clone()], &signers, &into)?;
        checksum::update(&into, &[&[package.path, program.path], made.files.as_slice()].concat()).expect("sums");
        let signatures = sign(&making, &signers)?;
        Ok((made, signatures))
    }

    fn check(&self, trust: &Trust) -> Vec<Checked> {
        check(&self.dir.path().join("dist/hello-linux-x86_64"), trust)
    }
}

fn making<'a>(environment: &'a Environment, project: &'a Project, into: &'a Path) -> Making<'a> {
    Making { environment, project, name: "hello", version: Some("1.0.0"), into, epoch: 1_700_000_000 }
}

fn names(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| name_of(path)).collect()
}

#[test]
fn a_signed_release_is_checked_by_the_projects_own_settings() {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().expect("keys");
    let secret = pair.sk.to_box(None).expect("text").to_string();
    let settings = format!(
        "[release]\nsign = [\"minisign:env:RELEASE_KEY\", \"cosign:keys/cosign.key\", \"keyless\"]\n\
         trusted-keys = [\"{}\", \"keys/cosign.pub\"]\n",
        pair.pk.to_base64()
    );
    let example = Example::new(&settings, &[("RELEASE_KEY", &secret), ("COSIGN_PASSWORD", "open sesame")]);
    example.write("keys/cosign.key", LOCKED);
    example.write("keys/cosign.pub", LOCKED_PUBLIC);
    let (made, signatures) = example.release().expect("a release");
    let bills = ["hello-linux-x86_64.cdx.json", "hello-linux-x86_64.spdx.json"];
    assert_eq!(names(&made.files), [bills[0], bills[1], "hello-1.0.0.intoto.jsonl"]);
    assert_eq!(names(&signatures), ["SHA256SUMS.minisig", "SHA256SUMS.sig"]);
    let results = example.check(&trust(&example.project()).expect("trust"));
    assert!(results.iter().all(|result| result.status == Status::Ok), "{results:#?}");
    assert_eq!(results.len(), 6);
    assert!(example.read("hello-1.0.0.intoto.jsonl")["signatures"][0]["keyid"].is_string());
}

#[test]
fn a_statement_names_what_the_program_comes_from() {
    let variables = [
        ("GITHUB_SERVER_URL", "https://example.org"),
        ("GITHUB_REPOSITORY", "me/hello"),
        ("GITHUB_RUN_ID", "7"),
        ("GITHUB_WORKFLOW_REF", "me/hello/.github/workflows/release.yml@refs/tags/v1"),
        ("GITHUB_REF", "refs/tags/v1"),
    ];
    let example = Example::new("", &variables);
    let (made, signatures) = example.release().expect("a release");
    assert!(signatures.is_empty() && !made.notices.iter().any(|n| n.contains("cosign")), "{made:?}");
    let statement = example.read("hello-1.0.0.intoto.jsonl");
    let names: Vec<&str> =
        statement["subject"].as_array().expect("files").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(
        names,
        ["hello-1.0.0.tar.gz", "hello-linux-x86_64", "hello-linux-x86_64.cdx.json", "hello-linux-x86_64.spdx.json"]
    );
    let details = &statement["predicate"]["runDetails"];
    assert_eq!(details["builder"]["id"], "https://example.org/me/hello/.github/workflows/release.yml@refs/tags/v1");
    assert_eq!(details["metadata"]["invocationId"], "https://example.org/me/hello/actions/runs/7/attempts/1");
    assert_eq!(details["metadata"]["startedOn"], "2023-11-14T22:30:00Z");
    assert_eq!(details["metadata"]["finishedOn"], "2023-11-14T22:31:00Z");
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["recipe"], "debian");
    assert_eq!(definition["externalParameters"]["settings"]["project.entry"], "\"main.py\"");
    assert_eq!(definition["internalParameters"]["builds"]["b1"]["targets"][0]["policy"], "lto=yes jobs=2");
    let resources = definition["resolvedDependencies"].as_array().expect("resources");
    let of = |uri: &str| {
        resources.iter().find(|resource| resource["uri"] == uri).unwrap_or_else(|| panic!("{resources:#?}"))
    };
    assert_eq!(
        of("git+https://example.org/me/hello@refs/tags/v1")["digest"]["gitCommit"],
        "0123456789abcdef0123456789abcdef01234567"
    );
    assert_eq!(of("pkg:docker/debian@bookworm?platform=linux%2Famd64")["digest"]["sha256"], "abcd");
    assert!(of("pkg:docker/localhost:5000/mine@latest?platform=linux%2Famd64")["digest"].is_null());
    assert!(of("pkg:pypi/lxml@5.3.0")["name"] == "distribution");
    let results = example.check(&Trust::default());
    assert!(results.iter().all(|result| result.status != Status::Failed), "{results:#?}");
}

#[test]
fn two_runs_give_the_same_bytes() {
    let example = Example::new("", &[]);
    let read = || -> Vec<String> {
        let (made, _) = example.release().expect("a release");
        made.files.iter().map(|path| fs_err::read_to_string(path).expect("read")).collect()
    };
    assert_eq!(read(), read());
}

#[test]
fn what_is_not_wanted_is_not_made_and_what_is_not_known_is_said() {
    let example = Example::new("[release]\nsbom = []\nprovenance = false\n", &[]);
    let (made, _) = example.release().expect("a release");
    assert!(made.files.is_empty(), "{made:?}");
    let example = Example::new("", &[]);
    fs_err::remove_dir_all(example.dir.path().join(".kiln")).expect("removed");
    let (made, _) = example.release().expect("a release");
    let said = made.notices.join("\n");
    for words in [
        "is nearly empty: What is inside is not known",
        "knows of no build of hello-linux-x86_64",
        "in no git repository",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    let example = Example::new("", &[]);
    example.write(".kiln/reports/linux_amd64/report.xml", "<torn");
    let (made, _) = example.release().expect("a release");
    assert!(made.notices.iter().any(|notice| notice.contains("report.xml says is left out")), "{made:?}");
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    let sign = "[release]\nsign = [\"cosign:env:RELEASE_KEY\"]\n";
    let error = Example::new(sign, &[]).release().expect_err("no key");
    assert_eq!(error.to_string(), "release.sign names the variable RELEASE_KEY, which is not set");
    let error = Example::new(sign, &[("RELEASE_KEY", LOCKED)]).release().expect_err("locked");
    assert!(
        error.to_string().contains("the key env:RELEASE_KEY of release.sign cannot be used: it is locked"),
        "{error}"
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("COSIGN_PASSWORD")), "{error:?}");
    let example = Example::new(sign, &[("RELEASE_KEY", LOCKED), ("KILN_SIGN_PASSWORD", "wrong")]);
    assert!(example.release().expect_err("wrong").to_string().contains("the password does not open it"));
    let example = Example::new("[release]\ntrusted-keys = [\"no key\"]\n", &[]);
    let error = trust(&example.project()).expect_err("no key");
    assert!(error.to_string().starts_with("no key of release.trusted-keys cannot be used"), "{error}");
}

#[test]
fn a_password_may_lie_in_a_file() {
    let sign = "[release]\nsign = [\"cosign:env:RELEASE_KEY\"]\n";
    let mut example = Example::new(sign, &[("RELEASE_KEY", LOCKED)]);
    example.write("password", "open sesame\n");
    let path = example.dir.path().join("password").display().to_string();
    example.environment.variables.push(("KILN_SIGN_PASSWORD_FILE".to_owned(), path));
    example.release().expect("a release");
}

#[test]
fn a_release_by_another_key_is_refused() {
    let settings = "[release]\nsign = [\"cosign:env:RELEASE_KEY\"]\ntrusted-keys = [\"cosign.pub\"]\n";
    let example = Example::new(settings, &[("RELEASE_KEY", KEY)]);
    example.write("cosign.pub", LOCKED_PUBLIC);
    example.release().expect("a release");
    let results = example.check(&trust(&example.project()).expect("trust"));
    let failed = results.iter().filter(|result| result.status == Status::Failed);
    assert!(failed.clone().all(|result| result.what == What::Signature) && failed.count() == 2, "{results:#?}");
}

#[tokio::test]
async fn without_a_token_nothing_is_signed_without_a_key() {
    let example = Example::new("[release]\nsign = [\"keyless\"]\n", &[]);
    let (project, into) = (example.project(), example.dir.path().join("dist"));
    let making = making(&example.environment, &project, &into);
    assert_eq!(sign_keyless(&making).await.expect("nothing"), None);
}

#[test]
fn what_was_stated_of_other_files_is_kept_while_they_are_the_same() {
    let settings = "[release]\nsign = [\"cosign:keys/cosign.key\"]\ntrusted-keys = [\"keys/cosign.pub\"]\n";
    for (settings, is_signed) in [("", false), (settings, true)] {
        let example = Example::new(settings, &[("COSIGN_PASSWORD", "open sesame")]);
        example.write("keys/cosign.key", LOCKED);
        example.write("keys/cosign.pub", LOCKED_PUBLIC);
        example.release().expect("a release");
        let (project, into) = (example.project(), example.dir.path().join("dist"));
        let statements = into.join("hello-1.0.0.intoto.jsonl");
        let lines = || fs_err::read_to_string(&statements).expect("read").lines().count();
        let signers = keys::signers(&example.environment, &project).expect("keys");
        let again = |name: &str, content: &str| {
            let path = into.join(name);
            fs_err::write(&path, content).expect("written");
            let one = Released { path: path.clone(), sha256: Sha256::of(content).to_string(), kind: Kind::Package };
            let making = making(&example.environment, &project, &into);
            let made = write(&making, &[one], &signers, &into).expect("written");
            let mut files = made.files.clone();
            files.push(path);
            checksum::update(&into, &files).expect("sums");
            sign(&making, &signers).expect("signed");
            made.notices
        };
        let told = |name: &str| {
            let results = check(&into.join(name), &trust(&project).expect("trust"));
            results.into_iter().filter(|result| result.what == What::Provenance).collect::<Vec<_>>()
        };
        // One more package: the program and the first package are as they were.
        again("hello_1.0.0.deb", "the program, in Debian's way");
        assert_eq!(lines(), 2);
        for name in ["hello-linux-x86_64", "hello-1.0.0.tar.gz", "hello_1.0.0.deb"] {
            let expected = if is_signed { Status::Ok } else { Status::Untrusted };
            let told = told(name);
            assert!(told.len() == 1 && told[0].status == expected, "{name}: {told:#?}");
        }
        // The same again says the same.
        let before = fs_err::read(&statements).expect("read");
        again("hello_1.0.0.deb", "the program, in Debian's way");
        assert_eq!(fs_err::read(&statements).expect("read"), before);
        // A package that was made anew is stated anew, and one that changed by itself is not vouched for.
        again("hello-1.0.0.tar.gz", "the program, packed once more");
        fs_err::write(into.join("hello_1.0.0.deb"), "something else").expect("written");
        again("hello-1.0.0.tar.gz", "the program, packed once more");
        assert_eq!(told("hello-1.0.0.tar.gz").len(), 1);
        assert!(told("hello_1.0.0.deb").iter().all(|result| result.status == Status::Absent));
        assert!(told("hello-linux-x86_64").iter().all(|result| result.status != Status::Absent));
        // What somebody else has written is not signed with our key.
        let text = fs_err::read_to_string(&statements).expect("read");
        fs_err::write(&statements, text.replace("\"payload\":\"ey", "\"payload\":\"ez")).expect("written");
        let notices = again("hello-1.0.0.tar.gz", "the program, packed once more");
        assert_eq!(is_signed, notices.iter().any(|notice| notice.contains("left out")), "{notices:?}");
    }
}
