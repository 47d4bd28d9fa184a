//! Snapshots: which files a tree has, and where their bytes are.
//!
//! # Format, version 1
//!
//! A line `kiln-cache 1` and the digest of all after the second line; a line with the signature of the same (`unsigned`, or
//! `minisign` and a minisign signature in base64); then a zstd frame with JSON: the fields of [`Snapshot`] under their
//! names. Digests are BLAKE3. `packs` are whole objects of a store. `blocks` are parts
//! of packs, each one zstd frame or plain bytes. `pieces` are parts of unpacked blocks; the content of a file is a list of
//! them. So many small files share a block, and a large one has several.
//!
//! Nothing in a snapshot is believed: [`Snapshot::decode`] refuses what leads out of the tree, what no cache needs (devices,
//! setuid bits), and numbers that do not fit each other, before anything is made of it.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::name::{ContentId, PackId, Series};
use crate::sign::{Signer, Trust};

/// How the first line begins.
const HEAD: &str = "kiln-cache 1 ";
/// What stands in the second line where nobody signed.
const UNSIGNED: &str = "unsigned";
/// How the second line begins where somebody did.
const SIGNED: &str = "minisign ";
/// JSON beyond this is no snapshot: half a million files have 100 MB.
const MOST_JSON: u64 = 1 << 30;
/// Bytes of a block at most, unpacked.
pub(crate) const MOST_IN_BLOCK: usize = 4 << 20;
/// Mode bits that a cache may have: it needs no setuid programs.
pub(crate) const MODES: u32 = 0o777;
/// The sticky bit: caches that several users share have it on folders.
pub(crate) const STICKY: u32 = 0o1000;

/// A tree of files at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What it is a snapshot of. A snapshot under another name is refused.
    pub series: Series,
    /// Seconds since 1970.
    pub made: u64,
    /// Which kiln made it.
    pub by: String,
    /// What else is known of the tree: `seconds` that it took to make, `digest` of an image, ...
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
    /// The packs.
    pub packs: Vec<PackRef>,
    /// Parts of packs.
    pub blocks: Vec<Block>,
    /// Parts of blocks.
    pub pieces: Vec<Piece>,
    /// The tree, folders before what they hold.
    pub entries: Vec<Entry>,
}

/// A pack that a snapshot needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRef {
    /// Its name.
    pub id: PackId,
    /// Its bytes.
    pub size: u64,
}

/// A part of a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Which pack, by index.
    pub pack: u32,
    /// Where in it.
    pub at: u64,
    /// Bytes in the pack.
    pub stored: u32,
    /// Bytes after unpacking.
    pub len: u32,
    /// Whether it is a zstd frame.
    pub zstd: bool,
}

/// A part of an unpacked block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Digest of its bytes.
    pub digest: ContentId,
    /// Which block, by index.
    pub block: u32,
    /// Where in it.
    pub at: u32,
    /// Bytes.
    pub len: u32,
}

/// One file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path below the tree's root, which itself is the empty path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change, in seconds since 1970: what ccache evicts by.
    pub mtime: i64,
    /// What it is.
    #[serde(rename = "is")]
    pub kind: Kind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file with the content of these pieces, by index.
    File(Vec<u32>),
    /// A symbolic link within the tree.
    Symlink(String),
    /// Another name of the file at this path, which stands before it.
    Same(String),
}

/// Why some bytes are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// A kiln of another version made it.
    #[error("it has a format that this kiln does not know: {0:?}")]
    Foreign(String),
    /// No trusted key signed it.
    #[error("{0}")]
    Untrusted(String),
}

impl Snapshot {
    /// An empty tree.
    pub fn new(series: Series, made: u64) -> Self {
        Self {
            series,
            made,
            by: concat!("kiln ", env!("CARGO_PKG_VERSION")).to_owned(),
            facts: BTreeMap::new(),
            packs: Vec::new(),
            blocks: Vec::new(),
            pieces: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// The bytes of the file at an index of `entries`.
    pub fn size_of(&self, entry: &Entry) -> u64 {
        match &entry.kind {
            Kind::File(pieces) => pieces.iter().map(|piece| u64::from(self.pieces[*piece as usize].len)).sum(),
            _ => 0,
        }
    }

    /// Bytes of all packs.
    pub fn stored(&self) -> u64 {
        self.packs.iter().map(|pack| pack.size).sum()
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.entries.iter().map(|entry| self.size_of(entry)).sum()
    }

    /// Files in the tree.
    pub fn files(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.kind, Kind::File(_) | Kind::Same(_))).count()
    }

    /// How many bytes of each pack files need. A block that they need in part counts as much as that part of it.
    pub(crate) fn use_of_packs(&self) -> Vec<u64> {
        let mut needed = vec![0u64; self.blocks.len()];
        for piece in &self.pieces {
            needed[piece.block as usize] += u64::from(piece.len);
        }
        let mut sums = vec![0; self.packs.len()];
        for (block, needed) in self.blocks.iter().zip(needed) {
            sums[block.pack as usize] += u64::from(block.stored) * needed / u64::from(block.len.max(1));
        }
        sums
    }

    /// The object of a store.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub fn encode(&self, signer: Option<&Signer>) -> std::io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let body = zstd::bulk::compress(&json, 3)?;
        let signature = match signer {
            Some(signer) => format!("{SIGNED}{}", signer.sign(&body)?),
            None => UNSIGNED.to_owned(),
        };
        let mut bytes = format!("{HEAD}{}\n{signature}\n", ContentId::of(&body)).into_bytes();
        bytes.extend(body);
        Ok(bytes)
    }

    /// A snapshot of this series, as it was encoded.
    ///
    /// # Errors
    /// Everything else is refused.
    pub fn decode(bytes: &[u8], series: &Series, trust: &Trust) -> Result<Self, Refused> {
        let damaged = |what: &str| Refused::Damaged(what.to_owned());
        let (head, rest) = line(bytes).ok_or_else(|| damaged("it has no head"))?;
        let digest = head.strip_prefix(HEAD).ok_or_else(|| Refused::Foreign(head.chars().take(12).collect()))?;
        let (signature, body) = line(rest).ok_or_else(|| damaged("it has no signature line"))?;
        if digest != ContentId::of(body).to_string() {
            return Err(damaged("its digest is another one"));
        }
        trust.check(signature.strip_prefix(SIGNED), body).map_err(Refused::Untrusted)?;
        let mut json = Vec::new();
        let decoder = zstd::Decoder::with_buffer(body).map_err(|e| Refused::Damaged(e.to_string()))?;
        let read = decoder.take(MOST_JSON).read_to_end(&mut json);
        read.map_err(|e| Refused::Damaged(format!("it cannot be unpacked: {e}")))?;
        let snapshot: Self =
            serde_json::from_slice(&json).map_err(|e| Refused::Damaged(format!("it is no list of files: {e}")))?;
        if snapshot.series != *series {
            return Err(Refused::Damaged(format!("it is one of {}", snapshot.series)));
        }
        snapshot.check().map_err(Refused::Damaged)?;
        Ok(snapshot)
    }

    /// Whether everything in it fits and stays in the tree.
    fn check(&self) -> Result<(), String> {
        for block in &self.blocks {
            let pack = self.packs.get(block.pack as usize).ok_or("a block is of no pack")?;
            let end = block.at.checked_add(u64::from(block.stored)).ok_or("a block is too long")?;
            if end > pack.size || block.len as usize > MOST_IN_BLOCK || (!block.zstd && block.stored != block.len) {
                return Err("a block does not fit its pack".to_owned());
            }
        }
        for piece in &self.pieces {
            let block = self.blocks.get(piece.block as usize).ok_or("a piece is of no block")?;
            if u64::from(piece.at) + u64::from(piece.len) > u64::from(block.len) {
                return Err("a piece does not fit its block".to_owned());
            }
        }
        let mut seen: HashMap<&str, &Kind> = HashMap::with_capacity(self.entries.len());
        for entry in &self.entries {
            let path = entry.path.as_str();
            let refuse = |why: &str| Err(format!("`{}` {why}", path.escape_debug()));
            if !is_inside(path) {
                return refuse("leads out of the tree");
            }
            let allowed = if entry.kind == Kind::Folder { MODES | STICKY } else { MODES };
            if entry.mode & !allowed != 0 {
                return refuse("has mode bits that no cache needs");
            }
            let above = path.rsplit_once('/').map_or("", |(above, _)| above);
            if !path.is_empty() && seen.get(above) != Some(&&Kind::Folder) {
                return refuse("is in no folder of the tree");
            }
            match &entry.kind {
                Kind::Folder => {}
                _ if path.is_empty() => return refuse("is the root and no folder"),
                Kind::File(pieces) => {
                    if pieces.iter().any(|piece| *piece as usize >= self.pieces.len()) {
                        return refuse("has content that is not there");
                    }
                }
                Kind::Symlink(to) if !stays(path, to) => return refuse("is a link that leads out of the tree"),
                Kind::Symlink(_) => {}
                Kind::Same(other) => {
                    if !matches!(seen.get(other.as_str()), Some(Kind::File(_))) {
                        return refuse("is another name of nothing");
                    }
                }
            }
            if seen.insert(path, &entry.kind).is_some() {
                return refuse("is there twice");
            }
        }
        Ok(())
    }
}

fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().take(1 << 12).position(|b| *b == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

/// Whether a path is one of plain names, so that it stays where it is put.
pub(crate) fn is_inside(path: &str) -> bool {
    path.is_empty() || path.split('/').all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'))
}

/// Whether a link at `path` leads to something of the same tree.
pub(crate) fn stays(path: &str, to: &str) -> bool {
    if to.is_empty() || to.starts_with('/') || to.contains('\0') {
        return false;
    }
    let mut depth = path.matches('/').count();
    for name in to.split('/') {
        match name {
            "" | "." => {}
            ".." if depth == 0 => return false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: path.to_owned(), mode: 0o644, uid: 0, gid: 0, mtime: 7, kind }
    }

    fn series() -> Series {
        Series::new(["hello", "main", "volume", "c"])
    }

    fn whole() -> Snapshot {
        let mut snapshot = Snapshot::new(series(), 1_700_000_000);
        snapshot.packs.push(PackRef { id: PackId::of(b"pack"), size: 30 });
        snapshot.blocks.push(Block { pack: 0, at: 0, stored: 20, len: 40, zstd: true });
        snapshot.blocks.push(Block { pack: 0, at: 20, stored: 10, len: 10, zstd: false });
        snapshot.pieces.push(Piece { digest: ContentId::of(b"x"), block: 0, at: 0, len: 40 });
        snapshot.pieces.push(Piece { digest: ContentId::of(b"y"), block: 1, at: 5, len: 5 });
        snapshot.entries = vec![
            Entry { mode: 0o1777, ..entry("", Kind::Folder) },
            entry("a", Kind::Folder),
            entry("a/f", Kind::File(vec![0, 1])),
            entry("a/g", Kind::Same("a/f".to_owned())),
            entry("a/l", Kind::Symlink("../a/f".to_owned())),
            entry("empty", Kind::File(vec![])),
        ];
        snapshot
    }

    fn decoded(snapshot: &Snapshot) -> Result<Snapshot, Refused> {
        Snapshot::decode(&snapshot.encode(None).expect("encoded"), &series(), &Trust::Anybody)
    }

    #[test]
    fn what_is_written_is_read() {
        let snapshot = whole();
        assert_eq!(decoded(&snapshot), Ok(snapshot.clone()));
        assert_eq!((snapshot.size(), snapshot.stored(), snapshot.files()), (45, 30, 3));
        assert_eq!(snapshot.use_of_packs(), [25]);
        let bytes = snapshot.encode(None).expect("encoded");
        let other = Series::new(["other"]);
        assert!(matches!(Snapshot::decode(&bytes, &other, &Trust::Anybody), Err(Refused::Damaged(_))));
    }

    #[test]
    fn what_is_torn_or_foreign_is_refused() {
        let bytes = whole().encode(None).expect("encoded");
        for end in 0..bytes.len() {
            assert!(Snapshot::decode(&bytes[..end], &series(), &Trust::Anybody).is_err(), "{end}");
        }
        let mut newer = bytes.clone();
        newer[11] = b'2';
        assert!(matches!(Snapshot::decode(&newer, &series(), &Trust::Anybody), Err(Refused::Foreign(_))));
    }

    #[test]
    fn what_leads_out_or_does_not_fit_is_refused() {
        type Change = fn(&mut Snapshot);
        let changes: &[(&str, Change)] = &[
            ("out", |s| s.entries[2].path = "../f".to_owned()),
            ("absolute", |s| s.entries[2].path = "/f".to_owned()),
            ("dots", |s| s.entries[2].path = "a/./f".to_owned()),
            ("empty name", |s| s.entries[2].path = "a//f".to_owned()),
            ("nul", |s| s.entries[2].path = "a/f\0".to_owned()),
            ("setuid", |s| s.entries[2].mode = 0o4755),
            ("setgid folder", |s| s.entries[1].mode = 0o2755),
            ("sticky file", |s| s.entries[2].mode = 0o1644),
            ("through a link", |s| s.entries[5].path = "a/l/x".to_owned()),
            ("through a file", |s| s.entries[5].path = "a/f/x".to_owned()),
            ("twice", |s| s.entries[5].path = "a/f".to_owned()),
            ("no folder", |s| s.entries[5].path = "b/x".to_owned()),
            ("link out", |s| s.entries[4].kind = Kind::Symlink("../../etc".to_owned())),
            ("link to root", |s| s.entries[4].kind = Kind::Symlink("/etc/passwd".to_owned())),
            ("same as nothing", |s| s.entries[3].kind = Kind::Same("b".to_owned())),
            ("same as a link", |s| s.entries[3].kind = Kind::Same("a/l".to_owned())),
            ("root is a file", |s| s.entries[0].kind = Kind::File(vec![])),
            ("no piece", |s| s.entries[2].kind = Kind::File(vec![2])),
            ("no block", |s| s.pieces[0].block = 2),
            ("no pack", |s| s.blocks[0].pack = 1),
            ("beyond the block", |s| s.pieces[1].at = 6),
            ("beyond the pack", |s| s.blocks[1].at = 21),
            ("overflow", |s| s.blocks[1].at = u64::MAX),
            ("large block", |s| s.blocks[0].len = u32::try_from(MOST_IN_BLOCK).expect("small") + 1),
        ];
        for (name, change) in changes {
            let mut snapshot = whole();
            change(&mut snapshot);
            assert!(matches!(decoded(&snapshot), Err(Refused::Damaged(_))), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut with_head = format!("{HEAD}{}\nunsigned\n", ContentId::of(&bytes)).into_bytes();
            with_head.extend(&bytes);
            for bytes in [bytes, with_head] {
                proptest::prop_assert!(Snapshot::decode(&bytes, &series(), &Trust::Anybody).is_err());
            }
        }

        #[test]
        fn flipped_bytes_are_refused(at in 0usize..1000, bit in 0u8..8) {
            let mut bytes = whole().encode(None).expect("encoded");
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            // What was no signature is no other one.
            let is_signature = bytes.iter().take(at).filter(|b| **b == b'\n').count() == 1;
            let read = Snapshot::decode(&bytes, &series(), &Trust::Anybody);
            proptest::prop_assert!(read.is_err() || (is_signature && read == Ok(whole())));
        }
    }
}
