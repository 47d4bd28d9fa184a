//! Requests that are tried again, wait for a service that is busy, and give up one that does not move.

use std::error::Error as _;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{CacheError, Result};
use crate::secret::Secret;

/// Bytes per second that a transfer has on average, or it is given up: nobody waits for days.
const SLOWEST: u64 = 16 * 1024;
/// Bytes of an answer that is read as text, at most.
const MOST_TEXT: u64 = 4 * 1024 * 1024;
/// Bytes that an answer gets room for before they have come.
const MOST_ROOM: u64 = 64 * 1024 * 1024;
/// The longest pause between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often a request is made that is not answered in time: each costs the whole of that time.
const TRIES_IN_SILENCE: u32 = 2;
/// Characters of a foreign message that are passed on.
const MOST_SHOWN: usize = 300;

/// When to give up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) timeout: Duration,
    pub(super) tries: u32,
    pub(super) wait: Duration,
    pub(super) patience: Duration,
}

/// Sends requests.
#[derive(Clone)]
pub(super) struct Http {
    client: Client,
    place: String,
    limits: Limits,
    secrets: Arc<[Secret]>,
}

/// An answer that was read to its end.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether an earlier try may have been carried out, though its answer was not read.
    pub(super) may_be_second: bool,
}

/// Why a request is to be tried again.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It did not come through.
    Broken(String),
    /// Nothing moved for too long.
    Slow,
    /// It came through, and the server failed.
    Failing(StatusCode),
    /// It is to be asked again later.
    Busy(Option<Duration>),
    /// The answer is shorter or longer than it says, or than it has to be.
    Damaged(String),
    /// It cannot be sent at all.
    Wrong(String),
}

/// The tries of one request.
pub(super) struct Tries<'a> {
    http: &'a Http,
    what: &'a str,
    failed: u32,
    silent: u32,
    pause: Duration,
    waited: Duration,
}

impl Http {
    pub(super) fn new(
        client: Client,
        place: String,
        limits: Limits,
        secrets: impl IntoIterator<Item = Secret>,
    ) -> Self {
        Self { client, place, limits, secrets: secrets.into_iter().collect() }
    }

    /// The same, for what is not worth a second try.
    pub(super) fn once(&self) -> Self {
        Self { limits: Limits { tries: 1, patience: Duration::ZERO, ..self.limits }, ..self.clone() }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn tries<'a>(&'a self, what: &'a str) -> Tries<'a> {
        Tries { http: self, what, failed: 0, silent: 0, pause: self.limits.wait, waited: Duration::ZERO }
    }

    /// Sends a request until it is answered with something else than that it is to be sent again. `make` makes it, and
    /// is given what a body has to move while it is sent.
    pub(super) async fn ask(&self, make: impl Fn(&Client, &Arc<Pace>) -> RequestBuilder + Send) -> Result<Answer> {
        let mut tries = self.tries("an answer");
        loop {
            let pace = Arc::new(Pace::new(self.limits.timeout));
            let answered = match self.send(make(&self.client, &pace), &pace).await {
                Ok(response) => {
                    let (status, headers) = (response.status(), response.headers().clone());
                    let body = self.body(response, &pace, None, MOST_TEXT).await;
                    // An answer that broke off is one that did not come.
                    body.map(|body| (status, headers, body)).map_err(|trouble| match trouble {
                        Trouble::Damaged(reason) => Trouble::Broken(reason),
                        trouble => trouble,
                    })
                }
                Err(trouble) => Err(trouble),
            };
            match answered {
                Ok((status, headers, body)) => {
                    return Ok(Answer { status, headers, body, may_be_second: tries.failed > 0 });
                }
                Err(trouble) => tries.again(trouble).await?,
            }
        }
    }

    /// Sends a request once, and waits for the head of the answer.
    pub(super) async fn send(&self, request: RequestBuilder, pace: &Pace) -> Result<Response, Trouble> {
        let response = pace.within(request.send()).await?.map_err(|error| self.trouble(error))?;
        let status = response.status();
        let later = retry_after(response.headers());
        match status.as_u16() {
            429 => Err(Trouble::Busy(later)),
            // GitHub's API and Azure's storage say so, too, that they want to be left alone.
            403 | 503 if later.is_some() => Err(Trouble::Busy(later)),
            408 => Err(Trouble::Failing(status)),
            _ if status.is_server_error() => Err(Trouble::Failing(status)),
            _ => Ok(response),
        }
    }

    /// Reads the body of an answer, which has `size` bytes if that is known, and `most` at most.
    pub(super) async fn body(
        &self,
        mut response: Response,
        pace: &Pace,
        size: Option<u64>,
        most: u64,
    ) -> Result<Bytes, Trouble> {
        let size = size.or(response.content_length());
        // A server that says too much does not get all of our memory.
        let room = size.map_or(0, |size| usize::try_from(size.min(MOST_ROOM)).unwrap_or(0));
        let mut bytes = BytesMut::with_capacity(room);
        let of = || size.map_or_else(String::new, |size| format!(" of {size}"));
        loop {
            let chunk = match pace.within(response.chunk()).await? {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    let Trouble::Broken(reason) = self.trouble(error) else { return Err(Trouble::Slow) };
                    return Err(Trouble::Damaged(format!(
                        "it broke off after {}{} bytes: {reason}",
                        bytes.len(),
                        of()
                    )));
                }
            };
            pace.moved(chunk.len());
            bytes.extend_from_slice(&chunk);
            let most = size.unwrap_or(most).min(most);
            if bytes.len() as u64 > most {
                return Err(Trouble::Damaged(format!("it has more than {most} bytes")));
            }
        }
        if size.is_some_and(|size| bytes.len() as u64 != size) {
            return Err(Trouble::Damaged(format!("it has {}{} bytes", bytes.len(), of())));
        }
        Ok(bytes.freeze())
    }

    fn trouble(&self, error: reqwest::Error) -> Trouble {
        // An address may hold a signature.
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            reason = format!("{reason}: {inner}");
            source = inner.source();
        }
        let reason = self.shown(&reason);
        match () {
            () if error.is_builder() => Trouble::Wrong(reason),
            () if error.is_timeout() => Trouble::Slow,
            () => Trouble::Broken(reason),
        }
    }

    /// A text of the other side, fit for people to read: short, on one line, and without credentials.
    pub(super) fn shown(&self, text: &str) -> String {
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        for secret in self.secrets.iter().filter(|secret| !secret.reveal().is_empty()) {
            text = text.replace(secret.reveal(), "***");
        }
        // What follows the question mark of an address is its signature.
        let words = text.split_whitespace().map(|word| match word.find("://").and_then(|_| word.find('?')) {
            Some(at) => format!("{}?***", &word[..at]),
            None => word.to_owned(),
        });
        let text = words.collect::<Vec<_>>().join(" ");
        match text.char_indices().nth(MOST_SHOWN) {
            Some((at, _)) => format!("{}...", &text[..at]),
            None => text,
        }
    }

    pub(super) fn odd(&self, reason: impl fmt::Display) -> CacheError {
        CacheError::Odd { place: self.place.clone(), reason: self.shown(&reason.to_string()) }
    }

    pub(super) fn denied(&self, action: &'static str, reason: &str) -> CacheError {
        CacheError::Denied { place: self.place.clone(), action, reason: self.shown(reason) }
    }
}

impl Tries<'_> {
    /// Waits for the next try.
    ///
    /// # Errors
    /// If there is none.
    pub(super) async fn again(&mut self, trouble: Trouble) -> Result<()> {
        let Limits { tries, patience, timeout, .. } = self.http.limits;
        if let Trouble::Busy(wanted) = trouble {
            let wait = wanted.unwrap_or_default().max(self.pause);
            if self.waited + wait > patience {
                return Err(CacheError::Busy { place: self.http.place.clone(), wait });
            }
            self.waited += wait;
            self.pause(wait).await;
            return Ok(());
        }
        self.failed += 1;
        self.silent += u32::from(matches!(trouble, Trouble::Slow));
        let is_last = self.failed >= tries || self.silent >= TRIES_IN_SILENCE || matches!(trouble, Trouble::Wrong(_));
        if !is_last {
            self.pause(self.pause).await;
            return Ok(());
        }
        let place = self.http.place.clone();
        Err(match trouble {
            Trouble::Broken(reason) => CacheError::Unreachable { place, reason },
            Trouble::Failing(status) => CacheError::Unreachable { place, reason: format!("it answers {status}") },
            Trouble::Slow => CacheError::TimedOut { place, limit: timeout },
            Trouble::Damaged(reason) => CacheError::Damaged { place, what: self.what.to_owned(), reason },
            Trouble::Busy(wait) => CacheError::Busy { place, wait: wait.unwrap_or_default() },
            Trouble::Wrong(reason) => CacheError::Odd { place, reason },
        })
    }

    async fn pause(&mut self, wait: Duration) {
        sleep(wait).await;
        self.pause = (self.pause * 2).min(LONGEST_WAIT);
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// How a transfer gets on.
pub(super) struct Pace {
    timeout: Duration,
    state: Mutex<State>,
}

struct State {
    started: Instant,
    last: Instant,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(timeout: Duration) -> Self {
        let now = Instant::now();
        Self { timeout, state: Mutex::new(State { started: now, last: now, bytes: 0 }) }
    }

    /// Some bytes came or went.
    fn moved(&self, bytes: usize) {
        let mut state = self.state();
        state.last = Instant::now();
        state.bytes += bytes as u64;
    }

    fn deadline(&self) -> Instant {
        let state = self.state();
        let slowest = Duration::from_millis(state.bytes * 1000 / SLOWEST);
        (state.last + self.timeout).min(state.started + self.timeout + slowest)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something for as long as the transfer gets on.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Trouble> {
        let mut work = pin!(work);
        loop {
            match timeout_at(self.deadline(), &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) if self.deadline() <= Instant::now() => return Err(Trouble::Slow),
                Err(_) => {}
            }
        }
    }
}

/// A body that says how it gets on.
pub(super) struct Paced {
    rest: Bytes,
    pace: Arc<Pace>,
}

impl Paced {
    pub(super) fn body(bytes: Bytes, pace: &Arc<Pace>) -> reqwest::Body {
        reqwest::Body::wrap(Self { rest: bytes, pace: Arc::clone(pace) })
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        const PART: usize = 256 * 1024;
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let size = self.rest.len().min(PART);
        let part = self.rest.split_to(size);
        self.pace.moved(size);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http() -> Http {
        let limits = Limits {
            timeout: Duration::from_millis(100),
            tries: 3,
            wait: Duration::from_millis(1),
            patience: Duration::from_secs(1),
        };
        let client = crate::reach::Network::default().client().expect("a client");
        Http::new(client, "there".to_owned(), limits, [Secret::new("hunter2"), Secret::new("")])
    }

    #[test]
    fn what_others_say_is_shown_without_credentials() {
        let shown = http().shown("no\nfor hunter2: https://blob.example/a?sig=abc&se=1 is it? yes");
        assert_eq!(shown, "no for ***: https://blob.example/a?*** is it? yes");
        assert_eq!(http().shown(&"é".repeat(400)).chars().count(), MOST_SHOWN + 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_may_take_as_long_as_it_moves_and_moves_enough() {
        let step = Duration::from_millis(90);
        let pace = Pace::new(Duration::from_millis(100));
        let moving = async {
            for _ in 0..100 {
                sleep(step).await;
                pace.moved(16 * 1024);
            }
        };
        pace.within(moving).await.expect("it moves");
        assert!(matches!(pace.within(sleep(Duration::from_millis(101))).await, Err(Trouble::Slow)));
        // One byte now and then is not enough.
        let pace = Pace::new(Duration::from_millis(100));
        let dripping = async {
            loop {
                sleep(Duration::from_millis(9)).await;
                pace.moved(1);
            }
        };
        let started = Instant::now();
        let given_up: Result<(), _> = pace.within(dripping).await;
        assert!(matches!(given_up, Err(Trouble::Slow)) && started.elapsed() < Duration::from_millis(200));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_tries_end() {
        let http = http();
        let mut tries = http.tries("it");
        let started = Instant::now();
        tries.again(Trouble::Broken("cut".to_owned())).await.expect("a second try");
        tries.again(Trouble::Failing(StatusCode::BAD_GATEWAY)).await.expect("a third");
        assert!((3..6).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
        let error = tries.again(Trouble::Damaged("short".to_owned())).await.expect_err("no fourth");
        assert!(matches!(&error, CacheError::Damaged { what, .. } if what == "it"), "{error:?}");
        // A server that asks to be left alone is not one that fails.
        let mut tries = http.tries("it");
        for _ in 0..5 {
            tries.again(Trouble::Busy(None)).await.expect("patience");
        }
        let error = tries.again(Trouble::Busy(Some(Duration::from_secs(7)))).await.expect_err("no patience");
        assert!(matches!(error, CacheError::Busy { wait, .. } if wait == Duration::from_secs(7)), "{error:?}");
        // It is waited for that long in all.
        let mut tries = http.tries("it");
        tries.again(Trouble::Busy(Some(Duration::from_millis(600)))).await.expect("patience");
        tries.again(Trouble::Busy(Some(Duration::from_millis(600)))).await.expect_err("no patience");
        let mut tries = http.tries("it");
        tries.again(Trouble::Slow).await.expect("a second try");
        let error = tries.again(Trouble::Slow).await.expect_err("no third");
        assert!(matches!(error, CacheError::TimedOut { .. }), "{error:?}");
    }
}
