//! What a project shows of itself, and the settings that follow from it.

use std::collections::BTreeSet;

use crate::pyproject::Pyproject;

/// What the caller found in the project folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectFacts {
    /// Name of the project folder.
    pub folder_name: String,
    /// Short digest of the folder's absolute path, for the cache scope; letters and digits.
    pub folder_digest: String,
    /// What pyproject.toml says, if there is one.
    pub pyproject: Option<Pyproject>,
    /// Regular files of the project, relative and `/`-separated. Four levels are enough; hidden folders and those of
    /// [`SKIPPED_FOLDERS`] need not be entered.
    pub files: BTreeSet<String>,
}

/// Folders that never hold a program's source or data.
pub const SKIPPED_FOLDERS: [&str; 9] =
    ["__pycache__", "build", "dist", "node_modules", "site-packages", "target", "venv", "env", "test-results"];

const TEST_FOLDERS: [&str; 6] = ["tests", "test", "docs", "doc", "examples", "benchmarks"];
const ASSET_FOLDERS: [&str; 14] = [
    "assets",
    "static",
    "templates",
    "data",
    "resources",
    "res",
    "locale",
    "locales",
    "i18n",
    "translations",
    "fonts",
    "images",
    "icons",
    "themes",
];
/// Usual names of requirements files of tests, the most particular first.
const TEST_REQUIREMENTS: [&str; 11] = [
    "requirements-test.txt",
    "requirements-tests.txt",
    "requirements_test.txt",
    "test-requirements.txt",
    "requirements/test.txt",
    "requirements/tests.txt",
    "tests/requirements.txt",
    "requirements-dev.txt",
    "requirements_dev.txt",
    "dev-requirements.txt",
    "requirements/dev.txt",
];
const ICON_STEMS: [&str; 4] = ["icon", "app", "appicon", "logo"];

impl ProjectFacts {
    /// Whether this file exists.
    pub fn has(&self, file: &str) -> bool {
        self.files.contains(file)
    }

    /// The name that the project has if none is set: that of pyproject.toml, else of the folder, fit for file names.
    pub fn name(&self) -> String {
        let given = self.pyproject.as_ref().and_then(|facts| facts.name.as_deref()).unwrap_or(&self.folder_name);
        let name: String =
            given.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if name.is_empty() { "app".to_owned() } else { name.to_owned() }
    }

    /// Files that look like they start the program, the likeliest first: `__main__.py` of a package, the usual names, a
    /// file named like the project, the module of a script in pyproject.toml.
    pub fn entry_candidates(&self) -> Vec<String> {
        let module_name = self.name().to_ascii_lowercase().replace(['-', '.'], "_");
        let scripts = self.pyproject.as_ref().map(|facts| facts.scripts.as_slice()).unwrap_or_default();
        let mut packages: Vec<String> = scripts
            .iter()
            .filter_map(|script| script.module.split('.').next().map(str::to_owned))
            .chain([module_name.clone()])
            .collect();
        packages.extend(self.files.iter().filter_map(|file| {
            let folder = file.strip_suffix("/__main__.py")?;
            let folder = folder.strip_prefix("src/").unwrap_or(folder);
            (!folder.contains('/') && !TEST_FOLDERS.contains(&folder)).then(|| folder.to_owned())
        }));
        let mains = packages.iter().flat_map(|package| in_both_layouts(&format!("{package}/__main__.py")));
        let usual = ["main.py", "app.py", "__main__.py", "cli.py", "run.py"].map(str::to_owned).into_iter();
        let usual = usual.flat_map(|file| in_both_layouts(&file)).chain([format!("{module_name}.py")]);
        let named =
            ["main.py", "app.py", "cli.py"].iter().flat_map(|file| in_both_layouts(&format!("{module_name}/{file}")));
        let of_scripts =
            scripts.iter().flat_map(|script| in_both_layouts(&format!("{}.py", script.module.replace('.', "/"))));
        let mut found: Vec<String> = Vec::new();
        for file in mains.chain(usual).chain(named).chain(of_scripts) {
            if self.has(&file) && !found.contains(&file) {
                found.push(file);
            }
        }
        found
    }

    /// Why the tests seem to be pytest's; nothing if there seem to be none.
    pub fn shows_pytest(&self) -> Option<String> {
        if self.pyproject.as_ref().is_some_and(|facts| facts.configures_pytest) {
            return Some("pyproject.toml has [tool.pytest]".to_owned());
        }
        let is_test = |file: &&String| {
            let name = file.rsplit('/').next().unwrap_or(file);
            let is_python = name.strip_suffix(".py");
            let is_test = is_python.is_some_and(|stem| stem.starts_with("test_") || stem.ends_with("_test"));
            is_test || matches!(name, "pytest.ini" | ".pytest.ini" | "pytest.toml" | "conftest.py")
        };
        self.files.iter().find(is_test).map(|file| format!("{file} exists"))
    }

    /// The requirements file of the tests.
    pub fn test_requirements(&self) -> Option<&'static str> {
        TEST_REQUIREMENTS.into_iter().find(|file| self.has(file))
    }

    /// License, README and changelog at the top of the project, by their usual names: of each the first.
    pub fn documents(&self) -> Vec<String> {
        let is_at_top = |file: &&String| !file.contains('/');
        let of = |words: &[&str]| {
            let is_it = |file: &&String| words.iter().any(|word| file.to_ascii_lowercase().starts_with(word));
            let is_text = |file: &&String| {
                let name = file.to_ascii_lowercase();
                let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
                !stem.is_empty() && matches!(extension, "" | "md" | "txt" | "rst" | "mit")
            };
            self.files.iter().filter(is_at_top).filter(is_text).find(is_it).cloned()
        };
        let kinds: [&[&str]; 3] = [&["license", "licence", "copying"], &["readme"], &["changelog", "changes"]];
        kinds.into_iter().filter_map(of).collect()
    }

    /// Folders with files that a program reads at run time, as `SRC=DST`.
    pub fn data_candidates(&self) -> Vec<String> {
        let mut folders: BTreeSet<&str> = BTreeSet::new();
        for file in self.files.iter().filter(|file| !is_code(file)) {
            let parts: Vec<&str> = file.split('/').collect();
            let skipped = |part: &&str| TEST_FOLDERS.contains(part) || SKIPPED_FOLDERS.contains(part);
            if parts.iter().any(skipped) {
                continue;
            }
            // The outermost folder takes those inside it along.
            if let Some(depth) = parts[..parts.len() - 1].iter().position(|part| ASSET_FOLDERS.contains(part)) {
                let length = parts[..=depth].iter().map(|part| part.len() + 1).sum::<usize>() - 1;
                folders.insert(&file[..length]);
            }
        }
        folders
            .into_iter()
            .filter(|folder| !folder.contains('='))
            .map(|folder| format!("{folder}={}", folder.strip_prefix("src/").unwrap_or(folder)))
            .collect()
    }

    /// Pictures that could be the program's icon, the likeliest first.
    pub fn icon_candidates(&self) -> Vec<String> {
        let rank = |file: &str| {
            let name = file.rsplit('/').next()?.to_ascii_lowercase();
            let (stem, extension) = name.rsplit_once('.')?;
            let stem = ICON_STEMS.iter().position(|known| *known == stem)?;
            let extension = ["png", "svg", "xpm"].iter().position(|known| *known == extension)?;
            Some((stem, extension, file.matches('/').count()))
        };
        let in_tests = |file: &str| file.split('/').any(|part| TEST_FOLDERS.contains(&part));
        let mut found: Vec<_> =
            self.files.iter().filter(|file| !in_tests(file)).filter_map(|file| Some((rank(file)?, file))).collect();
        found.sort();
        found.into_iter().map(|(_, file)| file.clone()).collect()
    }
}

fn in_both_layouts(file: &str) -> [String; 2] {
    [format!("src/{file}"), file.to_owned()]
}

fn is_code(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.starts_with('.') || [".py", ".pyc", ".pyi", ".pyx"].iter().any(|extension| name.ends_with(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(folder: &str, files: &[&str]) -> ProjectFacts {
        ProjectFacts {
            folder_name: folder.to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            ..ProjectFacts::default()
        }
    }

    #[test]
    fn names_are_fit_for_files() {
        for (folder, name) in
            [("hello", "hello"), ("My App (2)", "My-App--2"), ("..", "app"), ("", "app"), ("über", "ber")]
        {
            assert_eq!(facts(folder, &[]).name(), name, "{folder}");
        }
    }

    #[test]
    fn programs_are_found() {
        for (files, expected) in [
            (vec!["main.py", "setup.py"], vec!["main.py"]),
            (vec!["src/hello/__main__.py", "main.py"], vec!["src/hello/__main__.py", "main.py"]),
            (vec!["hello/cli.py", "hello/__init__.py"], vec!["hello/cli.py"]),
            (vec!["hello.py"], vec!["hello.py"]),
            (vec!["tests/__main__.py", "lib.py"], vec![]),
            (vec!["other/__main__.py", "other/x/__main__.py"], vec!["other/__main__.py"]),
        ] {
            assert_eq!(facts("hello", &files).entry_candidates(), expected, "{files:?}");
        }
        let mut with_script = facts("x", &["src/tool/start.py"]);
        with_script.pyproject = crate::pyproject::read("[project.scripts]\nt = \"tool.start:main\"\n").ok();
        assert_eq!(with_script.entry_candidates(), ["src/tool/start.py"]);
    }

    #[test]
    fn tests_and_their_requirements_are_found() {
        for (files, why) in [
            (vec!["tests/test_a.py"], Some("tests/test_a.py exists")),
            (vec!["a/b_test.py", "main.py"], Some("a/b_test.py exists")),
            (vec!["pytest.ini"], Some("pytest.ini exists")),
            (vec!["testing.py", "tests/data.txt", "latest_news.py"], None),
        ] {
            assert_eq!(facts("hello", &files).shows_pytest().as_deref(), why, "{files:?}");
        }
        let files = ["requirements-dev.txt", "requirements.txt", "requirements-test.txt"];
        assert_eq!(facts("hello", &files).test_requirements(), Some("requirements-test.txt"));
        let mut with_extras = facts("hello", &[]);
        with_extras.pyproject = crate::pyproject::read(
            "[project.optional-dependencies]\ndev = [\"ruff\"]\ntest = [\"pytest\", \"hypothesis\"]\n\
             [tool.pytest.ini_options]\naddopts = \"-q\"\n[dependency-groups]\nother = [\"x\"]\n",
        )
        .ok();
        assert_eq!(with_extras.shows_pytest().as_deref(), Some("pyproject.toml has [tool.pytest]"));
        let extra = with_extras.pyproject.as_ref().and_then(crate::Pyproject::test_extra);
        assert_eq!(extra, Some(("test", ["pytest".to_owned(), "hypothesis".to_owned()].as_slice())));
    }

    #[test]
    fn documents_are_found_by_their_usual_names() {
        let files = ["CHANGELOG.md", "LICENSE", "README.md", "docs/LICENSE", "license.py", "readme-pictures.zip"];
        assert_eq!(facts("hello", &files).documents(), ["LICENSE", "README.md", "CHANGELOG.md"]);
        assert_eq!(facts("hello", &["main.py"]).documents(), [""; 0]);
    }

    #[test]
    fn data_and_icons_are_found() {
        let facts = facts(
            "hello",
            &[
                "assets/icon.png",
                "assets/fonts/a.ttf",
                "src/hello/templates/a.html",
                "hello/data/__init__.py",
                "tests/data/x.json",
                "logo.svg",
                "static/.gitkeep",
                "dist/assets/x",
            ],
        );
        assert_eq!(facts.data_candidates(), ["assets=assets", "src/hello/templates=hello/templates"]);
        assert_eq!(facts.icon_candidates(), ["assets/icon.png", "logo.svg"]);
    }
}
