//! Which daemon to talk to, resolved like the docker CLI does.
//!
//! An explicit host wins over `DOCKER_HOST`, that over `DOCKER_CONTEXT`, that over the current context in the docker
//! config, and the first socket that exists is the last resort. Source of the context store's layout: docker/cli,
//! `cli/context/store`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::pki_types::ServerName;

use super::connector::Endpoint;
use super::ssh::SshTarget;
use super::tls;
use crate::hex;
use crate::{EngineError, Result};

/// Where docker's own socket is.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// How to find the daemon. All of it is values: the caller reads the environment and the home directory.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// An address given explicitly (`--host`): `unix:///path`, `tcp://host:port`, `ssh://user@host`, `http(s)://...`.
    pub host: Option<String>,
    /// A context given explicitly (`--context`).
    pub context: Option<String>,
    /// `DOCKER_HOST`.
    pub env_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub env_context: Option<String>,
    /// The docker CLI's folder: `DOCKER_CONFIG`, or `~/.docker`.
    pub config_dir: Option<PathBuf>,
    /// Whether `DOCKER_TLS_VERIFY` is set to anything but nothing.
    pub tls_verify: bool,
    /// `DOCKER_CERT_PATH`; the docker folder where there is none.
    pub cert_path: Option<PathBuf>,
    /// `DOCKER_API_VERSION`.
    pub api_version: Option<String>,
    /// Sockets to try after `/var/run/docker.sock`: that of a rootless daemon, of Docker Desktop, ...
    pub sockets: Vec<PathBuf>,
    /// Labels for every container that is made through this connection, such as [`crate::labels::OWNER`].
    pub container_labels: std::collections::BTreeMap<String, String>,
}

/// A daemon's address, resolved.
pub(super) struct Address {
    pub(super) endpoint: Endpoint,
    /// As it is shown to people.
    pub(super) host: String,
}

/// What decided on an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// [`ConnectOptions::host`].
    Host,
    /// [`ConnectOptions::context`], by name.
    Context(String),
    /// `DOCKER_HOST`.
    HostVariable,
    /// `DOCKER_CONTEXT`, with its value.
    ContextVariable(String),
    /// The current context of the docker config, by name.
    CurrentContext(String),
    /// Nothing: it is the first socket that is there, or docker's own.
    Socket,
}

/// A daemon's address, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The address.
    pub host: String,
    /// What decided.
    pub chosen: Chosen,
}

/// Finds the address as [`super::BollardEngine::connect`] does, and connects to nothing.
///
/// # Errors
/// If what decides makes no sense.
pub async fn locate(options: &ConnectOptions) -> Result<Located> {
    let chosen = choose(options).await?;
    let host = resolve_by(&chosen, options).await?.host;
    Ok(Located { host, chosen })
}

/// Certificates to use with an address.
struct Tls {
    folder: Option<PathBuf>,
    verify: bool,
}

/// Finds the address. Reads the docker config where that decides.
pub(super) async fn resolve(options: &ConnectOptions) -> Result<Address> {
    resolve_by(&choose(options).await?, options).await
}

fn given(value: Option<&String>) -> Option<&str> {
    value.map(String::as_str).filter(|value| !value.trim().is_empty())
}

/// What decides.
async fn choose(options: &ConnectOptions) -> Result<Chosen> {
    let context = given(options.context.as_ref());
    if options.host.is_some() && context.is_some() {
        return Err(problem("both a host and a context were given", "give one of them"));
    }
    if given(options.host.as_ref()).is_some() {
        return Ok(Chosen::Host);
    }
    if let Some(context) = context {
        return Ok(Chosen::Context(context.to_owned()));
    }
    if given(options.env_host.as_ref()).is_some() {
        return Ok(Chosen::HostVariable);
    }
    if let Some(context) = given(options.env_context.as_ref()) {
        return Ok(Chosen::ContextVariable(context.to_owned()));
    }
    Ok(current_context(options).await?.map_or(Chosen::Socket, Chosen::CurrentContext))
}

async fn resolve_by(chosen: &Chosen, options: &ConnectOptions) -> Result<Address> {
    let from_env =
        || Tls { folder: options.cert_path.clone().or_else(|| options.config_dir.clone()), verify: options.tls_verify };
    let at = |host: &Option<String>| address(host.as_deref().unwrap_or_default(), options.tls_verify.then(from_env));
    match chosen {
        Chosen::Host => at(&options.host),
        Chosen::HostVariable => at(&options.env_host),
        Chosen::Context(context) => from_context(context, options).await,
        Chosen::ContextVariable(context) | Chosen::CurrentContext(context) if context != "default" => {
            from_context(context, options).await
        }
        Chosen::ContextVariable(_) | Chosen::CurrentContext(_) | Chosen::Socket => Ok(default_socket(options)),
    }
}

fn default_socket(options: &ConnectOptions) -> Address {
    let default = Path::new(DEFAULT_SOCKET);
    let path = std::iter::once(default)
        .chain(options.sockets.iter().map(PathBuf::as_path))
        .find(|path| path.exists())
        .unwrap_or(default);
    Address { endpoint: Endpoint::Unix(path.to_owned()), host: format!("unix://{}", path.display()) }
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

async fn current_context(options: &ConnectOptions) -> Result<Option<String>> {
    let Some(path) = options.config_dir.as_ref().map(|folder| folder.join("config.json")) else { return Ok(None) };
    let Some(text) = read(&path).await? else { return Ok(None) };
    let config: Config = parse(&path, &text)?;
    Ok(config.current_context.filter(|context| !context.is_empty()))
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints", default)]
    endpoints: std::collections::BTreeMap<String, MetaEndpoint>,
}

#[derive(Deserialize)]
struct MetaEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

async fn from_context(name: &str, options: &ConnectOptions) -> Result<Address> {
    if name == "default" {
        // The default context is whatever the environment says.
        return match options.env_host.as_deref().filter(|host| !host.trim().is_empty()) {
            Some(host) => address(
                host,
                options.tls_verify.then(|| Tls {
                    folder: options.cert_path.clone().or_else(|| options.config_dir.clone()),
                    verify: true,
                }),
            ),
            None => Ok(default_socket(options)),
        };
    }
    let Some(folder) = options.config_dir.as_ref().map(|folder| folder.join("contexts")) else {
        return Err(problem(
            &format!("the context `{name}` cannot be read without a docker config folder"),
            "set DOCKER_CONFIG or HOME",
        ));
    };
    let id = hex(&Sha256::digest(name));
    let path = folder.join("meta").join(&id).join("meta.json");
    let text = read(&path).await?.ok_or_else(|| {
        problem(
            &format!("there is no docker context `{name}` (looked for `{}`)", path.display()),
            "`docker context ls` lists them; `docker context use default` goes back to the local daemon",
        )
    })?;
    let meta: Meta = parse(&path, &text)?;
    let endpoint = meta.endpoints.get("docker").filter(|endpoint| !endpoint.host.is_empty()).ok_or_else(|| {
        problem(&format!("the context `{name}` names no docker host (`{}`)", path.display()), "make it anew")
    })?;
    let certificates = folder.join("tls").join(&id).join("docker");
    let tls = (certificates.is_dir() || endpoint.skip_tls_verify)
        .then_some(Tls { folder: Some(certificates), verify: !endpoint.skip_tls_verify });
    address(&endpoint.host, tls)
}

/// Reads an address.
fn address(text: &str, tls: Option<Tls>) -> Result<Address> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    let host = format!("{scheme}://{}", rest.trim_end_matches('/'));
    let wrong = |why: &str| {
        problem(
            &format!("`{text}` is not the address of a daemon: {why}"),
            "write unix:///path, tcp://host:port, ssh://user@host, http://host:port or https://host:port",
        )
    };
    let endpoint = match scheme {
        "unix" => {
            let path = if rest.is_empty() { DEFAULT_SOCKET } else { rest };
            if !path.starts_with('/') {
                return Err(wrong("the path of a socket is absolute"));
            }
            return Ok(Address { endpoint: Endpoint::Unix(path.into()), host: format!("unix://{path}") });
        }
        "ssh" => Endpoint::Ssh(SshTarget::parse(rest).map_err(|why| wrong(&why))?),
        "tcp" | "http" | "https" => {
            let secure = scheme == "https" || (scheme == "tcp" && tls.is_some());
            let authority = rest.split('/').next().unwrap_or_default();
            let (name, port) =
                split_port(authority, if secure { 2376 } else { 2375 }).ok_or_else(|| wrong("a host and a port"))?;
            if secure {
                let server = ServerName::try_from(name.clone()).map_err(|_| wrong("no host name"))?;
                let (folder, verify) = tls.map_or((None, true), |tls| (tls.folder, tls.verify));
                let config = tls::client_config(folder.as_deref(), verify)?;
                Endpoint::Tls { host: name, port, name: server, config }
            } else {
                Endpoint::Tcp { host: name, port }
            }
        }
        "npipe" => return Err(wrong("named pipes exist only on Windows")),
        _ => return Err(wrong(&format!("`{scheme}` is no known kind"))),
    };
    Ok(Address { endpoint, host })
}

/// `host:port`, `[v6]:port`, `host`, or `:port` for this machine.
fn split_port(authority: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(default), |port| port.parse().ok())?;
    Some((if host.is_empty() { "127.0.0.1" } else { host }.to_owned(), port))
}

async fn read(path: &Path) -> Result<Option<String>> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(problem(&format!("`{}` cannot be read: {error}", path.display()), "check its permissions")),
    }
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        problem(&format!("`{}` is not what it should be: {error}", path.display()), "mend or remove it")
    })
}

fn problem(problem: &str, hint: &str) -> EngineError {
    EngineError::Connection { problem: problem.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kiln-address-{name}-{}", std::process::id()));
        let id = hex(&Sha256::digest("remote"));
        let meta = folder.join("contexts/meta").join(&id);
        std::fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name": "remote", "Endpoints": {"docker": {"Host": "ssh://ci@far", "SkipTLSVerify": false}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        folder
    }

    async fn host(options: &ConnectOptions) -> String {
        resolve(options).await.map_or_else(|error| error.to_string(), |address| address.host)
    }

    #[tokio::test]
    async fn the_order_is_the_docker_clis() {
        let config_dir = folder("order");
        std::fs::write(config_dir.join("config.json"), r#"{"currentContext": "remote"}"#).unwrap();
        let mut options = ConnectOptions { config_dir: Some(config_dir.clone()), ..ConnectOptions::default() };
        assert_eq!(host(&options).await, "ssh://ci@far");
        options.env_context = Some("default".to_owned());
        assert_eq!(host(&options).await, "unix:///var/run/docker.sock");
        options.env_host = Some("tcp://near:1234".to_owned());
        assert_eq!(host(&options).await, "tcp://near:1234");
        options.context = Some("remote".to_owned());
        assert_eq!(host(&options).await, "ssh://ci@far");
        options.context = Some("gone".to_owned());
        assert!(host(&options).await.contains("no docker context `gone`"));
        options.host = Some("unix:///x.sock".to_owned());
        assert!(host(&options).await.contains("both a host and a context"));
        options.context = None;
        assert_eq!(host(&options).await, "unix:///x.sock");
        std::fs::remove_dir_all(config_dir).unwrap();
    }

    #[tokio::test]
    async fn what_decided_is_known() {
        let config_dir = folder("chosen");
        let chosen = async |options: &ConnectOptions| locate(options).await.map(|located| located.chosen).unwrap();
        let mut options = ConnectOptions { config_dir: Some(config_dir.clone()), ..ConnectOptions::default() };
        assert_eq!(chosen(&options).await, Chosen::Socket);
        std::fs::write(config_dir.join("config.json"), r#"{"currentContext": "remote"}"#).unwrap();
        assert_eq!(chosen(&options).await, Chosen::CurrentContext("remote".to_owned()));
        options.env_context = Some("default".to_owned());
        assert_eq!(chosen(&options).await, Chosen::ContextVariable("default".to_owned()));
        options.env_host = Some("tcp://near:1234".to_owned());
        assert_eq!(chosen(&options).await, Chosen::HostVariable);
        options.context = Some("remote".to_owned());
        let located = locate(&options).await.unwrap();
        assert_eq!(located, Located { host: "ssh://ci@far".to_owned(), chosen: Chosen::Context("remote".to_owned()) });
        options.context = None;
        options.host = Some("unix:///x.sock".to_owned());
        assert_eq!(chosen(&options).await, Chosen::Host);
        std::fs::remove_dir_all(config_dir).unwrap();
    }

    #[tokio::test]
    async fn a_broken_config_is_named() {
        let config_dir = folder("broken");
        std::fs::write(config_dir.join("config.json"), "{").unwrap();
        let options = ConnectOptions { config_dir: Some(config_dir.clone()), ..ConnectOptions::default() };
        assert!(host(&options).await.contains("config.json"));
        std::fs::remove_dir_all(config_dir).unwrap();
    }

    #[test]
    fn addresses_are_read_strictly() {
        for (text, port) in
            [("tcp://h", 2375), ("tcp://h:1", 1), ("http://h:80/", 80), (":2375", 2375), ("tcp://[::1]:9", 9)]
        {
            let Ok(Address { endpoint: Endpoint::Tcp { port: found, .. }, .. }) = address(text, None) else {
                panic!("{text}")
            };
            assert_eq!(found, port, "{text}");
        }
        let tls = || Some(Tls { folder: None, verify: true });
        assert!(matches!(address("tcp://h", tls()), Ok(Address { endpoint: Endpoint::Tls { port: 2376, .. }, .. })));
        assert!(matches!(address("http://h", tls()), Ok(Address { endpoint: Endpoint::Tcp { .. }, .. })));
        for text in ["ftp://h", "unix://relative", "tcp://h:port", "npipe:////./pipe/x", "ssh://-x", "tcp://h:99999"] {
            assert!(matches!(address(text, None), Err(EngineError::Connection { .. })), "{text}");
        }
    }
}
