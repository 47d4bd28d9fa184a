//! How much is on its way, for whoever shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of packs on their way; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Traffic(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    known: AtomicU64,
    moved: AtomicU64,
}

impl Traffic {
    /// Bytes that have to come or go, as far as known by now, and those of them that have arrived.
    pub fn counts(&self) -> (u64, u64) {
        // Arrived first: the other number is never less then.
        let moved = self.0.moved.load(Ordering::Acquire);
        (self.0.known.load(Ordering::Acquire), moved)
    }

    /// So many bytes are to come or go.
    pub fn expect(&self, bytes: u64) {
        self.0.known.fetch_add(bytes, Ordering::AcqRel);
    }

    /// So many of the bytes that were to come do not.
    pub fn expect_no_more(&self, bytes: u64) {
        self.0.known.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// So many bytes have arrived.
    pub fn moved(&self, bytes: u64) {
        self.0.moved.fetch_add(bytes, Ordering::AcqRel);
    }
}
