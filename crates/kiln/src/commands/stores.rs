//! `kiln cache ls|du|prune --remote` and `kiln cache verify`: what stores have, what they need not have, what is damaged.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_cache::upkeep::{self, Inventory, Rules};
use kiln_cache::{Store, Trust};
use kiln_config::parse_duration;
use serde_json::json;

use super::cache::table;
use crate::cli;
use crate::environment::Environment;
use crate::error::{CliError, Result, exit};
use crate::job::counted;
use crate::project::{self, Project};
use crate::report;
use crate::room::choose::size;
use crate::travel::{self, Written};
use crate::ui::Ui;

/// A store and those whose snapshots count.
struct Opened {
    store: std::sync::Arc<dyn Store>,
    trust: Trust,
}

/// The stores that an option names, or the settings.
fn open(environment: &Environment, path: &Path, remote: Option<&str>) -> Result<Vec<Opened>> {
    let args = cli::Project { path: path.to_owned(), ..cli::Project::default() };
    let project: Project = project::load(environment, &args, Vec::new())?;
    let named: Vec<String> = remote.filter(|text| !text.is_empty()).map(str::to_owned).into_iter().collect();
    let (from, _) = travel::remotes(environment, &project, &Written { from: named, to: Vec::new() }, &mut Vec::new())?;
    if from.is_empty() {
        return Err(CliError::Usage {
            problem: "no store is named".to_owned(),
            hint: "name one with --remote CACHE, or in the setting cache.remote".to_owned(),
        });
    }
    let (_, trust) = travel::keys(environment, &project)?;
    Ok(from.into_iter().map(|remote| Opened { store: remote.store, trust: trust.clone() }).collect())
}

async fn look(opened: &Opened) -> Result<Inventory> {
    let looked = upkeep::look(opened.store.as_ref(), &opened.trust).await?;
    looked.ok_or_else(|| CliError::Usage {
        problem: format!("{} cannot list what it has", opened.store.place()),
        hint: "use a store that can: a folder, S3, GCS, Azure, WebDAV, a registry".to_owned(),
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(super) async fn list(ui: Ui, environment: &Environment, at: &cli::Elsewhere, json: bool) -> Result<()> {
    let mut rows = vec![["SERIES", "FILES", "SIZE", "STORED", "AGE"].map(str::to_owned)];
    let mut all = Vec::new();
    for opened in open(environment, Path::new("."), at.remote.as_deref())? {
        let inventory = look(&opened).await?;
        for kept in &inventory.kept {
            match &kept.snapshot {
                Ok(snapshot) => {
                    let (files, size, stored) = (snapshot.files(), snapshot.size(), snapshot.stored());
                    all.push(json!({
                        "store": opened.store.place(), "series": kept.series.to_string(), "files": files, "size": size,
                        "stored": stored, "made": snapshot.made, "by": snapshot.by,
                    }));
                    let (size, stored) = (report::size(size), report::size(stored));
                    let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
                    let age = report::ago(signed(snapshot.made), signed(now()));
                    rows.push([kept.series.to_string(), files.to_string(), size, stored, age]);
                }
                Err(error) => {
                    ui.warn(&error.to_string());
                    all.push(json!({
                        "store": opened.store.place(), "series": kept.series.to_string(), "error": error.to_string(),
                    }));
                }
            }
        }
    }
    ui.print(&if json { format!("{}\n", json!(all)) } else { table(&rows) });
    Ok(())
}

/// Sums by what series begin with: the project and the branch.
pub(super) async fn usage(ui: Ui, environment: &Environment, at: &cli::Elsewhere, json: bool) -> Result<()> {
    let mut rows = vec![["PROJECT", "BRANCH", "SERIES", "STORED"].map(str::to_owned)];
    let mut all = Vec::new();
    for opened in open(environment, Path::new("."), at.remote.as_deref())? {
        let inventory = look(&opened).await?;
        let mut sums: BTreeMap<(String, String), (usize, u64)> = BTreeMap::new();
        for kept in &inventory.kept {
            let mut parts = kept.series.parts().map(str::to_owned);
            let place = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let sum = sums.entry(place).or_default();
            sum.0 += 1;
            sum.1 += kept.snapshot.as_ref().map_or(0, kiln_cache::Snapshot::stored);
        }
        for ((scope, branch), (count, bytes)) in sums {
            all.push(json!({
                "store": opened.store.place(), "scope": scope, "branch": branch, "series": count, "stored": bytes,
            }));
            rows.push([scope, branch, count.to_string(), report::size(bytes)]);
        }
        all.push(json!({ "store": opened.store.place(), "all": inventory.size }));
        rows.push(["(all)".to_owned(), String::new(), inventory.kept.len().to_string(), report::size(inventory.size)]);
    }
    ui.print(&if json { format!("{}\n", json!(all)) } else { table(&rows) });
    Ok(())
}

pub(super) async fn prune(ui: Ui, environment: &Environment, args: &cli::CachePrune) -> Result<()> {
    let older_than = match &args.older_than {
        Some(text) => Some(parse_duration(text).map_err(|error| CliError::Usage {
            problem: format!("--older-than: {error}"),
            hint: "write 7d, 12h or 30m".to_owned(),
        })?),
        None => None,
    };
    let rules = Rules { older_than, keep_size: size("--keep-size", args.keep_size.as_deref())?, now: now() };
    for opened in open(environment, &args.path, args.store.remote.as_deref())? {
        let inventory = look(&opened).await?;
        let gone = upkeep::removable(&inventory, rules);
        let bytes: u64 = gone.iter().map(|listed| listed.size).sum();
        if !args.dry_run {
            for listed in &gone {
                opened.store.remove(&listed.what).await?;
            }
        }
        let verb = if args.dry_run { "would remove" } else { "removed" };
        let what = counted(gone.len(), "object");
        ui.say(&format!("{verb} {what} of {}: {}", opened.store.place(), report::size(bytes)));
    }
    Ok(())
}

pub(super) async fn verify(ui: Ui, environment: &Environment, at: &cli::Elsewhere, dry_run: bool) -> Result<()> {
    let mut is_good = true;
    for opened in open(environment, Path::new("."), at.remote.as_deref())? {
        let inventory = look(&opened).await?;
        let checked = upkeep::verify(opened.store.as_ref(), &inventory).await?;
        for problem in inventory.kept.iter().filter_map(|kept| kept.snapshot.as_ref().err()).chain(&checked.problems) {
            is_good = false;
            ui.warn(&problem.to_string());
        }
        if !dry_run {
            for broken in &checked.broken {
                opened.store.remove(broken).await?;
            }
        }
        let removed = match (checked.broken.len(), dry_run) {
            (0, _) => String::new(),
            (count, true) => format!("; {count} would be removed"),
            (count, false) => format!("; {count} removed: the next save makes them anew"),
        };
        let (series, packs) = (inventory.kept.len(), counted(checked.good, "pack"));
        let place = opened.store.place();
        ui.say(&format!("{place}: {series} series, {packs} are good ({}){removed}", report::size(checked.bytes)));
    }
    if is_good { Ok(()) } else { Err(CliError::Shown { code: exit::STEP }) }
}
