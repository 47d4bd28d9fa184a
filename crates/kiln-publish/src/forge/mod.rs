//! Forges: what each of them can do, behind one trait.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use async_trait::async_trait;
use kiln_artifact::checksum::Sha256;
use kiln_cache::reach::Network;

use crate::error::Result;
use crate::http::{Answer, Attempt, Http, Limits};
use crate::model::{Asset, Events, LocalFile, Release, Wanted};
use crate::place::{Place, Token};
use crate::plan::Step;

mod gitea;
mod github;
mod gitlab;

use self::gitea::Gitea;
use self::github::Github;
use self::gitlab::Gitlab;

/// A kind of forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForgeKind {
    /// github.com, or GitHub Enterprise.
    Github,
    /// Gitea or Forgejo.
    Gitea,
    /// gitlab.com, or a GitLab of one's own.
    Gitlab,
}

impl ForgeKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Github, Self::Gitea, Self::Gitlab];

    /// The word for it in settings and options.
    pub fn word(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitea => "gitea",
            Self::Gitlab => "gitlab",
        }
    }

    /// The variables that a token is looked for in, as people read them.
    pub fn variables(self) -> &'static str {
        match self {
            Self::Github => "GH_TOKEN or GITHUB_TOKEN",
            Self::Gitea => "GITEA_TOKEN or FORGEJO_TOKEN",
            Self::Gitlab => "GITLAB_TOKEN (in a job, CI_JOB_TOKEN is there)",
        }
    }

    /// What a token needs, as people read it.
    pub fn needs(self) -> &'static str {
        match self {
            Self::Github => {
                "the token needs `contents: write`: under `permissions` in a workflow, as `Contents` of a fine-grained \
                 token, as `repo` of a classic one"
            }
            Self::Gitea => "the token needs the scope `write:repository`",
            Self::Gitlab => "the token needs the scope `api` and the role Developer",
        }
    }
}

/// The name that people know.
impl fmt::Display for ForgeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Github => "GitHub",
            Self::Gitea => "Gitea",
            Self::Gitlab => "GitLab",
        })
    }
}

impl FromStr for ForgeKind {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.word() == word).ok_or(())
    }
}

/// How a forge is reached.
pub struct Access {
    /// The way to the network.
    pub network: Network,
    /// When to give up.
    pub limits: Limits,
    /// Who asks; without it only [`crate::preview`] is of use.
    pub token: Token,
    /// Who is told what happens.
    pub events: Events,
}

/// A repository on a forge.
pub struct Server(Box<dyn Forge>);

impl Server {
    /// A repository. Nothing is sent yet.
    ///
    /// # Errors
    /// [`crate::PublishError::Client`] if a proxy's address is none.
    pub fn new(place: Place, access: Access) -> Result<Self> {
        let Access { network, limits, token, events } = access;
        let named = place.to_string();
        let http = Http::new(&network, limits, named, place.kind.needs(), token.secret.clone(), events)?;
        Ok(Self(match place.kind {
            ForgeKind::Github => Box::new(Github::new(http, place, token)),
            ForgeKind::Gitea => Box::new(Gitea::new(http, place, token)),
            ForgeKind::Gitlab => Box::new(Gitlab::new(http, place, token)),
        }))
    }

    pub(crate) fn forge(&self) -> &dyn Forge {
        self.0.as_ref()
    }
}

/// What a run asks of a forge. Requests that may be sent twice are tried again inside; the others say that it is not clear
/// what came of them.
#[async_trait]
pub(crate) trait Forge: Send + Sync {
    fn http(&self) -> &Http;

    /// Whether a release can be there without anybody seeing it.
    fn has_drafts(&self) -> bool;

    /// How many files are sent at the same time.
    fn at_once(&self) -> usize;

    /// What the forge makes of the name of a file.
    fn asset_name(&self, name: &str) -> String {
        name.to_owned()
    }

    /// Whether tags can be looked for.
    fn sees_tags(&self) -> bool {
        true
    }

    /// What stays if a run breaks off, as people read it.
    fn left(&self, release: &Release) -> String;

    /// The requests of a step, as people read them, where nothing is there yet.
    fn requests(&self, step: &Step, wanted: &Wanted) -> Vec<String>;

    /// Asks for something of the repository.
    async fn get(&self, action: &str, path: &str) -> Result<Answer>;

    /// Fails unless the repository can be seen.
    async fn repository(&self) -> Result<()> {
        let action = "see the repository";
        self.http().json::<serde_json::Value>(action, &self.get(action, "").await?).map(drop)
    }

    /// Whether the forge has a commit.
    async fn has_commit(&self, commit: &str) -> Result<bool> {
        let action = "look for the commit";
        let answer = self.get(action, &format!("/git/commits/{commit}")).await?;
        match answer.status.as_u16() {
            404 | 409 | 422 => Ok(false),
            _ => self.http().json::<serde_json::Value>(action, &answer).map(|_| true),
        }
    }

    /// The commit of a tag, if it is there and may be seen.
    async fn tag(&self, tag: &str) -> Result<Option<String>>;

    /// The release of the tag, or a draft of it.
    async fn find(&self, wanted: &Wanted) -> Result<Option<Release>>;

    /// The files of a release.
    async fn assets(&self, release: &Release, wanted: &Wanted) -> Result<Vec<Asset>>;

    /// Makes a draft.
    async fn create(&self, wanted: &Wanted, action: &str) -> Result<Release, Attempt>;

    /// Sends a file.
    async fn upload(
        &self,
        release: &Release,
        wanted: &Wanted,
        file: &LocalFile,
        action: &str,
    ) -> Result<Asset, Attempt>;

    /// Removes a file; it is no error if it is gone.
    async fn remove(&self, release: &Release, id: &str, name: &str) -> Result<()>;

    /// Brings title and notes of a draft up to date.
    async fn update(&self, release: &Release, wanted: &Wanted) -> Result<()>;

    /// Lets people see a release, with the title and notes that are wanted. Its page.
    async fn publish(&self, release: &Release, wanted: &Wanted) -> Result<String>;

    /// The sum of a file, by reading it.
    async fn digest(&self, asset: &Asset) -> Result<Sha256>;
}

/// A part of a path or a value of a query: all but what needs no escape is escaped. Source: RFC 3986, section 2.3.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |mut text, byte| {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// A tag in a path: its slashes stay.
pub(crate) fn escaped_path(text: &str) -> String {
    text.split('/').map(escaped).collect::<Vec<_>>().join("/")
}

/// What kind of file it is, as browsers want to know it.
pub(crate) fn media_type(name: &str) -> &'static str {
    let ends = |ending: &str| name.ends_with(ending);
    match () {
        () if ends(".gz") || ends(".tgz") => "application/gzip",
        () if ends(".xz") => "application/x-xz",
        () if ends(".zst") => "application/zstd",
        () if ends(".zip") => "application/zip",
        () if ends(".json") || ends(".jsonl") => "application/json",
        () if ends(".deb") => "application/vnd.debian.binary-package",
        () if ends(".rpm") => "application/x-rpm",
        () if ends(".sh") || ends(".txt") || ends(".minisig") || name == "SHA256SUMS" => "text/plain",
        () => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_addresses_are_escaped() {
        assert_eq!(escaped("group/a b+é"), "group%2Fa%20b%2B%C3%A9");
        assert_eq!(escaped_path("rel/1.0+x"), "rel/1.0%2Bx");
        for kind in ForgeKind::ALL {
            assert_eq!(kind.word().parse(), Ok(kind));
        }
    }
}
