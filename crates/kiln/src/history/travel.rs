//! Records that travel with the caches, so that a runner that begins empty knows what earlier ones took.
//!
//! A history is one small file in a series of its own, `SCOPE/BRANCH/history/builds`, with a record per line. It is brought
//! where no history is yet, and taken along after a build that did something. None of it can fail a build.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_cache::{
    CacheError, Contents, Entry, Fetched, Kind, SaveError, Saving, Series, Snapshot, Store, Traffic, newest,
};
use kiln_history::{History, Keep, Record};
use kiln_solver::travel::{Remote, Travel};

/// The latest records, which are all that trends and alarms look at.
const TAKEN: usize = 200;
/// The file in the tree.
const FILE: &str = "builds.jsonl";
/// What is read of one that somebody else wrote, in bytes.
const MOST: u64 = 64 << 20;

/// Why records did not travel: for the debug log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TravelError {
    #[error(transparent)]
    Store(#[from] CacheError),
    #[error(transparent)]
    Save(#[from] SaveError),
    #[error(transparent)]
    History(#[from] kiln_history::HistoryError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Brings the records of the first branch that has any, if there is no history here.
pub(crate) async fn bring(travel: &Travel, file: &Path, keep: Keep) -> Result<usize, TravelError> {
    if file.exists() {
        return Ok(0);
    }
    for branch in &travel.branches {
        for remote in &travel.from {
            let Some((snapshot, store)) = find(travel, remote, branch).await? else { continue };
            let records = read(travel, &snapshot, store.as_ref()).await?;
            return Ok(History::open(file)?.merge(&records, keep)?);
        }
    }
    Ok(0)
}

/// Takes the latest records to every store that caches go to, beside those that are there.
pub(crate) async fn take(travel: &Travel, file: &Path) -> Result<(), TravelError> {
    let Some(history) = History::open_if_there(file)? else { return Ok(()) };
    let own = history.latest(TAKEN)?;
    drop(history);
    let branch = travel.branches.first().map_or("default", String::as_str);
    for remote in &travel.to {
        let found = match find(travel, remote, branch).await {
            // What cannot be read, or is not trusted, is replaced.
            Err(TravelError::Store(CacheError::Damaged { .. } | CacheError::Untrusted { .. })) => None,
            other => other?,
        };
        let mut records = own.clone();
        let before = match &found {
            Some((snapshot, store)) => {
                records.extend(read(travel, snapshot, store.as_ref()).await.unwrap_or_default());
                Some(snapshot.clone())
            }
            None => None,
        };
        let text = lines(records);
        let saving = Saving {
            store: remote.store.as_ref(),
            series: series(travel, branch),
            now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            before,
            signer: travel.signer.clone(),
            traffic: Traffic::default(),
        };
        let pack = move |packer: &mut kiln_cache::pack::Packer<'_>| {
            let entry = |path: &str, mode, kind| Entry { path: path.to_owned(), mode, uid: 0, gid: 0, mtime: 0, kind };
            packer.add(entry("", 0o755, Kind::Folder));
            packer.add_file(entry(FILE, 0o644, Kind::File(Vec::new())), &mut text.as_bytes())
        };
        saving.save(pack).await?;
    }
    Ok(())
}

/// The latest records as lines, newest first, each build once.
fn lines(mut records: Vec<Record>) -> String {
    records.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
    records.dedup_by(|a, b| a.id == b.id);
    records.truncate(TAKEN);
    let lines = records.iter().filter_map(|record| serde_json::to_string(record).ok());
    lines.map(|line| line + "\n").collect()
}

fn series(travel: &Travel, branch: &str) -> Series {
    Series::new([travel.scope.as_str(), branch, "history", "builds"])
}

async fn find(
    travel: &Travel,
    remote: &Remote,
    branch: &str,
) -> Result<Option<(Arc<Snapshot>, Arc<dyn Store>)>, TravelError> {
    let snapshot = newest(remote.store.as_ref(), &series(travel, branch), &travel.trust).await?;
    Ok(snapshot.map(|snapshot| (Arc::new(snapshot), remote.store.clone())))
}

async fn read(travel: &Travel, snapshot: &Snapshot, store: &dyn Store) -> Result<Vec<Record>, TravelError> {
    let folder = travel.spool.join("history");
    let mut fetched = Fetched::new(&folder);
    let problems = fetched.fetch(store, &snapshot.packs).await?;
    let read = || {
        let entry = snapshot.entries.iter().find(|entry| entry.path == FILE);
        let entry = entry.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut text = String::new();
        Contents::new(snapshot, &fetched).read(entry).take(MOST).read_to_string(&mut text)?;
        // A line that another kiln wrote and this one does not know is no loss.
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    };
    let records: io::Result<Vec<Record>> = read();
    // What is left of it is removed by the next build.
    let _ = fs_err::remove_dir_all(&travel.spool);
    match problems.into_iter().next() {
        Some(problem) => Err(problem.into()),
        None => Ok(records?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, started: i64) -> Record {
        Record { version: kiln_history::record::VERSION, id: id.to_owned(), started, ..Record::default() }
    }

    #[test]
    fn the_latest_records_of_both_sides_are_taken_each_once() {
        let text = lines(vec![record("b", 2), record("a", 1), record("c", 3), record("b", 2)]);
        let ids: Vec<String> =
            text.lines().map(|line| serde_json::from_str::<Record>(line).expect("a record").id).collect();
        assert_eq!(ids, ["c", "b", "a"]);
        let many = (0..300).map(|n| record(&format!("{n:04}"), n)).collect();
        assert_eq!(lines(many).lines().count(), TAKEN);
    }
}
