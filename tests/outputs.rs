//! Outputs that are images: on the daemon, in a registry, in archives.

use kiln_docker::registry::{Registry, RegistryOptions};
use kiln_e2e::{Project, needed};
use serde_json::Value;

const TEXT: &str = "ARG WHO=me\nENV A=1\nWORKDIR /app\nRUN uname -m > machine\nCOPY note.txt .\n\
    LABEL x=y\nCMD [\"cat\", \"/app/machine\"]\n";

fn project() -> Option<Project> {
    // Steps of its own: another test at work may prune what they leave.
    Project::new(&[("Dockerfile", &super::fresh(TEXT)), ("note.txt", "one\n")])
}

fn json(bytes: impl AsRef<[u8]>) -> Value {
    serde_json::from_slice(bytes.as_ref()).expect("JSON")
}

#[test]
fn a_loaded_image_has_the_users_configuration_and_nothing_of_kilns() {
    let Some(project) = project() else { return };
    let name = format!("kiln-e2e-load-{}:1", std::process::id());
    let arguments = ["-f", "Dockerfile", "--platform=linux/amd64", "-t", &name, "--label", "z=w", "--iidfile", "id"];
    project.build(&[arguments.as_slice(), &["--metadata-file", "facts.json", "."]].concat());
    let daemon = project.daemon();
    let image = daemon.image(&name).expect("it is on the daemon");
    assert_eq!(image.labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>(), ["x=y", "z=w"]);
    assert_eq!(image.config.cmd, Some(vec!["cat".to_owned(), "/app/machine".to_owned()]));
    assert_eq!((image.config.env_value("A"), image.config.working_dir.as_str()), (Some("1"), "/app"));
    assert_eq!(project.read("id"), image.id.0);
    let facts = json(project.read("facts.json"));
    assert_eq!(facts["containerimage.config.digest"], image.id.0);
    assert_eq!(facts["image.name"], format!("docker.io/library/{name}"));
    let said = daemon.history(&image.id);
    let own = &said[said.len() - 7..];
    let run = "RUN |1 WHO=me /bin/sh -c uname -m > machine # buildkit";
    let expected =
        ["ARG WHO=me", "ENV A=1", "WORKDIR /app", run, "COPY note.txt . # buildkit", "LABEL x=y"].map(str::to_owned);
    assert_eq!(own[..6], expected);
    assert_eq!(own[6], "CMD [\"cat\" \"/app/machine\"]");
    // Again: the same image, and no step.
    let again = project.build(&["-f", "Dockerfile", "--platform=linux/amd64", "-t", &name, "--label", "z=w", "."]);
    assert_eq!(again.steps_run(), [""; 0]);
    assert_eq!(daemon.image(&name).map(|image| image.id), Some(image.id));
    daemon.remove_image(&name);
}

#[test]
fn platforms_are_pushed_as_one_index_and_layers_only_once() {
    let (Some(project), Some(host)) = (project(), needed("KILN_TEST_REGISTRY")) else { return };
    let repository = format!("kiln-e2e/push-{}", std::process::id());
    let (one, two) = (format!("{host}/{repository}:1"), format!("{host}/{repository}:2"));
    let push = |names: &[&str]| {
        let tags: Vec<&str> = names.iter().flat_map(|name| ["-t", *name]).collect();
        let rest =
            ["-f", "Dockerfile", "--platform=linux/amd64,linux/386", "--push", "--metadata-file", "facts.json", "."];
        project.build(&[tags.as_slice(), &rest].concat())
    };
    push(&[&one, &two]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let options = RegistryOptions::default();
    let registry = runtime.block_on(Registry::connect(&host, false, &options)).expect("the registry answers");
    let manifest = |reference: &str| {
        let found = runtime.block_on(registry.manifest(&repository, reference)).expect("an answer");
        found.map(|(kind, bytes)| (kind, json(bytes))).expect("it was pushed")
    };
    let (kind, index) = manifest("1");
    assert_eq!(kind, "application/vnd.oci.image.index.v1+json");
    assert_eq!(manifest("2").1, index);
    let parts = index["manifests"].as_array().expect("a list");
    let platforms: Vec<_> = parts.iter().map(|part| part["platform"]["architecture"].clone()).collect();
    assert_eq!(platforms, ["amd64", "386"]);
    for part in parts {
        let (_, manifest) = manifest(part["digest"].as_str().expect("a digest"));
        for blob in manifest["layers"].as_array().expect("a list").iter().chain([&manifest["config"]]) {
            let there = registry.has_blob(&repository, blob["digest"].as_str().expect("a digest"));
            assert!(runtime.block_on(there).expect("an answer"), "{blob}");
        }
    }
    let facts = json(project.read("facts.json"));
    assert_eq!(facts["containerimage.descriptor"]["mediaType"], kind);
    let (_, by_digest) = manifest(facts["containerimage.digest"].as_str().expect("a digest"));
    assert_eq!(by_digest, index);
    let pushing = |ran: &kiln_e2e::Ran| -> Vec<String> {
        let texts = ran.events_of("notice").into_iter().filter_map(|event| event["text"].as_str().map(str::to_owned));
        texts.filter(|text| text.starts_with("pushing")).collect()
    };
    assert_eq!(pushing(&push(&[&one])), [""; 0], "the registry has all of it");
    project.write("note.txt", "two\n");
    let changed = pushing(&push(&[&one]));
    assert!(changed.len() == 1 && changed[0].starts_with("pushing 1 of"), "{changed:?}");
    assert_ne!(manifest("1").1, index);
}

#[test]
fn an_archive_is_whole_or_not_there() {
    let Some(project) = project() else { return };
    let platforms = "--platform=linux/amd64,linux/386";
    project.build(&[
        "-f",
        "Dockerfile",
        platforms,
        "-o",
        "type=oci,dest=out/image.tar",
        "-o",
        "type=tar,dest=out/files.tar",
        ".",
    ]);
    assert_eq!(project.list("out"), ["files.tar", "image.tar"]);
    let listing = std::fs::File::open(project.path().join("out/files.tar")).expect("there");
    let mut archive = tar::Archive::new(listing);
    let names: Vec<String> = archive
        .entries()
        .expect("entries")
        .map(|e| e.expect("entry").path().expect("path").display().to_string())
        .collect();
    for name in ["linux_amd64/app/machine", "linux_386/app/note.txt"] {
        assert!(names.iter().any(|found| found == name), "{name}");
    }
    assert!(!names.iter().any(|name| name.contains(".dockerenv")));
    // A registry that is not there, and several platforms for one daemon.
    let push = ["build", "-f", "Dockerfile", "--platform=linux/amd64", "-t", "127.0.0.1:1/x", "--push", "."];
    let ran = project.kiln(&push);
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("127.0.0.1:1"), "{}", ran.stderr);
    let ran = project.kiln(&["build", "-f", "Dockerfile", platforms, "--load", "."]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

#[test]
fn an_image_in_a_folder_is_a_base_image() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let text = format!("FROM alpine:3.20\nRUN echo {now} > /from-layout\nENV LAID=yes\n");
    let Some(project) = Project::new(&[("Dockerfile", &text)]) else { return };
    let ran = project.kiln(&["build", "-f", "Dockerfile", "-o", "type=oci,tar=false,dest=layout", "-t", "x:v1", "."]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    project.write("User", "FROM base\nRUN echo $LAID > /o; cat /from-layout >> /o\nFROM scratch\nCOPY --from=0 /o /\n");
    let build = |layout: &str| {
        let context = format!("base=oci-layout://{layout}");
        project.kiln(&["build", "-f", "User", "--build-context", &context, "-o", "out", "."])
    };
    for layout in ["layout:v1", "./layout"] {
        let ran = build(layout);
        assert_eq!(ran.code, Some(0), "{layout}: {}", ran.stderr);
        assert_eq!(project.read("out/o"), format!("yes\n{now}\n"));
    }
    let ran = build("layout:v2");
    assert!(ran.code == Some(4) && ran.stderr.contains("no image with the tag `v2`"), "{}", ran.stderr);
}
