//! Streams that are bytes in memory.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use kiln_docker::{ByteStream, EngineError, Result};

pub(crate) fn once(bytes: Vec<u8>) -> ByteStream {
    futures::stream::iter([Ok(Bytes::from(bytes))]).boxed()
}

pub(crate) fn broken(action: &str, error: std::io::Error) -> EngineError {
    EngineError::Transport { action: action.to_owned(), source: error.into() }
}

pub(crate) async fn collect(stream: ByteStream) -> Result<Vec<u8>> {
    stream
        .try_fold(Vec::new(), async |mut all, chunk| {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
        .map_err(|error| broken("uploading", error))
}
