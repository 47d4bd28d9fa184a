//! The command line as a user meets it, without a daemon: what is said, on which stream, with which exit code.

mod common;

use common::Project;

const MAIN: (&str, &str) = ("main.py", "print('hello')\n");

/// Fails unless kiln ends with `code` and says exactly `expected`.
#[track_caller]
fn assert_error(project: &Project, args: &[&str], code: i32, expected: &str) {
    let ran = project.kiln(args);
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said: Vec<&str> = ran.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!((said, ran.code, ran.stdout.as_str()), (expected, code, ""), "kiln {}", args.join(" "));
}

#[test]
fn wrong_command_lines() {
    let project = Project::new(&[MAIN]);
    let usage = |args: &[&str], part: &str| {
        let ran = project.kiln(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{args:?}: {}", ran.stderr);
    };
    usage(&["buld"], "a similar subcommand exists: 'build'");
    usage(&["build", "--no-cash"], "a similar argument exists: '--no-cache'");
    usage(&["build", "--entry", "a.py", "--module", "a"], "cannot be used with");
    usage(&["build", "--fail-fast", "--keep-going"], "cannot be used with");
    usage(&["build", "--set", "foo"], "write KEY=VALUE");
    usage(&["build", "--build-arg", "=x"], "write NAME=VALUE");
    usage(&["build", "--parallel", "0"], "invalid value '0'");
    usage(&["build", "--output", ""], "it is empty");
    usage(&["build", "--output", "type=local"], "dest is required");
    usage(&["build", "--output", "type=nonsense,dest=x"], "`nonsense`");
    usage(&["cache", "prune", "--all", "x"], "cannot be used with");
    usage(&["init", "--eject", "fedora"], "the recipes are alpine and debian");
    assert_eq!(project.names(), ["main.py"]);
}

#[test]
fn projects_that_are_none() {
    let project = Project::new(&[MAIN]);
    assert_error(
        &project,
        &["build", "nosuch"],
        3,
        "error: the project folder nosuch does not exist\nhint: name the folder of your project",
    );
    assert_error(
        &project,
        &["build", "main.py"],
        3,
        "error: main.py is no folder\nhint: name the folder; --entry names the file",
    );
    assert_error(
        &Project::new(&[]),
        &["build"],
        3,
        "error: no program to build: neither `project.entry` nor `project.module` is set
         hint: set `entry` in [project] of kiln.toml, or pass --entry FILE",
    );
    assert_error(
        &project,
        &["build", "--config", "my.toml"],
        3,
        "error: the settings file my.toml does not exist\nhint: `kiln init` writes one",
    );
}

#[test]
fn wrong_values_name_where_they_stand() {
    let project = Project::new(&[MAIN]);
    let wrong = |toml: &str, expected: &str| {
        project.write("kiln.toml", toml);
        assert_error(&project, &["build"], 3, expected);
    };
    wrong(
        "[nuitka]\nlto = \"maybe\"\n",
        "error: kiln.toml:2:7: `nuitka.lto` cannot be \"maybe\"; allowed: \"auto\", \"yes\" (or true), \"no\" (or false)",
    );
    wrong(
        "[project]\nentry = main.py\n",
        "error: kiln.toml:2:9: invalid TOML: string values must be quoted, expected literal string
         hint: text values stand in double quotes: name = \"hello\"",
    );
    wrong(
        "[project]\nrequirements = \"requirments.txt\"\n",
        "error: kiln.toml:2:16: `requirments.txt` of `project.requirements` does not exist
         hint: paths are relative to the project folder",
    );
    wrong(
        "[platform.\"linux/amd46\"]\nlto = \"no\"\n",
        "error: kiln.toml:1:11: unknown platform `linux/amd46` (did you mean `linux/amd64`?)
         hint: kiln builds for linux/amd64, linux/386, linux/arm64, linux/arm/v7, linux/arm/v6, linux/riscv64, \
         linux/ppc64le, linux/s390x",
    );
    fs_err::write(project.path("kiln.toml"), b"\xff\xfe").expect("file");
    assert_error(&project, &["build"], 3, "error: kiln.toml is no text in UTF-8\nhint: save it as UTF-8");
    fs_err::remove_file(project.path("kiln.toml")).expect("file");
    assert_error(
        &project,
        &["build", "--entry", "mian.py"],
        3,
        "error: --entry: `mian.py` of `project.entry` does not exist (did you mean `main.py`?)
         hint: paths are relative to the project folder",
    );
    assert_error(
        &project,
        &["build", "--set", "nuitka.lot=no"],
        3,
        "error: unknown setting `nuitka.lot` (did you mean `nuitka.lto`?)\nhint: `kiln config show` lists every setting",
    );
    let ran = project.kiln(&["build", "--platform", "linux/amd46"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.starts_with("error: --platform: `build.platforms` cannot be \"linux/amd46\""), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("hint: did you mean \"linux/amd64\"?\n"), "{}", ran.stderr);
    let ran = project.kiln_with(&["build"], &[("KILN_NUITKA_JOBS", "0")]);
    assert_eq!((ran.code, ran.stderr.starts_with("error: KILN_NUITKA_JOBS: ")), (3, true), "{}", ran.stderr);
    assert_eq!(project.names(), ["main.py"]);
}

#[test]
fn unknown_keys_are_warnings_with_a_suggestion() {
    let project = Project::new(&[MAIN, ("kiln.toml", "[project]\nnmae = \"x\"\n[bild]\n")]);
    let ran = project.kiln_with(&["config", "show"], &[("KILN_NUITKA_LOT", "no")]);
    assert_eq!(ran.code, 0);
    assert_eq!(
        ran.stderr,
        "warning: kiln.toml:2:1: unknown key `project.nmae` (did you mean `project.name`?)\n\
         warning: kiln.toml:3:2: unknown key `bild` (did you mean `build`?)\n\
         warning: unknown variable KILN_NUITKA_LOT (did you mean `KILN_NUITKA_LTO`?)\n"
    );
}

#[test]
fn dockerfiles_that_are_wrong() {
    let project = Project::new(&[]);
    let wrong = |text: &str, expected: &str| {
        project.write("Dockerfile.build", text);
        assert_error(&project, &["build", "-f", "Dockerfile.build"], 3, expected);
    };
    wrong("FORM alpine:3.20\n", "error: Dockerfile.build:1:1: unknown instruction `FORM`\nhint: did you mean `FROM`?");
    wrong(
        "FROM alpine\nRUN --mount=type=cach,target=/x true\n",
        "error: Dockerfile.build:2:18: unknown mount type `cach`\nhint: did you mean `cache`?",
    );
    assert_error(
        &project,
        &["build", "-f", "Dockerfile.biuld"],
        3,
        "error: the Dockerfile Dockerfile.biuld does not exist
         hint: --file names one, relative to the current folder",
    );
}

#[test]
fn the_doctor_works_without_a_daemon() {
    let project = Project::new(&[MAIN, ("kiln.toml", "[nuitka]\nlto = \"maybe\"\n")]);
    let ran = project.kiln(&["doctor"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    for words in ["no Docker daemon answers", "DOCKER_HOST says", "kiln.toml:2:7", "no daemon", "by intention"] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    assert!(ran.stderr.contains("2 failed"), "{}", ran.stderr);
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ran.stdout);
    project.write("kiln.toml", "");
    let ran = project.kiln(&["doctor", "--json", "--platform", "linux/arm64"]);
    let checks: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let of = |name: &str| checks.as_array().expect("a list").iter().filter(|check| check["check"] == name).count();
    assert_eq!((ran.code, of("daemon"), of("lto"), of("artifact")), (4, 1, 1, 1), "{checks}");
    assert_eq!(project.kiln(&["doctor", "nosuch"]).code, 3);
    assert_eq!(project.kiln(&["doctor", "--platform", "linux/none"]).code, 3);
    assert_eq!(project.names(), ["kiln.toml", "main.py"]);
}

#[test]
fn daemons_that_do_not_answer() {
    let project = Project::new(&[MAIN]);
    let hint = "hint: is the daemon running? start it (`sudo systemctl start docker`), or set DOCKER_HOST or a docker \
                context; `kiln doctor` looks for the cause";
    assert_error(
        &project,
        &["build"],
        4,
        &format!(
            "error: no Docker daemon answers at unix:///no/daemon.sock
             caused by: No such file or directory (os error 2)\n{hint}"
        ),
    );
    // A socket that nobody listens at: the daemon was stopped.
    let socket = project.path("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("socket"));
    let host = format!("unix://{}", socket.display());
    assert_error(
        &project,
        &["-H", &host, "cache", "ls"],
        4,
        &format!(
            "error: no Docker daemon answers at unix://[PROJECT]/dead.sock
             caused by: Connection refused (os error 111)\n{hint}"
        ),
    );
    assert_error(
        &project,
        &["-H", "foo://x", "build"],
        4,
        "error: cannot connect to a Docker daemon: `foo://x` is not the address of a daemon: `foo` is no known kind
         hint: write unix:///path, tcp://host:port, ssh://user@host, http://host:port or https://host:port",
    );
    let ran = project.kiln(&["--docker-context", "nosuch", "build"]);
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("there is no docker context `nosuch`"), "{}", ran.stderr);
    // Nothing was begun, so nothing is left.
    assert_eq!(project.names(), ["dead.sock", "main.py"]);
    assert!(!project.path(".kiln").exists());
}

#[test]
fn a_stop_is_heard_before_anything_has_begun() {
    // It takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let host = format!("tcp://{}", silent.local_addr().expect("address"));
    let project = Project::new(&[MAIN]);
    let kiln =
        project.command(&["-H", &host, "build"]).stderr(std::process::Stdio::piped()).spawn().expect("kiln runs");
    let _connection = silent.accept().expect("kiln connects");
    let status = std::process::Command::new("kill").args(["-INT", &kiln.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
    let output = kiln.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "stopped; nothing had begun\n");
}

#[test]
fn settings_come_from_layers_and_say_from_which() {
    let project = Project::new(&[MAIN, ("kiln.toml", "[nuitka]\nlto = \"no\"\njobs = 3\nversion = \"1\"\n")]);
    project.user("[nuitka]\nlto = \"yes\"\njobs = 9\nversion = \"2\"\nmode = \"standalone\"\n");
    let variables = [("KILN_NUITKA_JOBS", "5"), ("KILN_NUITKA_VERSION", "4"), ("KILN_TEST_X", "ignored")];
    let ran =
        project.kiln_with(&["config", "show", "--set", "nuitka.version=7", "--platform", "linux/386"], &variables);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let line = |key: &str| {
        let found = ran.stdout.lines().find(|line| line.starts_with(&format!("{key} = ")));
        found.map(|line| line.rsplit('/').next().unwrap_or(line).to_owned()).unwrap_or_default()
    };
    assert_eq!(line("nuitka.mode"), "config.toml:5");
    assert_eq!(line("nuitka.lto"), "nuitka.lto = \"no\"  # kiln.toml:2");
    assert_eq!(line("nuitka.jobs"), "nuitka.jobs = 5  # KILN_NUITKA_JOBS");
    assert_eq!(line("nuitka.version"), "nuitka.version = \"7\"  # --set");
    assert_eq!(line("build.platforms"), "386\"]  # --platform");
    assert_eq!(line("project.entry"), "project.entry = \"main.py\"  # main.py exists");
    assert_eq!(line("build.output"), "build.output = \"dist\"  # default");
    let ran = project.kiln(&["config", "show", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let jobs = rows.as_array().expect("a list").iter().find(|row| row["key"] == "nuitka.jobs").expect("it is there");
    assert_eq!((jobs["value"].as_str(), jobs["from"].as_str()), (Some("3"), Some("kiln.toml:3")));
}

#[test]
fn pyproject_can_hold_the_settings() {
    let text = "[project]\nname = \"my-tool\"\n[tool.kiln.nuitka]\nlto = \"no\"\n[tool.kiln.nutka]\n";
    let project = Project::new(&[MAIN, ("pyproject.toml", text)]);
    let ran = project.kiln(&["config", "show"]);
    assert_eq!(ran.stderr, "warning: pyproject.toml:5:12: unknown key `nutka` (did you mean `nuitka`?)\n");
    assert!(ran.stdout.contains("nuitka.lto = \"no\"  # pyproject.toml:4\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("project.name = \"my-tool\"  # pyproject.toml:2\n"), "{}", ran.stdout);
    project.write("kiln.toml", "");
    let ran = project.kiln(&["config", "show"]);
    assert_eq!(ran.stderr, "warning: pyproject.toml: [tool.kiln] is ignored, because kiln.toml exists\n");
}

#[test]
fn init_finds_what_is_there() {
    /// The settings that init wrote, without comments.
    fn live(project: &Project) -> Vec<String> {
        let text = project.read("kiln.toml");
        text.lines().filter(|l| !l.is_empty() && !l.starts_with(['#', '['])).map(str::to_owned).collect()
    }
    let flat = Project::new(&[MAIN, ("requirements.txt", ""), ("assets/icon.png", ""), ("assets/a.json", "{}")]);
    let ran = flat.kiln(&["init"]);
    assert_eq!(ran.stderr, "wrote kiln.toml\nthe program is main.py; `kiln build` builds it\n");
    let folder = flat.path("").file_name().expect("named").to_string_lossy().into_owned();
    let name = format!("name = \"{folder}\"");
    assert_eq!(live(&flat), [&name, "entry = \"main.py\"", "data = [\"assets=assets\"]", "icon = \"assets/icon.png\""]);
    let again = flat.kiln(&["init"]);
    assert_eq!((again.code, again.stderr.lines().next()), (2, Some("error: kiln.toml is there already")));
    assert_eq!(flat.kiln(&["init", "--force"]).code, 0);

    let pyproject = "[project]\nname = \"tool\"\nversion = \"2\"\n[project.scripts]\ntool = \"tool:main\"\n";
    let src = Project::new(&[("pyproject.toml", pyproject), ("src/tool/__main__.py", ""), ("tests/__main__.py", "")]);
    assert_eq!(src.kiln(&["init"]).code, 0);
    assert_eq!(live(&src), ["entry = \"src/tool/__main__.py\""]);

    let script = Project::new(&[("pyproject.toml", pyproject), ("tool/__init__.py", "")]);
    assert_eq!(script.kiln(&["init"]).code, 0);
    assert_eq!(live(&script), ["module = \"tool:main\""]);

    let empty = Project::new(&[("start.py", "")]);
    let ran = empty.kiln(&["init"]);
    let said = "wrote kiln.toml\nno program was found: set `entry` or `module` in [project] before building\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (0, said));
    // What init writes, kiln reads without a warning.
    for project in [&flat, &src, &script, &empty] {
        let ran = project.kiln(&["config", "show"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    }
}

#[test]
fn a_recipe_can_be_written_out() {
    let project = Project::new(&[MAIN]);
    assert_eq!(project.kiln(&["init", "--eject", "debian"]).code, 0);
    assert_eq!(project.names(), ["kiln.Dockerfile", "kiln.toml", "main.py"]);
    assert!(project.read("kiln.Dockerfile").starts_with("# kiln: recipe\n"));
    let ran = project.kiln(&["config", "show"]);
    assert!(ran.stdout.contains("build.recipe = \"kiln.Dockerfile\"  # kiln.toml:"), "{}", ran.stdout);
    assert!(ran.stdout.contains("verify.image = \"debian:bookworm\"  # from build.base"), "{}", ran.stdout);
    // It parses, and goes as far as any build without a daemon.
    assert_eq!(project.kiln(&["build"]).code, 4);
}

#[test]
fn the_guides_dockerfile_parses() {
    let project = Project::new(&[MAIN, ("Dockerfile.build", include_str!("fixtures/guide.Dockerfile"))]);
    let line = "build -f Dockerfile.build --target export --platform linux/arm64 --build-arg ARCH=arm64 \
                --build-arg ENABLE_LTO=no -o type=local,dest=. .";
    let args: Vec<&str> = line.split_whitespace().collect();
    let ran = project.kiln(&args);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
}

#[test]
fn help_fits_the_terminal_and_names_the_exit_codes() {
    let project = Project::new(&[]);
    let ran = project.kiln(&["--version"]);
    assert_eq!(ran.stdout, format!("kiln {}\n", env!("CARGO_PKG_VERSION")));
    let ran = project.kiln(&["--help"]);
    assert!(ran.stdout.contains("Exit codes: 0 done, 1 a step failed, 2 wrong command line"), "{}", ran.stdout);
    for command in [
        &["build"][..],
        &["bake"],
        &["test"],
        &["init"],
        &["config", "show"],
        &["emulation", "install"],
        &["cache", "prune"],
    ] {
        let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let ran = project.kiln(&args);
        assert_eq!(ran.code, 0, "{command:?}");
        assert!(ran.stdout.lines().all(|line| line.len() <= 105), "{}", ran.stdout);
    }
}

#[test]
fn a_check_runs_nothing_and_needs_no_daemon() {
    let project = Project::new(&[("Dockerfile", "FROM alpine AS Base\nENV A=b\nWORKDIR x\nCMD [\"x\"]\n")]);
    let ran = project.kiln(&["build", "--check", "-f", "Dockerfile", "."]);
    let expected = "\
Dockerfile:1: stage name `Base` should be lowercase (StageNameCasing)
  https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
  1 | >>> FROM alpine AS Base
  2 |     ENV A=b
  3 |     WORKDIR x

Dockerfile:3: relative folder `x` depends on the base image (WorkdirRelativePath)
  https://docs.docker.com/go/dockerfile/rule/workdir-relative-path/
  1 |     FROM alpine AS Base
  2 |     ENV A=b
  3 | >>> WORKDIR x
  4 |     CMD [\"x\"]

2 warnings
";
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.code), (expected, "", 1));
    assert_eq!(project.names(), ["Dockerfile"]);
    let ran = project.kiln(&["build", "--call=check,format=json", "-f", "Dockerfile", "."]);
    assert!(ran.stdout.contains("\"ruleName\": \"WorkdirRelativePath\""), "{}", ran.stdout);
    let skip = "BUILDKIT_DOCKERFILE_CHECK=skip=all";
    let ran = project.kiln(&["build", "--call=check", "--build-arg", skip, "-f", "Dockerfile", "."]);
    assert_eq!((ran.stdout.as_str(), ran.code), ("no warnings\n", 0));
    let ran = project.kiln(&["build", "--call=outline", "-f", "Dockerfile", "."]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}

#[test]
fn under_ci_findings_are_annotations() {
    let project = Project::new(&[("Dockerfile", "FROM alpine AS Base\n")]);
    let args = ["build", "--check", "-f", "Dockerfile", "."];
    let ran = project.kiln_with(&args, &[("GITHUB_ACTIONS", "true")]);
    let expected = "::warning file=Dockerfile,line=1,endLine=1,title=StageNameCasing::stage name `Base` should be \
                    lowercase\n";
    assert_eq!((ran.stderr.as_str(), ran.code), (expected, 1));
}

#[test]
fn what_only_the_base_image_knows_is_said() {
    let project = Project::new(&[("Dockerfile", "FROM alpine\nENV A=$B\n")]);
    let ran = project.kiln(&["build", "--check", "-f", "Dockerfile", "."]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("alpine is not on a daemon here"), "{}", ran.stderr);
}

#[test]
fn bake_files_are_read_without_a_daemon() {
    let hcl = "variable V { default = \"1\" }\ntarget default {\n  args = { A = V }\n  tags = [\"x:${V}\"]\n}\n";
    let project = Project::new(&[("docker-bake.hcl", hcl)]);
    let ran = project.kiln_with(&["bake", "--print", "--set", "default.args.B=2"], &[("V", "7")]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    for expected in ["\"A\": \"7\"", "\"B\": \"2\"", "\"x:7\""] {
        assert!(ran.stdout.contains(expected), "{}", ran.stdout);
    }
    assert_error(&project, &["bake", "nosuch"], 3, "error: no target or group `nosuch`\nhint: there are default");
    project.write("docker-bake.hcl", "target default {\n  args = { A = upper( }\n}\n");
    let ran = project.kiln(&["bake", "--print"]);
    assert!(ran.code == 3 && ran.stderr.contains("docker-bake.hcl:2:"), "{}", ran.stderr);
    assert_eq!(Project::new(&[MAIN]).kiln(&["bake"]).code, 3);
}

#[test]
fn targets_of_kiln_toml_are_baked_and_are_no_unknown_settings() {
    let project = Project::new(&[("kiln.toml", "[target.default]\ndockerfile = \"D\"\n")]);
    let ran = project.kiln(&["bake", "--print"]);
    assert!(ran.code == 0 && ran.stdout.contains("\"dockerfile\": \"D\""), "{} {}", ran.stdout, ran.stderr);
    project.write("D", "FROM scratch\n");
    let ran = project.kiln(&["bake"]);
    assert!(ran.code == 4 && !ran.stderr.contains("unknown key"), "{} {}", ran.code, ran.stderr);
}

#[test]
fn what_there_is_to_bake_is_listed_and_checked_without_a_daemon() {
    let hcl = "variable V {\n  default = \"a\"\n  description = \"what it is\"\n}\n\
               group default {\n  targets = [\"one\", \"two\"]\n}\ntarget _base {}\n\
               target one {\n  description = \"the first\"\n  dockerfile-inline = \"FROM scratch AS B\\n\"\n}\n\
               target two {\n  dockerfile-inline = \"FROM scratch\\nCOPY a /\\n\"\n}\n";
    let project = Project::new(&[("docker-bake.hcl", hcl)]);
    let ran = project.kiln(&["bake", "--list=targets"]);
    assert_eq!(ran.stdout, "TARGET   DESCRIPTION\ndefault  one, two\none      the first\ntwo\n");
    let ran = project.kiln(&["bake", "--list=type=variables,format=json", "--var", "V=b"]);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(value, serde_json::json!([{ "name": "V", "value": "b", "description": "what it is" }]));
    let ran = project.kiln(&["bake", "--check"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stdout.starts_with("one\n\nDockerfile of one:1: stage name `B`"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("\ntwo\n\nno warnings\n"), "{}", ran.stdout);
    let ran = project.kiln(&["bake", "--call=targets,format=json", "one"]);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(value["target"]["one"]["targets"]["targets"][0]["name"], "b");
    let ran = project.kiln(&["bake", "--print", "--push", "--no-cache", "two"]);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(value["target"]["two"]["output"], serde_json::json!([{ "push": "true", "type": "image" }]));
    assert_eq!(value["target"]["two"]["no-cache"], true);
}

#[test]
fn what_is_wrong_with_a_target_names_it() {
    let project = Project::new(&[("docker-bake.hcl", "target app {\n  dockerfile-inline = \"FROM scratch\"\n}\n")]);
    for (set, code, text) in [
        ("output=type=foo", 2, "target app: --output `type=foo`: there is no type `foo`"),
        ("context=nosuch", 3, "target app: the project folder nosuch does not exist"),
        ("platform=linux/vax", 3, "target app: "),
        ("contexts.x=ftp://a", 2, "target app: --build-context x: `ftp://` is not understood"),
    ] {
        let ran = project.kiln(&["bake", "--set", &format!("app.{set}"), "app"]);
        assert!(ran.code == code && ran.stderr.contains(text), "{set}: {} {}", ran.code, ran.stderr);
    }
}

#[test]
fn quiet_and_another_progress_exclude_each_other() {
    let project = Project::new(&[MAIN]);
    let ran = project.kiln(&["build", "-q", "--progress=plain"]);
    assert!(ran.code == 2 && ran.stderr.contains("cannot both hold"), "{}", ran.stderr);
    let ran = project.kiln_with(&["build", "--entry=main.py"], &[("BUILDKIT_PROGRESS", "loud")]);
    assert!(ran.code == 2 && ran.stderr.contains("BUILDKIT_PROGRESS=loud"), "{}", ran.stderr);
}

#[test]
fn tests_that_cannot_be_run_are_said_before_a_daemon_is_asked() {
    let project = Project::new(&[MAIN]);
    let hint = "hint: set [test] command, or name files of pytest test_*.py";
    let expected = format!("error: nothing says how this project is tested\n{hint}");
    assert_error(&project, &["test"], 3, &expected);
    project.write("test_main.py", "");
    let shown = project.kiln(&["config", "show"]).stdout;
    for line in [
        "test.command = [\"pytest\"]  # test_main.py exists",
        "test.python = (unset)  # default",
        "test.timeout = 1800  # default",
        "test.base = \"alpine:3.20\"  # from build.base",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
    let wrong = project.kiln(&["test", "--python", "3"]);
    assert_eq!(wrong.code, 3, "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("`test.python` cannot be \"3\"; allowed: a list of Python versions"),
        "{}",
        wrong.stderr
    );
    project.write("kiln.toml", "[test]\nrequirements = \"nosuch.txt\"\n");
    let missing = project.kiln(&["test"]);
    assert_eq!(missing.code, 3, "{}", missing.stderr);
    assert!(missing.stderr.contains("kiln.toml:2") && missing.stderr.contains("nosuch.txt"), "{}", missing.stderr);
}
