//! The sources that were built: repository, reference and commit, as the CI service or git tells them.

use std::collections::BTreeMap;
use std::path::Path;

use kiln_attest::provenance::Resource;

use crate::checkout;
use crate::environment::Environment;
use crate::git;

/// The sources as a resource; nothing where neither a service nor git knows them. `built` is the commit that the build's
/// record has: files that changed since are none of it.
pub(super) fn source(environment: &Environment, folder: &Path, built: Option<&str>) -> Option<Resource> {
    let commit = built.map(str::to_owned).or_else(|| checkout::commit(environment, folder))?;
    let reference = environment.get("GITHUB_REF").map(str::to_owned).or_else(|| {
        let tag = environment.get("CI_COMMIT_TAG").map(|tag| format!("refs/tags/{tag}"));
        tag.or_else(|| checkout::branch(environment, folder).map(|branch| format!("refs/heads/{branch}")))
    });
    let uri = repository(environment, folder).map(|url| match &reference {
        Some(reference) => format!("git+{url}@{reference}"),
        None => format!("git+{url}"),
    });
    let mut annotations = BTreeMap::new();
    // What git does not say is left open.
    if let Some(changed) = git::ask(folder, &["status", "--porcelain", "--untracked-files=no"]) {
        annotations.insert("dirty".to_owned(), (!changed.is_empty()).to_string());
    }
    Some(Resource {
        uri: uri.unwrap_or_default(),
        digest: BTreeMap::from([("gitCommit".to_owned(), commit.clone()), ("sha1".to_owned(), commit)]),
        name: "source".to_owned(),
        annotations,
    })
}

/// The address of the repository, without credentials.
fn repository(environment: &Environment, folder: &Path) -> Option<String> {
    let github = environment.get("GITHUB_SERVER_URL").zip(environment.get("GITHUB_REPOSITORY"));
    let url = github.map(|(server, name)| format!("{server}/{name}"));
    let url = url.or_else(|| environment.get("CI_PROJECT_URL").map(str::to_owned));
    url.or_else(|| git::ask(folder, &["config", "--get", "remote.origin.url"])).as_deref().map(plain)
}

/// An address as a URL, without a user's name and password: `git@host:a/b.git` is `ssh://git@host/a/b.git`.
fn plain(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
            format!("{scheme}://{host}/{path}").trim_end_matches('/').to_owned()
        }
        None => match url.split_once(':') {
            Some((host, path)) if !host.contains('/') => format!("ssh://{host}/{path}"),
            _ => format!("file://{url}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_no_credentials() {
        for (given, plain_one) in [
            ("https://user:secret@example.org/a/b.git", "https://example.org/a/b.git"),
            ("https://example.org/a/b", "https://example.org/a/b"),
            ("ssh://git@example.org/a", "ssh://example.org/a"),
            ("git@example.org:a/b.git", "ssh://git@example.org/a/b.git"),
            ("/srv/git/a.git", "file:///srv/git/a.git"),
        ] {
            assert_eq!(plain(given), plain_one);
        }
    }
}
