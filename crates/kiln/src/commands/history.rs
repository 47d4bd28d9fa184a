//! `kiln history` and `kiln stats`: what is known of earlier builds.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_graph::Platform;
use kiln_history::compare::Comparison;
use kiln_history::stats::{Options, Stats};
use kiln_history::{History, HistoryError, Record, export};
use serde::Serialize;

use crate::cli::{self, HistoryCommand, StatsFormat, Where};
use crate::environment::Environment;
use crate::error::{CliError, Result, exit};
use crate::report::past::{self, Look};
use crate::ui::Ui;
use crate::{history, project, report};

pub(crate) fn run(ui: Ui, command: &HistoryCommand) -> Result<()> {
    match command {
        HistoryCommand::Ls { limit, json, csv, place } => {
            let records = open(place)?.map_or_else(|| Ok(Vec::new()), |history| history.latest(*limit))?;
            match (json, csv) {
                (true, _) => print_json(ui, &records),
                (_, true) => ui.print(&export::csv(&records)),
                _ if records.is_empty() => ui.say("no build was recorded here yet"),
                _ => ui.print(&past::list(&records, look())),
            }
        }
        HistoryCommand::Show { build, json, place } => {
            let record = find(place, build)?.1;
            if *json { print_json(ui, &record) } else { ui.print(&past::build(&record, look())) }
        }
        HistoryCommand::Logs { build, platform, place } => logs(ui, place, build, platform.as_deref())?,
        HistoryCommand::Compare { a, b, json, place } => {
            let (history, a) = find(place, a)?;
            let comparison = Comparison::of(&a, &history.find(b)?);
            if *json { print_json(ui, &comparison) } else { ui.print(&past::comparison(&comparison, look())) }
        }
    }
    Ok(())
}

/// `kiln stats`.
pub(crate) fn stats(ui: Ui, environment: &Environment, args: &cli::Stats) -> Result<()> {
    let here = cli::Project { path: args.place.path.clone(), ..cli::Project::default() };
    let project = project::load(environment, &here, Vec::new())?;
    let settings = project.config.resolved();
    let limit = args.limit.unwrap_or(settings.history.keep);
    let records = open(&args.place)?.map_or_else(|| Ok(Vec::new()), |history| history.latest(limit))?;
    let minute_price = args.price.unwrap_or(settings.history.minute_price);
    let stats = Stats::of(&records, &Options { minute_price, window: args.window });
    match if args.json { StatsFormat::Json } else { args.format } {
        StatsFormat::Json => print_json(ui, &stats),
        StatsFormat::Csv => ui.print(&export::csv(&records)),
        StatsFormat::Prometheus => ui.print(&export::prometheus(&settings.project.name, &stats)),
        StatsFormat::Text if records.is_empty() => ui.say("no build was recorded here yet"),
        StatsFormat::Text => ui.print(&past::stats(&stats, &settings.history.currency, look())),
    }
    if args.check && !stats.alarms.is_empty() {
        if args.json || args.format != StatsFormat::Text {
            ui.say(past::alarms(&stats, look()).trim());
        }
        return Err(CliError::Shown { code: exit::STEP });
    }
    Ok(())
}

fn open(place: &Where) -> Result<Option<History>> {
    let folder = project::folder(&place.path)?;
    Ok(History::open_if_there(&history::of_project(&folder))?)
}

/// The history and one build of it.
pub(super) fn find(place: &Where, name: &str) -> Result<(History, Record)> {
    let none = || HistoryError::NotFound { name: name.to_owned(), latest: Vec::new() };
    let history = open(place)?.ok_or_else(none)?;
    let record = history.find(name)?;
    Ok((history, record))
}

fn logs(ui: Ui, place: &Where, build: &str, platform: Option<&str>) -> Result<()> {
    let (history, record) = find(place, build)?;
    let platform = platform.map(|text| {
        let parsed = text.parse::<Platform>();
        parsed.map_err(|error| CliError::Usage {
            problem: error.to_string(),
            hint: "as in --platform linux/arm64".to_owned(),
        })
    });
    let wanted = platform.transpose()?.map(Platform::folder);
    let all = history.logs(&record.id)?;
    let logs: Vec<_> = all.iter().filter(|log| wanted.as_ref().is_none_or(|wanted| *wanted == log.name)).collect();
    if logs.is_empty() {
        return Err(CliError::Missing {
            problem: format!("no log of build {} is kept{}", record.id, of(wanted.as_deref())),
            hint: "a build that finds everything in place has none, and the oldest are removed".to_owned(),
        });
    }
    for log in &logs {
        if logs.len() > 1 {
            ui.print(&format!("==> {} <==\n", log.name));
        }
        ui.print(&log.text);
    }
    Ok(())
}

fn of(platform: Option<&str>) -> String {
    platform.map(|platform| format!(" for {platform}")).unwrap_or_default()
}

fn look() -> Look {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // What goes to standard output may be a file: without colours it is right anywhere.
    Look { width: report::stdout_columns(), color: false, now: i64::try_from(now).unwrap_or(i64::MAX) }
}

fn print_json(ui: Ui, value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    ui.print(&format!("{text}\n"));
}

/// Looks whether the last build is slower than those before it, for the end of a build.
pub(super) fn alarms(file: &Path) -> Result<String, HistoryError> {
    let Some(history) = History::open_if_there(file)? else { return Ok(String::new()) };
    let stats = Stats::of(&history.latest(LOOKED_AT)?, &Options::default());
    let look = Look { width: report::columns(), ..look() };
    Ok(past::alarms(&stats, look).trim().to_owned())
}

/// Builds that are read to judge the last one.
const LOOKED_AT: usize = 60;
