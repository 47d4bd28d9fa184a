//! The daemon: whether it answers, what it is, its disk, memory and clock.

use kiln_docker::driver::{Chosen, Located};
use kiln_docker::facts::{Disk, Facts as Container};
use kiln_docker::{DaemonInfo, StoreKind};

use super::{Check, Facts, NO_DAEMON, Seen, Trouble};
use crate::recipe;
use crate::report::size;

/// Below this a build is likely to fill the disk.
const DISK_NEEDED: u64 = 1_000_000_000;
/// Below this a few builds are.
const DISK_WANTED: u64 = 5_000_000_000;
/// Entries of a file system below which a step that installs packages is likely to fail, and those that are wanted.
const ENTRIES: (u64, u64) = (20_000, 200_000);
/// What a C compiler needs for Nuitka's larger modules, and for less than which it is of no use to begin.
const MEMORY_PER_JOB: u64 = 1_000_000_000;
const MEMORY_NEEDED: u64 = 512_000_000;
/// Differences of clocks, in milliseconds, that are said aloud, and that make signatures and certificates fail.
const CLOCK: (i64, i64) = (5_000, 600_000);
/// Checks that ask the daemon.
const OF_DAEMON: [&str; 6] = ["version", "storage", "disk", "memory", "clock", "leftovers"];

pub(super) fn verdicts(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![reachable(&facts.located, facts.daemon.as_ref().map(|daemon| &daemon.info))];
    let Ok(daemon) = &facts.daemon else {
        checks.extend(OF_DAEMON.map(|name| Check::skipped(name, NO_DAEMON)));
        return checks;
    };
    checks.push(version(&daemon.info));
    checks.push(storage(&daemon.info));
    match &daemon.container {
        Err(trouble) => {
            checks.push(Check::troubled("disk", trouble));
            checks.push(Check::skipped("clock", "the container that asks did not answer"));
        }
        Ok(None) => {
            let why = "kiln has no program of its own for this machine";
            checks.extend(["disk", "clock"].map(|name| Check::skipped(name, why)));
        }
        Ok(Some(container)) => {
            checks.push(disk(&container.disks));
            checks.push(clock(container.clock));
        }
    }
    let container = daemon.container.as_ref().ok().and_then(Option::as_ref);
    checks.push(memory(&daemon.info, container, jobs(facts, &daemon.info)));
    checks.push(match &daemon.leftovers {
        Err(trouble) => Check::troubled("leftovers", trouble),
        Ok(0) => Check::ok("leftovers", "nothing of dead builds is left"),
        Ok(count) => Check::warning(
            "leftovers",
            format!("{count} containers or volumes of builds that died"),
            "`kiln doctor --fix` removes them; so does the next build",
        ),
    });
    checks
}

fn reachable(located: &Seen<Located>, info: Result<&DaemonInfo, &Trouble>) -> Check {
    let (host, place) = match located {
        Ok(located) => (&located.host, format!("{} ({})", located.host, why(&located.chosen))),
        Err(trouble) => return Check::troubled("daemon", trouble),
    };
    match info {
        Ok(info) => Check::ok("daemon", format!("{} answers at {place}", info.name)),
        Err(trouble) => {
            // Most failures name the address; what decided on it belongs there.
            let is_named = trouble.what.contains(host.as_str());
            let what =
                if is_named { trouble.what.replacen(host, &place, 1) } else { format!("{place}: {}", trouble.what) };
            Check::troubled("daemon", &Trouble { what, fix: trouble.fix.clone() })
        }
    }
}

/// What decided on the address.
fn why(chosen: &Chosen) -> String {
    match chosen {
        Chosen::Host => "--host says so".to_owned(),
        Chosen::Context(name) => format!("--docker-context {name} says so"),
        Chosen::HostVariable => "DOCKER_HOST says so".to_owned(),
        Chosen::ContextVariable(name) => format!("DOCKER_CONTEXT={name} says so"),
        Chosen::CurrentContext(name) => format!("the current docker context, {name}, says so"),
        Chosen::Socket => "the usual socket: nothing names another".to_owned(),
    }
}

fn version(info: &DaemonInfo) -> Check {
    let root = if info.rootless { ", without root" } else { "" };
    let detail = format!("Engine {}, API {}, Linux {}{root}", info.version, info.api_version, info.kernel);
    Check::ok("version", detail)
}

fn storage(info: &DaemonInfo) -> Check {
    let store = match info.store {
        StoreKind::Classic => "the daemon's own image store",
        StoreKind::Containerd => "containerd's image store",
    };
    let detail = format!("{}, {store}", info.storage_driver);
    match info.storage_driver.as_str() {
        "vfs" => Check::warning(
            "storage",
            format!("{detail}: vfs copies whole file systems for every container"),
            "use overlay2 or the containerd store on the daemon's machine",
        ),
        _ => Check::ok("storage", detail),
    }
}

/// The worst of the daemon's file systems counts.
fn disk(disks: &[Disk]) -> Check {
    let Some(disk) = disks.iter().min_by_key(|disk| disk.free) else {
        return Check::skipped("disk", "the container does not say how much is free");
    };
    let fix = "free some with `kiln prune` or `docker system prune`, or give the daemon a larger disk";
    let detail = format!("{} free of {} for the daemon's data", size(disk.free), size(disk.total));
    let full = disks.iter().filter(|disk| disk.entries.1 > 0).min_by_key(|disk| disk.entries.0);
    if let Some(Disk { entries: (free, _), .. }) = full.filter(|disk| disk.entries.0 < ENTRIES.1) {
        let detail = format!("{detail}, but only {free} more files fit (inodes)");
        return if *free < ENTRIES.0 {
            Check::failed("disk", detail, fix)
        } else {
            Check::warning("disk", detail, fix)
        };
    }
    if disk.free < DISK_NEEDED {
        return Check::failed("disk", format!("{detail}: a build is likely to fill it"), fix);
    }
    if disk.free < DISK_WANTED {
        return Check::warning("disk", format!("{detail}: nearly full"), fix);
    }
    Check::ok("disk", detail)
}

/// How many compilers run at once if all platforms compile.
fn jobs(facts: &Facts, info: &DaemonInfo) -> u32 {
    let auto = recipe::auto_jobs(info.cpus, facts.settings.configured);
    facts.settings.platforms.iter().map(|platform| recipe::jobs(platform, auto)).sum::<u32>().max(1)
}

fn memory(info: &DaemonInfo, container: Option<&Container>, jobs: u32) -> Check {
    let limit = container.and_then(|container| container.limit).filter(|limit| *limit < info.memory);
    let memory = limit.unwrap_or(info.memory);
    if memory == 0 {
        return Check::skipped("memory", "the daemon does not say how much it has");
    }
    let each = memory / u64::from(jobs);
    let bound = if limit.is_some() { " (a limit of its containers)" } else { "" };
    let free = container.and_then(|container| container.available).filter(|_| limit.is_none());
    let free_now = free.map(|free| format!(", {} free now", size(free))).unwrap_or_default();
    let detail = format!(
        "{}{bound}{free_now}; {} for each of {jobs} compilers, if all platforms compile at once",
        size(memory),
        size(each)
    );
    let fix = "build fewer platforms at once (`--parallel 1`), lower `[nuitka] jobs`, or set `[nuitka] lto = \"no\"`";
    let usable = free.map_or(memory, |free| free.min(memory));
    if usable < MEMORY_NEEDED {
        return Check::failed("memory", format!("{detail}: a compiler is likely to be killed"), fix);
    }
    if each < MEMORY_PER_JOB {
        return Check::warning("memory", format!("{detail}: large modules may need 1 GB each"), fix);
    }
    Check::ok("memory", detail)
}

fn clock(offset: i64) -> Check {
    #[expect(clippy::cast_precision_loss, reason = "seconds with one digit are shown")]
    let seconds = offset.abs() as f64 / 1000.0;
    let side = if offset > 0 { "before" } else { "behind" };
    let detail = format!("the daemon's clock is {seconds:.1} s {side} this machine's");
    let fix = "set both by a time server: certificates, signatures and package lists are only good for their time";
    match offset.abs() {
        0..=200 => Check::ok("clock", "the daemon's clock is this machine's"),
        away if away <= CLOCK.0 => Check::ok("clock", detail),
        away if away <= CLOCK.1 => Check::warning("clock", detail, fix),
        _ => Check::failed("clock", detail, fix),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::tests::info;
    use super::*;

    fn free(bytes: u64, entries: (u64, u64)) -> Check {
        disk(&[
            Disk { path: "/".into(), free: 80_000_000_000, total: 90_000_000_000, entries: (1_000_000, 2_000_000) },
            Disk { path: "/dev/kiln".into(), free: bytes, total: 50_000_000_000, entries },
        ])
    }

    #[test]
    fn a_full_disk_is_a_failure_and_a_nearly_full_one_a_warning() {
        assert_eq!(free(20_000_000_000, (0, 0)).status, Status::Ok);
        let full = free(300_000_000, (0, 0));
        assert_eq!(full.status, Status::Failed);
        assert!(full.detail.contains("300 MB free of 50.0 GB"), "{}", full.detail);
        assert!(full.fix.as_deref().is_some_and(|fix| fix.contains("kiln prune")));
        assert_eq!(free(3_000_000_000, (0, 0)).status, Status::Warning);
        let inodes = free(20_000_000_000, (5, 1_000_000));
        assert_eq!(inodes.status, Status::Failed);
        assert!(inodes.detail.contains("5 more files"), "{}", inodes.detail);
        assert_eq!(disk(&[]).status, Status::Skipped);
    }

    #[test]
    fn memory_is_shared_by_compilers() {
        let with = |memory: u64, jobs| memory_of(memory, None, jobs);
        assert_eq!(with(8_000_000_000, 4).status, Status::Ok);
        let little = with(4_000_000_000, 6);
        assert_eq!(little.status, Status::Warning);
        assert!(little.detail.contains("667 MB for each of 6 compilers"), "{}", little.detail);
        assert_eq!(with(400_000_000, 1).status, Status::Failed);
        // What others use is not there.
        let used = Container { available: Some(100_000_000), ..Container::default() };
        assert_eq!(memory_of(8_000_000_000, Some(&used), 2).status, Status::Failed);
        // A limit counts, whatever the machine has.
        let limited = Container { limit: Some(1_500_000_000), ..Container::default() };
        let limited = memory_of(64_000_000_000, Some(&limited), 2);
        assert_eq!(limited.status, Status::Warning);
        assert!(limited.detail.contains("a limit of its containers"), "{}", limited.detail);
    }

    fn memory_of(bytes: u64, container: Option<&Container>, jobs: u32) -> Check {
        memory(&DaemonInfo { memory: bytes, ..info() }, container, jobs)
    }

    #[test]
    fn clocks_may_differ_a_little() {
        for (offset, status) in [
            (0, Status::Ok),
            (-3_000, Status::Ok),
            (60_000, Status::Warning),
            (-60_000, Status::Warning),
            (86_400_000, Status::Failed),
        ] {
            assert_eq!(clock(offset).status, status, "{offset}");
        }
        assert!(clock(-60_000).detail.contains("60.0 s behind"));
    }

    #[test]
    fn the_address_is_told_with_what_decided_on_it() {
        let located =
            || Ok(Located { host: "tcp://far:1".to_owned(), chosen: Chosen::CurrentContext("ci".to_owned()) });
        let there = reachable(&located(), Ok(&info()));
        assert!(there.detail.contains("tcp://far:1 (the current docker context, ci, says so)"), "{}", there.detail);
        let trouble = Trouble { what: "no Docker daemon answers".to_owned(), fix: Some("start it".to_owned()) };
        let gone = reachable(&located(), Err(&trouble));
        assert_eq!((gone.status, gone.fix.as_deref()), (Status::Failed, Some("start it")));
        assert!(gone.detail.contains("tcp://far:1"), "{}", gone.detail);
    }

    #[test]
    fn vfs_is_slow() {
        assert_eq!(storage(&DaemonInfo { storage_driver: "vfs".to_owned(), ..info() }).status, Status::Warning);
        assert_eq!(storage(&info()).status, Status::Ok);
    }
}
