//! Small files that kiln keeps on the client: written whole or not at all.

use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` by a file with `bytes`, through a temporary file beside it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    let temporary =
        folder.join(format!(".{}.{}.tmp", path.file_name().unwrap_or_default().to_string_lossy(), std::process::id()));
    let written = fs_err::File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        fs_err::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs_err::remove_file(&temporary);
    }
    written
}
