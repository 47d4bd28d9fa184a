//! Merging: the layers in order, the value in force for each setting, and the typed settings that follow.

use std::path::Path;

use kiln_graph::Platform;

use crate::check;
use crate::error::{ConfigError, Place, Warning};
use crate::facts::ProjectFacts;
use crate::key::{Fallback, KEYS, Key, Section};
use crate::kind::{Kind, Value};
use crate::layer::{Layer, LayerKind, Provenance, Source};
use crate::mask::masked;
use crate::raw;
use crate::read::{Assignment, dotted, has_tool_table, read};
use crate::settings::{Cache, Emulation, History, Lto, PlatformSettings, Settings, Toggle};
use crate::view::View;

/// The rank of the first layer that is given; defaults and what the project shows come before it.
const FIRST_RANK: usize = 2;

/// All layers, merged.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) folder_digest: String,
    has_project_file: bool,
}

/// A configuration, and what in it has no effect.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// In the order of the layers, and inside a file in that of the lines.
    pub warnings: Vec<Warning>,
}

/// A setting as `kiln config show` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The dotted key: `nuitka.lto`, `build.args.NAME`, `platform."linux/arm64".nuitka.lto`.
    pub key: String,
    /// The value as TOML, with passwords in URLs masked; nothing if it is unset.
    pub value: Option<String>,
    /// Where it comes from.
    pub provenance: Provenance,
}

impl Config {
    /// Reads and merges layers. Their kinds rank them; among several of one kind the later wins.
    ///
    /// Errors: the first thing that is wrong, in the order of the layers.
    pub fn load(layers: impl IntoIterator<Item = Layer>, facts: &ProjectFacts) -> Result<Loaded, ConfigError> {
        let mut layers: Vec<Layer> = layers.into_iter().collect();
        layers.sort_by_key(|layer| layer.kind);
        let mut warnings = Vec::new();
        ignore_tool_table(&mut layers, &mut warnings);
        let mut assignments = defaults();
        assignments.extend(detected(facts));
        for (index, layer) in layers.iter().enumerate() {
            let (read, more) = read(layer, FIRST_RANK + index)?;
            assignments.extend(read);
            warnings.extend(more);
        }
        let has_project_file = layers.iter().any(is_project_file);
        let config = Self { assignments, folder_digest: facts.folder_digest.clone(), has_project_file };
        check::artifacts(&config)?;
        Ok(Loaded { config, warnings })
    }

    /// Whether the project has settings in a file: a `kiln.toml`, or `[tool.kiln]` in a pyproject.toml.
    pub fn has_project_file(&self) -> bool {
        self.has_project_file
    }

    /// The settings of the whole project.
    pub fn resolved(&self) -> Settings {
        let view = View { config: self, platform: None };
        Settings {
            project: view.project(),
            nuitka: view.nuitka(),
            build: view.build(),
            network: view.network(),
            verify: view.verify(),
            test: view.test(),
            release: Box::new(view.release()),
            publish: view.publish(),
            cache: Cache {
                scope: view.text(Section::Cache, "scope").unwrap_or_default(),
                keep_size: view.size(Section::Cache, "keep-size"),
                max_size: view.size(Section::Cache, "max-size"),
                ccache_remote: view.text(Section::Cache, "ccache.remote-storage"),
                remote: view.list(Section::Cache, "remote"),
                sign_key: view.text(Section::Cache, "sign-key"),
                trusted_keys: view.list(Section::Cache, "trusted-keys"),
            },
            emulation: Emulation {
                install: view.flag(Section::Emulation, "install"),
                qemu_image: view.text(Section::Emulation, "qemu-image"),
                twin: view.twin(),
            },
            history: History {
                keep: view.number(Section::History, "keep"),
                minute_price: view.text(Section::History, "minute-price").and_then(|p| p.parse().ok()).unwrap_or(0.0),
                currency: view.text(Section::History, "currency").unwrap_or_default(),
            },
            ci: view.ci(),
        }
    }

    /// The settings for one platform, which need not be among those of `build.platforms`.
    pub fn for_platform(&self, platform: Platform) -> PlatformSettings {
        let view = View { config: self, platform: Some(platform) };
        let (project, nuitka, build) = (view.project(), view.nuitka(), view.build());
        let set = self.in_force(Section::Nuitka, "lto", Some(platform)).filter(|_| nuitka.lto != Toggle::Auto);
        PlatformSettings {
            platform,
            lto: Lto {
                enabled: nuitka.lto.or(Lto::policy(platform)),
                explicit: set.map(|assignment| assignment.provenance.clone()),
            },
            artifact: build.artifact.expand(&project.name, project.version.as_deref(), platform),
            project,
            nuitka,
            build,
            network: view.network(),
            verify: view.verify(),
            twin: view.twin(),
            runner: view.words(Section::Ci, "runner"),
        }
    }

    /// Every setting in force with where it comes from: first those of the whole project, in the order of [`crate::keys`],
    /// then those that are overridden for a platform.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + use<> {
        let mut entries = Vec::new();
        for key in KEYS {
            self.add_entries(key, None, &mut entries);
        }
        for platform in Platform::all() {
            for key in KEYS {
                self.add_entries(key, Some(platform), &mut entries);
            }
        }
        entries.into_iter()
    }

    /// Where the value of a dotted key that is in force comes from; for a platform, its override counts.
    pub fn provenance(&self, section: Section, name: &str, platform: Option<Platform>) -> Provenance {
        let view = View { config: self, platform };
        view.value(section, name).map_or(Provenance::DEFAULT, |(_, provenance)| provenance)
    }

    /// Checks that the files that the settings name exist: `exists` is asked about paths as they were set, relative to the
    /// project folder unless absolute. `facts` serves for suggestions.
    ///
    /// Errors: the first file that does not exist.
    pub fn check_files(&self, facts: &ProjectFacts, exists: impl Fn(&Path) -> bool) -> Result<(), ConfigError> {
        check::files(self, facts, &exists)
    }

    fn add_entries(&self, key: &'static Key, platform: Option<Platform>, entries: &mut Vec<Entry>) {
        let view = View { config: self, platform };
        let shown = |argument: Option<&str>, value: &Value, provenance: &Provenance| Entry {
            key: dotted(key, argument, platform),
            value: Some(masked(key, value).to_toml()),
            provenance: provenance.clone(),
        };
        if key.kind == Kind::Arguments {
            for (name, assignment) in view.arguments(key.section, key.name) {
                if platform == assignment.platform {
                    entries.push(shown(Some(&name), &assignment.value, &assignment.provenance));
                }
            }
            return;
        }
        if platform.is_some() {
            let in_force = view.assignment(key.section, key.name);
            if let Some(assignment) = in_force.filter(|assignment| assignment.platform.is_some()) {
                entries.push(shown(None, &assignment.value, &assignment.provenance));
            }
            return;
        }
        entries.push(match view.value(key.section, key.name) {
            Some((value, provenance)) => shown(None, &value, &provenance),
            None => Entry { key: key.dotted(), value: None, provenance: Provenance::DEFAULT },
        });
    }

    /// The assignment in force: the highest layer, and in it the platform's own before the general one.
    pub(crate) fn in_force(&self, section: Section, name: &str, platform: Option<Platform>) -> Option<&Assignment> {
        self.assignments
            .iter()
            .filter(|assignment| assignment.key.section == section && assignment.key.name == name)
            .filter(|assignment| assignment.platform.is_none() || assignment.platform == platform)
            .max_by_key(|assignment| (assignment.rank, assignment.platform.is_some()))
    }
}

/// Whether a layer is the project's file, and meant for kiln.
fn is_project_file(layer: &Layer) -> bool {
    match (layer.pyproject_path(), &layer.source) {
        (Some(path), Source::File { text, .. }) => has_tool_table(path, text),
        _ => layer.kind == LayerKind::Project,
    }
}

/// Takes a pyproject.toml away if there is a `kiln.toml`, with a warning if it had something to say.
fn ignore_tool_table(layers: &mut Vec<Layer>, warnings: &mut Vec<Warning>) {
    let own = layers.iter().find_map(|layer| match &layer.source {
        Source::File { path, .. } if layer.kind == LayerKind::Project && layer.pyproject_path().is_none() => {
            Some(path.clone())
        }
        _ => None,
    });
    let Some(used) = own else { return };
    layers.retain(|layer| {
        let (Some(path), Source::File { text, .. }) = (layer.pyproject_path(), &layer.source) else { return true };
        if has_tool_table(path, text) {
            warnings.push(Warning::ToolTableIgnored { ignored: path.to_owned(), used: used.clone() });
        }
        false
    });
}

/// The built-in defaults, from the table.
fn defaults() -> Vec<Assignment> {
    KEYS.iter()
        .filter_map(|key| match key.default {
            Fallback::Value(toml) => Some((key, toml)),
            Fallback::Derived(_) => None,
        })
        .filter_map(|(key, toml)| Some((key, key.kind.check(&raw::parse_value(toml)?).ok()?)))
        .filter(|(key, _)| key.kind != Kind::Arguments)
        .map(|(key, value)| Assignment {
            key,
            argument: None,
            platform: None,
            value,
            provenance: Provenance::DEFAULT,
            rank: 0,
        })
        .collect()
}

/// What follows from the project.
fn detected(facts: &ProjectFacts) -> Vec<Assignment> {
    let pyproject = facts.pyproject.as_ref();
    let of_pyproject =
        |fact| pyproject.and_then(|facts| facts.place(fact)).cloned().map(|location| Place::File(Box::new(location)));
    let folder = || Place::Found("name of the folder".to_owned());
    let mut found =
        vec![(Section::Project, "name", Value::Text(facts.name()), of_pyproject("name").unwrap_or_else(folder))];
    if let (Some(version), Some(place)) = (pyproject.and_then(|facts| facts.version.clone()), of_pyproject("version"))
        && Kind::Version.check(&raw::Raw::bare(raw::Data::Text(version.clone()))).is_ok()
    {
        found.push((Section::Project, "version", Value::Text(version), place));
    }
    if let [entry] = facts.entry_candidates().as_slice() {
        found.push((Section::Project, "entry", Value::Text(entry.clone()), Place::Found(format!("{entry} exists"))));
    }
    let dependencies = pyproject.map(|facts| facts.dependencies.as_slice()).unwrap_or_default();
    if facts.has("requirements.txt") {
        let place = Place::Found("requirements.txt exists".to_owned());
        found.push((Section::Project, "requirements", Value::Text("requirements.txt".to_owned()), place));
    } else if let (false, Some(place)) = (dependencies.is_empty(), of_pyproject("dependencies")) {
        found.push((Section::Project, "requirements", Value::List(dependencies.to_vec()), place));
    }
    for (fact, name) in
        [("description", "summary"), ("license", "license"), ("maintainers", "maintainer"), ("urls", "homepage")]
    {
        let known = pyproject.and_then(|facts| facts.about(fact));
        if let (Some(text), Some(place)) = (known, of_pyproject(fact))
            && let Some(key) = Key::find(Section::Release, name)
            && let Ok(value) = key.kind.check(&raw::Raw::bare(raw::Data::Text(text.to_owned())))
        {
            found.push((Section::Release, name, value, place));
        }
    }
    let documents = facts.documents();
    if !documents.is_empty() {
        let place = Place::Found(format!("{} exists", documents[0]));
        found.push((Section::Release, "documents", Value::List(documents), place));
    }
    if let Some(why) = facts.shows_pytest() {
        found.push((Section::Test, "command", Value::List(vec!["pytest".to_owned()]), Place::Found(why)));
    }
    if let Some(file) = facts.test_requirements() {
        let place = Place::Found(format!("{file} exists"));
        found.push((Section::Test, "requirements", Value::Text(file.to_owned()), place));
    } else if let Some((extra, list)) = pyproject.and_then(crate::Pyproject::test_extra) {
        let place = Place::Found(format!("`{extra}` in pyproject.toml"));
        found.push((Section::Test, "requirements", Value::List(list.to_vec()), place));
    }
    found
        .into_iter()
        .filter_map(|(section, name, value, place)| {
            Some(Assignment {
                key: Key::find(section, name)?,
                argument: None,
                platform: None,
                value,
                provenance: Provenance { layer: LayerKind::Detected, place: Some(place) },
                rank: 1,
            })
        })
        .collect()
}
