//! What kiln remembers of a project between builds, on the client: where exported files are, and what every step's key
//! was made of. Losing it costs time, never correctness.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kiln_graph::{CacheKey, Digest, KeyParts, Origin, Platform, Target};
use serde::{Deserialize, Serialize};

use crate::context::{Context, Kind, Selection};
use crate::error::{Result, SolveError};
use crate::report::TargetReport;
use crate::request::FilesOutput;

/// Version of both files; another version is not read.
const VERSION: u32 = 1;
/// Beyond this many files, the detail of a miss is not worth the bytes.
const MOST_FILES: usize = 20_000;

/// A file as it was left in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Placed {
    path: PathBuf,
    size: u64,
    inode: u64,
    /// Nanoseconds since 1970.
    mtime: i128,
}

impl Placed {
    fn read(path: &Path) -> Option<Self> {
        let meta = fs_err::symlink_metadata(path).ok()?;
        let mtime = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        // Of a folder only its being there is compared.
        let (size, inode, mtime) = if meta.is_dir() { (0, 0, 0) } else { (meta.size(), meta.ino(), mtime) };
        Some(Self { path: path.to_owned(), size, inode, mtime })
    }
}

/// One exported target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TargetRecord {
    key: CacheKey,
    /// Digest of how it was exported and tried.
    output: Digest,
    files: Vec<Placed>,
    pub(crate) report: TargetReport,
}

/// The files a step's `COPY` selected, with short digests: to name the one that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileList(BTreeMap<String, u64>);

impl FileList {
    pub(crate) fn add(&mut self, context: &Context, selection: &Selection<'_>) -> Result<()> {
        if self.0.len() + selection.entries.len() > MOST_FILES {
            return Ok(());
        }
        for selected in &selection.entries {
            if selected.entry.kind != Kind::Folder {
                let digest = context.digest(selected.entry)?;
                let mut short = [0; 8];
                short.copy_from_slice(&digest.as_bytes()[..8]);
                self.0.insert(
                    selected.entry.path.to_string(),
                    u64::from_le_bytes(short) ^ u64::from(selected.entry.mode),
                );
            }
        }
        Ok(())
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    pub(crate) parts: KeyParts,
    pub(crate) files: FileList,
}

#[derive(Default, Serialize, Deserialize)]
struct TargetFile {
    version: u32,
    targets: HashMap<String, TargetRecord>,
}

#[derive(Default, Serialize, Deserialize)]
struct StepFile {
    version: u32,
    steps: HashMap<String, StepRecord>,
}

/// All records of a project. Steps are read only when something missed.
pub(crate) struct Records {
    folder: PathBuf,
    targets: HashMap<String, TargetRecord>,
    steps: OnceLock<HashMap<String, StepRecord>>,
}

impl Records {
    pub(crate) fn load(folder: &Path) -> Self {
        let file: TargetFile = read(&folder.join("targets.json"));
        let targets = if file.version == VERSION { file.targets } else { HashMap::new() };
        Self { folder: folder.to_owned(), targets, steps: OnceLock::new() }
    }

    fn steps(&self) -> &HashMap<String, StepRecord> {
        self.steps.get_or_init(|| {
            let file: StepFile = read(&self.folder.join("steps.json"));
            if file.version == VERSION { file.steps } else { HashMap::new() }
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
            && record.files.iter().all(|file| Placed::read(&file.path).as_ref() == Some(file));
        intact.then(|| record.clone())
    }

    /// The record of the same instruction in the last build.
    pub(crate) fn step(&self, platform: Platform, origin: &Origin) -> Option<&StepRecord> {
        self.steps().get(&step_id(platform, origin))
    }

    /// Adds what this build found out and writes both files. Other builds of the project may have written meanwhile:
    /// what they wrote about other targets stays.
    pub(crate) fn save(
        &self,
        targets: Vec<(Target, FilesOutput, CacheKey, TargetReport)>,
        steps: Vec<(Platform, Origin, StepRecord)>,
    ) -> Result<()> {
        if !targets.is_empty() {
            let mut stored = Self::load(&self.folder).targets;
            for (target, output, key, report) in targets {
                let mut paths: Vec<PathBuf> = report.artifacts.iter().map(|a| a.path.clone()).collect();
                paths.sort();
                let files = paths.iter().filter_map(|path| Placed::read(path)).collect();
                let record = TargetRecord { key, output: output_digest(&output), files, report };
                stored.insert(target_id(&target, &output), record);
            }
            self.write("targets.json", &TargetFile { version: VERSION, targets: stored })?;
        }
        if !steps.is_empty() {
            let mut stored = Self::load(&self.folder).steps().clone();
            for (platform, origin, record) in steps {
                stored.insert(step_id(platform, &origin), record);
            }
            self.write("steps.json", &StepFile { version: VERSION, steps: stored })?;
        }
        Ok(())
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
    let mut reports: Vec<TargetReport> =
        Records::load(state).targets.into_values().map(|record| record.report).collect();
    reports.sort_by_key(|report| report.platform);
    reports
}

fn read<T: Default + serde::de::DeserializeOwned>(path: &Path) -> T {
    let bytes = fs_err::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
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
