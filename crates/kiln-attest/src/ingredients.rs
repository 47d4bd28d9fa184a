//! What a build tells about its result: Nuitka's report, and the list of materials that the recipes write. Pure.
//!
//! The report knows which distributions and libraries were taken in and what uses what, `materials.json` where they come
//! from: licences, system packages, digests. `dockerfiles/README.md` describes the latter.

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use serde::Deserialize;

/// The version of `materials.json` that is understood.
const VERSION: u32 = 1;
/// The root element of Nuitka's report.
const ROOT: &str = "nuitka-compilation-report";

/// What a report of Nuitka says about the contents of a program. Source: `nuitka/reports/Reports.py` of Nuitka 4.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Version of Nuitka.
    pub nuitka: String,
    /// Version of Python.
    pub python: String,
    /// Names and versions of Python distributions of which modules were taken in.
    pub distributions: BTreeMap<String, String>,
    /// What is bundled as a file: extension modules and shared libraries, by name in the program's folder.
    pub files: BTreeSet<String>,
    /// Distributions by who uses them: another distribution, or the project itself, which has no name.
    pub uses: BTreeMap<String, BTreeSet<String>>,
}

/// Why what a build tells cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngredientsError {
    /// A report is no XML.
    #[error("it is damaged at byte {at}")]
    Xml {
        /// Where.
        at: u64,
        /// Why.
        #[source]
        source: quick_xml::Error,
    },
    /// It is another XML, or incomplete.
    #[error("it is no report of Nuitka, or not a whole one")]
    Other,
    /// A list of materials is not as the recipes write it.
    #[error("it is no list of materials")]
    Json(#[from] serde_json::Error),
    /// A list of materials is newer than this program.
    #[error("its version is {0}, of which this kiln knows nothing")]
    Newer(u32),
}

impl Report {
    /// Reads a report.
    pub fn parse(xml: &str) -> Result<Self, IngredientsError> {
        let mut reader = Reader::from_str(xml);
        let (mut report, mut whole) = (Self::default(), false);
        // The distributions of the module that is read.
        let mut module: Vec<String> = Vec::new();
        loop {
            let event = reader.read_event();
            let event = event.map_err(|source| IngredientsError::Xml { at: reader.error_position(), source })?;
            match event {
                Event::Start(element) if element.name().0 == "module" => module = owners(&element),
                Event::Start(element) | Event::Empty(element) => report.take(&element, &module),
                Event::End(element) if element.name().0 == "module" => module.clear(),
                Event::End(element) => whole |= element.name().0 == ROOT,
                Event::Eof if whole => return Ok(report),
                Event::Eof => return Err(IngredientsError::Other),
                _ => {}
            }
        }
    }

    fn take(&mut self, element: &BytesStart<'_>, module: &[String]) {
        match element.name().0 {
            ROOT => self.nuitka = text(element, "nuitka_version"),
            "python" => self.python = text(element, "python_version"),
            "distribution" => {
                self.distributions.insert(text(element, "name"), text(element, "version"));
            }
            "included_dll" | "included_extension" if text(element, "ignored") != "yes" => {
                self.files.insert(text(element, "dest_path"));
            }
            "distribution-usage" => {
                let used = text(element, "name");
                for user in module {
                    if *user != used {
                        self.uses.entry(user.clone()).or_default().insert(used.clone());
                    }
                }
            }
            _ => {}
        }
    }
}

/// The distributions that a module belongs to; one without a name where there are none.
fn owners(element: &BytesStart<'_>) -> Vec<String> {
    text(element, "distribution").split(',').map(|name| name.trim().to_owned()).collect()
}

/// An attribute; empty where it is missing or no text.
fn text(element: &BytesStart<'_>, name: &str) -> String {
    let attribute = element.try_get_attribute(name).ok().flatten();
    let value = attribute.and_then(|attribute| {
        attribute.normalized_value(XmlVersion::Implicit1_0).ok().map(std::borrow::Cow::into_owned)
    });
    value.unwrap_or_default()
}

/// `materials.json` of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Materials {
    /// Version of its form.
    version: u32,
    /// The program that they were used for.
    pub result: Made,
    /// The system that it was built on.
    pub system: System,
    /// Its Python.
    pub python: Python,
    /// Python distributions.
    pub distributions: Vec<Distribution>,
    /// Files that are bundled with the program.
    pub files: Vec<Bundled>,
    /// System packages that files or tools come from.
    pub packages: Vec<SystemPackage>,
    /// What built it.
    pub tools: Vec<Tool>,
}

/// The program that came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Made {
    /// SHA-256 in hexadecimal of the program's file.
    pub sha256: Option<String>,
}

/// A system, as its `os-release` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct System {
    /// `debian`, `alpine`.
    pub id: Option<String>,
    /// `12`, `3.20.3`.
    pub version: Option<String>,
    /// Its name for people.
    pub name: Option<String>,
}

/// A Python.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Python {
    /// `3.11.2`.
    pub version: String,
    /// `CPython`.
    pub implementation: String,
    /// System packages that its library comes from; none where it was not installed as a package.
    pub packages: Vec<String>,
}

/// A distribution of Python.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Distribution {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `License-Expression`: an expression of SPDX.
    pub license_expression: Option<String>,
    /// `License`, if it is one line: any text.
    pub license: Option<String>,
    /// Classifiers that begin with `License ::`.
    #[serde(default)]
    pub classifiers: Vec<String>,
    /// The commit, if it was installed from a repository.
    pub commit: Option<String>,
}

/// A file that is bundled with the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Bundled {
    /// Its name in the program's folder.
    pub name: String,
    /// SHA-256 in hexadecimal of the file as it is bundled.
    pub sha256: Option<String>,
    /// The Python distribution that it comes from.
    pub distribution: Option<String>,
    /// The system package that it comes from.
    pub package: Option<String>,
}

/// A system package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SystemPackage {
    /// `deb` or `apk`, as package URLs call it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture in its own words.
    pub architecture: Option<String>,
    /// The source package.
    pub source: Option<String>,
    /// Version of the source package.
    pub source_version: Option<String>,
    /// Its licence, where the package database has it.
    pub license: Option<String>,
}

/// A tool that the program was built with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Tool {
    /// Name of its command.
    pub name: String,
    /// The first line that it says to `--version`.
    #[serde(default)]
    pub said: String,
    /// The system package that it comes from.
    pub package: Option<String>,
}

impl Materials {
    /// Reads a list.
    pub fn parse(json: &str) -> Result<Self, IngredientsError> {
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let form: Form = serde_json::from_str(json)?;
        if form.version > VERSION {
            return Err(IngredientsError::Newer(form.version));
        }
        Ok(serde_json::from_str(json)?)
    }
}

/// A distribution's name as it is compared: `Foo.Bar_baz` is `foo-bar-baz`. Source: PyPA, "Names and normalization".
pub(crate) fn normal(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.extend(c.to_lowercase()),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_a_report_tells() {
        let report = Report::parse(fixture::REPORT).unwrap();
        assert_eq!((report.nuitka.as_str(), report.python.as_str()), ("4.3.3", "3.11.2"));
        let distributions: Vec<_> = report.distributions.iter().map(|(n, v)| format!("{n} {v}")).collect();
        assert_eq!(distributions, ["Pygments 2.18.0", "lxml 5.3.0", "rich 13.9.4"]);
        assert!(report.files.contains("libssl.so.3") && report.files.contains("lxml/etree.so"));
        assert!(!report.files.contains("libz.so.1"), "it is not bundled");
        let used = |by: &str| report.uses[by].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!((used(""), used("rich")), (vec!["lxml", "rich"], vec!["Pygments"]));
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        for text in ["", "<other/>", "<nuitka-compilation-report>", "<a></b>", "no XML", &fixture::REPORT[..900]] {
            assert!(Report::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn materials_of_another_form_are_refused() {
        let materials = Materials::parse(fixture::MATERIALS).unwrap();
        assert_eq!(materials.packages.len(), 5);
        assert!(matches!(Materials::parse(r#"{"version": 2}"#), Err(IngredientsError::Newer(2))));
        assert!(matches!(Materials::parse(r#"{"version": 1}"#), Err(IngredientsError::Json(_))));
    }

    #[test]
    fn names_are_compared_as_pypa_says() {
        assert_eq!(normal("Foo.Bar__baz-.x"), "foo-bar-baz-x");
    }
}
