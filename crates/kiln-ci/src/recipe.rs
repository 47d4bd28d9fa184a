//! Between programs and settings: what settings say a program as it was built, and what kiln builds by settings.

use std::collections::BTreeSet;

use kiln_config::{Config, Jobs, Mode, Program as Start, Requirements, Toggle};
use kiln_graph::Platform;

use crate::draft::{Settings, Value};
use crate::nuitka::Options;
use crate::program::Program;

/// The settings of a program. What it is called is decided by all platforms together, in [`crate::draft`].
pub(crate) fn settings(program: &Program) -> Settings {
    let mut settings = Settings::new();
    let options = &program.options;
    let mut set = |key: &'static str, value: Value| {
        settings.insert(key, value);
    };
    let text = |text: &str| Value::Text(text.to_owned());
    if let Some(entry) = &options.entry {
        let key = if entry.strip_suffix(".py").is_some() { "project.entry" } else { "project.module" };
        set(key, Value::Text(entry.trim_end_matches('/').to_owned()).module(key));
    }
    match (&program.requirements, program.requires.as_slice()) {
        (Some(file), _) => set("project.requirements", text(file)),
        (None, []) => {}
        (None, list) => set("project.requirements", Value::List(list.to_vec())),
    }
    let mut list = |key: &'static str, items: &[String]| {
        if !items.is_empty() {
            set(key, Value::List(items.to_vec()));
        }
    };
    list("project.data", &options.data);
    list("nuitka.plugins", &options.plugins);
    list("nuitka.extra-args", &options.extra);
    list("build.packages", &program.packages);
    list("build.before-build", &program.before);
    if let Some(icon) = &options.icon {
        set("project.icon", text(icon));
    }
    if let Some(version) = &program.version {
        set("nuitka.version", text(version));
    }
    if options.mode.as_deref() == Some("standalone") {
        set("nuitka.mode", text("standalone"));
    }
    for (key, value) in [("nuitka.lto", &options.lto), ("nuitka.static-libpython", &options.static_libpython)] {
        if let Some(value) = value.as_deref().filter(|value| matches!(*value, "yes" | "no")) {
            set(key, text(value));
        }
    }
    if let Some(jobs) = options.jobs.as_ref().and_then(|jobs| jobs.parse().ok()).filter(|jobs| *jobs > 0) {
        set("nuitka.jobs", Value::Number(jobs));
    }
    if options.compression == Some(false) {
        set("nuitka.compression", text("no"));
    }
    set("build.recipe", text(program.system.unwrap_or_else(|| system_of(&program.base))));
    if !program.base.contains("${{") {
        set("build.base", text(&program.base));
    }
    settings
}

fn system_of(image: &str) -> &'static str {
    if image.contains("alpine") { "alpine" } else { "debian" }
}

/// What of a program no setting says, and why.
pub(crate) fn lost(program: &Program) -> Vec<(String, &'static str)> {
    let mut lost = program.lost.clone();
    let options = &program.options;
    match options.mode.as_deref() {
        Some("onefile" | "standalone") => {}
        Some(other) => lost.push((format!("--mode={other}"), "the recipes make onefile and standalone programs")),
        None => lost.push(("no --onefile".to_owned(), "the recipes make onefile and standalone programs")),
    }
    if options.lto.is_none() {
        lost.push(("no --lto".to_owned(), "differs: flags: kiln decides: yes on amd64 and 386, no elsewhere"));
    }
    if program.requirements.is_some() && !program.requires.is_empty() {
        let what = format!("pip install {}", program.requires.join(" "));
        lost.push((what, "add these to the file of requirements"));
    }
    lost
}

/// What kiln's recipe asks Nuitka for on a platform.
pub(crate) fn flags(config: &Config, platform: Platform) -> BTreeSet<String> {
    let settings = config.for_platform(platform);
    let (project, nuitka) = (&settings.project, &settings.nuitka);
    let toggle = |toggle: Toggle| match toggle {
        Toggle::Auto => None,
        Toggle::Yes => Some("yes".to_owned()),
        Toggle::No => Some("no".to_owned()),
    };
    let options = Options {
        mode: Some(if nuitka.mode == Mode::Standalone { "standalone" } else { "onefile" }.to_owned()),
        output: None,
        folder: None,
        plugins: nuitka.plugins.clone(),
        static_libpython: toggle(nuitka.static_libpython),
        lto: Some(if settings.lto.enabled { "yes" } else { "no" }.to_owned()),
        jobs: match nuitka.jobs {
            Jobs::Auto => None,
            Jobs::Count(count) => Some(count.to_string()),
        },
        icon: project.icon.clone(),
        data: project.data.iter().map(|data| format!("{}={}", data.source, data.target)).collect(),
        compression: (nuitka.compression == Toggle::No).then_some(false),
        extra: nuitka.extra_args.clone(),
        entry: match &project.program {
            Some(Start::Entry(file)) => Some(file.clone()),
            Some(Start::Module(module)) => Some(module.replace('.', "/")),
            None => None,
        },
    };
    let mut flags = options.flags();
    flags.extend(around(
        settings.build.recipe == kiln_config::Recipe::Alpine,
        settings.build.base.as_deref().unwrap_or_default(),
        &match &project.requirements {
            Requirements::None => Vec::new(),
            Requirements::File(file) => vec![format!("-r {file}")],
            Requirements::List(list) => list.clone(),
        },
    ));
    flags
}

/// What a program asks Nuitka for, in the same words.
pub(crate) fn flags_of(program: &Program) -> BTreeSet<String> {
    let mut flags = program.options.flags();
    let requirements: Vec<String> = match &program.requirements {
        Some(file) => vec![format!("-r {file}")],
        None => program.requires.clone(),
    };
    let is_alpine = program.system.unwrap_or_else(|| system_of(&program.base)) == "alpine";
    flags.extend(around(is_alpine, &program.base, &requirements));
    flags
}

fn around(is_alpine: bool, base: &str, requirements: &[String]) -> Vec<String> {
    let mut words = vec![format!("{} {base}", if is_alpine { "musl" } else { "glibc" })];
    words.extend(requirements.iter().map(|requirement| format!("pip {requirement}")));
    words
}
