//! What is released, and what was built of it for one platform.

use std::path::PathBuf;

use kiln_graph::Platform;

use crate::error::PackageError;
use crate::need::Need;
use crate::version::Version;

/// What is the same on all platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Name of archives and packages.
    pub name: String,
    /// The command: the program's name on the search path.
    pub command: String,
    /// The version.
    pub version: Version,
    /// One line about it.
    pub summary: String,
    /// More about it; may have several lines.
    pub description: String,
    /// Its licence, as SPDX writes it.
    pub license: Option<String>,
    /// Its page.
    pub homepage: Option<String>,
    /// Who looks after the packages: `Name <address>`.
    pub maintainer: Option<String>,
    /// Who publishes them.
    pub vendor: Option<String>,
    /// Section of a Debian package.
    pub section: String,
    /// What the packages need beside the C library.
    pub depends: Depends,
    /// Licence, README and their like.
    pub documents: Vec<Document>,
    /// Completions of shells.
    pub completions: Vec<Completion>,
    /// Pages of the manual, `NAME.SECTION`.
    pub man: Vec<Named>,
    /// Units of systemd.
    pub systemd: Vec<Named>,
    /// Scripts of OpenRC.
    pub openrc: Vec<Named>,
    /// Files with settings, which the user may change.
    pub config_files: Vec<Placed>,
    /// Other files.
    pub files: Vec<Placed>,
    /// The time of everything in the packages, in seconds since 1970.
    pub time: u64,
    /// What apk files are signed with.
    pub apk_key: Option<crate::ApkKey>,
}

impl Release {
    /// Every field but the description is one line in what package managers read, where a second line would be a field of
    /// its own.
    ///
    /// Errors: a field has several.
    pub(crate) fn check_lines(&self) -> Result<(), PackageError> {
        let fields = [
            ("release.summary", Some(&self.summary)),
            ("release.license", self.license.as_ref()),
            ("release.homepage", self.homepage.as_ref()),
            ("release.maintainer", self.maintainer.as_ref()),
            ("release.vendor", self.vendor.as_ref()),
            ("release.section", Some(&self.section)),
        ];
        let depends = [
            ("release.depends.deb", &self.depends.deb),
            ("release.depends.rpm", &self.depends.rpm),
            ("release.depends.apk", &self.depends.apk),
        ];
        let fields = fields.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let mut all =
            fields.chain(depends.into_iter().flat_map(|(key, list)| list.iter().map(move |line| (key, line))));
        match all.find(|(_, value)| value.contains(char::is_control)) {
            Some((key, _)) => Err(PackageError::Lines { key }),
            None => Ok(()),
        }
    }
}

/// What packages need beside the C library, in the words of each format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depends {
    /// `libxml2 (>= 2.9)`.
    pub deb: Vec<String>,
    /// `libxml2 >= 2.9`.
    pub rpm: Vec<String>,
    /// `libxml2>=2.9`.
    pub apk: Vec<String>,
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What it is.
    pub kind: DocumentKind,
    /// Its file's name.
    pub name: String,
    /// Its text.
    pub bytes: Vec<u8>,
}

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// The licence.
    License,
    /// What has changed.
    Changelog,
    /// Anything else.
    Other,
}

impl DocumentKind {
    /// Tells by the file's name.
    pub fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
        if begins(&["license", "licence", "copying", "unlicense"]) {
            Self::License
        } else if begins(&["changelog", "changes", "history", "news"]) {
            Self::Changelog
        } else {
            Self::Other
        }
    }
}

/// Completions of a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The shell.
    pub shell: Shell,
    /// Its script.
    pub bytes: Vec<u8>,
}

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

impl Shell {
    /// Tells by the name of the shell, or by that of a file: `hello.bash`, `_hello`, `hello.fish`.
    pub fn of(text: &str) -> Option<Self> {
        let name = text.rsplit('/').next().unwrap_or(text);
        Some(match name.rsplit('.').next().unwrap_or(name) {
            "bash" => Self::Bash,
            "zsh" => Self::Zsh,
            "fish" => Self::Fish,
            _ if name.starts_with('_') => Self::Zsh,
            _ => return None,
        })
    }
}

/// A file that a folder of its kind gives its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// A file with a place of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where it lies. From `/` on: in packages there, in archives below the archive's folder. Else: in archives below that
    /// folder, in packages below `/usr/share/NAME`.
    pub target: String,
    /// Where it is now.
    pub source: PathBuf,
    /// Whether it is executable.
    pub executable: bool,
}

/// What was built for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The platform.
    pub platform: Platform,
    /// The file or folder.
    pub source: PathBuf,
    /// Which of the two.
    pub shape: Shape,
    /// What it needs.
    pub need: Need,
}

/// What a program consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One file.
    File,
    /// A folder.
    Folder {
        /// The file in it that starts the program.
        main: String,
        /// Its files.
        files: Vec<FolderFile>,
    },
}

/// A file of a program that is a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderFile {
    /// Its path in the folder, `/`-separated.
    pub name: String,
    /// Whether it is executable.
    pub executable: bool,
    /// The text of a symbolic link.
    pub link: Option<String>,
}
