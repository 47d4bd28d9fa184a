//! `kiln bake`.

use std::path::PathBuf;

use clap::Args;

use super::{Schedule, Show, key_value};

/// Several targets at once.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Bake {
    /// Targets and groups; default: `default`
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// File to read instead of those looked for (repeatable; later over earlier)
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Change targets: app.tags=x, '*.args.A=1' (repeatable)
    #[arg(long = "set", value_name = "TARGET.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print what would be built as JSON, and build nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// Value of a variable: NAME=VALUE, before the environment's (repeatable)
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = key_value)]
    pub(crate) var: Vec<(String, String)>,
    /// List `targets` or `variables`; type=targets,format=json
    #[arg(long, value_name = "WHAT", conflicts_with = "print", value_parser = list)]
    pub(crate) list: Option<List>,
    /// Check the Dockerfiles, build nothing; exit code 1 for warnings
    #[arg(long)]
    pub(crate) check: bool,
    /// Answer instead of building: check, targets (,format=json)
    #[arg(long, value_name = "METHOD", conflicts_with = "check")]
    pub(crate) call: Option<String>,
    /// Load the images into the daemon: --set='*.load=true'
    #[arg(long)]
    pub(crate) load: bool,
    /// Push the images: --set='*.push=true'
    #[arg(long)]
    pub(crate) push: bool,
    /// Run every step again: --set='*.no-cache=true'; cache volumes are kept
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Ask the registry for newer base images: --set='*.pull=true'
    #[arg(long)]
    pub(crate) pull: bool,
    /// Same as --set='*.attest=type=provenance': no effect yet
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) provenance: Option<String>,
    /// Same as --set='*.attest=type=sbom': no effect yet
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) sbom: Option<String>,
    /// For command lines of buildx: kiln forbids no target what it asks for
    #[arg(long, value_name = "RIGHT", hide = true)]
    pub(crate) allow: Vec<String>,
    /// How progress and results are shown.
    #[command(flatten)]
    pub(crate) show: Show,
    /// When and where steps run.
    #[command(flatten)]
    pub(crate) schedule: Schedule,
}

/// What `--list` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List {
    /// Variables; else targets and groups.
    pub(crate) variables: bool,
    /// As JSON; else as a table.
    pub(crate) json: bool,
}

fn list(text: &str) -> Result<List, String> {
    let mut list = List { variables: false, json: false };
    for field in text.split(',') {
        match field {
            "targets" | "type=targets" => list.variables = false,
            "variables" | "type=variables" => list.variables = true,
            "format=json" => list.json = true,
            "format=table" => list.json = false,
            _ => return Err("write targets, variables, or type=targets,format=json".to_owned()),
        }
    }
    Ok(list)
}
