//! `kiln prune` and `kiln cache prune`: gives the disk back.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_config::parse_duration;
use kiln_docker::{Engine, toolbox};

use super::cache::scope_of;
use super::du;
use crate::cli;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::room::choose::{Limits, choose, size};
use crate::room::filter::Filter;
use crate::room::remove::{Removed, Seized, remove};
use crate::room::{self, Record, Room, Type};
use crate::ui::Ui;
use crate::{scope, session};

/// What the question of `kiln prune` says.
const SOME: &str =
    "This removes checkpoints and what dead builds left; cache volumes, fetched files and kiln's tools stay.";
const EVERYTHING: &str = "This removes all that kiln keeps: checkpoints, cache volumes, fetched files, its tools.";

/// What somebody wants to be rid of.
#[derive(Debug, Default)]
struct Wanted {
    types: Vec<Type>,
    /// Of one project alone.
    scope: Option<String>,
    /// Caches by the names that `cache ls` gives them; all if there are none.
    only: Vec<String>,
    filter: Filter,
    limits: Limits,
    dry_run: bool,
}

impl Wanted {
    fn is_of_interest(&self, record: &Record) -> bool {
        self.types.contains(&record.kind)
            && self.scope.as_ref().is_none_or(|scope| record.scope == *scope)
            && (self.only.is_empty() || self.only.iter().any(|cache| cache == record.cache()))
    }
}

/// `kiln prune`.
pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Prune) -> Result<()> {
    let filter = Filter::parse(&args.filter)?;
    let types = match filter.kind {
        // What is named goes, whether it belongs to all or not.
        Some(kind) => vec![kind],
        None => Type::ALL.into_iter().filter(|kind| args.all || kind.goes_first()).collect(),
    };
    let limits = Limits {
        most: size("--max-used-space", args.max_used_space.as_deref())?,
        least: size("--reserved-space", args.reserved_space.as_deref())?,
        free: size("--min-free-space", args.min_free_space.as_deref())?,
    };
    let wanted = Wanted { types, filter, limits, dry_run: args.dry_run, ..Wanted::default() };
    let engine = session::connect(environment, global).await?;
    if !args.force && !args.dry_run && !agreed(ui, if args.all { EVERYTHING } else { SOME }) {
        return Ok(());
    }
    let project = project_in(environment, Path::new("."));
    let project = project.as_ref().map(|(folder, scope)| (folder.as_path(), scope.as_str()));
    let removed = prune(ui, environment, &engine, &wanted, project).await?;
    if !args.dry_run {
        ui.print(&du::shown(&removed.gone, global.verbose > 0));
        ui.print(&format!("Total:\t{}\n", crate::report::size(removed.size())));
        if removed.held > 0 {
            ui.say(&format!("{} are in use and stay", removed.held));
        }
    }
    Ok(())
}

/// `kiln cache prune`.
pub(crate) async fn run_for_project(
    ui: Ui,
    environment: &Environment,
    global: &cli::Global,
    args: &cli::CachePrune,
) -> Result<()> {
    let until = match &args.older_than {
        Some(text) => Some(parse_duration(text).map_err(|error| CliError::Usage {
            problem: format!("--older-than: {error}"),
            hint: "write 7d or 12h".to_owned(),
        })?),
        None => None,
    };
    let limits = Limits { most: size("--keep-size", args.keep_size.as_deref())?, ..Limits::default() };
    let engine = session::connect(environment, global).await?;
    let scope = if args.all { None } else { Some(scope_of(environment, &args.path)?) };
    let wanted = Wanted {
        types: vec![Type::Leftover, Type::Checkpoint, Type::Twin, Type::Cache],
        scope: scope.clone(),
        only: args.only.clone(),
        filter: Filter::unused_for(until),
        limits,
        dry_run: args.dry_run,
    };
    let project = scope.as_deref().map(|scope| (args.path.as_path(), scope));
    let removed = prune(ui, environment, &engine, &wanted, project).await?;
    if removed.gone.is_empty() {
        return Ok(());
    }
    let stay = if removed.held > 0 { format!("; {} are in use and stay", removed.held) } else { String::new() };
    let (count, size) = (removed.gone.len(), crate::report::size(removed.size()));
    ui.say(&format!("removed {count} volumes and checkpoints, {size}{stay}"));
    Ok(())
}

/// The project of a folder and its scope, if it is one that kiln has built.
pub(super) fn project_in(environment: &Environment, folder: &Path) -> Option<(std::path::PathBuf, String)> {
    let folder = fs_err::canonicalize(folder).ok().filter(|folder| folder.join(".kiln").is_dir())?;
    // Settings that cannot be read are a matter for those who build.
    let scope = scope_of(environment, &folder).ok()?;
    Some((folder, scope))
}

/// Asks as `docker buildx prune` does: on a terminal or not, one line of standard input is the answer.
fn agreed(ui: Ui, what: &str) -> bool {
    let _ = write!(std::io::stderr().lock(), "{what}\nAre you sure you want to continue? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    let agreed = read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !std::io::stdin().is_terminal() {
        ui.say("");
    }
    if !agreed {
        ui.say("nothing was removed; --force removes without asking");
    }
    agreed
}

/// Removes what is wanted and nobody uses.
async fn prune(
    ui: Ui,
    environment: &Environment,
    engine: &Arc<dyn Engine>,
    wanted: &Wanted,
    project: Option<(&Path, &str)>,
) -> Result<Removed> {
    let locks = session::locks(environment, engine.as_ref());
    let free = match wanted.limits.free {
        Some(_) => free_space(engine).await?,
        None => 0,
    };
    // Held until all is removed, so that no build counts on what goes.
    let (_quiet, counted_on) = scope::between_plans(&locks).await?;
    let mut removed = Removed::default();
    loop {
        let more = Pass { ui, environment, engine, wanted, project, free, locks: &locks, counted_on: &counted_on }
            .run(removed.gone.is_empty())
            .await?;
        // What containers of dead builds have held is held no more.
        let is_last = !more.gone.iter().any(|record| record.kind == Type::Leftover);
        removed.gone.extend(more.gone);
        removed.held = more.held;
        if is_last {
            break;
        }
    }
    if !wanted.dry_run {
        // What was copied from checkpoints that went is of no use to anybody.
        kiln_docker::twin::sweep(engine.as_ref()).await?;
    }
    Ok(removed)
}

/// One look at what there is, and its removal.
struct Pass<'a> {
    ui: Ui,
    environment: &'a Environment,
    engine: &'a Arc<dyn Engine>,
    wanted: &'a Wanted,
    project: Option<(&'a Path, &'a str)>,
    /// Bytes that are free on the daemon's disk, if somebody wants to know.
    free: u64,
    locks: &'a Path,
    /// Images that builds count on.
    counted_on: &'a BTreeSet<String>,
}

impl Pass<'_> {
    async fn run(&self, is_first: bool) -> Result<Removed> {
        let Self { ui, environment, engine, wanted, project, free, locks, counted_on } = *self;
        let Room { records, busy, .. } = room::gather(environment, engine, project).await?;
        check_only(
            &wanted.only,
            records.iter().filter(|record| wanted.scope.as_ref().is_none_or(|s| record.scope == *s)),
        )?;
        let all_checkpoints = records.iter().filter(|record| record.kind == Type::Checkpoint).count();
        let of_interest: Vec<Record> = records.into_iter().filter(|record| wanted.is_of_interest(record)).collect();
        let seized = Seized::new(locks, &of_interest, &busy)?;
        for scope in seized.building().filter(|_| is_first) {
            ui.say(&format!("{scope} is being built: what it has stays"));
        }
        if is_first && of_interest.iter().any(|record| record.kind.is_common() && !seized.covers(record)) {
            ui.say("a build runs: what builds have in common stays");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let may_go = |record: &Record| {
            // Checkpoints that others stand on go after those.
            let is_held = record.in_use && record.kind != Type::Checkpoint;
            !is_held && !counted_on.contains(&record.id) && seized.covers(record) && wanted.filter.takes(record, now)
        };
        let doomed = choose(of_interest, may_go, wanted.limits, free);
        if doomed.is_empty() && is_first {
            ui.say("there is nothing to remove");
        }
        if wanted.dry_run {
            for record in &doomed {
                let (size, of) = (du::room(record.size), if record.scope.is_empty() { "kiln" } else { &record.scope });
                ui.say(&format!("would remove {} of {of} ({size}): {}", record.cache(), record.id));
            }
            if !doomed.is_empty() {
                ui.say(&format!("{} records would be removed", doomed.len()));
            }
            return Ok(Removed::default());
        }
        let is_left = |removed: &Removed| {
            removed.gone.iter().filter(|record| record.kind == Type::Checkpoint).count() < all_checkpoints
        };
        remove(engine, doomed, is_left).await
    }
}

async fn free_space(engine: &Arc<dyn Engine>) -> Result<u64> {
    toolbox::free_space(engine.as_ref()).await?.ok_or_else(|| CliError::Usage {
        problem: "--min-free-space: this kiln has no program to ask the daemon's machine with".to_owned(),
        hint: "use --max-used-space".to_owned(),
    })
}

/// `--only` must name something.
fn check_only<'a>(only: &[String], records: impl Iterator<Item = &'a Record>) -> Result<()> {
    let known: std::collections::BTreeSet<&str> = records.map(Record::cache).collect();
    let Some(unknown) = only.iter().find(|cache| !known.contains(cache.as_str()) && *cache != "checkpoints") else {
        return Ok(());
    };
    let list = known.into_iter().collect::<Vec<_>>().join(", ");
    Err(CliError::Usage {
        problem: format!("--only: there is no cache `{unknown}` here"),
        hint: if list.is_empty() { "nothing is cached".to_owned() } else { format!("there are {list}") },
    })
}
