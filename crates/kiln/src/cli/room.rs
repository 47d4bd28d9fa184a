//! `prune`, `du` and `cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

pub(super) const PRUNE_EXAMPLES: &str = "\
Without --all what the next build makes again by itself goes: checkpoints (type regular), native programs (twin) and what
dead builds left (leftover). With --all also the volumes of cache mounts (exec.cachemount), which `docker buildx prune`
removes in any case, fetched files (source), kiln's tools (internal) and its names of base images (base). What a build
that runs may use stays, and so does all that kiln has not made.

Examples:
  kiln prune
  kiln prune --all --force
  kiln prune --filter until=24h --filter type=exec.cachemount
  kiln prune --all --max-used-space 20GB";

const CACHE_PRUNE_EXAMPLES: &str = "\
Examples:
  kiln cache prune --older-than 7d --dry-run
  kiln cache prune --only ccache,checkpoints
  kiln cache prune --all --keep-size 5GB";

#[derive(Args, Debug)]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List cache volumes
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Say how much room cache volumes and checkpoints take
    Du {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what the compiler caches hold and how well they hit
    Stats {
        /// Project folder
        #[arg(default_value = ".", value_name = "PATH")]
        path: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove checkpoints and cache volumes of a project
    #[command(after_help = CACHE_PRUNE_EXAMPLES)]
    Prune(CachePrune),
}

/// Everything on the daemon and this machine.
#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// Cache volumes, fetched files and kiln's own tools as well
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only what fits (repeatable): until=24h, id=ID, type=TYPE, description=TEXT or inuse
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// Keep this much in any case, such as 5GB
    #[arg(long, visible_alias = "keep-storage", value_name = "SIZE")]
    pub(crate) reserved_space: Option<String>,
    /// Remove what was not used for longest until this much is left
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_used_space: Option<String>,
    /// Remove what was not used for longest until this much is free on the daemon's disk
    #[arg(long, value_name = "SIZE")]
    pub(crate) min_free_space: Option<String>,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Room that is taken.
#[derive(Args, Debug)]
pub(crate) struct Du {
    /// Only what fits (repeatable): until=24h, id=ID, type=TYPE, description=TEXT or inuse
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// How to print: table or json (a record a line)
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) format: DuFormat,
    /// Same as --format=json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
}

/// How records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DuFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct CachePrune {
    /// Project folder
    #[arg(default_value = ".", value_name = "PATH", conflicts_with = "all")]
    pub(crate) path: PathBuf,
    /// Keep what was used last, up to this size, such as 5GB
    #[arg(long, value_name = "SIZE")]
    pub(crate) keep_size: Option<String>,
    /// Remove only what was not used for this long, such as 7d
    #[arg(long, value_name = "AGE")]
    pub(crate) older_than: Option<String>,
    /// Only volumes of these caches (pip, ccache, nuitka, ...), or `checkpoints`
    #[arg(long, value_name = "CACHE", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Of all projects that use this daemon
    #[arg(long)]
    pub(crate) all: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
