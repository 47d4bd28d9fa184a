//! The cache of GitHub Actions, version 2.
//!
//! An entry is written once and never changed: a pack has one key for ever, and each snapshot of a series has a key of
//! its own, of which the service finds the newest. Entries belong to the ref that wrote them, and are seen by it and,
//! where it is the default branch, by all. What is written may be found a while later only.
//!
//! A key that was taken is never free again, even where its writer died before all was there. Whoever wants to put a
//! pack whose key is taken therefore looks whether it can be read, waits a little for its writer, and then puts it under
//! another key. Nothing is taken for stored that cannot be read.

use std::sync::OnceLock;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Url;
use sha2::{Digest as _, Sha256};

mod api;
mod blob;
mod http;
mod key;
mod options;
mod rest;

pub use options::{Access, GhaOptions, RestOptions};

use self::api::{Api, Finalized, Found, Reserved};
use self::blob::{Got, Sizes};
use self::http::{Http, Limits};
use self::key::{Keys, is_stamp};
use self::rest::Rest;
use super::{Listed, Object, Put, Store};
use crate::error::{CacheError, Result};
use crate::name::{PackId, Series};

/// The format of keys and entries; a change of it is a new, empty store.
const FORMAT: &str = "kiln cache, packs and snapshots, 1";
/// Snapshots of a series that are kept on a ref: a reader that was told of one still finds it.
const KEPT: usize = 2;
/// How often a new address is asked for, after one that was not good.
const RENEWALS: u32 = 2;

/// The cache of GitHub Actions as a store.
pub struct Gha {
    api: Api,
    rest: Option<Rest>,
    keys: Keys,
    sizes: Sizes,
    access: Access,
    /// What the service said when it first denied a write: it is not asked for another.
    denied: OnceLock<String>,
}

/// What is read.
enum Wanted<'a> {
    Pack(&'a PackId),
    Snapshot(&'a Series),
    /// An entry of this key alone.
    Entry(&'a str),
}

impl std::fmt::Debug for Gha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gha").field("place", &self.http().place()).finish_non_exhaustive()
    }
}

impl Gha {
    /// A store.
    ///
    /// # Errors
    /// [`CacheError::BadAddress`] if an address of the options is none.
    pub fn new(options: GhaOptions) -> Result<Self> {
        let GhaOptions { token, timeout, tries, wait, patience, access, .. } = options;
        let service = Url::parse(&options.results_url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| CacheError::BadAddress {
                text: "type=gha".to_owned(),
                problem: "ACTIONS_RESULTS_URL is no address of a server".to_owned(),
                hint: "leave it as GitHub sets it".to_owned(),
            })?;
        let keys = Keys::new(&options.scope, &options.run);
        let place = format!("GitHub Actions cache `{}`", keys.scope());
        let rest = options.rest.as_ref();
        let secrets = [Some(token.clone()), rest.map(|rest| rest.token.clone())].into_iter().flatten();
        let limits = Limits { timeout, tries: tries.max(1), wait, patience };
        let http = Http::new(options.network.client()?, place, limits, secrets);
        Ok(Self {
            api: Api { http, service, token, version: version(&options.version_salt) },
            rest: rest.map(Rest::new).transpose()?,
            keys,
            sizes: Sizes { single: options.single_upload, block: options.block },
            access,
            denied: OnceLock::new(),
        })
    }

    fn http(&self) -> &Http {
        &self.api.http
    }

    /// The entry that is wanted, if it can be read.
    async fn find(&self, wanted: &Wanted<'_>) -> Result<Option<Found>> {
        if !self.access.read {
            return Err(self.http().denied("read", "this run's cache mode does not permit it"));
        }
        let found = match wanted {
            Wanted::Pack(id) => {
                let (key, again) = (self.keys.pack(id), self.keys.pack_again(id));
                let found = self.api.find(&key, &[&again]).await?;
                // A service that does not tell the key has found the one that was asked for first, or a copy of it.
                found.filter(|found| found.key.is_empty() || found.key == key || found.key.starts_with(&again))
            }
            Wanted::Snapshot(series) => {
                let prefix = self.keys.series(series);
                let found = self.api.find(&prefix, &[&prefix]).await?;
                // Nothing else may be taken for a snapshot of this series.
                found.filter(|found| found.key.strip_prefix(&prefix).is_some_and(is_stamp))
            }
            Wanted::Entry(key) => {
                let found = self.api.find(key, &[]).await?;
                found.filter(|found| found.key.is_empty() || found.key == *key)
            }
        };
        Ok(found)
    }

    async fn get(&self, wanted: Wanted<'_>, size: Option<u64>) -> Result<Option<Bytes>> {
        let what = match wanted {
            Wanted::Pack(id) => format!("pack {id}"),
            Wanted::Snapshot(series) => format!("the newest snapshot of {series}"),
            Wanted::Entry(key) => key.to_owned(),
        };
        let mut refused = None;
        for _ in 0..=RENEWALS {
            let Some(found) = self.find(&wanted).await? else { return Ok(None) };
            match blob::get(self.http(), &found.url, size, &what).await? {
                Got::Bytes(bytes) => return Ok(Some(bytes)),
                Got::Expired(status) => refused = Some(status),
                // It was evicted since it was found.
                Got::Gone => refused = None,
            }
        }
        match refused {
            Some(status) => Err(self.http().denied("read", &format!("its storage answers {status} to new addresses"))),
            None => Ok(None),
        }
    }

    /// Whether something can be read now or in a while, for as long as a request is tried.
    async fn appears(&self, wanted: Wanted<'_>) -> Result<bool> {
        let Limits { tries, wait, .. } = self.http().limits();
        let mut pause = wait;
        for _ in 1..tries {
            if self.find(&wanted).await?.is_some() {
                return Ok(true);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(self.find(&wanted).await?.is_some())
    }

    /// Puts an entry; what the service says if its key is taken.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Result<(), String>> {
        if !self.access.write {
            return Err(self.http().denied("write", "this run's cache mode does not permit it"));
        }
        if let Some(reason) = self.denied.get() {
            return Err(self.http().denied("write", reason));
        }
        match self.write(key, bytes).await {
            Err(CacheError::Denied { place, action, reason }) => {
                let _said_before = self.denied.set(reason.clone());
                Err(CacheError::Denied { place, action, reason })
            }
            other => other,
        }
    }

    async fn write(&self, key: &str, bytes: Bytes) -> Result<Result<(), String>> {
        let url = match self.api.create(key).await? {
            Reserved::Here(url) => url,
            Reserved::Taken(reason) => return Ok(Err(reason)),
        };
        let size = bytes.len() as u64;
        blob::put(self.http(), &url, bytes, self.sizes).await?;
        match self.api.finalize(key, size).await? {
            Finalized::Done => Ok(Ok(())),
            Finalized::Refused { may_be_second: true, .. } if self.appears(Wanted::Entry(key)).await? => Ok(Ok(())),
            Finalized::Refused { reason, .. } => {
                Err(self.http().odd(format!("it does not accept what was uploaded: {reason}")))
            }
        }
    }

    /// Puts an entry under a key that nobody else has.
    async fn put_anew(&self, prefix: &str, bytes: Bytes) -> Result<()> {
        let mut said = String::new();
        // A key can be taken by ourselves: by a request whose answer was lost.
        for _ in 0..self.http().limits().tries {
            match self.put(&format!("{prefix}{}", self.keys.stamp()), bytes.clone()).await? {
                Ok(()) => return Ok(()),
                Err(reason) => said = reason,
            }
        }
        Err(self.http().odd(format!("it gives no key to write to: {said}")))
    }

    /// Removes what a new snapshot has superseded on its ref. What cannot be removed is left to GitHub, which drops what
    /// was not used for a week.
    async fn remove_superseded(&self, series: &Series) {
        let Some(rest) = &self.rest else { return };
        let http = self.http().once();
        let prefix = self.keys.series(series);
        let Ok(mut entries) = rest.list(&http, &prefix).await else { return };
        entries.retain(|entry| self.is_ours(entry) && entry.key.strip_prefix(&prefix).is_some_and(is_stamp));
        entries.sort_by(|one, other| other.key.cmp(&one.key));
        // The newest of this run says on which ref we are; where it is not listed yet, the next run removes.
        let run = self.keys.run();
        let Some(own) = entries.iter().find(|entry| entry.key.ends_with(&format!("-{run}"))) else { return };
        let reference = own.reference.clone();
        for old in entries.iter().filter(|entry| entry.reference == reference).skip(KEPT) {
            if rest.remove(&http, old.id).await.is_err() {
                return;
            }
        }
    }

    fn is_ours(&self, entry: &rest::Entry) -> bool {
        entry.version.is_empty() || entry.version == self.api.version
    }
}

fn version(salt: &str) -> String {
    let digest = Sha256::new().chain_update(FORMAT).chain_update([0]).chain_update(salt).finalize();
    digest.iter().fold(String::with_capacity(64), |text, byte| format!("{text}{byte:02x}"))
}

#[async_trait]
impl Store for Gha {
    fn place(&self) -> String {
        self.http().place().to_owned()
    }

    async fn has_pack(&self, id: &PackId) -> Result<bool> {
        Ok(self.find(&Wanted::Pack(id)).await?.is_some())
    }

    async fn put_pack(&self, id: &PackId, bytes: Bytes) -> Result<Put> {
        if self.put(&self.keys.pack(id), bytes.clone()).await?.is_ok() {
            return Ok(Put::Stored);
        }
        if self.appears(Wanted::Pack(id)).await? {
            return Ok(Put::AlreadyThere);
        }
        self.put_anew(&self.keys.pack_again(id), bytes).await?;
        Ok(Put::Stored)
    }

    async fn pack(&self, id: &PackId, size: u64) -> Result<Option<Bytes>> {
        self.get(Wanted::Pack(id), Some(size)).await
    }

    async fn put_snapshot(&self, series: &Series, bytes: Bytes, _packs: &[(PackId, u64)]) -> Result<Put> {
        self.put_anew(&self.keys.series(series), bytes).await?;
        self.remove_superseded(series).await;
        Ok(Put::Stored)
    }

    async fn snapshot(&self, series: &Series) -> Result<Option<Bytes>> {
        self.get(Wanted::Snapshot(series), None).await
    }

    /// What the ref of the options has written; `None` without the general API.
    async fn list(&self) -> Result<Option<Vec<Listed>>> {
        let Some(rest) = &self.rest else { return Ok(None) };
        let entries = rest.list(self.http(), &self.keys.all()).await?;
        let ours = entries.iter().filter(|entry| self.is_ours(entry));
        let listed = ours.filter_map(|entry| {
            let what = self.keys.read(&entry.key)?;
            Some(Listed { what, size: entry.size_in_bytes, written: entry.written() })
        });
        Ok(Some(listed.collect()))
    }

    async fn remove(&self, what: &Object) -> Result<()> {
        let Some(rest) = &self.rest else {
            let reason = "the token of a run cannot; set GITHUB_TOKEN, with the permission `actions: write`";
            return Err(self.http().denied("remove", reason));
        };
        let prefix = match what {
            Object::Pack(id) => self.keys.pack(id),
            Object::Snapshot { series, version } => format!("{}{version}", self.keys.series(series)),
            Object::Debris { path } => path.clone(),
        };
        for entry in rest.list(self.http(), &prefix).await? {
            let is_it = match what {
                Object::Pack(id) => self.keys.read(&entry.key) == Some(Object::Pack(*id)),
                _ => entry.key == prefix,
            };
            if is_it && self.is_ours(&entry) {
                rest.remove(self.http(), entry.id).await?;
            }
        }
        Ok(())
    }
}
