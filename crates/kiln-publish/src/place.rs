//! Where a release goes, and with which token: from what was said, from what a CI service says, and from git's remote.

use std::fmt;

use kiln_cache::Secret;
use reqwest::{RequestBuilder, Url};

use crate::error::{PublishError, Result};
use crate::forge::ForgeKind;

/// What was said of the place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The kind of forge.
    pub forge: Option<ForgeKind>,
    /// The repository: `OWNER/NAME`.
    pub repository: Option<String>,
    /// The address of the forge or of its API.
    pub url: Option<String>,
}

/// A repository on a forge. Displays as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kind of forge.
    pub kind: ForgeKind,
    /// The address of the API, without a slash at its end.
    pub api: String,
    /// The address of the pages for people, without a slash at its end.
    pub web: String,
    /// The repository: `OWNER/NAME`.
    pub repository: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.web.split_once("://").map_or(self.web.as_str(), |(_, host)| host);
        match (self.kind, host) {
            (ForgeKind::Github, "github.com") | (ForgeKind::Gitlab, "gitlab.com") => {
                write!(f, "{} repository {}", self.kind, self.repository)
            }
            _ => write!(f, "{} repository {} on {host}", self.kind, self.repository),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Token {
    pub(crate) secret: Secret,
    header: &'static str,
    prefix: &'static str,
    /// Whether it is that of a job of GitLab's, which may do less.
    pub(crate) is_of_job: bool,
}

/// Where git fetches from.
#[derive(Debug, PartialEq, Eq)]
struct Remote {
    scheme: &'static str,
    host: String,
    path: String,
}

impl Place {
    /// Finds out where a release goes. `variable` looks a variable of the environment up, `remote` is the URL of git's remote.
    ///
    /// # Errors
    /// [`PublishError::NoPlace`] if it cannot be known.
    pub fn detect(given: &Given, variable: &dyn Fn(&str) -> Option<String>, remote: Option<&str>) -> Result<Self> {
        let service = service(variable);
        let remote = remote.and_then(parse_remote);
        let url = given.url.as_deref().map(parse_url).transpose()?;
        let no_place = |reason: &str| PublishError::NoPlace { reason: reason.to_owned() };
        let host = url.as_ref().map(|url| url.host.as_str()).or(remote.as_ref().map(|remote| remote.host.as_str()));
        let kind = match (given.forge, &service, host) {
            (Some(kind), ..) => kind,
            (None, Some((kind, ..)), _) if url.is_none() => *kind,
            (None, _, Some(host)) => kind_of(host).ok_or_else(|| {
                no_place(&format!("{host} may be a GitHub Enterprise, a Gitea, a Forgejo or a GitLab"))
            })?,
            (None, _, None) => return Err(no_place("git has no remote")),
        };
        let service = service.filter(|(of, ..)| *of == kind);
        let repository = match (&given.repository, &service, &remote) {
            (Some(repository), ..) => repository.trim_matches('/').to_owned(),
            (None, Some((_, _, _, repository)), _) if url.is_none() => repository.clone(),
            (None, _, Some(remote)) => remote.path.clone(),
            (None, _, None) => return Err(no_place("git has no remote, and so no name of a repository")),
        };
        if !repository.contains('/') || repository.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
            return Err(no_place(&format!("`{repository}` is no repository: it is written OWNER/NAME")));
        }
        let (api, web) = match (url, service, remote) {
            (Some(url), ..) => addresses(kind, &url),
            (None, Some((_, api, web, _)), _) => (api, web),
            (None, None, Some(remote)) => addresses(kind, &remote),
            (None, None, None) => match kind {
                ForgeKind::Github => ("https://api.github.com".to_owned(), "https://github.com".to_owned()),
                ForgeKind::Gitlab => ("https://gitlab.com/api/v4".to_owned(), "https://gitlab.com".to_owned()),
                ForgeKind::Gitea => {
                    return Err(no_place("the address of the Gitea is not set (`url` in [release], --url)"));
                }
            },
        };
        Ok(Self { kind, api, web, repository })
    }

    /// The page that compares two tags.
    pub fn comparison(&self, from: &str, to: &str) -> String {
        let between = if self.kind == ForgeKind::Gitlab { "/-/compare" } else { "/compare" };
        format!("{}/{}{between}/{from}...{to}", self.web, self.repository)
    }

    /// The folder that people download the files of a tag's release from. Sources: "Linking to releases" of GitHub, which
    /// Gitea follows, and "Permanent links to release assets" of GitLab.
    pub fn downloads(&self, tag: &str) -> String {
        let (web, repository) = (&self.web, &self.repository);
        match self.kind {
            ForgeKind::Gitlab => format!("{web}/{repository}/-/releases/{tag}/downloads"),
            ForgeKind::Github | ForgeKind::Gitea => format!("{web}/{repository}/releases/download/{tag}"),
        }
    }

    /// Where GitHub takes files, as a guess: the draft itself says it.
    pub(crate) fn uploads(&self) -> String {
        let base = match self.api.strip_suffix("/api/v3") {
            Some(host) => format!("{host}/api/uploads"),
            None => self.api.replace("://api.", "://uploads."),
        };
        format!("{base}/repos/{}/releases", self.repository)
    }

    /// The page of GitLab's packages.
    pub(crate) fn packages(&self) -> String {
        format!("{}/{}/-/packages", self.web, self.repository)
    }
}

impl Token {
    /// The token for a forge, from the environment.
    ///
    /// # Errors
    /// [`PublishError::NoToken`] if there is none.
    pub fn find(place: &Place, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let first = |names: &[&str]| names.iter().find_map(|name| variable(name)).map(Secret::new);
        let bearer = |secret| Self { secret, header: "authorization", prefix: "Bearer ", is_of_job: false };
        let found = match place.kind {
            ForgeKind::Github if place.web == "https://github.com" => first(&["GH_TOKEN", "GITHUB_TOKEN"]).map(bearer),
            ForgeKind::Github => {
                first(&["GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN", "GH_TOKEN", "GITHUB_TOKEN"]).map(bearer)
            }
            ForgeKind::Gitea => {
                let own = first(&["GITEA_TOKEN", "FORGEJO_TOKEN"]);
                // In workflows of Gitea and Forgejo the variable has GitHub's name.
                let is_workflow = || service(variable).is_some_and(|(kind, ..)| kind == ForgeKind::Gitea);
                let own = own.or_else(|| is_workflow().then(|| first(&["GITHUB_TOKEN"])).flatten());
                own.map(|secret| Self { secret, header: "authorization", prefix: "token ", is_of_job: false })
            }
            ForgeKind::Gitlab => {
                let own = first(&["GITLAB_TOKEN"]);
                let own = own.map(|secret| Self { secret, header: "private-token", prefix: "", is_of_job: false });
                let of_job = |secret| Self { secret, header: "job-token", prefix: "", is_of_job: true };
                own.or_else(|| first(&["CI_JOB_TOKEN"]).map(of_job))
            }
        };
        found.ok_or(PublishError::NoToken { forge: place.kind })
    }

    pub(crate) fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        if self.header.is_empty() {
            return request;
        }
        let value = reqwest::header::HeaderValue::from_str(&format!("{}{}", self.prefix, self.secret.reveal()));
        match value {
            Ok(mut value) => {
                // It is in no log of the HTTP client either.
                value.set_sensitive(true);
                request.header(self.header, value)
            }
            // No token has such characters: without it the forge says what it makes of it.
            Err(_) => request,
        }
    }
}

/// The forge that runs this, its API, its pages, and the repository.
fn service(variable: &dyn Fn(&str) -> Option<String>) -> Option<(ForgeKind, String, String, String)> {
    let clean = |name: &str| variable(name).map(|url| url.trim_end_matches('/').to_owned());
    let is_set = |name: &str| variable(name).is_some_and(|value| value == "true");
    if is_set("GITEA_ACTIONS") || is_set("FORGEJO_ACTIONS") {
        let web = clean("GITHUB_SERVER_URL")?;
        return Some((ForgeKind::Gitea, format!("{web}/api/v1"), web, variable("GITHUB_REPOSITORY")?));
    }
    if is_set("GITHUB_ACTIONS") {
        let (api, web) = (clean("GITHUB_API_URL")?, clean("GITHUB_SERVER_URL")?);
        return Some((ForgeKind::Github, api, web, variable("GITHUB_REPOSITORY")?));
    }
    if is_set("GITLAB_CI") {
        let (api, web) = (clean("CI_API_V4_URL")?, clean("CI_SERVER_URL")?);
        return Some((ForgeKind::Gitlab, api, web, variable("CI_PROJECT_PATH")?));
    }
    None
}

/// The kind of a forge, by the name of its machine.
fn kind_of(host: &str) -> Option<ForgeKind> {
    let name = host.split(':').next().unwrap_or(host);
    match name {
        "github.com" | "api.github.com" => Some(ForgeKind::Github),
        "codeberg.org" | "gitea.com" => Some(ForgeKind::Gitea),
        _ if name.ends_with(".ghe.com") => Some(ForgeKind::Github),
        _ if name.contains("gitlab") => Some(ForgeKind::Gitlab),
        _ if name.contains("gitea") || name.contains("forgejo") => Some(ForgeKind::Gitea),
        _ => None,
    }
}

/// API and pages of a forge, from an address of either.
fn addresses(kind: ForgeKind, at: &Remote) -> (String, String) {
    let Remote { scheme, host, path } = at;
    let path = match kind {
        // Of a remote it is the repository.
        _ if !path.starts_with('/') => "",
        _ => path.trim_end_matches('/'),
    };
    let version = match kind {
        ForgeKind::Github => "/api/v3",
        ForgeKind::Gitea => "/api/v1",
        ForgeKind::Gitlab => "/api/v4",
    };
    match kind {
        ForgeKind::Github if host == "github.com" || host == "api.github.com" => {
            ("https://api.github.com".to_owned(), "https://github.com".to_owned())
        }
        ForgeKind::Github if host.ends_with(".ghe.com") => {
            let host = host.trim_start_matches("api.");
            (format!("https://api.{host}"), format!("https://{host}"))
        }
        _ => {
            let below = path.strip_suffix(version).unwrap_or(path);
            (format!("{scheme}://{host}{below}{version}"), format!("{scheme}://{host}{below}"))
        }
    }
}

fn parse_url(text: &str) -> Result<Remote> {
    let no_url = || PublishError::NoPlace { reason: format!("`{text}` is no URL of a forge") };
    let url = Url::parse(text).map_err(|_| no_url())?;
    let scheme = match url.scheme() {
        "https" => "https",
        "http" => "http",
        _ => return Err(no_url()),
    };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(no_url)?;
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Ok(Remote { scheme, host, path: url.path().to_owned() })
}

/// The machine and the repository of a remote of git's; nothing for one on this machine.
fn parse_remote(text: &str) -> Option<Remote> {
    let trimmed = |path: &str| {
        let path = path.trim_matches('/');
        path.strip_suffix(".git").unwrap_or(path).to_owned()
    };
    if let Some((scheme, rest)) = text.split_once("://") {
        let (authority, path) = rest.split_once('/')?;
        let host = authority.rsplit('@').next().unwrap_or(authority);
        let (scheme, host) = match scheme {
            "http" => ("http", host),
            "https" => ("https", host),
            // The port is that of ssh.
            "ssh" | "git" | "git+ssh" => ("https", host.split(':').next().unwrap_or(host)),
            _ => return None,
        };
        return Some(Remote { scheme, host: host.to_owned(), path: trimmed(path) });
    }
    // As scp writes it. What has a slash before the colon is a path.
    let (host, path) = text.split_once(':')?;
    if host.contains('/') {
        return None;
    }
    let host = host.rsplit('@').next().unwrap_or(host);
    Some(Remote { scheme: "https", host: host.to_owned(), path: trimmed(path) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(given: &Given, variables: &[(&str, &str)], remote: Option<&str>) -> Result<Place> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Place::detect(given, &variable, remote)
    }

    fn found(remote: &str) -> (ForgeKind, String, String) {
        let place = detect(&Given::default(), &[], Some(remote)).expect("a place");
        (place.kind, place.api, place.repository)
    }

    #[test]
    fn remotes_of_git_say_where() {
        let github = (ForgeKind::Github, "https://api.github.com".to_owned(), "me/app".to_owned());
        for remote in [
            "git@github.com:me/app.git",
            "https://github.com/me/app",
            "https://user:secret@github.com/me/app.git",
            "ssh://git@github.com:22/me/app.git/",
        ] {
            assert_eq!(found(remote), github, "{remote}");
        }
        assert_eq!(
            found("https://gitlab.example.org:8443/group/sub/app.git"),
            (ForgeKind::Gitlab, "https://gitlab.example.org:8443/api/v4".to_owned(), "group/sub/app".to_owned())
        );
        assert_eq!(
            found("ssh://git@codeberg.org/me/app"),
            (ForgeKind::Gitea, "https://codeberg.org/api/v1".to_owned(), "me/app".to_owned())
        );
        assert_eq!(found("git@acme.ghe.com:me/app").1, "https://api.acme.ghe.com");
        let unknown = detect(&Given::default(), &[], Some("git@code.example.org:me/app")).expect_err("which?");
        assert!(unknown.to_string().contains("code.example.org may be"), "{unknown}");
        for remote in [None, Some("/srv/git/app.git"), Some("../app")] {
            let error = detect(&Given::default(), &[], remote).expect_err("no place");
            assert_eq!(error.to_string(), "where to publish is not known: git has no remote");
        }
    }

    #[test]
    fn options_and_ci_services_say_where() {
        let given = |forge, url: &str| Given {
            forge: Some(forge),
            repository: Some("me/app".to_owned()),
            url: Some(url.to_owned()).filter(|url| !url.is_empty()),
        };
        let api = |given: &Given| detect(given, &[], None).map(|place| (place.api, place.web));
        let pair = |api: &str, web: &str| (api.to_owned(), web.to_owned());
        assert_eq!(
            api(&given(ForgeKind::Github, "https://ghe.example.org")).expect("a place"),
            pair("https://ghe.example.org/api/v3", "https://ghe.example.org")
        );
        assert_eq!(
            api(&given(ForgeKind::Gitea, "http://host:3000/git/api/v1/")).expect("a place"),
            pair("http://host:3000/git/api/v1", "http://host:3000/git")
        );
        assert_eq!(api(&given(ForgeKind::Github, "")).expect("a place").0, "https://api.github.com");
        assert!(api(&given(ForgeKind::Gitea, "")).is_err());
        assert!(api(&given(ForgeKind::Gitea, "ftp://host")).is_err());
        let bad = Given { repository: Some("app".to_owned()), ..given(ForgeKind::Github, "") };
        assert!(api(&bad).expect_err("no owner").to_string().contains("OWNER/NAME"));

        let actions = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_API_URL", "https://ghe.example.org/api/v3"),
            ("GITHUB_SERVER_URL", "https://ghe.example.org"),
            ("GITHUB_REPOSITORY", "me/app"),
        ];
        let place = detect(&Given::default(), &actions, Some("git@elsewhere:a/b")).expect("a place");
        assert_eq!(place.to_string(), "GitHub repository me/app on ghe.example.org");
        assert_eq!(place.comparison("v1", "v2"), "https://ghe.example.org/me/app/compare/v1...v2");
        assert_eq!(place.downloads("v1"), "https://ghe.example.org/me/app/releases/download/v1");
        let mut gitea = actions.to_vec();
        gitea.push(("GITEA_ACTIONS", "true"));
        let place = detect(&Given::default(), &gitea, None).expect("a place");
        assert_eq!((place.kind, place.api.as_str()), (ForgeKind::Gitea, "https://ghe.example.org/api/v1"));
        let gitlab = [
            ("GITLAB_CI", "true"),
            ("CI_API_V4_URL", "https://gitlab.com/api/v4"),
            ("CI_SERVER_URL", "https://gitlab.com"),
            ("CI_PROJECT_PATH", "group/app"),
        ];
        let place = detect(&Given::default(), &gitlab, None).expect("a place");
        assert_eq!(place.comparison("v1", "v2"), "https://gitlab.com/group/app/-/compare/v1...v2");
        assert_eq!(place.downloads("v1"), "https://gitlab.com/group/app/-/releases/v1/downloads");
        // Who names another forge does not mean that of the service.
        let other = given(ForgeKind::Gitea, "https://codeberg.org");
        assert_eq!(detect(&other, &actions, None).expect("a place").api, "https://codeberg.org/api/v1");
    }

    #[test]
    fn tokens_are_found_and_never_shown() {
        let place =
            |kind, web: &str| Place { kind, api: String::new(), web: web.to_owned(), repository: "me/app".to_owned() };
        let token = |place: &Place, variables: &[(&str, &str)]| {
            let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            Token::find(place, &variable)
        };
        let all = [
            ("GITHUB_TOKEN", "from-github"),
            ("GH_TOKEN", "from-gh"),
            ("GITEA_TOKEN", "from-gitea"),
            ("CI_JOB_TOKEN", "from-job"),
        ];
        let github = place(ForgeKind::Github, "https://github.com");
        let found = token(&github, &all).expect("a token");
        assert_eq!((found.secret.reveal(), found.header), ("from-gh", "authorization"));
        assert!(!format!("{found:?}").contains("from-gh"));
        let gitlab = token(&place(ForgeKind::Gitlab, "https://gitlab.com"), &all).expect("a token");
        assert!(gitlab.is_of_job && gitlab.header == "job-token");
        let gitea = place(ForgeKind::Gitea, "https://codeberg.org");
        assert_eq!(token(&gitea, &all).expect("a token").prefix, "token ");
        // GitHub's token is not for other forges.
        let error = token(&gitea, &all[..2]).expect_err("none");
        assert_eq!(error.to_string(), "there is no token for Gitea");
        assert!(error.hint().is_some_and(|hint| hint.contains("GITEA_TOKEN")), "{:?}", error.hint());
    }
}
