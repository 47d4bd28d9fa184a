//! Makes payloads for tests, as Nuitka's compressor does.

use kiln_graph::Endian;

use super::Compression;

pub(crate) struct TinyPayload {
    pub(crate) order: Endian,
    pub(crate) compression: Compression,
    pub(crate) checksums: bool,
}

impl TinyPayload {
    pub(crate) const NEW: Self = Self { order: Endian::Little, compression: Compression::Stream, checksums: false };

    fn number(&self, little: &[u8], out: &mut Vec<u8>) {
        match self.order {
            Endian::Little => out.extend_from_slice(little),
            Endian::Big => out.extend(little.iter().rev()),
        }
    }

    /// The payload with its trailing length. A content that starts with `->` makes a link.
    pub(crate) fn build(&self, files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut entries = Vec::new();
        for (name, content) in files {
            entries.extend_from_slice(name.as_bytes());
            entries.push(0);
            if let Some(target) = content.strip_prefix(b"->") {
                entries.push(2);
                entries.extend_from_slice(target);
                entries.push(0);
                continue;
            }
            entries.push(1);
            self.number(&(content.len() as u64).to_le_bytes(), &mut entries);
            if self.checksums {
                self.number(&0x1234_5678_u32.to_le_bytes(), &mut entries);
            }
            if self.compression == Compression::PerFile {
                let stored = zstd::encode_all(*content, 3).unwrap();
                self.number(&u32::try_from(stored.len()).unwrap().to_le_bytes(), &mut entries);
                entries.extend_from_slice(&stored);
            } else {
                entries.extend_from_slice(content);
            }
        }
        entries.push(0);
        let mut out = if self.compression == Compression::None { b"KAX".to_vec() } else { b"KAY".to_vec() };
        if self.compression == Compression::Stream {
            out.extend_from_slice(&zstd::encode_all(entries.as_slice(), 3).unwrap());
        } else {
            out.extend_from_slice(&entries);
        }
        let size = out.len() as u64;
        self.number(&size.to_le_bytes(), &mut out);
        out
    }
}
