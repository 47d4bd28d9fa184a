//! The proofs of a release: bills of materials, provenance, signatures, and whom to believe.
//!
//! Whoever makes a release opens its keys ([`keys::signers`], a second each), calls [`write()`] once all its files are there,
//! writes the sums of them and of what that made, and then calls [`sign`] and [`keyless::sign_keyless`]. [`keys::trust`] is what the project's settings say about checking.

mod build;
mod earlier;
pub(crate) mod keyless;
pub(crate) mod keys;
mod source;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use kiln_artifact::checksum::sha256_file;
use kiln_artifact::place::write_atomically;
use kiln_attest::check::{CYCLONEDX, SPDX, STATEMENTS, SUMS};
use kiln_attest::ingredients::{Materials, Report};
use kiln_attest::keys::Signer;
use kiln_attest::provenance::Built;
use kiln_attest::sbom::{Bill, Subject};
use kiln_config::BillForm;
use kiln_graph::Platform;

use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::job::STATE;
use crate::project::{Project, shown};

/// Who makes the proofs.
const TOOL: (&str, &str) = ("kiln", env!("CARGO_PKG_VERSION"));

/// A file of a release.
#[derive(Clone, Debug)]
pub(crate) struct Released {
    /// Where it is; its name is the one that it is published by.
    pub(crate) path: PathBuf,
    /// Its SHA-256 in hexadecimal.
    pub(crate) sha256: String,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a file of a release is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The program itself, as it was built: it gets a bill of materials.
    Program(Platform),
    /// What was made of it.
    Package,
}

/// A release that proofs are made for.
pub(crate) struct Making<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) project: &'a Project,
    /// What is released, by name and version.
    pub(crate) name: &'a str,
    pub(crate) version: Option<&'a str>,
    /// The folder for the proofs, beside the released files.
    pub(crate) into: &'a Path,
    /// The moment that they are dated to, in seconds since 1970.
    pub(crate) epoch: i64,
}

/// What was made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// The files, in order.
    pub(crate) files: Vec<PathBuf>,
    /// What is to be said about them.
    pub(crate) notices: Vec<String>,
}

/// Writes the bills and the statement that the settings ask for; what earlier runs stated of other files in `output` is kept. The
/// sums, which are made afterwards, list them.
pub(crate) fn write(making: &Making<'_>, released: &[Released], signers: &[Signer], output: &Path) -> Result<Made> {
    let settings = making.project.config.resolved().release;
    let mut made = Made::default();
    let mut programs = Vec::new();
    for file in released {
        let Kind::Program(platform) = file.kind else { continue };
        let ingredients = Ingredients::read(&making.project.folder, platform, &mut made.notices);
        if !settings.sbom.is_empty() {
            made.bills(making, file, platform, &ingredients)?;
        }
        programs.push((platform, file, ingredients));
    }
    if settings.provenance {
        made.statement(making, released, &programs, signers, output)?;
    }
    Ok(made)
}

/// Signs the sums of a release, and returns the signatures.
pub(crate) fn sign(making: &Making<'_>, signers: &[Signer]) -> Result<Vec<PathBuf>> {
    let path = making.into.join(SUMS);
    let sign = |signer: &Signer| {
        signer.sign_file(&path, making.epoch).map_err(|error| CliError::Missing {
            problem: format!("{} cannot be signed: {error}", shown(&path).display()),
            hint: error.hint().unwrap_or("the sums are written before they are signed").to_owned(),
        })
    };
    signers.iter().map(sign).collect()
}

impl Made {
    /// The bills of a program.
    fn bills(
        &mut self,
        making: &Making<'_>,
        file: &Released,
        platform: Platform,
        ingredients: &Ingredients,
    ) -> Result<()> {
        let settings = making.project.config.resolved();
        let name = name_of(&file.path);
        let subject =
            Subject { name: making.name, version: making.version, file: &name, sha256: &file.sha256, platform };
        let (report, materials) = (ingredients.report.as_ref(), ingredients.materials.as_ref());
        let bill = Bill::new(subject, report, materials, making.epoch, TOOL);
        for form in &settings.release.sbom {
            let (ending, text) = match form {
                BillForm::CycloneDx => (CYCLONEDX, bill.to_cyclonedx()),
                BillForm::Spdx => (SPDX, bill.to_spdx()),
            };
            self.place(making.into, &format!("{name}{ending}"), &text)?;
        }
        if !bill.is_known() {
            let gaps = bill.gaps().join(" ");
            self.notices.push(format!("the bill of materials of {name} is nearly empty: {gaps}"));
        }
        Ok(())
    }

    /// The statement about all files, the bills among them.
    fn statement(
        &mut self,
        making: &Making<'_>,
        released: &[Released],
        programs: &[(Platform, &Released, Ingredients)],
        signers: &[Signer],
        output: &Path,
    ) -> Result<()> {
        let mut provenance = build::provenance(making, released, programs, &mut self.notices)?;
        for path in &self.files {
            let sum = sha256_file(path).map_err(CliError::io("read", path))?;
            provenance.files.push(Built { name: name_of(path), sha256: sum.to_string() });
        }
        let statement = provenance.statement();
        let version = making.version.map(|version| format!("-{version}")).unwrap_or_default();
        let name = format!("{}{version}{STATEMENTS}", making.name);
        let sign = signers.iter().any(|signer| matches!(signer, Signer::Cosign(_))).then_some(signers);
        if sign.is_none() && !signers.is_empty() {
            self.notices.push(format!("{name} is not signed: only keys of cosign sign statements"));
        }
        let anew: HashSet<&str> = provenance.files.iter().map(|file| file.name.as_str()).collect();
        let earlier = earlier::statements(&output.join(&name), &anew, sign)?;
        if earlier.is_foreign {
            let text = "was not signed as this is, and what it said of earlier files is left out";
            self.notices.push(format!("{name} {text}"));
        }
        let text = [vec![earlier::signed(&statement, sign)?], earlier.lines].concat().join("\n");
        self.place(making.into, &name, &(text + "\n"))
    }

    fn place(&mut self, folder: &Path, name: &str, text: &str) -> Result<()> {
        let path = folder.join(name);
        write_atomically(&path, 0o644, text.as_bytes())?;
        self.files.push(path);
        Ok(())
    }
}

/// What the last build of a platform left behind about its program.
#[derive(Debug, Default)]
struct Ingredients {
    report: Option<Report>,
    materials: Option<Materials>,
}

impl Ingredients {
    /// Reads what is there. What cannot be read is told, and missed in the bill.
    fn read(folder: &Path, platform: Platform, notices: &mut Vec<String>) -> Self {
        let folder = folder.join(STATE).join("reports").join(platform.folder());
        let mut text = |name: &str| {
            let path = folder.join(name);
            match fs_err::read_to_string(&path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => {
                    notices.push(format!("what {} says is left out: {error}", shown(&path).display()));
                    None
                }
            }
        };
        let (report, materials) = (text("report.xml"), text("materials.json"));
        let mut told = |name: &str, error: kiln_attest::ingredients::IngredientsError| {
            notices.push(format!("what {} says is left out: {error}", shown(&folder.join(name)).display()));
        };
        Self {
            report: report.and_then(|text| Report::parse(&text).map_err(|e| told("report.xml", e)).ok()),
            materials: materials.and_then(|text| Materials::parse(&text).map_err(|e| told("materials.json", e)).ok()),
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
