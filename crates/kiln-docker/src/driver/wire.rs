//! One HTTP client per daemon, under bollard and beside it.
//!
//! bollard gets it as its transport; requests that bollard cannot express (platform of an inspect, sizes of volumes in
//! the old format) use the same pool. The client also puts the API version into the path, which bollard 0.21 loses when
//! it joins URLs: without it a daemon answers in the newest format it knows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bollard::BollardRequest;
use bollard::errors::Error as BollardError;
use bytes::Bytes;
use futures::stream::BoxStream;
use http_body_util::combinators::Collect;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;

use super::connector::Connector;

/// The body type of bollard's requests.
type Body = Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>>;

/// The newest API version whose answers this driver was checked against.
pub(super) const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 51 };
/// The oldest API version that has all that kiln needs.
pub(super) const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 41 };

/// An API version; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion {
    pub(super) major: usize,
    pub(super) minor: usize,
}

impl ApiVersion {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().trim_start_matches('v').split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The client of one daemon.
pub(super) struct Wire {
    client: Client<Connector, Body>,
    /// `minor` of the negotiated version 1.x; 0 before negotiation.
    minor: AtomicUsize,
}

impl Wire {
    pub(super) fn new(connector: Connector) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector);
        Self { client, minor: AtomicUsize::new(0) }
    }

    /// Fixes the version that all later requests use.
    pub(super) fn set_version(&self, version: ApiVersion) {
        self.minor.store(version.minor, Ordering::Relaxed);
    }

    pub(super) fn minor(&self) -> usize {
        self.minor.load(Ordering::Relaxed)
    }

    /// Sends a request of bollard's.
    pub(super) async fn send(&self, mut request: BollardRequest) -> Result<Response<Incoming>, BollardError> {
        *request.uri_mut() = self.versioned(request.uri())?;
        self.client.request(request).await.map_err(BollardError::from)
    }

    /// `GET path_and_query`, whole answer.
    pub(super) async fn get(&self, path_and_query: &str) -> Result<Response<Bytes>, BollardError> {
        let uri: Uri = format!("http://localhost{path_and_query}").parse::<Uri>().map_err(BollardError::from)?;
        let request = Request::builder()
            .method(Method::GET)
            .uri(self.versioned(&uri)?)
            .body(Either::Left(Full::new(Bytes::new())))
            .map_err(BollardError::from)?;
        let response = self.client.request(request).await.map_err(BollardError::from)?;
        let (parts, body) = response.into_parts();
        let collected: Collect<Incoming> = body.collect();
        let bytes = collected.await.map_err(BollardError::from)?.to_bytes();
        if parts.status.is_success() {
            return Ok(Response::from_parts(parts, bytes));
        }
        let message = serde_json::from_slice::<Message>(&bytes)
            .map_or_else(|_| String::from_utf8_lossy(&bytes).into_owned(), |parsed| parsed.message);
        Err(BollardError::DockerResponseServerError { status_code: parts.status.as_u16(), message })
    }

    /// `GET path_and_query`, parsed.
    pub(super) async fn get_json<T: DeserializeOwned>(&self, path_and_query: &str) -> Result<T, BollardError> {
        let response = self.get(path_and_query).await?;
        serde_json::from_slice(response.body()).map_err(BollardError::from)
    }

    fn versioned(&self, uri: &Uri) -> Result<Uri, BollardError> {
        let minor = self.minor();
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        if minor == 0 || path.starts_with("/v1.") {
            return Ok(uri.clone());
        }
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(format!("/v1.{minor}{path}").parse().map_err(BollardError::from)?);
        Uri::from_parts(parts).map_err(BollardError::from)
    }
}

/// How a daemon writes a refusal.
#[derive(serde::Deserialize)]
struct Message {
    message: String,
}

/// Percent-encodes a query value.
pub(crate) fn query(value: &str) -> String {
    value.bytes().fold(String::with_capacity(value.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => {
                out.push('%');
                out.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers() {
        assert!(ApiVersion::parse("1.9") < ApiVersion::parse("1.41"));
        assert_eq!(ApiVersion::parse("v1.51"), Some(NEWEST));
        assert_eq!(ApiVersion::parse("banana"), None);
    }

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(query(r#"{"os":"linux"}"#), "%7B%22os%22%3A%22linux%22%7D");
    }
}
