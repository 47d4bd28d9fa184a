//! GitHub's general API, as far as it lists and removes caches.

use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::http::{Answer, Http};
use super::options::RestOptions;
use crate::error::{CacheError, Result};
use crate::secret::Secret;

/// Entries of a page, and pages that are read at most.
const PAGE: usize = 100;
const PAGES: usize = 200;

/// The API, for the caches of one repository.
pub(super) struct Rest {
    caches: Url,
    token: Secret,
    reference: Option<String>,
}

/// An entry of the cache as the API tells of it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) key: String,
    #[serde(default)]
    pub(super) version: String,
    #[serde(default, rename = "ref")]
    pub(super) reference: String,
    #[serde(default)]
    pub(super) size_in_bytes: u64,
    #[serde(default)]
    created_at: String,
}

impl Entry {
    /// When it was written, in seconds since 1970; 0 if that cannot be read.
    pub(super) fn written(&self) -> u64 {
        seconds(&self.created_at).unwrap_or(0)
    }
}

#[derive(Deserialize)]
struct Page {
    actions_caches: Vec<Entry>,
}

impl Rest {
    pub(super) fn new(options: &RestOptions) -> Result<Self> {
        let wrong = |problem: &str| CacheError::BadAddress {
            text: "type=gha".to_owned(),
            problem: problem.to_owned(),
            hint: "leave GITHUB_API_URL and GITHUB_REPOSITORY as GitHub sets them".to_owned(),
        };
        let mut caches = Url::parse(&options.api_url).map_err(|_| wrong("the address of the API is none"))?;
        let (owner, name) =
            options.repository.split_once('/').ok_or_else(|| wrong("the repository is not owner/name"))?;
        caches
            .path_segments_mut()
            .map_err(|()| wrong("the address of the API is none"))?
            .pop_if_empty()
            .extend(["repos", owner, name, "actions", "caches"]);
        Ok(Self { caches, token: options.token.clone(), reference: options.reference.clone() })
    }

    /// The entries whose keys begin with `prefix`, oldest first.
    pub(super) async fn list(&self, http: &Http, prefix: &str) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for page in 1..=PAGES {
            let mut url = self.caches.clone();
            url.query_pairs_mut()
                .append_pair("key", prefix)
                .append_pair("per_page", &PAGE.to_string())
                .append_pair("page", &page.to_string())
                // The order in which pages do not shift when others read or write meanwhile.
                .append_pair("sort", "created_at")
                .append_pair("direction", "asc");
            if let Some(reference) = &self.reference {
                url.query_pairs_mut().append_pair("ref", reference);
            }
            let answer = self.ask(http, Method::GET, &url).await?;
            if answer.status != StatusCode::OK {
                return Err(refused(http, "list", &answer));
            }
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|error| http.odd(format!("its list of caches cannot be read: {error}")))?;
            let is_last = page.actions_caches.len() < PAGE;
            entries.extend(page.actions_caches);
            if is_last {
                break;
            }
        }
        Ok(entries)
    }

    /// Removes an entry. One that is not there is no error.
    pub(super) async fn remove(&self, http: &Http, id: u64) -> Result<()> {
        let mut url = self.caches.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(&id.to_string());
        }
        let answer = self.ask(http, Method::DELETE, &url).await?;
        // Nothing else is success: whatever stands between may answer with a page.
        if matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_FOUND) {
            return Ok(());
        }
        Err(refused(http, "remove", &answer))
    }

    async fn ask(&self, http: &Http, method: Method, url: &Url) -> Result<Answer> {
        http.ask(|client, _| {
            client
                .request(method.clone(), url.clone())
                .bearer_auth(self.token.reveal())
                .header(ACCEPT, "application/vnd.github+json")
                .header("x-github-api-version", "2022-11-28")
        })
        .await
    }
}

fn refused(http: &Http, action: &'static str, answer: &Answer) -> CacheError {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Problem {
        message: String,
    }
    let Problem { message } = serde_json::from_slice(&answer.body).unwrap_or_default();
    let reason = format!("{}: {message}", answer.status);
    match answer.status.as_u16() {
        // Without the permission, a repository is as good as not there.
        401 | 403 | 404 => http.denied(action, &format!("{reason}; its token needs the permission `actions: write`")),
        _ => http.odd(reason),
    }
}

/// Reads `2026-05-12T18:00:00.123456Z`, which is how GitHub writes times.
fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |text: Option<&str>| text?.parse::<u64>().ok();
    let mut date = date.split('-');
    let (year, month, day) = (number(date.next())?, number(date.next())?, number(date.next())?);
    let mut time = time.split('.').next()?.split(':');
    let (hours, minutes, seconds) = (number(time.next())?, number(time.next())?, number(time.next())?);
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from 1970 on, by Howard Hinnant's civil calendar: years start in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = y / 400;
    let of_era = y % 400;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hours.min(23) * 3600 + minutes.min(59) * 60 + seconds.min(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_api_are_read() {
        assert_eq!(seconds("1994-11-06T08:49:37Z"), Some(784_111_777));
        assert_eq!(seconds("2024-02-29T12:00:00.1234567Z"), Some(1_709_208_000));
        for bad in ["", "yesterday", "2024-02-29", "2024-13-01T00:00:00Z", "2024-02-29T12:00Z"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_address_of_an_api_below_a_path_is_kept() {
        let options = |api_url: &str, repository: &str| RestOptions {
            api_url: api_url.to_owned(),
            repository: repository.to_owned(),
            token: Secret::default(),
            reference: None,
        };
        for url in ["https://ghe.example/api/v3", "https://ghe.example/api/v3/"] {
            let rest = Rest::new(&options(url, "me/it")).expect("an address");
            assert_eq!(rest.caches.as_str(), "https://ghe.example/api/v3/repos/me/it/actions/caches");
        }
        assert!(Rest::new(&options("https://x", "me")).is_err());
        assert!(Rest::new(&options("nowhere", "me/it")).is_err());
    }
}
