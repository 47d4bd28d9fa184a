//! Merging: the layers in order, the value in force for each setting, and the typed settings that follow.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use kiln_graph::Platform;

use crate::error::{ConfigError, Place, Warning};
use crate::facts::ProjectFacts;
use crate::key::{Fallback, KEYS, Key, Section};
use crate::kind::{ARTIFACT, Kind, RECIPES, Value, split_words};
use crate::layer::{Layer, LayerKind, Provenance, Source};
use crate::raw;
use crate::read::{Assignment, dotted, has_tool_table, read};
use crate::settings::{
    Build, BuildNetwork, Cache, DataMapping, Emulation, Jobs, Lto, Mode, Network, Nuitka, PlatformSettings, Program,
    Project, Recipe, Requirements, Settings, Smoke, Toggle, Verify,
};
use crate::units::ByteSize;

/// The rank of the first layer that is given; defaults and what the project shows come before it.
const FIRST_RANK: usize = 2;

/// All layers, merged.
#[derive(Clone, Debug)]
pub struct Config {
    assignments: Vec<Assignment>,
    folder_digest: String,
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
        let config = Self { assignments, folder_digest: facts.folder_digest.clone() };
        config.check_artifacts()?;
        Ok(Loaded { config, warnings })
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
            cache: Cache {
                scope: view.text(Section::Cache, "scope").unwrap_or_default(),
                keep_size: view.size(Section::Cache, "keep-size"),
                max_size: view.size(Section::Cache, "max-size"),
            },
            emulation: Emulation {
                install: view.flag(Section::Emulation, "install"),
                qemu_image: view.text(Section::Emulation, "qemu-image"),
            },
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

    fn add_entries(&self, key: &'static Key, platform: Option<Platform>, entries: &mut Vec<Entry>) {
        let view = View { config: self, platform };
        let shown = |argument: Option<&str>, value: &Value, provenance: &Provenance| Entry {
            key: dotted(key, argument, platform),
            value: Some(masked(value).to_toml()),
            provenance: provenance.clone(),
        };
        if key.kind == Kind::Arguments {
            for (name, assignment) in view.arguments() {
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
    fn in_force(&self, section: Section, name: &str, platform: Option<Platform>) -> Option<&Assignment> {
        self.assignments
            .iter()
            .filter(|assignment| assignment.key.section == section && assignment.key.name == name)
            .filter(|assignment| assignment.platform.is_none() || assignment.platform == platform)
            .max_by_key(|assignment| (assignment.rank, assignment.platform.is_some()))
    }

    fn check_artifacts(&self) -> Result<(), ConfigError> {
        let place = |platform| {
            self.in_force(Section::Build, "artifact", Some(platform))
                .and_then(|assignment| assignment.provenance.place.clone())
                .unwrap_or_else(|| Place::Found("default".to_owned()))
        };
        let mut names: BTreeMap<String, Vec<Platform>> = BTreeMap::new();
        for platform in self.resolved().build.platforms {
            let settings = self.for_platform(platform);
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
    let mut found = vec![("name", Value::Text(facts.name()), of_pyproject("name").unwrap_or_else(folder))];
    if let (Some(version), Some(place)) = (pyproject.and_then(|facts| facts.version.clone()), of_pyproject("version"))
        && Kind::Version.check(&raw::Raw::bare(raw::Data::Text(version.clone()))).is_ok()
    {
        found.push(("version", Value::Text(version), place));
    }
    if let [entry] = facts.entry_candidates().as_slice() {
        found.push(("entry", Value::Text(entry.clone()), Place::Found(format!("{entry} exists"))));
    }
    let dependencies = pyproject.map(|facts| facts.dependencies.as_slice()).unwrap_or_default();
    if facts.has("requirements.txt") {
        let place = Place::Found("requirements.txt exists".to_owned());
        found.push(("requirements", Value::Text("requirements.txt".to_owned()), place));
    } else if let (false, Some(place)) = (dependencies.is_empty(), of_pyproject("dependencies")) {
        found.push(("requirements", Value::List(dependencies.to_vec()), place));
    }
    found
        .into_iter()
        .filter_map(|(name, value, place)| {
            Some(Assignment {
                key: Key::find(Section::Project, name)?,
                argument: None,
                platform: None,
                value,
                provenance: Provenance { layer: LayerKind::Detected, place: Some(place) },
                rank: 1,
            })
        })
        .collect()
}

/// The value with the passwords of its URLs replaced.
fn masked(value: &Value) -> Value {
    match value {
        Value::Text(text) => Value::Text(mask(text)),
        Value::List(items) => Value::List(items.iter().map(|item| mask(item)).collect()),
        other => other.clone(),
    }
}

fn mask(text: &str) -> String {
    let Some((before, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.find(['/', ' ', '?']).unwrap_or(rest.len());
    let masked = rest[..authority].rfind('@').map(|at| {
        let user = rest[..at].split(':').next().unwrap_or_default();
        let secret = if rest[..at].contains(':') { ":***" } else { "" };
        format!("{before}://{user}{secret}{}", mask(&rest[at..]))
    });
    masked.unwrap_or_else(|| format!("{before}://{}", mask(rest)))
}

/// The settings as one platform sees them, or the whole project.
struct View<'a> {
    config: &'a Config,
    platform: Option<Platform>,
}

impl View<'_> {
    fn assignment(&self, section: Section, name: &str) -> Option<&Assignment> {
        let found = self.config.in_force(section, name, self.platform)?;
        // The file and the module that start a program replace each other.
        let rival = match (section, name) {
            (Section::Project, "entry") => self.config.in_force(section, "module", self.platform),
            (Section::Project, "module") => self.config.in_force(section, "entry", self.platform),
            // A general base image does not fit a recipe that only this platform uses.
            (Section::Build, "base") => {
                self.config.in_force(section, "recipe", self.platform).filter(|recipe| recipe.platform.is_some())
            }
            _ => None,
        };
        let weight = |assignment: &Assignment| (assignment.rank, assignment.platform.is_some());
        let replaced = rival.is_some_and(|rival| match name {
            "base" => found.platform.is_none() && rival.rank >= found.rank,
            _ => weight(rival) > weight(found),
        });
        (!replaced).then_some(found)
    }

    /// The value in force, or the one that is derived from other settings.
    fn value(&self, section: Section, name: &str) -> Option<(Value, Provenance)> {
        if let Some(assignment) = self.assignment(section, name) {
            return Some((assignment.value.clone(), assignment.provenance.clone()));
        }
        let derived = |text: String, from: &str| {
            let place = Some(Place::Found(format!("from {from}")));
            Some((Value::Text(text), Provenance { layer: LayerKind::Detected, place }))
        };
        match (section, name) {
            (Section::Build, "base") => derived(self.recipe().default_base()?.to_owned(), "build.recipe"),
            (Section::Verify, "image") => derived(self.text(Section::Build, "base")?, "build.base"),
            (Section::Cache, "scope") => {
                let name = self.text(Section::Project, "name")?;
                let digest = &self.config.folder_digest;
                derived(if digest.is_empty() { name } else { format!("{name}-{digest}") }, "project.name")
            }
            _ => None,
        }
    }

    fn text(&self, section: Section, name: &str) -> Option<String> {
        match self.value(section, name)?.0 {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn list(&self, section: Section, name: &str) -> Vec<String> {
        match self.value(section, name) {
            Some((Value::List(items), _)) => items,
            _ => Vec::new(),
        }
    }

    fn toggle(&self, section: Section, name: &str) -> Toggle {
        match self.text(section, name).as_deref() {
            Some("yes") => Toggle::Yes,
            Some("no") => Toggle::No,
            _ => Toggle::Auto,
        }
    }

    fn flag(&self, section: Section, name: &str) -> bool {
        matches!(self.value(section, name), Some((Value::Bool(true), _)))
    }

    fn size(&self, section: Section, name: &str) -> ByteSize {
        self.text(section, name).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    fn recipe(&self) -> Recipe {
        match self.text(Section::Build, "recipe") {
            Some(name) if name == RECIPES[1] => Recipe::Debian,
            Some(path) if path != RECIPES[0] => Recipe::Dockerfile(path.into()),
            _ => Recipe::Alpine,
        }
    }

    /// The build arguments in force.
    fn arguments(&self) -> BTreeMap<String, &Assignment> {
        let mut in_force: BTreeMap<String, &Assignment> = BTreeMap::new();
        let relevant = |assignment: &&Assignment| assignment.platform.is_none() || assignment.platform == self.platform;
        for assignment in self.config.assignments.iter().filter(relevant) {
            let Some(name) = &assignment.argument else { continue };
            let weight = |assignment: &Assignment| (assignment.rank, assignment.platform.is_some());
            let entry = in_force.entry(name.clone()).or_insert(assignment);
            if weight(assignment) >= weight(entry) {
                *entry = assignment;
            }
        }
        in_force
    }

    fn project(&self) -> Project {
        let text = |name| self.text(Section::Project, name);
        Project {
            name: text("name").unwrap_or_default(),
            version: text("version"),
            program: text("entry").map(Program::Entry).or_else(|| text("module").map(Program::Module)),
            requirements: match self.value(Section::Project, "requirements") {
                Some((Value::Text(path), _)) => Requirements::File(path),
                Some((Value::List(items), _)) if !items.is_empty() => Requirements::List(items),
                _ => Requirements::None,
            },
            python: text("python"),
            data: self
                .list(Section::Project, "data")
                .iter()
                .filter_map(|item| item.split_once('='))
                .map(|(source, target)| DataMapping { source: source.to_owned(), target: target.to_owned() })
                .collect(),
            icon: text("icon"),
        }
    }

    fn nuitka(&self) -> Nuitka {
        let section = Section::Nuitka;
        Nuitka {
            version: self.text(section, "version"),
            mode: match self.text(section, "mode").as_deref() {
                Some("standalone") => Mode::Standalone,
                _ => Mode::Onefile,
            },
            plugins: self.list(section, "plugins"),
            lto: self.toggle(section, "lto"),
            jobs: match self.value(section, "jobs") {
                Some((Value::Integer(number), _)) => {
                    u16::try_from(number).ok().and_then(NonZeroU16::new).map_or(Jobs::Auto, Jobs::Count)
                }
                _ => Jobs::Auto,
            },
            static_libpython: self.toggle(section, "static-libpython"),
            compression: self.toggle(section, "compression"),
            extra_args: self.list(section, "extra-args"),
        }
    }

    fn build(&self) -> Build {
        let section = Section::Build;
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in self.list(section, "platforms").iter().filter_map(|text| text.parse().ok()) {
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        let artifact = self.text(section, "artifact").unwrap_or_default();
        Build {
            recipe: self.recipe(),
            base: self.text(section, "base"),
            packages: self.list(section, "packages"),
            platforms,
            output: self.text(section, "output").map(PathBuf::from).unwrap_or_default(),
            artifact: artifact.parse().expect("the pattern was checked when it was read"),
            before_build: self.list(section, "before-build"),
            target: self.text(section, "target"),
            args: self
                .arguments()
                .into_iter()
                .filter_map(|(name, assignment)| match &assignment.value {
                    Value::Text(value) => Some((name, value.clone())),
                    _ => None,
                })
                .collect(),
        }
    }

    fn network(&self) -> Network {
        let text = |name| self.text(Section::Network, name);
        Network {
            ca_certificates: text("ca-certificates").map(PathBuf::from),
            pip_index_url: text("pip-index-url"),
            pip_args: self.list(Section::Network, "pip-args"),
            apk_mirror: text("apk-mirror"),
            apt_mirror: text("apt-mirror"),
            http_proxy: text("http-proxy"),
            https_proxy: text("https-proxy"),
            no_proxy: text("no-proxy"),
            build_network: match text("build-network").as_deref() {
                Some("host") => BuildNetwork::Host,
                Some("none") => BuildNetwork::None,
                _ => BuildNetwork::Default,
            },
        }
    }

    fn verify(&self) -> Verify {
        let run = match self.value(Section::Verify, "run") {
            Some((Value::Bool(false), _)) => Smoke::Off,
            Some((Value::List(words), _)) => Smoke::Arguments(words),
            Some((Value::Text(text), _)) if text.contains(ARTIFACT) => Smoke::Shell(text),
            Some((Value::Text(text), _)) if text != "auto" => split_words(&text).map_or(Smoke::Auto, Smoke::Arguments),
            _ => Smoke::Auto,
        };
        let seconds = match self.value(Section::Verify, "timeout") {
            Some((Value::Integer(seconds), _)) => seconds,
            _ => 0,
        };
        Verify { run, timeout: Duration::from_secs(seconds), image: self.text(Section::Verify, "image") }
    }
}
