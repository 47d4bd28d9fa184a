//! Between the daemon's models and kiln's types. Nothing here talks to anyone.

use std::collections::{BTreeMap, HashMap};

use bollard::models;
use kiln_graph::{Arch, Healthcheck, ImageConfig, Platform};

use crate::{ContainerSpec, FileKind, Image, ImageId, MountSpec, NetworkSpec, PathStat, Ulimit, VolumeSource, labels};

/// Whether an image that says it is for `arch`/`variant` is one for `platform`, by containerd's rules: arm without a
/// variant means v7, and later ARM processors run earlier variants.
pub(super) fn serves(arch: &str, variant: &str, platform: Platform) -> bool {
    match platform.arch {
        Arch::ArmV7 => arch == "arm" && matches!(variant, "" | "v7" | "v6" | "v5"),
        Arch::ArmV6 => arch == "arm" && matches!(variant, "v6" | "v5"),
        other => arch == other.oci().0,
    }
}

/// How an image spells its platform, for errors.
pub(super) fn spelled(arch: &str, variant: &str) -> String {
    match (arch, variant) {
        ("", _) => "nothing".to_owned(),
        (arch, "") => format!("linux/{arch}"),
        (arch, variant) => format!("linux/{arch}/{variant}"),
    }
}

/// The platform an image says it is for; `None` if it names none or none that kiln knows.
pub(super) fn platform_of(arch: &str, variant: &str) -> Option<Platform> {
    Platform::all().find(|platform| {
        let (known, known_variant) = platform.arch.oci();
        known == arch && (known_variant.is_none() || variant.is_empty() || known_variant == Some(variant))
    })
}

/// The JSON with which the API names a platform in a query.
pub(super) fn platform_json(platform: Platform) -> String {
    let (arch, variant) = platform.arch.oci();
    let variant = variant.map(|v| format!(r#","variant":"{v}""#)).unwrap_or_default();
    format!(r#"{{"os":"linux","architecture":"{arch}"{variant}}}"#)
}

/// An inspected image.
pub(super) fn image(inspect: models::ImageInspect, platform: Platform) -> Image {
    let config = inspect.config.unwrap_or_default();
    let labels: BTreeMap<String, String> = config.labels.clone().unwrap_or_default().into_iter().collect();
    Image {
        id: ImageId(inspect.id.unwrap_or_default()),
        platform,
        config: image_config(config, inspect.author),
        labels,
        size: unsigned(inspect.size),
        created: inspect.created.as_deref().and_then(seconds).unwrap_or_default(),
        repo_digests: inspect.repo_digests.unwrap_or_default(),
        tags: inspect.repo_tags.unwrap_or_default(),
        layers: inspect.root_fs.and_then(|root| root.layers).unwrap_or_default(),
        parent: None,
    }
}

/// A listed image. A listing knows no platform and no configuration; kiln's images name the first in a label.
pub(super) fn listed_image(summary: models::ImageSummary, own: Platform) -> Image {
    let labels: BTreeMap<String, String> = summary.labels.into_iter().collect();
    let platform = labels.get(labels::PLATFORM).and_then(|text| text.parse().ok()).unwrap_or(own);
    let named = |names: Vec<String>| names.into_iter().filter(|name| !name.starts_with("<none>")).collect();
    Image {
        id: ImageId(summary.id),
        platform,
        config: ImageConfig { labels: labels.clone(), ..ImageConfig::default() },
        labels,
        size: unsigned(Some(summary.size)),
        created: summary.created,
        repo_digests: named(summary.repo_digests),
        tags: named(summary.repo_tags),
        layers: Vec::new(),
        parent: Some(ImageId(summary.parent_id)).filter(|parent| !parent.0.is_empty()),
    }
}

fn image_config(config: models::ImageConfig, author: Option<String>) -> ImageConfig {
    let mut out = ImageConfig {
        cmd: config.cmd.filter(|cmd| !cmd.is_empty()),
        entrypoint: config.entrypoint.filter(|entrypoint| !entrypoint.is_empty()),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        exposed_ports: sorted(config.exposed_ports),
        volumes: sorted(config.volumes),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
        healthcheck: config.healthcheck.and_then(healthcheck),
        shell: config.shell.filter(|shell| !shell.is_empty()),
        on_build: config.on_build.unwrap_or_default(),
        author: author.filter(|author| !author.is_empty()),
        args_escaped: config.args_escaped.unwrap_or_default(),
        ..ImageConfig::default()
    };
    // A variable without a value is one that a commit of ours kept out, see `commit_config`.
    for (name, value) in config.env.unwrap_or_default().iter().filter_map(|entry| entry.split_once('=')) {
        out.set_env(name, value);
    }
    out
}

fn sorted(list: Option<Vec<String>>) -> Vec<String> {
    let mut list = list.unwrap_or_default();
    list.sort();
    list
}

fn healthcheck(check: models::HealthConfig) -> Option<Healthcheck> {
    let test = check.test.filter(|test| !test.is_empty())?;
    let time = |value: Option<i64>| value.filter(|value| *value != 0);
    Some(Healthcheck {
        test,
        interval: time(check.interval),
        timeout: time(check.timeout),
        start_period: time(check.start_period),
        start_interval: time(check.start_interval),
        retries: time(check.retries),
    })
}

/// What a container may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Container,
    /// The kernel's settings and the mounts of the daemon's machine. Only the capabilities that this takes: a daemon that
    /// is itself confined cannot give all of them, as `privileged` asks.
    Machine,
}

/// How a container sees a part of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    /// The daemon knows parts of volumes (API 1.45).
    Known,
    /// By the places of the volumes on the daemon's machine.
    Bound(HashMap<String, String>),
}

/// The body of a create request. The container's own labels win over `common` ones.
pub(super) fn create_body(
    spec: &ContainerSpec,
    common: &BTreeMap<String, String>,
    reach: Reach,
    parts: &Parts,
) -> models::ContainerCreateBody {
    let machine = reach == Reach::Machine;
    let limits = &spec.limits;
    let list = |items: &[&str]| machine.then(|| items.iter().map(|item| (*item).to_owned()).collect::<Vec<String>>());
    let mut labels: HashMap<String, String> = common.clone().into_iter().chain(spec.labels.clone()).collect();
    labels.insert(labels::VERSION.to_owned(), labels::CURRENT_VERSION.to_owned());
    let network = match &spec.network {
        NetworkSpec::Bridge => None,
        NetworkSpec::None => Some("none".to_owned()),
        NetworkSpec::Host => Some("host".to_owned()),
        NetworkSpec::Named(name) => Some(name.clone()),
        NetworkSpec::Of(container) => Some(format!("container:{container}")),
    };
    models::ContainerCreateBody {
        image: Some(spec.image.0.clone()),
        // The whole command is the entrypoint: then neither the image's command nor ours ends up in a commit.
        entrypoint: Some(spec.argv.clone()),
        env: Some(spec.env.clone()),
        working_dir: Some(if spec.cwd.is_empty() { "/".to_owned() } else { spec.cwd.clone() }),
        user: Some(if spec.user.is_empty() { "0".to_owned() } else { spec.user.clone() }),
        labels: Some(labels),
        tty: Some(spec.tty),
        open_stdin: Some(spec.stdin),
        stdin_once: Some(spec.stdin),
        attach_stdin: Some(spec.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        healthcheck: Some(models::HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..models::HealthConfig::default()
        }),
        host_config: Some(models::HostConfig {
            // Output goes to whoever is attached; the daemon keeps no second copy on its disk.
            log_config: Some(models::HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            mounts: Some(spec.mounts.iter().map(|each| mount(each, parts)).collect()),
            network_mode: network,
            privileged: Some(spec.privileged && !machine),
            pid_mode: machine.then(|| "host".to_owned()),
            cap_add: list(&["SYS_ADMIN", "SYS_PTRACE"]),
            security_opt: list(&["seccomp=unconfined", "apparmor=unconfined", "label=disable"]),
            masked_paths: list(&[]),
            readonly_paths: list(&[]),
            extra_hosts: (!spec.extra_hosts.is_empty()).then(|| spec.extra_hosts.clone()),
            shm_size: limits.shm_size.map(signed),
            ulimits: (!limits.ulimits.is_empty()).then(|| limits.ulimits.iter().map(ulimit).collect()),
            memory: limits.memory.map(signed),
            memory_swap: limits.memory_swap,
            nano_cpus: limits.nano_cpus.map(signed),
            cpu_shares: limits.cpu_shares.map(signed),
            cpu_period: limits.cpu_period.map(signed),
            cpu_quota: limits.cpu_quota,
            cpuset_cpus: limits.cpuset_cpus.clone(),
            cpuset_mems: limits.cpuset_mems.clone(),
            cgroup_parent: limits.cgroup_parent.clone(),
            // An init process would have to be mounted over a file, whose stub stays in the commit.
            init: Some(false),
            ..models::HostConfig::default()
        }),
        ..models::ContainerCreateBody::default()
    }
}

fn ulimit(limit: &Ulimit) -> models::ResourcesUlimits {
    models::ResourcesUlimits { name: Some(limit.name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

fn mount(mount: &MountSpec, parts: &Parts) -> models::Mount {
    let base = models::Mount {
        target: Some(mount.target.clone()),
        read_only: Some(mount.readonly),
        ..models::Mount::default()
    };
    match &mount.source {
        VolumeSource::Volume(name) => models::Mount {
            typ: Some(models::MountType::VOLUME),
            source: Some(name.clone()),
            volume_options: Some(models::MountVolumeOptions {
                no_copy: Some(true),
                ..models::MountVolumeOptions::default()
            }),
            ..base
        },
        VolumeSource::Part { volume, path } => match parts {
            Parts::Known => models::Mount {
                typ: Some(models::MountType::VOLUME),
                source: Some(volume.clone()),
                volume_options: Some(models::MountVolumeOptions {
                    no_copy: Some(true),
                    subpath: Some(path.clone()),
                    ..models::MountVolumeOptions::default()
                }),
                ..base
            },
            Parts::Bound(places) => {
                let place = places.get(volume).map_or("", String::as_str);
                models::Mount { typ: Some(models::MountType::BIND), source: Some(format!("{place}/{path}")), ..base }
            }
        },
        VolumeSource::Host(path) => {
            models::Mount { typ: Some(models::MountType::BIND), source: Some(path.clone()), ..base }
        }
        VolumeSource::Tmpfs(limit) => models::Mount {
            typ: Some(models::MountType::TMPFS),
            tmpfs_options: limit.map(|limit| models::MountTmpfsOptions {
                size_bytes: Some(signed(limit)),
                ..models::MountTmpfsOptions::default()
            }),
            ..base
        },
    }
}

/// The body of a commit, such that the result has `config` and not what the container was run with. The daemon merges
/// the container's configuration into what is left open: a variable that is only the container's is named without a
/// value, which removes it; a command is kept out by an entrypoint that is empty but there.
pub(super) fn commit_config(
    config: &ImageConfig,
    labels: &BTreeMap<String, String>,
    container: &models::ContainerConfig,
) -> models::ContainerConfig {
    let mut env: Vec<String> = config.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    for entry in container.env.iter().flatten() {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        if config.env_value(name).is_none() {
            env.push(name.to_owned());
        }
    }
    let mut labels: HashMap<String, String> = labels.clone().into_iter().collect();
    labels.insert(labels::VERSION.to_owned(), labels::CURRENT_VERSION.to_owned());
    for name in container.labels.iter().flatten().map(|(name, _)| name).filter(|name| name.starts_with("kiln.")) {
        labels.entry(name.clone()).or_default();
    }
    models::ContainerConfig {
        env: Some(env),
        cmd: config.cmd.clone(),
        entrypoint: Some(config.entrypoint.clone().unwrap_or_default()),
        user: Some(config.user.clone()),
        working_dir: Some(if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() }),
        labels: Some(labels),
        exposed_ports: (!config.exposed_ports.is_empty()).then(|| config.exposed_ports.clone()),
        volumes: (!config.volumes.is_empty()).then(|| config.volumes.clone()),
        stop_signal: config.stop_signal.clone(),
        shell: config.shell.clone(),
        on_build: (!config.on_build.is_empty()).then(|| config.on_build.clone()),
        healthcheck: config.healthcheck.as_ref().map(|check| models::HealthConfig {
            test: Some(check.test.clone()),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        ..models::ContainerConfig::default()
    }
}

/// What the `X-Docker-Container-Path-Stat` header says; its mode has the bits of Go's `io/fs.FileMode`.
pub(super) fn path_stat(mode: u32, size: i64, link_target: String) -> PathStat {
    const DIR: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    /// Device, named pipe, socket, character device, irregular.
    const OTHER: u32 = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;
    let kind = match mode {
        mode if mode & DIR != 0 => FileKind::Folder,
        mode if mode & SYMLINK != 0 => FileKind::Symlink,
        mode if mode & OTHER != 0 => FileKind::Other,
        _ => FileKind::File,
    };
    let special = [(1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000)]
        .iter()
        .filter(|(go, _)| mode & go != 0)
        .fold(0, |bits, (_, posix)| bits | posix);
    PathStat { kind, mode: mode & 0o777 | special, size: unsigned(Some(size)), link_target }
}

/// Seconds since 1970 of an RFC 3339 time; fractions are cut off.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let clock = rest.get(..8)?;
    let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    let zone = rest[8..].trim_start_matches('.').trim_start_matches(|c: char| c.is_ascii_digit());
    let offset = match zone.as_bytes().first() {
        Some(sign @ (b'+' | b'-')) => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let offset = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => 0,
    };
    // Days since 1970 of a civil date, after Howard Hinnant's `days_from_civil`.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

pub(super) fn unsigned(value: Option<i64>) -> u64 {
    value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_modes_become_posix_modes() {
        for (mode, kind, posix) in [
            (0o644, FileKind::File, 0o644),
            (1 << 31 | 0o755, FileKind::Folder, 0o755),
            (1 << 31 | 1 << 20 | 0o777, FileKind::Folder, 0o1777),
            (1 << 27 | 0o777, FileKind::Symlink, 0o777),
            (1 << 23 | 0o755, FileKind::File, 0o4755),
            (1 << 26 | 1 << 21 | 0o666, FileKind::Other, 0o666),
        ] {
            let stat = path_stat(mode, 1, String::new());
            assert_eq!((stat.kind, stat.mode), (kind, posix), "{mode:o}");
        }
    }

    #[test]
    fn times_are_read_with_and_without_fractions_and_zones() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T12:34:56.789012345Z", 1_709_210_096),
            ("2024-02-29T14:34:56+02:00", 1_709_210_096),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        assert_eq!(seconds("yesterday"), None);
        assert_eq!(seconds("2024-02-29Tä"), None);
    }

    #[test]
    fn arm_variants_follow_containerd() {
        let serves = |arch: &str, variant: &str, platform: &str| serves(arch, variant, platform.parse().unwrap());
        assert!(serves("arm", "", "linux/arm/v7"));
        assert!(serves("arm", "v6", "linux/arm/v7"));
        assert!(!serves("arm", "v7", "linux/arm/v6"));
        assert!(serves("arm64", "v8", "linux/arm64"));
        assert!(!serves("", "", "linux/amd64"));
        assert_eq!(platform_of("arm", "v6").map(|p| p.to_string()).as_deref(), Some("linux/arm/v6"));
        assert_eq!(platform_of("arm", "").map(|p| p.to_string()).as_deref(), Some("linux/arm/v7"));
    }

    #[test]
    fn a_commit_keeps_out_what_only_the_container_had() {
        let mut config = ImageConfig::default();
        config.set_env("PATH", "/bin");
        let container = models::ContainerConfig {
            env: Some(vec!["PATH=/x".to_owned(), "HTTP_PROXY=http://secret".to_owned()]),
            labels: Some([("kiln.owner".to_owned(), "h/1/2".to_owned())].into()),
            ..models::ContainerConfig::default()
        };
        let body = commit_config(&config, &BTreeMap::new(), &container);
        assert_eq!(body.env, Some(vec!["PATH=/bin".to_owned(), "HTTP_PROXY".to_owned()]));
        assert_eq!(body.labels.unwrap()["kiln.owner"], "");
        assert_eq!(body.entrypoint, Some(Vec::new()));
    }
}
