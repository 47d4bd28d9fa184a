//! From packs to files: packs are fetched to a folder of this machine and proved there, and files are read from them.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use futures::StreamExt;

use crate::error::{CacheError, Result};
use crate::name::{ContentId, PackId};
use crate::snapshot::{Entry, Kind, PackRef, Snapshot};
use crate::store::Store;
use crate::traffic::Traffic;

/// Packs in flight at once: each is in memory.
const AT_ONCE: usize = 3;
/// Bytes that are read at once of a pack that is only looked at.
const READ_AT_ONCE: usize = 1 << 20;
/// Unpacked blocks that are kept: files that follow each other share one.
const BLOCKS_KEPT: usize = 3;

/// Packs on this machine, each with the digest that it is named by.
#[derive(Clone, Debug)]
pub struct Fetched {
    folder: PathBuf,
    there: HashMap<PackId, PathBuf>,
    /// Bytes that came from the store.
    pub bytes: u64,
    traffic: Traffic,
}

impl Fetched {
    /// Nothing yet, in a folder that the caller removes.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), there: HashMap::new(), bytes: 0, traffic: Traffic::default() }
    }

    /// The same, with what comes counted there, too.
    pub fn counted(self, traffic: &Traffic) -> Self {
        Self { traffic: traffic.clone(), ..self }
    }

    /// Whether a pack is there.
    pub fn has(&self, id: &PackId) -> bool {
        self.there.contains_key(id)
    }

    /// Fetches the packs that are not there yet. What could not be had, or is not what its name says, is told, and is not
    /// there afterwards.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub async fn fetch(&mut self, store: &dyn Store, packs: &[PackRef]) -> Result<Vec<CacheError>> {
        let mut wanted: Vec<PackRef> = packs.iter().filter(|pack| !self.has(&pack.id)).cloned().collect();
        wanted.sort_by_key(|pack| pack.id);
        wanted.dedup_by_key(|pack| pack.id);
        let folder = self.folder.clone();
        let failed = |source| CacheError::Io { action: "write", path: folder.clone(), source };
        fs_err::create_dir_all(&self.folder).map_err(failed)?;
        let mut problems = Vec::new();
        self.traffic.expect(wanted.iter().map(|pack| pack.size).sum());
        let fetching = futures::stream::iter(wanted.into_iter().map(|pack| {
            let spooled = self.folder.join(pack.id.to_string());
            async move {
                let fetched = match store.file_of_pack(&pack.id) {
                    Some(path) => prove_one(store, &pack, path).await,
                    None => fetch_one(store, &pack, spooled).await,
                };
                (pack, fetched)
            }
        }));
        let mut fetching = fetching.buffer_unordered(AT_ONCE);
        while let Some((pack, fetched)) = fetching.next().await {
            match fetched {
                Ok(path) => {
                    self.there.insert(pack.id, path);
                    self.bytes += pack.size;
                    self.traffic.moved(pack.size);
                }
                Err(error @ CacheError::Io { action: "write", .. }) => return Err(error),
                Err(error) => {
                    self.traffic.expect_no_more(pack.size);
                    problems.push(error);
                }
            }
        }
        Ok(problems)
    }
}

fn damaged(store: &dyn Store, pack: &PackRef, reason: &str) -> CacheError {
    CacheError::Damaged { place: store.place(), what: format!("pack {}", pack.id), reason: reason.to_owned() }
}

/// Reads a pack that lies on this machine, to see whether it is what its name says.
async fn prove_one(store: &dyn Store, pack: &PackRef, path: PathBuf) -> Result<PathBuf> {
    let read = path.clone();
    let hashing = tokio::task::spawn_blocking(move || {
        let mut hasher = blake3::Hasher::new();
        let mut file = File::open(read)?;
        let mut buffer = vec![0; READ_AT_ONCE];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok::<_, io::Error>(PackId::finish(&hasher)),
                len => hasher.update(&buffer[..len]),
            };
        }
    });
    // A panic in there is a bug; it is passed on as what it is.
    match hashing.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())) {
        Ok(id) if id == pack.id => Ok(path),
        Ok(_) => Err(damaged(store, pack, "its content is not what its name says")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged(store, pack, "it is not there any more")),
        Err(source) => Err(CacheError::Io { action: "read", path, source }),
    }
}

async fn fetch_one(store: &dyn Store, pack: &PackRef, path: PathBuf) -> Result<PathBuf> {
    let gone = || damaged(store, pack, "it is not there any more");
    let bytes = store.pack(&pack.id, pack.size).await?.ok_or_else(gone)?;
    if bytes.len() as u64 != pack.size {
        let reason = format!("it has {} bytes instead of {}", bytes.len(), pack.size);
        return Err(damaged(store, pack, &reason));
    }
    let id = pack.id;
    let writing = tokio::task::spawn_blocking(move || {
        if PackId::of(&bytes) != id {
            return Ok(None);
        }
        match std::fs::write(&path, &bytes) {
            Ok(()) => Ok(Some(path)),
            Err(source) => Err(CacheError::Io { action: "write", path, source }),
        }
    });
    let written = writing.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))?;
    written.ok_or_else(|| damaged(store, pack, "its content is not what its name says"))
}

/// Reads the files of a snapshot out of packs.
pub struct Contents<'a> {
    snapshot: &'a Snapshot,
    fetched: &'a Fetched,
    files: HashMap<u32, File>,
    blocks: VecDeque<(u32, Vec<u8>)>,
}

impl<'a> Contents<'a> {
    /// The files of `snapshot`, as far as their packs are there.
    pub fn new(snapshot: &'a Snapshot, fetched: &'a Fetched) -> Self {
        Self { snapshot, fetched, files: HashMap::new(), blocks: VecDeque::new() }
    }

    /// Whether all that an entry needs is there.
    pub fn has(&self, entry: &Entry) -> bool {
        match &entry.kind {
            Kind::File(pieces) => self.have(pieces),
            _ => true,
        }
    }

    fn have(&self, pieces: &[u32]) -> bool {
        pieces.iter().all(|piece| {
            let block = &self.snapshot.blocks[self.snapshot.pieces[*piece as usize].block as usize];
            self.fetched.has(&self.snapshot.packs[block.pack as usize].id)
        })
    }

    /// The content of a file.
    pub fn read<'b>(&'b mut self, entry: &'b Entry) -> FileContent<'a, 'b> {
        let pieces: &[u32] = match &entry.kind {
            Kind::File(pieces) => pieces,
            _ => &[],
        };
        FileContent { contents: self, pieces, piece: Vec::new(), at: 0 }
    }

    /// The bytes of a piece, which are what its digest says.
    fn piece(&mut self, index: u32) -> io::Result<Vec<u8>> {
        let piece = &self.snapshot.pieces[index as usize];
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let block = self.block(piece.block)?;
        let (from, to) = (piece.at as usize, piece.at as usize + piece.len as usize);
        let bytes = block.get(from..to).ok_or_else(|| bad("a piece of a file is beyond its block"))?.to_vec();
        if ContentId::of(&bytes) != piece.digest {
            return Err(bad("a piece of a file is not what its digest says"));
        }
        Ok(bytes)
    }

    fn block(&mut self, index: u32) -> io::Result<&[u8]> {
        if let Some(at) = self.blocks.iter().position(|(block, _)| *block == index) {
            return Ok(&self.blocks[at].1);
        }
        let block = &self.snapshot.blocks[index as usize];
        let file = match self.files.entry(block.pack) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let gone = || io::Error::new(io::ErrorKind::NotFound, "a pack was not fetched");
                let path = self.fetched.there.get(&self.snapshot.packs[block.pack as usize].id).ok_or_else(gone)?;
                entry.insert(File::open(path)?)
            }
        };
        let mut bytes = vec![0; block.stored as usize];
        file.read_exact_at(&mut bytes, block.at)?;
        if block.zstd {
            bytes = zstd::bulk::decompress(&bytes, block.len as usize)?;
        }
        if self.blocks.len() == BLOCKS_KEPT {
            self.blocks.pop_front();
        }
        self.blocks.push_back((index, bytes));
        Ok(self.blocks.back().map_or(&[], |(_, bytes)| bytes))
    }
}

/// The content of one file, piece by piece.
pub struct FileContent<'a, 'b> {
    contents: &'b mut Contents<'a>,
    pieces: &'b [u32],
    piece: Vec<u8>,
    at: usize,
}

impl FileContent<'_, '_> {
    /// Whether all packs that it needs are there.
    pub fn is_there(&self) -> bool {
        self.contents.have(self.pieces)
    }

    /// Reads and proves the first piece, if there is one: most files have no other, and are known to be good after this.
    ///
    /// # Errors
    /// If it cannot be read, or is not what its digest says.
    pub fn prove(&mut self) -> io::Result<()> {
        self.advance().map(drop)
    }

    fn advance(&mut self) -> io::Result<bool> {
        while self.at == self.piece.len() {
            let Some((first, rest)) = self.pieces.split_first() else { return Ok(false) };
            self.piece = self.contents.piece(*first)?;
            (self.pieces, self.at) = (rest, 0);
        }
        Ok(true)
    }
}

impl Read for FileContent<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.advance()? {
            return Ok(0);
        }
        let len = buffer.len().min(self.piece.len() - self.at);
        buffer[..len].copy_from_slice(&self.piece[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
