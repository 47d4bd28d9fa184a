//! How stores on other machines are reached: one HTTP client, its limits, and what may be said of its failures.

use std::fmt;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::error::{CacheError, Result};

/// Characters of a server's message that are shown.
const MOST_SHOWN: usize = 300;
/// Behind these words comes what a request was allowed with.
const TELLTALES: [&str; 4] = ["authorization:", "signature=", "sig=", "credential="];
/// What stands for a secret.
const HIDDEN: &str = "***";

/// How long is waited, and how often something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a connection.
    pub connect: Duration,
    /// For the answer to a request without content, and between two pieces of a download.
    pub answer: Duration,
    /// For the upload of one object.
    pub transfer: Duration,
    /// Tries of a request in all, while failures may pass.
    pub attempts: u32,
    /// The first pause between two tries; the next is twice as long.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            answer: Duration::from_mins(1),
            transfer: Duration::from_mins(10),
            attempts: 4,
            pause: Duration::from_millis(500),
        }
    }
}

/// What a client needs to know of this machine's network.
#[derive(Clone, Default)]
pub struct Network {
    /// Certificate authorities beyond the system's, as PEM.
    pub certificates: Vec<u8>,
    /// Proxy for `http` URLs.
    pub http_proxy: Option<String>,
    /// Proxy for `https` URLs.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas.
    pub no_proxy: Option<String>,
}

/// Proxies may hold passwords.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("no_proxy", &self.no_proxy).finish_non_exhaustive()
    }
}

fn unreachable(reason: String) -> CacheError {
    CacheError::Unreachable { place: "a store of caches".to_owned(), reason }
}

impl Network {
    /// A client that follows no redirects: what it sends is signed, or secret, and meant for one place.
    ///
    /// # Errors
    /// [`CacheError::Unreachable`] if a proxy's address is none.
    pub fn client(&self) -> Result<reqwest::Client> {
        let builder = self.builder()?.redirect(reqwest::redirect::Policy::none());
        builder.build().map_err(|error| unreachable(innermost(&error)))
    }

    fn builder(&self) -> Result<reqwest::ClientBuilder> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls(&self.certificates).map_err(|error| unreachable(error.to_string()))?)
            // Those of the environment come in `self`.
            .no_proxy();
        let direct = self.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
        for (address, secure) in [(&self.http_proxy, false), (&self.https_proxy, true)] {
            let Some(address) = address else { continue };
            let proxy = if secure { reqwest::Proxy::https(address) } else { reqwest::Proxy::http(address) };
            // The error would show the address, and with it a password.
            let proxy = proxy.map_err(|_| unreachable("the address of the proxy is no URL".to_owned()))?;
            builder = builder.proxy(proxy.no_proxy(direct.clone()));
        }
        Ok(builder)
    }
}

/// A client for all stores that speak HTTP.
#[derive(Clone, Debug)]
pub struct Reach {
    pub(crate) client: reqwest::Client,
    pub(crate) limits: Limits,
}

impl Reach {
    /// Makes the client.
    ///
    /// # Errors
    /// [`CacheError::Unreachable`] if a proxy's address is none.
    pub fn new(network: &Network, limits: Limits) -> Result<Self> {
        let builder = network.builder()?.connect_timeout(limits.connect).pool_idle_timeout(Duration::from_secs(20));
        let client = builder.build().map_err(|error| unreachable(innermost(&error)))?;
        Ok(Self { client, limits })
    }
}

/// The system's authorities and the user's, with the provider that the whole of kiln uses.
fn tls(pem: &[u8]) -> std::result::Result<ClientConfig, tokio_rustls::rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(std::result::Result::ok));
    let builder = ClientConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

/// The cause that says something; those around it are the HTTP client's, which would show URLs.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

/// Texts that no message may hold.
#[derive(Clone, Default)]
pub(crate) struct Hidden(Vec<String>);

impl Hidden {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        // One of a few characters would be found in any message, and is no secret.
        let mut secrets: Vec<String> = secrets.into_iter().filter(|s| s.len() >= 4).map(str::to_owned).collect();
        // A secret may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// What a server said, in one short line without secrets.
    pub(crate) fn clean(&self, message: &str) -> String {
        let mut text = message.split_whitespace().collect::<Vec<_>>().join(" ");
        // Some say back what they were sent. What is signed with a secret is as good as one, for a while.
        let small = text.to_ascii_lowercase();
        if let Some(at) = TELLTALES.iter().filter_map(|word| small.find(word)).min() {
            text.truncate(at);
            text.push_str("...");
        }
        for secret in &self.0 {
            text = text.replace(secret, HIDDEN);
        }
        match text.char_indices().nth(MOST_SHOWN) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_and_have_no_secrets() {
        let hidden = Hidden::new(["s3cret", "s3cret-long", "a"]);
        assert_eq!(hidden.clean("a  s3cret-long\nand s3cret"), "a *** and ***");
        assert_eq!(hidden.clean(&"ö".repeat(1000)).chars().count(), MOST_SHOWN + 3);
        assert_eq!(hidden.clean("no: GET / Authorization: Basic abc"), "no: GET / ...");
        assert_eq!(hidden.clean("https://host/x?SIG=abc"), "https://host/x?...");
        assert_eq!(format!("{hidden:?}"), "***");
    }

    #[test]
    fn a_proxy_that_is_none_is_not_shown() {
        let network = Network { https_proxy: Some("http://user:hunter2@:x".to_owned()), ..Network::default() };
        let error = Reach::new(&network, Limits::default()).expect_err("no proxy");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        Reach::new(&Network::default(), Limits::default()).expect("a client");
    }
}
