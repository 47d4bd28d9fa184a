//! The fake engine behaves like a daemon where it matters, and kiln's own parts work on it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kiln_docker::sweep::{self, ThisHost};
use kiln_docker::toolbox::{self, ToolFile};
use kiln_docker::{
    CommitSpec, ContainerSpec, Engine, EngineError, ImageId, MountSpec, NetworkSpec, PullPolicy, VolumeSource, labels,
};
use kiln_graph::{Arch, ImageConfig, Platform};
use kiln_testkit::{FakeEngine, Files, Outcome};

const ARM64: Platform = Platform::linux(Arch::Arm64);

fn spec(image: &ImageId, line: &str) -> ContainerSpec {
    ContainerSpec {
        argv: line.split(' ').map(str::to_owned).collect(),
        cwd: "/".to_owned(),
        network: NetworkSpec::Bridge,
        ..ContainerSpec::idle(image.clone(), ARM64, BTreeMap::new())
    }
}

#[tokio::test]
async fn a_step_runs_writes_and_is_committed() {
    let engine = FakeEngine::default();
    let base = engine.add_image("alpine", ARM64, ImageConfig::default(), Files::new());
    engine.on_run(|step| match step.line().as_str() {
        "build it" => {
            step.files.write("/out/app", "binary");
            step.volume("/cache").unwrap().write("/hit", "1");
            Outcome::default().out("one\n").err("two\n")
        }
        _ => Outcome::exit(127),
    });
    let image = engine.resolve_image("alpine", ARM64, PullPolicy::Missing, &|_| {}).await.unwrap();
    assert_eq!(image.id, base);
    let mut step = spec(&base, "build it");
    step.mounts = vec![MountSpec {
        target: "/cache".to_owned(),
        source: VolumeSource::Volume("cache".to_owned()),
        readonly: false,
    }];
    let id = engine.create_container(&step).await.unwrap();
    let logs = engine.attach(&id).await.unwrap();
    engine.start_container(&id).await.unwrap();
    let logs: Vec<_> = logs.try_collect().await.unwrap();
    assert_eq!(
        logs.iter().map(|chunk| (chunk.stderr, &chunk.bytes[..])).collect::<Vec<_>>(),
        [(false, &b"one\n"[..]), (true, &b"two\n"[..])]
    );
    assert_eq!(engine.wait_container(&id).await.unwrap().code, 0);
    let commit = CommitSpec { labels: [("kiln.key".to_owned(), "k".to_owned())].into(), ..CommitSpec::default() };
    let made = engine.commit(&id, &commit).await.unwrap();
    let listed = engine.images_with_label("kiln.key=k").await.unwrap();
    assert_eq!((listed.len(), &listed[0].id, listed[0].layers.len()), (1, &made, 2));
    let chunks: Vec<_> = engine.download(&id, "/out/app").await.unwrap().collect().await;
    assert_eq!(chunks.len(), 1);
    engine.remove_container(&id).await.unwrap();
    assert_eq!(engine.image_files(&made).unwrap().text("/out/app").as_deref(), Some("binary"));
    assert_eq!(engine.volume_files("cache").unwrap().text("/hit").as_deref(), Some("1"));
    assert_eq!((engine.count("create"), engine.container_count()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_long_step_can_be_stopped() {
    let engine = FakeEngine::default();
    let base = engine.add_image("alpine", ARM64, ImageConfig::default(), Files::new());
    engine.on_run(|_| Outcome::exit(0).takes(Duration::from_hours(1)));
    let id = engine.create_container(&spec(&base, "sleep")).await.unwrap();
    engine.start_container(&id).await.unwrap();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        engine.stop_container(&id, 1).await
    };
    let (exit, stopped) = futures::join!(engine.wait_container(&id), stop);
    stopped.unwrap();
    assert_eq!(exit.unwrap().code, 143);
}

#[tokio::test]
async fn faults_strike_once() {
    let engine = FakeEngine::default();
    let base = engine.add_image("alpine", ARM64, ImageConfig::default(), Files::new());
    engine.fail_next("create", || EngineError::NoSpace { action: "creating".to_owned() });
    assert!(matches!(engine.create_container(&spec(&base, "x")).await, Err(EngineError::NoSpace { .. })));
    engine.create_container(&spec(&base, "x")).await.unwrap();
}

#[tokio::test]
async fn the_toolbox_and_the_sweep_work_on_it() {
    let engine = FakeEngine::default();
    let files = [ToolFile { path: "ca.crt".to_owned(), mode: 0o644, bytes: b"pem".to_vec() }];
    engine.fail_next("upload", || EngineError::NoSpace { action: "copying".to_owned() });
    toolbox::ensure_toolbox(&engine, &files).await.unwrap_err();
    assert_eq!(engine.container_count(), 0, "a failed filling leaves no lock behind");
    let volume = toolbox::ensure_toolbox(&engine, &files).await.unwrap();
    assert_eq!(engine.volume_files(&volume).unwrap().text("/ca.crt").as_deref(), Some("pem"));
    engine.clear_calls();
    toolbox::ensure_toolbox(&engine, &files).await.unwrap();
    assert_eq!(engine.calls().len(), 1, "{:?}", engine.calls());

    let base = engine.add_image("alpine", ARM64, ImageConfig::default(), Files::new());
    for pid in [1, 2] {
        let mut step = spec(&base, "x");
        step.labels.insert(labels::OWNER.to_owned(), sweep::owner("here", pid, 5));
        engine.create_container(&step).await.unwrap();
    }
    let host = ThisHost { id: "here", alive: &|pid, start| (pid, start) == (2, 5), now: 0 };
    assert_eq!(sweep::sweep(&engine, &host).await.unwrap().len(), 1);
    assert_eq!(engine.container_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_lock_of_a_dead_kiln_is_broken() {
    let engine = FakeEngine::default();
    let files = [ToolFile { path: "ca.crt".to_owned(), mode: 0o644, bytes: b"pem".to_vec() }];
    let volume = toolbox::ensure_toolbox(&engine, &files).await.unwrap();
    engine.remove_volume(&format!("{volume}-sealed")).await.unwrap();
    let base = engine.add_image("alpine", ARM64, ImageConfig::default(), Files::new());
    let mut dead = spec(&base, "x");
    dead.name = Some(volume.clone());
    dead.labels.insert(labels::TOOLBOX.to_owned(), "x".to_owned());
    engine.create_container(&dead).await.unwrap();
    assert_eq!(toolbox::ensure_toolbox(&engine, &files).await.unwrap(), volume);
    assert_eq!(engine.container_count(), 0);
}
