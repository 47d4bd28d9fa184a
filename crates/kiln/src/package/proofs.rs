//! Bills of materials, provenance and signatures of what is packed: from `proof` into the folder of the packages.

use std::path::{Path, PathBuf};

use kiln_artifact::checksum::sha256_file;
use kiln_attest::check::SUMS;
use kiln_attest::keyless::BUNDLE;
use kiln_attest::keys::Signer;
use kiln_package::{Program, Release};

use super::Staged;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::project::Project;
use crate::proof::{self, Kind, Making, Released, keyless, keys};

/// What is proved, for whom.
pub(crate) struct Proofs<'a> {
    environment: &'a Environment,
    project: &'a Project,
    release: &'a Release,
    signers: Vec<Signer>,
    /// What is to be said about it.
    pub(crate) notices: Vec<String>,
}

impl<'a> Proofs<'a> {
    /// Opens the keys.
    pub(crate) fn new(environment: &'a Environment, project: &'a Project, release: &'a Release) -> Result<Self> {
        let signers = keys::signers(environment, project)?;
        Ok(Self { environment, project, release, signers, notices: Vec::new() })
    }

    /// Adds bills and provenance to what will be placed in `output`. A bill is of the program that lies there, or, where a
    /// folder was packed or the packages go elsewhere, of the first package that has it.
    pub(crate) fn add(&mut self, output: &Path, programs: &[Program], staged: &mut Staged) -> Result<()> {
        let mut released = Vec::new();
        let mut bearers = Vec::new();
        for program in programs {
            let source = std::path::absolute(&program.source).map_err(CliError::io("find", &program.source))?;
            if source.is_file() && source.parent() == Some(output) {
                let sha256 = sha256_file(&source).map_err(CliError::io("read", &source))?.to_string();
                released.push(Released { path: source, sha256, kind: Kind::Program(program.platform) });
            } else {
                bearers.extend(staged.packed.iter().find(|packed| packed.program == program.source));
            }
        }
        for packed in &staged.packed {
            let is_bearer = bearers.iter().any(|bearer| bearer.file == packed.file);
            let kind = if is_bearer { Kind::Program(packed.platform) } else { Kind::Package };
            let path = staged.path().join(&packed.file);
            released.push(Released { path, sha256: packed.sha256.to_string(), kind });
        }
        for other in &staged.others {
            let path = staged.path().join(&other.file);
            released.push(Released { path, sha256: other.sha256.to_string(), kind: Kind::Package });
        }
        let made = proof::write(&self.making(staged.path()), &released, &self.signers, output)?;
        self.notices.extend(made.notices);
        made.files.iter().map(|path| name(path)).try_for_each(|file| staged.add(&file))
    }

    /// Signs the sums in `output`, and returns the names of the signatures. Those of other sums are of no use any more, and
    /// would be published as if they were: they are removed.
    pub(crate) async fn sign(&mut self, output: &Path, are_changed: bool) -> Result<Vec<String>> {
        let making = self.making(output);
        let mut signatures = proof::sign(&making, &self.signers)?;
        signatures.extend(keyless::sign_keyless(&making).await?);
        let names: Vec<String> = signatures.iter().map(|path| name(path)).collect();
        let usual = [".minisig", ".sig", BUNDLE].map(|ending| format!("{SUMS}{ending}"));
        for name in usual.iter().filter(|name| are_changed && !names.contains(name)) {
            match fs_err::remove_file(output.join(name)) {
                Ok(()) => self.notices.push(format!("{name} was of earlier sums and is removed; nothing renews it")),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(CliError::io("remove", output.join(name))(error)),
            }
        }
        Ok(names)
    }

    fn making<'b>(&'b self, into: &'b Path) -> Making<'b> {
        Making {
            environment: self.environment,
            project: self.project,
            name: &self.release.name,
            version: Some(self.release.version.as_str()),
            into,
            epoch: i64::try_from(self.release.time).unwrap_or_default(),
        }
    }
}

fn name(path: &Path) -> String {
    PathBuf::from(path.file_name().unwrap_or_default()).display().to_string()
}
