//! What is to be published, and what a forge has of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_artifact::checksum::Sha256;

/// A release as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Wanted {
    /// The tag.
    pub tag: String,
    /// The commit that it is of, in full.
    pub commit: String,
    /// Whether the tag was made on this machine: the forge must have it then, and makes no other one of the name.
    pub tag_is_made: bool,
    /// What people call it.
    pub title: String,
    /// What people read, as Markdown.
    pub notes: String,
    /// Whether it is one to try out.
    pub prerelease: bool,
    /// The name of the program: where a forge has packages, that of the package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The files.
    pub files: Vec<LocalFile>,
    /// Whether it stays a draft.
    pub draft: bool,
    /// Whether what was published may be changed.
    pub replace: bool,
}

/// A file of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// Its name on the page of the release.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Its sum.
    pub sha256: Sha256,
}

/// A release as a forge has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// How the forge calls it.
    pub(crate) id: String,
    /// Its page.
    pub(crate) url: String,
    /// Where files are sent to.
    pub(crate) upload: String,
    /// Whether nobody sees it yet.
    pub(crate) draft: bool,
    /// Whether title, notes and the like are those that are wanted.
    pub(crate) text_is_same: bool,
    /// Its files.
    pub(crate) assets: Vec<Asset>,
}

/// A file of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    /// How the forge calls it.
    pub(crate) id: String,
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Whether all of it was received.
    pub(crate) complete: bool,
    /// Its sum, if that is known.
    pub(crate) digest: Option<Sha256>,
    /// Where it can be read.
    pub(crate) url: String,
    /// Whether the page of the release shows it: GitLab keeps files apart from releases.
    pub(crate) shown: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The page of the release.
    pub url: String,
    /// Whether it is a draft still.
    pub draft: bool,
    /// Whether there was nothing to do.
    pub unchanged: bool,
    /// How many files were sent.
    pub sent: usize,
    /// How many were there.
    pub kept: usize,
}

/// What happens meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A draft of an earlier run is completed.
    Resumed {
        /// Its page.
        url: String,
    },
    /// There is a draft.
    Created {
        /// Its page.
        url: String,
    },
    /// A file is there already.
    Kept {
        /// Its name.
        name: String,
    },
    /// A file is removed from the forge.
    Removed {
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// A file that this release does not have is in the draft.
    Stranger {
        /// Its name.
        name: String,
    },
    /// A file is sent.
    Sending {
        /// Its name.
        name: String,
        /// Bytes that were sent.
        sent: u64,
        /// Bytes in all.
        size: u64,
    },
    /// A file was received.
    Sent {
        /// Its name.
        name: String,
        /// Bytes.
        size: u64,
    },
    /// Something is tried again.
    Again {
        /// What.
        action: String,
        /// What went wrong.
        reason: String,
        /// When.
        wait: Duration,
    },
    /// It broke off; what was done stays, and the next run goes on from there.
    Left {
        /// What stays.
        what: String,
    },
}

/// Who is told what happens.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;
