//! All that can be said of something a user ships: a program, a folder, an archive, a package, an image.
//!
//! [`examine`] gathers, and judges nothing; [`crate::findings`] does. Files stream by once: what is ELF goes through a
//! temporary file, because its parts are found by jumping, and everything is looked through for secrets.

mod folder;
mod name;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use kiln_graph::Arch;

pub use self::folder::artifacts_in;
pub use self::name::{arch_of_name, arch_of_package};
use crate::check::{self, Inspection, Needs};
use crate::contained::{ContainedFile, Content};
use crate::elf::{ElfError, ElfFacts, FileSource, MAGIC, read as read_elf};
use crate::package::{self, Bounds, Control, Form, Image, Member, MemberKind, PackageError};
use crate::payload::{self, Payload, PayloadError};
use crate::secrets::Leaks;

/// What was found out about one artifact.
#[derive(Debug)]
pub struct Examined {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub shape: Shape,
    /// Its size in bytes; of a folder the sum of its files.
    pub size: u64,
    /// Which architectures are claimed for it, and by what.
    pub claims: Vec<Claim>,
    /// What a package says of itself.
    pub control: Option<Control>,
    /// The programs in it; of a program that itself.
    pub programs: Vec<Program>,
    /// All other files, by name; of an image those of the lower layers, too.
    pub files: Vec<ContainedFile>,
    /// Secrets in it.
    pub leaks: Leaks,
}

/// What an artifact is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A program in one file.
    Program,
    /// A folder with a program and what it needs.
    Folder,
    /// An archive or a package.
    Package(Form),
    /// An image for this platform, with what a container of it starts.
    Image {
        /// As its configuration says.
        platform: String,
        /// Path of the program in the image, if it is there.
        program: Option<String>,
    },
}

/// That something is for an architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The architecture.
    pub arch: Arch,
    /// Who says so: `its name`, `the package`.
    pub by: &'static str,
}

/// A program, with what a onefile program has inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program; its name is its path in the artifact.
    pub file: ContainedFile,
    /// What a onefile program has inside.
    pub payload: Option<Payload>,
    /// Why the payload could not be read, if it has one and that is damaged.
    pub damage: Option<String>,
}

impl Program {
    /// Its ELF facts, if they could be read.
    pub fn elf(&self) -> Option<&ElfFacts> {
        self.file.elf()
    }

    /// The files of its payload.
    pub fn inside(&self) -> &[ContainedFile] {
        self.payload.as_ref().map_or(&[], |payload| &payload.files)
    }
}

impl Examined {
    /// What a program of it needs to run.
    pub fn needs(&self, program: &Program) -> Needs {
        // In an image everything is there, and of a onefile program the neighbours are none of its own.
        let with_files = program.payload.is_none() && !matches!(self.shape, Shape::Image { .. });
        let others = self.programs.iter().map(|other| &other.file).filter(|file| *file != &program.file);
        let files = self.files.iter().chain(others).filter(|_| with_files).cloned().collect();
        Needs::of(&Inspection {
            path: self.path.clone(),
            size: self.size,
            program: Some(program.file.clone()),
            payload: program.payload.clone(),
            damage: None,
            files,
        })
    }

    /// The program that a user starts: in a folder the one that Nuitka names like it, in an image the command, elsewhere
    /// the one with a payload, in a folder for programs, nearest to the top, largest.
    pub fn main(&self) -> Option<&Program> {
        if let Shape::Image { program, .. } = &self.shape {
            return self.programs.iter().find(|found| Some(&found.file.name) == program.as_ref());
        }
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        self.programs.iter().max_by_key(|program| {
            let name = &program.file.name;
            let is_named = program.file.file_name().strip_suffix(".bin").unwrap_or(program.file.file_name()) == stem;
            let is_in_bin = name.split('/').any(|part| part == "bin" || part == "sbin");
            let depth = std::cmp::Reverse(name.matches('/').count());
            (program.payload.is_some(), is_named, is_in_bin, depth, program.file.size)
        })
    }

    /// The architecture that it is for: what is claimed, else that of its program.
    pub fn arch(&self) -> Option<Arch> {
        self.claims.first().map(|claim| claim.arch).or_else(|| self.main()?.elf()?.arch())
    }

    fn new(path: &Path, shape: Shape) -> Self {
        let by_name = path.file_name().and_then(|name| arch_of_name(&name.to_string_lossy()));
        // An image's platforms are named in it, and a folder's name says nothing of them.
        let by_name = by_name.filter(|_| !matches!(shape, Shape::Image { .. }));
        Self {
            path: path.to_owned(),
            shape,
            size: 0,
            claims: by_name.map(|arch| Claim { arch, by: "its name" }).into_iter().collect(),
            control: None,
            programs: Vec::new(),
            files: Vec::new(),
            leaks: Leaks::new(),
        }
    }

    /// Looks at one file of an artifact, whose content comes once.
    fn take(&mut self, name: &str, mode: u32, body: &mut dyn Read, spool: &mut Spool) -> Result<(), PackageError> {
        let mut head = Vec::new();
        (&mut *body).take(MAGIC.len() as u64).read_to_end(&mut head)?;
        let is_elf = head == MAGIC;
        let mut content = io::Cursor::new(head).chain(body);
        let executable = mode & 0o100 != 0;
        if !is_elf {
            let size = self.leaks.scan(name, &mut content)?;
            self.files.push(ContainedFile { name: name.to_owned(), size, executable, content: Content::Data });
            return Ok(());
        }
        let path = spool.start()?;
        let mut copied = Copied { from: content, to: &mut spool.file, trouble: None };
        let scanned = self.leaks.scan(name, &mut copied);
        if let Some(source) = copied.trouble {
            return Err(PackageError::Io { action: "write", path: path.display().to_string(), source });
        }
        scanned?;
        self.look(name, executable, &path)
    }

    /// Looks at an ELF file that lies at `path`.
    fn look(&mut self, name: &str, executable: bool, path: &Path) -> Result<(), PackageError> {
        let failed = |source| PackageError::Io { action: "read", path: path.display().to_string(), source };
        let source = FileSource::open(path).map_err(failed)?;
        let content = match read_elf(&source) {
            Ok(facts) => Content::Elf(Box::new(facts)),
            Err(ElfError::NotElf) => Content::Data,
            Err(ElfError::Io(error)) => return Err(failed(error)),
            Err(error) => Content::BrokenElf { reason: error.to_string() },
        };
        let size = fs_err::metadata(path).map_err(failed)?.len();
        let file = ContainedFile { name: name.to_owned(), size, executable, content };
        if !file.elf().is_some_and(ElfFacts::is_program) {
            self.files.push(file);
            return Ok(());
        }
        let (payload, damage) = match payload::read(path) {
            Ok(payload) => (payload, None),
            Err(PayloadError::Io(error)) => return Err(failed(error)),
            Err(error) => (None, Some(error.to_string())),
        };
        if let Some(payload) = &payload {
            payload::contents(path, payload, &mut |inner, body| {
                // Whoever has the program alone names its files as they are.
                let inner = if self.shape == Shape::Program { inner.to_owned() } else { format!("{name}!{inner}") };
                self.leaks.scan(&inner, body).map(drop)
            })
            .map_err(failed)?;
        }
        self.programs.push(Program { file, payload, damage });
        Ok(())
    }

    /// Looks at a member of an archive.
    fn member(&mut self, member: Member<'_>, spool: &mut Spool) -> Result<(), PackageError> {
        let Member { name, kind, mode, body, .. } = member;
        let data = |name, content| ContainedFile { name, size: 0, executable: false, content };
        match kind {
            MemberKind::File => self.take(&name, mode, body, spool),
            MemberKind::Link(target) => {
                self.files.push(data(name, Content::Link { target }));
                Ok(())
            }
            // Another name of what was seen already, and libraries are found by it.
            MemberKind::HardLink(_) => {
                self.files.push(data(name, Content::Data));
                Ok(())
            }
            MemberKind::Folder | MemberKind::Other => Ok(()),
        }
    }
}

/// How things are examined.
#[derive(Clone, Debug)]
pub struct Options {
    /// What an archive may unpack to.
    pub bounds: Bounds,
    /// A folder for temporary files. Its owner removes it: whoever is stopped does not come to tidy up.
    pub scratch: PathBuf,
}

/// Examines what lies at `path`; an image of several platforms is several artifacts.
pub fn examine(path: &Path, options: &Options) -> Result<Vec<Examined>, PackageError> {
    match package::detect(path)? {
        Some(Form::Image) => {
            let images = package::images(path, options.bounds, &options.scratch)?;
            images.iter().map(|image| examine_image(path, image, options)).collect()
        }
        Some(form) => examine_package(path, form, options).map(|one| vec![one]),
        None if path.is_dir() => folder::examine(path).map(|one| vec![one]),
        None => examine_program(path).map(|one| vec![one]),
    }
}

fn examine_program(path: &Path) -> Result<Examined, PackageError> {
    let mut examined = Examined::new(path, Shape::Program);
    let inspection = check::inspect(path).map_err(|error| PackageError::Io {
        action: "read",
        path: path.display().to_string(),
        source: error.source,
    })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    examined.size = inspection.size;
    match inspection.program.as_ref().map(|program| &program.content) {
        Some(Content::Elf(facts)) if facts.is_program() => {}
        Some(Content::Elf(_)) => {
            return Err(PackageError::Unsupported("it is a shared library or object file, and no program".to_owned()));
        }
        Some(Content::BrokenElf { reason }) => return Err(PackageError::damaged(reason.clone())),
        _ => return Err(PackageError::Unsupported("it is no program, package or image that kiln knows".to_owned())),
    }
    let failed = |source| PackageError::Io { action: "read", path: path.display().to_string(), source };
    let mut file = fs_err::File::open(path).map_err(failed)?;
    examined.leaks.scan(&name, &mut file).map_err(failed)?;
    let executable = inspection.program.is_some_and(|program| program.executable);
    examined.look(&name, executable, path)?;
    Ok(examined)
}

fn examine_package(path: &Path, form: Form, options: &Options) -> Result<Examined, PackageError> {
    let mut examined = Examined::new(path, Shape::Package(form));
    let mut spool = Spool::new(&options.scratch)?;
    let control = package::walk(path, form, options.bounds, &mut |member| examined.member(member, &mut spool))?;
    let failed = |source| PackageError::Io { action: "read", path: path.display().to_string(), source };
    examined.size = fs_err::metadata(path).map_err(failed)?.len();
    let claimed = control.as_ref().and_then(|control| arch_of_package(&control.arch));
    examined.claims.extend(claimed.map(|arch| Claim { arch, by: "the package" }));
    examined.control = control;
    Ok(examined)
}

fn examine_image(path: &Path, image: &Image, options: &Options) -> Result<Examined, PackageError> {
    let shape = Shape::Image { platform: image.platform.clone(), program: None };
    let mut examined = Examined::new(path, shape);
    examined.leaks.scan("its configuration", &mut image.config.as_bytes())?;
    let mut spool = Spool::new(&options.scratch)?;
    image.walk(options.bounds, &mut |member| examined.member(member, &mut spool))?;
    examined.size = image.size();
    examined.claims.extend(image.arch.map(|arch| Claim { arch, by: "the image" }));
    let program = image.command.first().and_then(|command| {
        let folders: Vec<&str> = if command.contains('/') { vec![""] } else { image.path.split(':').collect() };
        let paths = folders.iter().map(|folder| format!("{folder}/{command}").trim_start_matches('/').to_owned());
        paths.map(|path| resolved(&examined, path)).find(|path| examined.programs.iter().any(|p| p.file.name == *path))
    });
    examined.shape = Shape::Image { platform: image.platform.clone(), program };
    Ok(examined)
}

/// Where a path leads through the links at its end; a few of them, as they may go in circles.
fn resolved(examined: &Examined, mut path: String) -> String {
    for _ in 0..8 {
        let link = examined.files.iter().rev().find_map(|file| match &file.content {
            Content::Link { target } if file.name == path => Some(target.clone()),
            _ => None,
        });
        let Some(target) = link else { break };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        path = match target.strip_prefix('/') {
            Some(target) => target.to_owned(),
            None => format!("{folder}/{target}").trim_start_matches('/').to_owned(),
        };
    }
    path
}

/// A temporary file that ELF files go through, one after the other.
struct Spool {
    file: tempfile::NamedTempFile,
}

impl Spool {
    fn new(folder: &Path) -> Result<Self, PackageError> {
        Ok(Self { file: tempfile::NamedTempFile::new_in(folder).map_err(PackageError::io("write", folder))? })
    }

    /// Empties it; where it lies.
    fn start(&mut self) -> Result<PathBuf, PackageError> {
        use std::io::Seek;
        let path = self.file.path().to_owned();
        let file = self.file.as_file_mut();
        let emptied = file.set_len(0).and_then(|()| file.rewind());
        emptied.map_err(PackageError::io("write", &path))?;
        Ok(path)
    }
}

/// Reads, and writes what was read to a file.
struct Copied<'a, R> {
    from: R,
    to: &'a mut tempfile::NamedTempFile,
    /// Why writing failed: reading ends then.
    trouble: Option<io::Error>,
}

impl<R: Read> Read for Copied<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        match self.to.write_all(&buffer[..count]) {
            Ok(()) => Ok(count),
            Err(error) => {
                self.trouble = Some(error);
                Ok(0)
            }
        }
    }
}
