//! Bills of materials: what a program is made of, as CycloneDX 1.6 and as SPDX 2.3.
//!
//! A [`Bill`] is what both say. It names what was really built in, as Nuitka's report and the recipe's list of materials
//! tell it, and says what they could not tell ([`Bill::gaps`]). It has no clock and no random numbers: the identity of a
//! bill is derived from its content.

mod cyclonedx;
mod license;
pub(crate) mod purl;
mod spdx;

use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::Platform;
use uuid::Uuid;

use self::license::License;
use crate::ingredients::{Distribution, Materials, Report, normal};

/// The program that a bill is about.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Name of the project.
    pub name: &'a str,
    /// Its version.
    pub version: Option<&'a str>,
    /// Name of the file.
    pub file: &'a str,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: &'a str,
    /// What it runs on.
    pub platform: Platform,
}

/// What a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Python itself.
    Interpreter,
    /// A distribution of Python, or a system package with libraries.
    Library,
    /// A bundled file.
    File,
    /// What built it, and is not inside.
    Tool,
}

/// Something that a program is made of.
#[derive(Clone, Debug)]
struct Component {
    /// How the bill refers to it.
    id: String,
    kind: Kind,
    name: String,
    version: String,
    purl: Option<String>,
    /// In hexadecimal.
    sha256: Option<String>,
    license: Option<License>,
    /// What it comes out of, by id.
    parent: Option<String>,
    /// More about it, by name.
    notes: BTreeMap<&'static str, String>,
}

/// A bill of materials.
#[derive(Clone, Debug)]
pub struct Bill<'a> {
    subject: Subject<'a>,
    /// In order of their kinds and names.
    components: Vec<Component>,
    /// What depends on what, by ids.
    needs: BTreeMap<String, BTreeSet<String>>,
    /// What could not be known.
    gaps: Vec<String>,
    /// Whether anything is known of the inside.
    is_known: bool,
    /// Seconds since 1970.
    epoch: i64,
    tool: (&'a str, &'a str),
}

/// What no bill can know.
const VENDORED: &str = "Code that packages carry inside of their own files is not listed apart.";
/// What of Nuitka is inside.
const RUNTIME: &str = "its runtime, for which LICENSE-RUNTIME.txt of Nuitka has an exception";
/// How a bill refers to its program.
const SUBJECT: &str = "program";

impl<'a> Bill<'a> {
    /// Makes a bill. What a build tells is taken only if `materials` were for this very file; a report without materials
    /// is believed. `epoch` is the moment that it is dated to, in seconds since 1970; `tool` is who makes it, by name and
    /// version.
    pub fn new(
        subject: Subject<'a>,
        report: Option<&Report>,
        materials: Option<&Materials>,
        epoch: i64,
        tool: (&'a str, &'a str),
    ) -> Self {
        let mut bill = Self {
            subject,
            components: Vec::new(),
            needs: BTreeMap::new(),
            gaps: Vec::new(),
            is_known: false,
            epoch,
            tool,
        };
        let of_other = materials.is_some_and(|m| m.result.sha256.as_deref() != Some(bill.subject.sha256));
        match report {
            None => bill.gaps.push("What is inside is not known: its build left no report of Nuitka.".to_owned()),
            Some(_) if of_other => {
                bill.gaps.push("What is inside is not known: the report at hand is of another build.".to_owned());
            }
            Some(report) => bill.fill(report, materials),
        }
        bill
    }

    /// Whether anything is known of what is inside.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// What could not be known, in sentences.
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// The bill as CycloneDX 1.6, in JSON.
    pub fn to_cyclonedx(&self) -> String {
        cyclonedx::write(self)
    }

    /// The bill as SPDX 2.3, in JSON.
    pub fn to_spdx(&self) -> String {
        spdx::write(self)
    }

    fn fill(&mut self, report: &Report, materials: Option<&Materials>) {
        self.is_known = true;
        self.gaps.push(VENDORED.to_owned());
        let nothing = Materials::default();
        let known = materials.unwrap_or(&nothing);
        if materials.is_none() {
            let text = "Licences, and the packages that bundled libraries come from, are not known: the build left no list of materials.";
            self.gaps.push(text.to_owned());
        }
        let packages = self.packages(known);
        let interpreter = self.interpreter(report, known, &packages);
        let distributions = self.distributions(report, known);
        self.files(report, known, &distributions, &packages, &interpreter);
        self.relate(report, &distributions, interpreter);
        self.tools(known);
        self.components.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        self.components.dedup_by(|a, b| a.id == b.id);
    }

    /// System packages that something inside comes from, by name.
    fn packages(&mut self, known: &Materials) -> BTreeMap<String, String> {
        let of_files = known.files.iter().filter_map(|file| file.package.as_ref());
        let inside: BTreeSet<&String> = of_files.chain(&known.python.packages).collect();
        let mut ids = BTreeMap::new();
        for package in known.packages.iter().filter(|package| inside.contains(&package.name)) {
            let purl = purl::system(package, &known.system);
            let source = package.source.as_ref().filter(|source| **source != package.name);
            let source = source.map(|source| {
                let version = package.source_version.as_deref().unwrap_or_default();
                ("kiln:source-package", format!("{source} {version}").trim().to_owned())
            });
            ids.insert(package.name.clone(), purl.clone());
            self.components.push(Component {
                license: package.license.as_deref().and_then(License::of_text),
                parent: None,
                notes: source.into_iter().collect(),
                sha256: None,
                ..component(Kind::Library, &package.name, &package.version, Some(purl))
            });
        }
        if known.packages.iter().any(|package| package.kind == "deb") {
            self.gaps.push("Licences of Debian's packages are not known: their database has none.".to_owned());
        }
        ids
    }

    /// Python itself, and its id.
    fn interpreter(&mut self, report: &Report, known: &Materials, packages: &BTreeMap<String, String>) -> String {
        let version = if known.python.version.is_empty() { &report.python } else { &known.python.version };
        let name = Some(known.python.implementation.as_str()).filter(|name| !name.is_empty()).unwrap_or("Python");
        let purl = purl::generic(&name.to_lowercase(), version);
        let python = Component {
            license: (name == "CPython").then(|| License::Id("Python-2.0".to_owned())),
            ..component(Kind::Interpreter, name, version, Some(purl))
        };
        let id = python.id.clone();
        self.need(&id, known.python.packages.iter().filter_map(|package| packages.get(package)).cloned());
        self.components.push(python);
        id
    }

    /// Python distributions and Nuitka, whose own code is part of every program; ids by normal names.
    fn distributions(&mut self, report: &Report, known: &Materials) -> BTreeMap<String, String> {
        let mut ids = BTreeMap::new();
        let nuitka = ("Nuitka".to_owned(), report.nuitka.clone());
        let inside = report.distributions.iter().map(|(name, version)| (name.clone(), version.clone()));
        for (name, version) in inside.chain([nuitka]) {
            let found = known.distributions.iter().find(|known| normal(&known.name) == normal(&name));
            let said = found.cloned().unwrap_or_else(|| Distribution { name: name.clone(), ..Distribution::default() });
            let said = Distribution { version, ..said };
            let license = License::of_distribution(&said);
            if license.is_none() && !known.distributions.is_empty() {
                self.gaps.push(format!("The licence of {name} is not known: its metadata names none."));
            }
            let commit = said.commit.clone().map(|commit| ("kiln:commit", commit));
            let built_in = (normal(&name) == "nuitka").then(|| ("kiln:part", RUNTIME.to_owned()));
            let notes = commit.into_iter().chain(built_in).collect();
            let distribution = Component {
                license,
                notes,
                ..component(Kind::Library, &said.name, &said.version, Some(purl::pypi(&said)))
            };
            ids.insert(normal(&name), distribution.id.clone());
            self.components.push(distribution);
        }
        ids
    }

    /// Bundled files, each part of what it comes from.
    fn files(
        &mut self,
        report: &Report,
        known: &Materials,
        distributions: &BTreeMap<String, String>,
        packages: &BTreeMap<String, String>,
        interpreter: &str,
    ) {
        for name in &report.files {
            let said = known.files.iter().find(|file| file.name == *name);
            let package = said.and_then(|file| packages.get(file.package.as_ref()?));
            let distribution = said.and_then(|file| distributions.get(&normal(file.distribution.as_ref()?)));
            // Extension modules of a Python that was not installed as a package are its own.
            let own = known.python.packages.is_empty() && !name.contains(['/', '-']) && !name.starts_with("lib");
            let parent = package.or(distribution).cloned().or_else(|| own.then(|| interpreter.to_owned()));
            if parent.is_none() && !known.files.is_empty() {
                self.gaps.push(format!("Where {name} comes from is not known: no package has it."));
            }
            let sha256 = said.and_then(|file| file.sha256.clone());
            let file = Component { sha256, parent: parent.clone(), ..component(Kind::File, name, "", None) };
            if parent.is_none() {
                self.need(SUBJECT, [file.id.clone()]);
            }
            self.components.push(file);
        }
    }

    /// Who needs whom, as the report saw it.
    fn relate(&mut self, report: &Report, distributions: &BTreeMap<String, String>, interpreter: String) {
        let id = |name: &String| distributions.get(&normal(name));
        for (name, used) in &report.uses {
            let user = if name.is_empty() { Some(SUBJECT.to_owned()) } else { id(name).cloned() };
            if let Some(user) = user {
                let others = used.iter().filter_map(id).filter(|other| **other != user).cloned();
                self.need(&user, others.collect::<Vec<_>>());
            }
        }
        let nuitka = distributions.get("nuitka").cloned();
        self.need(SUBJECT, [interpreter].into_iter().chain(nuitka));
        // Nothing hangs in the air: what nobody is seen to need was asked for by the project.
        let needed: BTreeSet<String> = self.needs.values().flatten().cloned().collect();
        let inside = self.components.iter().filter(|component| component.kind == Kind::Library);
        let free: Vec<String> = inside.map(|c| c.id.clone()).filter(|id| !needed.contains(id)).collect();
        self.need(SUBJECT, free);
    }

    fn need(&mut self, user: &str, parts: impl IntoIterator<Item = String>) {
        self.needs.entry(user.to_owned()).or_default().extend(parts);
    }

    /// What it was built with.
    fn tools(&mut self, known: &Materials) {
        for tool in &known.tools {
            let package = known.packages.iter().find(|package| Some(&package.name) == tool.package.as_ref());
            let purl = package.map(|package| purl::system(package, &known.system));
            let version = package.map_or(tool.said.as_str(), |package| package.version.as_str());
            let tool = Component {
                id: format!("tool:{}", tool.name),
                license: package.and_then(|package| package.license.as_deref()).and_then(License::of_text),
                // Under native twins this is the cross compiler, which may be of another revision than the package.
                notes: [("kiln:said", tool.said.clone())]
                    .into_iter()
                    .chain(package.map(|package| ("kiln:package", package.name.clone())))
                    .collect(),
                ..component(Kind::Tool, &tool.name, version, purl)
            };
            self.components.push(tool);
        }
    }

    /// An id that two bills share only if they say the same.
    fn uuid(&self) -> Uuid {
        let content = format!("{:?} {:?} {:?} {:?}", self.subject, self.components, self.needs, self.gaps);
        let content = format!("{content} {} {:?}", self.epoch, self.tool);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, content.as_bytes())
    }
}

/// A component of which no more is known.
fn component(kind: Kind, name: &str, version: &str, purl: Option<String>) -> Component {
    let id = match kind {
        Kind::File => format!("file:{name}"),
        _ => purl.clone().unwrap_or_else(|| format!("{name}@{version}")),
    };
    let (name, version) = (name.to_owned(), version.to_owned());
    Component { id, kind, name, version, purl, sha256: None, license: None, parent: None, notes: BTreeMap::new() }
}

#[cfg(test)]
mod tests;
