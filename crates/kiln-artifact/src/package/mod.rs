//! What archives, packages and images have inside, read as a stream of files.
//!
//! What a file is, its content says, never its name. Nothing is written, and memory does not grow with what is inside:
//! whoever opens one of these may have got it from anywhere. So names that lead out are refused, and so is an archive that
//! unpacks to far more than it is (`bounds`). [`unpack()`] puts the files of an archive into a folder where they are needed there.

mod bounds;
mod deb;
mod image;
mod rpm;
mod tar;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod unpack;
mod zip;

use std::fmt;
use std::io::{self, Read, Seek};
use std::path::Path;

use fs_err::File;
use kiln_fetch::archive::decoded;
use serde::Serialize;

pub use self::bounds::Bounds;
use self::bounds::Meter;
pub use self::image::{Image, images};
pub use self::unpack::unpack;

/// Bytes of text files of packages (control files, manifests) that are read at most.
const TEXT: u64 = 16 << 20;

type Reader = Box<dyn Read + Send>;

/// What a file is, if it holds others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A tar archive, with the name of its compression.
    Tar(Option<&'static str>),
    /// A zip archive.
    Zip,
    /// A package of Debian.
    Deb,
    /// A package of the RPM package manager.
    Rpm,
    /// A package of Alpine.
    Apk,
    /// An image: a layout of the Open Container Initiative, as a folder or archive, or what `docker save` writes.
    Image,
}

impl Form {
    /// Whether a package manager installs it.
    pub fn is_package(self) -> bool {
        matches!(self, Self::Deb | Self::Rpm | Self::Apk)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tar(None) => f.write_str("tar archive"),
            Self::Tar(Some(compression)) => write!(f, "tar archive ({compression})"),
            Self::Zip => f.write_str("zip archive"),
            Self::Deb => f.write_str("Debian package"),
            Self::Rpm => f.write_str("RPM package"),
            Self::Apk => f.write_str("Alpine package"),
            Self::Image => f.write_str("image"),
        }
    }
}

/// What a package says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Control {
    /// Name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, as its package manager calls it.
    pub arch: String,
    /// What it needs, as it is written there.
    pub depends: Vec<String>,
}

/// A file, folder or link inside.
pub struct Member<'a> {
    /// Path without a slash in front; never leads out.
    pub name: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: MemberKind,
    /// Whether it is for the package manager alone and is never installed.
    pub is_control: bool,
    /// The content of a file.
    pub body: &'a mut dyn Read,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link with this text.
    Link(String),
    /// Another name of the member of this name.
    HardLink(String),
    /// A device or pipe.
    Other,
}

/// Why the inside could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// A file of this machine could not be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: String,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// It is cut off, or a part of it contradicts another.
    #[error("it is damaged: {reason}")]
    Damaged {
        /// What does not fit.
        reason: String,
    },
    /// A name in it leads out of the folder that it is unpacked to.
    #[error("its entry `{name}` {problem}")]
    Unsafe {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It unpacks to more than is believable.
    #[error("it unpacks to {what}")]
    TooLarge {
        /// How much of what.
        what: String,
    },
    /// It is of a sort that kiln does not read.
    #[error("{0}")]
    Unsupported(String),
}

impl PackageError {
    pub(crate) fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged { reason: reason.into() }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { action, path, source }
    }
}

/// What goes wrong while a member is read is the archive's fault, but for the limits.
impl From<io::Error> for PackageError {
    fn from(error: io::Error) -> Self {
        match bounds::excess(&error) {
            Some(what) => Self::TooLarge { what },
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::damaged("it ends early"),
            None => Self::damaged(error.to_string()),
        }
    }
}

/// What is called for each member.
pub type Visit<'v> = dyn FnMut(Member<'_>) -> Result<(), PackageError> + 'v;

/// What a file or folder is, if it is one that holds others; `None` for anything else, a plain folder too.
pub fn detect(path: &Path) -> Result<Option<Form>, PackageError> {
    if path.is_dir() {
        return Ok(path.join("oci-layout").is_file().then_some(Form::Image));
    }
    let mut file = open(path)?;
    let mut head = Vec::new();
    (&mut file).take(512).read_to_end(&mut head).map_err(PackageError::io("read", path))?;
    if head.starts_with(deb::MAGIC) {
        return Ok(Some(Form::Deb));
    }
    if head.starts_with(rpm::MAGIC) {
        return Ok(Some(Form::Rpm));
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Ok(Some(Form::Zip));
    }
    if head.starts_with(b"ADB") {
        return Err(PackageError::Unsupported("it is an Alpine package of version 3, which kiln does not read".into()));
    }
    file.rewind().map_err(PackageError::io("read", path))?;
    // What does not decompress is not what it looks like.
    let Ok((compression, plain)) = decoded(Box::new(file)) else { return Ok(None) };
    let Some(first) = tar::first_name(plain) else { return Ok(None) };
    let is_apk = first.starts_with(".SIGN.") || first == ".PKGINFO";
    Ok(Some(match compression {
        Some("gzip") if is_apk => Form::Apk,
        _ if image::begins_like_one(&first) || (compression.is_none() && image::is_archive(path)?) => Form::Image,
        compression => Form::Tar(compression),
    }))
}

/// Calls `visit` for each member of an archive or package, in order. Images have [`images`].
pub fn walk(path: &Path, form: Form, bounds: Bounds, visit: &mut Visit<'_>) -> Result<Option<Control>, PackageError> {
    let file = open(path)?;
    let size = file.metadata().map_err(PackageError::io("read", path))?.len();
    let meter = Meter::new(size, bounds);
    match form {
        Form::Tar(_) => {
            let (_, plain) = decoded(Box::new(file))?;
            tar::walk(&mut meter.limited(plain), &meter, visit).map(|()| None)
        }
        Form::Apk => {
            let (_, plain) = decoded(Box::new(file))?;
            tar::walk_apk(&mut meter.limited(plain), &meter, visit).map(Some)
        }
        Form::Deb => deb::walk(file, &meter, visit).map(Some),
        Form::Rpm => rpm::walk(file, &meter, visit).map(Some),
        Form::Zip => zip::walk(file, &meter, visit).map(|()| None),
        Form::Image => Err(PackageError::Unsupported("an image holds several file systems".to_owned())),
    }
}

fn open(path: &Path) -> Result<File, PackageError> {
    let metadata = fs_err::metadata(path).map_err(PackageError::io("read", path))?;
    if !metadata.is_file() {
        // Opening a pipe would wait for somebody to write.
        return Err(PackageError::Unsupported("it is no regular file".to_owned()));
    }
    File::open(path).map_err(PackageError::io("read", path))
}

/// A name as a path below the folder that it is unpacked to; `None` for that folder itself.
fn inside(name: &str) -> Result<Option<String>, PackageError> {
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(PackageError::Unsafe { name: name.to_owned(), problem: "leads out of the folder that it is in" });
    }
    Ok(Some(parts.join("/")).filter(|name| !name.is_empty()))
}

/// Reads a text that must not be long.
fn read_text(body: &mut dyn Read) -> Result<String, PackageError> {
    let mut bytes = Vec::new();
    body.take(TEXT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT {
        return Err(PackageError::TooLarge { what: "a control file of more than 16 MB".to_owned() });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
