//! A plain HTTP server that takes GET, HEAD, PUT and DELETE, such as nginx with `dav_methods PUT DELETE`.
//!
//! Such a server cannot list. The newest snapshot of a series therefore has a fixed name, `series/<series>/=latest`, which
//! no part of a series can have, and is replaced. Servers are asked to write it whole; where one does not, whoever reads it
//! finds out.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};
use reqwest::Response;

use super::{Listed, Object, Put, Store, layout};
use crate::error::{CacheError, Result};
use crate::name::{PackId, Series};
use crate::reach::{Hidden, Reach, innermost};

/// What the newest snapshot of a series is called.
const NEWEST: &str = "=latest";
/// A snapshot with more bytes is not read.
const MOST_SNAPSHOT: u64 = 1 << 30;
/// The longest pause between two tries, whatever the server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Who is asking.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// For basic authentication.
    pub username: Option<String>,
    /// For basic authentication.
    pub password: Option<String>,
    /// A bearer token; it goes before a user.
    pub token: Option<String>,
}

/// A server as a store.
pub struct Http {
    /// Without a slash at the end.
    url: String,
    login: Login,
    reach: Reach,
    hidden: Hidden,
}

/// An answer that came.
enum Answer {
    Yes(Response),
    NotThere,
}

impl Http {
    /// The store below a URL, which has no credentials in it.
    pub fn new(url: impl Into<String>, login: Login, reach: &Reach) -> Self {
        let secrets = [&login.password, &login.token].into_iter().flatten().map(String::as_str);
        let hidden = Hidden::new(secrets);
        Self { url: url.into().trim_end_matches('/').to_owned(), login, reach: reach.clone(), hidden }
    }

    fn newest(series: &Series) -> String {
        format!("{}/{NEWEST}", layout::series(series))
    }

    /// Sends a request until it is answered for good.
    async fn ask(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Answer> {
        let limits = self.reach.limits;
        let mut pause = limits.pause;
        let mut attempt = 1;
        loop {
            let answer = self.once(&method, path, body.clone()).await;
            let asked_to_wait = match &answer {
                Err((_, Passing::No)) | Ok(_) => return answer.map_err(|(error, _)| error),
                Err((_, Passing::After(wait))) => *wait,
                Err((_, Passing::Yes)) => Duration::ZERO,
            };
            if attempt >= limits.attempts || asked_to_wait > LONGEST_PAUSE {
                return answer.map_err(|(error, _)| error);
            }
            tokio::time::sleep(pause.max(asked_to_wait).min(LONGEST_PAUSE)).await;
            pause *= 2;
            attempt += 1;
        }
    }

    async fn once(&self, method: &Method, path: &str, body: Option<Bytes>) -> Result<Answer, (CacheError, Passing)> {
        let limits = self.reach.limits;
        let limit = if body.is_some() { limits.transfer } else { limits.answer };
        let mut request = self.reach.client.request(method.clone(), format!("{}/{path}", self.url));
        request = match &self.login {
            Login { token: Some(token), .. } => request.bearer_auth(token),
            Login { username: Some(user), password, .. } => request.basic_auth(user, password.as_ref()),
            _ => request,
        };
        if let Some(body) = body {
            // The client would tell no length of an empty body, which nginx then misses.
            let length = body.len().to_string();
            request = request.header(header::CONTENT_TYPE, "application/octet-stream");
            request = request.header(header::CONTENT_LENGTH, length).body(body);
        }
        let response = match tokio::time::timeout(limit, request.send()).await {
            Err(_) => return Err((CacheError::TimedOut { place: self.place(), limit }, Passing::Yes)),
            Ok(Err(error)) => return Err((self.unreachable(error), Passing::Yes)),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if status.is_success() {
            return Ok(Answer::Yes(response));
        }
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) && *method != Method::PUT {
            return Ok(Answer::NotThere);
        }
        Err(self.refused(method, &response))
    }

    fn refused(&self, method: &Method, response: &Response) -> (CacheError, Passing) {
        let (place, status) = (self.place(), response.status());
        let reason = self.hidden.clean(&status.to_string());
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let action = if reads { "read" } else { "write" };
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let wait = wait.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                (CacheError::Denied { place, action, reason }, Passing::No)
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                (CacheError::Denied { place, action, reason: format!("it knows no {method} ({reason})") }, Passing::No)
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = wait.unwrap_or_default();
                (CacheError::Busy { place, wait }, Passing::After(wait))
            }
            StatusCode::SERVICE_UNAVAILABLE if wait.is_some() => {
                let wait = wait.unwrap_or_default();
                (CacheError::Busy { place, wait }, Passing::After(wait))
            }
            status if status.is_server_error() => (CacheError::Unreachable { place, reason }, Passing::Yes),
            _ => (CacheError::Odd { place, reason: format!("{method} was answered with {reason}") }, Passing::No),
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> CacheError {
        CacheError::Unreachable { place: self.place(), reason: self.hidden.clean(&innermost(&error.without_url())) }
    }

    /// A whole object of at most `limit` bytes. A download that breaks off is begun anew.
    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        let mut attempt = 1;
        loop {
            let Answer::Yes(response) = self.ask(Method::GET, path, None).await? else { return Ok(None) };
            match self.body(response, limit).await {
                Err(CacheError::Unreachable { .. } | CacheError::TimedOut { .. })
                    if attempt < self.reach.limits.attempts =>
                {
                    attempt += 1;
                }
                result => return result.map(Some),
            }
        }
    }

    async fn body(&self, mut response: Response, limit: u64) -> Result<Bytes> {
        let wait = self.reach.limits.answer;
        let expected = response.content_length();
        let mut bytes = BytesMut::new();
        loop {
            let next = tokio::time::timeout(wait, response.chunk()).await;
            let next = next.map_err(|_| CacheError::TimedOut { place: self.place(), limit: wait })?;
            match next.map_err(|error| self.unreachable(error))? {
                Some(chunk) if (bytes.len() + chunk.len()) as u64 > limit => {
                    let reason = format!("it sends more than the {limit} bytes that it should");
                    return Err(CacheError::Odd { place: self.place(), reason });
                }
                Some(chunk) => bytes.extend_from_slice(&chunk),
                None if expected.is_some_and(|expected| expected != bytes.len() as u64) => {
                    let reason = "the transfer broke off".to_owned();
                    return Err(CacheError::Unreachable { place: self.place(), reason });
                }
                None => return Ok(bytes.freeze()),
            }
        }
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.ask(Method::PUT, path, Some(bytes)).await.map(drop)
    }
}

/// Whether a failure may pass.
enum Passing {
    No,
    Yes,
    After(Duration),
}

#[async_trait]
impl Store for Http {
    fn place(&self) -> String {
        self.url.clone()
    }

    async fn has_pack(&self, id: &PackId) -> Result<bool> {
        Ok(matches!(self.ask(Method::HEAD, &layout::pack(id), None).await?, Answer::Yes(_)))
    }

    async fn put_pack(&self, id: &PackId, bytes: Bytes) -> Result<Put> {
        let path = layout::pack(id);
        if let Answer::Yes(response) = self.ask(Method::HEAD, &path, None).await? {
            // The client takes the length for that of the body, which an answer to HEAD has not.
            let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            // One of another size is torn, and made anew; a server that tells no size is believed.
            if length.and_then(|text| text.parse::<u64>().ok()).is_none_or(|length| length == bytes.len() as u64) {
                return Ok(Put::AlreadyThere);
            }
        }
        self.write(&path, bytes).await?;
        Ok(Put::Stored)
    }

    async fn pack(&self, id: &PackId, size: u64) -> Result<Option<Bytes>> {
        self.read(&layout::pack(id), size).await
    }

    async fn put_snapshot(&self, series: &Series, bytes: Bytes, _packs: &[(PackId, u64)]) -> Result<Put> {
        self.write(&Self::newest(series), bytes).await?;
        Ok(Put::Stored)
    }

    async fn snapshot(&self, series: &Series) -> Result<Option<Bytes>> {
        self.read(&Self::newest(series), MOST_SNAPSHOT).await
    }

    async fn list(&self) -> Result<Option<Vec<Listed>>> {
        Ok(None)
    }

    async fn remove(&self, what: &Object) -> Result<()> {
        self.ask(Method::DELETE, &layout::path(what), None).await.map(drop)
    }
}
