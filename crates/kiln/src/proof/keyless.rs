//! The signature of a release by whoever a CI service says it is of.

use std::path::PathBuf;

use kiln_artifact::place::write_atomically;
use kiln_attest::check::SUMS;
use kiln_attest::keyless::{BUNDLE, Services, Tokens};
use kiln_config::SignWith;

use super::Making;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::travel;

/// Variables with the addresses of other services than Sigstore's own.
const FULCIO: &str = "SIGSTORE_FULCIO_URL";
const REKOR: &str = "SIGSTORE_REKOR_URL";

/// Signs the sums of a release without a key, if the settings ask for that and the CI service gives a token; returns the
/// bundle.
pub(crate) async fn sign_keyless(making: &Making<'_>) -> Result<Option<PathBuf>> {
    let (environment, project) = (making.environment, making.project);
    if !project.config.resolved().release.sign.contains(&SignWith::Keyless) {
        return Ok(None);
    }
    let client = travel::reach(environment, project)?.client()?;
    let Some(token) = tokens(environment).get(&client).await? else { return Ok(None) };
    let path = making.into.join(SUMS);
    let bytes = fs_err::read(&path).map_err(CliError::io("read", &path))?;
    let usual = Services::default();
    let services = Services {
        fulcio: environment.get(FULCIO).map_or(usual.fulcio, str::to_owned),
        rekor: environment.get(REKOR).map_or(usual.rekor, str::to_owned),
        ..Services::default()
    };
    let bundle = kiln_attest::keyless::sign(&client, &services, &token, &bytes).await?;
    let path = making.into.join(format!("{SUMS}{BUNDLE}"));
    write_atomically(&path, 0o644, bundle.to_json().as_bytes())?;
    Ok(Some(path))
}

fn tokens(environment: &Environment) -> Tokens {
    let get = |name: &str| environment.get(name).map(str::to_owned);
    Tokens {
        given: get("SIGSTORE_ID_TOKEN"),
        request: get("ACTIONS_ID_TOKEN_REQUEST_URL").zip(get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")),
    }
}
