//! How build containers reach the network: settings turned into variables and files of every step. None of it enters a
//! cache key, so another network does not make another build.

use std::path::Path;

use kiln_config::{BuildNetwork, Network};
use kiln_docker::NetworkSpec;
use kiln_docker::toolbox::{MOUNT_POINT, ToolFile};
use kiln_fetch::http;

use crate::environment::Environment;
use crate::error::{CliError, Result};

/// The bundle in kiln's folder of a container.
pub(crate) const BUNDLE: &str = "ca-certificates.crt";
const APT_CONF: &str = "apt.conf";

/// A bundle with fewer certificates than this is a company's own: programs that are pointed to it would not trust the
/// rest of the world, so this machine's bundle is added.
const WHOLE_BUNDLE: usize = 30;

/// Where distributions keep their bundle.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Programs find a bundle by these variables: OpenSSL, pip, requests, curl, git, Node.js, cargo.
const BUNDLE_VARIABLES: &[&str] = &[
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
];

/// The way of this process to the network: what the settings say, and where they are silent the usual variables.
pub(crate) fn of_client(environment: &Environment, settings: &Network, folder: &Path) -> Result<http::Network> {
    let proxy = |set: &Option<String>, names: &[&str]| {
        set.clone().or_else(|| names.iter().find_map(|name| environment.get(name)).map(str::to_owned))
    };
    Ok(http::Network {
        certificates: bundle(settings, folder)?,
        http_proxy: proxy(&settings.http_proxy, &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
        https_proxy: proxy(&settings.https_proxy, &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        no_proxy: proxy(&settings.no_proxy, &["no_proxy", "NO_PROXY"]),
    })
}

/// Variables of every step.
pub(crate) fn variables(network: &Network) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
    if network.ca_certificates.is_some() {
        let bundle = format!("{MOUNT_POINT}/{BUNDLE}");
        for name in BUNDLE_VARIABLES {
            set(name, &bundle);
        }
        set("APT_CONFIG", &format!("{MOUNT_POINT}/{APT_CONF}"));
    }
    if let Some(url) = &network.pip_index_url {
        set("PIP_INDEX_URL", url);
    }
    for (name, value) in
        [("http_proxy", &network.http_proxy), ("https_proxy", &network.https_proxy), ("no_proxy", &network.no_proxy)]
    {
        if let Some(value) = value {
            set(name, value);
            set(&name.to_uppercase(), value);
        }
    }
    variables
}

/// The certificates to trust, in PEM form, if the settings name any.
pub(crate) fn bundle(network: &Network, folder: &Path) -> Result<Option<Vec<u8>>> {
    let Some(path) = &network.ca_certificates else { return Ok(None) };
    let path = folder.join(path);
    let mut bundle = fs_err::read(&path).map_err(CliError::io("read", &path))?;
    let certificates = String::from_utf8_lossy(&bundle).matches("BEGIN CERTIFICATE").count();
    if certificates == 0 {
        return Err(CliError::Missing {
            problem: format!("{} holds no certificate in PEM form", path.display()),
            hint: "`[network] ca-certificates` names a file with `-----BEGIN CERTIFICATE-----` lines".to_owned(),
        });
    }
    if certificates < WHOLE_BUNDLE
        && let Some(system) = SYSTEM_BUNDLES.iter().find_map(|path| fs_err::read(path).ok())
    {
        bundle.push(b'\n');
        bundle.extend(system);
    }
    Ok(Some(bundle))
}

/// Files of every step.
pub(crate) fn files(network: &Network, folder: &Path) -> Result<Vec<ToolFile>> {
    let Some(bundle) = bundle(network, folder)? else { return Ok(Vec::new()) };
    let apt = format!("Acquire::https::CaInfo \"{MOUNT_POINT}/{BUNDLE}\";\n");
    Ok(vec![
        ToolFile { path: BUNDLE.to_owned(), mode: 0o644, bytes: bundle },
        ToolFile { path: APT_CONF.to_owned(), mode: 0o644, bytes: apt.into_bytes() },
    ])
}

/// The network of containers.
pub(crate) fn spec(network: &Network) -> NetworkSpec {
    match network.build_network {
        BuildNetwork::Default => NetworkSpec::Bridge,
        BuildNetwork::Host => NetworkSpec::Host,
        BuildNetwork::None => NetworkSpec::None,
    }
}
