//! From files to packs: what is new goes into blocks, blocks into packs, and a snapshot remembers where.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};

use bytes::Bytes;

use crate::blocks::Blocks;
use crate::name::{ContentId, PackId, Series};
use crate::snapshot::{Block, Entry, Kind, MOST_IN_BLOCK, Piece, Snapshot};

/// A block is closed when it has this many bytes: enough for zstd to find what repeats, little to unpack for one file.
const BLOCK: usize = 1 << 20;
/// A pack is closed when it has this many bytes: few enough objects, and little to send again after a failure.
const PACK: usize = 16 << 20;
/// Packs of which less than this part is needed are not used again, so that nobody names them any more.
const LEAST_USE: f64 = 0.5;
/// As many packs of less than [`SMALL`] bytes are put together.
const MOST_SMALL: usize = 24;
/// What a small pack is, in bytes.
const SMALL: u64 = PACK as u64 / 8;

/// Whether a store has a pack.
type IsThere<'a> = &'a dyn Fn(&PackId) -> bool;

/// A pack that is to be put.
#[derive(Clone, Debug)]
pub struct Pack {
    /// Its name.
    pub id: PackId,
    /// What is in it.
    pub bytes: Bytes,
}

/// What came of a tree.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Whether it has the very entries of the snapshot before.
    pub is_same: bool,
}

/// Whether some packs of a snapshot hold little that is needed, or many hold little at all.
pub fn wants_repacking(snapshot: &Snapshot) -> bool {
    !wasteful(snapshot).is_empty()
}

/// The packs, by index, that are not worth keeping.
fn wasteful(snapshot: &Snapshot) -> Vec<usize> {
    let uses = snapshot.use_of_packs();
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
    let is_idle = |pack: &usize| (uses[*pack] as f64) < snapshot.packs[*pack].size as f64 * LEAST_USE;
    let mut list: Vec<usize> = (0..uses.len()).filter(is_idle).collect();
    let small: Vec<usize> = (0..uses.len()).filter(|pack| snapshot.packs[*pack].size < SMALL).collect();
    if small.len() > MOST_SMALL {
        list.extend(small);
        list.sort_unstable();
        list.dedup();
    }
    list
}

/// Makes packs of a tree, one entry after the other. Holds a pack and some blocks in memory.
pub struct Packer<'a> {
    snapshot: Snapshot,
    before: Option<&'a Snapshot>,
    /// Pieces of the snapshot before that may be used, by content.
    known: HashMap<ContentId, usize>,
    /// Paths of files that were added: other names of them can be.
    files: HashSet<String>,
    /// Pieces of the new snapshot, by content.
    placed: HashMap<ContentId, u32>,
    /// Blocks and packs of the snapshot before as they are numbered in the new one.
    blocks: HashMap<u32, u32>,
    packs: HashMap<u32, u32>,
    /// Pieces of the open block, which get its number when it is closed: until then more may be taken over from before.
    /// And blocks of new packs, which are numbered at the end.
    open_pieces: Vec<u32>,
    open_blocks: Vec<u32>,
    block: Vec<u8>,
    buffer: Vec<u8>,
    blocks_out: Blocks,
}

impl<'a> Packer<'a> {
    /// Begins a snapshot of `series` at `made` (seconds since 1970). What `before` has in packs for which `is_there` holds
    /// is not packed again. Packs go to `sink` as they are full.
    ///
    /// # Errors
    /// If zstd cannot be set up.
    pub fn new(
        series: Series,
        made: u64,
        before: Option<&'a Snapshot>,
        is_there: impl Fn(&PackId) -> bool,
        sink: impl FnMut(Pack) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let wasteful = before.map(wasteful).unwrap_or_default();
        Self::with(series, made, before, (&wasteful, &is_there), Box::new(sink))
    }

    /// The same, but what is packed goes nowhere, and packs that hold little are used as well: to see what changed.
    pub(crate) fn to_look(
        series: Series,
        made: u64,
        before: &'a Snapshot,
        is_there: impl Fn(&PackId) -> bool,
    ) -> io::Result<Self> {
        Self::with(series, made, Some(before), (&[], &is_there), Box::new(|_| Ok(())))
    }

    fn with(
        series: Series,
        made: u64,
        before: Option<&'a Snapshot>,
        usable: (&[usize], IsThere<'_>),
        sink: Box<dyn FnMut(Pack) -> io::Result<()> + Send>,
    ) -> io::Result<Self> {
        let (wasteful, is_there) = usable;
        let mut known = HashMap::new();
        if let Some(before) = before {
            let usable: Vec<bool> = (before.packs.iter().enumerate())
                .map(|(index, pack)| wasteful.binary_search(&index).is_err() && is_there(&pack.id))
                .collect();
            for (index, piece) in before.pieces.iter().enumerate() {
                if usable[before.blocks[piece.block as usize].pack as usize] {
                    known.insert(piece.digest, index);
                }
            }
        }
        Ok(Self {
            snapshot: Snapshot::new(series, made),
            before,
            known,
            files: HashSet::new(),
            placed: HashMap::new(),
            blocks: HashMap::new(),
            packs: HashMap::new(),
            open_pieces: Vec::new(),
            open_blocks: Vec::new(),
            block: Vec::new(),
            buffer: vec![0; MOST_IN_BLOCK],
            blocks_out: Blocks::new(PACK, sink)?,
        })
    }

    /// Notes something of the tree as a whole.
    pub fn note(&mut self, fact: &str, value: impl Into<String>) {
        self.snapshot.facts.insert(fact.to_owned(), value.into());
    }

    /// Adds a folder or a link.
    pub fn add(&mut self, entry: Entry) {
        self.snapshot.entries.push(entry);
    }

    /// Adds a file, whose `kind` is not looked at.
    ///
    /// # Errors
    /// Of the reader and of the sink.
    pub fn add_file(&mut self, entry: Entry, content: &mut impl Read) -> io::Result<()> {
        let mut pieces = Vec::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let len = fill(content, &mut buffer)?;
            if len > 0 {
                pieces.push(self.piece(&buffer[..len])?);
            }
            if len < buffer.len() {
                break;
            }
        }
        self.buffer = buffer;
        self.files.insert(entry.path.clone());
        self.snapshot.entries.push(Entry { kind: Kind::File(pieces), ..entry });
        Ok(())
    }

    /// Whether a file of this path was added.
    pub fn has_file(&self, path: &str) -> bool {
        self.files.contains(path)
    }

    /// Adds a file that the snapshot before has under the same path, without reading it; false if it has not, or its
    /// content is not there any more.
    pub fn add_known(&mut self, path: &str) -> bool {
        let Some(before) = self.before else { return false };
        let Some(entry) = before.entries.iter().find(|entry| entry.path == path) else { return false };
        let Kind::File(pieces) = &entry.kind else { return false };
        let digests: Vec<ContentId> = pieces.iter().map(|piece| before.pieces[*piece as usize].digest).collect();
        if !digests.iter().all(|digest| self.placed.contains_key(digest) || self.known.contains_key(digest)) {
            return false;
        }
        let pieces = digests.iter().filter_map(|digest| self.find(digest)).collect();
        self.snapshot.entries.push(Entry { kind: Kind::File(pieces), ..entry.clone() });
        true
    }

    /// The index of a piece that is there already.
    fn find(&mut self, digest: &ContentId) -> Option<u32> {
        if let Some(index) = self.placed.get(digest) {
            return Some(*index);
        }
        let before = self.before?;
        let piece = &before.pieces[*self.known.get(digest)?];
        let block = if let Some(block) = self.blocks.get(&piece.block) {
            *block
        } else {
            let old = &before.blocks[piece.block as usize];
            let pack = *self.packs.entry(old.pack).or_insert_with(|| {
                self.snapshot.packs.push(before.packs[old.pack as usize].clone());
                index(self.snapshot.packs.len() - 1)
            });
            self.snapshot.blocks.push(Block { pack, ..old.clone() });
            let new = index(self.snapshot.blocks.len() - 1);
            self.blocks.insert(piece.block, new);
            new
        };
        Some(self.place(Piece { block, ..piece.clone() }))
    }

    fn place(&mut self, piece: Piece) -> u32 {
        let at = index(self.snapshot.pieces.len());
        self.placed.insert(piece.digest, at);
        self.snapshot.pieces.push(piece);
        at
    }

    fn piece(&mut self, bytes: &[u8]) -> io::Result<u32> {
        let digest = ContentId::of(bytes);
        if let Some(found) = self.find(&digest) {
            return Ok(found);
        }
        if !self.block.is_empty() && self.block.len() + bytes.len() > MOST_IN_BLOCK {
            self.close_block()?;
        }
        let piece = Piece { digest, block: OPEN, at: index(self.block.len()), len: index(bytes.len()) };
        self.block.extend_from_slice(bytes);
        let at = self.place(piece);
        self.open_pieces.push(at);
        if self.block.len() >= BLOCK {
            self.close_block()?;
        }
        Ok(at)
    }

    fn close_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        let number = index(self.snapshot.blocks.len());
        self.snapshot.blocks.push(Block { pack: OPEN, at: 0, stored: 0, len: index(block.len()), zstd: false });
        for piece in self.open_pieces.drain(..) {
            self.snapshot.pieces[piece as usize].block = number;
        }
        self.open_blocks.push(number);
        self.blocks_out.add(block)
    }

    /// Closes what is open.
    ///
    /// # Errors
    /// Of the sink.
    pub fn finish(mut self) -> io::Result<Packed> {
        let closed = self.close_block();
        // Who takes no more says why.
        let written = self.blocks_out.finish()?;
        closed?;
        let first = index(self.snapshot.packs.len());
        self.snapshot.packs.extend(written.packs);
        for (block, lies) in self.open_blocks.iter().zip(written.blocks) {
            let block = &mut self.snapshot.blocks[*block as usize];
            (block.pack, block.at, block.stored, block.zstd) = (first + lies.pack, lies.at, lies.stored, lies.zstd);
        }
        let is_same = self.before.is_some_and(|before| same_tree(before, &self.snapshot));
        Ok(Packed { snapshot: self.snapshot, is_same })
    }
}

/// The number of a block or pack that has none yet.
const OPEN: u32 = u32::MAX;

fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(OPEN - 1)
}

/// Whether two snapshots have the same files with the same content.
fn same_tree(a: &Snapshot, b: &Snapshot) -> bool {
    let content = |snapshot: &Snapshot, kind: &Kind| match kind {
        Kind::File(pieces) => pieces.iter().map(|piece| snapshot.pieces[*piece as usize].digest).collect(),
        _ => Vec::new(),
    };
    let plain = |entry: &Entry| match &entry.kind {
        Kind::File(_) => Entry { kind: Kind::File(Vec::new()), ..entry.clone() },
        // It changes with what the folder holds, and tells nothing more.
        Kind::Folder => Entry { mtime: 0, ..entry.clone() },
        _ => entry.clone(),
    };
    let mut of_a: HashMap<&str, &Entry> = a.entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
    a.facts == b.facts
        && a.entries.len() == b.entries.len()
        && b.entries.iter().all(|entry| {
            let other = of_a.remove(entry.path.as_str());
            other
                .is_some_and(|other| plain(other) == plain(entry) && content(a, &other.kind) == content(b, &entry.kind))
        })
}

/// Reads until the buffer is full or nothing is left.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match reader.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
