//! `history` and `stats`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

const NAMES: &str = "\
Builds are named by their id or its beginning, or by `last`, `last~1`, ...

Examples:
  kiln history ls
  kiln history show
  kiln history compare last~1 last
  kiln history logs --platform linux/arm64";

pub(super) const STATS_EXAMPLES: &str = "\
Only builds that did something count for times. The last build of each platform is compared with earlier ones that ran the
same steps; what stands out of their scatter is told with its causes.

Examples:
  kiln stats
  kiln stats --check                 exit code 1 if something is slower than it was
  kiln stats --format prometheus > kiln.prom";

pub(super) const REPORT_EXAMPLES: &str = "\
The page is one file that needs nothing else, neither scripts nor a network.

Examples:
  kiln report                                         .kiln/report.html, of the last build
  kiln report last~1 --html report.html
  kiln report --markdown >> \"$GITHUB_STEP_SUMMARY\"";

/// A build as a page or a job summary.
#[derive(Args, Debug)]
pub(crate) struct Report {
    /// The build: its id or the beginning of it, or `last`, `last~1`, ...
    #[arg(default_value = "last", value_name = "BUILD")]
    pub(crate) build: String,
    /// Write a page; default: .kiln/report.html of the project; `-` is standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "the option may be given without a file")]
    pub(crate) html: Option<Option<PathBuf>>,
    /// Write a job summary in GitHub's Markdown instead; default: standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", conflicts_with = "html")]
    pub(crate) markdown: Option<PathBuf>,
    /// Show the page in a browser: yes or no
    #[arg(long, value_name = "WHETHER", num_args = 0..=1, default_value = "no", default_missing_value = "yes",
        hide_possible_values = true, conflicts_with = "markdown")]
    pub(crate) open: Open,
    /// Whose.
    #[command(flatten)]
    pub(crate) place: Where,
}

/// Whether a browser is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Open {
    /// It is.
    Yes,
    /// It is not.
    No,
}

#[derive(Args, Debug)]
#[command(after_help = NAMES)]
pub(crate) struct History {
    #[command(subcommand)]
    pub(crate) command: HistoryCommand,
}

/// Whose history it is.
#[derive(Args, Debug)]
pub(crate) struct Where {
    /// Project folder
    #[arg(long, default_value = ".", value_name = "PATH")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// List the latest builds, newest first
    Ls {
        /// How many
        #[arg(short, long, default_value_t = 20, value_name = "N")]
        limit: usize,
        /// As JSON, with all that is known of each
        #[arg(long)]
        json: bool,
        /// As a line of CSV for each target
        #[arg(long, conflicts_with = "json")]
        csv: bool,
        /// Whose.
        #[command(flatten)]
        place: Where,
    },
    /// Show one build: targets, steps, why each ran and how long it took
    Show {
        /// The build
        #[arg(default_value = "last", value_name = "BUILD")]
        build: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Whose.
        #[command(flatten)]
        place: Where,
    },
    /// Print the full logs of a build
    Logs {
        /// The build
        #[arg(default_value = "last", value_name = "BUILD")]
        build: String,
        /// Only of this platform
        #[arg(long, value_name = "PLATFORM")]
        platform: Option<String>,
        /// Whose.
        #[command(flatten)]
        place: Where,
    },
    /// Show two builds side by side
    Compare {
        /// The first
        #[arg(default_value = "last~1", value_name = "BUILD")]
        a: String,
        /// The second
        #[arg(default_value = "last", value_name = "BUILD")]
        b: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Whose.
        #[command(flatten)]
        place: Where,
    },
}

/// Figures of many builds.
#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// Only the last so many builds
    #[arg(short, long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Earlier builds that the last one is compared with
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) window: usize,
    /// Price of a CI minute; default: history.minute-price
    #[arg(long, value_name = "PRICE")]
    pub(crate) price: Option<f64>,
    /// How it is written
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: StatsFormat,
    /// As JSON
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// Fail with exit code 1 if something is slower than it was
    #[arg(long)]
    pub(crate) check: bool,
    /// Whose.
    #[command(flatten)]
    pub(crate) place: Where,
}

/// How figures are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatsFormat {
    /// For people.
    Text,
    /// Everything.
    Json,
    /// A line for each target of each build.
    Csv,
    /// For Prometheus.
    Prometheus,
}
