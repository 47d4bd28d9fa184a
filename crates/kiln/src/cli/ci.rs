//! `kiln ci` and `kiln migrate`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Project;

pub(super) const MATRIX_EXAMPLES: &str = "\
Examples:
  kiln ci matrix --explain                                  what this run would build and test, and why
  kiln ci matrix --event pull_request
  kiln ci matrix --ref refs/tags/v1.2.3
  kiln ci matrix --format github-output >> \"$GITHUB_OUTPUT\"

In a workflow, `matrix` is the output of that step:
  strategy: { matrix: { include: '${{ fromJSON(needs.plan.outputs.matrix).include }}' } }    # arch, platform, runner, way
  strategy: { matrix: { python-version: '${{ fromJSON(needs.plan.outputs.matrix).python }}' } }

The rules are those of [ci] in kiln.toml.";

pub(super) const MIGRATE_EXAMPLES: &str = "\
Examples:
  kiln migrate                                   all workflows of .github/workflows
  kiln migrate .github/workflows/build.yml
  kiln migrate --check                           old and new side by side; exit code 1 if something differs
  kiln migrate scripts/build.sh --output /tmp/new

The new files lie beside the old ones, as kiln-NAME; nothing is replaced without --force.";

#[derive(Args, Debug)]
pub(crate) struct Ci {
    #[command(subcommand)]
    pub(crate) command: CiCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CiCommand {
    /// Print what a run tests and builds, as JSON for `fromJSON`
    #[command(after_help = MATRIX_EXAMPLES)]
    Matrix(Box<CiMatrix>),
}

#[derive(Args, Debug)]
pub(crate) struct CiMatrix {
    #[command(flatten)]
    pub(crate) project: Project,
    /// Event: push, pull_request, merge_request_event, ...; default: that of GitHub's or GitLab's variables
    #[arg(long, value_name = "EVENT")]
    pub(crate) event: Option<String>,
    /// Branch or tag: main, refs/tags/v1; default: that of the variables, else what is checked out
    #[arg(long = "ref", value_name = "REF")]
    pub(crate) reference: Option<String>,
    /// Branch that a pull request is to be merged into
    #[arg(long, value_name = "BRANCH")]
    pub(crate) base_ref: Option<String>,
    /// Say on standard error which rule made which choice, and where it is set
    #[arg(long)]
    pub(crate) explain: bool,
    /// json, or github-output: lines `matrix=`, `include=`, `python=` and `platforms=`
    #[arg(long, value_name = "FORMAT", default_value = "json", hide_default_value = true, hide_possible_values = true)]
    pub(crate) format: MatrixFormat,
}

/// How a matrix is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MatrixFormat {
    /// One line of JSON.
    Json,
    /// Lines for the file that `GITHUB_OUTPUT` names.
    GithubOutput,
}

#[derive(Args, Debug)]
pub(crate) struct Migrate {
    /// Workflows, actions or shell scripts; default: those of .github/workflows
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write nothing: compare what old and new would do, with the new files if they are there
    #[arg(long, conflicts_with = "force")]
    pub(crate) check: bool,
    /// Replace files that are there
    #[arg(long)]
    pub(crate) force: bool,
    /// Folder to write to instead of the project's
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}
