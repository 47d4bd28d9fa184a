//! From a finished vertex to what the user asked for: files read from the container, examined, tried and placed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use kiln_artifact::place::Manner;
use kiln_artifact::{check, checksum, place};
use kiln_docker::CommitSpec;
use kiln_graph::{Platform, Target, VertexId};

use crate::archive::{self, ApplyError, Place, Remote, StreamReader, Use};
use crate::error::{Result, SolveError, file_hint};
use crate::event::{BuildEvent, Stage};
use crate::image::{self, Made};
use crate::plan::Action;
use crate::record::Placed;
use crate::report::{ArtifactReport, CcacheStats, TargetReport};
use crate::request::{FilesOutput, Output};
use crate::shared::{Shared, joined, lock};
use crate::snapshot::Snapshot;
use crate::stubs::Stubs;
use crate::{dispatch, smoke};

/// Folder of a target that holds the recipe's reports rather than results.
const REPORTS: &str = ".kiln";
/// The recipe's compiler cache statistics, in [`REPORTS`].
const CCACHE_STATS: &str = "ccache-stats.json";

/// A finished target, and its files as they were when they had just been placed.
pub(crate) struct Finished {
    pub(crate) report: TargetReport,
    pub(crate) placed: Vec<Placed>,
    /// What it hands on to what is made of all targets.
    pub(crate) made: Made,
}

/// Does with a target's file system what its output says.
pub(crate) async fn target(
    shared: &Arc<Shared>,
    index: usize,
    snapshot: Snapshot,
    started: Instant,
) -> Result<Finished> {
    let target = &shared.plan.graph().targets[index];
    let mut written = Written::default();
    let mut committed = None;
    let exports = &shared.plan.request.group_of(index).exports;
    match &shared.plan.request.outputs[index] {
        Output::Files(output) => written = Box::pin(files(shared, target, output, &snapshot)).await?,
        Output::Image(name) => {
            committed = Some(Box::pin(commit(shared, target, name.clone(), &snapshot)).await?);
        }
        // Files that nothing stands on are copied only when somebody reads them; who wants no result wants to know that it
        // can be made.
        Output::Nothing if exports.list.is_empty() => {
            shared.cancel.or_stop(shared.image_of(&snapshot)).await?;
        }
        Output::Nothing => {}
    }
    let mut made = Made { target: index, image: None, files: None };
    if exports.has_tar() {
        made.files = Some(Box::pin(archive_files(shared, index, &snapshot)).await?);
    }
    if exports.has_image() {
        shared.emit(BuildEvent::TargetStage { platform: target.platform, stage: Stage::Export }).await;
        made.image = Some(shared.cancel.or_stop(shared.clean_image_of(target.root, &snapshot)).await?);
    }
    let steps = shared.plan.steps_of(target.root);
    let ran = steps.iter().filter(|id| matches!(shared.plan.action(**id), Action::Run(_))).count();
    let (step_reports, in_containers) = dispatch::step_reports(shared, target.root);
    let report = TargetReport {
        target: target.name.clone(),
        platform: target.platform,
        way: shared.way_of(target.root, target.platform),
        took: started.elapsed(),
        ran,
        cached: steps.len() - ran,
        in_containers,
        up_to_date: false,
        artifacts: written.reports,
        ccache: written.ccache,
        image: committed,
        steps: step_reports,
    };
    Ok(Finished { report, placed: written.placed, made })
}

async fn commit(
    shared: &Arc<Shared>,
    target: &Target,
    name: Option<(String, String)>,
    snapshot: &Snapshot,
) -> Result<String> {
    let labels = target.config.labels.clone();
    let spec = CommitSpec { config: target.config.clone(), labels, comment: format!("kiln: {}", target.name), name };
    let committing = Box::pin(shared.commit_target(target.root, snapshot, target.platform, spec));
    Ok(shared.cancel.or_stop(committing).await?.0)
}

/// What was written to a folder.
#[derive(Default)]
struct Written {
    reports: Vec<ArtifactReport>,
    ccache: Option<CcacheStats>,
    placed: Vec<Placed>,
}

async fn files(shared: &Arc<Shared>, target: &Target, output: &FilesOutput, snapshot: &Snapshot) -> Result<Written> {
    let platform = target.platform;
    let stage = async |stage| shared.emit(BuildEvent::TargetStage { platform, stage }).await;
    stage(Stage::Export).await;
    let staging = place::Staging::new(&output.folder).map_err(|e| bad(platform, e))?;
    // What is said to be a program is examined; anything else is taken as it is.
    let manner = if output.artifact.is_some() { Manner::Program } else { Manner::Files };
    read(shared, target.root, snapshot, Sink::Folder(platform, staging.path().to_owned(), manner)).await?;
    if is_empty(staging.path(), output.reports.as_ref().map(|_| REPORTS))? {
        return Err(SolveError::NothingToExport { target: target.name.clone(), platform });
    }
    let ccache = take_reports(output, staging.path())?;
    if let Some(CcacheStats { remote_errors: times @ 1.., .. }) = ccache {
        let text =
            format!("the storage that compiler caches share failed {times} times: only local caches were of use");
        shared.notice(Some(platform), text).await;
    }
    let mut facts = None;
    if let Some(artifact) = &output.artifact {
        stage(Stage::Verify).await;
        let examining = Box::pin(examine(shared, target, output, artifact, staging.path()));
        facts = Some(shared.cancel.or_stop(examining).await?);
    }
    if shared.cancel.is_stopped() {
        return Err(SolveError::Cancelled);
    }
    // From here on it is a matter of milliseconds, and is not broken off.
    stage(Stage::Place).await;
    let output = output.clone();
    blocking(move || {
        let (mut reports, placed) = put_in_place(platform, staging, &output)?;
        if let Some((artifact, needs, smoke)) = facts {
            let place = output.folder.join(artifact);
            if let Some(report) = reports.iter_mut().find(|report| report.path == place) {
                (report.needs, report.smoke) = (Some(needs), smoke);
            }
        }
        Ok(Written { reports, ccache, placed })
    })
    .await
}

/// Moves what is in a staging folder into the output folder around it; what was placed, and how the files were just then.
pub(crate) fn put_in_place(
    platform: Platform,
    staging: place::Staging,
    output: &FilesOutput,
) -> Result<(Vec<ArtifactReport>, Vec<Placed>)> {
    let whole = output.artifact.is_some();
    let folders = if whole { Vec::new() } else { folders(staging.path())? };
    let placements = placements(staging.path(), whole)?;
    let placed_at = staging.commit(&placements).map_err(|e| bad(platform, e))?;
    for (inner, mode) in folders {
        place::make_folder(&output.folder, &inner, mode).map_err(|e| bad(platform, e))?;
    }
    let mut reports = Vec::new();
    let mut list = checksum::Sums::new();
    let mut placed = Vec::new();
    for (placement, path) in placements.iter().zip(placed_at) {
        let seen = Placed::read_all(&path);
        let (report, sum) = describe(platform, &path)?;
        if let Some(sum) = sum {
            list.insert(placement.to.to_string_lossy(), sum);
        }
        placed.extend(seen);
        reports.push(report);
    }
    if output.sums {
        list.update(&output.folder).map_err(|e| bad(platform, e))?;
    }
    placed.sort_by(|a, b| a.path().cmp(b.path()));
    Ok((reports, placed))
}

/// Problems of an artifact that are told.
const MOST_PROBLEMS: usize = 4;

/// Path in the target, what it needs, and how the smoke run went.
type Facts = (PathBuf, String, Option<String>);

async fn examine(
    shared: &Arc<Shared>,
    target: &Target,
    output: &FilesOutput,
    artifact: &str,
    staging: &Path,
) -> Result<Facts> {
    let platform = target.platform;
    let path = staging.join(artifact);
    if fs_err::symlink_metadata(&path).is_err() {
        let problems = vec!["the build ended well but did not make it".to_owned()];
        return Err(SolveError::BadArtifact { path: artifact.into(), platform, problems, hint: None });
    }
    let examined = path.clone();
    let inspection = blocking(move || check::inspect(&examined).map_err(|e| bad(platform, e))).await?;
    let expectations = check::Expectations { glibc_max: output.glibc_max, ..check::Expectations::default() };
    let verdict = check::verify(&inspection, platform, &expectations);
    if !verdict.is_fit() {
        let mut problems: Vec<String> = verdict.problems.iter().map(ToString::to_string).collect();
        if let Some(more) = problems.len().checked_sub(MOST_PROBLEMS).filter(|more| *more > 0) {
            problems.truncate(MOST_PROBLEMS);
            problems.push(format!("and {more} more"));
        }
        let hint = verdict.problems.iter().find_map(check::Problem::hint);
        return Err(SolveError::BadArtifact { path: artifact.into(), platform, problems, hint });
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
            let passed = smoke::run(shared, smoke, platform, &path, &program).await?;
            lock(&shared.times).entry(target.root).or_default().in_container += passed.in_containers;
            Some(passed.said)
        }
        None => None,
    };
    Ok((artifact.into(), verdict.needs.to_string(), smoke))
}

/// Keeps the files of a target as an archive, until all targets are there.
async fn archive_files(shared: &Arc<Shared>, index: usize, snapshot: &Snapshot) -> Result<PathBuf> {
    let request = &shared.plan.request;
    let target = &shared.plan.graph().targets[index];
    shared.emit(BuildEvent::TargetStage { platform: target.platform, stage: Stage::Export }).await;
    let file = image::work_folder(request).join(format!("files-{index}.tar"));
    let group = request.group_of(index);
    let several = group.targets.len() > 1;
    let prefix = if several { format!("{}/", target.platform.folder()) } else { String::new() };
    let (to, epoch) = (file.clone(), group.exports.epoch);
    let rewrite = image::Rewrite { prefix, epoch, ..image::Rewrite::default() };
    read(shared, target.root, snapshot, Sink::Archive(to, rewrite)).await?;
    Ok(file)
}

/// Where a target's files go as they come.
enum Sink {
    /// Unpacked, into a folder.
    Folder(Platform, PathBuf, Manner),
    /// Into an archive.
    Archive(PathBuf, image::Rewrite),
}

impl Sink {
    async fn take(self, stream: kiln_docker::ByteStream, of_container: bool, stubs: &Stubs) -> Result<()> {
        match self {
            Self::Archive(file, rewrite) => {
                image::spool(stream, file, image::Rewrite { of_container, stubs: stubs.clone(), ..rewrite })
                    .await
                    .map(|_| ())
            }
            Self::Folder(platform, folder, manner) => {
                extract(platform, stream, &folder, manner).await?;
                stubs.remove_from(&folder);
                let marker = folder.join(".dockerenv");
                if of_container && fs_err::symlink_metadata(&marker).is_ok() {
                    // The daemon puts it into every container; no image has it.
                    fs_err::remove_file(&marker).map_err(SolveError::io("remove", &marker))?;
                }
                Ok(())
            }
        }
    }
}

/// Streams the files of a snapshot. What was copied onto nothing is read straight from where it lies.
async fn read(shared: &Arc<Shared>, root: VertexId, snapshot: &Snapshot, sink: Sink) -> Result<()> {
    let cancel = &shared.cancel;
    let (base, operations) = snapshot.split();
    let result = if matches!(base, Snapshot::Scratch(_)) {
        let apply = cancel.or_stop(shared.resolve(&operations)).await?;
        let (writer, stream) = archive::writer();
        let remote = Remote::new(shared.engine.clone());
        let writing = shared.tasks.spawn_blocking(move || {
            let (writer, _) = archive::apply(&remote, &Place::EmptyFolder, &[], &apply, (writer, Use::Unpack))?;
            writer.finish().map_err(SolveError::io("write", "the archive")).map_err(ApplyError::from)
        });
        let consumed = sink.take(archive::until_stopped(stream, cancel), false, &Stubs::default()).await;
        match joined(writing.await) {
            // The side that broke off first knows why.
            Err(ApplyError::Failed(error)) if !error.is_broken_pipe() => Err(error),
            _ => consumed,
        }
    } else {
        let container = cancel.or_stop(shared.container_of(snapshot)).await?;
        let stream = cancel.or_stop(shared.engine.export(&container)).await?;
        let (mut stream, mut stubs) = (archive::until_stopped(stream, cancel), shared.stubs_of(snapshot));
        if shared.is_from_nothing(root) {
            // A checkpoint of it, read through a container: whatever it did not copy is the daemon's.
            stubs = Arc::new(stubs.made_of_nothing());
            stream = bare(shared, stream, Stubs::clone(&stubs));
        } else if matches!(sink, Sink::Folder(_, _, Manner::Files)) {
            stream = bare(shared, stream, Stubs::clone(&stubs));
        }
        sink.take(stream, true, &stubs).await
    };
    match result {
        Err(_) if cancel.is_stopped() => Err(SolveError::Cancelled),
        result => result,
    }
}

/// An archive without what the daemon puts into every container.
fn bare(shared: &Shared, stream: kiln_docker::ByteStream, stubs: Stubs) -> kiln_docker::ByteStream {
    let (writer, bare) = archive::writer();
    shared.tasks.spawn_blocking(move || {
        let rewrite = image::Rewrite { of_container: true, stubs, ..image::Rewrite::default() };
        let mut out = tar::Builder::new(writer);
        // A reader finds that the archive is not whole if this breaks off.
        image::copy_files(StreamReader::new(stream), &rewrite, &mut out)?;
        out.into_inner()?.finish()
    });
    bare
}

async fn extract(platform: Platform, stream: kiln_docker::ByteStream, folder: &Path, manner: Manner) -> Result<()> {
    let folder = folder.to_owned();
    blocking(move || {
        place::extract_tar(StreamReader::new(stream), &folder, 0, manner).map(|_| ()).map_err(|e| bad(platform, e))
    })
    .await
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
    Some(CcacheStats {
        hits: count("direct_cache_hit") + count("preprocessed_cache_hit"),
        misses: count("cache_miss"),
        remote_hits: count("remote_storage_hit"),
        remote_errors: count("remote_storage_error") + count("remote_storage_timeout"),
    })
}

/// Whether a folder holds nothing, or nothing but `aside`.
fn is_empty(folder: &Path, aside: Option<&str>) -> Result<bool> {
    for entry in fs_err::read_dir(folder).map_err(SolveError::io("read", folder))? {
        let entry = entry.map_err(SolveError::io("read", folder))?;
        if aside.is_none_or(|aside| entry.file_name() != aside) {
            return Ok(false);
        }
    }
    Ok(true)
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

/// The folders of a result with their modes, deepest first: one that may not be written to is closed last. In the staging
/// they are opened, so that everything can be moved out of them.
fn folders(staging: &Path) -> Result<Vec<(PathBuf, std::fs::Permissions)>> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        let path = staging.join(&folder);
        for entry in fs_err::read_dir(&path).map_err(SolveError::io("read", &path))? {
            let entry = entry.map_err(SolveError::io("read", &path))?;
            let meta = entry.metadata().map_err(SolveError::io("read", entry.path()))?;
            if meta.is_dir() {
                let inner = folder.join(entry.file_name());
                let (mode, path) = (meta.permissions().mode(), entry.path());
                if mode & 0o700 != 0o700 {
                    let open = std::fs::Permissions::from_mode(mode | 0o700);
                    fs_err::set_permissions(&path, open).map_err(SolveError::io("write", &path))?;
                }
                found.push((inner.clone(), meta.permissions()));
                todo.push(inner);
            }
        }
    }
    found.sort_by(|a, b| b.0.cmp(&a.0));
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

pub(crate) fn bad(platform: Platform, error: impl std::error::Error + Send + Sync + 'static) -> SolveError {
    let hint = file_hint(&error);
    SolveError::Artifact { platform, source: Box::new(error), hint }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    joined(tokio::task::spawn_blocking(work).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_and_anything_else_ignored() {
        let text = r#"{"direct_cache_hit": 7, "preprocessed_cache_hit": 1, "cache_miss": 2, "remote_storage_hit": 3,
            "remote_storage_error": 1, "remote_storage_timeout": 1}"#;
        let stats = parse_ccache(text);
        assert_eq!(stats, Some(CcacheStats { hits: 8, misses: 2, remote_hits: 3, remote_errors: 2 }));
        assert_eq!(stats.and_then(|s| s.hit_percent()), Some(80.0));
        assert_eq!(parse_ccache("no statistics\n"), None);
    }
}
