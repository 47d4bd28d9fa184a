//! The base image: which one, and whether the programs can start on it.

use std::sync::Arc;

use futures::future::try_join_all;
use kiln_artifact::check::LibcNeed;
use kiln_artifact::elf::GlibcVersion;
use kiln_docker::{Contents, Engine, PullPolicy};
use kiln_graph::Platform;
use kiln_solver::BuildEvent;
use tokio::sync::mpsc::Sender;

use super::Program;
use crate::error::{CliError, Result};

/// An image of nothing.
pub(super) const SCRATCH: &str = "scratch";
/// The image for programs that need musl.
const ALPINE: &str = "alpine:3.20";
/// Images for programs that need glibc, with the version that they have.
const DEBIAN: [(&str, GlibcVersion); 2] =
    [("debian:bookworm-slim", GlibcVersion::new(2, 36)), ("debian:trixie-slim", GlibcVersion::new(2, 41))];
/// Bytes of a C library that are read for its version.
const MOST: u64 = 16 << 20;
/// What comes before the version in each glibc. Source: glibc's `csu/version.c`.
const VERSION: &[u8] = b"stable release version ";

/// What the base image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether there is a `/tmp`, for all platforms.
    pub(super) tmp: bool,
}

/// The base image for the programs if nobody names one.
pub(super) fn chosen(programs: &[Program]) -> Result<&'static str> {
    let mut needs: Vec<LibcNeed> = programs.iter().filter_map(|program| program.needs.libc()).collect();
    needs.retain(|need| *need != LibcNeed::Nothing);
    if needs.is_empty() {
        return Ok(SCRATCH);
    }
    if needs.iter().all(|need| matches!(need, LibcNeed::Musl { .. })) {
        return Ok(ALPINE);
    }
    if needs.iter().all(|need| matches!(need, LibcNeed::Glibc { .. })) {
        let floor = programs.iter().filter_map(|program| program.needs.glibc_floor()).max();
        let fits = DEBIAN.iter().find(|(_, version)| floor.is_none_or(|floor| floor <= *version));
        return Ok(fits.unwrap_or(&DEBIAN[DEBIAN.len() - 1]).0);
    }
    let list: Vec<String> =
        programs.iter().map(|program| format!("{} needs {}", program.platform, program.needs)).collect();
    Err(CliError::Missing {
        problem: format!("no base image fits all the programs: {}", list.join("; ")),
        hint: "build them with the same recipe, or name an image with base in [release.image]".to_owned(),
    })
}

/// Looks into the base image of each platform: what a program needs to start must be there.
pub(super) async fn look(
    engine: &Arc<dyn Engine>,
    base: &str,
    programs: &[Program],
    events: &Sender<BuildEvent>,
) -> Result<Found> {
    if base == SCRATCH {
        programs.iter().try_for_each(starts_on_nothing)?;
        return Ok(Found { tmp: false });
    }
    let found = try_join_all(programs.iter().map(|program| look_at(engine, base, program, events))).await?;
    Ok(Found { tmp: found.iter().all(|found| found.tmp) })
}

/// On scratch there is no loader.
fn starts_on_nothing(program: &Program) -> Result<()> {
    let Some(interpreter) = program.inspection.elf().and_then(|facts| facts.interpreter.as_deref()) else {
        return Ok(());
    };
    Err(CliError::Missing {
        problem: format!(
            "the program for {} cannot start on scratch: it needs {} ({interpreter})",
            program.platform, program.needs
        ),
        hint: "leave base in [release.image] to kiln, or name an image that has it; scratch is for static programs"
            .to_owned(),
    })
}

async fn look_at(
    engine: &Arc<dyn Engine>,
    base: &str,
    program: &Program,
    events: &Sender<BuildEvent>,
) -> Result<Found> {
    let platform = program.platform;
    let said = std::sync::atomic::AtomicBool::new(false);
    let progress = |_| {
        if !said.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let _ = events.try_send(BuildEvent::Notice { platform: Some(platform), text: format!("pulling {base}") });
        }
    };
    let image = engine.resolve_image(base, platform, PullPolicy::Missing, &progress).await;
    let image = image.map_err(|error| CliError::Image {
        place: None,
        error,
        around: Some("name another image with base in [release.image]"),
    })?;
    let contents = Contents::open(engine, image.id, platform).await?;
    let judged = judge(&contents, base, program).await;
    contents.close().await?;
    judged
}

/// Holds what the program needs against what the image has.
async fn judge(contents: &Contents, base: &str, program: &Program) -> Result<Found> {
    let tmp = contents.find("/tmp").await?.is_some();
    let Some(interpreter) = program.inspection.elf().and_then(|facts| facts.interpreter.clone()) else {
        return Ok(Found { tmp });
    };
    let Some((loader, _)) = contents.find(&interpreter).await? else {
        return Err(no_loader(base, program, &interpreter));
    };
    if let (Some(needed), Some((folder, _))) = (program.needs.glibc_floor(), loader.rsplit_once('/')) {
        let library = contents.read(&format!("{folder}/libc.so.6"), MOST).await?;
        if let Some(there) = library.as_deref().and_then(version_of)
            && there < needed
        {
            return Err(too_old(base, program.platform, (needed, there)));
        }
    }
    Ok(Found { tmp })
}

fn no_loader(base: &str, program: &Program, interpreter: &str) -> CliError {
    let (need, image) = match program.needs.libc() {
        Some(LibcNeed::Musl { .. }) => ("musl", "an image with musl, such as alpine"),
        Some(LibcNeed::Glibc { .. }) => {
            ("glibc", "an image with glibc, such as debian or gcr.io/distroless/base-debian12")
        }
        _ => ("a C library", "an image that has it"),
    };
    CliError::Missing {
        problem: format!(
            "the program for {} cannot start on {base}: it needs {need}, and the image has no {interpreter}",
            program.platform
        ),
        hint: format!("name {image} with base in [release.image], or leave the choice to kiln"),
    }
}

fn too_old(base: &str, platform: Platform, (needed, there): (GlibcVersion, GlibcVersion)) -> CliError {
    CliError::Missing {
        problem: format!(
            "the program for {platform} cannot start on {base}: it needs glibc {needed}, and the image has {there}"
        ),
        hint: "name a newer image with base in [release.image], or build on an older one: `[build] base`".to_owned(),
    }
}

/// The version of a glibc.
fn version_of(library: &[u8]) -> Option<GlibcVersion> {
    let at = library.windows(VERSION.len()).position(|window| window == VERSION)? + VERSION.len();
    let number = library[at..].split(|byte| !byte.is_ascii_digit() && *byte != b'.').next()?;
    std::str::from_utf8(number).ok()?.trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glibc_says_its_version() {
        let text = b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u13) stable release version 2.36.\nCopyright";
        assert_eq!(version_of(text), Some(GlibcVersion::new(2, 36)));
        assert_eq!((version_of(b"musl"), version_of(b"stable release version x")), (None, None));
    }
}
