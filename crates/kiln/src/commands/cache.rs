//! `kiln cache`: what caches are there, by project, and how well they serve.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::{du, prune, stores, travel};
use crate::cli::{self, CacheCommand};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::room::{self, Record, Type};
use crate::ui::Ui;
use crate::{project, report, session};

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, command: &CacheCommand) -> Result<()> {
    match command {
        CacheCommand::Stats { path, json } => stats(ui, path, *json),
        CacheCommand::Save(args) => travel::save(ui, environment, global, args).await,
        CacheCommand::Restore(args) => travel::restore(ui, environment, global, args).await,
        CacheCommand::Verify { dry_run, store } => stores::verify(ui, environment, store, *dry_run).await,
        CacheCommand::Prune(args) if args.store.remote.is_some() => stores::prune(ui, environment, args).await,
        CacheCommand::Ls { json, store } if store.remote.is_some() => stores::list(ui, environment, store, *json).await,
        CacheCommand::Du { json, store } if store.remote.is_some() => {
            stores::usage(ui, environment, store, *json).await
        }
        CacheCommand::Prune(args) => prune::run_for_project(ui, environment, global, args).await,
        CacheCommand::Ls { json, .. } => {
            let records = records(environment, global).await?;
            list(ui, records.into_iter().filter(|record| matches!(record.kind, Type::Cache | Type::Twin)), *json);
            Ok(())
        }
        CacheCommand::Du { json, .. } => {
            usage(ui, &records(environment, global).await?, *json);
            Ok(())
        }
    }
}

/// All that is kept, sorted for people.
async fn records(environment: &Environment, global: &cli::Global) -> Result<Vec<Record>> {
    let engine = session::connect(environment, global).await?;
    let mut records = room::gather(environment, &engine, None).await?.records;
    records.sort_by(|a, b| (&a.scope, a.cache(), &a.platform).cmp(&(&b.scope, b.cache(), &b.platform)));
    Ok(records)
}

fn list(ui: Ui, records: impl Iterator<Item = Record>, json: bool) {
    if json {
        let list: Vec<_> = records
            .map(|record| {
                json!({
                    "cache": record.cache(), "scope": record.scope, "platform": record.platform, "name": record.id,
                    "size": record.size, "created": record.created, "in_use": record.in_use,
                })
            })
            .collect();
        return ui.print(&format!("{}\n", json!(list)));
    }
    let mut rows = vec![["CACHE", "PLATFORM", "SIZE", "PROJECT", "VOLUME"].map(str::to_owned)];
    rows.extend(records.map(|record| {
        let (cache, size) = (record.cache().to_owned(), du::room(record.size));
        [cache, record.platform, size, record.scope, record.id]
    }));
    ui.print(&table(&rows));
}

/// Sums by project and cache.
fn usage(ui: Ui, records: &[Record], json: bool) {
    let mut sums: BTreeMap<(&str, &str), (usize, u64)> = BTreeMap::new();
    for record in records {
        let sum = sums.entry((&record.scope, record.cache())).or_default();
        sum.0 += 1;
        sum.1 += record.size.unwrap_or_default();
    }
    if json {
        let rows: Vec<_> = sums
            .iter()
            .map(|((scope, cache), (count, bytes))| json!({"scope": scope, "cache": cache, "count": count, "bytes": bytes}))
            .collect();
        return ui.print(&format!("{}\n", json!(rows)));
    }
    let mut rows = vec![["PROJECT", "CACHE", "COUNT", "SIZE"].map(str::to_owned)];
    for ((scope, cache), (count, bytes)) in &sums {
        let scope = if scope.is_empty() { "-" } else { scope };
        rows.push([scope.to_owned(), (*cache).to_owned(), count.to_string(), report::size(*bytes)]);
    }
    ui.print(&table(&rows));
}

/// The cache scope of a project.
pub(super) fn scope_of(environment: &Environment, path: &Path) -> Result<String> {
    let project = cli::Project { path: path.to_owned(), ..cli::Project::default() };
    Ok(project::load(environment, &project, Vec::new())?.config.resolved().cache.scope)
}

fn stats(ui: Ui, path: &Path, json: bool) -> Result<()> {
    let folder = fs_err::canonicalize(path).map_err(CliError::io("find", path))?;
    let _ = project::facts(&folder)?;
    let reports = kiln_solver::last_reports(&folder.join(".kiln").join("state"));
    if json {
        ui.print(&format!("{}\n", json!(reports)));
        return Ok(());
    }
    if reports.is_empty() {
        ui.say("no build of this project has ended well yet");
        return Ok(());
    }
    let mut rows = vec![
        ["PLATFORM", "STEPS CACHED", "CCACHE HITS", "OF A REMOTE", "MISSES", "HIT RATE", "TIME"].map(str::to_owned),
    ];
    for report in &reports {
        let (hits, remote, misses, rate) = match report.ccache {
            Some(stats) => (
                stats.hits.to_string(),
                stats.remote_hits.to_string(),
                stats.misses.to_string(),
                stats.hit_percent().map_or("-".to_owned(), |rate| format!("{rate:.0} %")),
            ),
            None => ("-".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()),
        };
        rows.push([
            report.platform.to_string(),
            format!("{}/{}", report.cached, report.cached + report.ran),
            hits,
            remote,
            misses,
            rate,
            format!("{:.1} s", report.took.as_secs_f64()),
        ]);
    }
    ui.print(&table(&rows));
    Ok(())
}

/// Rows as text.
pub(super) fn table<R: AsRef<[String]>>(rows: &[R]) -> String {
    report::table::lines(rows).into_iter().map(|line| line + "\n").collect()
}
