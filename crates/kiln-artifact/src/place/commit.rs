//! From the staging folder to the output folder.

use std::fs::Permissions;
use std::io;
use std::path::{Component, Path, PathBuf};

use fs_err::File;

use super::{PlaceError, Staging, sync_folder};

/// One file or folder to place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its path in the staging folder.
    pub from: PathBuf,
    /// Its path in the output folder.
    pub to: PathBuf,
}

impl Placement {
    /// From a path in the staging folder to one in the output folder.
    pub fn new(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        Self { from: from.into(), to: to.into() }
    }

    /// Under the same name.
    pub fn same(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { from: path.clone(), to: path }
    }
}

/// A placement that was made, with what is needed to take it back.
struct Done {
    target: PathBuf,
    /// Where the old file or folder is kept; `None` if there was none.
    old: Option<PathBuf>,
}

pub(super) fn commit(staging: &Staging, placements: &[Placement]) -> Result<Vec<PathBuf>, PlaceError> {
    let mut moves = Vec::new();
    for Placement { from, to } in placements {
        for path in [from, to] {
            let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
            if !is_inside || path.as_os_str().is_empty() {
                return Err(PlaceError::UnsafePlacement { path: path.clone() });
            }
        }
        let source = staging.path().join(from);
        sync_tree(&source).map_err(|error| PlaceError::Write { path: source.clone(), source: error })?;
        moves.push((source, staging.out_dir().join(to)));
    }
    let kept = staging.path().join(".replaced");
    let mut done: Vec<Done> = Vec::new();
    for (index, (source, target)) in moves.iter().enumerate() {
        let is_last = index + 1 == moves.len();
        match make_way(staging.out_dir(), target, &kept.join(format!("{index}-above"))) {
            Ok(old) => done.extend(old),
            Err(error) => return Err(take_back(staging, done, target, error)),
        }
        match place(source, target, &kept.join(index.to_string()), is_last) {
            Ok(old) => done.push(Done { target: target.clone(), old }),
            Err(error) => return Err(take_back(staging, done, target, error)),
        }
    }
    for (_, target) in &moves {
        if let Some(folder) = target.parent() {
            sync_folder(folder).map_err(|source| PlaceError::Write { path: target.clone(), source })?;
        }
    }
    Ok(moves.into_iter().map(|(_, target)| target).collect())
}

/// Makes a folder with these permissions in the output folder, and those above it, unless they are there. What is no folder
/// goes.
pub fn make_folder(out_dir: &Path, inner: &Path, permissions: Permissions) -> Result<(), PlaceError> {
    let path = out_dir.join(inner);
    let staging = Staging::new(out_dir)?;
    let made = make_way(out_dir, &path.join("x"), &staging.path().join("old"));
    let made = made.and_then(|_| fs_err::set_permissions(&path, permissions));
    made.map_err(|source| PlaceError::Write { path, source })
}

/// Makes the folders above `target`, and nothing else of what is there: a link to a folder, which may be anywhere, steps
/// aside as a file does.
fn make_way(out_dir: &Path, target: &Path, kept: &Path) -> io::Result<Option<Done>> {
    let inner = target.strip_prefix(out_dir).ok().and_then(Path::parent).unwrap_or(Path::new(""));
    let mut folder = out_dir.to_owned();
    let mut old = None;
    for part in inner.components() {
        folder.push(part);
        match fs_err::symlink_metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => continue,
            Ok(_) => {
                keep_folder(kept)?;
                fs_err::rename(&folder, kept)?;
                old = Some(Done { target: folder.clone(), old: Some(kept.to_owned()) });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match fs_err::create_dir(&folder) {
            // Another build may place something beside it.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(old)
}

/// Renames `source` to `target` and returns where the old one is kept, if there was one that may be needed again.
fn place(source: &Path, target: &Path, kept: &Path, is_last: bool) -> io::Result<Option<PathBuf>> {
    let is_folder = fs_err::symlink_metadata(source)?.is_dir();
    let old = match fs_err::symlink_metadata(target) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return fs_err::rename(source, target).map(|()| None);
        }
        Err(error) => return Err(error),
    };
    if !is_folder && !old.is_dir() {
        // Nothing is to be taken back after the last one. Where hard links do not work, nothing can be.
        let is_kept = !is_last && keep_link(target, kept).is_ok();
        return fs_err::rename(source, target).map(|()| is_kept.then(|| kept.to_owned()));
    }
    // A rename does not replace a folder that has something in it, so the old one steps aside first.
    keep_folder(kept)?;
    fs_err::rename(target, kept)?;
    if let Err(error) = fs_err::rename(source, target) {
        fs_err::rename(kept, target)?;
        return Err(error);
    }
    Ok(Some(kept.to_owned()))
}

fn keep_link(target: &Path, kept: &Path) -> io::Result<()> {
    keep_folder(kept)?;
    fs_err::hard_link(target, kept)
}

fn keep_folder(kept: &Path) -> io::Result<()> {
    kept.parent().map_or(Ok(()), fs_err::create_dir_all)
}

/// Takes back what was placed, the last first.
fn take_back(staging: &Staging, done: Vec<Done>, path: &Path, source: io::Error) -> PlaceError {
    let mut placed = Vec::new();
    for (index, Done { target, old }) in done.into_iter().enumerate().rev() {
        let aside = staging.path().join(format!(".taken-back-{index}"));
        let is_file = |path: &Path| fs_err::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_dir());
        let result = match old {
            // The one case where the name need not be free in between.
            Some(old) if is_file(&old) && is_file(&target) => fs_err::rename(old, &target),
            Some(old) => fs_err::rename(&target, aside).and_then(|()| fs_err::rename(old, &target)),
            None => fs_err::rename(&target, aside),
        };
        if result.is_err() {
            placed.push(target);
        }
    }
    let path = path.to_owned();
    if placed.is_empty() { PlaceError::Place { path, source } } else { PlaceError::Torn { path, placed, source } }
}

/// Makes a file, or all the files of a folder, durable.
fn sync_tree(path: &Path) -> io::Result<()> {
    let metadata = fs_err::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in fs_err::read_dir(path)? {
            sync_tree(&entry?.path())?;
        }
        sync_folder(path)
    } else if metadata.is_file() {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
}
