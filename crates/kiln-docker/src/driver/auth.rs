//! Registry credentials out of the docker config, as the docker CLI finds them: `credHelpers` for the registry, else
//! `credsStore`, else `auths`. Secrets are handed on and never shown; errors name the file or the helper.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
pub(crate) use bollard::auth::DockerCredentials as Credentials;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::BollardEngine;
use crate::{EngineError, Result};

/// What Docker Hub is called in a docker config.
const HUB: &str = "https://index.docker.io/v1/";
/// How long a helper may take: some ask the user.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// What a helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl BollardEngine {
    /// The credentials for a registry; `None` where the config has none.
    pub(super) async fn credentials(&self, registry: &str) -> Result<Option<DockerCredentials>> {
        credentials(self.config_dir.as_deref(), registry).await
    }
}

/// The credentials that the docker config in a folder has for a registry; `None` where it has none.
pub(crate) async fn credentials(folder: Option<&Path>, registry: &str) -> Result<Option<DockerCredentials>> {
    match folder {
        Some(folder) => from_file(&folder.join("config.json"), registry).await,
        None => Ok(None),
    }
}

async fn from_file(path: &Path, registry: &str) -> Result<Option<DockerCredentials>> {
    let text = match tokio::fs::read(path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(problem(format!("`{}`: {error}", path.display()))),
    };
    // The parser's message would quote the file, and with it a secret; its place is enough.
    let config: Config = serde_json::from_slice(&text).map_err(|error| {
        problem(format!(
            "`{}` is not a docker config (line {}, column {})",
            path.display(),
            error.line(),
            error.column()
        ))
    })?;
    let server = if registry == "docker.io" { HUB } else { registry };
    let names = [server, registry];
    let helper = names.iter().find_map(|name| config.helpers.get(*name)).or(config.store.as_ref());
    if let Some(helper) = helper.filter(|helper| !helper.is_empty())
        && let Some(found) = ask(helper, server).await?
    {
        return Ok(Some(found));
    }
    // Entries may be written as URLs, with or without a path.
    let entry = names
        .iter()
        .find_map(|name| config.auths.get(*name))
        .or_else(|| config.auths.iter().find(|(key, _)| host(key) == host(server)).map(|(_, auth)| auth));
    entry.map_or(Ok(None), |auth| from_entry(auth, server, path))
}

fn from_entry(auth: &Entry, server: &str, path: &Path) -> Result<Option<DockerCredentials>> {
    let mut credentials = DockerCredentials {
        username: auth.username.clone(),
        password: auth.password.clone(),
        identitytoken: auth.identitytoken.clone(),
        registrytoken: auth.registrytoken.clone(),
        serveraddress: Some(server.to_owned()),
        ..DockerCredentials::default()
    };
    if let Some(encoded) = auth.auth.as_deref().filter(|auth| !auth.is_empty()) {
        let wrong =
            || problem(format!("the `auth` of {server} in `{}` is not base64 of `user:password`", path.display()));
        let decoded = STANDARD.decode(encoded.trim()).map_err(|_| wrong())?;
        let decoded = String::from_utf8(decoded).map_err(|_| wrong())?;
        let (user, password) = decoded.split_once(':').ok_or_else(wrong)?;
        credentials.username = Some(user.to_owned());
        credentials.password = Some(password.trim_end_matches('\0').to_owned());
    }
    // An empty entry only says that a credential store has the secret.
    let something = credentials.username.as_ref().is_some_and(|user| !user.is_empty())
        || credentials.identitytoken.is_some()
        || credentials.registrytoken.is_some();
    Ok(something.then_some(credentials))
}

/// Asks a helper. Protocol: docker/docker-credential-helpers.
async fn ask(helper: &str, server: &str) -> Result<Option<DockerCredentials>> {
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| problem(format!("`{program}` {why}"));
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let input = child.stdin.take();
    let exchange = async {
        if let Some(mut input) = input {
            // A helper that does not read its input has its own way of knowing.
            let _unread = input.write_all(server.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(HELPER_TIMEOUT, exchange)
        .await
        .map_err(|_| failed(format!("did not answer within {} seconds", HELPER_TIMEOUT.as_secs())))?
        .map_err(|error| failed(format!("failed: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if said.to_ascii_lowercase().contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(format!("failed: {said}")));
    }
    let answer: Answer =
        serde_json::from_slice(&output.stdout).map_err(|_| failed("gave no valid answer".to_owned()))?;
    let mut credentials = DockerCredentials { serveraddress: Some(server.to_owned()), ..DockerCredentials::default() };
    if answer.username == "<token>" {
        credentials.identitytoken = Some(answer.secret);
    } else {
        credentials.username = Some(answer.username);
        credentials.password = Some(answer.secret);
    }
    Ok(Some(credentials))
}

fn host(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    key.split('/').next().unwrap_or(key)
}

fn problem(problem: String) -> EngineError {
    EngineError::Credentials { problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(config: &str, registry: &str) -> Result<Option<DockerCredentials>> {
        let name =
            format!("kiln-auth-{}-{}.json", std::process::id(), kiln_graph::Digest::of(format!("{config}{registry}")));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, config).unwrap();
        let result = from_file(&path, registry).await;
        std::fs::remove_file(path).unwrap();
        result
    }

    #[tokio::test]
    async fn entries_are_found_under_all_their_names() {
        let encoded = STANDARD.encode("me:se:cret");
        let config = format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{encoded}"}}, "https://r.example:5000/v2/": {{"identitytoken": "t"}},
                "empty.example": {{}}}}}}"#
        );
        let hub = read(&config, "docker.io").await.unwrap().unwrap();
        assert_eq!((hub.username.as_deref(), hub.password.as_deref()), (Some("me"), Some("se:cret")));
        assert_eq!(hub.serveraddress.as_deref(), Some(HUB));
        let other = read(&config, "r.example:5000").await.unwrap().unwrap();
        assert_eq!(other.identitytoken.as_deref(), Some("t"));
        assert_eq!(read(&config, "empty.example").await.unwrap(), None);
        assert_eq!(read(&config, "unknown.example").await.unwrap(), None);
        assert_eq!(from_file(Path::new("/nonexistent/config.json"), "docker.io").await.unwrap(), None);
    }

    #[tokio::test]
    async fn errors_name_the_file_and_no_secret() {
        let error = read(r#"{"auths": {"r": {"auth": "c2VjcmV0"}}}"#, "r").await.unwrap_err().to_string();
        assert!(error.contains(".json") && !error.contains("c2VjcmV0"), "{error}");
        let error = read(r#"{"auths": {"r": "secret"}}"#, "r").await.unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("secret"), "{error}");
        let error = read(r#"{"credsStore": "kiln-no-such-helper"}"#, "r").await.unwrap_err().to_string();
        assert!(error.contains("docker-credential-kiln-no-such-helper"), "{error}");
    }
}
