//! Gitea and Forgejo. Source: the API's own description, `/api/swagger`, of both.
//!
//! A tag has one release, be it a draft or not. Files have no sums, and two can have the same name, so what an earlier run
//! sent is read to know whether it is whole. A file is sent as a form, which every version takes.

use async_trait::async_trait;
use bytes::Bytes;
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

/// Releases of a page: servers give no more, unless they are set up to.
const PAGE: usize = 50;
/// What separates the parts of a form: no file that is summed by its length needs another one.
const BOUNDARY: &str = "kiln-7d1f0b6a95c24e38-release";

pub(super) struct Gitea {
    http: Http,
    place: Place,
    token: Token,
}

#[derive(Deserialize)]
struct GiteaRelease {
    id: u64,
    tag_name: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    body: String,
    draft: bool,
    prerelease: bool,
    #[serde(default)]
    target_commitish: String,
    html_url: String,
}

#[derive(Deserialize)]
struct Attachment {
    id: u64,
    name: String,
    size: u64,
    browser_download_url: String,
}

#[derive(Deserialize)]
struct Tag {
    commit: TagCommit,
}

#[derive(Deserialize)]
struct TagCommit {
    sha: String,
}

impl From<Attachment> for Asset {
    fn from(attachment: Attachment) -> Self {
        Self {
            id: attachment.id.to_string(),
            name: attachment.name,
            size: attachment.size,
            complete: true,
            digest: None,
            url: attachment.browser_download_url,
            shown: true,
        }
    }
}

impl Gitea {
    pub(super) fn new(http: Http, place: Place, token: Token) -> Self {
        Self { http, place, token }
    }

    fn address(&self, path: &str) -> String {
        format!("{}/repos/{}{path}", self.place.api, escaped_path(&self.place.repository))
    }

    fn request(&self, client: &Client, method: Method, address: &str) -> RequestBuilder {
        self.token.sign(client.request(method, address).header("accept", "application/json"))
    }

    fn release(&self, found: GiteaRelease, wanted: &Wanted) -> Release {
        let text_is_same = found.name == wanted.title
            && found.body.replace("\r\n", "\n") == wanted.notes
            && found.prerelease == wanted.prerelease
            && found.target_commitish == wanted.commit;
        let id = found.id.to_string();
        let upload = self.address(&format!("/releases/{id}/assets"));
        Release { id, url: found.html_url, upload, draft: found.draft, text_is_same, assets: Vec::new() }
    }

    fn json(request: RequestBuilder, wanted: &Wanted, draft: bool) -> RequestBuilder {
        let text = json!({
            "tag_name": wanted.tag, "target_commitish": wanted.commit, "name": wanted.title, "body": wanted.notes,
            "draft": draft, "prerelease": wanted.prerelease,
        });
        request.header("content-type", "application/json").body(text.to_string())
    }

    async fn patch(&self, action: &str, release: &Release, wanted: &Wanted, draft: bool) -> Result<GiteaRelease> {
        let address = self.address(&format!("/releases/{}", release.id));
        let make = |client: &Client| Self::json(self.request(client, Method::PATCH, &address), wanted, draft);
        self.http.json(action, &self.http.ask(action, make).await?)
    }
}

#[async_trait]
impl Forge for Gitea {
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

    fn left(&self, release: &Release) -> String {
        format!("the draft {}", release.url)
    }

    fn requests(&self, step: &Step, wanted: &Wanted) -> Vec<String> {
        let releases = self.address("/releases");
        match step {
            Step::Create => vec![format!("POST {releases} (draft)")],
            Step::Upload { file } => {
                vec![format!("POST {releases}/ID/assets?name={}", escaped(&wanted.files[*file].name))]
            }
            Step::Remove { id, .. } => vec![format!("DELETE {releases}/ID/assets/{id}")],
            Step::Check => vec![format!("GET {releases}/ID/assets")],
            Step::Update => vec![format!("PATCH {releases}/ID")],
            Step::Publish => vec![format!("PATCH {releases}/ID (draft: false)")],
            Step::Keep { .. } => Vec::new(),
        }
    }

    async fn tag(&self, tag: &str) -> Result<Option<String>> {
        let action = "look for the tag";
        let answer = self.get(action, &format!("/tags/{}", escaped_path(tag))).await?;
        if answer.status.as_u16() == 404 {
            return Ok(None);
        }
        Ok(Some(self.http.json::<Tag>(action, &answer)?.commit.sha))
    }

    async fn find(&self, wanted: &Wanted) -> Result<Option<Release>> {
        let action = "look for the release";
        let is_it = |release: &GiteaRelease| release.tag_name == wanted.tag;
        let address = |page: usize| self.address(&format!("/releases?limit={PAGE}&page={page}"));
        let make = |client: &Client, page: usize| self.request(client, Method::GET, &address(page));
        // A server may give fewer than it is asked for: the list ends where a page is empty.
        let found: Vec<GiteaRelease> = self.http.list(action, 1, make, is_it).await?;
        let Some(found) = found.into_iter().find(is_it) else { return Ok(None) };
        let mut release = self.release(found, wanted);
        release.assets = self.assets(&release, wanted).await?;
        Ok(Some(release))
    }

    async fn assets(&self, release: &Release, _: &Wanted) -> Result<Vec<Asset>> {
        let action = "list the files of the release";
        let answer = self.get(action, &format!("/releases/{}/assets", release.id)).await?;
        let assets: Vec<Attachment> = self.http.json(action, &answer)?;
        Ok(assets.into_iter().map(Asset::from).collect())
    }

    async fn create(&self, wanted: &Wanted, action: &str) -> Result<Release, Attempt> {
        let request = self.request(self.http.client(), Method::POST, &self.address("/releases"));
        let answer = self.http.once(Self::json(request, wanted, true)).await?;
        if answer.status.as_u16() == 409 {
            return Err(Trouble::Taken(self.http.said(&answer)).into());
        }
        Ok(self.release(self.http.json(action, &answer)?, wanted))
    }

    async fn upload(&self, release: &Release, _: &Wanted, file: &LocalFile, action: &str) -> Result<Asset, Attempt> {
        let address = format!("{}?name={}", release.upload, escaped(&file.name));
        let request = self.request(self.http.client(), Method::POST, &address);
        let request = request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
        let before = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"attachment\"; filename=\"{}\"\r\n\
             content-type: {}\r\n\r\n",
            file.name.replace(['"', '\\', '\r', '\n'], "_"),
            media_type(&file.name)
        );
        let payload = Payload {
            path: file.path.clone(),
            size: file.size,
            sha256: file.sha256,
            before: Bytes::from(before),
            after: Bytes::from(format!("\r\n--{BOUNDARY}--\r\n")),
        };
        let answer = self.http.send(request, file, &payload).await?;
        Ok(self.http.json::<Attachment>(action, &answer)?.into())
    }

    async fn remove(&self, release: &Release, id: &str, name: &str) -> Result<()> {
        let action = format!("remove {name}");
        let address = self.address(&format!("/releases/{}/assets/{id}", release.id));
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
        Ok(self.patch("publish the release", release, wanted, false).await?.html_url)
    }

    async fn digest(&self, asset: &Asset) -> Result<Sha256> {
        let action = format!("read {}", asset.name);
        self.http.digest(&action, &asset.url, |request| self.token.sign(request)).await
    }
}
