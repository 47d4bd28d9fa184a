//! `kiln report`: a build as a page or a job summary, with what its project's folder still has of it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use kiln_artifact::{ContainedFile, checksum, payload, place};
use kiln_history::record::{Artifact, Outcome, Record, Target};
use kiln_report::nuitka::{self, NuitkaReport};
use kiln_report::{Contents, Extras, File, Kind, Modules, Report, html, markdown};

use super::history;
use crate::cli::{self, Open};
use crate::error::{CliError, Result};
use crate::job::STATE;
use crate::project;
use crate::report::size;
use crate::ui::Ui;

/// Where a page is written, below the project's state folder.
const PAGE: &str = "report.html";
/// Nuitka's report, below the folder of a platform's reports.
const NUITKA: &str = "report.xml";

pub(crate) fn run(ui: Ui, args: &cli::Report) -> Result<()> {
    let (history, record) = history::find(&args.place, &args.build)?;
    let folder = project::folder(&args.place.path)?;
    let records = history.latest(usize::MAX)?;
    let logs = history.logs(&record.id)?;
    let extras = |found: Found| Extras { modules: found.modules, contents: found.contents, logs };
    let missing = || CliError::Missing {
        problem: format!("build {} has just been forgotten", record.id),
        hint: "`kiln history ls` has those that are kept".to_owned(),
    };
    if let Some(file) = &args.markdown {
        let report = Report::new(&records, &record.id, extras(Found::default())).ok_or_else(missing)?;
        return write(ui, file, &markdown::summary(&report), "summary", &record).map(drop);
    }
    let found = look(ui, &folder, &records, &record);
    let report = Report::new(&records, &record.id, extras(found)).ok_or_else(missing)?;
    let usual = || folder.join(STATE).join(PAGE);
    let file = args.html.clone().flatten().unwrap_or_else(usual);
    let written = write(ui, &file, &html::page(&report), "report", &record)?;
    if written && args.open == Open::Yes {
        open::that(&file).map_err(CliError::io("show in a browser", &file))?;
    }
    Ok(())
}

/// Writes to a file and says so, or to standard output: then that is all. Whether it was a file.
fn write(ui: Ui, file: &Path, text: &str, what: &str, record: &Record) -> Result<bool> {
    if file == Path::new("-") {
        ui.print(text);
        return Ok(false);
    }
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs_err::create_dir_all(folder).map_err(CliError::io("make", folder))?;
    }
    place::write_atomically(file, 0o644, text.as_bytes())?;
    let bytes = size(text.len() as u64);
    ui.say(&format!("{what} of build {}: {} ({bytes})", record.id, project::shown(file).display()));
    Ok(true)
}

/// What lies in the project's folder.
#[derive(Default)]
struct Found {
    modules: Vec<Modules>,
    contents: Vec<Contents>,
}

/// Looks for what belongs to a build. What cannot be read is told and left out.
fn look(ui: Ui, folder: &Path, records: &[Record], record: &Record) -> Found {
    let mut found = Found::default();
    let done = record.targets.iter().filter(|target| target.outcome == Outcome::Done);
    for target in done {
        let is_new = found.modules.iter().all(|modules| modules.platform != target.platform);
        match modules(folder, records, record, target) {
            Ok(modules) => found.modules.extend(modules.filter(|_| is_new)),
            Err((path, error)) => ui.warn(&format!("{} is left out: {error}", project::shown(&path).display())),
        }
        for artifact in &target.artifacts {
            match contents(folder, target, artifact) {
                Ok(contents) => found.contents.extend(contents),
                Err(error) => ui.warn(&format!("the contents of {} are left out: {error}", artifact.path)),
            }
        }
    }
    found
}

/// Nuitka's report for a platform, if it is of this build or of an earlier one whose result this build used again.
fn modules(
    folder: &Path,
    records: &[Record],
    record: &Record,
    target: &Target,
) -> Result<Option<Modules>, (PathBuf, Box<dyn std::error::Error>)> {
    let path = folder.join(STATE).join("reports").join(target.platform.folder()).join(NUITKA);
    let read = || -> Result<Option<(String, i64)>, io::Error> {
        if !path.exists() {
            return Ok(None);
        }
        let written = fs_err::metadata(&path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let xml = fs_err::read(&path)?;
        let written = i64::try_from(written.as_millis()).unwrap_or(i64::MAX);
        Ok(Some((String::from_utf8_lossy(&xml).into_owned(), written)))
    };
    let told = |error: Box<dyn std::error::Error>| (path.clone(), error);
    let Some((xml, written)) = read().map_err(|error| told(error.into()))? else { return Ok(None) };
    let Some(made_by) = nuitka::made_by(records, target.platform, written) else { return Ok(None) };
    // A later build's says nothing about this one.
    if made_by.started > record.started {
        return Ok(None);
    }
    let report = NuitkaReport::parse(&xml).map_err(|error| told(error.into()))?;
    let of_build = (made_by.id != record.id).then(|| made_by.id.clone());
    Ok(Some(Modules { platform: target.platform, of_build, report }))
}

/// What is inside of a result, if the very file is still there.
fn contents(
    folder: &Path,
    target: &Target,
    artifact: &Artifact,
) -> Result<Option<Contents>, Box<dyn std::error::Error>> {
    let path = folder.join(&artifact.path);
    let Some(sum) = artifact.sha256.as_ref().filter(|_| path.is_file()) else { return Ok(None) };
    if checksum::sha256_file(&path)?.to_string() != *sum {
        return Ok(None);
    }
    let Some(payload) = payload::read(&path)? else { return Ok(None) };
    let files = payload.files.iter().enumerate().map(|(index, file)| File {
        name: file.name.clone(),
        size: file.size,
        // The first is what the program runs.
        kind: if index == 0 { Kind::Program } else { kind(file) },
    });
    let (platform, path) = (target.platform, artifact.path.clone());
    Ok(Some(Contents { platform, path, stored: artifact.size, files: files.collect() }))
}

fn kind(file: &ContainedFile) -> Kind {
    let name = file.file_name();
    match file.elf() {
        None => Kind::Data,
        Some(_) if Path::new(name).extension().is_some_and(|ending| ending == "so") && !name.starts_with("lib") => {
            Kind::Extension
        }
        Some(_) => Kind::Library,
    }
}
