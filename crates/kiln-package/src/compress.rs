//! Compressors whose output depends on nothing but the input.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use lzma_rust2::{XzOptions, XzWriter};

/// Levels: what the format's own packages use, or a little less where that costs much time for nothing.
const XZ_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 19;

/// A stream of gzip without a name and a time.
pub(crate) fn gzip<W: Write>(out: W) -> GzEncoder<W> {
    // 255 is "unknown": the header says nothing of the machine.
    GzBuilder::new().mtime(0).operating_system(255).write(out, Compression::best())
}

/// Bytes in gzip.
pub(crate) fn gzipped(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = gzip(Vec::new());
    writer.write_all(bytes)?;
    writer.finish()
}

/// A stream of xz.
pub(crate) fn xz<W: Write>(out: W) -> io::Result<XzWriter<W>> {
    XzWriter::new(out, XzOptions::with_preset(XZ_LEVEL))
}

/// A stream of zstd, written by this thread alone.
pub(crate) fn zstd<W: Write>(out: W) -> io::Result<zstd::Encoder<'static, W>> {
    let mut writer = zstd::Encoder::new(out, ZSTD_LEVEL)?;
    writer.include_checksum(true)?;
    Ok(writer)
}
