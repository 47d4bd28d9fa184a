//! What only the merged settings can show to be wrong: artifacts in each other's way, files that do not exist.

use std::collections::BTreeMap;
use std::path::Path;

use kiln_graph::Platform;

use crate::config::Config;
use crate::error::{ConfigError, Place};
use crate::facts::ProjectFacts;
use crate::key::Section;
use crate::kind::{Kind, RECIPES, Value};
use crate::suggest::nearest;
use crate::view::{View, is_local};

/// The settings that name files which must exist.
const FILES: [(Section, &str); 8] = [
    (Section::Project, "entry"),
    (Section::Project, "requirements"),
    (Section::Project, "icon"),
    (Section::Project, "data"),
    (Section::Build, "recipe"),
    (Section::Network, "ca-certificates"),
    (Section::Test, "requirements"),
    (Section::Release, "changelog"),
];

/// Checks that every platform has an artifact name, and one of its own.
pub(crate) fn artifacts(config: &Config) -> Result<(), ConfigError> {
    let place = |platform| {
        config
            .in_force(Section::Build, "artifact", Some(platform))
            .and_then(|assignment| assignment.provenance.place.clone())
            .unwrap_or_else(|| Place::Found("default".to_owned()))
    };
    let mut names: BTreeMap<String, Vec<Platform>> = BTreeMap::new();
    for platform in config.resolved().build.platforms {
        let settings = config.for_platform(platform);
        if settings.build.artifact.uses_version() && settings.project.version.is_none() {
            return Err(ConfigError::NoVersion { place: place(platform) });
        }
        names.entry(settings.artifact).or_default().push(platform);
    }
    match names.into_iter().find(|(_, platforms)| platforms.len() > 1) {
        Some((name, platforms)) => Err(ConfigError::SameArtifact { place: place(platforms[0]), name, platforms }),
        None => Ok(()),
    }
}

/// Checks that the files exist that the settings name, for the platforms that are built.
pub(crate) fn files(config: &Config, facts: &ProjectFacts, exists: &dyn Fn(&Path) -> bool) -> Result<(), ConfigError> {
    let platforms = config.resolved().build.platforms.into_iter().map(Some);
    for platform in std::iter::once(None).chain(platforms) {
        let view = View { config, platform };
        for (section, name) in FILES {
            let Some(assignment) = view.assignment(section, name) else { continue };
            let paths: Vec<&str> = match (&assignment.key.kind, &assignment.value) {
                (Kind::Recipe, Value::Text(text)) if RECIPES.contains(&text.as_str()) => continue,
                (Kind::Requirements, Value::List(_)) => continue,
                (Kind::Requirements, Value::Text(text)) if is_local(text) => continue,
                (_, Value::Text(path)) => vec![path],
                (_, Value::List(items)) => {
                    items.iter().filter_map(|item| item.split_once('=')).map(|(source, _)| source).collect()
                }
                _ => continue,
            };
            let is_pattern = |path: &str| path.contains(['*', '?', '[']);
            if let Some(path) = paths.into_iter().find(|path| !is_pattern(path) && !exists(Path::new(path))) {
                return Err(ConfigError::NoSuchFile {
                    place: assignment.provenance.place.clone().unwrap_or_else(|| Place::Found("default".to_owned())),
                    key: assignment.dotted(),
                    path: path.to_owned(),
                    suggestion: nearest(path, facts.files.iter().map(String::as_str)).map(Into::into),
                });
            }
        }
    }
    Ok(())
}
