//! A client of the registry HTTP API, as far as pushing an image and keeping caches need it. Source: OCI
//! distribution-spec.
//!
//! It goes from this machine to the registry, past the daemon: a daemon of the classic store cannot push an index of
//! several platforms. HTTPS, but for registries on this machine and those that are said to be insecure, which may also
//! speak HTTP. Tokens are fetched when the registry asks, with the credentials of the docker config.

mod error;
mod name;
mod stored;
mod tls;
mod token;
mod transport;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use tokio::sync::{Mutex, OnceCell};

pub use error::RegistryError;
pub use name::ImageName;

use crate::driver::auth::{Credentials, credentials};
use crate::driver::wire::query;
use token::Challenge;
use transport::HttpClient;

/// Shorthand.
type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// Manifests and configurations are small; more than this is not read.
const MOST_JSON: usize = 16 << 20;
/// Attempts of a request, while failures may pass.
const ATTEMPTS: u32 = 3;
/// The longest wait for the first bytes of an answer, and between two pieces of a download.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);
/// Bytes that are sent in a second, at least.
const SLOWEST: u64 = 32 << 10;

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Folder of the docker config, for credentials.
    pub config_dir: Option<PathBuf>,
    /// Certificate authorities beyond the system's, as PEM.
    pub certificates: Vec<u8>,
    /// Folder with a folder per registry that holds its `*.crt`: docker's `certs.d`.
    pub certificate_folder: Option<PathBuf>,
}

/// What is sent.
enum Content<'a> {
    Nothing,
    Bytes(Bytes),
    File { path: &'a Path, size: u64 },
}

/// A connection to one registry.
pub struct Registry {
    name: String,
    /// `https://host:port`.
    base: String,
    client: HttpClient,
    options: RegistryOptions,
    credentials: OnceCell<Option<Credentials>>,
    /// `Authorization` headers by scope.
    granted: Mutex<HashMap<String, String>>,
}

impl Registry {
    /// Finds out how the registry is reached.
    ///
    /// # Errors
    /// If nothing that speaks the registry API answers.
    pub async fn connect(name: &str, insecure: bool, options: &RegistryOptions) -> Result<Self> {
        let host = if name == "docker.io" { "registry-1.docker.io" } else { name };
        let lenient = insecure || is_this_machine(host);
        let folder = options.certificate_folder.as_ref().map(|folder| folder.join(name));
        let config = tls::config(name, &options.certificates, folder.as_deref(), !lenient)?;
        let mut registry = Self {
            name: name.to_owned(),
            base: format!("https://{host}"),
            client: transport::client(config),
            options: options.clone(),
            credentials: OnceCell::new(),
            granted: Mutex::default(),
        };
        match registry.ping().await {
            Err(RegistryError::Unreachable { .. }) if lenient => {
                registry.base = format!("http://{host}");
                registry.ping().await?;
            }
            answer => answer?,
        }
        Ok(registry)
    }

    /// Whether the repository has the blob.
    pub async fn has_blob(&self, repository: &str, digest: &str) -> Result<bool> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let response = self.send(Method::HEAD, &path, repository, &HeaderMap::new(), &Content::Nothing).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused("looking for a layer", repository, response).await),
        }
    }

    /// Takes a blob over from another repository of the registry; false if that did not work out.
    pub async fn mount_blob(&self, repository: &str, digest: &str, from: &str) -> Result<bool> {
        let path = format!("/v2/{repository}/blobs/uploads/?mount={}&from={}", query(digest), query(from));
        let response = self.send(Method::POST, &path, repository, &HeaderMap::new(), &Content::Nothing).await?;
        match response.status() {
            StatusCode::CREATED => Ok(true),
            StatusCode::ACCEPTED => {
                // An upload was begun instead; it is not wanted.
                let location = self.location(&response)?;
                let headers = HeaderMap::new();
                // The registry forgets it by itself, too.
                let _ = self.send(Method::DELETE, &location, repository, &headers, &Content::Nothing).await;
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Uploads a file as a blob.
    pub async fn upload_blob(&self, repository: &str, digest: &str, file: &Path, size: u64) -> Result<()> {
        self.upload(repository, digest, &Content::File { path: file, size }).await
    }

    /// Uploads a few bytes as a blob.
    pub async fn upload_bytes(&self, repository: &str, digest: &str, bytes: Bytes) -> Result<()> {
        self.upload(repository, digest, &Content::Bytes(bytes)).await
    }

    async fn upload(&self, repository: &str, digest: &str, content: &Content<'_>) -> Result<()> {
        let mut attempt = 1;
        loop {
            match self.upload_once(repository, digest, content).await {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    tokio::time::sleep(Duration::from_secs(u64::from(attempt))).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn upload_once(&self, repository: &str, digest: &str, content: &Content<'_>) -> Result<()> {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.send(Method::POST, &path, repository, &HeaderMap::new(), &Content::Nothing).await?;
        if begun.status() != StatusCode::ACCEPTED {
            return Err(self.refused("beginning an upload", repository, begun).await);
        }
        let location = self.location(&begun)?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", query(digest));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/octet-stream"));
        let done = self.send(Method::PUT, &url, repository, &headers, content).await?;
        if done.status() == StatusCode::CREATED {
            return Ok(());
        }
        Err(self.refused(&format!("uploading {digest}"), repository, done).await)
    }

    /// Writes a manifest under a tag or its digest.
    pub async fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: Bytes) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let action = format!("writing the manifest {repository}:{reference}");
        let mut headers = HeaderMap::new();
        let value = hyper::header::HeaderValue::from_str(media_type);
        headers.insert(CONTENT_TYPE, value.map_err(|error| self.failed(&action, 0, error.to_string()))?);
        let content = Content::Bytes(bytes);
        let response = self.send(Method::PUT, &path, repository, &headers, &content).await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(self.refused(&action, repository, response).await)
    }

    /// A manifest with its media type; `None` if there is none.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Option<(String, Bytes)>> {
        const TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
             application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
        let path = format!("/v2/{repository}/manifests/{reference}");
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, hyper::header::HeaderValue::from_static(TYPES));
        let response = self.send(Method::GET, &path, repository, &headers, &Content::Nothing).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.to_owned();
        match response.status() {
            StatusCode::OK => Ok(Some((kind, self.body(response).await?))),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused("reading a manifest", repository, response).await),
        }
    }

    async fn ping(&self) -> Result<()> {
        let url = format!("{}/v2/", self.base);
        let response = self.once(Method::GET, &url, &HeaderMap::new(), None, &Content::Nothing).await?;
        match response.status() {
            StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(()),
            status => Err(self.failed("asking what it is", status.as_u16(), "it speaks no registry API".to_owned())),
        }
    }

    /// Sends a request, fetching a token if the registry wants one.
    async fn send(
        &self,
        method: Method,
        path: &str,
        repository: &str,
        headers: &HeaderMap,
        content: &Content<'_>,
    ) -> Result<Response<Incoming>> {
        let url = if path.starts_with('/') { format!("{}{path}", self.base) } else { path.to_owned() };
        // Credentials do not follow an upload to another server.
        let home = url.strip_prefix(&self.base).is_some_and(|path| path.starts_with('/'));
        let granted = self.granted.lock().await.get(repository).cloned();
        let response = self.once(method.clone(), &url, headers, granted.filter(|_| home), content).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !home {
            return Ok(response);
        }
        let mut challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = challenges.find_map(|value| Challenge::parse(value.to_str().ok()?));
        let Some(challenge) = challenge else { return Ok(response) };
        let Some(grant) = self.authorize(&challenge, repository).await? else { return Ok(response) };
        self.granted.lock().await.insert(repository.to_owned(), grant.clone());
        self.once(method, &url, headers, Some(grant), content).await
    }

    /// The `Authorization` that answers a challenge; `None` if there are no credentials for it.
    async fn authorize(&self, challenge: &Challenge, repository: &str) -> Result<Option<String>> {
        let credentials = self
            .credentials
            .get_or_try_init(|| credentials(self.options.config_dir.as_deref(), &self.name))
            .await
            .map_err(RegistryError::Credentials)?;
        let basic = credentials.as_ref().and_then(|credentials| {
            let user = credentials.username.as_ref().filter(|user| !user.is_empty())?;
            let pair = format!("{user}:{}", credentials.password.clone().unwrap_or_default());
            Some(format!("Basic {}", STANDARD.encode(pair)))
        });
        let Challenge::Bearer { realm, service, scope } = challenge else { return Ok(basic) };
        if let Some(token) = credentials.as_ref().and_then(|credentials| credentials.registrytoken.clone()) {
            return Ok(Some(format!("Bearer {token}")));
        }
        let identity = credentials.as_ref().and_then(|credentials| credentials.identitytoken.as_deref());
        let service = service.as_deref().unwrap_or_default();
        let wide = token::wide_scope(scope.as_deref(), repository);
        let response = self.ask_for_token(realm, service, &wide, identity, basic.clone()).await?;
        // Some servers refuse instead of granting less: then what was asked for must do.
        let response = match scope.as_deref() {
            Some(narrow) if !response.status().is_success() && narrow != wide => {
                self.ask_for_token(realm, service, narrow, identity, basic).await?
            }
            _ => response,
        };
        if !response.status().is_success() {
            return Err(self.denied(repository, response).await);
        }
        let answer: token::Answer = serde_json::from_slice(&self.body(response).await?).unwrap_or_default();
        Ok(answer.token().map(|token| format!("Bearer {token}")))
    }

    async fn ask_for_token(
        &self,
        realm: &str,
        service: &str,
        scope: &str,
        identity: Option<&str>,
        basic: Option<String>,
    ) -> Result<Response<Incoming>> {
        let mut headers = HeaderMap::new();
        let Some(identity) = identity else {
            let separator = if realm.contains('?') { '&' } else { '?' };
            let url = format!("{realm}{separator}service={}&scope={}", query(service), query(scope));
            return self.once(Method::GET, &url, &headers, basic, &Content::Nothing).await;
        };
        let form = format!(
            "grant_type=refresh_token&client_id=kiln&service={}&scope={}&refresh_token={}",
            query(service),
            query(scope),
            query(identity)
        );
        let kind = hyper::header::HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
        self.once(Method::POST, realm, &headers, None, &Content::Bytes(form.into())).await
    }

    async fn once(
        &self,
        method: Method,
        url: &str,
        headers: &HeaderMap,
        grant: Option<String>,
        content: &Content<'_>,
    ) -> Result<Response<Incoming>> {
        let invalid = |error: String| self.failed("making a request", 400, error);
        let uri: Uri = url.parse().map_err(|error: hyper::http::uri::InvalidUri| invalid(error.to_string()))?;
        let mut request = Request::builder().method(method.clone()).uri(uri).header("user-agent", "kiln");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(grant) = grant {
            request = request.header(AUTHORIZATION, grant);
        }
        let (body, length) = match content {
            Content::Nothing => (transport::bytes(Bytes::new()), 0),
            Content::Bytes(bytes) => (transport::bytes(bytes.clone()), bytes.len() as u64),
            Content::File { path, size } => {
                let unreadable = |source| RegistryError::File { path: path.to_path_buf(), source };
                (transport::file(path).await.map_err(unreadable)?, *size)
            }
        };
        if method == Method::PUT || method == Method::POST {
            request = request.header(CONTENT_LENGTH, length);
        }
        let request = request.body(body).map_err(|error| invalid(error.to_string()))?;
        let unreachable = |source| RegistryError::Unreachable { registry: self.name.clone(), source };
        let sending = self.client.request(request);
        // An upload takes as long as it takes.
        if matches!(content, Content::File { .. }) {
            return sending.await.map_err(|error| unreachable(innermost(&error)));
        }
        match tokio::time::timeout(ANSWER_TIMEOUT + Duration::from_secs(length / SLOWEST), sending).await {
            Ok(answer) => answer.map_err(|error| unreachable(innermost(&error))),
            Err(_) => Err(unreachable("it does not answer".into())),
        }
    }

    /// Where an upload goes on: an absolute URL or a path.
    fn location(&self, response: &Response<Incoming>) -> Result<String> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.filter(|text| text.starts_with('/') || text.contains("://")).map(str::to_owned);
        location.ok_or_else(|| self.failed("beginning an upload", 200, "it does not say where to".to_owned()))
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes> {
        let collected = Limited::new(response.into_body(), MOST_JSON).collect().await;
        collected
            .map(http_body_util::Collected::to_bytes)
            .map_err(|error| self.failed("reading an answer", 0, error.to_string()))
    }

    async fn refused(&self, action: &str, repository: &str, response: Response<Incoming>) -> RegistryError {
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return self.denied(repository, response).await;
        }
        let message = self.message(response).await;
        self.failed(action, status.as_u16(), message)
    }

    async fn denied(&self, repository: &str, response: Response<Incoming>) -> RegistryError {
        let message = self.message(response).await;
        RegistryError::Denied { registry: self.name.clone(), repository: repository.to_owned(), message }
    }

    fn failed(&self, action: &str, status: u16, message: String) -> RegistryError {
        RegistryError::Failed { registry: self.name.clone(), action: action.to_owned(), status, message }
    }

    /// What a refusal says, in one line.
    async fn message(&self, response: Response<Incoming>) -> String {
        let status = response.status();
        let text = self.body(response).await.unwrap_or_default();
        serde_json::from_slice::<Refusal>(&text)
            .ok()
            .and_then(|refusal| {
                let said: Vec<String> = refusal.errors.into_iter().map(RefusalError::said).collect();
                (!said.is_empty()).then(|| said.join("; "))
            })
            .unwrap_or_else(|| status.to_string())
    }
}

/// How a registry writes a refusal.
#[derive(serde::Deserialize)]
struct Refusal {
    errors: Vec<RefusalError>,
}

#[derive(serde::Deserialize)]
struct RefusalError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl RefusalError {
    fn said(self) -> String {
        if self.message.is_empty() { self.code } else { self.message }
    }
}

/// Whether a registry is on this machine: docker speaks plain HTTP with those, too.
fn is_this_machine(host: &str) -> bool {
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.chars().all(|c| c.is_ascii_digit())).map_or(host, |(n, _)| n);
    name == "localhost" || name.starts_with("127.") || name == "[::1]"
}

/// The cause that says something; those around it are the HTTP client's.
fn innermost(error: &(dyn std::error::Error + 'static)) -> crate::Cause {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string().into()
}

#[cfg(test)]
mod tests;
