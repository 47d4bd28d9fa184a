//! `kiln package`.

use kiln_artifact::checksum::SUMS_NAME;
use kiln_artifact::place;
use kiln_config::{FlagValue, Section};
use kiln_package::{Format, LibcKind, Program, Release};

use crate::cli::{self, ALL_FORMATS};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::package::release::{refused, release};
use crate::package::{Staged, download_url, plan, programs, table};
use crate::project::{self, Flag, Project};
use crate::report::columns;
use crate::ui::Ui;

pub(crate) fn run(ui: Ui, environment: &Environment, args: &cli::Package) -> Result<()> {
    let project = project::load(environment, &project_args(args), flags(args))?;
    ui.warnings(&project.warnings);
    let settings = project.config.resolved();
    // All that there are is no wish for each of them.
    let is_explicit = !wants_all(args) && project.config.provenance(Section::Release, "formats", None).is_explicit();
    // Those of the table of settings are those of the crate.
    let formats: Vec<Format> = settings.release.formats.iter().filter_map(|name| name.parse().ok()).collect();
    let (release, tag) = release(environment, &project)?;
    let programs = programs::programs(&project)?;
    let (planned, left_out) = plan(&release, &programs, &formats, is_explicit).map_err(refused(&project))?;
    let output = match &args.output {
        Some(output) => std::path::absolute(output).map_err(CliError::io("find", output))?,
        None => project.folder.join(&settings.build.output),
    };
    let mut staged = Staged::pack(&output, &release, &planned, refused(&project))?;
    if settings.release.installer {
        let url = download_url(&project, &release, &tag);
        if staged.add_installer(&release, &programs, url.as_deref())? && url.is_none() {
            ui.say("note: install.sh knows no address to download from: set `download-url` in [release]");
        }
    }
    // From here on a file that belongs to the release can be added to what is staged, before all of it is placed.
    let (packed, others) = (staged.packed.clone(), staged.others.clone());
    staged.place()?;
    for line in table::left_out(&left_out).iter().chain(&notes(&project, &release, &programs, &formats)) {
        ui.say(&format!("note: {line}"));
    }
    ui.say(table::render(&packed, &others, columns(), ui.color).trim_end());
    ui.say(&format!("in {}, with their sums in {SUMS_NAME}", project::shown(&output).display()));
    let mut json = serde_json::to_string_pretty(&packed).expect("it is made of texts and numbers");
    json.push('\n');
    if let Some(file) = &args.metadata_file {
        place::write_atomically(file, 0o644, json.as_bytes())?;
    }
    if args.json {
        ui.print(&json);
    }
    Ok(())
}

fn project_args(args: &cli::Package) -> cli::Project {
    cli::Project {
        path: args.path.clone(),
        config: args.config.clone(),
        set: args.set.clone(),
        platforms: args.platforms.clone(),
        ..cli::Project::default()
    }
}

/// Options of the command that are settings.
fn flags(args: &cli::Package) -> Vec<Flag> {
    let mut flags: Vec<Flag> = Vec::new();
    if let Some(version) = &args.version {
        flags.push(("--version".to_owned(), "release.version".to_owned(), FlagValue::from(version.as_str())));
    }
    if !args.formats.is_empty() {
        let formats =
            if wants_all(args) { Format::ALL.map(|format| format.to_string()).to_vec() } else { args.formats.clone() };
        flags.push(("--format".to_owned(), "release.formats".to_owned(), FlagValue::List(formats)));
    }
    flags
}

fn wants_all(args: &cli::Package) -> bool {
    args.formats.iter().any(|format| format == ALL_FORMATS)
}

/// What packages lack that somebody should know of.
fn notes(project: &Project, release: &Release, programs: &[Program], formats: &[Format]) -> Vec<String> {
    let mut notes = Vec::new();
    if formats.iter().all(|format| format.is_archive()) {
        return notes;
    }
    let own = project.config.resolved().release;
    let unset: Vec<&str> = [
        ("summary", own.summary.is_none()),
        ("license", own.license.is_none()),
        ("maintainer", own.maintainer.is_none()),
    ]
    .into_iter()
    .filter_map(|(name, is_unset)| is_unset.then_some(name))
    .collect();
    if !unset.is_empty() {
        notes.push(format!("packages should say it, and [release] does not: {}", unset.join(", ")));
    }
    for program in programs {
        let libraries = program.need.libraries.join(", ");
        let is_deb = formats.contains(&Format::Deb) && matches!(program.need.libc, LibcKind::Glibc { .. });
        if is_deb && !libraries.is_empty() && release.depends.deb.is_empty() {
            let platform = program.platform;
            notes.push(format!("{platform}: it needs {libraries}; name the Debian packages in `release.depends.deb`"));
        }
    }
    notes
}
