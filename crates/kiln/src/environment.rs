//! The process's surroundings, read once and in one place: variables, home, terminal.

use std::path::PathBuf;

/// What kiln reads of its surroundings.
pub(crate) struct Environment {
    /// All variables that are text.
    pub(crate) variables: Vec<(String, String)>,
    /// Folder of the user's own settings.
    pub(crate) config_folder: PathBuf,
    /// Folder for what can be lost: locks, digests.
    pub(crate) cache_folder: PathBuf,
    /// Folder of the docker CLI's settings.
    pub(crate) docker_folder: PathBuf,
    /// `KILN_CONFIG`.
    pub(crate) config_file: Option<PathBuf>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let variables: Vec<(String, String)> =
            std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))).collect();
        let path = |name: &str| {
            let found = variables.iter().find(|(n, v)| n == name && !v.is_empty());
            found.map(|(_, value)| PathBuf::from(value))
        };
        let home = path("HOME").unwrap_or_else(|| PathBuf::from("/root"));
        let config = path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let cache = path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        Self {
            config_folder: path("KILN_HOME").unwrap_or_else(|| config.join("kiln")),
            cache_folder: path("KILN_CACHE_DIR").unwrap_or_else(|| cache.join("kiln")),
            docker_folder: path("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker")),
            config_file: path("KILN_CONFIG"),
            variables,
        }
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }
}
