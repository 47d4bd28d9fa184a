//! What `kiln release` publishes of a project: version and tag, the commit behind them, and the notes.

mod git;
mod progress;
mod version;

use std::path::Path;

use kiln_config::{FlagValue, Publish, Toggle};
use kiln_publish::{ForgeKind, Given, LocalFile, Notes, Place, Wanted, changelog, files};

pub(crate) use self::git::Repository;
pub(crate) use self::progress::Progress;
pub(crate) use self::version::Version;
use crate::cli;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::project::{self, Flag, Project};
use crate::ui::Ui;

/// Names of changelogs.
const CHANGELOGS: [&str; 3] = ["CHANGELOG.md", "Changelog.md", "changelog.md"];

/// A release that is ready to be published.
pub(crate) struct Release {
    pub(crate) wanted: Wanted,
    pub(crate) place: Place,
}

/// Options of the command that are settings.
pub(crate) fn flags(args: &cli::Release) -> Vec<Flag> {
    let mut flags: Vec<Flag> = Vec::new();
    let mut set = |option: &str, key: &str, value: &Option<String>| {
        if let Some(value) = value {
            flags.push((option.to_owned(), key.to_owned(), FlagValue::from(value.as_str())));
        }
    };
    let yes = |switch: bool, value: &str| switch.then(|| value.to_owned());
    set("--forge", "release.forge", &args.forge);
    set("--repository", "release.repository", &args.repository);
    set("--url", "release.url", &args.url);
    set("--draft", "release.draft", &yes(args.draft, "true"));
    set("--prerelease", "release.prerelease", &yes(args.prerelease, "yes"));
    flags
}

/// Finds out what is to be published, and holds files, tag and commit against each other. Nothing is sent.
pub(crate) fn prepare(ui: Ui, environment: &Environment, project: &Project, args: &cli::Release) -> Result<Release> {
    let settings = project.config.resolved();
    let publish = &settings.publish;
    let repository = Repository::open(&project.folder)?;
    let commit = repository.commit(args.target.as_deref())?;
    let found = Version::find(environment, project, Some(&repository), &commit, ("--tag", args.tag.as_deref()))?;
    let Version { version, tag } = found;
    let tagged = repository.tag(&tag)?;
    if let Some(found) = tagged.as_ref().filter(|found| **found != commit) {
        let what = if args.target.is_some() { "--target" } else { "HEAD" };
        return Err(CliError::Missing {
            problem: format!("tag {tag} is commit {}, and {what} is {}", short(found), short(&commit)),
            hint: format!("check out the tag (git checkout {tag}), or release under a new version"),
        });
    }
    let changed = repository.changed()?;
    if let Some(first) = changed.first().filter(|_| !args.allow_dirty) {
        let more = match changed.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        return Err(CliError::Missing {
            problem: format!("the repository has changes that are in no commit: {first}{more}"),
            hint: "commit them, or say --allow-dirty".to_owned(),
        });
    }
    let place = place(environment, project, repository.remote()?.as_deref())?;
    let output = project.folder.join(&settings.build.output);
    let shown = project::shown(&output).display().to_string();
    let parsed = version.parse::<kiln_package::Version>().ok();
    let is_other = |file: &str| {
        let name = &settings.release.name;
        parsed.as_ref().is_some_and(|version| kiln_package::is_of_another_version(file, name, version))
    };
    let chosen = files::choose(&output, &shown, &publish.assets, &is_other)?;
    if let [first, rest @ ..] = chosen.in_folders.as_slice() {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        ui.warn(&format!(
            "{first}{more} are left out: a release has no folders; `kiln package` makes archives of them"
        ));
    }
    if !chosen.of_other_versions.is_empty() {
        ui.warn(&format!(
            "left out, as they are of another version than {version}: {}",
            chosen.of_other_versions.join(", ")
        ));
    }
    let context = Context { ui, project, publish, repository: &repository, place: &place };
    let notes = match &args.notes {
        Some(file) => fs_err::read_to_string(file).map_err(CliError::io("read", file))?,
        None => context.notes(&version, (&tag, &commit), &chosen.files)?,
    };
    let prerelease = publish.prerelease.or(parsed.is_some_and(|version| version.is_prerelease()));
    if publish.prerelease == Toggle::Yes && place.kind == ForgeKind::Gitlab {
        ui.warn("GitLab does not mark releases as ones to try out: `prerelease` has no effect there");
    }
    let wanted = Wanted {
        title: format!("{} {version}", settings.project.name),
        tag,
        commit,
        tag_is_made: tagged.is_some(),
        notes,
        prerelease,
        package: settings.project.name.clone(),
        version,
        files: chosen.files,
        draft: publish.draft,
        replace: args.replace,
    };
    Ok(Release { wanted, place })
}

/// The repository on a forge that releases of the project go to. `remote` is the address of git's remote.
pub(crate) fn place(environment: &Environment, project: &Project, remote: Option<&str>) -> kiln_publish::Result<Place> {
    let publish = project.config.resolved().publish;
    let given = Given {
        forge: publish.forge.as_deref().and_then(|word| word.parse::<ForgeKind>().ok()),
        repository: publish.repository,
        url: publish.url,
    };
    Place::detect(&given, &|name| environment.get(name).map(str::to_owned), remote)
}

/// What notes are made from.
struct Context<'a> {
    ui: Ui,
    project: &'a Project,
    publish: &'a Publish,
    repository: &'a Repository,
    place: &'a Place,
}

impl Context<'_> {
    fn notes(&self, version: &str, (tag, commit): (&str, &str), files: &[LocalFile]) -> Result<String> {
        let previous = self.repository.tag_before(commit, tag)?;
        let commits =
            if self.publish.notes_commits { self.repository.log(previous.as_deref(), commit)? } else { Vec::new() };
        if self.publish.notes_commits && self.repository.is_shallow()? {
            self.ui.warn("git has not the whole history here, so the notes may lack commits; fetch it: git fetch --unshallow --tags, or `fetch-depth: 0` of actions/checkout");
        }
        let notes = Notes {
            section: self.section(version)?,
            commits: &commits,
            comparison: previous.as_deref().map(|previous| self.place.comparison(previous, tag)),
            previous: previous.as_deref(),
            files: if self.publish.notes_files { files } else { &[] },
        };
        Ok(notes.render())
    }

    /// What the changelog says of the version, or of what was not released yet.
    fn section(&self, version: &str) -> Result<Option<String>> {
        let named = self.publish.changelog.as_ref().map(|path| self.project.folder.join(path));
        let is_there = |path: &std::path::PathBuf| path.is_file();
        let folders: [&Path; 2] = [&self.project.folder, self.repository.folder()];
        let usual = || folders.iter().flat_map(|folder| CHANGELOGS.map(|name| folder.join(name))).find(is_there);
        let Some(path) = named.or_else(usual) else { return Ok(None) };
        let text = fs_err::read_to_string(&path).map_err(CliError::io("read", &path))?;
        let section = changelog::section(&text, version);
        let shown = project::shown(&path).display().to_string();
        let section = section.or_else(|| {
            let unreleased = changelog::unreleased(&text);
            let instead =
                if unreleased.is_some() { "what it has as unreleased is taken" } else { "nothing is taken from it" };
            self.ui.warn(&format!("{shown} has no section of {version}; {instead}"));
            unreleased
        });
        Ok(section)
    }
}

/// The beginning of a commit's id.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
