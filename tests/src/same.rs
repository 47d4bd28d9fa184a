//! Two builds of the same program, compared in all but time.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_artifact::{Content, check};
use kiln_graph::{Arch, Platform};

use crate::{Project, Ran};

const ARM64: Platform = Platform::linux(Arch::Arm64);

/// Without twins, from nothing: no result and no cache of the other build is used.
pub const EMULATED: &[&str] = &["--twin=off", "--no-cache", "--no-cache-mounts"];

/// All that is compared of a build.
#[derive(Debug)]
pub struct Built {
    /// Modules, extension modules, libraries and data files of Nuitka's report.
    pub report: BTreeMap<String, String>,
    /// The ELF facts, or the kind, of the program and of every file inside.
    pub files: BTreeMap<String, String>,
    /// What the program prints.
    pub output: String,
}

/// Builds for arm64 and looks at the result; `way` is how its steps must have run.
pub fn build(project: &Project, name: &str, image: &str, way: &str, arguments: &[&str]) -> Built {
    let ran = project.build(&[&["--platform=linux/arm64"], arguments].concat());
    assert_eq!(way_of(&ran), way, "{}", ran.stderr);
    let artifact: PathBuf = project.path().join("dist").join(format!("{name}-linux-arm64"));
    let inspection = check::inspect(&artifact).expect("the artifact can be read");
    let verdict = check::verify(&inspection, ARM64, &check::Expectations::default());
    assert!(verdict.is_fit(), "{:?}", verdict.problems);
    let files = inspection.program.iter().chain(inspection.contained());
    let files = files.map(|file| {
        let what = match &file.content {
            // Sizes may differ by the compilers' own names in comments.
            Content::Elf(facts) => format!("{} {facts:?}", file.executable),
            Content::Data => format!("{} data of {} bytes", file.executable, file.size),
            other => format!("{other:?}"),
        };
        assert!(!what.contains("/dev/"), "a path of the twin is left: {what}");
        (file.name.clone(), what)
    });
    let files = files.collect();
    let (code, output) = project.daemon().run(image, ARM64, &artifact, &[]);
    assert_eq!(code, 0, "{output}");
    let report = report(&project.read(".kiln/reports/linux_arm64/report.xml"));
    assert!(report.len() > 20, "the report says more: {report:?}");
    Built { report, files, output }
}

fn way_of(ran: &Ran) -> String {
    let reports = ran.events_of("target-finished");
    reports[0]["report"]["way"].as_str().unwrap_or_default().to_owned()
}

/// What the report says is in the program: element and name, with the attributes that say what it is.
pub fn report(xml: &str) -> BTreeMap<String, String> {
    const ELEMENTS: [&str; 5] = ["module", "included_extension", "included_dll", "data_file", "distribution"];
    let attribute = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let mut found = BTreeMap::new();
    for line in xml.lines().map(str::trim) {
        for element in ELEMENTS.iter().filter(|element| line.starts_with(&format!("<{element} "))) {
            let Some(name) = attribute(line, "name") else { continue };
            let what = ["kind", "usage", "version"].map(|name| attribute(line, name).unwrap_or_default());
            found.insert(format!("{element} {name}"), what.join(" "));
        }
    }
    found
}

/// The two must not differ.
pub fn assert_same(twin: &Built, emulated: &Built) {
    let differences = |ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>| -> Vec<String> {
        let names = ours.keys().chain(theirs.keys()).filter(|name| ours.get(*name) != theirs.get(*name));
        names.map(|name| format!("{name}: {:?} / {:?}", ours.get(name), theirs.get(name))).collect()
    };
    assert_eq!(differences(&twin.report, &emulated.report), [""; 0], "Nuitka's reports, twin / emulated");
    assert_eq!(differences(&twin.files, &emulated.files), [""; 0], "files of the programs, twin / emulated");
    assert_eq!(twin.output, emulated.output);
}

/// A project of one file and its requirements; `None` where there is no daemon.
pub fn project(recipe: &str, base: &str, requirements: &str, main: &str) -> Option<Project> {
    let base = if base.is_empty() { String::new() } else { format!("base = \"{base}\"\n") };
    let settings = format!(
        "[project]\nname = \"program\"\nentry = \"main.py\"\nrequirements = [{requirements}]\n\n\
         [build]\nrecipe = \"{recipe}\"\n{base}"
    );
    Project::new(&[("kiln.toml", &settings), ("main.py", main)])
}
