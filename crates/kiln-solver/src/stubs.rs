//! Empty files and folders that a container gets where something is mounted, and that are no part of its result.
//!
//! The daemon makes a mount point where there is none, and leaves it in what is committed. kiln cannot delete it there,
//! but knows it: what it reads from a stage goes without, and the next command of the stage removes it before it begins
//! (`kiln-twin tidy`). A checkpoint names its stubs in [`labels::STUBS`].

use std::collections::BTreeSet;

use kiln_docker::{ContainerId, labels};
use kiln_graph::{FileAction, FileOp};

use crate::error::Result;
use crate::pattern::{clean, split_last};
use crate::shared::Shared;

/// The mode of a file that the daemon makes to mount over it.
const MADE: u32 = 0o755;

/// Paths without a slash in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stubs {
    paths: BTreeSet<String>,
    /// What is mounted in the container that is read: the daemon shows it to a reader, too.
    mounted: Vec<String>,
}

impl Stubs {
    /// Reads the label of a checkpoint.
    pub(crate) fn of_label(text: &str) -> Self {
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The label of a checkpoint, if it needs one.
    pub(crate) fn label(&self) -> Option<(String, String)> {
        let paths: Vec<&str> = self.paths.iter().map(String::as_str).collect();
        (!paths.is_empty()).then(|| (labels::STUBS.to_owned(), paths.join("\n")))
    }

    /// Whether an entry is a stub, unless something was put into it later: of a file by its size, of a folder it shows by
    /// what comes after, whose parents are made when they are needed. Nor is what is mounted part of the container.
    pub(crate) fn hides(&self, path: &str, is_folder: bool, size: u64, mode: u32) -> bool {
        let is_stub = (is_folder || size == 0 && mode & 0o777 == MADE) && self.paths.contains(path);
        is_stub || self.mounted.iter().any(|point| is_in(path, point))
    }

    /// The same for a container in which this is mounted.
    pub(crate) fn with_mounted(&self, mounted: &[String]) -> Self {
        Self { paths: self.paths.clone(), mounted: mounted.to_owned() }
    }

    /// Those paths, the deepest first.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().rev().map(String::as_str)
    }

    /// What is left when files were written: what was asked for is no stub any more.
    pub(crate) fn after(&self, op: &FileOp) -> Self {
        let mut left = self.clone();
        for action in &op.actions {
            let (FileAction::Mkdir { path, .. } | FileAction::Write { path, .. }) = action else {
                let FileAction::Copy(copy) = action else { continue };
                left.keep(&copy.dest);
                continue;
            };
            left.keep(path);
        }
        left
    }

    /// Forgets a path and the folders above it.
    fn keep(&mut self, path: &str) {
        let path = clean(path);
        self.paths.retain(|stub| !is_in(&path, stub));
    }

    /// What is left when a command has removed all but its own mount points.
    fn tidied(&self, targets: &[String]) -> Self {
        let targets: Vec<String> = targets.iter().map(|target| clean(target)).collect();
        let stays = |stub: &&String| targets.iter().any(|target| is_in(target, stub));
        self.paths.iter().filter(stays).cloned().collect()
    }
}

impl FromIterator<String> for Stubs {
    fn from_iter<I: IntoIterator<Item = String>>(paths: I) -> Self {
        Self { paths: paths.into_iter().collect(), mounted: Vec::new() }
    }
}

/// Whether a path is a folder or lies in it.
fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The mount points of a new container.
pub(crate) struct Points {
    /// Those that the daemon will make.
    pub(crate) stubs: Stubs,
    /// What is mounted.
    pub(crate) mounted: Vec<String>,
    /// Whether a mount hides something of the container's own.
    pub(crate) covers: bool,
}

/// Finds out what the daemon will make for `targets` in `container`; `reader` holds the files that it was made from, and
/// `below` are their stubs, which the command removes if `tidies`.
pub(crate) async fn find(
    shared: &Shared,
    container: &ContainerId,
    reader: &ContainerId,
    (below, tidies): (&Stubs, bool),
    targets: &[String],
) -> Result<Points> {
    let stubs = if tidies { below.tidied(targets) } else { below.clone() };
    let mut points = Points { stubs, mounted: Vec::new(), covers: false };
    for target in targets {
        let target = clean(target);
        // These are made anew for every container.
        if target.is_empty() || ["dev", "proc", "sys"].iter().any(|top| target.split('/').next() == Some(top)) {
            continue;
        }
        points.mounted.push(target.clone());
        if shared.engine.stat(reader, &format!("/{target}")).await?.is_some() {
            points.covers |= !below.paths.contains(&target);
            continue;
        }
        points.stubs.paths.insert(target.clone());
        let mut folder = split_last(&target).0;
        // The container has what was copied to it; its folders are asked, since the mount point itself is mounted.
        while !folder.is_empty() && shared.engine.stat(container, &format!("/{folder}")).await?.is_none() {
            points.stubs.paths.insert(folder.to_owned());
            folder = split_last(folder).0;
        }
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_are_remembered_by_a_label() {
        let stubs = Stubs::from_iter(["w/deep", "w/deep/er", "run/secrets"].map(str::to_owned));
        let (name, text) = stubs.label().expect("there are some");
        assert_eq!(name, labels::STUBS);
        assert_eq!(Stubs::of_label(&text), stubs);
        assert_eq!(Stubs::default().label(), None);
        assert_eq!(stubs.paths().collect::<Vec<_>>(), ["w/deep/er", "w/deep", "run/secrets"]);
    }

    #[test]
    fn what_was_put_into_a_stub_is_none() {
        let stubs = Stubs::of_label("w/file\nw/folder\n");
        assert!(stubs.hides("w/file", false, 0, 0o755));
        assert!(!stubs.hides("w/file", false, 1, 0o755) && !stubs.hides("w/file", false, 0, 0o644));
        assert!(stubs.hides("w/folder", true, 0, 0o755) && !stubs.hides("w/other", true, 0, 0o755));
        let read = stubs.with_mounted(&["m".to_owned()]);
        assert!(read.hides("m", false, 9, 0o644) && read.hides("m/x", false, 9, 0o644));
        assert!(!read.hides("mm", false, 9, 0o644));
    }

    #[test]
    fn what_somebody_asks_for_is_no_stub_any_more() {
        let stubs = Stubs::of_label("a\na/b\nc\n");
        let op = FileOp { actions: vec![FileAction::Mkdir { path: "/a".into(), owner: None }] };
        assert_eq!(stubs.after(&op), Stubs::of_label("a/b\nc\n"));
        assert_eq!(stubs.tidied(&["/a/b".to_owned()]), Stubs::of_label("a\na/b\n"));
    }
}
