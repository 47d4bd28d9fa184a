//! From a text to an address.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kiln_docker::registry::ImageName;

use super::options::{Kind, Known, SCHEMES, all_kinds, is_known, is_secret, nearest_kind, shown};
use super::words::{boolean, csv, decoded, duration, nearest, query, scheme};
use super::{Address, Azblob, Direction, Gcs, GhaAddress, Mode, Place, S3, Web};
use crate::error::{CacheError, Result};
use crate::secret::Secret;

/// Where blobs go if no container is named.
const CONTAINER: &str = "kiln-cache";

/// What is wrong, and what helps.
type Wrong = (String, String);

/// How to write an address.
const SPELLINGS: &str = "write type=TYPE,OPTION=VALUE,... or a URL such as s3://BUCKET/PREFIX, gs://, azblob://, webdavs://, \
     https://, registry://, file:///FOLDER or gha:, or the name of an image in a registry";

impl Address {
    /// Reads what was written.
    ///
    /// # Errors
    /// [`CacheError::BadAddress`] if it names no store.
    pub fn parse(text: &str, direction: Direction) -> Result<Self> {
        let text = text.trim();
        let parsed = match text {
            "" => Err(("it is empty".to_owned(), SPELLINGS.to_owned())),
            _ if is_path(text) => Ok(plain(Place::Local { folder: PathBuf::from(text) })),
            _ => match scheme(text) {
                Some((scheme, rest)) => from_url(&scheme, rest, direction),
                None => match text.strip_prefix("gha:").filter(|rest| !rest.contains('=') || rest.starts_with('?')) {
                    Some(rest) => from_gha(rest, direction),
                    None if text.contains('=') => from_csv(text, direction),
                    None => from_reference(text, false).map(plain),
                },
            },
        };
        parsed.map_err(|(problem, hint)| CacheError::BadAddress { text: without_secrets(text), problem, hint })
    }
}

/// Whether it can be nothing but a folder: other names without a type are a registry's.
fn is_path(text: &str) -> bool {
    text.starts_with('/') || matches!(text, "." | "..") || text.starts_with("./") || text.starts_with("../")
}

fn plain(place: Place) -> Address {
    Address { place, mode: None, ignore_error: true, unused: Vec::new() }
}

fn from_csv(text: &str, direction: Direction) -> Result<Address, Wrong> {
    let fields = csv(text).map_err(|problem| (problem.to_owned(), SPELLINGS.to_owned()))?;
    let mut pairs = Vec::new();
    let mut kind = None;
    for field in &fields {
        let Some((name, value)) = field.split_once('=') else {
            // It may be the rest of a secret with a comma in it.
            let problem = if fields.iter().any(|field| is_secret_field(field)) {
                "a field of it has no value".to_owned()
            } else {
                format!("the field `{field}` has no value")
            };
            return Err((problem, SPELLINGS.to_owned()));
        };
        let name = name.trim().to_ascii_lowercase();
        if name == "type" {
            kind = Some(Kind::parse(value).ok_or_else(|| unknown_kind(value))?);
        } else {
            pairs.push((name, value.to_owned()));
        }
    }
    let kind =
        kind.ok_or_else(|| ("it has no type".to_owned(), format!("write type=TYPE; types are {}", all_kinds())))?;
    build(kind, pairs, direction)
}

fn from_url(scheme: &str, rest: &str, direction: Direction) -> Result<Address, Wrong> {
    let (location, mut pairs) = query(rest);
    let location = location.split('#').next().unwrap_or_default();
    let (authority, path) = location.split_once('/').unwrap_or((location, ""));
    let folder = match direction {
        Direction::From => "src",
        Direction::To => "dest",
    };
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            pairs.push((name.to_owned(), value.to_owned()));
        }
    };
    let kind = match scheme {
        "s3" | "gs" | "gcs" | "azblob" => {
            add(if scheme == "azblob" { "container" } else { "bucket" }, &decoded(authority));
            add("prefix", &decoded(path));
            match scheme {
                "s3" => Kind::S3,
                "azblob" => Kind::Azblob,
                _ => Kind::Gcs,
            }
        }
        "http" | "https" | "webdav" | "webdavs" => {
            let secure = if scheme.ends_with('s') { "s" } else { "" };
            add("url", &format!("http{secure}://{location}"));
            if scheme.starts_with("http") { Kind::Http } else { Kind::Webdav }
        }
        "registry" | "oci" => {
            add("ref", location);
            Kind::Registry
        }
        "file" if authority.is_empty() || authority == "localhost" => {
            add(folder, &format!("/{}", decoded(path)));
            Kind::Local
        }
        "file" => {
            let problem = format!("a file's URL names no machine, and this one names `{authority}`");
            return Err((problem, "write file:///FOLDER with three slashes".to_owned()));
        }
        "gha" => {
            add("scope", &decoded(location));
            Kind::Gha
        }
        _ => {
            let guess = nearest(scheme, SCHEMES).map_or_else(String::new, |word| format!("did you mean `{word}://`? "));
            return Err((format!("the scheme `{scheme}` is unknown"), format!("{guess}{SPELLINGS}")));
        }
    };
    build(kind, pairs, direction)
}

/// `gha:`, `gha:SCOPE`, `gha:?scope=SCOPE`.
fn from_gha(rest: &str, direction: Direction) -> Result<Address, Wrong> {
    let (scope, mut pairs) = query(rest);
    if !scope.is_empty() {
        pairs.push(("scope".to_owned(), decoded(scope)));
    }
    build(Kind::Gha, pairs, direction)
}

fn from_reference(text: &str, insecure: bool) -> Result<Place, Wrong> {
    let name = ImageName::parse(text).map_err(|error| (error.to_string(), error.hint().unwrap_or_default()))?;
    let last = text.rsplit('/').next().unwrap_or_default();
    let tag = last.contains(':').then(|| name.tag.clone());
    Ok(Place::Registry { name, tag, insecure })
}

fn unknown_kind(word: &str) -> Wrong {
    let guess = nearest_kind(word).map_or_else(String::new, |known| format!("did you mean `{known}`? "));
    (format!("the type `{word}` is unknown"), format!("{guess}types are {}", all_kinds()))
}

/// What was said for a type, by the names of its options.
struct Said {
    kind: Kind,
    values: BTreeMap<&'static str, String>,
}

impl Said {
    /// An option that is not empty: buildx, too, takes an empty one for none.
    fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name).filter(|value| !value.is_empty())
    }

    fn secret(&mut self, name: &str) -> Option<Secret> {
        self.take(name).map(Secret::new)
    }

    fn needed(&mut self, name: &str) -> Result<String, Wrong> {
        self.take(name).ok_or_else(|| {
            let kind = self.kind.name();
            (
                format!("type `{kind}` needs {}=", shown(name)),
                format!("options of `{kind}` are {}", self.kind.described()),
            )
        })
    }

    fn boolean(&mut self, name: &str) -> Result<Option<bool>, Wrong> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let wrong = || (format!("`{value}` is not what {}= can be", shown(name)), "write true or false".to_owned());
        boolean(&value).map(Some).ok_or_else(wrong)
    }

    fn duration(&mut self, name: &str) -> Result<Option<Duration>, Wrong> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let wrong = || (format!("`{value}` is not what {}= can be", shown(name)), "write 90s, 10m or 1h30m".to_owned());
        duration(&value).map(Some).ok_or_else(wrong)
    }

    /// `prefix=` and `name=` behind it: caches of different names are apart.
    fn prefix(&mut self) -> String {
        let parts = [self.take("prefix"), self.take("name")];
        let parts = parts.iter().flatten().flat_map(|part| part.split('/'));
        // Stores would not agree on what such parts mean.
        parts.filter(|part| !matches!(*part, "" | "." | "..")).collect::<Vec<_>>().join("/")
    }
}

fn build(kind: Kind, pairs: Vec<(String, String)>, direction: Direction) -> Result<Address, Wrong> {
    let mut said = Said { kind, values: BTreeMap::new() };
    let mut unused = Vec::new();
    let mut after_secret = false;
    for (name, value) in pairs {
        match kind.option(&name) {
            Ok(Known::Option(known)) => drop(said.values.insert(known, value)),
            Ok(Known::Unused(known)) => unused.push(shown(known)),
            Err(guess) => {
                let guess = guess.map_or_else(String::new, |known| format!("did you mean `{}`? ", shown(known)));
                let hint = format!("{guess}options of `{}` are {}", kind.name(), kind.described());
                let kind = kind.name();
                if after_secret {
                    // It may be the rest of a secret with a comma in it.
                    return Err((format!("type `{kind}` has no such option as one behind a secret"), hint));
                }
                return Err((format!("type `{kind}` has no option `{name}`"), hint));
            }
        }
        after_secret |= is_secret(&name);
    }
    let mode = match said.take("mode").as_deref() {
        None => None,
        Some("min") => Some(Mode::Min),
        Some("max") => Some(Mode::Max),
        Some(other) => return Err((format!("`{other}` is no mode"), "write mode=min or mode=max".to_owned())),
    };
    let ignore_error = said.boolean("ignore_error")?.unwrap_or(true);
    let place = place(&mut said, direction)?;
    Ok(Address { place, mode, ignore_error, unused })
}

fn place(said: &mut Said, direction: Direction) -> Result<Place, Wrong> {
    Ok(match said.kind {
        Kind::Local => local(said, direction)?,
        Kind::Registry => {
            let insecure = said.boolean("registry.insecure")?.unwrap_or(false);
            from_reference(&said.needed("ref")?, insecure)?
        }
        Kind::S3 => Place::S3(s3(said)?),
        Kind::Azblob => Place::Azblob(Azblob {
            account_url: said.take("account_url").map(|url| web_url(&url)).transpose()?,
            container: said.take("container").unwrap_or_else(|| CONTAINER.to_owned()),
            prefix: said.prefix(),
            secret_access_key: said.secret("secret_access_key"),
            sas_token: said.secret("sas_token"),
        }),
        Kind::Gcs => Place::Gcs(Gcs {
            bucket: bucket(said)?,
            prefix: said.prefix(),
            endpoint: said.take("endpoint_url").map(|url| web_url(&url)).transpose()?,
            credentials: said.take("credentials").map(PathBuf::from),
            token: said.secret("token"),
        }),
        Kind::Webdav => Place::Webdav(web(said)?),
        Kind::Http => Place::Http(web(said)?),
        Kind::Gha => Place::Gha(GhaAddress {
            scope: said.take("scope"),
            timeout: said.duration("timeout")?,
            url: said.take("url").map(|url| web_url(&url)).transpose()?,
            token: said.secret("token"),
        }),
    })
}

fn local(said: &mut Said, direction: Direction) -> Result<Place, Wrong> {
    let (here, there) = match direction {
        Direction::From => ("src", "dest"),
        Direction::To => ("dest", "src"),
    };
    let (right, wrong) = (said.take(here), said.take(there));
    match (right, wrong) {
        (Some(folder), None) => Ok(Place::Local { folder: PathBuf::from(folder) }),
        (_, Some(_)) => Err((
            format!("`{there}` is of the other way"),
            "a cache is read from src= (--cache-from) and written to dest= (--cache-to)".to_owned(),
        )),
        (None, None) => Err((format!("type `local` needs {here}="), format!("write type=local,{here}=FOLDER"))),
    }
}

fn s3(said: &mut Said) -> Result<S3, Wrong> {
    let s3 = S3 {
        bucket: bucket(said)?,
        prefix: said.prefix(),
        region: said.take("region"),
        endpoint: said.take("endpoint_url").map(|url| web_url(&url)).transpose()?,
        access_key_id: said.secret("access_key_id"),
        secret_access_key: said.secret("secret_access_key"),
        session_token: said.secret("session_token"),
        path_style: said.boolean("use_path_style")?,
    };
    if s3.access_key_id.is_some() != s3.secret_access_key.is_some() {
        let hint = "write neither where the environment or ~/.aws has them".to_owned();
        return Err(("access_key_id= and secret_access_key= belong together".to_owned(), hint));
    }
    Ok(s3)
}

fn bucket(said: &mut Said) -> Result<String, Wrong> {
    let bucket = said.needed("bucket")?;
    if bucket.contains(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_')) {
        return Err(("this is no name of a bucket".to_owned(), "credentials do not belong there".to_owned()));
    }
    Ok(bucket)
}

fn web(said: &mut Said) -> Result<Web, Wrong> {
    let written = said.needed("url")?;
    let (mut username, mut password) = (said.take("username"), said.secret("password"));
    // Credentials in the URL are moved out of it: it is shown to people.
    let url = match scheme(&written) {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            match authority.rsplit_once('@') {
                Some((user, host)) => {
                    let (user, secret) =
                        user.split_once(':').map_or((user, None), |(user, secret)| (user, Some(secret)));
                    username = username.or_else(|| Some(decoded(user)).filter(|user| !user.is_empty()));
                    password = password.or_else(|| secret.map(|secret| Secret::new(decoded(secret))));
                    format!("{scheme}://{host}{path}")
                }
                None => written.clone(),
            }
        }
        None => written.clone(),
    };
    let mut url = web_url(&url)?;
    let prefix = said.prefix();
    if !prefix.is_empty() {
        url = format!("{url}/{prefix}");
    }
    Ok(Web { url, username, password, token: said.secret("token") })
}

/// A URL of HTTP, without a slash at the end. One that is not is not shown: it may hold anything.
fn web_url(text: &str) -> Result<String, Wrong> {
    let wrong = |problem: &str| (problem.to_owned(), "write http://HOST/PATH or https://HOST/PATH".to_owned());
    let (scheme, rest) =
        scheme(text).ok_or_else(|| wrong("a URL of it begins neither with http:// nor with https://"))?;
    if scheme != "http" && scheme != "https" {
        return Err(wrong("a URL of it begins neither with http:// nor with https://"));
    }
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() || rest.contains(|c: char| c.is_control() || matches!(c, ' ' | '?' | '#' | '@')) {
        return Err(wrong("a URL of it has no host, or characters that it must not have"));
    }
    Ok(format!("{scheme}://{}", rest.trim_end_matches('/')))
}

/// What was written, fit for people to read.
fn without_secrets(text: &str) -> String {
    if let Some((scheme, rest)) = scheme(text) {
        let (location, pairs) = query(rest);
        let (authority, path) = location.find('/').map_or((location, ""), |at| location.split_at(at));
        let host = authority.rsplit_once('@').map_or_else(|| authority.to_owned(), |(_, host)| format!("***@{host}"));
        let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", hidden(name, value))).collect();
        let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
        return format!("{scheme}://{host}{path}{query}");
    }
    if !text.contains('=') {
        return text.to_owned();
    }
    let Ok(fields) = csv(text) else {
        // Nobody can tell where values end: only the first field is shown.
        let first = text.split([',', '"']).next().unwrap_or_default();
        let shown = first.split_once('=').map(|(name, value)| format!("{name}={}", hidden(name, value)));
        return format!("{}...", shown.as_deref().unwrap_or(first));
    };
    let mut after_secret = false;
    let mut field = |field: &String| match field.split_once('=') {
        Some((name, value)) if !after_secret || is_known(&name.trim().to_ascii_lowercase()) => {
            after_secret |= is_secret(name);
            format!("{name}={}", hidden(name, value))
        }
        // It may be the rest of a secret with a comma in it.
        _ if after_secret => "***".to_owned(),
        _ => field.clone(),
    };
    fields.iter().map(&mut field).collect::<Vec<_>>().join(",")
}

fn is_secret_field(field: &str) -> bool {
    field.split_once('=').is_some_and(|(name, _)| is_secret(name))
}

fn hidden(name: &str, value: &str) -> String {
    if is_secret(name) {
        return "***".to_owned();
    }
    // A URL in an option may hold a password, too, or have one behind it.
    match scheme(value) {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
            let host =
                authority.rsplit_once('@').map_or_else(|| authority.to_owned(), |(_, host)| format!("***@{host}"));
            let path = path.split_once('?').map_or_else(|| path.to_owned(), |(path, _)| format!("{path}?***"));
            format!("{scheme}://{host}{path}")
        }
        None => value.to_owned(),
    }
}
