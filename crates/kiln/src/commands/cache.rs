//! `kiln cache`: what kiln keeps in the daemon, and how to be rid of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_config::{ByteSize, parse_duration};
use kiln_docker::{Engine, EngineError, Image, Volume, labels};
use serde::Serialize;
use serde_json::json;

use crate::cli::{self, CacheCommand};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::ui::Ui;
use crate::{project, report, scope, session};

/// What `--only` calls the committed steps.
const CHECKPOINTS: &str = "checkpoints";
/// What it calls the volumes with native programs.
const TWIN: &str = "twin";

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, command: &CacheCommand) -> Result<()> {
    if let CacheCommand::Stats { path, json } = command {
        return stats(ui, path, *json);
    }
    let engine = session::connect(environment, global).await?;
    match command {
        CacheCommand::Ls { json } => list(ui, &engine, *json).await,
        CacheCommand::Du { json } => usage(ui, &engine, *json).await,
        CacheCommand::Prune(args) => {
            let locks = session::locks(environment, engine.as_ref());
            let scope = if args.all { None } else { Some(scope_of(environment, &args.path)?) };
            prune(ui, &engine, args, scope.as_deref(), &locks).await
        }
        CacheCommand::Stats { .. } => Ok(()),
    }
}

/// Something that takes room: a cache volume or a checkpoint.
#[derive(Clone, Debug, Serialize)]
struct Item {
    /// `pip`, `ccache`, ..., or `checkpoints`.
    cache: String,
    scope: String,
    platform: String,
    /// Name of the volume, id of the image.
    name: String,
    /// Bytes; none if the daemon did not say.
    size: Option<u64>,
    /// Seconds since 1970.
    created: i64,
    /// When it was used last, as far as is known.
    #[serde(skip)]
    used: i64,
    /// Whether a container holds it.
    in_use: bool,
    #[serde(skip)]
    image: bool,
}

impl Item {
    fn of_volume(volume: &Volume) -> Self {
        let label = |name: &str| volume.labels.get(name).cloned().unwrap_or_default();
        let created = volume.created.as_deref().and_then(seconds).unwrap_or_default();
        Self {
            cache: if volume.labels.contains_key(labels::TWIN) { TWIN.to_owned() } else { label(labels::CACHE) },
            scope: label(labels::SCOPE),
            platform: label(labels::PLATFORM),
            name: volume.name.clone(),
            size: volume.size,
            created,
            used: created,
            in_use: volume.users.is_some_and(|users| users > 0),
            image: false,
        }
    }

    fn of_image(image: &Image) -> Self {
        let label = |name: &str| image.labels.get(name).cloned().unwrap_or_default();
        Self {
            cache: CHECKPOINTS.to_owned(),
            scope: label(labels::SCOPE),
            platform: label(labels::PLATFORM),
            name: image.id.0.clone(),
            size: Some(image.size),
            created: image.created,
            used: image.created,
            in_use: false,
            image: true,
        }
    }
}

/// Seconds since 1970 of `2026-11-22T10:04:44Z` or with an offset; RFC 3339, as the daemon writes times.
fn seconds(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    // Days since 1970 in the proleptic Gregorian calendar, with years that begin in March.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes().first() {
        Some(sign @ (b'+' | b'-')) => {
            let (hours, minutes) = (zone.get(1..3)?.parse::<i64>().ok()?, zone.get(4..6)?.parse::<i64>().ok()?);
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => 0,
    };
    Some(days * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

async fn volumes(engine: &Arc<dyn Engine>) -> Result<Vec<Item>> {
    let (caches, twins) =
        tokio::join!(engine.volumes_with_label(labels::CACHE, true), kiln_docker::twin::volumes(engine.as_ref()));
    let mut items: Vec<Item> = caches?.iter().chain(&twins?).map(Item::of_volume).collect();
    items.sort_by(|a, b| (&a.scope, &a.cache, &a.platform).cmp(&(&b.scope, &b.cache, &b.platform)));
    Ok(items)
}

async fn list(ui: Ui, engine: &Arc<dyn Engine>, json: bool) -> Result<()> {
    let items = volumes(engine).await?;
    if json {
        ui.print(&format!("{}\n", json!(items)));
        return Ok(());
    }
    let mut rows = vec![["CACHE", "PLATFORM", "SIZE", "PROJECT", "VOLUME"].map(str::to_owned)];
    rows.extend(items.iter().map(|item| {
        [item.cache.clone(), item.platform.clone(), size(item.size), item.scope.clone(), item.name.clone()]
    }));
    ui.print(&table(&rows));
    Ok(())
}

async fn usage(ui: Ui, engine: &Arc<dyn Engine>, json: bool) -> Result<()> {
    let (volumes, images) = tokio::join!(volumes(engine), engine.images_with_label(labels::KEY));
    let mut items = volumes?;
    items.extend(images?.iter().map(Item::of_image));
    let mut sums: BTreeMap<(String, String), (usize, u64)> = BTreeMap::new();
    for item in &items {
        let sum = sums.entry((item.scope.clone(), item.cache.clone())).or_default();
        sum.0 += 1;
        sum.1 += item.size.unwrap_or_default();
    }
    if json {
        let rows: Vec<_> = sums
            .iter()
            .map(|((scope, cache), (count, bytes))| json!({"scope": scope, "cache": cache, "count": count, "bytes": bytes}))
            .collect();
        ui.print(&format!("{}\n", serde_json::Value::from(rows)));
        return Ok(());
    }
    let mut rows = vec![["PROJECT", "CACHE", "COUNT", "SIZE"].map(str::to_owned)];
    for ((scope, cache), (count, bytes)) in &sums {
        rows.push([scope.clone(), cache.clone(), count.to_string(), size(Some(*bytes))]);
    }
    ui.print(&table(&rows));
    if items.iter().any(|item| item.image) {
        ui.say("checkpoints share layers with each other and with their base images: they take less room than shown");
    }
    Ok(())
}

/// The cache scope of a project.
fn scope_of(environment: &Environment, path: &Path) -> Result<String> {
    let project = cli::Project { path: path.to_owned(), ..cli::Project::default() };
    Ok(project::load(environment, &project, Vec::new())?.config.resolved().cache.scope)
}

/// Removes what is chosen of one scope, or of all.
async fn prune(ui: Ui, engine: &Arc<dyn Engine>, args: &cli::Prune, scope: Option<&str>, locks: &Path) -> Result<()> {
    let usage = |problem: String, hint: &str| CliError::Usage { problem, hint: hint.to_owned() };
    let keep = match &args.keep_size {
        Some(text) => {
            Some(text.parse::<ByteSize>().map_err(|e| usage(format!("--keep-size: {e}"), "write 5GB or 500MiB"))?)
        }
        None => None,
    };
    let older = match &args.older_than {
        Some(text) => Some(parse_duration(text).map_err(|e| usage(format!("--older-than: {e}"), "write 7d or 12h"))?),
        None => None,
    };
    let (volumes, images) = tokio::join!(volumes(engine), engine.images_with_label(labels::KEY));
    let mut items = volumes?;
    items.extend(images?.iter().map(Item::of_image));
    items.retain(|item| scope.is_none_or(|scope| item.scope == scope));
    let known: BTreeSet<String> = items.iter().map(|item| item.cache.clone()).collect();
    if let Some(unknown) = args.only.iter().find(|cache| !known.contains(*cache) && *cache != CHECKPOINTS) {
        let known: Vec<String> = known.into_iter().collect();
        let known =
            if known.is_empty() { "nothing is cached".to_owned() } else { format!("there are {}", known.join(", ")) };
        return Err(usage(format!("--only: there is no cache `{unknown}` here"), &known));
    }
    items.retain(|item| args.only.is_empty() || args.only.contains(&item.cache));
    for item in items.iter_mut().filter(|item| !item.image) {
        // The daemon knows when a volume was made, the lock when it was used.
        item.used = item.created.max(scope::last_used(locks, &item.scope).unwrap_or_default());
    }
    // Held until all is removed, so that no build begins in between.
    let mut held = BTreeMap::new();
    for scope in items.iter().map(|item| item.scope.clone()).collect::<BTreeSet<_>>() {
        let lock = scope::seize(locks, &scope)?;
        held.insert(scope, lock);
    }
    let building = |item: &Item| held.get(&item.scope).is_some_and(Option::is_none);
    for (scope, _) in held.iter().filter(|(_, lock)| lock.is_none()) {
        ui.say(&format!("{scope} is being built: what it has stays"));
    }
    items.retain(|item| !building(item));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let doomed = choose(items, now, keep.map(|keep| keep.0), older);
    let mut freed = 0;
    let mut kept = 0;
    let mut removed = 0;
    for item in &doomed {
        if args.dry_run {
            ui.say(&format!("would remove {} of {} ({}): {}", item.cache, item.scope, size(item.size), item.name));
            continue;
        }
        let result = if item.image {
            engine.remove_image(&item.name).await
        } else if item.cache == TWIN {
            kiln_docker::twin::remove(engine.as_ref(), &item.name).await
        } else {
            engine.remove_volume(&item.name).await
        };
        match result {
            Ok(()) => {
                removed += 1;
                freed += item.size.unwrap_or_default();
            }
            // A running build holds it, or a newer checkpoint stands on it: next time.
            Err(EngineError::Conflict { .. }) => kept += 1,
            Err(error) => return Err(error.into()),
        }
    }
    if doomed.is_empty() {
        ui.say("there is nothing to remove");
        return Ok(());
    }
    if args.dry_run {
        ui.say(&format!("{} volumes and checkpoints would be removed", doomed.len()));
        return Ok(());
    }
    // What was copied from the checkpoints that went is of no use to anybody.
    removed += kiln_docker::twin::sweep(engine.as_ref()).await? / 2;
    let stay = if kept > 0 { format!("; {kept} are in use and stay") } else { String::new() };
    ui.say(&format!("removed {removed} volumes and checkpoints, {}{stay}", size(Some(freed))));
    Ok(())
}

/// What goes: what was not used for `older`, and the oldest beyond `keep` bytes; everything if neither is said. Newest
/// checkpoints first, because later ones stand on earlier ones.
fn choose(mut items: Vec<Item>, now: Duration, keep: Option<u64>, older: Option<Duration>) -> Vec<Item> {
    items.sort_by_key(|item| std::cmp::Reverse(item.used));
    let limit = older.map(|age| i64::try_from(now.saturating_sub(age).as_secs()).unwrap_or(i64::MAX));
    let mut sum = 0;
    items.retain(|item| {
        sum += item.size.unwrap_or_default();
        let too_old = limit.is_some_and(|limit| item.used < limit);
        let too_much = keep.is_some_and(|keep| sum > keep);
        !item.in_use && (too_old || too_much || (limit.is_none() && keep.is_none()))
    });
    items
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
    let mut rows = vec![["PLATFORM", "STEPS CACHED", "CCACHE HITS", "MISSES", "HIT RATE", "TIME"].map(str::to_owned)];
    for report in &reports {
        let (hits, misses, rate) = match report.ccache {
            Some(stats) => (
                stats.hits.to_string(),
                stats.misses.to_string(),
                stats.hit_percent().map_or("-".to_owned(), |rate| format!("{rate:.0} %")),
            ),
            None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        };
        rows.push([
            report.platform.to_string(),
            format!("{}/{}", report.cached, report.cached + report.ran),
            hits,
            misses,
            rate,
            format!("{:.1} s", report.took.as_secs_f64()),
        ]);
    }
    ui.print(&table(&rows));
    Ok(())
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or("-".to_owned(), report::size)
}

/// Columns side by side, two spaces apart.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> = (0..N).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, size: u64, created: i64) -> Item {
        Item {
            cache: "pip".into(),
            scope: "p".into(),
            platform: "linux/amd64".into(),
            name: name.into(),
            size: Some(size),
            created,
            used: created,
            in_use: false,
            image: false,
        }
    }

    fn names(items: &[Item]) -> Vec<&str> {
        items.iter().map(|i| i.name.as_str()).collect()
    }

    #[test]
    fn the_oldest_go_first_and_what_is_in_use_stays() {
        let now = Duration::from_secs(1000);
        let items = || vec![item("old", 10, 100), item("new", 10, 900), item("mid", 10, 500)];
        assert_eq!(names(&choose(items(), now, Some(20), None)), ["old"]);
        assert_eq!(names(&choose(items(), now, None, Some(Duration::from_mins(10)))), ["old"]);
        assert_eq!(names(&choose(items(), now, None, None)), ["new", "mid", "old"]);
        let mut used = items();
        used[0].in_use = true;
        assert_eq!(names(&choose(used, now, Some(0), None)), ["new", "mid"]);
    }

    #[test]
    fn times_of_the_daemon_are_read() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2026-11-22T10:04:44.123Z"), Some(1_795_341_884));
        assert_eq!(seconds("2026-11-22T12:04:44+02:00"), Some(1_795_341_884));
        assert_eq!(seconds("2024-02-29T00:00:00Z"), Some(1_709_164_800));
        assert_eq!(seconds("nonsense"), None);
    }
}
