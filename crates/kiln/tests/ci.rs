//! `kiln ci matrix` and `kiln migrate` as a user meets them.

mod common;

use common::Project;

const BUILD: &str = include_str!("../../kiln-ci/tests/fixtures/guide-build.yml");
const DOCKERFILE: &str = include_str!("../../kiln-ci/tests/fixtures/Dockerfile.build");

#[test]
fn a_matrix_follows_event_and_branch() {
    let project = Project::new(&[("main.py", ""), ("kiln.toml", "[ci]\ndevelopment-platforms = [\"linux/amd64\"]\n")]);
    let request =
        [("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_REF", "refs/pull/3/merge"), ("GITHUB_BASE_REF", "main")];
    let ran = project.kiln_with(&["ci", "matrix", "--name", "tool"], &request);
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (
            0,
            "{\"python\":[\"3.12\"],\"platform\":[\"linux/amd64\"],\"include\":[{\"platform\":\"linux/amd64\",\"arch\":\"x86_64\",\
             \"runner\":\"ubuntu-latest\",\"way\":\"native\",\"artifact\":\"tool-linux-x86_64\"}]}\n",
            ""
        )
    );
    let ran = project.kiln_with(&["ci", "matrix", "--ref", "main", "--explain", "--format", "github-output"], &request);
    assert_eq!(ran.code, 0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("matrix={\"python\":[\"3.11\",\"3.12\",\"3.13\"],"), "{}", ran.stdout);
    assert!(lines[1].starts_with("include=[{"), "{}", ran.stdout);
    assert_eq!(&lines[2..], ["python=[\"3.11\",\"3.12\",\"3.13\"]", "platforms=linux/amd64,linux/386,linux/arm64"]);
    assert!(ran.stderr.contains("run: default branch: event push, refs/heads/main (--ref)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("python: 3.11, 3.12, 3.13: ci.python (default)\n"), "{}", ran.stderr);
    let gitlab = [("CI_PIPELINE_SOURCE", "push"), ("CI_COMMIT_REF_NAME", "topic"), ("CI_DEFAULT_BRANCH", "trunk")];
    let ran = project.kiln_with(&["ci", "matrix", "--explain"], &gitlab);
    assert!(ran.stderr.contains("development branch: event push (CI_PIPELINE_SOURCE)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("platforms: linux/amd64: ci.development-platforms (kiln.toml:2)\n"), "{}", ran.stderr);
}

#[test]
fn wrong_rules_and_events_are_one_error() {
    let project = Project::new(&[("main.py", ""), ("kiln.toml", "[ci]\npython = [3.10]\n")]);
    let ran = project.kiln(&["ci", "matrix"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    assert_eq!(
        ran.stderr,
        "error: kiln.toml:2:11: `ci.python` cannot be 3.10; allowed: a list of Python versions such as [\"3.12\", \"3.13\"]\n\
         hint: put it in quotes: \"3.10\"\n"
    );
    project.write("kiln.toml", "");
    let ran = project.kiln(&["ci", "matrix", "--event", "pull-request"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (2, "error: unknown event `pull-request`\nhint: did you mean pull_request?\n")
    );
}

#[test]
fn settings_of_ci_are_shown() {
    let project = Project::new(&[("kiln.toml", "[platform.\"linux/arm64\".ci]\nrunner = \"ubuntu-24.04-arm\"\n")]);
    let ran = project.kiln(&["config", "show"]);
    assert!(ran.stdout.contains("ci.python = [\"3.11\", \"3.12\", \"3.13\"]  # default\n"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("platform.\"linux/arm64\".ci.runner = \"ubuntu-24.04-arm\"  # kiln.toml:2\n"),
        "{}",
        ran.stdout
    );
}

fn guide() -> Project {
    Project::new(&[
        (".github/workflows/build.yml", BUILD),
        ("Dockerfile.build", DOCKERFILE),
        ("requirements.txt", ""),
        ("chatrixcd/main.py", ""),
    ])
}

#[test]
fn a_workflow_is_migrated_once() {
    let project = guide();
    let ran = project.kiln(&["migrate"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (
            0,
            "",
            "wrote kiln.toml\nwrote .github/workflows/kiln-build.yml\n\
             .github/workflows/kiln-build.yml replaces .github/workflows/build.yml: remove that one when this one has run, or both will\n\
             `kiln migrate --check` shows both side by side\n"
        )
    );
    assert_eq!(project.read(".github/workflows/build.yml"), BUILD);
    let config = project.kiln(&["config", "show"]);
    assert_eq!((config.code, config.stderr.as_str()), (0, ""), "no unknown keys");

    let again = project.kiln(&["migrate"]);
    assert_eq!(again.code, 2);
    assert_eq!(
        again.stderr,
        "error: kiln.toml is there already\nhint: replace it with --force, write elsewhere with --output DIR, or look with --check\n"
    );
    assert_eq!(project.kiln(&["migrate", "--force"]).code, 0);
    let elsewhere = project.kiln(&["migrate", ".github/workflows/build.yml", "--output", "new"]);
    assert_eq!(elsewhere.code, 0, "{}", elsewhere.stderr);
    assert_eq!(project.read("new/.github/workflows/kiln-build.yml"), project.read(".github/workflows/kiln-build.yml"));
}

#[test]
fn both_ways_are_compared() {
    let project = guide();
    let ran = project.kiln(&["migrate", "--check"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(project.names(), [".github", "Dockerfile.build", "chatrixcd", "requirements.txt"], "nothing is written");
    insta::assert_snapshot!(ran.stdout);
    assert_eq!(project.kiln(&["migrate"]).code, 0);
    let text = project.read("kiln.toml").replace("ENABLE_LTO = \"no\"", "ENABLE_LTO = \"yes\"");
    project.write("kiln.toml", &text);
    // The workflow's own arguments win over the settings.
    assert_eq!(project.kiln(&["migrate", "--check"]).code, 0);
    let workflow = project.read(".github/workflows/kiln-build.yml").replace("echo \"flag=no\"", "echo \"flag=yes\"");
    project.write(".github/workflows/kiln-build.yml", &workflow);
    let ran = project.kiln(&["migrate", "--check"]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stdout.contains("DIFFERS"), "{}", ran.stdout);
    project.write(
        ".github/workflows/kiln-build.yml",
        &format!("# kiln: differs: flags: tried\n# kiln: differs: args: tried\n{workflow}"),
    );
    assert_eq!(project.kiln(&["migrate", "--check"]).code, 0);
}

#[test]
fn what_cannot_be_migrated_is_one_error() {
    let project = Project::new(&[]);
    let ran = project.kiln(&["migrate"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            3,
            "error: there is no workflow in .github/workflows\nhint: run this in the project's folder, or name a workflow or script\n"
        )
    );
    let ran = project.kiln(&["migrate", "nosuch.yml"]);
    assert_eq!((ran.code, ran.stderr.lines().next()), (3, Some("error: nosuch.yml does not exist")));
    project.write(".github/workflows/a.yml", "on: push\njobs:\n  a:\n    steps:\n    - run: 'x\n");
    let ran = project.kiln(&["migrate"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.starts_with("error: .github/workflows/a.yml:"), "{}", ran.stderr);
    assert!(ran.stderr.contains(": invalid YAML: "), "{}", ran.stderr);
}
