//! Probes, the toolbox and handlers on a real daemon.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod common;

use std::time::Instant;

use common::{run, spec};
use kiln_docker::driver::{BollardEngine, ConnectOptions};
use kiln_docker::emulation::{self, Installed, ProbeResult};
use kiln_docker::sweep::{self, ThisHost};
use kiln_docker::toolbox::{self, ToolFile};
use kiln_docker::{CommitSpec, Engine, EngineError, labels};
use kiln_graph::{Arch, Platform};

#[tokio::test]
async fn probes_tell_what_runs() {
    let Some(options) = common::options() else { return };
    // Other tests and other kilns probe at the same time: this label tells ours.
    let mark = (common::TEST_LABEL.to_owned(), format!("probes-{}", std::process::id()));
    let label = format!("{}={}", mark.0, mark.1);
    let engine = BollardEngine::connect(&ConnectOptions { container_labels: [mark].into(), ..options }).await.unwrap();
    let all: Vec<Platform> = Platform::all().collect();
    emulation::probe(&engine, &all).await.unwrap();
    let three: Vec<Platform> = [Arch::Amd64, Arch::I386, Arch::Arm64].map(Platform::linux).into();
    let start = Instant::now();
    let results = emulation::probe(&engine, &three).await.unwrap();
    eprintln!("{results:?} in {:?}", start.elapsed());
    let own = Platform::linux(engine.info().arch);
    assert!(results.contains(&(own, ProbeResult::Native)), "{results:?}");
    let left = engine.containers_with_label(&label).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn the_toolbox_is_filled_once_by_many() {
    let Some(engine) = common::engine().await else { return };
    let image = common::shell_image(&engine).await;
    let content = format!("certificate {}", std::process::id());
    let files = [ToolFile { path: "etc/ca.crt".to_owned(), mode: 0o444, bytes: content.clone().into_bytes() }];
    let (a, b) = futures::join!(toolbox::ensure_toolbox(&engine, &files), toolbox::ensure_toolbox(&engine, &files));
    let volume = a.unwrap();
    assert_eq!(b.unwrap(), volume);
    let start = Instant::now();
    assert_eq!(toolbox::ensure_toolbox(&engine, &files).await.unwrap(), volume);
    eprintln!("toolbox at hand in {:?}", start.elapsed());

    let line = "cat /dev/kiln/etc/ca.crt; echo; touch /dev/kiln/x 2>/dev/null && echo writable; uname -m";
    let argv = toolbox::wrap(engine.info().arch, Arch::I386, ["sh", "-c", line].map(str::to_owned).into());
    let mut step = spec(&image.id, image.platform, &[]);
    step.argv = argv;
    step.mounts = vec![toolbox::mount(&volume)];
    let ran = run(&engine, &step).await;
    let machine = if engine.info().arch == Arch::Amd64 { "i686" } else { image.platform.arch.machine() };
    assert_eq!((ran.exit.code, ran.out.as_str()), (0, format!("{content}\n{machine}\n").as_str()), "{}", ran.err);

    let commit = CommitSpec { config: image.config.clone(), ..CommitSpec::default() };
    let committed = engine.commit(&ran.id, &commit).await.unwrap();
    engine.remove_container(&ran.id).await.unwrap();
    let bare = engine.create_container(&spec(&committed, image.platform, &["/none"])).await.unwrap();
    assert_eq!(engine.stat(&bare, "/dev/kiln").await.unwrap(), None, "the mount point leaves nothing behind");
    engine.remove_container(&bare).await.unwrap();
    engine.remove_image(&committed.0).await.unwrap();

    // A crash before the seal: the volume is there, half filled, and is filled again.
    engine.remove_volume(&format!("{volume}-sealed")).await.unwrap();
    assert_eq!(toolbox::ensure_toolbox(&engine, &files).await.unwrap(), volume);
    for name in [format!("{volume}-sealed"), volume] {
        engine.remove_volume(&name).await.unwrap();
    }
}

#[tokio::test]
async fn handlers_are_installed_and_removed() {
    let Some(engine) = common::engine().await else { return };
    let Ok(name) = std::env::var("KILN_TEST_QEMU_IMAGE") else {
        eprintln!("SKIPPED: set KILN_TEST_QEMU_IMAGE to an image with /bin/sh and qemu-*-static to run this test");
        return;
    };
    let image = engine.inspect_image(&name).await.unwrap().expect("the QEMU image").id;
    let platforms: Vec<Platform> =
        [Arch::I386, Arch::Riscv64, Arch::S390x, Arch::Ppc64le, Arch::ArmV7, Arch::ArmV6].map(Platform::linux).into();
    // A handler without F, as `qemu-user-binfmt` and old installers leave them: it works on the machine only.
    let line = r"dir=/proc/sys/fs/binfmt_misc; mount -t binfmt_misc none $dir
        nsenter --mount=/proc/$PPID/ns/mnt sh -c '[ -e $0/register ] || mount -t binfmt_misc none $0' $dir
        printf %s ':kiln-test-stale:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xf3\x00::/nowhere:' > $dir/register";
    let maker = spec(&image, Platform::linux(engine.info().arch), &["sh", "-c", line]);
    let maker = engine.create_host_container(&maker).await.unwrap();
    engine.start_container(&maker).await.unwrap();
    assert_eq!(engine.wait_container(&maker).await.unwrap().code, 0);
    engine.remove_container(&maker).await.unwrap();
    let start = Instant::now();
    let outcome = emulation::install(&engine, &image, &platforms).await.unwrap();
    eprintln!("{outcome:?} in {:?}", start.elapsed());
    assert_eq!(outcome[0], (platforms[0], Installed::RunsNatively));
    let Installed::Registered { replaced, .. } = &outcome[1].1 else { panic!("{outcome:?}") };
    assert_eq!(replaced, &["kiln-test-stale"]);
    let again = emulation::install(&engine, &image, &platforms).await.unwrap();
    assert!(matches!(again[1].1, Installed::AlreadyThere { .. }), "{again:?}");
    let status = emulation::status(&engine, Some(&image)).await.unwrap();
    eprintln!("{status:#?}");
    let ours = |status: &emulation::Status| {
        let list = &status.handlers.as_ref().unwrap().list;
        list.iter().filter(|handler| handler.is_ours()).map(|handler| handler.name.clone()).collect::<Vec<_>>()
    };
    let installed = outcome.iter().any(|(_, outcome)| matches!(outcome, Installed::Registered { .. }));
    assert!(!installed || ours(&status).contains(&"kiln-riscv64".to_owned()));
    let removed = emulation::uninstall(&engine, &image, Some(&platforms)).await.unwrap();
    assert!(!installed || removed.contains(&"kiln-s390x".to_owned()), "{removed:?}");
    let status = emulation::status(&engine, Some(&image)).await.unwrap();
    assert!(!ours(&status).contains(&"kiln-riscv64".to_owned()));
    let missing = common::shell_image(&engine).await;
    let error = emulation::install(&engine, &missing.id, &platforms[1..]).await.unwrap_err();
    assert!(matches!(&error, EngineError::Emulation { reason, .. } if reason.contains("qemu-riscv64")), "{error:?}");
}

#[tokio::test]
async fn what_a_dead_kiln_left_is_swept() {
    let Some(options) = common::options() else { return };
    let host = format!("test-{}", std::process::id());
    let connect = |pid: u32| {
        let owner = (labels::OWNER.to_owned(), sweep::owner(&host, pid, 1));
        ConnectOptions { container_labels: [owner].into(), ..options.clone() }
    };
    let (dead, alive) =
        (BollardEngine::connect(&connect(1)).await.unwrap(), BollardEngine::connect(&connect(2)).await.unwrap());
    let image = common::shell_image(&dead).await;
    let left = dead.create_container(&spec(&image.id, image.platform, &["sleep", "60"])).await.unwrap();
    dead.start_container(&left).await.unwrap();
    let kept = alive.create_container(&spec(&image.id, image.platform, &["sleep", "60"])).await.unwrap();
    let this = ThisHost { id: &host, alive: &|pid, _| pid == 2, now: 0 };
    let removed = sweep::sweep(&alive, &this).await.unwrap();
    assert_eq!(removed.iter().map(|container| &container.id).collect::<Vec<_>>(), [&left]);
    alive.remove_container(&kept).await.unwrap();
}
