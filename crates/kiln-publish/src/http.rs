//! Requests to a forge: tried again while that may help, given up when nothing moves, and never with a token in a message.

use std::error::Error as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kiln_artifact::checksum::{Sha256, Sha256Hasher};
use kiln_cache::Secret;
use kiln_cache::reach::Network;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::body::{Pace, Payload, Stuck};
use crate::error::{PublishError, Result};
use crate::model::{Event, Events, LocalFile};

/// Bytes of an answer that is read as text, at most.
const MOST_TEXT: usize = 64 * 1024 * 1024;
/// Characters of a foreign message that are passed on.
const MOST_SHOWN: usize = 300;
/// The longest pause between two tries, unless the forge asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many addresses a download goes through.
const MOST_REDIRECTS: usize = 5;

/// How long is waited, and how often something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long nothing may move: while connecting, sending, and waiting for an answer.
    pub answer: Duration,
    /// Tries of a request in all, while failures may pass.
    pub attempts: u32,
    /// The first pause between two tries; the next is twice as long.
    pub pause: Duration,
    /// How long a forge that wants to be left alone is waited for, in all.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_mins(2),
            attempts: 5,
            pause: Duration::from_secs(1),
            patience: Duration::from_mins(5),
        }
    }
}

/// Sends requests to one forge.
pub(crate) struct Http {
    client: Client,
    limits: Limits,
    /// The forge and the repository, as people name them.
    place: String,
    /// What a token needs.
    needs: &'static str,
    secret: Secret,
    events: Events,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why a request is to be tried again.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It did not come through, or the answer did not come back.
    Broken(String),
    /// Nothing moved for too long.
    Slow,
    /// It came through, and the server failed.
    Failing(StatusCode),
    /// It is to be asked again later.
    Busy(Option<Duration>),
    /// Something else is there already; a look at it tells what that is.
    Taken(String),
}

/// Why one attempt came to nothing.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It may have been carried out or not: it takes a look to know.
    Unclear(Trouble),
    /// It is of no use.
    Failed(PublishError),
}

impl From<PublishError> for Attempt {
    fn from(error: PublishError) -> Self {
        Self::Failed(error)
    }
}

impl From<Trouble> for Attempt {
    fn from(trouble: Trouble) -> Self {
        Self::Unclear(trouble)
    }
}

/// The tries of one request.
pub(crate) struct Tries<'a> {
    http: &'a Http,
    action: &'a str,
    failed: u32,
    pause: Duration,
    waited: Duration,
}

impl Http {
    pub(crate) fn new(
        network: &Network,
        limits: Limits,
        place: String,
        needs: &'static str,
        secret: Secret,
        events: Events,
    ) -> Result<Self> {
        let client = network.client().map_err(|error| PublishError::Client { reason: error.to_string() })?;
        Ok(Self { client, limits, place, needs, secret, events })
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn tell(&self, event: Event) {
        (self.events)(event);
    }

    pub(crate) fn tries<'a>(&'a self, action: &'a str) -> Tries<'a> {
        Tries { http: self, action, failed: 0, pause: self.limits.pause, waited: Duration::ZERO }
    }

    /// Sends a request that may be sent twice, until it is answered with something else than that it is to be sent again.
    pub(crate) async fn ask(&self, action: &str, make: impl Fn(&Client) -> RequestBuilder + Send) -> Result<Answer> {
        let mut tries = self.tries(action);
        loop {
            match self.once(make(&self.client)).await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => tries.again(trouble).await?,
            }
        }
    }

    /// All pages of a list, until `enough` says that nothing more is wanted. `make` is given the number of a page.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        action: &str,
        page_size: usize,
        make: impl Fn(&Client, usize) -> RequestBuilder + Send + Sync,
        enough: impl Fn(&T) -> bool + Send,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        for page in 1.. {
            let answer = self.ask(action, |client| make(client, page)).await?;
            let more: Vec<T> = self.json(action, &answer)?;
            let is_last = more.len() < page_size || more.iter().any(&enough);
            all.extend(more);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    /// Sends a request once.
    pub(crate) async fn once(&self, request: RequestBuilder) -> Result<Answer, Trouble> {
        self.paced(request, &Pace::new(self.limits.answer)).await
    }

    /// Sends a file once. `action` is what fails if the file is not there.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        file: &LocalFile,
        payload: &Payload,
    ) -> Result<Answer, Attempt> {
        let pace = Pace::new(self.limits.answer);
        let (events, name, size) = (self.events.clone(), file.name.clone(), file.size);
        let sent = move |sent| events(Event::Sending { name: name.clone(), sent, size });
        let body = payload.open(&pace, sent);
        let body = body.map_err(|source| PublishError::Io { path: file.path.clone(), source })?;
        // Some servers take no body whose length they are not told.
        let request = request.header(reqwest::header::CONTENT_LENGTH, payload.length()).body(body);
        let answer = self.paced(request, &pace).await;
        if pace.file_changed() {
            return Err(PublishError::FileChanged { path: file.path.clone() }.into());
        }
        Ok(answer?)
    }

    async fn paced(&self, request: RequestBuilder, pace: &Pace) -> Result<Answer, Trouble> {
        let response = self.head(request, pace).await?;
        let status = response.status();
        let mut body = BytesMut::new();
        self.read(response, pace, |chunk| {
            body.extend_from_slice(chunk);
            body.len() <= MOST_TEXT
        })
        .await?;
        Ok(Answer { status, body: body.freeze() })
    }

    /// Sends a request and waits for the head of the answer.
    async fn head(&self, request: RequestBuilder, pace: &Pace) -> Result<Response, Trouble> {
        let sent = pace.within(request.send()).await.map_err(|Stuck| Trouble::Slow)?;
        let response = sent.map_err(|error| self.trouble(error))?;
        let status = response.status();
        let headers = response.headers();
        let later = wait(headers);
        let exhausted = headers.get("x-ratelimit-remaining").is_some_and(|left| left == "0");
        match status.as_u16() {
            429 => Err(Trouble::Busy(later)),
            // GitHub's API says so, too, that it wants to be left alone.
            403 | 503 if later.is_some() && (exhausted || headers.contains_key(RETRY_AFTER)) => {
                Err(Trouble::Busy(later))
            }
            408 => Err(Trouble::Failing(status)),
            _ if status.is_server_error() => Err(Trouble::Failing(status)),
            _ => Ok(response),
        }
    }

    /// Reads a body. `take` says whether more is wanted.
    async fn read(
        &self,
        mut response: Response,
        pace: &Pace,
        mut take: impl FnMut(&[u8]) -> bool + Send,
    ) -> Result<(), Trouble> {
        loop {
            let chunk = pace.within(response.chunk()).await.map_err(|Stuck| Trouble::Slow)?;
            let Some(chunk) = chunk.map_err(|error| self.trouble(error))? else { return Ok(()) };
            pace.moved();
            if !take(&chunk) {
                return Err(Trouble::Broken("the answer is too long".to_owned()));
            }
        }
    }

    /// The sum of what is behind an address. `make` adds what the forge itself wants to see; another host gets none of it.
    pub(crate) async fn digest(
        &self,
        action: &str,
        address: &str,
        make: impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync,
    ) -> Result<Sha256> {
        let mut tries = self.tries(action);
        loop {
            match self.digest_once(action, address, &make).await {
                Ok(sum) => return Ok(sum),
                Err(Attempt::Unclear(trouble)) => tries.again(trouble).await?,
                Err(Attempt::Failed(error)) => return Err(error),
            }
        }
    }

    async fn digest_once(
        &self,
        action: &str,
        address: &str,
        make: &(impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync),
    ) -> Result<Sha256, Attempt> {
        let mut url = Url::parse(address).map_err(|_| self.odd(action, "a file has no address"))?;
        let home = url.origin();
        for _ in 0..=MOST_REDIRECTS {
            let pace = Pace::new(self.limits.answer);
            let request = self.client.get(url.clone());
            let request = if url.origin() == home { make(request) } else { request };
            let response = self.head(request, &pace).await?;
            let status = response.status();
            if status.is_redirection() {
                let next = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
                let next = next.and_then(|location| url.join(location).ok());
                url = next.ok_or_else(|| self.odd(action, "a redirection leads nowhere"))?;
                continue;
            }
            if !status.is_success() {
                let answer = Answer { status, body: Bytes::new() };
                return Err(self.failure(action, &answer).into());
            }
            let mut hasher = Sha256Hasher::default();
            self.read(response, &pace, |chunk| {
                hasher.update(chunk);
                true
            })
            .await?;
            return Ok(hasher.finish());
        }
        Err(self.odd(action, "there are too many redirections").into())
    }

    /// What an answer holds, if it is a success.
    pub(crate) fn json<T: DeserializeOwned>(&self, action: &str, answer: &Answer) -> Result<T> {
        if !answer.status.is_success() {
            return Err(self.failure(action, answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| self.odd(action, &error.to_string()))
    }

    /// What an answer that is no success means.
    pub(crate) fn failure(&self, action: &str, answer: &Answer) -> PublishError {
        let (place, action, needs) = (self.place.clone(), action.to_owned(), self.needs);
        let status = answer.status;
        let mut reason = self.shown(&said(&answer.body));
        if reason.is_empty() {
            status.to_string().clone_into(&mut reason);
        }
        match status.as_u16() {
            401 => PublishError::Unauthorized { place, reason, needs },
            403 => PublishError::Forbidden { place, action, reason, needs },
            404 => PublishError::NotFound { place, action, reason, needs },
            300..=399 => PublishError::Moved { place },
            status => PublishError::Refused { place, action, reason, status },
        }
    }

    pub(crate) fn odd(&self, action: &str, reason: &str) -> PublishError {
        PublishError::Odd { place: self.place.clone(), action: action.to_owned(), reason: self.shown(reason) }
    }

    /// What the forge says with an answer.
    pub(crate) fn said(&self, answer: &Answer) -> String {
        self.shown(&said(&answer.body))
    }

    fn trouble(&self, error: reqwest::Error) -> Trouble {
        // An address may hold a signature.
        let error = error.without_url();
        if error.is_timeout() {
            return Trouble::Slow;
        }
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            reason = format!("{reason}: {inner}");
            source = inner.source();
        }
        Trouble::Broken(self.shown(&reason))
    }

    /// A text of the other side, fit for people to read: short, on one line, and without the token.
    fn shown(&self, text: &str) -> String {
        let mut text = text.split(|c: char| c.is_control() || c.is_whitespace()).collect::<Vec<_>>().join(" ");
        if !self.secret.reveal().is_empty() {
            text = text.replace(self.secret.reveal(), "***");
        }
        match text.char_indices().nth(MOST_SHOWN) {
            Some((at, _)) => format!("{}...", &text[..at]),
            None => text,
        }
    }
}

impl Tries<'_> {
    /// Waits for the next try.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn again(&mut self, trouble: Trouble) -> Result<()> {
        let Limits { attempts, patience, answer, .. } = self.http.limits;
        let (place, action) = (self.http.place.clone(), self.action.to_owned());
        let (wait, reason) = if let Trouble::Busy(wanted) = trouble {
            let wait = wanted.unwrap_or_default().max(self.pause);
            if self.waited + wait > patience {
                return Err(PublishError::Busy { place, action, wait });
            }
            self.waited += wait;
            (wait, "the forge is busy".to_owned())
        } else {
            self.failed += 1;
            let reason = match &trouble {
                Trouble::Broken(reason) | Trouble::Taken(reason) => reason.clone(),
                Trouble::Failing(status) => format!("it answers {status}"),
                Trouble::Slow | Trouble::Busy(_) => "it does not answer".to_owned(),
            };
            if self.failed >= attempts {
                return Err(match trouble {
                    Trouble::Slow => PublishError::TimedOut { place, action, limit: answer },
                    _ => PublishError::Unreachable { place, action, reason },
                });
            }
            (self.pause, reason)
        };
        self.http.tell(Event::Again { action: action.clone(), reason, wait });
        sleep(wait).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// How long the forge wants to be left alone. GitHub names a moment where its allowance of the hour is used up.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    if let Some(seconds) = number("retry-after") {
        return Some(Duration::from_secs(seconds));
    }
    let reset = Duration::from_secs(number("x-ratelimit-reset")?);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Some(reset.saturating_sub(now) + Duration::from_secs(1))
}

/// What a forge says of a failure: `message` and `errors` (GitHub, Gitea), `message` or `error` (GitLab), else the text.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else {
        // A page for people says nothing to them here.
        return if text.trim_start().starts_with('<') { String::new() } else { text.into_owned() };
    };
    let plain = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let message = value.get("message").or_else(|| value.get("error")).map(plain).unwrap_or_default();
    let errors = value.get("errors").and_then(serde_json::Value::as_array);
    let errors = errors.into_iter().flatten().map(|error| match (error.get("message"), error.get("code")) {
        (Some(message), _) => plain(message),
        (None, Some(code)) => format!("{} {}", error.get("field").map(plain).unwrap_or_default(), plain(code)),
        (None, None) => plain(error),
    });
    let errors: Vec<String> = errors.map(|error| error.trim().to_owned()).filter(|error| !error.is_empty()).collect();
    match (message.is_empty(), errors.is_empty()) {
        (_, true) => message,
        (true, false) => errors.join(", "),
        (false, false) => format!("{message}: {}", errors.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(limits: Limits) -> Http {
        let secret = Secret::new("hunter2");
        let place = "the forge's a/b".to_owned();
        Http::new(&Network::default(), limits, place, "a token", secret, std::sync::Arc::new(|_| {})).expect("a client")
    }

    #[test]
    fn messages_of_forges_are_told_shortly_and_without_the_token() {
        let github = br#"{"message": "Validation Failed", "errors": [{"resource": "Release", "code": "already_exists",
            "field": "tag_name"}, {"message": "no hunter2"}, "more"]}"#;
        let http = http(Limits::default());
        let answer = |status: u16, body: &'static [u8]| Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            body: Bytes::from_static(body),
        };
        let told = |status, body| http.failure("do it", &answer(status, body)).to_string();
        assert_eq!(
            told(422, github),
            "the forge's a/b: cannot do it: Validation Failed: tag_name already_exists, no ***, more (422)"
        );
        assert_eq!(
            told(403, br#"{"error": "insufficient_scope"}"#),
            "the forge's a/b: the token may not do it (insufficient_scope)"
        );
        assert_eq!(told(413, b"<html>"), "the forge's a/b: cannot do it: 413 Payload Too Large (413)");
        assert_eq!(told(301, b""), "the forge's a/b has moved");
        assert_eq!(http.shown(&"é".repeat(400)).chars().count(), MOST_SHOWN + 3);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_end_and_patience_too() {
        let limits = Limits { attempts: 3, patience: Duration::from_secs(10), ..Limits::default() };
        let http = http(limits);
        let mut tries = http.tries("do it");
        tries.again(Trouble::Slow).await.expect("a second try");
        tries.again(Trouble::Failing(StatusCode::BAD_GATEWAY)).await.expect("a third try");
        let error = tries.again(Trouble::Broken("cut".to_owned())).await.expect_err("no fourth");
        assert_eq!(error.to_string(), "the forge's a/b: cannot do it: cut");
        let mut tries = http.tries("do it");
        tries.again(Trouble::Busy(Some(Duration::from_secs(6)))).await.expect("patience");
        let error = tries.again(Trouble::Busy(Some(Duration::from_secs(6)))).await.expect_err("no patience");
        assert!(matches!(error, PublishError::Busy { wait, .. } if wait == Duration::from_secs(6)), "{error:?}");
    }
}
