//! Empty files and folders that a container gets where something is mounted, and that are no part of its result.
//!
//! The daemon makes a mount point where there is none, and leaves it in what is committed. kiln cannot delete it there,
//! but knows it: what it reads from a stage goes without, and the next command of the stage removes it before it begins
//! (`kiln-twin tidy`); where that cannot be, see [`crate::tidy`]. A checkpoint names its stubs in [`labels::STUBS`].

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kiln_docker::{ContainerId, labels};
use kiln_graph::{FileAction, FileOp};

use crate::error::Result;
use crate::pattern::{clean, split_last};
use crate::shared::Shared;

/// The modes of files that daemons make to mount over them: of older and newer versions of runc.
const MADE: [u32; 2] = [0o755, 0o644];

/// Folders and a link that a daemon puts into every container: those of one that was made of nothing.
const SKELETON: [&str; 7] = ["dev", "dev/pts", "dev/shm", "etc", "etc/mtab", "proc", "sys"];

/// Files that a daemon makes for the network of a container that runs, and shows to whoever reads it then or later.
const NETWORK: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// Where kiln mounts files of its own: see `kiln-twin`, `toolbox` and [`crate::furnish`].
const OWN: [&str; 5] = ["dev/cross", "dev/kiln", "dev/kiln-secrets", "dev/native", "dev/pipes"];

/// Paths without a slash in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stubs {
    paths: BTreeSet<String>,
    /// What is mounted in the container that is read: the daemon shows it to a reader, too.
    mounted: Vec<String>,
    /// Whether the container that is read has run.
    has_run: bool,
    /// Whether nothing but file operations made what is read, on top of nothing.
    from_nothing: bool,
}

impl Stubs {
    /// Reads the label of a checkpoint.
    pub(crate) fn of_label(text: &str) -> Self {
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The label of a checkpoint. One without stubs says so: it would inherit the label of what it stands on.
    pub(crate) fn label(&self) -> (String, String) {
        let paths: Vec<&str> = self.paths.iter().map(String::as_str).collect();
        (labels::STUBS.to_owned(), paths.join("\n"))
    }

    /// Whether an entry is a stub, unless something was put into it later: of a file by its size, of a folder it shows by
    /// what comes after, whose parents are made when they are needed. Nor is what is mounted part of the container.
    pub(crate) fn hides(&self, path: &str, is_folder: bool, size: u64, mode: u32) -> bool {
        let is_stub = as_made(is_folder, size, mode) && self.paths.contains(path);
        // What is in such a folder makes it again.
        let is_skeleton = self.from_nothing && size == 0 && SKELETON.contains(&path);
        let is_own = OWN.iter().any(|own| is_in(path, own));
        is_stub || is_own || is_skeleton || self.mounted.iter().any(|point| is_in(path, point))
    }

    /// Whether what is read there is a file of the container's network, which is the machine's rather than the image's.
    pub(crate) fn is_of_network(&self, path: &str) -> bool {
        self.has_run && NETWORK.contains(&path)
    }

    /// The same for a container in which this is mounted, and that may have run.
    pub(crate) fn in_container(&self, mounted: &[String], has_run: bool) -> Self {
        Self { mounted: mounted.to_owned(), has_run, ..self.clone() }
    }

    /// The same for files that were copied onto nothing.
    pub(crate) fn made_of_nothing(&self) -> Self {
        Self { from_nothing: true, ..self.clone() }
    }

    /// Removes them from a folder of this machine into which all was unpacked; one that is not empty stays.
    pub(crate) fn remove_from(&self, folder: &Path) {
        for path in self.paths().chain(OWN).map(|stub| folder.join(stub)) {
            let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
            if as_made(found.is_dir(), found.len(), found.permissions().mode()) {
                let _ = if found.is_dir() { std::fs::remove_dir(&path) } else { std::fs::remove_file(&path) };
            }
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Those paths, the deepest first.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().rev().map(String::as_str)
    }

    /// What is left when files were written: what was asked for is no stub any more.
    pub(crate) fn after(&self, op: &FileOp) -> Self {
        let mut left = self.clone();
        destinations(op).for_each(|path| left.keep(path));
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
        Self { paths: paths.into_iter().collect(), ..Self::default() }
    }
}

/// Where actions write to.
fn destinations(op: &FileOp) -> impl Iterator<Item = &str> {
    op.actions.iter().map(|action| match action {
        FileAction::Mkdir { path, .. } | FileAction::Write { path, .. } => path.as_str(),
        FileAction::Copy(copy) => copy.dest.as_str(),
    })
}

/// Whether something is as a daemon makes mount points; links and special files are not, by their modes.
fn as_made(is_folder: bool, size: u64, mode: u32) -> bool {
    is_folder || size == 0 && MADE.contains(&(mode & 0o777))
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
    /// Whether a mount hides something of the container's own, or keeps a reader out.
    pub(crate) covers: bool,
}

/// Finds out what the daemon will make for `targets` in a new container; `reader` holds the files that it was made from,
/// and `below` are their stubs, which the command removes if `tidies`. `unpacked` are the folders above targets that were
/// copied to it since.
///
/// The container itself is no witness: whoever asks it, or copies to it, lets the daemon make mount points in it.
pub(crate) async fn find(
    shared: &Shared,
    reader: &ContainerId,
    (below, tidies): (&Stubs, bool),
    targets: &[String],
    unpacked: &[String],
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
        while !folder.is_empty()
            && !unpacked.iter().any(|unpacked| unpacked == folder)
            && shared.engine.stat(reader, &format!("/{folder}")).await?.is_none()
        {
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
        let (name, text) = stubs.label();
        assert_eq!(name, labels::STUBS);
        assert_eq!(Stubs::of_label(&text), stubs);
        assert_eq!(Stubs::default().label().1, "");
        assert_eq!(stubs.paths().collect::<Vec<_>>(), ["w/deep/er", "w/deep", "run/secrets"]);
    }

    #[test]
    fn what_was_put_into_a_stub_is_none() {
        let stubs = Stubs::of_label("w/file\nw/folder\n");
        assert!(stubs.hides("w/file", false, 0, 0o755));
        assert!(stubs.hides("w/file", false, 0, 0o644));
        assert!(!stubs.hides("w/file", false, 1, 0o755) && !stubs.hides("w/file", false, 0, 0o600));
        assert!(stubs.hides("w/folder", true, 0, 0o755) && !stubs.hides("w/other", true, 0, 0o755));
        let read = stubs.in_container(&["m".to_owned()], true);
        assert!(read.hides("m", false, 9, 0o644) && read.hides("m/x", false, 9, 0o644));
        assert!(!read.hides("mm", false, 9, 0o644));
        assert!(read.is_of_network("etc/hosts") && !read.is_of_network("etc/hostsx"));
        assert!(!stubs.in_container(&[], false).is_of_network("etc/hosts"));
    }

    #[test]
    fn what_is_left_empty_in_a_folder_goes() {
        let dir = tempfile::tempdir().expect("folder");
        let file = |path: &str, bytes: &str, mode: u32| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below")).expect("folder");
            std::fs::write(&path, bytes).expect("file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        };
        file("gone", "", 0o755);
        file("newer", "", 0o644);
        file("other", "", 0o600);
        file("full/x", "x", 0o755);
        std::fs::create_dir_all(dir.path().join("deep/er")).expect("folder");
        std::fs::create_dir_all(dir.path().join("dev/kiln")).expect("folder");
        Stubs::of_label("gone\nnewer\nother\nfull\nfull/x\ndeep\ndeep/er\nnowhere").remove_from(dir.path());
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).expect("folder").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["dev", "full", "other"]);
        assert!(!dir.path().join("dev/kiln").exists());
        assert!(dir.path().join("full/x").exists());
    }

    #[test]
    fn what_somebody_asks_for_is_no_stub_any_more() {
        let stubs = Stubs::of_label("a\na/b\nc\n");
        let op = FileOp { actions: vec![FileAction::Mkdir { path: "/a".into(), owner: None }] };
        assert_eq!(stubs.after(&op), Stubs::of_label("a/b\nc\n"));
        assert_eq!(stubs.tidied(&["/a/b".to_owned()]), Stubs::of_label("a\na/b\n"));
    }
}
