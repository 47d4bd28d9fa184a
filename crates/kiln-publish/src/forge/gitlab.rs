//! GitLab. Sources: "GitLab generic packages repository", "Packages API", "Releases API", "Release links API".
//!
//! GitLab has no drafts: files go into a package, which is no release yet, and the release with links to them is made last,
//! in one request. Files of a package are sent one at a time, as the documentation demands. A job's token may use packages
//! and releases, but not look at commits and tags; what a pipeline runs for is there.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use kiln_artifact::checksum::Sha256;
use reqwest::{Client, Method, RequestBuilder};
use serde::Deserialize;
use serde_json::json;

use super::{Forge, escaped, media_type};
use crate::body::Payload;
use crate::error::Result;
use crate::http::{Answer, Attempt, Http};
use crate::model::{Asset, LocalFile, Release, Wanted};
use crate::place::{Place, Token};
use crate::plan::Step;

/// Entries of a page.
const PAGE: usize = 100;

pub(super) struct Gitlab {
    http: Http,
    place: Place,
    token: Token,
}

#[derive(Deserialize)]
struct GitlabRelease {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(rename = "_links", default)]
    links: Links,
    #[serde(default)]
    assets: Assets,
}

#[derive(Default, Deserialize)]
struct Links {
    #[serde(rename = "self", default)]
    page: String,
}

#[derive(Default, Deserialize)]
struct Assets {
    #[serde(default)]
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    id: u64,
    name: String,
    url: String,
}

#[derive(Deserialize)]
struct Package {
    id: u64,
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct PackageFile {
    id: u64,
    package_id: u64,
    file_name: String,
    size: u64,
    #[serde(default)]
    file_sha256: Option<String>,
}

/// What an upload is answered with.
#[derive(Deserialize)]
struct Received {
    id: u64,
    package_id: u64,
    size: u64,
    #[serde(default)]
    file_sha256: Option<String>,
}

#[derive(Deserialize)]
struct Tag {
    commit: TagCommit,
}

#[derive(Deserialize)]
struct TagCommit {
    id: String,
}

impl Gitlab {
    pub(super) fn new(http: Http, place: Place, token: Token) -> Self {
        Self { http, place, token }
    }

    fn address(&self, path: &str) -> String {
        format!("{}/projects/{}{path}", self.place.api, escaped(&self.place.repository))
    }

    /// Where the files of the package are. Source for what versions may be: "Generic packages", valid version format.
    fn package(&self, wanted: &Wanted) -> String {
        self.address(&format!("/packages/generic/{}/{}", escaped(&wanted.package), escaped(&package_version(wanted))))
    }

    fn file_address(&self, wanted: &Wanted, name: &str) -> String {
        format!("{}/{}", self.package(wanted), escaped(name))
    }

    fn request(&self, client: &Client, method: Method, address: &str) -> RequestBuilder {
        self.token.sign(client.request(method, address))
    }

    fn json(request: RequestBuilder, value: &serde_json::Value) -> RequestBuilder {
        request.header("content-type", "application/json").body(value.to_string())
    }

    fn link(&self, wanted: &Wanted, name: &str) -> serde_json::Value {
        json!({
            "name": name, "url": self.file_address(wanted, name), "direct_asset_path": format!("/{name}"),
            "link_type": "package",
        })
    }

    async fn release(&self, wanted: &Wanted) -> Result<Option<GitlabRelease>> {
        let action = "look for the release";
        let answer = self.get(action, &format!("/releases/{}", escaped(&wanted.tag))).await?;
        if answer.status.as_u16() == 404 { Ok(None) } else { self.http.json(action, &answer).map(Some) }
    }

    /// The files of the package, if there is one; `links` are what the page of the release shows.
    async fn files(&self, wanted: &Wanted, links: &[Link]) -> Result<Option<Vec<Asset>>> {
        let action = "look for the package";
        let query = format!(
            "package_type=generic&package_name={}&package_version={}",
            escaped(&wanted.package),
            escaped(&package_version(wanted))
        );
        let path = |page: usize| format!("/packages?{query}&per_page={PAGE}&page={page}");
        let make = |client: &Client, page: usize| self.request(client, Method::GET, &self.address(&path(page)));
        // The name in the query is a part of the name.
        let is_it = |package: &Package| package.name == wanted.package && package.version == package_version(wanted);
        let packages: Vec<Package> = self.http.list(action, PAGE, make, is_it).await?;
        let Some(package) = packages.into_iter().find(is_it) else { return Ok(None) };
        let path = |page: usize| format!("/packages/{}/package_files?per_page={PAGE}&page={page}", package.id);
        let make = |client: &Client, page: usize| self.request(client, Method::GET, &self.address(&path(page)));
        let files: Vec<PackageFile> = self.http.list("list the files of the package", PAGE, make, |_| false).await?;
        let links: BTreeMap<&str, &str> = links.iter().map(|link| (link.name.as_str(), link.url.as_str())).collect();
        let asset = |file: PackageFile| {
            let url = self.file_address(wanted, &file.file_name);
            Asset {
                id: format!("{}/{}", file.package_id, file.id),
                size: file.size,
                complete: true,
                digest: file.file_sha256.and_then(|sum| sum.parse().ok()),
                shown: links.get(file.file_name.as_str()) == Some(&url.as_str()),
                name: file.file_name,
                url,
            }
        };
        Ok(Some(files.into_iter().map(asset).collect()))
    }

    /// A release that is there already gets what it lacks.
    async fn complete(&self, wanted: &Wanted, action: &str) -> Result<GitlabRelease> {
        let release = format!("/releases/{}", escaped(&wanted.tag));
        let text = json!({ "name": wanted.title, "description": wanted.notes });
        let address = self.address(&release);
        let make = |client: &Client| Self::json(self.request(client, Method::PUT, &address), &text);
        let found: GitlabRelease = self.http.json(action, &self.http.ask(action, make).await?)?;
        for file in &wanted.files {
            let link = self.link(wanted, &file.name);
            let (method, path) = match found.assets.links.iter().find(|known| known.name == file.name) {
                Some(known) if known.url == self.file_address(wanted, &file.name) => continue,
                Some(known) => (Method::PUT, format!("{release}/assets/links/{}", known.id)),
                None => (Method::POST, format!("{release}/assets/links")),
            };
            let address = self.address(&path);
            let make = |client: &Client| Self::json(self.request(client, method.clone(), &address), &link);
            let answer = self.http.ask(action, make).await?;
            // A second try of a request whose first one was carried out.
            let is_there = answer.status.as_u16() == 400 && self.http.said(&answer).contains("taken");
            if !is_there {
                self.http.json::<serde_json::Value>(action, &answer)?;
            }
        }
        Ok(found)
    }
}

/// A version as a package may have it.
fn package_version(wanted: &Wanted) -> String {
    wanted.version.chars().map(|c| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '-' }).collect()
}

#[async_trait]
impl Forge for Gitlab {
    fn http(&self) -> &Http {
        &self.http
    }

    async fn get(&self, action: &str, path: &str) -> Result<Answer> {
        self.http.ask(action, |client| self.request(client, Method::GET, &self.address(path))).await
    }

    fn has_drafts(&self) -> bool {
        false
    }

    fn at_once(&self) -> usize {
        1
    }

    fn sees_tags(&self) -> bool {
        !self.token.is_of_job
    }

    fn left(&self, release: &Release) -> String {
        format!("the package in {}", release.url)
    }

    fn requests(&self, step: &Step, wanted: &Wanted) -> Vec<String> {
        match step {
            Step::Upload { file } => vec![format!("PUT {}", self.file_address(wanted, &wanted.files[*file].name))],
            Step::Remove { id, .. } => vec![format!("DELETE {}", self.address(&removal(id)))],
            Step::Check => vec![format!("GET {}", self.address("/packages/ID/package_files"))],
            Step::Publish => vec![format!("POST {} (links to all files)", self.address("/releases"))],
            Step::Create | Step::Update | Step::Keep { .. } => Vec::new(),
        }
    }

    async fn repository(&self) -> Result<()> {
        let action = "see the releases";
        let answer = self.get(action, "/releases?per_page=1").await?;
        self.http.json::<serde_json::Value>(action, &answer).map(drop)
    }

    async fn has_commit(&self, commit: &str) -> Result<bool> {
        if self.token.is_of_job {
            return Ok(true);
        }
        let action = "look for the commit";
        let answer = self.get(action, &format!("/repository/commits/{commit}")).await?;
        match answer.status.as_u16() {
            404 => Ok(false),
            _ => self.http.json::<serde_json::Value>(action, &answer).map(|_| true),
        }
    }

    async fn tag(&self, tag: &str) -> Result<Option<String>> {
        if self.token.is_of_job {
            return Ok(None);
        }
        let action = "look for the tag";
        let answer = self.get(action, &format!("/repository/tags/{}", escaped(tag))).await?;
        if answer.status.as_u16() == 404 {
            return Ok(None);
        }
        Ok(Some(self.http.json::<Tag>(action, &answer)?.commit.id))
    }

    async fn find(&self, wanted: &Wanted) -> Result<Option<Release>> {
        let release = self.release(wanted).await?;
        let nothing = Vec::new();
        let files = self.files(wanted, release.as_ref().map_or(&nothing, |release| &release.assets.links)).await?;
        let draft = release.is_none();
        if draft && files.is_none() {
            return Ok(None);
        }
        let text_is_same = release.as_ref().is_none_or(|release| {
            release.name.as_deref() == Some(wanted.title.as_str())
                && release.description.as_deref() == Some(wanted.notes.as_str())
        });
        let page = release.map(|release| release.links.page).filter(|page| !page.is_empty());
        Ok(Some(Release {
            id: wanted.tag.clone(),
            url: page.unwrap_or_else(|| self.place.packages()),
            upload: self.package(wanted),
            draft,
            text_is_same,
            assets: files.unwrap_or_default(),
        }))
    }

    async fn assets(&self, release: &Release, wanted: &Wanted) -> Result<Vec<Asset>> {
        let links = if release.draft { None } else { self.release(wanted).await? };
        let links = links.map(|release| release.assets.links).unwrap_or_default();
        Ok(self.files(wanted, &links).await?.unwrap_or_default())
    }

    async fn create(&self, wanted: &Wanted, _: &str) -> Result<Release, Attempt> {
        Ok(Release {
            id: wanted.tag.clone(),
            url: self.place.packages(),
            upload: self.package(wanted),
            draft: true,
            text_is_same: true,
            assets: Vec::new(),
        })
    }

    async fn upload(
        &self,
        release: &Release,
        wanted: &Wanted,
        file: &LocalFile,
        action: &str,
    ) -> Result<Asset, Attempt> {
        let address = format!("{}/{}?select=package_file", release.upload, escaped(&file.name));
        let request = self.request(self.http.client(), Method::PUT, &address);
        let request = request.header("content-type", media_type(&file.name));
        let payload = Payload {
            path: file.path.clone(),
            size: file.size,
            sha256: file.sha256,
            before: Bytes::new(),
            after: Bytes::new(),
        };
        let answer = self.http.send(request, file, &payload).await?;
        let received: Received = self.http.json(action, &answer)?;
        Ok(Asset {
            id: format!("{}/{}", received.package_id, received.id),
            name: file.name.clone(),
            size: received.size,
            complete: true,
            digest: received.file_sha256.and_then(|sum| sum.parse().ok()),
            url: self.file_address(wanted, &file.name),
            shown: false,
        })
    }

    async fn remove(&self, _: &Release, id: &str, name: &str) -> Result<()> {
        let action = format!("remove {name}");
        let address = self.address(&removal(id));
        let answer = self.http.ask(&action, |client| self.request(client, Method::DELETE, &address)).await?;
        match answer.status.as_u16() {
            204 | 404 => Ok(()),
            _ => Err(self.http.failure(&action, &answer)),
        }
    }

    async fn update(&self, _: &Release, _: &Wanted) -> Result<()> {
        // Without a release there is no text.
        Ok(())
    }

    async fn publish(&self, _: &Release, wanted: &Wanted) -> Result<String> {
        let action = "publish the release";
        let links: Vec<_> = wanted.files.iter().map(|file| self.link(wanted, &file.name)).collect();
        let text = json!({
            "name": wanted.title, "tag_name": wanted.tag, "ref": wanted.commit, "description": wanted.notes,
            "assets": { "links": links },
        });
        let address = self.address("/releases");
        let make = |client: &Client| Self::json(self.request(client, Method::POST, &address), &text);
        let answer = self.http.ask(action, make).await?;
        let release: GitlabRelease = match answer.status.as_u16() {
            409 => self.complete(wanted, action).await?,
            _ => self.http.json(action, &answer)?,
        };
        Ok(release.links.page)
    }

    async fn digest(&self, asset: &Asset) -> Result<Sha256> {
        let action = format!("read {}", asset.name);
        self.http.digest(&action, &asset.url, |request| self.token.sign(request)).await
    }
}

/// The path of a file whose id is `PACKAGE/FILE`.
fn removal(id: &str) -> String {
    let (package, file) = id.split_once('/').unwrap_or((id, ""));
    format!("/packages/{package}/package_files/{file}")
}
