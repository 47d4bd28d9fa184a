//! What git knows of a release: when its commit was made, its tag, and where its files will be downloaded from.

use std::path::Path;

use kiln_package::Version;

use crate::git::ask;

/// The time of the commit that is checked out, in seconds since 1970; nothing without git or outside of a repository.
pub(super) fn commit_time(folder: &Path) -> Option<u64> {
    ask(folder, &["log", "-1", "--format=%ct"])?.parse().ok()
}

/// The tag of that commit which is a version (`v1.2.3` or `1.2.3`); of several the newest, a release before all others:
/// whoever tags a candidate as the release means the latter.
pub(super) fn version_tag(folder: &Path) -> Option<String> {
    let tags = ask(folder, &["tag", "--points-at", "HEAD", "--sort=-version:refname"])?;
    let versions = || tags.lines().map(str::trim).filter_map(|tag| Some((tag, tag.parse::<Version>().ok()?)));
    let release = versions().find(|(_, version)| !version.is_prerelease());
    release.or_else(|| versions().next()).map(|(tag, _)| tag.to_owned())
}

/// The folder that the files of a tag's release will lie in, if the remote `origin` is of a forge that is known to have one.
pub(super) fn download_url(folder: &Path, tag: &str) -> Option<String> {
    let remote = ask(folder, &["remote", "get-url", "origin"])?;
    let (host, repository) = host_and_repository(&remote)?;
    matches!(host, "github.com" | "codeberg.org")
        .then(|| format!("https://{host}/{repository}/releases/download/{tag}"))
}

/// `host` and `owner/name` of `https://host/owner/name.git`, `ssh://git@host/owner/name` or `git@host:owner/name`.
fn host_and_repository(remote: &str) -> Option<(&str, &str)> {
    let (authority, path) = match remote.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?,
        None => remote.split_once(':')?,
    };
    let host = authority.rsplit('@').next()?;
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    let path = path.trim_matches('/');
    let repository = path.strip_suffix(".git").unwrap_or(path);
    (repository.split('/').count() == 2).then_some((host, repository))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_read_in_all_their_spellings() {
        for remote in [
            "https://github.com/me/hello.git",
            "https://token@github.com/me/hello",
            "git@github.com:me/hello.git",
            "ssh://git@github.com:22/me/hello.git/",
        ] {
            assert_eq!(host_and_repository(remote), Some(("github.com", "me/hello")), "{remote}");
        }
        for remote in ["/srv/git/hello.git", "https://host/group/sub/hello", "", "host"] {
            assert_eq!(host_and_repository(remote), None, "{remote}");
        }
    }
}
