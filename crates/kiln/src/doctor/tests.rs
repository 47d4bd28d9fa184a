//! Facts of systems that are well or broken, and what is made of them as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_config::{Config, Layer, ProjectFacts};
use kiln_docker::driver::Chosen;
use kiln_docker::emulation::Handler;
use kiln_docker::facts::{Disk, Reached};
use kiln_docker::{StoreKind, labels};
use kiln_graph::Arch;
use kiln_solver::{ArtifactReport, CcacheStats, TargetReport, Way};

use super::*;

const AMD64: Platform = Platform::linux(Arch::Amd64);
const I386: Platform = Platform::linux(Arch::I386);
const ARM64: Platform = Platform::linux(Arch::Arm64);

/// A daemon of an amd64 machine.
pub(super) fn info() -> DaemonInfo {
    DaemonInfo {
        id: "ID".to_owned(),
        version: "28.5.1".to_owned(),
        api_version: "1.51".to_owned(),
        arch: Arch::Amd64,
        cpus: 4,
        memory: 16_000_000_000,
        store: StoreKind::Classic,
        storage_driver: "overlay2".to_owned(),
        rootless: false,
        kernel: "6.12.0".to_owned(),
        name: "builder".to_owned(),
        host: "unix:///var/run/docker.sock".to_owned(),
    }
}

/// The settings of a platform, by a kiln.toml.
pub(super) fn settings(toml: &str, platform: Platform) -> PlatformSettings {
    config(toml).for_platform(platform)
}

pub(super) fn config(toml: &str) -> Config {
    let facts = ProjectFacts { folder_name: "hello".to_owned(), ..ProjectFacts::default() };
    Config::load([Layer::file("kiln.toml", toml)], &facts).expect("good settings").config
}

/// A build of a platform.
pub(super) fn built(scope: &str, platform: Platform) -> LastBuild {
    let report = TargetReport {
        target: "export".to_owned(),
        platform,
        way: Way::Native,
        took: Duration::from_mins(1),
        ran: 3,
        cached: 7,
        in_containers: Duration::from_mins(1),
        up_to_date: false,
        artifacts: vec![ArtifactReport {
            path: format!("dist/hello-{}", platform.arch.artifact_name()).into(),
            size: 8_000_000,
            sha256: None,
            needs: Some("musl loader".to_owned()),
            smoke: None,
        }],
        ccache: Some(CcacheStats { hits: 96, misses: 4, ..CcacheStats::default() }),
        image: None,
        steps: Vec::new(),
    };
    LastBuild { report, scope: Some(scope.to_owned()) }
}

/// A cache volume.
pub(super) fn volume(cache: &str, scope: &str, platform: Platform, created: i64) -> Volume {
    let labels = [(labels::CACHE, cache), (labels::SCOPE, scope), (labels::PLATFORM, &platform.to_string())];
    Volume {
        name: format!("kiln-cache-{cache}-{}", platform.arch.artifact_name()),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        size: None,
        users: None,
        created: Some(created),
    }
}

fn handlers(flags: &str) -> Handlers {
    let handler = Handler {
        name: "kiln-aarch64".to_owned(),
        enabled: true,
        interpreter: "/usr/bin/qemu-aarch64-static".to_owned(),
        flags: flags.to_owned(),
        arch: Some(Arch::Arm64),
    };
    Handlers { list: vec![handler], pinned: true }
}

fn artifact(platform: Platform, machine: &str) -> Artifact {
    let found = ArtifactFound::Elf { fits: platform.arch.machine() == machine, machine: machine.to_owned() };
    Artifact { path: format!("dist/hello-{}", platform.arch.artifact_name()), platform, is_program: true, found }
}

/// Everything is well.
pub(super) fn healthy() -> Facts {
    with_settings("[network]\npip-index-url = \"https://index.example/simple\"\nhttps-proxy = \"http://proxy:3128\"\n")
}

fn with_settings(toml: &str) -> Facts {
    let config = config(toml);
    let all = config.resolved();
    let own = config.for_platform(AMD64);
    let servers = vec!["https://packages.example/alpine".to_owned()];
    let bundle = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    let reached = network::goals(&own, &servers).into_iter().map(|goal| (goal.route, Reached::Answered(200))).collect();
    let mut variables: BTreeMap<String, usize> =
        crate::network::variables(&own.network).into_iter().map(|(name, value)| (name, value.len())).collect();
    variables.insert("SSL_CERT_FILE".to_owned(), 9);
    let container = Container {
        disks: vec![Disk { path: "/".to_owned(), free: 70_000_000_000, total: 90_000_000_000, entries: (0, 0) }],
        available: Some(12_000_000_000),
        variables,
        files: [("ca-certificates.crt".to_owned(), (bundle.len() as u64, 1))].into(),
        servers: vec!["10.0.0.53".to_owned()],
        reached,
        ..Container::default()
    };
    let platforms = [AMD64, I386, ARM64];
    Facts {
        located: Ok(Located { host: "unix:///var/run/docker.sock".to_owned(), chosen: Chosen::Socket }),
        daemon: Ok(DaemonFacts {
            info: info(),
            package_servers: servers,
            container: Ok(Some(container)),
            probes: Ok(vec![(AMD64, ProbeResult::Native), (I386, ProbeResult::Native), (ARM64, ProbeResult::Emulated)]),
            handlers: Ok(Some(handlers("POCF"))),
            volumes: Ok(platforms
                .iter()
                .flat_map(|p| [volume("ccache", "hello", *p, 0), volume("pip", "hello", *p, 0)])
                .collect()),
            leftovers: Ok(0),
            has_twin_program: true,
        }),
        settings: SettingsFacts {
            wrong: None,
            warnings: Vec::new(),
            file: Some("kiln.toml".to_owned()),
            platforms: platforms.map(|platform| config.for_platform(platform)).into(),
            own,
            configured: 3,
            may_install: all.emulation.install,
            scope: all.cache.scope,
            scope_from: "from project.name".to_owned(),
            scope_without: None,
            keep_size: 10_000_000_000,
            certificates: Some(("ca.crt".to_owned(), Ok(bundle))),
            proxy_here: false,
            matrices: super::gather::matrices(&super::tests::config("")),
        },
        here: HereFacts {
            output: "dist".into(),
            disk: Ok(HereDisk { free: 30_000_000_000, total: 90_000_000_000, writable: true }),
            builds: platforms.iter().map(|platform| (built("hello", *platform), Some(1_000))).collect(),
            artifacts: Ok(vec![artifact(AMD64, "x86_64"), artifact(I386, "i686"), artifact(ARM64, "aarch64")]),
            mismatches: Vec::new(),
        },
        stores: Ok(Vec::new()),
    }
}

/// All of the troubleshooting chapter at once.
pub(super) fn broken() -> Facts {
    let mut facts =
        with_settings("[nuitka]\njobs = 16\nlto = \"yes\"\n[network]\nhttps-proxy = \"http://me:secret@proxy:3128\"\n");
    let Ok(daemon) = &mut facts.daemon else { unreachable!("it is there") };
    daemon.info.memory = 4_000_000_000;
    daemon.info.storage_driver = "vfs".to_owned();
    daemon.leftovers = Ok(2);
    daemon.handlers = Ok(Some(handlers("PC")));
    daemon.probes = Ok(vec![
        (AMD64, ProbeResult::Native),
        (I386, ProbeResult::Failed { reason: "the kernel cannot execute it, and has no handler for it".to_owned() }),
        (
            ARM64,
            ProbeResult::Failed {
                reason: "its handler's interpreter cannot be found inside containers (flag F is missing)".to_owned(),
            },
        ),
    ]);
    daemon.volumes = Ok(vec![volume("ccache", "elsewhere", AMD64, 0), volume("pip", "hello", AMD64, 0)]);
    let Ok(Some(container)) = &mut daemon.container else { unreachable!("it is there") };
    container.disks[0].free = 200_000_000;
    container.clock = -86_400_000;
    container.files.clear();
    container.available = Some(300_000_000);
    for reached in container.reached.values_mut() {
        *reached = Reached::Unreachable {
            address: "10.0.0.9".to_owned(),
            reason: "Connection refused (os error 111)".to_owned(),
        };
    }
    facts.here.artifacts = Ok(vec![artifact(AMD64, "x86_64"), artifact(ARM64, "x86_64")]);
    facts.here.builds = vec![(built("elsewhere", AMD64), Some(1_000)), (built("elsewhere", ARM64), Some(1_000))];
    facts.here.disk = Ok(HereDisk { free: 20_000_000, total: 90_000_000_000, writable: true });
    facts.here.mismatches = scopes::mismatches(
        ".github/workflows/build.yml",
        "cache-from: type=gha,scope=build-${{ matrix.arch }}\ncache-to: type=gha,scope=build\n",
    );
    facts.stores = Ok(vec![StoreFacts {
        place: "gha:".to_owned(),
        size: Ok(Some(11_000_000_000)),
        written: None,
        budget: Some((10_000_000_000, "what GitHub keeps of a repository")),
    }]);
    facts
}

/// No daemon answers.
pub(super) fn away() -> Facts {
    let mut facts = healthy();
    facts.located = Ok(Located { host: "tcp://127.0.0.1:1".to_owned(), chosen: Chosen::HostVariable });
    facts.daemon = Err(Trouble {
        what: "no Docker daemon answers at tcp://127.0.0.1:1: Connection refused (os error 111)".to_owned(),
        fix: Some("check DOCKER_HOST, the docker context, and that the host is up".to_owned()),
    });
    facts
}

fn of<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks
        .iter()
        .filter(|check| check.name == name)
        .max_by_key(|check| check.status == Status::Failed)
        .expect("checked")
}

#[test]
fn every_check_is_made_and_listed() {
    for facts in [healthy(), broken(), away()] {
        let checks = verdicts(&facts);
        for (name, _) in CHECKS {
            assert!(checks.iter().any(|check| check.name == name), "{name}");
        }
        assert!(checks.iter().all(|check| check.position() < CHECKS.len()));
        assert!(checks.is_sorted_by_key(Check::position));
        let helpless = |check: &&Check| matches!(check.status, Status::Warning | Status::Failed) && check.fix.is_none();
        assert_eq!(checks.iter().find(helpless), None, "a check without a fix");
    }
}

#[test]
fn a_system_that_is_well_has_no_complaint() {
    let checks = verdicts(&healthy());
    let bad = |check: &&Check| matches!(check.status, Status::Warning | Status::Failed);
    assert_eq!(checks.iter().find(bad), None);
    assert_eq!(exit_code(&checks), 0);
}

#[test]
fn every_broken_thing_is_named() {
    let checks = verdicts(&broken());
    for (name, words) in [
        ("disk", "200 MB free"),
        ("memory", "likely to be killed"),
        ("clock", "behind"),
        ("handler", "flag F is missing"),
        ("emulation", "has no handler"),
        ("proxy", "proxy:3128"),
        ("certificates", "do not arrive"),
        ("artifact", "is for x86_64, not for linux/arm64"),
        ("remote cache", "11.0 GB in it, more than"),
        ("scope", "what is saved is not found"),
    ] {
        let check = of(&checks, name);
        assert!(check.detail.contains(words), "{name}: {}", check.detail);
    }
    assert!(!format!("{checks:?}").contains("secret"));
}

#[test]
fn the_exit_code_is_that_of_the_first_failure() {
    let failed = |name| Check::failed(name, "x", "y");
    let warning = Check::warning("daemon", "x", "y");
    assert_eq!(exit_code(&[]), 0);
    assert_eq!(exit_code(std::slice::from_ref(&warning)), 0);
    assert_eq!(exit_code(&[failed("artifact")]), exit::VERIFY);
    assert_eq!(exit_code(&[warning.clone(), failed("artifact"), failed("emulation")]), exit::EMULATION);
    assert_eq!(exit_code(&[failed("artifact"), failed("emulation"), failed("daemon")]), exit::DAEMON);
    assert_eq!(exit_code(&[failed("lto")]), exit::CONFIG);
    assert_eq!(exit_code(&[failed("output")]), exit::IO);
}

#[test]
fn without_a_daemon_the_rest_is_checked() {
    let checks = verdicts(&away());
    assert_eq!(of(&checks, "daemon").status, Status::Failed);
    for name in ["disk", "emulation", "network", "cache volumes"] {
        assert_eq!(
            (of(&checks, name).status, of(&checks, name).detail.as_str()),
            (Status::Skipped, "no daemon"),
            "{name}"
        );
    }
    for name in ["settings", "lto", "jobs", "output", "artifact", "scope"] {
        assert_eq!(of(&checks, name).status, Status::Ok, "{name}");
    }
    assert_eq!(exit_code(&checks), exit::DAEMON);
}

#[test]
fn the_json_form_is_stable() {
    let check = Check::failed("artifact", "why", "how").on(ARM64);
    let text = serde_json::to_string(&[check, Check::ok("clock", "well")]).expect("JSON");
    assert_eq!(
        text,
        r#"[{"check":"artifact","platform":"linux/arm64","status":"failed","detail":"why","fix":"how"},"#.to_owned()
            + r#"{"check":"clock","status":"ok","detail":"well"}]"#
    );
}
