//! The joint between synchronous archive code and asynchronous streams.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use kiln_docker::ByteStream;
use tokio::sync::mpsc;

/// Size of a chunk in bytes. Eight of them may wait between the two ends.
const CHUNK: usize = 128 * 1024;
const CHUNKS: usize = 8;

/// A writer for a blocking thread, and the stream of what is written to it.
///
/// If the writer is dropped without [`PipeWriter::finish`], the stream ends with an error, so a half-made archive is
/// never taken for a whole one.
pub(crate) fn writer() -> (PipeWriter, ByteStream) {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item: io::Result<Bytes>| (item, receiver))
    });
    (PipeWriter { sender: Some(sender), buffer: BytesMut::with_capacity(CHUNK) }, stream.boxed())
}

pub(crate) struct PipeWriter {
    sender: Option<mpsc::Sender<io::Result<Bytes>>>,
    buffer: BytesMut,
}

impl PipeWriter {
    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(CHUNK)).freeze();
        match &self.sender {
            Some(sender) if !chunk.is_empty() => {
                sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
            _ => Ok(()),
        }
    }

    /// Sends the rest and ends the stream well.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.send()?;
        self.sender = None;
        Ok(())
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

impl Drop for PipeWriter {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            let _ = sender.try_send(Err(io::Error::other("the archive is incomplete")));
        }
    }
}

/// Reads a stream on a blocking thread.
pub(crate) struct StreamReader {
    runtime: tokio::runtime::Handle,
    stream: ByteStream,
    current: Bytes,
}

impl StreamReader {
    /// A reader for a blocking thread of the current runtime.
    pub(crate) fn new(stream: ByteStream) -> Self {
        Self { runtime: tokio::runtime::Handle::current(), stream, current: Bytes::new() }
    }
}

impl Read for StreamReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
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
        let data: Vec<u8> = (0..3 * CHUNK + 17).map(|i| (i % 251) as u8).collect();
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
        let (writer, mut stream) = writer();
        drop(writer);
        assert!(stream.next().await.expect("one item").is_err());
    }
}
