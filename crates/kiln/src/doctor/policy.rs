//! Settings: whether they can be read, link-time optimisation, compilers at once, what CI runs.

use kiln_ci::matrix::Matrix;
use kiln_config::{Jobs, Lto, PlatformSettings};
use kiln_graph::Platform;

use super::{Check, Facts, SettingsFacts};
use crate::recipe;

pub(super) fn verdicts(facts: &Facts) -> Vec<Check> {
    let cpus = facts.daemon.as_ref().ok().map(|daemon| daemon.info.cpus);
    let mut checks = vec![settings(&facts.settings), matrix(&facts.settings.matrices)];
    for platform in &facts.settings.platforms {
        checks.push(lto(&platform.lto, platform.platform));
        checks.push(jobs(platform, cpus, facts.settings.configured));
    }
    checks
}

fn settings(settings: &SettingsFacts) -> Check {
    if let Some(trouble) = &settings.wrong {
        let what = format!("{}; what follows is about kiln's defaults", trouble.what);
        return Check::troubled("settings", &super::Trouble { what, fix: trouble.fix.clone() });
    }
    let file = settings.file.as_deref().unwrap_or("no settings file: kiln's defaults and what the folder shows");
    match settings.warnings.as_slice() {
        [] => Check::ok("settings", file),
        [one, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            Check::warning("settings", format!("{one}{more}"), "`kiln config show` tells what is in force")
        }
    }
}

fn lto(lto: &Lto, platform: Platform) -> Check {
    let by_policy = Lto::policy(platform);
    let check = match (lto.enabled, by_policy, &lto.explicit) {
        (true, true, _) => Check::ok("lto", lto.summary()),
        (false, false, None) => Check::ok(
            "lto",
            format!("{}: off by intention here, a program 5 to 10 % larger for a build a third faster", lto.summary()),
        ),
        (false, _, _) => Check::ok("lto", format!("{}: the program is larger, the build faster", lto.summary())),
        (true, false, _) => Check::warning(
            "lto",
            format!("{}: it makes these builds much slower and saves 5 to 10 % of size", lto.summary()),
            format!("leave it to kiln: take `lto` out, or set it to \"no\" in `[platform.\"{platform}\".nuitka]`"),
        ),
    };
    check.on(platform)
}

fn jobs(settings: &PlatformSettings, cpus: Option<u32>, configured: usize) -> Check {
    let check = match (settings.nuitka.jobs, cpus) {
        (Jobs::Auto, None) => Check::ok("jobs", "auto: the daemon's processors, shared by the platforms"),
        (Jobs::Auto, Some(cpus)) => {
            let jobs = recipe::jobs(settings, recipe::auto_jobs(cpus, configured));
            Check::ok("jobs", format!("{jobs} (auto: {cpus} processors, shared by {configured} platforms)"))
        }
        (Jobs::Count(jobs), Some(cpus)) if u32::from(jobs.get()) > cpus => Check::warning(
            "jobs",
            format!("{jobs} compilers on {cpus} processors: they wait for each other and each needs its memory"),
            "leave it to kiln: take `[nuitka] jobs` out",
        ),
        (Jobs::Count(jobs), Some(cpus)) if jobs.get() == 1 && cpus > 1 => Check::warning(
            "jobs",
            format!("1: modules compile one after the other, though the daemon has {cpus} processors"),
            "leave it to kiln: take `[nuitka] jobs` out",
        ),
        (Jobs::Count(jobs), _) => Check::ok("jobs", format!("{jobs}, as it was set")),
    };
    check.on(settings.platform)
}

/// Whether what CI runs adapts to what it runs for.
fn matrix([request, main]: &[Matrix; 2]) -> Check {
    let shown = |matrix: &Matrix| {
        let platforms: Vec<&str> = matrix.platform.iter().map(|platform| platform.arch.artifact_name()).collect();
        format!("Python {} and {}", matrix.python.join(", "), platforms.join(", "))
    };
    let cells = |matrix: &Matrix| matrix.python.len() * matrix.platform.len();
    if cells(request) >= cells(main) && cells(main) > 1 {
        return Check::warning(
            "matrix",
            format!("pull requests run as much as the default branch: {}", shown(request)),
            "set `[ci] python-pull-request` or `development-platforms`; `kiln ci matrix --explain` tells the rules",
        );
    }
    Check::ok("matrix", format!("pull requests: {}; the default branch: {}", shown(request), shown(main)))
}

#[cfg(test)]
mod tests {
    use kiln_graph::Arch;

    use super::super::Status;
    use super::super::tests::settings as settings_of;
    use super::*;

    #[test]
    fn lto_is_off_for_arm64_by_intention() {
        let arm64 = Platform::linux(Arch::Arm64);
        let of = |toml: &str| lto(&settings_of(toml, arm64).lto, arm64);
        assert_eq!(of("").status, Status::Ok);
        assert!(of("").detail.contains("by intention"), "{}", of("").detail);
        let on = of("[nuitka]\nlto = \"yes\"");
        assert_eq!(on.status, Status::Warning);
        assert!(on.detail.contains("kiln.toml:2"), "{}", on.detail);
        let amd64 = Platform::linux(Arch::Amd64);
        assert_eq!(lto(&settings_of("", amd64).lto, amd64).detail, "yes (auto)");
    }

    #[test]
    fn jobs_fit_the_processors() {
        let amd64 = Platform::linux(Arch::Amd64);
        let of = |toml: &str, cpus| jobs(&settings_of(toml, amd64), cpus, 3);
        assert!(of("", Some(4)).detail.starts_with("3 (auto: 4 processors"), "{}", of("", Some(4)).detail);
        assert_eq!(of("[nuitka]\njobs = 16", Some(4)).status, Status::Warning);
        assert_eq!(of("[nuitka]\njobs = 1", Some(4)).status, Status::Warning);
        assert_eq!(of("[nuitka]\njobs = 4", Some(4)).status, Status::Ok);
        assert_eq!(of("[nuitka]\njobs = 16", None).status, Status::Ok);
    }

    #[test]
    fn what_ci_runs_adapts_to_the_event() {
        let matrices = |toml: &str| super::super::gather::matrices(&super::super::tests::config(toml));
        let check = matrix(&matrices("[build]\nplatforms = [\"linux/amd64\"]\n"));
        assert_eq!(check.status, Status::Ok);
        let detail = "pull requests: Python 3.12 and x86_64; the default branch: Python 3.11, 3.12, 3.13 and x86_64";
        assert_eq!(check.detail, detail);
        let check = matrix(&matrices("[ci]\npython = [\"3.12\"]\n"));
        assert_eq!(check.status, Status::Warning, "{check:?}");
        let check = matrix(&matrices("[ci]\npython = [\"3.12\"]\ndevelopment-platforms = [\"linux/amd64\"]\n"));
        assert_eq!(check.status, Status::Ok, "{check:?}");
    }
}
