//! From a finished vertex to what the user asked for: files read from the container, examined, tried and placed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use kiln_artifact::{check, checksum, place};
use kiln_docker::CommitSpec;
use kiln_graph::{Platform, Target};

use crate::archive::{self, Place, StreamReader};
use crate::error::{Result, SolveError, io_hint};
use crate::event::{BuildEvent, Stage};
use crate::plan::Action;
use crate::report::{ArtifactReport, CcacheStats, TargetReport};
use crate::request::{FilesOutput, Output};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::{dispatch, smoke};

/// Folder of a target that holds the recipe's reports rather than results.
const REPORTS: &str = ".kiln";
/// The recipe's compiler cache statistics, in [`REPORTS`].
const CCACHE_STATS: &str = "ccache-stats.json";

/// Does with a target's file system what its output says.
pub(crate) async fn target(
    shared: &Arc<Shared>,
    index: usize,
    snapshot: Snapshot,
    started: Instant,
) -> Result<TargetReport> {
    let target = &shared.plan.graph().targets[index];
    let mut ccache = None;
    let mut artifacts = Vec::new();
    let mut image = None;
    match &shared.plan.request.outputs[index] {
        Output::Files(output) => (artifacts, ccache) = files(shared, target, output, &snapshot).await?,
        Output::Image(name) => image = Some(commit(shared, target, name.clone(), &snapshot).await?),
        Output::Nothing => {}
    }
    let steps = shared.plan.steps_of(target.root);
    let ran = steps.iter().filter(|id| matches!(shared.plan.action(**id), Action::Run(_))).count();
    let (step_reports, in_containers) = dispatch::step_reports(shared, target.root);
    Ok(TargetReport {
        target: target.name.clone(),
        platform: target.platform,
        way: shared.way(target.platform),
        took: started.elapsed(),
        ran,
        cached: steps.len() - ran,
        in_containers,
        up_to_date: false,
        artifacts,
        ccache,
        image,
        steps: step_reports,
    })
}

async fn commit(
    shared: &Arc<Shared>,
    target: &Target,
    name: Option<(String, String)>,
    snapshot: &Snapshot,
) -> Result<String> {
    let container = shared.container_of(snapshot).await?;
    let labels = target.config.labels.clone();
    let spec = CommitSpec { config: target.config.clone(), labels, comment: format!("kiln: {}", target.name), name };
    Ok(shared.engine.commit(&container, &spec).await?.0)
}

async fn files(
    shared: &Arc<Shared>,
    target: &Target,
    output: &FilesOutput,
    snapshot: &Snapshot,
) -> Result<(Vec<ArtifactReport>, Option<CcacheStats>)> {
    let platform = target.platform;
    let stage = async |stage| shared.emit(BuildEvent::TargetStage { platform, stage }).await;
    stage(Stage::Export).await;
    let staging = place::Staging::new(&output.folder).map_err(|e| bad(platform, e))?;
    export(shared, platform, snapshot, staging.path()).await?;
    let ccache = take_reports(output, staging.path())?;
    if is_empty(staging.path())? {
        return Err(SolveError::NothingToExport { target: target.name.clone(), platform });
    }
    let mut facts = Vec::new();
    if let Some(artifact) = &output.artifact {
        stage(Stage::Verify).await;
        facts.push(examine(shared, platform, output, artifact, staging.path()).await?);
    }
    if shared.cancel.is_stopped() {
        return Err(SolveError::Cancelled);
    }
    stage(Stage::Place).await;
    let (sums, folder, whole) = (output.sums, output.folder.clone(), output.artifact.is_some());
    let placed = blocking(move || {
        let placements = placements(staging.path(), whole)?;
        let placed = staging.commit(&placements).map_err(|e| bad(platform, e))?;
        let mut reports = Vec::new();
        let mut list = checksum::Sums::new();
        for (placement, path) in placements.iter().zip(placed) {
            let (report, sum) = describe(platform, &path)?;
            if let Some(sum) = sum {
                list.insert(placement.to.to_string_lossy(), sum);
            }
            reports.push(report);
        }
        if sums {
            list.update(&folder).map_err(|e| bad(platform, e))?;
        }
        Ok(reports)
    })
    .await?;
    let mut reports = placed;
    for (artifact, needs, smoke) in facts {
        if let Some(report) = reports.iter_mut().find(|r| r.path.ends_with(&artifact)) {
            report.needs = Some(needs);
            report.smoke = smoke;
        }
    }
    Ok((reports, ccache))
}

/// Path in the target, what it needs, and how the smoke run went.
type Facts = (PathBuf, String, Option<String>);

async fn examine(
    shared: &Arc<Shared>,
    platform: Platform,
    output: &FilesOutput,
    artifact: &str,
    staging: &Path,
) -> Result<Facts> {
    let path = staging.join(artifact);
    if fs_err::symlink_metadata(&path).is_err() {
        let problems = vec!["the build ended well but did not make it".to_owned()];
        return Err(SolveError::BadArtifact { path: artifact.into(), platform, problems });
    }
    let examined = path.clone();
    let inspection = blocking(move || check::inspect(&examined).map_err(|e| bad(platform, e))).await?;
    let verdict = check::verify(&inspection, platform, &check::Expectations::default());
    if !verdict.is_fit() {
        let problems = verdict.problems.iter().map(ToString::to_string).collect();
        return Err(SolveError::BadArtifact { path: artifact.into(), platform, problems });
    }
    for warning in &verdict.warnings {
        shared.notice(Some(platform), format!("{artifact}: {warning}")).await;
    }
    let smoke = match &output.smoke {
        Some(smoke) => {
            shared.emit(BuildEvent::TargetStage { platform, stage: Stage::Smoke }).await;
            let program = if path.is_dir() {
                inspection.program.as_ref().map(|p| p.name.clone()).unwrap_or_default()
            } else {
                String::new()
            };
            Some(smoke::run(shared, smoke, platform, &path, &program).await?)
        }
        None => None,
    };
    Ok((artifact.into(), verdict.needs.to_string(), smoke))
}

/// Writes the files of a snapshot to `folder`. What was copied onto nothing is read straight from where it lies.
async fn export(shared: &Arc<Shared>, platform: Platform, snapshot: &Snapshot, folder: &Path) -> Result<()> {
    let (base, operations) = snapshot.split();
    let stream = if matches!(base, Snapshot::Scratch(_)) {
        let apply = shared.resolve(&operations).await?;
        let (writer, stream) = archive::writer();
        let engine = shared.engine.clone();
        let runtime = tokio::runtime::Handle::current();
        let writing = tokio::task::spawn_blocking(move || {
            let writer = archive::apply(&engine, &runtime, &Place::EmptyFolder, &apply, writer)?;
            writer.finish().map_err(SolveError::io("write", "archive"))
        });
        let extracted = extract(shared, platform, stream, folder).await;
        let written = writing.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
        return match written {
            // The side that broke off first knows why.
            Err(error) if !is_broken_pipe(&error) && !shared.cancel.is_stopped() => Err(error),
            _ => extracted,
        };
    } else {
        let container = shared.container_of(snapshot).await?;
        shared.engine.export(&container).await?
    };
    extract(shared, platform, stream, folder).await
}

fn is_broken_pipe(error: &SolveError) -> bool {
    match error {
        SolveError::Io { source, .. } => source.kind() == std::io::ErrorKind::BrokenPipe,
        SolveError::Copy { problem, .. } => problem.contains("broken pipe"),
        _ => false,
    }
}

/// Unpacks a stream; a stop breaks it off.
async fn extract(
    shared: &Arc<Shared>,
    platform: Platform,
    stream: kiln_docker::ByteStream,
    folder: &Path,
) -> Result<()> {
    let folder = folder.to_owned();
    let cancel = shared.cancel.clone();
    let stream = stream.take_until(async move { cancel.stopped().await }).boxed();
    let extracted = blocking(move || {
        place::extract_tar(StreamReader::new(stream), &folder, 0).map(|_| ()).map_err(|e| bad(platform, e))
    })
    .await;
    if shared.cancel.is_stopped() { Err(SolveError::Cancelled) } else { extracted }
}

/// Moves the recipe's reports out of the result, and reads what kiln shows of them.
fn take_reports(output: &FilesOutput, staging: &Path) -> Result<Option<CcacheStats>> {
    let from = staging.join(REPORTS);
    let Some(to) = output.reports.as_ref().filter(|_| from.is_dir()) else { return Ok(None) };
    let stats = fs_err::read_to_string(from.join(CCACHE_STATS)).ok().and_then(|text| parse_ccache(&text));
    if to.exists() {
        fs_err::remove_dir_all(to).map_err(SolveError::io("replace", to))?;
    }
    fs_err::create_dir_all(to).map_err(SolveError::io("write", to))?;
    for entry in fs_err::read_dir(&from).map_err(SolveError::io("read", &from))? {
        let entry = entry.map_err(SolveError::io("read", &from))?;
        let target = to.join(entry.file_name());
        // Output and state may be on different file systems.
        if fs_err::rename(entry.path(), &target).is_err() && entry.path().is_file() {
            fs_err::copy(entry.path(), &target).map_err(SolveError::io("write", target))?;
        }
    }
    fs_err::remove_dir_all(&from).map_err(SolveError::io("remove", &from))?;
    Ok(stats)
}

/// Reads the counters of `ccache --print-log-stats`, by name.
fn parse_ccache(text: &str) -> Option<CcacheStats> {
    let counters: std::collections::BTreeMap<String, u64> = serde_json::from_str(text).ok()?;
    let count = |name: &str| counters.get(name).copied().unwrap_or_default();
    Some(CcacheStats { hits: count("direct_cache_hit") + count("preprocessed_cache_hit"), misses: count("cache_miss") })
}

fn is_empty(folder: &Path) -> Result<bool> {
    let mut entries = fs_err::read_dir(folder).map_err(SolveError::io("read", folder))?;
    Ok(entries.next().is_none())
}

/// What is placed: an artifact as a whole, so that a folder has no leftovers of the build before; other results file by
/// file, beside what is there.
fn placements(staging: &Path, whole: bool) -> Result<Vec<place::Placement>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = staging.join(&folder);
        for entry in fs_err::read_dir(&path).map_err(SolveError::io("read", &path))? {
            let entry = entry.map_err(SolveError::io("read", &path))?;
            let inner = folder.join(entry.file_name());
            if !whole && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(inner);
            } else {
                found.push(place::Placement::same(inner));
            }
        }
    }
    found.sort_by(|a, b| a.to.cmp(&b.to));
    Ok(found)
}

fn describe(platform: Platform, path: &Path) -> Result<(ArtifactReport, Option<checksum::Sha256>)> {
    let meta = fs_err::symlink_metadata(path).map_err(SolveError::io("read", path))?;
    let (size, sum) = if meta.is_file() {
        (meta.len(), Some(checksum::sha256_file(path).map_err(SolveError::io("read", path))?))
    } else if meta.is_dir() {
        (check::inspect(path).map_err(|e| bad(platform, e))?.size, None)
    } else {
        (meta.len(), None)
    };
    let sha256 = sum.map(|sum| sum.to_string());
    Ok((ArtifactReport { path: path.to_owned(), size, sha256, needs: None, smoke: None }, sum))
}

fn bad(platform: Platform, error: impl std::error::Error + Send + Sync + 'static) -> SolveError {
    let hint = placing_hint(&error);
    SolveError::Artifact { platform, source: Box::new(error), hint }
}

/// What to do about a failure of the output folder or of what was to be put there.
fn placing_hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(place::PlaceError::UnsafeEntry { .. }) = error.downcast_ref() {
            let hint = "export a stage that holds the results alone: `FROM scratch` and `COPY --from=...`";
            return Some(hint.to_owned());
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && let Some(hint) = io_hint(error)
        {
            return Some(hint);
        }
        next = error.source();
    }
    None
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_and_anything_else_ignored() {
        let text = r#"{"direct_cache_hit": 7, "preprocessed_cache_hit": 1, "cache_miss": 2, "files_in_cache": 9}"#;
        let stats = parse_ccache(text);
        assert_eq!(stats, Some(CcacheStats { hits: 8, misses: 2 }));
        assert_eq!(stats.and_then(|s| s.hit_percent()), Some(80.0));
        assert_eq!(parse_ccache("no statistics\n"), None);
    }
}
