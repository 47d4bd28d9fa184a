//! Caches of tools that a Dockerfile calls without a mount for them.

use kiln_e2e::Project;
use serde_json::Value;

/// Stands in for a tool: counts its calls in its cache folder, and says how many there have been. Beside that folder it
/// writes as other programs would.
const TOOL: &str = "#!/bin/sh\nset -e\nmkdir -p ~/.cache/pip ~/.cache/other\necho x >> ~/.cache/pip/calls\n\
    wc -l < ~/.cache/pip/calls > /tmp/count\n";

const SETTINGS: &str = "[project]\nname = \"caches\"\n";

/// A project whose Dockerfile ends with `rest`, on an image that has the tool.
fn project(settings: Option<&str>, rest: &str) -> Option<Project> {
    let project = Project::new(&[("pip", TOOL)])?;
    if let Some(settings) = settings {
        project.write("kiln.toml", settings);
    }
    dockerfile(&project, rest);
    Some(project)
}

fn dockerfile(project: &Project, rest: &str) {
    let body = format!(
        "RUN adduser -D app\nCOPY --chmod=755 pip /usr/bin/pip\n{rest}\n\
        FROM scratch\nCOPY --from=0 /tmp/count /\n"
    );
    // Nobody else's steps, and none of its own last build.
    project.write("Dockerfile", &super::fresh(&body));
}

/// Builds, and says how often the tool says that it was called.
fn count(project: &Project, more: &[&str]) -> String {
    project.build(&[&["-f", "Dockerfile", "-o", "out", "--platform=linux/amd64"], more, &["."]].concat());
    project.read("out/count").trim().to_owned()
}

/// What the plan says is added, as `id at folder`.
fn planned(project: &Project, more: &[&str]) -> Vec<String> {
    let arguments = [&["plan", "--json", "-f", "Dockerfile", "--platform=linux/amd64"], more, &["."]].concat();
    let ran = project.kiln(&arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let steps = plan["targets"][0]["steps"].as_array().expect("steps").iter();
    let caches = steps.flat_map(|step| step["auto_caches"].as_array().into_iter().flatten());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    caches.map(|cache| format!("{} at {}", text(&cache["id"]), text(&cache["target"]))).collect()
}

#[test]
fn a_known_tool_finds_its_cache_again() {
    let Some(project) = project(Some(SETTINGS), "RUN pip install x") else { return };
    assert_eq!(planned(&project, &[]), ["pip-alpine:3.20 at /root/.cache/pip"]);
    let text = project.kiln(&["plan", "-f", "Dockerfile", "--platform=linux/amd64", "."]);
    assert!(text.stdout.contains("cache added: pip-alpine:3.20 at /root/.cache/pip"), "{}", text.stdout);
    assert_eq!(count(&project, &[]), "1");
    dockerfile(&project, "RUN pip install y");
    assert_eq!(count(&project, &[]), "2");
    // Off, it is as if nobody had cared; and that is another step.
    let off = ["--set", "build.auto-caches=false"];
    assert_eq!(planned(&project, &off), [""; 0]);
    assert_eq!(count(&project, &off), "1");
    assert_eq!(count(&project, &[]), "3");
}

#[test]
fn a_dockerfile_without_a_project_gets_no_caches_unless_it_is_told_to() {
    let Some(project) = project(None, "RUN pip install x") else { return };
    assert_eq!(planned(&project, &[]), [""; 0]);
    assert_eq!(count(&project, &[]), "1");
    dockerfile(&project, "RUN pip install y");
    assert_eq!(count(&project, &[]), "1");
    assert_eq!(planned(&project, &["--set", "build.auto-caches=yes"]).len(), 1);
}

#[test]
fn a_mount_of_the_dockerfile_is_left_alone() {
    let rest = "RUN --mount=type=cache,id=own,target=/root/.cache pip install ";
    let Some(project) = project(Some(SETTINGS), &format!("{rest}x")) else { return };
    assert_eq!(planned(&project, &[]), [""; 0]);
    assert_eq!(count(&project, &[]), "1");
    dockerfile(&project, &format!("{rest}y"));
    assert_eq!(count(&project, &[]), "2");
}

#[test]
fn another_user_can_write_to_its_cache_and_beside_it() {
    for user in ["app", "1000:1000"] {
        let rest = |name: &str| format!("ENV HOME=/home/app\nUSER {user}\nRUN pip install {name}");
        let Some(project) = project(Some(SETTINGS), &rest("x")) else { return };
        let name = user.split(':').next().expect("a name");
        assert_eq!(planned(&project, &[]), [format!("pip-alpine:3.20-{name} at /home/app/.cache/pip")]);
        assert_eq!(count(&project, &[]), "1");
        dockerfile(&project, &rest("y"));
        assert_eq!(count(&project, &[]), "2");
    }
}

#[test]
fn the_users_image_is_the_same_with_and_without() {
    for user in ["root", "app"] {
        let Some(project) = project(Some(SETTINGS), "RUN true") else { return };
        let body = "RUN adduser -D app\nCOPY --chmod=755 pip /usr/bin/pip\nENV A=1 HOME=/home/app\n";
        project
            .write("Dockerfile", &super::fresh(&format!("{body}USER {user}\nRUN pip install x\nRUN cat /tmp/count\n")));
        let facts = |value: &str| {
            let name = format!("kiln-e2e-caches-{}:{value}", std::process::id());
            let set = format!("build.auto-caches={value}");
            project.build(&["-f", "Dockerfile", "--platform=linux/amd64", "-t", &name, "--set", &set, "."]);
            let daemon = project.daemon();
            let image = daemon.image(&name).expect("it is on the daemon");
            // Mount points are removed by a layer of its own before a step that may not do it.
            let mut said = daemon.history(&image.id);
            said.retain(|entry| entry != "kiln: removal of mount points");
            daemon.remove_image(&name);
            (said, image.config.env, image.config.user, image.labels)
        };
        assert_eq!(facts("yes"), facts("no"));
    }
}

#[test]
fn a_shared_storage_of_compiler_caches_reaches_every_step_and_no_key() {
    let text = super::fresh("RUN env | grep ^CCACHE_ | sort > /o\nFROM scratch\nCOPY --from=0 /o /\n");
    let Some(project) = Project::new(&[("Dockerfile", &text)]) else { return };
    let shared = "cache.ccache.remote-storage=redis://cache.example.org";
    project.build(&["-f", "Dockerfile", "-o", "out", "--set", shared, "."]);
    let seen = project.read("out/o");
    for name in ["CCACHE_REMOTE_STORAGE", "CCACHE_SECONDARY_STORAGE"] {
        assert!(seen.contains(&format!("{name}=redis://cache.example.org\n")), "{seen}");
    }
    assert!(project.build(&["-f", "Dockerfile", "-o", "out", "."]).was_up_to_date());
}
