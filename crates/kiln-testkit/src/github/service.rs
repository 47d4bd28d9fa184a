//! What the calls do.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DEFAULT_REF, GithubCall, GithubEntry, REPOSITORY, World};
use crate::wire::{Answer, Head};

const SERVICE: &str = "/twirp/github.actions.results.api.v1.CacheService/";
/// The token of the general API.
pub(super) const REST_TOKEN: &str = "secret-of-the-api";
/// Characters of a key at most.
const MOST_KEY: usize = 512;

/// An entry.
pub(super) struct Entry {
    id: u64,
    key: String,
    version: String,
    reference: String,
    blob: Option<Vec<u8>>,
    blocks: BTreeMap<String, Vec<u8>>,
    finalized: bool,
    /// Lookups that do not see it yet.
    hidden: usize,
}

impl Entry {
    pub(super) fn whole(id: u64, key: &str, version: String, reference: &str, bytes: &[u8]) -> Self {
        Self { blob: Some(bytes.to_vec()), finalized: true, ..Self::taken(id, key, version, reference) }
    }

    fn taken(id: u64, key: &str, version: String, reference: &str) -> Self {
        Self {
            id,
            key: key.to_owned(),
            version,
            reference: reference.to_owned(),
            blob: None,
            blocks: BTreeMap::new(),
            finalized: false,
            hidden: 0,
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn change(&mut self, change: impl Fn(&mut Vec<u8>)) {
        self.blob.as_mut().into_iter().for_each(change);
    }

    pub(super) fn seen(&self) -> GithubEntry {
        GithubEntry {
            reference: self.reference.clone(),
            key: self.key.clone(),
            finalized: self.finalized,
            size: self.blob.as_ref().map_or(0, Vec::len),
        }
    }
}

/// Tokens of runs: the ref of each, and whether it may write.
#[derive(Default)]
pub(super) struct Tokens(Vec<(String, String, bool)>);

impl Tokens {
    pub(super) fn make(&mut self, reference: &str, write: bool) -> String {
        let token = format!("secret-of-run-{}", self.0.len());
        self.0.push((token.clone(), reference.to_owned(), write));
        token
    }

    fn find(&self, head: &Head) -> Option<(String, bool)> {
        let token = head.header("authorization")?.strip_prefix("Bearer ")?;
        self.0.iter().find(|(of, ..)| of == token).map(|(_, reference, write)| (reference.clone(), *write))
    }
}

/// What a request asks for.
pub(super) fn call(head: &Head) -> Option<GithubCall> {
    let is_blob = head.path.starts_with("/blob/");
    Some(match (head.method.as_str(), head.path.strip_prefix(SERVICE), head.query("comp")) {
        ("POST", Some("CreateCacheEntry"), _) => GithubCall::Create,
        ("POST", Some("FinalizeCacheEntryUpload"), _) => GithubCall::Finalize,
        ("POST", Some("GetCacheEntryDownloadURL"), _) => GithubCall::Find,
        ("PUT", _, None) if is_blob => GithubCall::PutBlob,
        ("PUT", _, Some("block")) if is_blob => GithubCall::PutBlock,
        ("PUT", _, Some("blocklist")) if is_blob => GithubCall::PutBlockList,
        ("GET", ..) if is_blob => GithubCall::GetBlob,
        ("GET", ..) if head.path == caches() => GithubCall::List,
        ("DELETE", ..) if head.path.starts_with(&caches()) => GithubCall::Remove,
        _ => return None,
    })
}

fn caches() -> String {
    format!("/repos/{REPOSITORY}/actions/caches")
}

/// A failure as all parts of the server spell it: the service, the storage and the general API.
pub(super) fn failure(status: u16, message: &str) -> Answer {
    let code = match status {
        401 => "unauthenticated",
        403 => "permission_denied",
        404 => "not_found",
        409 => "already_exists",
        429 => "resource_exhausted",
        400 => "invalid_argument",
        _ => "internal",
    };
    Answer::json(status, &json!({ "code": code, "msg": message, "message": message }))
}

pub(super) fn answer(world: &mut World, head: &Head, body: &[u8]) -> Answer {
    let Some(call) = call(head) else { return failure(404, "no such page") };
    match call {
        GithubCall::Create | GithubCall::Finalize | GithubCall::Find => {
            let Some((reference, write)) = world.tokens.find(head) else { return failure(401, "no such token") };
            let Ok(request) = serde_json::from_slice::<Value>(body) else { return failure(400, "no JSON") };
            let text = |name: &str| request[name].as_str();
            let (Some(key), Some(version)) = (text("key"), text("version")) else {
                return failure(400, "no key or no version");
            };
            let is_version = version.len() == 64 && version.bytes().all(|b| b.is_ascii_hexdigit());
            if key.is_empty() || key.len() > MOST_KEY || key.contains(',') || !is_version {
                return failure(400, "such a key or version cannot be");
            }
            if call == GithubCall::Find {
                return find(world, &reference, &request, key, version);
            }
            if !write {
                let message = "cache write denied: token has no writable scopes";
                return Answer::json(200, &json!({ "ok": false, "message": message }));
            }
            match call {
                GithubCall::Create => create(world, &reference, key, version),
                _ => finalize(world, &reference, key, version, text("size_bytes")),
            }
        }
        GithubCall::List | GithubCall::Remove => {
            if head.header("authorization") != Some(&format!("Bearer {REST_TOKEN}")) {
                return failure(403, "Resource not accessible by integration");
            }
            if call == GithubCall::List { list(world, head) } else { remove(world, head) }
        }
        _ => blob(world, call, head, body),
    }
}

fn sign(world: &mut World, id: u64, write: bool) -> String {
    let signature = format!("signature{}", world.next());
    world.signatures.insert(signature.clone(), (id, write));
    format!("{}blob/{id}?se=2030-01-01T00%3A00%3A00Z&sig={signature}", world.url)
}

fn create(world: &mut World, reference: &str, key: &str, version: &str) -> Answer {
    if world.entries.iter().any(|e| e.key == key && e.version == version && e.reference == reference) {
        return failure(409, "cache entry with the same key, version, and scope already exists");
    }
    let id = world.next();
    world.entries.push(Entry::taken(id, key, version.to_owned(), reference));
    let url = sign(world, id, true);
    Answer::json(200, &json!({ "ok": true, "signed_upload_url": url, "message": "" }))
}

fn finalize(world: &mut World, reference: &str, key: &str, version: &str, size: Option<&str>) -> Answer {
    let Some(size) = size.and_then(|size| size.parse::<usize>().ok()) else {
        return failure(400, "size_bytes is no text of digits");
    };
    let lag = world.lag;
    let is_it = |e: &&mut Entry| e.key == key && e.version == version && e.reference == reference && !e.finalized;
    let Some(entry) = world.entries.iter_mut().find(is_it) else { return failure(404, "no such upload") };
    if entry.blob.as_ref().map(Vec::len) != Some(size) {
        return Answer::json(200, &json!({ "ok": false, "message": "the upload has another size" }));
    }
    entry.finalized = true;
    entry.hidden = lag;
    Answer::json(200, &json!({ "ok": true, "entry_id": entry.id.to_string(), "message": "" }))
}

fn find(world: &mut World, reference: &str, request: &Value, key: &str, version: &str) -> Answer {
    let restore = request["restore_keys"].as_array().cloned().unwrap_or_default();
    let restore = restore.iter().filter_map(Value::as_str);
    // The key itself first; then what begins with it, and with the others. The newest of each, the own ref's first.
    let tests = std::iter::once((key, true)).chain(std::iter::once((key, false))).chain(restore.map(|k| (k, false)));
    let mut tests = tests.flat_map(|test| [(test, reference)]).collect::<Vec<_>>();
    let of_default: Vec<_> = tests.iter().map(|(test, _)| (*test, DEFAULT_REF)).collect();
    tests.extend(of_default);
    let found = tests.into_iter().find_map(|((text, exact), of)| {
        let fits = |e: &Entry| if exact { e.key == text } else { e.key.starts_with(text) };
        let is_it = |e: &&Entry| e.finalized && e.hidden == 0 && e.version == version && e.reference == of && fits(e);
        world.entries.iter().rev().find(is_it).map(|e| (e.id, e.key.clone()))
    });
    for entry in world.entries.iter_mut().filter(|entry| entry.finalized) {
        entry.hidden = entry.hidden.saturating_sub(1);
    }
    let Some((id, key)) = found else {
        return Answer::json(200, &json!({ "ok": false, "signed_download_url": "", "matched_key": "" }));
    };
    let url = sign(world, id, false);
    Answer::json(200, &json!({ "ok": true, "signed_download_url": url, "matched_key": key }))
}

fn blob(world: &mut World, call: GithubCall, head: &Head, body: &[u8]) -> Answer {
    let refusal = |status: u16, code: &str| Answer::new(status, "<Error/>").with("x-ms-error-code", code);
    let known = head.query("sig").and_then(|sig| world.signatures.get(sig));
    let writes = call != GithubCall::GetBlob;
    let Some((id, _)) = known.copied().filter(|(id, write)| *write == writes && head.path == format!("/blob/{id}"))
    else {
        return refusal(403, "AuthenticationFailed");
    };
    let Some(entry) = world.entries.iter_mut().find(|entry| entry.id == id) else {
        return refusal(404, "BlobNotFound");
    };
    match call {
        GithubCall::PutBlob if head.header("x-ms-blob-type") != Some("BlockBlob") => {
            return refusal(400, "MissingRequiredHeader");
        }
        GithubCall::PutBlob => entry.blob = Some(body.to_vec()),
        GithubCall::PutBlock => {
            let id = head.query("blockid").unwrap_or_default();
            let is_base64 = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
            let is_like_others = entry.blocks.keys().all(|other| other.len() == id.len());
            if id.is_empty() || !id.len().is_multiple_of(4) || !is_base64 || !is_like_others {
                return refusal(400, "InvalidBlobOrBlock");
            }
            entry.blocks.insert(id.to_owned(), body.to_vec());
        }
        GithubCall::PutBlockList => {
            let list = String::from_utf8_lossy(body);
            let ids = list.split("<Latest>").skip(1).filter_map(|rest| rest.split_once("</Latest>"));
            let blocks: Option<Vec<_>> = ids.map(|(id, _)| entry.blocks.get(id).cloned()).collect();
            let Some(blocks) = blocks else { return refusal(400, "InvalidBlockList") };
            entry.blob = Some(blocks.concat());
        }
        _ => {
            let Some(blob) = &entry.blob else { return refusal(404, "BlobNotFound") };
            return Answer::new(200, blob.clone()).with("content-type", "application/octet-stream");
        }
    }
    Answer::new(201, "")
}

fn list(world: &World, head: &Head) -> Answer {
    let prefix = head.query("key").unwrap_or_default();
    let number = |name: &str, or: usize| head.query(name).and_then(|text| text.parse().ok()).unwrap_or(or);
    let (size, page) = (number("per_page", 30).min(100), number("page", 1));
    let is_asked = |entry: &&Entry| {
        entry.finalized
            && entry.key.starts_with(prefix)
            && head.query("ref").is_none_or(|reference| entry.reference == reference)
    };
    let mut entries: Vec<&Entry> = world.entries.iter().filter(is_asked).collect();
    let total = entries.len();
    if head.query("direction") != Some("asc") {
        entries.reverse();
    }
    let page: Vec<Value> = entries.into_iter().skip((page - 1) * size).take(size).map(described).collect();
    Answer::json(200, &json!({ "total_count": total, "actions_caches": page }))
}

fn described(entry: &Entry) -> Value {
    json!({
        "id": entry.id,
        "ref": entry.reference,
        "key": entry.key,
        "version": entry.version,
        "last_accessed_at": "2026-01-02T00:00:00.000000000Z",
        "created_at": format!("2026-01-01T00:{:02}:{:02}.123456700Z", entry.id / 60 % 60, entry.id % 60),
        "size_in_bytes": entry.blob.as_ref().map_or(0, Vec::len),
    })
}

fn remove(world: &mut World, head: &Head) -> Answer {
    let before = world.entries.len();
    let id = head.path.strip_prefix(&caches()).and_then(|rest| rest.strip_prefix('/'));
    match (id, head.query("key")) {
        (Some(id), _) => world.entries.retain(|entry| entry.id.to_string() != id),
        (None, Some(key)) => {
            let of = head.query("ref");
            world.entries.retain(|entry| entry.key != key || of.is_some_and(|of| entry.reference != of));
        }
        (None, None) => return failure(400, "no key"),
    }
    if world.entries.len() == before { failure(404, "Not Found") } else { Answer::new(204, "") }
}
