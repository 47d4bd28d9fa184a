//! Limits for what an archive may unpack to.

use std::cell::Cell;
use std::io::{self, Read};

/// Bytes up to which nothing is suspicious.
const HARMLESS: u64 = 256 << 20;

/// What is still believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Members at most.
    pub members: u64,
    /// Bytes of all members together at most.
    pub bytes: u64,
    /// How many times its own size it may unpack to. Programs reach ten, texts fifty.
    pub ratio: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { members: 1_000_000, bytes: 64 << 30, ratio: 300 }
    }
}

/// Counts what comes out of one archive.
pub(super) struct Meter {
    bounds: Bounds,
    /// Size of the archive.
    packed: u64,
    members: Cell<u64>,
    bytes: Cell<u64>,
}

/// More came out than is believed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Excess(String);

impl Meter {
    pub(super) fn new(packed: u64, bounds: Bounds) -> Self {
        Self { bounds, packed, members: Cell::new(0), bytes: Cell::new(0) }
    }

    /// Counts a member.
    pub(super) fn member(&self) -> io::Result<()> {
        self.members.set(self.members.get() + 1);
        if self.members.get() > self.bounds.members {
            return Err(io::Error::other(Excess(format!("more than {} files", self.bounds.members))));
        }
        Ok(())
    }

    /// Counts what is read of `inner`.
    pub(super) fn limited<R: Read>(&self, inner: R) -> Limited<'_, R> {
        Limited { inner, meter: self }
    }

    fn count(&self, count: usize) -> io::Result<()> {
        let bytes = self.bytes.get().saturating_add(count as u64);
        self.bytes.set(bytes);
        if bytes > self.bounds.bytes {
            return Err(io::Error::other(Excess(format!("more than {} bytes", self.bounds.bytes))));
        }
        if bytes > HARMLESS.min(self.bounds.bytes) && bytes / self.bounds.ratio > self.packed {
            let times = self.bounds.ratio;
            return Err(io::Error::other(Excess(format!("more than {times} times its own size, as a trap does"))));
        }
        Ok(())
    }
}

/// A reader that fails when too much has come out of its archive.
pub(super) struct Limited<'m, R> {
    inner: R,
    meter: &'m Meter,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.count(count)?;
        Ok(count)
    }
}

/// What was too much, if that is why reading failed.
pub(super) fn excess(error: &io::Error) -> Option<String> {
    // Libraries wrap the errors of what they read from.
    let mut source: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(error) = source {
        if let Some(Excess(what)) = error.downcast_ref() {
            return Some(what.clone());
        }
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            source = Some(inner);
            continue;
        }
        source = error.source();
    }
    None
}

/// Reads all of a stream and compares its digest.
pub(super) struct Summed<R> {
    inner: R,
    sum: sha2::Sha256,
}

impl<R: Read> Summed<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, sum: sha2::Digest::new() }
    }

    /// The digest of all that was read, in hexadecimal digits.
    pub(super) fn digest(self) -> String {
        use std::fmt::Write as _;
        let sum = sha2::Digest::finalize(self.sum);
        sum.iter().fold(String::new(), |mut text, byte| {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        sha2::Digest::update(&mut self.sum, &buffer[..count]);
        Ok(count)
    }
}
