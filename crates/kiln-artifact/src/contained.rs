//! A file inside of an artifact: in a onefile payload, or in a standalone folder.

use serde::Serialize;

use crate::elf::ElfFacts;

/// A file inside of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainedFile {
    /// Path relative to the artifact, with slashes.
    pub name: String,
    /// Unpacked size in bytes; 0 for a link.
    pub size: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// What it is.
    pub content: Content,
}

/// What a contained file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Anything that is not ELF.
    Data,
    /// A symbolic link.
    Link {
        /// Its text.
        target: String,
    },
    /// A program, library or extension module.
    Elf(Box<ElfFacts>),
    /// It starts like an ELF file and cannot be read as one.
    BrokenElf {
        /// What is wrong with it.
        reason: String,
    },
}

impl ContainedFile {
    /// Its ELF facts, if it is a readable ELF file.
    pub fn elf(&self) -> Option<&ElfFacts> {
        match &self.content {
            Content::Elf(facts) => Some(facts),
            _ => None,
        }
    }

    /// The last component of its name.
    pub fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}
