//! `kiln test`.

use std::path::{Path, PathBuf};

use kiln_artifact::place;
use kiln_config::{FlagValue, TestCommand};
use kiln_graph::Platform;
use kiln_solver::{BuildOutcome, SolveError, Way};

use crate::cli::ALL_PLATFORMS;
use crate::commands::plan::Looking;
use crate::commands::run::{Ended, Surroundings, carry_out, failure, failures, told};
use crate::environment::Environment;
use crate::error::{CliError, Result, exit};
use crate::job::Job;
use crate::project::{self, Flag, Project};
use crate::report::ci::{Level, annotation};
use crate::report::{Collected, RowOutcome, TargetRow, columns, render_summary};
use crate::sources::prepare::{Prepared, Written, prepare};
use crate::suite::outcome::{self, CellOutcome, Verdict};
use crate::suite::{self, Cell, annotate, junit, table};
use crate::ui::Ui;
use crate::{checks, cli, history, shell};

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Test) -> Result<()> {
    if let Some(format) = args.plan {
        return plan(ui, environment, global, args, format).await;
    }
    let surroundings = Surroundings::new(ui, environment, (global, &args.show), history::TEST);
    let build = args.as_build();
    let attempt = async move {
        // Held to the end: it removes what was brought in.
        let prepared =
            prepare(environment, &build, Written::AsNamed, &surroundings.events, &surroundings.cancel).await?;
        let (project, cells) = cells(ui, environment, &prepared, args)?;
        let junit = args.junit.as_deref().map(Report::new).transpose()?;
        let metadata = args.show.metadata_file.as_deref().map(std::path::absolute).transpose();
        let metadata = metadata.map_err(CliError::io("find", "the metadata file"))?;
        let written: Vec<PathBuf> = junit.iter().map(|report| report.path.clone()).chain(metadata).collect();
        let mut job = Job::of_tests(environment, &prepared, project, (cells, args.build), &written)?;
        shell::check(ui, &job)?;
        let progress = args.show.mode(environment)?;
        let stop = surroundings.cancel.clone();
        let mut ended = carry_out(surroundings, &mut job, progress).await?;
        checks::show(ui, environment, progress, job.warnings.get());
        ended.remember(ui, environment, &job).await;
        let failed = ended.outcome.failed.take();
        let result = conclude(ui, environment, args, &job, junit.as_ref(), ended);
        shell::visit(ui, failed, &stop).await;
        suite::written::remember(&job.state, &written)?;
        result
    };
    told(ui, Box::pin(attempt)).await
}

/// Shows what would be done.
async fn plan(
    ui: Ui,
    environment: &Environment,
    global: &cli::Global,
    args: &cli::Test,
    format: cli::PlanFormat,
) -> Result<()> {
    let looking = Looking::new();
    let prepared = prepare(environment, &args.as_build(), Written::AsNamed, &looking.events, &looking.cancel).await?;
    let (project, cells) = cells(ui, environment, &prepared, args)?;
    let job = Job::of_tests(environment, &prepared, project, (cells, args.build), &[])?;
    super::plan::show(ui, environment, (global, &args.show), looking, job, format).await
}

/// Cells, each with its platform if one was asked for.
type Matrix = Vec<(Cell, Option<Platform>)>;

/// The project, and the matrix of its tests.
fn cells(ui: Ui, environment: &Environment, prepared: &Prepared, args: &cli::Test) -> Result<(Project, Matrix)> {
    let project = project::load_prepared(environment, prepared, flags(args))?;
    ui.warnings(&project.warnings);
    let mut settings = project.config.resolved();
    if wants_all(args) {
        settings.test.platforms.clone_from(&settings.build.platforms);
    }
    let cells = suite::cells(&settings, &args.arguments)?;
    Ok((project, cells))
}

/// Options of the command that are settings.
fn flags(args: &cli::Test) -> Vec<Flag> {
    let mut flags: Vec<Flag> = Vec::new();
    let mut list = |option: &str, key: &str, values: &[String]| {
        if !values.is_empty() {
            flags.push((option.to_owned(), key.to_owned(), FlagValue::List(values.to_vec())));
        }
    };
    list("--python", "test.python", &args.python);
    if !wants_all(args) {
        list("--platform", "test.platforms", &args.platforms);
    }
    let twin = args.schedule.twin.clone();
    flags.extend(twin.map(|when| ("--twin".to_owned(), "emulation.twin".to_owned(), FlagValue::from(when))));
    flags
}

fn wants_all(args: &cli::Test) -> bool {
    matches!(args.platforms.as_slice(), [only] if only == ALL_PLATFORMS)
}

/// Shows how it ended, writes the reports, and makes the exit code.
fn conclude(
    ui: Ui,
    environment: &Environment,
    args: &cli::Test,
    job: &Job,
    report: Option<&Report>,
    ended: Ended,
) -> Result<()> {
    let Ended { collected, outcome, .. } = &ended;
    for warning in &outcome.warnings {
        ui.warn(warning);
    }
    let first = job.items.iter().position(|item| item.cell.is_some()).unwrap_or(job.items.len());
    let built = job.items[..first].iter().map(|item| item.platforms().len()).sum::<usize>();
    let (code, good) = failures(ui, environment, collected, &outcome.targets[..built]);
    let mut cells = Vec::new();
    for (item, index) in job.items[first..].iter().zip(built..) {
        let (Some(cell), Some(platform)) = (&item.cell, item.platforms().first().copied()) else { continue };
        let way = collected.planned.get(index).map_or(Way::Native, |planned| planned.way);
        let result = &outcome.targets[index];
        let (read, notice) = outcome::read(&job.state, cell, (platform, way), result);
        if let Some(notice) = notice {
            ui.warn(&notice);
        }
        show_failure(ui, collected, &read, result);
        cells.push(read);
    }
    if collected.progress.is_for_people() {
        if built > 0 {
            ui.say(render_summary(&rows(collected, outcome, built), columns(), ui.color).trim_end());
        }
        ui.say(table::render(&cells, columns(), ui.color).trim_end());
    }
    for line in annotations(job, &cells) {
        ui.annotate(|| line);
    }
    if let Some(report) = report {
        report.write(&command(job), &cells)?;
    }
    if let Some(file) = &args.show.metadata_file {
        let values: Vec<_> = cells.iter().map(CellOutcome::value).collect();
        let text = serde_json::to_string_pretty(&values).unwrap_or_default();
        place::write_atomically(file, 0o644, format!("{text}\n").as_bytes())?;
    }
    match outcome::exit_code(&cells, code, good) {
        None => ended.saved().map(drop),
        Some(code) => {
            if code == exit::CANCELLED {
                ui.say("stopped; what was finished is kept");
            }
            Err(CliError::Shown { code })
        }
    }
}

/// Why a cell is not well: its tests' last words, or what kept them from running.
fn show_failure(ui: Ui, collected: &Collected, cell: &CellOutcome, result: &Result<impl Sized, SolveError>) {
    match (&cell.verdict, result) {
        (Verdict::Failed { .. }, _) => {
            let log = collected.logs.get(&cell.platform).map(|path| project::shown(path));
            ui.say(table::failure(cell, log.as_deref(), ui.color).trim_end());
        }
        (Verdict::Error { .. }, Err(error)) => failure(ui, collected, error),
        _ => {}
    }
}

/// The rows of the program's targets, which come before the cells.
fn rows(collected: &Collected, outcome: &BuildOutcome, built: usize) -> Vec<TargetRow> {
    let planned = collected.planned.iter().zip(&outcome.targets[..built]);
    let row = |(planned, result): (&kiln_solver::PlannedTarget, &Result<kiln_solver::TargetReport, SolveError>)| {
        let end = match result {
            Ok(report) => {
                let mut row = TargetRow::finished(report);
                row.artifacts.iter_mut().for_each(|file| file.path = project::shown(&file.path));
                return row;
            }
            Err(SolveError::Cancelled) => RowOutcome::Stopped,
            Err(error) => RowOutcome::Failed { at: format!(": {error}") },
        };
        TargetRow::ended(planned, end, collected.took)
    };
    planned.map(row).collect()
}

/// Failed tests for GitHub, with paths from where the run began: there the repository is checked out.
fn annotations(job: &Job, cells: &[CellOutcome]) -> Vec<String> {
    let folder = &job.project.folder;
    let labelled: Vec<_> = cells.iter().map(|cell| (cell.label(), cell.cases.as_slice())).collect();
    let mut said = annotate::annotations(&labelled, |file| project::shown(&folder.join(file)).display().to_string());
    for cell in cells {
        let reason = match &cell.verdict {
            // Its tests have annotations of their own.
            Verdict::Failed { reason } if cell.counts().is_none_or(|counts| counts.failed == 0) => reason,
            Verdict::Error { reason, .. } => reason,
            _ => continue,
        };
        said.push(annotation(Level::Error, None, &cell.label(), reason));
    }
    said
}

/// The test command, as it is shown.
fn command(job: &Job) -> String {
    match &job.project.config.resolved().test.command {
        Some(TestCommand::Words(words)) => words.join(" "),
        Some(TestCommand::Shell(line)) => line.clone(),
        None => "tests".to_owned(),
    }
}

/// Where `--junit` goes.
struct Report {
    path: PathBuf,
    is_folder: bool,
}

impl Report {
    fn new(path: &Path) -> Result<Self> {
        let ends = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let is_folder = ends || path.is_dir() || path.extension().is_none();
        let path = std::path::absolute(path).map_err(CliError::io("find", path))?;
        Ok(Self { path, is_folder })
    }

    fn write(&self, command: &str, cells: &[CellOutcome]) -> Result<()> {
        let merged = |cells: &[CellOutcome]| {
            let parts: Vec<_> = cells.iter().map(|cell| cell.part(command)).collect();
            junit::merge(&parts).map_err(|error| CliError::io("write", &self.path)(std::io::Error::other(error)))
        };
        if !self.is_folder {
            return Ok(place::write_atomically(&self.path, 0o644, merged(cells)?.as_bytes())?);
        }
        for cell in cells {
            let file = self.path.join(format!("junit-{}.xml", cell.slug));
            place::write_atomically(&file, 0o644, merged(std::slice::from_ref(cell))?.as_bytes())?;
        }
        Ok(())
    }
}
