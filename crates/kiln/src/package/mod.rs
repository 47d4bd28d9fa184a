//! Packages of what was built: which are made, and the one step that places them.
//!
//! [`release::release`] reads what is released, [`programs::programs`] what was built. [`plan`] says what is made of it;
//! [`Staged::pack`] makes that in a staging folder. Whatever else belongs to a release is written there too
//! ([`Staged::add`]), and [`Staged::place`] puts all of it into the output folder at once and then lists it in the sums.

pub(crate) mod image;
pub(crate) mod programs;
pub(crate) mod proofs;
pub(crate) mod release;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_artifact::checksum::{Sha256, Sums, sha256_file};
use kiln_artifact::place::{self, Placement, Staging};
use kiln_graph::Platform;
use kiln_package::installer::{self, Offer};
use kiln_package::{Format, PackageError, Program, Release};
use serde::Serialize;

use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::project::Project;
use crate::release::Repository;

/// The folder that the files of a tag's release will lie in, if that is set or can be told from git and the CI service.
pub(crate) fn download_url(
    environment: &Environment,
    project: &Project,
    release: &Release,
    tag: &str,
) -> Option<String> {
    if let Some(url) = project.config.resolved().release.download_url {
        return Some(url.replace("{version}", release.version.as_str()).replace("{tag}", tag));
    }
    let remote = Repository::open(&project.folder).and_then(|repository| repository.remote()).ok()?;
    let place = crate::release::place(environment, project, remote.as_deref()).ok()?;
    Some(place.downloads(tag))
}

/// A package that is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) program: &'a Program,
    pub(crate) format: Format,
    /// The name of its file.
    pub(crate) file: String,
}

/// A package in the staging folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Packed {
    pub(crate) platform: Platform,
    pub(crate) format: Format,
    /// The name of its file.
    pub(crate) file: String,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) sha256: Sha256,
    /// The program or folder that it was made of.
    pub(crate) program: PathBuf,
}

/// A package that is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) platform: Platform,
    pub(crate) format: Format,
    pub(crate) reason: String,
}

/// Says what is made: of each program all formats that it is of use in, and why others are left out.
///
/// Errors: a format does not fit that the user named (`is_explicit`), or a name fits nowhere.
pub(crate) fn plan<'a>(
    release: &Release,
    programs: &'a [Program],
    formats: &[Format],
    is_explicit: bool,
) -> Result<(Vec<Planned<'a>>, Vec<LeftOut>), PackageError> {
    let (mut planned, mut left_out): (Vec<Planned<'a>>, Vec<LeftOut>) = (Vec::new(), Vec::new());
    for program in programs {
        for format in formats.iter().copied() {
            let fits = kiln_package::check_libc(format, program);
            let without = |reason| LeftOut { platform: program.platform, format, reason };
            match fits.and_then(|()| kiln_package::file_name(format, release, program)) {
                Ok(file) => planned.push(Planned { program, format, file }),
                Err(PackageError::Libc { libc, .. }) if !is_explicit => {
                    left_out.push(without(format!("the program needs {}", libc.family())));
                }
                Err(error @ PackageError::Version { .. }) if !is_explicit => {
                    left_out.push(without(error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok((planned, left_out))
}

/// A file of a release beside the packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    /// The name of its file.
    pub(crate) file: String,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) sha256: Sha256,
}

/// What lies in the staging folder, to be placed and listed together.
pub(crate) struct Staged {
    staging: Staging,
    pub(crate) packed: Vec<Packed>,
    pub(crate) others: Vec<Other>,
}

impl Staged {
    /// Makes packages in a staging folder inside of the output folder, as many at once as there are processors.
    pub(crate) fn pack(
        output: &Path,
        release: &Release,
        planned: &[Planned<'_>],
        refused: impl Fn(PackageError) -> CliError,
    ) -> Result<Self> {
        place::sweep(output)?;
        let staging = Staging::new(output)?;
        let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(planned.len());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(planned) = planned.get(index) else { return };
                        let result = make(release, planned, staging.path());
                        results.lock().expect("nobody panics with it").insert(index, result);
                    }
                });
            }
        });
        let results = results.into_inner().expect("nobody panics with it");
        let packed = results.into_values().collect::<Result<_, _>>().map_err(refused)?;
        Ok(Self { staging, packed, others: Vec::new() })
    }

    /// The staging folder, for what else belongs to the release.
    pub(crate) fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Takes up a file that was written to the staging folder.
    pub(crate) fn add(&mut self, file: &str) -> Result<()> {
        let (size, sha256) = measured(&self.path().join(file)).map_err(CliError::io("read", file))?;
        self.others.push(Other { file: file.to_owned(), size, sha256 });
        Ok(())
    }

    /// Writes `install.sh` for the `tar.gz` archives; nothing if there are none. What an earlier script of the same release
    /// offers is offered further, as long as it is there unchanged: platforms and C libraries may be packed one by one.
    pub(crate) fn add_installer(&mut self, release: &Release, programs: &[Program], url: Option<&str>) -> Result<bool> {
        let program = |packed: &Packed| programs.iter().find(|program| program.source == packed.program);
        let archives = self.packed.iter().filter(|packed| packed.format == Format::TarGz);
        let mut offers: Vec<Offer> =
            archives.filter_map(|packed| Offer::new(program(packed)?, &packed.file, packed.sha256)).collect();
        if offers.is_empty() {
            return Ok(false);
        }
        let output = self.staging.out_dir();
        let earlier = fs_err::read_to_string(output.join(installer::NAME)).unwrap_or_default();
        for offer in installer::offers(&earlier, release) {
            let is_replaced = offers.iter().any(|new| new.file == offer.file);
            let is_there = || sha256_file(&output.join(&offer.file)).is_ok_and(|sum| sum == offer.sha256);
            if !is_replaced && is_there() {
                offers.push(offer);
            }
        }
        let path = self.path().join(installer::NAME);
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::write(&path, installer::script(release, url, &offers))
            .and_then(|()| fs_err::set_permissions(&path, executable))
            .map_err(CliError::io("write", &path))?;
        self.add(installer::NAME)?;
        Ok(true)
    }

    /// Puts everything into the output folder, and the sums last: what is listed is there. Files of other versions are listed
    /// no longer, so that the list is one of this release, and their names are returned.
    pub(crate) fn place(self, release: &Release) -> Result<Vec<String>> {
        let mut sums = Sums::new();
        let packed = self.packed.iter().map(|packed| (&packed.file, packed.sha256));
        for (file, sum) in packed.chain(self.others.iter().map(|other| (&other.file, other.sha256))) {
            sums.insert(file.as_str(), sum);
        }
        let output = self.staging.out_dir().to_owned();
        let placements: Vec<Placement> = sums.iter().map(|(file, _)| Placement::same(file)).collect();
        self.staging.commit(&placements)?;
        let is_other = |file: &str| kiln_package::is_of_another_version(file, &release.name, &release.version);
        Ok(sums.update_without(&output, is_other)?.forgotten)
    }
}

fn make(release: &Release, planned: &Planned<'_>, folder: &Path) -> Result<Packed, PackageError> {
    let path = folder.join(&planned.file);
    kiln_package::write(planned.format, release, planned.program, &path)?;
    let failed = |source| PackageError::Io { path: path.clone(), source };
    let (size, sha256) = measured(&path).map_err(failed)?;
    Ok(Packed {
        platform: planned.program.platform,
        format: planned.format,
        file: planned.file.clone(),
        size,
        sha256,
        program: planned.program.source.clone(),
    })
}

fn measured(path: &Path) -> std::io::Result<(u64, Sha256)> {
    Ok((fs_err::metadata(path)?.len(), sha256_file(path)?))
}
