//! What package managers run around an installation, where there are services: nothing is enabled or started for the
//! first time, what runs is restarted by an upgrade, and what is removed is stopped and disabled before.

use rpm::PackageBuilder;

use crate::release::{Named, Release};

const HEAD: &str = "#!/bin/sh\nset -e\n";
/// Without systemd as the first process, as in a container or chroot, there is nothing to tell.
const RELOAD: &str = "if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi\n";

/// Scripts of a Debian package by name. Source: Debian Policy, section 6.5.
pub(crate) fn deb(release: &Release) -> Vec<(&'static str, String)> {
    let units = &release.systemd;
    if units.is_empty() {
        return Vec::new();
    }
    // An upgrade names the version before it.
    let postinst = format!(
        "{HEAD}if [ \"$1\" = configure ]; then\n{RELOAD}if [ -n \"$2\" ] && [ -d /run/systemd/system ]; then\n{}fi\nfi\n",
        restart(units)
    );
    let prerm = format!("{HEAD}if [ \"$1\" = remove ]; then\n{}fi\n", stop(units));
    vec![("postinst", postinst), ("postrm", format!("{HEAD}{RELOAD}")), ("prerm", prerm)]
}

/// Scripts of an RPM package: the first argument is how many versions will be there afterwards.
pub(crate) fn rpm(release: &Release, builder: &mut PackageBuilder) {
    let units = &release.systemd;
    if units.is_empty() {
        return;
    }
    builder.post_install_script(RELOAD);
    builder.pre_uninstall_script(format!("if [ \"$1\" -eq 0 ]; then\n{}fi\n", stop(units)));
    let restarted = format!("if [ \"$1\" -ge 1 ] && [ -d /run/systemd/system ]; then\n{}fi\n", restart(units));
    builder.post_uninstall_script(format!("{RELOAD}{restarted}"));
}

/// Scripts of an Alpine package by name.
pub(crate) fn apk(release: &Release) -> Vec<(&'static str, String)> {
    let services = &release.openrc;
    if services.is_empty() {
        return Vec::new();
    }
    let each = |line: &dyn Fn(&str) -> String| lines(services, |service| line(&service.name));
    let stopped = each(&|name| format!("rc-service --ifstarted {name} stop || true"));
    let disabled = each(&|name| format!("rc-update -q -a del {name} 2>/dev/null || true"));
    let restarted = each(&|name| format!("rc-service --ifstarted {name} restart || true"));
    let guarded = |body: &str| format!("{HEAD}if command -v rc-service >/dev/null 2>&1; then\n{body}fi\n");
    vec![(".post-upgrade", guarded(&restarted)), (".pre-deinstall", guarded(&format!("{stopped}{disabled}")))]
}

fn restart(units: &[Named]) -> String {
    lines(units, |unit| format!("systemctl try-restart '{}' || true", instances(&unit.name)))
}

/// Links of a unit that was enabled would be left behind, so it is disabled; without a running systemd too.
fn stop(units: &[Named]) -> String {
    lines(units, |unit| {
        let (name, running) = (&unit.name, instances(&unit.name));
        format!(
            "if [ -d /run/systemd/system ]; then systemctl stop '{running}' || true; fi\n    if command -v systemctl \
             >/dev/null 2>&1; then systemctl --no-reload --quiet disable '{name}' 2>/dev/null || true; fi"
        )
    })
}

/// What is to be done for each file, in lines of their own.
fn lines(files: &[Named], of: impl Fn(&Named) -> String) -> String {
    let lines: Vec<String> = files.iter().map(|file| format!("    {}\n", of(file))).collect();
    lines.concat()
}

/// What stands for the running units of a file: of a template (`hello@.service`) all its instances.
fn instances(name: &str) -> String {
    name.replace("@.", "@*.")
}
