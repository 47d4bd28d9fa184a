//! What every store must do.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::time::Duration;

use bytes::Bytes;
use kiln_cache::{Object, PackId, Put, Series, Store};

/// Something that nobody else has: stores outlive tests.
pub(crate) fn unique() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{}-{:x}", std::process::id(), now.as_nanos())
}

/// Bytes that cannot be packed. They are the same in every run: a registry keeps what is removed.
fn noise(size: usize) -> Bytes {
    let mut reader = blake3::Hasher::new().update(b"noise").finalize_xof();
    let mut bytes = vec![0; size];
    reader.fill(&mut bytes);
    bytes.into()
}

/// Checks an empty store that nobody else uses.
pub(crate) async fn check(store: &dyn Store) {
    let lists = store.list().await.expect("list").is_some();
    missing_things_are_none(store).await;
    let packs = packs(store).await;
    snapshots(store).await;
    side_by_side(store).await;
    if lists {
        listed_and_removed(store).await;
    }
    for id in packs {
        store.remove(&Object::Pack(id)).await.expect("removed");
        assert!(!store.has_pack(&id).await.expect("has"));
    }
}

async fn missing_things_are_none(store: &dyn Store) {
    let id = PackId::of(b"nobody has it");
    assert!(!store.has_pack(&id).await.expect("has"));
    assert_eq!(store.pack(&id, 8).await.expect("pack"), None);
    assert_eq!(store.snapshot(&Series::new(["nothing", "here"])).await.expect("snapshot"), None);
    store.remove(&Object::Pack(id)).await.expect("not there is no error");
}

async fn packs(store: &dyn Store) -> Vec<PackId> {
    let mut ids = Vec::new();
    for bytes in [Bytes::new(), noise(1), noise(100_000), noise(20 << 20)] {
        let (id, size) = (PackId::of(&bytes), bytes.len() as u64);
        assert_eq!(store.put_pack(&id, bytes.clone()).await.expect("put"), Put::Stored, "{size}");
        assert!(store.has_pack(&id).await.expect("has"), "{size}");
        assert!(store.pack(&id, size).await.expect("pack").as_ref() == Some(&bytes), "{size} bytes are others");
        assert_eq!(store.put_pack(&id, bytes).await.expect("put"), Put::AlreadyThere, "{size}");
        ids.push(id);
    }
    ids
}

async fn snapshots(store: &dyn Store) {
    // Series whose names begin alike, and one whose parts look like what stores call things.
    let names: [&[&str]; 6] =
        [&["a"], &["a", "b"], &["a", "b", "c"], &["a", "bc"], &["ab"], &["a", "b", "latest", "packs"]];
    let all = names.map(|parts| Series::new(parts.iter().copied()));
    for round in ["one", "two", "three"] {
        for series in &all {
            let text = Bytes::from(format!("{round} of {series}"));
            store.put_snapshot(series, text, &[(PackId::of(b""), 0)]).await.expect("put");
        }
        for series in all.iter().rev() {
            let newest = store.snapshot(series).await.expect("read");
            assert_eq!(newest, Some(Bytes::from(format!("{round} of {series}"))));
        }
    }
    let large = noise(3 << 20);
    store.put_snapshot(&all[0], large.clone(), &[]).await.expect("put");
    assert!(store.snapshot(&all[0]).await.expect("read") == Some(large), "a large snapshot is another");
}

async fn side_by_side(store: &dyn Store) {
    let bytes = noise(300_000);
    let (id, series) = (PackId::of(&bytes), Series::new(["side", "by", "side"]));
    let puts = futures::future::join_all((0..8).map(|_| store.put_pack(&id, bytes.clone()))).await;
    for put in puts {
        put.expect("put");
    }
    assert!(store.pack(&id, 300_000).await.expect("pack") == Some(bytes));
    let texts: Vec<Bytes> = (0..8).map(|n| Bytes::from(format!("snapshot {n}"))).collect();
    let puts = texts.iter().map(|text| store.put_snapshot(&series, text.clone(), &[]));
    let reads = futures::future::join_all((0..8).map(|_| store.snapshot(&series)));
    let (puts, reads) = futures::join!(futures::future::join_all(puts), reads);
    for put in puts {
        put.expect("put");
    }
    // Whoever reads meanwhile gets a whole one, or none.
    for read in reads {
        assert!(read.expect("read").is_none_or(|text| texts.contains(&text)));
    }
    let last = store.snapshot(&series).await.expect("read").expect("one of them is the newest");
    assert!(texts.contains(&last));
    tokio::time::sleep(Duration::from_millis(2)).await;
    store.put_snapshot(&series, Bytes::from_static(b"the last"), &[]).await.expect("put");
    assert_eq!(store.snapshot(&series).await.expect("read").as_deref(), Some(&b"the last"[..]));
}

async fn listed_and_removed(store: &dyn Store) {
    let bytes = noise(12_345);
    let (id, series) = (PackId::of(&bytes), Series::new(["listed", "main"]));
    store.put_pack(&id, bytes).await.expect("put");
    for text in ["1", "22", "333", "4444"] {
        store.put_snapshot(&series, Bytes::from_static(text.as_bytes()), &[]).await.expect("put");
    }
    let listed = store.list().await.expect("list").expect("it lists");
    let pack = listed.iter().find(|listed| listed.what == Object::Pack(id)).expect("the pack is listed");
    assert_eq!(pack.size, 12_345);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(pack.written == 0 || now.abs_diff(pack.written) < 3600, "{}", pack.written);
    let of_series =
        |listed: &kiln_cache::Listed| matches!(&listed.what, Object::Snapshot { series: s, .. } if *s == series);
    let mut sizes: Vec<u64> = listed.iter().filter(|listed| of_series(listed)).map(|listed| listed.size).collect();
    sizes.sort_unstable();
    assert!(sizes == [3, 4] || sizes == [4], "old ones go: {sizes:?}");
    assert!(!listed.iter().any(|listed| matches!(listed.what, Object::Debris { .. })), "{listed:?}");
    for one in &listed {
        store.remove(&one.what).await.expect("removed");
        store.remove(&one.what).await.expect("not there is no error");
    }
    let rest = store.list().await.expect("list").expect("it lists");
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(store.snapshot(&series).await.expect("read"), None);
    assert!(!store.has_pack(&id).await.expect("has"));
}
