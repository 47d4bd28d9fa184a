//! From workflows and scripts to kiln.toml and new ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kiln_graph::Platform;

use crate::draft::{Draft, Value};
use crate::error::MigrateError;
use crate::plan::{Around, Build, How, Plan, default_branch, plan, scenarios};
use crate::recipe;
use crate::rewrite::{Axes, MARK, Suites, axes, edits, region, rewrite, suites, test_edits};
use crate::workflow::Workflow;
use crate::yaml;

/// A file that is to be migrated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path from the project's folder.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// Something that could not be carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What it is.
    pub what: String,
    /// Why, or what to do instead.
    pub why: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, what, why } = self;
        write!(f, "{file}:{line}: {what}: {why}")
    }
}

/// What is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// The text of kiln.toml, if there is something to set.
    pub settings: Option<String>,
    /// New files: the old path, the new path, the text.
    pub files: Vec<(String, String, String)>,
    /// What could not be carried over.
    pub notes: Vec<Note>,
    /// Files in which nothing is for kiln.
    pub untouched: Vec<String>,
}

/// Whether a file is a shell script, by its name or first line.
pub fn is_script(source: &Source) -> bool {
    match std::path::Path::new(&source.file).extension().and_then(std::ffi::OsStr::to_str) {
        Some("yml" | "yaml") => false,
        Some("sh" | "bash") => true,
        _ => source.text.starts_with("#!"),
    }
}

/// The path of the file that is written for an old one: `kiln-NAME` beside it.
pub(crate) fn new_name(file: &str) -> String {
    match file.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/kiln-{name}"),
        None => format!("kiln-{file}"),
    }
}

/// A file that is read.
struct Read<'a> {
    source: &'a Source,
    workflow: Workflow,
    plans: Vec<Plan>,
    scenarios: Vec<crate::plan::Scenario>,
    default_branch: String,
}

/// A workflow for what is asked about it: a script is one of one step.
pub(crate) fn read(source: &Source) -> Result<Workflow, MigrateError> {
    if is_script(source) {
        Workflow::read(&source.file, &as_workflow(&source.text))
    } else {
        Workflow::read(&source.file, &source.text)
    }
}

fn as_workflow(script: &str) -> String {
    let mut text = "on: push\njobs:\n  script:\n    runs-on: ubuntu-latest\n    steps:\n    - run: |2\n".to_owned();
    for line in script.lines() {
        let _ = writeln!(text, "        {line}");
    }
    text
}

/// Migrates files of one project. `file` gives the text of another file of it, such as a Dockerfile.
///
/// Errors: a file that cannot be read, or nothing in any of them is for kiln.
pub fn migrate(sources: &[Source], file: &dyn Fn(&str) -> Option<String>) -> Result<Migration, MigrateError> {
    let around = Around { read: file, config: None };
    let mut all = Vec::new();
    for source in sources {
        let workflow = read(source)?;
        let default_branch = default_branch(&workflow, &source.text);
        let scenarios = scenarios(&workflow, &default_branch);
        let plans = scenarios.iter().map(|scenario| plan(&workflow, scenario, &around)).collect();
        all.push(Read { source, workflow, plans, scenarios, default_branch });
    }

    let mut draft = Draft::default();
    let decided: Vec<Axes> = all
        .iter()
        .map(|read| axes(&read.workflow, &read.scenarios, &read.plans, &read.default_branch, &mut draft))
        .collect();
    // A script is read as a workflow of one step, so its containers are found, too.
    let tests: Vec<Suites> = all.iter().map(|read| suites(&read.workflow, &mut draft)).collect();
    let builds: Vec<&Build> = all.iter().flat_map(|read| &read.plans).flat_map(|plan| &plan.builds).collect();
    let mut migration = Migration::default();
    programs(&builds, &mut draft);
    dockerfiles(&builds, &mut draft);

    // Which files change is known only after they were rewritten, and that decides how they call each other.
    let mut changed: Vec<String> = Vec::new();
    for _ in 0..2 {
        migration.files.clear();
        migration.notes.clear();
        migration.untouched.clear();
        for (read, decided) in all.iter().zip(decided.iter().zip(&tests)) {
            let (file, text) = (&read.source.file, &read.source.text);
            let (new, notes) = if is_script(read.source) {
                script(file, text, &read.plans, decided.1)
            } else {
                rewrite(file, text, &read.workflow, &read.plans, decided, &changed)
            };
            migration.notes.extend(notes);
            if let Some(new) = new {
                check(file, read.source, &new)?;
                migration.files.push((file.clone(), new_name(file), new));
            } else {
                migration.untouched.push(file.clone());
            }
        }
        changed = migration.files.iter().map(|(old, ..)| old.clone()).collect();
    }
    if migration.files.is_empty() {
        return Err(MigrateError::Nothing {
            files: sources.iter().map(|source| source.file.clone()).collect(),
            reasons: migration.notes.iter().map(Note::to_string).collect(),
        });
    }
    migration.notes.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    migration.settings = (!draft.is_empty()).then(|| draft.to_toml());
    Ok(migration)
}

/// Reads again what was written.
fn check(file: &str, source: &Source, text: &str) -> Result<(), MigrateError> {
    if is_script(source) {
        return Ok(());
    }
    let wrong = |message: String| MigrateError::Result { file: file.to_owned(), message };
    yaml::parse(file, text).map_err(|error| wrong(error.to_string()))?;
    Workflow::read(file, text).map_err(|error| wrong(error.to_string()))?;
    Ok(())
}

/// Drafts the settings of programs that scripts in containers build.
fn programs(builds: &[&Build], draft: &mut Draft) {
    let mut names: Vec<(Platform, String)> = Vec::new();
    let mut done: Vec<Platform> = Vec::new();
    for build in builds {
        let (How::Program(program), Ok(platform)) = (&build.how, build.platform.parse::<Platform>()) else { continue };
        if done.contains(&platform) {
            continue;
        }
        done.push(platform);
        draft.of(platform).extend(recipe::settings(program));
        if let Some(name) = &build.artifact {
            names.push((platform, name.clone()));
        }
    }
    if !names.is_empty() {
        draft.name(&names);
    }
    if !done.is_empty() && !draft.general.contains_key("build.platforms") {
        let list = done.iter().map(Platform::to_string).collect();
        draft.general.insert("build.platforms", Value::List(list));
    }
}

/// Drafts a Dockerfile of the project's own, with its arguments by platform.
fn dockerfiles(builds: &[&Build], draft: &mut Draft) {
    let has_program = builds.iter().any(|build| matches!(build.how, How::Program(_)));
    let mut chosen: Option<(String, Option<String>)> = None;
    let mut others: Vec<String> = Vec::new();
    let mut seen: BTreeMap<Platform, Vec<BTreeMap<String, String>>> = BTreeMap::new();
    let mut order: Vec<Platform> = Vec::new();
    let mut names: Vec<(Platform, String)> = Vec::new();
    for build in builds {
        let How::Dockerfile { context, file, target, args } = &build.how else { continue };
        let key = (file.clone(), target.clone());
        let shown = format!("{file}{}", target.as_ref().map(|target| format!(", stage {target}")).unwrap_or_default());
        let is_dynamic = file.contains("${{") || context.contains("${{");
        if has_program || context != "." || is_dynamic || chosen.as_ref().is_some_and(|known| *known != key) {
            let line = format!("Also built by the workflow, by its own inputs: {shown} (context {context}).");
            if !others.contains(&line) {
                others.push(line);
            }
            continue;
        }
        chosen = Some(key);
        let Ok(platform) = build.platform.parse::<Platform>() else { continue };
        if !order.contains(&platform) {
            order.push(platform);
            names.extend(build.artifact.clone().map(|name| (platform, name)));
        }
        seen.entry(platform).or_default().push(args.clone());
    }
    let is_only = others.is_empty();
    draft.comments.extend(others);
    let Some((file, target)) = chosen else { return };
    let is_unique = names.iter().all(|(platform, name)| names.iter().all(|(p, n)| p == platform || n != name));
    if is_unique && !names.is_empty() && names.iter().all(|(_, name)| !name.contains('$')) {
        // The Dockerfile names its file itself; `kiln ci matrix` tells it to the workflow.
        draft.name(&names);
    }
    let is_path = file.contains(['/', '.']) || file.to_ascii_lowercase().starts_with("dockerfile");
    let recipe = if is_path { file } else { format!("./{file}") };
    draft.general.insert("build.recipe", Value::Text(recipe));
    // With several Dockerfiles each build says its own stage and arguments: settings would hold for all of them.
    if let Some(target) = target.filter(|target| is_only && !target.contains("${{")) {
        draft.general.insert("build.target", Value::Text(target));
    }
    if !order.is_empty() && !draft.general.contains_key("build.platforms") {
        let list = order.iter().map(Platform::to_string).collect();
        draft.general.insert("build.platforms", Value::List(list));
    }
    for (platform, all) in seen.into_iter().filter(|_| is_only) {
        // What differs from run to run is no setting.
        let constant = |(name, value): &(&String, &String)| {
            !value.contains("${{") && all.iter().all(|args| args.get(*name) == Some(*value))
        };
        let args: BTreeMap<String, String> =
            all[0].iter().filter(constant).map(|(name, value)| (name.clone(), value.clone())).collect();
        if !args.is_empty() {
            draft.of(platform).insert("build.args", Value::Pairs(args));
        }
    }
}

/// A shell script.
fn script(file: &str, text: &str, plans: &[Plan], tests: &Suites) -> (Option<String>, Vec<Note>) {
    let mut notes = Vec::new();
    let mut changes = edits(text);
    if tests.has_containers() {
        changes.extend(test_edits(text));
    }
    let builds: Vec<&Build> = plans.first().map(|plan| plan.builds.iter().collect()).unwrap_or_default();
    let programs: Vec<&Build> = builds.into_iter().filter(|build| matches!(build.how, How::Program(_))).collect();
    if !programs.is_empty() {
        let Some(range) = region(text) else {
            let why = "the container stands amid other commands of one line: put it on lines of its own first";
            notes.push(Note { file: file.to_owned(), line: 1, what: "docker run".to_owned(), why: why.to_owned() });
            return (None, notes);
        };
        let line = text[..range.start].matches('\n').count() + 1;
        let mut platforms: Vec<&str> = Vec::new();
        let (mut comments, mut folder) = (String::new(), None);
        for build in &programs {
            if !platforms.contains(&build.platform.as_str()) {
                platforms.push(&build.platform);
            }
            let How::Program(program) = &build.how else { continue };
            folder = folder.or_else(|| program.options.folder.clone());
            for (what, why) in recipe::lost(program) {
                let comment = format!("{MARK}not carried over: {what}: {why}\n");
                if !comments.contains(&comment) {
                    comments.push_str(&comment);
                    notes.push(Note { file: file.to_owned(), line, what, why: why.to_owned() });
                }
            }
        }
        let folder = folder.unwrap_or_else(|| ".".to_owned());
        let command = format!("{comments}kiln build --platform {} -o type=local,dest={folder}\n", platforms.join(","));
        changes.push((range, command));
    }
    if changes.is_empty() {
        return (None, notes);
    }
    changes.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut new = text.to_owned();
    for (range, with) in changes {
        new.replace_range(range, &with);
    }
    (Some(new), notes)
}
