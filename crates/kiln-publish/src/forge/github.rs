//! GitHub, and GitHub Enterprise. Sources: "REST API endpoints for releases", "... for release assets", "... for Git
//! references", "Best practices for using the REST API".
//!
//! A release is found by its tag once it is published; drafts are in the list alone, for those who may write. The tag is made
//! when a draft is published. An upload that breaks off leaves a file in the state `starter`, whose name is taken. Since 2025
//! a file has a `digest`, before that (and on older Enterprise servers) it has none.

use async_trait::async_trait;
use kiln_artifact::checksum::Sha256;
use reqwest::{Client, Method, RequestBuilder};
use serde::Deserialize;
use serde_json::json;

use super::{Forge, escaped, escaped_path, media_type};
use crate::body::Payload;
use crate::error::Result;
use crate::http::{Answer, Attempt, Http, Trouble};
use crate::model::{Asset, LocalFile, Release, Wanted};
use crate::place::{Place, Token};
use crate::plan::Step;

/// Releases and files of a page.
const PAGE: usize = 100;
/// The version of the API that this is written for.
const VERSION: &str = "2022-11-28";

pub(super) struct Github {
    http: Http,
    place: Place,
    token: Token,
}

#[derive(Deserialize)]
struct GithubRelease {
    id: u64,
    tag_name: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    body: Option<String>,
    draft: bool,
    prerelease: bool,
    #[serde(default)]
    target_commitish: String,
    html_url: String,
    upload_url: String,
}

#[derive(Deserialize)]
struct GithubAsset {
    id: u64,
    url: String,
    name: String,
    size: u64,
    state: String,
    #[serde(default)]
    digest: Option<String>,
}

#[derive(Deserialize)]
struct Reference {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    sha: String,
    #[serde(rename = "type")]
    kind: String,
}

impl From<GithubAsset> for Asset {
    fn from(asset: GithubAsset) -> Self {
        Self {
            id: asset.id.to_string(),
            name: asset.name,
            size: asset.size,
            complete: asset.state == "uploaded",
            digest: asset.digest.and_then(|digest| digest.strip_prefix("sha256:")?.parse().ok()),
            url: asset.url,
            shown: true,
        }
    }
}

impl Github {
    pub(super) fn new(http: Http, place: Place, token: Token) -> Self {
        Self { http, place, token }
    }

    /// An address of the repository.
    fn address(&self, path: &str) -> String {
        format!("{}/repos/{}{path}", self.place.api, escaped_path(&self.place.repository))
    }

    fn request(&self, client: &Client, method: Method, address: &str) -> RequestBuilder {
        let request = client.request(method, address).header("accept", "application/vnd.github+json");
        self.signed(request)
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header("x-github-api-version", VERSION);
        self.token.sign(request)
    }

    async fn with_assets(&self, found: GithubRelease, wanted: &Wanted) -> Result<Release> {
        let mut release = Self::release(found, wanted);
        release.assets = self.assets(&release, wanted).await?;
        Ok(release)
    }

    fn release(found: GithubRelease, wanted: &Wanted) -> Release {
        let text_is_same = found.name.as_deref() == Some(wanted.title.as_str())
            && found.body.unwrap_or_default().replace("\r\n", "\n") == wanted.notes
            && found.prerelease == wanted.prerelease
            && found.target_commitish == wanted.commit;
        // `https://host/path{?name,label}`
        let upload = found.upload_url.split('{').next().unwrap_or_default().to_owned();
        let id = found.id.to_string();
        Release { id, url: found.html_url, upload, draft: found.draft, text_is_same, assets: Vec::new() }
    }

    fn text(wanted: &Wanted, draft: bool) -> serde_json::Value {
        let mut text = json!({
            "tag_name": wanted.tag, "target_commitish": wanted.commit, "name": wanted.title, "body": wanted.notes,
            "draft": draft, "prerelease": wanted.prerelease,
        });
        if !draft {
            // The highest version is the latest one, and not the one that was made last.
            text["make_latest"] = json!(if wanted.prerelease { "false" } else { "legacy" });
        }
        text
    }

    async fn patch(&self, action: &str, release: &Release, wanted: &Wanted, draft: bool) -> Result<GithubRelease> {
        let address = self.address(&format!("/releases/{}", release.id));
        let text = Self::text(wanted, draft).to_string();
        let make = |client: &Client| self.request(client, Method::PATCH, &address).body(text.clone());
        self.http.json(action, &self.http.ask(action, make).await?)
    }
}

/// Whether GitHub says that something of this name is there.
fn is_taken(answer: &Answer) -> bool {
    answer.status.as_u16() == 422 && String::from_utf8_lossy(&answer.body).contains("already_exists")
}

#[async_trait]
impl Forge for Github {
    fn http(&self) -> &Http {
        &self.http
    }

    async fn get(&self, action: &str, path: &str) -> Result<Answer> {
        self.http.ask(action, |client| self.request(client, Method::GET, &self.address(path))).await
    }

    fn has_drafts(&self) -> bool {
        true
    }

    fn at_once(&self) -> usize {
        3
    }

    /// GitHub renames files whose names have other characters. Source: "Upload a release asset", notes.
    fn asset_name(&self, name: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+@".contains(c);
        let name: String = name.chars().map(|c| if plain(c) { c } else { '.' }).collect();
        name.trim_matches('.').to_owned()
    }

    fn left(&self, release: &Release) -> String {
        format!("the draft {}", release.url)
    }

    fn requests(&self, step: &Step, wanted: &Wanted) -> Vec<String> {
        let releases = self.address("/releases");
        match step {
            Step::Create => vec![format!("POST {releases} (draft)")],
            Step::Upload { file } => {
                let name = self.asset_name(&wanted.files[*file].name);
                vec![format!("POST {}/ID/assets?name={}", self.place.uploads(), escaped(&name))]
            }
            Step::Remove { id, .. } => vec![format!("DELETE {releases}/assets/{id}")],
            Step::Check => vec![format!("GET {releases}/ID/assets")],
            Step::Update => vec![format!("PATCH {releases}/ID")],
            Step::Publish => vec![format!("PATCH {releases}/ID (draft: false)")],
            Step::Keep { .. } => Vec::new(),
        }
    }

    async fn tag(&self, tag: &str) -> Result<Option<String>> {
        let action = "look for the tag";
        let answer = self.get(action, &format!("/git/ref/tags/{}", escaped_path(tag))).await?;
        if answer.status.as_u16() == 404 {
            return Ok(None);
        }
        let mut object = self.http.json::<Reference>(action, &answer)?.object;
        // A tag with a message is an object of its own, which may be tagged again.
        while object.kind == "tag" {
            let answer = self.get(action, &format!("/git/tags/{}", object.sha)).await?;
            object = self.http.json::<Reference>(action, &answer)?.object;
        }
        Ok(Some(object.sha))
    }

    async fn find(&self, wanted: &Wanted) -> Result<Option<Release>> {
        let action = "look for the release";
        let answer = self.get(action, &format!("/releases/tags/{}", escaped_path(&wanted.tag))).await?;
        if answer.status.as_u16() != 404 {
            let found: GithubRelease = self.http.json(action, &answer)?;
            return self.with_assets(found, wanted).await.map(Some);
        }
        let is_it = |release: &GithubRelease| release.tag_name == wanted.tag;
        let address = |page: usize| self.address(&format!("/releases?per_page={PAGE}&page={page}"));
        let make = |client: &Client, page: usize| self.request(client, Method::GET, &address(page));
        let found: Vec<GithubRelease> = self.http.list(action, PAGE, make, is_it).await?;
        match found.into_iter().find(is_it) {
            Some(found) => self.with_assets(found, wanted).await.map(Some),
            None => Ok(None),
        }
    }

    async fn assets(&self, release: &Release, _: &Wanted) -> Result<Vec<Asset>> {
        let path = |page: usize| format!("/releases/{}/assets?per_page={PAGE}&page={page}", release.id);
        let make = |client: &Client, page: usize| self.request(client, Method::GET, &self.address(&path(page)));
        let assets: Vec<GithubAsset> = self.http.list("list the files of the release", PAGE, make, |_| false).await?;
        Ok(assets.into_iter().map(Asset::from).collect())
    }

    async fn create(&self, wanted: &Wanted, action: &str) -> Result<Release, Attempt> {
        let request = self.request(self.http.client(), Method::POST, &self.address("/releases"));
        let answer = self.http.once(request.body(Self::text(wanted, true).to_string())).await?;
        if is_taken(&answer) {
            return Err(Trouble::Taken(self.http.said(&answer)).into());
        }
        Ok(Self::release(self.http.json(action, &answer)?, wanted))
    }

    async fn upload(&self, release: &Release, _: &Wanted, file: &LocalFile, action: &str) -> Result<Asset, Attempt> {
        let address = format!("{}?name={}", release.upload, escaped(&self.asset_name(&file.name)));
        let request = self.request(self.http.client(), Method::POST, &address);
        let request = request.header("content-type", media_type(&file.name));
        let payload = Payload {
            path: file.path.clone(),
            size: file.size,
            sha256: file.sha256,
            before: bytes::Bytes::new(),
            after: bytes::Bytes::new(),
        };
        let answer = self.http.send(request, file, &payload).await?;
        if is_taken(&answer) {
            return Err(Trouble::Taken(self.http.said(&answer)).into());
        }
        Ok(self.http.json::<GithubAsset>(action, &answer)?.into())
    }

    async fn remove(&self, _: &Release, id: &str, name: &str) -> Result<()> {
        let action = format!("remove {name}");
        let address = self.address(&format!("/releases/assets/{id}"));
        let answer = self.http.ask(&action, |client| self.request(client, Method::DELETE, &address)).await?;
        match answer.status.as_u16() {
            204 | 404 => Ok(()),
            _ => Err(self.http.failure(&action, &answer)),
        }
    }

    async fn update(&self, release: &Release, wanted: &Wanted) -> Result<()> {
        self.patch("change the draft", release, wanted, true).await.map(drop)
    }

    async fn publish(&self, release: &Release, wanted: &Wanted) -> Result<String> {
        let published = self.patch("publish the release", release, wanted, false).await?;
        Ok(published.html_url)
    }

    async fn digest(&self, asset: &Asset) -> Result<Sha256> {
        let action = format!("read {}", asset.name);
        let make = |request: RequestBuilder| self.signed(request.header("accept", "application/octet-stream"));
        self.http.digest(&action, &asset.url, make).await
    }
}
