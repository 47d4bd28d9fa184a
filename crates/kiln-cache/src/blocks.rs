//! Blocks on their way into packs: packed by several threads, put together in the order in which they came.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::name::PackId;
use crate::pack::Pack;
use crate::snapshot::PackRef;

/// The level of zstd: what is large in caches is packed already.
const LEVEL: i32 = 1;
/// Threads that pack blocks, at most.
const MOST_THREADS: usize = 3;
/// Blocks that wait for a thread, and those that wait behind it: each may have some megabytes.
const WAITING: usize = 1;
/// Room for a pack. The C library never keeps so much for itself, but gives it back to the system when the pack is sent;
/// pages that nobody writes to cost nothing. With less, packs and blocks of several threads leave holes of as much again.
const ROOM: usize = 33 << 20;

/// Where a block came to lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lies {
    /// Which of the new packs.
    pub(crate) pack: u32,
    /// Where in it.
    pub(crate) at: u64,
    /// Bytes in it.
    pub(crate) stored: u32,
    /// Whether it is a zstd frame.
    pub(crate) zstd: bool,
}

/// All that was written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// In the order of the blocks.
    pub(crate) blocks: Vec<Lies>,
    pub(crate) packs: Vec<PackRef>,
}

/// Takes blocks, and gives packs to a sink.
pub(crate) struct Blocks {
    /// One for each thread that packs; blocks go to them in turn.
    to: Vec<SyncSender<Vec<u8>>>,
    next: usize,
    writer: JoinHandle<io::Result<Written>>,
}

impl Blocks {
    /// Begins; a pack is closed when it has `size` bytes.
    pub(crate) fn new(size: usize, sink: Box<dyn FnMut(Pack) -> io::Result<()> + Send>) -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let (mut to, mut from) = (Vec::new(), Vec::new());
        for _ in 0..threads {
            let (give, take) = sync_channel(WAITING);
            let (done, packed) = sync_channel(WAITING);
            let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
            std::thread::Builder::new().name("kiln-pack".to_owned()).spawn(move || {
                for block in take {
                    if done.send(pack(&mut compressor, block)).is_err() {
                        return;
                    }
                }
            })?;
            to.push(give);
            from.push(packed);
        }
        let writer = std::thread::Builder::new().name("kiln-packs".to_owned());
        let writer =
            writer.spawn(move || Writer { size, sink, pack: Vec::new(), written: Written::default() }.run(&from))?;
        Ok(Self { to, next: 0, writer })
    }

    /// Takes a block.
    ///
    /// # Errors
    /// If the sink takes no more; [`Blocks::finish`] says why.
    pub(crate) fn add(&mut self, block: Vec<u8>) -> io::Result<()> {
        let to = &self.to[self.next];
        self.next = (self.next + 1) % self.to.len();
        to.send(block).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// Of zstd and of the sink.
    pub(crate) fn finish(self) -> io::Result<Written> {
        drop(self.to);
        self.writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A block as it is stored, and whether it is a zstd frame.
type Stored = (Vec<u8>, bool);

fn pack(compressor: &mut zstd::bulk::Compressor<'_>, block: Vec<u8>) -> io::Result<Stored> {
    let packed = compressor.compress(&block)?;
    let is_worth_it = packed.len() < block.len() - block.len() / 20;
    Ok(if is_worth_it { (packed, true) } else { (block, false) })
}

struct Writer {
    size: usize,
    sink: Box<dyn FnMut(Pack) -> io::Result<()> + Send>,
    pack: Vec<u8>,
    written: Written,
}

impl Writer {
    fn run(mut self, from: &[Receiver<io::Result<Stored>>]) -> io::Result<Written> {
        for from in from.iter().cycle() {
            // They come in turn, so the first that has none is the end.
            let Ok(packed) = from.recv() else { break };
            let (bytes, zstd) = packed?;
            let (at, stored) = (self.pack.len() as u64, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            let pack = u32::try_from(self.written.packs.len()).unwrap_or(u32::MAX);
            self.pack.reserve_exact(ROOM.saturating_sub(self.pack.len()));
            self.pack.extend_from_slice(&bytes);
            self.written.blocks.push(Lies { pack, at, stored, zstd });
            if self.pack.len() >= self.size {
                self.close()?;
            }
        }
        self.close()?;
        Ok(self.written)
    }

    fn close(&mut self) -> io::Result<()> {
        if self.pack.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.pack));
        let id = PackId::of(&bytes);
        self.written.packs.push(PackRef { id, size: bytes.len() as u64 });
        (self.sink)(Pack { id, bytes })
    }
}
