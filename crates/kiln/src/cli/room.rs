//! `prune`, `du` and `cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::build::Build;

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

const CACHE_SAVE_EXAMPLES: &str = "\
Examples:
  kiln cache save --to ~/kiln-cache
  kiln cache save --to type=registry,ref=registry.example/app:cache --only ccache,stages";

const CACHE_RESTORE_EXAMPLES: &str = "\
Examples:
  kiln cache restore --from ~/kiln-cache
  kiln cache restore --from s3://bucket/prefix?region=eu-west-1 --only pip,ccache,nuitka";

#[derive(Args, Debug)]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List cache volumes, or what a store has
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Where it is listed.
        #[command(flatten)]
        store: Elsewhere,
    },
    /// Say how much room cache volumes and checkpoints take, or what a store has
    Du {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Where it is measured.
        #[command(flatten)]
        store: Elsewhere,
    },
    /// Read everything that a store has, and remove what is damaged
    Verify {
        /// Say what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
        /// Where it is checked.
        #[command(flatten)]
        store: Elsewhere,
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
    /// Save the caches of a project to a store
    #[command(after_help = CACHE_SAVE_EXAMPLES)]
    Save(Box<CacheSave>),
    /// Restore the caches of a project from a store
    #[command(after_help = CACHE_RESTORE_EXAMPLES)]
    Restore(Box<CacheRestore>),
}

/// A store instead of the daemon.
#[derive(Args, Debug)]
pub(crate) struct Elsewhere {
    /// Of a store, written as for --cache-from; without a value cache.remote
    #[arg(long, value_name = "CACHE", num_args = 0..=1, default_missing_value = "")]
    pub(crate) remote: Option<String>,
}

/// What is saved.
#[derive(Args, Debug)]
pub(crate) struct CacheSave {
    /// Where to (repeatable): a folder, or as for --cache-to; default: cache.remote
    #[arg(long, value_name = "CACHE")]
    pub(crate) to: Vec<String>,
    /// Only these caches (pip, ccache, nuitka, ...), `stages` or `results`
    #[arg(long, value_name = "CACHE", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// As for `kiln build`.
    #[command(flatten)]
    pub(crate) build: Build,
}

/// What is restored.
#[derive(Args, Debug)]
pub(crate) struct CacheRestore {
    /// Where from (repeatable): a folder, or as for --cache-from; default: cache.remote
    #[arg(long, value_name = "CACHE")]
    pub(crate) from: Vec<String>,
    /// Only these caches (pip, ccache, nuitka, ...), `stages` or `results`
    #[arg(long, value_name = "CACHE", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// As for `kiln build`.
    #[command(flatten)]
    pub(crate) build: Build,
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
    /// Where it is removed.
    #[command(flatten)]
    pub(crate) store: Elsewhere,
}
