//! The project's own tests: one cell for each version of Python and platform, as things to build in one graph.
//!
//! [`cells`] makes the matrix, [`base`] finds an image with the Python of a cell, [`Cell::arguments`] fills the recipe.
//! After the build [`outcome`] reads what became of each cell, [`junit`] reads and writes reports, [`table`] and
//! [`annotate`] show them, [`written`] keeps what kiln writes out of what is tested.

pub(crate) mod annotate;
pub(crate) mod base;
mod cell;
pub(crate) mod junit;
pub(crate) mod outcome;
pub(crate) mod table;
pub(crate) mod written;

use kiln_config::Settings;
use kiln_graph::{Arch, Platform};

pub(crate) use cell::Cell;

use crate::error::{CliError, Result};

/// The matrix of a project: for each cell, the platform if one was asked for. `arguments` are more of the test command's.
pub(crate) fn cells(settings: &Settings, arguments: &[String]) -> Result<Vec<(Cell, Option<Platform>)>> {
    let test = &settings.test;
    if test.command.is_none() {
        return Err(CliError::Missing {
            problem: "nothing says how this project is tested".to_owned(),
            hint: "set [test] command, or name files of pytest test_*.py".to_owned(),
        });
    }
    let versions: Vec<Option<String>> = match test.python.as_slice() {
        [] => vec![None],
        versions => versions.iter().cloned().map(Some).collect(),
    };
    let platforms: Vec<Option<Platform>> = match test.platforms.as_slice() {
        [] => vec![None],
        platforms => platforms.iter().copied().map(Some).collect(),
    };
    let mut cells = Vec::new();
    for platform in &platforms {
        for version in &versions {
            cells.push((Cell::new(version.clone(), test.clone(), arguments.to_vec()), *platform));
        }
    }
    Ok(cells)
}

/// What to do where an image with Python cannot be had.
pub(crate) const OTHER_IMAGES: &str = "[test] images names others, such as \"registry.example/python:{python}\"";

/// What stands for the daemon's own platform until it is known.
pub(crate) const SOME_PLATFORM: Platform = Platform::linux(Arch::Amd64);

#[cfg(test)]
mod tests {
    use kiln_config::{Config, Layer, ProjectFacts};

    use super::*;

    fn settings(toml: &str) -> Settings {
        let layer = Layer::file("kiln.toml", toml);
        Config::load([layer], &ProjectFacts::default()).expect("valid").config.resolved()
    }

    #[test]
    fn the_matrix_is_each_python_on_each_platform() {
        let toml =
            "[test]\ncommand = [\"pytest\"]\npython = [\"3.11\", \"3.12\"]\nplatforms = [\"amd64\", \"arm64\"]\n";
        let names: Vec<String> = cells(&settings(toml), &[])
            .expect("a matrix")
            .iter()
            .map(|(cell, platform)| format!("{} {}", cell.name(), platform.expect("given")))
            .collect();
        let expected =
            ["test-3.11 linux/amd64", "test-3.12 linux/amd64", "test-3.11 linux/arm64", "test-3.12 linux/arm64"];
        assert_eq!(names, expected);
    }

    #[test]
    fn without_settings_there_is_one_cell_and_without_tests_none() {
        let one = cells(&settings("[test]\ncommand = \"make test\"\n"), &[]).expect("a matrix");
        assert!(matches!(one.as_slice(), [(cell, None)] if cell.name() == "test"));
        let error = cells(&settings(""), &[]).expect_err("no tests");
        assert_eq!(error.to_string(), "nothing says how this project is tested");
        assert_eq!(error.code(), crate::error::exit::CONFIG);
    }
}
