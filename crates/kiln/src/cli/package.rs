//! `kiln package`.

use std::path::PathBuf;

use clap::Args;

use super::key_value;
use crate::report::Progress;

pub(super) const EXAMPLES: &str = "\
Examples:
  kiln build && kiln package
  kiln package --format tar.xz,deb --platform linux/amd64
  kiln package --version 1.2.3rc1 --format all --output release
  kiln package --format image --push --tag ghcr.io/example/greeter:{version}

Formats: tar.gz, tar.xz, tar.zst, zip, deb, rpm, apk; and image, for all platforms in one. What is in them, [release]
in kiln.toml says.";

/// The word for all formats of files.
pub(crate) const ALL_FORMATS: &str = "all";

/// Packages of what was built.
#[derive(Args, Debug)]
pub(crate) struct Package {
    /// Project folder
    #[arg(default_value = ".", value_name = "PATH", hide_default_value = true)]
    pub(crate) path: PathBuf,
    /// What to make, separated by commas (repeatable); `all`: all but `image`
    #[arg(long = "format", value_name = "FORMAT", value_delimiter = ',')]
    pub(crate) formats: Vec<String>,
    /// Platforms, separated by commas (repeatable); default: those that are built for
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
    /// Version; default: release.version, the project's, or the tag of the commit
    #[arg(id = "release_version", long = "version", value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// Folder for the packages; default: build.output
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// The image: push it to the registries that its names say
    #[arg(long)]
    pub(crate) push: bool,
    /// The image: load it into the daemon
    #[arg(long)]
    pub(crate) load: bool,
    /// The image: write OCI's layout, an archive, or a folder if it ends with `/` (repeatable)
    #[arg(long = "image", value_name = "FILE|FOLDER/")]
    pub(crate) layouts: Vec<PathBuf>,
    /// The image: its name, with {name} and {version} (repeatable); default: release.image.tags
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<String>,
    /// Settings file instead of the project's kiln.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting, as in kiln.toml: release.license=MIT (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Print what was made as JSON: a list of {platform, format, file, size, sha256, program}
    #[arg(long)]
    pub(crate) json: bool,
    /// The image: how progress is shown, as for `kiln build`
    #[arg(long, value_name = "MODE", default_value = "auto", hide_possible_values = true, hide_default_value = true)]
    pub(crate) progress: Progress,
    /// Write the same to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
}
