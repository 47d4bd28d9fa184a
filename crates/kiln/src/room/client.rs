//! What kiln keeps on this machine: fetched files and commits, and what dead builds left.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::{Place, Record, Type};

/// What was fetched, the state of contexts that came from elsewhere, and the unpacked contexts of dead processes.
pub(super) fn fetched(cache_folder: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    for version in entries(&cache_folder.join("fetched")) {
        for (kind, what) in [
            ("blobs", "content of a URL"),
            ("files", "content of a URL, as a folder"),
            ("git", "files of a commit"),
            ("urls", "answer of a server"),
        ] {
            let found = entries(&version.join(kind));
            records.extend(found.iter().filter_map(|path| record(path, Type::Fetched, what, "")));
        }
        let unfinished = entries(&version.join("unfinished"));
        records.extend(unfinished.iter().filter_map(|path| record(path, Type::Fetched, "unfinished transfer", "")));
    }
    let projects = entries(&cache_folder.join("projects"));
    records.extend(projects.iter().filter_map(|path| record(path, Type::Fetched, "state of a fetched context", "")));
    let contexts = entries(&cache_folder.join("contexts"));
    let dead = contexts
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| crate::session::is_of_dead(&name.to_string_lossy())));
    records.extend(dead.filter_map(|path| record(path, Type::Leftover, "context of a dead build", "")));
    records
}

/// What dead builds of a project left in its state. Those of a build that runs are there, too: only whoever has the lock
/// of the scope may remove them.
pub(super) fn exports(state: &Path, scope: &str) -> Vec<Record> {
    let found = entries(&state.join("exports"));
    found.iter().filter_map(|path| record(path, Type::Leftover, "layers and files of a dead build", scope)).collect()
}

/// Removes a file or folder of this machine.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    let removed = match fs_err::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs_err::remove_dir_all(path),
        Ok(_) => fs_err::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    found
}

fn record(path: &Path, kind: Type, description: &str, scope: &str) -> Option<Record> {
    let meta = fs_err::symlink_metadata(path).ok()?;
    let made = meta.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Some(Record {
        id: path.display().to_string(),
        kind,
        description: description.to_owned(),
        scope: scope.to_owned(),
        platform: String::new(),
        size: Some(size(path)),
        created: i64::try_from(made.as_secs()).unwrap_or(i64::MAX),
        // The cache of fetched files notes by this time when one was used.
        used: meta.ctime(),
        in_use: false,
        depth: 0,
        place: Place::Here(path.to_owned()),
    })
}

/// Bytes on the disk of a file, or of all that is in a folder.
fn size(path: &Path) -> u64 {
    let Ok(meta) = fs_err::symlink_metadata(path) else { return 0 };
    // Blocks are of 512 bytes, whatever the file system does: see stat(2).
    let own = meta.blocks() * 512;
    if meta.is_dir() { own + entries(path).iter().map(|path| size(path)).sum::<u64>() } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetched_files_and_remains_are_found_and_removed() {
        let dir = tempfile::tempdir().expect("folder");
        let cache = dir.path().join("cache");
        let live = format!("contexts/{}x", crate::session::prefix());
        for path in
            ["fetched/v1/git/tree/sub/file", "fetched/v1/blobs/aa", "projects/p/state", "contexts/1-99999999999-x/f"]
                .into_iter()
                .chain([format!("{live}/f").as_str()])
        {
            fs_err::create_dir_all(cache.join(path).parent().expect("below")).expect("folder");
            fs_err::write(cache.join(path), vec![1; 5000]).expect("file");
        }
        let found = fetched(&cache);
        let names: Vec<_> =
            found.iter().map(|r| (r.kind, r.id[cache.display().to_string().len() + 1..].to_owned())).collect();
        let expected = [
            (Type::Fetched, "fetched/v1/blobs/aa".to_owned()),
            (Type::Fetched, "fetched/v1/git/tree".to_owned()),
            (Type::Fetched, "projects/p".to_owned()),
            (Type::Leftover, "contexts/1-99999999999-x".to_owned()),
        ];
        assert_eq!(names, expected);
        assert!(found.iter().all(|record| record.size.is_some_and(|size| size >= 5000)));
        for record in &found {
            let Place::Here(path) = &record.place else { panic!("it is here") };
            remove(path).expect("removed");
            remove(path).expect("again is no error");
        }
        assert!(fetched(&cache).is_empty());
        assert!(cache.join(live).exists());
        assert!(exports(dir.path(), "p").is_empty());
    }
}
