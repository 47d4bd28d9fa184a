//! Zip archives.

use std::io::{BufReader, Read};

use ::zip::ZipArchive;
use ::zip::result::ZipError;
use fs_err::File;

use super::bounds::Meter;
use super::{Member, MemberKind, PackageError, Visit, inside};

/// Bytes of a link's text at most.
const MOST_LINK: u64 = 64 << 10;

/// Visits the entries of an archive, in the order of its directory.
pub(super) fn walk(file: File, meter: &Meter, visit: &mut Visit<'_>) -> Result<(), PackageError> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(failed)?;
    for index in 0..archive.len() {
        meter.member()?;
        let mut entry = archive.by_index(index).map_err(failed)?;
        let name = entry.name().map_err(failed)?.into_owned();
        // Windows' separators are part of a name here, and would not be there.
        let Some(name) = inside(&name.replace('\\', "/"))? else { continue };
        let (is_folder, is_link) = (entry.is_dir(), entry.is_symlink());
        let mode = entry.unix_mode().unwrap_or(0o644) & 0o7777;
        let mut body = meter.limited(&mut entry);
        let kind = if is_folder {
            MemberKind::Folder
        } else if is_link {
            let mut text = Vec::new();
            (&mut body).take(MOST_LINK).read_to_end(&mut text)?;
            MemberKind::Link(String::from_utf8_lossy(&text).into_owned())
        } else {
            MemberKind::File
        };
        visit(Member { name, mode, kind, is_control: false, body: &mut body })?;
    }
    Ok(())
}

fn failed(error: ZipError) -> PackageError {
    match error {
        ZipError::Io(error) => error.into(),
        ZipError::UnsupportedArchive(what) => {
            PackageError::Unsupported(format!("it is a zip archive that kiln does not read: {what}"))
        }
        error => PackageError::damaged(error.to_string()),
    }
}
