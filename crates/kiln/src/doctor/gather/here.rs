//! What the project has on this machine: the output folder, what was built, and files that name caches.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use kiln_artifact::elf::{self, ElfError, machine_name};
use kiln_config::{PlatformSettings, Recipe};
use kiln_graph::Platform;
use kiln_solver::LastBuild;
use rustix::fs::{Access, access, statvfs};

use super::super::scopes::{self, Mismatch};
use super::super::{Artifact, ArtifactFound, HereDisk, HereFacts, Seen, Trouble};
use super::LIMIT;
use crate::project::shown;

/// Files beside workflows in which caches are named.
const FILES: [&str; 4] = [".gitlab-ci.yml", "docker-bake.hcl", "docker-bake.override.hcl", "Makefile"];

/// Looks at it on threads of its own, so that a file system that does not answer holds nothing up.
pub(super) async fn look(folder: PathBuf, output: PathBuf, platforms: Vec<PlatformSettings>) -> HereFacts {
    let shown_output = shown(&output);
    let place = output.clone();
    let disk = apart(move || disk(&place));
    let files = folder.clone();
    let named = apart(move || Ok(mismatches(&files)));
    let built = apart(move || {
        let builds = builds(&folder);
        let artifacts = artifacts(&builds, &output, &platforms);
        Ok((builds, artifacts))
    });
    let (disk, named, built) = tokio::join!(disk, named, built);
    let (builds, artifacts) = match built {
        Ok((builds, artifacts)) => (builds, Ok(artifacts)),
        Err(trouble) => (Vec::new(), Err(trouble)),
    };
    HereFacts { output: shown_output, disk, builds, artifacts, mismatches: named.unwrap_or_default() }
}

async fn apart<T: Send + 'static>(work: impl FnOnce() -> Seen<T> + Send + 'static) -> Seen<T> {
    match tokio::time::timeout(LIMIT, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())),
        Err(_) => Err(Trouble {
            what: format!("the file system did not answer within {} seconds", LIMIT.as_secs()),
            fix: Some("see whether a network file system is away".to_owned()),
        }),
    }
}

/// The folder itself, or the nearest one above it that is there.
fn nearest(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"))
}

fn disk(folder: &Path) -> Seen<HereDisk> {
    let there = nearest(folder);
    let found = statvfs(there).map_err(|error| Trouble {
        what: format!("{}: {error}", shown(there).display()),
        fix: Some("choose another folder with `build.output`".to_owned()),
    })?;
    Ok(HereDisk {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
        writable: there.is_dir() && access(there, Access::WRITE_OK).is_ok(),
    })
}

/// Whether one may write to a folder, or make it.
pub(super) fn may_write(folder: &Path) -> Seen<()> {
    let there = nearest(folder);
    access(there, Access::WRITE_OK)
        .map_err(|error| Trouble { what: format!("{}: {error}", there.display()), fix: None })
}

/// What was built last, with the time when its files were placed.
fn builds(folder: &Path) -> Vec<(LastBuild, Option<i64>)> {
    let placed = |build: &LastBuild| {
        let times = build.report.artifacts.iter().filter_map(|artifact| {
            let modified = fs_err::metadata(&artifact.path).ok()?.modified().ok()?;
            i64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
        });
        times.max()
    };
    let builds = kiln_solver::last_builds(&folder.join(".kiln").join("state"));
    builds
        .into_iter()
        .map(|build| {
            let at = placed(&build);
            (build, at)
        })
        .collect()
}

/// What was built for the platforms, and what lies where their programs would be placed.
fn artifacts(builds: &[(LastBuild, Option<i64>)], output: &Path, platforms: &[PlatformSettings]) -> Vec<Artifact> {
    let mut found: Vec<(PathBuf, Platform, bool)> = Vec::new();
    for (build, _) in builds {
        let platform = build.report.platform;
        if platforms.iter().any(|settings| settings.platform == platform) {
            let files = build.report.artifacts.iter();
            found.extend(files.map(|file| (file.path.clone(), platform, file.needs.is_some())));
        }
    }
    for settings in platforms {
        let path = output.join(&settings.artifact);
        let is_program = !matches!(settings.build.recipe, Recipe::Dockerfile(_));
        if is_program && path.exists() && !found.iter().any(|(other, ..)| *other == path) {
            found.push((path, settings.platform, is_program));
        }
    }
    let order = |platform: &Platform| platforms.iter().position(|settings| settings.platform == *platform);
    found.sort_by_key(|(_, platform, _)| order(platform));
    let examine = |(path, platform, is_program): (PathBuf, Platform, bool)| Artifact {
        path: shown(&path).display().to_string(),
        platform,
        is_program,
        found: examine(&path, platform),
    };
    found.into_iter().map(examine).collect()
}

/// Reads the head of a file.
fn examine(path: &Path, platform: Platform) -> ArtifactFound {
    match fs_err::metadata(path) {
        Err(_) => return ArtifactFound::Nothing,
        Ok(meta) if meta.is_dir() => return ArtifactFound::Folder,
        Ok(_) => {}
    }
    match elf::inspect(path) {
        Ok(facts) => ArtifactFound::Elf {
            fits: facts.identity() == platform.arch.elf(),
            machine: machine_name(facts.identity()),
        },
        Err(error @ (ElfError::NotElf | ElfError::Malformed { .. })) => ArtifactFound::Other(error.to_string()),
        Err(error) => ArtifactFound::Other(super::chain(&error)),
    }
}

/// Scopes in the workflows, bake files and scripts of the project and of the repository that it is in.
fn mismatches(folder: &Path) -> Vec<Mismatch> {
    let root = folder.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(folder);
    let mut paths: Vec<PathBuf> = FILES.iter().map(|name| root.join(name)).collect();
    paths.extend(FILES.iter().map(|name| folder.join(name)));
    let workflows = std::fs::read_dir(root.join(".github/workflows")).into_iter().flatten().flatten();
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|end| end == "yml" || end == "yaml");
    paths.extend(workflows.map(|entry| entry.path()).filter(is_yaml));
    paths.sort();
    paths.dedup();
    let read = |path: &PathBuf| {
        let text = fs_err::read_to_string(path).ok()?;
        Some(scopes::mismatches(&shown(path).display().to_string(), &text))
    };
    paths.iter().filter_map(read).flatten().collect()
}

#[cfg(test)]
mod tests {
    use kiln_graph::Arch;

    use super::super::super::tests::{built, settings};
    use super::*;

    /// The head of a program for x86_64: what tells its machine.
    fn program() -> Vec<u8> {
        fs_err::read(std::env::current_exe().expect("a path")).expect("this test")
    }

    #[test]
    fn what_lies_where_a_program_belongs_is_examined() {
        let dir = tempfile::tempdir().expect("a folder");
        let here = Platform::linux(Arch::from_machine(std::env::consts::ARCH).expect("known"));
        let other = Platform::linux(if here.arch == Arch::Arm64 { Arch::Amd64 } else { Arch::Arm64 });
        let of = [settings("", here), settings("", other)];
        assert!(artifacts(&[], dir.path(), &of).is_empty());
        fs_err::write(dir.path().join(&of[0].artifact), program()).expect("written");
        fs_err::write(dir.path().join(&of[1].artifact), program()).expect("written");
        let found = artifacts(&[], dir.path(), &of);
        let fits: Vec<_> =
            found.iter().map(|a| (a.platform, matches!(a.found, ArtifactFound::Elf { fits: true, .. }))).collect();
        assert_eq!(fits, [(here, true), (other, false)]);
        // A file of a build is listed once, and missed where it is gone.
        let mut build = built("x", here);
        build.report.artifacts[0].path = dir.path().join(&of[0].artifact);
        let mut gone = built("x", other);
        gone.report.artifacts[0].path = dir.path().join("gone");
        let found = artifacts(&[(build, None), (gone, None)], dir.path(), &of);
        assert_eq!(found.len(), 3);
        assert!(found.iter().any(|a| matches!(a.found, ArtifactFound::Nothing)));
    }

    #[test]
    fn workflows_of_the_repository_are_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let project = dir.path().join("sub");
        for folder in [".git", ".github/workflows", "sub"] {
            fs_err::create_dir_all(dir.path().join(folder)).expect("made");
        }
        let text = "cache-from: type=gha,scope=a\ncache-to: type=gha,scope=b\n";
        fs_err::write(dir.path().join(".github/workflows/ci.yml"), text).expect("written");
        let found = mismatches(&project);
        assert_eq!(found.len(), 1);
        assert!(found[0].place.ends_with(".github/workflows/ci.yml:2"), "{found:?}");
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_looked_at_where_it_would_be() {
        let dir = tempfile::tempdir().expect("a folder");
        let found = disk(&dir.path().join("not/there")).expect("a disk");
        assert!(found.writable && found.total > 0 && found.free <= found.total);
        fs_err::write(dir.path().join("file"), "").expect("written");
        assert!(!disk(&dir.path().join("file/dist")).expect("a disk").writable);
    }
}
