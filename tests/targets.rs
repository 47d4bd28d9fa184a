//! `kiln bake`: what a target of a bake file can do, as `docker buildx bake` has it; and the progress that programs read.

use kiln_e2e::{Project, Ran, Running, needed};
use serde_json::Value;

/// A project with these targets; each stands on an image of its own, so that no other test's steps are its.
fn project(hcl: &str, files: &[(&str, &str)]) -> Option<Project> {
    let project = Project::new(files)?;
    project.write(
        "docker-bake.hcl",
        &hcl.replace(
            "FROM alpine",
            &super::fresh("").replace('\n', "\\n").replace("FROM alpine:3.20", "FROM alpine:3.20 AS top"),
        ),
    );
    Some(project)
}

fn bake(project: &Project, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = project.command(&[&["bake", "--progress=plain"], arguments].concat());
    command.envs(variables.iter().copied());
    let ran = Running::start(command).wait();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    project.daemon().assert_nothing_left(ran.pid);
    ran
}

#[test]
fn steps_of_a_target_have_its_secrets_limits_and_hosts_and_it_has_several_outputs() {
    let hcl = r#"
group default { targets = ["one", "two"] }
target one {
  dockerfile-inline = "FROM alpineRUN --mount=type=secret,id=x tr a-z A-Z < /run/secrets/x > /s && ulimit -n >> /s && df -m /dev/shm | tail -1 | tr -s ' ' | cut -d ' ' -f 2 >> /s && grep -c 1.2.3.4 /etc/hosts >> /s\nFROM scratch\nCOPY --from=top /s /\nCOPY --from=more f /\n"
  secret = [{ id = "x", src = "token" }]
  ulimits = ["nofile=1024:2048"]
  shm-size = "128m"
  extra-hosts = { somewhere = "1.2.3.4" }
  contexts = { more = "more" }
  output = [{ type = "local", dest = "out" }, "type=tar,dest=out.tar", "type=oci,dest=image.tar"]
  cache-from = ["type=local,src=store"]
  cache-to = [{ type = "local", dest = "store" }]
  attest = ["type=sbom"]
}
target two {
  dockerfile-inline = "FROM alpineRUN --mount=type=secret,id=x,env=X test \"$X\" = two && ls /sys/class/net > /n\nFROM scratch\nCOPY --from=top /n /\n"
  secret = ["id=x,env=VALUE"]
  network = "none"
  output = ["other"]
}
"#;
    let Some(project) = project(hcl, &[("token", "sesame\n"), ("more/f", "more\n")]) else { return };
    let ran = bake(&project, &["--metadata-file=facts.json"], &[("VALUE", "two")]);
    // Each target has the secret that it gives that name.
    assert_eq!(project.read("out/s"), "SESAME\n1024\n128\n1\n");
    assert_eq!((project.read("out/f"), project.read("other/n")), ("more\n".to_owned(), "lo\n".to_owned()));
    let archive = std::fs::File::open(project.path().join("out.tar")).expect("there");
    let mut archive = tar::Archive::new(archive);
    let names =
        archive.entries().expect("entries").map(|e| e.expect("entry").path().expect("path").display().to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["s", "f"]);
    let facts: Value = serde_json::from_str(&project.read("facts.json")).expect("JSON");
    let digest = facts["one"]["containerimage.digest"].as_str().expect("an image");
    assert!(digest.starts_with("sha256:") && facts["two"].get("containerimage.digest").is_none(), "{facts}");
    for text in ["note: saved to ", "target one: attestations are not written"] {
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("sesame"), "a secret was shown");
    // Once more: the same files, read from checkpoints.
    std::fs::remove_dir_all(project.path().join("out")).expect("it was there");
    bake(&project, &[], &[("VALUE", "two")]);
    assert_eq!(project.list("out"), ["f", "s"]);
}

#[test]
fn targets_are_loaded_and_pushed_under_all_their_names() {
    let hcl = r#"
variable TAG {}
variable REGISTRY {}
target default {
  dockerfile-inline = "FROM alpineRUN true\n"
  tags = ["kiln-e2e-bake:${TAG}-1", "kiln-e2e-bake:${TAG}-2"]
  labels = { who = "me" }
}
target index {
  dockerfile-inline = "FROM alpineRUN true\n"
  tags = ["${REGISTRY}/kiln-e2e/bake:${TAG}"]
  platforms = ["linux/amd64", "linux/386"]
  annotations = ["index:who=me"]
}
"#;
    let (Some(project), Some(registry)) = (project(hcl, &[]), needed("KILN_TEST_REGISTRY")) else { return };
    let tag = std::process::id().to_string();
    let (tag, host) = (format!("TAG={tag}"), format!("REGISTRY={registry}"));
    bake(&project, &["--var", &tag], &[]);
    let daemon = project.daemon();
    for number in [1, 2] {
        let name = format!("kiln-e2e-bake:{}-{number}", std::process::id());
        let image = daemon.image(&name).expect("it is on the daemon");
        assert_eq!(image.labels.get("who").map(String::as_str), Some("me"));
        daemon.remove_image(&name);
    }
    let ran = bake(&project, &["--var", &tag, "--var", &host, "--push", "--metadata-file=facts.json", "index"], &[]);
    assert!(ran.stderr.contains(&format!("pushed {registry}/kiln-e2e/bake")), "{}", ran.stderr);
    let facts: Value = serde_json::from_str(&project.read("facts.json")).expect("JSON");
    assert_eq!(facts["index"]["containerimage.descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    // One target that fails leaves the other its outputs.
    let ran = project.kiln(&["bake", "index", "default", "--var", &tag, "--var", "REGISTRY=127.0.0.1:1", "--push"]);
    assert!(ran.code.is_some_and(|code| code != 0), "{}", ran.stderr);
}

#[test]
fn rawjson_is_what_buildkit_tells_its_clients() {
    let Some(project) = Project::new(&[("Dockerfile", &super::fresh("RUN echo said; echo wrong >&2\nRUN exit 3\n"))])
    else {
        return;
    };
    let ran = project.kiln(&["build", "--progress=rawjson", "-f", "Dockerfile", "-o", "type=cacheonly", "."]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    let lines: Vec<Value> = ran.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let all = |key: &str| lines.iter().flat_map(|l| l[key].as_array().cloned().unwrap_or_default()).collect::<Vec<_>>();
    let vertexes = all("vertexes");
    let step = |text: &str, key: &str| {
        let has = |v: &&Value| v["name"].as_str().is_some_and(|name| name.ends_with(text)) && v[key].is_string();
        vertexes.iter().find(has).cloned().unwrap_or_else(|| panic!("{text}: {vertexes:?}"))
    };
    let said = step("RUN echo said; echo wrong >&2", "completed");
    assert!(step("RUN exit 3", "error")["started"].is_string());
    let logs: Vec<_> = all("logs").into_iter().filter(|log| log["vertex"] == said["digest"]).collect();
    // `said` and `wrong`, each with its line's end.
    let expected =
        [(1, "c2FpZAo="), (2, "d3JvbmcK=")].map(|(stream, data)| (stream, data.trim_end_matches('=').to_owned()));
    let found = logs.iter().map(|log| {
        (
            log["stream"].as_i64().unwrap_or_default(),
            log["data"].as_str().unwrap_or_default().trim_end_matches('=').to_owned(),
        )
    });
    let mut found: Vec<_> = found.collect();
    found.sort();
    assert_eq!(found, expected);
    // The environment asks for it as well, the command line has the last word.
    let mut command = project.command(&["build", "-f", "Dockerfile", "--target=0", "-o", "type=cacheonly", "."]);
    command.env("BUILDKIT_PROGRESS", "rawjson");
    assert!(Running::start(command).wait().stderr.contains("{\"vertexes\":"));
}

#[test]
fn steps_are_held_to_their_resources() {
    let step = "RUN cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes > /n 2>/dev/null || test -s /n\n";
    let text = format!("{}FROM scratch\nCOPY --from=0 /n /\n", super::fresh(step));
    let Some(project) = Project::new(&[("Dockerfile", &text)]) else { return };
    project.build(&["-f", "Dockerfile", "--resource=memory=64m,cpus=0.5", "-o", "out", "."]);
    assert_eq!(project.read("out/n").trim(), (64 << 20).to_string());
    // More than that.
    project.write("Dockerfile", &super::fresh("RUN tail /dev/zero\n"));
    let ran = project.kiln(&["build", "-f", "Dockerfile", "--memory=64m", "-o", "type=cacheonly", "."]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("it was allowed 64 MiB of memory"), "{}", ran.stderr);
}
