//! `kiln package`.

use std::path::PathBuf;

use clap::Args;

use super::key_value;

pub(super) const EXAMPLES: &str = "\
Examples:
  kiln build && kiln package
  kiln package --format tar.xz,deb --platform linux/amd64
  kiln package --version 1.2.3rc1 --format all --output release

Formats: tar.gz, tar.xz, tar.zst, zip, deb, rpm, apk. What is in them, [release] in kiln.toml says.";

/// The word for all formats.
pub(crate) const ALL_FORMATS: &str = "all";

/// Packages of what was built.
#[derive(Args, Debug)]
pub(crate) struct Package {
    /// Project folder
    #[arg(default_value = ".", value_name = "PATH", hide_default_value = true)]
    pub(crate) path: PathBuf,
    /// What to make, separated by commas (repeatable), or `all`
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
    /// Settings file instead of the project's kiln.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting, as in kiln.toml: release.license=MIT (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Print what was made as JSON: a list of {platform, format, file, size, sha256, program}
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the same to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
}
