//! Keys of a project's settings: where they lie, and what opens them.

use kiln_attest::check::Trust;
use kiln_attest::keyless::{Authority, KEYLESS, SignatoryError};
use kiln_attest::keys::{KeyError, PublicKey, Signer};
use kiln_config::SignWith;

use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::project::Project;

/// The variable with the password of a key.
const PASSWORD: &str = "KILN_SIGN_PASSWORD";
/// The variable with the path of a file with that password.
const PASSWORD_FILE: &str = "KILN_SIGN_PASSWORD_FILE";
/// The variable that cosign itself reads.
const COSIGN_PASSWORD: &str = "COSIGN_PASSWORD";

/// The keys of `release.sign`.
pub(crate) fn signers(environment: &Environment, project: &Project) -> Result<Vec<Signer>> {
    let settings = project.config.resolved();
    let own = password(environment)?;
    let mut signers = Vec::new();
    for with in &settings.release.sign {
        let signer = match with {
            SignWith::Keyless => continue,
            SignWith::Minisign(key) => Signer::minisign(&read(environment, project, key)?, own.as_deref()),
            SignWith::Cosign(key) => {
                let password = environment.get(COSIGN_PASSWORD).or(own.as_deref());
                Signer::cosign(&read(environment, project, key)?, password)
            }
        };
        let (SignWith::Minisign(key) | SignWith::Cosign(key)) = with else { continue };
        signers.push(signer.map_err(|error| refused(&format!("the key {key} of release.sign"), &error))?);
    }
    Ok(signers)
}

/// Whom a project believes.
pub(crate) fn trust(project: &Project) -> Result<Trust> {
    let settings = project.config.resolved().release;
    let mut trust = Trust::default();
    for text in &settings.trusted_keys {
        if text.starts_with(KEYLESS) {
            let signatory = text.parse().map_err(|error: SignatoryError| CliError::Missing {
                problem: format!("{text} of release.trusted-keys cannot be used: {error}"),
                hint: error.hint().to_owned(),
            })?;
            trust.signatories.push(signatory);
        } else {
            trust.keys.push(public(project, text)?);
        }
    }
    if let Some(file) = &settings.trusted_root {
        let text = fs_err::read_to_string(project.folder.join(file)).map_err(CliError::io("read", file))?;
        let authority = Authority::parse(&text).map_err(|error| CliError::Missing {
            problem: format!("{file} of release.trusted-root cannot be used: {error}"),
            hint: "it is the trusted_root.json of an instance of Sigstore".to_owned(),
        })?;
        trust.authority = Some(authority);
    }
    Ok(trust)
}

/// A public key: itself, or a file with one.
fn public(project: &Project, text: &str) -> Result<PublicKey> {
    let refused = |error: &KeyError| refused(&format!("{text} of release.trusted-keys"), error);
    // Whatever is no key in itself names a file with one.
    let error = match PublicKey::parse(text) {
        Ok(key) => return Ok(key),
        Err(error) => error,
    };
    let path = project.folder.join(text);
    if !path.exists() {
        return Err(refused(&error));
    }
    let text = fs_err::read_to_string(&path).map_err(CliError::io("read", &path))?;
    PublicKey::parse(&text).map_err(|error| refused(&error))
}

/// The text of a key: a variable's, or a file's.
fn read(environment: &Environment, project: &Project, key: &str) -> Result<String> {
    if let Some(variable) = key.strip_prefix("env:") {
        return environment.get(variable).map(str::to_owned).ok_or_else(|| CliError::Missing {
            problem: format!("release.sign names the variable {variable}, which is not set"),
            hint: "set it to the text of the key, or leave it out of release.sign where there is no key".to_owned(),
        });
    }
    let path = project.folder.join(key);
    fs_err::read_to_string(&path).map_err(CliError::io("read", &path))
}

/// The password of keys, from its variable or from a file.
fn password(environment: &Environment) -> Result<Option<String>> {
    if let Some(password) = environment.get(PASSWORD) {
        return Ok(Some(password.to_owned()));
    }
    let Some(path) = environment.get(PASSWORD_FILE) else { return Ok(None) };
    let text = fs_err::read_to_string(path).map_err(CliError::io("read", path))?;
    // Editors end a file with a line break, which is no part of a password.
    Ok(Some(text.strip_suffix('\n').unwrap_or(&text).to_owned()))
}

/// An error about a key that is named in settings.
pub(super) fn refused(what: &str, error: &KeyError) -> CliError {
    let hint = match error {
        KeyError::NoPassword | KeyError::WrongPassword => {
            format!("{PASSWORD}, {PASSWORD_FILE} or, for keys of cosign, {COSIGN_PASSWORD} opens it")
        }
        error => error.hint().unwrap_or("name another key").to_owned(),
    };
    CliError::Missing { problem: format!("{what} cannot be used: {error}"), hint }
}
