//! Saving a tree: what is new is packed and sent while the rest is still being read.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::error::{CacheError, Result};
use crate::name::{PackId, Series};
use crate::pack::{Pack, Packed, Packer, wants_repacking};
use crate::sign::{Signer, Trust};
use crate::snapshot::{Refused, Snapshot};
use crate::store::{Put, Store};
use crate::traffic::Traffic;

/// Packs that wait to be sent, and those that are on their way: both are in memory.
const WAITING: usize = 1;
/// Packs on their way at once.
const AT_ONCE: usize = 2;
/// Questions at once.
const ASKED: usize = 8;

/// Why a tree was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The store.
    #[error(transparent)]
    Store(#[from] CacheError),
    /// The tree could not be read.
    #[error("what should be saved cannot be read: {0}")]
    Source(io::Error),
}

/// What saving came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Whether the store has a new snapshot; otherwise all was there.
    pub is_new: bool,
    /// Files in the tree.
    pub files: usize,
    /// Their bytes.
    pub size: u64,
    /// Objects that were sent, packs and snapshots.
    pub objects: usize,
    /// Their bytes.
    pub sent: u64,
}

/// The newest snapshot of a series.
///
/// # Errors
/// If the store does not answer, or what it has is damaged or not trusted.
pub async fn newest(store: &dyn Store, series: &Series, trust: &Trust) -> Result<Option<Snapshot>> {
    let Some(bytes) = store.snapshot(series).await? else { return Ok(None) };
    let (series, trust) = (series.clone(), trust.clone());
    let what = format!("the snapshot {series}");
    let decoding = tokio::task::spawn_blocking(move || Snapshot::decode(&bytes, &series, &trust));
    // A panic in there is a bug; it is passed on as what it is.
    let decoded = decoding.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    decoded.map(Some).map_err(|refused| {
        let (place, reason) = (store.place(), refused.to_string());
        match refused {
            Refused::Untrusted(_) => CacheError::Untrusted { place, what, reason },
            Refused::Damaged(_) | Refused::Foreign(_) => CacheError::Damaged { place, what, reason },
        }
    })
}

/// What is to be saved, and how.
pub struct Saving<'a> {
    /// Where to.
    pub store: &'a dyn Store,
    /// As what.
    pub series: Series,
    /// Seconds since 1970.
    pub now: u64,
    /// The newest snapshot that is there: what it has is not sent again.
    pub before: Option<Arc<Snapshot>>,
    /// Who signs.
    pub signer: Option<Arc<Signer>>,
    /// Where packs are counted as they go.
    pub traffic: Traffic,
}

impl Saving<'_> {
    /// Saves a tree, which `read` adds to the packer; it is called on a thread of its own, and once more if packs are to be
    /// put together. Holds about four packs in memory. The snapshot is put last: whoever finds it finds all of it.
    ///
    /// # Errors
    /// If the store or the tree fails; then the snapshot before is still the newest.
    pub async fn save(
        self,
        read: impl Fn(&mut Packer<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Saved, SaveError> {
        let there = Arc::new(self.packs_there().await?);
        let read = Arc::new(read);
        // To put packs together costs sending them again, which an unchanged tree is not worth.
        if let Some(before) = self.before.clone().filter(|before| wants_repacking(before)) {
            let all = before.packs.iter().map(|pack| pack.id).collect();
            if there.len() == before.packs.len() && self.look(&read, before, all).await? {
                return Ok(Saved::default());
            }
        }
        let (sender, receiver) = mpsc::channel::<Pack>(WAITING);
        let (series, now, before) = (self.series.clone(), self.now, self.before.clone());
        let is_there = there.clone();
        let packing = tokio::task::spawn_blocking(move || {
            let sink = move |pack| sender.blocking_send(pack).map_err(|_| io::ErrorKind::BrokenPipe.into());
            let is_there = |id: &PackId| is_there.contains(id);
            let mut packer = Packer::new(series, now, before.as_deref(), is_there, sink)?;
            read(&mut packer)?;
            packer.finish()
        });
        let sent = self.send(receiver).await;
        // Ends at once when nobody takes its packs.
        let packed = packing.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
        let (objects, bytes) = sent?;
        let Packed { snapshot, is_same } = packed.map_err(SaveError::Source)?;
        let is_whole = self.before.as_ref().is_some_and(|before| before.packs.iter().all(|p| there.contains(&p.id)));
        let mut saved = Saved { is_new: false, files: snapshot.files(), size: snapshot.size(), objects, sent: bytes };
        if is_same && is_whole && objects == 0 {
            return Ok(saved);
        }
        let encoded = snapshot.encode(self.signer.as_deref()).map_err(SaveError::Source)?;
        let packs: Vec<(PackId, u64)> = snapshot.packs.iter().map(|pack| (pack.id, pack.size)).collect();
        saved.sent += encoded.len() as u64;
        saved.objects += 1;
        saved.is_new = self.store.put_snapshot(&self.series, Bytes::from(encoded), &packs).await? == Put::Stored;
        Ok(saved)
    }

    /// Whether the tree is as it was.
    async fn look(
        &self,
        read: &Arc<impl Fn(&mut Packer<'_>) -> io::Result<()> + Send + Sync + 'static>,
        before: Arc<Snapshot>,
        all: HashSet<PackId>,
    ) -> Result<bool, SaveError> {
        let (read, series, now) = (read.clone(), self.series.clone(), self.now);
        let looking = tokio::task::spawn_blocking(move || {
            let mut packer = Packer::to_look(series, now, &before, |id| all.contains(id))?;
            read(&mut packer)?;
            packer.finish().map(|packed| packed.is_same)
        });
        looking.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())).map_err(SaveError::Source)
    }

    /// The packs of the snapshot before that the store still has.
    async fn packs_there(&self) -> Result<HashSet<PackId>> {
        let packs: Vec<PackId> = self.before.iter().flat_map(|before| &before.packs).map(|pack| pack.id).collect();
        let mut packs = packs.into_iter();
        let mut asking: FuturesUnordered<_> = packs.by_ref().take(ASKED).map(|id| self.ask(id)).collect();
        let mut there = HashSet::new();
        while let Some(id) = asking.next().await {
            there.extend(id?);
            asking.extend(packs.next().map(|id| self.ask(id)));
        }
        Ok(there)
    }

    /// Sends packs as they come; how many, and their bytes.
    async fn send(&self, mut packs: mpsc::Receiver<Pack>) -> Result<(usize, u64)> {
        let mut sending = FuturesUnordered::new();
        let (mut objects, mut bytes, mut is_open) = (0, 0, true);
        while is_open || !sending.is_empty() {
            tokio::select! {
                pack = packs.recv(), if is_open && sending.len() < AT_ONCE => match pack {
                    Some(pack) => sending.push(self.put(pack)),
                    None => is_open = false,
                },
                Some(put) = sending.next(), if !sending.is_empty() => {
                    if let (Put::Stored, len) = put? {
                        objects += 1;
                        bytes += len;
                    }
                }
            }
        }
        Ok((objects, bytes))
    }

    async fn put(&self, pack: Pack) -> Result<(Put, u64)> {
        let len = pack.bytes.len() as u64;
        self.traffic.expect(len);
        let put = self.store.put_pack(&pack.id, pack.bytes).await?;
        self.traffic.moved(len);
        Ok((put, len))
    }

    async fn ask(&self, id: PackId) -> Result<Option<PackId>> {
        Ok(self.store.has_pack(&id).await?.then_some(id))
    }
}
