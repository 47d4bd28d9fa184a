//! Bytes of entries, which lie in Azure's blob storage behind signed addresses.
//!
//! What fits is uploaded with one `PUT` (Put Blob); what does not, in blocks side by side (Put Block), and then the list
//! of blocks (Put Block List). Nothing can be read before the cache service has been told that all is there.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{StatusCode, Url};

use super::api::Signed;
use super::http::{Http, Pace, Paced};
use crate::error::Result;

/// Blocks that are sent side by side.
const SIDE_BY_SIDE: usize = 4;
/// Bytes of an entry at most: what is larger was not written by kiln.
const MOST: u64 = 4 * 1024 * 1024 * 1024;

/// How much is sent with one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) single: usize,
    pub(super) block: usize,
}

/// What became of a download.
pub(super) enum Got {
    /// All bytes.
    Bytes(Bytes),
    /// The address is good no more, or was not from the beginning.
    Expired(StatusCode),
    /// Nothing is there.
    Gone,
}

/// Uploads all bytes.
pub(super) async fn put(http: &Http, to: &Signed, bytes: Bytes, sizes: Sizes) -> Result<()> {
    if bytes.len() <= sizes.single {
        return send(http, to.url(), bytes, &[("x-ms-blob-type", "BlockBlob")]).await;
    }
    let block = sizes.block.max(1);
    let parts = (0..bytes.len()).step_by(block).map(|at| bytes.slice(at..bytes.len().min(at + block)));
    let blocks: Vec<(String, Bytes)> = parts.enumerate().map(|(at, part)| (block_id(at), part)).collect();
    let list = block_list(&blocks);
    stream::iter(blocks)
        .map(|(id, part)| async move {
            let mut url = to.url().clone();
            url.query_pairs_mut().append_pair("comp", "block").append_pair("blockid", &id);
            send(http, &url, part, &[]).await
        })
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect::<()>()
        .await?;
    let mut url = to.url().clone();
    url.query_pairs_mut().append_pair("comp", "blocklist");
    send(http, &url, list, &[(CONTENT_TYPE.as_str(), "application/xml")]).await
}

async fn send(http: &Http, url: &Url, bytes: Bytes, headers: &[(&'static str, &'static str)]) -> Result<()> {
    let make = |client: &reqwest::Client, pace: &Arc<Pace>| {
        // Azure wants to be told the length, also of nothing.
        let request =
            client.put(url.clone()).header(CONTENT_LENGTH, bytes.len()).body(Paced::body(bytes.clone(), pace));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let answer = http.ask(make).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    Err(http.odd(format!("the storage does not take an upload: {}{}", answer.status, code(&answer.headers))))
}

/// Downloads an entry, of which `size` is known or not. `what` is for messages.
pub(super) async fn get(http: &Http, from: &Signed, size: Option<u64>, what: &str) -> Result<Got> {
    let mut tries = http.tries(what);
    loop {
        let pace = Pace::new(http.limits().timeout);
        let response = match http.send(http.client().get(from.url().clone()), &pace).await {
            Ok(response) => response,
            Err(trouble) => {
                tries.again(trouble).await?;
                continue;
            }
        };
        match response.status().as_u16() {
            200 => {}
            401 | 403 | 410 => return Ok(Got::Expired(response.status())),
            404 => return Ok(Got::Gone),
            _ => {
                let (status, code) = (response.status(), code(response.headers()));
                return Err(http.odd(format!("the storage does not give {what}: {status}{code}")));
            }
        }
        match http.body(response, &pace, size, MOST).await {
            Ok(bytes) => return Ok(Got::Bytes(bytes)),
            Err(trouble) => tries.again(trouble).await?,
        }
    }
}

/// What Azure calls the reason of an answer.
fn code(headers: &HeaderMap) -> String {
    let code = headers.get("x-ms-error-code").and_then(|code| code.to_str().ok());
    code.map_or_else(String::new, |code| format!(" ({code})"))
}

/// The names of all blocks of a blob have one length.
fn block_id(at: usize) -> String {
    STANDARD.encode(format!("kiln-block-{at:019}"))
}

fn block_list(blocks: &[(String, Bytes)]) -> Bytes {
    let mut list = r#"<?xml version="1.0" encoding="utf-8"?><BlockList>"#.to_owned();
    for (id, _) in blocks {
        // Writing to a string does not fail.
        let _ = write!(list, "<Latest>{id}</Latest>");
    }
    list.push_str("</BlockList>");
    list.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_blocks_have_one_length_and_tell_apart() {
        let ids = [0, 1, 9, 10, 49_999].map(block_id);
        assert!(ids.iter().all(|id| id.len() == ids[0].len() && id.len() <= 64), "{ids:?}");
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
        let list = block_list(&[(ids[0].clone(), Bytes::new()), (ids[1].clone(), Bytes::new())]);
        let text = String::from_utf8(list.to_vec()).expect("text");
        assert!(text.contains(&format!("<Latest>{}</Latest><Latest>{}</Latest>", ids[0], ids[1])), "{text}");
    }
}
