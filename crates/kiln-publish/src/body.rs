//! A file as the body of a request: read while it is sent, and never all in memory.

use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http_body::{Body, Frame, SizeHint};
use kiln_artifact::checksum::{Sha256, Sha256Hasher};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};
use tokio_util::io::ReaderStream;

/// Bytes that are read at once.
const PART: usize = 256 * 1024;

/// When something of a request moved last.
pub(crate) struct Pace {
    limit: Duration,
    last: Mutex<Instant>,
    /// Whether the file was not what it should be.
    changed: AtomicBool,
}

/// Nothing moved for too long.
pub(crate) struct Stuck;

impl Pace {
    pub(crate) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self { limit, last: Mutex::new(Instant::now()), changed: AtomicBool::new(false) })
    }

    pub(crate) fn moved(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn deadline(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) + self.limit
    }

    pub(crate) fn file_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// Waits for something for as long as anything moves.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Stuck> {
        let mut work = pin!(work);
        loop {
            match timeout_at(self.deadline(), &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) if self.deadline() <= Instant::now() => return Err(Stuck),
                Err(_) => {}
            }
        }
    }
}

/// A file to send, and what stands before and after it in the body.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) sha256: Sha256,
    pub(crate) before: Bytes,
    pub(crate) after: Bytes,
}

impl Payload {
    pub(crate) fn length(&self) -> u64 {
        self.before.len() as u64 + self.size + self.after.len() as u64
    }

    /// The body of one request. `sent` is told how many bytes of the file went out.
    pub(crate) fn open(
        &self,
        pace: &Arc<Pace>,
        sent: impl Fn(u64) + Send + Sync + 'static,
    ) -> io::Result<reqwest::Body> {
        let file = File::from_std(fs_err::File::open(&self.path)?.into_parts().0);
        Ok(reqwest::Body::wrap(FileBody {
            before: Some(self.before.clone()).filter(|bytes| !bytes.is_empty()),
            // One byte more than there should be: a file that grew is one that changed.
            file: Some(ReaderStream::with_capacity(file.take(self.size + 1), PART)),
            after: Some(self.after.clone()).filter(|bytes| !bytes.is_empty()),
            of_file: self.size,
            left: self.length(),
            read: 0,
            hasher: Sha256Hasher::default(),
            expected: self.sha256,
            pace: Arc::clone(pace),
            sent: Box::new(sent),
        }))
    }
}

struct FileBody {
    before: Option<Bytes>,
    file: Option<ReaderStream<tokio::io::Take<File>>>,
    after: Option<Bytes>,
    /// Bytes that the file should have.
    of_file: u64,
    /// Bytes of the body that were not given out yet.
    left: u64,
    read: u64,
    hasher: Sha256Hasher,
    expected: Sha256,
    pace: Arc<Pace>,
    sent: Box<dyn Fn(u64) + Send + Sync>,
}

impl FileBody {
    fn give(&mut self, bytes: Bytes) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.pace.moved();
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn changed(&self) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pace.changed.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(io::Error::other("the file changed while it was sent"))))
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(before) = self.before.take() {
            return self.give(before);
        }
        while let Some(file) = &mut self.file {
            let Poll::Ready(chunk) = Pin::new(file).poll_next(context) else { return Poll::Pending };
            match chunk {
                Some(Ok(bytes)) => {
                    self.read += bytes.len() as u64;
                    self.hasher.update(&bytes);
                    // The last part is only given out if all of it is what was summed: without it nothing is received.
                    if self.read >= self.of_file {
                        let sum = std::mem::take(&mut self.hasher).finish();
                        if self.read > self.of_file || sum != self.expected {
                            return self.changed();
                        }
                    }
                    (self.sent)(self.read);
                    return self.give(bytes);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if self.read < self.of_file => return self.changed(),
                None => self.file = None,
            }
        }
        match self.after.take() {
            Some(after) => self.give(after),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
