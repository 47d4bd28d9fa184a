//! `kiln test`.

use std::path::PathBuf;

use clap::Args;

use super::{Build, PlanFormat, Project, Schedule, Show, key_value};

/// The word for all platforms that are built for.
pub(crate) const ALL: &str = "all";

/// The project's own tests, in containers.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Test {
    /// Project folder (or git repository, URL, `-`); default: the current one
    #[arg(default_value = ".", value_name = "PATH", hide_default_value = true)]
    pub(crate) path: PathBuf,
    /// More arguments for the test command
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<String>,
    /// Versions of Python, separated by commas (repeatable)
    #[arg(long, value_name = "VERSION", value_delimiter = ',')]
    pub(crate) python: Vec<String>,
    /// Platforms, by commas (repeatable); `all`: those that are built for
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
    /// JUnit report to write; a folder gets one per Python and platform
    #[arg(long, value_name = "FILE|FOLDER")]
    pub(crate) junit: Option<PathBuf>,
    /// Build the program at the same time, as `kiln build` does
    #[arg(long)]
    pub(crate) build: bool,
    /// Show what would be done, as `kiln plan`: text, json, dot, mermaid
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "text",
        hide_possible_values = true, conflicts_with_all = ["junit", "metadata_file"])]
    pub(crate) plan: Option<PlanFormat>,
    /// Run the tests again where they passed and nothing has changed, too
    #[arg(long)]
    pub(crate) again: bool,
    /// Settings file instead of the project's kiln.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting, as in kiln.toml: test.timeout=5m (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Run every step again; cache volumes are kept
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Run every step of these stages again: python, environment, test
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Ask the registry for newer base images
    #[arg(long)]
    pub(crate) pull: bool,
    /// Restore caches (repeatable): type=local,src=DIR, type=gha, s3://...
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_from: Vec<String>,
    /// Save caches (repeatable): type=local,dest=DIR, type=gha,mode=max
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_to: Vec<String>,
    /// How progress and results are shown.
    #[command(flatten)]
    pub(crate) show: Show,
    /// When and where steps run.
    #[command(flatten)]
    pub(crate) schedule: Schedule,
}

impl Test {
    /// What one would write to build the project.
    pub(crate) fn as_build(&self) -> Build {
        let mut no_cache_filter = self.no_cache_filter.clone();
        if self.again {
            no_cache_filter.push("test".to_owned());
        }
        Build {
            project: Project {
                path: self.path.clone(),
                config: self.config.clone(),
                set: self.set.clone(),
                ..Project::default()
            },
            no_cache: self.no_cache,
            no_cache_filter,
            pull: self.pull,
            cache_from: self.cache_from.clone(),
            cache_to: self.cache_to.clone(),
            show: self.show.clone(),
            schedule: self.schedule.clone(),
            ..Build::default()
        }
    }
}
