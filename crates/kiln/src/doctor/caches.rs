//! Caches: volumes on the daemon, hits of the compiler cache, stores of others.

use std::collections::BTreeSet;

use kiln_config::Recipe;
use kiln_docker::{Volume, labels};
use kiln_graph::Platform;
use kiln_solver::LastBuild;

use super::{Check, Facts, HereFacts, NO_DAEMON, StoreFacts};
use crate::report::size;

/// Below this share of hits, in percent, a compiler cache that was there before is of little use.
const FEW_HITS: f64 = 30.0;
/// How long before its end a build is said to have begun, beyond the time that it noted, in seconds.
const SLACK: i64 = 120;

pub(super) fn verdicts(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    let volumes = match &facts.daemon {
        Err(_) => Err(Check::skipped("cache volumes", NO_DAEMON)),
        Ok(daemon) => daemon.volumes.as_ref().map_err(|trouble| Check::troubled("cache volumes", trouble)),
    };
    if let Err(check) = &volumes {
        checks.push(check.clone());
    }
    for settings in &facts.settings.platforms {
        let platform = settings.platform;
        let last = last(&facts.here, platform);
        let there = volumes.as_ref().ok().map(|volumes| of(volumes, &facts.settings.scope, platform));
        if let Some(there) = &there {
            let has_some = !matches!(settings.build.recipe, Recipe::Dockerfile(_))
                || last.is_some_and(|(build, _)| mounts_caches(build));
            checks.push(present(there, last.map(|(build, _)| build), has_some).on(platform));
        }
        checks.push(hits(last, there.as_deref()).on(platform));
    }
    checks.extend(match &facts.stores {
        Err(trouble) => vec![Check::troubled("remote cache", trouble)],
        Ok(stores) if stores.is_empty() => vec![Check::skipped("remote cache", "`cache.remote` names none")],
        Ok(stores) => stores.iter().map(store).collect(),
    });
    checks
}

/// The build of a platform that placed files last.
fn last(here: &HereFacts, platform: Platform) -> Option<(&LastBuild, Option<i64>)> {
    let builds = here.builds.iter().filter(|(build, _)| build.report.platform == platform);
    builds.max_by_key(|(_, placed)| *placed).map(|(build, placed)| (build, *placed))
}

/// The cache volumes of a scope and a platform.
fn of<'a>(volumes: &'a [Volume], scope: &str, platform: Platform) -> Vec<&'a Volume> {
    let platform = platform.to_string();
    let has = |volume: &Volume, name: &str, value: &str| volume.labels.get(name).is_some_and(|label| label == value);
    let is_one = |volume: &&Volume| {
        volume.labels.contains_key(labels::CACHE)
            && has(volume, labels::SCOPE, scope)
            && has(volume, labels::PLATFORM, &platform)
    };
    volumes.iter().filter(is_one).collect()
}

/// Whether a step of the build names a cache mount.
fn mounts_caches(build: &LastBuild) -> bool {
    build.report.steps.iter().any(|step| step.text.contains("type=cache"))
}

fn is_ccache(volume: &Volume) -> bool {
    volume.labels.get(labels::CACHE).is_some_and(|id| id.contains("ccache"))
}

fn present(there: &[&Volume], last: Option<&LastBuild>, has_some: bool) -> Check {
    let name = "cache volumes";
    let fix = "build once, which fills them again, or `kiln cache restore` them from a store";
    let ids: BTreeSet<&str> =
        there.iter().filter_map(|volume| volume.labels.get(labels::CACHE)).map(String::as_str).collect();
    let names = ids.into_iter().collect::<Vec<_>>().join(", ");
    match last {
        None if there.is_empty() => Check::skipped(name, "there are none yet: nothing was built here"),
        Some(build) if build.report.ccache.is_some() && !there.iter().any(|volume| is_ccache(volume)) => {
            Check::warning(
                name,
                format!(
                    "the volume of ccache is gone (pruned, or another daemon), so the next change compiles everything{}",
                    if names.is_empty() { String::new() } else { format!("; there are: {names}") }
                ),
                fix,
            )
        }
        Some(_) if there.is_empty() && has_some => Check::warning(
            name,
            "they are gone (pruned, or another daemon), though the project was built: the next change takes long",
            fix,
        ),
        Some(_) if there.is_empty() => Check::skipped(name, "the Dockerfile mounts no caches, or they are gone"),
        _ => Check::ok(name, names),
    }
}

fn hits(last: Option<(&LastBuild, Option<i64>)>, there: Option<&[&Volume]>) -> Check {
    let Some((build, placed)) = last else { return Check::skipped("ccache", "nothing was built here yet") };
    let Some(stats) = build.report.ccache else { return Check::skipped("ccache", "the last build says nothing of it") };
    let Some(percent) = stats.hit_percent() else { return Check::ok("ccache", "the last build compiled nothing") };
    let detail = format!("{percent:.0} % of {} compilations of the last build were hits", stats.hits + stats.misses);
    if percent >= FEW_HITS {
        return Check::ok("ccache", detail);
    }
    let took = i64::try_from(build.report.took.as_secs()).unwrap_or(i64::MAX);
    let began = placed.map(|placed| placed.saturating_sub(took).saturating_sub(SLACK));
    let made = there.and_then(|there| there.iter().find(|volume| is_ccache(volume))?.created);
    if let (Some(made), Some(began)) = (made, began)
        && made >= began
    {
        return Check::ok("ccache", format!("{detail}: that build made the cache"));
    }
    Check::warning(
        "ccache",
        format!("{detail}: the toolchain, Nuitka or its options changed, or the cache was emptied or is too small"),
        "build again after a small change: the hits should come back; `[cache] max-size` limits each cache",
    )
}

fn store(store: &StoreFacts) -> Check {
    let StoreFacts { place, size: found, written, budget } = store;
    let name = "remote cache";
    // Most failures name the place themselves.
    let at = |what: &str| if what.contains(place.as_str()) { what.to_owned() } else { format!("{place}: {what}") };
    let used = match found {
        Err(trouble) => {
            let fix = trouble.fix.clone();
            let fix = fix.unwrap_or_else(|| "mend the address or its credentials in `[cache] remote`".to_owned());
            return Check::warning(name, format!("{}: builds go on without it", at(&trouble.what)), fix);
        }
        Ok(used) => *used,
    };
    if let Some(Err(trouble)) = written {
        let fix = "give it credentials that may write, if this machine is to save caches";
        return Check::warning(name, format!("it can be read, but not written: {}", at(&trouble.what)), fix);
    }
    let may_write = if written.is_some() { "read and written (tried)" } else { "read (tried); writing was not tried" };
    let detail = match used {
        Some(used) => format!("{place}: can be {may_write}; {} in it", size(used)),
        None => format!("{place}: can be {may_write}; it does not tell how much is in it"),
    };
    match (used, budget) {
        (Some(used), Some((most, whose))) if used > *most => Check::warning(
            name,
            format!("{detail}, more than {whose} ({})", size(*most)),
            "`kiln cache prune --remote --keep-size SIZE` or `--older-than 7d`",
        ),
        _ => Check::ok(name, detail),
    }
}

#[cfg(test)]
mod tests {
    use kiln_graph::Arch;
    use kiln_solver::CcacheStats;

    use super::super::tests::{built, volume};
    use super::super::{Status, Trouble};
    use super::*;

    const AMD64: Platform = Platform::linux(Arch::Amd64);

    fn with_hits(hits: u64, misses: u64) -> LastBuild {
        let mut build = built("mine", AMD64);
        build.report.ccache = Some(CcacheStats { hits, misses, ..CcacheStats::default() });
        build
    }

    #[test]
    fn only_volumes_of_the_scope_and_the_platform_count() {
        let volumes = [
            volume("ccache", "mine", AMD64, 0),
            volume("ccache", "other", AMD64, 0),
            volume("pip", "mine", Platform::linux(Arch::Arm64), 0),
        ];
        assert_eq!(of(&volumes, "mine", AMD64).len(), 1);
    }

    #[test]
    fn a_volume_that_is_gone_is_missed() {
        let (pip, ccache) = (volume("pip", "mine", AMD64, 0), volume("ccache", "mine", AMD64, 0));
        let build = with_hits(5, 5);
        let gone = present(&[&pip], Some(&build), true);
        assert_eq!(gone.status, Status::Warning);
        assert!(gone.detail.contains("ccache is gone") && gone.detail.contains("pip"), "{}", gone.detail);
        let mut silent = built("mine", AMD64);
        silent.report.ccache = None;
        assert_eq!(present(&[], Some(&silent), true).status, Status::Warning);
        assert_eq!(present(&[], Some(&silent), false).status, Status::Skipped);
        assert_eq!(present(&[], None, true).status, Status::Skipped);
        let all = present(&[&pip, &ccache], Some(&build), true);
        assert_eq!((all.status, all.detail.as_str()), (Status::Ok, "ccache, pip"));
    }

    #[test]
    fn few_hits_are_a_warning_unless_the_cache_was_new() {
        let (old, new) = (volume("ccache", "mine", AMD64, 1_000), volume("ccache", "mine", AMD64, 99_990));
        let missed = with_hits(1, 99);
        assert_eq!(hits(Some((&missed, Some(100_000))), Some(&[&old])).status, Status::Warning);
        let first = hits(Some((&missed, Some(100_000))), Some(&[&new]));
        assert_eq!(first.status, Status::Ok);
        assert!(first.detail.contains("made the cache"), "{}", first.detail);
        assert_eq!(hits(Some((&with_hits(99, 1), None)), None).status, Status::Ok);
        assert_eq!(hits(None, None).status, Status::Skipped);
    }

    #[test]
    fn a_store_may_be_away_denied_or_too_full() {
        let trouble = || Trouble { what: "s3://b cannot be reached".to_owned(), fix: None };
        let of = |size, written, budget| store(&StoreFacts { place: "s3://b".to_owned(), size, written, budget });
        assert_eq!(of(Err(trouble()), None, None).status, Status::Warning);
        assert_eq!(of(Ok(Some(5)), Some(Err(trouble())), None).status, Status::Warning);
        assert_eq!(of(Ok(Some(5)), Some(Ok(())), Some((10, "the limit"))).status, Status::Ok);
        let full = of(Ok(Some(11_000_000_000)), None, Some((10_000_000_000, "GitHub's limit of a repository")));
        assert_eq!(full.status, Status::Warning);
        assert!(full.detail.contains("11.0 GB in it, more than GitHub's limit"), "{}", full.detail);
    }
}
