//! Object stores: S3, Google Cloud Storage, Azure Blob Storage and WebDAV, all through opendal.
//!
//! Objects are called `packs/<digest>` and `series/<series>/<version>`, below a prefix if the address has one. An object is
//! written with one request, which these services take whole or not at all; a WebDAV server may be cut off in the middle
//! of it, so there an object is moved to its name when it is whole.
//!
//! opendal tries again what failed, but for reading: it would go on where a transfer broke off, and ask for ever where a
//! server always breaks off and always begins anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use http::{Request, Response};
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{Buffer, Builder, ErrorKind, HttpBody, HttpTransport, HttpTransporter, OperationContext, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;

use super::{Listed, Object, Put, Store, layout};
use crate::error::{CacheError, Result};
use crate::name::{PackId, Series};
use crate::reach::{Hidden, Limits, Reach, innermost};

/// Objects whose sizes are asked for side by side, where a list does not tell them.
const SIDE_BY_SIDE: usize = 8;
/// Looks for the newest snapshot, while others replace each that was seen.
const LOOKS: usize = 3;
/// How failures of the way to a server begin: the first two are opendal's, the last is [`Watched`]'s.
const OF_THE_WAY: [&str; 3] = ["send http request", "read data from http response", FAILED];
/// How opendal says that it has nothing to sign a request with.
const UNSIGNED: [&str; 2] = ["signing http request", "loading credential"];
/// How the failure of a server itself begins.
const FAILED: &str = "it failed with";
/// A snapshot with more bytes is not read.
const MOST_SNAPSHOT: u64 = 1 << 30;
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// An object store.
pub struct Objects {
    operator: Operator,
    /// The same, trying nothing twice.
    once: Operator,
    place: String,
    limits: Limits,
    hidden: Hidden,
    /// Seconds that the server last asked to wait.
    wait: Arc<AtomicU64>,
    /// Whether objects are moved to their names.
    staged: bool,
}

impl Objects {
    /// The store that an opendal service is. `place` is shown to people; `secrets` are taken out of what the service says.
    ///
    /// # Errors
    /// [`CacheError::BadAddress`] if the service cannot do with what it was told.
    pub fn new<'a>(
        service: impl Builder,
        place: String,
        reach: &Reach,
        secrets: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        let hidden = Hidden::new(secrets);
        let wait = Arc::new(AtomicU64::new(0));
        let limits = reach.limits;
        let transport = Watched { inner: ReqwestTransport::new(reach.client.clone()), wait: wait.clone() };
        let bad = |error: opendal::Error| CacheError::BadAddress {
            text: place.clone(),
            problem: hidden.clean(error.message()),
            hint: "look at the options of this store".to_owned(),
        };
        let context = OperationContext::new().with_http_transport(HttpTransporter::new(transport));
        let retry = RetryLayer::new()
            .with_max_times(limits.attempts.saturating_sub(1) as usize)
            .with_min_delay(limits.pause)
            .with_max_delay(LONGEST_PAUSE)
            .with_jitter();
        // Every try has the time that is given, so this layer is the inner one.
        let timeout = TimeoutLayer::new().with_timeout(limits.answer).with_io_timeout(limits.transfer);
        let once = Operator::new(service).map_err(bad)?.with_context(context).layer(timeout);
        let operator = once.clone().layer(retry);
        Ok(Self { operator, once, place, limits, hidden, wait, staged: false })
    }

    /// Writes objects under other names first.
    pub fn staged(self) -> Self {
        Self { staged: true, ..self }
    }

    fn failed(&self, action: &'static str, error: &opendal::Error) -> CacheError {
        let place = self.place.clone();
        // Neither the error's own text nor its context: they hold URLs and headers.
        let said = self.hidden.clean(error.message());
        let cause = std::error::Error::source(error).map(|source| self.hidden.clean(&innermost(source)));
        let reason = match cause {
            Some(cause) if said.is_empty() => cause,
            Some(cause) => format!("{said}: {cause}"),
            None if said.is_empty() => error.kind().to_string(),
            None => said,
        };
        match error.kind() {
            // Invalid or not found is what a bucket is that does not exist.
            ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid | ErrorKind::NotFound => {
                CacheError::Denied { place, action, reason }
            }
            ErrorKind::RateLimited => {
                CacheError::Busy { place, wait: Duration::from_secs(self.wait.load(Ordering::Relaxed)) }
            }
            _ if error.message().contains("timeout reached") => {
                let whole = error.message().contains("io operation");
                CacheError::TimedOut { place, limit: if whole { self.limits.transfer } else { self.limits.answer } }
            }
            // There are no credentials, or none that work.
            _ if UNSIGNED.iter().any(|text| error.message().starts_with(text)) => {
                CacheError::Denied { place, action, reason }
            }
            // (Whether it was temporary is not known any more of what was tried again.)
            _ if OF_THE_WAY.iter().any(|text| error.message().starts_with(text)) => {
                CacheError::Unreachable { place, reason }
            }
            _ => CacheError::Odd { place, reason },
        }
    }

    /// `None` for what is not there.
    fn found<T>(&self, action: &'static str, result: opendal::Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(self.failed(action, &error)),
        }
    }

    async fn size(&self, path: &str) -> Result<Option<u64>> {
        Ok(self.found("read", self.operator.stat(path).await)?.map(|meta| meta.content_length()))
    }

    /// A whole object of at most `limit` bytes.
    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        let mut pause = self.limits.pause;
        let mut attempt = 1;
        loop {
            let time = self.limits.transfer;
            let Ok(read) = tokio::time::timeout(time, self.read_once(path, limit)).await else {
                return Err(CacheError::TimedOut { place: self.place.clone(), limit: time });
            };
            match read {
                Err(error) if error.is_temporary() && attempt < self.limits.attempts => {
                    tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                    pause *= 2;
                    attempt += 1;
                }
                Ok(None) => {
                    let reason = format!("it sends more than the {limit} bytes that it should");
                    return Err(CacheError::Odd { place: self.place.clone(), reason });
                }
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Err(error) => return self.found("read", Err(error)),
            }
        }
    }

    /// `None` if it is larger.
    async fn read_once(&self, path: &str, limit: u64) -> opendal::Result<Option<Bytes>> {
        let mut stream = self.once.reader(path).await?.into_stream(..).await?;
        let mut bytes = BytesMut::new();
        while let Some(buffer) = stream.try_next().await? {
            if (bytes.len() + buffer.len()) as u64 > limit {
                return Ok(None);
            }
            for piece in buffer {
                bytes.extend_from_slice(&piece);
            }
        }
        Ok(Some(bytes.freeze()))
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        const CONTENT: &str = "application/octet-stream";
        let failed = |error: opendal::Error| self.failed("write", &error);
        if self.staged {
            let temporary = format!("{}/{}", layout::STAGING, layout::temporary());
            self.operator.write(&temporary, bytes.clone()).await.map_err(failed)?;
            if self.operator.rename(&temporary, path).await.is_ok() {
                return Ok(());
            }
            // It cannot move. Then a torn object may be seen, which whoever reads it finds out.
            let _ = self.operator.delete(&temporary).await;
        }
        self.operator.write_with(path, bytes).content_type(CONTENT).await.map(drop).map_err(failed)
    }

    /// The versions of a series, oldest first.
    async fn versions(&self, folder: &str) -> Result<Vec<String>> {
        let entries = self.found("read", self.operator.list(&format!("{folder}/")).await)?.unwrap_or_default();
        let files = entries.iter().filter(|entry| entry.metadata().is_file());
        let mut names: Vec<String> = files.map(|entry| entry.name().to_owned()).collect();
        names.sort();
        Ok(names)
    }
}

#[async_trait]
impl Store for Objects {
    fn place(&self) -> String {
        self.place.clone()
    }

    async fn has_pack(&self, id: &PackId) -> Result<bool> {
        Ok(self.size(&layout::pack(id)).await?.is_some())
    }

    async fn put_pack(&self, id: &PackId, bytes: Bytes) -> Result<Put> {
        let path = layout::pack(id);
        // One of another size is torn, and made anew.
        if self.size(&path).await? == Some(bytes.len() as u64) {
            return Ok(Put::AlreadyThere);
        }
        self.write(&path, bytes).await?;
        Ok(Put::Stored)
    }

    async fn pack(&self, id: &PackId, size: u64) -> Result<Option<Bytes>> {
        self.read(&layout::pack(id), size).await
    }

    async fn put_snapshot(&self, series: &Series, bytes: Bytes, _packs: &[(PackId, u64)]) -> Result<Put> {
        let folder = layout::series(series);
        self.write(&format!("{folder}/{}", layout::version(&bytes)), bytes).await?;
        let names = self.versions(&folder).await?;
        for old in &names[..names.len().saturating_sub(layout::KEPT)] {
            // The new one is there, which is what counts: some may write, but not delete.
            let _ = self.operator.delete(&format!("{folder}/{old}")).await;
        }
        Ok(Put::Stored)
    }

    async fn snapshot(&self, series: &Series) -> Result<Option<Bytes>> {
        let folder = layout::series(series);
        for _ in 0..LOOKS {
            let names = self.versions(&folder).await?;
            for name in names.iter().rev() {
                // A newer one may have replaced it meanwhile.
                if let Some(bytes) = self.read(&format!("{folder}/{name}"), MOST_SNAPSHOT).await? {
                    return Ok(Some(bytes));
                }
            }
            if names.is_empty() {
                break;
            }
        }
        Ok(None)
    }

    async fn list(&self) -> Result<Option<Vec<Listed>>> {
        let listing = self.operator.list_with("").recursive(true).await;
        let entries = self.found("read", listing)?.unwrap_or_default();
        let files = entries.into_iter().filter(|entry| entry.metadata().is_file());
        let listed = futures::stream::iter(files.map(|entry| async move {
            let (path, mut meta) = entry.into_parts();
            // Not every service tells sizes in a list, and an empty object is rare enough to be looked at.
            if meta.content_length() == 0 {
                match self.found("read", self.operator.stat(&path).await)? {
                    Some(more) => meta = more,
                    None => return Ok(None),
                }
            }
            let written = meta.last_modified().map_or(0, |at| at.into_inner().as_second());
            let written = u64::try_from(written).unwrap_or_default();
            Ok::<_, CacheError>(Some(Listed { what: layout::object(&path), size: meta.content_length(), written }))
        }));
        let listed: Vec<Option<Listed>> = listed.buffered(SIDE_BY_SIDE).try_collect().await?;
        Ok(Some(listed.into_iter().flatten().collect()))
    }

    async fn remove(&self, what: &Object) -> Result<()> {
        self.found("write", self.operator.delete(&layout::path(what)).await).map(drop)
    }
}

/// The HTTP client, and what it is told about coming back later, which opendal keeps to itself.
struct Watched {
    inner: ReqwestTransport,
    wait: Arc<AtomicU64>,
}

impl HttpTransport for Watched {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let response = self.inner.fetch(request).await?;
        let status = response.status();
        let said = response.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let wait: Option<u64> = said.and_then(|text| text.trim().parse().ok());
        let failed = |kind, text| opendal::Error::new(kind, text);
        // What these mean is the same everywhere, but not every service of opendal knows them.
        match status.as_u16() {
            401 => Err(failed(ErrorKind::PermissionDenied, status.to_string())),
            429 | 503 if status.as_u16() == 429 || wait.is_some() => {
                self.wait.store(wait.unwrap_or_default(), Ordering::Relaxed);
                Err(failed(ErrorKind::RateLimited, status.to_string()).set_temporary())
            }
            500 | 502..=504 => Err(failed(ErrorKind::Unexpected, format!("{FAILED} {status}")).set_temporary()),
            _ => Ok(response),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::Network;

    #[test]
    fn failures_are_told_apart() {
        let reach = Reach::new(&Network::default(), Limits::default()).expect("a client");
        let memory = opendal::services::Memory::default();
        let store = Objects::new(memory, "memory".to_owned(), &reach, ["hunter2"]).expect("a store");
        let failed = |kind, text: &str| {
            let error = opendal::Error::new(kind, text).with_context("uri", "http://hunter2@x/");
            let failed = store.failed("write", &error.set_source(std::io::Error::other("the cause is hunter2")));
            assert!(!failed.to_string().contains("hunter2"), "{failed}");
            assert!(failed.to_string().contains("the cause is ***") || matches!(failed, CacheError::TimedOut { .. }));
            format!("{failed:?}").split([' ', '{']).next().unwrap_or_default().to_owned()
        };
        for (kind, text, expected) in [
            (ErrorKind::PermissionDenied, "no", "Denied"),
            (ErrorKind::ConfigInvalid, "NoSuchBucket", "Denied"),
            (ErrorKind::Unexpected, "signing http request", "Denied"),
            (ErrorKind::Unexpected, "loading credential to sign http request", "Denied"),
            (ErrorKind::Unexpected, "send http request", "Unreachable"),
            (ErrorKind::Unexpected, "read data from http response", "Unreachable"),
            (ErrorKind::Unexpected, "it failed with 502 Bad Gateway", "Unreachable"),
            (ErrorKind::Unexpected, "operation timeout reached", "TimedOut"),
            (ErrorKind::Unexpected, "<html>", "Odd"),
        ] {
            assert_eq!(failed(kind, text), expected, "{text}");
        }
    }
}
