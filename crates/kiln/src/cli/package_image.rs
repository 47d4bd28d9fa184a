//! `kiln package-image`.

use std::path::PathBuf;

use clap::Args;

use super::{Project, Show};

/// The programs as an image.
#[derive(Args, Debug)]
pub(crate) struct PackageImage {
    /// As for `kiln build`.
    #[command(flatten)]
    pub(crate) project: Project,
    /// Name of the image (repeatable), with {name} and {version}
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<String>,
    /// Image to stand on; `scratch` is none
    #[arg(long, value_name = "IMAGE")]
    pub(crate) base: Option<String>,
    /// Push the image to the registries that its names say
    #[arg(long)]
    pub(crate) push: bool,
    /// Load the image into the daemon
    #[arg(long)]
    pub(crate) load: bool,
    /// Write OCI's layout: an archive, or a folder if it ends with `/` (repeatable)
    #[arg(short, long, value_name = "FILE|FOLDER/")]
    pub(crate) output: Vec<PathBuf>,
    /// How progress and results are shown.
    #[command(flatten)]
    pub(crate) show: Show,
}
