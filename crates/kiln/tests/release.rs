//! `kiln release` as a user meets it: in a repository of git's, against servers that behave as the forges do.

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Project, Ran};
use kiln_artifact::checksum::{Sha256, Sums};
use kiln_testkit::{ForgeFault, ForgeServer};
use rustix::process::{Pid, Signal, kill_process};

/// A token that is in no output.
const SECRET: &str = "writer-0123456789";

const CHANGELOG: &str = "\
# Changelog

## [Unreleased]

## [1.0.0] - 2026-01-31
### Added
- A greeting.

## [0.9.0] - 2025-12-24
- Nothing yet.
";

/// A project with two commits, the first of them tagged as 0.9.0, and files of a release.
struct Checkout {
    project: Project,
}

impl Checkout {
    fn new() -> Self {
        let project = Project::new(&[
            ("main.py", "print('hello')\n"),
            (".gitignore", "dist\n.kiln\n"),
            ("CHANGELOG.md", CHANGELOG),
            ("kiln.toml", "[project]\nname = \"app\"\nversion = \"1.0.0\"\n"),
        ]);
        let checkout = Self { project };
        checkout.git(&["init", "--quiet", "--initial-branch", "main"]);
        checkout.commit("feat: begin");
        checkout.git(&["tag", "v0.9.0"]);
        checkout.project.write("main.py", "print('hello, world')\n");
        checkout.commit("fix: greet <everybody>");
        checkout.file("app-1.0.0-linux-x86_64.tar.gz", &"x".repeat(70_000));
        checkout.file("app_1.0.0_arm64.deb", &"d".repeat(300_000));
        checkout.project.write("dist/app.cdx.json", "{}");
        checkout
    }

    fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(args).current_dir(self.project.path(""));
        // Fixed, so that ids of commits are.
        for name in ["GIT_AUTHOR", "GIT_COMMITTER"] {
            command.env(format!("{name}_NAME"), "Ann Author").env(format!("{name}_EMAIL"), "ann@example.org");
            command.env(format!("{name}_DATE"), "2026-01-31T12:00:00Z");
        }
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.output().expect("git runs");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--no-gpg-sign", "--message", message]);
    }

    /// Writes a file of the release and its sum.
    fn file(&self, name: &str, text: &str) {
        self.project.write(&format!("dist/{name}"), text);
        let mut sums = Sums::new();
        sums.insert(name, Sha256::of(text));
        sums.update(&self.project.path("dist")).expect("sums");
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// A server that was pushed to.
    fn pushed(&self, start: fn() -> ForgeServer) -> ForgeServer {
        let server = start();
        server.push(&self.head());
        server
    }

    fn release_with(&self, server: &ForgeServer, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut all = vec!["release", "--forge", server.kind(), "--url", &server.url, "--repository", "acme/app"];
        all.extend(args);
        let ran = self.project.kiln_with(&all, variables);
        assert!(!format!("{ran:?}").contains(SECRET), "{ran:?}");
        let clean = |text: &str| text.replace(&server.url, "http://HOST").replace(&server.url[7..], "HOST");
        for line in ran.stderr.lines() {
            // Errors and hints are sentences that a terminal wraps, as those of all commands.
            let is_sentence = ["error: ", "hint: ", "warning: "].iter().any(|word| line.starts_with(word));
            assert!(is_sentence || line.chars().count() <= 80 || line.contains("://"), "{line}");
        }
        Ran { code: ran.code, stdout: clean(&ran.stdout), stderr: clean(&ran.stderr) }
    }

    fn release(&self, server: &ForgeServer, args: &[&str]) -> Ran {
        let tokens = ["GITHUB_TOKEN", "GITEA_TOKEN", "GITLAB_TOKEN"].map(|name| (name, SECRET));
        self.release_with(server, args, &tokens)
    }
}

/// Fails unless a run ended like this, with these lines in what it says.
#[track_caller]
fn assert_ran(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, code, "{}", ran.stderr);
    for part in parts {
        assert!(ran.stderr.contains(part), "{part:?} is not in\n{}", ran.stderr);
    }
}

#[test]
fn a_release_is_published_and_then_left_alone() {
    for (start, page) in [
        (ForgeServer::github as fn() -> ForgeServer, "http://HOST/acme/app/releases/tag/v1.0.0\n"),
        (ForgeServer::gitea, "http://HOST/acme/app/releases/tag/v1.0.0\n"),
        (ForgeServer::gitlab, "http://HOST/acme/app/-/releases/v1.0.0\n"),
    ] {
        let checkout = Checkout::new();
        let server = checkout.pushed(start);
        let ran = checkout.release(&server, &[]);
        assert_ran(&ran, 0, &["published app 1.0.0: 4 files sent, 0 there already"]);
        assert_eq!(ran.stdout, page);
        let releases = server.releases();
        let [release] = releases.as_slice() else { panic!("{} releases", releases.len()) };
        let mut names: Vec<&str> = release.assets.iter().map(|asset| asset.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["SHA256SUMS", "app-1.0.0-linux-x86_64.tar.gz", "app.cdx.json", "app_1.0.0_arm64.deb"]);
        assert_eq!((release.draft, release.prerelease, release.name.as_str()), (false, false, "app 1.0.0"));
        assert!(release.body.starts_with("### Added\n- A greeting.\n"), "{}", release.body);
        assert!(release.body.contains("- greet &lt;everybody> ("), "{}", release.body);
        assert!(release.body.contains("compare/v0.9.0...v1.0.0)"), "{}", release.body);
        assert!(release.body.contains("| `app_1.0.0_arm64.deb` | linux/arm64 | 300.0 kB |"), "{}", release.body);
        assert_eq!(server.commit_of("v1.0.0"), Some(checkout.head()));
        let again = checkout.release(&server, &[]);
        assert_ran(&again, 0, &["app 1.0.0 is already published; nothing was changed"]);
        assert_eq!(again.stdout, page);
        // Another file under the same version.
        checkout.file("app_1.0.0_arm64.deb", &"e".repeat(300_000));
        let changed = checkout.release(&server, &[]);
        assert_ran(&changed, 6, &["is published, and SHA256SUMS has other contents", "--replace"]);
        assert_ran(&checkout.release(&server, &["--replace"]), 0, &["2 files sent, 2 there already"]);
    }
}

#[test]
fn what_breaks_off_is_completed_by_the_next_run() {
    let checkout = Checkout::new();
    let server = checkout.pushed(ForgeServer::github);
    server.fail_on("POST", "assets", ForgeFault::Status(422, "the file is bad"), 1);
    let ran = checkout.release(&server, &[]);
    assert_ran(&ran, 4, &["cannot upload", "the file is bad (422)", "stays; the next `kiln release` completes it"]);
    assert!(ran.stdout.is_empty() && server.published().is_empty(), "{ran:?}");
    let ran = checkout.release(&server, &["--draft"]);
    assert_ran(&ran, 0, &["completing what is there", "there already", "the draft of app 1.0.0 is complete"]);
    assert!(server.releases()[0].draft);
    assert_ran(&checkout.release(&server, &[]), 0, &["published app 1.0.0: 0 files sent, 4 there already"]);
    assert_eq!(server.published().len(), 1);
}

#[test]
fn a_release_that_is_stopped_is_completed_by_the_next_run() {
    let checkout = Checkout::new();
    let server = checkout.pushed(ForgeServer::github);
    server.fail_on("POST", "assets", ForgeFault::Late(Duration::from_mins(10)), 1);
    let args = ["release", "--forge", "github", "--url", &server.url, "--repository", "acme/app"];
    let mut command = checkout.project.command(&args);
    command.env("GH_TOKEN", SECRET).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().expect("kiln runs");
    while !server.requests().iter().any(|request| request.contains("assets")) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let process = Pid::from_child(&running);
    kill_process(process, Signal::INT).expect("it runs");
    let ran = Ran::new(&running.wait_with_output().expect("it ends"), &checkout.project.path(""));
    assert_ran(&ran, 130, &["draft: ", "stopped; what was sent stays, unseen"]);
    assert!(server.published().is_empty() && server.releases()[0].draft);
    server.heal();
    assert_ran(&checkout.release(&server, &[]), 0, &["completing what is there", "published app 1.0.0: "]);
    assert_eq!(server.published().len(), 1);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_sends_nothing() {
    let checkout = Checkout::new();
    let server = checkout.pushed(ForgeServer::github);
    // Without a token, too.
    let ran = checkout.release_with(&server, &["--dry-run"], &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stderr);
    assert!(server.requests().is_empty());
    insta::assert_snapshot!(ran.stdout);
    let notes = checkout.project.path("notes.md");
    fs_err::write(&notes, "By hand.\n").expect("written");
    let notes = notes.display().to_string();
    let args = ["--dry-run", "--draft", "--prerelease", "--notes", &notes, "--set", "release.assets=[\"*.deb\"]"];
    let ran = checkout.release_with(&server, &args, &[]);
    assert!(ran.stdout.contains(", as one to try out, as a draft\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("\nNotes:\n  By hand.\n") && !ran.stdout.contains("tar.gz"), "{}", ran.stdout);
}

#[test]
fn what_a_release_needs_is_asked_for_before_anything_is_sent() {
    let checkout = Checkout::new();
    let server = ForgeServer::github();
    let refused = |args: &[&str], code: i32, parts: &[&str]| assert_ran(&checkout.release(&server, args), code, parts);
    refused(&[], 3, &["does not have commit", "push it first: git push"]);
    server.push(&checkout.head());
    server.requests();
    assert_ran(&checkout.release_with(&server, &[], &[]), 3, &["no token for GitHub", "GH_TOKEN or GITHUB_TOKEN"]);
    refused(&["--tag", "v1.1.0"], 3, &["--tag v1.1.0 is of version 1.1.0", "(kiln.toml:3)"]);
    refused(&["--target", "gone"], 3, &["git knows no commit gone"]);
    refused(&["--tag", "v0.9.0", "--set", "project.version=0.9.0"], 3, &["tag v0.9.0 is commit", "and HEAD is"]);
    checkout.project.write("main.py", "print('hello!')\n");
    refused(&[], 3, &["changes that are in no commit: main.py", "--allow-dirty"]);
    checkout.git(&["checkout", "--quiet", "main.py"]);
    refused(&["--set", "release.assets=[\"*.rpm\"]"], 3, &["no file in dist is called `*.rpm`"]);
    checkout.file("app-0.9.0-linux-x86_64.tar.gz", "old");
    refused(&[], 3, &["files of another version: app-0.9.0-linux-x86_64.tar.gz", "app-0.9.0-linux-x86_64.tar.gz"]);
    fs_err::remove_file(checkout.project.path("dist/app-0.9.0-linux-x86_64.tar.gz")).expect("removed");
    checkout.file("app-1.0.0-linux-arm64.tar.gz", "new");
    fs_err::remove_file(checkout.project.path("dist/app-1.0.0-linux-arm64.tar.gz")).expect("removed");
    refused(&[], 3, &["SHA256SUMS lists app-1.0.0-linux-arm64.tar.gz", "not in dist"]);
    checkout.file("app_1.0.0_arm64.deb", &"d".repeat(300_000));
    checkout.project.write("dist/app_1.0.0_arm64.deb", "tampered");
    refused(&[], 6, &["dist/app_1.0.0_arm64.deb is not as SHA256SUMS says"]);
    fs_err::remove_file(checkout.project.path("dist/SHA256SUMS")).expect("removed");
    refused(&[], 3, &["no SHA256SUMS in dist", "kiln package"]);
    assert!(server.requests().is_empty());
}

#[test]
fn where_to_publish_has_to_be_known() {
    let checkout = Checkout::new();
    let refused = |args: &[&str], parts: &[&str]| assert_ran(&checkout.project.kiln(args), 3, parts);
    refused(&["release"], &["git has no remote", "--forge and --repository"]);
    checkout.git(&["remote", "add", "origin", "git@code.example.org:acme/app.git"]);
    refused(&["release"], &["code.example.org may be"]);
    checkout.git(&["remote", "set-url", "origin", "git@github.com:acme/app.git"]);
    let ran = checkout.project.kiln(&["release", "--dry-run"]);
    assert!(ran.stdout.contains("to GitHub repository acme/app\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("POST https://uploads.github.com/repos/acme/app/releases/ID/assets"), "{}", ran.stdout);
    let no_repository = Project::new(&[("main.py", "")]);
    assert_ran(&no_repository.kiln(&["release"]), 3, &["is in no git repository"]);
    let wrong = checkout.project.kiln(&["release", "--forge", "sourceforge"]);
    assert_ran(&wrong, 3, &["--forge: `release.forge` cannot be \"sourceforge\""]);
}

#[test]
fn what_a_forge_refuses_is_told_with_what_helps() {
    let checkout = Checkout::new();
    for (start, needs) in [
        (ForgeServer::github as fn() -> ForgeServer, "contents: write"),
        (ForgeServer::gitea, "write:repository"),
        (ForgeServer::gitlab, "the scope `api`"),
    ] {
        let server = checkout.pushed(start);
        for (status, said) in [(401, "the token is not accepted"), (403, "the token may not"), (404, "spelt right")] {
            server.fail_at(0, ForgeFault::Status(status, "no"));
            assert_ran(&checkout.release(&server, &[]), 4, &[said, needs, "acme/app on HOST"]);
        }
        assert!(server.releases().is_empty());
    }
}
