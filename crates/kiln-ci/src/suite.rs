//! A job that does nothing but set Python up and run tests, or a container that does, as what it asks for: then `kiln test`
//! says the same.

use std::collections::{BTreeMap, BTreeSet};

use kiln_config::{Config, Requirements, Section, TestCommand};

use crate::container::Container;
use crate::draft::Value;
use crate::expression::{self, Part, is_dynamic};
use crate::plan::{is_setup_python, is_test};
use crate::shell::{Command, commands};
use crate::workflow::{Job, Step};
use crate::yaml::Node;

/// The release whose Python images are most like the runners of GitHub.
const BASE: &str = "debian:bookworm";
/// The same for Python's images of Alpine.
const ALPINE: &str = "alpine:3.20";
/// The file that is the project's own, rather than that of its tests.
const OWN_REQUIREMENTS: &str = "requirements.txt";

/// What a job tests, and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Suite {
    /// The versions of Python as they are written: `3.12` or `${{ matrix.python }}`.
    pub(crate) python: String,
    command: Vec<String>,
    /// Requirements files.
    files: BTreeSet<String>,
    /// What pip is asked for by name.
    requires: BTreeSet<String>,
    packages: BTreeSet<String>,
    variables: BTreeMap<String, String>,
    /// The image that has such Pythons; nothing is the runner's.
    base: Option<&'static str>,
    /// Where a container of tests is to run.
    pub(crate) platform: Option<String>,
    /// The step that sets Python up.
    pub(crate) setup: usize,
    /// The step that runs the tests.
    pub(crate) tests: usize,
    /// Steps that only prepare them.
    pub(crate) prepares: Vec<usize>,
}

/// What a job asks for, if it is one of tests; why it is more than `kiln test`, where it is.
pub(crate) fn suite(job: &Job<'_>) -> Option<Result<Suite, String>> {
    let has_python = job.steps().iter().any(is_setup_python);
    (has_python && is_test(job)).then(|| read(job))
}

/// What a container asks for, if it is one of tests in an image of Python.
pub(crate) fn of_container(container: &Container) -> Option<Result<Suite, String>> {
    let tag = container.image.strip_prefix("python:").or_else(|| container.image.strip_prefix("docker.io/python:"))?;
    let is_test = |command: &Command| command.texts().iter().any(|word| matches!(word.as_str(), "pytest" | "unittest"));
    commands(&container.script).iter().any(is_test).then(|| {
        let (version, variant) = tag.split_once('-').unwrap_or((tag, ""));
        let is_matrix = expression::parts(version).iter().all(|part| matches!(part, Part::Expression(_)));
        if !is_matrix && !version.starts_with("3.") {
            return Err(format!("`{}` names no version of Python", container.image));
        }
        let base = if variant.starts_with("alpine") { ALPINE } else { BASE };
        let mut suite = Suite {
            python: version.to_owned(),
            base: Some(base),
            platform: container.platform.clone(),
            ..Suite::default()
        };
        for variable in &container.variables {
            let (name, value) =
                variable.split_once('=').ok_or_else(|| format!("the variable {variable} has no value"))?;
            if value.contains('$') {
                return Err(format!("the variable {name} is known only to the run itself"));
            }
            suite.variables.insert(name.to_owned(), value.to_owned());
        }
        for command in commands(&container.script) {
            suite.command(&command, 1)?;
        }
        Ok(suite)
    })
}

fn read(job: &Job<'_>) -> Result<Suite, String> {
    for key in ["container", "services", "defaults"] {
        if job.node.get(key).is_some() {
            return Err(format!("its `{key}` is none of kiln's"));
        }
    }
    match job.node.get("runs-on").and_then(Node::text) {
        Some(runner) if runner.starts_with("ubuntu-") => {}
        runner => return Err(format!("it runs on {}", runner.unwrap_or("a machine of its own"))),
    }
    let mut suite = Suite::default();
    suite.add_variables(job.node.get("env"))?;
    for step in job.steps() {
        if suite.tests > 0 {
            return Err(format!("{} follows the tests, and may need what they leave", step.label()));
        }
        for key in ["if", "shell", "working-directory", "continue-on-error", "timeout-minutes"] {
            if step.node.get(key).is_some() {
                return Err(format!("{} has `{key}`", step.label()));
            }
        }
        suite.add(&step)?;
    }
    if suite.tests == 0 || suite.setup == 0 {
        return Err("its tests cannot be told from its other commands".to_owned());
    }
    Ok(suite)
}

impl Suite {
    fn add(&mut self, step: &Step<'_>) -> Result<(), String> {
        match step.action() {
            Some("actions/checkout") => return Ok(()),
            Some("actions/setup-python") if self.setup == 0 => {
                let inputs = step.node.get("with").map_or(&[][..], Node::pairs);
                let known = ["python-version", "cache", "cache-dependency-path"];
                let other = inputs.iter().filter_map(|(name, _)| name.text()).find(|name| !known.contains(name));
                if let Some(other) = other {
                    return Err(format!("setup-python has `{other}`"));
                }
                let version = step.with("python-version").ok_or("setup-python names no single version")?;
                version.trim().clone_into(&mut self.python);
                self.setup = step.number;
                return Ok(());
            }
            Some("actions/cache") if step.with("path").is_some_and(|path| path.contains("pip")) => {}
            Some(_) => return Err(format!("{} is more than a test", step.label())),
            None => {
                let script = step.text("run").unwrap_or_default();
                self.add_variables(step.node.get("env"))?;
                for command in commands(script) {
                    self.command(&command, step.number)?;
                }
            }
        }
        if self.tests != step.number {
            self.prepares.push(step.number);
        }
        Ok(())
    }

    fn add_variables(&mut self, node: Option<&Node>) -> Result<(), String> {
        for (name, value) in node.map_or(&[][..], Node::pairs) {
            let (Some(name), Some(value)) = (name.text(), value.text()) else { continue };
            if is_dynamic(value) {
                return Err(format!("the variable {name} is known only to the run itself"));
            }
            self.variables.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }

    fn command(&mut self, command: &Command, number: usize) -> Result<(), String> {
        let words = command.texts();
        let text = words.join(" ");
        if words.iter().any(|word| word.contains('$')) || matches!(command.end, "|" | "||" | "&" | "(" | ")") {
            return Err(format!("`{text}` is more than a command"));
        }
        let plain: Vec<&str> = words.iter().map(String::as_str).filter(|word| *word != "sudo").collect();
        match plain.as_slice() {
            _ if self.tests > 0 => return Err(format!("`{text}` follows the tests")),
            ["set" | "cd", ..] | ["apt-get" | "apt", "update", ..] => {}
            ["apt-get" | "apt", rest @ ..] if rest.contains(&"install") => {
                let names = rest.iter().filter(|word| !word.starts_with('-') && **word != "install");
                self.packages.extend(names.map(|&name| name.to_owned()));
            }
            ["pip" | "pip3", "install", rest @ ..] | ["python" | "python3", "-m", "pip", "install", rest @ ..] => {
                self.pip(rest)?;
            }
            ["pytest" | "py.test", ..] | ["python" | "python3", "-m", "pytest" | "unittest", ..] => {
                self.command = words;
                self.tests = number;
            }
            _ => return Err(format!("`{text}` is more than a test")),
        }
        Ok(())
    }

    fn pip(&mut self, words: &[&str]) -> Result<(), String> {
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word {
                "-r" | "--requirement" => {
                    let file = words.next().ok_or("`pip install -r` names no file")?;
                    self.files.insert(file.trim_start_matches("./").to_owned());
                }
                // What is installed for a test needs not be editable, and a container has pip.
                "-e" | "--editable" | "-U" | "--upgrade" | "-q" | "--quiet" | "--no-cache-dir" | "pip"
                | "setuptools" | "wheel" => {}
                option if option.starts_with('-') => return Err(format!("pip has `{option}`")),
                name => drop(self.requires.insert(name.to_owned())),
            }
        }
        Ok(())
    }

    /// The settings that say the same.
    pub(crate) fn settings(&self) -> Result<Vec<(&'static str, Value)>, String> {
        let mut settings = vec![
            ("test.command", Value::List(self.command.clone())),
            ("test.base", Value::Text(self.base.unwrap_or(BASE).to_owned())),
        ];
        let (own, more): (Vec<&String>, Vec<&String>) = self.files.iter().partition(|file| *file == OWN_REQUIREMENTS);
        settings.extend(own.first().map(|file| ("project.requirements", Value::Text((*file).clone()))));
        match (more.as_slice(), self.requires.is_empty()) {
            ([], true) => {}
            ([], false) => {
                settings.push(("test.requirements", Value::List(self.requires.iter().cloned().collect())));
            }
            ([file], true) => settings.push(("test.requirements", Value::Text((*file).clone()))),
            _ => return Err("it installs more than one file of requirements, or a file and names".to_owned()),
        }
        if !self.packages.is_empty() {
            settings.push(("test.packages", Value::List(self.packages.iter().cloned().collect())));
        }
        if !self.variables.is_empty() {
            settings.push(("test.env", Value::Pairs(self.variables.clone())));
        }
        Ok(settings)
    }

    /// The facts that are compared, by topic.
    pub(crate) fn facts(&self) -> BTreeMap<&'static str, String> {
        let files = self.files.iter().map(|file| format!("-r {file}"));
        let requires: Vec<String> = files.chain(self.requires.iter().cloned()).collect();
        told(&self.command.join(" "), &requires, &self.packages.iter().cloned().collect::<Vec<_>>(), &self.variables)
    }
}

/// What `kiln test` does under the settings, in the words of [`Suite::facts`].
pub(crate) fn facts_of(config: &Config) -> BTreeMap<&'static str, String> {
    let settings = config.resolved();
    let mut requires = Vec::new();
    let mut add = |requirements: &Requirements| match requirements {
        Requirements::None => {}
        Requirements::File(file) => requires.push(format!("-r {file}")),
        Requirements::List(list) => requires.extend(list.clone()),
    };
    // What follows from files that are there is not what the workflow says.
    if config.provenance(Section::Project, "requirements", None).is_explicit() {
        add(&settings.project.requirements);
    }
    if config.provenance(Section::Test, "requirements", None).is_explicit() {
        add(&settings.test.requirements);
    }
    let command = match &settings.test.command {
        Some(TestCommand::Words(words)) => words.join(" "),
        Some(TestCommand::Shell(line)) => line.clone(),
        None => String::new(),
    };
    requires.sort_by_key(|name| (!name.starts_with("-r "), name.clone()));
    let mut packages = settings.test.packages;
    packages.sort();
    told(&command, &requires, &packages, &settings.test.env)
}

fn told(
    command: &str,
    requires: &[String],
    packages: &[String],
    variables: &BTreeMap<String, String>,
) -> BTreeMap<&'static str, String> {
    let variables: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let facts = [
        ("tests", command.to_owned()),
        ("requirements", requires.join(" ")),
        ("packages", packages.join(" ")),
        ("variables", variables.join(" ")),
    ];
    facts.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::Workflow;

    fn read(steps: &str) -> Result<Suite, String> {
        let text = format!(
            "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n    - uses: actions/setup-python@v5\n      \
             with:\n        python-version: '3.12'\n{steps}"
        );
        let workflow = Workflow::read("w.yml", &text).expect("a workflow");
        suite(&workflow.jobs()[0]).expect("a job of tests")
    }

    #[test]
    fn what_a_job_installs_becomes_settings() {
        let suite = read(
            "    - run: |\n        sudo apt-get update && sudo apt-get install -y git\n        pip install -U pip\n        \
             pip install -r requirements.txt -e '.[test]' pytest-cov\n    - run: pytest -q tests\n      env: {TZ: UTC}\n",
        )
        .expect("nothing else");
        assert_eq!((suite.python.as_str(), suite.setup, suite.tests), ("3.12", 1, 3));
        let settings = suite.settings().expect("they can be said");
        let text = |texts: &[&str]| Value::List(texts.iter().map(|text| (*text).to_owned()).collect());
        let expected = [
            ("test.command", text(&["pytest", "-q", "tests"])),
            ("test.base", Value::Text(BASE.to_owned())),
            ("project.requirements", Value::Text("requirements.txt".to_owned())),
            ("test.requirements", text(&[".[test]", "pytest-cov"])),
            ("test.packages", text(&["git"])),
            ("test.env", Value::Pairs([("TZ".to_owned(), "UTC".to_owned())].into())),
        ];
        assert_eq!(settings, expected);
        assert_eq!(suite.facts()["requirements"], "-r requirements.txt .[test] pytest-cov");
    }

    #[test]
    fn a_container_of_python_is_a_suite_too() {
        let read = |line: &str| {
            let found = crate::container::containers(line);
            of_container(&found[0].1)
        };
        let line = "docker run --rm --platform linux/arm64 -e TZ=UTC -v $PWD:/src -w /src python:3.12-alpine sh -c 'pip install \
                    -r requirements-dev.txt && pytest -q'";
        let suite = read(line).expect("tests").expect("no more than tests");
        assert_eq!((suite.python.as_str(), suite.platform.as_deref()), ("3.12", Some("linux/arm64")));
        assert_eq!(suite.facts()["tests"], "pytest -q");
        assert_eq!(suite.settings().expect("said")[1].1, Value::Text(ALPINE.to_owned()));
        assert!(read("docker run python:3.12 python -m unittest").is_some_and(|found| found.is_ok()));
        assert!(read("docker run python:latest pytest").is_some_and(|found| found.is_err()));
        assert!(read("docker run -e TOKEN python:3.12 pytest").is_some_and(|found| found.is_err()));
        assert!(read("docker run node:22 npm test").is_none() && read("docker run python:3.12 ruff").is_none());
    }

    #[test]
    fn more_than_tests_stays_and_says_why() {
        for (steps, why) in [
            ("    - run: pytest\n    - uses: codecov/codecov-action@v4\n", "follows the tests"),
            ("    - run: pytest | tee log\n", "`pytest` is more than a command"),
            ("    - run: make test\n", "`make test` is more than a test"),
            ("    - run: pytest $ARGS\n", "more than a command"),
            ("    - run: pip install --pre a\n    - run: pytest\n", "pip has `--pre`"),
            ("    - run: pytest\n      if: always()\n", "has `if`"),
            ("    - run: pytest\n      env: {T: '${{ secrets.T }}'}\n", "the variable T"),
        ] {
            let told = read(steps).expect_err("it is more");
            assert!(told.contains(why), "{steps}: {told}");
        }
        let two = read("    - run: pip install -r a.txt -r b.txt\n    - run: pytest\n").expect("tests alone");
        assert!(two.settings().is_err());
    }
}
