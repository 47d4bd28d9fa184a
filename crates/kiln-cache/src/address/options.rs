//! The types of stores and their options.

use super::words::nearest;

/// A type of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Local,
    Registry,
    S3,
    Azblob,
    Gcs,
    Webdav,
    Http,
    Gha,
}

/// In the order in which they are shown.
const KINDS: [(&str, Kind); 8] = [
    ("local", Kind::Local),
    ("registry", Kind::Registry),
    ("s3", Kind::S3),
    ("azblob", Kind::Azblob),
    ("gcs", Kind::Gcs),
    ("webdav", Kind::Webdav),
    ("http", Kind::Http),
    ("gha", Kind::Gha),
];

/// Schemes of URLs, for what they may be mistaken for.
pub(super) const SCHEMES: [&str; 12] =
    ["file", "registry", "oci", "s3", "azblob", "gs", "gcs", "webdav", "webdavs", "http", "https", "gha"];

/// Options of every type.
const COMMON: [&str; 2] = ["mode", "ignore_error"];
/// What buildx says about images, which kiln's caches are not.
const OF_IMAGES: [&str; 5] =
    ["compression", "compression_level", "force_compression", "oci_mediatypes", "image_manifest"];

impl Kind {
    pub(super) fn parse(word: &str) -> Option<Self> {
        KINDS.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind)
    }

    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Its own options, `_` standing for `-`, too.
    pub(super) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Local => &["src", "dest"],
            Self::Registry => &["ref", "registry.insecure"],
            Self::S3 => &[
                "bucket",
                "region",
                "prefix",
                "name",
                "endpoint_url",
                "access_key_id",
                "secret_access_key",
                "session_token",
                "use_path_style",
            ],
            Self::Azblob => &["account_url", "container", "prefix", "name", "secret_access_key", "sas_token"],
            Self::Gcs => &["bucket", "prefix", "name", "endpoint_url", "credentials", "token"],
            Self::Webdav | Self::Http => &["url", "prefix", "name", "username", "password", "token"],
            Self::Gha => &["scope", "timeout", "url", "token"],
        }
    }

    /// Options that buildx has and that mean nothing here.
    fn unused(self) -> &'static [&'static str] {
        match self {
            Self::Local => &["digest", "tag"],
            Self::S3 => &["blobs_prefix", "manifests_prefix", "touch_refresh", "upload_parallelism"],
            Self::Azblob => &["blobs_prefix", "manifests_prefix"],
            Self::Gha => &["version", "repository", "ghtoken"],
            _ => &[],
        }
    }

    /// What an option is called, by what was written; `Err` with what may have been meant.
    pub(super) fn option(self, written: &str) -> Result<Known, Option<&'static str>> {
        let word = written.replace('-', "_");
        let word = match (self, word.as_str()) {
            (Self::S3 | Self::Gcs, "endpoint") => "endpoint_url",
            // The second version of the service is the only one that is left.
            (Self::Gha, "url_v2") => "url",
            (Self::Registry, "insecure") => "registry.insecure",
            (_, word) => word,
        };
        let find = |words: &'static [&'static str]| words.iter().find(|known| **known == word).copied();
        if let Some(name) = find(self.options()).or_else(|| find(&COMMON)) {
            return Ok(Known::Option(name));
        }
        if let Some(name) = find(self.unused()).or_else(|| find(&OF_IMAGES)) {
            return Ok(Known::Unused(name));
        }
        Err(nearest(word, self.options().iter().chain(&COMMON).copied()))
    }

    /// All options, for people.
    pub(super) fn described(self) -> String {
        let all: Vec<String> = self.options().iter().chain(&COMMON).map(|name| shown(name)).collect();
        all.join(", ")
    }
}

/// An option that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Option(&'static str),
    Unused(&'static str),
}

/// The usual spelling of an option: buildx has both signs.
pub(super) fn shown(name: &str) -> String {
    if COMMON.contains(&name) || OF_IMAGES.contains(&name) { name.replace('_', "-") } else { name.to_owned() }
}

/// All types, for people.
pub(super) fn all_kinds() -> String {
    KINDS.map(|(name, _)| name).join(", ")
}

/// The type that a misspelled one most resembles.
pub(super) fn nearest_kind(word: &str) -> Option<&'static str> {
    nearest(word, KINDS.map(|(name, _)| name))
}

/// Whether some type has an option of this name.
pub(super) fn is_known(name: &str) -> bool {
    name == "type" || KINDS.iter().any(|(_, kind)| kind.option(name).is_ok())
}

/// Whether what an option says is not for people.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    ["key", "token", "secret", "password", "signature", "credential"].iter().any(|word| name.contains(word))
}
