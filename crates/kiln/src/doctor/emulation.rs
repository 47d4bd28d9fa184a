//! Foreign platforms: whether they run, by which handler, and whether native programs stand in.

use kiln_config::{PlatformSettings, Recipe, Twin};
use kiln_docker::DaemonInfo;
use kiln_docker::emulation::{Handler, Handlers, ProbeResult};
use kiln_graph::{Arch, Platform};

use super::{Check, Facts, NO_DAEMON, Seen};

/// What to do where kiln may not install, or was told not to.
const BY_HAND: &str =
    "have the machine's administrator install emulation once (Debian: `apt install qemu-user-static`)";
const NOT_FIXED: &str = "flag F is missing: the kernel looks for the interpreter inside each container, does not find it, and \
                         programs of the platform end with \"no such file or directory\" or \"exec format error\"";

pub(super) fn verdicts(facts: &Facts) -> Vec<Check> {
    let platforms = &facts.settings.platforms;
    let Ok(daemon) = &facts.daemon else {
        return ["emulation", "handler", "twin"].map(|name| Check::skipped(name, NO_DAEMON)).into();
    };
    let info = &daemon.info;
    let mut checks = Vec::new();
    match &daemon.probes {
        Err(trouble) => checks.push(Check::troubled("emulation", trouble)),
        Ok(probes) => checks
            .extend(probes.iter().map(|(platform, result)| runs(*platform, result, info, facts.settings.may_install))),
    }
    for settings in platforms.iter().filter(|settings| !settings.platform.arch.may_run_on(info.arch)) {
        let platform = settings.platform;
        let probe = daemon.probes.as_ref().ok().and_then(|all| all.iter().find(|(other, _)| *other == platform));
        checks.push(handler(platform, &daemon.handlers, probe.map(|(_, result)| result)).on(platform));
        checks.push(twin(settings, info.arch, daemon.has_twin_program).on(platform));
    }
    checks
}

fn runs(platform: Platform, result: &ProbeResult, info: &DaemonInfo, may_install: bool) -> Check {
    let check = match result {
        ProbeResult::Native => Check::ok("emulation", "runs natively (tried)"),
        ProbeResult::Emulated => Check::ok("emulation", "runs under QEMU (tried)"),
        ProbeResult::Failed { reason } if platform.arch.may_run_on(info.arch) => Check::failed(
            "emulation",
            format!("a program of it did not run, though the processor should: {reason}"),
            if platform.arch == info.arch {
                "look at the daemon's log"
            } else {
                "use a kernel with CONFIG_IA32_EMULATION, or build with `--platform` for others alone"
            },
        ),
        ProbeResult::Failed { reason } => {
            let detail = format!("a program of it did not run: {reason}");
            if info.rootless {
                Check::failed("emulation", format!("{detail}; a rootless daemon cannot change that"), BY_HAND)
            } else if may_install {
                let fix = "`kiln doctor --fix` or `kiln emulation install`; `kiln build` does it by itself";
                Check::warning("emulation", detail, fix)
            } else {
                let fix = "`kiln emulation install`; `emulation.install = false` keeps builds from doing it";
                Check::failed("emulation", detail, fix)
            }
        }
    };
    check.on(platform)
}

/// The handlers that are for a platform.
fn of(handlers: &Handlers, platform: Platform) -> impl Iterator<Item = &Handler> {
    let wanted = platform.arch.qemu_name();
    handlers.list.iter().filter(move |handler| handler.arch.is_some_and(|arch| arch.qemu_name() == wanted))
}

fn handler(platform: Platform, handlers: &Seen<Option<Handlers>>, probe: Option<&ProbeResult>) -> Check {
    let handlers = match handlers {
        Err(trouble) => return Check::skipped("handler", format!("cannot be read: {}", trouble.what)),
        Ok(None) => return Check::skipped("handler", "cannot be read on this daemon"),
        Ok(Some(handlers)) => handlers,
    };
    let mend = |handler: &Handler| {
        if handler.is_ours() {
            "`kiln doctor --fix` registers it anew with flag F".to_owned()
        } else {
            format!(
                "whoever registered `{0}` should do so with flag F; `kiln emulation install` replaces it where it does not work",
                handler.name
            )
        }
    };
    let mut there: Vec<&Handler> = of(handlers, platform).collect();
    // Where there are several, the one that was registered last is asked first; the kernel does not tell, so those that
    // cannot work are told first.
    there.sort_by_key(|handler| (handler.fixed(), handler.enabled));
    let Some(handler) = there.first() else {
        return match probe {
            Some(ProbeResult::Emulated) => Check::ok("handler", "the daemon's machine has one that is not shown"),
            _ => Check::warning(
                "handler",
                "the kernel has none for it (binfmt_misc)",
                "`kiln doctor --fix` or `kiln emulation install`; `kiln build` does it by itself",
            ),
        };
    };
    let flags = if handler.flags.is_empty() { "none" } else { &handler.flags };
    let detail = format!("{}: {}, flags {flags}", handler.name, handler.interpreter);
    if !handler.fixed() {
        return Check::warning("handler", format!("{detail}; {NOT_FIXED}"), mend(handler));
    }
    if !handler.enabled {
        return Check::warning(
            "handler",
            format!("{detail}; it is switched off"),
            format!("on the daemon's machine: `echo 1 > /proc/sys/fs/binfmt_misc/{}`", handler.name),
        );
    }
    Check::ok("handler", detail)
}

/// Platforms whose handlers are kiln's and of no use in containers.
pub(crate) fn unfixed(handlers: &Handlers) -> Vec<Platform> {
    let ours = handlers.list.iter().filter(|handler| handler.is_ours() && !handler.fixed());
    ours.filter_map(|handler| handler.arch).map(Platform::linux).collect()
}

fn twin(settings: &PlatformSettings, daemon: Arch, has_program: bool) -> Check {
    let platform = settings.platform;
    // Demanded and not to be had is an error in a build.
    let lacking = |why: String| match settings.twin {
        Twin::On => Check::failed("twin", why, "leave it to kiln: `[emulation] twin = \"auto\"`"),
        _ => Check::warning("twin", why, "build it on a daemon of its own platform, if the time matters"),
    };
    if settings.twin == Twin::Off {
        return Check::warning(
            "twin",
            "switched off (emulation.twin): every step is emulated, which takes several times as long",
            "leave it to kiln: `[emulation] twin = \"auto\"`",
        );
    }
    let Some(root) = kiln_twin::stands_in(daemon, platform.arch) else {
        return lacking(format!(
            "a {} machine has no native programs that could stand in for it: every step is emulated",
            daemon.oci().0
        ));
    };
    if !has_program {
        return lacking(format!("this kiln was built without the program for {} daemons", daemon.oci().0));
    }
    let detail = format!("programs of {} stand in where they only compute", Platform::linux(root));
    if settings.build.recipe == Recipe::Alpine {
        return Check::ok(
            "twin",
            format!("{detail}; Alpine's gcc stays emulated, which `recipe = \"debian\"` does not"),
        );
    }
    Check::ok("twin", detail)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::tests::{info, settings};
    use super::*;

    fn arm64() -> Platform {
        Platform::linux(Arch::Arm64)
    }

    fn handlers(name: &str, flags: &str, enabled: bool) -> Handlers {
        let handler = Handler {
            name: name.to_owned(),
            enabled,
            interpreter: "/usr/bin/qemu-aarch64-static".to_owned(),
            flags: flags.to_owned(),
            arch: Some(Arch::Arm64),
        };
        Handlers { list: vec![handler], pinned: true }
    }

    #[test]
    fn a_platform_without_a_handler_is_named_with_the_fix() {
        let failed =
            ProbeResult::Failed { reason: "the kernel cannot execute it, and has no handler for it".to_owned() };
        let check = runs(arm64(), &failed, &info(), true);
        assert_eq!((check.status, check.platform.as_deref()), (Status::Warning, Some("linux/arm64")));
        assert!(check.detail.contains("no handler") && check.fix.expect("a fix").contains("kiln emulation install"));
        let check = runs(arm64(), &failed, &info(), false);
        assert_eq!(check.status, Status::Failed);
        let rootless = DaemonInfo { rootless: true, ..info() };
        assert!(runs(arm64(), &failed, &rootless, true).fix.is_some_and(|fix| fix.contains("administrator")));
        // 386 is no matter of handlers on amd64.
        let i386 = runs(Platform::linux(Arch::I386), &failed, &info(), true);
        assert!(i386.fix.is_some_and(|fix| fix.contains("IA32")));
        assert_eq!(runs(arm64(), &ProbeResult::Emulated, &info(), false).status, Status::Ok);
        let none = handler(arm64(), &Ok(Some(Handlers::default())), Some(&failed));
        assert_eq!(none.status, Status::Warning);
    }

    #[test]
    fn a_handler_without_f_is_explained() {
        let check = handler(arm64(), &Ok(Some(handlers("kiln-aarch64", "PC", true))), None);
        assert_eq!(check.status, Status::Warning);
        for words in ["kiln-aarch64", "flags PC", "no such file or directory", "exec format error"] {
            assert!(check.detail.contains(words), "{words}: {}", check.detail);
        }
        assert!(check.fix.expect("a fix").contains("doctor --fix"));
        let others = handler(arm64(), &Ok(Some(handlers("qemu-aarch64", "", true))), None);
        assert!(others.fix.is_some_and(|fix| fix.contains("whoever registered `qemu-aarch64`")));
        assert_eq!(handler(arm64(), &Ok(Some(handlers("kiln-aarch64", "PCF", true))), None).status, Status::Ok);
        let off = handler(arm64(), &Ok(Some(handlers("kiln-aarch64", "PCF", false))), None);
        assert!(off.detail.contains("switched off"), "{}", off.detail);
    }

    #[test]
    fn only_our_handlers_are_registered_anew() {
        let all = |name, flags| unfixed(&handlers(name, flags, true));
        assert_eq!(all("kiln-aarch64", "PC"), [arm64()]);
        assert_eq!(all("kiln-aarch64", "PCF"), []);
        assert_eq!(all("qemu-aarch64", "PC"), []);
    }

    #[test]
    fn a_twin_says_why_it_is_not_there() {
        let with = |toml: &str| settings(toml, arm64());
        assert_eq!(twin(&with(""), Arch::Amd64, true).status, Status::Ok);
        assert!(twin(&with(""), Arch::Amd64, true).detail.contains("Alpine's gcc"));
        assert!(!twin(&with("[build]\nrecipe = \"debian\""), Arch::Amd64, true).detail.contains("Alpine"));
        assert!(twin(&with(""), Arch::Amd64, false).detail.contains("built without the program"));
        assert!(twin(&with("[emulation]\ntwin = \"off\""), Arch::Amd64, true).detail.contains("switched off"));
        assert_eq!(twin(&with("[emulation]\ntwin = \"on\""), Arch::S390x, false).status, Status::Failed);
    }
}
