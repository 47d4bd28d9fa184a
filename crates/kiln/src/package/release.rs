//! From settings and files of the project to what is released.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_config::{ConfigError, DataMapping, Place, Section};
use kiln_package::{ApkKey, Completion, Depends, Document, DocumentKind, Named, PackageError, Placed, Release, Shell};

use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::git;
use crate::output::EPOCH;
use crate::project::Project;
use crate::release::{Repository, Version};

/// The time of files where neither a variable nor a commit says one: the beginning of 2000. Archives of Debian refuse what is
/// older than 1984, zip what is older than 1980.
const SOME_TIME: u64 = 946_684_800;

/// What is released, and the tag that it has or will have.
pub(crate) fn release(environment: &Environment, project: &Project) -> Result<(Release, String)> {
    let settings = project.config.resolved();
    let reader = Reader { environment, project };
    let own = &settings.release;
    let (version, tag) = reader.version()?;
    let apk_key = own.apk_key.as_deref().map(|key| reader.apk_key(key, own.apk_key_name.as_deref())).transpose()?;
    let release = Release {
        name: own.name.clone(),
        command: settings.project.name.clone(),
        version,
        summary: own.summary.clone().unwrap_or_else(|| own.name.clone()),
        description: own.description.clone().unwrap_or_default(),
        license: own.license.clone(),
        homepage: own.homepage.clone(),
        maintainer: own.maintainer.clone(),
        vendor: own.vendor.clone(),
        section: own.section.clone(),
        depends: Depends { deb: own.depends.deb.clone(), rpm: own.depends.rpm.clone(), apk: own.depends.apk.clone() },
        documents: reader.documents(&own.documents)?,
        completions: reader.completions(&own.completions)?,
        man: reader.named("man", &own.man)?,
        systemd: reader.named("systemd", &own.systemd)?,
        openrc: reader.named("openrc", &own.openrc)?,
        config_files: reader.placed("config-files", &own.config_files)?,
        files: reader.placed("files", &own.files)?,
        time: time(environment, &project.folder)?,
        apk_key,
    };
    Ok((release, tag))
}

/// The time of everything in the packages: `SOURCE_DATE_EPOCH`, else that of the commit, else a fixed one.
fn time(environment: &Environment, folder: &Path) -> Result<u64> {
    let Some(text) = environment.get(EPOCH) else {
        let commit = git::ask(folder, &["log", "-1", "--format=%ct"]);
        return Ok(commit.and_then(|time| time.parse().ok()).unwrap_or(SOME_TIME));
    };
    text.parse().map_err(|_| CliError::Usage {
        problem: format!("{EPOCH}=`{text}` is no time"),
        hint: "it is a number of seconds since 1970, as `date +%s` prints".to_owned(),
    })
}

/// Where a setting of `[release]` stands, for messages.
pub(crate) fn place(project: &Project, key: &str) -> Option<Place> {
    project.config.provenance(Section::Release, key, None).place
}

/// An error about a package, with the place of the setting that it is about.
pub(crate) fn refused(project: &Project) -> impl Fn(PackageError) -> CliError {
    |error| CliError::Package {
        place: error.key().and_then(|key| place(project, key)).map(|place| place.to_string()),
        error: Box::new(error),
    }
}

/// Reads the files that settings name.
struct Reader<'a> {
    environment: &'a Environment,
    project: &'a Project,
}

impl Reader<'_> {
    /// The version, and its tag.
    fn version(&self) -> Result<(kiln_package::Version, String)> {
        // What has no commit has no tags.
        let repository = Repository::open(&self.project.folder).ok().filter(|found| found.commit(None).is_ok());
        let found = Version::find(self.environment, self.project, repository.as_ref(), "HEAD", ("--version", None))?;
        let version = found.version.parse().map_err(|error: kiln_package::VersionError| {
            let place = place(self.project, "version").map(|place| format!("{place}: ")).unwrap_or_default();
            CliError::Missing { problem: format!("{place}{error}"), hint: error.hint() }
        })?;
        Ok((version, found.tag))
    }

    fn documents(&self, files: &[String]) -> Result<Vec<Document>> {
        let document = |file: &String| {
            let name = file_name(file);
            Ok(Document { kind: DocumentKind::of(&name), bytes: self.read("documents", file)?, name })
        };
        self.each("documents", files)?.iter().map(document).collect()
    }

    fn completions(&self, files: &[String]) -> Result<Vec<Completion>> {
        let completion = |item: &String| {
            let (shell, file) = match item.split_once('=') {
                Some((shell, file)) => (Shell::of(shell), file),
                None => (Shell::of(item), item.as_str()),
            };
            let shell = shell.ok_or_else(|| {
                let reason = "its name does not tell bash, zsh or fish; write SHELL=FILE";
                let (key, file) = ("release.completions", item.clone());
                refused(self.project)(PackageError::Unclear { key, file, reason })
            })?;
            Ok(Completion { shell, bytes: self.read("completions", file)? })
        };
        self.each("completions", files)?.iter().map(completion).collect()
    }

    fn named(&self, key: &'static str, files: &[String]) -> Result<Vec<Named>> {
        let named = |file: &String| Ok(Named { name: file_name(file), bytes: self.read(key, file)? });
        self.each(key, files)?.iter().map(named).collect()
    }

    /// The same list with the files of a folder, in order of their names, instead of the folder.
    fn each(&self, key: &'static str, files: &[String]) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for file in files {
            let path = self.project.folder.join(file);
            if !path.is_dir() {
                all.push(file.clone());
                continue;
            }
            let mut found = Vec::new();
            collect(&path, file.trim_end_matches('/'), &mut found).map_err(self.failed(key, file))?;
            all.extend(found.into_iter().map(|placed| placed.target));
        }
        Ok(all)
    }

    /// Files with places; a folder stands for the files in it.
    fn placed(&self, key: &'static str, mappings: &[DataMapping]) -> Result<Vec<Placed>> {
        let mut placed = Vec::new();
        for DataMapping { source, target } in mappings {
            let path = self.project.folder.join(source);
            let metadata = fs_err::metadata(&path).map_err(self.failed(key, source))?;
            if metadata.is_dir() {
                collect(&path, target, &mut placed).map_err(self.failed(key, source))?;
            } else {
                let executable = metadata.permissions().mode() & 0o100 != 0;
                placed.push(Placed { target: target.clone(), source: path, executable });
            }
        }
        Ok(placed)
    }

    fn read(&self, key: &'static str, file: &str) -> Result<Vec<u8>> {
        fs_err::read(self.project.folder.join(file)).map_err(self.failed(key, file))
    }

    fn failed(&self, key: &'static str, file: &str) -> impl FnOnce(std::io::Error) -> CliError {
        move |source| {
            if source.kind() != std::io::ErrorKind::NotFound {
                return CliError::io("read", file)(source);
            }
            let place = place(self.project, key).unwrap_or_else(|| Place::Found("default".to_owned()));
            let (key, path) = (format!("release.{key}"), file.to_owned());
            CliError::Config(ConfigError::NoSuchFile { place, key, path, suggestion: None })
        }
    }

    fn apk_key(&self, given: &str, public_name: Option<&str>) -> Result<ApkKey> {
        let (bytes, own_name) = match given.strip_prefix("env:") {
            Some(variable) => {
                let text = self.environment.get(variable).ok_or_else(|| CliError::Missing {
                    problem: format!("`release.apk-key` is {given}, and {variable} is not set"),
                    hint: "put the key itself into the variable, in PEM".to_owned(),
                })?;
                let name = self.project.config.resolved().release.name;
                (text.as_bytes().to_vec(), format!("{name}.rsa"))
            }
            None => (self.read("apk-key", given)?, file_name(given)),
        };
        let public_name = public_name.map_or_else(|| format!("{own_name}.pub"), str::to_owned);
        ApkKey::read(&bytes, public_name).map_err(refused(self.project))
    }
}

/// The files of a folder, in order of their names. Links to files are followed, as everywhere where files are taken along.
fn collect(folder: &Path, target: &str, placed: &mut Vec<Placed>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> = fs_err::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        let metadata = fs_err::metadata(&path)?;
        let target = format!("{target}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if metadata.is_dir() {
            collect(&path, &target, placed)?;
        } else if metadata.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            placed.push(Placed { target, source: path, executable });
        }
    }
    Ok(())
}

fn file_name(path: &str) -> String {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned()
}
