//! What targets export: a machine that would make the very same files gets them instead.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use kiln_artifact::place::{self, Manner};
use kiln_cache::{Contents, Fetched, SaveError, Saved, tree};
use kiln_graph::{CacheKey, Digest, Target};

use super::{Found, Guide, Remote, add, bytes, seconds};
use crate::archive::{StreamReader, writer};
use crate::error::{Result, SolveError};
use crate::finish::{bad, put_in_place};
use crate::plan::Plan;
use crate::record::{BuiltTarget, Records};
use crate::report::TargetReport;
use crate::request::{FilesOutput, Output};
use crate::shared::joined;

/// The fact that names what a result was made of.
const KEY: &str = "key";
/// The fact with the report of the build.
const REPORT: &str = "report";

/// A target whose files can travel.
pub(crate) struct Cargo {
    /// Its index in the graph.
    index: usize,
    target: Target,
    output: FilesOutput,
    key: CacheKey,
    state: PathBuf,
    scope: String,
}

impl Cargo {
    pub(crate) fn of(plan: &Plan) -> Vec<Self> {
        let targets = plan.graph().targets.iter().zip(&plan.request.outputs).enumerate();
        let files = targets.filter_map(|(index, (target, output))| match output {
            Output::Files(files) => Some((index, target, files)),
            _ => None,
        });
        let cargo = |(index, target, output): (usize, &Target, &FilesOutput)| Self {
            index,
            target: target.clone(),
            output: output.clone(),
            key: plan.key(target.root),
            state: plan.request.state.clone(),
            scope: plan.request.scope.clone(),
        };
        files.map(cargo).collect()
    }

    fn name(&self) -> String {
        format!("{}-{}", self.target.name, self.target.platform.to_string().replace('/', "-"))
    }

    /// What the files depend on: all that they were made of, and how they were tried. Not where they are.
    fn made_of(&self) -> String {
        let how = FilesOutput { folder: PathBuf::new(), reports: None, ..self.output.clone() };
        Digest::of(format!("{} {how:?}", self.key)).to_string()
    }
}

/// The targets whose files may be brought: they are not there, and nobody wants everything made anew.
fn missing(plan: &Plan) -> impl Iterator<Item = Cargo> {
    let is_forced = plan.graph().iter().any(|(_, vertex)| vertex.no_cache);
    Cargo::of(plan).into_iter().filter(move |cargo| !is_forced && !plan.is_current(cargo.index))
}

/// The result that a target would have.
async fn find(guide: &Guide, cargo: &Cargo) -> Option<Found> {
    let made_of = cargo.made_of();
    guide.find("result", &cargo.name(), |snapshot| snapshot.facts.get(KEY) == Some(&made_of)).await
}

/// Brings the files of targets that are not there; whether there are any.
pub(crate) async fn bring(guide: &Guide, plan: &Plan) -> Result<bool> {
    let mut changed = false;
    for cargo in missing(plan) {
        let Some(found) = find(guide, &cargo).await else { continue };
        let platform = cargo.target.platform;
        let started = Instant::now();
        let spool = guide.spool(&cargo.name());
        let mut fetched = guide.fetched(&spool);
        guide.fetch(&found, &found.snapshot.packs, &mut fetched).await?;
        let is_whole = found.snapshot.packs.iter().all(|pack| fetched.has(&pack.id));
        if is_whole {
            let text = match put(cargo, found.snapshot.clone(), fetched).await {
                Ok(()) => {
                    changed = true;
                    let size = bytes(found.snapshot.stored());
                    format!("restored the result from {}: {size} in {}", found.store.place(), seconds(started))
                }
                Err(error) => format!("the result was not restored: {error}"),
            };
            guide.say(Some(platform), text).await;
        }
        let _ = fs_err::remove_dir_all(&spool);
    }
    Ok(changed)
}

/// The targets, by index, whose files a store has.
pub(crate) async fn offered(guide: &Guide, plan: &Plan) -> HashSet<usize> {
    let mut found = HashSet::new();
    for cargo in missing(plan) {
        if find(guide, &cargo).await.is_some() {
            found.insert(cargo.index);
        }
    }
    found
}

/// Puts files in place and remembers them, as a build does.
async fn put(cargo: Cargo, snapshot: Arc<kiln_cache::Snapshot>, fetched: Fetched) -> Result<()> {
    let platform = cargo.target.platform;
    let travel = |problem: String| SolveError::Travel { problem, hint: None };
    let report = snapshot.facts.get(REPORT).map(String::as_str).unwrap_or_default();
    let mut report: TargetReport = serde_json::from_str(report).map_err(|error| travel(error.to_string()))?;
    let staging = place::Staging::new(&cargo.output.folder).map_err(|error| bad(platform, error))?;
    let (out, stream) = writer();
    let writing = tokio::task::spawn_blocking(move || {
        let mut builder = tar::Builder::new(out);
        let left = tree::write_archive(&snapshot, &mut Contents::new(&snapshot, &fetched), "", &mut builder)?;
        if left.missing > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not whole"));
        }
        builder.into_inner()?.finish()
    });
    let manner = if cargo.output.artifact.is_some() { Manner::Program } else { Manner::Files };
    let placing = tokio::task::spawn_blocking(move || {
        let extracted = place::extract_tar(StreamReader::new(stream), staging.path(), 0, manner);
        extracted.map(|_| staging).map_err(|error| bad(platform, error))
    });
    let placed = joined(placing.await);
    joined(writing.await).map_err(|error| travel(error.to_string()))?;
    let staging = placed?;
    joined(
        tokio::task::spawn_blocking(move || {
            let (mut artifacts, placed) = put_in_place(platform, staging, &cargo.output)?;
            for artifact in &mut artifacts {
                let same = |old: &&crate::report::ArtifactReport| cargo.output.folder.join(&old.path) == artifact.path;
                if let Some(old) = report.artifacts.iter().find(same) {
                    (artifact.needs, artifact.smoke) = (old.needs.clone(), old.smoke.clone());
                }
            }
            report.artifacts = artifacts;
            let records = Records::load(&cargo.state);
            let Cargo { target, output, key, scope, .. } = cargo;
            records.save(vec![BuiltTarget { target, output, key, report, scope, placed }], Vec::new())
        })
        .await,
    )
}

/// Takes the files of targets to a store.
pub(crate) async fn take(guide: &Guide, remote: &Remote, cargo: &[Cargo], sum: &mut Saved) -> Result<(), SaveError> {
    for cargo in cargo {
        // Only what is there as it was made.
        let record = Records::load(&cargo.state).target_if_current(&cargo.target, cargo.key, &cargo.output);
        let Some(record) = record else { continue };
        let mut report = record.report;
        let folder = cargo.output.folder.clone();
        let mut files = Vec::new();
        for artifact in &mut report.artifacts {
            let Ok(inner) = artifact.path.strip_prefix(&folder).map(Path::to_owned) else { continue };
            artifact.path.clone_from(&inner);
            files.push(inner);
        }
        let made_of = cargo.made_of();
        let report = serde_json::to_string(&report).map_err(|error| SaveError::Source(error.into()))?;
        let read = move |before: Option<&kiln_cache::Snapshot>, packer: &mut kiln_cache::pack::Packer<'_>| {
            packer.note(KEY, made_of.clone());
            // The report of the build that made the files; a later one that found them has nothing to tell.
            let known = before.filter(|before| before.facts.get(KEY) == Some(&made_of));
            packer.note(REPORT, known.and_then(|before| before.facts.get(REPORT)).unwrap_or(&report).clone());
            packer.add(super::folder(""));
            let mut made = std::collections::BTreeSet::new();
            for file in &files {
                let path = file.to_string_lossy();
                for (at, _) in path.match_indices('/') {
                    if made.insert(path[..at].to_owned()) {
                        packer.add(super::folder(&path[..at]));
                    }
                }
                let left = tree::pack_path(&folder.join(file), &path, packer)?;
                if left.odd > 0 {
                    let problem = format!("{path} is or has something that is no plain file");
                    return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
                }
            }
            Ok(())
        };
        match guide.save(remote, ("result", &cargo.name()), read).await {
            Ok(saved) => add(sum, saved),
            Err(SaveError::Source(error)) if error.kind() == io::ErrorKind::Unsupported => {
                guide.say(Some(cargo.target.platform), format!("the result is not saved: {error}")).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
