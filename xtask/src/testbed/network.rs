//! Bridges of our own, and finding out how containers reach the outside from this host.
//!
//! The engines run with `iptables: false`: an engine that manages the packet filter replaces the chains of any other
//! engine on the machine. The three rules that a bridge needs are set here instead and removed by `down`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::engine::Api;
use super::layout::{Bridge, Layout, State};
use super::{packages, say};
use crate::process::{output, run, succeeds};

/// First two bytes of the bridges' networks, from the private range and off the beaten track.
const NETWORK: &str = "10.213";

/// Where Debian's packages come from unless a system says otherwise.
pub(crate) const DEBIAN_ARCHIVE: &str = "http://deb.debian.org/debian";
pub(crate) const DEBIAN_SECURITY: &str = "http://deb.debian.org/debian-security";

/// How containers reach the outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reach {
    /// A digest of the host's network settings that this was found out under.
    fingerprint: String,
    /// The network that reaches out, `bridge` or `host`; none if neither does.
    pub(crate) network: Option<String>,
}

// ---- bridges ----

impl Bridge {
    fn address(&self) -> String {
        format!("{NETWORK}.{}.1/24", self.subnet)
    }

    fn range(&self) -> String {
        format!("{NETWORK}.{}.0/24", self.subnet)
    }

    fn interface(&self) -> PathBuf {
        Path::new("/sys/class/net").join(&self.name)
    }

    /// The packet filter's rules, as the words after `-A` or `-D`.
    fn rules(&self) -> [(&'static str, Vec<String>); 3] {
        let words = |text: String| text.split(' ').map(str::to_owned).collect();
        let (name, range) = (&self.name, self.range());
        [
            ("nat", words(format!("POSTROUTING -s {range} ! -o {name} -j MASQUERADE"))),
            ("filter", words(format!("FORWARD -i {name} -j ACCEPT"))),
            ("filter", words(format!("FORWARD -o {name} -j ACCEPT"))),
        ]
    }
}

/// Brings up an engine's bridge, which is chosen at the first time and then kept.
pub(crate) fn bridge_up(layout: &Layout, state: &mut State, engine: &str) -> Result<Bridge> {
    let mark = mark(layout);
    let usable = |bridge: &Bridge| !bridge.interface().exists() || alias(bridge) == mark;
    let kept = state.bridges.get(engine).filter(|bridge| usable(bridge)).cloned();
    let bridge = match kept {
        Some(bridge) => bridge,
        None => choose_bridge(state)?,
    };
    let name = &bridge.name;
    if !bridge.interface().exists() {
        run(Command::new("ip").args(["link", "add", name, "type", "bridge"])).context("cannot make a bridge")?;
        run(Command::new("ip").args(["link", "set", name, "alias", &mark]))?;
    }
    run(Command::new("ip").args(["address", "replace", &bridge.address(), "dev", name]))?;
    run(Command::new("ip").args(["link", "set", name, "up"]))?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot turn on IP forwarding")?;
    for (table, rule) in bridge.rules() {
        let iptables = |verb: &str| {
            let mut command = Command::new("iptables");
            command.args(["-w", "-t", table, verb]).args(&rule);
            command
        };
        // Without a packet filter containers can still use the host's network, which `detect_reach` finds out.
        if !succeeds(&mut iptables("-C"))
            && let Err(error) = run(&mut iptables("-I"))
        {
            say(format!("containers cannot use the bridge {name}: {error:#}"));
        }
    }
    state.bridges.insert(engine.to_owned(), bridge.clone());
    Ok(bridge)
}

/// Takes down an engine's bridge and its packet filter rules.
pub(crate) fn bridge_down(layout: &Layout, bridge: &Bridge) {
    for (table, rule) in bridge.rules() {
        while succeeds(Command::new("iptables").args(["-w", "-t", table, "-D"]).args(&rule)) {}
    }
    if alias(bridge) == mark(layout) {
        succeeds(Command::new("ip").args(["link", "delete", &bridge.name]));
    }
}

/// What is noted on our interfaces, to know them again.
fn mark(layout: &Layout) -> String {
    format!("kiln testbed {}", layout.root.display())
}

fn alias(bridge: &Bridge) -> String {
    fs::read_to_string(bridge.interface().join("ifalias")).unwrap_or_default().trim().to_owned()
}

fn choose_bridge(state: &State) -> Result<Bridge> {
    let routes = output(Command::new("ip").args(["-4", "route", "show", "table", "all"]))?;
    (0..=99)
        .map(|number| Bridge { name: format!("kiln-tb{number}"), subnet: 100 + number })
        .find(|bridge| {
            let taken = state.bridges.values().any(|other| other.name == bridge.name);
            !taken && !bridge.interface().exists() && !routes.contains(&format!("{NETWORK}.{}.", bridge.subnet))
        })
        .context("all names and networks for a bridge are taken")
}

/// The largest packet that leaves the host, in bytes; a container must not send larger ones.
pub(crate) fn mtu() -> u32 {
    let route = output(Command::new("ip").args(["-4", "route", "show", "default"])).unwrap_or_default();
    let mut words = route.lines().next().unwrap_or_default().split(' ').skip_while(|word| *word != "dev");
    let device = words.nth(1).unwrap_or_default();
    let mtu = fs::read_to_string(format!("/sys/class/net/{device}/mtu")).unwrap_or_default();
    mtu.trim().parse().unwrap_or(1500)
}

// ---- what the host says about its network ----

/// The host's own settings for reaching package indexes.
#[derive(Debug, Default)]
pub(crate) struct HostNetwork {
    /// Bundle of certificate authorities to trust, in PEM.
    pub(crate) ca_certificates: Option<String>,
    pub(crate) pip_index_url: Option<String>,
    /// Further arguments that pip needs for its index.
    pub(crate) pip_args: Vec<String>,
    /// Debian archive that the host uses, and its security archive.
    pub(crate) debian_archive: String,
    pub(crate) debian_security: String,
    /// Proxy variables in lower case.
    pub(crate) proxies: BTreeMap<String, String>,
}

impl HostNetwork {
    /// Reads the environment, pip's configuration and apt's sources.
    pub(crate) fn detect() -> Self {
        let pip = pip_configuration();
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let ca_certificates = ["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
            .iter()
            .find_map(|name| variable(name))
            .or_else(|| pip.get("cert").cloned())
            .filter(|path| Path::new(path).is_file());
        // As patient as apt is in the base images.
        let mut pip_args = vec!["--retries".to_owned(), packages::RETRIES.to_string()];
        for (option, name) in [("extra-index-url", "PIP_EXTRA_INDEX_URL"), ("trusted-host", "PIP_TRUSTED_HOST")] {
            let values = variable(name).or_else(|| pip.get(option).cloned()).unwrap_or_default();
            pip_args.extend(values.split_whitespace().flat_map(|value| [format!("--{option}"), value.to_owned()]));
        }
        let (debian_archive, debian_security) = debian_archives();
        let proxies = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];
        let proxies = proxies
            .iter()
            .filter_map(|name| {
                let value = variable(name).or_else(|| variable(&name.to_uppercase()))?;
                Some(((*name).to_owned(), value))
            })
            .collect();
        Self {
            ca_certificates,
            pip_index_url: variable("PIP_INDEX_URL").or_else(|| pip.get("index-url").cloned()),
            pip_args,
            debian_archive,
            debian_security,
            proxies,
        }
    }

    /// The host's settings as kiln's configuration variables, where they differ from what is usual.
    ///
    /// `network` is the one through which containers reach the outside.
    pub(crate) fn variables(&self, network: Option<&str>) -> Vec<(String, String)> {
        let archive = Some(&self.debian_archive).filter(|archive| *archive != DEBIAN_ARCHIVE);
        // A list as kiln reads it from a variable: TOML, whose arrays of plain strings are also JSON's.
        let pip_args = Some(serde_json::json!(self.pip_args).to_string());
        let settings = [
            ("BUILD_NETWORK", network.filter(|network| *network != "bridge").map(str::to_owned)),
            ("CA_CERTIFICATES", self.ca_certificates.clone()),
            ("PIP_INDEX_URL", self.pip_index_url.clone()),
            ("PIP_ARGS", pip_args),
            ("APT_MIRROR", archive.cloned()),
            ("HTTP_PROXY", self.proxies.get("http_proxy").cloned()),
            ("HTTPS_PROXY", self.proxies.get("https_proxy").cloned()),
            ("NO_PROXY", self.proxies.get("no_proxy").cloned()),
        ];
        let set = settings.into_iter().filter_map(|(name, value)| Some((name, value?)));
        set.map(|(name, value)| (format!("KILN_NETWORK_{name}"), value)).collect()
    }

    /// A command for a busybox shell that succeeds if the outside can be reached.
    fn probe(&self) -> String {
        // A proxy that can be reached will do the rest; without one, the archive itself must answer.
        let proxy = self.proxies.get("http_proxy").or_else(|| self.proxies.get("https_proxy"));
        if proxy.is_none() && self.debian_archive.starts_with("http://") {
            return format!("wget -q -T 8 -O /dev/null {}/dists/bookworm/Release", self.debian_archive);
        }
        let url = proxy.unwrap_or(&self.debian_archive);
        let (host, port) = host_and_port(url);
        format!("nc -z -w 8 {host} {port}")
    }

    fn fingerprint(&self) -> String {
        let routes = output(Command::new("ip").args(["-4", "route", "show", "default"])).unwrap_or_default();
        let resolver = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let text = format!("{routes}\n{resolver}\n{:?}\n{}", self.proxies, self.debian_archive);
        super::hex(&Sha256::digest(text)[..8])
    }
}

fn host_and_port(url: &str) -> (String, u16) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let standard = if scheme == "https" { 443 } else { 80 };
    match authority.rsplit_once(':') {
        Some((host, port)) => (host.to_owned(), port.parse().unwrap_or(standard)),
        None => (authority.to_owned(), standard),
    }
}

/// Whether the reach of an engine's containers was found out under the host's present settings.
pub(crate) fn reach_is_known(state: &State, engine: &str, host: &HostNetwork) -> bool {
    state.reach.get(engine).is_some_and(|reach| reach.fingerprint == host.fingerprint() && reach.network.is_some())
}

/// Finds out which network lets a container reach the outside, and remembers it.
pub(crate) fn detect_reach(state: &mut State, engine: &str, api: &Api, image: &str, host: &HostNetwork) -> Result<()> {
    let fingerprint = host.fingerprint();
    let env: Vec<_> = host.proxies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut network = None;
    // What is not reached in one moment may be in the next one.
    'tries: for pause in [0, 10, 30] {
        thread::sleep(Duration::from_secs(pause));
        for candidate in ["bridge", "host"] {
            if api.try_in_container(image, candidate, &env, &host.probe())? {
                network = Some(candidate.to_owned());
                break 'tries;
            }
        }
    }
    if network.is_none() {
        say(format!("containers do not reach {}: builds that install packages will fail", host.debian_archive));
    }
    state.reach.insert(engine.to_owned(), Reach { fingerprint, network });
    Ok(())
}

/// pip's options from its configuration files, the most specific file last.
fn pip_configuration() -> BTreeMap<String, String> {
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let config = env::var_os("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
    let files = [
        Some(PathBuf::from("/etc/pip.conf")),
        Some(home.join(".pip/pip.conf")),
        Some(config.join("pip/pip.conf")),
        env::var_os("VIRTUAL_ENV").map(|folder| PathBuf::from(folder).join("pip.conf")),
        env::var_os("PIP_CONFIG_FILE").map(PathBuf::from),
    ];
    let texts = files.iter().flatten().filter_map(|path| fs::read_to_string(path).ok());
    texts.flat_map(|text| ini_options(&text)).collect()
}

/// The options of an INI file's sections `global` and `install`; indented lines continue the value above.
fn ini_options(text: &str) -> BTreeMap<String, String> {
    let mut options = BTreeMap::<String, String>::new();
    let mut wanted = false;
    let mut last = None;
    for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
        if let Some(section) = line.strip_prefix('[') {
            wanted = matches!(section.trim_end().trim_end_matches(']'), "global" | "install");
        } else if let (true, Some(key), true) = (line.starts_with(char::is_whitespace), &last, wanted) {
            let value: &mut String = options.entry(String::clone(key)).or_default();
            value.push(' ');
            value.push_str(line.trim());
        } else if let (true, Some((key, value))) = (wanted, line.split_once(['=', ':'])) {
            let key = key.trim().replace('_', "-");
            options.insert(key.clone(), value.trim().to_owned());
            last = Some(key);
        }
    }
    options.into_iter().map(|(key, value)| (key, value.trim().to_owned())).collect()
}

/// The Debian archive and security archive of the host's apt sources; the public ones where the host is no Debian.
fn debian_archives() -> (String, String) {
    let standard = (DEBIAN_ARCHIVE.to_owned(), DEBIAN_SECURITY.to_owned());
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let codename = field("VERSION_CODENAME");
    if field("ID") != "debian" || codename.is_empty() {
        return standard;
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let mut more: Vec<_> =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    more.sort();
    files.append(&mut more);
    let sources: Vec<_> = files
        .iter()
        .filter_map(|path| Some((path.extension()?.to_owned(), fs::read_to_string(path).ok()?)))
        .flat_map(|(kind, text)| if kind == "sources" { deb822_sources(&text) } else { list_sources(&text) })
        .collect();
    let archive_of = |suite: &str| {
        let found = sources.iter().find(|source| source.suites.iter().any(|name| name == suite));
        found.map(|source| source.uri.trim_end_matches('/').to_owned())
    };
    (archive_of(&codename).unwrap_or(standard.0), archive_of(&format!("{codename}-security")).unwrap_or(standard.1))
}

/// One package source of apt.
#[derive(Debug, PartialEq)]
struct AptSource {
    uri: String,
    suites: Vec<String>,
}

/// Sources in the form of `debian.sources`; see sources.list(5).
fn deb822_sources(text: &str) -> Vec<AptSource> {
    let text: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let stanzas = text.split(|line| line.trim().is_empty());
    let field = |stanza: &[&str], name: &str| {
        let line = stanza.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    stanzas
        .filter(|stanza| field(stanza, "Types").iter().any(|kind| kind == "deb"))
        .filter_map(|stanza| {
            let uri = field(stanza, "URIs").into_iter().next()?;
            Some(AptSource { uri, suites: field(stanza, "Suites") })
        })
        .collect()
}

/// Sources in the one-line form of `sources.list`; see sources.list(5).
fn list_sources(text: &str) -> Vec<AptSource> {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix("deb ")?.trim_start();
            let rest =
                rest.strip_prefix('[').map_or(rest, |options| options.split_once(']').map_or("", |(_, rest)| rest));
            let mut words = rest.split_whitespace().map(str::to_owned);
            Some(AptSource { uri: words.next()?, suites: words.next().into_iter().collect() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_apt_sources() {
        let modern = "# a comment\nTypes: deb\n# http://old.example\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\nTypes: deb-src\nURIs: x\nSuites: bookworm\n";
        let expected = AptSource {
            uri: "http://mirror.example/debian".to_owned(),
            suites: vec!["bookworm".to_owned(), "bookworm-updates".to_owned()],
        };
        assert_eq!(deb822_sources(modern), [expected]);
        let classic = "deb [arch=amd64 trusted=yes] http://a.example/debian bookworm main\n#deb http://b x main\n";
        let expected = AptSource { uri: "http://a.example/debian".to_owned(), suites: vec!["bookworm".to_owned()] };
        assert_eq!(list_sources(classic), [expected]);
    }

    #[test]
    fn reads_pip_configuration() {
        let options =
            ini_options("[global]\nindex_url = https://a/simple\ntrusted-host =\n  a\n  b\n[list]\ncert = no\n");
        assert_eq!(options.get("index-url").map(String::as_str), Some("https://a/simple"));
        assert_eq!(options.get("trusted-host").map(String::as_str), Some("a b"));
        assert_eq!(options.get("cert"), None);
    }

    #[test]
    fn takes_host_and_port_from_urls() {
        assert_eq!(host_and_port("https://user:word@proxy.example/x"), ("proxy.example".to_owned(), 443));
        assert_eq!(host_and_port("http://proxy.example:3128"), ("proxy.example".to_owned(), 3128));
    }
}
