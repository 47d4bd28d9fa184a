//! The settings as one platform sees them: which value is in force, and the typed settings made of those values.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use kiln_graph::Platform;

use crate::config::Config;
use crate::error::Place;
use crate::key::Section;
use crate::kind::{ARTIFACT, RECIPES, Value, split_words};
use crate::layer::{LayerKind, Provenance};
use crate::read::Assignment;
use crate::settings::{
    BillForm, Build, BuildNetwork, Ci, DataMapping, Jobs, Mode, Network, Nuitka, Program, Project, Publish,
    PythonImages, Recipe, Release, ReleaseDepends, ReleaseImage, Requirements, SignWith, Smoke, Test, TestCommand,
    Toggle, Twin, Verify,
};
use crate::units::ByteSize;

/// The settings as one platform sees them, or the whole project.
pub(crate) struct View<'a> {
    pub(crate) config: &'a Config,
    pub(crate) platform: Option<Platform>,
}

impl View<'_> {
    pub(crate) fn assignment(&self, section: Section, name: &str) -> Option<&Assignment> {
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
    pub(crate) fn value(&self, section: Section, name: &str) -> Option<(Value, Provenance)> {
        if let Some(assignment) = self.assignment(section, name) {
            return Some((assignment.value.clone(), assignment.provenance.clone()));
        }
        let derived = |text: String, from: &str| {
            let place = Some(Place::Found(format!("from {from}")));
            Some((Value::Text(text), Provenance { layer: LayerKind::Detected, place }))
        };
        match (section, name) {
            (Section::Build, "base") => derived(self.recipe().default_base()?.to_owned(), "build.recipe"),
            (Section::Test, "base") | (Section::Verify, "image") => {
                derived(self.text(Section::Build, "base")?, "build.base")
            }
            (Section::Cache, "scope") => {
                let name = self.text(Section::Project, "name")?;
                let digest = &self.config.folder_digest;
                derived(if digest.is_empty() { name } else { format!("{name}-{digest}") }, "project.name")
            }
            (Section::Release, "name") => derived(self.text(Section::Project, "name")?, "project.name"),
            (Section::Release, "version") => derived(self.text(Section::Project, "version")?, "project.version"),
            (Section::Release, "description") => derived(self.text(section, "summary")?, "release.summary"),
            _ => None,
        }
    }

    pub(crate) fn text(&self, section: Section, name: &str) -> Option<String> {
        match self.value(section, name)?.0 {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn list(&self, section: Section, name: &str) -> Vec<String> {
        match self.value(section, name) {
            Some((Value::List(items), _)) => items,
            _ => Vec::new(),
        }
    }

    /// A list, or one text as a list of it.
    pub(crate) fn words(&self, section: Section, name: &str) -> Vec<String> {
        match self.value(section, name) {
            Some((Value::List(items), _)) => items,
            Some((Value::Text(text), _)) => vec![text],
            _ => Vec::new(),
        }
    }

    /// Platforms, each once; nothing if they are not set.
    fn platforms(&self, section: Section, name: &str) -> Option<Vec<Platform>> {
        self.assignment(section, name)?;
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in self.list(section, name).iter().filter_map(|text| text.parse().ok()) {
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        Some(platforms)
    }

    pub(crate) fn ci(&self) -> Ci {
        Ci {
            python: self.list(Section::Ci, "python"),
            python_pull_request: self.list(Section::Ci, "python-pull-request"),
            platforms: self.platforms(Section::Ci, "platforms"),
            development_platforms: self.platforms(Section::Ci, "development-platforms"),
            default_branch: self.text(Section::Ci, "default-branch"),
            runner: self.words(Section::Ci, "runner"),
        }
    }

    pub(crate) fn publish(&self) -> Publish {
        let text = |name| self.text(Section::Release, name);
        Publish {
            forge: text("forge"),
            repository: text("repository"),
            url: text("url"),
            tag: text("tag").unwrap_or_default(),
            assets: self.list(Section::Release, "assets"),
            changelog: text("changelog"),
            notes_commits: self.flag(Section::Release, "notes-commits"),
            notes_files: self.flag(Section::Release, "notes-files"),
            draft: self.flag(Section::Release, "draft"),
            prerelease: self.toggle(Section::Release, "prerelease"),
        }
    }

    pub(crate) fn twin(&self) -> Twin {
        match self.text(Section::Emulation, "twin").as_deref() {
            Some("on") => Twin::On,
            Some("off") => Twin::Off,
            _ => Twin::Auto,
        }
    }

    pub(crate) fn toggle(&self, section: Section, name: &str) -> Toggle {
        match self.text(section, name).as_deref() {
            Some("yes") => Toggle::Yes,
            Some("no") => Toggle::No,
            _ => Toggle::Auto,
        }
    }

    pub(crate) fn flag(&self, section: Section, name: &str) -> bool {
        matches!(self.value(section, name), Some((Value::Bool(true), _)))
    }

    pub(crate) fn size(&self, section: Section, name: &str) -> ByteSize {
        self.text(section, name).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// A number; zero where there is none.
    pub(crate) fn number(&self, section: Section, name: &str) -> usize {
        match self.value(section, name) {
            Some((Value::Integer(number), _)) => usize::try_from(number).unwrap_or(usize::MAX),
            _ => 0,
        }
    }

    pub(crate) fn recipe(&self) -> Recipe {
        match self.text(Section::Build, "recipe") {
            Some(name) if name == RECIPES[1] => Recipe::Debian,
            Some(path) if path != RECIPES[0] => Recipe::Dockerfile(path.into()),
            _ => Recipe::Alpine,
        }
    }

    /// The entries of a table in force: build arguments, variables.
    pub(crate) fn arguments(&self, section: Section, name: &str) -> BTreeMap<String, &Assignment> {
        let mut in_force: BTreeMap<String, &Assignment> = BTreeMap::new();
        let relevant = |assignment: &&Assignment| {
            let is_here = assignment.key.section == section && assignment.key.name == name;
            is_here && (assignment.platform.is_none() || assignment.platform == self.platform)
        };
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

    fn pairs(&self, section: Section, name: &str) -> BTreeMap<String, String> {
        let text = |(name, assignment): (String, &Assignment)| match &assignment.value {
            Value::Text(value) => Some((name, value.clone())),
            _ => None,
        };
        self.arguments(section, name).into_iter().filter_map(text).collect()
    }

    fn requirements(&self, section: Section) -> Requirements {
        match self.value(section, "requirements") {
            // The project itself, with extras or without, is no file.
            Some((Value::Text(text), _)) if is_local(&text) => Requirements::List(vec![text]),
            Some((Value::Text(path), _)) => Requirements::File(path),
            Some((Value::List(items), _)) if !items.is_empty() => Requirements::List(items),
            _ => Requirements::None,
        }
    }

    fn timeout(&self, section: Section) -> Duration {
        match self.value(section, "timeout") {
            Some((Value::Integer(seconds), _)) => Duration::from_secs(seconds),
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn test(&self) -> Test {
        let section = Section::Test;
        let mut python: Vec<String> = Vec::new();
        for version in self.list(section, "python") {
            if !python.contains(&version) {
                python.push(version);
            }
        }
        Test {
            command: match self.value(section, "command") {
                Some((Value::List(words), _)) => Some(TestCommand::Words(words)),
                Some((Value::Text(line), _)) => Some(TestCommand::Shell(line)),
                _ => None,
            },
            python,
            platforms: self.platforms(section, "platforms").unwrap_or_default(),
            requirements: self.requirements(section),
            packages: self.list(section, "packages"),
            env: self.pairs(section, "env"),
            base: self.text(section, "base"),
            images: match self.value(section, "images") {
                Some((Value::Text(pattern), _)) => Some(PythonImages::Pattern(pattern)),
                Some((Value::List(items), _)) => {
                    let pair = |item: String| item.split_once('=').map(|(v, i)| (v.to_owned(), i.to_owned()));
                    Some(PythonImages::Table(items.into_iter().filter_map(pair).collect()))
                }
                _ => None,
            },
            timeout: self.timeout(section),
        }
    }

    fn release_image(&self) -> ReleaseImage {
        let section = Section::Release;
        let label = |item: &String| item.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        ReleaseImage {
            base: self.text(section, "image.base"),
            user: self.text(section, "image.user").unwrap_or_default(),
            tags: self.list(section, "image.tags"),
            labels: self.list(section, "image.labels").iter().filter_map(label).collect(),
            workdir: self.text(section, "image.workdir"),
            ports: self.list(section, "image.ports"),
            files: self.mappings(section, "image.files"),
        }
    }

    pub(crate) fn project(&self) -> Project {
        let text = |name| self.text(Section::Project, name);
        Project {
            name: text("name").unwrap_or_default(),
            version: text("version"),
            program: text("entry").map(Program::Entry).or_else(|| text("module").map(Program::Module)),
            requirements: self.requirements(Section::Project),
            python: text("python"),
            data: self.mappings(Section::Project, "data"),
            icon: text("icon"),
        }
    }

    /// A list of `SRC=DST`.
    fn mappings(&self, section: Section, name: &str) -> Vec<DataMapping> {
        self.list(section, name)
            .iter()
            .filter_map(|item| item.split_once('='))
            .map(|(source, target)| DataMapping { source: source.to_owned(), target: target.to_owned() })
            .collect()
    }

    pub(crate) fn release(&self) -> Release {
        let section = Section::Release;
        let (text, list) = (|name| self.text(section, name), |name| self.list(section, name));
        let bill = |text: String| if text == "spdx" { BillForm::Spdx } else { BillForm::CycloneDx };
        let signer = |text: String| match text.split_once(':') {
            Some(("minisign", key)) => SignWith::Minisign(key.to_owned()),
            Some((_, key)) => SignWith::Cosign(key.to_owned()),
            None => SignWith::Keyless,
        };
        Release {
            name: text("name").unwrap_or_default(),
            version: text("version"),
            summary: text("summary"),
            description: text("description"),
            license: text("license"),
            homepage: text("homepage"),
            maintainer: text("maintainer"),
            vendor: text("vendor"),
            section: text("section").unwrap_or_default(),
            formats: list("formats"),
            documents: list("documents"),
            completions: list("completions"),
            man: list("man"),
            systemd: list("systemd"),
            openrc: list("openrc"),
            config_files: self.mappings(section, "config-files"),
            files: self.mappings(section, "files"),
            depends: ReleaseDepends { deb: list("depends.deb"), rpm: list("depends.rpm"), apk: list("depends.apk") },
            apk_key: text("apk-key"),
            apk_key_name: text("apk-key-name"),
            installer: self.flag(section, "installer"),
            download_url: text("download-url"),
            image: self.release_image(),
            sbom: list("sbom").into_iter().map(bill).collect(),
            provenance: self.flag(section, "provenance"),
            sign: list("sign").into_iter().map(signer).collect(),
            trusted_keys: list("trusted-keys"),
            trusted_root: text("trusted-root"),
        }
    }

    pub(crate) fn nuitka(&self) -> Nuitka {
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

    pub(crate) fn build(&self) -> Build {
        let section = Section::Build;
        let artifact = self.text(section, "artifact").unwrap_or_default();
        Build {
            recipe: self.recipe(),
            base: self.text(section, "base"),
            packages: self.list(section, "packages"),
            platforms: self.platforms(section, "platforms").unwrap_or_default(),
            output: self.text(section, "output").map(PathBuf::from).unwrap_or_default(),
            artifact: artifact.parse().expect("the pattern was checked when it was read"),
            before_build: self.list(section, "before-build"),
            target: self.text(section, "target"),
            args: self.pairs(section, "args"),
            auto_caches: self.toggle(section, "auto-caches"),
        }
    }

    pub(crate) fn network(&self) -> Network {
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

    pub(crate) fn verify(&self) -> Verify {
        let run = match self.value(Section::Verify, "run") {
            Some((Value::Bool(false), _)) => Smoke::Off,
            Some((Value::List(words), _)) => Smoke::Arguments(words),
            Some((Value::Text(text), _)) if text.contains(ARTIFACT) => Smoke::Shell(text),
            Some((Value::Text(text), _)) if text != "auto" => split_words(&text).map_or(Smoke::Auto, Smoke::Arguments),
            _ => Smoke::Auto,
        };
        let list = |name| self.list(Section::Verify, name);
        Verify {
            run,
            timeout: self.timeout(Section::Verify),
            image: self.text(Section::Verify, "image"),
            glibc_max: self.text(Section::Verify, "glibc-max"),
            allow: list("allow"),
            deny: list("deny"),
            run_on: list("run-on"),
            secrets_allow: list("secrets-allow"),
        }
    }
}

/// Whether a requirement is the project itself, with extras or without.
pub(crate) fn is_local(requirement: &str) -> bool {
    requirement == "." || requirement.starts_with(".[")
}
