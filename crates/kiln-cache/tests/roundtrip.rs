//! Trees go to a store and come back, whole or not at all, whatever happens to the store.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kiln_cache::store::Folder;
use kiln_cache::{
    CacheError, Contents, Fetched, Listed, Object, PackId, Put, SaveError, Saved, Saving, Series, Signer, Snapshot,
    Store, Traffic, Trust, newest, tree,
};

type Tree = BTreeMap<String, Vec<u8>>;

fn series() -> Series {
    Series::new(["hello", "main", "volume"])
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(step).collect()
}

/// An archive as a daemon gives it: all below one folder.
fn archive(files: &Tree) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let folder = |builder: &mut tar::Builder<Vec<u8>>, path: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        builder.append_data(&mut header, path, io::empty()).expect("written");
    };
    folder(&mut builder, "kiln/");
    folder(&mut builder, "kiln/d/");
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, format!("kiln/{path}"), bytes.as_slice()).expect("written");
    }
    builder.into_inner().expect("written")
}

async fn save_signed(store: &dyn Store, files: &Tree, signer: Option<Arc<Signer>>) -> Result<Saved, SaveError> {
    let before = newest(store, &series(), &Trust::Anybody).await.ok().flatten().map(Arc::new);
    let saving = Saving { store, series: series(), now: 7, before, signer, traffic: Traffic::default() };
    let bytes = archive(files);
    saving.save(move |packer| tree::pack_archive(Cursor::new(&bytes), |path| path == "lock", packer).map(drop)).await
}

async fn save(store: &dyn Store, files: &Tree) -> Result<Saved, SaveError> {
    save_signed(store, files, None).await
}

/// What a store gives back, and what was wrong with it.
async fn restore(store: &dyn Store, trust: &Trust) -> Result<Option<(Tree, Vec<CacheError>)>, CacheError> {
    let Some(snapshot) = newest(store, &series(), trust).await? else { return Ok(None) };
    let dir = tempfile::tempdir().expect("folder");
    let mut fetched = Fetched::new(dir.path());
    let problems = fetched.fetch(store, &snapshot.packs).await?;
    Ok(Some((unpacked(&snapshot, &fetched), problems)))
}

fn unpacked(snapshot: &Snapshot, fetched: &Fetched) -> Tree {
    let mut builder = tar::Builder::new(Vec::new());
    tree::write_archive(snapshot, &mut Contents::new(snapshot, fetched), "", &mut builder).expect("written");
    let bytes = builder.into_inner().expect("written");
    let mut files = Tree::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        if entry.header().entry_type() == tar::EntryType::Regular {
            let mut content = Vec::new();
            io::Read::read_to_end(&mut entry, &mut content).expect("read");
            files.insert(entry.path().expect("a path").display().to_string(), content);
        }
    }
    files
}

fn sample() -> Tree {
    let mut files = Tree::new();
    for number in 0..300 {
        files.insert(format!("d/small{number}"), noise(number, usize::try_from(number).expect("small") * 7));
    }
    files.insert("d/text".to_owned(), b"the same line\n".repeat(100_000));
    files.insert("d/large".to_owned(), noise(1000, 9 << 20));
    files.insert("d/empty".to_owned(), Vec::new());
    files
}

async fn restored(store: &dyn Store) -> Tree {
    let (files, problems) = restore(store, &Trust::Anybody).await.expect("read").expect("a snapshot");
    assert!(problems.is_empty(), "{problems:?}");
    files
}

#[tokio::test]
async fn a_tree_comes_back_and_only_what_is_new_is_sent() {
    let dir = tempfile::tempdir().expect("folder");
    let store = Folder::new(dir.path());
    assert!(restore(&store, &Trust::Anybody).await.expect("read").is_none());
    let mut files = sample();
    let first = save(&store, &files).await.expect("saved");
    assert!(first.is_new && first.files == 303, "{first:?}");
    assert!(first.sent < 10_000_000, "text is packed: {first:?}");
    assert_eq!(restored(&store).await, files);
    let again = save(&store, &files).await.expect("saved");
    assert!(!again.is_new && again.objects == 0 && again.sent == 0, "{again:?}");
    files.insert("d/small7".to_owned(), noise(5000, 100));
    files.insert("d/more".to_owned(), noise(5001, 1000));
    files.remove("d/small8");
    let changed = save(&store, &files).await.expect("saved");
    assert!(changed.is_new && changed.objects == 2 && changed.sent < first.sent / 20, "{changed:?}");
    assert_eq!(restored(&store).await, files);
    // What is skipped is not there.
    files.insert("lock".to_owned(), noise(1, 10));
    assert!(!save(&store, &files).await.expect("saved").is_new);
}

#[tokio::test]
async fn packs_that_hold_little_are_put_together_once_something_changes() {
    let dir = tempfile::tempdir().expect("folder");
    let store = Folder::new(dir.path());
    let mut files = sample();
    save(&store, &files).await.expect("saved");
    files.remove("d/large");
    save(&store, &files).await.expect("saved");
    assert!(!save(&store, &files).await.expect("saved").is_new, "an unchanged tree sends nothing");
    files.insert("d/new".to_owned(), noise(9, 9));
    save(&store, &files).await.expect("saved");
    let snapshot = newest(&store, &series(), &Trust::Anybody).await.expect("read").expect("there");
    assert_eq!(snapshot.packs.len(), 1, "{:?}", snapshot.packs);
    assert!(snapshot.stored() < 1_000_000, "{}", snapshot.stored());
    assert_eq!(restored(&store).await, files);
    for round in 0..40 {
        files.insert("d/changing".to_owned(), noise(round, 50));
        save(&store, &files).await.expect("saved");
    }
    let snapshot = newest(&store, &series(), &Trust::Anybody).await.expect("read").expect("there");
    assert!(snapshot.packs.len() < 30, "{}", snapshot.packs.len());
    assert_eq!(restored(&store).await, files);
}

fn packs(root: &Path) -> Vec<std::path::PathBuf> {
    let listing = fs_err::read_dir(root.join("packs")).expect("packs");
    listing.map(|entry| entry.expect("entry").path()).collect()
}

#[tokio::test]
async fn what_is_lost_or_damaged_is_a_miss_and_the_next_save_mends_it() {
    let dir = tempfile::tempdir().expect("folder");
    let store = Folder::new(dir.path());
    let files = sample();
    save(&store, &files).await.expect("saved");
    for damage in 0..3 {
        let path = packs(dir.path()).into_iter().max().expect("a pack");
        let mut bytes = fs_err::read(&path).expect("read");
        match damage {
            0 => fs_err::remove_file(&path).expect("removed"),
            1 => fs_err::write(&path, &bytes[..bytes.len() / 2]).expect("written"),
            _ => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs_err::write(&path, &bytes).expect("written");
            }
        }
        let (left, problems) = restore(&store, &Trust::Anybody).await.expect("read").expect("a snapshot");
        assert!(matches!(problems.as_slice(), [CacheError::Damaged { .. }]), "{problems:?}");
        assert!(left.len() < files.len());
        assert!(left.iter().all(|(path, content)| files.get(path) == Some(content)), "never a wrong file");
        if damage == 2 {
            // Only who reads all of it sees that; `kiln cache verify` does, and drops it.
            let id: PackId = path.file_name().expect("name").to_string_lossy().parse().expect("a digest");
            store.remove(&Object::Pack(id)).await.expect("removed");
        } else if damage == 1 {
            fs_err::remove_file(&path).expect("removed");
        }
        save(&store, &files).await.expect("saved");
        assert_eq!(restored(&store).await, files);
    }
    let newest_of = |path: &Path| fs_err::read_dir(path).expect("series").map(|e| e.expect("entry").path()).max();
    let snapshot = newest_of(&dir.path().join("series/hello/main/volume")).expect("a snapshot");
    fs_err::write(snapshot, "kiln-cache 1 nonsense\n").expect("written");
    assert!(matches!(restore(&store, &Trust::Anybody).await, Err(CacheError::Damaged { .. })));
    save(&store, &files).await.expect("saved");
    assert_eq!(restored(&store).await, files);
}

#[tokio::test]
async fn only_what_is_signed_by_a_trusted_key_is_read() {
    let dir = tempfile::tempdir().expect("folder");
    let store = Folder::new(dir.path());
    let key = || {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().expect("keys");
        Arc::new(Signer::new(&pair.sk.to_box(None).expect("text").to_string(), None).expect("a key"))
    };
    let (ours, other) = (key(), key());
    let trust = ours.trust().expect("public");
    for (signer, is_read) in [(None, false), (Some(other), false), (Some(ours), true)] {
        let files = Tree::from([("d/f".to_owned(), noise(if is_read { 1 } else { 2 }, 99))]);
        save_signed(&store, &files, signer).await.expect("saved");
        match restore(&store, &trust).await {
            Ok(Some((read, _))) => assert!(is_read && read == files),
            Err(CacheError::Untrusted { .. }) => assert!(!is_read),
            other => panic!("{other:?}"),
        }
    }
}

/// A store that breaks after so many writes.
struct Breaking<'a> {
    store: &'a Folder,
    left: AtomicUsize,
}

impl Breaking<'_> {
    fn write(&self) -> Result<(), CacheError> {
        let spent = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let broken = |_| CacheError::Unreachable { place: self.place(), reason: "the connection was cut".to_owned() };
        spent.map(drop).map_err(broken)
    }
}

#[async_trait]
impl Store for Breaking<'_> {
    fn place(&self) -> String {
        self.store.place()
    }
    async fn has_pack(&self, id: &PackId) -> Result<bool, CacheError> {
        self.store.has_pack(id).await
    }
    async fn put_pack(&self, id: &PackId, bytes: Bytes) -> Result<Put, CacheError> {
        self.write()?;
        self.store.put_pack(id, bytes).await
    }
    async fn pack(&self, id: &PackId, size: u64) -> Result<Option<Bytes>, CacheError> {
        self.store.pack(id, size).await
    }
    async fn put_snapshot(&self, series: &Series, bytes: Bytes, packs: &[(PackId, u64)]) -> Result<Put, CacheError> {
        self.write()?;
        self.store.put_snapshot(series, bytes, packs).await
    }
    async fn snapshot(&self, series: &Series) -> Result<Option<Bytes>, CacheError> {
        self.store.snapshot(series).await
    }
    async fn list(&self) -> Result<Option<Vec<Listed>>, CacheError> {
        self.store.list().await
    }
    async fn remove(&self, what: &Object) -> Result<(), CacheError> {
        self.store.remove(what).await
    }
}

#[tokio::test]
async fn a_save_that_breaks_off_leaves_what_was_there() {
    let dir = tempfile::tempdir().expect("folder");
    let store = Folder::new(dir.path());
    let old = Tree::from([("d/f".to_owned(), noise(1, 1000))]);
    save(&store, &old).await.expect("saved");
    let mut files = sample();
    files.insert("d/huge".to_owned(), noise(77, 40 << 20));
    let mut broke = 0;
    for left in 0.. {
        let breaking = Breaking { store: &store, left: AtomicUsize::new(left) };
        match save(&breaking, &files).await {
            Ok(_) => break,
            Err(SaveError::Store(CacheError::Unreachable { .. })) => broke += 1,
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!(restored(&store).await, old);
    }
    assert!(broke > 2, "{broke}");
    assert_eq!(restored(&store).await, files);
}

#[tokio::test]
async fn savers_and_readers_side_by_side_never_see_a_mixture() {
    let dir = tempfile::tempdir().expect("folder");
    let versions: Arc<Vec<Tree>> =
        Arc::new((0..4).map(|n| (0..20).map(|f| (format!("d/{f}"), noise(n * 100 + f % 3, 2000))).collect()).collect());
    let mut tasks: Vec<tokio::task::JoinHandle<()>> = Vec::new();
    for saver in 0..3usize {
        let (store, versions) = (Folder::new(dir.path()), versions.clone());
        tasks.push(tokio::spawn(async move {
            for round in 0..12 {
                save(&store, &versions[(saver + round) % versions.len()]).await.expect("saved");
                let read = restored(&store).await;
                assert!(versions.contains(&read));
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
}
