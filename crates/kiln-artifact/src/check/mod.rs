//! Whether an artifact is what was asked for, and what it needs to run.
//!
//! [`inspect`] gathers facts about a file or a standalone folder and judges nothing; [`verify`] holds them against a
//! platform and what is expected of it. Rules for packages, secrets and policies can be added as further functions
//! from an [`Inspection`] to [`Problem`]s.

mod needs;
mod problem;

use std::io;
use std::path::{Path, PathBuf};

use kiln_graph::Platform;
use serde::Serialize;

pub use self::needs::{LibcNeed, Needs};
pub use self::problem::{Problem, older_base};
use crate::contained::{ContainedFile, Content};
use crate::elf::{ElfError, ElfFacts, FileSource, GlibcVersion, Libc, read as read_elf};
use crate::payload::{self, Payload, PayloadError};

/// Facts about an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes; of a folder the sum of its files.
    pub size: u64,
    /// What starts it: the file itself, or the main program of a folder, if it has one.
    pub program: Option<ContainedFile>,
    /// What a onefile program has inside.
    pub payload: Option<Payload>,
    /// Why its payload could not be read, if it has one and that is damaged.
    pub damage: Option<String>,
    /// The other files of a folder.
    pub files: Vec<ContainedFile>,
}

/// An artifact that could not be read at all.
#[derive(Debug, thiserror::Error)]
#[error("could not inspect `{}`", path.display())]
pub struct InspectError {
    /// The artifact.
    pub path: PathBuf,
    /// What failed.
    #[source]
    pub source: io::Error,
}

/// What is expected of an artifact besides its platform. The default expects nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    /// Whether it must be, or must not be, a onefile program with a payload.
    pub payload: Option<bool>,
    /// The C library that it must be made for.
    pub libc: Option<Family>,
    /// The newest glibc that it may need.
    pub glibc_max: Option<GlibcVersion>,
    /// Contained files that may be for another machine: names, or folders with a slash at the end.
    pub foreign_allowed: Vec<String>,
}

/// A family of C libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The GNU C library.
    Glibc,
    /// musl.
    Musl,
    /// None: the program is static.
    Static,
}

/// What became of the expectations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What makes the artifact unfit.
    pub problems: Vec<Problem>,
    /// What may be wrong with it, or weakens it.
    pub warnings: Vec<Problem>,
    /// What it needs to run.
    pub needs: Needs,
}

impl Verdict {
    /// Whether nothing makes the artifact unfit.
    pub fn is_fit(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Inspection {
    /// The files inside: of the payload, and of the folder without its main program.
    pub fn contained(&self) -> impl Iterator<Item = &ContainedFile> {
        self.payload.iter().flat_map(|payload| &payload.files).chain(&self.files)
    }

    /// The ELF facts of what starts it.
    pub fn elf(&self) -> Option<&ElfFacts> {
        self.program.as_ref().and_then(ContainedFile::elf)
    }
}

/// Gathers the facts about the file or folder at `path`.
pub fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let gather = || if fs_err::metadata(path)?.is_dir() { inspect_folder(path) } else { inspect_file(path) };
    gather().map_err(|source| InspectError { path: path.to_owned(), source })
}

fn inspect_file(path: &Path) -> io::Result<Inspection> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let program = look(path, name)?;
    let (payload, damage) = match payload::read(path) {
        Ok(payload) => (payload, None),
        Err(PayloadError::Io(error)) => return Err(error),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(Inspection {
        path: path.to_owned(),
        size: program.size,
        program: Some(program),
        payload,
        damage,
        files: Vec::new(),
    })
}

fn inspect_folder(path: &Path) -> io::Result<Inspection> {
    let mut files = Vec::new();
    collect(path, "", &mut files)?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let size = files.iter().map(|file| file.size).sum();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let program = main_program(&files, &stem).map(|index| files.remove(index));
    Ok(Inspection { path: path.to_owned(), size, program, payload: None, damage: None, files })
}

/// The main program of a standalone folder. Nuitka names it `NAME.bin` or `NAME` and the folder `NAME.dist`; else the
/// largest executable program at the top is taken, as helpers are small.
fn main_program(files: &[ContainedFile], stem: &str) -> Option<usize> {
    let is_named = |name: &str| name == stem || name.strip_suffix(".bin") == Some(stem);
    let candidates = files.iter().enumerate().filter(|(_, file)| {
        !file.name.contains('/') && file.executable && file.elf().is_some_and(ElfFacts::is_program)
    });
    candidates
        .max_by_key(|(_, file)| (is_named(&file.name), file.name.strip_suffix(".bin").is_some(), file.size))
        .map(|(at, _)| at)
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<ContainedFile>) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else if kind.is_symlink() {
            let target = fs_err::read_link(entry.path())?.to_string_lossy().into_owned();
            files.push(ContainedFile { name, size: 0, executable: false, content: Content::Link { target } });
        } else if kind.is_file() {
            files.push(look(&entry.path(), name)?);
        }
    }
    Ok(())
}

fn look(path: &Path, name: String) -> io::Result<ContainedFile> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = fs_err::metadata(path)?;
    let content = match read_elf(&FileSource::open(path)?) {
        Ok(facts) => Content::Elf(Box::new(facts)),
        Err(ElfError::NotElf) => Content::Data,
        Err(ElfError::Io(error)) => return Err(error),
        Err(error) => Content::BrokenElf { reason: error.to_string() },
    };
    let executable = metadata.permissions().mode() & 0o100 != 0;
    Ok(ContainedFile { name, size: metadata.len(), executable, content })
}

/// Holds the facts against what is expected.
pub fn verify(inspection: &Inspection, platform: Platform, expectations: &Expectations) -> Verdict {
    let mut verdict = Verdict { problems: Vec::new(), warnings: Vec::new(), needs: Needs::of(inspection) };
    verify_program(inspection, platform, &mut verdict);
    if let Some(reason) = &inspection.damage {
        verdict.problems.push(Problem::DamagedPayload { reason: reason.clone() });
    } else if expectations.payload == Some(true) && inspection.payload.is_none() {
        verdict.problems.push(Problem::MissingPayload);
    } else if expectations.payload == Some(false) && inspection.payload.is_some() {
        verdict.problems.push(Problem::UnexpectedPayload);
    }
    verify_contained(inspection, platform, expectations, &mut verdict);
    verify_libc(inspection, expectations, &mut verdict);
    verdict
}

fn verify_program(inspection: &Inspection, platform: Platform, verdict: &mut Verdict) {
    let Some(program) = &inspection.program else {
        verdict.problems.push(Problem::NoProgram);
        return;
    };
    let name = || program.name.clone();
    let facts = match &program.content {
        Content::Elf(facts) => facts,
        Content::BrokenElf { reason } => {
            verdict.problems.push(Problem::BrokenElf { name: name(), reason: reason.clone() });
            return;
        }
        Content::Data | Content::Link { .. } => {
            verdict.problems.push(Problem::NotElf { name: name() });
            return;
        }
    };
    let (found, expected) = (facts.identity(), platform.arch.elf());
    if found.machine != expected.machine || found.endian != expected.endian {
        verdict.problems.push(Problem::WrongMachine { name: name(), found, platform });
    } else if found.bits != expected.bits {
        verdict.problems.push(Problem::WrongClass { name: name(), bits: found.bits, platform });
    }
    if !facts.is_program() {
        verdict.problems.push(Problem::NotProgram { name: name(), kind: facts.kind });
    } else if !program.executable {
        verdict.problems.push(Problem::NotExecutable { name: name() });
    }
    if let Some(interpreter) = &facts.interpreter
        && !["/lib/", "/lib64/"].iter().any(|folder| interpreter.starts_with(folder))
    {
        verdict.warnings.push(Problem::UnusualInterpreter { name: name(), interpreter: interpreter.clone() });
    }
    harden(program, facts, verdict);
}

fn verify_contained(inspection: &Inspection, platform: Platform, expectations: &Expectations, verdict: &mut Verdict) {
    let is_allowed = |name: &str| {
        expectations
            .foreign_allowed
            .iter()
            .any(|allowed| if allowed.ends_with('/') { name.starts_with(allowed) } else { name == allowed })
    };
    for file in inspection.contained() {
        match &file.content {
            Content::Elf(facts) if facts.identity() == platform.arch.elf() => harden(file, facts, verdict),
            Content::Elf(facts) if !is_allowed(&file.name) => verdict.problems.push(Problem::ForeignFile {
                name: file.name.clone(),
                found: facts.identity(),
                platform,
            }),
            Content::BrokenElf { reason } => {
                verdict.warnings.push(Problem::BrokenElf { name: file.name.clone(), reason: reason.clone() });
            }
            Content::Elf(_) | Content::Data | Content::Link { .. } => {}
        }
    }
}

fn harden(file: &ContainedFile, facts: &ElfFacts, verdict: &mut Verdict) {
    if facts.has_executable_stack() {
        verdict.warnings.push(Problem::ExecutableStack { name: file.name.clone() });
    }
    if facts.writable_executable > 0 {
        verdict.warnings.push(Problem::WritableExecutable { name: file.name.clone() });
    }
}

fn verify_libc(inspection: &Inspection, expectations: &Expectations, verdict: &mut Verdict) {
    // Of a onefile program the payload's main program decides: the bootstrap may be static.
    let main = inspection.payload.as_ref().and_then(|payload| payload.files.first()).and_then(ContainedFile::elf);
    let main = main.filter(|facts| family(facts).is_some()).or_else(|| inspection.elf());
    let found = main.and_then(family);
    for file in inspection.contained() {
        let own = file.elf().and_then(family).filter(|own| *own != Family::Static);
        if let (Some(found), Some(own)) = (found, own)
            && found != own
        {
            verdict.warnings.push(Problem::MixedLibc { name: file.name.clone(), found: own, program: found });
        }
    }
    if let (Some(expected), Some(found)) = (expectations.libc, found)
        && expected != found
    {
        verdict.problems.push(Problem::WrongLibc { expected, found });
    }
    let Some(allowed) = expectations.glibc_max else { return };
    for file in inspection.program.iter().chain(inspection.contained()) {
        if let Some(needed) = file.elf().and_then(ElfFacts::glibc_floor)
            && needed > allowed
        {
            verdict.problems.push(Problem::GlibcTooNew { name: file.name.clone(), needed, allowed });
        }
    }
}

fn family(facts: &ElfFacts) -> Option<Family> {
    match facts.libc {
        Libc::Glibc { .. } => Some(Family::Glibc),
        Libc::Musl => Some(Family::Musl),
        Libc::Static => Some(Family::Static),
        Libc::Unknown => None,
    }
}

#[cfg(test)]
mod tests;
