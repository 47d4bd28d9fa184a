//! A folder of this machine, or of one that is mounted here: `packs/<digest>` and `series/<series>/<version>`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;

use super::layout::{KEPT, STAGING};
use super::{Listed, Object, Put, Store, layout};
use crate::error::{CacheError, Result};
use crate::name::{PackId, Series};

/// A folder as a store.
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The store in a folder, which is made with the first thing that is put.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = self.root.clone();
        let done = tokio::task::spawn_blocking(move || work(&root)).await;
        // A panic in there is a bug; it is passed on as what it is.
        let done = done.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
        done.map_err(|source| CacheError::Io { action, path: self.root.clone(), source })
    }
}

/// Writes a file that appears whole under its name or not at all. It is not waited for the disk: what a power failure leaves
/// of a pack is not what its digest says, and what it leaves of a snapshot neither.
fn write_whole(root: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staging = root.join(STAGING);
    std::fs::create_dir_all(&staging)?;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let temporary = staging.join(layout::temporary());
    let written = std::fs::File::create_new(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn missing_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The versions of a series, oldest first.
fn versions(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in missing_is_none(std::fs::read_dir(folder))?.into_iter().flatten() {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

#[async_trait]
impl Store for Folder {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    async fn has_pack(&self, id: &PackId) -> Result<bool> {
        let id = *id;
        self.blocking("read", move |root| Ok(missing_is_none(root.join(layout::pack(&id)).metadata())?.is_some())).await
    }

    async fn put_pack(&self, id: &PackId, bytes: Bytes) -> Result<Put> {
        let id = *id;
        self.blocking("write", move |root| {
            let path = root.join(layout::pack(&id));
            // One of another size is torn, and made anew.
            if path.metadata().is_ok_and(|meta| meta.len() == bytes.len() as u64) {
                // Whoever prunes by age sees that it is used.
                let _ = std::fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                return Ok(Put::AlreadyThere);
            }
            write_whole(root, &path, &bytes)?;
            Ok(Put::Stored)
        })
        .await
    }

    fn file_of_pack(&self, id: &PackId) -> Option<PathBuf> {
        Some(self.root.join(layout::pack(id)))
    }

    async fn pack(&self, id: &PackId, _size: u64) -> Result<Option<Bytes>> {
        let id = *id;
        self.blocking("read", move |root| {
            Ok(missing_is_none(std::fs::read(root.join(layout::pack(&id))))?.map(Bytes::from))
        })
        .await
    }

    async fn put_snapshot(&self, series: &Series, bytes: Bytes, _packs: &[(PackId, u64)]) -> Result<Put> {
        let series = series.clone();
        self.blocking("write", move |root| {
            let folder = root.join(layout::series(&series));
            write_whole(root, &folder.join(layout::version(&bytes)), &bytes)?;
            let names = versions(&folder)?;
            for old in &names[..names.len().saturating_sub(KEPT)] {
                missing_is_none(std::fs::remove_file(folder.join(old)))?;
            }
            Ok(Put::Stored)
        })
        .await
    }

    async fn snapshot(&self, series: &Series) -> Result<Option<Bytes>> {
        let series = series.clone();
        self.blocking("read", move |root| {
            let folder = root.join(layout::series(&series));
            for name in versions(&folder)?.iter().rev() {
                // A newer one may have replaced it meanwhile.
                if let Some(bytes) = missing_is_none(std::fs::read(folder.join(name)))? {
                    return Ok(Some(Bytes::from(bytes)));
                }
            }
            Ok(None)
        })
        .await
    }

    async fn list(&self) -> Result<Option<Vec<Listed>>> {
        self.blocking("read", |root| {
            let mut found = Vec::new();
            walk(root, &mut |path, meta| {
                let written =
                    meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
                let listed = |what| Listed { what, size: meta.len(), written: written.as_secs() };
                found.push(listed(layout::object(&path.to_string_lossy())));
            })?;
            Ok(Some(found))
        })
        .await
    }

    async fn remove(&self, what: &Object) -> Result<()> {
        let what = what.clone();
        self.blocking("write", move |root| {
            let path = root.join(layout::path(&what));
            missing_is_none(std::fs::remove_file(&path))?;
            // Folders of series that are no more; others are not empty.
            let mut folder = path.parent();
            while let Some(at) = folder.filter(|at| *at != root && std::fs::remove_dir(at).is_ok()) {
                folder = at.parent();
            }
            Ok(())
        })
        .await
    }
}

fn walk(root: &Path, visit: &mut impl FnMut(&Path, &std::fs::Metadata)) -> io::Result<()> {
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        for entry in missing_is_none(std::fs::read_dir(root.join(&folder)))?.into_iter().flatten() {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            // What is removed while we look is not there.
            let Some(meta) = missing_is_none(entry.metadata())? else { continue };
            if meta.is_dir() {
                todo.push(path);
            } else {
                visit(&path, &meta);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str) -> Series {
        Series::new(["hello", "main", name])
    }

    #[tokio::test]
    async fn what_is_put_is_there() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Folder::new(dir.path().join("cache"));
        let bytes = Bytes::from_static(b"some content");
        let id = PackId::of(&bytes);
        assert_eq!(store.pack(&id, 12).await.expect("read"), None);
        assert!(!store.has_pack(&id).await.expect("read"));
        assert_eq!(store.list().await.expect("read"), Some(vec![]));
        assert_eq!(store.put_pack(&id, bytes.clone()).await.expect("put"), Put::Stored);
        assert_eq!(store.put_pack(&id, bytes.clone()).await.expect("put"), Put::AlreadyThere);
        assert_eq!(store.pack(&id, 12).await.expect("read"), Some(bytes));
        assert_eq!(store.snapshot(&series("a")).await.expect("read"), None);
        for text in ["one", "two", "three"] {
            store.put_snapshot(&series("a"), Bytes::from_static(text.as_bytes()), &[]).await.expect("put");
        }
        assert_eq!(store.snapshot(&series("a")).await.expect("read"), Some(Bytes::from_static(b"three")));
        assert_eq!(store.snapshot(&series("b")).await.expect("read"), None);
        let listed = store.list().await.expect("read").expect("listed");
        assert_eq!(listed.iter().map(|listed| listed.size).sum::<u64>(), 12 + 8, "{listed:?}");
        for listed in listed {
            store.remove(&listed.what).await.expect("removed");
            store.remove(&listed.what).await.expect("not there is no error");
        }
        assert_eq!(store.list().await.expect("read"), Some(vec![]));
    }

    #[tokio::test]
    async fn a_torn_pack_is_made_anew_and_debris_is_known() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Folder::new(dir.path());
        let bytes = Bytes::from_static(b"some content");
        let id = PackId::of(&bytes);
        fs_err::create_dir_all(dir.path().join("packs")).expect("folder");
        fs_err::write(dir.path().join("packs").join(id.to_string()), "some").expect("written");
        assert_eq!(store.put_pack(&id, bytes.clone()).await.expect("put"), Put::Stored);
        assert_eq!(store.pack(&id, 12).await.expect("read"), Some(bytes));
        fs_err::create_dir_all(dir.path().join(STAGING)).expect("folder");
        fs_err::write(dir.path().join(STAGING).join("1-2-3"), "half").expect("written");
        let listed = store.list().await.expect("read").expect("listed");
        assert!(listed.iter().any(|l| l.what == Object::Debris { path: "tmp/1-2-3".to_owned() }), "{listed:?}");
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_is_an_error() {
        let dir = tempfile::tempdir().expect("folder");
        fs_err::write(dir.path().join("file"), "").expect("written");
        let store = Folder::new(dir.path().join("file"));
        let error = store.put_pack(&PackId::of(b"x"), Bytes::from_static(b"x")).await.expect_err("no folder");
        assert!(matches!(error, CacheError::Io { action: "write", .. }), "{error:?}");
    }
}
