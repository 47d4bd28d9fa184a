//! Folders: of one program, or of all that a build has made.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Examined, Shape};
use crate::checksum::SUMS_NAME;
use crate::contained::{ContainedFile, Content};
use crate::elf::{ElfError, FileSource, read as read_elf};
use crate::package::{self, PackageError};

/// The artifacts in a folder that has a list of their checksums, as an output folder has; `None` for any other folder.
pub fn artifacts_in(folder: &Path) -> Result<Option<Vec<PathBuf>>, PackageError> {
    if !folder.join(SUMS_NAME).is_file() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(PackageError::io("read", folder))? {
        let path = entry.map_err(PackageError::io("read", folder))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && (path.is_dir() || is_program(&path) || matches!(package::detect(&path), Ok(Some(_)))) {
            found.push(path);
        }
    }
    found.sort();
    Ok(Some(found))
}

fn is_program(path: &Path) -> bool {
    // What is broken is an artifact, too.
    FileSource::open(path).is_ok_and(|source| !matches!(read_elf(&source), Err(ElfError::NotElf)))
}

/// Examines the folder of one program.
pub(super) fn examine(folder: &Path) -> Result<Examined, PackageError> {
    let mut examined = Examined::new(folder, Shape::Folder);
    collect(&mut examined, folder, "")?;
    let files = examined.files.iter().chain(examined.programs.iter().map(|program| &program.file));
    examined.size = files.map(|file| file.size).sum();
    if examined.programs.is_empty() {
        return Err(PackageError::Unsupported("it is a folder without a program".to_owned()));
    }
    Ok(examined)
}

fn collect(examined: &mut Examined, folder: &Path, prefix: &str) -> Result<(), PackageError> {
    let entries = fs_err::read_dir(folder).map_err(PackageError::io("read", folder))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .map_err(PackageError::io("read", folder))?;
    paths.sort();
    for path in paths {
        let failed = || PackageError::io("read", &path);
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        let metadata = fs_err::symlink_metadata(&path).map_err(failed())?;
        if metadata.is_dir() {
            collect(examined, &path, &format!("{name}/"))?;
        } else if metadata.is_symlink() {
            let target = fs_err::read_link(&path).map_err(failed())?.to_string_lossy().into_owned();
            examined.files.push(ContainedFile { name, size: 0, executable: false, content: Content::Link { target } });
        } else if metadata.is_file() {
            let mut file = fs_err::File::open(&path).map_err(failed())?;
            examined.leaks.scan(&name, &mut file).map_err(failed())?;
            let executable = metadata.permissions().mode() & 0o100 != 0;
            examined.look(&name, executable, &path)?;
        }
    }
    Ok(())
}
