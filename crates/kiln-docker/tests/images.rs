//! Finding images by platform on a real daemon. `KILN_TEST_PULL` names an image that a registry in reach has for amd64,
//! 386 and arm64, and that nobody else uses on the daemon.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod common;

use std::sync::Mutex;
use std::time::Instant;

use common::spec;
use kiln_docker::driver::BollardEngine;
use kiln_docker::{CommitSpec, Engine, EngineError, Image, PullPolicy, Result, StoreKind};
use kiln_graph::{Arch, Platform};

const AMD64: Platform = Platform::linux(Arch::Amd64);
const I386: Platform = Platform::linux(Arch::I386);
const ARM64: Platform = Platform::linux(Arch::Arm64);

fn pullable() -> Option<String> {
    let name = std::env::var("KILN_TEST_PULL").ok();
    if name.is_none() {
        eprintln!("SKIPPED: set KILN_TEST_PULL to an image that can be pulled to run this test");
    }
    name
}

async fn resolve(engine: &BollardEngine, name: &str, platform: Platform, policy: PullPolicy) -> Result<Image> {
    engine.resolve_image(name, platform, policy, &|_| {}).await
}

#[tokio::test]
async fn each_platform_has_its_image_and_the_tag_stays() {
    let (Some(engine), Some(name)) = (common::engine().await, pullable()) else { return };
    let other = common::engine().await.unwrap();
    let progress = Mutex::new(Vec::new());
    let own = engine
        .resolve_image(&name, AMD64, PullPolicy::Always, &|step| progress.lock().unwrap().push(step))
        .await
        .unwrap();
    let (arm, x86) = futures::join!(
        resolve(&engine, &name, ARM64, PullPolicy::Missing),
        resolve(&other, &name, I386, PullPolicy::Missing)
    );
    let (arm, x86) = (arm.unwrap(), x86.unwrap());
    assert_eq!((own.platform, arm.platform, x86.platform), (AMD64, ARM64, I386));
    assert_ne!(arm.layers, x86.layers);
    assert!(own.config.env_value("PATH").is_some());
    if engine.info().store == StoreKind::Classic {
        assert_ne!(own.id, arm.id);
    }
    let tag = engine.inspect_image(&name).await.unwrap().unwrap();
    assert_eq!(tag.id, own.id, "the tag is what it was");
    for platform in [AMD64, ARM64, I386] {
        let start = Instant::now();
        let again = resolve(&engine, &name, platform, PullPolicy::Never).await.unwrap();
        eprintln!("{platform} at hand in {:?}", start.elapsed());
        let always = resolve(&engine, &name, platform, PullPolicy::Always).await.unwrap();
        assert_eq!((&again.id, &again.layers), (&always.id, &always.layers));
        // One for all of them, which a classic store remembers for one alone.
        let digest = engine.digest_now(&name).await;
        assert!(digest.as_deref().is_some_and(|digest| digest.starts_with("sha256:")), "{digest:?}");
        assert_eq!(always.digest_for(&name), digest.as_deref(), "{platform}");
    }
    assert_eq!(engine.digest_now(&format!("{name}-not-there")).await, None);
    assert_eq!(engine.inspect_image(&name).await.unwrap().unwrap().id, own.id, "the tag is still what it was");

    // What comes of a foreign platform keeps its platform.
    let id = engine.create_container(&spec(&arm.id, ARM64, &["/bin/true"])).await.unwrap();
    engine.upload(&id, "/", common::archive(&[("made", 0o644, b"x")])).await.unwrap();
    let commit = CommitSpec { config: arm.config.clone(), ..CommitSpec::default() };
    let committed = engine.commit(&id, &commit).await.unwrap();
    engine.remove_container(&id).await.unwrap();
    let made = engine.inspect_image(&committed.0).await.unwrap().unwrap();
    assert_eq!((made.platform, made.layers.len()), (ARM64, arm.layers.len() + 1));
    let next = engine.create_container(&spec(&committed, ARM64, &["/bin/true"])).await.unwrap();
    assert!(engine.stat(&next, "/made").await.unwrap().is_some());
    engine.remove_container(&next).await.unwrap();
    engine.remove_image(&committed.0).await.unwrap();
}

#[tokio::test]
async fn an_image_by_digest_has_its_platforms_too() {
    let (Some(engine), Some(name)) = (common::engine().await, pullable()) else { return };
    let own = resolve(&engine, &name, AMD64, PullPolicy::Missing).await.unwrap();
    let Some(digest) = own.repo_digests.iter().find(|digest| digest.contains('@')) else {
        panic!("no digest: {own:?}")
    };
    let arm = resolve(&engine, digest, ARM64, PullPolicy::Missing).await.unwrap();
    let own_again = resolve(&engine, digest, AMD64, PullPolicy::Missing).await.unwrap();
    assert_eq!((&own_again.layers, arm.platform), (&own.layers, ARM64));
    let named = engine.inspect_image(digest).await.unwrap().unwrap();
    assert_eq!(named.layers, own.layers, "the digest stands for what it did");
    assert_eq!(engine.inspect_image(&name).await.unwrap().unwrap().layers, own.layers, "and so does the tag");
    assert_eq!(resolve(&engine, digest, ARM64, PullPolicy::Never).await.unwrap().id, arm.id);
}

#[tokio::test]
async fn what_cannot_be_had_says_why() {
    let (Some(engine), Some(name)) = (common::engine().await, pullable()) else { return };
    let fail =
        async |name: &str, platform: Platform, policy| resolve(&engine, name, platform, policy).await.unwrap_err();
    let untagged = name.rsplit_once(':').map_or(name.as_str(), |(name, _)| name);
    for (name, platform, policy) in [
        (format!("{untagged}:kiln-no-such-tag"), AMD64, PullPolicy::Missing),
        (name.clone(), Platform::linux(Arch::Riscv64), PullPolicy::Missing),
        (name.clone(), Platform::linux(Arch::S390x), PullPolicy::Never),
        ("not a reference".to_owned(), AMD64, PullPolicy::Missing),
    ] {
        let error = fail(&name, platform, policy).await;
        eprintln!("{error}: {:?}", error.hint());
        assert!(matches!(error, EngineError::ImageNotFound { .. }), "{error:?}");
    }
    let error = fail("127.0.0.1:9/no/such:1", AMD64, PullPolicy::Missing).await;
    eprintln!("{error}");
    assert!(matches!(error, EngineError::RegistryUnreachable { .. }), "{error:?}");
}
