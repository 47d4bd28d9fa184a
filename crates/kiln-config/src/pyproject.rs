//! What pyproject.toml says about a project, as far as kiln uses it.
//!
//! Source: <https://packaging.python.org/en/latest/specifications/pyproject-toml/>. Poetry's older `[tool.poetry]` is read
//! for the name and version only: its dependency syntax is not pip's.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{ConfigError, Location};
use crate::raw::{self, Data, Table};
use crate::read::subtable;

/// The facts of a pyproject.toml.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pyproject {
    /// `[project] name`.
    pub name: Option<String>,
    /// `[project] version`; a dynamic one is unknown.
    pub version: Option<String>,
    /// `[project] dependencies`: requirements as pip takes them.
    pub dependencies: Vec<String>,
    /// `[project.scripts]`, in the order of the file.
    pub scripts: Vec<Script>,
    /// `[project] requires-python`.
    pub requires_python: Option<String>,
    /// `[project.optional-dependencies]` and `[dependency-groups]`: name and requirements.
    pub extras: Vec<(String, Vec<String>)>,
    /// What it says for people: `description`, `license`, `maintainers` and `urls`.
    about: BTreeMap<&'static str, String>,
    /// Whether there is a `[tool.pytest]`.
    pub configures_pytest: bool,
    places: BTreeMap<&'static str, Location>,
}

/// A command that the project installs: `NAME = "MODULE:FUNCTION"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The command.
    pub name: String,
    /// The module.
    pub module: String,
    /// The function in it.
    pub function: Option<String>,
}

impl Pyproject {
    /// Where a fact stands: `name`, `version`, `dependencies`, `requires-python`, `scripts`, or one of
    /// [`Self::about`].
    pub fn place(&self, fact: &str) -> Option<&Location> {
        self.places.get(fact)
    }

    /// What it says for people: the `description`, the `license`, the first of the `maintainers` (else of the authors) as
    /// `Name <address>`, and of the `urls` that of the homepage, else of the repository.
    pub fn about(&self, fact: &str) -> Option<&str> {
        self.about.get(fact).map(String::as_str)
    }

    /// The extra or group with what the tests need, by its usual names.
    pub fn test_extra(&self) -> Option<(&str, &[String])> {
        let names = ["test", "tests", "testing", "dev"];
        let found =
            names.iter().find_map(|name| self.extras.iter().find(|(extra, list)| extra == name && !list.is_empty()));
        found.map(|(name, list)| (name.as_str(), list.as_slice()))
    }
}

/// Reads the text of a pyproject.toml. Values of a wrong type count as absent: they are other tools' to complain about.
///
/// Errors: the text is not TOML.
pub fn read(text: &str) -> Result<Pyproject, ConfigError> {
    let file = Path::new("pyproject.toml");
    let table = raw::parse(file, text)?;
    let empty = Table::new();
    let project = subtable(&table, "project").unwrap_or(&empty);
    let poetry = subtable(&table, "tool").and_then(|tool| subtable(tool, "poetry")).unwrap_or(&empty);
    let mut facts = Pyproject::default();
    for table in [poetry, project] {
        for (name, value) in table {
            let known = match (name.text.as_str(), &value.data) {
                ("name", Data::Text(text)) => {
                    facts.name = Some(text.clone());
                    "name"
                }
                ("version", Data::Text(text)) => {
                    facts.version = Some(text.clone());
                    "version"
                }
                _ => continue,
            };
            facts.places.insert(known, Location::new(file, text, value.span.clone()));
        }
    }
    let people = ["authors", "maintainers"];
    for (name, value) in project {
        let (fact, found) = match (name.text.as_str(), &value.data) {
            ("description", Data::Text(text)) => ("description", Some(text.clone())),
            ("license", Data::Text(text)) => ("license", Some(text.clone())),
            ("license", Data::Table(table)) => ("license", text_in(table, "text").filter(|text| !text.contains('\n'))),
            (name, Data::List(items)) if people.contains(&name) => ("maintainers", items.first().and_then(person)),
            ("urls", Data::Table(table)) => ("urls", page(table)),
            _ => continue,
        };
        // Who maintains it wins over who wrote it.
        let is_known = name.text == "authors" && facts.about.contains_key(fact);
        if let Some(found) = found.filter(|found| !is_known && !found.trim().is_empty()) {
            facts.about.insert(fact, found.trim().to_owned());
            facts.places.insert(fact, Location::new(file, text, value.span.clone()));
        }
    }
    for (name, value) in project {
        let known = match (name.text.as_str(), &value.data) {
            ("requires-python", Data::Text(text)) => {
                facts.requires_python = Some(text.clone());
                "requires-python"
            }
            ("dependencies", Data::List(items)) => {
                facts.dependencies = texts(items);
                "dependencies"
            }
            ("scripts", Data::Table(scripts)) => {
                facts.scripts = scripts
                    .iter()
                    .filter_map(|(name, value)| match &value.data {
                        Data::Text(text) => Some(script(&name.text, text)),
                        _ => None,
                    })
                    .collect();
                "scripts"
            }
            _ => continue,
        };
        facts.places.insert(known, Location::new(file, text, value.span.clone()));
    }
    let groups = [subtable(project, "optional-dependencies"), subtable(&table, "dependency-groups")];
    for (name, value) in groups.into_iter().flatten().flatten() {
        if let Data::List(items) = &value.data {
            facts.extras.push((name.text.clone(), texts(items)));
        }
    }
    facts.configures_pytest = subtable(&table, "tool").is_some_and(|tool| subtable(tool, "pytest").is_some());
    Ok(facts)
}

fn text_in(table: &Table, wanted: &str) -> Option<String> {
    table.iter().find_map(|(name, value)| match &value.data {
        Data::Text(text) if name.text.eq_ignore_ascii_case(wanted) => Some(text.clone()),
        _ => None,
    })
}

/// `Name <address>` of `{ name = ..., email = ... }`.
fn person(item: &raw::Raw) -> Option<String> {
    let Data::Table(table) = &item.data else { return None };
    let name = text_in(table, "name")?;
    Some(text_in(table, "email").map_or_else(|| name.clone(), |email| format!("{name} <{email}>")))
}

/// The homepage, else where the sources are.
fn page(urls: &Table) -> Option<String> {
    ["homepage", "home", "repository", "source", "source code"].into_iter().find_map(|name| text_in(urls, name))
}

/// The texts of a list that are not empty.
fn texts(items: &[raw::Raw]) -> Vec<String> {
    let text = |item: &raw::Raw| match &item.data {
        Data::Text(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        _ => None,
    };
    items.iter().filter_map(text).collect()
}

fn script(name: &str, target: &str) -> Script {
    // `module:function [extra]` is allowed by the specification of entry points.
    let target = target.split('[').next().unwrap_or(target).trim();
    let (module, function) = target.split_once(':').unwrap_or((target, ""));
    Script {
        name: name.to_owned(),
        module: module.trim().to_owned(),
        function: Some(function.trim().to_owned()).filter(|function| !function.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_with_their_places() {
        let facts = read(
            "[build-system]\nrequires = []\n\n[project]\nname = \"hello\"\nversion = \"1.2\"\nrequires-python = \">=3.9\"\n\
             dependencies = [\n  \"rich>=13,<15\",\n  \"click\",\n]\n\n[project.scripts]\nzeta = \"hello.z:main\"\nalpha = \"hello.a\"\n",
        )
        .unwrap();
        assert_eq!(facts.name.as_deref(), Some("hello"));
        assert_eq!(facts.version.as_deref(), Some("1.2"));
        assert_eq!(facts.requires_python.as_deref(), Some(">=3.9"));
        assert_eq!(facts.dependencies, ["rich>=13,<15", "click"]);
        assert_eq!(facts.scripts[0].name, "zeta");
        assert_eq!(facts.scripts[0].function.as_deref(), Some("main"));
        assert_eq!((facts.scripts[1].module.as_str(), facts.scripts[1].function.as_deref()), ("hello.a", None));
        assert_eq!(facts.place("version").map(|place| place.line), Some(6));
    }

    #[test]
    fn what_is_for_people_is_read() {
        let facts = read(
            "[project]\nname = \"x\"\ndescription = \"Greets\"\nlicense = { text = \"MIT\" }\n\
             maintainers = [{ name = \"B\", email = \"b@x.org\" }]\nauthors = [{ name = \"A\" }]\n\
             [project.urls]\nRepository = \"https://x.org/r\"\nHomepage = \"https://x.org\"\n",
        )
        .unwrap();
        let about = ["description", "license", "maintainers", "urls"].map(|fact| facts.about(fact).unwrap_or_default());
        assert_eq!(about, ["Greets", "MIT", "B <b@x.org>", "https://x.org"]);
        let facts = read("[project]\nlicense = { file = \"LICENSE\" }\nauthors = [{ name = \"A\" }]\n").unwrap();
        assert_eq!((facts.about("license"), facts.about("maintainers")), (None, Some("A")));
    }

    #[test]
    fn strange_files_give_what_they_have() {
        assert_eq!(read("").unwrap(), Pyproject::default());
        let facts =
            read("[tool.poetry]\nname = \"old\"\nversion = \"0.1\"\n[project]\nname = 3\nversion = \"2\"\n").unwrap();
        assert_eq!((facts.name.as_deref(), facts.version.as_deref()), (Some("old"), Some("2")));
        let error = read("[project]\nname = hello\n").unwrap_err();
        assert!(error.to_string().starts_with("pyproject.toml:2:8: invalid TOML"), "{error}");
    }
}
