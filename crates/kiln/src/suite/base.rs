//! Where the Python of a cell comes from: an image that has it, the base image or its packages, or Python's source.

use std::sync::Arc;

use futures::future::try_join_all;
use kiln_config::{PlatformSettings, PythonImages};
use kiln_docker::{Engine, EngineError, PullPolicy};
use kiln_graph::Platform;
use kiln_solver::BuildEvent;
use tokio::sync::mpsc::Sender;

use super::Cell;
use crate::error::Result;

/// What a cell's stages stand on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// The image.
    pub(crate) image: String,
    /// The source that Python is built from, if neither the image nor its packages have it.
    pub(crate) source: Option<&'static Source>,
    /// Whether the image is one of a version of Python, rather than the project's base image.
    is_pythons: bool,
}

impl Base {
    /// An image that has the Python, in it or as a package.
    #[cfg(test)]
    pub(crate) fn of_image(image: &str) -> Self {
        Self { image: image.to_owned(), source: None, is_pythons: true }
    }

    /// In a few words for people.
    pub(crate) fn described(&self) -> String {
        match self.source {
            Some(source) => format!("{}, if need be built from the source of {}", self.image, source.version),
            None if self.is_pythons => format!("image {}", self.image),
            None => format!("base image {} and its packages", self.image),
        }
    }
}

/// A release of Python's source, pinned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    version: &'static str,
    /// SHA-256 of its `.tgz`.
    pub(crate) sha256: &'static str,
}

impl Source {
    /// Where it is published.
    pub(crate) fn url(&self) -> String {
        format!("https://www.python.org/ftp/python/{0}/Python-{0}.tgz", self.version)
    }
}

/// The last resort, by minor version; digests are those that python-build (of pyenv) has for these releases.
static SOURCES: [Source; 5] = [
    Source { version: "3.10.19", sha256: "a078fb2d7a216071ebbe2e34b5f5355dd6b6e9b0cd1bacc4a41c63990c5a0eec" },
    Source { version: "3.11.14", sha256: "563d2a1b2a5ba5d5409b5ecd05a0e1bf9b028cf3e6a6f0c87a5dc8dc3f2d9182" },
    Source { version: "3.12.12", sha256: "487c908ddf4097a1b9ba859f25fe46d22ccaabfb335880faac305ac62bffb79b" },
    Source { version: "3.13.9", sha256: "c4c066af19c98fb7835d473bebd7e23be84f6e9874d47db9e39a68ee5d0ce35c" },
    Source { version: "3.14.0", sha256: "88d2da4eed42fa9a5f42ff58a8bc8988881bd6c547e297e46682c2687638a851" },
];

/// Releases of distributions, and the Python among their packages.
const RELEASES: [(&str, &str); 8] = [
    ("debian:bullseye", "3.9"),
    ("debian:bookworm", "3.11"),
    ("debian:trixie", "3.13"),
    ("alpine:3.18", "3.11"),
    ("alpine:3.19", "3.11"),
    ("alpine:3.20", "3.12"),
    ("alpine:3.21", "3.12"),
    ("alpine:3.22", "3.12"),
];

/// The C library of an image, as its name tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Glibc,
    Musl,
}

impl Family {
    pub(crate) fn of(image: &str) -> Self {
        if ["alpine", "musl"].iter().any(|name| image.contains(name)) { Self::Musl } else { Self::Glibc }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
        }
    }
}

/// Whether a version fits one that is asked for: `3.12` takes any 3.12.
fn fits(version: &str, asked: &str) -> bool {
    version.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The Python among the packages of an image, if the image is a known release.
fn packaged(image: &str) -> Option<&'static str> {
    let is_of =
        |release: &str| image.strip_prefix(release).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
    RELEASES.iter().find(|(release, _)| is_of(release)).map(|(_, python)| *python)
}

/// Where a Python may come from, the best first; the last one is taken if the others are not there.
fn candidates(asked: Option<&str>, images: Option<&PythonImages>, base: &str) -> Vec<Base> {
    let own = Base { image: base.to_owned(), source: None, is_pythons: false };
    let Some(asked) = asked else { return vec![own] };
    let family = Family::of(base);
    let mut found = Vec::new();
    let of_python = |image: String| Base { image, source: None, is_pythons: true };
    match (images.and_then(|images| images.of(asked)), family) {
        (Some(image), _) => found.push(of_python(image)),
        (None, Family::Musl) => found.push(of_python(format!("python:{asked}-alpine"))),
        (None, Family::Glibc) => {
            let codename = ["bullseye", "trixie"].into_iter().find(|name| base.contains(name)).unwrap_or("bookworm");
            found.push(of_python(format!("python:{asked}-slim-{codename}")));
        }
    }
    let known = packaged(base);
    if known.is_some_and(|python| fits(python, asked)) {
        found.push(own);
        return found;
    }
    let others = RELEASES
        .iter()
        .rev()
        .filter(|(release, python)| Family::of(release) == family && fits(python, asked) && !base.starts_with(release));
    found.extend(others.map(|(release, _)| Base { image: (*release).to_owned(), ..own.clone() }));
    // Of a base that kiln does not know, the recipe sees what it has.
    let source = SOURCES.iter().find(|source| fits(source.version, asked));
    found.push(Base { source, ..own });
    found
}

/// Finds out for each cell where its Python comes from, and says it where that is not the usual place.
pub(crate) async fn choose(
    engine: &Arc<dyn Engine>,
    cells: impl Iterator<Item = (&Cell, &PlatformSettings, PullPolicy)>,
    events: &Sender<BuildEvent>,
) -> Result<()> {
    let choices = cells.map(|(cell, settings, pull)| async move {
        if cell.base.get().is_none() {
            let chosen = choose_one(engine, cell, settings, pull, events).await?;
            // Somebody else can only have come to the same end.
            let _ = cell.base.set(chosen);
        }
        Ok(())
    });
    try_join_all(choices).await.map(drop)
}

async fn choose_one(
    engine: &Arc<dyn Engine>,
    cell: &Cell,
    settings: &PlatformSettings,
    pull: PullPolicy,
    events: &Sender<BuildEvent>,
) -> Result<Base> {
    let platform = settings.platform;
    let base = cell.test.base.as_deref().or(settings.build.recipe.default_base()).unwrap_or("debian:bookworm");
    let mut candidates = candidates(cell.python.as_deref(), cell.test.images.as_ref(), base);
    let last = candidates.pop().unwrap_or_else(|| Base { image: base.to_owned(), source: None, is_pythons: false });
    let mut refused: Option<String> = None;
    for candidate in candidates {
        match is_there(engine, &candidate.image, platform, pull, events).await? {
            None => return Ok(said(cell, platform, candidate, refused, events).await),
            Some(why) => {
                refused.get_or_insert(why);
            }
        }
    }
    Ok(said(cell, platform, last, refused, events).await)
}

/// Says what is taken instead of the image that was looked for.
async fn said(
    cell: &Cell,
    platform: Platform,
    base: Base,
    refused: Option<String>,
    events: &Sender<BuildEvent>,
) -> Base {
    if let (Some(why), Some(python)) = (refused, &cell.python) {
        let text = format!("{why}: Python {python} comes from {}; {}", base.described(), super::OTHER_IMAGES);
        let _ = events.send(BuildEvent::Notice { platform: Some(platform), text }).await;
    }
    base
}

/// Why an image cannot be had, or nothing if it can.
async fn is_there(
    engine: &Arc<dyn Engine>,
    image: &str,
    platform: Platform,
    pull: PullPolicy,
    events: &Sender<BuildEvent>,
) -> Result<Option<String>> {
    let said = std::sync::atomic::AtomicBool::new(false);
    let progress = |_| {
        if !said.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let text = format!("pulling {image}");
            let _ = events.try_send(BuildEvent::Notice { platform: Some(platform), text });
        }
    };
    match engine.resolve_image(image, platform, pull, &progress).await {
        Ok(_) => Ok(None),
        Err(
            error @ (EngineError::ImageNotFound { .. }
            | EngineError::RegistryUnreachable { .. }
            | EngineError::Unauthorized { .. }),
        ) => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ways(asked: Option<&str>, images: Option<&PythonImages>, base: &str) -> Vec<String> {
        candidates(asked, images, base).iter().map(Base::described).collect()
    }

    #[test]
    fn images_come_first_then_the_base_then_other_releases_then_the_source() {
        assert_eq!(ways(None, None, "debian:bookworm"), ["base image debian:bookworm and its packages"]);
        assert_eq!(
            ways(Some("3.11"), None, "debian:bookworm"),
            ["image python:3.11-slim-bookworm", "base image debian:bookworm and its packages"]
        );
        assert_eq!(
            ways(Some("3.13"), None, "debian:bookworm-slim"),
            [
                "image python:3.13-slim-bookworm",
                "base image debian:trixie and its packages",
                "debian:bookworm-slim, if need be built from the source of 3.13.9"
            ]
        );
        assert_eq!(
            ways(Some("3.11"), None, "alpine:3.20"),
            [
                "image python:3.11-alpine",
                "base image alpine:3.19 and its packages",
                "base image alpine:3.18 and its packages",
                "alpine:3.20, if need be built from the source of 3.11.14"
            ]
        );
    }

    #[test]
    fn what_is_set_stands_for_the_usual_images() {
        let pattern = PythonImages::Pattern("mirror.example/python:{python}".to_owned());
        assert_eq!(ways(Some("3.12"), Some(&pattern), "alpine:3.20")[0], "image mirror.example/python:3.12");
        let table = PythonImages::Table(BTreeMap::from([("3.12".to_owned(), "mine".to_owned())]));
        assert_eq!(ways(Some("3.12"), Some(&table), "debian:bookworm")[0], "image mine");
        assert_eq!(ways(Some("3.13"), Some(&table), "debian:trixie")[0], "image python:3.13-slim-trixie");
    }

    #[test]
    fn versions_fit_by_whole_parts_and_releases_by_whole_names() {
        assert!(fits("3.12.12", "3.12") && fits("3.12", "3.12") && !fits("3.12", "3.1") && !fits("3.1", "3.12"));
        assert_eq!((packaged("alpine:3.20.3"), packaged("alpine:3.200"), packaged("mine")), (Some("3.12"), None, None));
        // A patch version that kiln has no source for is looked for in what is there.
        assert_eq!(
            ways(Some("3.12.4"), None, "mine").last().map(String::as_str),
            Some("base image mine and its packages")
        );
    }

    #[test]
    fn sources_are_pinned() {
        for source in &SOURCES {
            assert_eq!((source.sha256.len(), source.version.matches('.').count()), (64, 2), "{source:?}");
        }
        assert_eq!(SOURCES[2].url(), "https://www.python.org/ftp/python/3.12.12/Python-3.12.12.tgz");
    }
}
