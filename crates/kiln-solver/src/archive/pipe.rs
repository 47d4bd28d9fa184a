//! The joint between synchronous archive code and asynchronous streams.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use kiln_docker::ByteStream;
use tokio::sync::mpsc;

use crate::cancel::Cancel;

/// Size of a chunk in bytes. Eight of them may wait between the two ends.
const CHUNK: usize = 128 * 1024;
const CHUNKS: usize = 8;

/// A writer for a blocking thread, and the stream of what is written to it.
///
/// If the writer is dropped without [`PipeWriter::finish`], the stream ends with an error, so a half-made archive is
/// never taken for a whole one.
pub(crate) fn writer() -> (PipeWriter, ByteStream) {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    // Empty chunks are never sent, so one can say that all was sent.
    let stream = futures::stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver: mpsc::Receiver<Bytes> = receiver?;
        match receiver.recv().await {
            Some(chunk) if chunk.is_empty() => None,
            Some(chunk) => Some((Ok(chunk), Some(receiver))),
            None => Some((Err(io::Error::other("the archive is incomplete")), None)),
        }
    });
    (PipeWriter { sender, buffer: BytesMut::with_capacity(CHUNK) }, stream.boxed())
}

/// The stream, until somebody asks to stop; then it ends with an error.
pub(crate) fn until_stopped(stream: ByteStream, cancel: &Cancel) -> ByteStream {
    let state = (stream, cancel.clone(), false);
    let stream = futures::stream::unfold(state, |(mut stream, cancel, ended)| async move {
        if ended {
            return None;
        }
        tokio::select! {
            chunk = stream.next() => chunk.map(|chunk| (chunk, (stream, cancel, false))),
            () = cancel.stopped() => Some((Err(io::Error::other("cancelled")), (stream, cancel.clone(), true))),
        }
    });
    stream.boxed()
}

pub(crate) struct PipeWriter {
    sender: mpsc::Sender<Bytes>,
    buffer: BytesMut,
}

impl PipeWriter {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(CHUNK)).freeze();
        self.sender.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Sends the rest and ends the stream well.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.send()?;
        self.sender.blocking_send(Bytes::new()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = data.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&data[..n]);
        if self.buffer.len() == CHUNK {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Chunks that are read ahead: whoever sends works while the reader does.
const AHEAD: usize = 16;

/// Reads a stream on a blocking thread.
pub(crate) struct StreamReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl StreamReader {
    /// A reader for a blocking thread of the current runtime. The stream is dropped with it.
    pub(crate) fn new(mut stream: ByteStream) -> Self {
        let (sender, chunks) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            while let Some(chunk) = stream.next().await {
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
        });
        Self { chunks, current: Bytes::new() }
    }
}

impl Read for StreamReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let n = out.len().min(self.current.len());
        out[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_goes_in_comes_out() {
        let (mut writer, stream) = writer();
        let data: Vec<u8> = (0..=250).cycle().take(3 * CHUNK + 17).collect();
        let sent = data.clone();
        let writing = tokio::task::spawn_blocking(move || {
            writer.write_all(&sent).expect("reader lives");
            writer.finish().expect("reader lives");
        });
        let mut reader = StreamReader::new(stream);
        let read = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        writing.await.expect("writer");
        assert_eq!(read.await.expect("reader").expect("whole"), data);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_abandoned_archive_is_an_error() {
        let (mut writer, mut stream) = writer();
        // Also when nobody reads and all buffers are full.
        let full = tokio::task::spawn_blocking(move || {
            let _ = writer.write_all(&vec![0; CHUNKS * CHUNK]);
        });
        full.await.expect("written");
        for _ in 0..CHUNKS {
            assert!(stream.next().await.expect("a chunk").is_ok());
        }
        assert!(stream.next().await.expect("one item").is_err());
        assert!(stream.next().await.is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stopped_stream_ends_with_an_error() {
        let cancel = Cancel::new();
        let mut stream = until_stopped(futures::stream::pending().boxed(), &cancel);
        cancel.stop();
        assert!(stream.next().await.expect("one item").is_err());
        assert!(stream.next().await.is_none());
    }
}
