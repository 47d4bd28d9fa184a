//! Registering QEMU with the daemon's kernel, and taking it out again.
//!
//! The flags are `PCF`. `F` opens QEMU now and keeps it open: it works in containers that do not contain it, and after
//! the image is gone. `C` (which implies `O`) runs set-user-id programs with their rights, without which `sudo` in an
//! emulated step fails. `P` hands over the program's `argv[0]` as it was given; QEMU before 6.0 does not know it, which
//! the probe notices, and then the handler is registered without.

use kiln_graph::{Arch, Platform};

use super::handlers::{self, Change, Handler, Handlers, PREFIX};
use super::{ProbeResult, probe};
use crate::{Engine, EngineError, ImageId, Result};

/// Flags to register with, best first.
const FLAGS: [&str; 2] = ["PCF", "CF"];

/// What was done for a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The processor runs it; nothing was registered.
    RunsNatively,
    /// Programs of the platform ran before.
    AlreadyThere {
        /// The handler, if it could be read.
        handler: Option<String>,
    },
    /// A handler was registered, and programs run now.
    Registered {
        /// Its name.
        handler: String,
        /// Handlers for the same architecture that did not work and were removed.
        replaced: Vec<String>,
    },
}

/// Makes `platforms` run on the daemon with the QEMU in `image`, and makes sure that they do.
///
/// `image` has `/bin/sh` and `/usr/bin/qemu-NAME-static`, or is of the kind of tonistiigi/binfmt, whose entrypoint
/// installs by itself. What runs already is left alone, so a second call changes nothing.
pub async fn install(
    engine: &dyn Engine,
    image: &ImageId,
    platforms: &[Platform],
) -> Result<Vec<(Platform, Installed)>> {
    let before = probe(engine, platforms).await?;
    let failing: Vec<(Platform, &str)> = before
        .iter()
        .filter_map(|(platform, result)| match result {
            ProbeResult::Failed { reason } => Some((*platform, reason.as_str())),
            _ => None,
        })
        .collect();
    for (platform, reason) in &failing {
        refuse_what_cannot_be(engine, *platform, reason)?;
    }
    let mut outcomes: Vec<(Platform, Installed)> = before
        .iter()
        .filter_map(|(platform, result)| match result {
            ProbeResult::Native => Some((*platform, Installed::RunsNatively)),
            ProbeResult::Emulated => Some((*platform, Installed::AlreadyThere { handler: None })),
            ProbeResult::Failed { .. } => None,
        })
        .collect();
    let wanted: Vec<Platform> = failing.iter().map(|(platform, _)| *platform).collect();
    if !wanted.is_empty() {
        outcomes.extend(match installer(engine, image).await? {
            Some(entrypoint) => install_by_entrypoint(engine, image, entrypoint, &wanted).await?,
            None => install_by_shell(engine, image, &wanted).await?,
        });
    }
    let position = |platform: &Platform| platforms.iter().position(|wanted| wanted == platform);
    outcomes.sort_by_key(|(platform, _)| position(platform));
    Ok(outcomes)
}

/// Removes kiln's handlers for `platforms`, or all of kiln's; their names. Others' handlers are never removed.
pub async fn uninstall(engine: &dyn Engine, image: &ImageId, platforms: Option<&[Platform]>) -> Result<Vec<String>> {
    let there = handlers::read(engine, image).await?;
    let ours: Vec<String> = there
        .list
        .into_iter()
        .filter(Handler::is_ours)
        .map(|handler| handler.name)
        .filter(|name| platforms.is_none_or(|list| list.iter().any(|platform| *name == handler_name(platform.arch))))
        .collect();
    if !ours.is_empty() {
        let changes: Vec<Change<'_>> = ours.iter().map(|name| Change::Remove(name)).collect();
        let left = handlers::change(engine, image, &changes).await?;
        if let Some(stubborn) = left.list.iter().find(|handler| ours.contains(&handler.name)) {
            return Err(EngineError::Emulation {
                platform: Platform::linux(stubborn.arch.unwrap_or(engine.info().arch)),
                reason: format!("the kernel keeps the handler `{}`", stubborn.name),
                hint: "look at the daemon machine's kernel log".to_owned(),
            });
        }
    }
    Ok(ours)
}

fn handler_name(arch: Arch) -> String {
    format!("{PREFIX}{}", arch.qemu_name())
}

/// Refuses where registering a handler is wrong or impossible, whatever the image.
fn refuse_what_cannot_be(engine: &dyn Engine, platform: Platform, reason: &str) -> Result<()> {
    let host = engine.info().arch;
    let error = |reason: String, hint: &str| Err(EngineError::Emulation { platform, reason, hint: hint.to_owned() });
    if (platform.arch, host) == (Arch::I386, Arch::Amd64) {
        return error(
            format!(
                "an amd64 machine runs it natively, and QEMU is never registered for it; but the kernel did not: {reason}"
            ),
            "use a kernel with CONFIG_IA32_EMULATION (and without `ia32_emulation=0`)",
        );
    }
    if platform.arch == host {
        return error(
            format!("it is the daemon's own platform, yet its programs fail: {reason}"),
            "look at the daemon's log",
        );
    }
    if engine.info().rootless {
        return error(
            "a rootless daemon may not change the kernel's handlers".to_owned(),
            "have the machine's administrator install emulation once (Debian: `apt install qemu-user-static`)",
        );
    }
    Ok(())
}

/// The entrypoint of an image that installs handlers by itself.
async fn installer(engine: &dyn Engine, image: &ImageId) -> Result<Option<Vec<String>>> {
    let inspected = engine.inspect_image(&image.0).await?;
    let entrypoint = inspected.and_then(|image| image.config.entrypoint);
    Ok(entrypoint
        .filter(|argv| argv.first().is_some_and(|program| program.ends_with("/binfmt") || program == "binfmt")))
}

async fn install_by_entrypoint(
    engine: &dyn Engine,
    image: &ImageId,
    entrypoint: Vec<String>,
    wanted: &[Platform],
) -> Result<Vec<(Platform, Installed)>> {
    let mut names: Vec<&str> = wanted.iter().map(|platform| platform.arch.oci().0).collect();
    names.dedup();
    let argv = entrypoint.into_iter().chain(["--install".to_owned(), names.join(",")]).collect();
    let ran = handlers::privileged(engine, image, argv).await?;
    let mut outcomes = Vec::new();
    for (platform, result) in probe(engine, wanted).await? {
        if let ProbeResult::Failed { reason } = result {
            return Err(EngineError::Emulation {
                platform,
                reason: format!("the QEMU image's installer ran, but {reason}; it said: {}", last_lines(&ran.output)),
                hint: "an old handler may be in the way, or the kernel forgets handlers with its last mount of binfmt_misc \
                       (Linux 6.7 and newer): run `sudo mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc` on the \
                       daemon's machine, or use kiln's own QEMU image"
                    .to_owned(),
            });
        }
        let handler = format!("qemu-{}", platform.arch.qemu_name());
        outcomes.push((platform, Installed::Registered { handler, replaced: Vec::new() }));
    }
    Ok(outcomes)
}

fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("; ")
}

async fn install_by_shell(
    engine: &dyn Engine,
    image: &ImageId,
    wanted: &[Platform],
) -> Result<Vec<(Platform, Installed)>> {
    let there = handlers::read_and_pin(engine, image).await.map_err(|error| for_platform(error, wanted[0]))?;
    let mut open: Vec<Platform> = wanted.to_vec();
    let mut reasons: Vec<(Platform, String)> = Vec::new();
    let mut outcomes = Vec::new();
    let mut stale = stale(&there, wanted);
    let replaced = stale.clone();
    for flags in FLAGS {
        let mut changes: Vec<Change<'_>> = stale.iter().map(|handler| Change::Remove(&handler.name)).collect();
        let mut names: Vec<&str> = Vec::new();
        for platform in &open {
            // arm/v6 and arm/v7 share a handler.
            if !names.contains(&platform.arch.qemu_name()) {
                names.push(platform.arch.qemu_name());
                changes.push(Change::Register { arch: platform.arch, flags });
            }
        }
        handlers::change(engine, image, &changes).await?;
        reasons.clear();
        for (platform, result) in probe(engine, &open).await? {
            match result {
                ProbeResult::Failed { reason } => reasons.push((platform, reason)),
                _ => outcomes.push((
                    platform,
                    Installed::Registered {
                        handler: handler_name(platform.arch),
                        replaced: names_for(&replaced, platform.arch),
                    },
                )),
            }
        }
        open = reasons.iter().map(|(platform, _)| *platform).collect();
        if open.is_empty() {
            return Ok(outcomes);
        }
        let now = handlers::read(engine, image).await?;
        stale = self::stale(&now, &open);
    }
    let (platform, reason) = reasons.swap_remove(0);
    // A handler that does not work is worse than none: the kernel's own message is clearer.
    let broken: Vec<Change<'_>> = stale.iter().filter(|h| h.is_ours()).map(|h| Change::Remove(&h.name)).collect();
    handlers::change(engine, image, &broken).await?;
    let (reason, hint) = if there.pinned {
        (format!("QEMU was registered, but {reason}"), "try another QEMU image with `--qemu-image`")
    } else {
        (
            "the kernel forgets handlers with its last mount of binfmt_misc, and the machine has none".to_owned(),
            "run `sudo mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc` on the daemon's machine",
        )
    };
    Err(EngineError::Emulation { platform, reason, hint: hint.to_owned() })
}

/// The handlers of architectures that do not run: they are in the way.
fn stale(there: &Handlers, platforms: &[Platform]) -> Vec<Handler> {
    let in_the_way = |handler: &&Handler| {
        handler.arch.is_some_and(|arch| platforms.iter().any(|platform| platform.arch.qemu_name() == arch.qemu_name()))
    };
    there.list.iter().filter(in_the_way).cloned().collect()
}

fn names_for(handlers: &[Handler], arch: Arch) -> Vec<String> {
    let same = |handler: &&Handler| handler.arch.is_some_and(|other| other.qemu_name() == arch.qemu_name());
    handlers.iter().filter(same).map(|handler| handler.name.clone()).collect()
}

/// Puts the platform into an error that is about the machine.
fn for_platform(error: EngineError, platform: Platform) -> EngineError {
    match error {
        EngineError::Emulation { reason, hint, .. } => EngineError::Emulation { platform, reason, hint },
        other => other,
    }
}
