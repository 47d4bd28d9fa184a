//! `kiln du`: what takes how much room.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::cache::table;
use super::prune::project_in;
use crate::cli::{self, DuFormat};
use crate::environment::Environment;
use crate::error::Result;
use crate::room::filter::Filter;
use crate::room::{self, Record, Room, Type};
use crate::ui::Ui;
use crate::{report, session};

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Du) -> Result<()> {
    let filter = Filter::parse(&args.filter)?;
    let engine = session::connect(environment, global).await?;
    let project = project_in(environment, std::path::Path::new("."));
    let project = project.as_ref().map(|(folder, scope)| (folder.as_path(), scope.as_str()));
    let Room { mut records, is_exact, .. } = room::gather(environment, &engine, project).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    records.retain(|record| filter.takes(record, now));
    if args.json || args.format == DuFormat::Json {
        for record in &records {
            ui.print(&format!("{}\n", json!(record)));
        }
        return Ok(());
    }
    ui.print(&shown(&records, global.verbose > 0));
    let sum = |wanted: fn(&&Record) -> bool| {
        report::size(records.iter().filter(wanted).map(|record| record.size.unwrap_or_default()).sum())
    };
    ui.print(&format!("Reclaimable:\t{}\nTotal:\t\t{}\n", sum(|record| is_reclaimable(record)), sum(|_| true)));
    if !is_exact && records.iter().any(|record| record.kind == Type::Checkpoint) {
        ui.say("checkpoints share layers with each other and with their base images: they take less room than shown");
    }
    Ok(())
}

/// Whether `prune --all` would remove it; what stands on a checkpoint goes before it.
fn is_reclaimable(record: &Record) -> bool {
    !record.in_use || record.kind == Type::Checkpoint
}

/// Records for people: a line each, or all that is known of each.
pub(super) fn shown(records: &[Record], verbose: bool) -> String {
    if records.is_empty() {
        return String::new();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    if verbose {
        return records.iter().map(|record| block(record, now)).collect();
    }
    let mut rows = vec![["ID", "TYPE", "RECLAIMABLE", "SIZE", "LAST ACCESSED", "DESCRIPTION"].map(str::to_owned)];
    rows.extend(records.iter().map(|record| {
        let description: String = record.description.lines().next().unwrap_or_default().chars().take(50).collect();
        let reclaimable = is_reclaimable(record).to_string();
        [
            room::short(&record.id),
            record.kind.name().to_owned(),
            reclaimable,
            room(record.size),
            report::ago(record.used, now),
            description,
        ]
    }));
    table(&rows)
}

fn block(record: &Record, now: i64) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("ID", record.id.clone()),
        ("Created at", time(record.created)),
        ("Reclaimable", is_reclaimable(record).to_string()),
        ("Size", room(record.size)),
        ("Description", record.description.clone()),
        ("Last used", report::ago(record.used, now)),
        ("Type", record.kind.name().to_owned()),
        ("Project", record.scope.clone()),
        ("Platform", record.platform.clone()),
    ] {
        if !value.is_empty() {
            text.extend([name, ":", &" ".repeat(13 - name.len()), &value, "\n"]);
        }
    }
    text.push('\n');
    text
}

fn time(seconds: i64) -> String {
    if seconds == 0 { String::new() } else { kiln_solver::image::rfc3339(seconds) }
}

/// A size; `-` where it is not known.
pub(super) fn room(bytes: Option<u64>) -> String {
    bytes.map_or("-".to_owned(), report::size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::tests::record;

    #[test]
    fn a_line_or_all_that_is_known() {
        let records = [record("kiln-cache-pip", Type::Cache, 2_000_000, 0)];
        let text = shown(&records, false);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split("  ").filter(|c| !c.is_empty()).map(str::trim).collect()).collect();
        assert_eq!(lines[0], ["ID", "TYPE", "RECLAIMABLE", "SIZE", "LAST ACCESSED", "DESCRIPTION"]);
        assert_eq!(lines[1], ["kiln-cache-pip", "exec.cachemount", "true", "2.0 MB", "-", "about kiln-cache-pip"]);
        let text = shown(&records, true);
        assert!(text.contains("Type:         exec.cachemount\n") && text.contains("Project:      p\n"), "{text}");
        assert_eq!(shown(&[], false), "");
    }
}
