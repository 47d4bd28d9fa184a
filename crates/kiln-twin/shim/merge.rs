//! What was restored next to a cache becomes part of it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// `merge FOLDER NAME`: moves all that is in the folder's folder of this name up into the folder. What is there already
/// stays: it is newer. Every file appears whole, as it is only renamed; whoever is stopped in between may begin anew.
pub(crate) fn run(arguments: &[OsString]) -> i32 {
    let [folder, name] = arguments else {
        eprintln!("kiln-twin: merge wants a folder and a name");
        return 2;
    };
    let (to, from) = (Path::new(folder), Path::new(folder).join(name));
    match whole(&from, to) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("kiln-twin: cannot merge {}: {error}", from.display());
            1
        }
    }
}

fn whole(from: &Path, to: &Path) -> io::Result<()> {
    let is_new = fs::read_dir(to)?.count() == 1;
    if is_new {
        let root = fs::metadata(from)?;
        chown(to, Some(root.uid()), Some(root.gid()))?;
        fs::set_permissions(to, root.permissions())?;
    }
    merge(from, to)?;
    fs::remove_dir_all(from)
}

fn merge(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match fs::symlink_metadata(&target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(&source, &target)?,
            Err(error) => return Err(error),
            // Never through a link.
            Ok(there) if there.is_dir() && entry.file_type()?.is_dir() => merge(&source, &target)?,
            Ok(_) => {}
        }
    }
    Ok(())
}
