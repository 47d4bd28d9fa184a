//! Files behind URLs, through a cache.
//!
//! A URL that was fetched before is asked for again with what the server said about it then (`ETag`, `Last-Modified`): if
//! it answers 304, nothing is transferred. One whose digest is known beforehand is not asked for at all. A download is
//! written to a file without a name, which gets one when all of it is there and its digest is right.

use std::fmt::Write as _;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use kiln_graph::remote::without_password;
use kiln_graph::{Digest, Hasher};
use rustix::fs::{AtFlags, CWD, linkat};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ureq::http::{Response, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

use crate::cache::{Cache, touch};
use crate::error::{FetchError, Result};

/// Version of [`Known`]; a file of another one is not read.
const VERSION: u32 = 1;
/// Bytes that are read at once.
const BUFFER: usize = 128 * 1024;
/// How long a server may take to be connected to, and to send the next bytes.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a failed transfer is begun in all, and how long the first pause is.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// How this machine reaches others.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Certificates in PEM form to trust; the system's if none.
    pub certificates: Option<Vec<u8>>,
    /// Proxy for `http` URLs.
    pub http_proxy: Option<String>,
    /// Proxy for `https` URLs.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas.
    pub no_proxy: Option<String>,
}

impl Network {
    fn agent(&self, url: &str) -> Result<Agent> {
        let secure = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        let address = if secure { self.https_proxy.as_ref() } else { self.http_proxy.as_ref() };
        let proxy = address.map(|address| self.proxy(address)).transpose()?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(proxy)
            .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE));
        if secure || self.certificates.is_some() {
            config = config.tls_config(TlsConfig::builder().root_certs(self.roots()).build());
        }
        Ok(config.build().new_agent())
    }

    fn proxy(&self, address: &str) -> Result<Proxy> {
        let wrong = || FetchError::Proxy { proxy: without_password(address) };
        let proxy = Proxy::new(address).map_err(|_| wrong())?;
        let mut builder = Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
        if let Some(user) = proxy.username() {
            builder = builder.username(user);
        }
        if let Some(password) = proxy.password() {
            builder = builder.password(password);
        }
        for host in self.no_proxy.iter().flat_map(|hosts| hosts.split(',')).map(str::trim) {
            builder = builder.no_proxy(host);
            // A domain stands for its hosts, with or without a dot in front.
            if !host.is_empty() && !host.starts_with(['.', '*']) {
                builder = builder.no_proxy(&format!(".{host}"));
            }
        }
        builder.build().map_err(|_| wrong())
    }

    fn roots(&self) -> RootCerts {
        let Some(pem) = &self.certificates else {
            let native = rustls_native_certs::load_native_certs().certs;
            let native = native.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
            return RootCerts::new_with_certs(&native.collect::<Vec<_>>());
        };
        let certificates = parse_pem(pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        RootCerts::new_with_certs(&certificates.collect::<Vec<_>>())
    }
}

/// A file in the cache.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// A folder that holds nothing but the file, under the name that was asked for.
    pub folder: PathBuf,
    /// The file.
    pub file: PathBuf,
    /// `sha256:...` of its content.
    pub digest: String,
    /// Bytes that were transferred; none if the file was here already.
    pub transferred: u64,
}

impl Fetched {
    /// What decides the content of the folder.
    pub fn identity(&self, name: &str) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field("http").field(&self.digest).field(name);
        hasher.finish()
    }
}

/// What is known of a URL that was fetched.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    version: u32,
    etag: Option<String>,
    last_modified: Option<String>,
    /// Hexadecimal SHA-256.
    digest: String,
    size: u64,
}

/// Fetches the file behind `url`; in the cache it is called `name`. Blocks.
///
/// # Errors
/// If the server cannot be reached or refuses, the content is not what `checksum` (`sha256:...`) says, or the cache cannot
/// be written.
pub fn fetch(
    network: &Network,
    cache: &Cache,
    url: &str,
    name: &str,
    checksum: Option<&str>,
    stop: &dyn Fn() -> bool,
) -> Result<Fetched> {
    let wanted = checksum.and_then(|checksum| checksum.strip_prefix("sha256:"));
    let blobs = cache.folder("blobs")?;
    if let Some(hex) = wanted
        && blobs.join(hex).is_file()
    {
        return named(cache, hex, name, 0);
    }
    let notes = cache.folder("urls")?.join(Digest::of(url).to_string().replace(':', "-"));
    let known = read_known(&notes, &blobs);
    let agent = network.agent(url)?;
    let mut pause = PAUSE;
    let mut attempt = 1;
    let response = loop {
        if stop() {
            return Err(FetchError::Stopped);
        }
        let response = ask(&agent, url, known.as_ref());
        let again = match &response {
            Ok(response) => response.status().is_server_error() || response.status().as_u16() == 429,
            Err(error) => is_passing(error),
        };
        if !again || attempt == ATTEMPTS {
            break response.map_err(|source| transfer_error(url, source))?;
        }
        std::thread::sleep(pause);
        pause *= 2;
        attempt += 1;
    };
    let status = response.status();
    if let Some(known) = known.filter(|_| status.as_u16() == 304) {
        check(url, checksum, &known.digest)?;
        touch(&notes);
        return named(cache, &known.digest, name, 0);
    }
    if !status.is_success() {
        return Err(FetchError::Status { url: without_password(url), status: status.as_u16() });
    }
    let text = |header: header::HeaderName| {
        response.headers().get(header).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (etag, last_modified) = (text(header::ETAG), text(header::LAST_MODIFIED));
    cache.age("blobs");
    cache.age("files");
    cache.age("urls");
    let (digest, size) = download(response, url, &blobs, checksum, last_modified.as_deref(), stop)?;
    let known = Known { version: VERSION, etag, last_modified, digest, size };
    if known.etag.is_some() || known.last_modified.is_some() {
        write_known(cache, &notes, &known)?;
    }
    named(cache, &known.digest, name, size)
}

fn ask(agent: &Agent, url: &str, known: Option<&Known>) -> Result<Response<Body>, ureq::Error> {
    // What is behind the hash is for browsers.
    let mut request = agent.get(url.split('#').next().unwrap_or(url));
    if let Some(known) = known {
        if let Some(etag) = &known.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        } else if let Some(date) = &known.last_modified {
            request = request.header(header::IF_MODIFIED_SINCE, date);
        }
    }
    // The bytes of the file are wanted, not of another form of it.
    request.header(header::ACCEPT_ENCODING, "identity").call()
}

/// Whether the same request may do better in a moment.
fn is_passing(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed)
}

fn transfer_error(url: &str, source: ureq::Error) -> FetchError {
    FetchError::Transfer { url: without_password(url), source: Box::new(source) }
}

/// Writes the body into the cache: its digest in hexadecimal and its size.
fn download(
    response: Response<Body>,
    url: &str,
    blobs: &Path,
    checksum: Option<&str>,
    last_modified: Option<&str>,
    stop: &dyn Fn() -> bool,
) -> Result<(String, u64)> {
    let expected = response.body().content_length();
    let mut body = response.into_body().into_reader();
    let mut file = tempfile::tempfile_in(blobs).map_err(FetchError::io("write to", blobs))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        if stop() {
            return Err(FetchError::Stopped);
        }
        let n = body.read(&mut buffer).map_err(|error| transfer_error(url, ureq::Error::Io(error)))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        file.write_all(&buffer[..n]).map_err(FetchError::io("write to", blobs))?;
        size += n as u64;
    }
    if expected.is_some_and(|expected| expected != size) {
        let short = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the transfer broke off");
        return Err(transfer_error(url, ureq::Error::Io(short)));
    }
    let digest = hasher.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    check(url, checksum, &digest)?;
    let modified = last_modified.and_then(http_date).unwrap_or(SystemTime::UNIX_EPOCH);
    file.set_modified(modified).map_err(FetchError::io("write to", blobs))?;
    let path = blobs.join(&digest);
    if !path.exists() {
        name_file(&mut file, &path, modified)?;
    }
    Ok((digest, size))
}

/// Gives a file without a name its name.
fn name_file(file: &mut std::fs::File, path: &Path, modified: SystemTime) -> Result<()> {
    let open = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    match linkat(CWD, open.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => return Ok(()),
        // Not every file system can: then by a copy, which is short work on the same disk.
        Err(_) => {}
    }
    let mut write = || -> std::io::Result<()> {
        file.rewind()?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut copy = tempfile::NamedTempFile::new_in(folder)?;
        std::io::copy(file, copy.as_file_mut())?;
        copy.as_file().set_modified(modified)?;
        copy.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(FetchError::io("write", path))
}

fn check(url: &str, checksum: Option<&str>, hex: &str) -> Result<()> {
    let found = format!("sha256:{hex}");
    match checksum {
        Some(expected) if expected != found => {
            Err(FetchError::Checksum { url: without_password(url), expected: expected.to_owned(), found })
        }
        _ => Ok(()),
    }
}

/// The file under a name of its own, in a folder of its own.
fn named(cache: &Cache, hex: &str, name: &str, transferred: u64) -> Result<Fetched> {
    let blob = cache.folder("blobs")?.join(hex);
    let files = cache.folder("files")?;
    let folder = files.join(Digest::of(format!("{hex} {name}")).short());
    let file = folder.join(name);
    if !file.is_file() {
        let staging = cache.staging()?;
        let inside = staging.path().join(name);
        fs::hard_link(&blob, &inside)
            .or_else(|_| fs::copy(&blob, &inside).map(drop))
            .map_err(FetchError::io("write", &inside))?;
        let _ = fs::remove_dir_all(&folder);
        if fs::rename(staging.path(), &folder).is_err() && !file.is_file() {
            return Err(FetchError::io("write", &file)(std::io::ErrorKind::AlreadyExists.into()));
        }
    }
    touch(&folder);
    Ok(Fetched { folder, file, digest: format!("sha256:{hex}"), transferred })
}

fn read_known(notes: &Path, blobs: &Path) -> Option<Known> {
    let known: Known = serde_json::from_slice(&fs::read(notes).ok()?).ok()?;
    let whole = |path: PathBuf| fs::metadata(path).is_ok_and(|meta| meta.len() == known.size);
    (known.version == VERSION && whole(blobs.join(&known.digest))).then_some(known)
}

fn write_known(cache: &Cache, notes: &Path, known: &Known) -> Result<()> {
    let staging = cache.staging()?;
    let file = staging.path().join("known");
    // A type of plain fields always serialises.
    let bytes = serde_json::to_vec(known).unwrap_or_default();
    fs::write(&file, bytes).and_then(|()| fs::rename(&file, notes)).map_err(FetchError::io("write", notes))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that servers may send (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut parts = text.split_once(", ")?.1.split(' ');
    let mut next = || parts.next();
    let day: u64 = next()?.parse().ok()?;
    let month = MONTHS.find(next()?)? as u64 / 3 + 1;
    let year: u64 = next()?.parse().ok()?;
    let mut time = next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (time.next()??, time.next()??, time.next()??);
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from 1970 on, by Howard Hinnant's civil calendar: years start in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = y / 400;
    let of_era = y % 400;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + hours * 3600 + minutes * 60 + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_servers_are_read() {
        let seconds = |text| http_date(text)?.duration_since(SystemTime::UNIX_EPOCH).ok().map(|d| d.as_secs());
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        assert_eq!(seconds("yesterday"), None);
        assert_eq!(seconds("Thu, 99 Feb 2024 12:00:00 GMT"), None);
    }
}
