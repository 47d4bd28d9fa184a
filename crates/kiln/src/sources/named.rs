//! `--build-context NAME=VALUE`: what stands in for a stage or an image of that name.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use kiln_dockerfile::NamedContext;
use kiln_fetch::archive;
use kiln_graph::remote::{is_url, parse_git, without_password};
use kiln_graph::{Digest, GitReference};
use kiln_solver::context::{Context, StatCache};
use kiln_solver::image::LAYOUT;
use kiln_solver::{BuildEvent, Cancel};
use tokio::sync::mpsc;

use super::{DOWNLOADED, Fetcher, scan, unless_stopped};
use crate::error::{CliError, Result};
use crate::job::STATE;
use crate::{context, project};

/// Where the files of a named context are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A folder of this machine.
    Folder(PathBuf),
    /// An image.
    Image(String),
    /// A git repository.
    Git(GitReference),
    /// A file behind a URL: an archive, or the one file of the context.
    Url(String),
}

/// Named contexts by name.
pub(crate) type Named = BTreeMap<String, Value>;

/// Reads the options.
pub(crate) fn read(options: &[(String, String)]) -> Result<Named> {
    options.iter().map(|(name, value)| Ok((name.clone(), Value::read(name, value)?))).collect()
}

/// What the front end has to know of named contexts.
pub(crate) fn for_front_end(named: &Named) -> BTreeMap<String, NamedContext> {
    let kind = |value: &Value| match value {
        Value::Image(reference) => NamedContext::Image(reference.clone()),
        Value::Folder(_) | Value::Git(_) | Value::Url(_) => NamedContext::Local,
    };
    named.iter().map(|(name, value)| (name.clone(), kind(value))).collect()
}

impl Value {
    fn read(name: &str, text: &str) -> Result<Self> {
        let usage = |problem: String, hint: &str| {
            Err(CliError::Usage { problem: format!("--build-context {name}: {problem}"), hint: hint.to_owned() })
        };
        if let Some(reference) = text.strip_prefix("docker-image://") {
            return Ok(Self::Image(reference.to_owned()));
        }
        if let Some(layout) = text.strip_prefix(LAYOUT) {
            // `PATH[:TAG|@DIGEST]`; what is relative is so to the current folder.
            let absolute = std::path::absolute(layout).map_err(CliError::io("find", layout))?;
            return Ok(Self::Image(format!("{LAYOUT}{}", absolute.display())));
        }
        if let Some(git) = parse_git(text) {
            return match git {
                Ok(git) => Ok(Self::Git(git)),
                Err(error) => usage(error.to_string(), &error.hint()),
            };
        }
        if is_url(text) {
            return Ok(Self::Url(text.to_owned()));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return usage(
                format!("`{scheme}://` is not understood"),
                "write a folder, docker-image://REFERENCE, oci-layout://FOLDER[:TAG], a git repository or an http URL",
            );
        }
        let path = Path::new(text);
        if !path.is_dir() {
            return usage(
                format!("there is no folder {}", path.display()),
                "name a folder, relative to the current one",
            );
        }
        std::path::absolute(path).map(Self::Folder).map_err(CliError::io("find", path))
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Image(reference) if reference.starts_with(LAYOUT) => reference.fmt(f),
            Self::Image(reference) => write!(f, "docker-image://{reference}"),
            Self::Git(reference) => reference.fmt(f),
            Self::Url(url) => without_password(url).fmt(f),
        }
    }
}

/// Brings in a named context; none if it is an image. Digests of its files are kept in the file `cache`, and what has to
/// be unpacked goes into the folder `temporary`.
pub(crate) async fn context(
    fetcher: &Fetcher,
    (name, value): (&str, &Value),
    cache: &Path,
    temporary: &Path,
    events: &mpsc::Sender<BuildEvent>,
    cancel: &Cancel,
) -> Result<Option<Context>> {
    Ok(Some(match value {
        Value::Folder(folder) => {
            let filter = context::filter(folder, None, false, &[STATE.to_owned()])?;
            let (folder, cache) = (folder.clone(), cache.to_owned());
            let work = move || Context::scan(&folder, filter, StatCache::load(&cache));
            let scan = tokio::task::spawn_blocking(work).await;
            let context = scan.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
            let title = format!("the folder {} of the context `{name}`", project::shown(context.root()).display());
            context.titled(title)
        }
        Value::Git(reference) => {
            let tree = fetcher.git(reference, reference.keep_git_dir.unwrap_or(false), events).await?;
            scan(tree.folder, StatCache::load(cache)).await?.titled(reference.to_string())
        }
        Value::Url(url) => {
            let folder = temporary.join(Digest::of(name).short());
            url_context(fetcher, url, folder, events, cancel).await?.titled(without_password(url))
        }
        // Images are no contexts of the client.
        Value::Image(_) => return Ok(None),
    }))
}

/// Where digests of a context's files are kept; `name` is the graph's name for it.
pub(crate) fn cache_file(state: &Path, name: &str) -> PathBuf {
    state.join(format!("context-{}.bin", Digest::of(name).short()))
}

/// An archive behind a URL, unpacked into `folder`; another file as it is.
async fn url_context(
    fetcher: &Fetcher,
    url: &str,
    folder: PathBuf,
    events: &mpsc::Sender<BuildEvent>,
    cancel: &Cancel,
) -> Result<Context> {
    let remote = kiln_graph::Remote::Http { url: url.to_owned(), checksum: None };
    let got = fetcher.download(url, remote.file_name(), None, events, cancel).await?;
    let archive = archive::open(&got.file).map_err(CliError::io("read", &got.file))?;
    let Some(mut archive) = archive else {
        let attributes = HashMap::from([(remote.file_name().to_owned(), DOWNLOADED)]);
        return Ok(scan(got.folder, StatCache::default()).await?.with_attributes(&attributes));
    };
    fs_err::create_dir_all(&folder).map_err(CliError::io("make", &folder))?;
    let into = folder.clone();
    let attributes = unless_stopped(cancel, move |stop| kiln_fetch::unpack(&mut archive, &into, stop)).await?;
    Ok(scan(folder, StatCache::default()).await?.with_attributes(&attributes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart() {
        let read = |text: &str| Value::read("n", text);
        assert_eq!(read("docker-image://alpine:3").expect("image"), Value::Image("alpine:3".into()));
        assert_eq!(read("https://x.org/a.tgz").expect("url"), Value::Url("https://x.org/a.tgz".into()));
        assert!(
            matches!(read("https://x.org/a.git#v1"), Ok(Value::Git(git)) if git.reference.as_deref() == Some("v1"))
        );
        assert!(matches!(read("."), Ok(Value::Folder(path)) if path.is_absolute()));
        for text in ["target:x", "no/such/folder", "ftp://x", "https://x.org/a.git?what=1"] {
            assert!(matches!(read(text), Err(CliError::Usage { .. })), "{text}");
        }
    }
}
