//! One Python on one platform: its names, its Dockerfile, its arguments.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use kiln_config::{PlatformSettings, Requirements, Test, TestCommand};
use kiln_graph::Platform;

use super::base::{Base, Family};
use crate::error::Result;
use crate::recipe;

/// The stages of the recipe that belong to one Python.
const STAGES: [&str; 3] = ["python", "environment", TEST];
/// The stage that runs the tests.
const TEST: &str = "test";
/// What pytest is called, as a program and as a module.
const PYTEST: [&str; 2] = ["pytest", "py.test"];

/// One version of Python; the platform is that of the item.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// The version that is asked for; none is that of the base image.
    pub(crate) python: Option<String>,
    /// The settings.
    pub(crate) test: Test,
    /// More arguments of the test command.
    more: Vec<String>,
    /// Where its Python comes from, once that is known.
    pub(crate) base: OnceLock<Base>,
}

impl Cell {
    pub(super) fn new(python: Option<String>, test: Test, more: Vec<String>) -> Self {
        Self { python, test, more, base: OnceLock::new() }
    }

    /// Its name in the graph.
    pub(crate) fn name(&self) -> String {
        self.stage(TEST)
    }

    /// Its name among files: `py3.12-linux_arm64`.
    pub(crate) fn slug(&self, platform: Platform) -> String {
        format!("py{}-{}", self.python.as_deref().unwrap_or_default(), platform.folder())
    }

    /// A stage's name in its Dockerfile. Several Pythons are told apart by it in what people read.
    pub(crate) fn stage(&self, stage: &str) -> String {
        match &self.python {
            Some(version) if STAGES.contains(&stage) => format!("{stage}-{version}"),
            _ => stage.to_owned(),
        }
    }

    /// The recipe with the names of its stages.
    pub(crate) fn source(&self) -> recipe::Source {
        let mut source = recipe::test();
        for stage in STAGES {
            for (before, after) in [(" AS ", "\n"), ("FROM ", " AS "), ("--from=", " ")] {
                let place = |name: &str| format!("{before}{name}{after}");
                source.text = source.text.replace(&place(stage), &place(&self.stage(stage)));
            }
        }
        source
    }

    /// The command as words.
    fn command(&self) -> Vec<String> {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match &self.test.command {
            Some(TestCommand::Words(command)) => [command.as_slice(), &self.more].concat(),
            Some(TestCommand::Shell(line)) if self.more.is_empty() => words(&["sh", "-c", line]),
            Some(TestCommand::Shell(line)) => {
                [words(&["sh", "-c", &format!("{line} \"$@\""), "sh"]), self.more.clone()].concat()
            }
            None => words(&PYTEST[..1]),
        }
    }

    /// Whether the command is, or calls, pytest.
    fn calls_pytest(&self) -> bool {
        let command = self.command();
        let mut words = command.iter().flat_map(|word| word.split(|c: char| c.is_whitespace() || ";&|()".contains(c)));
        words.any(|word| PYTEST.contains(&word.rsplit('/').next().unwrap_or(word)))
    }

    /// The arguments of the recipe; `dockerfiles/README.md` has the contract.
    pub(crate) fn arguments(&self, settings: &PlatformSettings, folder: &Path) -> Result<BTreeMap<String, String>> {
        let mut args = BTreeMap::new();
        let mut set = |name: &str, value: String| {
            if !value.is_empty() {
                args.insert(name.to_owned(), value);
            }
        };
        let (test, network) = (&self.test, &settings.network);
        if let Some(base) = self.base.get() {
            set("BASE", base.image.clone());
            if let Some(source) = base.source {
                set("WAY", "source".to_owned());
                set("PYTHON_URL", source.url());
                set("PYTHON_SHA256", source.sha256.to_owned());
            }
            // Wheels that pip builds do not say which C library they are for.
            let family = Family::of(&base.image);
            let is_builds = settings.build.recipe.default_base().is_some_and(|base| Family::of(base) == family);
            set("PIP_CACHE", if is_builds { "pip".to_owned() } else { format!("pip-{}", family.name()) });
        }
        set("PYTHON", self.python.clone().unwrap_or_default());
        set("PACKAGES", test.packages.join(" "));
        set("APT_MIRROR", network.apt_mirror.clone().unwrap_or_default());
        set("APK_MIRROR", network.apk_mirror.clone().unwrap_or_default());
        set("PIP_ARGS", network.pip_args.join("\n"));
        let (mut requires, mut local) = (Vec::new(), Vec::new());
        for (prefix, requirements) in [("", &settings.project.requirements), ("TEST_", &test.requirements)] {
            match requirements {
                Requirements::None => {}
                Requirements::File(path) => {
                    set(&format!("{prefix}REQUIREMENTS"), path.clone());
                    let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
                    set(&format!("{prefix}REQUIREMENTS_FOLDER"), parent.to_owned());
                    set(&format!("{prefix}REQUIREMENTS_ALSO"), recipe::neighbours(folder, path)?);
                }
                Requirements::List(list) => {
                    let (own, others): (Vec<_>, Vec<_>) = list.iter().cloned().partition(|item| item.starts_with('.'));
                    local.extend(own);
                    requires.extend(others);
                }
            }
        }
        set("REQUIRES", requires.join("\n"));
        set("LOCAL", local.join("\n"));
        set("PYTEST", if self.calls_pytest() { "yes" } else { "no" }.to_owned());
        set("COMMAND", serde_json::json!(self.command()).to_string());
        set("VARIABLES", serde_json::json!(test.env).to_string());
        set("TIMEOUT", test.timeout.as_secs().to_string());
        Ok(args)
    }
}

#[cfg(test)]
mod tests {
    use kiln_config::{Config, Layer, ProjectFacts};

    use super::super::{SOME_PLATFORM, cells};
    use super::*;

    fn arguments(toml: &str, more: &[&str], base: &str) -> BTreeMap<String, String> {
        let config = Config::load([Layer::file("kiln.toml", toml)], &ProjectFacts::default()).expect("valid").config;
        let more: Vec<String> = more.iter().map(|&word| word.to_owned()).collect();
        let (cell, _) = cells(&config.resolved(), &more).expect("cells").remove(0);
        cell.base.set(Base::of_image(base)).expect("once");
        cell.arguments(&config.for_platform(SOME_PLATFORM), Path::new("/nowhere")).expect("arguments")
    }

    #[test]
    fn settings_become_arguments() {
        let args = arguments(
            "[project]\nrequirements = [\"rich>=13\"]\n[test]\ncommand = [\"pytest\", \"-q\"]\npython = [\"3.12\"]\n\
             requirements = [\"pytest-cov\", \".[cli]\"]\npackages = [\"git\", \"make\"]\nenv = { TZ = \"UTC\" }\ntimeout = 60\n",
            &["-k", "two words"],
            "python:3.12-alpine",
        );
        for (name, value) in [
            ("BASE", "python:3.12-alpine"),
            ("PYTHON", "3.12"),
            ("PACKAGES", "git make"),
            ("REQUIRES", "rich>=13\npytest-cov"),
            ("LOCAL", ".[cli]"),
            ("PYTEST", "yes"),
            ("COMMAND", "[\"pytest\",\"-q\",\"-k\",\"two words\"]"),
            ("VARIABLES", "{\"TZ\":\"UTC\"}"),
            ("TIMEOUT", "60"),
            ("PIP_CACHE", "pip"),
        ] {
            assert_eq!(args.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!args.contains_key("WAY") && !args.contains_key("REQUIREMENTS"));
    }

    #[test]
    fn wheels_of_another_c_library_lie_apart() {
        let toml = "[test]\ncommand = \"pytest\"\n";
        // The recipe is Alpine's where nothing says otherwise.
        assert_eq!(arguments(toml, &[], "python:3.12-slim-bookworm")["PIP_CACHE"], "pip-glibc");
        let debian = format!("[build]\nrecipe = \"debian\"\n{toml}");
        assert_eq!(arguments(&debian, &[], "python:3.12-slim-bookworm")["PIP_CACHE"], "pip");
        assert_eq!(arguments(&debian, &[], "alpine:3.20")["PIP_CACHE"], "pip-musl");
    }

    #[test]
    fn a_line_for_the_shell_gets_arguments_as_its_own() {
        let args = arguments("[test]\ncommand = \"make test && tox\"\n", &["-x"], "alpine:3.20");
        assert_eq!(args["COMMAND"], "[\"sh\",\"-c\",\"make test && tox \\\"$@\\\"\",\"sh\",\"-x\"]");
        assert_eq!(args["PYTEST"], "no");
        let args = arguments("[test]\ncommand = \"coverage run -m pytest;true\"\n", &[], "alpine:3.20");
        assert_eq!(args["PYTEST"], "yes");
    }

    #[test]
    fn stages_are_named_by_python_and_the_recipe_stays_one() {
        let toml = "[test]\ncommand = \"pytest\"\npython = [\"3.12\"]\n";
        let config = Config::load([Layer::file("kiln.toml", toml)], &ProjectFacts::default()).expect("valid").config;
        let (cell, _) = cells(&config.resolved(), &[]).expect("cells").remove(0);
        let source = cell.source();
        let file = kiln_dockerfile::parse(&source.name, &source.text).expect("it is a Dockerfile");
        let names: Vec<_> =
            file.stages.iter().filter_map(|stage| stage.name.as_ref().map(|name| name.value.clone())).collect();
        assert_eq!(names, ["with-image", "with-source", "python-3.12", "environment-3.12", "test-3.12", "export"]);
        assert_eq!(source.text.replace("-3.12", ""), recipe::test().text);
    }
}
