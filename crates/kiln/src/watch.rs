//! Files that a build reads, watched for changes.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kiln_solver::context::Filter;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::error::{CliError, Result};

/// A change counts once nothing else has changed for so long: programs write several files, and each in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// ... but no longer than this after the first change.
const PATIENCE: Duration = Duration::from_secs(2);
/// Folders that are never part of a program.
const NEVER: [&str; 5] = [".git", ".hg", ".svn", ".kiln", "__pycache__"];

/// What a build reads.
#[derive(Clone, Default)]
pub(crate) struct Inputs {
    /// Folders, each with what is seen of it.
    pub(crate) folders: Vec<(PathBuf, Option<Arc<dyn Filter>>)>,
    /// Files that count wherever they lie: Dockerfiles, settings.
    pub(crate) files: Vec<PathBuf>,
    /// Where results go.
    pub(crate) outputs: Vec<PathBuf>,
}

impl Inputs {
    /// A folder of which nothing is known yet.
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folders: vec![(folder.to_owned(), None)], ..Self::default() }
    }

    /// Whether a change of this path may change the build. `path` is absolute.
    fn concerns(&self, path: &Path) -> bool {
        if self.files.iter().any(|file| file == path) {
            return true;
        }
        if self.outputs.iter().any(|output| path.starts_with(output)) || is_of_an_editor(path) {
            return false;
        }
        self.folders.iter().any(|(folder, filter)| {
            let Ok(inside) = path.strip_prefix(folder) else { return false };
            if inside
                .components()
                .any(|part| matches!(part, Component::Normal(name) if NEVER.iter().any(|never| name == *never)))
            {
                return false;
            }
            let Some(filter) = filter else { return true };
            let inside = inside.to_string_lossy();
            // What lies in a folder that is left out is left out, unless a rule brings it back.
            !filter.excluded(&inside)
        })
    }
}

/// Files that editors write beside the one that is edited.
fn is_of_an_editor(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with('~') || name.starts_with(".#") || name.ends_with(".swp") || name.ends_with(".swx") || name == "4913"
}

/// Watches the inputs of a build.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    changed: mpsc::UnboundedReceiver<notify::Result<notify::Event>>,
    watched: Vec<PathBuf>,
}

impl Watch {
    /// Watches nothing yet.
    pub(crate) fn new() -> Result<Self> {
        let (sender, changed) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event| {
            // Nobody listens any more when the command ends.
            let _ = sender.send(event);
        });
        Ok(Self { watcher: watcher.map_err(|error| failed(&error, Path::new(".")))?, changed, watched: Vec::new() })
    }

    /// Watches all that a build reads, too.
    pub(crate) fn follow(&mut self, inputs: &Inputs) -> Result<()> {
        let folders = inputs.folders.iter().map(|(folder, _)| (folder.clone(), RecursiveMode::Recursive));
        // A file is replaced rather than written to, so it is its folder that is watched.
        let files = inputs
            .files
            .iter()
            .filter_map(|file| file.parent())
            .map(|folder| (folder.to_owned(), RecursiveMode::NonRecursive));
        for (folder, mode) in folders.chain(files) {
            let known = self.watched.iter().any(|watched| match mode {
                RecursiveMode::Recursive => *watched == folder,
                RecursiveMode::NonRecursive => folder.starts_with(watched),
            });
            if !known {
                self.watcher.watch(&folder, mode).map_err(|error| failed(&error, &folder))?;
                self.watched.push(folder);
            }
        }
        Ok(())
    }

    /// Waits for a change that concerns `inputs`, and until things are quiet again. What changed first comes back.
    pub(crate) async fn change(&mut self, inputs: impl Fn() -> Inputs) -> Result<PathBuf> {
        let first = loop {
            let event = self.changed.recv().await;
            if let Some(path) = event.and_then(|event| concerning(event, &inputs())) {
                break path;
            }
        };
        let settled = async {
            // Something more to wait for is an event; the time-out is the quiet.
            while let Ok(Some(_)) = timeout(QUIET, self.changed.recv()).await {}
        };
        // It goes on and on: what is there now is built.
        let _ = timeout(PATIENCE, settled).await;
        Ok(first)
    }
}

fn concerning(event: notify::Result<notify::Event>, inputs: &Inputs) -> Option<PathBuf> {
    match event {
        // Too much happened at once to tell what: all may have changed.
        Ok(event) if event.need_rescan() => inputs.folders.first().map(|(folder, _)| folder.clone()),
        Ok(event) if matches!(event.kind, EventKind::Access(_) | EventKind::Other) => None,
        Ok(event) => event.paths.into_iter().find(|path| inputs.concerns(path)),
        Err(error) => {
            tracing::debug!(%error, "an event of the file system is lost");
            None
        }
    }
}

fn failed(error: &notify::Error, folder: &Path) -> CliError {
    let hint = match error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "raise fs.inotify.max_user_watches, or leave large folders out of the project"
        }
        _ => "build without --watch",
    };
    CliError::Watch { problem: format!("cannot watch {}: {error}", folder.display()), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Without(&'static str);

    impl Filter for Without {
        fn excluded(&self, path: &str) -> bool {
            path == self.0 || path.starts_with(&format!("{}/", self.0))
        }
        fn rule(&self, _: &str) -> Option<String> {
            None
        }
        fn descends(&self, folder: &str) -> bool {
            !self.excluded(folder)
        }
    }

    #[test]
    fn what_is_no_part_of_a_build_does_not_start_one() {
        let inputs = Inputs {
            folders: vec![("/p".into(), Some(Arc::new(Without("docs")))), ("/other".into(), None)],
            files: vec!["/else/Dockerfile.build".into(), "/p/docs/kiln.toml".into()],
            outputs: vec!["/p/dist".into()],
        };
        for path in
            ["/p/main.py", "/p/a/b.py", "/other/x", "/else/Dockerfile.build", "/p/docs/kiln.toml", "/p/distribution"]
        {
            assert!(inputs.concerns(Path::new(path)), "{path}");
        }
        for path in [
            "/p/dist/hello",
            "/p/docs/index.md",
            "/p/.git/index",
            "/p/.kiln/state/records.bin",
            "/p/a/__pycache__/b.pyc",
            "/p/.main.py.swp",
            "/p/main.py~",
            "/p/4913",
            "/else/Dockerfile",
            "/elsewhere",
        ] {
            assert!(!inputs.concerns(Path::new(path)), "{path}");
        }
    }

    #[tokio::test]
    async fn several_changes_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = fs_err::canonicalize(dir.path()).unwrap();
        let inputs = Inputs { outputs: vec![folder.join("dist")], ..Inputs::of(&folder) };
        let mut watch = Watch::new().unwrap();
        watch.follow(&inputs).unwrap();
        fs_err::create_dir(folder.join("dist")).unwrap();
        fs_err::write(folder.join("dist/hello"), "built").unwrap();
        for n in 0..5 {
            fs_err::write(folder.join(format!("main{n}.py")), "x").unwrap();
        }
        let changed = timeout(Duration::from_secs(20), watch.change(|| inputs.clone())).await;
        assert_eq!(changed.expect("in time").unwrap(), folder.join("main0.py"));
        let more = timeout(Duration::from_millis(500), watch.change(|| inputs.clone())).await;
        assert!(more.is_err(), "{more:?}");
    }
}
