//! What kiln remembers of a project between builds, on the client: where exported files are, and what every step's key
//! was made of. Losing it costs time, never correctness.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use kiln_artifact::checksum::{SUMS_NAME, Sums};
use kiln_graph::{CacheKey, Digest, Hasher, KeyParts, Origin, Platform, Target};
use serde::{Deserialize, Serialize};

use crate::context::{Context, Kind, Selection};
use crate::error::{Result, SolveError};
use crate::report::TargetReport;
use crate::request::FilesOutput;

/// Version of both files; another version is not read.
const VERSION: u32 = 3;
/// Beyond this many files, the detail of a miss is not worth the bytes.
const MOST_FILES: usize = 100_000;

/// A file or folder as it was left in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placed {
    path: PathBuf,
    size: u64,
    inode: u64,
    /// Nanoseconds since 1970.
    mtime: i128,
    mode: u32,
}

impl Placed {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at a path and everything below it.
    pub(crate) fn read_all(path: &Path) -> Vec<Self> {
        let mut found = Vec::new();
        let mut todo = vec![path.to_owned()];
        while let Some(path) = todo.pop() {
            let Ok(meta) = path.symlink_metadata() else { continue };
            if meta.is_dir() {
                // Its times tell nothing that its files do not.
                found.push(Self { path: path.clone(), size: 0, inode: meta.ino(), mtime: 0, mode: meta.mode() });
                let listing = std::fs::read_dir(&path).into_iter().flatten().flatten();
                todo.extend(listing.map(|entry| entry.path()));
                continue;
            }
            found.push(Self {
                path,
                size: meta.size(),
                inode: meta.ino(),
                mtime: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
                mode: meta.mode(),
            });
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }
}

/// One exported target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TargetRecord {
    key: CacheKey,
    /// Digest of how it was exported and tried.
    output: Digest,
    /// Every file and folder of the result, in order.
    files: Vec<Placed>,
    pub(crate) report: TargetReport,
    /// The scope of caches and checkpoints; older records have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    scope: String,
}

/// The files a step's `COPY` selected, with short digests: to name the one that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileList(BTreeMap<String, u64>);

impl FileList {
    /// Adds what was selected; false if that is too much.
    pub(crate) fn add(&mut self, context: &Context, selection: &Selection<'_>) -> Result<bool> {
        if self.0.len() + selection.entries.len() > MOST_FILES {
            return Ok(false);
        }
        for selected in &selection.entries {
            if selected.entry.kind == Kind::Folder {
                self.0.insert(format!("{}/", selected.entry.path), selected.entry.mode.into());
            } else {
                let digest = context.digest(selected.entry)?;
                let mut short = [0; 8];
                short.copy_from_slice(&digest.as_bytes()[..8]);
                self.0.insert(
                    selected.entry.path.to_string(),
                    u64::from_le_bytes(short) ^ u64::from(selected.entry.mode),
                );
            }
        }
        Ok(true)
    }

    fn digest(&self) -> String {
        let mut hasher = Hasher::new();
        for (path, digest) in &self.0 {
            hasher.field(path).field(digest.to_le_bytes());
        }
        hasher.finish().short()
    }

    /// How many files there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is new or different, unless something is gone: then files alone do not make the one of the other. Folders
    /// end in `/`.
    pub(crate) fn added_since(&self, before: &Self) -> Option<HashSet<String>> {
        if before.0.is_empty() || before.0.keys().any(|path| !self.0.contains_key(path)) {
            return None;
        }
        let differs = |(path, digest): &(&String, &u64)| before.0.get(*path) != Some(digest);
        Some(self.0.iter().filter(differs).map(|(path, _)| path.clone()).collect())
    }

    /// The first file that is new, gone or different, and how many there are.
    pub(crate) fn first_difference(&self, now: &Self) -> Option<String> {
        if self.0.is_empty() || now.0.is_empty() {
            return None;
        }
        let mut differences: Vec<String> = Vec::new();
        for (path, digest) in &now.0 {
            match self.0.get(path) {
                None => differences.push(format!("{path} is new")),
                Some(before) if before != digest => differences.push(path.clone()),
                Some(_) => {}
            }
        }
        differences.extend(self.0.keys().filter(|p| !now.0.contains_key(*p)).map(|p| format!("{p} is gone")));
        let first = differences.first()?;
        Some(match differences.len() {
            1 => first.clone(),
            n => format!("{first} and {} more", n - 1),
        })
    }
}

/// What a step's key was made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepRecord {
    pub(crate) parts: KeyParts,
    pub(crate) files: Arc<FileList>,
    /// Of a large `COPY`: a checkpoint of it, of this build or an earlier one.
    pub(crate) kept: Option<Kept>,
}

/// A checkpoint of a large `COPY`, from which later ones differ by few files.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) key: CacheKey,
    pub(crate) parts: KeyParts,
    pub(crate) files: Arc<FileList>,
}

/// A target that was built now.
pub(crate) struct BuiltTarget {
    pub(crate) target: Target,
    pub(crate) output: FilesOutput,
    pub(crate) key: CacheKey,
    pub(crate) report: TargetReport,
    /// The scope of its caches and checkpoints.
    pub(crate) scope: String,
    /// The files as they were when they had just been placed.
    pub(crate) placed: Vec<Placed>,
}

#[derive(Default, Serialize, Deserialize)]
struct TargetFile {
    version: u32,
    targets: BTreeMap<String, TargetRecord>,
}

#[derive(Default, Serialize, Deserialize)]
struct StepFile {
    version: u32,
    steps: BTreeMap<String, StoredStep>,
    /// By digest: the same COPY for three platforms has one list.
    lists: BTreeMap<String, FileList>,
}

#[derive(Serialize, Deserialize)]
struct StoredStep {
    parts: KeyParts,
    files: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<StoredKept>,
}

#[derive(Serialize, Deserialize)]
struct StoredKept {
    key: CacheKey,
    parts: KeyParts,
    files: String,
}

/// All records of a project. Steps are read only when something missed.
pub(crate) struct Records {
    folder: PathBuf,
    targets: BTreeMap<String, TargetRecord>,
    steps: OnceLock<HashMap<String, StepRecord>>,
}

impl Records {
    pub(crate) fn load(folder: &Path) -> Self {
        let file: TargetFile = read(&folder.join("targets.json"));
        let targets = if file.version == VERSION { file.targets } else { BTreeMap::new() };
        Self { folder: folder.to_owned(), targets, steps: OnceLock::new() }
    }

    fn steps(&self) -> &HashMap<String, StepRecord> {
        self.steps.get_or_init(|| {
            let file: StepFile = read(&self.folder.join("steps.json"));
            if file.version != VERSION {
                return HashMap::new();
            }
            let lists: BTreeMap<String, Arc<FileList>> =
                file.lists.into_iter().map(|(digest, list)| (digest, Arc::new(list))).collect();
            let list = |digest: Option<String>| digest.and_then(|d| lists.get(&d).cloned()).unwrap_or_default();
            let kept = |kept: StoredKept| Kept { key: kept.key, parts: kept.parts, files: list(Some(kept.files)) };
            let record =
                |step: StoredStep| StepRecord { parts: step.parts, files: list(step.files), kept: step.kept.map(kept) };
            file.steps.into_iter().map(|(id, step)| (id, record(step))).collect()
        })
    }

    /// The record of a target whose files are all still as they were left.
    pub(crate) fn target_if_current(
        &self,
        target: &Target,
        key: CacheKey,
        output: &FilesOutput,
    ) -> Option<TargetRecord> {
        let record = self.targets.get(&target_id(target, output))?;
        let intact = record.key == key
            && record.output == output_digest(output)
            && !record.files.is_empty()
            && record.files == placed(&record.report)
            && (!output.sums || are_listed(&record.report, &output.folder));
        intact.then(|| record.clone())
    }

    /// The record of the same instruction in the last build.
    pub(crate) fn step(&self, platform: Platform, origin: &Origin) -> Option<&StepRecord> {
        self.steps().get(&step_id(platform, origin))
    }

    /// Adds what this build found out and writes both files. Other builds of the project may have written meanwhile:
    /// what they wrote about other targets stays.
    pub(crate) fn save(&self, targets: Vec<BuiltTarget>, steps: Vec<(Platform, Origin, StepRecord)>) -> Result<()> {
        let _turn = self.lock()?;
        if !targets.is_empty() {
            let mut stored = Self::load(&self.folder).targets;
            for BuiltTarget { target, output, key, report, scope, placed } in targets {
                let record = TargetRecord { key, output: output_digest(&output), files: placed, report, scope };
                stored.insert(target_id(&target, &output), record);
            }
            self.write("targets.json", &TargetFile { version: VERSION, targets: stored })?;
        }
        if !steps.is_empty() {
            let mut stored = Self::load(&self.folder).steps().clone();
            for (platform, origin, record) in steps {
                stored.insert(step_id(platform, &origin), record);
            }
            let mut file = StepFile { version: VERSION, ..StepFile::default() };
            for (id, record) in stored {
                let mut add = |list: &FileList| {
                    let digest = list.digest();
                    file.lists.entry(digest.clone()).or_insert_with(|| list.clone());
                    digest
                };
                let files = (!record.files.0.is_empty()).then(|| add(&record.files));
                let kept = record.kept.map(|k| StoredKept { key: k.key, parts: k.parts, files: add(&k.files) });
                file.steps.insert(id, StoredStep { parts: record.parts, files, kept });
            }
            self.write("steps.json", &file)?;
        }
        Ok(())
    }

    /// Keeps two builds from writing what the other has just read. Without locks (some network file systems), one of
    /// them may lose its records, which costs it time.
    fn lock(&self) -> Result<std::fs::File> {
        let failed = |source| SolveError::Io { action: "write", path: self.folder.clone(), source };
        fs_err::create_dir_all(&self.folder).map_err(failed)?;
        let file = std::fs::File::open(&self.folder).map_err(failed)?;
        let _ = file.lock();
        Ok(file)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.folder.join(name);
        let bytes = serde_json::to_vec(value).map_err(std::io::Error::other);
        bytes.and_then(|bytes| crate::store::write_atomically(&path, &bytes)).map_err(SolveError::io("write", path))
    }
}

/// What the last good build of each target of a project reported, by platform. `state` is the folder of
/// [`crate::BuildRequest::state`].
pub fn last_reports(state: &Path) -> Vec<TargetReport> {
    last_builds(state).into_iter().map(|build| build.report).collect()
}

/// A target as its last good build left it.
#[derive(Clone, Debug)]
pub struct LastBuild {
    /// What it reported.
    pub report: TargetReport,
    /// The scope of its caches and checkpoints, if that was noted.
    pub scope: Option<String>,
}

/// The last good build of each target of a project, by platform. `state` is the folder of [`crate::BuildRequest::state`].
pub fn last_builds(state: &Path) -> Vec<LastBuild> {
    let records = Records::load(state).targets.into_values();
    let build = |record: TargetRecord| LastBuild {
        report: record.report,
        scope: Some(record.scope).filter(|scope| !scope.is_empty()),
    };
    let mut builds: Vec<LastBuild> = records.map(build).collect();
    builds.sort_by_key(|build| build.report.platform);
    builds
}

fn read<T: Default + serde::de::DeserializeOwned>(path: &Path) -> T {
    let bytes = fs_err::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// The files of a report as they are now.
fn placed(report: &TargetReport) -> Vec<Placed> {
    let mut placed: Vec<Placed> = report.artifacts.iter().flat_map(|a| Placed::read_all(&a.path)).collect();
    placed.sort_by(|a, b| a.path.cmp(&b.path));
    placed
}

/// Whether the list of sums beside the artifacts has them all.
fn are_listed(report: &TargetReport, folder: &Path) -> bool {
    let text = fs_err::read_to_string(folder.join(SUMS_NAME)).unwrap_or_default();
    let Ok(sums) = Sums::parse(&text) else { return false };
    report.artifacts.iter().all(|artifact| match (&artifact.sha256, artifact.path.strip_prefix(folder)) {
        (Some(sum), Ok(name)) => sums.get(&name.to_string_lossy()).is_some_and(|listed| listed.to_string() == *sum),
        _ => true,
    })
}

fn target_id(target: &Target, output: &FilesOutput) -> String {
    format!("{} {} {}", target.name, target.platform, output.folder.display())
}

fn step_id(platform: Platform, origin: &Origin) -> String {
    format!("{platform} {} {}", origin.stage, origin.step)
}

fn output_digest(output: &FilesOutput) -> Digest {
    Digest::of(format!("{output:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_and_foreign_files_are_no_records() {
        let dir = tempfile::tempdir().expect("temporary folder");
        for text in ["", "{", "[]", "{\"version\": 999, \"targets\": {}}", "{\"version\": \"x\"}", "\u{0}"] {
            fs_err::write(dir.path().join("targets.json"), text).expect("write");
            fs_err::write(dir.path().join("steps.json"), text).expect("write");
            let records = Records::load(dir.path());
            assert!(records.targets.is_empty(), "{text}");
            assert!(records.steps().is_empty(), "{text}");
        }
    }

    #[test]
    fn builds_of_other_platforms_keep_their_records() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let list = |path: &str| Arc::new(FileList(BTreeMap::from([(path.to_owned(), 1)])));
        let record = |path: &str| StepRecord { files: list(path), ..StepRecord::default() };
        let amd64: Platform = "linux/amd64".parse().expect("known");
        let arm64: Platform = "linux/arm64".parse().expect("known");
        let origin = Origin { stage: "build".into(), step: 1, ..Origin::default() };
        // Both have read the empty folder before either wrote.
        let (first, second) = (Records::load(dir.path()), Records::load(dir.path()));
        first.save(vec![], vec![(amd64, origin.clone(), record("same"))]).expect("saved");
        second.save(vec![], vec![(arm64, origin.clone(), record("same"))]).expect("saved");
        let read = Records::load(dir.path());
        assert_eq!(read.step(amd64, &origin).expect("kept").files, list("same"));
        assert_eq!(read.step(arm64, &origin).expect("added").files, list("same"));
        let file: StepFile = super::read(&dir.path().join("steps.json"));
        assert_eq!(file.lists.len(), 1, "equal lists are stored once");
    }

    #[test]
    fn every_change_below_an_artifact_is_seen() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = dir.path().join("app.dist");
        fs_err::create_dir_all(folder.join("lib")).expect("folder");
        fs_err::write(folder.join("lib/a.so"), "a").expect("file");
        let before = Placed::read_all(&folder);
        assert_eq!(before.len(), 3);
        assert_eq!(Placed::read_all(&folder), before);
        fs_err::write(folder.join("new"), "").expect("file");
        assert_ne!(Placed::read_all(&folder), before);
        fs_err::remove_file(folder.join("new")).expect("removed");
        assert_eq!(Placed::read_all(&folder), before);
        fs_err::remove_file(folder.join("lib/a.so")).expect("removed");
        assert_ne!(Placed::read_all(&folder), before);
        assert!(Placed::read_all(&dir.path().join("none")).is_empty());
    }

    #[test]
    fn the_first_difference_is_named() {
        let list = |files: &[(&str, u64)]| FileList(files.iter().map(|(p, d)| ((*p).to_owned(), *d)).collect());
        let before = list(&[("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(before.first_difference(&list(&[("a", 1), ("b", 9), ("c", 3)])).as_deref(), Some("b"));
        assert_eq!(before.first_difference(&list(&[("a", 1), ("b", 2)])).as_deref(), Some("c is gone"));
        let more = list(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
        assert_eq!(before.first_difference(&more).as_deref(), Some("d is new"));
        let many = list(&[("a", 7), ("b", 8), ("c", 9)]);
        assert_eq!(before.first_difference(&many).as_deref(), Some("a and 2 more"));
        assert_eq!(before.first_difference(&before.clone()), None);
    }
}
