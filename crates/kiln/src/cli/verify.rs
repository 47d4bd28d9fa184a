//! `kiln verify`.

use std::path::PathBuf;

use clap::Args;

use super::key_value;

pub(crate) const VERIFY_EXAMPLES: &str = "\
Examples:
  kiln verify dist                                   all that a build has made
  kiln verify hello-linux-arm64 hello_1.0_amd64.deb
  kiln verify dist --glibc-max 2.28 --deny exec-stack
  kiln verify dist --run-on debian:bookworm,alpine:3.20

SHA256SUMS, signatures, bills of materials and provenance beside them are checked, too; -v tells what was found good.
Programs, standalone folders, archives (tar, zip), packages (deb, rpm, apk) and images (OCI layouts, docker save) are
read. Errors make the exit code 6; --run-on: 4 if no image could be tried, 8 if some could not.";

/// Artifacts, looked at and tried.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Programs, folders, archives, packages, images; of a folder with SHA256SUMS each artifact in it
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Platform that they must be for; default: what their names or packages say
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Newest glibc that they may need, such as 2.28
    #[arg(long, value_name = "VERSION")]
    pub(crate) glibc_max: Option<String>,
    /// Findings that may be, by commas (repeatable): NAME, or NAME:FILE with wildcards
    #[arg(long, value_name = "FINDING", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,
    /// Findings that are errors, by commas (repeatable)
    #[arg(long, value_name = "FINDING", value_delimiter = ',')]
    pub(crate) deny: Vec<String>,
    /// Images to run them in, by commas (repeatable); packages are installed there
    #[arg(long, value_name = "IMAGE", value_delimiter = ',')]
    pub(crate) run_on: Vec<String>,
    /// Public key of minisign or cosign, or a file with one, or keyless:NAME, that must vouch for them
    /// (repeatable); default: release.trusted-keys
    #[arg(long = "key", value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Settings file instead of the kiln.toml of the current folder
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting, as in kiln.toml: verify.timeout=5m (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Do not install emulators; a platform that cannot run is not tried
    #[arg(long)]
    pub(crate) no_install_emulation: bool,
}
