//! Trees as archives of GNU tar's kind, see tar(5): written from a folder, and made in one.

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_long};
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Component, Path, PathBuf};

/// What an archive's parts are multiples of, in bytes.
const BLOCK: usize = 512;
/// Bytes that are read or written at once.
pub(crate) const AT_ONCE: usize = 256 << 10;
/// Bytes of a name that fits a header.
const SHORT: usize = 100;
/// A name of more bytes is none.
const LONGEST_NAME: u64 = 1 << 16;

/// Kinds of members.
mod kind {
    pub(super) const FILE: u8 = b'0';
    pub(super) const SAME: u8 = b'1';
    pub(super) const SYMLINK: u8 = b'2';
    pub(super) const CHARACTERS: u8 = b'3';
    pub(super) const FOLDER: u8 = b'5';
    pub(super) const LONG_NAME: u8 = b'L';
    pub(super) const LONG_LINK: u8 = b'K';
}

/// An error that names the file.
fn of(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Writes members.
pub(crate) struct Giver<W: Write> {
    out: W,
    /// Files of several names, by device and number.
    known: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Giver<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, known: HashMap::new(), buffer: vec![0; AT_ONCE] }
    }

    /// Writes all that is in a folder, and the end.
    pub(crate) fn all(mut self, folder: &Path) -> io::Result<()> {
        self.add(folder, folder.file_name().unwrap_or(OsStr::new(".")).as_bytes())?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()
    }

    /// Adds what is at `from`, with all that is below it.
    fn add(&mut self, from: &Path, path: &[u8]) -> io::Result<()> {
        let meta = fs::symlink_metadata(from).map_err(of(from))?;
        let kind = meta.file_type();
        if kind.is_dir() {
            self.header(&[path, b"/"].concat(), kind::FOLDER, &meta, (0, b""))?;
            let entries = fs::read_dir(from).map_err(of(from))?;
            let mut names =
                entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
            // One tree is one archive.
            names.sort_unstable();
            for name in names {
                self.add(&from.join(&name), &[path, b"/", name.as_bytes()].concat())?;
            }
            return Ok(());
        }
        if kind.is_symlink() {
            let to = fs::read_link(from).map_err(of(from))?;
            return self.header(path, kind::SYMLINK, &meta, (0, to.as_os_str().as_bytes()));
        }
        if kind.is_socket() {
            // It is of no use without its program, and archives know no such thing.
            return Ok(());
        }
        if !kind.is_file() {
            return self.header(path, kind::CHARACTERS, &meta, (0, b""));
        }
        if meta.nlink() > 1 {
            let number = (meta.dev(), meta.ino());
            if let Some(other) = self.known.get(&number) {
                let other = other.clone();
                return self.header(path, kind::SAME, &meta, (0, &other));
            }
            self.known.insert(number, path.to_owned());
        }
        self.header(path, kind::FILE, &meta, (meta.size(), b""))?;
        self.content(from, meta.size()).map_err(of(from))
    }

    fn content(&mut self, from: &Path, size: u64) -> io::Result<()> {
        let mut file = File::open(from)?;
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(AT_ONCE);
            let len = file.read(&mut self.buffer[..most])?;
            if len == 0 {
                return Err(io::Error::other("it became shorter while it was read"));
            }
            self.out.write_all(&self.buffer[..len])?;
            left -= len as u64;
        }
        self.out.write_all(&[0; BLOCK][..padding(size)])
    }

    fn header(&mut self, path: &[u8], kind: u8, meta: &Metadata, (size, link): (u64, &[u8])) -> io::Result<()> {
        for (name, long) in [(path, kind::LONG_NAME), (link, kind::LONG_LINK)] {
            if name.len() > SHORT {
                let size = name.len() as u64 + 1;
                self.out.write_all(&header(b"././@LongLink", long, [0o644, 0, 0, 0, size], b""))?;
                self.out.write_all(name)?;
                self.out.write_all(&[0; BLOCK + 1][..=padding(size)])?;
            }
        }
        // No archive of this kind has times before 1970, and no cache has them either.
        let time = u64::try_from(meta.mtime()).unwrap_or_default();
        let numbers = [(meta.mode() & 0o7777).into(), meta.uid().into(), meta.gid().into(), time, size];
        self.out.write_all(&header(path, kind, numbers, link))
    }
}

/// Bytes that fill the last block of a content.
fn padding(size: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "less than a block")]
    let over = (size % BLOCK as u64) as usize;
    (BLOCK - over) % BLOCK
}

/// A header; the numbers are mode, user, group, time, and size.
fn header(path: &[u8], kind: u8, [mode, uid, gid, time, size]: [u64; 5], link: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut text = |at: usize, text: &[u8]| {
        let len = text.len().min(SHORT);
        block[at..at + len].copy_from_slice(&text[..len]);
    };
    text(0, path);
    text(157, link);
    text(257, b"ustar  ");
    block[156] = kind;
    for (at, len, value) in [(100, 8, mode), (108, 8, uid), (116, 8, gid), (124, 12, size), (136, 12, time)] {
        put(&mut block[at..at + len], value);
    }
    let sum = checksum(&block);
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block[155] = b' ';
    block
}

/// A number in octal digits, or if it has too many in binary ones.
fn put(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    if digits.len() < field.len() {
        field[..digits.len()].copy_from_slice(digits.as_bytes());
    } else {
        let (len, bytes) = (field.len(), value.to_be_bytes());
        let kept = bytes.len().min(len - 1);
        field[len - kept..].copy_from_slice(&bytes[bytes.len() - kept..]);
        field[0] = 0x80;
    }
}

fn get(field: &[u8]) -> io::Result<u64> {
    if field[0] & 0x80 != 0 {
        return Ok(field[1..].iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    }
    let digits = field.iter().map(|byte| *byte as char).take_while(|digit| *digit != '\0').collect::<String>();
    match digits.trim() {
        "" => Ok(0),
        digits => u64::from_str_radix(digits, 8).map_err(|_| bad(format!("no number: {digits:?}"))),
    }
}

/// The sum of a header's bytes, its own field taken for blanks.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum()
}

/// What a header says.
struct Member {
    path: PathBuf,
    kind: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    time: u64,
    size: u64,
    link: PathBuf,
}

/// Reads members and makes them.
pub(crate) struct Taker<R: Read> {
    from: R,
    root: PathBuf,
    /// Folders and what they shall be: set when nothing is made in them any more.
    folders: Vec<(PathBuf, u32, u64)>,
    buffer: Vec<u8>,
}

impl<R: Read> Taker<R> {
    pub(crate) fn new(from: R, root: PathBuf) -> Self {
        Self { from, root, folders: Vec::new(), buffer: vec![0; AT_ONCE] }
    }

    /// Makes all that comes before the end.
    pub(crate) fn all(mut self) -> io::Result<()> {
        while let Some(member) = self.next()? {
            let path = self.inside(&member.path)?;
            self.make(&member, &path).map_err(of(&path))?;
        }
        // Whoever writes shall not find the connection closed before his last bytes.
        io::copy(&mut self.from, &mut io::sink())?;
        for (path, mode, time) in self.folders.iter().rev() {
            fs::set_permissions(path, Permissions::from_mode(*mode)).map_err(of(path))?;
            set_time(path, *time).map_err(of(path))?;
        }
        Ok(())
    }

    /// The next member but for names that belong to the one after them; none at the end of the archive.
    fn next(&mut self) -> io::Result<Option<Member>> {
        let (mut long_path, mut long_link) = (None, None);
        loop {
            let mut block = [0; BLOCK];
            // What ends before its end was cut off.
            self.from.read_exact(&mut block)?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            if get(&block[148..156])? != checksum(&block) {
                return Err(bad("this is no archive"));
            }
            let size = get(&block[124..136])?;
            let kind = block[156];
            if matches!(kind, kind::LONG_NAME | kind::LONG_LINK) {
                let name = self.name(size)?;
                *(if kind == kind::LONG_NAME { &mut long_path } else { &mut long_link }) = Some(name);
                continue;
            }
            let text = |from: usize| {
                let text = &block[from..from + SHORT];
                text[..text.iter().position(|byte| *byte == 0).unwrap_or(SHORT)].to_owned()
            };
            let path_of =
                |long: Option<Vec<u8>>, at| PathBuf::from(OsString::from_vec(long.unwrap_or_else(|| text(at))));
            let small = |from: usize| {
                get(&block[from..from + 8])
                    .and_then(|value| u32::try_from(value).map_err(|_| bad("a number is too large")))
            };
            return Ok(Some(Member {
                path: path_of(long_path, 0),
                kind,
                mode: small(100)? & 0o1777,
                uid: small(108)?,
                gid: small(116)?,
                time: get(&block[136..148])?,
                size,
                link: path_of(long_link, 157),
            }));
        }
    }

    fn name(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > LONGEST_NAME {
            return Err(bad("a name is too long"));
        }
        let mut name = Vec::new();
        (&mut self.from).take(size).read_to_end(&mut name)?;
        self.pass(padding(size))?;
        while name.pop_if(|last| *last == 0).is_some() {}
        Ok(name)
    }

    fn pass(&mut self, len: usize) -> io::Result<()> {
        self.from.read_exact(&mut [0; BLOCK][..len])
    }

    /// A path of the archive below the root. Whoever sent it has looked at it, too.
    fn inside(&self, path: &Path) -> io::Result<PathBuf> {
        let mut full = self.root.clone();
        for part in path.components() {
            match part {
                Component::Normal(name) => full.push(name),
                Component::CurDir => {}
                _ => return Err(bad(format!("{}: it leads out of the folder", path.display()))),
            }
        }
        Ok(full)
    }

    fn make(&mut self, member: &Member, path: &Path) -> io::Result<()> {
        match member.kind {
            kind::FOLDER => {
                match fs::create_dir(path) {
                    Err(error)
                        if error.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(path)?.is_dir() => {}
                    made => made?,
                }
                lchown(path, Some(member.uid), Some(member.gid))?;
                self.folders.push((path.to_owned(), member.mode, member.time));
                Ok(())
            }
            kind::FILE => self.file(member, path),
            kind::SYMLINK => {
                symlink(&member.link, path)?;
                lchown(path, Some(member.uid), Some(member.gid))?;
                set_time(path, member.time)
            }
            kind::SAME => fs::hard_link(self.inside(&member.link)?, path),
            other => Err(bad(format!("a member of kind {:?}", char::from(other)))),
        }
    }

    fn file(&mut self, member: &Member, path: &Path) -> io::Result<()> {
        // Never through a link, and never over something.
        let mut file = File::create_new(path)?;
        let mut left = member.size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(AT_ONCE);
            let len = self.from.read(&mut self.buffer[..most])?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_all(&self.buffer[..len])?;
            left -= len as u64;
        }
        self.pass(padding(member.size))?;
        fchown(&file, Some(member.uid), Some(member.gid))?;
        file.set_permissions(Permissions::from_mode(member.mode))?;
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(member.time))
    }
}

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
struct Time {
    seconds: i64,
    nanoseconds: c_long,
}

/// Source: openat(2) and utimensat(2).
const AT_FDCWD: c_int = -100;
const AT_SYMLINK_NOFOLLOW: c_int = 0x100;

unsafe extern "C" {
    fn utimensat(folder: c_int, path: *const c_char, times: *const Time, flags: c_int) -> c_int;
}

/// Sets the time of the last change of a folder or of a link itself, in seconds since 1970.
fn set_time(path: &Path, time: u64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let seconds = i64::try_from(time).unwrap_or_default();
    let times = [Time { seconds, nanoseconds: 0 }, Time { seconds, nanoseconds: 0 }];
    // SAFETY: the path ends with a zero, and there are two times.
    match unsafe { utimensat(AT_FDCWD, path.as_ptr(), times.as_ptr(), AT_SYMLINK_NOFOLLOW) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
