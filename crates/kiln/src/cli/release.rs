//! `kiln release`.

use std::path::PathBuf;

use clap::Args;

use super::key_value;

pub(super) const EXAMPLES: &str = "\
The files are those that SHA256SUMS of the output folder lists, held against their sums, with signatures, bills of
materials, provenance and install.sh. A draft is made first and published last: what breaks off leaves a draft, which
the next run completes, and a run after that changes nothing. The address of the release goes to standard output.

Tokens: GH_TOKEN or GITHUB_TOKEN, GITEA_TOKEN or FORGEJO_TOKEN, GITLAB_TOKEN or CI_JOB_TOKEN.

Examples:
  kiln release --dry-run               show notes, files and requests; nothing is sent
  kiln release --draft                 leave the last step to somebody who looks at it
  kiln release --tag v1.2.3 --notes NOTES.md
  kiln release --forge gitea --url https://git.example.org --repository me/app";

/// A release on a forge.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Release {
    /// Project folder
    #[arg(default_value = ".", value_name = "PATH", hide_default_value = true)]
    pub(crate) path: PathBuf,
    /// Show what would be done, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Leave it a draft, which nobody sees (default: release.draft)
    #[arg(long)]
    pub(crate) draft: bool,
    /// Mark it as one to try out (default: if the version says so)
    #[arg(long)]
    pub(crate) prerelease: bool,
    /// The tag; default: release.tag with the version
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,
    /// The commit that the tag is of; default: HEAD
    #[arg(long, value_name = "COMMIT")]
    pub(crate) target: Option<String>,
    /// File with what people read, instead of changelog, commits and files
    #[arg(long, value_name = "FILE")]
    pub(crate) notes: Option<PathBuf>,
    /// Where it is published: github, gitea or gitlab
    #[arg(long, value_name = "FORGE")]
    pub(crate) forge: Option<String>,
    /// The repository there
    #[arg(long, value_name = "OWNER/NAME")]
    pub(crate) repository: Option<String>,
    /// Address of the forge, or of its API
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Publish though files of the repository were changed since the commit
    #[arg(long)]
    pub(crate) allow_dirty: bool,
    /// Change the files of a release that is published already
    #[arg(long)]
    pub(crate) replace: bool,
    /// Settings file instead of the project's kiln.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting, as in kiln.toml: release.draft=true (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
}
