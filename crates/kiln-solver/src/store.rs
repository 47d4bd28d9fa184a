//! Small files that kiln keeps on the client: written whole or not at all.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Replaces `path` by a file with `bytes`, through a temporary file beside it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    // A process id alone is not unique where two containers share the folder.
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}-{time:x}-{count}.tmp", std::process::id()));
    let written = fs_err::File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        fs_err::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs_err::remove_file(&temporary);
    }
    written
}
