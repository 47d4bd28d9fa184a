//! Commits from a repository on this machine.

use std::path::Path;
use std::process::Command;

use kiln_fetch::git::{Settings, fetch};
use kiln_fetch::{Cache, FetchError};
use kiln_graph::GitReference;

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=n", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .output()
        .expect("git");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A repository with two commits; the first has a branch and two kinds of tags.
fn repository(folder: &Path) -> (String, String) {
    git(folder, &["init", "--quiet"]);
    fs_err::create_dir(folder.join("sub")).expect("folder");
    fs_err::write(folder.join("sub/f"), "1").expect("file");
    fs_err::os::unix::fs::symlink("/etc", folder.join("out")).expect("link");
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "--quiet", "-m", "one"]);
    git(folder, &["branch", "old"]);
    git(folder, &["tag", "plain"]);
    git(folder, &["tag", "-a", "noted", "-m", "text"]);
    let first = git(folder, &["rev-parse", "HEAD"]);
    fs_err::write(folder.join("top"), "2").expect("file");
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "--quiet", "-m", "two"]);
    (first, git(folder, &["rev-parse", "HEAD"]))
}

fn reference(repository: &Path, reference: Option<&str>, subdir: &str) -> GitReference {
    GitReference {
        repository: format!("file://{}", repository.display()),
        reference: reference.map(str::to_owned),
        subdir: subdir.to_owned(),
        checksum: None,
        keep_git_dir: None,
        submodules: true,
    }
}

#[tokio::test]
async fn branches_tags_and_commits_are_found() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let source = dir.path().join("source.git");
    fs_err::create_dir(&source).expect("folder");
    let (first, second) = repository(&source);
    let cache = Cache::new(&dir.path().join("cache"));
    let settings = Settings::default();
    for (name, expected) in [
        (None, &second),
        (Some("main"), &second),
        (Some("old"), &first),
        (Some("refs/heads/old"), &first),
        (Some("plain"), &first),
        (Some("noted"), &first),
        (Some(first.as_str()), &first),
    ] {
        let tree = fetch(&settings, &cache, &reference(&source, name, ""), false).await.expect("fetched");
        assert_eq!(&tree.commit, expected, "{name:?}");
        assert_eq!(tree.folder.join("top").exists(), expected == &second, "{name:?}");
        assert!(!tree.folder.join(".git").exists());
    }
    let again = fetch(&settings, &cache, &reference(&source, Some("old"), ""), false).await.expect("fetched");
    assert!(again.cached);
    let kept = fetch(&settings, &cache, &reference(&source, None, ""), true).await.expect("fetched");
    assert!(kept.folder.join(".git/HEAD").exists());
    assert_eq!(git(&kept.folder, &["rev-list", "--count", "HEAD"]), "1", "without history");
    let unfinished = dir.path().join("cache/v1/unfinished");
    assert_eq!(fs_err::read_dir(unfinished).expect("folder").count(), 0);
}

#[tokio::test]
async fn a_folder_that_did_not_change_keeps_its_identity() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let source = dir.path().join("source.git");
    fs_err::create_dir(&source).expect("folder");
    repository(&source);
    let cache = Cache::new(&dir.path().join("cache"));
    let settings = Settings::default();
    let get = async |name, subdir| fetch(&settings, &cache, &reference(&source, name, subdir), false).await;
    let (old, new) = (get(Some("old"), "sub").await.expect("old"), get(None, "sub").await.expect("new"));
    assert_ne!(old.commit, new.commit);
    assert_eq!(old.identity, new.identity);
    assert_eq!(fs_err::read_to_string(new.folder.join("f")).expect("file"), "1");
    assert_ne!(get(Some("old"), "").await.expect("old").identity, get(None, "").await.expect("new").identity);
    for subdir in ["none", "out", "sub/f"] {
        assert!(matches!(get(None, subdir).await, Err(FetchError::NoSubdir { .. })), "{subdir}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let source = dir.path().join("source.git");
    fs_err::create_dir(&source).expect("folder");
    let (first, second) = repository(&source);
    let cache = Cache::new(&dir.path().join("cache"));
    let settings = Settings::default();
    let error = fetch(&settings, &cache, &reference(&source, Some("nowhere"), ""), false).await.expect_err("no branch");
    assert!(error.to_string().ends_with("has no branch or tag `nowhere`"), "{error}");
    let gone = reference(&dir.path().join("gone.git"), None, "");
    assert!(matches!(fetch(&settings, &cache, &gone, false).await, Err(FetchError::Git { action: "read", .. })));
    let mut pinned = reference(&source, None, "");
    pinned.checksum = Some(first.clone());
    let error = fetch(&settings, &cache, &pinned, false).await.expect_err("another commit");
    assert!(error.to_string().contains(&first) && error.to_string().contains(&second), "{error}");
    pinned.checksum = Some(second[..9].to_owned());
    assert_eq!(fetch(&settings, &cache, &pinned, false).await.expect("it is").commit, second);
}
