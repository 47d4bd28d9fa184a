//! Containers on a real daemon.

#![expect(clippy::print_stderr, reason = "a measured time is told")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use common::{archive, run, spec};
use futures::StreamExt;
use kiln_docker::{CommitSpec, Engine, EngineError, FileKind, MountSpec, VolumeSource};
use kiln_graph::ImageConfig;

#[tokio::test]
async fn output_exit_code_and_variables() {
    let Some(engine) = common::engine().await else { return };
    let image = common::shell_image(&engine).await;
    let mut spec = spec(&image.id, image.platform, &["sh", "-c", "echo out; echo err >&2; env; pwd; id -u; exit 7"]);
    spec.env = vec!["A=b c".to_owned(), "PATH".to_owned()];
    spec.cwd = "/tmp".to_owned();
    spec.argv[0] = "/bin/sh".to_owned();
    let ran = run(&engine, &spec).await;
    engine.remove_container(&ran.id).await.unwrap();
    engine.remove_container(&ran.id).await.unwrap();
    assert_eq!(ran.exit.code, 7);
    assert!(!ran.exit.oom);
    assert!(
        ran.out.starts_with("out\n") && ran.out.contains("A=b c\n") && ran.out.ends_with("/tmp\n0\n"),
        "{}",
        ran.out
    );
    assert_eq!(ran.err, "err\n");
}

#[tokio::test]
async fn a_command_that_is_not_there_cannot_start() {
    let Some(engine) = common::engine().await else { return };
    let image = common::shell_image(&engine).await;
    let id = engine.create_container(&spec(&image.id, image.platform, &["no-such-command"])).await.unwrap();
    let error = engine.start_container(&id).await.unwrap_err();
    engine.remove_container(&id).await.unwrap();
    assert!(matches!(&error, EngineError::CannotStart { message } if message.contains("no-such-command")), "{error:?}");
}

#[tokio::test]
async fn a_flood_of_output_arrives_whole_in_constant_memory() {
    const MEGABYTES: u64 = 300;
    let Some(engine) = common::engine().await else { return };
    let image = common::shell_image(&engine).await;
    let line = format!("yes 0123456789abcdef | head -c {}", MEGABYTES << 20);
    let id = engine.create_container(&spec(&image.id, image.platform, &["sh", "-c", &line])).await.unwrap();
    let mut logs = engine.attach(&id).await.unwrap();
    let before = resident();
    let start = Instant::now();
    engine.start_container(&id).await.unwrap();
    let (mut total, mut peak) = (0, 0);
    while let Some(chunk) = logs.next().await {
        total += chunk.unwrap().bytes.len() as u64;
        if total % (16 << 20) < 40_000 {
            peak = peak.max(resident());
        }
    }
    let took = start.elapsed();
    let exit = engine.wait_container(&id).await.unwrap();
    engine.remove_container(&id).await.unwrap();
    assert_eq!((exit.code, total), (0, MEGABYTES << 20));
    assert!(peak.saturating_sub(before) < 32 << 20, "grew from {before} to {peak}");
    assert!(took < Duration::from_mins(1), "{took:?}");
}

#[tokio::test]
async fn a_large_upload_takes_constant_memory() {
    const MEGABYTES: usize = 300;
    let Some(engine) = common::engine().await else { return };
    let image = common::shell_image(&engine).await;
    let id = engine.create_container(&spec(&image.id, image.platform, &["/x"])).await.unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_size((MEGABYTES as u64) << 20);
    header.set_mode(0o644);
    header.set_cksum();
    let block = Bytes::from(vec![1; 1 << 20]);
    let content = std::iter::once(Bytes::copy_from_slice(header.as_bytes()))
        .chain(std::iter::repeat_n(block, MEGABYTES))
        .chain([Bytes::from(vec![0; 1024])]);
    let before = resident();
    let peak = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&peak);
    let archive = futures::stream::iter(content.map(move |chunk| {
        seen.fetch_max(resident(), Ordering::Relaxed);
        Ok(chunk)
    }));
    engine.upload(&id, "/tmp", archive.boxed()).await.unwrap();
    let mut back = engine.download(&id, "/tmp/big").await.unwrap();
    let mut total = 0;
    while let Some(chunk) = back.next().await {
        total += chunk.unwrap().len();
        peak.fetch_max(resident(), Ordering::Relaxed);
    }
    engine.remove_container(&id).await.unwrap();
    assert!(total >= MEGABYTES << 20);
    let peak = peak.load(Ordering::Relaxed);
    assert!(peak.saturating_sub(before) < 48 << 20, "grew from {before} to {peak}");
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

#[tokio::test]
async fn lack_of_memory_is_told_from_a_kill() {
    let Some(engine) = common::engine().await else { return };
    let image = common::shell_image(&engine).await;
    let ran = run(&engine, &spec(&image.id, image.platform, &["sh", "-c", "kill -9 $$; sleep 0.1; exit 137"])).await;
    engine.remove_container(&ran.id).await.unwrap();
    assert_eq!((ran.exit.code, ran.exit.oom), (137, false));
}

#[tokio::test]
async fn files_go_in_and_out_of_a_container_that_never_ran() {
    let Some(engine) = common::engine().await else { return };
    let image = common::shell_image(&engine).await;
    let id = engine.create_container(&spec(&image.id, image.platform, &["/x"])).await.unwrap();
    engine.upload(&id, "/tmp", archive(&[("dir/a", 0o4755, b"alpha")])).await.unwrap();
    let stat = engine.stat(&id, "/tmp/dir/a").await.unwrap().unwrap();
    assert_eq!((stat.kind, stat.mode, stat.size), (FileKind::File, 0o4755, 5));
    assert_eq!(engine.stat(&id, "/tmp").await.unwrap().unwrap().mode, 0o1777);
    assert_eq!(engine.stat(&id, "/no/such").await.unwrap(), None);
    let link = engine.stat(&id, "/bin/sh").await.unwrap().unwrap();
    assert_eq!(link.kind, FileKind::Symlink);
    let mut stream = engine.download(&id, "/tmp/dir").await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend(chunk.unwrap());
    }
    let mut tar = tar::Archive::new(&bytes[..]);
    let names: Vec<_> = tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(names, ["dir/", "dir/a"]);
    let missing = engine.upload(&id, "/not/there", archive(&[])).await.unwrap_err();
    assert!(missing.is_not_found(), "{missing:?}");
    let missing = engine.download(&id, "/not/there").await.err().unwrap();
    assert!(missing.is_not_found(), "{missing:?}");
    engine.remove_container(&id).await.unwrap();
}

#[tokio::test]
async fn a_commit_has_the_configuration_that_was_asked_for() {
    let Some(engine) = common::engine().await else { return };
    let image = common::shell_image(&engine).await;
    let mut step = spec(&image.id, image.platform, &["sh", "-c", "echo hi > /made; ls -a / /dev > /listing"]);
    step.env = vec!["HTTP_PROXY=http://user:secret@proxy".to_owned()];
    step.mounts = vec![
        MountSpec { target: "/dev/kiln".to_owned(), source: VolumeSource::Tmpfs(Some(1 << 20)), readonly: true },
        MountSpec { target: "/tmp".to_owned(), source: VolumeSource::Tmpfs(None), readonly: false },
    ];
    let ran = run(&engine, &step).await;
    assert_eq!(ran.exit.code, 0, "{}{}", ran.out, ran.err);
    let mut config = ImageConfig { cmd: None, working_dir: "/srv".to_owned(), ..image.config.clone() };
    config.set_env("LANG", "C.UTF-8");
    let commit = CommitSpec {
        config: config.clone(),
        labels: [(common::TEST_LABEL.to_owned(), "commit".to_owned())].into(),
        comment: "test".to_owned(),
        name: None,
    };
    let id = engine.commit(&ran.id, &commit).await.unwrap();
    engine.remove_container(&ran.id).await.unwrap();
    let made = engine.inspect_image(&id.0).await.unwrap().unwrap();
    assert_eq!(made.config.env, config.env);
    assert_eq!((&made.config.cmd, &made.config.entrypoint), (&None, &None));
    assert_eq!(made.config.working_dir, "/srv");
    assert_eq!(made.layers.len(), image.layers.len() + 1);
    let listed = engine.images_with_label("kiln.test=commit").await.unwrap();
    assert!(listed.iter().any(|listed| listed.id == id), "a dangling image is listed: {listed:?}");
    let ran = run(&engine, &spec(&id, image.platform, &["sh", "-c", "cat /made /listing; ls /dev/kiln; env"])).await;
    engine.remove_container(&ran.id).await.unwrap();
    assert!(ran.out.starts_with("hi\n"), "{}", ran.out);
    assert!(!ran.out.contains("secret") && !ran.out.contains("HTTP_PROXY"), "{}", ran.out);
    assert!(ran.err.contains("/dev/kiln"), "no stub of the mount point stays: {}", ran.err);
    engine.remove_image(&id.0).await.unwrap();
    engine.remove_image(&id.0).await.unwrap();
}

#[tokio::test]
async fn volumes_are_listed_kept_and_removed() {
    let Some(engine) = common::engine().await else { return };
    let image = common::shell_image(&engine).await;
    let name = format!("kiln-test-{}", std::process::id());
    let labels = [(common::TEST_LABEL.to_owned(), name.clone())].into();
    engine.ensure_volume(&name, &labels).await.unwrap();
    engine.ensure_volume(&name, &labels).await.unwrap();
    let mut step = spec(&image.id, image.platform, &["sh", "-c", "head -c 100000 /dev/zero > /etc/x; ls /etc"]);
    step.mounts =
        vec![MountSpec { target: "/etc".to_owned(), source: VolumeSource::Volume(name.clone()), readonly: false }];
    let ran = run(&engine, &step).await;
    assert!(!ran.out.contains("passwd"), "the image's content is not copied: {}", ran.out);
    let conflict = engine.remove_volume(&name).await.unwrap_err();
    assert!(matches!(conflict, EngineError::Conflict { .. }), "{conflict:?}");
    let listed = engine.volumes_with_label(&format!("kiln.test={name}"), true).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].size.unwrap() >= 100_000 && listed[0].users == Some(1), "{listed:?}");
    engine.remove_container(&ran.id).await.unwrap();
    assert_eq!(engine.volumes_with_label(&format!("kiln.test={name}"), false).await.unwrap()[0].size, None);
    engine.remove_volume(&name).await.unwrap();
    engine.remove_volume(&name).await.unwrap();
}

#[tokio::test]
async fn a_stopped_container_ends_and_a_handshake_is_quick() {
    let Some(engine) = common::engine().await else { return };
    let image = common::shell_image(&engine).await;
    let id = engine.create_container(&spec(&image.id, image.platform, &["sleep", "600"])).await.unwrap();
    engine.start_container(&id).await.unwrap();
    let waited = async { engine.wait_container(&id).await.unwrap() };
    let stopped = async {
        let listed = engine.containers_with_label(common::TEST_LABEL).await.unwrap();
        assert!(listed.iter().any(|container| container.id == id && container.running));
        engine.stop_container(&id, 1).await.unwrap();
    };
    let (exit, ()) = futures::join!(waited, stopped);
    assert_eq!((exit.code, exit.oom), (137, false));
    engine.remove_container(&id).await.unwrap();
    let start = Instant::now();
    let again = common::engine().await.unwrap();
    let labelled = again.images_with_label("kiln.key").await.unwrap();
    again.inspect_image(&image.id.0).await.unwrap();
    let took = start.elapsed();
    eprintln!("handshake, listing and inspect in {took:?}");
    assert!(took < Duration::from_millis(500), "{took:?} for the handshake and {} images", labelled.len());
}
