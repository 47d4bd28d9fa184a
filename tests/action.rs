//! The GitHub Action as a runner runs it: its main and post programs, with the variables and files of a runner.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kiln_e2e::{Project, Ran, Running, needed};
use kiln_testkit::GithubCache;
use rustix::process::Signal;
use serde_json::Value;

use super::fresh;

/// What a runner gives to an action, and what it makes of what that says.
struct Runner {
    project: Project,
    folder: tempfile::TempDir,
    more: Vec<(String, String)>,
}

/// The end of a step.
struct Step {
    ran: Ran,
    outputs: BTreeMap<String, String>,
    summary: String,
    /// Both streams, without the commands that hide values.
    log: String,
}

impl Runner {
    /// A runner with a checkout; `None` where something is missing.
    #[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
    fn new(files: &[(&str, &str)]) -> Option<Self> {
        if Command::new("node").arg("--version").output().is_err() {
            eprintln!("SKIPPED: there is no node; `cargo xtask test` installs it");
            return None;
        }
        let project = Project::new(files)?;
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["temp", "tools"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Some(Self { project, folder, more: Vec::new() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program of the action with inputs.
    fn command(&self, program: &str, inputs: &[(&str, &str)]) -> Command {
        let kiln = self.project.command(&[]);
        let mut node = Command::new("node");
        node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../action").join(program));
        node.env_clear().current_dir(self.project.path());
        node.envs(kiln.get_envs().filter_map(|(name, value)| Some((name, value?))));
        node.env("GITHUB_ACTIONS", "true").env("GITHUB_WORKSPACE", self.project.path());
        node.env("GITHUB_REPOSITORY", "o/r").env("GITHUB_SHA", "0".repeat(40)).env("GITHUB_REF", "refs/heads/main");
        node.env("RUNNER_TEMP", self.file("temp")).env("RUNNER_TOOL_CACHE", self.file("tools"));
        for name in ["OUTPUT", "STATE", "PATH", "ENV", "STEP_SUMMARY"] {
            let file = self.file(name);
            std::fs::write(&file, "").expect("a file");
            node.env(format!("GITHUB_{name}"), file);
        }
        node.env("INPUT_BINARY", kiln.get_program()).env("INPUT_SUMMARY", "true");
        node.envs(self.more.iter().cloned());
        node.envs(inputs.iter().map(|(name, value)| (format!("INPUT_{}", name.to_uppercase()), value)));
        node
    }

    /// Runs the step to its end.
    fn step(&self, inputs: &[(&str, &str)]) -> Step {
        let ran = Running::start(self.command("main.mjs", inputs)).wait();
        self.ended(ran)
    }

    fn ended(&self, ran: Ran) -> Step {
        let read = |name: &str| std::fs::read_to_string(self.file(name)).expect("it was there");
        let all = format!("{}{}", ran.stdout, ran.stderr);
        let log: Vec<&str> = all.lines().filter(|line| !line.starts_with("::add-mask::")).collect();
        let log = log.join("\n") + "\n";
        Step { ran, outputs: entries(&read("OUTPUT")), summary: read("STEP_SUMMARY"), log }
    }
}

/// The entries of a file as the runner reads it.
fn entries(text: &str) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (name, value) = match line.split_once("<<") {
            Some((name, end)) => {
                let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
                (name, value.join("\n"))
            }
            None => line.split_once('=').map(|(name, value)| (name, value.to_owned())).expect("name and value"),
        };
        entries.insert(name.to_owned(), value);
    }
    entries
}

impl Step {
    /// The commands that a runner would find in the log: at the start of a line, or, in the older form, anywhere.
    fn commands(&self) -> Vec<&str> {
        let mut commands = Vec::new();
        for line in self.log.lines() {
            if let Some(command) = line.trim_start().strip_prefix("::") {
                commands.push(command.split([' ', ':']).next().unwrap_or_default());
            }
            commands.extend(line.split("##[").skip(1).map(|rest| rest.split([' ', ']']).next().unwrap_or_default()));
        }
        commands
    }

    fn artifacts(&self) -> Vec<Value> {
        serde_json::from_str(&self.outputs["artifacts"]).expect("JSON")
    }

    /// Fails unless the summary has these words; a kiln without `kiln report` has none, and says so.
    #[track_caller]
    fn assert_summary(&self, project: &Project, words: &str) {
        if project.kiln(&["report", "--help"]).code == Some(0) {
            assert!(self.summary.contains(words), "{}\n{}", self.summary, self.log);
        } else {
            assert!(self.log.contains("there is no summary") && self.summary.is_empty(), "{}", self.log);
        }
    }

    #[track_caller]
    fn assert_code(&self, code: i32) {
        assert_eq!(self.ran.code, Some(code), "{}", self.log);
    }
}

/// The digest of a file, by a program that has nothing to do with kiln.
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("sha256sum runs");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_step_builds_and_tells_what_it_made() {
    let text = fresh(
        "RUN --mount=type=secret,id=TOKEN --mount=type=secret,id=KEY uname -m > /machine; cat /run/secrets/TOKEN; \
         wc -c < /run/secrets/KEY > /size; sha256sum /run/secrets/* | cut -c-8 > /sums; cat /run/secrets/KEY\n\
         FROM scratch\nCOPY --from=0 /machine /size /sums /\n",
    );
    let Some(runner) = Runner::new(&[("app/Dockerfile", &text)]) else { return };
    let key = "-----BEGIN KEY-----\nline-of-the-key\n-----END KEY-----";
    let step = runner.step(&[
        ("context", "app"),
        ("platforms", "linux/amd64,linux/386"),
        ("outputs", "type=local,dest=out"),
        ("secrets", &format!("TOKEN=very=secret,1\n\"KEY={key}\"")),
        ("builder", "mine"),
    ]);
    step.assert_code(0);
    assert_eq!(runner.project.read("out/linux_amd64/machine"), "x86_64\n");
    assert_eq!(runner.project.read("out/linux_386/size").trim(), key.len().to_string());

    let names: Vec<&str> = step.outputs.keys().map(String::as_str).collect();
    assert_eq!(names, ["artifacts", "build", "digest", "files", "imageid", "metadata"]);
    let artifacts = step.artifacts();
    assert!(!artifacts.is_empty(), "{}", step.log);
    let workspace = runner.project.path();
    for artifact in &artifacts {
        let path = artifact["path"].as_str().expect("text");
        let platform = artifact["platform"].as_str().expect("text");
        assert!(path.starts_with(&format!("out/{}", platform.replace('/', "_"))), "{artifact}");
        let file = workspace.join(path);
        if file.is_file() {
            assert_eq!(artifact["size"].as_u64(), file.metadata().ok().map(|meta| meta.len()), "{artifact}");
            assert_eq!(artifact["sha256"].as_str(), Some(sha256(&file).as_str()), "{artifact}");
        } else {
            assert!(file.is_dir() && artifact["sha256"].is_null(), "{artifact}");
        }
    }
    let platforms: Vec<_> = artifacts.iter().map(|artifact| artifact["platform"].as_str()).collect();
    assert!(platforms.contains(&Some("linux/amd64")) && platforms.contains(&Some("linux/386")), "{platforms:?}");
    let paths: Vec<_> = artifacts.iter().filter_map(|artifact| artifact["path"].as_str()).collect();
    assert_eq!(step.outputs["files"].lines().collect::<Vec<_>>(), paths);
    let metadata: Value = serde_json::from_str(&step.outputs["metadata"]).expect("JSON");
    let reference = metadata["buildx.build.ref"].as_str().unwrap_or_default();
    assert!(!step.outputs["build"].is_empty() && reference.ends_with(&step.outputs["build"]), "{reference}");

    // Folds, and nothing that is not meant.
    let commands = step.commands();
    let (begun, ended) = (commands.iter().filter(|c| **c == "group"), commands.iter().filter(|c| **c == "endgroup"));
    assert!(begun.clone().count() >= 3 && begun.count() == ended.count(), "{}", step.log);
    assert!(step.log.contains("`mine` has no effect"), "{}", step.log);
    step.assert_summary(&runner.project, "linux/386");

    let masks: Vec<&str> = step.ran.stdout.lines().filter_map(|line| line.strip_prefix("::add-mask::")).collect();
    assert!(masks.contains(&"very=secret,1") && masks.contains(&"line-of-the-key"), "{masks:?}");
    for secret in ["very=secret,1", "line-of-the-key"] {
        assert!(!step.log.contains(secret) && !step.summary.contains(secret), "{}", step.log);
        assert!(!format!("{:?}", step.outputs).contains(secret));
    }
    assert_eq!(std::fs::read_dir(runner.file("temp")).expect("a folder").count(), 0, "secrets are left");
}

#[test]
fn an_image_has_an_id_and_the_same_build_again_has_its_artifacts() {
    let text = fresh("RUN echo one > /one\n");
    let Some(runner) = Runner::new(&[("Dockerfile", &text)]) else { return };
    let tag = format!("kiln-e2e-action:{}", std::process::id());
    let step = runner.step(&[("tags", &tag), ("load", "true"), ("labels", "a=b\nc=d,e"), ("cache-to", "")]);
    step.assert_code(0);
    assert!(step.outputs["imageid"].starts_with("sha256:"), "{:?}", step.outputs);
    let again = runner.step(&[("tags", &tag), ("load", "true"), ("labels", "a=b\nc=d,e")]);
    again.assert_code(0);
    assert_eq!(again.outputs["imageid"], step.outputs["imageid"]);
    assert_ne!(again.outputs["build"], step.outputs["build"]);
    runner.project.daemon().remove_image(&tag);
}

#[test]
fn a_failing_build_is_annotated_at_its_line() {
    let text = fresh("RUN echo '::error::not mine' && \\\n    echo 'the last: words, 100%' >&2 && exit 7\n");
    let Some(runner) = Runner::new(&[("sub/project/Dockerfile.build", &text)]) else { return };
    let step = runner.step(&[
        ("working-directory", "sub/project"),
        ("file", "Dockerfile.build"),
        ("outputs", "out"),
        ("platforms", "linux/amd64"),
    ]);
    step.assert_code(1);
    let annotations: Vec<&str> = step.log.lines().filter(|line| line.starts_with("::error")).collect();
    let [annotation] = annotations.as_slice() else { panic!("{annotations:?} in {}", step.log) };
    let place = "::error file=sub/project/Dockerfile.build,line=3,endLine=4,title=RUN echo ";
    assert!(annotation.starts_with(place), "{annotation}");
    assert!(annotation.contains("exit code 7") && annotation.contains("the last: words, 100%25"), "{annotation}");
    assert!(step.log.contains("kiln ended with exit code 1: a step of the build failed"), "{}", step.log);
    assert_eq!((step.outputs["artifacts"].as_str(), step.outputs["files"].as_str()), ("[]", ""));
    assert!(!step.outputs["build"].is_empty(), "a build that failed is in the history, too");
    step.assert_summary(&runner.project, "linux/amd64");

    runner.project.write("sub/project/Dockerfile.build", "FROM scratch\nCOPI a b\n");
    let step = runner.step(&[("working-directory", "sub/project"), ("file", "Dockerfile.build")]);
    step.assert_code(3);
    assert!(
        step.log.contains("::error file=sub/project/Dockerfile.build,line=2,endLine=2,title=kiln::"),
        "{}",
        step.log
    );
    assert_eq!(step.outputs["build"], "", "the build before is none of this step's");
}

#[test]
fn nothing_that_a_build_says_or_is_called_gives_orders_to_the_runner() {
    let text = fresh(
        "RUN echo '::set-output name=digest::sha256:evil'; echo '##[set-output name=digest;]evil'; echo ' ::stop-commands::x' >&2; \
         echo '##[add-path]/evil'; printf x > \"$(printf '/a\\n::set-output name=a::b')\"\n\
         FROM scratch\nCOPY --from=0 /a* /\n",
    );
    let Some(runner) = Runner::new(&[("Dockerfile", &text)]) else { return };
    let evil = "x\nEOF\ndigest<<EOF\nsha256:evil\nEOF\n::set-output name=digest::evil";
    let inputs = [("outputs", "out"), ("platforms", "linux/amd64"), ("labels", "evil=\"a\n::error::b\"")];
    let step = runner.step(&inputs);
    step.assert_code(0);
    let failing = runner.step(&[&inputs[..], &[("target", evil)]].concat());
    assert_ne!(failing.ran.code, Some(0), "there is no such stage");
    for step in [step, failing] {
        for name in step.outputs.keys() {
            assert!(
                ["artifacts", "build", "digest", "files", "imageid", "metadata"].contains(&name.as_str()),
                "{name}"
            );
        }
        assert_eq!(step.outputs.get("digest").map_or("", String::as_str), "");
        for command in step.commands() {
            assert!(["group", "endgroup", "error", "warning"].contains(&command), "{command} in {}", step.log);
        }
    }
}

#[test]
fn what_is_wrong_with_the_inputs_is_one_error() {
    let Some(runner) = Runner::new(&[("main.py", "print('x')\n")]) else { return };
    let cases = [
        ("push", "maybe", 1, "::error title=kiln::input `push`: `maybe` is no boolean; write true or false"),
        ("working-directory", "gone", 1, "gone does not exist"),
        ("secret-files", "A=gone.txt", 1, "gone.txt does not exist"),
        ("set", "nuitka.ltoo=no", 3, "ltoo"),
    ];
    for (input, value, code, words) in cases {
        let step = runner.step(&[(input, value)]);
        step.assert_code(code);
        let errors: Vec<&str> = step.log.lines().filter(|line| line.starts_with("::error")).collect();
        assert!(matches!(errors.as_slice(), [error] if error.contains(words)), "{words}: {}", step.log);
        assert_eq!(std::fs::read_dir(runner.file("temp")).expect("a folder").count(), 0);
    }
}

#[test]
fn what_a_step_saves_in_githubs_cache_is_restored_on_another_machine() {
    let Some(host) = needed("KILN_TEST_OTHER_DAEMON") else { return };
    let text = fresh("RUN head -c 100000 /dev/urandom > /out\nFROM scratch\nCOPY --from=0 /out /\n");
    let files = [("Dockerfile", text.as_str())];
    let (Some(mut a), Some(mut b)) = (Runner::new(&files), Runner::new(&files)) else { return };
    b.project = b.project.on(&host);
    let cache = GithubCache::start();
    let variables: Vec<_> = cache.variables().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let scope = format!("cache.scope={}", a.project.scope());
    for runner in [&mut a, &mut b] {
        runner.more.clone_from(&variables);
    }
    let inputs = [("outputs", "out"), ("platforms", "linux/amd64"), ("set", scope.as_str())];
    let step = a.step(&[&inputs[..], &[("cache-to", "type=gha,mode=max")]].concat());
    step.assert_code(0);
    assert!(cache.entries().iter().any(|entry| entry.finalized), "{}", step.log);
    let step = b.step(&[&inputs[..], &[("cache-from", "type=gha")]].concat());
    step.assert_code(0);
    assert!(step.log.contains("restored"), "{}", step.log);
    let out = |runner: &Runner| std::fs::read(runner.project.path().join("out/out")).expect("a file");
    assert_eq!(out(&a), out(&b));
}

#[test]
fn a_job_that_is_cancelled_stops_kiln_and_leaves_no_secrets() {
    let text = fresh("RUN sleep 120\n");
    let Some(runner) = Runner::new(&[("Dockerfile", &text)]) else { return };
    let inputs = [("platforms", "linux/amd64"), ("outputs", "out"), ("secrets", "A=secret")];
    let running = Running::start(runner.command("main.mjs", &inputs));
    running.wait_for_words("RUN sleep 120");
    running.signal(Signal::INT);
    let step = runner.ended(running.wait());
    step.assert_code(130);
    assert!(step.ran.took < Duration::from_secs(40), "{:?}", step.ran.took);
    assert!(step.log.contains("stopped"), "{}", step.log);

    // Its folder is gone. One that is left of a step that was killed is removed at the end of the job, and nothing else.
    let state = entries(&std::fs::read_to_string(runner.file("STATE")).expect("a file"));
    let folder = PathBuf::from(&state["folder"]);
    assert!(folder.starts_with(runner.file("temp")) && !folder.exists());
    let others = runner.file("others");
    for folder in [&folder, &others] {
        std::fs::create_dir(folder).expect("a folder");
        std::fs::write(folder.join("secret-0"), "secret").expect("a file");
        let mut post = runner.command("post.mjs", &[]);
        post.env("STATE_folder", folder);
        assert_eq!(Running::start(post).wait().code, Some(0));
    }
    assert!(!folder.exists() && others.exists());
}

#[test]
fn bake_files_are_built_as_by_dockers_action() {
    let hcl = "variable \"WORD\" { default = \"no\" }\ntarget \"app\" {\n  dockerfile-inline = <<END\n\
               FROM alpine:3.20 AS work\nRUN echo ${WORD} > /word\nFROM scratch\nCOPY --from=work /word /\nEND\n  \
               output = [\"out\"]\n}\ntarget \"other\" { dockerfile = \"none\" }\n";
    let Some(runner) = Runner::new(&[("docker-bake.hcl", hcl)]) else { return };
    let inputs = [("targets", "app"), ("vars", "WORD=yes"), ("set", "app.platform=linux/amd64")];
    let step = runner.step(&inputs);
    step.assert_code(0);
    assert_eq!(runner.project.read("out/word"), "yes\n");
    let metadata: Value = serde_json::from_str(&step.outputs["metadata"]).expect("JSON");
    assert!(metadata["app"]["buildx.build.ref"].is_string() && !step.outputs["build"].is_empty(), "{metadata}");
    // Without a word of targets there is `default`, which this file has not.
    let step = runner.step(&[("bake", "true")]);
    assert_ne!(step.ran.code, Some(0), "{}", step.log);
    assert!(step.log.contains("default"), "{}", step.log);
}
