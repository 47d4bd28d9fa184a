//! What a registry has: blobs, tags, and how manifests are taken away.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderMap, LINK, LOCATION};
use hyper::{Method, Response, StatusCode};

use super::{ANSWER_TIMEOUT, Content, Registry, RegistryError, Result};

/// Servers that a blob's request is sent on to, one after the other.
const MOST_REDIRECTS: usize = 5;
/// Pages of a list of tags.
const MOST_PAGES: usize = 1000;

#[derive(serde::Deserialize)]
struct Tags {
    /// Null where there are none.
    tags: Option<Vec<String>>,
}

impl Registry {
    /// A blob of at most `limit` bytes; `None` if there is none. The bytes are as they came: the caller checks them.
    ///
    /// # Errors
    /// If it is larger, or the registry refuses or cannot be reached.
    pub async fn blob(&self, repository: &str, digest: &str, limit: u64) -> Result<Option<Bytes>> {
        let mut url = format!("/v2/{repository}/blobs/{digest}");
        // Large registries keep blobs elsewhere.
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send(Method::GET, &url, repository, &HeaderMap::new(), &Content::Nothing).await?;
            match response.status() {
                StatusCode::OK => return self.limited(response, limit).await.map(Some),
                StatusCode::NOT_FOUND => return Ok(None),
                status if status.is_redirection() => {
                    let to = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                    url = to.map(|to| onwards(&url, to)).ok_or_else(|| self.lost(status))?;
                }
                _ => return Err(self.refused("reading a blob", repository, response).await),
            }
        }
        Err(self.lost(StatusCode::LOOP_DETECTED))
    }

    fn lost(&self, status: StatusCode) -> RegistryError {
        self.failed("reading a blob", status.as_u16(), "it sends the request on, but to no place".to_owned())
    }

    async fn limited(&self, response: Response<Incoming>, limit: u64) -> Result<Bytes> {
        let wrong = |message: &str| self.failed("reading a blob", 200, message.to_owned());
        let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit) {
            return Err(wrong("it is larger than it should be"));
        }
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        loop {
            let broken =
                |source: String| RegistryError::Unreachable { registry: self.name.clone(), source: source.into() };
            let next = within(ANSWER_TIMEOUT, body.frame()).await.map_err(broken)?;
            let Some(frame) = next else { return Ok(bytes.freeze()) };
            let Ok(data) = frame.map_err(|error| broken(error.to_string()))?.into_data() else { continue };
            if (bytes.len() + data.len()) as u64 > limit {
                return Err(wrong("it is larger than it should be"));
            }
            bytes.extend_from_slice(&data);
        }
    }

    /// All tags of a repository; none if there is no such repository.
    pub async fn tags(&self, repository: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut next = Some(format!("/v2/{repository}/tags/list?n=1000"));
        for _ in 0..MOST_PAGES {
            let Some(url) = next else { break };
            let response = self.send(Method::GET, &url, repository, &HeaderMap::new(), &Content::Nothing).await?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => break,
                _ => return Err(self.refused("listing tags", repository, response).await),
            }
            let link = response.headers().get(LINK).and_then(|value| value.to_str().ok());
            next = link.and_then(next_page).map(|to| onwards(&url, to));
            let body = self.body(response).await?;
            let tags: Tags =
                serde_json::from_slice(&body).map_err(|error| self.failed("listing tags", 200, error.to_string()))?;
            found.extend(tags.tags.unwrap_or_default());
        }
        Ok(found)
    }

    /// Takes a manifest away, and with it all tags that name it; false if there was none.
    ///
    /// # Errors
    /// Registries need not be able to: 405 is what they say then.
    pub async fn delete_manifest(&self, repository: &str, digest: &str) -> Result<bool> {
        let path = format!("/v2/{repository}/manifests/{digest}");
        let response = self.send(Method::DELETE, &path, repository, &HeaderMap::new(), &Content::Nothing).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(self.refused(&format!("removing the manifest {digest}"), repository, response).await),
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(limit, work).await.map_err(|_| "it stopped answering".to_owned())
}

/// Where `to` leads, which is a URL or a path of the same server.
fn onwards(from: &str, to: &str) -> String {
    let server = from.find("://").and_then(|scheme| from[scheme + 3..].find('/').map(|at| &from[..scheme + 3 + at]));
    match server {
        Some(server) if to.starts_with('/') => format!("{server}{to}"),
        _ => to.to_owned(),
    }
}

/// The URL in `<URL>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let (url, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_goes_on() {
        for (from, to, expected) in [
            ("/v2/a/blobs/x", "/other", "/other"),
            ("/v2/a/blobs/x", "https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
            ("https://cdn.example/x", "/y", "https://cdn.example/y"),
            ("https://cdn.example", "/y", "/y"),
        ] {
            assert_eq!(onwards(from, to), expected, "{from} {to}");
        }
        assert_eq!(next_page(r#"</v2/a/tags/list?n=1&last=b>; rel="next""#), Some("/v2/a/tags/list?n=1&last=b"));
        assert_eq!(next_page("nothing"), None);
    }
}
