//! The files of an archive in a folder.

use std::io;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

use super::{Bounds, Form, MemberKind, PackageError, walk};

/// Unpacks an archive or the files of a package into the folder `root`, which is empty. Nothing is written through a link,
/// so it does not matter where links lead; devices and pipes are left out.
pub fn unpack(path: &Path, form: Form, bounds: Bounds, root: &Path) -> Result<(), PackageError> {
    walk(path, form, bounds, &mut |member| {
        if member.is_control {
            return Ok(());
        }
        let place = root.join(&member.name);
        make_parents(root, &member.name)?;
        match member.kind {
            MemberKind::Folder => make_folder(&place, &member.name),
            MemberKind::File => {
                make_room(&place, &member.name)?;
                let mode = if member.mode & 0o111 == 0 { 0o644 } else { 0o755 };
                let mut options = std::fs::OpenOptions::new();
                let file = options.write(true).create_new(true).mode(mode).open(&place);
                let mut file = file.map_err(PackageError::io("write", &place))?;
                io::copy(member.body, &mut file).map(drop).map_err(PackageError::from)
            }
            MemberKind::Link(text) => {
                make_room(&place, &member.name)?;
                symlink(text, &place).map_err(PackageError::io("write", &place))
            }
            MemberKind::HardLink(first) => {
                make_parents(root, &first)?;
                make_room(&place, &member.name)?;
                std::fs::hard_link(root.join(first), &place).map_err(PackageError::io("write", &place))
            }
            MemberKind::Other => Ok(()),
        }
    })
    .map(drop)
}

/// Makes the folders that a member is in.
fn make_parents(root: &Path, name: &str) -> Result<(), PackageError> {
    let mut place = root.to_owned();
    let parts = name.rsplit_once('/').map(|(folder, _)| folder);
    for part in parts.into_iter().flat_map(|folder| folder.split('/')) {
        place.push(part);
        make_folder(&place, name)?;
    }
    Ok(())
}

fn make_folder(place: &Path, name: &str) -> Result<(), PackageError> {
    match std::fs::symlink_metadata(place) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(PackageError::Unsafe { name: name.to_owned(), problem: "lies below something that is no folder" }),
        Err(_) => std::fs::create_dir(place).map_err(PackageError::io("write", place)),
    }
}

/// Removes what an earlier member of the same name made.
fn make_room(place: &Path, name: &str) -> Result<(), PackageError> {
    match std::fs::symlink_metadata(place) {
        Ok(metadata) if metadata.is_dir() => {
            Err(PackageError::Unsafe { name: name.to_owned(), problem: "takes the place of a folder" })
        }
        Ok(_) => std::fs::remove_file(place).map_err(PackageError::io("write", place)),
        Err(_) => Ok(()),
    }
}
