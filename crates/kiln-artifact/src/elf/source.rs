//! Bytes at offsets, from wherever they are.

use std::cell::RefCell;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use fs_err::File;

/// Why bytes could not be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceError {
    /// They lie beyond the end.
    OutOfBounds,
    /// They went by in a stream and were not kept.
    NotKept,
    /// Reading failed.
    Io(io::Error),
}

/// Something that gives bytes at an offset.
pub trait ByteSource {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Exactly `len` bytes at `offset`. Called only for ranges inside of [`ByteSource::size`].
    fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, SourceError>;
}

/// An open file.
#[derive(Debug)]
pub struct FileSource {
    file: RefCell<File>,
    size: u64,
}

impl FileSource {
    /// Opens the regular file at `path`. Anything else is an error of kind `InvalidInput`: opening a pipe would block.
    pub fn open(path: &Path) -> io::Result<Self> {
        let metadata = fs_err::metadata(path)?;
        if !metadata.is_file() {
            let message = format!("`{}` is not a regular file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file: RefCell::new(file), size })
    }
}

impl ByteSource for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, SourceError> {
        let mut file = self.file.borrow_mut();
        file.seek(SeekFrom::Start(offset)).map_err(SourceError::Io)?;
        let mut bytes = vec![0; len];
        match file.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            // The file shrank after it was opened.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(SourceError::OutOfBounds),
            Err(error) => Err(SourceError::Io(error)),
        }
    }
}

impl ByteSource for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, SourceError> {
        let start = usize::try_from(offset).map_err(|_| SourceError::OutOfBounds)?;
        let end = start.checked_add(len).ok_or(SourceError::OutOfBounds)?;
        self.get(start..end).map(<[u8]>::to_vec).ok_or(SourceError::OutOfBounds)
    }
}
