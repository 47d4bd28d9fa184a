//! `kiln package`.

use kiln_artifact::checksum::SUMS_NAME;
use kiln_artifact::place;
use kiln_config::{FlagValue, Section};
use kiln_package::{Format, LibcKind, Program, Release};

use crate::cli::{self, ALL_FORMATS};
use crate::commands::run::{Surroundings, told};
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::package::image::{self, Request, To};
use crate::package::proofs::Proofs;
use crate::package::release::{refused, release};
use crate::package::{Staged, download_url, plan, programs, table};
use crate::project::{self, Flag, Project};
use crate::report::{columns, wrap};
use crate::ui::Ui;

/// The word for the image, which is no file of a platform.
const IMAGE: &str = "image";

/// Columns by which further lines of a note are moved in.
const NOTE: usize = 6;

pub(crate) async fn run(ui: Ui, environment: &Environment, global: &cli::Global, args: &cli::Package) -> Result<()> {
    let project = project::load(environment, &project_args(args), flags(args))?;
    ui.warnings(&project.warnings);
    let settings = project.config.resolved();
    // All that there are is no wish for each of them.
    let is_explicit = !wants_all(args) && project.config.provenance(Section::Release, "formats", None).is_explicit();
    // Those of the table of settings are those of the crate.
    let formats: Vec<Format> = settings.release.formats.iter().filter_map(|name| name.parse().ok()).collect();
    let wants_image = settings.release.formats.iter().any(|format| format == IMAGE);
    if let Some(option) = option_of_image(args).filter(|_| !wants_image) {
        return Err(CliError::Usage {
            problem: format!("{option} is about the image, and no image is made"),
            hint: "add --format image, or put \"image\" into `formats` of [release]".to_owned(),
        });
    }
    let (release, tag) = release(environment, &project)?;
    let programs = programs::programs(&project)?;
    let (planned, left_out) = plan(&release, &programs, &formats, is_explicit).map_err(refused(&project))?;
    let output = match &args.output {
        Some(output) => std::path::absolute(output).map_err(CliError::io("find", output))?,
        None => project.folder.join(&settings.build.output),
    };
    let mut proofs = Proofs::new(environment, &project, &release)?;
    let mut staged = Staged::pack(&output, &release, &planned, refused(&project))?;
    if wants_image {
        add_image((ui, environment, global), args, &project, (&release, &programs), &mut staged).await?;
    }
    if settings.release.installer {
        let url = download_url(environment, &project, &release, &tag);
        if staged.add_installer(&release, &programs, url.as_deref())? && url.is_none() {
            ui.say("note: install.sh knows no address to download from: set `download-url` in [release]");
        }
    }
    proofs.add(&output, &programs, &mut staged)?;
    let (packed, others) = (staged.packed.clone(), staged.others.clone());
    let sums = || fs_err::read(output.join(SUMS_NAME)).ok();
    let before = sums();
    let of_other_versions = staged.place(&release)?;
    let signatures = proofs.sign(&output, sums() != before).await?;
    let mut notes = notes(&project, &release, &programs, &formats);
    notes.append(&mut proofs.notices);
    if !of_other_versions.is_empty() {
        let files = of_other_versions.join(", ");
        notes.push(format!("of other versions, and no longer listed in {SUMS_NAME}: {files}"));
    }
    for line in table::left_out(&left_out).iter().chain(&notes) {
        let lines = wrap(&format!("note: {line}"), columns().saturating_sub(NOTE));
        ui.say(&lines.join(&format!("\n{:NOTE$}", "")));
    }
    ui.say(table::render(&packed, &others, columns(), ui.color).trim_end());
    let signed = if signatures.is_empty() { String::new() } else { format!(", signed in {}", signatures.join(", ")) };
    ui.say(&format!("in {}, with their sums in {SUMS_NAME}{signed}", project::shown(&output).display()));
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

/// Makes the image; what nobody wants elsewhere is an archive among the other files.
async fn add_image(
    (ui, environment, global): (Ui, &Environment, &cli::Global),
    args: &cli::Package,
    project: &Project,
    (release, programs): (&Release, &[Program]),
    staged: &mut Staged,
) -> Result<()> {
    let mut to = destinations(args)?;
    let file = format!("{}-{}-image.tar", release.name, release.version.as_str());
    let is_file = to.is_empty();
    if is_file {
        to.push(To::Archive(staged.path().join(&file)));
    }
    let labels = [("licenses", &release.license), ("url", &release.homepage), ("vendor", &release.vendor)];
    let described = (!release.summary.is_empty()).then(|| ("description", release.summary.clone()));
    let labels = labels.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).chain(described);
    let mut image = project.config.resolved().release.image;
    if !args.tags.is_empty() {
        image.tags.clone_from(&args.tags);
    }
    let request = Request {
        programs: programs.iter().map(|program| (program.platform, program.source.clone())).collect(),
        name: release.name.clone(),
        version: Some(release.version.as_str().to_owned()),
        image,
        labels: labels.map(|(name, value)| (format!("{}{name}", image::LABELS), value)).collect(),
        epoch: i64::try_from(release.time).unwrap_or_default(),
        to,
    };
    let show = cli::Show { progress: args.progress, ..cli::Show::default() };
    let surroundings = Surroundings::new(ui, environment, (global, &show), "package");
    told(ui, Box::pin(image::make(surroundings, project.clone(), &request))).await?;
    if is_file { staged.add(&file) } else { Ok(()) }
}

/// An option that means nothing without the image.
fn option_of_image(args: &cli::Package) -> Option<&'static str> {
    let given = [
        ("--push", args.push),
        ("--load", args.load),
        ("--image", !args.layouts.is_empty()),
        ("--tag", !args.tags.is_empty()),
    ];
    given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
}

/// What the options want of the image.
fn destinations(args: &cli::Package) -> Result<Vec<To>> {
    let mut to = Vec::new();
    for path in &args.layouts {
        let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let path = std::path::absolute(path).map_err(CliError::io("find", path))?;
        to.push(if is_folder { To::Folder(path) } else { To::Archive(path) });
    }
    to.extend(args.push.then_some(To::Registry));
    to.extend(args.load.then_some(To::Daemon));
    Ok(to)
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
        let libraries = program.need.unknown_to_debian().collect::<Vec<_>>().join(", ");
        let is_deb = formats.contains(&Format::Deb) && matches!(program.need.libc, LibcKind::Glibc { .. });
        if is_deb && !libraries.is_empty() && release.depends.deb.is_empty() {
            let platform = program.platform;
            notes.push(format!("{platform}: it needs {libraries}; name the Debian packages in `release.depends.deb`"));
        }
    }
    notes
}
