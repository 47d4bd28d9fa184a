//! The cache service, version 2, as `actions/cache` talks to it: three calls in Twirp's JSON.
//!
//! GitHub does not describe it. A call is a `POST` to
//! `/twirp/github.actions.results.api.v1.CacheService/NAME`; one that fails is answered with another status than 200 and
//! `{"code": "already_exists", "msg": "..."}`, or with 200, `"ok": false` and a `message`.

use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::http::Http;
use crate::error::{CacheError, Result};
use crate::secret::Secret;

const SERVICE: &str = "/twirp/github.actions.results.api.v1.CacheService/";
/// What a refusal of writes and of reads begins with; `actions/cache` tells them by this, too.
const WRITE_DENIED: &str = "cache write denied";
const READ_DENIED: &str = "cache read denied";

/// The service, for entries of one version.
pub(super) struct Api {
    pub(super) http: Http,
    pub(super) service: Url,
    pub(super) token: Secret,
    pub(super) version: String,
}

/// An address that is signed, so whoever has it may use it: it is not shown.
pub(super) struct Signed(Url);

impl Signed {
    pub(super) fn url(&self) -> &Url {
        &self.0
    }
}

/// What became of the wish to write an entry.
pub(super) enum Reserved {
    /// It can be uploaded there.
    Here(Signed),
    /// The key has been given away; what the service says.
    Taken(String),
}

/// What became of the wish that an entry be readable.
pub(super) enum Finalized {
    /// It is.
    Done,
    /// It is not, or it has been since an earlier try whose answer was lost.
    Refused { reason: String, may_be_second: bool },
}

/// An entry that can be read.
pub(super) struct Found {
    pub(super) url: Signed,
    /// Its key; empty if the service does not tell.
    pub(super) key: String,
}

#[derive(Serialize)]
struct Create<'a> {
    key: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct Finalize<'a> {
    key: &'a str,
    version: &'a str,
    // 64 bits are text in the JSON of protocol buffers.
    size_bytes: String,
}

#[derive(Serialize)]
struct Find<'a> {
    key: &'a str,
    restore_keys: &'a [&'a str],
    version: &'a str,
}

/// The answers of all calls. Field names may be spelled either way in the JSON of protocol buffers.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Reply {
    ok: bool,
    message: String,
    #[serde(alias = "signedUploadUrl")]
    signed_upload_url: String,
    #[serde(alias = "signedDownloadUrl")]
    signed_download_url: String,
    #[serde(alias = "matchedKey")]
    matched_key: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    #[serde(skip)]
    status: u16,
    #[serde(skip)]
    may_be_second: bool,
    code: String,
    msg: String,
}

impl Refusal {
    /// What it says, for people.
    fn text(&self) -> String {
        let Self { status, code, msg, .. } = self;
        if msg.is_empty() && code.is_empty() {
            return match status {
                404 => "404: this server may not have version 2 of the cache service".to_owned(),
                _ => format!("status {status}"),
            };
        }
        format!("{status} {code}: {msg}")
    }
}

impl Api {
    /// Takes a key. Whoever has taken one may upload to it, and nobody else ever.
    ///
    /// # Errors
    /// [`CacheError::Denied`] if the token is good for reading alone.
    pub(super) async fn create(&self, key: &str) -> Result<Reserved> {
        match self.call("CreateCacheEntry", &Create { key, version: &self.version }).await? {
            Ok((reply, _)) if reply.ok => Ok(Reserved::Here(self.signed(&reply.signed_upload_url)?)),
            Ok((reply, _)) if reply.message.contains(WRITE_DENIED) => Err(self.http.denied("write", &reply.message)),
            Ok((reply, _)) => Ok(Reserved::Taken(reply.message)),
            Err(refusal) if refusal.status == 409 || refusal.code == "already_exists" => {
                Ok(Reserved::Taken(refusal.msg))
            }
            Err(refusal) => Err(self.refused("write", &refusal)),
        }
    }

    /// Makes an entry readable, of which all `size` bytes are uploaded.
    pub(super) async fn finalize(&self, key: &str, size: u64) -> Result<Finalized> {
        let request = Finalize { key, version: &self.version, size_bytes: size.to_string() };
        match self.call("FinalizeCacheEntryUpload", &request).await? {
            Ok((reply, _)) if reply.ok => Ok(Finalized::Done),
            Ok((reply, _)) if reply.message.contains(WRITE_DENIED) => Err(self.http.denied("write", &reply.message)),
            Ok((reply, may_be_second)) => Ok(Finalized::Refused { reason: reply.message, may_be_second }),
            Err(refusal) if matches!(refusal.status, 401 | 403) => Err(self.refused("write", &refusal)),
            Err(refusal) => Ok(Finalized::Refused { reason: refusal.text(), may_be_second: refusal.may_be_second }),
        }
    }

    /// The entry of a key, or the newest whose key begins with one of `restore_keys`. The service may take the key for
    /// the beginning of one, too: the caller looks at the key that is found.
    pub(super) async fn find(&self, key: &str, restore_keys: &[&str]) -> Result<Option<Found>> {
        match self.call("GetCacheEntryDownloadURL", &Find { key, restore_keys, version: &self.version }).await? {
            Ok((reply, _)) if reply.ok => {
                let url = self.signed(&reply.signed_download_url)?;
                Ok(Some(Found { url, key: reply.matched_key }))
            }
            Ok((reply, _)) if reply.message.contains(READ_DENIED) => Err(self.http.denied("read", &reply.message)),
            Ok(_) => Ok(None),
            Err(refusal) if refusal.code == "not_found" => Ok(None),
            Err(refusal) => Err(self.refused("read", &refusal)),
        }
    }

    fn refused(&self, action: &'static str, refusal: &Refusal) -> CacheError {
        let is_denial = matches!(refusal.status, 401 | 403)
            || [WRITE_DENIED, READ_DENIED].iter().any(|denied| refusal.msg.contains(denied));
        let text = refusal.text();
        if is_denial { self.http.denied(action, &text) } else { self.http.odd(text) }
    }

    /// The answer, and whether an earlier try may have been carried out.
    async fn call(&self, name: &str, request: &impl Serialize) -> Result<Result<(Reply, bool), Refusal>> {
        // The path of the service's address is of no account, as for `actions/cache`.
        let url = self.service.join(&format!("{SERVICE}{name}")).map_err(|error| self.http.odd(error))?;
        let body = serde_json::to_vec(request).map_err(|error| self.http.odd(error))?;
        let make = |client: &reqwest::Client, _: &_| {
            client
                .post(url.clone())
                .bearer_auth(self.token.reveal())
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone())
        };
        let answer = self.http.ask(make).await?;
        if answer.status.is_success() {
            let reply = parse(&answer.body).map_err(|error| self.http.odd(format!("{name} says {error}")))?;
            return Ok(Ok((reply, answer.may_be_second)));
        }
        // Whatever stands between may answer with a page.
        let refusal: Refusal = parse(&answer.body).unwrap_or_default();
        Ok(Err(Refusal { status: answer.status.as_u16(), may_be_second: answer.may_be_second, ..refusal }))
    }

    fn signed(&self, text: &str) -> Result<Signed> {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Signed(url)),
            _ => Err(self.http.odd("it gives no address for the bytes of an entry")),
        }
    }
}

/// Reads JSON; what cannot be read may hold a signature, and is not part of the error.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, &'static str> {
    serde_json::from_slice(bytes).map_err(|_| "something that is no JSON of this service")
}
