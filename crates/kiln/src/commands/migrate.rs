//! `kiln migrate`.

use std::path::{Component, Path, PathBuf};

use kiln_artifact::place;
use kiln_ci::{Comparison, Migration, Source};
use kiln_config::{Config, Layer};

use crate::cli;
use crate::error::{CliError, Result, exit};
use crate::project;
use crate::report::table::lines;
use crate::ui::Ui;

const SETTINGS: &str = "kiln.toml";
const WORKFLOWS: &str = ".github/workflows";

pub(crate) fn run(ui: Ui, args: &cli::Migrate) -> Result<()> {
    let sources = sources(&args.files)?;
    let migration = kiln_ci::migrate(&sources, &read_of_project)?;
    let facts = project::facts(Path::new("."))?;
    let load = |text: &str| Config::load([Layer::file(SETTINGS, text)], &facts);
    if args.check {
        return check(ui, args, &sources, &migration, &load);
    }
    if let Some(text) = &migration.settings {
        load(text).map_err(|error| CliError::Missing {
            problem: format!("the settings that would be written are wrong: {error}"),
            hint: "the workflow asks for something that settings cannot say: write kiln.toml by hand".to_owned(),
        })?;
    }
    let mut files: Vec<(PathBuf, &str)> = Vec::new();
    files.extend(migration.settings.as_deref().map(|text| (target(args, SETTINGS), text)));
    files.extend(migration.files.iter().map(|(_, new, text)| (target(args, new), text.as_str())));
    let is_there = |(path, _): &&(PathBuf, &str)| path.symlink_metadata().is_ok();
    if let Some((path, _)) = files.iter().find(is_there).filter(|_| !args.force) {
        return Err(CliError::Usage {
            problem: format!("{} is there already", path.display()),
            hint: "replace it with --force, write elsewhere with --output DIR, or look with --check".to_owned(),
        });
    }
    for (path, text) in files {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder).map_err(CliError::io("make", folder))?;
        }
        let mode = if path.extension().is_some_and(|end| end == "sh" || end == "bash") { 0o755 } else { 0o644 };
        place::write_atomically(&path, mode, text.as_bytes())?;
        ui.say(&format!("wrote {}", path.display()));
    }
    report(ui, &migration);
    Ok(())
}

/// Says what was left.
fn report(ui: Ui, migration: &Migration) {
    for note in &migration.notes {
        ui.say(&format!("not carried over: {note}"));
    }
    for file in &migration.untouched {
        ui.say(&format!("{file}: nothing to migrate"));
    }
    for (old, new, _) in &migration.files {
        ui.say(&format!("{new} replaces {old}: remove that one when this one has run, or both will"));
    }
    ui.say("`kiln migrate --check` shows both side by side");
}

/// Old and new side by side.
fn check(
    ui: Ui,
    args: &cli::Migrate,
    sources: &[Source],
    migration: &Migration,
    load: &dyn Fn(&str) -> std::result::Result<kiln_config::Loaded, kiln_config::ConfigError>,
) -> Result<()> {
    let settings = match read(&target(args, SETTINGS))? {
        Some(text) => text,
        None => migration.settings.clone().unwrap_or_default(),
    };
    let loaded = load(&settings)?;
    ui.warnings(&loaded.warnings);
    let mut differs = false;
    for (old, new, text) in &migration.files {
        let Some(source) = sources.iter().find(|source| source.file == *old) else { continue };
        let written = read(&target(args, new))?;
        let state = if written.is_some() { "as it is there" } else { "as it would be written" };
        let new_source = Source { file: new.clone(), text: written.unwrap_or_else(|| text.clone()) };
        let comparison = kiln_ci::compare(source, &new_source, (&loaded.config, &settings), &read_of_project)?;
        ui.print(&format!("{old} and {new} ({state}):\n{}\n", table(&comparison)));
        differs |= comparison.differs();
    }
    for note in &migration.notes {
        ui.say(&format!("not carried over: {note}"));
    }
    if !differs {
        return Ok(());
    }
    ui.say("something differs that no comment declares: `# kiln: differs: TOPIC: why` in the new file does, TOPIC being a row's first word");
    Err(CliError::Shown { code: exit::STEP })
}

fn table(comparison: &Comparison) -> String {
    let mut rows = vec![["", "runs", "old", "kiln", ""].map(str::to_owned)];
    for row in &comparison.rows {
        let blank = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let (new, verdict) = match (row.is_same(), &row.declared) {
            (true, _) => ("same".to_owned(), String::new()),
            (false, Some(why)) => (blank(&row.new), format!("declared: {why}")),
            (false, None) => (blank(&row.new), "DIFFERS".to_owned()),
        };
        rows.push([row.what.clone(), row.runs.join(", "), blank(&row.old), new, verdict]);
    }
    lines(&rows).iter().flat_map(|line| ["  ", line, "\n"]).collect()
}

/// The files to migrate.
fn sources(files: &[PathBuf]) -> Result<Vec<Source>> {
    let mut files = files.to_vec();
    if files.is_empty() {
        let is_workflow = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            (name.ends_with(".yml") || name.ends_with(".yaml")) && !name.starts_with("kiln-")
        };
        let entries = std::fs::read_dir(WORKFLOWS).into_iter().flatten().flatten();
        files = entries.map(|entry| entry.path()).filter(is_workflow).collect();
        files.sort();
        if files.is_empty() {
            return Err(CliError::Missing {
                problem: format!("there is no workflow in {WORKFLOWS}"),
                hint: "run this in the project's folder, or name a workflow or script".to_owned(),
            });
        }
    }
    let source = |path: PathBuf| {
        let missing = || CliError::Missing {
            problem: format!("{} does not exist", path.display()),
            hint: "name a workflow or script of the project".to_owned(),
        };
        let text = read(&path)?.ok_or_else(missing)?;
        let file = path.to_string_lossy();
        Ok(Source { file: file.strip_prefix("./").unwrap_or(&file).to_owned(), text })
    };
    files.into_iter().map(source).collect()
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs_err::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| CliError::Missing {
            problem: format!("{} is no text in UTF-8", path.display()),
            hint: "save it as UTF-8".to_owned(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::io("read", path)(error)),
    }
}

/// A file of the project that a workflow names; what lies outside is none.
fn read_of_project(path: &str) -> Option<String> {
    let path = Path::new(path);
    let is_inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    is_inside.then(|| fs_err::read_to_string(path).ok()).flatten()
}

/// Where a new file goes.
fn target(args: &cli::Migrate, file: &str) -> PathBuf {
    let Some(folder) = &args.output else { return PathBuf::from(file) };
    let inside = Path::new(file).components().filter(|part| matches!(part, Component::Normal(_)));
    folder.join(inside.collect::<PathBuf>())
}
