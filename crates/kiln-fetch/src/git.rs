//! Commits of git repositories, through the system's `git` and a cache.
//!
//! A branch or tag is looked up at the server each time; its commit is then taken from the cache, or fetched alone,
//! without history. Credentials, `known_hosts` and the like are git's own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use fs_err as fs;
use kiln_graph::{Digest, GitReference, Hasher};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::cache::{Cache, touch};
use crate::error::{FetchError, Result};

/// Version of [`Known`].
const VERSION: u32 = 1;
/// File beside a tree that says what it is.
const NOTES: &str = "kiln.json";
const TREE: &str = "tree";
/// Nobody is there to be asked for a password, and nothing of what was fetched is run.
const OPTIONS: [&str; 8] = [
    "-c",
    "advice.detachedHead=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.sshCommand=ssh -o BatchMode=yes",
    "-c",
    "init.defaultBranch=main",
];

/// A folder with the files of a commit.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The folder, in the cache: not to be changed.
    pub folder: PathBuf,
    /// The commit's whole id.
    pub commit: String,
    /// What decides the files: git's id of the folder, or of the commit if `.git` is kept.
    pub identity: Digest,
    /// Whether it was in the cache.
    pub cached: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    version: u32,
    /// git's id of the folder.
    tree: String,
}

/// How git is run.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Variables beside those of this process: proxies, certificates.
    pub env: Vec<(String, String)>,
}

/// Fetches what `reference` names. Dropping the future ends git and removes what is unfinished.
///
/// # Errors
/// If git is missing or fails, or there is no such commit or folder.
pub async fn fetch(settings: &Settings, cache: &Cache, reference: &GitReference, keep_git_dir: bool) -> Result<Tree> {
    let git = Git { settings, reference };
    let commit = git.resolve().await?;
    let wrong = |expected: &String| !commit.starts_with(&expected.to_lowercase());
    if let Some(expected) = reference.checksum.clone().filter(wrong) {
        return Err(FetchError::Commit { repository: reference.to_string(), expected, found: commit });
    }
    let key = Digest::of(format!(
        "{:?} {commit} {:?} {keep_git_dir} {}",
        reference.repository, reference.subdir, reference.submodules
    ));
    let trees = cache.folder("git")?;
    let place = trees.join(key.short());
    let known = read_known(&place);
    let cached = known.is_some();
    let known = match known {
        Some(known) => known,
        None => git.check_out(cache, &place, &commit, keep_git_dir).await?,
    };
    touch(&place);
    let mut hasher = Hasher::new();
    hasher.field("git").field(if keep_git_dir { &commit } else { &known.tree }).field([u8::from(reference.submodules)]);
    if keep_git_dir {
        hasher.field(&reference.repository).field(&reference.subdir);
    }
    Ok(Tree { folder: place.join(TREE), commit, identity: hasher.finish(), cached })
}

fn read_known(place: &Path) -> Option<Known> {
    let known: Known = serde_json::from_slice(&fs::read(place.join(NOTES)).ok()?).ok()?;
    (known.version == VERSION && place.join(TREE).is_dir()).then_some(known)
}

struct Git<'a> {
    settings: &'a Settings,
    reference: &'a GitReference,
}

impl Git<'_> {
    /// The commit that is named.
    async fn resolve(&self) -> Result<String> {
        let repository = &self.reference.repository;
        let name = self.reference.reference.as_deref().unwrap_or("HEAD");
        if is_commit(name) {
            return Ok(name.to_lowercase());
        }
        let peeled = format!("{name}^{{}}");
        let listed = self.run("read", Path::new("/"), &["ls-remote", "--", repository, name, &peeled]).await?;
        let found: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).collect();
        // As git does: a whole name, then tags, then branches; of a tag with a text of its own, the commit behind it.
        let full = [name.to_owned(), format!("refs/tags/{name}"), format!("refs/heads/{name}"), format!("refs/{name}")];
        let commit = full.iter().find_map(|full| {
            let at = |wanted: &str| found.iter().find(|(_, name)| *name == wanted).map(|(id, _)| *id);
            at(&format!("{full}^{{}}")).or_else(|| at(full))
        });
        commit.filter(|id| is_commit(id)).map(str::to_owned).ok_or_else(|| FetchError::NoReference {
            repository: kiln_graph::remote::without_password(repository),
            reference: self.reference.reference.clone().unwrap_or_else(|| "HEAD".to_owned()),
        })
    }

    /// Fetches a commit into the cache.
    async fn check_out(&self, cache: &Cache, place: &Path, commit: &str, keep_git_dir: bool) -> Result<Known> {
        cache.age("git");
        let staging = cache.staging()?;
        let work = staging.path().join("work");
        fs::create_dir(&work).map_err(FetchError::io("make", &work))?;
        let repository = self.reference.repository.as_str();
        self.run("begin", &work, &["init", "--quiet"]).await?;
        self.run("begin", &work, &["remote", "add", "origin", "--", repository]).await?;
        let shallow = ["fetch", "--quiet", "--depth=1", "--no-tags", "origin", commit];
        if self.run("fetch", &work, &shallow).await.is_err() {
            // Servers may refuse to give out a commit alone, or without history.
            let all = ["fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"];
            self.run("fetch", &work, &all).await?;
        }
        self.run("check out", &work, &["checkout", "--quiet", "--detach", commit]).await?;
        if self.reference.submodules && work.join(".gitmodules").exists() {
            let update = ["submodule", "update", "--quiet", "--init", "--recursive", "--depth=1"];
            self.run("fetch submodules of", &work, &update).await?;
        }
        let subdir = &self.reference.subdir;
        let folder = below(&work, subdir)
            .ok_or_else(|| FetchError::NoSubdir { repository: self.reference.to_string(), subdir: subdir.clone() })?;
        let object = if subdir.is_empty() { "HEAD^{tree}".to_owned() } else { format!("HEAD:{subdir}") };
        // In a submodule git has no folder of that name; the commit says it all, too.
        let tree = self.run("read", &work, &["rev-parse", &object]).await;
        let tree = tree.unwrap_or_else(|_| format!("{commit}:{subdir}")).trim().to_owned();
        if !keep_git_dir {
            remove_git(&folder)?;
        }
        let ready = staging.path().join("ready");
        fs::create_dir(&ready).map_err(FetchError::io("make", &ready))?;
        fs::rename(&folder, ready.join(TREE)).map_err(FetchError::io("move", &folder))?;
        let known = Known { version: VERSION, tree };
        // A type of plain fields always serialises.
        let bytes = serde_json::to_vec(&known).unwrap_or_default();
        fs::write(ready.join(NOTES), bytes).map_err(FetchError::io("write to", &ready))?;
        if fs::rename(&ready, place).is_err() && read_known(place).is_none() {
            // What is there is damaged.
            let _ = fs::remove_dir_all(place);
            fs::rename(&ready, place).map_err(FetchError::io("write", place))?;
        }
        Ok(known)
    }

    async fn run(&self, action: &'static str, folder: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command
            .current_dir(folder)
            .args(OPTIONS)
            .args(arguments)
            .envs(self.settings.env.iter().map(|(name, value)| (name, value)))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // What this process stands in must not be taken for what is fetched.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
            command.env_remove(name);
        }
        let repository = || kiln_graph::remote::without_password(&self.reference.repository);
        let output = command.output().await.map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => FetchError::NoGit { repository: repository() },
            _ => FetchError::io("run", "git")(source),
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.replace(&self.reference.repository, &repository());
        let message = said.lines().rev().find(|line| line.contains("fatal:") || line.contains("error:"));
        let message = message.or_else(|| said.lines().last()).unwrap_or("it gives no reason");
        Err(FetchError::Git { action, repository: repository(), message: message.trim().to_owned() })
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A folder below another; `None` if there is none, or if a link leads to it.
fn below(root: &Path, relative: &str) -> Option<PathBuf> {
    let mut path = root.to_owned();
    for part in relative.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        if !fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            return None;
        }
    }
    Some(path)
}

/// Removes git's own files, those of submodules too.
fn remove_git(folder: &Path) -> Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(FetchError::io("read", &folder))? {
            let entry = entry.map_err(FetchError::io("read", &folder))?;
            let (path, is_folder) = (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
            if entry.file_name() == ".git" {
                let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.map_err(FetchError::io("remove", &path))?;
            } else if is_folder {
                folders.push(path);
            }
        }
    }
    Ok(())
}
