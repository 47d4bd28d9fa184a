//! Names of files that lie elsewhere: URLs and git repositories, as `ADD` and the build context take them.
//!
//! Rules after BuildKit's `dfgitutil.ParseGitRef` and docker's documentation of `ADD <git url>`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A file or a folder that is fetched before a build is planned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Remote {
    /// One file behind a URL.
    Http {
        /// The URL, `http` or `https`.
        url: String,
        /// Digest that its content must have: `sha256:...`.
        checksum: Option<String>,
    },
    /// A commit of a git repository.
    Git {
        /// Which.
        reference: GitReference,
        /// Keep the folder `.git`.
        keep_git_dir: bool,
    },
}

impl Remote {
    /// The name of the context that holds it: equal only for equal files.
    pub fn context(&self) -> String {
        match self {
            Self::Http { url, checksum } => format!("{url} {}", checksum.as_deref().unwrap_or_default()),
            Self::Git { reference, keep_git_dir } => format!("{reference:?} {keep_git_dir}"),
        }
    }

    /// What a file behind a URL is called: the last part of its path.
    pub fn file_name(&self) -> &str {
        match self {
            Self::Http { url, .. } => url_file_name(url),
            Self::Git { reference, .. } => reference.short_name(),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { url, .. } => f.write_str(&without_password(url)),
            Self::Git { reference, .. } => fmt::Display::fmt(reference, f),
        }
    }
}

/// A place in a git repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GitReference {
    /// What `git fetch` is given.
    pub repository: String,
    /// Branch, tag or commit; the default branch if none.
    pub reference: Option<String>,
    /// Folder in the repository, relative, without `.` and `..`; empty for all of it.
    pub subdir: String,
    /// The commit that must be found, or the start of its id.
    pub checksum: Option<String>,
    /// `?keep-git-dir=`.
    pub keep_git_dir: Option<bool>,
    /// `?submodules=`: whether they are fetched too.
    pub submodules: bool,
}

impl GitReference {
    /// The repository's name: the last part of its path, without `.git`.
    pub fn short_name(&self) -> &str {
        let path = self.repository.trim_end_matches('/');
        let name = path.rsplit(['/', ':']).next().unwrap_or(path);
        name.strip_suffix(".git").unwrap_or(name)
    }
}

impl fmt::Display for GitReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.repository))?;
        match (&self.reference, self.subdir.as_str()) {
            (None, "") => Ok(()),
            (reference, "") => write!(f, "#{}", reference.as_deref().unwrap_or_default()),
            (reference, subdir) => write!(f, "#{}:{subdir}", reference.as_deref().unwrap_or_default()),
        }
    }
}

/// Why a text that names a git repository cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// A key behind `?` that has no meaning.
    #[error("the query `{key}` has no meaning for a git repository")]
    UnknownQuery {
        /// The key.
        key: String,
    },
    /// A value behind `?` that cannot be used.
    #[error("the query `{key}={value}` has an invalid value")]
    InvalidQuery {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// Two parts of it say different things.
    #[error("`{what}` is given twice: `{first}` and `{second}`")]
    Conflict {
        /// `ref`, `subdir` or `checksum`.
        what: &'static str,
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// A name that git would take for an option.
    #[error("`{value}` cannot be used as the {what} of a git repository")]
    Unsafe {
        /// `ref` or `repository`.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// It is not what a commit id looks like.
    #[error("`{value}` is no commit id")]
    NotACommit {
        /// The value.
        value: String,
    },
}

impl RemoteError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownQuery { .. } => {
                "known are `ref`, `branch`, `tag`, `commit`, `checksum`, `subdir`, `keep-git-dir`, `submodules`".into()
            }
            Self::InvalidQuery { .. } => "write `true` or `false`".into(),
            Self::Conflict { .. } => "say it once, behind `#` or behind `?`".into(),
            Self::Unsafe { .. } => "write `https://host/path.git#ref:folder`".into(),
            Self::NotACommit { .. } => "write 7 to 64 hexadecimal digits".into(),
        }
    }
}

/// Whether a text is a URL that is fetched as a file, if it is no git repository.
pub fn is_url(text: &str) -> bool {
    has_prefix(text, "http://") || has_prefix(text, "https://")
}

/// Reads a text as a git repository; `None` if it is not one.
///
/// `https://` counts only with a path that ends in `.git`; `github.com/...` without a scheme counts only as a context.
///
/// # Errors
/// If it is a git repository, but what is said about it makes no sense.
pub fn parse_git(text: &str) -> Option<Result<GitReference, RemoteError>> {
    let (head, fragment) = text.split_once('#').map_or((text, ""), |(head, fragment)| (head, fragment));
    let (repository, query) = head.split_once('?').map_or((head, ""), |(head, query)| (head, query));
    let is_git = if has_prefix(text, "git://") || has_prefix(text, "ssh://") {
        true
    } else if is_url(text) {
        repository.strip_suffix(".git").is_some()
    } else {
        is_scp(repository)
    };
    is_git.then(|| read_git(repository, query, fragment))
}

fn read_git(repository: &str, query: &str, fragment: &str) -> Result<GitReference, RemoteError> {
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let mut reference = some(reference);
    let mut subdir = some(subdir);
    let (mut checksum, mut keep_git_dir, mut submodules) = (None, None, true);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        match key {
            "ref" => put("ref", &mut reference, value)?,
            "branch" => put("ref", &mut reference, format!("refs/heads/{value}"))?,
            "tag" => put("ref", &mut reference, format!("refs/tags/{value}"))?,
            "subdir" => put("subdir", &mut subdir, value)?,
            "checksum" | "commit" => put("checksum", &mut checksum, value)?,
            "keep-git-dir" => keep_git_dir = Some(boolean(key, &value)?),
            "submodules" => submodules = boolean(key, &value)?,
            key => return Err(RemoteError::UnknownQuery { key: key.to_owned() }),
        }
    }
    if let Some(value) = reference.iter().find(|value| value.starts_with('-') || value.contains(char::is_whitespace)) {
        return Err(RemoteError::Unsafe { what: "ref", value: value.clone() });
    }
    let host = repository.split_once("://").map_or(repository, |(_, rest)| rest);
    if host.starts_with('-') || host.is_empty() {
        return Err(RemoteError::Unsafe { what: "repository", value: repository.to_owned() });
    }
    if let Some(checksum) = &checksum {
        check_commit(checksum)?;
    }
    Ok(GitReference {
        repository: repository.to_owned(),
        reference,
        subdir: subdir.map(|subdir| cleaned(&subdir)).unwrap_or_default(),
        checksum,
        keep_git_dir,
        submodules,
    })
}

/// Checks the form of a commit id, which may be shortened.
///
/// # Errors
/// If it is none.
pub fn check_commit(value: &str) -> Result<(), RemoteError> {
    let good = (7..=64).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_hexdigit());
    if good { Ok(()) } else { Err(RemoteError::NotACommit { value: value.to_owned() }) }
}

fn put(what: &'static str, slot: &mut Option<String>, value: String) -> Result<(), RemoteError> {
    match slot {
        Some(first) if *first != value && !value.is_empty() => {
            Err(RemoteError::Conflict { what, first: first.clone(), second: value })
        }
        _ => {
            *slot = some(&value).or(slot.take());
            Ok(())
        }
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, RemoteError> {
    match value {
        "" | "1" | "t" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(RemoteError::InvalidQuery { key: key.to_owned(), value: value.to_owned() }),
    }
}

/// `user@host:path`.
fn is_scp(text: &str) -> bool {
    let name = |part: &str, more: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    name(user, "-_.") && name(host, "-.") && !path.is_empty() && !path.starts_with("//")
}

fn url_file_name(url: &str) -> &str {
    /// What BuildKit calls a file whose URL has no name.
    const UNNAMED: &str = "__unnamed__";
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let Some((_, path)) = path.split_once('/') else { return UNNAMED };
    match path.rsplit('/').next() {
        None | Some("" | "." | "..") => UNNAMED,
        Some(name) => name,
    }
}

/// The text without a password that its URL may carry.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:xxxxx@{host}{path}")
        }
        _ => url.to_owned(),
    }
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn some(text: &str) -> Option<String> {
    Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A path without `.`, `..` and doubled slashes.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Undoes the percent encoding of a query's value.
fn decode(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex =
            || std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match bytes[at] {
            b'%' if let Some(byte) = hex() => {
                decoded.push(byte);
                at += 3;
                continue;
            }
            b'+' => decoded.push(b' '),
            byte => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `repository|ref|subdir|checksum`, or what is wrong.
    fn read(text: &str) -> String {
        match parse_git(text) {
            None => "no".to_owned(),
            Some(Err(error)) => error.to_string(),
            Some(Ok(git)) => format!(
                "{}|{}|{}|{}",
                git.repository,
                git.reference.unwrap_or_default(),
                git.subdir,
                git.checksum.unwrap_or_default()
            ),
        }
    }

    #[test]
    fn git_references_are_told_from_files_and_urls() {
        for (text, expected) in [
            ("https://x.org/a/b.git", "https://x.org/a/b.git|||"),
            ("https://x.org/a/b.git#v1", "https://x.org/a/b.git|v1||"),
            ("https://x.org/a/b.git#v1:sub/dir", "https://x.org/a/b.git|v1|sub/dir|"),
            ("https://x.org/a/b.git#:sub", "https://x.org/a/b.git||sub|"),
            ("https://x.org/a/b.git#v1:../../etc", "https://x.org/a/b.git|v1|etc|"),
            ("https://x.org/a/b.git?branch=main&subdir=x%2Fy", "https://x.org/a/b.git|refs/heads/main|x/y|"),
            ("https://x.org/a/b.git?tag=v1", "https://x.org/a/b.git|refs/tags/v1||"),
            ("https://x.org/a/b.git?ref=r&commit=abcdef1", "https://x.org/a/b.git|r||abcdef1"),
            ("git@github.com:a/b.git", "git@github.com:a/b.git|||"),
            ("git@github.com:a/b#r:s", "git@github.com:a/b|r|s|"),
            ("ssh://git@x.org:22/a", "ssh://git@x.org:22/a|||"),
            ("git://x.org/a", "git://x.org/a|||"),
            ("https://x.org/a/b", "no"),
            ("https://x.org/a/b.git.tgz", "no"),
            ("a/b.git", "no"),
            ("./git@x:y", "no"),
            ("a@b", "no"),
            ("https://x.org/b.git?branch=a&tag=b", "`ref` is given twice: `refs/heads/a` and `refs/tags/b`"),
            ("https://x.org/b.git?ref=a#b", "`ref` is given twice: `b` and `a`"),
            ("https://x.org/b.git?what=a", "the query `what` has no meaning for a git repository"),
            ("https://x.org/b.git?submodules=maybe", "the query `submodules=maybe` has an invalid value"),
            ("https://x.org/b.git#--upload-pack=x", "`--upload-pack=x` cannot be used as the ref of a git repository"),
            (
                "ssh://-oProxyCommand=x/y",
                "`ssh://-oProxyCommand=x/y` cannot be used as the repository of a git repository",
            ),
            ("https://x.org/b.git?commit=xyz", "`xyz` is no commit id"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn urls_have_file_names() {
        for (url, expected) in [
            ("https://x.org/a/b.txt", "b.txt"),
            ("https://x.org/a/b.txt?c=/d", "b.txt"),
            ("https://x.org/a/", "__unnamed__"),
            ("https://x.org/", "__unnamed__"),
            ("https://x.org", "__unnamed__"),
            ("https://x.org/..", "__unnamed__"),
            ("HTTP://x.org/f#g", "f"),
        ] {
            assert!(is_url(url), "{url}");
            assert_eq!(url_file_name(url), expected, "{url}");
        }
        assert!(!is_url("ftp://x"));
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("https://me:secret@x.org/a@b:c"), "https://me:xxxxx@x.org/a@b:c");
        assert_eq!(without_password("git@x.org:a"), "git@x.org:a");
        assert_eq!(without_password("https://x.org/a:b@c"), "https://x.org/a:b@c");
    }
}
